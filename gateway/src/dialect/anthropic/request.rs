//! Messages requests, read and written.

use serde_json::{Map, Value, json};

use super::super::{RequestError, Style, Written};
use super::tool_input;
use crate::fields::{Fields, elements, wrong};
use crate::ir::{
    ChatRequest, Dropped, Image, ImageSource, Message, Part, ReasoningWish, ResponseFormat, Role, Sampling,
    Tool, ToolCall, ToolChoice, ToolResult,
};

const NO_SUCH_FIELD: &str = "messages have no such field";

/// Anthropic wants a bound on the answer; this one is for requests and models that name none.
const DEFAULT_MAX_TOKENS: u64 = 4096;

pub(super) fn parse(body: &[u8]) -> Result<ChatRequest, RequestError> {
    let mut f = Fields::parse(body)?;
    let messages = f.objects("messages")?.ok_or_else(|| f.error("messages", "is missing"))?;
    if messages.is_empty() {
        return Err(f.error("messages", "must not be empty"));
    }
    let messages = messages.into_iter().map(message).collect::<Result<_, _>>()?;
    let max_tokens = f.uint("max_tokens")?.ok_or_else(|| f.error("max_tokens", "is missing"))?;
    let (tool_choice, parallel_tools) = tool_choice(&mut f)?;
    let user = match f.object("metadata")? {
        Some(mut metadata) => metadata.string("user_id")?,
        None => None,
    };
    Ok(ChatRequest {
        model: f.string("model")?.unwrap_or_default(),
        system: parts(&mut f, "system")?,
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
        format: output_format(&mut f)?,
        reasoning: thinking(&mut f)?,
        answers: 1,
        user,
        extras: f.rest(),
    })
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
    let content = parts(&mut f, "content")?;
    Ok(Message { role, content, extras: f.rest() })
}

fn parts(f: &mut Fields, key: &str) -> Result<Vec<Part>, RequestError> {
    let path = f.at(key);
    match f.value(key) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(array @ Value::Array(_)) => elements(array, &path)?.into_iter().map(part).collect(),
        Some(other) => Err(wrong(path, "a string or an array of blocks", &other)),
    }
}

fn part(mut f: Fields) -> Result<Part, RequestError> {
    let kind = f.required_string("type")?;
    match kind.as_str() {
        "text" => Ok(Part::Text { text: f.required_string("text")?, extras: f.rest() }),
        "image" => {
            let source = f.required_object("source")?;
            image(f, source)
        }
        "tool_use" => {
            let input = f.object("input")?.map_or_else(Map::new, Fields::rest_with_nulls);
            Ok(Part::ToolCall(ToolCall {
                id: f.required_string("id")?,
                name: f.required_string("name")?,
                arguments: Value::Object(input).to_string(),
            }))
        }
        "tool_result" => Ok(Part::ToolResult(ToolResult {
            call: f.required_string("tool_use_id")?,
            content: parts(&mut f, "content")?,
            is_error: f.boolean("is_error")?.unwrap_or(false),
            extras: f.rest(),
        })),
        "thinking" => {
            Ok(Part::Reasoning { text: f.required_string("thinking")?, signature: f.string("signature")? })
        }
        _ => {
            f.restore("type", Value::String(kind));
            Ok(Part::Opaque(Value::Object(f.rest())))
        }
    }
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
            f.restore("source", Value::Object(source.rest()));
            f.restore("type", json!("image"));
            return Ok(Part::Opaque(Value::Object(f.rest())));
        }
    };
    Ok(Part::Image(Image { source: image, detail: None, extras: f.rest() }))
}

