//! Anthropic's messages.

use serde_json::{Value, json};

use super::asked::{Calls, parts, text};
use super::{Asked, CACHED, Door, INPUT, OUTPUT, SIGNATURE, Said, Script, THOUGHTS, Tool, halves, named};
use crate::fakes::anthropic::Messages;
use crate::fakes::{Failure, pieces};
use crate::reply::{Piece, Reply};
use crate::wire::Received;

/// The door of `judge`, which knows what it takes.
pub fn messages(judge: Messages) -> impl Door {
    judge
}

impl Door for Messages {
    fn objection(&self, request: &Received) -> Option<Reply> {
        Messages::objection(self, request)
    }

    fn asked(&self, request: &Received) -> Result<Asked, String> {
        let body = request.json();
        let mut asked = Asked { stream: body["stream"] == json!(true), ..Asked::default() };
        asked.thinks = thinks(&body)?;
        asked.aloud = asked.thinks;
        let mut calls = Calls::default();
        let mut before = "assistant";
        for (i, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
            let at = |what: String| format!("messages.{i}: {what}");
            let role = message["role"].as_str().unwrap_or_default();
            if role == before {
                return Err(at("roles must alternate between \"user\" and \"assistant\"".into()));
            }
            before = if role == "user" { "user" } else { "assistant" };
            let blocks = parts(&message["content"]);
            if blocks.is_empty() {
                return Err(at("content must not be empty".into()));
            }
            if role == "user" {
                user(&blocks, &mut asked, &mut calls).map_err(at)?;
            } else {
                assistant(&blocks, asked.thinks, &mut calls).map_err(at)?;
            }
        }
        asked.results = calls.results()?;
        for tool in body["tools"].as_array().into_iter().flatten() {
            let name = tool["name"].as_str().unwrap_or_default().to_owned();
            asked.tools.push(Tool { name, parameters: tool["input_schema"].clone() });
        }
        if body["output_config"]["format"]["type"] == "json_schema" {
            let schema = &body["output_config"]["format"]["schema"];
            if !is_closed(schema) {
                return Err("output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set \
                            to false"
                    .into());
            }
            asked.schema = Some(schema.clone());
        }
        Ok(asked)
    }

    fn invalid(&self, message: &str) -> Reply {
        super::super::anthropic::error(400, "invalid_request_error", message)
    }

    fn failure(&self, failure: Failure) -> Reply {
        Messages::failure(self, failure)
    }

    fn whole(&self, request: &Received, said: &Said) -> Reply {
        let mut content = Vec::new();
        if let Some(thoughts) = said.thoughts {
            content.push(json!({ "type": "thinking", "thinking": thoughts, "signature": SIGNATURE }));
        }
        content.push(json!({ "type": "text", "text": said.text }));
        for (i, call) in said.calls.iter().enumerate() {
            content
                .push(json!({ "type": "tool_use", "id": id(i), "name": call.name, "input": call.arguments }));
        }
        let mut message = message(request, &content, &json!(stop(said)));
        message["usage"]["output_tokens"] = json!(OUTPUT);
        Reply::json(200, &message).with_header("request-id", "req_fake")
    }

    fn stream(&self, request: &Received, said: &Said) -> Script {
        let mut script = Script::default();
        let mut blocks = 0;
        let start = json!({ "type": "message_start", "message": message(request, &[], &Value::Null) });
        script.push(named("message_start", &start));
        if let Some(thoughts) = said.thoughts {
            script.push(begin(blocks, &json!({ "type": "thinking", "thinking": "", "signature": "" })));
            for piece in pieces(thoughts) {
                script.push(delta(blocks, &json!({ "type": "thinking_delta", "thinking": piece })));
            }
            script.push(delta(blocks, &json!({ "type": "signature_delta", "signature": SIGNATURE })));
            script.push(end(blocks));
            blocks += 1;
        }
        script.push(begin(blocks, &json!({ "type": "text", "text": "" })));
        script.push(named("ping", &json!({ "type": "ping" })));
        for piece in pieces(&said.text) {
            script.text(delta(blocks, &json!({ "type": "text_delta", "text": piece })));
        }
        script.push(end(blocks));
        for (i, call) in said.calls.iter().enumerate() {
            blocks += 1;
            script.push(begin(
                blocks,
                &json!({ "type": "tool_use", "id": id(i), "name": call.name, "input": {} }),
            ));
            let arguments = call.arguments.to_string();
            // A call of nothing is said with nothing.
            let parts = if arguments == "{}" { ["", ""] } else { halves(&arguments) };
            for part in ["", parts[0], parts[1]] {
                script.push(delta(blocks, &json!({ "type": "input_json_delta", "partial_json": part })));
            }
            script.push(end(blocks));
        }
        let stop = json!({ "stop_reason": stop(said), "stop_sequence": null });
        let last = json!({ "type": "message_delta", "delta": stop, "usage": { "output_tokens": OUTPUT } });
        script.push(named("message_delta", &last));
        script.push(named("message_stop", &json!({ "type": "message_stop" })));
        script
    }

