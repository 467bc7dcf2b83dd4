//! Messages requests, checked as the provider checks them.

use std::collections::BTreeSet;

use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::schema;
use crate::simulate::chat::{Ask, Choice, Format, Role, Tool, Turn};
use crate::simulate::failure::Reject;

/// The fields of a request that the provider knows; it refuses others.
const FIELDS: [&str; 23] = [
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

/// The versions of the API that there are.
const VERSIONS: [&[u8]; 3] = [b"2023-01-01", b"2023-06-01", LATEST];
/// The one that the client libraries send since their second great version.
const LATEST: &[u8] = b"2026-10-21";
/// What it does not take any more, not even as it is without.
const SAMPLING: [&str; 3] = ["temperature", "top_k", "top_p"];

pub(in crate::simulate) fn parse(headers: &HeaderMap, body: &Value) -> Result<Ask, Reject> {
    let Some(version) = headers.get("anthropic-version") else {
        return Err(Reject::bad("anthropic-version: header is required"));
    };
    if !VERSIONS.contains(&version.as_bytes()) {
        let shown = String::from_utf8_lossy(version.as_bytes());
        return Err(Reject::bad(format!("anthropic-version: \"{shown}\" is not a valid version")));
    }
    let fields = body
        .as_object()
        .ok_or_else(|| Reject::bad("Input should be a valid dictionary or object to extract fields from"))?;
    let gone = |name: &str| version.as_bytes() == LATEST && SAMPLING.contains(&name);
    let known = |name: &str| FIELDS.contains(&name) && !gone(name);
    if let Some(unknown) = fields.keys().find(|name| !known(name.as_str())) {
        return Err(at(unknown, "Extra inputs are not permitted"));
    }
    let model = match fields.get("model") {
        None => return Err(at("model", "Field required")),
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        Some(Value::String(_)) => return Err(at("model", "String should have at least 1 character")),
        Some(_) => return Err(at("model", "Input should be a valid string")),
    };
    let max_tokens = match fields.get("max_tokens") {
        None | Some(Value::Null) => return Err(at("max_tokens", "Field required")),
        Some(value) => match value.as_u64() {
            Some(0) => return Err(at("max_tokens", "must be greater than or equal to 1")),
            Some(max) => max,
            None if value.is_i64() => return Err(at("max_tokens", "must be greater than or equal to 1")),
            None => return Err(at("max_tokens", "Input should be a valid integer")),
        },
    };
    let turns = messages(fields)?;
    let tools = tools(fields)?;
    range(fields, "temperature")?;
    range(fields, "top_p")?;
    let (choice, parallel) = choice(fields, &tools)?;
    Ok(Ask {
        system: system(fields)?,
        choice,
        parallel,
        max_tokens: Some(max_tokens),
        stops: stops(fields)?,
        format: format(fields)?,
        stream: match fields.get("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(stream)) => *stream,
            Some(_) => return Err(at("stream", "Input should be a valid boolean")),
        },
        include_usage: true,
        alternatives: 1,
        input_tokens: 0,
        model,
        turns,
        tools,
    })
}

fn messages(fields: &Map<String, Value>) -> Result<Vec<Turn>, Reject> {
    let list = match fields.get("messages") {
        None => return Err(at("messages", "Field required")),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(at("messages", "Input should be a valid array")),
    };
    if list.is_empty() {
        return Err(at("messages", "at least one message is required"));
    }
    let mut turns = Vec::new();
    // The calls of the message before, which this message has to answer all and before anything else.
    let mut open: BTreeSet<String> = BTreeSet::new();
    for (index, message) in list.iter().enumerate() {
        let place = format!("messages.{index}");
        let role = match message.get("role").and_then(Value::as_str) {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => {
                return Err(at(
                    "messages",
                    "Unexpected role \"system\". The Messages API accepts a top-level `system` parameter, not \
                     \"system\" as an input message role.",
                ));
            }
            Some(_) => return Err(at(&format!("{place}.role"), "Input should be 'user' or 'assistant'")),
            None => return Err(at(&format!("{place}.role"), "Field required")),
        };
        let content =
            message.get("content").ok_or_else(|| at(&format!("{place}.content"), "Field required"))?;
        let last = index + 1 == list.len();
        let blocks = Blocks::read(content, &place, role, last)?;
        for answered in &blocks.results {
            if !open.remove(answered) {
                return Err(at(
                    &format!("{place}.content.0"),
                    &format!(
                        "unexpected `tool_use_id` found in `tool_result` blocks: {answered}. Each `tool_result` \
                         block must have a corresponding `tool_use` block in the previous message."
                    ),
                ));
            }
        }
        unanswered(&open, index)?;
        open = blocks.calls;
        // Results come in a user message. The text beside them is the user's own.
        turns.extend(blocks.result_text.into_iter().map(|text| Turn { role: Role::Tool, text }));
        if blocks.results.is_empty() || !blocks.text.is_empty() {
            turns.push(Turn { role, text: blocks.text.join("\n") });
        }
    }
    unanswered(&open, list.len())?;
    Ok(turns)
}

fn unanswered(open: &BTreeSet<String>, index: usize) -> Result<(), Reject> {
    if open.is_empty() {
        return Ok(());
    }
    let ids = open.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(at(
        &format!("messages.{}", index.saturating_sub(1)),
        &format!(
            "`tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each `tool_use` block \
             must have a corresponding `tool_result` block in the next message."
        ),
    ))
}

/// The content of one message.
#[derive(Default)]
struct Blocks {
    text: Vec<String>,
    result_text: Vec<String>,
    results: Vec<String>,
    calls: BTreeSet<String>,
}

impl Blocks {
    fn read(content: &Value, place: &str, role: Role, last: bool) -> Result<Blocks, Reject> {
        let mut blocks = Blocks::default();
        let list = match content {
            Value::String(text) => {
                // Only the last message may be empty, and only the assistant's: a prefill.
                if text.is_empty() && !(last && role == Role::Assistant) {
                    return Err(at(
                        place,
                        "all messages must have non-empty content except for the optional final assistant message",
                    ));
                }
                blocks.text.push(text.clone());
                return Ok(blocks);
            }
            Value::Array(list) => list,
            _ => return Err(at(&format!("{place}.content"), "Input should be a valid array")),
        };
        if list.is_empty() && !(last && role == Role::Assistant) {
            return Err(at(
                place,
                "all messages must have non-empty content except for the optional final assistant message",
            ));
        }
        for (index, block) in list.iter().enumerate() {
            blocks.add(block, &format!("{place}.content.{index}"), role)?;
        }
        Ok(blocks)
    }

    fn add(&mut self, block: &Value, place: &str, role: Role) -> Result<(), Reject> {
        let field = |name: &str| {
            let value = block.get(name).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| at(&format!("{place}.{name}"), "Field required"))
        };
        match block.get("type").and_then(Value::as_str) {
            Some("text") => {
                let text = field("text")?;
                if text.is_empty() {
                    return Err(at("messages", "text content blocks must be non-empty"));
                }
                self.text.push(text);
            }
            Some("tool_use") if role == Role::Assistant => {
                field("name")?;
                if !block.get("input").is_some_and(Value::is_object) {
                    return Err(at(&format!("{place}.tool_use.input"), "Input should be a valid dictionary"));
                }
                self.calls.insert(field("id")?);
            }
            Some("tool_use") => {
                return Err(at(place, "`tool_use` blocks can only be in `assistant` messages"));
            }
            Some("tool_result") if role == Role::User => {
                self.results.push(field("tool_use_id")?);
                // One for each result, so that results can be told apart; what is no text is an empty one.
                self.result_text.push(match block.get("content") {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Array(parts)) => {
                        let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
                        texts.collect::<Vec<_>>().join("\n")
                    }
                    _ => String::new(),
                });
            }
            Some("tool_result") => {
                return Err(at(place, "`tool_result` blocks can only be in `user` messages"));
            }
            Some(
                "image"
                | "document"
                | "search_result"
                | "thinking"
                | "redacted_thinking"
                | "server_tool_use"
                | "web_search_tool_result"
                | "container_upload",
            ) => {}
            Some(other) => {
                let message = format!(
                    "Input tag '{other}' found using 'type' does not match any of the expected tags: 'document', \
                     'image', 'redacted_thinking', 'search_result', 'server_tool_use', 'text', 'thinking', \
                     'tool_result', 'tool_use', 'web_search_tool_result'"
                );
                return Err(at(place, &message));
            }
            None => return Err(at(&format!("{place}.type"), "Field required")),
        }
        Ok(())
    }
}

