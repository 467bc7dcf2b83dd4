//! Requests of clients.

use serde_json::{Map, Value, json};

use super::super::RequestError;
use super::IMAGES;
use crate::fields::Fields;
use crate::ir::{
    ChatRequest, Form, Image, ImageSource, Message, Part, ReasoningWish, ResponseFormat, Role, Sampling,
    Tool, ToolCall, ToolChoice, ToolResult,
};

/// The field of the intermediate form's parts that stands for a cache point behind them.
const CACHE: &str = "cache_control";

pub(super) fn parse(body: &[u8]) -> Result<ChatRequest, RequestError> {
    let mut f = Fields::parse(body)?;
    let messages = f.objects("messages")?.unwrap_or_default();
    if messages.is_empty() {
        return Err(f.error("messages", "is missing or empty"));
    }
    let messages = messages.into_iter().map(message).collect::<Result<_, _>>()?;
    let mut request = ChatRequest {
        system: parts(&mut f, "system")?,
        messages,
        answers: 1,
        include_usage: true,
        format: format(&mut f)?,
        ..ChatRequest::default()
    };
    if let Some(config) = f.object("inferenceConfig")? {
        inference(config, &mut request)?;
    }
    if let Some(config) = f.object("toolConfig")? {
        tools(config, &mut request)?;
    }
    if let Some(fields) = f.object("additionalModelRequestFields")? {
        additional(fields, &mut f, &mut request)?;
    }
    request.extras.extend(f.rest()?);
    Ok(request)
}

fn message(mut f: Fields) -> Result<Message, RequestError> {
    let role = match f.required_string("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => return Err(f.error("role", format!("{other:?} is not user or assistant"))),
    };
    if f.peek("content").is_none() {
        return Err(f.error("content", "is missing"));
    }
    Ok(Message { role, content: parts(&mut f, "content")?, extras: f.rest()? })
}

fn parts(f: &mut Fields, key: &'static str) -> Result<Vec<Part>, RequestError> {
    let mut parts = Vec::new();
    for block in f.objects(key)?.unwrap_or_default() {
        block.one()?;
        if let Some(point) = block.peek("cachePoint")
            && let Some(extras) = parts.last_mut().and_then(extras_of)
        {
            extras.insert(CACHE.into(), mark(point));
            continue;
        }
        parts.push(part(block)?);
    }
    Ok(parts)
}

/// What a cache point is called in the intermediate form: by Anthropic's field, with the time for which it is to hold.
fn mark(point: &Value) -> Value {
    let mut mark = json!({ "type": "ephemeral" });
    if let Some(ttl) = point.get("ttl") {
        mark["ttl"] = ttl.clone();
    }
    mark
}

/// What can be marked as the end of what is cached.
fn extras_of(part: &mut Part) -> Option<&mut Map<String, Value>> {
    match part {
        Part::Text { extras, .. } => Some(extras),
        Part::Image(image) => Some(&mut image.extras),
        Part::ToolResult(result) => Some(&mut result.extras),
        Part::ToolCall(_) | Part::Reasoning { .. } | Part::Refusal(_) | Part::Opaque(_) => None,
    }
}

/// A block: the one field that is there says what it is.
fn part(mut f: Fields) -> Result<Part, RequestError> {
    if let Some(text) = f.string("text")? {
        return Ok(Part::Text { text, extras: f.rest()? });
    }
    if let Some(mut call) = f.object("toolUse")? {
        let input = call.object("input")?.map_or_else(Map::new, Fields::untouched);
        return Ok(Part::ToolCall(ToolCall {
            id: call.required_string("toolUseId")?,
            name: call.required_string("name")?,
            arguments: Value::Object(input).to_string(),
            signature: None,
        }));
    }
    if let Some(mut result) = f.object("toolResult")? {
        let call = result.required_string("toolUseId")?;
        let status = result.string("status")?;
        let content = result.objects("content")?.unwrap_or_default();
        return Ok(Part::ToolResult(ToolResult {
            call,
            content: content.into_iter().map(piece_of_result).collect::<Result<_, _>>()?,
            is_error: status.as_deref() == Some("error"),
            extras: result.rest()?,
        }));
    }
    if f.peek("image").is_some() {
        return image(f);
    }
    let thought = f.peek("reasoningContent").and_then(|thought| thought.get("reasoningText"));
    if thought.is_some() {
        let mut thought = f.required_object("reasoningContent")?;
        thought.one()?;
        let mut text = thought.required_object("reasoningText")?;
        return Ok(Part::Reasoning {
            text: text.required_string("text")?,
            signature: text.string("signature")?,
        });
    }
    let rest = f.rest()?;
    Ok(Part::Opaque(Value::Object(rest)))
}

fn piece_of_result(mut f: Fields) -> Result<Part, RequestError> {
    f.one()?;
    match f.value("json") {
        Some(document) => Ok(Part::text(document.to_string())),
        None => part(f),
    }
}

