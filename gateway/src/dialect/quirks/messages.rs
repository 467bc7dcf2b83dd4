//! What some providers want of the messages of a chat completion.

use std::collections::{HashMap, HashSet};

use orch_manifests::ReasoningField;
use serde_json::{Value, json};

use crate::ir::Dropped;

/// Every name under which thoughts are known.
const THOUGHTS: [ReasoningField; 2] = [ReasoningField::ReasoningContent, ReasoningField::Reasoning];

/// Thoughts go back in the field that the provider reads. One that thinks wants them with each of its messages, and nothing
/// is what it is told where the client has not kept them.
pub(super) fn thoughts(
    messages: &mut [Value],
    field: ReasoningField,
    thinks: bool,
    provider: &str,
    dropped: &mut Vec<Dropped>,
) {
    for (at, message) in messages.iter_mut().enumerate().filter(|(_, message)| message["role"] == "assistant")
    {
        let Some(message) = message.as_object_mut() else { continue };
        let mut text = None;
        for name in THOUGHTS {
            match message.shift_remove(name.as_str()) {
                None | Some(Value::Null) => {}
                Some(said) if said.is_string() && text.is_none() => text = Some(said),
                // The same under both names, as some answers have it.
                Some(said) if text.as_ref() == Some(&said) => {}
                Some(_) => dropped.push(Dropped::new(
                    format!("messages[{at}].{}", name.as_str()),
                    format!("{provider} takes one text of thoughts, in `{}`", field.as_str()),
                )),
            }
        }
        let asked = thinks && field == ReasoningField::ReasoningContent;
        if let Some(text) = text.or_else(|| asked.then(|| json!(""))) {
            message.insert(field.as_str().to_owned(), text);
        }
    }
}

/// The keys of a message.
const KEYS: [&str; 6] = ["role", "content", "name", "tool_calls", "tool_call_id", "prefix"];

/// The kinds of parts, and their keys beside `type`.
const PARTS: [(&str, &[&str]); 6] = [
    ("text", &["text"]),
    ("image_url", &["image_url"]),
    ("document_url", &["document_url", "document_name"]),
    ("file", &["file_id"]),
    ("input_audio", &["input_audio"]),
    ("thinking", &["thinking", "closed"]),
];

/// Mistral's own form of messages: unknown keys and kinds of parts are refused there, as are ids of calls that are not its
/// own, and a system message comes first.
pub(super) fn strict(messages: &mut Vec<Value>, provider: &str, dropped: &mut Vec<Dropped>) {
    rename_calls(messages);
    for (i, message) in messages.iter_mut().enumerate() {
        let path = format!("messages[{i}]");
        if message["role"] == "developer" {
            message["role"] = json!("system");
        }
        let of_tool = message["role"] == "tool";
        let Some(fields) = message.as_object_mut() else { continue };
        fields.retain(|key, value| {
            let known = KEYS.contains(&key.as_str()) && (key != "name" || of_tool);
            if !known && !value.is_null() {
                dropped.push(Dropped::new(format!("{path}.{key}"), format!("{provider} does not take it")));
            }
            known
        });
        if let Some(Value::Array(parts)) = fields.get_mut("content") {
            strict_parts(parts, &path, provider, dropped);
        }
    }
    system_first(messages, dropped);
    answer_results(messages, dropped);
}

/// Results are the model's to go on from, so that a user cannot speak right behind them.
fn answer_results(messages: &mut Vec<Value>, dropped: &mut Vec<Dropped>) {
    let mut all = Vec::with_capacity(messages.len());
    let mut mended = false;
    for message in messages.drain(..) {
        let follows = |last: &Value| last["role"] == "tool" && message["role"] == "user";
        if all.last().is_some_and(follows) {
            all.push(json!({ "role": "assistant", "content": "OK" }));
            mended = true;
        }
        all.push(message);
    }
    *messages = all;
    if mended {
        dropped.push(Dropped::new(
            "messages",
            "the model speaks between a result and a user here, and an \"OK\" of it was put there",
        ));
    }
}

/// Calls of other providers get an id in Mistral's form, and their results with them. It is the same each time that the
/// conversation is sent.
fn rename_calls(messages: &mut [Value]) {
    let mut kept = HashSet::new();
    each_call(messages, |id| kept.extend(id.as_str().filter(|id| is_mistrals(id)).map(str::to_owned)));
    let mut made = HashMap::new();
    let mut numbers = 0_u32..;
    each_call(messages, |id| {
        let Some(given) = id.as_str().filter(|id| !is_mistrals(id)) else { return };
        let new = made.entry(given.to_owned()).or_insert_with(|| {
            let mut free = numbers.by_ref().map(|number| format!("call{number:05}"));
            free.find(|new| !kept.contains(new)).unwrap_or_default()
        });
        *id = json!(new);
    });
}

fn is_mistrals(id: &str) -> bool {
    id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Every place where a call is named.
fn each_call(messages: &mut [Value], mut visit: impl FnMut(&mut Value)) {
    for message in messages {
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten();
        calls.filter_map(|call| call.get_mut("id")).for_each(&mut visit);
        message.get_mut("tool_call_id").into_iter().for_each(&mut visit);
    }
}

fn strict_parts(parts: &mut Vec<Value>, path: &str, provider: &str, dropped: &mut Vec<Dropped>) {
    let mut at = 0..;
    parts.retain_mut(|part| {
        let path = format!("{path}.content[{}]", at.next().unwrap_or_default());
        let known = PARTS.iter().find(|(kind, _)| part["type"] == *kind);
        let (Some((_, keys)), Some(fields)) = (known, part.as_object_mut()) else {
            dropped.push(Dropped::new(path, format!("{provider} does not take parts of this kind")));
            return false;
        };
        fields.retain(|key, _| {
            let known = key == "type" || keys.contains(&key.as_str());
            if !known {
                dropped.push(Dropped::new(format!("{path}.{key}"), format!("{provider} does not take it")));
            }
            known
        });
        true
    });
}

/// System messages behind others are joined to the first.
fn system_first(messages: &mut Vec<Value>, dropped: &mut Vec<Dropped>) {
    let is_system = |message: &Value| message["role"] == "system";
    let leads = messages.first().is_some_and(is_system);
    let late: Vec<usize> =
        (usize::from(leads)..messages.len()).filter(|at| is_system(&messages[*at])).collect();
    if late.is_empty() {
        return;
    }
    let mut texts: Vec<String> = Vec::new();
    texts.extend(leads.then(|| text_of(&messages[0], 0, dropped)));
    for at in &late {
        texts.push(text_of(&messages[*at], *at, dropped));
        dropped.push(Dropped::new(
            format!("messages[{at}]"),
            "its place: instructions come first, and were joined there",
        ));
    }
    messages.retain(|message| !is_system(message));
    messages.insert(0, json!({ "role": "system", "content": texts.join("\n\n") }));
}

fn text_of(message: &Value, at: usize, dropped: &mut Vec<Dropped>) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let mut texts = Vec::new();
            for (part, value) in parts.iter().enumerate() {
                match value["text"].as_str() {
                    Some(text) => texts.push(text),
                    None => dropped.push(Dropped::new(
                        format!("messages[{at}].content[{part}]"),
                        "instructions were joined into one text",
                    )),
                }
            }
            texts.join("\n")
        }
        _ => String::new(),
    }
}
