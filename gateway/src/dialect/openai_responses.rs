//! OpenAI's responses.
//!
//! Three things are different from chat completions. A conversation is a list of items, in which calls, their results
//! and reasoning stand beside the messages and not within. A stream repeats at the end of each part, item and answer
//! what it said in pieces. And a request may go on from what the provider has kept ([`kept`]), which no other dialect
//! can be told.

mod items;
mod plain;
mod read_request;
mod reader;
mod response;
mod tools;
mod write_request;
mod writer;

use http::StatusCode;
use serde_json::{Map, Value, json};

use self::tools::Forms;
use super::{RequestError, ResponseError, StreamParser, StreamWriter, Style, Wire, Written, openai_chat};
use crate::fields::at_path;
use crate::ir::{ApiError, ChatRequest, ChatResponse, Message, Part, Role, StopReason, Usage};

/// The dialect of `/v1/responses`.
#[derive(Clone, Copy, Debug)]
pub struct OpenAiResponses;

impl Wire for OpenAiResponses {
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
        response::write(response, &Forms::default())
    }

    /// Errors are those of OpenAI's other paths.
    fn write_error(&self, error: &ApiError) -> (StatusCode, Vec<u8>) {
        openai_chat::OpenAiChat.write_error(error)
    }

    fn stream_parser(&self) -> Box<dyn StreamParser> {
        Box::new(reader::Parser::default())
    }

    /// Streams of responses always carry usage.
    fn stream_writer(&self, _include_usage: bool) -> Box<dyn StreamWriter> {
        Box::new(writer::Writer::default())
    }

    fn write_answer(&self, response: &ChatResponse, request: &ChatRequest) -> Vec<u8> {
        response::write(response, &Forms::of(request))
    }

    fn answer_writer(&self, request: &ChatRequest) -> Box<dyn StreamWriter> {
        Box::new(writer::Writer::new(Forms::of(request)))
    }
}

/// A stream of an answer that fails before anything is said.
pub(crate) fn failed_stream(error: &ApiError) -> Vec<u8> {
    writer::failed(error)
}

/// The least bound on an answer that OpenAI takes.
pub(crate) const LEAST_OUTPUT: u64 = 16;

/// Fields of a request that stand for what the provider has kept: an earlier answer, a conversation, a prompt.
const KEPT: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// The kind of an item that stands for one that the provider has kept.
const REFERENCE: &str = "item_reference";

/// Where a request of this dialect goes on from what its provider has kept; `None` when all of it is in the request.
pub(crate) fn kept(request: &ChatRequest) -> Option<String> {
    if let Some(field) = KEPT.iter().find(|field| request.extras.contains_key(**field)) {
        return Some((*field).to_owned());
    }
    let refers = |part: &Part| matches!(part, Part::Opaque(item) if item["type"] == REFERENCE);
    let at = request.messages.iter().position(|message| message.content.iter().any(refers))?;
    Some(format!("input[{at}]"))
}

/// The request with what the model said in a row as one message. Here each of its calls is an item of its own; elsewhere all
/// calls of a turn stand together, before their results.
pub(crate) fn in_turns(mut request: ChatRequest) -> ChatRequest {
    let mut turns: Vec<Message> = Vec::with_capacity(request.messages.len());
    for message in request.messages {
        match turns.last_mut() {
            Some(turn) if turn.role == Role::Assistant && message.role == Role::Assistant => {
                turn.content.extend(message.content);
                turn.extras.extend(message.extras);
            }
            _ => turns.push(message),
        }
    }
    request.messages = turns;
    request
}

/// The messages that are one in the turn with this number, and the place of the first of them.
pub(crate) fn turn(messages: &[Message], number: usize) -> Option<(usize, &[Message])> {
    let is_one = |one: &Message, next: &Message| (one.role, next.role) == (Role::Assistant, Role::Assistant);
    let mut first = 0;
    for (at, turn) in messages.chunk_by(is_one).enumerate() {
        if at == number {
            return Some((first, turn));
        }
        first += turn.len();
    }
    None
}

