//! Cohere's chat, version 2.

use serde_json::{Value, json};

use super::asked::{Calls, parts, text};
use super::{Asked, CACHED, Door, INPUT, OUTPUT, Said, Script, Tool, WAIT, halves, named};
use crate::fakes::{Failure, pieces, stray_header, unknown_field};
use crate::reply::{Piece, Reply};
use crate::wire::Received;

const FIELDS: [&str; 21] = [
    "citation_options",
    "documents",
    "frequency_penalty",
    "k",
    "logprobs",
    "max_tokens",
    "messages",
    "model",
    "p",
    "presence_penalty",
    "priority",
    "response_format",
    "safety_mode",
    "seed",
    "stop_sequences",
    "stream",
    "strict_tools",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
];

/// The model behind Cohere.
pub struct Cohere {
    key: String,
    model: String,
}

/// Cohere: accepts `key` and has `model`.
pub fn cohere(key: &str, model: &str) -> Cohere {
    Cohere { key: key.to_owned(), model: model.to_owned() }
}

impl Door for Cohere {
    fn objection(&self, request: &Received) -> Option<Reply> {
        if request.method != "POST" || request.path != "/v2/chat" || request.query.is_some() {
            return Some(error(404, "not found"));
        }
        if request.header("authorization") != Some(&format!("Bearer {}", self.key)) {
            return Some(self.failure(Failure::BadKey));
        }
        if let Some(name) = stray_header(request) {
            return Some(self.invalid(&format!("unexpected header {name}")));
        }
        if !request.header("content-type").is_some_and(|v| v.starts_with("application/json")) {
            return Some(self.invalid("the content type must be application/json"));
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Some(self.invalid("invalid json syntax"));
        };
        if let Some(field) = unknown_field(&body, &FIELDS) {
            return Some(error(422, &format!("unknown field: parameter '{field}' is not a valid field")));
        }
        if body["model"] != json!(self.model) {
            return Some(self.failure(Failure::NoModel));
        }
        None
    }

