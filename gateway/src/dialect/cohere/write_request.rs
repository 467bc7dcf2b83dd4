//! Requests for Cohere.

use serde_json::{Map, Value, json};

use super::super::{OF_ITS_PROVIDER, Style, Written, image_url, placed};
use super::response::tool_call_value;
use crate::ir::{
    ChatRequest, Dropped, Message, Part, ReasoningWish, ResponseFormat, Role, Sampling, Tool, ToolChoice,
    ToolResult,
};

const NO_SUCH_FIELD: &str = "Cohere has no such field";

/// Stop sequences that Cohere takes.
const STOPS: usize = 5;

/// Writes a request that arrived in another dialect.
pub(super) fn write(request: &ChatRequest, style: &Style) -> Written {
    let mut dropped = Vec::new();
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    let mut messages = Messages { dropped: &mut dropped, written: Vec::new() };
    if !request.system.is_empty() {
        messages.say(Role::System, &placed(&request.system, "system").collect::<Vec<_>>());
    }
    for (i, message) in request.messages.iter().enumerate() {
        messages.message(message, &format!("messages[{i}]"));
    }
    body.insert("messages".into(), Value::Array(messages.written));
    write_tools(request, &mut body, &mut dropped);
    write_sampling(&request.sampling, &mut body, &mut dropped);
    if let Some(max) = request.max_tokens {
        body.insert("max_tokens".into(), json!(max));
    }
    if !request.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(request.stop.iter().take(STOPS).collect::<Vec<_>>()));
        if request.stop.len() > STOPS {
            dropped.push(Dropped::new("stop_sequences", "Cohere takes five; the rest was left out"));
        }
    }
    if request.stream {
        body.insert("stream".into(), json!(true));
    }
    write_format(request, style, &mut body, &mut dropped);
    match &request.reasoning {
        None => {}
        Some(ReasoningWish::Off) => _ = body.insert("thinking".into(), json!({ "type": "disabled" })),
        Some(ReasoningWish::Budget(budget)) => {
            body.insert("thinking".into(), json!({ "type": "enabled", "token_budget": budget }));
        }
        Some(ReasoningWish::Effort(effort)) if effort == "none" => {
            body.insert("thinking".into(), json!({ "type": "disabled" }));
        }
        // Models that can think do so without being told.
        Some(ReasoningWish::Effort(_)) => {
            dropped.push(Dropped::new("reasoning_effort", "thinking is asked for by a token budget"));
        }
    }
    if request.answers > 1 {
        dropped.push(Dropped::new("n", "Cohere gives one answer"));
    }
    if request.user.is_some() {
        dropped.push(Dropped::new("user", NO_SUCH_FIELD));
    }
    dropped.extend(request.extras.keys().map(|key| Dropped::new(key, NO_SUCH_FIELD)));
    Written { body: Value::Object(body).to_string().into(), dropped }
}

/// Structured output and tools exclude each other at Cohere.
fn write_format(
    request: &ChatRequest,
    style: &Style,
    body: &mut Map<String, Value>,
    dropped: &mut Vec<Dropped>,
) {
    let format = match &request.format {
        None => return,
        Some(_) if body.contains_key("tools") => {
            return dropped.push(Dropped::new("response_format", "Cohere does not take it beside tools"));
        }
        Some(ResponseFormat::JsonSchema { schema, .. }) if !style.no_json_schema => {
            json!({ "type": "json_object", "json_schema": schema })
        }
        Some(ResponseFormat::JsonSchema { .. }) => {
            dropped.push(Dropped::new("response_format", "this model takes no JSON schema"));
            json!({ "type": "json_object" })
        }
        Some(ResponseFormat::JsonObject) => json!({ "type": "json_object" }),
    };
    body.insert("response_format".into(), format);
}

