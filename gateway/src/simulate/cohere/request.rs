//! Chat requests, checked as the provider checks them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::simulate::chat::{Ask, Choice, Format, Role, Tool, Turn};
use crate::simulate::failure::Reject;

/// The fields of a request that the provider knows; it refuses others.
const FIELDS: [&str; 22] = [
    "citation_options",
    "documents",
    "frequency_penalty",
    "k",
    "logprobs",
    "max_tokens",
    "messages",
    "model",
    "p",
    "presence_penalty",
    "priority",
    "raw_prompting",
    "response_format",
    "safety_mode",
    "seed",
    "stop_sequences",
    "stream",
    "strict_tools",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
];

pub(in crate::simulate) fn parse(body: &Value) -> Result<Ask, Reject> {
    let fields = body.as_object().ok_or_else(|| invalid("the body must be an object"))?;
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(Reject::bad(format!("unknown field: parameter '{unknown}' is not a valid field")));
    }
    let model = match fields.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        _ => return Err(invalid("model is required")),
    };
    let (system, turns) = messages(fields)?;
    let tools = tools(fields)?;
    range(fields, "temperature", 0.0, f64::MAX)?;
    range(fields, "p", 0.01, 0.99)?;
    range(fields, "k", 0.0, 500.0)?;
    range(fields, "frequency_penalty", 0.0, 1.0)?;
    range(fields, "presence_penalty", 0.0, 1.0)?;
    if ["frequency_penalty", "presence_penalty"].iter().all(|name| fields.contains_key(*name)) {
        return Err(invalid("cannot specify both frequency_penalty and presence_penalty."));
    }
    if fields.contains_key("strict_tools") && tools.is_empty() {
        return Err(invalid("strict_tools can only be specified with tools"));
    }
    let format = format(fields)?;
    if !matches!(format, Format::Text) && (!tools.is_empty() || fields.contains_key("documents")) {
        return Err(invalid("response_format is not supported with RAG."));
    }
    Ok(Ask {
        choice: choice(fields, &tools)?,
        parallel: true,
        max_tokens: positive(fields, "max_tokens")?,
        stops: stops(fields)?,
        format,
        stream: match fields.get("stream") {
            None => false,
            Some(Value::Bool(stream)) => *stream,
            Some(_) => return Err(invalid("stream must be a boolean")),
        },
        include_usage: true,
        alternatives: 1,
        input_tokens: 0,
        model,
        system,
        turns,
        tools,
    })
}

fn messages(fields: &Map<String, Value>) -> Result<(String, Vec<Turn>), Reject> {
    let list = match fields.get("messages") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        _ => return Err(invalid("messages must be a list of at least one message")),
    };
    let mut system = Vec::new();
    let mut turns = Vec::new();
    let mut open = BTreeSet::new();
    for (index, message) in list.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if role != "tool" {
            unanswered(&open)?;
        }
        let called = message.get("tool_calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let content = match message.get("content") {
            None | Some(Value::Null) if role == "assistant" && !called.is_empty() => String::new(),
            content => text(content, role, index)?,
        };
        match role {
            "system" => system.push(content),
            "user" => turns.push(Turn { role: Role::User, text: content }),
            "assistant" => {
                if !called.is_empty() && message.get("content").is_some_and(|said| said.is_string()) {
                    return Err(invalid("a message with tool_calls says what it plans in tool_plan"));
                }
                for call in called {
                    open.insert(call_id(call, index)?);
                }
                turns.push(Turn { role: Role::Assistant, text: content });
            }
            "tool" => {
                let id = message.get("tool_call_id").and_then(Value::as_str).unwrap_or_default();
                if !open.remove(id) {
                    let message = format!("tool_call_id at messages[{index}] is of no tool call before it");
                    return Err(invalid(&message));
                }
                turns.push(Turn { role: Role::Tool, text: content });
            }
            other => return Err(invalid(&format!("unknown role '{other}' at messages[{index}]"))),
        }
    }
    unanswered(&open)?;
    Ok((system.join("\n\n"), turns))
}

fn unanswered(open: &BTreeSet<String>) -> Result<(), Reject> {
    match open.first() {
        None => Ok(()),
        Some(id) => Err(invalid(&format!("tool call '{id}' has no tool message with its results"))),
    }
}

fn call_id(call: &Value, index: usize) -> Result<String, Reject> {
    let name = call.pointer("/function/name").and_then(Value::as_str);
    let arguments = call.pointer("/function/arguments").and_then(Value::as_str);
    let readable = arguments.is_some_and(|text| serde_json::from_str::<Map<String, Value>>(text).is_ok());
    match (call.get("id").and_then(Value::as_str), name) {
        (Some(id), Some(_)) if readable => Ok(id.to_owned()),
        _ => Err(invalid(&format!(
            "each of the tool_calls at messages[{index}] needs an id, a name and arguments that are a JSON object"
        ))),
    }
}

