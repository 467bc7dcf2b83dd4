//! Chat completion requests, checked as the provider checks them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::simulate::chat::{Ask, Choice, Format, Role, Tool, Turn};
use crate::simulate::failure::Reject;
use crate::simulate::served::House;

pub(in crate::simulate) mod field;

use field::{INVALID_TYPE, article, flag, missing, range, whole, wrong_type};

/// The fields of a request that api.openai.com knows. It refuses others; most compatible servers ignore them.
const FIELDS: [&str; 37] = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];
const ROLES: [&str; 6] = ["system", "assistant", "user", "function", "tool", "developer"];

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
    let (system, turns) = messages(fields)?;
    let tools = tools(fields)?;
    range(fields, "temperature", 0.0, 2.0)?;
    range(fields, "top_p", 0.0, 1.0)?;
    range(fields, "presence_penalty", -2.0, 2.0)?;
    range(fields, "frequency_penalty", -2.0, 2.0)?;
    let stream = flag(fields, "stream")?.unwrap_or(false);
    let options = fields.get("stream_options").filter(|options| !options.is_null());
    if options.is_some() && !stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Reject::bad(message).at("stream_options"));
    }
    let include_usage = options.and_then(|options| options.get("include_usage")).and_then(Value::as_bool);
    let alternatives = whole(fields, "n", 1, 128)?.unwrap_or(1);
    Ok(Ask {
        choice: choice(fields, &tools)?,
        parallel: flag(fields, "parallel_tool_calls")?.unwrap_or(true),
        max_tokens: max_tokens(house, &model, fields)?,
        stops: stops(fields)?,
        format: format(fields)?,
        stream,
        include_usage: include_usage.unwrap_or(false),
        alternatives: u32::try_from(alternatives).unwrap_or(1),
        input_tokens: 0,
        model,
        system,
        turns,
        tools,
    })
}

/// OpenAI's reasoning models refuse `max_tokens`, which counted only what is shown.
fn max_tokens(house: House, model: &str, fields: &Map<String, Value>) -> Result<Option<u64>, Reject> {
    let old = whole(fields, "max_tokens", 1, u64::MAX)?;
    let new = whole(fields, "max_completion_tokens", 1, u64::MAX)?;
    let reasons = ["o1", "o3", "o4", "gpt-5"].iter().any(|family| model.starts_with(family));
    if house == House::OpenAi && old.is_some() && reasons {
        let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                       'max_completion_tokens' instead.";
        return Err(Reject::bad(message).at("max_tokens").code("unsupported_parameter"));
    }
    Ok(new.or(old))
}

fn messages(fields: &Map<String, Value>) -> Result<(String, Vec<Turn>), Reject> {
    let list = match fields.get("messages") {
        None | Some(Value::Null) => return Err(missing("messages")),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("messages", "an array of objects", other)),
    };
    if list.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty \
                       array instead.";
        return Err(Reject::bad(message).at("messages").code("empty_array"));
    }
    let mut system: Vec<String> = Vec::new();
    let mut turns = Vec::new();
    let mut unanswered = BTreeSet::new();
    for (index, message) in list.iter().enumerate() {
        let at = format!("messages[{index}]");
        let fields = message.as_object().ok_or_else(|| wrong_type(&at, "an object", message))?;
        let role = match fields.get("role") {
            Some(Value::String(role)) if ROLES.contains(&role.as_str()) => role.as_str(),
            Some(Value::String(role)) => {
                let message = format!(
                    "Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function', \
                     'tool', and 'developer'."
                );
                return Err(Reject::bad(message).at(format!("{at}.role")).code("invalid_value"));
            }
            _ => return Err(missing(&format!("{at}.role"))),
        };
        let is_tool = matches!(role, "tool" | "function");
        if !is_tool {
            answered(&unanswered, index)?;
        }
        if role == "tool" {
            let id = fields.get("tool_call_id").and_then(Value::as_str);
            let id = id.ok_or_else(|| missing(&format!("{at}.tool_call_id")))?;
            if !unanswered.remove(id) {
                let message = "Invalid parameter: messages with role 'tool' must be a response to a preceeding \
                               message with 'tool_calls'.";
                return Err(Reject::bad(message).at(format!("{at}.role")));
            }
        }
        let calls =
            if role == "assistant" { fields.get("tool_calls").and_then(Value::as_array) } else { None };
        for call in calls.into_iter().flatten() {
            unanswered.insert(call_id(call, &at)?);
        }
        let optional = calls.is_some()
            || (role == "assistant"
                && ["refusal", "function_call", "audio"].iter().any(|key| fields.contains_key(*key)));
        let text = content(fields.get("content"), &at, optional)?;
        match role {
            "system" | "developer" => system.push(text),
            "assistant" => turns.push(Turn { role: Role::Assistant, text }),
            "user" => turns.push(Turn { role: Role::User, text }),
            _ => turns.push(Turn { role: Role::Tool, text }),
        }
    }
    answered(&unanswered, list.len())?;
    Ok((system.join("\n\n"), turns))
}

fn answered(unanswered: &BTreeSet<String>, index: usize) -> Result<(), Reject> {
    if unanswered.is_empty() {
        return Ok(());
    }
    let ids = unanswered.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let message = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
         'tool_call_id'. The following tool_call_ids did not have response messages: {ids}"
    );
    Err(Reject::bad(message).at(format!("messages.[{index}].role")))
}

