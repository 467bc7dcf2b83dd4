//! Ollama's own chat, written as the server writes it.

use serde_json::{Map, Value, json};

use super::chat::{Answer, Ask, Finish};
use super::reply::{Event, Reply};
use super::tokens;

pub(super) mod failure;
pub(super) mod request;

/// Always the same: a clock would make equal requests get different bytes.
const CREATED: &str = "2025-01-01T00:00:00.123456789Z";

/// The list of models.
pub(super) fn models(models: &[String]) -> Value {
    let entry = |id: &String| {
        json!({
            "name": id, "model": id, "modified_at": CREATED, "size": 2_019_393_189_u64, "digest": "a80c4f17acd5",
            "details": { "format": "gguf", "family": "llama", "parameter_size": "3.2B", "quantization_level": "Q4_K_M" },
        })
    };
    json!({ "models": models.iter().map(entry).collect::<Vec<_>>() })
}

/// The answer whole or as lines.
pub(super) fn write(ask: &Ask, answer: &Answer) -> Reply {
    let calls: Vec<Value> = answer.calls.iter().map(call).collect();
    if !ask.stream {
        let mut message = json!({ "role": "assistant", "content": answer.text });
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        return Reply::json(http::StatusCode::OK, &last(ask, answer, &message));
    }
    let mut lines = Vec::new();
    for piece in tokens::chunks(&answer.text) {
        lines.push(Event::line(&line(ask, &json!({ "role": "assistant", "content": piece })), true));
    }
    for call in calls {
        let message = json!({ "role": "assistant", "content": "", "tool_calls": [call] });
        lines.push(Event::line(&line(ask, &message), true));
    }
    let message = json!({ "role": "assistant", "content": "" });
    lines.push(Event::line(&last(ask, answer, &message), false));
    Reply::lines(lines)
}

/// A call has no id, and its arguments are an object. What the limit cut is no document and cannot be shown.
fn call(call: &super::chat::Call) -> Value {
    let arguments: Map<String, Value> = serde_json::from_str(&call.arguments).unwrap_or_default();
    json!({ "function": { "name": call.name, "arguments": arguments } })
}

fn line(ask: &Ask, message: &Value) -> Value {
    json!({ "model": ask.model, "created_at": CREATED, "message": message, "done": false })
}

fn last(ask: &Ask, answer: &Answer, message: &Value) -> Value {
    // There is no filter here: a model declines in words, or says nothing.
    let reason = if answer.finish == Finish::Length { "length" } else { "stop" };
    json!({
        "model": ask.model, "created_at": CREATED, "message": message, "done": true, "done_reason": reason,
        "total_duration": 4_883_583_458_u64, "load_duration": 1_334_875_u64,
        "prompt_eval_count": ask.input_tokens, "prompt_eval_duration": 342_546_000_u64,
        "eval_count": answer.output_tokens, "eval_duration": 4_535_599_000_u64,
    })
}
