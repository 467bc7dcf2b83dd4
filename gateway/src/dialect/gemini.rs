//! Google's `generateContent` and `streamGenerateContent`.
//!
//! Three things are different from the other dialects. The model and whether a stream is wanted stand in the path
//! ([`path`]). A stream has no terminator: it is complete when a candidate's `finishReason` was seen and the body ends.
//! And a tool call arrives whole, often without an id.

pub(crate) mod path;
mod plain;
mod read_request;
mod response;
mod schema;
mod stream;
mod thinking;
mod unsigned;
mod write_request;

pub(in crate::dialect) use thinking::calls_beside_json;
pub(crate) use unsigned::let_pass;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{RequestError, ResponseError, StreamParser, StreamWriter, Style, Wire, Written};
use crate::bounded;
use crate::fields::{nonempty, whole};
use crate::ir::{ApiError, ChatRequest, ChatResponse, Class, StopReason, Usage};

/// The dialect of `/v1beta/models/MODEL:generateContent`.
#[derive(Clone, Copy, Debug)]
pub struct Gemini;

impl Wire for Gemini {
    /// The model and the wish for a stream are the path's: see [`path`].
    fn parse_request(&self, body: &[u8]) -> Result<ChatRequest, RequestError> {
        read_request::parse(body)
    }

    fn write_request(&self, request: &ChatRequest, style: &Style) -> Written {
        write_request::write(request, style)
    }

    fn read_response(&self, document: Value) -> Result<ChatResponse, ResponseError> {
        response::read(&document)
    }

    fn write_response(&self, response: &ChatResponse) -> Vec<u8> {
        response::write(response)
    }

    fn write_error(&self, error: &ApiError) -> (StatusCode, Vec<u8>) {
        let (status, body) = error_value(error);
        (status, body.to_string().into_bytes())
    }

    fn stream_parser(&self) -> Box<dyn StreamParser> {
        Box::new(stream::Parser::default())
    }

    /// Gemini streams always carry usage.
    fn stream_writer(&self, _include_usage: bool) -> Box<dyn StreamWriter> {
        Box::new(stream::Writer::default())
    }
}

/// The field of a request that stands for the beginning of it, which Google has kept.
const CACHED: &str = "cachedContent";

/// Where a request of this dialect goes on from what its provider has kept; `None` when all of it is in the request.
pub(crate) fn kept(request: &ChatRequest) -> Option<String> {
    request.extras.contains_key(CACHED).then(|| CACHED.to_owned())
}

/// `{"error":{"code","message","status","details"}}` and the status that Google uses for the class. A reason tells apart
/// what shares a status.
fn error_value(error: &ApiError) -> (StatusCode, Value) {
    let (code, reason) = match error.class {
        Class::BadRequest => (400, None),
        Class::BadKey => (400, Some("API_KEY_INVALID")),
        Class::NoAccess => (403, None),
        Class::NoModel => (404, None),
        Class::RateLimited => (429, Some("RATE_LIMIT_EXCEEDED")),
        Class::OutOfMoney => (429, Some("QUOTA_EXCEEDED")),
        Class::Overloaded => (503, None),
        Class::Server => (500, None),
        Class::ContextTooLong => (400, Some("CONTEXT_LENGTH_EXCEEDED")),
        Class::RefusedByFilter => (400, Some("CONTENT_FILTER")),
        Class::Timeout => (504, None),
        Class::Truncated => (502, Some("STREAM_TRUNCATED")),
        Class::Network => (502, Some("UPSTREAM_UNREACHABLE")),
    };
    let status = super::status_of(error, code);
    let mut details = Vec::new();
    if let Some(reason) = error.code.as_deref().or(reason) {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "orch",
        }));
    }
    if let Some(param) = &error.param {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{ "field": param, "description": error.message }],
        }));
    }
    let mut inner = Map::new();
    inner.insert("code".into(), json!(status.as_u16()));
    inner.insert("message".into(), json!(error.message));
    inner.insert("status".into(), json!(status_name(status)));
    if !details.is_empty() {
        inner.insert("details".into(), Value::Array(details));
    }
    if let Some(details) = &error.details {
        inner.insert("orch".into(), Value::clone(details));
    }
    (status, json!({ "error": inner }))
}

/// Google's name for a status.
fn status_name(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        405 | 501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        408 | 504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

fn finish_reason(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Stop | StopReason::ToolUse => "STOP",
        StopReason::Length => "MAX_TOKENS",
        StopReason::ContentFilter | StopReason::Refusal => "SAFETY",
        // `route` turns both into an error before they get here.
        StopReason::Error | StopReason::Truncated => "OTHER",
    }
}

/// What a `finishReason` means, given what the answer held: Gemini says `STOP` after tool calls as well.
fn stop_reason(finish: &str, has_tools: bool) -> StopReason {
    match finish {
        "STOP" if has_tools => StopReason::ToolUse,
        "STOP" => StopReason::Stop,
        "MAX_TOKENS" => StopReason::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => StopReason::ContentFilter,
        // `MALFORMED_FUNCTION_CALL` and `OTHER` among them: the model gave up.
        _ => StopReason::Error,
    }
}

