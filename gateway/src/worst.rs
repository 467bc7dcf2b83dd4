//! The worst case of a request: input tokens at most, and writes to the provider's cache.

use serde_json::Value;

use crate::ir::{ChatRequest, Form, ImageSource, Part, Tool};
use crate::purse::CacheWrites;

/// Tokens that an image can count for at most: the largest tile count of the models in use.
const IMAGE_TOKENS: u64 = 50_000;

/// Tokens of structure around one message or tool.
const FRAME_TOKENS: u64 = 32;

/// Tokens of what a provider tells a model by itself about calling tools, where it is given any: 530 at most of Claude's
/// models, as Anthropic says.
const TOOLS_TOKENS: u64 = 1024;

/// Input tokens of a request at most.
pub(crate) fn worst_input(request: &ChatRequest, body_len: usize, context: Option<u64>) -> u64 {
    let found = request.messages.iter().map(|message| images(&message.content));
    let (count, bytes) = found.fold((0, 0), |(count, bytes), (n, b)| (count + n, bytes + b));
    let frames = request.messages.len() as u64 + request.tools.len() as u64 + 1;
    // The body's bytes stand for every text in it, wherever it is, structure and escapes included.
    let text = body_len.saturating_sub(bytes) as u64;
    // A group's name is there once, and goes with each of its functions.
    let groups = request.tools.iter().map(|tool| match tool {
        Tool::Function { form: Form::Grouped { group, .. }, .. } => group.len() as u64 + 2,
        _ => 0,
    });
    let text = text + groups.sum::<u64>();
    let about_tools = if request.tools.is_empty() { 0 } else { TOOLS_TOKENS };
    let all = text + count * IMAGE_TOKENS + frames * FRAME_TOKENS + about_tools;
    if has_film(&request.system) || request.messages.iter().any(|message| has_film(&message.content)) {
        return any_input(context);
    }
    // What does not fit the context is refused by the provider, unpaid.
    context.map_or(all, |context| all.min(context))
}

/// Tokens that every model in use can take.
const ANY_CONTEXT: u64 = 2 << 20;

/// Input tokens of a request of which nothing but the model's context bounds how long it is.
pub(crate) fn any_input(context: Option<u64>) -> u64 {
    context.unwrap_or(ANY_CONTEXT).max(FRAME_TOKENS)
}

/// Whether a part is sound, film or a document: a few bytes, an address or the id of a stored file can be an hour of film
/// or a thousand pages, so that nothing but the model's context bounds them.
fn has_film(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Opaque(value) => is_film(value),
        Part::ToolResult(result) => has_film(&result.content),
        _ => false,
    })
}

fn is_film(part: &Value) -> bool {
    // Gemini's, and Bedrock's.
    // Or anybody's that is in the account.
    let keys = ["fileData", "inlineData", "document", "video", "audio", "file_id", "file_url"];
    if keys.iter().any(|key| part.get(key).is_some()) {
        return true;
    }
    let text = |at: &str| part.pointer(at).and_then(Value::as_str);
    let source = text("/source/type");
    match text("/type") {
        // Anthropic's: plain text is as long as it is.
        Some("document") => !matches!(source, Some("text" | "content")),
        // OpenAI's, in both of its dialects, and what Anthropic takes from the account.
        Some("file" | "input_file" | "input_audio" | "container_upload") => true,
        // Perplexity's and others', by address.
        Some("file_url" | "video_url" | "document_url" | "pdf_url" | "audio_url") => true,
        _ => source == Some("file"),
    }
}

/// Number of images, and bytes of their data.
fn images(parts: &[Part]) -> (u64, usize) {
    parts.iter().fold((0, 0), |(count, bytes), part| match part {
        Part::Image(image) => match &image.source {
            ImageSource::Url(_) => (count + 1, bytes),
            ImageSource::Base64 { data, .. } => (count + 1, bytes + data.len()),
        },
        Part::ToolResult(result) => {
            let (inner, inner_bytes) = images(&result.content);
            (count + inner, bytes + inner_bytes)
        }
        _ => (count, bytes),
    })
}

const CACHE_CONTROL: &str = "cache_control";

/// Which cache writes the client asks for, anywhere. `body` is what it sent.
pub(crate) fn cache_writes(request: &ChatRequest, body: &[u8]) -> CacheWrites {
    match asks_for_cache_writes(request) {
        false => CacheWrites::None,
        true if says_one_hour(body) => CacheWrites::Long,
        true => CacheWrites::Short,
    }
}

/// Whether a string `1h` may be in a document: spelled out, or with one of its letters escaped.
fn says_one_hour(body: &[u8]) -> bool {
    let has = |what: &[u8]| body.windows(what.len()).any(|window| window == what);
    has(b"\"1h\"") || has(b"\\u0031") || has(b"\\u0068")
}

/// Whether the client asks for cache writes anywhere.
fn asks_for_cache_writes(request: &ChatRequest) -> bool {
    request.extras.contains_key(CACHE_CONTROL)
        || marked(&request.system)
        || request.messages.iter().any(|message| marked(&message.content))
        || request.tools.iter().any(|tool| match tool {
            Tool::Function { extras, .. } => extras.contains_key(CACHE_CONTROL),
            Tool::Provider { raw, .. } => raw.get(CACHE_CONTROL).is_some(),
        })
}

fn marked(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Text { extras, .. } => extras.contains_key(CACHE_CONTROL),
        Part::Image(image) => image.extras.contains_key(CACHE_CONTROL),
        Part::ToolResult(result) => result.extras.contains_key(CACHE_CONTROL) || marked(&result.content),
        // Bedrock's marker stands behind what it marks.
        Part::Opaque(value) => value.get(CACHE_CONTROL).is_some() || value.get("cachePoint").is_some(),
        // A tool call's marker is not kept by the intermediate form.
        Part::ToolCall(_) => true,
        Part::Reasoning { .. } | Part::Refusal(_) => false,
    })
}

#[cfg(test)]
mod tests;
