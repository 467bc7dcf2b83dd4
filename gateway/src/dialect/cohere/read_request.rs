//! Requests of clients.

use serde_json::{Map, Value, json};

use super::super::{RequestError, data_url};
use crate::fields::{Fields, elements, wrong};
use crate::ir::{
    ChatRequest, Form, Image, ImageSource, Message, Part, ReasoningWish, ResponseFormat, Role, Sampling,
    Tool, ToolCall, ToolChoice, ToolResult,
};

pub(super) fn parse(body: &[u8]) -> Result<ChatRequest, RequestError> {
    let mut f = Fields::parse(body)?;
    let messages = f.objects("messages")?.ok_or_else(|| f.error("messages", "is missing"))?;
    if messages.is_empty() {
        return Err(f.error("messages", "must not be empty"));
    }
    let messages = messages.into_iter().map(message).collect::<Result<_, _>>()?;
    let strict = f.boolean("strict_tools")?;
    let tools = f.objects("tools")?.unwrap_or_default();
    Ok(ChatRequest {
        model: f.string("model")?.unwrap_or_default(),
        system: Vec::new(),
        messages,
        tools: tools.into_iter().map(|entry| tool(entry, strict)).collect::<Result<_, _>>()?,
        tool_choice: tool_choice(&mut f)?,
        parallel_tools: None,
        sampling: Sampling {
            temperature: f.number("temperature")?,
            top_p: f.number("p")?,
            top_k: f.uint("k")?,
            frequency_penalty: f.number("frequency_penalty")?,
            presence_penalty: f.number("presence_penalty")?,
            seed: f.int("seed")?,
        },
        max_tokens: f.uint("max_tokens")?,
        stop: f.strings("stop_sequences")?,
        stream: f.boolean("stream")?.unwrap_or(false),
        include_usage: true,
        format: response_format(&mut f)?,
        reasoning: thinking(&mut f)?,
        answers: 1,
        user: None,
        // Documents, citation options, the safety mode and whatever comes.
        tool_places: Vec::new(),
        extras: f.rest()?,
    })
}

fn message(mut f: Fields) -> Result<Message, RequestError> {
    let role = match f.required_string("role")?.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => return assistant(f),
        "tool" => {
            let result = ToolResult {
                call: f.required_string("tool_call_id")?,
                content: parts(&mut f)?,
                is_error: false,
                extras: Map::new(),
            };
            let content = vec![Part::ToolResult(result)];
            return Ok(Message { role: Role::User, content, extras: f.rest()? });
        }
        other => return Err(f.error("role", format!("{other:?} is not system, user, assistant or tool"))),
    };
    if f.peek("content").is_none() {
        return Err(f.error("content", "is missing"));
    }
    let content = parts(&mut f)?;
    Ok(Message { role, content, extras: f.rest()? })
}

/// The plan is what the model said before its calls. Citations of earlier answers stay among the extras.
fn assistant(mut f: Fields) -> Result<Message, RequestError> {
    let mut content = parts(&mut f)?;
    if let Some(plan) = f.string("tool_plan")?.filter(|plan| !plan.is_empty()) {
        content.push(Part::text(plan));
    }
    for call in f.objects("tool_calls")?.unwrap_or_default() {
        content.push(tool_call(call)?);
    }
    Ok(Message { role: Role::Assistant, content, extras: f.rest()? })
}

fn parts(f: &mut Fields) -> Result<Vec<Part>, RequestError> {
    let path = f.at("content");
    match f.value("content") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(array @ Value::Array(_)) => elements(array, &path)?.into_iter().map(part).collect(),
        Some(other) => Err(wrong(path, "a string or an array of parts", &other)),
    }
}

fn part(mut f: Fields) -> Result<Part, RequestError> {
    let kind = f.required_string("type")?;
    match kind.as_str() {
        "text" => Ok(Part::Text { text: f.required_string("text")?, extras: f.rest()? }),
        "thinking" => Ok(Part::Reasoning { text: f.required_string("thinking")?, signature: None }),
        "image_url" => {
            let mut image = f.required_object("image_url")?;
            let source = match image.required_string("url")? {
                url if url.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("data:")) => data_url(&url)
                    .ok_or_else(|| image.error("url", "is a data URL, but not `data:TYPE;base64,…`"))?,
                url => ImageSource::Url(url),
            };
            let detail = image.string("detail")?;
            // Nothing else in it is of use here; in another letter case it may be to others.
            image.rest()?;
            Ok(Part::Image(Image { source, detail, extras: f.rest()? }))
        }
        "document" => document(f),
        _ => {
            f.restore("type", Value::String(kind));
            Ok(Part::Opaque(Value::Object(f.rest()?)))
        }
    }
}

