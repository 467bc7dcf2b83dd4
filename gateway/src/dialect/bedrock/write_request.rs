//! Requests for Bedrock.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::anthropic::generation::{self, Generation};
use super::super::anthropic::schema::to_claude;
use super::super::anthropic::thinking;
use super::super::anthropic::turns::Turns;
use super::super::documents::Pdf;
use super::super::{OF_ITS_PROVIDER, Style, Written, arguments_schema, media_type, plain_id, tool_input};
use super::IMAGES;
use crate::ir::{
    ChatRequest, Dropped, Image, ImageSource, Part, ReasoningWish, ResponseFormat, Role, Tool, ToolChoice,
    ToolResult,
};

const NO_SUCH_FIELD: &str = "Converse has no such field";

/// The field of a part that asks for a cache point behind it.
const CACHE: &str = "cache_control";

/// Writes a request that arrived in another dialect. The model is the path's.
pub(super) fn write(request: &ChatRequest, style: &Style) -> Written {
    let mut dropped = Vec::new();
    let mut body = Map::new();
    let (system, messages) = messages(request, &mut dropped);
    if !system.is_empty() {
        body.insert("system".into(), Value::Array(system));
    }
    body.insert("messages".into(), Value::Array(messages));
    let mut config = inference(request, &mut dropped);
    if let Some(config) = tools(request, &mut dropped) {
        body.insert("toolConfig".into(), config);
    }
    let mut additional = additional(request, &mut dropped);
    generation::fit_sampling(&request.model, &mut config, "topP", &mut dropped);
    generation::fit_sampling(&request.model, &mut additional, "topP", &mut dropped);
    if additional.contains_key("thinking") {
        thinking::alone(&mut config, "topP", &mut dropped);
        thinking::alone(&mut additional, "topP", &mut dropped);
    }
    if !config.is_empty() {
        body.insert("inferenceConfig".into(), Value::Object(config));
    }
    if !additional.is_empty() {
        body.insert("additionalModelRequestFields".into(), Value::Object(additional));
    }
    if let Some(format) = format(request, style, &mut dropped) {
        body.insert("outputConfig".into(), json!({ "textFormat": format }));
    }
    if request.answers > 1 {
        dropped.push(Dropped::new("n", "Converse gives one answer"));
    }
    if request.user.is_some() {
        dropped.push(Dropped::new("user", NO_SUCH_FIELD));
    }
    dropped.extend(request.extras.keys().map(|key| Dropped::new(key, NO_SUCH_FIELD)));
    Written { body: Value::Object(body).to_string().into(), dropped }
}

fn inference(request: &ChatRequest, dropped: &mut Vec<Dropped>) -> Map<String, Value> {
    let sampling = &request.sampling;
    let mut config = Map::new();
    config.extend(request.max_tokens.map(|most| ("maxTokens".to_owned(), json!(most))));
    if let Some(temperature) = sampling.temperature {
        if temperature > 1.0 {
            dropped.push(Dropped::new("temperature", "Converse takes 0 to 1; 1 was sent"));
        }
        config.insert("temperature".into(), json!(temperature.min(1.0)));
    }
    config.extend(sampling.top_p.map(|top_p| ("topP".to_owned(), json!(top_p))));
    let stop = match is_anthropics(&request.model) {
        true => generation::stop_sequences(&request.stop, dropped),
        false => request.stop.iter().map(String::as_str).collect(),
    };
    if !stop.is_empty() {
        config.insert("stopSequences".into(), json!(stop));
    }
    let absent = [
        ("frequency_penalty", sampling.frequency_penalty.is_some_and(|v| v != 0.0)),
        ("presence_penalty", sampling.presence_penalty.is_some_and(|v| v != 0.0)),
        ("seed", sampling.seed.is_some()),
    ];
    dropped.extend(absent.iter().filter(|(_, set)| *set).map(|(key, _)| Dropped::new(*key, NO_SUCH_FIELD)));
    config
}

/// Whether the model is a Claude, as Bedrock names them.
pub(in crate::dialect) fn is_anthropics(model: &str) -> bool {
    model.contains("anthropic.")
}

/// Whether the model can be asked to keep its cache for an hour: Claude can, from 4.5 on.
fn keeps_for_an_hour(request: &ChatRequest) -> bool {
    Generation::of(&request.model).is_some_and(Generation::keeps_for_an_hour)
}

