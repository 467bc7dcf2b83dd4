//! Requests for providers.

use orch_manifests::ReasoningField;
use serde_json::{Map, Value, json};

use super::super::documents::{Pdf, is_pdf};
use super::super::{OF_ITS_PROVIDER, Style, Written, arguments_schema, image_url, placed, schema_for};
use super::strict::holds;
use super::thinker::{self, Thinker};
use crate::ir::{
    ChatRequest, Dropped, Image, Message, Part, ResponseFormat, Role, Sampling, Tool, ToolCall, ToolChoice,
};

const NO_SUCH_FIELD: &str = "chat completions have no such field";

/// Writes a request that arrived in another dialect.
pub(super) fn write(request: &ChatRequest, style: &Style) -> Written {
    let mut dropped = Vec::new();
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        let content = text_value(&request.system, "system", &mut dropped);
        messages.push(json!({ "role": "system", "content": content }));
    }
    for (i, message) in request.messages.iter().enumerate() {
        write_message(message, style, &format!("messages[{i}]"), &mut messages, &mut dropped);
    }
    body.insert("messages".into(), Value::Array(messages));
    write_tools(request, &mut body, &mut dropped);
    write_sampling(request, style, &mut body, &mut dropped);
    if request.stream {
        body.insert("stream".into(), json!(true));
        if !style.no_stream_options {
            body.insert("stream_options".into(), json!({ "include_usage": true }));
        }
    }
    match &request.format {
        None => {}
        Some(ResponseFormat::JsonSchema { name, description, schema, strict }) if !style.no_json_schema => {
            let name = if name.is_empty() { "answer" } else { name };
            let schema = schema_for(&request.model, schema, &mut dropped);
            let strict = holds(*strict, &schema, &mut dropped);
            let mut inner = json!({ "name": name, "schema": schema, "strict": strict });
            if let Some(description) = description {
                inner["description"] = json!(description);
            }
            body.insert("response_format".into(), json!({ "type": "json_schema", "json_schema": inner }));
        }
        Some(format) => {
            body.insert("response_format".into(), json!({ "type": "json_object" }));
            if matches!(format, ResponseFormat::JsonSchema { .. }) {
                dropped
                    .push(Dropped::new("response_format", "the provider takes json_object without a schema"));
            }
        }
    }
    let effort = thinker::effort(request, style, &mut dropped);
    body.extend(effort.map(|effort| ("reasoning_effort".to_owned(), json!(effort))));
    thinker::fit_sampling(&request.model, effort, &mut body, &mut dropped);
    if request.answers > 1 {
        dropped.push(Dropped::new("n", "only one answer crosses dialects"));
    }
    if let Some(user) = &request.user {
        body.insert("user".into(), thinker::user(user, &mut dropped));
    }
    // Of OpenAI's responses. Others that have taken the dialect over may refuse what is newer.
    let newer = [("text.verbosity", "verbosity"), ("prompt_cache_key", "prompt_cache_key")];
    let newer =
        |key: &str| newer.iter().find(|(theirs, _)| *theirs == key && Thinker::of(&request.model).is_some());
    for (key, value) in &request.extras {
        match newer(key) {
            Some((_, key)) => _ = body.insert((*key).to_owned(), value.clone()),
            None => dropped.push(Dropped::new(key, NO_SUCH_FIELD)),
        }
    }
    Written { body: Value::Object(body).to_string().into(), dropped }
}

fn write_sampling(
    request: &ChatRequest,
    style: &Style,
    body: &mut Map<String, Value>,
    dropped: &mut Vec<Dropped>,
) {
    let Sampling { temperature, top_p, top_k, frequency_penalty, presence_penalty, seed } = &request.sampling;
    let numbers = [
        ("temperature", temperature),
        ("top_p", top_p),
        ("frequency_penalty", frequency_penalty),
        ("presence_penalty", presence_penalty),
    ];
    for (key, value) in numbers {
        if let Some(value) = value {
            body.insert(key.into(), json!(value));
        }
    }
    if let Some(seed) = seed {
        body.insert("seed".into(), json!(seed));
    }
    if top_k.is_some() {
        dropped.push(Dropped::new("top_k", NO_SUCH_FIELD));
    }
    if let Some(max) = request.max_tokens {
        let key = if style.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
        body.insert(key.into(), json!(max));
    }
    if !request.stop.is_empty() {
        // OpenAI takes four.
        body.insert("stop".into(), json!(request.stop.iter().take(4).collect::<Vec<_>>()));
        if request.stop.len() > 4 {
            dropped.push(Dropped::new("stop_sequences", "chat completions take four; the rest was left out"));
        }
    }
}