fn write_sampling(sampling: &Sampling, body: &mut Map<String, Value>, dropped: &mut Vec<Dropped>) {
    let Sampling { temperature, top_p, top_k, frequency_penalty, presence_penalty, seed } = sampling;
    if let Some(temperature) = temperature {
        body.insert("temperature".into(), json!(temperature));
    }
    let mut bounded = |key: &str, field: &'static str, value: f64, (low, high): (f64, f64)| {
        let sent = value.clamp(low, high);
        if sent != value {
            dropped.push(Dropped::new(field, format!("Cohere takes {low} to {high}; {sent} was sent")));
        }
        body.insert(key.to_owned(), json!(sent));
    };
    if let Some(p) = top_p {
        bounded("p", "top_p", *p, (0.01, 0.99));
    }
    // Most clients that send a penalty send zero, and Cohere takes one of the two.
    let frequency = frequency_penalty.filter(|v| *v != 0.0);
    let presence = presence_penalty.filter(|v| *v != 0.0);
    match (frequency, presence) {
        (Some(frequency), _) => bounded("frequency_penalty", "frequency_penalty", frequency, (0.0, 1.0)),
        (None, Some(presence)) => bounded("presence_penalty", "presence_penalty", presence, (0.0, 1.0)),
        (None, None) => {}
    }
    if frequency.is_some() && presence.is_some() {
        dropped.push(Dropped::new("presence_penalty", "Cohere takes one penalty, and the other was sent"));
    }
    if let Some(k) = top_k {
        if *k > MOST_K {
            dropped.push(Dropped::new("top_k", "Cohere takes 500 at most, which was sent"));
        }
        body.insert("k".into(), json!(k.min(&MOST_K)));
    }
    match seed {
        None => {}
        Some(seed) if *seed >= 0 => _ = body.insert("seed".into(), json!(seed)),
        Some(_) => dropped.push(Dropped::new("seed", "Cohere takes none below zero")),
    }
}

const MOST_K: u64 = 500;

fn write_tools(request: &ChatRequest, body: &mut Map<String, Value>, dropped: &mut Vec<Dropped>) {
    // Of the tools, one can be forced only by not offering the others.
    let forced = match &request.tool_choice {
        Some(ToolChoice::Named(name)) => Some(name),
        _ => None,
    };
    let mut tools = Vec::new();
    let mut stricts = Vec::new();
    for (i, tool) in request.tools.iter().enumerate() {
        let at = format!("tools[{i}]");
        match tool {
            Tool::Function { name, .. } if forced.is_some_and(|forced| forced != name) => {
                dropped.push(Dropped::new(
                    at,
                    "Cohere takes no name in tool_choice: the other tool alone was sent",
                ));
            }
            Tool::Function { name, description, parameters, strict, extras, .. } => {
                let schema =
                    parameters.clone().unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
                let mut function = json!({ "name": name, "parameters": schema });
                if let Some(description) = description {
                    function["description"] = json!(description);
                }
                tools.push(json!({ "type": "function", "function": function }));
                stricts.push((i, *strict == Some(true)));
                dropped.extend(extras.keys().map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
            }
            Tool::Provider { kind, .. } => {
                dropped.push(Dropped::new(at, format!("{kind} is a tool of one provider")));
            }
        }
    }
    if tools.is_empty() {
        return;
    }
    body.insert("tools".into(), Value::Array(tools));
    if stricts.iter().all(|(_, strict)| *strict) {
        body.insert("strict_tools".into(), json!(true));
    } else {
        let stricts = stricts.iter().filter(|(_, strict)| *strict);
        dropped.extend(stricts.map(|(i, _)| {
            Dropped::new(
                format!("tools[{i}].function.strict"),
                "Cohere is strict with all tools or with none",
            )
        }));
    }
    if request.parallel_tools == Some(false) {
        dropped.push(Dropped::new("parallel_tool_calls", NO_SUCH_FIELD));
    }
    let choice = match &request.tool_choice {
        None | Some(ToolChoice::Auto) => return,
        Some(ToolChoice::None) => "NONE",
        Some(ToolChoice::Required | ToolChoice::Named(_)) => "REQUIRED",
    };
    body.insert("tool_choice".into(), json!(choice));
}

/// The conversation under way.
struct Messages<'a> {
    dropped: &'a mut Vec<Dropped>,
    written: Vec<Value>,
}