fn call_id(call: &Value, at: &str) -> Result<String, Reject> {
    let function = call.get("function");
    let arguments = function.and_then(|function| function.get("arguments"));
    match arguments {
        Some(Value::String(_)) => {}
        Some(other) => {
            return Err(wrong_type(&format!("{at}.tool_calls[0].function.arguments"), "a string", other));
        }
        None => return Err(missing(&format!("{at}.tool_calls[0].function.arguments"))),
    }
    if function.and_then(|function| function.get("name")).and_then(Value::as_str).is_none() {
        return Err(missing(&format!("{at}.tool_calls[0].function.name")));
    }
    let id = call.get("id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| missing(&format!("{at}.tool_calls[0].id")))
}

fn content(content: Option<&Value>, at: &str, optional: bool) -> Result<String, Reject> {
    let at = format!("{at}.content");
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let mut texts = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                let at = format!("{at}[{index}]");
                match part.get("type").and_then(Value::as_str) {
                    Some("text") => {
                        let text = part.get("text").and_then(Value::as_str);
                        texts.push(text.ok_or_else(|| missing(&format!("{at}.text")))?.to_owned());
                    }
                    Some("image_url" | "input_audio" | "file" | "refusal") => {}
                    Some(other) => {
                        let message = format!(
                            "Invalid value: '{other}'. Supported values are: 'text', 'image_url', 'input_audio', \
                             'refusal', 'audio', and 'file'."
                        );
                        return Err(Reject::bad(message).at(format!("{at}.type")).code("invalid_value"));
                    }
                    None => return Err(missing(&format!("{at}.type"))),
                }
            }
            Ok(texts.join("\n"))
        }
        None | Some(Value::Null) if optional => Ok(String::new()),
        None | Some(Value::Null) => {
            let message = "Invalid value for 'content': expected a string, got null.";
            Err(Reject::bad(message).at(at))
        }
        Some(other) => Err(wrong_type(&at, "one of a string or array of objects", other)),
    }
}

fn tools(fields: &Map<String, Value>) -> Result<Vec<Tool>, Reject> {
    let list = match fields.get("tools") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("tools", "an array of objects", other)),
    };
    if list.is_empty() {
        let message = "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array \
                       instead.";
        return Err(Reject::bad(message).at("tools").code("empty_array"));
    }
    let read = |(index, tool): (usize, &Value)| {
        if tool.get("type").and_then(Value::as_str).is_none() {
            return Err(missing(&format!("tools[{index}].type")));
        }
        let function = tool.get("function").ok_or_else(|| missing(&format!("tools[{index}].function")))?;
        let at = format!("tools[{index}].function.name");
        let name = function.get("name").and_then(Value::as_str).ok_or_else(|| missing(&at))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            let message = format!(
                "Invalid '{at}': string does not match pattern. Expected a string that matches the pattern \
                 '^[a-zA-Z0-9_-]+$'."
            );
            return Err(Reject::bad(message).at(at).code("invalid_value"));
        }
        let schema =
            function.get("parameters").cloned().unwrap_or_else(|| serde_json::json!({"type": "object"}));
        Ok(Tool { name: name.to_owned(), schema })
    };
    list.iter().enumerate().map(read).collect()
}

fn choice(fields: &Map<String, Value>, tools: &[Tool]) -> Result<Choice, Reject> {
    let given = fields.get("tool_choice").filter(|choice| !choice.is_null());
    let Some(given) = given else { return Ok(Choice::Auto) };
    if tools.is_empty() {
        let message =
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
        return Err(Reject::bad(message).at("tool_choice"));
    }
    match given.as_str() {
        Some("auto") => return Ok(Choice::Auto),
        Some("none") => return Ok(Choice::None),
        Some("required") => return Ok(Choice::Any),
        Some(other) => {
            let message =
                format!("Invalid value: '{other}'. Supported values are: 'none', 'auto', and 'required'.");
            return Err(Reject::bad(message).at("tool_choice").code("invalid_value"));
        }
        None => {}
    }
    let name = given.pointer("/function/name").and_then(Value::as_str);
    let name = name.ok_or_else(|| missing("tool_choice.function.name"))?;
    if tools.iter().any(|tool| tool.name == name) {
        return Ok(Choice::Named(name.to_owned()));
    }
    let message = format!("Tool choice '{name}' not found in 'tools' parameter.");
    Err(Reject::bad(message).at("tool_choice"))
}

fn stops(fields: &Map<String, Value>) -> Result<Vec<String>, Reject> {
    match fields.get("stop") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop.clone()]),
        Some(Value::Array(stops)) if stops.len() > 4 => {
            let message = format!(
                "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with \
                 length {} instead.",
                stops.len()
            );
            Err(Reject::bad(message).at("stop").code("array_above_max_length"))
        }
        Some(Value::Array(stops)) => {
            let text = |stop: &Value| {
                stop.as_str().map(str::to_owned).ok_or_else(|| wrong_type("stop", "a string", stop))
            };
            stops.iter().map(text).collect()
        }
        Some(other) => Err(wrong_type("stop", "one of a string or array of strings", other)),
    }
}

fn format(fields: &Map<String, Value>) -> Result<Format, Reject> {
    let Some(given) = fields.get("response_format").filter(|format| !format.is_null()) else {
        return Ok(Format::Text);
    };
    match given.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Json),
        Some("json_schema") => {
            if given.pointer("/json_schema/name").and_then(Value::as_str).is_none() {
                return Err(missing("response_format.json_schema.name"));
            }
            let schema = given.pointer("/json_schema/schema");
            schema.cloned().map(Format::Schema).ok_or_else(|| missing("response_format.json_schema.schema"))
        }
        Some(other) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'json_object', 'json_schema', and 'text'."
            );
            Err(Reject::bad(message).at("response_format.type").code("invalid_value"))
        }
        None => Err(missing("response_format.type")),
    }
}
