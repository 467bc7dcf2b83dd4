//! What a request needs of a model, and which candidates are known to lack it.

use orch_manifests::{Dialect, Lack, ServerTools};
use serde_json::json;

use crate::dialect::documents::cannot_be_carried;
use crate::dialect::{calls_beside_json, kept_by_provider, unsayable};
use crate::embeddings;
use crate::ir::{ApiError, ChatRequest, Class, Message, Part, ResponseFormat, Role, Tool, ToolChoice};
use crate::plan::Candidate;
use crate::reach::by_itself;
use crate::receipt::Skipped;
use crate::upstream::{Asked, ClientRequest, thinks};

/// Candidates that can serve the request, and the ones that were passed over. Of a model that the catalog does not know
/// nothing is known that it lacks.
pub(crate) fn fitting(
    client: &ClientRequest,
    allowed: ServerTools,
    candidates: Vec<Candidate>,
) -> (Vec<Candidate>, Vec<Skipped>) {
    let mut fit: Vec<Candidate> = Vec::new();
    let mut skipped: Vec<Skipped> = Vec::new();
    for candidate in candidates {
        let lacks = match &client.asked {
            Asked::Chat(chat) => strange(client.dialect, chat, &candidate)
                .or_else(|| searches(allowed, &candidate))
                .or_else(|| lack(chat, &candidate))
                .or_else(|| files_lost(client.dialect, chat, &candidate))
                .or_else(|| unlike_its_schemas(client.dialect, chat, &candidate)),
            Asked::Embeddings(embed) => embeddings::lack(embed, client.dialect, &candidate, fit.first()),
        };
        match lacks {
            None => fit.push(candidate),
            // Once for all of its keys.
            Some((_, reason))
                if skipped.iter().any(|s| s.model == candidate.name() && s.reason == reason) => {}
            Some((class, reason)) => {
                skipped.push(Skipped { class: Some(class), ..Skipped::new(&candidate.name(), reason) });
            }
        }
    }
    (fit, skipped)
}

/// What its provider has kept means nothing to a provider of another dialect.
fn strange(client: Dialect, request: &ChatRequest, candidate: &Candidate) -> Option<(Class, String)> {
    let field = kept_by_provider(client, request)?;
    (candidate.spoken_with(client) != client).then(|| (Class::BadRequest, carries_nothing(&field)))
}

/// A model that reaches out whatever the request says.
fn searches(allowed: ServerTools, candidate: &Candidate) -> Option<(Class, String)> {
    let missing = by_itself(candidate.sent()).without(allowed);
    (!missing.is_empty()).then(|| {
        let reason = format!("it reaches out by itself, which needs llm.server_tools: {missing}");
        (Class::NoAccess, reason)
    })
}

/// A file that the model would not be given, and would answer without. In the provider's own dialect that is for it to say.
fn files_lost(client: Dialect, request: &ChatRequest, candidate: &Candidate) -> Option<(Class, String)> {
    let spoken = candidate.spoken_with(client);
    if spoken == client {
        return None;
    }
    let files = match spoken {
        Dialect::AnthropicMessages | Dialect::GeminiGenerateContent | Dialect::BedrockConverse => true,
        Dialect::OpenAiChat | Dialect::OpenAiResponses => candidate.provider.quirks.files.contains(&spoken),
        Dialect::CohereChat | Dialect::OllamaChat => false,
    };
    // Instructions hold files nowhere but at Gemini.
    let in_instructions = files && spoken == Dialect::GeminiGenerateContent;
    let lost = |message: &Message| match message.role {
        Role::User => has_lost_file(&message.content, files),
        Role::System => has_lost_file(&message.content, in_instructions),
        // What the model made is said, and listed where it is not.
        Role::Assistant => false,
    };
    let place = match request.messages.iter().position(lost) {
        Some(number) => format!("message {}", number + 1),
        None if has_lost_file(&request.system, in_instructions) => "its instructions".to_owned(),
        None => return None,
    };
    let reason =
        format!("it cannot be given a file of this kind in this dialect, and the request has one ({place})");
    Some((Class::BadRequest, reason))
}

fn has_lost_file(parts: &[Part], files: bool) -> bool {
    parts.iter().any(|part| match part {
        Part::Opaque(part) => cannot_be_carried(part, files),
        Part::ToolResult(result) => has_lost_file(&result.content, files),
        _ => false,
    })
}

