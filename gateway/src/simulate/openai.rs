//! OpenAI chat completions, written as the provider writes them.

use serde_json::{Map, Value, json};

use super::chat::{Answer, Ask, Finish, Ids};
use super::reply::{Event, Reply};
use super::served::House;
use super::tokens;

pub(super) mod request;

/// Always the same: a clock would make equal requests get different bytes.
pub(super) const CREATED: u64 = 1_735_689_600;

/// The list of models.
pub(super) fn models(provider: &str, models: &[String]) -> Value {
    let data: Vec<Value> = models
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": CREATED, "owned_by": provider}))
        .collect();
    json!({"object": "list", "data": data})
}

/// The answer as a completion or as a stream of chunks.
pub(super) fn write(house: House, ask: &Ask, answer: &Answer, ids: &Ids) -> Reply {
    let writer = Writer { house, ask, answer, ids };
    if ask.stream {
        Reply::events(writer.chunks())
    } else {
        Reply::json(http::StatusCode::OK, &writer.completion())
    }
}

struct Writer<'a> {
    house: House,
    ask: &'a Ask,
    answer: &'a Answer,
    ids: &'a Ids,
}

impl Writer<'_> {
    fn completion(&self) -> Value {
        let choices: Vec<Value> = (0..self.ask.alternatives)
            .map(|index| {
                let mut choice = json!({
                    "index": index,
                    "message": self.message(),
                    "finish_reason": self.finish_reason(),
                });
                if self.house == House::OpenAi {
                    choice["logprobs"] = Value::Null;
                }
                choice
            })
            .collect();
        let mut completion = self.envelope("chat.completion");
        completion.insert("choices".to_owned(), Value::Array(choices));
        completion.insert("usage".to_owned(), self.usage());
        Value::Object(completion)
    }

    fn message(&self) -> Value {
        let called = !self.answer.calls.is_empty();
        let content = if called { Value::Null } else { Value::String(self.answer.text.clone()) };
        let mut message = json!({"role": "assistant", "content": content});
        if self.house == House::OpenAi {
            message["refusal"] = Value::Null;
            message["annotations"] = json!([]);
        }
        if called {
            let calls = self.answer.calls.iter().enumerate().map(|(index, call)| {
                json!({
                    "id": self.call_id(index),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments}
                })
            });
            message["tool_calls"] = calls.collect();
        }
        message
    }

    fn chunks(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for index in 0..self.ask.alternatives {
            self.choice_chunks(index, &mut events);
        }
        if self.ask.include_usage {
            let mut last = self.envelope("chat.completion.chunk");
            last.insert("choices".to_owned(), json!([]));
            last.insert("usage".to_owned(), self.usage());
            events.push(Event::sse(None, &Value::Object(last).to_string(), false));
        }
        events.push(Event::sse(None, "[DONE]", false));
        events
    }

    fn choice_chunks(&self, index: u32, events: &mut Vec<Event>) {
        let mut push = |delta: Value, finish: Option<&str>, content: bool| {
            let mut choice = json!({"index": index, "delta": delta, "finish_reason": finish});
            if self.house == House::OpenAi {
                choice["logprobs"] = Value::Null;
            }
            let mut chunk = self.envelope("chat.completion.chunk");
            chunk.insert("choices".to_owned(), json!([choice]));
            if self.ask.include_usage {
                chunk.insert("usage".to_owned(), Value::Null);
            }
            events.push(Event::sse(None, &Value::Object(chunk).to_string(), content));
        };
        if self.answer.calls.is_empty() {
            push(json!({"role": "assistant", "content": "", "refusal": null}), None, false);
            for piece in tokens::chunks(&self.answer.text) {
                push(json!({ "content": piece }), None, true);
            }
        } else {
            push(json!({"role": "assistant", "content": null}), None, false);
            for (at, call) in self.answer.calls.iter().enumerate() {
                let opened = json!({
                    "index": at,
                    "id": self.call_id(at),
                    "type": "function",
                    "function": {"name": call.name, "arguments": ""}
                });
                push(json!({"tool_calls": [opened]}), None, true);
                for piece in tokens::chunks(&call.arguments) {
                    let fragment = json!({"index": at, "function": {"arguments": piece}});
                    push(json!({"tool_calls": [fragment]}), None, true);
                }
            }
        }
        push(json!({}), Some(self.finish_reason()), false);
    }

    fn envelope(&self, object: &str) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".to_owned(), format!("chatcmpl-{}", self.ids.id("completion", 29)).into());
        map.insert("object".to_owned(), object.into());
        map.insert("created".to_owned(), CREATED.into());
        map.insert("model".to_owned(), self.ask.model.clone().into());
        if self.house == House::OpenAi {
            map.insert("service_tier".to_owned(), "default".into());
            map.insert("system_fingerprint".to_owned(), "fp_simulated".into());
        }
        map
    }

    fn usage(&self) -> Value {
        let (input, output) =
            (self.ask.input_tokens, self.answer.output_tokens * u64::from(self.ask.alternatives));
        let mut usage =
            json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
        if self.house == House::OpenAi {
            usage["prompt_tokens_details"] = json!({"cached_tokens": 0, "audio_tokens": 0});
            usage["completion_tokens_details"] = json!({
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0
            });
        }
        usage
    }

    fn finish_reason(&self) -> &'static str {
        match self.answer.finish {
            Finish::End | Finish::Stop(_) => "stop",
            Finish::Length => "length",
            Finish::Tools => "tool_calls",
            Finish::Filter => "content_filter",
        }
    }

    fn call_id(&self, index: usize) -> String {
        format!("call_{}", self.ids.id(&format!("call {index}"), 24))
    }
}