fn system(fields: &Map<String, Value>) -> Result<String, Reject> {
    match fields.get("system") {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(blocks)) => {
            let mut texts = Vec::new();
            for (index, block) in blocks.iter().enumerate() {
                let text = block.get("text").and_then(Value::as_str).filter(|text| !text.is_empty());
                let place = format!("system.{index}.text");
                texts.push(text.ok_or_else(|| at(&place, "text content blocks must be non-empty"))?);
            }
            Ok(texts.join("\n"))
        }
        Some(_) => Err(at("system", "Input should be a valid array")),
    }
}

fn tools(fields: &Map<String, Value>) -> Result<Vec<Tool>, Reject> {
    let list = match fields.get("tools") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(at("tools", "Input should be a valid array")),
    };
    let mut tools = Vec::new();
    for (index, tool) in list.iter().enumerate() {
        // The provider's own tools (`web_search_20250305` and so on) have a type and no schema; they are not called.
        if tool.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "custom") {
            continue;
        }
        let name = tool.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| at(&format!("tools.{index}.custom.name"), "Field required"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
            let message = "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'";
            return Err(at(&format!("tools.{index}.custom.name"), message));
        }
        let place = format!("tools.{index}.custom.input_schema");
        let schema = tool.get("input_schema").ok_or_else(|| at(&place, "Field required"))?;
        if schema.get("type") != Some(&json!("object")) {
            return Err(at(&format!("{place}.type"), "Field required"));
        }
        tools.push(Tool { name: name.to_owned(), schema: schema.clone() });
    }
    Ok(tools)
}

