//! Cohere's chat, written as the provider writes it.

use serde_json::{Value, json};

use super::chat::{Answer, Ask, Finish, Ids};
use super::reply::{Event, Reply};
use super::tokens;

pub(super) mod failure;
pub(super) mod request;

/// What Cohere puts before every conversation: the model sees it, and nobody pays for it.
const PREAMBLE: u64 = 490;

/// The list of models.
pub(super) fn models(models: &[String]) -> Value {
    let entry = |id: &String| {
        json!({
            "name": id, "endpoints": ["chat"], "finetuned": false, "context_length": 128_000,
            "tokenizer_url": null, "default_endpoints": [], "features": ["tools", "json_mode"],
        })
    };
    json!({ "models": models.iter().map(entry).collect::<Vec<_>>() })
}

/// The answer whole or as a stream of events.
pub(super) fn write(ask: &Ask, answer: &Answer, ids: &Ids) -> Reply {
    let writer = Writer { ask, answer, ids };
    if ask.stream {
        Reply::events(writer.events())
    } else {
        Reply::json(http::StatusCode::OK, &writer.whole())
    }
}

struct Writer<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    ids: &'a Ids,
}

impl Writer<'_> {
    fn whole(&self) -> Value {
        let mut message = json!({ "role": "assistant" });
        if !self.answer.text.is_empty() {
            message["content"] = json!([{ "type": "text", "text": self.answer.text }]);
        }
        if !self.answer.calls.is_empty() {
            let calls = self.answer.calls.iter().enumerate().map(|(at, call)| {
                let function = json!({ "name": call.name, "arguments": call.arguments });
                json!({ "id": self.call_id(at), "type": "function", "function": function })
            });
            message["tool_calls"] = calls.collect();
        }
        json!({
            "id": self.id(), "finish_reason": self.finish_reason(), "message": message, "usage": self.usage(),
        })
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut push = |name: &str, index: Option<usize>, message: Option<Value>, content: bool| {
            let mut data = json!({ "type": name });
            if let Some(index) = index {
                data["index"] = index.into();
            }
            if let Some(message) = message {
                data["delta"] = json!({ "message": message });
            }
            if name == "message-start" {
                data["id"] = self.id().into();
            }
            events.push(Event::sse(Some(name), &data.to_string(), content));
        };
        let started =
            json!({ "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": [] });
        push("message-start", None, Some(started), false);
        if !self.answer.text.is_empty() {
            let opened = json!({ "content": { "type": "text", "text": "" } });
            push("content-start", Some(0), Some(opened), false);
            for piece in tokens::chunks(&self.answer.text) {
                push("content-delta", Some(0), Some(json!({ "content": { "text": piece } })), true);
            }
            push("content-end", Some(0), None, false);
        }
        for (at, call) in self.answer.calls.iter().enumerate() {
            let function = json!({ "name": call.name, "arguments": "" });
            let opened = json!({ "id": self.call_id(at), "type": "function", "function": function });
            push("tool-call-start", Some(at), Some(json!({ "tool_calls": opened })), true);
            for piece in tokens::chunks(&call.arguments) {
                let delta = json!({ "tool_calls": { "function": { "arguments": piece } } });
                push("tool-call-delta", Some(at), Some(delta), true);
            }
            push("tool-call-end", Some(at), None, false);
        }
        let end = json!({
            "type": "message-end",
            "delta": { "finish_reason": self.finish_reason(), "usage": self.usage() },
        });
        events.push(Event::sse(Some("message-end"), &end.to_string(), false));
        events
    }

    fn finish_reason(&self) -> &'static str {
        match self.answer.finish {
            Finish::End => "COMPLETE",
            Finish::Stop(_) => "STOP_SEQUENCE",
            Finish::Length => "MAX_TOKENS",
            Finish::Tools => "TOOL_CALL",
            Finish::Filter => "ERROR_TOXIC",
        }
    }

    fn usage(&self) -> Value {
        let (input, output) = (self.ask.input_tokens, self.answer.output_tokens);
        json!({
            "billed_units": { "input_tokens": input, "output_tokens": output },
            "tokens": { "input_tokens": input + PREAMBLE, "output_tokens": output },
        })
    }

    /// In the form of a UUID.
    fn id(&self) -> String {
        uuid(self.ids, "message")
    }

    fn call_id(&self, index: usize) -> String {
        format!("{}_{}", self.answer.calls[index].name, self.ids.id(&format!("call {index}"), 12))
    }
}

/// A made-up id in the form of a UUID.
pub(super) fn uuid(ids: &Ids, tag: &str) -> String {
    let digits: String = ids
        .id(tag, 32)
        .bytes()
        // Base 32 has letters that are no hexadecimal digits.
        .map(|byte| char::from(b"0123456789abcdef"[usize::from(byte % 16)]))
        .collect();
    format!(
        "{}-{}-4{}-8{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..15],
        &digits[15..18],
        &digits[18..30]
    )
}
