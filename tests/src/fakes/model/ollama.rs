//! Ollama's own dialect.

use serde_json::{Value, json};

use super::asked::Calls;
use super::{Asked, Door, INPUT, OUTPUT, Said, Script, Tool, WAIT};
use crate::fakes::{Failure, pieces, stray_header, unknown_field};
use crate::reply::{Piece, Reply};
use crate::wire::Received;

const FIELDS: [&str; 8] =
    ["format", "keep_alive", "messages", "model", "options", "stream", "think", "tools"];

/// The model behind Ollama.
pub struct Native {
    model: String,
}

/// Ollama: takes no key and has `model`.
pub fn ollama(model: &str) -> Native {
    Native { model: model.to_owned() }
}

impl Door for Native {
    fn objection(&self, request: &Received) -> Option<Reply> {
        if request.path != "/api/chat" || request.query.is_some() {
            return Some(error(404, "not found"));
        }
        if request.method != "POST" {
            return Some(error(405, "method not allowed"));
        }
        // It asks for no key. Sending it one is a leak, and no answer of a model.
        if request.header("authorization").is_some() {
            return Some(self.failure(Failure::BadKey));
        }
        if let Some(name) = stray_header(request) {
            return Some(self.invalid(&format!("unexpected header {name}")));
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Some(self.invalid("invalid JSON"));
        };
        // It would ignore others: nobody meant that.
        if let Some(field) = unknown_field(&body, &FIELDS) {
            return Some(self.invalid(&format!("unknown field {field}")));
        }
        if body["model"] != json!(self.model) {
            return Some(self.failure(Failure::NoModel));
        }
        None
    }

    fn asked(&self, request: &Received) -> Result<Asked, String> {
        let body = request.json();
        // It streams unless it is told not to.
        let mut asked = Asked { stream: body["stream"] != json!(false), ..Asked::default() };
        asked.thinks =
            matches!(body["think"].as_str(), Some("low" | "medium" | "high")) || body["think"] == true;
        asked.aloud = asked.thinks;
        let mut calls = Calls::default();
        let mut answered = 0;
        for (i, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
            let at = |what: String| format!("messages[{i}]: {what}");
            let content = message["content"].as_str().unwrap_or_default();
            if message["role"] == "tool" {
                // Results stand in the order of their calls.
                let id = format!("{} {answered}", message["tool_name"].as_str().unwrap_or_default());
                calls.result(&id, content).map_err(at)?;
                answered += 1;
                continue;
            }
            calls.over().map_err(at)?;
            for (called, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
                let function = &call["function"];
                if !function["arguments"].is_object() {
                    return Err(at("json: cannot unmarshal string into Go struct field".into()));
                }
                let name = function["name"].as_str().unwrap_or_default();
                calls.call(&format!("{name} {called}"), name).map_err(at)?;
                answered = 0;
            }
            if message["role"] == "user" {
                asked.turn();
                asked.hear(content);
                for image in message["images"].as_array().into_iter().flatten() {
                    asked.see("image/png", image.as_str().unwrap_or_default()).map_err(at)?;
                }
            }
        }
        asked.results = calls.results()?;
        for tool in body["tools"].as_array().into_iter().flatten() {
            let name = tool["function"]["name"].as_str().unwrap_or_default().to_owned();
            asked.tools.push(Tool { name, parameters: tool["function"]["parameters"].clone() });
        }
        asked.schema = Some(body["format"].clone()).filter(Value::is_object);
        Ok(asked)
    }

    fn invalid(&self, message: &str) -> Reply {
        error(400, message)
    }

    fn failure(&self, failure: Failure) -> Reply {
        match failure {
            Failure::BadKey => error(401, "unauthorized"),
            Failure::NoModel => error(404, &format!("model '{}' not found", self.model)),
            Failure::RateLimited(_) => {
                error(429, "too many requests").with_header("retry-after", &WAIT.to_string())
            }
            Failure::BadRequest => error(400, "invalid options: num_ctx"),
            _ => error(500, "an error was encountered while running the model"),
        }
    }

    fn whole(&self, _: &Received, said: &Said) -> Reply {
        let mut message = json!({ "role": "assistant", "content": said.text });
        if let Some(thoughts) = said.thoughts {
            message["thinking"] = json!(thoughts);
        }
        if !said.calls.is_empty() {
            message["tool_calls"] = said.calls.iter().enumerate().map(called).collect();
        }
        Reply::json(200, &self.line(&message, true))
    }

    fn stream(&self, _: &Received, said: &Said) -> Script {
        let mut script = Script::default();
        let say = |message: Value| event(&self.line(&message, false));
        for piece in said.thoughts.into_iter().flat_map(pieces) {
            script.push(say(json!({ "role": "assistant", "content": "", "thinking": piece })));
        }
        pieces(&said.text)
            .for_each(|piece| script.text(say(json!({ "role": "assistant", "content": piece }))));
        for call in said.calls.iter().enumerate() {
            script.push(say(json!({ "role": "assistant", "content": "", "tool_calls": [called(call)] })));
        }
        script.push(event(&self.line(&json!({ "role": "assistant", "content": "" }), true)));
        script
    }

    fn broken(&self) -> Piece {
        event(&json!({ "error": "an error was encountered while running the model: unexpected EOF" }))
    }

    fn media_type(&self) -> &'static str {
        "application/x-ndjson"
    }
}

impl Native {
    fn line(&self, message: &Value, done: bool) -> Value {
        let mut line = json!({
            "model": self.model, "created_at": "2026-07-07T20:22:19.184789Z", "message": message, "done": done,
        });
        if done {
            line["done_reason"] = json!("stop");
            line["total_duration"] = json!(174_560_334);
            line["prompt_eval_count"] = json!(INPUT);
            line["eval_count"] = json!(OUTPUT);
        }
        line
    }
}

/// Calls have no ids, and are whole.
fn called((i, call): (usize, &super::Call)) -> Value {
    json!({ "function": { "index": i, "name": call.name, "arguments": call.arguments } })
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "error": message }))
}

fn event(line: &Value) -> Piece {
    Piece::text(format!("{line}\n"))
}
