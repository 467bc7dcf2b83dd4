//! Whole chat completions, read and written.

use serde_json::{Value, json};

use super::super::{ResponseError, notes};
use super::{
    NOTES, SOURCES, arguments_of_call, extra_content, finish_of, finish_reason, name_of_call, said_in_part,
    stop_reason, usage_of, usage_value, write_request,
};
use crate::fields::nonempty;
use crate::ir::{ChatResponse, Part, StopReason, ToolCall};

pub(super) fn read(value: &Value) -> Result<ChatResponse, ResponseError> {
    let choice = value.get("choices").and_then(|choices| choices.get(0));
    let choice = choice.ok_or_else(|| ResponseError("it holds no choice".to_owned()))?;
    let message =
        choice.get("message").ok_or_else(|| ResponseError("its choice holds no message".to_owned()))?;
    let mut content = Vec::new();
    if let Some(text) = ["reasoning_content", "reasoning"].iter().find_map(|key| nonempty(message.get(key))) {
        content.push(Part::Reasoning { text, signature: None });
    }
    match message.get("content") {
        Some(Value::String(text)) if !text.is_empty() => content.push(Part::text(text.clone())),
        // Some compatible providers answer in parts.
        Some(Value::Array(parts)) => {
            content.extend(parts.iter().filter_map(said_in_part).map(|(thought, text)| match thought {
                true => Part::Reasoning { text, signature: None },
                false => Part::text(text),
            }));
        }
        _ => {}
    }
    let refusal = nonempty(message.get("refusal"));
    let has_refusal = refusal.is_some();
    content.extend(refusal.map(Part::Refusal));
    let calls = message.get("tool_calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (i, call) in calls.iter().enumerate() {
        let name = name_of_call(call).ok_or_else(|| ResponseError(format!("tool call {i} has no name")))?;
        content.push(Part::ToolCall(ToolCall {
            id: nonempty(call.get("id")).unwrap_or_else(|| format!("call_{i}")),
            name,
            arguments: arguments_of_call(call),
            signature: None,
        }));
    }
    content.extend(notes(message, NOTES).chain(notes(value, SOURCES)).map(Part::Opaque));
    let stop = match finish_of(choice) {
        Some(finish) => stop_reason(finish, !calls.is_empty(), has_refusal),
        None => StopReason::Truncated,
    };
    Ok(ChatResponse {
        id: nonempty(value.get("id")).unwrap_or_default(),
        model: nonempty(value.get("model")).unwrap_or_default(),
        created: value.get("created").and_then(Value::as_u64).unwrap_or(0),
        content,
        stop,
        stop_sequence: None,
        usage: value.get("usage").and_then(usage_of),
    })
}

pub(super) fn write(response: &ChatResponse) -> Vec<u8> {
    let mut text = String::new();
    let mut reasoning = String::new();
    let mut refusal: Option<String> = None;
    let mut calls = Vec::new();
    for part in &response.content {
        match part {
            Part::Text { text: piece, .. } => text.push_str(piece),
            Part::Reasoning { text: piece, .. } => reasoning.push_str(piece),
            Part::Refusal(piece) => refusal.get_or_insert_default().push_str(piece),
            Part::ToolCall(call) => {
                let mut written = write_request::tool_call_value(call);
                if let Some(signature) = &call.signature {
                    written["extra_content"] = extra_content(signature);
                }
                calls.push(written);
            }
            Part::Image(_) | Part::ToolResult(_) | Part::Opaque(_) => {}
        }
    }
    // Null content is what clients expect beside tool calls or a refusal, and only there.
    let content =
        if text.is_empty() && (!calls.is_empty() || refusal.is_some()) { Value::Null } else { json!(text) };
    let finish = match (response.stop, &refusal) {
        (StopReason::Refusal, Some(_)) => "stop",
        (stop, _) => finish_reason(stop),
    };
    let mut message = json!({ "role": "assistant", "content": content, "refusal": refusal });
    if !reasoning.is_empty() {
        message["reasoning_content"] = json!(reasoning);
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    let mut body = json!({
        "id": response.id,
        "object": "chat.completion",
        "created": response.created,
        "model": response.model,
        "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": finish }],
    });
    if let Some(usage) = &response.usage {
        body["usage"] = usage_value(usage);
    }
    body.to_string().into_bytes()
}
