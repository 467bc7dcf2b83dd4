//! Bedrock's Converse.

use serde_json::{Value, json};

use super::asked::{Calls, text};
use super::{Asked, CACHED, Door, INPUT, OUTPUT, SIGNATURE, Said, Script, THOUGHTS, Tool, halves};
use crate::fakes::bedrock::{Converse, event, exception};
use crate::fakes::{Failure, pieces};
use crate::reply::{Piece, Reply};
use crate::wire::Received;

/// The door of `judge`, which knows what it takes.
pub fn converse(judge: Converse) -> impl Door {
    judge
}

impl Door for Converse {
    fn objection(&self, request: &Received) -> Option<Reply> {
        Converse::objection(self, request)
    }

    fn asked(&self, request: &Received) -> Result<Asked, String> {
        let body = request.json();
        let mut asked = Asked { stream: request.path.ends_with("/converse-stream"), ..Asked::default() };
        let thinking = &body["additionalModelRequestFields"]["thinking"];
        asked.thinks = thinking["type"] == "enabled";
        asked.aloud = asked.thinks;
        if let (Some(most), true) = (body["inferenceConfig"]["maxTokens"].as_u64(), asked.thinks)
            && most <= thinking["budget_tokens"].as_u64().unwrap_or(u64::MAX)
        {
            return Err("`max_tokens` must be greater than `thinking.budget_tokens`".into());
        }
        let mut calls = Calls::default();
        let mut before = &json!("assistant");
        let mut called = false;
        for (i, message) in body["messages"].as_array().into_iter().flatten().enumerate() {
            let at = |what: String| format!("messages.{i}: {what}");
            if message["role"] == *before {
                return Err(at("A conversation must alternate between user and assistant roles.".into()));
            }
            before = &message["role"];
            let blocks = message["content"].as_array().map_or(&[][..], Vec::as_slice);
            if blocks.is_empty() {
                return Err(at("content is empty".into()));
            }
            called |= blocks.iter().any(|block| block["toolUse"].is_object());
            match message["role"].as_str() {
                Some("user") => user(blocks, &mut asked, &mut calls).map_err(at)?,
                _ => assistant(blocks, asked.thinks, &mut calls).map_err(at)?,
            }
        }
        asked.results = calls.results()?;
        for tool in body["toolConfig"]["tools"].as_array().into_iter().flatten() {
            let spec = &tool["toolSpec"];
            let name = spec["name"].as_str().unwrap_or_default().to_owned();
            asked.tools.push(Tool { name, parameters: spec["inputSchema"]["json"].clone() });
        }
        if called && asked.tools.is_empty() {
            return Err(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks."
                    .into(),
            );
        }
        let format = &body["outputConfig"]["textFormat"];
        if format["type"] == "json_schema" {
            // A schema is a text here.
            let schema = format["structure"]["jsonSchema"]["schema"].as_str().unwrap_or_default();
            asked.schema = Some(serde_json::from_str(schema).map_err(|e| format!("outputConfig: {e}"))?);
        }
        Ok(asked)
    }

    fn invalid(&self, message: &str) -> Reply {
        super::super::bedrock::error(400, "ValidationException", message)
    }

    fn failure(&self, failure: Failure) -> Reply {
        Converse::failure(self, failure)
    }

    fn whole(&self, _: &Received, said: &Said) -> Reply {
        let mut content = Vec::new();
        content.extend(said.thoughts.map(|thoughts| {
            json!({ "reasoningContent": { "reasoningText": { "text": thoughts, "signature": SIGNATURE } } })
        }));
        content.push(json!({ "text": said.text }));
        content.extend(said.calls.iter().enumerate().map(|(i, call)| {
            json!({ "toolUse": { "toolUseId": id(i), "name": call.name, "input": call.arguments } })
        }));
        let message = json!({ "role": "assistant", "content": content });
        Reply::json(
            200,
            &json!({
                "output": { "message": message }, "stopReason": stop(said), "usage": usage(),
                "metrics": { "latencyMs": 1 },
            }),
        )
    }