fn write_tools(request: &ChatRequest, body: &mut Map<String, Value>, dropped: &mut Vec<Dropped>) {
    let mut tools = Vec::new();
    for (i, tool) in request.tools.iter().enumerate() {
        match tool {
            Tool::Function { name, description, parameters, strict, extras, .. } => {
                let mut function = json!({ "name": name });
                if let Some(description) = description {
                    function["description"] = json!(description);
                }
                // Here no arguments are said by saying nothing.
                if parameters.is_some() {
                    function["parameters"] = arguments_schema(parameters.as_ref());
                }
                if let Some(strict) = strict {
                    function["strict"] = json!(strict);
                }
                tools.push(json!({ "type": "function", "function": function }));
                dropped.extend(
                    extras.keys().map(|key| Dropped::new(format!("tools[{i}].{key}"), NO_SUCH_FIELD)),
                );
            }
            Tool::Provider { kind, .. } => {
                dropped
                    .push(Dropped::new(format!("tools[{i}]"), format!("{kind} is a tool of one provider")));
            }
        }
    }
    if tools.is_empty() {
        return;
    }
    body.insert("tools".into(), Value::Array(tools));
    let choice = request.tool_choice.as_ref().map(|choice| match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({ "type": "function", "function": { "name": name } }),
    });
    body.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    body.extend(request.parallel_tools.map(|p| ("parallel_tool_calls".to_owned(), json!(p))));
}

