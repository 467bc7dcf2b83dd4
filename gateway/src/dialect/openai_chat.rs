//! OpenAI's chat completions, which most providers speak.

mod plain;
mod read_request;
mod response;
mod stream;
pub(in crate::dialect) mod strict;
pub(in crate::dialect) mod thinker;
mod write_request;

pub(in crate::dialect) use read_request::signature_of;

/// Whether this is the name of a model of OpenAI's that thinks before it answers.
pub(crate) fn thinks(model: &str) -> bool {
    thinker::Thinker::of(model).is_some()
}

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{RequestError, ResponseError, StreamParser, StreamWriter, Style, Wire, Written};
use crate::fields::{at_path, nonempty};
use crate::ir::{ApiError, ChatRequest, ChatResponse, Class, StopReason, Usage};

/// The dialect of `/v1/chat/completions`.
#[derive(Clone, Copy, Debug)]
pub struct OpenAiChat;

impl Wire for OpenAiChat {
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

    fn lenient_stream_parser(&self) -> Box<dyn StreamParser> {
        Box::new(stream::Parser::without_done())
    }

    fn stream_writer(&self, include_usage: bool) -> Box<dyn StreamWriter> {
        Box::new(stream::Writer::new(include_usage))
    }
}

/// `{"error":{"message","type","param","code"}}` and the status that OpenAI uses for the class.
pub(in crate::dialect) fn error_value(error: &ApiError) -> (StatusCode, Value) {
    let (status, kind, code) = match error.class {
        Class::BadRequest => (400, "invalid_request_error", None),
        Class::BadKey => (401, "invalid_request_error", Some("invalid_api_key")),
        Class::NoAccess => (403, "permission_error", Some("permission_denied")),
        Class::NoModel => (404, "invalid_request_error", Some("model_not_found")),
        Class::RateLimited => (429, "requests", Some("rate_limit_exceeded")),
        Class::OutOfMoney => (429, "insufficient_quota", Some("insufficient_quota")),
        Class::Overloaded => (503, "server_error", Some("server_is_overloaded")),
        Class::Server => (500, "server_error", None),
        Class::ContextTooLong => (400, "invalid_request_error", Some("context_length_exceeded")),
        Class::RefusedByFilter => (400, "invalid_request_error", Some("content_filter")),
        Class::Timeout => (504, "timeout_error", Some("timeout_error")),
        Class::Truncated => (502, "server_error", Some("stream_truncated")),
        Class::Network => (502, "server_error", Some("upstream_unreachable")),
    };
    let mut inner = Map::new();
    inner.insert("message".into(), json!(error.message));
    inner.insert("type".into(), json!(kind));
    inner.insert("param".into(), json!(error.param));
    inner.insert("code".into(), json!(error.told_code(code)));
    if let Some(details) = &error.details {
        inner.insert("orch".into(), Value::clone(details));
    }
    (super::status_of(error, status), json!({ "error": inner }))
}

fn finish_reason(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Stop => "stop",
        StopReason::Length => "length",
        StopReason::ToolUse => "tool_calls",
        StopReason::ContentFilter | StopReason::Refusal => "content_filter",
        // OpenRouter's word; `route` turns both into an error before they get here.
        StopReason::Error | StopReason::Truncated => "error",
    }
}

/// Why a choice ended. Some servers say by an empty text that it has not (older ones of SGLang and Ollama).
fn finish_of(choice: &Value) -> Option<&str> {
    choice.get("finish_reason").and_then(Value::as_str).filter(|reason| !reason.is_empty())
}

/// What a provider's `finish_reason` means, given what the answer held: some providers say `stop` after tool
/// calls, and OpenAI says `stop` after a refusal in words. Together has a word of its own for the model's end of text,
/// and so have servers of Hugging Face's; Mistral has one for the end of the context.
fn stop_reason(finish: &str, has_tools: bool, has_refusal: bool) -> StopReason {
    match finish {
        "stop" | "eos" | "eos_token" if has_tools => StopReason::ToolUse,
        "stop" | "eos" | "eos_token" if has_refusal => StopReason::Refusal,
        "stop" | "eos" | "eos_token" => StopReason::Stop,
        // The latter two are the end of the context at z.ai and at Mistral.
        "length" | "model_context_window_exceeded" | "model_length" => StopReason::Length,
        "tool_calls" | "function_call" => StopReason::ToolUse,
        "content_filter" | "sensitive" => StopReason::ContentFilter,
        _ => StopReason::Error,
    }
}