fn choice(fields: &Map<String, Value>, tools: &[Tool]) -> Result<(Choice, bool), Reject> {
    let Some(given) = fields.get("tool_choice").filter(|choice| !choice.is_null()) else {
        return Ok((Choice::Auto, true));
    };
    let kind = given.get("type").and_then(Value::as_str);
    if tools.is_empty() && kind != Some("none") {
        return Err(Reject::bad("tool_choice may only be specified while providing tools"));
    }
    let parallel = given.get("disable_parallel_tool_use").and_then(Value::as_bool) != Some(true);
    let choice = match kind {
        Some("auto") => Choice::Auto,
        Some("any") => Choice::Any,
        Some("none") => Choice::None,
        Some("tool") => {
            let name = given.get("name").and_then(Value::as_str);
            let name = name.ok_or_else(|| at("tool_choice.tool.name", "Field required"))?;
            if !tools.iter().any(|tool| tool.name == name) {
                return Err(Reject::bad(format!("Tool '{name}' not found in provided tools")));
            }
            Choice::Named(name.to_owned())
        }
        Some(other) => {
            let message = format!(
                "Input tag '{other}' found using 'type' does not match any of the expected tags: 'any', 'auto', \
                 'none', 'tool'"
            );
            return Err(at("tool_choice", &message));
        }
        None => return Err(at("tool_choice.type", "Field required")),
    };
    Ok((choice, parallel))
}

fn stops(fields: &Map<String, Value>) -> Result<Vec<String>, Reject> {
    let list = match fields.get("stop_sequences") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(at("stop_sequences", "Input should be a valid array")),
    };
    let text = |(index, stop): (usize, &Value)| match stop.as_str() {
        None => Err(at(&format!("stop_sequences.{index}"), "Input should be a valid string")),
        Some(stop) if stop.trim().is_empty() => {
            Err(at("stop_sequences", "each stop sequence must contain non-whitespace"))
        }
        Some(stop) => Ok(stop.to_owned()),
    };
    list.iter().enumerate().map(text).collect()
}

/// `output_config.format`, or `output_format` as it was called in its beta.
fn format(fields: &Map<String, Value>) -> Result<Format, Reject> {
    let now = fields.get("output_config").and_then(|config| config.get("format"));
    let (place, given) = match (now, fields.get("output_format")) {
        (Some(given), _) => ("output_config.format", given),
        (None, Some(given)) => ("output_format", given),
        (None, None) => return Ok(Format::Text),
    };
    if given.is_null() {
        return Ok(Format::Text);
    }
    if given.get("type") != Some(&json!("json_schema")) {
        return Err(at(&format!("{place}.type"), "Input should be 'json_schema'"));
    }
    let place = format!("{place}.schema");
    let schema = given.get("schema").ok_or_else(|| at(&place, "Field required"))?;
    schema::judge(schema).map_err(|message| at(&place, &message))?;
    Ok(Format::Schema(schema.clone()))
}

fn range(fields: &Map<String, Value>, name: &str) -> Result<(), Reject> {
    match fields.get(name).map(|value| (value.is_null(), value.as_f64())) {
        None | Some((true, _)) => Ok(()),
        Some((_, Some(number))) if (0.0..=1.0).contains(&number) => Ok(()),
        Some((_, Some(_))) => Err(at(name, "range: 0..1")),
        Some((_, None)) => Err(at(name, "Input should be a valid number")),
    }
}

fn at(place: &str, message: &str) -> Reject {
    Reject::bad(format!("{place}: {message}"))
}