    fn broken(&self) -> Piece {
        let error = json!({ "type": "overloaded_error", "message": "Overloaded" });
        named("error", &json!({ "type": "error", "error": error }))
    }
}

/// Whether thoughts are asked for, in a way that Anthropic takes.
fn thinks(body: &Value) -> Result<bool, String> {
    if body["thinking"]["type"] != "enabled" {
        return Ok(false);
    }
    let budget = body["thinking"]["budget_tokens"].as_u64().unwrap_or_default();
    if budget < 1024 {
        return Err("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024".into());
    }
    if body["max_tokens"].as_u64().is_none_or(|most| most <= budget) {
        return Err("`max_tokens` must be greater than `thinking.budget_tokens`".into());
    }
    if matches!(body["tool_choice"]["type"].as_str(), Some("any" | "tool")) {
        return Err("Thinking may not be enabled when tool_choice forces tool use.".into());
    }
    Ok(true)
}

fn user(blocks: &[Value], asked: &mut Asked, calls: &mut Calls) -> Result<(), String> {
    let mut said = false;
    for block in blocks {
        let kind = block["type"].as_str().unwrap_or_default();
        if kind == "tool_result" {
            let id = block["tool_use_id"].as_str().unwrap_or_default();
            if said {
                return Err("tool results come before anything else".into());
            }
            calls.result(id, &text(&block["content"]))?;
            continue;
        }
        if !std::mem::replace(&mut said, true) {
            calls.over()?;
            asked.turn();
        }
        match kind {
            "text" => asked.hear(block["text"].as_str().unwrap_or_default()),
            "image" => {
                let source = &block["source"];
                let of = |name: &str| source[name].as_str().unwrap_or_default();
                if of("type") != "base64" {
                    return Err(format!("image: would have to be fetched: {source}"));
                }
                asked.see(of("media_type"), of("data"))?;
            }
            other => return Err(format!("content: no such block for a user: {other:?}")),
        }
    }
    Ok(())
}

fn assistant(blocks: &[Value], thinks: bool, calls: &mut Calls) -> Result<(), String> {
    calls.over()?;
    let is = |block: &Value, kind: &str| block["type"] == kind;
    let begins_with_thoughts = blocks.first().is_some_and(|block| is(block, "thinking"));
    if thinks && !begins_with_thoughts && blocks.iter().any(|block| is(block, "tool_use")) {
        return Err("Expected `thinking` or `redacted_thinking`, but found `text`. When `thinking` is enabled, a final \
                    `assistant` message must start with a thinking block."
            .into());
    }
    for block in blocks {
        match block["type"].as_str().unwrap_or_default() {
            "thinking" if block["thinking"] != THOUGHTS || block["signature"] != SIGNATURE => {
                return Err("Invalid `signature` in `thinking` block".into());
            }
            "thinking" => {}
            "text" if block["text"].as_str().is_some_and(|text| !text.is_empty()) => {}
            "tool_use" if block["input"].is_object() => {
                let of = |name: &str| block[name].as_str().unwrap_or_default();
                calls.call(of("id"), of("name"))?;
            }
            _ => return Err(format!("content: no such block for an assistant: {block}")),
        }
    }
    Ok(())
}

/// Whether a schema has no object in it that may hold more than it describes.
fn is_closed(schema: &Value) -> bool {
    (schema["type"] != "object" || schema["additionalProperties"] == json!(false))
        && match schema {
            Value::Object(fields) => fields.values().all(is_closed),
            Value::Array(all) => all.iter().all(is_closed),
            _ => true,
        }
}

fn id(i: usize) -> String {
    format!("toolu_fake{i}")
}

fn stop(said: &Said) -> &'static str {
    if said.calls.is_empty() { "end_turn" } else { "tool_use" }
}

fn message(request: &Received, content: &[Value], stop: &Value) -> Value {
    let usage = json!({
        "input_tokens": INPUT - CACHED, "cache_creation_input_tokens": 0, "cache_read_input_tokens": CACHED,
        "output_tokens": 1, "service_tier": "standard",
    });
    json!({
        "id": "msg_fake", "type": "message", "role": "assistant", "model": request.json()["model"],
        "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage,
    })
}

fn begin(index: usize, block: &Value) -> Piece {
    named(
        "content_block_start",
        &json!({ "type": "content_block_start", "index": index, "content_block": block }),
    )
}

fn delta(index: usize, delta: &Value) -> Piece {
    named("content_block_delta", &json!({ "type": "content_block_delta", "index": index, "delta": delta }))
}

fn end(index: usize) -> Piece {
    named("content_block_stop", &json!({ "type": "content_block_stop", "index": index }))
}
