//! Whole answers, read and written.

use serde_json::{Value, json};

use super::super::{ResponseError, tool_input};
use super::{stop_reason, stop_reason_name, usage_of, usage_value};
use crate::fields::at_path;
use crate::ir::{ChatResponse, Part, StopReason, ToolCall};

pub(super) fn read(mut value: Value) -> Result<ChatResponse, ResponseError> {
    let blocks = value
        .pointer_mut("/output/message/content")
        .and_then(Value::as_array_mut)
        .map(std::mem::take)
        .ok_or_else(|| ResponseError("it holds no message with content".to_owned()))?;
    let mut content = Vec::new();
    for block in blocks {
        part(block, &mut content)?;
    }
    let stop = match value.get("stopReason").and_then(Value::as_str) {
        Some(name) => stop_reason(name),
        None => StopReason::Truncated,
    };
    let sequence =
        at_path(&value, &["additionalModelResponseFields", "stop_sequence"]).and_then(Value::as_str);
    Ok(ChatResponse {
        id: String::new(),
        model: String::new(),
        created: 0,
        content,
        stop,
        stop_sequence: sequence.map(str::to_owned),
        usage: value.get("usage").and_then(usage_of),
    })
}

fn part(block: Value, content: &mut Vec<Part>) -> Result<(), ResponseError> {
    let missing = |key: &str| ResponseError(format!("a tool call has no {key}"));
    if let Some(text) = text(&block, "/text") {
        content.extend(Some(text).filter(|text| !text.is_empty()).map(Part::text));
    } else if let Some(call) = block.get("toolUse") {
        content.push(Part::ToolCall(ToolCall {
            id: text(call, "/toolUseId").filter(|id| !id.is_empty()).ok_or_else(|| missing("toolUseId"))?,
            name: text(call, "/name").filter(|name| !name.is_empty()).ok_or_else(|| missing("name"))?,
            arguments: match call.get("input") {
                Some(input @ Value::Object(_)) => input.to_string(),
                _ => String::new(),
            },
            signature: None,
        }));
    } else if let Some(thought) = at_path(&block, &["reasoningContent", "reasoningText"]) {
        content.push(Part::Reasoning {
            text: text(thought, "/text").unwrap_or_default(),
            signature: text(thought, "/signature"),
        });
    } else {
        // What was said with citations is part of the answer; the citations are not.
        let said = at_path(&block, &["citationsContent", "content"]).and_then(Value::as_array);
        let said = said.into_iter().flatten().filter_map(|piece| text(piece, "/text"));
        content.extend(said.filter(|text| !text.is_empty()).map(Part::text));
        content.push(Part::Opaque(named(block)));
    }
    Ok(())
}

/// A union's field is its kind, which other dialects call `type`.
pub(super) fn named(mut block: Value) -> Value {
    let kind = block.as_object().and_then(|block| block.keys().next()).cloned();
    if let (Some(kind), Some(fields)) = (kind, block.as_object_mut()) {
        fields.insert("type".to_owned(), json!(kind));
    }
    block
}

pub(super) fn write(response: &ChatResponse) -> Vec<u8> {
    let mut content = Vec::new();
    for part in &response.content {
        match part {
            Part::Text { text, .. } | Part::Refusal(text) => content.push(json!({ "text": text })),
            Part::Reasoning { text, signature } => {
                let mut thought = json!({ "text": text });
                if let Some(signature) = signature {
                    thought["signature"] = json!(signature);
                }
                content.push(json!({ "reasoningContent": { "reasoningText": thought } }));
            }
            Part::ToolCall(call) => {
                // A model can write arguments that are no object; the client's schema check should see them.
                let input =
                    tool_input(&call.arguments).unwrap_or_else(|| json!({ "_invalid_json": call.arguments }));
                let call = json!({ "toolUseId": call.id, "name": call.name, "input": input });
                content.push(json!({ "toolUse": call }));
            }
            Part::Image(_) | Part::ToolResult(_) | Part::Opaque(_) => {}
        }
    }
    let mut body = json!({
        "output": { "message": { "role": "assistant", "content": content } },
        "stopReason": match &response.stop_sequence {
            Some(_) if response.stop == StopReason::Stop => "stop_sequence",
            _ => stop_reason_name(response.stop),
        },
        "usage": usage_value(&response.usage.unwrap_or_default()),
        "metrics": { "latencyMs": 0 },
    });
    if let Some(sequence) = &response.stop_sequence {
        body["additionalModelResponseFields"] = json!({ "stop_sequence": sequence });
    }
    body.to_string().into_bytes()
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}
