//! Requests for Ollama.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::{OF_ITS_PROVIDER, Style, Written, placed, tool_input};
use crate::ir::{
    ChatRequest, Dropped, Image, ImageSource, Message, Part, ReasoningWish, ResponseFormat, Role, Tool,
    ToolCall, ToolChoice, ToolResult,
};

const NO_SUCH_FIELD: &str = "Ollama has no such field";

/// How hard a model may be told to think.
const LEVELS: [&str; 3] = ["low", "medium", "high"];

/// Writes a request that arrived in another dialect.
pub(super) fn write(request: &ChatRequest, style: &Style) -> Written {
    let mut dropped = Vec::new();
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("messages".into(), Messages::write(request, &mut dropped));
    // Ollama streams unless it is told not to.
    body.insert("stream".into(), json!(request.stream));
    write_tools(request, &mut body, &mut dropped);
    let options = options(request);
    if !options.is_empty() {
        body.insert("options".into(), Value::Object(options));
    }
    match &request.format {
        None => {}
        Some(ResponseFormat::JsonSchema { schema, .. }) if !style.no_json_schema => {
            body.insert("format".into(), schema.clone());
        }
        Some(format) => {
            body.insert("format".into(), json!("json"));
            if matches!(format, ResponseFormat::JsonSchema { .. }) {
                dropped.push(Dropped::new("response_format", "this model takes no JSON schema"));
            }
        }
    }
    if let Some(wish) = &request.reasoning {
        body.insert("think".into(), think(wish, &mut dropped));
    }
    if request.answers > 1 {
        dropped.push(Dropped::new("n", "Ollama gives one answer"));
    }
    if request.user.is_some() {
        dropped.push(Dropped::new("user", NO_SUCH_FIELD));
    }
    dropped.extend(request.extras.keys().map(|key| Dropped::new(key, NO_SUCH_FIELD)));
    Written { body: Value::Object(body).to_string().into(), dropped }
}

fn options(request: &ChatRequest) -> Map<String, Value> {
    let sampling = &request.sampling;
    let mut options = Map::new();
    let mut set =
        |key: &str, value: Option<Value>| options.extend(value.map(|value| (key.to_owned(), value)));
    set("num_predict", request.max_tokens.map(|v| json!(v)));
    set("temperature", sampling.temperature.map(|v| json!(v)));
    set("top_p", sampling.top_p.map(|v| json!(v)));
    set("top_k", sampling.top_k.map(|v| json!(v)));
    set("frequency_penalty", sampling.frequency_penalty.map(|v| json!(v)));
    set("presence_penalty", sampling.presence_penalty.map(|v| json!(v)));
    set("seed", sampling.seed.map(|v| json!(v)));
    set("stop", (!request.stop.is_empty()).then(|| json!(request.stop)));
    options
}

fn think(wish: &ReasoningWish, dropped: &mut Vec<Dropped>) -> Value {
    match wish {
        ReasoningWish::Off => json!(false),
        ReasoningWish::Budget(_) => {
            dropped.push(Dropped::new("thinking", "Ollama thinks, and takes no token budget for it"));
            json!(true)
        }
        ReasoningWish::Effort(effort) => match effort.as_str() {
            "none" => json!(false),
            level if LEVELS.contains(&level) => json!(level),
            other => {
                let nearest = if other == "minimal" { "low" } else { "high" };
                let reason = format!("Ollama takes low, medium and high; {nearest} was sent");
                dropped.push(Dropped::new("reasoning_effort", reason));
                json!(nearest)
            }
        },
    }
}

