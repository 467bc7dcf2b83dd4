//! The items of an answer's output.

use serde_json::{Value, json};

use super::super::openai_chat::extra_content;
use super::tools::Forms;
use crate::ir::ToolCall;

/// An item's id: made of the answer's own, so that items of different answers do not share theirs.
pub(super) fn id(kind: &str, response: &str, index: usize) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let response: String = response.chars().filter(plain).take(48).collect();
    format!("{kind}_{response}_{index}")
}

pub(super) fn message(id: &str, status: &str, content: &[Value]) -> Value {
    json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
}

pub(super) fn text(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

pub(super) fn refusal(text: &str) -> Value {
    json!({ "type": "refusal", "refusal": text })
}

/// Thoughts, as the summary that clients show. The signature stands where the dialect has what has to be replayed
/// unchanged.
pub(super) fn reasoning(id: &str, text: &str, signature: Option<&str>) -> Value {
    let summary = if text.is_empty() { json!([]) } else { json!([summary(text)]) };
    let mut item = json!({ "id": id, "type": "reasoning", "summary": summary });
    if let Some(signature) = signature {
        item["encrypted_content"] = json!(signature);
    }
    item
}

pub(super) fn summary(text: &str) -> Value {
    json!({ "type": "summary_text", "text": text })
}

pub(super) fn call(id: &str, status: &str, call: &ToolCall, forms: &Forms) -> Value {
    let (kind, fields) = forms.item(call);
    let mut item = json!({ "id": id, "type": kind, "status": status, "call_id": call.id });
    for (key, value) in fields.as_object().into_iter().flatten() {
        item[key] = value.clone();
    }
    // Clients send items back as they got them.
    if let Some(signature) = &call.signature {
        item["extra_content"] = extra_content(signature);
    }
    item
}

/// Clients parse the arguments: no arguments are an empty object.
pub(super) fn arguments(text: &str) -> &str {
    if text.is_empty() { "{}" } else { text }
}