    fn stream(&self, _: &Received, said: &Said) -> Script {
        let mut script = Script::default();
        let mut blocks = 0;
        let delta = |index: usize, delta: Value| {
            event("contentBlockDelta", &json!({ "contentBlockIndex": index, "delta": delta, "p": "abcdef" }))
        };
        let end = |index: usize| event("contentBlockStop", &json!({ "contentBlockIndex": index }));
        script.push(event("messageStart", &json!({ "role": "assistant" })));
        if let Some(thoughts) = said.thoughts {
            for piece in pieces(thoughts) {
                script.push(delta(blocks, json!({ "reasoningContent": { "text": piece } })));
            }
            script.push(delta(blocks, json!({ "reasoningContent": { "signature": SIGNATURE } })));
            script.push(end(blocks));
            blocks += 1;
        }
        pieces(&said.text).for_each(|piece| script.text(delta(blocks, json!({ "text": piece }))));
        script.push(end(blocks));
        for (i, call) in said.calls.iter().enumerate() {
            blocks += 1;
            let start = json!({ "toolUse": { "toolUseId": id(i), "name": call.name } });
            script.push(event("contentBlockStart", &json!({ "contentBlockIndex": blocks, "start": start })));
            for part in halves(&call.arguments.to_string()) {
                script.push(delta(blocks, json!({ "toolUse": { "input": part } })));
            }
            script.push(end(blocks));
        }
        script.push(event("messageStop", &json!({ "stopReason": stop(said) })));
        script.push(event("metadata", &json!({ "usage": usage(), "metrics": { "latencyMs": 1 } })));
        script
    }

    fn broken(&self) -> Piece {
        exception(
            "modelStreamErrorException",
            &json!({ "message": "The model failed.", "originalStatusCode": 500 }),
        )
    }

    fn media_type(&self) -> &'static str {
        "application/vnd.amazon.eventstream"
    }
}

fn user(blocks: &[Value], asked: &mut Asked, calls: &mut Calls) -> Result<(), String> {
    let mut said = false;
    for block in blocks {
        if let Some(result) = block.get("toolResult") {
            calls.result(result["toolUseId"].as_str().unwrap_or_default(), &text(&result["content"]))?;
            continue;
        }
        if !std::mem::replace(&mut said, true) {
            calls.over()?;
            asked.turn();
        }
        if let Some(text) = block["text"].as_str().filter(|text| !text.is_empty()) {
            asked.hear(text);
        } else if let Some(image) = block.get("image") {
            let format = format!("image/{}", image["format"].as_str().unwrap_or_default());
            asked.see(&format, image["source"]["bytes"].as_str().unwrap_or_default())?;
        } else {
            return Err(format!("no such block for a user: {block}"));
        }
    }
    Ok(())
}

fn assistant(blocks: &[Value], thinks: bool, calls: &mut Calls) -> Result<(), String> {
    calls.over()?;
    let thought = |block: &Value| block.pointer("/reasoningContent/reasoningText").cloned();
    let thoughtful = blocks.first().is_some_and(|block| thought(block).is_some());
    if thinks && !thoughtful && blocks.iter().any(|block| block["toolUse"].is_object()) {
        return Err("Expected `thinking` or `redacted_thinking`, but found `text`.".into());
    }
    for block in blocks {
        if let Some(thought) = thought(block) {
            if thought["text"] != THOUGHTS || thought["signature"] != SIGNATURE {
                return Err("Invalid `signature` in `thinking` block".into());
            }
        } else if let Some(call) = block.get("toolUse") {
            if !call["input"].is_object() {
                return Err("toolUse.input: is no object".into());
            }
            let of = |name: &str| call[name].as_str().unwrap_or_default();
            calls.call(of("toolUseId"), of("name"))?;
        } else if block["text"].as_str().is_none_or(str::is_empty) {
            return Err(format!("no such block for an assistant: {block}"));
        }
    }
    Ok(())
}

fn id(i: usize) -> String {
    format!("tooluse_fake{i}")
}

fn stop(said: &Said) -> &'static str {
    if said.calls.is_empty() { "end_turn" } else { "tool_use" }
}

fn usage() -> Value {
    json!({
        "inputTokens": INPUT - CACHED, "outputTokens": OUTPUT, "totalTokens": INPUT + OUTPUT,
        "cacheReadInputTokens": CACHED, "cacheWriteInputTokens": 0,
    })
}
