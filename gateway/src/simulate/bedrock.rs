//! Bedrock's Converse, written as the provider writes it; and, below `vectors`, what it answers to a model's own body.

use serde_json::{Value, json};

use super::chat::{Answer, Ask, Finish, Ids};
use super::reply::{Event, Reply};
use super::tokens;
use crate::frames::{Framing, event_stream};

pub(super) mod request;
pub(super) mod vectors;

/// The list of models, as the other host of the provider has it.
pub(super) fn models(models: &[String]) -> Value {
    let entry = |id: &String| {
        json!({
            "modelId": id, "modelName": id, "providerName": id.split('.').next(),
            "responseStreamingSupported": true, "inputModalities": ["TEXT"], "outputModalities": ["TEXT"],
        })
    };
    json!({ "modelSummaries": models.iter().map(entry).collect::<Vec<_>>() })
}

/// The answer whole, or as a stream of binary messages.
pub(super) fn write(ask: &Ask, answer: &Answer, ids: &Ids) -> Reply {
    let writer = Writer { ask, answer, ids };
    match ask.stream {
        true => Reply::framed(Framing::EventStream, writer.events()),
        false => Reply::json(http::StatusCode::OK, &writer.whole()),
    }
}

/// The exception that ends a stream.
pub(super) fn exception(kind: &str, message: &str) -> Event {
    let frame = event_stream::exception(kind, &json!({ "message": message }).to_string());
    Event { bytes: frame.raw, content: false }
}

struct Writer<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    ids: &'a Ids,
}

impl Writer<'_> {
    fn whole(&self) -> Value {
        let calls = self.answer.calls.iter().enumerate().map(|(index, call)| {
            // Arguments that the limit cut are no document; what is left of them cannot be shown here.
            let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            json!({ "toolUse": { "toolUseId": self.call_id(index), "name": call.name, "input": input } })
        });
        let text = Some(&self.answer.text).filter(|text| !text.is_empty());
        let content: Vec<Value> = text.map(|text| json!({ "text": text })).into_iter().chain(calls).collect();
        let mut whole = self.stop();
        whole["output"] = json!({ "message": { "role": "assistant", "content": content } });
        whole["usage"] = self.usage();
        whole["metrics"] = json!({ "latencyMs": 42 });
        whole
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut push = |name: &str, mut payload: Value, content: bool| {
            // Padding, so that lengths tell less.
            payload["p"] = "abcdefghijklm".into();
            let frame = event_stream::event(name, &payload.to_string());
            events.push(Event { bytes: frame.raw, content });
        };
        push("messageStart", json!({ "role": "assistant" }), false);
        let mut index = 0;
        if !self.answer.text.is_empty() {
            for piece in tokens::chunks(&self.answer.text) {
                let delta = json!({ "text": piece });
                push("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": delta }), true);
            }
            push("contentBlockStop", json!({ "contentBlockIndex": 0 }), false);
            index += 1;
        }
        for (at, call) in self.answer.calls.iter().enumerate() {
            let start = json!({ "toolUse": { "toolUseId": self.call_id(at), "name": call.name } });
            push("contentBlockStart", json!({ "contentBlockIndex": index, "start": start }), true);
            for piece in tokens::chunks(&call.arguments) {
                let delta = json!({ "toolUse": { "input": piece } });
                push("contentBlockDelta", json!({ "contentBlockIndex": index, "delta": delta }), true);
            }
            push("contentBlockStop", json!({ "contentBlockIndex": index }), false);
            index += 1;
        }
        push("messageStop", self.stop(), false);
        push("metadata", json!({ "usage": self.usage(), "metrics": { "latencyMs": 42 } }), false);
        events
    }

    fn stop(&self) -> Value {
        let (reason, sequence) = match &self.answer.finish {
            Finish::End => ("end_turn", None),
            Finish::Stop(sequence) => ("stop_sequence", Some(sequence)),
            Finish::Length => ("max_tokens", None),
            Finish::Tools => ("tool_use", None),
            Finish::Filter => ("guardrail_intervened", None),
        };
        let mut stop = json!({ "stopReason": reason });
        if let Some(sequence) = sequence {
            stop["additionalModelResponseFields"] = json!({ "stop_sequence": sequence });
        }
        stop
    }

    fn usage(&self) -> Value {
        let (input, output) = (self.ask.input_tokens, self.answer.output_tokens);
        json!({
            "inputTokens": input, "outputTokens": output, "totalTokens": input + output,
            "cacheReadInputTokens": 0, "cacheWriteInputTokens": 0,
        })
    }

    fn call_id(&self, index: usize) -> String {
        format!("tooluse_{}", self.ids.id(&format!("call {index}"), 22))
    }
}