fn write_tools(request: &ChatRequest, body: &mut Map<String, Value>, dropped: &mut Vec<Dropped>) {
    let mut tools = Vec::new();
    for (i, tool) in request.tools.iter().enumerate() {
        match tool {
            Tool::Function { name, description, parameters, strict, extras, .. } => {
                let schema =
                    parameters.clone().unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
                let mut function = json!({ "name": name, "parameters": schema });
                if let Some(description) = description {
                    function["description"] = json!(description);
                }
                tools.push(json!({ "type": "function", "function": function }));
                if *strict == Some(true) {
                    dropped.push(Dropped::new(format!("tools[{i}].function.strict"), NO_SUCH_FIELD));
                }
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
    match &request.tool_choice {
        // What is not offered is not called.
        Some(ToolChoice::None) => {
            return dropped.push(Dropped::new("tools", "Ollama has no tool_choice: none of them was sent"));
        }
        Some(ToolChoice::Required | ToolChoice::Named(_)) => {
            dropped.push(Dropped::new("tool_choice", "Ollama leaves the choice to the model"));
        }
        None | Some(ToolChoice::Auto) => {}
    }
    if request.parallel_tools == Some(false) {
        dropped.push(Dropped::new("parallel_tool_calls", NO_SUCH_FIELD));
    }
    body.insert("tools".into(), Value::Array(tools));
}

/// The conversation under way. Results have no ids that every version knows: they stand in the order of their calls.
struct Messages<'a> {
    dropped: &'a mut Vec<Dropped>,
    /// Each call's place among all calls, and its function.
    calls: HashMap<&'a str, (usize, &'a str)>,
    /// Results that wait for others of the same turn.
    results: Vec<(usize, Value)>,
    /// Images of results, which follow as the user's.
    images: Vec<Value>,
    written: Vec<Value>,
}

impl<'a> Messages<'a> {
    fn write(request: &'a ChatRequest, dropped: &'a mut Vec<Dropped>) -> Value {
        let parts = request.messages.iter().flat_map(|message| &message.content);
        let calls = parts.filter_map(|part| match part {
            Part::ToolCall(call) => Some((call.id.as_str(), call.name.as_str())),
            _ => None,
        });
        let calls = calls.enumerate().map(|(at, (id, name))| (id, (at, name))).collect();
        let mut all =
            Messages { dropped, calls, results: Vec::new(), images: Vec::new(), written: Vec::new() };
        if !request.system.is_empty() {
            all.say("system", placed(&request.system, "system"));
        }
        for (i, message) in request.messages.iter().enumerate() {
            all.message(message, &format!("messages[{i}]"));
        }
        all.settle();
        Value::Array(all.written)
    }

    fn drop(&mut self, field: String, reason: &'static str) {
        self.dropped.push(Dropped::new(field, reason));
    }

    fn drop_extras(&mut self, at: &str, extras: &Map<String, Value>) {
        self.dropped.extend(extras.keys().map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
    }

    fn message(&mut self, message: &Message, path: &str) {
        self.drop_extras(path, &message.extras);
        let parts = placed(&message.content, path);
        match message.role {
            Role::System => self.say("system", parts),
            Role::Assistant => self.say("assistant", parts),
            Role::User => {
                let mut rest = Vec::new();
                for (at, part) in parts {
                    match part {
                        Part::ToolResult(result) => self.result(result, &at),
                        other => rest.push((at, other)),
                    }
                }
                if !rest.is_empty() {
                    self.say("user", rest);
                }
            }
        }
    }

    fn result(&mut self, result: &ToolResult, at: &str) {
        if result.is_error {
            self.drop(format!("{at}.is_error"), NO_SUCH_FIELD);
        }
        self.drop_extras(at, &result.extras);
        let said = self.said(placed(&result.content, at));
        let (order, name) =
            self.calls.get(result.call.as_str()).copied().unwrap_or((usize::MAX, &result.call));
        self.images.extend(said.images);
        let message = json!({ "role": "tool", "tool_name": name, "content": said.text });
        self.results.push((order, message));
    }

    /// Writes the results of a turn, and after them their images.
    fn settle(&mut self) {
        self.results.sort_by_key(|(order, _)| *order);
        self.written.extend(std::mem::take(&mut self.results).into_iter().map(|(_, message)| message));
        let images = std::mem::take(&mut self.images);
        if !images.is_empty() {
            self.written.push(json!({ "role": "user", "content": "", "images": images }));
        }
    }

    fn say<'p>(&mut self, role: &str, parts: impl IntoIterator<Item = (String, &'p Part)>) {
        self.settle();
        let said = self.said(parts);
        let mut message = json!({ "role": role, "content": said.text });
        if !said.images.is_empty() {
            message["images"] = Value::Array(said.images);
        }
        if !said.calls.is_empty() {
            message["tool_calls"] = Value::Array(said.calls);
        }
        self.written.push(message);
    }

    /// A message is one text, its images beside it.
    fn said<'p>(&mut self, parts: impl IntoIterator<Item = (String, &'p Part)>) -> Said {
        let mut said = Said::default();
        for (at, part) in parts {
            match part {
                Part::Text { text, extras } => {
                    self.drop_extras(&at, extras);
                    said.push(text);
                }
                Part::Refusal(text) => said.push(text),
                Part::Image(image) => said.images.extend(self.image(image, &at)),
                Part::ToolCall(call) => {
                    let call = self.call(call, &at);
                    said.calls.push(call);
                }
                Part::Reasoning { .. } => self.drop(at, OF_ITS_PROVIDER),
                Part::ToolResult(_) | Part::Opaque(_) => {
                    self.drop(at, "Ollama cannot carry this kind of part here");
                }
            }
        }
        said
    }

    fn image(&mut self, image: &Image, at: &str) -> Option<Value> {
        self.drop_extras(at, &image.extras);
        if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.drop(format!("{at}.image_url.detail"), NO_SUCH_FIELD);
        }
        match &image.source {
            ImageSource::Base64 { data, .. } => Some(json!(data)),
            ImageSource::Url(_) => {
                self.drop(at.to_owned(), "Ollama fetches no images: it takes their data");
                None
            }
        }
    }

    fn call(&mut self, call: &ToolCall, at: &str) -> Value {
        if call.signature.is_some() {
            self.drop(format!("{at}.thoughtSignature"), OF_ITS_PROVIDER);
        }
        let arguments = tool_input(&call.arguments).unwrap_or_else(|| {
            self.drop(format!("{at}.arguments"), "they are not a JSON object; an empty one was sent");
            json!({})
        });
        json!({ "function": { "name": call.name, "arguments": arguments } })
    }
}

#[derive(Default)]
struct Said {
    text: String,
    images: Vec<Value>,
    calls: Vec<Value>,
}

impl Said {
    fn push(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }
}
