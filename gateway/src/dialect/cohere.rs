//! Cohere's chat, version 2.
//!
//! Close to OpenAI's completions, with differences that matter: the reason and the counts come in one event at the end,
//! which is the terminator as well; what the model says before it calls tools is a *plan* and not content; and an answer
//! points at its sources by citations, which no other dialect has in this form.

mod plain;
mod read_request;
mod response;
mod stream;
mod write_request;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{RequestError, ResponseError, StreamParser, StreamWriter, Style, Wire, Written};
use crate::ir::{ApiError, ChatRequest, ChatResponse, Class, StopReason, Usage};

/// The dialect of `/v2/chat`.
#[derive(Clone, Copy, Debug)]
pub struct Cohere;

impl Wire for Cohere {
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
        let (status, fields) = error_fields(error);
        let mut body = Map::from_iter([("message".to_owned(), json!(error.message))]);
        body.extend(fields);
        (status, Value::Object(body).to_string().into_bytes())
    }

    fn stream_parser(&self) -> Box<dyn StreamParser> {
        Box::new(stream::Parser::default())
    }

    /// Cohere's streams always carry usage.
    fn stream_writer(&self, _include_usage: bool) -> Box<dyn StreamWriter> {
        Box::new(stream::Writer::default())
    }
}

/// The status that Cohere uses for the class, and what goes beside the message. Cohere has nothing but the message; the
/// code tells apart what shares a status, and client libraries ignore it.
fn error_fields(error: &ApiError) -> (StatusCode, Map<String, Value>) {
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
        Class::RefusedByFilter => (498, "content_filter"),
        Class::Timeout => (504, "timeout_error"),
        Class::Truncated => (502, "stream_truncated"),
        Class::Network => (502, "upstream_unreachable"),
    };
    let mut fields = Map::from_iter([("code".to_owned(), json!(error.code.as_deref().unwrap_or(code)))]);
    if let Some(details) = &error.details {
        fields.insert("orch".into(), Value::clone(details));
    }
    (super::status_of(error, status), fields)
}

fn finish_reason(stop: StopReason, has_sequence: bool) -> &'static str {
    match stop {
        StopReason::Stop if has_sequence => "STOP_SEQUENCE",
        StopReason::Stop => "COMPLETE",
        StopReason::Length => "MAX_TOKENS",
        StopReason::ToolUse => "TOOL_CALL",
        StopReason::ContentFilter | StopReason::Refusal => "ERROR_TOXIC",
        // `route` turns both into an error before they get here.
        StopReason::Error | StopReason::Truncated => "ERROR",
    }
}

/// What a `finish_reason` means. `ERROR` and `TIMEOUT` never get here: [`crate::classify::error_inside`] knows them.
fn stop_reason(finish: &str) -> StopReason {
    match finish {
        "COMPLETE" | "STOP_SEQUENCE" => StopReason::Stop,
        // The latter is the end of the context.
        "MAX_TOKENS" | "ERROR_LIMIT" => StopReason::Length,
        "TOOL_CALL" => StopReason::ToolUse,
        "ERROR_TOXIC" => StopReason::ContentFilter,
        _ => StopReason::Error,
    }
}

/// What is billed, where Cohere says so: the tokens that the model saw include a preamble of Cohere's, which nobody pays
/// for.
fn usage_of(usage: &Value) -> Option<Usage> {
    let counts = |group: &str| {
        let group = usage.get(group)?.as_object()?;
        let count = |key: &str| group.get(key).and_then(crate::fields::whole);
        let (input, output) = (count("input_tokens"), count("output_tokens"));
        (input.is_some() || output.is_some()).then(|| (input.unwrap_or(0), output.unwrap_or(0)))
    };
    let (input, output) = counts("billed_units").or_else(|| counts("tokens"))?;
    let cached = usage.get("cached_tokens").and_then(crate::fields::whole).unwrap_or(0);
    Some(Usage { input, output, cached_input: cached.min(input), ..Usage::default() })
}

fn usage_value(usage: &Usage) -> Value {
    let counts = json!({ "input_tokens": usage.input, "output_tokens": usage.output });
    let mut value = json!({ "billed_units": counts, "tokens": counts });
    if usage.cached_input > 0 {
        value["cached_tokens"] = json!(usage.cached_input);
    }
    value
}