fn tool(mut f: Fields) -> Result<Tool, RequestError> {
    if let Some(kind) = f.string("type")?
        && kind != "custom"
    {
        f.restore("type", Value::String(kind.clone()));
        return Ok(Tool::Provider { kind, raw: Value::Object(f.rest()) });
    }
    Ok(Tool::Function {
        name: f.required_string("name")?,
        description: f.string("description")?,
        parameters: f.object("input_schema")?.map(|schema| Value::Object(schema.rest_with_nulls())),
        strict: f.boolean("strict")?,
        extras: f.rest(),
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

/// `output_config.format`, or `output_format` as it was called in its beta.
fn output_format(f: &mut Fields) -> Result<Option<ResponseFormat>, RequestError> {
    let mut format = f.object("output_format")?;
    if let Some(mut config) = f.object("output_config")? {
        format = config.object("format")?.or(format);
        let rest = config.rest();
        if !rest.is_empty() {
            f.restore("output_config", Value::Object(rest));
        }
    }
    let Some(mut format) = format else { return Ok(None) };
    match format.required_string("type")?.as_str() {
        "json_schema" => Ok(Some(ResponseFormat::JsonSchema {
            name: String::new(),
            description: None,
            schema: format.value("schema").ok_or_else(|| format.error("schema", "is missing"))?,
            strict: None,
        })),
        other => Err(format.error("type", format!("{other:?} is not json_schema"))),
    }
}

fn thinking(f: &mut Fields) -> Result<Option<ReasoningWish>, RequestError> {
    let Some(kind) = f.peek("thinking").and_then(|t| t.get("type")).and_then(Value::as_str) else {
        return Ok(None);
    };
    let off = kind == "disabled";
    if !off && kind != "enabled" {
        // Adaptive thinking and whatever comes stay among the extras.
        return Ok(None);
    }
    let mut thinking = f.required_object("thinking")?;
    if off {
        return Ok(Some(ReasoningWish::Off));
    }
    let budget = thinking.uint("budget_tokens")?;
    Ok(Some(ReasoningWish::Budget(budget.ok_or_else(|| thinking.error("budget_tokens", "is missing"))?)))
}

/// Writes a request that arrived in another dialect.
pub(super) fn write(request: &ChatRequest, style: &Style) -> Written {
    let mut dropped = Vec::new();
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("max_tokens".into(), json!(request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)));
    let (system, messages) = write_messages(request, &mut dropped);
    if !system.is_empty() {
        body.insert("system".into(), Value::Array(system));
    }
    body.insert("messages".into(), Value::Array(messages));
    write_tools(request, &mut body, &mut dropped);
    write_sampling(&request.sampling, &mut body, &mut dropped);
    if !request.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(request.stop));
    }
    if request.stream {
        body.insert("stream".into(), json!(true));
    }
    match &request.format {
        None => {}
        Some(ResponseFormat::JsonSchema { schema, .. }) if !style.no_json_schema => {
            let format = json!({ "type": "json_schema", "schema": schema });
            body.insert("output_config".into(), json!({ "format": format }));
        }
        Some(ResponseFormat::JsonSchema { .. }) => {
            dropped.push(Dropped::new("response_format", "this model takes no JSON schema"));
        }
        Some(ResponseFormat::JsonObject) => {
            dropped.push(Dropped::new("response_format", "messages know JSON only with a schema"));
        }
    }
    match &request.reasoning {
        None => {}
        Some(ReasoningWish::Effort(_)) => {
            dropped.push(Dropped::new("reasoning_effort", "thinking is asked for by a token budget"));
        }
        Some(ReasoningWish::Budget(budget)) => {
            body.insert("thinking".into(), json!({ "type": "enabled", "budget_tokens": budget }));
        }
        Some(ReasoningWish::Off) => {
            body.insert("thinking".into(), json!({ "type": "disabled" }));
        }
    }
    if request.answers > 1 {
        dropped.push(Dropped::new("n", "messages give one answer"));
    }
    if let Some(user) = &request.user {
        body.insert("metadata".into(), json!({ "user_id": user }));
    }
    dropped.extend(request.extras.keys().map(|key| Dropped::new(key, NO_SUCH_FIELD)));
    Written { body: Value::Object(body).to_string().into(), dropped }
}

fn write_sampling(sampling: &Sampling, body: &mut Map<String, Value>, dropped: &mut Vec<Dropped>) {
    if let Some(temperature) = sampling.temperature {
        if temperature > 1.0 {
            dropped.push(Dropped::new("temperature", "messages take 0 to 1; 1 was sent"));
        }
        body.insert("temperature".into(), json!(temperature.min(1.0)));
    }
    body.extend(sampling.top_p.map(|v| ("top_p".to_owned(), json!(v))));
    body.extend(sampling.top_k.map(|v| ("top_k".to_owned(), json!(v))));
    let absent = [
        ("frequency_penalty", sampling.frequency_penalty.is_some_and(|v| v != 0.0)),
        ("presence_penalty", sampling.presence_penalty.is_some_and(|v| v != 0.0)),
        ("seed", sampling.seed.is_some()),
    ];
    dropped.extend(absent.iter().filter(|(_, set)| *set).map(|(key, _)| Dropped::new(*key, NO_SUCH_FIELD)));
}

