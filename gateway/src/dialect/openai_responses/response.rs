//! Whole answers, read and written.

use serde_json::{Value, json};

use super::super::ResponseError;
use super::tools::Forms;
use super::{envelope, items, status, stop_reason, usage_of, usage_value};
use crate::fields::nonempty;
use crate::ir::{ChatResponse, Part, ToolCall};

pub(super) fn read(mut document: Value) -> Result<ChatResponse, ResponseError> {
    let output = document
        .get_mut("output")
        .and_then(Value::as_array_mut)
        .map(std::mem::take)
        .ok_or_else(|| ResponseError("it holds no output".to_owned()))?;
    let mut content = Vec::new();
    for item in output {
        content.extend(parts(item)?);
    }
    let calls = content.iter().any(|part| matches!(part, Part::ToolCall(_)));
    let refused = content.iter().any(|part| matches!(part, Part::Refusal(_)));
    let said = document.get("status").and_then(Value::as_str).unwrap_or_default();
    Ok(ChatResponse {
        id: nonempty(document.get("id")).unwrap_or_default(),
        model: nonempty(document.get("model")).unwrap_or_default(),
        created: document.get("created_at").and_then(crate::fields::whole).unwrap_or(0),
        stop: stop_reason(&document, said, calls, refused),
        content,
        stop_sequence: None,
        usage: document.get("usage").and_then(usage_of),
    })
}

/// What an item says.
fn parts(item: Value) -> Result<Vec<Part>, ResponseError> {
    Ok(match item.get("type").and_then(Value::as_str) {
        Some("message") => {
            let content = item.get("content").and_then(Value::as_array);
            content.into_iter().flatten().flat_map(said).collect()
        }
        Some("reasoning") => {
            let text = thoughts(&item).collect::<Vec<_>>().join("\n\n");
            let signature = nonempty(item.get("encrypted_content"));
            let tells = !text.is_empty() || signature.is_some();
            tells.then_some(Part::Reasoning { text, signature }).into_iter().collect()
        }
        Some("function_call") => vec![Part::ToolCall(call(&item)?)],
        Some(_) => vec![Part::Opaque(item)],
        None => return Err(ResponseError("an item of its output has no type".to_owned())),
    })
}

/// A part of a message: text, with what is noted of it, or a refusal.
fn said(part: &Value) -> Vec<Part> {
    let notes = || part.get("annotations").and_then(Value::as_array).into_iter().flatten();
    match part.get("type").and_then(Value::as_str) {
        Some("refusal") => nonempty(part.get("refusal")).map(Part::Refusal).into_iter().collect(),
        Some("output_text" | "text") => {
            let text = nonempty(part.get("text")).map(Part::text);
            text.into_iter().chain(notes().cloned().map(Part::Opaque)).collect()
        }
        _ => Vec::new(),
    }
}

/// The texts of a reasoning item: its summary, and what a provider shows of the thoughts themselves.
pub(super) fn thoughts(item: &Value) -> impl Iterator<Item = &str> {
    let list = |key: &str| item.get(key).and_then(Value::as_array).into_iter().flatten();
    let text =
        |part: &'_ Value| part.get("text").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    list("summary")
        .chain(list("content"))
        .filter(move |part| text(part))
        .filter_map(|part| part["text"].as_str())
}

pub(super) fn call(item: &Value) -> Result<ToolCall, ResponseError> {
    let missing = |key: &str| ResponseError(format!("a function call has no {key}"));
    let id = nonempty(item.get("call_id")).or_else(|| nonempty(item.get("id")));
    Ok(ToolCall {
        id: id.ok_or_else(|| missing("call_id"))?,
        name: nonempty(item.get("name")).ok_or_else(|| missing("name"))?,
        arguments: nonempty(item.get("arguments")).unwrap_or_default(),
        signature: None,
    })
}

pub(super) fn write(response: &ChatResponse, forms: &Forms) -> Vec<u8> {
    let refused = response.content.iter().any(|part| matches!(part, Part::Refusal(_)));
    let (word, details) = status(response.stop, refused);
    let state = if word == "completed" { word } else { "incomplete" };
    let mut output: Vec<Value> = Vec::new();
    let mut message: Vec<Value> = Vec::new();
    let flush = |message: &mut Vec<Value>, output: &mut Vec<Value>| {
        if !message.is_empty() {
            let id = items::id("msg", &response.id, output.len());
            output.push(items::message(&id, state, &std::mem::take(message)));
        }
    };
    for part in &response.content {
        match part {
            Part::Text { text, .. } => message.push(items::text(text)),
            Part::Refusal(text) => message.push(items::refusal(text)),
            Part::Reasoning { text, signature } => {
                flush(&mut message, &mut output);
                let id = items::id("rs", &response.id, output.len());
                output.push(items::reasoning(&id, text, signature.as_deref()));
            }
            Part::ToolCall(call) => {
                flush(&mut message, &mut output);
                let id = items::id("fc", &response.id, output.len());
                let mut call = call.clone();
                if !forms.takes_text(&call.name) {
                    call.arguments = items::arguments(&call.arguments).to_owned();
                }
                output.push(items::call(&id, "completed", &call, forms));
            }
            Part::Image(_) | Part::ToolResult(_) | Part::Opaque(_) => {}
        }
    }
    flush(&mut message, &mut output);
    let mut body = envelope(&response.id, &response.model, response.created, word);
    body.insert("output".into(), Value::Array(output));
    body.insert("incomplete_details".into(), details);
    body.insert("usage".into(), response.usage.as_ref().map_or(json!(null), usage_value));
    Value::Object(body).to_string().into_bytes()
}
