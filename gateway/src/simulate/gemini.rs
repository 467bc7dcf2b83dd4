//! Gemini's generated content, written as the provider writes it.

use serde_json::{Value, json};

use super::chat::{Answer, Ask, Finish, Ids};
use super::reply::{Event, Reply};
use super::tokens;

pub(super) mod request;
mod schema;

/// The list of models.
pub(super) fn models(models: &[String]) -> Value {
    let entry = |id: &String| {
        json!({
            "name": format!("models/{id}"), "displayName": id, "version": "001",
            "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        })
    };
    json!({ "models": models.iter().map(entry).collect::<Vec<_>>() })
}

/// Whether a model signs the calls that it makes, and wants the signatures back: from the third generation on.
fn signs(model: &str) -> bool {
    model.starts_with("gemini-3")
}

/// The answer whole, or in parts: as events where the address asked for them (`alt=sse`, which is `include_usage` here),
/// and as one array otherwise.
pub(super) fn write(ask: &Ask, answer: &Answer, ids: &Ids) -> Reply {
    written(ask, answer, ids, &|content| content)
}

/// The same as Code Assist has it: each answer, and each part of one, inside of another object.
pub(super) fn write_enveloped(ask: &Ask, answer: &Answer, ids: &Ids) -> Reply {
    let trace = ids.id("trace", 16);
    written(ask, answer, ids, &|content| json!({ "response": content, "traceId": trace }))
}

fn written(ask: &Ask, answer: &Answer, ids: &Ids, outside: &dyn Fn(Value) -> Value) -> Reply {
    let writer = Writer { ask, answer, ids };
    if !ask.stream {
        return Reply::json(http::StatusCode::OK, &outside(writer.whole()));
    }
    let chunks = writer.chunks().into_iter().map(|(chunk, content)| (outside(chunk), content));
    let chunks: Vec<(Value, bool)> = chunks.collect();
    if ask.include_usage {
        return Reply::events(
            chunks.iter().map(|(chunk, content)| Event::sse(None, &chunk.to_string(), *content)).collect(),
        );
    }
    Reply::json(http::StatusCode::OK, &chunks.into_iter().map(|(chunk, _)| chunk).collect())
}

struct Writer<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    ids: &'a Ids,
}

impl Writer<'_> {
    fn whole(&self) -> Value {
        let mut candidate = self.end();
        let parts: Vec<Value> = match self.answer.text.as_str() {
            "" => self.calls().collect(),
            text => std::iter::once(json!({ "text": text })).chain(self.calls()).collect(),
        };
        if !parts.is_empty() {
            candidate["content"] = json!({ "parts": parts, "role": "model" });
        }
        self.envelope(&candidate, self.answer.output_tokens)
    }

    /// Each chunk, and whether it holds a piece of the answer. The reason comes in a chunk of its own, as it often does.
    fn chunks(&self) -> Vec<(Value, bool)> {
        let texts = tokens::chunks(&self.answer.text).into_iter().map(|piece| json!({ "text": piece }));
        let parts = texts.chain(self.calls());
        let mut chunks: Vec<(Value, bool)> = parts
            .map(|part| {
                let content = json!({ "parts": [part], "role": "model" });
                (self.envelope(&json!({ "content": content, "index": 0 }), 0), true)
            })
            .collect();
        chunks.push((self.envelope(&self.end(), self.answer.output_tokens), false));
        chunks
    }

    fn calls(&self) -> impl Iterator<Item = Value> + '_ {
        self.answer.calls.iter().enumerate().map(|(index, call)| {
            // Arguments that the limit cut are no document; what is left of them cannot be shown here.
            let args: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            let mut part = json!({ "functionCall": { "name": call.name, "args": args } });
            if signs(&self.ask.model) {
                part["functionCall"]["id"] = self.ids.id(&format!("call {index}"), 8).into();
                if index == 0 {
                    part["thoughtSignature"] = self.ids.id("signature", 40).into();
                }
            }
            part
        })
    }

    fn end(&self) -> Value {
        let reason = match self.answer.finish {
            Finish::End | Finish::Stop(_) | Finish::Tools => "STOP",
            Finish::Length => "MAX_TOKENS",
            Finish::Filter => "SAFETY",
        };
        json!({ "finishReason": reason, "index": 0 })
    }

    fn envelope(&self, candidate: &Value, output: u64) -> Value {
        let input = self.ask.input_tokens;
        let mut usage = json!({
            "promptTokenCount": input,
            "totalTokenCount": input + output,
            "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": input }],
        });
        if output > 0 {
            usage["candidatesTokenCount"] = output.into();
        }
        json!({
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": self.ask.model,
            "responseId": self.ids.id("response", 22),
        })
    }
}