/// What only some models' own requests have.
fn additional(request: &ChatRequest, dropped: &mut Vec<Dropped>) -> Map<String, Value> {
    let is_anthropics = is_anthropics(&request.model);
    let mut fields = Map::new();
    if let Some(top_k) = request.sampling.top_k {
        match is_anthropics {
            true => drop(fields.insert("top_k".into(), json!(top_k))),
            false => dropped.push(Dropped::new("top_k", "this model has it by no name that is known here")),
        }
    }
    match &request.reasoning {
        None => {}
        Some(ReasoningWish::Off) if is_anthropics => {
            // Before the fifth generation Claude does not think unless it is told to.
            let off = thinking::off_where_needed(&request.model, dropped);
            fields.extend(off.map(|off| ("thinking".to_owned(), off)));
        }
        Some(ReasoningWish::Off) => {
            dropped.push(Dropped::new("thinking", "this model is not told whether to think"));
        }
        Some(ReasoningWish::Budget(budget)) if is_anthropics => {
            let most = request.max_tokens.unwrap_or(u64::MAX);
            fields.extend(
                thinking::asked(request, *budget, most, dropped).map(|asked| ("thinking".to_owned(), asked)),
            );
        }
        Some(ReasoningWish::Effort(effort)) if is_anthropics => {
            let most = request.max_tokens.unwrap_or(u64::MAX);
            let told = thinking::told(request, effort, most, dropped);
            fields.extend(told.thinking.map(|thinking| ("thinking".to_owned(), thinking)));
            fields.extend(told.effort.map(|word| ("output_config".to_owned(), json!({ "effort": word }))));
        }
        Some(ReasoningWish::Effort(effort)) if request.model.contains("openai.") => {
            fields.insert("reasoning_effort".into(), json!(effort));
        }
        Some(ReasoningWish::Budget(_)) => {
            dropped.push(Dropped::new("thinking", "this model is given no budget for its thoughts"));
        }
        Some(ReasoningWish::Effort(_)) => {
            dropped.push(Dropped::new("reasoning_effort", "this model is not told how hard to think"));
        }
    }
    fields
}

fn format(request: &ChatRequest, style: &Style, dropped: &mut Vec<Dropped>) -> Option<Value> {
    match request.format.as_ref()? {
        ResponseFormat::JsonSchema { name, description, schema, .. } if !style.no_json_schema => {
            let schema = match is_anthropics(&request.model) {
                true => to_claude(schema, dropped).to_string(),
                false => schema.to_string(),
            };
            let mut written = json!({ "schema": schema });
            if !name.is_empty() {
                written["name"] = json!(name);
            }
            if let Some(description) = description {
                written["description"] = json!(description);
            }
            Some(json!({ "type": "json_schema", "structure": { "jsonSchema": written } }))
        }
        ResponseFormat::JsonSchema { .. } => {
            dropped.push(Dropped::new("response_format", "this model takes no JSON schema"));
            None
        }
        ResponseFormat::JsonObject => {
            dropped.push(Dropped::new("response_format", "Converse knows JSON only with a schema"));
            None
        }
    }
}

fn tools(request: &ChatRequest, dropped: &mut Vec<Dropped>) -> Option<Value> {
    let mut tools = Vec::new();
    for (i, tool) in request.tools.iter().enumerate() {
        match tool {
            Tool::Function { name, description, parameters, strict, extras, .. } => {
                let schema = arguments_schema(parameters.as_ref());
                let mut spec = json!({ "name": name, "inputSchema": { "json": schema } });
                if let Some(description) = description.as_ref().filter(|text| !text.is_empty()) {
                    spec["description"] = json!(description);
                }
                if *strict == Some(true) {
                    let reason = "not every model takes it";
                    dropped.push(Dropped::new(format!("tools[{i}].function.strict"), reason));
                }
                tools.push(json!({ "toolSpec": spec }));
                marked(extras, keeps_for_an_hour(request), &format!("tools[{i}]"), &mut tools, dropped);
            }
            Tool::Provider { kind, .. } => {
                let reason = format!("{kind} is a tool of one provider");
                dropped.push(Dropped::new(format!("tools[{i}]"), reason));
            }
        }
    }
    if tools.is_empty() {
        // Calls of earlier turns are refused where no tool is declared.
        tools = called(request);
        if tools.is_empty() {
            return None;
        }
    }
    if request.parallel_tools == Some(false) {
        dropped.push(Dropped::new("parallel_tool_calls", NO_SUCH_FIELD));
    }
    let mut config = json!({ "tools": tools });
    match &request.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => config["toolChoice"] = json!({ "auto": {} }),
        Some(ToolChoice::Required) => config["toolChoice"] = json!({ "any": {} }),
        Some(ToolChoice::Named(name)) => config["toolChoice"] = json!({ "tool": { "name": name } }),
        // Without its tools no model calls one.
        Some(ToolChoice::None) => match called(request) {
            earlier if earlier.is_empty() => return None,
            _ => {
                dropped
                    .push(Dropped::new("tool_choice", "Converse cannot forbid the tools that it declares"));
            }
        },
    }
    Some(config)
}

