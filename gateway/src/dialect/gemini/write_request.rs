//! Requests for Google.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::documents::{Pdf, is_pdf};
use super::super::schemas::Bounds;
use super::super::{OF_ITS_PROVIDER, Style, Written, media_type, tool_input};
use super::unsigned::UNSIGNED;
use super::{schema, thinking};
use crate::ir::{
    ChatRequest, Dropped, ImageSource, Part, ResponseFormat, Role, Sampling, Tool, ToolCall, ToolChoice,
    ToolResult,
};

const NO_SUCH_FIELD: &str = "Gemini has no such field";

/// Stop sequences that Gemini takes.
const STOPS: usize = 5;

/// Writes a request that arrived in another dialect. Model and streaming go into the path, and not in here.
pub(super) fn write(request: &ChatRequest, style: &Style) -> Written {
    let mut dropped = Vec::new();
    let mut body = Map::new();
    let (system, contents) = Contents::write(request, &mut dropped);
    if !system.is_empty() {
        body.insert("systemInstruction".into(), json!({ "parts": system }));
    }
    body.insert("contents".into(), Value::Array(contents));
    let mut bounds = Bounds::default();
    write_tools(request, &mut body, &mut bounds, &mut dropped);
    let config = generation_config(request, style, &mut bounds, &mut dropped);
    if !config.is_empty() {
        body.insert("generationConfig".into(), Value::Object(config));
    }
    if request.answers > 1 {
        dropped.push(Dropped::new("n", "only one answer crosses dialects"));
    }
    if request.user.is_some() {
        dropped.push(Dropped::new("user", NO_SUCH_FIELD));
    }
    dropped.extend(request.extras.keys().map(|key| Dropped::new(key, NO_SUCH_FIELD)));
    Written { body: Value::Object(body).to_string().into(), dropped }
}

fn generation_config(
    request: &ChatRequest,
    style: &Style,
    bounds: &mut Bounds,
    dropped: &mut Vec<Dropped>,
) -> Map<String, Value> {
    let mut config = Map::new();
    let mut set = |key: &str, value: Option<Value>| config.extend(value.map(|value| (key.to_owned(), value)));
    let Sampling { temperature, top_p, top_k, frequency_penalty, presence_penalty, seed } = &request.sampling;
    set("maxOutputTokens", request.max_tokens.map(|max| json!(max)));
    set("temperature", temperature.map(|v| json!(v)));
    set("topP", top_p.map(|v| json!(v)));
    set("topK", top_k.map(|v| json!(v)));
    // Some models know no penalties, and most clients that send one send zero.
    set("frequencyPenalty", frequency_penalty.filter(|v| *v != 0.0).map(|v| json!(v)));
    set("presencePenalty", presence_penalty.filter(|v| *v != 0.0).map(|v| json!(v)));
    match seed.map(i32::try_from) {
        None => {}
        Some(Ok(seed)) => set("seed", Some(json!(seed))),
        Some(Err(_)) => dropped.push(Dropped::new("seed", "Gemini takes 32 bits")),
    }
    if !request.stop.is_empty() {
        set("stopSequences", Some(json!(request.stop.iter().take(STOPS).collect::<Vec<_>>())));
        if request.stop.len() > STOPS {
            dropped.push(Dropped::new("stop_sequences", "Gemini takes five; the rest was left out"));
        }
    }
    match &request.format {
        None => {}
        Some(ResponseFormat::JsonSchema { schema, .. }) if !style.no_json_schema => {
            set("responseMimeType", Some(json!("application/json")));
            set("responseSchema", Some(schema::to_gemini(schema, "response_format", bounds, dropped)));
        }
        // Of a schema, the model was passed over.
        Some(ResponseFormat::JsonObject)
            if !thinking::calls_beside_json(&request.model)
                && request.tools.iter().any(|tool| matches!(tool, Tool::Function { .. })) =>
        {
            dropped.push(Dropped::new(
                "response_format",
                "this model is not told to answer in JSON beside tools",
            ));
        }
        Some(format) => {
            set("responseMimeType", Some(json!("application/json")));
            if matches!(format, ResponseFormat::JsonSchema { .. }) {
                dropped.push(Dropped::new("response_format", "this model takes no JSON schema"));
            }
        }
    }
    if let Some(wish) = &request.reasoning {
        set("thinkingConfig", thinking::config(&request.model, wish, dropped));
    }
    config
}

