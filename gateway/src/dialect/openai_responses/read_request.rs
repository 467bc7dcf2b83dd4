//! Requests of clients.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::super::openai_chat::signature_of;
use super::super::{RequestError, data_url};
use super::{KEPT, REFERENCE, tools};
use crate::fields::{Fields, elements, wrong};
use crate::ir::{
    ChatRequest, Image, ImageSource, Message, Part, ReasoningWish, ResponseFormat, Role, Sampling, ToolCall,
    ToolChoice, ToolResult,
};

/// What may be asked to come with an answer and comes anyway.
const COMES_ANYWAY: &str = "reasoning.encrypted_content";

pub(super) fn parse(body: &[u8]) -> Result<ChatRequest, RequestError> {
    let mut f = Fields::parse(body)?;
    if f.boolean("background")? == Some(true) {
        let message = "an answer in the background goes on when the call is over, where nothing accounts for it and \
                       nothing here could fetch it; leave it out, or use \"stream\": true";
        return Err(f.error("background", message));
    }
    let messages = input(&mut f)?;
    let mut system = Vec::new();
    system.extend(f.string("instructions")?.map(Part::text));
    let reasoning = reasoning(&mut f)?;
    let format = text(&mut f)?;
    defaults(&mut f)?;
    let older = f.string("user")?;
    let (tools, tool_places) = tools::read(&mut f)?;
    Ok(ChatRequest {
        model: f.string("model")?.unwrap_or_default(),
        system,
        messages,
        tools,
        tool_places,
        tool_choice: tool_choice(&mut f)?,
        parallel_tools: f.boolean("parallel_tool_calls")?,
        sampling: Sampling {
            temperature: f.number("temperature")?,
            top_p: f.number("top_p")?,
            ..Sampling::default()
        },
        max_tokens: f.uint("max_output_tokens")?,
        stop: Vec::new(),
        stream: f.boolean("stream")?.unwrap_or(false),
        include_usage: true,
        format,
        reasoning,
        answers: 1,
        user: f.string("safety_identifier")?.or(older),
        extras: f.rest()?,
    })
}

/// Takes out what only says what would be so without it. What is left among the extras is a wish.
fn defaults(f: &mut Fields) -> Result<(), RequestError> {
    if f.boolean("store")? == Some(true) {
        f.restore("store", json!(true));
    }
    if let Some(truncation) = f.string("truncation")?.filter(|word| word != "disabled") {
        f.restore("truncation", json!(truncation));
    }
    let include: Vec<String> =
        f.strings("include")?.into_iter().filter(|word| word != COMES_ANYWAY).collect();
    if !include.is_empty() {
        f.restore("include", json!(include));
    }
    if let Some(mut options) = f.object("stream_options")?
        && options.boolean("include_obfuscation")? == Some(true)
    {
        f.restore("stream_options", json!({ "include_obfuscation": true }));
    }
    let metadata = f.object("metadata")?.map(Fields::rest).transpose()?;
    if let Some(metadata) = metadata.filter(|map| !map.is_empty()) {
        f.restore("metadata", Value::Object(metadata));
    }
    Ok(())
}

fn input(f: &mut Fields) -> Result<Vec<Message>, RequestError> {
    let mut goes_on = KEPT.iter().any(|field| f.peek(field).is_some());
    let path = f.at("input");
    let items = match f.value("input") {
        None if goes_on => return Ok(Vec::new()),
        None => return Err(f.error("input", "is missing")),
        Some(Value::String(text)) => {
            return Ok(vec![Message {
                role: Role::User,
                content: vec![Part::text(text)],
                extras: Map::new(),
            }]);
        }
        Some(array @ Value::Array(_)) => elements(array, &path)?,
        Some(other) => return Err(wrong(path, "a string or an array of items", &other)),
    };
    if items.is_empty() && !goes_on {
        return Err(f.error("input", "must not be empty"));
    }
    let mut called = HashSet::new();
    let mut messages = Vec::with_capacity(items.len());
    for item in items {
        let at = item.at("call_id");
        let message = item_of(item)?;
        for part in &message.content {
            match part {
                Part::ToolCall(call) => _ = called.insert(call.id.clone()),
                Part::Opaque(item) => goes_on |= item["type"] == REFERENCE,
                Part::ToolResult(result) if !goes_on && !called.contains(&result.call) => {
                    let message =
                        format!("no function_call with the call_id {:?} stands before it", result.call);
                    return Err(RequestError { path: at, message });
                }
                _ => {}
            }
        }
        messages.push(message);
    }
    Ok(messages)
}

/// One item is one message, so that they have the same index.
fn item_of(mut f: Fields) -> Result<Message, RequestError> {
    let kind = f.string("type")?;
    let of = |role, part, extras| Message { role, content: vec![part], extras };
    match kind.as_deref() {
        None | Some("message") => message(f),
        Some("function_call") => {
            replayed(&mut f);
            let signature = f.value("extra_content").and_then(|extra| signature_of(&extra));
            let call = ToolCall {
                id: f.required_string("call_id")?,
                name: tools::called(&mut f)?,
                arguments: f.required_string("arguments")?,
                signature,
            };
            Ok(of(Role::Assistant, Part::ToolCall(call), f.rest()?))
        }
        Some("custom_tool_call") => {
            replayed(&mut f);
            let call = ToolCall {
                id: f.required_string("call_id")?,
                name: tools::called(&mut f)?,
                arguments: tools::arguments_of_text(&f.required_string("input")?),
                signature: None,
            };
            Ok(of(Role::Assistant, Part::ToolCall(call), f.rest()?))
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            replayed(&mut f);
            let result = ToolResult {
                call: f.required_string("call_id")?,
                content: parts(&mut f, "output")?,
                is_error: false,
                extras: Map::new(),
            };
            Ok(of(Role::User, Part::ToolResult(result), f.rest()?))
        }
        Some("reasoning") => {
            replayed(&mut f);
            let text = [texts(&mut f, "summary")?, texts(&mut f, "content")?].concat().join("\n\n");
            let signature = f.string("encrypted_content")?;
            Ok(of(Role::Assistant, Part::Reasoning { text, signature }, f.rest()?))
        }
        Some(kind) => {
            let role = if kind.ends_with("_output") { Role::User } else { Role::Assistant };
            f.restore("type", json!(kind));
            Ok(of(role, Part::Opaque(Value::Object(f.rest()?)), Map::new()))
        }
    }
}