/// A declaration of each tool that earlier turns called, as far as it can be known from that.
fn called(request: &ChatRequest) -> Vec<Value> {
    let parts = request.messages.iter().flat_map(|message| &message.content);
    let names: BTreeSet<&str> = parts
        .filter_map(|part| match part {
            Part::ToolCall(call) => Some(call.name.as_str()),
            _ => None,
        })
        .collect();
    let declared =
        |name| json!({ "toolSpec": { "name": name, "inputSchema": { "json": { "type": "object" } } } });
    names.into_iter().map(declared).collect()
}

fn messages(request: &ChatRequest, dropped: &mut Vec<Dropped>) -> (Vec<Value>, Vec<Value>) {
    let long = keeps_for_an_hour(request);
    let mut turns = Turns::after(blocks(&request.system, Role::System, long, "system", dropped));
    for (i, message) in request.messages.iter().enumerate() {
        let path = format!("messages[{i}]");
        dropped.extend(message.extras.keys().map(|key| Dropped::new(format!("{path}.{key}"), NO_SUCH_FIELD)));
        let content = blocks(&message.content, message.role, long, &path, dropped);
        turns.push(message.role, content, &path, dropped);
    }
    let (system, mut messages) = turns.finish(|block| block.get("toolResult").is_some(), dropped);
    name_apart(&mut messages);
    // It wants words beside a document as well.
    for message in &mut messages {
        let Some(content) = message["content"].as_array_mut() else { continue };
        let has = |key: &str| content.iter().any(|block| block.get(key).is_some());
        if has("document") && !has("text") {
            content.push(json!({ "text": "." }));
        }
    }
    // Bedrock wants a question before what the model has said, and takes no blank one.
    if messages.first().is_some_and(|first| first["role"] == "assistant") {
        dropped.push(Dropped::new(
            "messages",
            "a conversation begins with the user here; a full stop of theirs was put before it",
        ));
        messages.insert(0, json!({ "role": "user", "content": [{ "text": "." }] }));
    }
    (system, messages)
}

/// `long`: whether a cache may be kept for an hour.
fn blocks(parts: &[Part], role: Role, long: bool, path: &str, dropped: &mut Vec<Dropped>) -> Vec<Value> {
    let mut blocks = Vec::new();
    for (j, part) in parts.iter().enumerate() {
        let at = format!("{path}.content[{j}]");
        match part {
            // Bedrock refuses blank text.
            Part::Text { text, .. } | Part::Refusal(text) if text.trim().is_empty() => {}
            Part::Text { text, extras } => {
                blocks.push(json!({ "text": text }));
                marked(extras, long, &at, &mut blocks, dropped);
            }
            Part::Refusal(text) => blocks.push(json!({ "text": text })),
            Part::Image(image) if role == Role::User => {
                if let Some(block) = image_block(image, &at, dropped) {
                    blocks.push(block);
                    marked(&image.extras, long, &at, &mut blocks, dropped);
                }
            }
            Part::Image(_) => dropped.push(Dropped::new(at, "Converse takes images of the user only")),
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
                let call = json!({ "toolUseId": plain_id(&call.id), "name": call.name, "input": input });
                blocks.push(json!({ "toolUse": call }));
            }
            Part::ToolResult(result) => {
                let (block, inner) = result_block(result, long, &at, dropped);
                blocks.push(block);
                if !result.extras.contains_key(CACHE) {
                    blocks.extend(inner);
                }
                marked(&result.extras, long, &at, &mut blocks, dropped);
            }
            Part::Reasoning { .. } => dropped.push(Dropped::new(at, OF_ITS_PROVIDER)),
            Part::Opaque(part) => match Pdf::of(part).filter(|_| role == Role::User) {
                Some(pdf) => {
                    blocks.push(document_block(&pdf));
                    let beside =
                        pdf.beside.iter().map(|(key, value)| ((*key).to_owned(), Value::clone(value)));
                    marked(&beside.collect(), long, &at, &mut blocks, dropped);
                }
                None => dropped.push(Dropped::new(at, "Converse cannot carry this kind of part")),
            },
        }
    }
    blocks
}

