//! Amazon Bedrock's `Converse` and `ConverseStream`.
//!
//! The model and whether a stream is wanted stand in the path ([`path`]). A union is an object with one field, which says
//! what it is; the events of a stream are such a union, framed as AWS's binary messages. A stream is complete with its
//! `metadata`, which holds the counts and comes after the reason.

pub(crate) mod path;
mod plain;
mod read_request;
mod response;
mod stream;
mod write_request;

pub(super) use write_request::is_anthropics;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{RequestError, ResponseError, StreamParser, StreamWriter, Style, Wire, Written};
use crate::frames::Framing;
use crate::ir::{ApiError, ChatRequest, ChatResponse, Class, StopReason, Usage};

/// The dialect of `/model/MODEL/converse`.
#[derive(Clone, Copy, Debug)]
pub struct Bedrock;

impl Wire for Bedrock {
    /// The model and the wish for a stream are the path's: see [`path`].
    fn parse_request(&self, body: &[u8]) -> Result<ChatRequest, RequestError> {
        read_request::parse(body)
    }

    fn write_request(&self, request: &ChatRequest, style: &Style) -> Written {
        write_request::write(request, style)
    }

    fn read_response(&self, document: Value) -> Result<ChatResponse, ResponseError> {
        response::read(document)
    }

    fn write_response(&self, response: &ChatResponse) -> Vec<u8> {
        response::write(response)
    }

    fn write_error(&self, error: &ApiError) -> (StatusCode, Vec<u8>) {
        let (status, kind) = error_type(error.class);
        (super::status_of(error, status), error_value(kind, error).to_string().into_bytes())
    }

    fn framing(&self) -> Framing {
        Framing::EventStream
    }

    fn stream_parser(&self) -> Box<dyn StreamParser> {
        Box::new(stream::Parser::default())
    }

    /// Bedrock's streams always carry usage.
    fn stream_writer(&self, _include_usage: bool) -> Box<dyn StreamWriter> {
        Box::new(stream::Writer::default())
    }
}

/// The status and name of an error of this class.
fn error_type(class: Class) -> (u16, &'static str) {
    match class {
        Class::BadRequest | Class::ContextTooLong | Class::RefusedByFilter => (400, "ValidationException"),
        Class::BadKey => (403, "UnrecognizedClientException"),
        Class::NoAccess => (403, "AccessDeniedException"),
        Class::NoModel => (404, "ResourceNotFoundException"),
        Class::RateLimited => (429, "ThrottlingException"),
        Class::OutOfMoney => (400, "ServiceQuotaExceededException"),
        Class::Overloaded | Class::Network => (503, "ServiceUnavailableException"),
        Class::Server => (500, "InternalServerException"),
        Class::Timeout => (408, "ModelTimeoutException"),
        Class::Truncated => (424, "ModelErrorException"),
    }
}

/// The name of the exception that ends a stream: the modelled ones are few.
fn exception_type(class: Class) -> &'static str {
    match class {
        Class::BadRequest
        | Class::ContextTooLong
        | Class::RefusedByFilter
        | Class::BadKey
        | Class::NoAccess
        | Class::NoModel => "validationException",
        Class::RateLimited | Class::OutOfMoney => "throttlingException",
        Class::Overloaded | Class::Network => "serviceUnavailableException",
        Class::Timeout => "modelTimeoutException",
        Class::Truncated => "modelStreamErrorException",
        Class::Server => "internalServerException",
    }
}

/// `{"__type","message"}`: the name is in the body, where client libraries look as well as in the header.
fn error_value(kind: &str, error: &ApiError) -> Value {
    let mut value = Map::new();
    value.insert("__type".into(), json!(kind));
    value.insert("message".into(), json!(error.message));
    // Codes are not Bedrock's; this one tells apart what shares a type.
    if let Some(code) = &error.code {
        value.insert("orchCode".into(), json!(code));
    }
    if let Some(details) = &error.details {
        value.insert("orch".into(), Value::clone(details));
    }
    Value::Object(value)
}

fn stop_reason_name(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Stop => "end_turn",
        StopReason::Length => "max_tokens",
        StopReason::ToolUse => "tool_use",
        StopReason::ContentFilter | StopReason::Refusal => "content_filtered",
        // `route` turns both into an error before they get here.
        StopReason::Error | StopReason::Truncated => "malformed_model_output",
    }
}

fn stop_reason(name: &str) -> StopReason {
    match name {
        "end_turn" | "stop_sequence" => StopReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "tool_use" => StopReason::ToolUse,
        "guardrail_intervened" | "content_filtered" => StopReason::ContentFilter,
        // `malformed_model_output` and `malformed_tool_use` among them: the model gave up.
        _ => StopReason::Error,
    }
}

/// The counts: `inputTokens` leaves out what the cache gave or took.
fn usage_of(value: &Value) -> Option<Usage> {
    let object = value.as_object()?;
    let count = |key: &str| object.get(key).and_then(crate::fields::whole).unwrap_or(0);
    let (read, written) = (count("cacheReadInputTokens"), count("cacheWriteInputTokens"));
    Some(Usage {
        input: count("inputTokens").saturating_add(read).saturating_add(written),
        output: count("outputTokens"),
        cached_input: read,
        cache_write: written,
        cache_write_1h: written_for_an_hour(object).min(written),
        reasoning: 0,
    })
}

/// Of what was written to the cache, what is kept for an hour.
fn written_for_an_hour(usage: &Map<String, Value>) -> u64 {
    let details = usage.get("cacheDetails").and_then(Value::as_array).into_iter().flatten();
    let hour = details.filter(|detail| detail.get("ttl").and_then(Value::as_str) == Some("1h"));
    let counts = hour.filter_map(|detail| detail.get("inputTokens").and_then(crate::fields::whole));
    counts.fold(0, u64::saturating_add)
}

fn usage_value(usage: &Usage) -> Value {
    let mut value = json!({
        "inputTokens": usage.input.saturating_sub(usage.cached_input).saturating_sub(usage.cache_write),
        "outputTokens": usage.output,
        "totalTokens": usage.input.saturating_add(usage.output),
    });
    if usage.cached_input > 0 || usage.cache_write > 0 {
        value["cacheReadInputTokens"] = json!(usage.cached_input);
        value["cacheWriteInputTokens"] = json!(usage.cache_write);
    }
    value
}

/// Pictures that Converse takes, by its name for their format.
const IMAGES: [(&str, &str); 4] =
    [("png", "image/png"), ("jpeg", "image/jpeg"), ("gif", "image/gif"), ("webp", "image/webp")];
