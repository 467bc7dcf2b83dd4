//! Requests for responses, checked as the provider checks them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::simulate::chat::{Ask, Choice, Format, Role, Tool, Turn};
use crate::simulate::failure::Reject;
use crate::simulate::openai::request::field::{
    INVALID_TYPE, article, flag, missing, range, whole, wrong_type,
};
use crate::simulate::served::House;

/// The fields of a request that api.openai.com knows. It refuses others.
const FIELDS: [&str; 31] = [
    "background",
    "client_metadata",
    "context_management",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

pub(in crate::simulate) fn parse(house: House, body: &Value) -> Result<Ask, Reject> {
    let fields = body.as_object().ok_or_else(|| {
        Reject::bad(format!(
            "Invalid type for request body: expected an object, but got {} instead.",
            article(body)
        ))
        .code(INVALID_TYPE)
    })?;
    if house == House::OpenAi
        && let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str()))
    {
        let message = format!("Unknown parameter: '{unknown}'.");
        return Err(Reject::bad(message).at(unknown.as_str()).code("unknown_parameter"));
    }
    let model = match fields.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        None | Some(Value::Null | Value::String(_)) => return Err(missing("model")),
        Some(other) => return Err(wrong_type("model", "a string", other)),
    };
    kept(fields)?;
    let (mut system, turns) = input(fields)?;
    match fields.get("instructions") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => system.insert(0, text.clone()),
        Some(other) => return Err(wrong_type("instructions", "a string", other)),
    }
    let tools = tools(fields)?;
    range(fields, "temperature", 0.0, 2.0)?;
    range(fields, "top_p", 0.0, 1.0)?;
    Ok(Ask {
        choice: choice(fields, &tools)?,
        parallel: flag(fields, "parallel_tool_calls")?.unwrap_or(true),
        max_tokens: whole(fields, "max_output_tokens", 16, u64::MAX)?,
        stops: Vec::new(),
        format: format(fields)?,
        stream: flag(fields, "stream")?.unwrap_or(false),
        include_usage: true,
        alternatives: 1,
        input_tokens: 0,
        model,
        system: system.join("\n\n"),
        turns,
        tools,
    })
}

/// Nothing is kept here, so that nothing can be gone on from.
fn kept(fields: &Map<String, Value>) -> Result<(), Reject> {
    if let Some(id) = fields.get("previous_response_id").and_then(Value::as_str) {
        let message = format!("Previous response with id '{id}' not found.");
        return Err(Reject::bad(message).at("previous_response_id").code("previous_response_not_found"));
    }
    for name in ["conversation", "prompt"] {
        if fields.get(name).is_some_and(|value| !value.is_null()) {
            return Err(Reject::bad(format!("Invalid '{name}': not found.")).at(name).code("not_found"));
        }
    }
    if flag(fields, "background")? == Some(true) {
        let message = "Background mode is not supported with this model.";
        return Err(Reject::bad(message).at("background"));
    }
    Ok(())
}

fn input(fields: &Map<String, Value>) -> Result<(Vec<String>, Vec<Turn>), Reject> {
    let list = match fields.get("input") {
        None | Some(Value::Null) => return Err(missing("input")),
        Some(Value::String(text)) => {
            return Ok((Vec::new(), vec![Turn { role: Role::User, text: text.clone() }]));
        }
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("input", "one of a string or array of input items", other)),
    };
    if list.is_empty() {
        let message = "Invalid 'input': empty array. Expected an array with minimum length 1, but got an empty array \
                       instead.";
        return Err(Reject::bad(message).at("input").code("empty_array"));
    }
    let (mut system, mut turns) = (Vec::new(), Vec::new());
    let mut unanswered: BTreeSet<&str> = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let at = format!("input[{index}]");
        let item = item.as_object().ok_or_else(|| wrong_type(&at, "an object", item))?;
        let text = |key: &str| {
            let at = format!("{at}.{key}");
            item.get(key).and_then(Value::as_str).ok_or_else(|| missing(&at))
        };
        match item.get("type").and_then(Value::as_str).unwrap_or("message") {
            "message" => {
                let role = text("role")?;
                let said = content(item.get("content"), &at, role)?;
                match role {
                    "system" | "developer" => system.push(said),
                    "assistant" => turns.push(Turn { role: Role::Assistant, text: said }),
                    "user" => turns.push(Turn { role: Role::User, text: said }),
                    other => {
                        let message = format!(
                            "Invalid value: '{other}'. Supported values are: 'assistant', 'system', 'developer', and \
                             'user'."
                        );
                        return Err(Reject::bad(message).at(format!("{at}.role")).code("invalid_value"));
                    }
                }
            }
            kind @ ("function_call" | "custom_tool_call") => {
                text("name")?;
                text(if kind == "function_call" { "arguments" } else { "input" })?;
                unanswered.insert(text("call_id")?);
                // The calls of one turn are several items.
                if turns.last().is_none_or(|turn: &Turn| turn.role != Role::Assistant) {
                    turns.push(Turn { role: Role::Assistant, text: String::new() });
                }
            }
            "function_call_output" | "custom_tool_call_output" => {
                let id = text("call_id")?;
                if !unanswered.remove(id) {
                    let message = format!("No tool call found for function call output with call_id {id}.");
                    return Err(Reject::bad(message).at("input"));
                }
                let said = match item.get("output") {
                    Some(Value::String(text)) => text.clone(),
                    Some(parts @ Value::Array(_)) => content(Some(parts), &at, "user")?,
                    Some(other) => return Err(wrong_type(&format!("{at}.output"), "a string", other)),
                    None => return Err(missing(&format!("{at}.output"))),
                };
                turns.push(Turn { role: Role::Tool, text: said });
            }
            "reasoning" => {
                if !item.get("summary").is_some_and(Value::is_array) {
                    return Err(missing(&format!("{at}.summary")));
                }
            }
            other => {
                let message = format!(
                    "Invalid value: '{other}'. Supported values are: 'message', 'function_call', 'function_call_output', \
                     'custom_tool_call', 'custom_tool_call_output', and 'reasoning'."
                );
                return Err(Reject::bad(message).at(format!("{at}.type")).code("invalid_value"));
            }
        }
    }
    match unanswered.first() {
        None => Ok((system, turns)),
        Some(id) => Err(Reject::bad(format!("No tool output found for function call {id}.")).at("input")),
    }
}