/// A cache point where the part asks for one; its other fields have no place.
fn marked(
    extras: &Map<String, Value>,
    long: bool,
    at: &str,
    blocks: &mut Vec<Value>,
    dropped: &mut Vec<Dropped>,
) {
    if let Some(mark) = extras.get(CACHE) {
        let wants_long = mark.get("ttl").and_then(Value::as_str) == Some("1h");
        blocks.push(match wants_long && long {
            true => json!({ "cachePoint": { "type": "default", "ttl": "1h" } }),
            false => json!({ "cachePoint": { "type": "default" } }),
        });
        if wants_long && !long {
            let reason = "this model keeps its cache for minutes only";
            dropped.push(Dropped::new(format!("{at}.{CACHE}.ttl"), reason));
        }
    }
    let keys = extras.keys().filter(|key| *key != CACHE);
    dropped.extend(keys.map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
}

/// The longest name of a document, without the number that tells it apart.
const LONGEST_NAME: usize = 190;

/// Numbers documents whose names are there already, as they are refused.
fn name_apart(messages: &mut [Value]) {
    let mut names = Names::default();
    let blocks = messages.iter_mut().filter_map(|message| message["content"].as_array_mut()).flatten();
    for block in blocks {
        if block.get("document").is_some() {
            names.take(block);
        }
        let inner = block.pointer_mut("/toolResult/content").and_then(Value::as_array_mut);
        for block in inner.into_iter().flatten().filter(|block| block.get("document").is_some()) {
            names.take(block);
        }
    }
}

/// Names of documents that are there already, whatever their case.
#[derive(Default)]
struct Names {
    known: BTreeSet<String>,
    /// The last number that was given. It only grows, so that names which were made to be in the way cost each its own once.
    number: usize,
}

impl Names {
    /// Takes a document's name, with a number where it was taken before.
    fn take(&mut self, block: &mut Value) {
        let name = block["document"]["name"].as_str().unwrap_or_default().to_owned();
        let mut apart = name.clone();
        while !self.known.insert(apart.to_ascii_lowercase()) {
            self.number += 1;
            apart = format!("{name} {}", self.number + 1);
        }
        block["document"]["name"] = json!(apart);
    }
}

/// A document, whose name may hold few letters, and no white space in a row.
fn document_block(pdf: &Pdf<'_>) -> Value {
    let taken = |c: char| c.is_ascii_alphanumeric() || "-()[]".contains(c);
    let words = pdf.file_name().split(|c| !taken(c)).filter(|word| !word.is_empty());
    let mut name = words.collect::<Vec<_>>().join(" ");
    // Letters of one byte each.
    name.truncate(LONGEST_NAME);
    let name = if name.is_empty() { "document" } else { &name };
    json!({ "document": { "format": "pdf", "name": name, "source": { "bytes": pdf.data } } })
}

fn image_block(image: &Image, at: &str, dropped: &mut Vec<Dropped>) -> Option<Value> {
    if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
        dropped.push(Dropped::new(format!("{at}.image_url.detail"), NO_SUCH_FIELD));
    }
    let ImageSource::Base64 { media_type: name, data } = &image.source else {
        dropped.push(Dropped::new(at, "Converse takes images as bytes, not by their address"));
        return None;
    };
    let name = media_type(name);
    let Some((format, _)) = IMAGES.iter().find(|(_, known)| *known == name) else {
        dropped.push(Dropped::new(at, format!("Converse takes no {name}")));
        return None;
    };
    Some(json!({ "image": { "format": format, "source": { "bytes": data } } }))
}

/// A result, and the last cache point that stands within it: there Bedrock knows none, and it comes behind.
fn result_block(
    result: &ToolResult,
    long: bool,
    at: &str,
    dropped: &mut Vec<Dropped>,
) -> (Value, Option<Value>) {
    let (mut points, mut content): (Vec<_>, Vec<_>) = blocks(&result.content, Role::User, long, at, dropped)
        .into_iter()
        .partition(|block| block.get("cachePoint").is_some());
    if content.is_empty() {
        content.push(json!({ "json": {} }));
    }
    let mut block = json!({ "toolUseId": plain_id(&result.call), "content": content });
    if result.is_error {
        block["status"] = json!("error");
    }
    (json!({ "toolResult": block }), points.pop())
}
