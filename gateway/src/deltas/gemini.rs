//! The texts of streams of partial answers. A tool call comes whole.

use serde_json::{Map, Value, json};

use super::texts::{Block, Part, Seen, Step, Texts, is_error, within};
use crate::fields::at_path;
use crate::frames::{Frame, sse};

pub(super) struct Gemini;

impl Texts for Gemini {
    fn see<'t>(&mut self, tree: &'t Value) -> Vec<Seen<'t>> {
        let mut seen = Vec::new();
        for (at, candidate) in candidates(tree) {
            let of = index_of(candidate);
            let parts = at_path(candidate, &["content", "parts"]).and_then(Value::as_array);
            for (part_at, part) in parts.into_iter().flatten().enumerate() {
                let Some(text) = part.get("text").and_then(Value::as_str) else {
                    seen.push(Seen::Call { of, own: None });
                    continue;
                };
                let thought = part.get("thought").and_then(Value::as_bool).unwrap_or(false);
                let part = if thought { Part::Thought } else { Part::Field("text") };
                let content =
                    [Step::Key("content"), Step::Key("parts"), Step::At(part_at), Step::Key("text")];
                seen.push(Seen::Text {
                    block: Block { of, part },
                    path: within(&[Step::Key("candidates"), Step::At(at)], &content),
                    text,
                    beside: Some(vec![Step::Key("candidates"), Step::At(at), Step::Key("logprobsResult")]),
                });
            }
        }
        seen
    }

    fn ends(&self, tree: &Value, of: u64) -> bool {
        let finished =
            |candidate: &Value| candidate.get("finishReason").is_some_and(|reason| !reason.is_null());
        is_error(tree)
            || candidates(tree).any(|(_, candidate)| index_of(candidate) == of && finished(candidate))
    }

    fn delta(&self, block: Block, text: &str, envelope: &Map<String, Value>) -> Frame {
        let part = match block.part {
            Part::Thought => json!({ "text": text, "thought": true }),
            _ => json!({ "text": text }),
        };
        let mut chunk = envelope.clone();
        let content = json!({ "parts": [part], "role": "model" });
        chunk.insert("candidates".to_owned(), json!([{ "content": content, "index": block.of }]));
        sse::event("", Value::Object(chunk).to_string())
    }

    fn envelope(&self) -> &'static [&'static str] {
        &["modelVersion", "responseId"]
    }
}

fn candidates(tree: &Value) -> impl Iterator<Item = (usize, &Value)> {
    tree.get("candidates").and_then(Value::as_array).into_iter().flatten().enumerate()
}

fn index_of(candidate: &Value) -> u64 {
    candidate.get("index").and_then(Value::as_u64).unwrap_or(0)
}