fn write_tools(request: &ChatRequest, body: &mut Map<String, Value>, dropped: &mut Vec<Dropped>) {
    let mut tools = Vec::new();
    for (i, tool) in request.tools.iter().enumerate() {
        match tool {
            Tool::Function { name, description, parameters, strict, extras } => {
                let schema =
                    parameters.clone().unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
                let mut written = json!({ "name": name, "input_schema": schema });
                if let Some(description) = description {
                    written["description"] = json!(description);
                }
                if *strict == Some(true) {
                    dropped.push(Dropped::new(
                        format!("tools[{i}].function.strict"),
                        "not every model takes it",
                    ));
                }
                tools.push(written);
                dropped.extend(
                    extras.keys().map(|key| Dropped::new(format!("tools[{i}].{key}"), NO_SUCH_FIELD)),
                );
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
    let serial = request.parallel_tools == Some(false);
    let choice = match &request.tool_choice {
        None if !serial => return,
        None | Some(ToolChoice::Auto) => json!({ "type": "auto" }),
        Some(ToolChoice::None) => json!({ "type": "none" }),
        Some(ToolChoice::Required) => json!({ "type": "any" }),
        Some(ToolChoice::Named(name)) => json!({ "type": "tool", "name": name }),
    };
    let mut choice = choice;
    if serial && choice["type"] != "none" {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    body.insert("tool_choice".into(), choice);
}

/// System text goes to the top; neighbours of one role become one message, with tool results first, because
/// Anthropic wants the results of a turn together and before anything else.
fn write_messages(request: &ChatRequest, dropped: &mut Vec<Dropped>) -> (Vec<Value>, Vec<Value>) {
    let mut system = blocks(&request.system, "system", dropped);
    let mut turns: Vec<(Role, Vec<Value>)> = Vec::new();
    for (i, message) in request.messages.iter().enumerate() {
        let path = format!("messages[{i}]");
        dropped.extend(message.extras.keys().map(|key| Dropped::new(format!("{path}.{key}"), NO_SUCH_FIELD)));
        let content = blocks(&message.content, &path, dropped);
        if message.role == Role::System {
            if !turns.is_empty() {
                dropped.push(Dropped::new(path, "its place: system text stands before all messages"));
            }
            system.extend(content);
            continue;
        }
        if content.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some((role, turn)) if *role == message.role => turn.extend(content),
            _ => turns.push((message.role, content)),
        }
    }
    let messages = turns.into_iter().map(|(role, content)| {
        let (mut results, others): (Vec<_>, Vec<_>) =
            content.into_iter().partition(|block| block["type"] == "tool_result");
        results.extend(others);
        let role = if role == Role::Assistant { "assistant" } else { "user" };
        json!({ "role": role, "content": results })
    });
    (system, messages.collect())
}

fn blocks(parts: &[Part], path: &str, dropped: &mut Vec<Dropped>) -> Vec<Value> {
    let mut blocks = Vec::new();
    for (j, part) in parts.iter().enumerate() {
        let at = format!("{path}.content[{j}]");
        match part {
            // Anthropic refuses empty text blocks.
            Part::Text { text, .. } | Part::Refusal(text) if text.is_empty() => {}
            Part::Text { text, extras } => {
                dropped.extend(extras.keys().map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
                blocks.push(json!({ "type": "text", "text": text }));
            }
            Part::Refusal(text) => blocks.push(json!({ "type": "text", "text": text })),
            Part::Image(image) => {
                if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
                    dropped.push(Dropped::new(format!("{at}.image_url.detail"), NO_SUCH_FIELD));
                }
                let source = match &image.source {
                    ImageSource::Url(url) => json!({ "type": "url", "url": url }),
                    ImageSource::Base64 { media_type, data } => {
                        json!({ "type": "base64", "media_type": media_type, "data": data })
                    }
                };
                blocks.push(json!({ "type": "image", "source": source }));
            }
            Part::ToolCall(call) => {
                let input = tool_input(&call.arguments).unwrap_or_else(|| {
                    dropped.push(Dropped::new(
                        format!("{path}.tool_calls[{}].function.arguments", call.id),
                        "they are not a JSON object; an empty one was sent",
                    ));
                    json!({})
                });
                blocks.push(json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }));
            }
            Part::ToolResult(result) => {
                let content = blocks_of_result(result, &at, dropped);
                let mut block =
                    json!({ "type": "tool_result", "tool_use_id": result.call, "content": content });
                if result.is_error {
                    block["is_error"] = json!(true);
                }
                blocks.push(block);
            }
            Part::Reasoning { .. } => dropped
                .push(Dropped::new(at, "reasoning is signed by, and replayed to, its own provider only")),
            Part::Opaque(_) => dropped.push(Dropped::new(at, "messages cannot carry this kind of part")),
        }
    }
    blocks
}

fn blocks_of_result(result: &ToolResult, path: &str, dropped: &mut Vec<Dropped>) -> Vec<Value> {
    let keys = result.extras.keys();
    dropped.extend(keys.map(|key| Dropped::new(format!("{path}.{key}"), NO_SUCH_FIELD)));
    blocks(&result.content, path, dropped)
}
