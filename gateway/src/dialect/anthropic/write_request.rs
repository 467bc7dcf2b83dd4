//! Requests for providers.

use serde_json::{Map, Value, json};

use super::super::documents::Pdf;
use super::super::{OF_ITS_PROVIDER, Style, Written, arguments_schema, media_type, plain_id, tool_input};
use super::schema::to_claude;
use super::turns::Turns;
use super::{generation, thinking};
use crate::ir::{
    ChatRequest, Dropped, Image, ImageSource, Part, ReasoningWish, ResponseFormat, Role, Sampling, Tool,
    ToolChoice, ToolResult,
};

const NO_SUCH_FIELD: &str = "messages have no such field";

/// What asks for everything before it to be cached. Others have the field from here, or have it read into it.
const CACHE: &str = "cache_control";

/// Anthropic wants a bound on the answer; this one is for requests and models that name none.
const DEFAULT_MAX_TOKENS: u64 = 4096;

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
    if style.caches && goes_on(request) {
        cache(&mut body);
    }
    write_sampling(&request.sampling, &mut body, &mut dropped);
    generation::fit_sampling(&request.model, &mut body, "top_p", &mut dropped);
    let stop = generation::stop_sequences(&request.stop, &mut dropped);
    if !stop.is_empty() {
        body.insert("stop_sequences".into(), json!(stop));
    }
    if request.stream {
        body.insert("stream".into(), json!(true));
    }
    match &request.format {
        None => {}
        Some(ResponseFormat::JsonSchema { schema, .. }) if !style.no_json_schema => {
            let format = json!({ "type": "json_schema", "schema": to_claude(schema, &mut dropped) });
            body.insert("output_config".into(), json!({ "format": format }));
        }
        Some(ResponseFormat::JsonSchema { .. }) => {
            dropped.push(Dropped::new("response_format", "this model takes no JSON schema"));
        }
        Some(ResponseFormat::JsonObject) => {
            dropped.push(Dropped::new("response_format", "messages know JSON only with a schema"));
        }
    }
    let most = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    match &request.reasoning {
        None => {}
        Some(ReasoningWish::Effort(effort)) => {
            let told = thinking::told(request, effort, most, &mut dropped);
            if let Some(word) = told.effort {
                body.entry("output_config").or_insert_with(|| json!({}))["effort"] = json!(word);
            }
            if let Some(asked) = told.thinking {
                body.insert("thinking".into(), asked);
                thinking::alone(&mut body, "top_p", &mut dropped);
            }
        }
        Some(ReasoningWish::Budget(budget)) => {
            if let Some(asked) = thinking::asked(request, *budget, most, &mut dropped) {
                body.insert("thinking".into(), asked);
                thinking::alone(&mut body, "top_p", &mut dropped);
            }
        }
        Some(ReasoningWish::Off) => {
            let off = thinking::off(&request.model, &mut dropped);
            body.extend(off.map(|off| ("thinking".to_owned(), off)));
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
            Tool::Function { name, description, parameters, strict, extras, .. } => {
                let mut written =
                    json!({ "name": name, "input_schema": arguments_schema(parameters.as_ref()) });
                if let Some(description) = description {
                    written["description"] = json!(description);
                }
                if *strict == Some(true) {
                    dropped.push(Dropped::new(
                        format!("tools[{i}].function.strict"),
                        "not every model takes it",
                    ));
                }
                mark(extras, &mut written, &format!("tools[{i}]"), dropped);
                tools.push(written);
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

fn write_messages(request: &ChatRequest, dropped: &mut Vec<Dropped>) -> (Vec<Value>, Vec<Value>) {
    let mut turns = Turns::after(blocks(&request.system, Role::System, "system", dropped));
    for (i, message) in request.messages.iter().enumerate() {
        let path = format!("messages[{i}]");
        dropped.extend(message.extras.keys().map(|key| Dropped::new(format!("{path}.{key}"), NO_SUCH_FIELD)));
        let content = blocks(&message.content, message.role, &path, dropped);
        turns.push(message.role, content, &path, dropped);
    }
    turns.finish(|block| block["type"] == "tool_result", dropped)
}

fn blocks(parts: &[Part], role: Role, path: &str, dropped: &mut Vec<Dropped>) -> Vec<Value> {
    let mut blocks = Vec::new();
    for (j, part) in parts.iter().enumerate() {
        let at = format!("{path}.content[{j}]");
        match part {
            // Anthropic refuses blank text.
            Part::Text { text, .. } | Part::Refusal(text) if text.trim().is_empty() => {}
            Part::Text { text, extras } => {
                let mut block = json!({ "type": "text", "text": text });
                mark(extras, &mut block, &at, dropped);
                blocks.push(block);
            }
            Part::Refusal(text) => blocks.push(json!({ "type": "text", "text": text })),
            Part::Image(image) if role == Role::User => blocks.push(image_block(image, &at, dropped)),
            Part::Image(_) => dropped.push(Dropped::new(at, "messages take images of the user only")),
            Part::ToolCall(call) => {
                if call.signature.is_some() {
                    dropped.push(Dropped::new(format!("{at}.thoughtSignature"), OF_ITS_PROVIDER));
                }
                let input = tool_input(&call.arguments).unwrap_or_else(|| {
                    dropped.push(Dropped::new(
                        format!("{path}.tool_calls[{}].function.arguments", call.id),
                        "they are not a JSON object; an empty one was sent",
                    ));
                    json!({})
                });
                let id = plain_id(&call.id);
                blocks.push(json!({ "type": "tool_use", "id": id, "name": call.name, "input": input }));
            }
            Part::ToolResult(result) => {
                let content = content_of(result, &at, dropped);
                let id = plain_id(&result.call);
                let mut block = json!({ "type": "tool_result", "tool_use_id": id, "content": content });
                if result.is_error {
                    block["is_error"] = json!(true);
                }
                mark(&result.extras, &mut block, &at, dropped);
                blocks.push(block);
            }
            Part::Reasoning { .. } => dropped.push(Dropped::new(at, OF_ITS_PROVIDER)),
            Part::Opaque(part) => match Pdf::of(part).filter(|_| role == Role::User) {
                Some(pdf) => blocks.push(document_block(&pdf, &at, dropped)),
                None => dropped.push(Dropped::new(at, "messages cannot carry this kind of part")),
            },
        }
    }
    blocks
}

fn document_block(pdf: &Pdf<'_>, at: &str, dropped: &mut Vec<Dropped>) -> Value {
    let source = json!({ "type": "base64", "media_type": "application/pdf", "data": pdf.data });
    let mut block = json!({ "type": "document", "source": source });
    if let Some(name) = pdf.name {
        block["title"] = json!(name);
    }
    let beside = pdf.beside.iter().map(|(key, value)| ((*key).to_owned(), Value::clone(value)));
    mark(&beside.collect(), &mut block, at, dropped);
    block
}

fn image_block(image: &Image, at: &str, dropped: &mut Vec<Dropped>) -> Value {
    if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
        dropped.push(Dropped::new(format!("{at}.image_url.detail"), NO_SUCH_FIELD));
    }
    let source = match &image.source {
        ImageSource::Url(url) => json!({ "type": "url", "url": url }),
        ImageSource::Base64 { media_type: name, data } => {
            json!({ "type": "base64", "media_type": media_type(name), "data": data })
        }
    };
    let mut block = json!({ "type": "image", "source": source });
    mark(&image.extras, &mut block, at, dropped);
    block
}

/// What a result holds.
fn content_of(result: &ToolResult, path: &str, dropped: &mut Vec<Dropped>) -> Vec<Value> {
    blocks(&result.content, Role::User, path, dropped)
}

/// Whether the model is in the middle of its work: what was sent will be sent again, with more behind it. What a write costs
/// beyond plain input is set aside where tools were called.
fn goes_on(request: &ChatRequest) -> bool {
    let parts = request.messages.iter().flat_map(|message| &message.content);
    parts.clone().any(|part| matches!(part, Part::ToolCall(_)))
        && parts.clone().any(|part| matches!(part, Part::ToolResult(_)))
}

/// Asks for the cache of all that is sent, unless the client has asked for a part of it: behind the instructions, which stay,
/// and behind the last message, which the next request has in its middle.
fn cache(body: &mut Map<String, Value>) {
    let lists = ["tools", "system", "messages"].iter().filter_map(|key| body.get(*key)?.as_array());
    if lists.flatten().any(is_marked) {
        return;
    }
    let last_message = |body: &mut Map<String, Value>| {
        let message = body.get_mut("messages")?.as_array_mut()?.last_mut()?;
        message["content"]
            .as_array_mut()?
            .last_mut()
            .map(|block| block[CACHE] = json!({ "type": "ephemeral" }))
    };
    let instructions = |body: &mut Map<String, Value>| {
        let last = body.get_mut("system")?.as_array_mut()?.last_mut()?;
        last[CACHE] = json!({ "type": "ephemeral" });
        Some(())
    };
    _ = (instructions(body), last_message(body));
}

/// Whether a block, or one within it, asks for the cache.
fn is_marked(block: &Value) -> bool {
    block.get(CACHE).is_some() || block["content"].as_array().into_iter().flatten().any(is_marked)
}

/// Asks for the cache where a part does; its other fields have no place.
fn mark(extras: &Map<String, Value>, block: &mut Value, at: &str, dropped: &mut Vec<Dropped>) {
    for (key, value) in extras {
        match key.as_str() {
            CACHE if value.is_object() => block[CACHE] = value.clone(),
            key => dropped.push(Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)),
        }
    }
}