/// A schema that its provider refuses, however it is written. In the provider's own dialect that is for it to say.
fn unlike_its_schemas(
    client: Dialect,
    request: &ChatRequest,
    candidate: &Candidate,
) -> Option<(Class, String)> {
    let Some(ResponseFormat::JsonSchema { schema, .. }) = &request.format else { return None };
    let spoken = candidate.spoken_with(client);
    if spoken == client {
        return None;
    }
    if has_functions(request) && !calls_beside_json(spoken, candidate.sent()) {
        let reason = "it is not asked for tools and a JSON Schema at once, and the request has both (tools, response_format)";
        return Some((Class::BadRequest, reason.to_owned()));
    }
    let what = unsayable(spoken, candidate.sent(), schema)?;
    let reason = format!("it takes no JSON Schema {what}, and the request has one (response_format)");
    Some((Class::BadRequest, reason))
}

fn carries_nothing(field: &str) -> String {
    format!(
        "{field}: stands for what another provider has kept, which cannot be carried to this one; send the conversation \
         itself"
    )
}

/// What the client is told when every model lacks something, so that none is asked.
pub(crate) fn all_lack(client: &ClientRequest, skipped: &[Skipped]) -> ApiError {
    let lines: Vec<String> = skipped.iter().map(|s| format!("{}: {}", s.model, s.reason)).collect();
    let too_long = skipped.iter().all(|s| s.class == Some(Class::ContextTooLong));
    let no_access = skipped.iter().all(|s| s.class == Some(Class::NoAccess));
    let class = match (too_long, no_access) {
        (true, _) => Class::ContextTooLong,
        (_, true) => Class::NoAccess,
        _ => Class::BadRequest,
    };
    let param = match &client.asked {
        Asked::Chat(chat) => kept_by_provider(client.dialect, chat).filter(|field| {
            let reason = carries_nothing(field);
            skipped.iter().all(|s| s.reason == reason)
        }),
        Asked::Embeddings(embed) => embeddings::at_fault(embed, client.dialect, skipped),
    };
    const CODE: &str = "orch_no_model_fits";
    ApiError {
        param,
        code: Some(CODE.to_owned()),
        details: Some(Box::new(json!({ "code": CODE, "skipped": skipped }))),
        ..ApiError::new(class, format!("no model has what the request needs: {}", lines.join("; ")))
    }
}

fn lack(request: &ChatRequest, candidate: &Candidate) -> Option<(Class, String)> {
    let lacks = |reason: &str| Some((Class::BadRequest, reason.to_owned()));
    if let Some(what) = candidate.provider.quirks.lacks.iter().find(|what| needs(request, candidate, **what))
    {
        return lacks(match what {
            Lack::Tools => "its provider calls no tools, and the request has some (tools)",
            Lack::JsonSchema => {
                "its provider takes no JSON Schema, and the request asks for one (response_format)"
            }
            Lack::ForcedToolBesideJson => {
                "its provider takes no forced tool beside JSON output, and the request has both (tool_choice, response_format)"
            }
            Lack::ForcedToolWhileThinking => {
                "it thinks, and its provider takes no forced tool then (tool_choice)"
            }
        });
    }
    let model = candidate.known()?;
    if model.embedding.is_some() {
        return lacks("it makes embeddings, and does not chat");
    }
    if has_functions(request) && !model.tools {
        return lacks("it cannot call tools, and the request has some (tools)");
    }
    if !model.vision
        && let Some(place) = request.messages.iter().position(|message| has_image(&message.content))
    {
        return lacks(&format!("it takes no images, and the request has some (message {})", place + 1));
    }
    if matches!(request.format, Some(ResponseFormat::JsonSchema { .. })) && !model.json_schema {
        return lacks("it cannot keep to a JSON Schema, and the request asks for one (response_format)");
    }
    let least = least_input(request);
    (least > model.context).then(|| {
        let reason = format!("the request is at least {least} tokens long, and it takes {}", model.context);
        (Class::ContextTooLong, reason)
    })
}

/// Whether the request is none without this.
fn needs(request: &ChatRequest, candidate: &Candidate, what: Lack) -> bool {
    let functions = has_functions(request);
    let forced =
        functions && matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    match what {
        Lack::Tools => functions,
        Lack::JsonSchema => matches!(request.format, Some(ResponseFormat::JsonSchema { .. })),
        Lack::ForcedToolBesideJson => forced && request.format.is_some(),
        Lack::ForcedToolWhileThinking => forced && thinks(request, candidate),
    }
}

fn has_functions(request: &ChatRequest) -> bool {
    request.tools.iter().any(|tool| matches!(tool, Tool::Function { .. }))
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
