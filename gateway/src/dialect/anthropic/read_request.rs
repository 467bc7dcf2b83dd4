//! Requests of clients.

use serde_json::{Map, Value, json};

use super::super::RequestError;
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
    let messages = messages.into_iter().enumerate().map(|(i, f)| message(f, i == 0));
    let messages = messages.collect::<Result<_, _>>()?;
    let max_tokens = f.uint("max_tokens")?.ok_or_else(|| f.error("max_tokens", "is missing"))?;
    let (tool_choice, parallel_tools) = tool_choice(&mut f)?;
    let user = match f.object("metadata")? {
        Some(mut metadata) => {
            let user = metadata.string("user_id")?;
            restore(&mut f, "metadata", metadata)?;
            user
        }
        None => None,
    };
    let (format, effort) = output_config(&mut f)?;
    let reasoning = thinking(&mut f, effort)?;
    // Nothing that keeps no fields beside it has a place there.
    let system = parts(&mut f, "system", &mut Map::new())?;
    Ok(ChatRequest {
        model: f.string("model")?.unwrap_or_default(),
        system,
        messages,
        tools: f.objects("tools")?.unwrap_or_default().into_iter().map(tool).collect::<Result<_, _>>()?,
        tool_choice,
        parallel_tools,
        sampling: Sampling {
            temperature: f.number("temperature")?,
            top_p: f.number("top_p")?,
            top_k: f.uint("top_k")?,
            ..Sampling::default()
        },
        max_tokens: Some(max_tokens),
        stop: f.strings("stop_sequences")?,
        stream: f.boolean("stream")?.unwrap_or(false),
        include_usage: true,
        format,
        reasoning,
        answers: 1,
        user,
        tool_places: Vec::new(),
        extras: f.rest()?,
    })
}

fn message(mut f: Fields, first: bool) -> Result<Message, RequestError> {
    let role = match f.required_string("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        // Instructions that come later (from Opus 4.8 on); those of the beginning have a field of their own.
        "system" if !first => Role::System,
        other => return Err(f.error("role", format!("{other:?} is not user or assistant"))),
    };
    if f.peek("content").is_none() {
        return Err(f.error("content", "is missing"));
    }
    let mut extras = Map::new();
    let content = parts(&mut f, "content", &mut extras)?;
    extras.extend(f.rest()?);
    Ok(Message { role, content, extras })
}

/// What was not taken of an object stays among the extras of the one that holds it, by its path.
fn restore(f: &mut Fields, key: &str, object: Fields) -> Result<(), RequestError> {
    for (field, value) in object.rest()? {
        f.restore(&format!("{key}.{field}"), value);
    }
    Ok(())
}

/// `beside`: what was not taken of blocks that keep nothing beside them, by its path in the message.
fn parts(
    f: &mut Fields,
    key: &'static str,
    beside: &mut Map<String, Value>,
) -> Result<Vec<Part>, RequestError> {
    let path = f.at(key);
    match f.value(key) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(array @ Value::Array(_)) => {
            elements(array, &path)?.into_iter().map(|block| part(block, beside)).collect()
        }
        Some(other) => Err(wrong(path, "a string or an array of blocks", &other)),
    }
}

fn part(mut f: Fields, beside: &mut Map<String, Value>) -> Result<Part, RequestError> {
    let kind = f.required_string("type")?;
    match kind.as_str() {
        "text" => Ok(Part::Text { text: f.required_string("text")?, extras: f.rest()? }),
        "image" => {
            let source = f.required_object("source")?;
            source.one_of(&["data", "url", "file_id"])?;
            image(f, source)
        }
        "tool_use" => {
            let input = f.object("input")?.map_or_else(Map::new, Fields::untouched);
            let id = f.required_string("id")?;
            let name = f.required_string("name")?;
            keep(f, beside)?;
            let arguments = Value::Object(input).to_string();
            Ok(Part::ToolCall(ToolCall { id, name, arguments, signature: None }))
        }
        "tool_result" => Ok(Part::ToolResult(ToolResult {
            call: f.required_string("tool_use_id")?,
            content: parts(&mut f, "content", beside)?,
            is_error: f.boolean("is_error")?.unwrap_or(false),
            extras: f.rest()?,
        })),
        "thinking" => {
            let text = f.required_string("thinking")?;
            let signature = f.string("signature")?;
            keep(f, beside)?;
            Ok(Part::Reasoning { text, signature })
        }
        _ => {
            f.restore("type", Value::String(kind));
            Ok(Part::Opaque(Value::Object(f.rest()?)))
        }
    }
}

