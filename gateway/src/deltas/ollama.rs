//! The texts of Ollama's lines. A tool call comes whole.

use serde_json::{Map, Value, json};

use super::texts::{Block, Part, Seen, Step, Texts, is_error};
use crate::frames::{Frame, ndjson};

/// Fields of a message that are text.
const FIELDS: [&str; 2] = ["thinking", "content"];

pub(super) struct Ollama;

impl Texts for Ollama {
    fn see<'t>(&mut self, tree: &'t Value) -> Vec<Seen<'t>> {
        let Some(message) = tree.get("message") else { return Vec::new() };
        let mut seen = Vec::new();
        for name in FIELDS {
            let Some(text) = message.get(name).and_then(Value::as_str) else { continue };
            seen.push(Seen::Text {
                block: Block { of: 0, part: Part::Field(name) },
                path: vec![Step::Key("message"), Step::Key(name)],
                text,
                beside: Some(vec![Step::Key("logprobs")]),
            });
        }
        if message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty()) {
            seen.push(Seen::Call { of: 0, own: None });
        }
        seen
    }

    fn ends(&self, tree: &Value, _: u64) -> bool {
        tree.get("done").and_then(Value::as_bool) == Some(true) || is_error(tree)
    }

    fn delta(&self, block: Block, text: &str, envelope: &Map<String, Value>) -> Frame {
        let mut message = json!({ "role": "assistant", "content": "" });
        let name = match block.part {
            Part::Field(name) => name,
            _ => "content",
        };
        message[name] = text.into();
        let mut line = envelope.clone();
        line.insert("message".to_owned(), message);
        line.insert("done".to_owned(), false.into());
        ndjson::line(Value::Object(line).to_string())
    }

    fn envelope(&self) -> &'static [&'static str] {
        &["model", "created_at"]
    }
}