/// One message may become several: tool results are messages of their own here.
fn write_message(
    message: &Message,
    style: &Style,
    path: &str,
    out: &mut Vec<Value>,
    dropped: &mut Vec<Dropped>,
) {
    dropped.extend(message.extras.keys().map(|key| Dropped::new(format!("{path}.{key}"), NO_SUCH_FIELD)));
    match message.role {
        Role::System => {
            let content = text_value(&message.content, path, dropped);
            out.push(json!({ "role": "system", "content": content }));
        }
        Role::User => {
            // Images and files cannot be in a tool message; they follow in the user's.
            let mut rest = Vec::new();
            for (at, part) in placed(&message.content, path) {
                let Part::ToolResult(result) = part else {
                    rest.push((at, part));
                    continue;
                };
                if result.is_error {
                    dropped.push(Dropped::new(format!("{at}.is_error"), NO_SUCH_FIELD));
                }
                let keys = result.extras.keys();
                dropped.extend(keys.map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
                let (images, texts): (Vec<_>, Vec<_>) = placed(&result.content, &at)
                    .partition(|(_, part)| matches!(part, Part::Image(_)) || is_pdf(part));
                let content = content_value(&texts, Role::User, style, dropped).unwrap_or_else(|| json!(""));
                out.push(json!({ "role": "tool", "tool_call_id": result.call, "content": content }));
                rest.extend(images);
            }
            // Of parts that could not be carried nothing is left to be said.
            if let Some(content) = content_value(&rest, Role::User, style, dropped) {
                out.push(json!({ "role": "user", "content": content }));
            }
        }
        Role::Assistant => {
            let mut written = json!({ "role": "assistant" });
            let mut calls = Vec::new();
            let mut said = Vec::new();
            for (at, part) in placed(&message.content, path) {
                match part {
                    Part::ToolCall(call) => {
                        if call.signature.is_some() {
                            dropped.push(Dropped::new(format!("{at}.thoughtSignature"), OF_ITS_PROVIDER));
                        }
                        calls.push(tool_call_value(call));
                    }
                    Part::Reasoning { text, signature } => {
                        let unsigned = signature.as_ref().is_none_or(String::is_empty);
                        if let (Some(field), true) = (style.reasoning, unsigned) {
                            append(&mut written, field.as_str(), text);
                            continue;
                        }
                        dropped.push(Dropped::new(at, OF_ITS_PROVIDER));
                    }
                    Part::Refusal(text) => append(&mut written, "refusal", text),
                    other => said.push((at, other)),
                }
            }
            let content = content_value(&said, Role::Assistant, style, dropped);
            let speaks = content.is_some();
            written["content"] = content.unwrap_or_default();
            let calls_tools = !calls.is_empty();
            if calls_tools {
                written["tool_calls"] = Value::Array(calls);
            }
            if !speaks && !calls_tools && written.get("refusal").is_none() {
                return;
            }
            match out.last_mut() {
                Some(last) if last["role"] == "assistant" && (calls_tools || has_calls(last)) => {
                    join(last, &written);
                }
                _ => out.push(written),
            }
        }
    }
}

fn has_calls(message: &Value) -> bool {
    message.get("tool_calls").is_some()
}

/// More text of a field that is one text.
fn append(message: &mut Value, field: &str, text: &str) {
    let so_far = message[field].as_str().unwrap_or_default();
    message[field] = json!(format!("{so_far}{text}"));
}

/// One turn of the model in several messages, as other dialects may have it. Here the results of all its calls have to
/// follow one message that has all of them.
fn join(turn: &mut Value, more: &Value) {
    let parts = |content: &Value| match content {
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(parts) => parts.clone(),
        _ => Vec::new(),
    };
    turn["content"] = match (&turn["content"], &more["content"]) {
        (one, Value::Null) => one.clone(),
        (Value::Null, other) => other.clone(),
        (Value::String(one), Value::String(other)) => json!(format!("{one}\n\n{other}")),
        (one, other) => Value::Array([parts(one), parts(other)].concat()),
    };
    for key in ["refusal", ReasoningField::Reasoning.as_str(), ReasoningField::ReasoningContent.as_str()] {
        if let Some(text) = more.get(key).and_then(Value::as_str) {
            append(turn, key, text);
        }
    }
    let calls =
        |message: &Value| message.get("tool_calls").and_then(Value::as_array).cloned().unwrap_or_default();
    let all = [calls(turn), calls(more)].concat();
    if !all.is_empty() {
        turn["tool_calls"] = Value::Array(all);
    }
}

pub(super) fn tool_call_value(call: &ToolCall) -> Value {
    // Clients parse the arguments: no arguments are an empty object.
    let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}

/// What instructions say.
fn text_value(parts: &[Part], path: &str, dropped: &mut Vec<Dropped>) -> Value {
    let parts: Vec<_> = placed(parts, path).collect();
    content_value(&parts, Role::System, &Style::default(), dropped).unwrap_or_else(|| json!(""))
}

/// The parts as texts; `None` where one of them is none.
fn texts(parts: &[Value]) -> Option<Vec<&str>> {
    parts.iter().map(|part| part["text"].as_str()).collect()
}

/// Plain text where it can be, which every compatible provider takes, and some alone; parts otherwise. `None` where no part could be
/// carried.
fn content_value(
    parts: &[(String, &Part)],
    role: Role,
    style: &Style,
    dropped: &mut Vec<Dropped>,
) -> Option<Value> {
    let mut values = Vec::new();
    for (at, part) in parts {
        match part {
            Part::Text { text, extras } => {
                let keys = extras.keys();
                dropped.extend(keys.map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
                values.push(json!({ "type": "text", "text": text }));
            }
            Part::Refusal(text) => values.push(json!({ "type": "text", "text": text })),
            Part::Image(image) if role == Role::User => values.push(image_value(image, at, dropped)),
            Part::Opaque(part) if style.files && role == Role::User && Pdf::of(part).is_some() => {
                values.extend(Pdf::of(part).map(|pdf| file_value(&pdf, at, dropped)));
            }
            Part::Image(_)
            | Part::Reasoning { .. }
            | Part::ToolCall(_)
            | Part::ToolResult(_)
            | Part::Opaque(_) => {
                let reason = "chat completions cannot carry this kind of part here";
                dropped.push(Dropped::new(at.as_str(), reason));
            }
        }
    }
    if values.is_empty() {
        return None;
    }
    match texts(&values) {
        Some(texts) => Some(json!(texts.join("\n\n"))),
        None => Some(Value::Array(values)),
    }
}

fn file_value(pdf: &Pdf<'_>, at: &str, dropped: &mut Vec<Dropped>) -> Value {
    let keys = pdf.beside.iter();
    dropped.extend(keys.map(|(key, _)| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
    json!({ "type": "file", "file": { "filename": pdf.file_name(), "file_data": pdf.url() } })
}

fn image_value(image: &Image, at: &str, dropped: &mut Vec<Dropped>) -> Value {
    let keys = image.extras.keys();
    dropped.extend(keys.map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
    image_url(image)
}