/// A document, of which a tool's result may be made. Its data are what the model reads; only a text, or an object with
/// nothing but a text, is one elsewhere as well.
fn document(mut f: Fields) -> Result<Part, RequestError> {
    let mut document = f.required_object("document")?;
    let data = document.value("data").ok_or_else(|| document.error("data", "is missing"))?;
    let text = match data {
        Value::String(text) => text,
        Value::Object(map) => match map.get("text").or_else(|| map.get("snippet")) {
            Some(Value::String(text)) if map.len() == 1 => text.clone(),
            _ => Value::Object(map).to_string(),
        },
        other => return Err(wrong(document.at("data"), "an object or a string", &other)),
    };
    let mut extras = f.rest()?;
    let rest = document.rest()?;
    if !rest.is_empty() {
        extras.insert("document".to_owned(), Value::Object(rest));
    }
    Ok(Part::Text { text, extras })
}

fn tool_call(mut f: Fields) -> Result<Part, RequestError> {
    let id = f.required_string("id")?;
    let mut function = f.required_object("function")?;
    Ok(Part::ToolCall(ToolCall {
        id,
        name: function.required_string("name")?,
        arguments: function.string("arguments")?.unwrap_or_default(),
        signature: None,
    }))
}

fn tool(mut f: Fields, strict: Option<bool>) -> Result<Tool, RequestError> {
    let kind = f.required_string("type")?;
    if kind != "function" {
        f.restore("type", Value::String(kind.clone()));
        return Ok(Tool::Provider { kind, raw: Value::Object(f.rest()?) });
    }
    let mut function = f.required_object("function")?;
    Ok(Tool::Function {
        name: function.required_string("name")?,
        description: function.string("description")?,
        parameters: function.object("parameters")?.map(|schema| Value::Object(schema.untouched())),
        strict,
        form: Form::Plain,
        extras: f.rest()?,
    })
}

fn tool_choice(f: &mut Fields) -> Result<Option<ToolChoice>, RequestError> {
    match f.string("tool_choice")?.as_deref() {
        None => Ok(None),
        Some("REQUIRED") => Ok(Some(ToolChoice::Required)),
        Some("NONE") => Ok(Some(ToolChoice::None)),
        Some(other) => Err(f.error("tool_choice", format!("{other:?} is not REQUIRED or NONE"))),
    }
}

/// The schema is called `json_schema`, and `schema` in the older version of the API, whose habits live on.
fn response_format(f: &mut Fields) -> Result<Option<ResponseFormat>, RequestError> {
    let Some(mut format) = f.object("response_format")? else { return Ok(None) };
    match format.required_string("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => {
            let older = format.object("schema")?;
            let schema = format.object("json_schema")?.or(older);
            Ok(Some(match schema {
                None => ResponseFormat::JsonObject,
                Some(schema) => ResponseFormat::JsonSchema {
                    name: String::new(),
                    description: None,
                    schema: Value::Object(schema.untouched()),
                    // Of what OpenAI's strict mode demands of a schema, Cohere demands nothing.
                    strict: Some(false),
                },
            }))
        }
        other => Err(format.error("type", format!("{other:?} is not text or json_object"))),
    }
}

fn thinking(f: &mut Fields) -> Result<Option<ReasoningWish>, RequestError> {
    let Some(mut thinking) = f.object("thinking")? else { return Ok(None) };
    match thinking.required_string("type")?.as_str() {
        "disabled" => Ok(Some(ReasoningWish::Off)),
        "enabled" => {
            let budget = thinking.uint("token_budget")?;
            if budget.is_none() {
                // Without a bound: no other dialect has that wish.
                f.restore("thinking", json!({ "type": "enabled" }));
            }
            Ok(budget.map(ReasoningWish::Budget))
        }
        other => Err(thinking.error("type", format!("{other:?} is not enabled or disabled"))),
    }
}