impl Messages<'_> {
    fn drop(&mut self, field: String, reason: &'static str) {
        self.dropped.push(Dropped::new(field, reason));
    }

    fn drop_extras(&mut self, at: &str, extras: &Map<String, Value>) {
        self.dropped.extend(extras.keys().map(|key| Dropped::new(format!("{at}.{key}"), NO_SUCH_FIELD)));
    }

    fn say(&mut self, role: Role, parts: &[(String, &Part)]) {
        let content = self.content(parts, role);
        let role = if role == Role::System { "system" } else { "user" };
        self.written.push(json!({ "role": role, "content": content }));
    }

    /// One message may become several: tool results are messages of their own here.
    fn message(&mut self, message: &Message, path: &str) {
        self.drop_extras(path, &message.extras);
        let parts = placed(&message.content, path);
        match message.role {
            Role::System => self.say(Role::System, &parts.collect::<Vec<_>>()),
            Role::Assistant => self.assistant(parts),
            Role::User => {
                // Images cannot be in a tool's message; they follow in the user's.
                let mut rest = Vec::new();
                for (at, part) in parts {
                    match part {
                        Part::ToolResult(result) => rest.extend(self.result(result, &at)),
                        other => rest.push((at, other)),
                    }
                }
                if !rest.is_empty() {
                    self.say(Role::User, &rest);
                }
            }
        }
    }

    /// A tool's message. Gives back the images.
    fn result<'p>(&mut self, result: &'p ToolResult, at: &str) -> Vec<(String, &'p Part)> {
        if result.is_error {
            self.drop(format!("{at}.is_error"), NO_SUCH_FIELD);
        }
        self.drop_extras(at, &result.extras);
        let (images, texts): (Vec<_>, Vec<_>) =
            placed(&result.content, at).partition(|(_, part)| matches!(part, Part::Image(_)));
        let content = self.content(&texts, Role::User);
        self.written.push(json!({ "role": "tool", "tool_call_id": result.call, "content": content }));
        images
    }

    /// What is said beside calls is their plan.
    fn assistant<'p>(&mut self, parts: impl Iterator<Item = (String, &'p Part)>) {
        let mut calls = Vec::new();
        let mut said = Vec::new();
        for (at, part) in parts {
            match part {
                Part::ToolCall(call) => {
                    if call.signature.is_some() {
                        self.drop(format!("{at}.thoughtSignature"), OF_ITS_PROVIDER);
                    }
                    calls.push(tool_call_value(call));
                }
                Part::Reasoning { .. } => self.drop(at, OF_ITS_PROVIDER),
                other => said.push((at, other)),
            }
        }
        let content = self.content(&said, Role::Assistant);
        let mut written = json!({ "role": "assistant" });
        if calls.is_empty() {
            written["content"] = content;
        } else {
            let plan: String = match &content {
                Value::String(text) => text.clone(),
                parts => {
                    let texts =
                        parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
                    texts.collect()
                }
            };
            if !plan.is_empty() {
                written["tool_plan"] = json!(plan);
            }
            written["tool_calls"] = Value::Array(calls);
        }
        self.written.push(written);
    }

    /// Plain text where it can be; parts otherwise.
    fn content(&mut self, parts: &[(String, &Part)], role: Role) -> Value {
        let mut values = Vec::new();
        for (at, part) in parts {
            match part {
                Part::Text { text, extras } => {
                    self.drop_extras(at, extras);
                    values.push(json!({ "type": "text", "text": text }));
                }
                Part::Refusal(text) => values.push(json!({ "type": "text", "text": text })),
                Part::Image(image) if role == Role::User => {
                    self.drop_extras(at, &image.extras);
                    values.push(image_url(image));
                }
                Part::Reasoning { .. } => self.drop(at.clone(), OF_ITS_PROVIDER),
                Part::Image(_) | Part::ToolCall(_) | Part::ToolResult(_) | Part::Opaque(_) => {
                    self.drop(at.clone(), "Cohere cannot carry this kind of part here");
                }
            }
        }
        match values.as_slice() {
            [] => json!(""),
            [only] if only["type"] == "text" => only["text"].clone(),
            _ => Value::Array(values),
        }
    }
}