/// What an answer in parts says: its texts, and of Mistral's models that think the thoughts. Other kinds are of no interest.
fn said_in_part(part: &Value) -> Option<(bool, String)> {
    if part.get("type").and_then(Value::as_str) == Some("thinking") {
        let pieces = part.get("thinking").and_then(Value::as_array)?;
        let texts = pieces.iter().filter_map(|piece| piece.get("text").and_then(Value::as_str));
        let thought = texts.collect::<String>();
        return (!thought.is_empty()).then_some((true, thought));
    }
    nonempty(part.get("text")).map(|text| (false, text))
}

/// The name of a tool call: of a function, or of a tool that takes free text.
fn name_of_call(call: &Value) -> Option<String> {
    let named = |kind| nonempty(at_path(call, &[kind, "name"]));
    named("function").or_else(|| named("custom"))
}

/// Arguments of a tool call, or a piece of them: of a function, or the free text that another kind of tool takes.
fn arguments_of_call(call: &Value) -> String {
    if call.get("custom").is_some_and(Value::is_object) {
        return nonempty(at_path(call, &["custom", "input"])).unwrap_or_default();
    }
    match at_path(call, &["function", "arguments"]) {
        Some(Value::String(text)) => text.clone(),
        // Some compatible providers forget to encode the object as text.
        Some(object @ Value::Object(_)) => object.to_string(),
        _ => String::new(),
    }
}

/// What may be noted in a message beside its words: sources, sound, pictures.
const NOTES: &[&str] = &["annotations", "audio", "images"];

/// What may be noted beside the choices: Perplexity's sources.
const SOURCES: &[&str] = &["citations", "search_results"];

/// What goes beside a tool call so that its signature comes back with the conversation: the field in which Google's
/// OpenAI-compatible endpoint has it.
pub(in crate::dialect) fn extra_content(signature: &str) -> Value {
    json!({ "google": { "thought_signature": signature } })
}

fn usage_of(value: &Value) -> Option<Usage> {
    let object = value.as_object()?;
    let count = |name: &str| object.get(name).and_then(crate::fields::whole);
    let detail = |group: &str, name: &str| object.get(group)?.get(name).and_then(crate::fields::whole);
    if !object.contains_key("prompt_tokens") && !object.contains_key("completion_tokens") {
        return None;
    }
    let input = count("prompt_tokens").unwrap_or(0);
    let answer = count("completion_tokens").unwrap_or(0);
    let reasoning = detail("completion_tokens_details", "reasoning_tokens").unwrap_or(0);
    // xAI counts thoughts beside the answer and not in it: its total is more than the two together.
    let beside = count("total_tokens").unwrap_or(0).saturating_sub(input).saturating_sub(answer);
    let cached_input = detail("prompt_tokens_details", "cached_tokens")
        // DeepSeek's name for it, and Moonshot's.
        .or_else(|| count("prompt_cache_hit_tokens"))
        .or_else(|| count("cached_tokens"))
        .unwrap_or(0)
        .min(input);
    Some(Usage {
        input,
        output: answer.saturating_add(reasoning.min(beside)),
        cached_input,
        // OpenRouter's, and OpenAI's of newer models: a write costs more than plain input.
        cache_write: detail("prompt_tokens_details", "cache_write_tokens")
            .unwrap_or(0)
            .min(input - cached_input),
        cache_write_1h: 0,
        reasoning,
    })
}

fn usage_value(usage: &Usage) -> Value {
    let mut value = json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input.saturating_add(usage.output),
        "prompt_tokens_details": { "cached_tokens": usage.cached_input },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning },
    });
    if usage.cache_write > 0 {
        value["prompt_tokens_details"]["cache_write_tokens"] = json!(usage.cache_write);
    }
    value
}
