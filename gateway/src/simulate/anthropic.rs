//! Anthropic messages, written as the provider writes them.

use serde_json::{Value, json};

use super::chat::{Answer, Ask, Finish, Ids};
use super::reply::{Event, Reply};
use super::tokens;

pub(super) mod request;
mod schema;

/// The list of models.
pub(super) fn models(models: &[String]) -> Value {
    let data: Vec<Value> = models
        .iter()
        .map(
            |id| json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-01-01T00:00:00Z"}),
        )
        .collect();
    json!({"data": data, "has_more": false, "first_id": models.first(), "last_id": models.last()})
}

/// The answer as a message or as a stream of events.
pub(super) fn write(ask: &Ask, answer: &Answer, ids: &Ids) -> Reply {
    let writer = Writer { ask, answer, ids };
    if ask.stream {
        Reply::events(writer.events())
    } else {
        Reply::json(http::StatusCode::OK, &writer.message())
    }
}

struct Writer<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    ids: &'a Ids,
}

impl Writer<'_> {
    fn message(&self) -> Value {
        let (reason, sequence) = self.stop();
        let mut message = self.envelope(self.answer.output_tokens);
        message["content"] = self.content();
        message["stop_reason"] = reason.into();
        message["stop_sequence"] = sequence.into();
        message
    }

    fn content(&self) -> Value {
        let calls = self.answer.calls.iter().enumerate().map(|(index, call)| {
            // Arguments that the limit cut are no document; what is left of them cannot be shown here.
            let input = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": self.call_id(index), "name": call.name, "input": input})
        });
        let text = Some(&self.answer.text).filter(|text| !text.is_empty());
        text.map(|text| json!({"type": "text", "text": text})).into_iter().chain(calls).collect()
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut push = |name: &str, mut data: Value, content: bool| {
            data["type"] = name.into();
            events.push(Event::sse(Some(name), &data.to_string(), content));
        };
        let mut started = self.envelope(1);
        started["content"] = json!([]);
        started["stop_reason"] = Value::Null;
        started["stop_sequence"] = Value::Null;
        push("message_start", json!({ "message": started }), false);
        let mut index = 0;
        if !self.answer.text.is_empty() {
            push(
                "content_block_start",
                json!({"index": 0, "content_block": {"type": "text", "text": ""}}),
                false,
            );
            push("ping", json!({}), false);
            for piece in tokens::chunks(&self.answer.text) {
                let delta = json!({"type": "text_delta", "text": piece});
                push("content_block_delta", json!({"index": 0, "delta": delta}), true);
            }
            push("content_block_stop", json!({"index": 0}), false);
            index += 1;
        }
        for (at, call) in self.answer.calls.iter().enumerate() {
            let block = json!({"type": "tool_use", "id": self.call_id(at), "name": call.name, "input": {}});
            push("content_block_start", json!({"index": index, "content_block": block}), true);
            if at == 0 {
                push("ping", json!({}), false);
            }
            for piece in std::iter::once("").chain(tokens::chunks(&call.arguments)) {
                let delta = json!({"type": "input_json_delta", "partial_json": piece});
                push("content_block_delta", json!({"index": index, "delta": delta}), true);
            }
            push("content_block_stop", json!({"index": index}), false);
            index += 1;
        }
        let (reason, sequence) = self.stop();
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        push(
            "message_delta",
            json!({"delta": delta, "usage": {"output_tokens": self.answer.output_tokens}}),
            false,
        );
        push("message_stop", json!({}), false);
        events
    }

    fn envelope(&self, output_tokens: u64) -> Value {
        json!({
            "id": format!("msg_01{}", self.ids.id("message", 22)),
            "type": "message",
            "role": "assistant",
            "model": self.ask.model,
            "usage": {
                "input_tokens": self.ask.input_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": output_tokens,
                "service_tier": "standard"
            }
        })
    }

    fn stop(&self) -> (&'static str, Option<&str>) {
        match &self.answer.finish {
            Finish::End => ("end_turn", None),
            Finish::Stop(sequence) => ("stop_sequence", Some(sequence)),
            Finish::Length => ("max_tokens", None),
            Finish::Tools => ("tool_use", None),
            Finish::Filter => ("refusal", None),
        }
    }

    fn call_id(&self, index: usize) -> String {
        format!("toolu_01{}", self.ids.id(&format!("call {index}"), 22))
    }
}
