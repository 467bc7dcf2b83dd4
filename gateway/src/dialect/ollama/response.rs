//! Whole answers, read and written.

use serde_json::{Value, json};

use super::super::ResponseError;
use super::{
    answer_id, call_id, call_of, call_value, created_at, ending, stop_reason, unix_seconds, usage_of,
};
use crate::fields::nonempty;
use crate::ir::{ChatResponse, Part, StopReason, ToolCall};

pub(super) fn read(document: &Value) -> Result<ChatResponse, ResponseError> {
    let message = document
        .get("message")
        .filter(|message| message.is_object())
        .ok_or_else(|| ResponseError("it holds no message".to_owned()))?;
    let created = nonempty(document.get("created_at")).unwrap_or_default();
    let id = answer_id(&created);
    let mut content = Vec::new();
    content.extend(nonempty(message.get("thinking")).map(|text| Part::Reasoning { text, signature: None }));
    content.extend(nonempty(message.get("content")).map(Part::text));
    let calls = message.get("tool_calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, call) in calls.iter().enumerate() {
        let (given, name, arguments) = call_of(call)?;
        let id = given.unwrap_or_else(|| call_id(&id, index));
        content.push(Part::ToolCall(ToolCall { id, name, arguments, signature: None }));
    }
    Ok(ChatResponse {
        id,
        model: nonempty(document.get("model")).unwrap_or_default(),
        created: unix_seconds(&created),
        content,
        stop: stop_reason(document, !calls.is_empty()).unwrap_or(StopReason::Truncated),
        stop_sequence: None,
        usage: usage_of(document),
    })
}

pub(super) fn write(response: &ChatResponse) -> Vec<u8> {
    let mut text = String::new();
    let mut thinking = String::new();
    let mut calls = Vec::new();
    for part in &response.content {
        match part {
            Part::Text { text: piece, .. } | Part::Refusal(piece) => text.push_str(piece),
            Part::Reasoning { text: piece, .. } => thinking.push_str(piece),
            Part::ToolCall(call) => calls.push(call_value(call, calls.len())),
            Part::Image(_) | Part::ToolResult(_) | Part::Opaque(_) => {}
        }
    }
    let mut message = json!({ "role": "assistant", "content": text });
    if !thinking.is_empty() {
        message["thinking"] = json!(thinking);
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    let mut body = ending(response.stop, response.usage.as_ref());
    body.insert("model".into(), json!(response.model));
    body.insert("created_at".into(), json!(created_at(response.created)));
    body.insert("message".into(), message);
    Value::Object(body).to_string().into_bytes()
}
