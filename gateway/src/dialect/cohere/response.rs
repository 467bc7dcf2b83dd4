//! Whole answers, read and written.

use serde_json::{Value, json};

use super::super::ResponseError;
use super::{finish_reason, stop_reason, usage_of, usage_value};
use crate::fields::{at_path, nonempty};
use crate::ir::{ChatResponse, Part, StopReason, ToolCall};

pub(super) fn read(mut document: Value) -> Result<ChatResponse, ResponseError> {
    let message = document.get_mut("message").map(Value::take).unwrap_or_default();
    if !message.is_object() {
        return Err(ResponseError("it holds no message".to_owned()));
    }
    let mut content = Vec::new();
    for part in message.get("content").and_then(Value::as_array).into_iter().flatten() {
        content.extend(match part.get("type").and_then(Value::as_str) {
            Some("text") => nonempty(part.get("text")).map(Part::text),
            Some("thinking") => {
                nonempty(part.get("thinking")).map(|text| Part::Reasoning { text, signature: None })
            }
            Some(_) => Some(Part::Opaque(part.clone())),
            None => return Err(ResponseError("a part of its content has no type".to_owned())),
        });
    }
    content.extend(nonempty(message.get("tool_plan")).map(Part::text));
    for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        content.push(Part::ToolCall(tool_call(call)?));
    }
    content.extend(message.get("citations").and_then(Value::as_array).into_iter().flatten().map(citation));
    let stop = match document.get("finish_reason").and_then(Value::as_str) {
        Some(finish) => stop_reason(finish),
        None => StopReason::Truncated,
    };
    Ok(ChatResponse {
        id: nonempty(document.get("id")).unwrap_or_default(),
        model: String::new(),
        created: 0,
        content,
        stop,
        stop_sequence: None,
        usage: document.get("usage").and_then(usage_of),
    })
}

fn tool_call(call: &Value) -> Result<ToolCall, ResponseError> {
    let missing = || ResponseError("a tool call has no id or no name".to_owned());
    Ok(ToolCall {
        id: nonempty(call.get("id")).ok_or_else(missing)?,
        name: nonempty(at_path(call, &["function", "name"])).ok_or_else(missing)?,
        arguments: nonempty(at_path(call, &["function", "arguments"])).unwrap_or_default(),
        signature: None,
    })
}

/// Where an answer points at a source.
pub(super) fn citation(citation: &Value) -> Part {
    Part::Opaque(json!({ "type": "citation", "citation": citation }))
}

pub(super) fn write(response: &ChatResponse) -> Vec<u8> {
    let mut content = Vec::new();
    let mut calls = Vec::new();
    for part in &response.content {
        match part {
            Part::Text { text, .. } | Part::Refusal(text) => {
                content.push(json!({ "type": "text", "text": text }));
            }
            Part::Reasoning { text, .. } if text.is_empty() => {}
            Part::Reasoning { text, .. } => content.push(json!({ "type": "thinking", "thinking": text })),
            Part::ToolCall(call) => calls.push(tool_call_value(call)),
            Part::Image(_) | Part::ToolResult(_) | Part::Opaque(_) => {}
        }
    }
    let mut message = json!({ "role": "assistant" });
    if !calls.is_empty() {
        // Beside calls, what is said is their plan.
        let (said, thought): (Vec<_>, Vec<_>) =
            content.into_iter().partition(|part: &Value| part["type"] == "text");
        content = thought;
        let plan: String = said.iter().filter_map(|part| part["text"].as_str()).collect();
        if !plan.is_empty() {
            message["tool_plan"] = json!(plan);
        }
        message["tool_calls"] = Value::Array(calls);
    }
    if !content.is_empty() {
        message["content"] = Value::Array(content);
    }
    let mut body = json!({
        "id": response.id,
        "finish_reason": finish_reason(response.stop, response.stop_sequence.is_some()),
        "message": message,
    });
    if let Some(usage) = &response.usage {
        body["usage"] = usage_value(usage);
    }
    body.to_string().into_bytes()
}

pub(super) fn tool_call_value(call: &ToolCall) -> Value {
    // Clients parse the arguments: no arguments are an empty object.
    let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}
