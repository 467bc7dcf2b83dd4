//! What a request needs of a model, and which candidates are known to lack it.

use orch_manifests::Dialect;

use crate::dialect::openai_responses::kept;
use crate::ir::{ChatRequest, Part, ResponseFormat, Tool};
use crate::plan::Candidate;
use crate::receipt::Skipped;

/// Candidates that can serve the request, and the ones that were passed over.
///
/// The catalog may be behind the provider: when nothing would be left, the first candidate is asked all the same,
/// and the provider is the judge.
pub(crate) fn fitting(
    client: Dialect,
    request: &ChatRequest,
    candidates: Vec<Candidate>,
) -> (Vec<Candidate>, Vec<Skipped>) {
    let lack =
        |candidate: &Candidate| strange(client, request, candidate).or_else(|| lack(request, candidate));
    let lacks: Vec<_> = candidates.iter().map(lack).collect();
    if lacks.iter().all(Option::is_some) {
        let mut rest = candidates;
        rest.truncate(1);
        return (rest, Vec::new());
    }
    let mut fit = Vec::new();
    let mut skipped = Vec::new();
    for (candidate, lack) in candidates.into_iter().zip(lacks) {
        match lack {
            None => fit.push(candidate),
            Some(reason) => skipped.push(Skipped { model: candidate.name(), reason }),
        }
    }
    (fit, skipped)
}

/// What its provider has kept means nothing to a provider of another dialect.
fn strange(client: Dialect, request: &ChatRequest, candidate: &Candidate) -> Option<String> {
    let same = candidate.spoken_with(client) == client;
    let field = kept(request).filter(|_| client == Dialect::OpenAiResponses && !same)?;
    Some(format!("it is spoken to in another dialect, in which nothing stands for {field}"))
}

fn lack(request: &ChatRequest, candidate: &Candidate) -> Option<String> {
    let model = candidate.known()?;
    let functions = request.tools.iter().any(|tool| matches!(tool, Tool::Function { .. }));
    if functions && !model.tools {
        return Some("it cannot call tools, and the request has some".to_owned());
    }
    if request.messages.iter().any(|message| has_image(&message.content)) && !model.vision {
        return Some("it takes no images, and the request has some".to_owned());
    }
    if matches!(request.format, Some(ResponseFormat::JsonSchema { .. })) && !model.json_schema {
        return Some("it cannot keep to a JSON Schema, and the request asks for one".to_owned());
    }
    let least = least_input(request);
    (least > model.context)
        .then(|| format!("the request is at least {least} tokens long, and it takes {}", model.context))
}

fn has_image(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Image(_) => true,
        Part::ToolResult(result) => has_image(&result.content),
        _ => false,
    })
}

/// Bytes that a token stands for at most in ordinary text; whitespace and repetition can pack more, but a request
/// that long and that empty is none that a skipped candidate would have served better.
const BYTES_PER_TOKEN: u64 = 10;

fn least_input(request: &ChatRequest) -> u64 {
    let bytes = text_bytes(&request.system)
        + request.messages.iter().map(|message| text_bytes(&message.content)).sum::<u64>();
    bytes / BYTES_PER_TOKEN
}

fn text_bytes(parts: &[Part]) -> u64 {
    parts
        .iter()
        .map(|part| match part {
            Part::Text { text, .. } | Part::Refusal(text) | Part::Reasoning { text, .. } => text.len() as u64,
            Part::ToolCall(call) => call.arguments.len() as u64,
            Part::ToolResult(result) => text_bytes(&result.content),
            Part::Image(_) | Part::Opaque(_) => 0,
        })
        .sum()
}