/// What was not taken of a block, by its path in the message.
fn keep(block: Fields, beside: &mut Map<String, Value>) -> Result<(), RequestError> {
    let path = block.at("");
    let (_, below) = path.split_once('.').unwrap_or_default();
    beside.extend(block.rest()?.into_iter().map(|(field, value)| (format!("{below}{field}"), value)));
    Ok(())
}

fn image(mut f: Fields, mut source: Fields) -> Result<Part, RequestError> {
    let kind = source.required_string("type")?;
    let image = match kind.as_str() {
        "base64" => ImageSource::Base64 {
            media_type: source.required_string("media_type")?,
            data: source.required_string("data")?,
        },
        "url" => ImageSource::Url(source.required_string("url")?),
        // Files of the account, and whatever comes.
        _ => {
            source.restore("type", Value::String(kind));
            f.restore("source", Value::Object(source.rest()?));
            f.restore("type", json!("image"));
            return Ok(Part::Opaque(Value::Object(f.rest()?)));
        }
    };
    // Nothing else in it is of use here; in another letter case it may be to others.
    source.rest()?;
    Ok(Part::Image(Image { source: image, detail: None, extras: f.rest()? }))
}

fn tool(mut f: Fields) -> Result<Tool, RequestError> {
    if let Some(kind) = f.string("type")?
        && kind != "custom"
    {
        f.restore("type", Value::String(kind.clone()));
        return Ok(Tool::Provider { kind, raw: Value::Object(f.rest()?) });
    }
    Ok(Tool::Function {
        name: f.required_string("name")?,
        description: f.string("description")?,
        parameters: f.object("input_schema")?.map(|schema| Value::Object(schema.untouched())),
        strict: f.boolean("strict")?,
        form: Form::Plain,
        extras: f.rest()?,
    })
}

fn tool_choice(f: &mut Fields) -> Result<(Option<ToolChoice>, Option<bool>), RequestError> {
    let Some(mut choice) = f.object("tool_choice")? else { return Ok((None, None)) };
    let parallel = choice.boolean("disable_parallel_tool_use")?.map(|disable| !disable);
    let choice = match choice.required_string("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_string("name")?),
        other => return Err(choice.error("type", format!("{other:?} is not auto, any, tool or none"))),
    };
    Ok((Some(choice), parallel))
}

/// `output_config.format`, or `output_format` as it was called in its beta, and `output_config.effort`.
fn output_config(f: &mut Fields) -> Result<(Option<ResponseFormat>, Option<String>), RequestError> {
    let mut format = f.object("output_format")?;
    let mut effort = None;
    if let Some(mut config) = f.object("output_config")? {
        format = config.object("format")?.or(format);
        effort = config.string("effort")?;
        restore(f, "output_config", config)?;
    }
    let Some(mut format) = format else { return Ok((None, effort)) };
    match format.required_string("type")?.as_str() {
        "json_schema" => {
            let schema = ResponseFormat::JsonSchema {
                name: String::new(),
                description: None,
                schema: format.value("schema").ok_or_else(|| format.error("schema", "is missing"))?,
                strict: None,
            };
            Ok((Some(schema), effort))
        }
        other => Err(format.error("type", format!("{other:?} is not json_schema"))),
    }
}

/// How hard to think: a budget or a switch, or else what `output_config` says of it, which is how models are told that settle by
/// themselves how long they think.
fn thinking(f: &mut Fields, effort: Option<String>) -> Result<Option<ReasoningWish>, RequestError> {
    let kind = f.peek("thinking").and_then(|t| t.get("type")).and_then(Value::as_str);
    let wish = match (kind, effort) {
        (Some("enabled" | "disabled"), effort) => {
            if let Some(effort) = effort {
                f.restore("output_config.effort", json!(effort));
            }
            let mut thinking = f.required_object("thinking")?;
            let wish = match thinking.string("type")?.as_deref() {
                Some("disabled") => ReasoningWish::Off,
                _ => {
                    let budget = thinking.uint("budget_tokens")?;
                    ReasoningWish::Budget(
                        budget.ok_or_else(|| thinking.error("budget_tokens", "is missing"))?,
                    )
                }
            };
            restore(f, "thinking", thinking)?;
            wish
        }
        (Some("adaptive"), Some(effort)) => {
            let mut thinking = f.required_object("thinking")?;
            thinking.value("type");
            restore(f, "thinking", thinking)?;
            ReasoningWish::Effort(effort)
        }
        (_, Some(effort)) => ReasoningWish::Effort(effort),
        // Whatever comes stays among the extras.
        (_, None) => return Ok(None),
    };
    Ok(Some(wish))
}