/// Whether a message was an item that is none: one part, which stands for itself.
pub(crate) fn is_item(message: &Message) -> bool {
    match message.content.as_slice() {
        [Part::Opaque(value)] => {
            !value.get("type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("input_"))
        }
        [Part::ToolCall(_) | Part::ToolResult(_) | Part::Reasoning { .. }] => true,
        _ => false,
    }
}

/// Why an answer ended, by its status and what it held.
fn stop_reason(response: &Value, status: &str, has_calls: bool, has_refusal: bool) -> StopReason {
    match status {
        "completed" if has_calls => StopReason::ToolUse,
        "completed" if has_refusal => StopReason::Refusal,
        "completed" => StopReason::Stop,
        "incomplete" => match at_path(response, &["incomplete_details", "reason"]).and_then(Value::as_str) {
            Some("max_output_tokens") => StopReason::Length,
            Some("content_filter") => StopReason::ContentFilter,
            _ => StopReason::Error,
        },
        "in_progress" | "queued" | "" => StopReason::Truncated,
        // `failed` and `cancelled` among them.
        _ => StopReason::Error,
    }
}

/// An answer's status, and what goes with it when it is not complete.
fn status(stop: StopReason, refused: bool) -> (&'static str, Value) {
    match stop {
        StopReason::Stop | StopReason::ToolUse => ("completed", Value::Null),
        StopReason::Refusal if refused => ("completed", Value::Null),
        StopReason::Length => ("incomplete", json!({ "reason": "max_output_tokens" })),
        StopReason::ContentFilter | StopReason::Refusal => {
            ("incomplete", json!({ "reason": "content_filter" }))
        }
        // `route` turns both into an error before they get here.
        StopReason::Error | StopReason::Truncated => ("failed", Value::Null),
    }
}

/// What an answer looks like around its output. What the client asked for is not repeated: it has it.
fn envelope(id: &str, model: &str, created: u64, status: &str) -> Map<String, Value> {
    let error = match status {
        "failed" => json!({ "code": "server_error", "message": "the provider gave up on the answer" }),
        _ => Value::Null,
    };
    let fields = [
        ("id", json!(id)),
        ("object", json!("response")),
        ("created_at", json!(created)),
        ("status", json!(status)),
        ("error", error),
        ("incomplete_details", Value::Null),
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("model", json!(model)),
        ("output", json!([])),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("reasoning", json!({ "effort": null, "summary": null })),
        ("store", json!(false)),
        ("temperature", Value::Null),
        ("text", json!({ "format": { "type": "text" } })),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", Value::Null),
        ("truncation", json!("disabled")),
        ("usage", Value::Null),
        ("user", Value::Null),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn usage_of(value: &Value) -> Option<Usage> {
    let object = value.as_object()?;
    let count = |name: &str| object.get(name).and_then(crate::fields::whole);
    let detail = |group: &str, name: &str| object.get(group)?.get(name).and_then(crate::fields::whole);
    if !object.contains_key("input_tokens") && !object.contains_key("output_tokens") {
        return None;
    }
    let input = count("input_tokens").unwrap_or(0);
    let cached_input = detail("input_tokens_details", "cached_tokens").unwrap_or(0).min(input);
    Some(Usage {
        input,
        output: count("output_tokens").unwrap_or(0),
        cached_input,
        cache_write: detail("input_tokens_details", "cache_write_tokens")
            .unwrap_or(0)
            .min(input - cached_input),
        cache_write_1h: 0,
        reasoning: detail("output_tokens_details", "reasoning_tokens").unwrap_or(0),
    })
}

fn usage_value(usage: &Usage) -> Value {
    let mut value = json!({
        "input_tokens": usage.input,
        "input_tokens_details": { "cached_tokens": usage.cached_input },
        "output_tokens": usage.output,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": usage.input.saturating_add(usage.output),
    });
    if usage.cache_write > 0 {
        value["input_tokens_details"]["cache_write_tokens"] = json!(usage.cache_write);
    }
    value
}
