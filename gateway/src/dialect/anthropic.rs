//! Anthropic's messages.

pub(in crate::dialect) mod generation;
mod plain;
mod read_request;
mod response;
pub(in crate::dialect) mod schema;
mod stream;
pub(in crate::dialect) mod thinking;
pub(in crate::dialect) mod turns;
mod write_request;

use std::borrow::Cow;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{RequestError, ResponseError, StreamParser, StreamWriter, Style, Wire, Written};
use crate::fields::at_path;
use crate::ir::{ApiError, ChatRequest, ChatResponse, Class, StopReason, Usage};

/// The dialect of `/v1/messages`.
#[derive(Clone, Copy, Debug)]
pub struct Anthropic;

impl Wire for Anthropic {
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
        let (status, body) = error_value(error);
        (status, body.to_string().into_bytes())
    }

    fn stream_parser(&self) -> Box<dyn StreamParser> {
        Box::new(stream::Parser::default())
    }

    /// Anthropic streams always carry usage.
    fn stream_writer(&self, _include_usage: bool) -> Box<dyn StreamWriter> {
        Box::new(stream::Writer::default())
    }
}

/// Whether this is the name of a model whose answers may be tens of thousands of tokens long.
pub(crate) fn writes_much(model: &str) -> bool {
    generation::Generation::of(model).is_some_and(generation::Generation::writes_much)
}

/// What Anthropic says of input that does not fit.
const TOO_LONG: &str = "prompt is too long";

/// `{"type":"error","error":{"type","message"}}` and the status that Anthropic uses for the class.
fn error_value(error: &ApiError) -> (StatusCode, Value) {
    // The code is not Anthropic's; it tells apart what shares a type, and client libraries ignore it.
    let (status, kind, code) = match error.class {
        // Anthropic has types of their own for these two statuses.
        Class::BadRequest if error.status == Some(404) => (404, "not_found_error", None),
        Class::BadRequest if error.status == Some(413) => (413, "request_too_large", None),
        Class::BadRequest => (400, "invalid_request_error", None),
        Class::BadKey => (401, "authentication_error", None),
        Class::NoAccess => (403, "permission_error", None),
        Class::NoModel => (404, "not_found_error", None),
        Class::RateLimited => (429, "rate_limit_error", None),
        Class::OutOfMoney => (402, "billing_error", None),
        Class::Overloaded => (529, "overloaded_error", None),
        Class::Server => (500, "api_error", None),
        Class::ContextTooLong => (400, "invalid_request_error", Some("context_length_exceeded")),
        Class::RefusedByFilter => (400, "invalid_request_error", Some("content_filter")),
        Class::Timeout => (504, "timeout_error", None),
        Class::Truncated => (502, "api_error", Some("stream_truncated")),
        Class::Network => (502, "api_error", Some("upstream_unreachable")),
    };
    let mut inner = Map::new();
    inner.insert("type".into(), json!(kind));
    let message = match error.class {
        // Clients of Anthropic's tell it by these words, and shorten the conversation.
        Class::ContextTooLong if !error.message.contains(TOO_LONG) => {
            Cow::Owned(format!("{TOO_LONG}: {}", error.message))
        }
        _ => Cow::Borrowed(error.message.as_str()),
    };
    inner.insert("message".into(), json!(message));
    if let Some(code) = error.told_code(code) {
        inner.insert("code".into(), json!(code));
    }
    if let Some(details) = &error.details {
        inner.insert("orch".into(), Value::clone(details));
    }
    (super::status_of(error, status), json!({ "type": "error", "error": inner }))
}

fn stop_reason_name(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Stop => "end_turn",
        StopReason::Length => "max_tokens",
        StopReason::ToolUse => "tool_use",
        StopReason::ContentFilter | StopReason::Refusal => "refusal",
        // `route` turns both into an error before they get here.
        StopReason::Error | StopReason::Truncated => "error",
    }
}

fn stop_reason(name: &str) -> StopReason {
    match name {
        "end_turn" | "stop_sequence" => StopReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "tool_use" => StopReason::ToolUse,
        "refusal" => StopReason::Refusal,
        // `pause_turn` among them: only tools run by the provider pause, and no other dialect can go on from there.
        _ => StopReason::Error,
    }
}

/// Adds what a `usage` object tells to what is known: stream events repeat only some of the counts.
fn merge_usage(usage: &mut Counts, value: &Value) {
    let count = |key: &str| value.get(key).and_then(crate::fields::whole);
    usage.fresh = count("input_tokens").unwrap_or(usage.fresh);
    usage.output = count("output_tokens").unwrap_or(usage.output);
    usage.cache_read = count("cache_read_input_tokens").unwrap_or(usage.cache_read);
    usage.cache_write = count("cache_creation_input_tokens").unwrap_or(usage.cache_write);
    let of_an_hour = at_path(value, &["cache_creation", "ephemeral_1h_input_tokens"]);
    usage.cache_write_1h = of_an_hour.and_then(crate::fields::whole).unwrap_or(usage.cache_write_1h);
    if let Some(rounds) = value.get("iterations").and_then(Value::as_array) {
        usage.beside = beside(rounds);
    }
}

/// What was used up beside what the whole counts say: they leave out the rounds in which the conversation was summarised,
/// and those of another model that was asked for advice.
fn beside(rounds: &[Value]) -> Usage {
    let left_out = |round: &&Value| {
        matches!(round.get("type").and_then(Value::as_str), Some("compaction" | "advisor_message"))
    };
    rounds.iter().filter(left_out).fold(Usage::default(), |sum, round| {
        let mut counts = Counts::default();
        merge_usage(&mut counts, round);
        sum.and(counts.usage())
    })
}

/// Anthropic's counts: `input_tokens` leaves out what the cache gave or took.
#[derive(Clone, Copy, Default)]
struct Counts {
    fresh: u64,
    cache_read: u64,
    cache_write: u64,
    /// Of what was written, what is kept for an hour.
    cache_write_1h: u64,
    output: u64,
    /// What the counts above leave out.
    beside: Usage,
}

impl Counts {
    fn usage(self) -> Usage {
        let counted = Usage {
            input: self.fresh.saturating_add(self.cache_read).saturating_add(self.cache_write),
            output: self.output,
            cached_input: self.cache_read,
            cache_write: self.cache_write,
            cache_write_1h: self.cache_write_1h,
            reasoning: 0,
        };
        counted.and(self.beside)
    }
}

fn usage_value(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input.saturating_sub(usage.cached_input).saturating_sub(usage.cache_write),
        "output_tokens": usage.output,
        "cache_read_input_tokens": usage.cached_input,
        "cache_creation_input_tokens": usage.cache_write,
    })
}