/// An image whose bytes are in the message. One that Bedrock would fetch stays as it was sent.
fn image(mut f: Fields) -> Result<Part, RequestError> {
    let mut image = f.required_object("image")?;
    let format = image.required_string("format")?;
    let mut source = image.required_object("source")?;
    source.one()?;
    let known = IMAGES.iter().find(|(name, _)| *name == format);
    match (known, source.string("bytes")?) {
        (Some((_, media_type)), Some(data)) => {
            let source = ImageSource::Base64 { media_type: (*media_type).to_owned(), data };
            Ok(Part::Image(Image { source, detail: None, extras: f.rest()? }))
        }
        (_, bytes) => {
            let mut rest = source.rest()?;
            rest.extend(bytes.map(|bytes| ("bytes".to_owned(), json!(bytes))));
            Ok(Part::Opaque(json!({ "image": { "format": format, "source": rest } })))
        }
    }
}

fn inference(mut f: Fields, request: &mut ChatRequest) -> Result<(), RequestError> {
    request.max_tokens = f.uint("maxTokens")?;
    if request.max_tokens == Some(0) {
        return Err(f.error("maxTokens", "must be at least 1"));
    }
    request.sampling =
        Sampling { temperature: f.number("temperature")?, top_p: f.number("topP")?, ..Sampling::default() };
    request.stop = f.strings("stopSequences")?;
    let rest = f.rest()?;
    request.extras.extend(rest.into_iter().map(|(key, value)| (format!("inferenceConfig.{key}"), value)));
    Ok(())
}

fn tools(mut f: Fields, request: &mut ChatRequest) -> Result<(), RequestError> {
    for mut entry in f.objects("tools")?.unwrap_or_default() {
        entry.one()?;
        if let Some(mut spec) = entry.object("toolSpec")? {
            let schema = match spec.object("inputSchema")? {
                Some(mut schema) => schema.object("json")?,
                None => None,
            };
            request.tools.push(Tool::Function {
                name: spec.required_string("name")?,
                description: spec.string("description")?,
                parameters: schema.map(|schema| Value::Object(schema.untouched())),
                strict: spec.boolean("strict")?,
                form: Form::Plain,
                extras: spec.rest()?,
            });
            continue;
        }
        let rest = entry.rest()?;
        if let Some(point) = rest.get("cachePoint")
            && let Some(Tool::Function { extras, .. }) = request.tools.last_mut()
        {
            extras.insert(CACHE.into(), mark(point));
            continue;
        }
        let named = rest.get("systemTool").and_then(|tool| tool.get("name")).and_then(Value::as_str);
        let kind = named.or(rest.keys().next().map(String::as_str)).unwrap_or("unknown").to_owned();
        request.tools.push(Tool::Provider { kind, raw: Value::Object(rest) });
    }
    let Some(mut choice) = f.object("toolChoice")? else { return Ok(()) };
    request.tool_choice = Some(if choice.object("auto")?.is_some() {
        ToolChoice::Auto
    } else if choice.object("any")?.is_some() {
        ToolChoice::Required
    } else if let Some(mut tool) = choice.object("tool")? {
        ToolChoice::Named(tool.required_string("name")?)
    } else {
        return Err(f.error("toolChoice", "holds none of auto, any and tool"));
    });
    Ok(())
}

/// Fields of a model's own request; those that other dialects know are taken out.
fn additional(mut fields: Fields, f: &mut Fields, request: &mut ChatRequest) -> Result<(), RequestError> {
    request.sampling.top_k = fields.uint("top_k")?;
    let thinking = |name: &str| fields.peek("thinking").and_then(|thinking| thinking.get(name)).cloned();
    let budget = thinking("budget_tokens").as_ref().and_then(crate::fields::whole);
    request.reasoning = match (thinking("type").as_ref().and_then(Value::as_str), budget) {
        (Some("enabled"), Some(budget)) => Some(ReasoningWish::Budget(budget)),
        (Some("disabled"), _) => Some(ReasoningWish::Off),
        _ => None,
    };
    if request.reasoning.is_some() {
        fields.value("thinking");
    } else {
        request.reasoning = fields.string("reasoning_effort")?.map(ReasoningWish::Effort);
    }
    let rest = fields.rest()?;
    if !rest.is_empty() {
        f.restore("additionalModelRequestFields", Value::Object(rest));
    }
    Ok(())
}

/// `outputConfig.textFormat`, whose schema is JSON in a string.
fn format(f: &mut Fields) -> Result<Option<ResponseFormat>, RequestError> {
    let Some(mut config) = f.object("outputConfig")? else { return Ok(None) };
    let Some(mut format) = config.object("textFormat")? else {
        f.restore("outputConfig", Value::Object(config.rest()?));
        return Ok(None);
    };
    match format.required_string("type")?.as_str() {
        "json_schema" => {}
        other => return Err(format.error("type", format!("{other:?} is not json_schema"))),
    }
    let mut schema = format.required_object("structure")?.required_object("jsonSchema")?;
    let text = schema.required_string("schema")?;
    let document = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
    Ok(Some(ResponseFormat::JsonSchema {
        name: schema.string("name")?.unwrap_or_default(),
        description: schema.string("description")?,
        schema: document.ok_or_else(|| schema.error("schema", "is not the text of a JSON object"))?,
        strict: None,
    }))
}
