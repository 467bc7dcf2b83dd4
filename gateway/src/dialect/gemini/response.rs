//! Whole answers, read and written.

use serde_json::{Value, json};

use super::super::{ResponseError, notes};
use super::{
    NOTES, Piece, call_id, call_part, finish_reason, model_version, piece, stop_reason, usage_of, usage_value,
};
use crate::fields::{at_path, nonempty};
use crate::ir::{ChatResponse, Part, StopReason, ToolCall};

/// Reads the first candidate; further ones never cross dialects.
pub(super) fn read(document: &Value) -> Result<ChatResponse, ResponseError> {
    let candidate =
        document.pointer("/candidates/0").ok_or_else(|| ResponseError("it holds no candidate".to_owned()))?;
    let id = nonempty(document.get("responseId")).unwrap_or_default();
    let mut content = Vec::new();
    let mut calls = 0;
    for part in at_path(candidate, &["content", "parts"]).and_then(Value::as_array).into_iter().flatten() {
        content.extend(piece(part)?.map(|piece| match piece {
            Piece::Text(text) => Part::text(text),
            Piece::Thought { text, signature } => Part::Reasoning { text, signature },
            Piece::Call { id: given, name, arguments, signature } => {
                let id = given.unwrap_or_else(|| call_id(&id, calls));
                calls += 1;
                Part::ToolCall(ToolCall { id, name, arguments, signature })
            }
            Piece::Other(kind) => Part::Opaque(kind),
        }));
    }
    content.extend(notes(candidate, NOTES).map(Part::Opaque));
    let stop = match candidate.get("finishReason").and_then(Value::as_str) {
        Some(finish) => stop_reason(finish, calls > 0),
        None => StopReason::Truncated,
    };
    Ok(ChatResponse {
        id,
        model: model_version(document),
        created: 0,
        content,
        stop,
        stop_sequence: None,
        usage: document.get("usageMetadata").and_then(usage_of),
    })
}

pub(super) fn write(response: &ChatResponse) -> Vec<u8> {
    let mut parts = Vec::new();
    for part in &response.content {
        match part {
            Part::Text { text, .. } | Part::Refusal(text) => parts.push(json!({ "text": text })),
            Part::Reasoning { text, signature } => {
                let mut part = json!({ "text": text, "thought": true });
                if let Some(signature) = signature {
                    part["thoughtSignature"] = json!(signature);
                }
                parts.push(part);
            }
            Part::ToolCall(call) => {
                parts.push(call_part(&call.id, &call.name, &call.arguments, call.signature.as_deref()));
            }
            Part::Image(_) | Part::ToolResult(_) | Part::Opaque(_) => {}
        }
    }
    let mut body = json!({
        "candidates": [{
            "content": { "role": "model", "parts": parts },
            "finishReason": finish_reason(response.stop),
            "index": 0,
        }],
        "modelVersion": response.model,
        "responseId": response.id,
    });
    if let Some(usage) = &response.usage {
        body["usageMetadata"] = usage_value(usage);
    }
    body.to_string().into_bytes()
}