fn text(content: Option<&Value>, role: &str, index: usize) -> Result<String, Reject> {
    let parts = match content {
        Some(Value::String(text)) if !text.is_empty() || role == "tool" => return Ok(text.clone()),
        Some(Value::Array(parts)) if !parts.is_empty() => parts,
        _ => return Err(invalid(&format!("message at messages[{index}] must not be empty in a turn"))),
    };
    let mut texts = Vec::new();
    for part in parts {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        match (kind, role) {
            ("text", _) => {
                let text = part.get("text").and_then(Value::as_str);
                let missing = || invalid(&format!("a text at messages[{index}] has no text"));
                texts.push(text.ok_or_else(missing)?.to_owned());
            }
            ("image_url", "user") if part.pointer("/image_url/url").is_some_and(Value::is_string) => {}
            ("thinking", "assistant") => {}
            ("document", "tool") => {
                let data = part.pointer("/document/data");
                texts.push(data.map(Value::to_string).unwrap_or_default());
            }
            (other, role) => {
                let message =
                    format!("content of type '{other}' at messages[{index}] is not valid for {role}");
                return Err(invalid(&message));
            }
        }
    }
    Ok(texts.join("\n"))
}

fn tools(fields: &Map<String, Value>) -> Result<Vec<Tool>, Reject> {
    let list = match fields.get("tools") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(invalid("tools must be a list")),
    };
    let read = |tool: &Value| {
        if tool.get("type").and_then(Value::as_str) != Some("function") {
            return Err(invalid("a tool's type must be 'function'"));
        }
        let name = tool.pointer("/function/name").and_then(Value::as_str).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(invalid("a tool's name must be letters, digits, underscores and dashes"));
        }
        match tool.pointer("/function/parameters") {
            Some(schema @ Value::Object(_)) => Ok(Tool { name: name.to_owned(), schema: schema.clone() }),
            _ => Err(invalid(&format!("the parameters of tool '{name}' must be a JSON schema"))),
        }
    };
    list.iter().map(read).collect()
}

fn choice(fields: &Map<String, Value>, tools: &[Tool]) -> Result<Choice, Reject> {
    match fields.get("tool_choice").map(Value::as_str) {
        None => Ok(Choice::Auto),
        Some(_) if tools.is_empty() => Err(invalid("tool_choice can only be specified with tools")),
        Some(Some("REQUIRED")) => Ok(Choice::Any),
        Some(Some("NONE")) => Ok(Choice::None),
        Some(_) => Err(invalid("tool_choice must be one of REQUIRED and NONE")),
    }
}

fn stops(fields: &Map<String, Value>) -> Result<Vec<String>, Reject> {
    let list = match fields.get("stop_sequences") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(invalid("stop_sequences must be a list of strings")),
    };
    if list.len() > 5 {
        return Err(invalid("stop_sequences must not be more than 5"));
    }
    let text = |stop: &Value| stop.as_str().map(str::to_owned);
    list.iter().map(text).collect::<Option<_>>().ok_or_else(|| invalid("stop_sequences must be strings"))
}

fn format(fields: &Map<String, Value>) -> Result<Format, Reject> {
    let Some(given) = fields.get("response_format") else { return Ok(Format::Text) };
    let schema = given.get("json_schema").or_else(|| given.get("schema"));
    match (given.get("type").and_then(Value::as_str), schema) {
        (Some("text"), None) => Ok(Format::Text),
        (Some("text"), Some(_)) => Err(invalid("a schema needs response_format of type json_object")),
        (Some("json_object"), None) => Ok(Format::Json),
        (Some("json_object"), Some(schema @ Value::Object(_))) => Ok(Format::Schema(schema.clone())),
        (Some("json_object"), Some(_)) => Err(invalid("json_schema must be a JSON schema")),
        _ => Err(invalid("response_format's type must be one of text and json_object")),
    }
}

fn range(fields: &Map<String, Value>, name: &str, low: f64, high: f64) -> Result<(), Reject> {
    match fields.get(name).map(Value::as_f64) {
        None => Ok(()),
        Some(Some(number)) if (low..=high).contains(&number) => Ok(()),
        Some(_) if high == f64::MAX => Err(invalid(&format!("{name} must be a non-negative number"))),
        Some(_) => Err(invalid(&format!("{name} must be between {low} and {high} inclusive."))),
    }
}

fn positive(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>, Reject> {
    match fields.get(name).map(Value::as_u64) {
        None => Ok(None),
        Some(Some(number)) if number > 0 => Ok(Some(number)),
        Some(_) => Err(invalid(&format!("{name} must be a positive integer"))),
    }
}

fn invalid(message: &str) -> Reject {
    Reject::bad(format!("invalid request: {message}"))
}
