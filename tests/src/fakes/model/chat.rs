//! Chat completions, of OpenAI and of those who speak like it.

use serde_json::{Value, json};

use super::asked::{Calls, parts, text};
use super::{Asked, CACHED, Door, INPUT, OUTPUT, Said, Script, Tool, halves};
use crate::fakes::openai::Chat;
use crate::fakes::{Failure, pieces};
use crate::reply::{Piece, Reply};
use crate::wire::Received;

/// Whether the provider shows what its model thinks. OpenAI does not, others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aloud {
    /// In `reasoning_content`.
    Yes,
    /// The tokens are counted.
    No,
}

/// The model behind chat completions.
pub struct Completions {
    judge: Chat,
    aloud: Aloud,
}

/// The door of `judge`, which knows what it takes.
pub fn chat(judge: Chat, aloud: Aloud) -> Completions {
    Completions { judge, aloud }
}

impl Door for Completions {
    fn objection(&self, request: &Received) -> Option<Reply> {
        self.judge.objection(request)
    }

    fn asked(&self, request: &Received) -> Result<Asked, String> {
        let body = request.json();
        let mut asked = Asked { stream: body["stream"] == json!(true), ..Asked::default() };
        asked.thinks = body["reasoning_effort"].is_string();
        asked.aloud = self.aloud == Aloud::Yes;
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
                let arguments = of(&call["function"]["arguments"]);
                if call["type"] != "function"
                    || !serde_json::from_str::<Value>(&arguments).is_ok_and(|v| v.is_object())
                {
                    return Err(at(format!("arguments are no object: {arguments:?}")));
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
                        _ => return Err(at(format!("no such part: {part}"))),
                    }
                }
            }
        }
        asked.results = calls.results()?;
        for tool in body["tools"].as_array().into_iter().flatten() {
            let function = &tool["function"];
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            asked.tools.push(Tool { name, parameters: function["parameters"].clone() });
        }
        if body["response_format"]["type"] == "json_schema" {
            let format = &body["response_format"]["json_schema"];
            if !format["name"].is_string() {
                return Err("Missing required parameter: 'response_format.json_schema.name'.".into());
            }
            asked.schema = Some(format["schema"].clone());
        }
        Ok(asked)
    }

    fn invalid(&self, message: &str) -> Reply {
        self.judge.invalid(message)
    }

    fn failure(&self, failure: Failure) -> Reply {
        self.judge.failure(failure)
    }

    fn whole(&self, request: &Received, said: &Said) -> Reply {
        let mut message =
            json!({ "role": "assistant", "content": said.text, "refusal": null, "annotations": [] });
        if let Some(thoughts) = said.thoughts {
            message["reasoning_content"] = json!(thoughts);
        }
        if !said.calls.is_empty() {
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
        let choice =
            json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": finish(said) });
        let mut whole = head(request, "chat.completion", &json!([choice]));
        whole["usage"] = usage(said);
        Reply::json(200, &whole).with_header("x-request-id", "req_fake")
    }

    fn stream(&self, request: &Received, said: &Said) -> Script {
        let mut script = Script::default();
        let chunk = |choices: &Value| head(request, "chat.completion.chunk", choices);
        let delta =
            |delta: Value| event(&chunk(&json!([{ "index": 0, "delta": delta, "finish_reason": null }])));
        script.push(delta(json!({ "role": "assistant", "content": "", "refusal": null })));
        if let Some(thoughts) = said.thoughts {
            pieces(thoughts).for_each(|piece| script.push(delta(json!({ "reasoning_content": piece }))));
        }
        pieces(&said.text).for_each(|piece| script.text(delta(json!({ "content": piece }))));
        for (i, call) in said.calls.iter().enumerate() {
            let function = json!({ "name": call.name, "arguments": "" });
            script.push(delta(
                json!({ "tool_calls": [{ "index": i, "id": id(i), "type": "function", "function": function }] }),
            ));
            for part in halves(&call.arguments.to_string()) {
                script.push(delta(
                    json!({ "tool_calls": [{ "index": i, "function": { "arguments": part } }] }),
                ));
            }
        }
        script.push(event(&chunk(&json!([{ "index": 0, "delta": {}, "finish_reason": finish(said) }]))));
        if request.json()["stream_options"]["include_usage"] == json!(true) {
            let mut last = chunk(&json!([]));
            last["usage"] = usage(said);
            script.push(event(&last));
        }
        script.push(Piece::text("data: [DONE]\n\n"));
        script
    }

    fn broken(&self) -> Piece {
        event(
            &json!({ "error": { "message": "The server had an error", "type": "server_error", "param": null, "code": null } }),
        )
    }
}

fn id(i: usize) -> String {
    format!("call_fake{i}")
}

fn finish(said: &Said) -> &'static str {
    if said.calls.is_empty() { "stop" } else { "tool_calls" }
}

fn head(request: &Received, object: &str, choices: &Value) -> Value {
    json!({
        "id": "chatcmpl-fake", "object": object, "created": 1_700_000_000, "model": request.json()["model"],
        "choices": choices, "service_tier": "default", "system_fingerprint": "fp_fake",
    })
}

fn usage(said: &Said) -> Value {
    json!({
        "prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
        "prompt_tokens_details": { "cached_tokens": CACHED, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": said.reasoning(), "audio_tokens": 0 },
    })
}

fn event(data: &Value) -> Piece {
    Piece::text(format!("data: {data}\n\n"))
}
