//! Requests for providers.

use serde_json::{Map, Value, json};

use super::super::documents::Pdf;
use super::super::openai_chat::strict::holds;
use super::super::openai_chat::thinker;
use super::super::{OF_ITS_PROVIDER, Style, Written, arguments_schema, schema_for};
use super::items::arguments;
use crate::ir::{
    ChatRequest, Dropped, ImageSource, Message, Part, ResponseFormat, Role, Sampling, Tool, ToolChoice,
    ToolResult,
};

const NO_SUCH_FIELD: &str = "responses have no such field";

/// Fields that mean the same in OpenAI's chat completions, from where alone they can come.
const SHARED: [&str; 4] = ["metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"];

/// Writes a request that arrived in another dialect. Nothing of it is to be stored: nobody asked for that there.
pub(super) fn write(request: &ChatRequest, style: &Style) -> Written {
    let mut dropped = Vec::new();
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("store".into(), json!(false));
    if !request.system.is_empty() {
        body.insert("instructions".into(), json!(instructions(&request.system, &mut dropped)));
    }
    let mut input = Vec::new();
    for (i, message) in request.messages.iter().enumerate() {
        let path = format!("messages[{i}]");
        let keys = message.extras.keys();
        dropped.extend(keys.map(|key| Dropped::new(format!("{path}.{key}"), NO_SUCH_FIELD)));
        write_message(message, style, &path, &mut input, &mut dropped);
    }
    body.insert("input".into(), Value::Array(input));
    write_tools(request, &mut body, &mut dropped);
    write_bounds(request, &mut body, &mut dropped);
    write_text(request, style, &mut body, &mut dropped);
    let effort = thinker::effort(request, style, &mut dropped);
    body.extend(effort.map(|effort| ("reasoning".to_owned(), json!({ "effort": effort }))));
    thinker::fit_sampling(&request.model, effort, &mut body, &mut dropped);
    if request.stream {
        body.insert("stream".into(), json!(true));
    }
    if request.answers > 1 {
        dropped.push(Dropped::new("n", "responses give one answer"));
    }
    if let Some(user) = &request.user {
        body.insert("user".into(), thinker::user(user, &mut dropped));
    }
    for (key, value) in &request.extras {
        match key.as_str() {
            "verbosity" => {}
            key if SHARED.contains(&key) => _ = body.insert(key.to_owned(), value.clone()),
            _ => dropped.push(Dropped::new(key, NO_SUCH_FIELD)),
        }
    }
    Written { body: Value::Object(body).to_string().into(), dropped }
}