/// The counts as the intermediate form has them: what tools of the provider put into the prompt is input, and thoughts
/// are output.
fn usage_of(metadata: &Value) -> Option<Usage> {
    let object = metadata.as_object()?;
    let count = |key: &str| object.get(key).map(|count| whole(count).unwrap_or(0));
    let counts = Counts {
        prompt: count("promptTokenCount"),
        tool_use_prompt: count("toolUsePromptTokenCount"),
        cached_content: count("cachedContentTokenCount"),
        candidates: count("candidatesTokenCount"),
        thoughts: count("thoughtsTokenCount"),
    };
    counts.usage()
}

/// The counts of an answer, those of them that are said.
struct Counts {
    prompt: Option<u64>,
    tool_use_prompt: Option<u64>,
    cached_content: Option<u64>,
    candidates: Option<u64>,
    thoughts: Option<u64>,
}

impl Counts {
    /// What they come to, if the prompt or the answer is among them.
    fn usage(self) -> Option<Usage> {
        self.prompt.or(self.candidates)?;
        let input = self.prompt.unwrap_or(0).saturating_add(self.tool_use_prompt.unwrap_or(0));
        let thoughts = self.thoughts.unwrap_or(0);
        Some(Usage {
            input,
            output: self.candidates.unwrap_or(0).saturating_add(thoughts),
            cached_input: self.cached_content.unwrap_or(0).min(input),
            cache_write: 0,
            cache_write_1h: 0,
            reasoning: thoughts,
        })
    }
}

fn usage_value(usage: &Usage) -> Value {
    let mut value = json!({
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output.saturating_sub(usage.reasoning),
        "totalTokenCount": usage.input.saturating_add(usage.output),
    });
    if usage.reasoning > 0 {
        value["thoughtsTokenCount"] = json!(usage.reasoning.min(usage.output));
    }
    if usage.cached_input > 0 {
        value["cachedContentTokenCount"] = json!(usage.cached_input);
    }
    value
}

/// The id of a call that came without one: made of the answer's own id, so that calls of different answers in one
/// conversation do not share theirs. Every dialect's alphabet and length (OpenAI takes 40 characters) fit it.
fn call_id(response: &str, index: usize) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let response: String = response.chars().filter(plain).take(28).collect();
    match response.is_empty() {
        true => format!("call_{index}"),
        false => format!("call_{response}_{index}"),
    }
}

/// A tool call as a part. A model can write arguments that are no object; the client's schema check should see them.
fn call_part(id: &str, name: &str, arguments: &str, signature: Option<&str>) -> Value {
    let given = match arguments.trim().is_empty() {
        true => Some(json!({})),
        false => bounded::arguments(arguments).ok().filter(Value::is_object),
    };
    let args = given.unwrap_or_else(|| json!({ "_invalid_json": arguments }));
    let mut part = json!({ "functionCall": { "id": id, "name": name, "args": args } });
    if let Some(signature) = signature {
        part["thoughtSignature"] = json!(signature);
    }
    part
}

/// A part of an answer, as far as the intermediate form has a place for it.
enum Piece {
    Text(String),
    Thought {
        text: String,
        signature: Option<String>,
    },
    Call {
        id: Option<String>,
        name: String,
        arguments: String,
        signature: Option<String>,
    },
    /// What no other dialect has a place for, with nothing but its kind.
    Other(Value),
}

fn piece(part: &Value) -> Result<Option<Piece>, ResponseError> {
    let signature = nonempty(part.get("thoughtSignature"));
    if let Some(call) = part.get("functionCall") {
        let name = nonempty(call.get("name"))
            .ok_or_else(|| ResponseError("a function call has no name".to_owned()))?;
        let arguments = match call.get("args") {
            Some(args @ Value::Object(map)) if !map.is_empty() => args.to_string(),
            _ => String::new(),
        };
        return Ok(Some(Piece::Call { id: nonempty(call.get("id")), name, arguments, signature }));
    }
    let text = nonempty(part.get("text"));
    if part.get("thought").and_then(Value::as_bool).unwrap_or(false) {
        let text = text.unwrap_or_default();
        let tells = !text.is_empty() || signature.is_some();
        return Ok(tells.then_some(Piece::Thought { text, signature }));
    }
    Ok(text.map(Piece::Text).or_else(|| other(part)))
}

/// Images that the model made, and code that the provider ran.
fn other(part: &Value) -> Option<Piece> {
    let (kind, _) = part.as_object()?.iter().find(|(key, value)| !goes_with_text(key) && !value.is_null())?;
    Some(Piece::Other(json!({ "type": kind })))
}

fn goes_with_text(key: &str) -> bool {
    matches!(
        key,
        "text" | "thought" | "thoughtSignature" | "partMetadata" | "videoMetadata" | "mediaResolution"
    )
}

/// What may be noted of an answer beside its parts: where it is taken from, and how likely each word was.
const NOTES: &[&str] = &["groundingMetadata", "citationMetadata", "urlContextMetadata", "logprobsResult"];

/// The model as the other dialects name it.
fn model_version(document: &Value) -> String {
    let name = nonempty(document.get("modelVersion")).unwrap_or_default();
    name.strip_prefix("models/").map_or(name.clone(), str::to_owned)
}