fn write_tools(
    request: &ChatRequest,
    body: &mut Map<String, Value>,
    bounds: &mut Bounds,
    dropped: &mut Vec<Dropped>,
) {
    let mut declarations = Vec::new();
    for (i, tool) in request.tools.iter().enumerate() {
        match tool {
            Tool::Function { name, description, parameters, strict, extras, .. } => {
                let mut written = json!({ "name": name });
                if let Some(description) = description {
                    written["description"] = json!(description);
                }
                if let Some(parameters) = parameters {
                    let path = format!("tools[{i}].function.parameters");
                    let schema = schema::to_gemini(parameters, &path, bounds, dropped);
                    // An object without properties means no arguments, which Gemini wants said by no schema.
                    if schema.get("properties").is_some() || schema.get("anyOf").is_some() {
                        written["parameters"] = schema;
                    }
                }
                if *strict == Some(true) {
                    let at = format!("tools[{i}].function.strict");
                    dropped.push(Dropped::new(at, NO_SUCH_FIELD));
                }
                declarations.push(written);
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
    if declarations.is_empty() {
        return;
    }
    body.insert("tools".into(), json!([{ "functionDeclarations": declarations }]));
    if request.parallel_tools == Some(false) {
        dropped.push(Dropped::new("parallel_tool_calls", NO_SUCH_FIELD));
    }
    let calling = match &request.tool_choice {
        None => return,
        Some(ToolChoice::Auto) => json!({ "mode": "AUTO" }),
        Some(ToolChoice::None) => json!({ "mode": "NONE" }),
        Some(ToolChoice::Required) => json!({ "mode": "ANY" }),
        Some(ToolChoice::Named(name)) => json!({ "mode": "ANY", "allowedFunctionNames": [name] }),
    };
    body.insert("toolConfig".into(), json!({ "functionCallingConfig": calling }));
}

/// The conversation under way. System text goes to the top; neighbours of one role become one content, except that the
/// results of a turn's calls stand alone, because Gemini counts them against the calls.
struct Contents<'a> {
    request: &'a ChatRequest,
    dropped: &'a mut Vec<Dropped>,
    /// The function that each call was made to: only Gemini wants it repeated with the result.
    names: HashMap<&'a str, &'a str>,
    turns: Vec<Turn>,
}

struct Turn {
    role: Role,
    results: bool,
    parts: Vec<Value>,
}

impl<'a> Contents<'a> {
    fn write(request: &'a ChatRequest, dropped: &'a mut Vec<Dropped>) -> (Vec<Value>, Vec<Value>) {
        let parts = request.messages.iter().flat_map(|message| &message.content);
        let names = parts.filter_map(|part| match part {
            Part::ToolCall(call) => Some((call.id.as_str(), call.name.as_str())),
            _ => None,
        });
        let mut contents = Contents { request, dropped, names: names.collect(), turns: Vec::new() };
        let mut system = contents.parts(&request.system, "system");
        for (i, message) in request.messages.iter().enumerate() {
            let path = format!("messages[{i}]");
            let extras =
                message.extras.keys().map(|key| Dropped::new(format!("{path}.{key}"), NO_SUCH_FIELD));
            contents.dropped.extend(extras);
            if message.role == Role::System {
                if !contents.turns.is_empty() {
                    let reason = "its place: system text stands before all contents";
                    contents.dropped.push(Dropped::new(path.as_str(), reason));
                }
                let parts = contents.parts(&message.content, &path);
                system.extend(parts);
                continue;
            }
            contents.message(message.role, &message.content, &path);
        }
        if contents.turns.is_empty() && !system.is_empty() {
            let reason = "their place: somebody has to ask, and they were sent as the user's";
            contents.dropped.push(Dropped::new("messages", reason));
            contents.turn(Role::User, false, std::mem::take(&mut system));
        }
        let turns = contents.turns.into_iter().map(|turn| {
            let role = if turn.role == Role::Assistant { "model" } else { "user" };
            json!({ "role": role, "parts": turn.parts })
        });
        (system, turns.collect())
    }

    fn message(&mut self, role: Role, content: &[Part], path: &str) {
        let mut results = Vec::new();
        let mut others = Vec::new();
        for (j, part) in content.iter().enumerate() {
            let at = format!("{path}.content[{j}]");
            match part {
                Part::ToolResult(result) => {
                    results.push(self.result(result, &at));
                    // A result holds text; its images and files follow.
                    let images =
                        result.content.iter().filter(|part| matches!(part, Part::Image(_)) || is_pdf(part));
                    others.extend(images.filter_map(|image| self.part(image, &at)));
                }
                Part::ToolCall(call) => {
                    let first = !others.iter().any(|part: &Value| part.get("functionCall").is_some());
                    others.push(self.call(call, first, &at));
                }
                other => others.extend(self.part(other, &at)),
            }
        }
        self.turn(role, true, results);
        self.turn(role, false, others);
    }

    fn turn(&mut self, role: Role, results: bool, parts: Vec<Value>) {
        if parts.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some(last) if last.role == role && last.results == results => last.parts.extend(parts),
            _ => self.turns.push(Turn { role, results, parts }),
        }
    }

    /// Of the calls of one turn, Gemini signs the first.
    fn call(&mut self, call: &ToolCall, first: bool, at: &str) -> Value {
        let args = tool_input(&call.arguments).unwrap_or_else(|| {
            let reason = "they are not a JSON object; an empty one was sent";
            self.dropped.push(Dropped::new(format!("{at}.arguments"), reason));
            json!({})
        });
        let mut part = json!({ "functionCall": { "id": call.id, "name": call.name, "args": args } });
        if let Some(signature) = &call.signature {
            part["thoughtSignature"] = json!(signature);
        } else if first && thinking::wants_signatures(&self.request.model) {
            part["thoughtSignature"] = json!(UNSIGNED);
        }
        part
    }

    fn result(&mut self, result: &ToolResult, at: &str) -> Value {
        let keys = result.extras.keys();
        self.dropped.extend(keys.map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
        let mut text = String::new();
        for (j, part) in result.content.iter().enumerate() {
            match part {
                Part::Text { text: piece, extras } => {
                    let keys = extras.keys();
                    self.dropped.extend(
                        keys.map(|key| Dropped::new(format!("{at}.content[{j}].{key}"), NO_SUCH_FIELD)),
                    );
                    // Pieces of their own, and not of one text.
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(piece);
                }
                Part::Image(_) => {}
                part if is_pdf(part) => {}
                _ => self.dropped.push(Dropped::new(
                    format!("{at}.content[{j}]"),
                    "Gemini cannot carry this kind of part in a result",
                )),
            }
        }
        let key = if result.is_error { "error" } else { "output" };
        let name = self.names.get(result.call.as_str()).copied().unwrap_or(&result.call);
        json!({ "functionResponse": { "id": result.call, "name": name, "response": { key: text } } })
    }

    fn parts(&mut self, parts: &[Part], path: &str) -> Vec<Value> {
        let all = parts.iter().enumerate();
        all.filter_map(|(j, part)| self.part(part, &format!("{path}.content[{j}]"))).collect()
    }

    fn part(&mut self, part: &Part, at: &str) -> Option<Value> {
        match part {
            // Gemini refuses empty parts.
            Part::Text { text, .. } | Part::Refusal(text) if text.is_empty() => None,
            Part::Text { text, extras } => {
                let keys = extras.keys();
                self.dropped.extend(keys.map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
                Some(json!({ "text": text }))
            }
            Part::Refusal(text) => Some(json!({ "text": text })),
            Part::Image(image) => {
                let keys = image.extras.keys();
                self.dropped.extend(keys.map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
                if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.dropped.push(Dropped::new(format!("{at}.image_url.detail"), NO_SUCH_FIELD));
                }
                Some(match &image.source {
                    ImageSource::Url(url) => json!({ "fileData": { "fileUri": url } }),
                    ImageSource::Base64 { media_type: name, data } => {
                        json!({ "inlineData": { "mimeType": media_type(name), "data": data } })
                    }
                })
            }
            Part::Reasoning { .. } => {
                self.dropped.push(Dropped::new(at, OF_ITS_PROVIDER));
                None
            }
            Part::Opaque(part) if Pdf::of(part).is_some() => {
                let pdf = Pdf::of(part)?;
                let keys = pdf.beside.iter();
                self.dropped.extend(keys.map(|(key, _)| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
                Some(json!({ "inlineData": { "mimeType": "application/pdf", "data": pdf.data } }))
            }
            Part::ToolCall(_) | Part::ToolResult(_) | Part::Opaque(_) => {
                self.dropped.push(Dropped::new(at, "Gemini cannot carry this kind of part here"));
                None
            }
        }
    }
}