/// What the provider put on an item of its own says nothing that is not said by its place.
fn replayed(f: &mut Fields) {
    for key in ["id", "status"] {
        f.value(key);
    }
}

fn message(mut f: Fields) -> Result<Message, RequestError> {
    let role = match f.required_string("role")?.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => {
            return Err(f.error("role", format!("{other:?} is not system, developer, user or assistant")));
        }
    };
    replayed(&mut f);
    if f.peek("content").is_none() {
        return Err(f.error("content", "is missing"));
    }
    let content = parts(&mut f, "content")?;
    Ok(Message { role, content, extras: f.rest()? })
}

fn parts(f: &mut Fields, key: &'static str) -> Result<Vec<Part>, RequestError> {
    let path = f.at(key);
    match f.value(key) {
        None => Err(f.error(key, "is missing")),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(array @ Value::Array(_)) => elements(array, &path)?.into_iter().map(part).collect(),
        Some(other) => Err(wrong(path, "a string or an array of parts", &other)),
    }
}

fn part(mut f: Fields) -> Result<Part, RequestError> {
    let kind = f.required_string("type")?;
    match kind.as_str() {
        "input_text" | "output_text" | "text" => {
            let text = f.required_string("text")?;
            let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
            let extras = f.rest()?.into_iter().filter(|(_, value)| !empty(value)).collect();
            Ok(Part::Text { text, extras })
        }
        "refusal" => Ok(Part::Refusal(f.required_string("refusal")?)),
        "input_image" if f.peek("image_url").is_some() => {
            let source = match f.required_string("image_url")? {
                url if url.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("data:")) => data_url(&url)
                    .ok_or_else(|| f.error("image_url", "is a data URL, but not `data:TYPE;base64,…`"))?,
                url => ImageSource::Url(url),
            };
            Ok(Part::Image(Image { source, detail: f.string("detail")?, extras: f.rest()? }))
        }
        // Files, and images that the account has stored.
        _ => {
            f.restore("type", Value::String(kind));
            Ok(Part::Opaque(Value::Object(f.rest()?)))
        }
    }
}

/// The texts of a list of parts that have nothing else of interest.
fn texts(f: &mut Fields, key: &'static str) -> Result<Vec<String>, RequestError> {
    f.objects(key)?.unwrap_or_default().into_iter().map(|mut part| part.required_string("text")).collect()
}

fn tool_choice(f: &mut Fields) -> Result<Option<ToolChoice>, RequestError> {
    match f.peek("tool_choice") {
        None => Ok(None),
        Some(Value::String(word)) => {
            let choice = match word.as_str() {
                "auto" => ToolChoice::Auto,
                "none" => ToolChoice::None,
                "required" => ToolChoice::Required,
                other => {
                    return Err(f.error("tool_choice", format!("{other:?} is not auto, none or required")));
                }
            };
            f.value("tool_choice");
            Ok(Some(choice))
        }
        Some(Value::Object(choice)) => {
            if !matches!(choice.get("type").and_then(Value::as_str), Some("function" | "custom")) {
                // Allowed tools, tools of the provider: kept among the extras.
                return Ok(None);
            }
            let mut choice = f.required_object("tool_choice")?;
            Ok(Some(ToolChoice::Named(tools::called(&mut choice)?)))
        }
        Some(other) => Err(wrong(f.at("tool_choice"), "a string or an object", other)),
    }
}

/// `reasoning.effort`; what else is asked of reasoning stays among the extras by its path.
fn reasoning(f: &mut Fields) -> Result<Option<ReasoningWish>, RequestError> {
    let Some(mut reasoning) = f.object("reasoning")? else { return Ok(None) };
    let effort = reasoning.string("effort")?;
    for (key, value) in reasoning.rest()? {
        f.restore(&format!("reasoning.{key}"), value);
    }
    Ok(effort.map(ReasoningWish::Effort))
}

/// `text.format`; what else is asked of the text stays among the extras by its path.
fn text(f: &mut Fields) -> Result<Option<ResponseFormat>, RequestError> {
    let Some(mut text) = f.object("text")? else { return Ok(None) };
    let format = text.object("format")?;
    for (key, value) in text.rest()? {
        f.restore(&format!("text.{key}"), value);
    }
    let Some(mut format) = format else { return Ok(None) };
    match format.required_string("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(ResponseFormat::JsonObject)),
        "json_schema" => Ok(Some(ResponseFormat::JsonSchema {
            name: format.required_string("name")?,
            description: format.string("description")?,
            schema: format.value("schema").ok_or_else(|| format.error("schema", "is missing"))?,
            // Without a word it is not.
            strict: Some(format.boolean("strict")?.unwrap_or(false)),
        })),
        other => Err(format.error("type", format!("{other:?} is not text, json_object or json_schema"))),
    }
}