fn content(content: Option<&Value>, at: &str, role: &str) -> Result<String, Reject> {
    let at = format!("{at}.content");
    let parts = match content {
        None | Some(Value::Null) => return Err(missing(&at)),
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(wrong_type(&at, "one of a string or array of content parts", other)),
    };
    let supported: &[&str] = match role {
        "assistant" => &["output_text", "refusal"],
        _ => &["input_text", "input_image", "input_file"],
    };
    let mut texts = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}[{index}]");
        match part.get("type").and_then(Value::as_str) {
            None => return Err(missing(&format!("{at}.type"))),
            Some(kind) if !supported.contains(&kind) => {
                let values: Vec<String> = supported.iter().map(|kind| format!("'{kind}'")).collect();
                let message =
                    format!("Invalid value: '{kind}'. Supported values are: {}.", values.join(" and "));
                return Err(Reject::bad(message).at(at).code("invalid_value"));
            }
            Some("input_text" | "output_text") => {
                let text = part.get("text").and_then(Value::as_str);
                texts.push(text.ok_or_else(|| missing(&format!("{at}.text")))?);
            }
            Some(_) => {}
        }
    }
    Ok(texts.join("\n"))
}

fn tools(fields: &Map<String, Value>) -> Result<Vec<Tool>, Reject> {
    let list = match fields.get("tools") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("tools", "an array of objects", other)),
    };
    let read = |(index, tool): (usize, &Value)| {
        match tool.get("type").and_then(Value::as_str) {
            Some("function") => {}
            // Taken, and called by no model here: what is played calls functions.
            Some("custom" | "namespace") => {
                let at = format!("tools[{index}].name");
                return tool.get("name").and_then(Value::as_str).map(|_| None).ok_or_else(|| missing(&at));
            }
            Some(other) => {
                let message = format!("Hosted tool '{other}' is not supported with this model.");
                return Err(Reject::bad(message).at("tools"));
            }
            None => return Err(missing(&format!("tools[{index}].type"))),
        }
        // What chat completions have one level deeper.
        let at = format!("tools[{index}].name");
        let name = tool.get("name").and_then(Value::as_str).ok_or_else(|| missing(&at))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            let message = format!(
                "Invalid '{at}': string does not match pattern. Expected a string that matches the pattern \
                 '^[a-zA-Z0-9_-]+$'."
            );
            return Err(Reject::bad(message).at(at).code("invalid_value"));
        }
        let schema = tool.get("parameters").filter(|schema| schema.is_object());
        let schema = schema.cloned().unwrap_or_else(|| json!({"type": "object"}));
        Ok(Some(Tool { name: name.to_owned(), schema }))
    };
    list.iter().enumerate().filter_map(|entry| read(entry).transpose()).collect()
}

fn choice(fields: &Map<String, Value>, tools: &[Tool]) -> Result<Choice, Reject> {
    let given = fields.get("tool_choice").filter(|choice| !choice.is_null());
    let Some(given) = given else { return Ok(Choice::Auto) };
    match given.as_str() {
        Some("auto") => return Ok(Choice::Auto),
        Some("none") => return Ok(Choice::None),
        Some("required") if tools.is_empty() => {
            let message = "Tool choice 'required' must be specified with 'tools' parameter.";
            return Err(Reject::bad(message).at("tool_choice"));
        }
        Some("required") => return Ok(Choice::Any),
        Some(other) => {
            let message =
                format!("Invalid value: '{other}'. Supported values are: 'none', 'auto', and 'required'.");
            return Err(Reject::bad(message).at("tool_choice").code("invalid_value"));
        }
        None => {}
    }
    let name = given.get("name").and_then(Value::as_str).ok_or_else(|| missing("tool_choice.name"))?;
    if tools.iter().any(|tool| tool.name == name) {
        return Ok(Choice::Named(name.to_owned()));
    }
    let message = format!("Tool choice '{name}' not found in 'tools' parameter.");
    Err(Reject::bad(message).at("tool_choice"))
}

fn format(fields: &Map<String, Value>) -> Result<Format, Reject> {
    let text = fields.get("text").filter(|text| !text.is_null());
    let Some(given) = text.and_then(|text| text.get("format")).filter(|format| !format.is_null()) else {
        return Ok(Format::Text);
    };
    match given.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Json),
        Some("json_schema") => {
            if given.get("name").and_then(Value::as_str).is_none() {
                return Err(missing("text.format.name"));
            }
            let schema = given.get("schema");
            schema.cloned().map(Format::Schema).ok_or_else(|| missing("text.format.schema"))
        }
        Some(other) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'json_object', 'json_schema', and 'text'."
            );
            Err(Reject::bad(message).at("text.format.type").code("invalid_value"))
        }
        None => Err(missing("text.format.type")),
    }
}