/// Text that stands apart from the messages.
fn instructions(parts: &[Part], dropped: &mut Vec<Dropped>) -> String {
    let mut texts = Vec::new();
    for (j, part) in parts.iter().enumerate() {
        let at = format!("system.content[{j}]");
        match part {
            Part::Text { text, extras } => {
                dropped.extend(extras.keys().map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
                texts.push(text.as_str());
            }
            _ => dropped.push(Dropped::new(at, "instructions are text")),
        }
    }
    texts.join("\n\n")
}

fn write_bounds(request: &ChatRequest, body: &mut Map<String, Value>, dropped: &mut Vec<Dropped>) {
    let Sampling { temperature, top_p, top_k, frequency_penalty, presence_penalty, seed } = &request.sampling;
    body.extend(request.max_tokens.map(|max| ("max_output_tokens".to_owned(), json!(max))));
    body.extend(temperature.map(|v| ("temperature".to_owned(), json!(v))));
    body.extend(top_p.map(|v| ("top_p".to_owned(), json!(v))));
    let absent = [
        ("top_k", top_k.is_some()),
        ("frequency_penalty", frequency_penalty.is_some_and(|v| v != 0.0)),
        ("presence_penalty", presence_penalty.is_some_and(|v| v != 0.0)),
        ("seed", seed.is_some()),
        ("stop", !request.stop.is_empty()),
    ];
    dropped.extend(absent.iter().filter(|(_, set)| *set).map(|(key, _)| Dropped::new(*key, NO_SUCH_FIELD)));
}

fn write_text(
    request: &ChatRequest,
    style: &Style,
    body: &mut Map<String, Value>,
    dropped: &mut Vec<Dropped>,
) {
    let mut text = Map::new();
    match &request.format {
        None => {}
        Some(ResponseFormat::JsonSchema { name, description, schema, strict }) if !style.no_json_schema => {
            let name = if name.is_empty() { "answer" } else { name };
            let schema = schema_for(&request.model, schema, dropped);
            let strict = holds(*strict, &schema, dropped);
            let mut format =
                json!({ "type": "json_schema", "name": name, "schema": schema, "strict": strict });
            if let Some(description) = description {
                format["description"] = json!(description);
            }
            text.insert("format".into(), format);
        }
        Some(format) => {
            text.insert("format".into(), json!({ "type": "json_object" }));
            if matches!(format, ResponseFormat::JsonSchema { .. }) {
                dropped
                    .push(Dropped::new("response_format", "the provider takes json_object without a schema"));
            }
        }
    }
    if let Some(verbosity) = request.extras.get("verbosity") {
        text.insert("verbosity".into(), verbosity.clone());
    }
    if !text.is_empty() {
        body.insert("text".into(), Value::Object(text));
    }
}

fn write_tools(request: &ChatRequest, body: &mut Map<String, Value>, dropped: &mut Vec<Dropped>) {
    let mut tools = Vec::new();
    for (i, tool) in request.tools.iter().enumerate() {
        match tool {
            Tool::Function { name, description, parameters, strict, extras, .. } => {
                // Without a word functions are strict here, and nowhere else.
                let mut written = json!({
                    "type": "function", "name": name, "parameters": arguments_schema(parameters.as_ref()),
                    "strict": strict.unwrap_or(false),
                });
                if let Some(description) = description {
                    written["description"] = json!(description);
                }
                tools.push(written);
                let keys = extras.keys();
                dropped.extend(keys.map(|key| Dropped::new(format!("tools[{i}].{key}"), NO_SUCH_FIELD)));
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
        ToolChoice::Named(name) => json!({ "type": "function", "name": name }),
    });
    body.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    body.extend(request.parallel_tools.map(|p| ("parallel_tool_calls".to_owned(), json!(p))));
}

/// One message may become several items: calls and results are items of their own here.
fn write_message(
    message: &Message,
    style: &Style,
    path: &str,
    input: &mut Vec<Value>,
    dropped: &mut Vec<Dropped>,
) {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut said = Vec::new();
    let flush = |said: &mut Vec<Value>, input: &mut Vec<Value>| {
        if !said.is_empty() {
            input.push(json!({ "role": role, "content": content_value(std::mem::take(said)) }));
        }
    };
    // The results of a turn's calls come first, as elsewhere.
    for (j, part) in message.content.iter().enumerate() {
        if let Part::ToolResult(result) = part {
            input.push(result_item(result, style, &format!("{path}.content[{j}]"), dropped));
        }
    }
    for (j, part) in message.content.iter().enumerate() {
        let at = format!("{path}.content[{j}]");
        match part {
            Part::ToolResult(_) => {}
            Part::ToolCall(call) => {
                flush(&mut said, input);
                if call.signature.is_some() {
                    dropped.push(Dropped::new(format!("{at}.thoughtSignature"), OF_ITS_PROVIDER));
                }
                input.push(json!({
                    "type": "function_call", "call_id": call.id, "name": call.name,
                    "arguments": arguments(&call.arguments),
                }));
            }
            part => said.extend(content_part(part, message.role, style, &at, dropped)),
        }
    }
    flush(&mut said, input);
}

fn result_item(result: &ToolResult, style: &Style, path: &str, dropped: &mut Vec<Dropped>) -> Value {
    if result.is_error {
        dropped.push(Dropped::new(format!("{path}.is_error"), NO_SUCH_FIELD));
    }
    let keys = result.extras.keys();
    dropped.extend(keys.map(|key| Dropped::new(format!("{path}.{key}"), NO_SUCH_FIELD)));
    let mut content = Vec::new();
    for (j, part) in result.content.iter().enumerate() {
        content.extend(content_part(part, Role::User, style, &format!("{path}.content[{j}]"), dropped));
    }
    let output = if content.is_empty() { json!("") } else { content_value(content) };
    json!({ "type": "function_call_output", "call_id": result.call, "output": output })
}

/// A part of a message, as far as it has one here.
fn content_part(
    part: &Part,
    role: Role,
    style: &Style,
    at: &str,
    dropped: &mut Vec<Dropped>,
) -> Option<Value> {
    let kind = if role == Role::Assistant { "output_text" } else { "input_text" };
    match part {
        Part::Text { text, extras } => {
            dropped.extend(extras.keys().map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
            Some(json!({ "type": kind, "text": text }))
        }
        Part::Refusal(text) if role == Role::Assistant => Some(json!({ "type": "refusal", "refusal": text })),
        Part::Refusal(text) => Some(json!({ "type": kind, "text": text })),
        Part::Image(image) if role != Role::Assistant => {
            let keys = image.extras.keys();
            dropped.extend(keys.map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
            let url = match &image.source {
                ImageSource::Url(url) => url.clone(),
                ImageSource::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
            };
            let detail = image.detail.as_deref().unwrap_or("auto");
            Some(json!({ "type": "input_image", "image_url": url, "detail": detail }))
        }
        Part::Opaque(part) if style.files && role == Role::User && Pdf::of(part).is_some() => {
            let pdf = Pdf::of(part)?;
            let keys = pdf.beside.iter();
            dropped.extend(keys.map(|(key, _)| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
            Some(json!({ "type": "input_file", "filename": pdf.file_name(), "file_data": pdf.url() }))
        }
        Part::Reasoning { .. } => {
            dropped.push(Dropped::new(at, OF_ITS_PROVIDER));
            None
        }
        Part::Image(_) | Part::ToolCall(_) | Part::ToolResult(_) | Part::Opaque(_) => {
            dropped.push(Dropped::new(at, "responses cannot carry this kind of part here"));
            None
        }
    }
}

/// Plain text where it can be; parts otherwise.
fn content_value(parts: Vec<Value>) -> Value {
    match parts.as_slice() {
        [only] if only["type"] == "input_text" || only["type"] == "output_text" => only["text"].clone(),
        _ => Value::Array(parts),
    }
}
