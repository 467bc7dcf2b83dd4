//! Chat requests, read as the server reads them: what it does not know it ignores, and what has the wrong type it refuses in
//! the words of its JSON library.

use serde_json::{Map, Value};

use crate::simulate::chat::{Ask, Choice, Format, Role, Tool, Turn};
use crate::simulate::failure::Reject;

pub(in crate::simulate) fn parse(body: &Value) -> Result<Ask, Reject> {
    let fields = body.as_object().ok_or_else(|| wrong("", "api.ChatRequest", body))?;
    let model = match fields.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        None | Some(Value::String(_)) => return Err(Reject::bad("model is required")),
        Some(other) => return Err(wrong("model", "string", other)),
    };
    let (system, turns) = messages(fields)?;
    let options = match fields.get("options") {
        None | Some(Value::Null) => &Map::new(),
        Some(Value::Object(options)) => options,
        Some(other) => return Err(wrong("options", "map[string]interface {}", other)),
    };
    for name in ["temperature", "top_p", "frequency_penalty", "presence_penalty", "top_k", "seed", "num_ctx"]
    {
        if options.get(name).is_some_and(|value| !value.is_number()) {
            return Err(Reject::bad(format!("option \"{name}\" must be of type number")));
        }
    }
    let most = match options.get("num_predict").map(Value::as_i64) {
        None => None,
        Some(Some(number)) => u64::try_from(number).ok(),
        Some(None) => return Err(Reject::bad("option \"num_predict\" must be of type integer")),
    };
    Ok(Ask {
        choice: Choice::Auto,
        parallel: true,
        max_tokens: most,
        stops: stops(options)?,
        format: format(fields)?,
        stream: match fields.get("stream") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(stream)) => *stream,
            Some(other) => return Err(wrong("stream", "bool", other)),
        },
        include_usage: true,
        alternatives: 1,
        input_tokens: 0,
        tools: tools(fields)?,
        model,
        system,
        turns,
    })
}

fn messages(fields: &Map<String, Value>) -> Result<(String, Vec<Turn>), Reject> {
    let list = match fields.get("messages") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        // The real one loads the model, and answers nothing.
        None | Some(Value::Null | Value::Array(_)) => {
            return Err(Reject::bad("the simulation answers no request without messages"));
        }
        Some(other) => return Err(wrong("messages", "[]api.Message", other)),
    };
    let mut system = Vec::new();
    let mut turns = Vec::new();
    for message in list {
        let text = match message.get("content") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => return Err(wrong("messages.content", "string", other)),
        };
        for image in message.get("images").and_then(Value::as_array).into_iter().flatten() {
            let decoded = image.as_str().and_then(|text| data_encoding::BASE64.decode(text.as_bytes()).ok());
            if decoded.is_none() {
                return Err(Reject::bad("illegal base64 data at input byte 0"));
            }
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let arguments = call.pointer("/function/arguments").unwrap_or(&Value::Null);
            if !arguments.is_object() {
                let field = "messages.tool_calls.function.arguments";
                return Err(wrong(field, "api.ToolCallFunctionArguments", arguments));
            }
        }
        match message.get("role").and_then(Value::as_str) {
            Some("system") => system.push(text),
            Some("user") => turns.push(Turn { role: Role::User, text }),
            Some("assistant") => turns.push(Turn { role: Role::Assistant, text }),
            Some("tool") => turns.push(Turn { role: Role::Tool, text }),
            other => {
                let other = other.unwrap_or_default();
                let message = format!("invalid role: {other}, must be one of [system user assistant tool]");
                return Err(Reject::bad(message));
            }
        }
    }
    Ok((system.join("\n\n"), turns))
}

fn tools(fields: &Map<String, Value>) -> Result<Vec<Tool>, Reject> {
    let list = match fields.get("tools") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong("tools", "api.Tools", other)),
    };
    let read = |tool: &Value| {
        let name = tool.pointer("/function/name").unwrap_or(&Value::Null);
        let schema = tool.pointer("/function/parameters").cloned().unwrap_or_else(|| serde_json::json!({}));
        match name.as_str() {
            Some(name) if schema.is_object() => Ok(Tool { name: name.to_owned(), schema }),
            _ => Err(wrong("tools.function", "api.ToolFunction", name)),
        }
    };
    list.iter().map(read).collect()
}

fn stops(options: &Map<String, Value>) -> Result<Vec<String>, Reject> {
    let Some(stops) = options.get("stop") else { return Ok(Vec::new()) };
    let texts = stops.as_array().map(|all| all.iter().map(|stop| stop.as_str().map(str::to_owned)).collect());
    texts.flatten().ok_or_else(|| Reject::bad("option \"stop\" must be of an array of strings"))
}

fn format(fields: &Map<String, Value>) -> Result<Format, Reject> {
    match fields.get("format") {
        None | Some(Value::Null) => Ok(Format::Text),
        Some(Value::String(word)) if word.is_empty() => Ok(Format::Text),
        Some(Value::String(word)) if word == "json" => Ok(Format::Json),
        Some(schema @ Value::Object(_)) => Ok(Format::Schema(schema.clone())),
        Some(other) => Err(Reject::bad(format!(
            "invalid format: {other}; expected \"json\" or a valid JSON Schema object"
        ))),
    }
}

fn wrong(field: &str, kind: &str, found: &Value) -> Reject {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Reject::bad(format!(
        "json: cannot unmarshal {found} into Go struct field ChatRequest.{field} of type {kind}"
    ))
}