    fn asked(&self, request: &Received) -> Result<Asked, String> {
        let body = request.json();
        let mut asked = Asked { stream: body["stream"] == json!(true), ..Asked::default() };
        asked.thinks = body["thinking"]["type"] == "enabled";
        asked.aloud = asked.thinks;
        let mut calls = Calls::default();
        for (i, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
            let at = |what: String| format!("messages[{i}]: {what}");
            let role = message["role"].as_str().unwrap_or_default();
            if role == "tool" {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                calls.result(id, &text(&message["content"])).map_err(at)?;
                continue;
            }
            calls.over().map_err(at)?;
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                if !serde_json::from_str::<Value>(&of(&call["function"]["arguments"]))
                    .is_ok_and(|v| v.is_object())
                {
                    return Err(at("arguments are no object".into()));
                }
                calls.call(&of(&call["id"]), &of(&call["function"]["name"])).map_err(at)?;
            }
            if role == "user" {
                asked.turn();
                for part in parts(&message["content"]) {
                    match part["type"].as_str() {
                        Some("text") => asked.hear(part["text"].as_str().unwrap_or_default()),
                        Some("image_url") => {
                            asked
                                .see_url(part["image_url"]["url"].as_str().unwrap_or_default())
                                .map_err(at)?;
                        }
                        _ => return Err(at(format!("invalid type of content: {part}"))),
                    }
                }
            }
        }
        asked.results = calls.results()?;
        for tool in body["tools"].as_array().into_iter().flatten() {
            let name = tool["function"]["name"].as_str().unwrap_or_default().to_owned();
            asked.tools.push(Tool { name, parameters: tool["function"]["parameters"].clone() });
        }
        asked.schema = body["response_format"].get("json_schema").cloned();
        Ok(asked)
    }

    fn invalid(&self, message: &str) -> Reply {
        error(400, &format!("invalid request: {message}"))
    }

    fn failure(&self, failure: Failure) -> Reply {
        match failure {
            Failure::BadKey => error(401, "invalid api token"),
            Failure::NoModel => error(404, &format!("model '{}' not found", self.model)),
            Failure::RateLimited(_) => {
                let message = "You are using a Trial key, which is limited to 20 API calls / minute.";
                error(429, message).with_header("retry-after", &WAIT.to_string())
            }
            Failure::BadRequest => self.invalid("messages must be at least 1 token long"),
            _ => error(500, "internal server error"),
        }
    }

    fn whole(&self, _: &Received, said: &Said) -> Reply {
        let mut message = json!({ "role": "assistant" });
        let mut content = Vec::new();
        content.extend(said.thoughts.map(|thoughts| json!({ "type": "thinking", "thinking": thoughts })));
        if said.calls.is_empty() {
            content.push(json!({ "type": "text", "text": said.text }));
        } else {
            message["tool_plan"] = json!(said.text);
            message["tool_calls"] = said
                .calls
                .iter()
                .enumerate()
                .map(|(i, call)| {
                    let function = json!({ "name": call.name, "arguments": call.arguments.to_string() });
                    json!({ "id": id(i), "type": "function", "function": function })
                })
                .collect();
        }
        if !content.is_empty() {
            message["content"] = json!(content);
        }
        Reply::json(
            200,
            &json!({ "id": "fake", "finish_reason": finish(said), "message": message, "usage": usage() }),
        )
    }

    fn stream(&self, _: &Received, said: &Said) -> Script {
        let mut script = Script::default();
        let message =
            json!({ "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": [] });
        let start = json!({ "type": "message-start", "id": "fake", "delta": { "message": message } });
        script.push(named("message-start", &start));
        let content = |key: &str, text: &str| json!({ "content": { "type": key, key: text } });
        let mut at = 0;
        if let Some(thoughts) = said.thoughts {
            script.push(event("content-start", Some(at), Some(content("thinking", ""))));
            for piece in pieces(thoughts) {
                script.push(event(
                    "content-delta",
                    Some(at),
                    Some(json!({ "content": { "thinking": piece } })),
                ));
            }
            script.push(event("content-end", Some(at), None));
            at += 1;
        }
        if said.calls.is_empty() {
            script.push(event("content-start", Some(at), Some(content("text", ""))));
            for piece in pieces(&said.text) {
                script.text(event("content-delta", Some(at), Some(json!({ "content": { "text": piece } }))));
            }
            script.push(event("content-end", Some(at), None));
        } else {
            for piece in pieces(&said.text) {
                script.text(event("tool-plan-delta", None, Some(json!({ "tool_plan": piece }))));
            }
        }
        for (i, call) in said.calls.iter().enumerate() {
            let function = json!({ "name": call.name, "arguments": "" });
            let begun = json!({ "tool_calls": { "id": id(i), "type": "function", "function": function } });
            script.push(event("tool-call-start", Some(i), Some(begun)));
            for part in halves(&call.arguments.to_string()) {
                let more = json!({ "tool_calls": { "function": { "arguments": part } } });
                script.push(event("tool-call-delta", Some(i), Some(more)));
            }
            script.push(event("tool-call-end", Some(i), None));
        }
        let delta = json!({ "finish_reason": finish(said), "usage": usage() });
        script.push(named("message-end", &json!({ "type": "message-end", "id": "fake", "delta": delta })));
        script
    }

    fn broken(&self) -> Piece {
        let delta = json!({ "finish_reason": "ERROR", "error": "an internal error has occurred" });
        named("message-end", &json!({ "type": "message-end", "id": "fake", "delta": delta }))
    }
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "id": "fake", "message": message }))
}

fn id(i: usize) -> String {
    format!("forecast_fake{i}")
}

fn finish(said: &Said) -> &'static str {
    if said.calls.is_empty() { "COMPLETE" } else { "TOOL_CALL" }
}

fn usage() -> Value {
    json!({
        "billed_units": { "input_tokens": INPUT, "output_tokens": OUTPUT },
        // Beside what is billed, Cohere counts what it adds itself.
        "tokens": { "input_tokens": INPUT + 500, "output_tokens": OUTPUT + 2 }, "cached_tokens": CACHED,
    })
}

fn event(kind: &str, index: Option<usize>, message: Option<Value>) -> Piece {
    let mut event = json!({ "type": kind });
    if let Some(index) = index {
        event["index"] = json!(index);
    }
    if let Some(message) = message {
        event["delta"] = json!({ "message": message });
    }
    named(kind, &event)
}
