//! Which candidates may make the vectors of a request, and what is sent to them.

use orch_manifests::Dialect;
use serde_json::json;

use super::answer::is_too_much;
use super::{EmbedRequest, Written, gemini, wire};
use crate::dialect::names::Renamed;
use crate::edit::Document;
use crate::ir::Class;
use crate::plan::Candidate;
use crate::receipt::Skipped;
use crate::upstream::{ClientRequest, Prepared, Unfit};

/// How reasons begin that are about the numbers of a vector.
const NUMBERS: &str = "its vectors have ";

/// The field that keeps the request from all of these candidates, where it is the same for each.
pub(crate) fn at_fault(request: &EmbedRequest, client: Dialect, skipped: &[Skipped]) -> Option<String> {
    let all = |beginning: &str| skipped.iter().all(|skipped| skipped.reason.starts_with(beginning));
    if all(NUMBERS) {
        let field = match client {
            Dialect::GeminiGenerateContent => "outputDimensionality",
            Dialect::CohereChat => "output_dimension",
            _ => "dimensions",
        };
        return Some(field.to_owned());
    }
    let error = request.texts().err()?;
    all(&format!("{}: ", error.path)).then_some(error.path)
}

/// Why a candidate is not asked. `first`: the first of those that are.
pub(crate) fn lack(
    request: &EmbedRequest,
    client: Dialect,
    candidate: &Candidate,
    first: Option<&Candidate>,
) -> Option<(Class, String)> {
    let lacks = |reason: String| Some((Class::BadRequest, reason));
    let Some(spoken) = candidate.embeds_with(client) else {
        return lacks(format!("{} has no embeddings", candidate.provider.slug));
    };
    if let Some(known) = candidate.known() {
        let Some(embedding) = known.embedding else {
            return lacks("it chats, and makes no embeddings".to_owned());
        };
        let (most, shortens) = (embedding.dimensions, embedding.shortens);
        match request.dimensions {
            Some(wanted) if wanted > most => {
                return lacks(format!("{NUMBERS}{most} numbers, and the request asks for {wanted}"));
            }
            Some(wanted) if wanted != most && !shortens => {
                return lacks(format!(
                    "{NUMBERS}{most} numbers and no fewer, and the request asks for {wanted}"
                ));
            }
            _ => {}
        }
    }
    // Distances between vectors of two models mean nothing: an index that got both would be broken without a word.
    if let Some(first) = first
        && !is_same_model(first, candidate)
    {
        return lacks(format!("its vectors cannot be compared with those of {}", first.name()));
    }
    if spoken != client
        && let Some(Err(error)) =
            wire(spoken).map(|wire| wire.write_request(request, written_for(spoken, candidate)))
    {
        return lacks(error.to_string());
    }
    None
}

/// The name of the model that a body is written for. Where no body names one (Bedrock), it follows from what the model is: of
/// a resource that stands for a model, from that one's name.
fn written_for(spoken: Dialect, candidate: &Candidate) -> &str {
    match (spoken, candidate.known()) {
        (Dialect::BedrockConverse, Some(model)) => &model.id,
        _ => candidate.sent(),
    }
}

/// Whether two candidates are one model, perhaps at two providers.
fn is_same_model(one: &Candidate, other: &Candidate) -> bool {
    let names = |candidate: &Candidate| {
        let known = candidate.known();
        let aliases = known.into_iter().flat_map(|known| known.aliases.iter().chain([&known.id]).cloned());
        aliases.chain([candidate.model.clone()]).collect::<Vec<_>>()
    };
    let of_other = names(other);
    names(one).iter().any(|name| of_other.contains(name))
}

/// Writes the body for a candidate.
///
/// # Errors
/// The request means nothing to it.
pub(crate) fn prepare(
    client: &ClientRequest,
    request: &EmbedRequest,
    candidate: &Candidate,
) -> Result<Prepared, Unfit> {
    let no_dialect = || Unfit::new(format!("{} has no embeddings", candidate.provider.slug));
    let spoken = candidate.embeds_with(client.dialect).ok_or_else(no_dialect)?;
    let wire = wire(spoken).ok_or_else(no_dialect)?;
    if spoken == client.dialect {
        let body = edited(client, request, candidate)
            .map_err(|error| Unfit::new(format!("the request cannot be rewritten: {error}")))?;
        let (more, dropped) = (Vec::new(), Vec::new());
        return Ok(Prepared {
            body,
            more,
            dropped,
            spoken,
            renamed: Renamed::default(),
            same_dialect: true,
            hide_usage: false,
        });
    }
    let written = wire.write_request(request, written_for(spoken, candidate));
    let Written { body, more, dropped } = written.map_err(|error| Unfit::at(error.path, &error.message))?;
    // Of one request the provider says so itself, before anything is paid for.
    if !more.is_empty() && is_too_much(request, candidate) {
        let message =
            "asks for more vectors than an answer may hold; send fewer, or ask for fewer dimensions";
        return Err(Unfit::at("input", message));
    }
    Ok(Prepared {
        body,
        more,
        dropped,
        spoken,
        renamed: Renamed::default(),
        same_dialect: false,
        hide_usage: false,
    })
}

/// The client's bytes with the model changed.
fn edited(
    client: &ClientRequest,
    request: &EmbedRequest,
    candidate: &Candidate,
) -> Result<bytes::Bytes, serde_json::Error> {
    if client.dialect == Dialect::GeminiGenerateContent {
        return gemini::rewritten(&client.body, request.alone, candidate.sent());
    }
    // Bedrock's path names the model, and no body does.
    if request.model == candidate.sent() || client.dialect == Dialect::BedrockConverse {
        return Ok(client.body.clone());
    }
    let mut document = Document::parse(&client.body)?;
    document.set("model", &json!(candidate.sent()))?;
    document.to_bytes()
}
