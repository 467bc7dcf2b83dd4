//! Ollama's own chat.
//!
//! Three things are different from the other dialects. A stream is lines of JSON, and what is asked for unless the client
//! says otherwise. A tool call arrives whole, its arguments as an object, and mostly without an id: ids are made here, and
//! results find their calls by name and order. And an error inside a stream is a line with nothing but `error`.

mod plain;
mod read_request;
mod response;
mod stream;
mod write_request;

use http::StatusCode;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{RequestError, ResponseError, StreamParser, StreamWriter, Style, Wire, Written};
use crate::bounded;
use crate::fields::{at_path, nonempty};
use crate::frames::Framing;
use crate::ir::{ApiError, ChatRequest, ChatResponse, Class, StopReason, ToolCall, Usage};

/// The dialect of `/api/chat`.
#[derive(Clone, Copy, Debug)]
pub struct Ollama;

impl Wire for Ollama {
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

    fn framing(&self) -> Framing {
        Framing::Ndjson
    }

    fn stream_parser(&self) -> Box<dyn StreamParser> {
        Box::new(stream::Parser::default())
    }

    /// Ollama's streams always carry usage.
    fn stream_writer(&self, _include_usage: bool) -> Box<dyn StreamWriter> {
        Box::new(stream::Writer::default())
    }
}

/// `{"error":"text"}` and the status that Ollama uses for the class. The code is not Ollama's; it tells apart what shares
/// a status, and client libraries ignore it.
fn error_value(error: &ApiError) -> (StatusCode, Value) {
    let (status, code) = match error.class {
        Class::BadRequest => (400, "invalid_request_error"),
        Class::BadKey => (401, "invalid_api_key"),
        Class::NoAccess => (403, "permission_denied"),
        Class::NoModel => (404, "model_not_found"),
        Class::RateLimited => (429, "rate_limit_exceeded"),
        Class::OutOfMoney => (402, "insufficient_quota"),
        Class::Overloaded => (503, "server_is_overloaded"),
        Class::Server => (500, "server_error"),
        Class::ContextTooLong => (400, "context_length_exceeded"),
        Class::RefusedByFilter => (400, "content_filter"),
        Class::Timeout => (504, "timeout_error"),
        Class::Truncated => (502, "stream_truncated"),
        Class::Network => (502, "upstream_unreachable"),
    };
    let mut body = Map::new();
    body.insert("error".into(), json!(error.message));
    body.insert("code".into(), json!(error.code.as_deref().unwrap_or(code)));
    if let Some(details) = &error.details {
        body.insert("orch".into(), Value::clone(details));
    }
    (super::status_of(error, status), Value::Object(body))
}

fn done_reason(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Stop | StopReason::ToolUse => "stop",
        StopReason::Length => "length",
        // Ollama has no filter, and no word for one.
        StopReason::ContentFilter | StopReason::Refusal => "content_filter",
        // `route` turns both into an error before they get here.
        StopReason::Error | StopReason::Truncated => "error",
    }
}

/// What the last object of an answer says, given what the answer held; `None` when it is not the last. Older versions say
/// that they are done and not why.
fn stop_reason(document: &Value, has_tools: bool) -> Option<StopReason> {
    if document.get("done").and_then(Value::as_bool) != Some(true) {
        return None;
    }
    Some(match document.get("done_reason").and_then(Value::as_str) {
        None | Some("" | "stop") if has_tools => StopReason::ToolUse,
        None | Some("" | "stop") => StopReason::Stop,
        Some("length") => StopReason::Length,
        Some("content_filter") => StopReason::ContentFilter,
        // `load` and `unload` among them: nothing was asked, and nothing answered.
        Some(_) => StopReason::Error,
    })
}

/// The counts. Input that was in the cache as a whole is not counted at all.
fn usage_of(document: &Value) -> Option<Usage> {
    let count = |key: &str| document.get(key).and_then(crate::fields::whole);
    let (input, output) = (count("prompt_eval_count"), count("eval_count"));
    (input.is_some() || output.is_some()).then(|| Usage {
        input: input.unwrap_or(0),
        output: output.unwrap_or(0),
        ..Usage::default()
    })
}

/// The fields of an answer's last object.
fn ending(stop: StopReason, usage: Option<&Usage>) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("done".into(), json!(true));
    fields.insert("done_reason".into(), json!(done_reason(stop)));
    if let Some(usage) = usage {
        fields.insert("prompt_eval_count".into(), json!(usage.input));
        fields.insert("eval_count".into(), json!(usage.output));
    }
    fields
}

/// The id of an answer, which has none: the time of its beginning, which is exact to the nanosecond.
fn answer_id(created_at: &str) -> String {
    let plain: String = created_at.chars().filter(char::is_ascii_alphanumeric).take(30).collect();
    if plain.is_empty() { String::new() } else { format!("chat_{plain}") }
}

/// The id of a call that came without one: made of the answer's, so that calls of different answers in one conversation do
/// not share theirs. OpenAI takes 40 characters.
fn call_id(answer: &str, index: usize) -> String {
    let answer = answer.strip_prefix("chat_").unwrap_or(answer);
    if answer.is_empty() { format!("call_{index}") } else { format!("call_{answer}_{index}") }
}

/// Unix seconds of a time as Ollama writes it.
fn unix_seconds(created_at: &str) -> u64 {
    let parsed = OffsetDateTime::parse(created_at, &Rfc3339).ok();
    parsed.and_then(|time| u64::try_from(time.unix_timestamp()).ok()).unwrap_or(0)
}

/// The time as Ollama writes it.
fn created_at(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    time.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default()
}

/// A tool call of an answer: its id where it has one, its name and its arguments as text.
fn call_of(call: &Value) -> Result<(Option<String>, String, String), ResponseError> {
    let name = nonempty(at_path(call, &["function", "name"]))
        .ok_or_else(|| ResponseError("a tool call has no name".to_owned()))?;
    let arguments = match at_path(call, &["function", "arguments"]) {
        Some(arguments @ Value::Object(map)) if !map.is_empty() => arguments.to_string(),
        // As some servers that are like Ollama have them.
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    };
    Ok((nonempty(call.get("id")), name, arguments))
}

/// A tool call for a client. A model can write arguments that are no object; the client's schema check should see them.
fn call_value(call: &ToolCall, index: usize) -> Value {
    let arguments = match call.arguments.trim().is_empty() {
        true => Some(json!({})),
        false => bounded::arguments(&call.arguments).ok().filter(Value::is_object),
    };
    let arguments = arguments.unwrap_or_else(|| json!({ "_invalid_json": call.arguments }));
    json!({ "id": call.id, "function": { "index": index, "name": call.name, "arguments": arguments } })
}
