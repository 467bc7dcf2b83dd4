//! Whole messages, read and written.

use serde_json::{Value, json};

use super::super::{ResponseError, tool_input};
use super::{Counts, merge_usage, stop_reason, stop_reason_name, usage_value};
use crate::ir::{ChatResponse, Part, StopReason, ToolCall};

pub(super) fn read(mut value: Value) -> Result<ChatResponse, ResponseError> {
    let blocks = value
        .get_mut("content")
        .and_then(Value::as_array_mut)
        .map(std::mem::take)
        .ok_or_else(|| ResponseError("it holds no content".to_owned()))?;
    let mut content = Vec::new();
    for block in blocks {
        content.extend(part(block)?);
    }
    let stop = match value.get("stop_reason").and_then(Value::as_str) {
        Some(name) => stop_reason(name),
        None => StopReason::Truncated,
    };
    let usage = value.get("usage").filter(|usage| usage.is_object()).map(|usage| {
        let mut counts = Counts::default();
        merge_usage(&mut counts, usage);
        counts.usage()
    });
    Ok(ChatResponse {
        id: text(&value, "id").unwrap_or_default(),
        model: text(&value, "model").unwrap_or_default(),
        created: 0,
        content,
        stop,
        stop_sequence: text(&value, "stop_sequence"),
        usage,
    })
}

fn part(block: Value) -> Result<Option<Part>, ResponseError> {
    let missing = |key: &str| ResponseError(format!("a block has no {key}"));
    let named = |key: &str| text(&block, key).filter(|text| !text.is_empty()).ok_or_else(|| missing(key));
    let kind = text(&block, "type").ok_or_else(|| missing("type"))?;
    Ok(match kind.as_str() {
        "text" => text(&block, "text").filter(|text| !text.is_empty()).map(Part::text),
        "thinking" => Some(Part::Reasoning {
            text: text(&block, "thinking").unwrap_or_default(),
            signature: text(&block, "signature"),
        }),
        "tool_use" => Some(Part::ToolCall(ToolCall {
            id: named("id")?,
            name: named("name")?,
            arguments: match block.get("input") {
                Some(input @ Value::Object(_)) => input.to_string(),
                _ => String::new(),
            },
            signature: None,
        })),
        _ => Some(Part::Opaque(block)),
    })
}

pub(super) fn write(response: &ChatResponse) -> Vec<u8> {
    let mut content = Vec::new();
    for part in &response.content {
        match part {
            Part::Text { text, .. } | Part::Refusal(text) => {
                content.push(json!({ "type": "text", "text": text }));
            }
            Part::Reasoning { text, signature } => content.push(json!({
                "type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or(""),
            })),
            Part::ToolCall(call) => {
                // A model can write arguments that are no object; the client's schema check should see them.
                let input =
                    tool_input(&call.arguments).unwrap_or_else(|| json!({ "_invalid_json": call.arguments }));
                content.push(json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }));
            }
            Part::Image(_) | Part::ToolResult(_) | Part::Opaque(_) => {}
        }
    }
    let stop = match &response.stop_sequence {
        Some(_) if response.stop == StopReason::Stop => "stop_sequence",
        _ => stop_reason_name(response.stop),
    };
    let body = json!({
        "id": response.id,
        "type": "message",
        "role": "assistant",
        "model": response.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": response.stop_sequence,
        "usage": usage_value(&response.usage.unwrap_or_default()),
    });
    body.to_string().into_bytes()
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}
