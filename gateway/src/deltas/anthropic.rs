//! The texts of message streams.

use serde_json::{Map, Value, json};

use super::texts::{Block, Part, Seen, Step, Texts, is_error};
use crate::frames::{Frame, sse};

/// Fields of a block or delta that are text that goes on, and what kind of delta each is of. The clients of Anthropic take
/// the last delta of a signature for the whole of it, so that it has to stay in one piece.
const FIELDS: [(&str, &str); 3] =
    [("text", "text_delta"), ("thinking", "thinking_delta"), ("partial_json", "input_json_delta")];

pub(super) struct Anthropic;

impl Texts for Anthropic {
    fn see<'t>(&mut self, tree: &'t Value) -> Vec<Seen<'t>> {
        let place = match kind(tree) {
            "content_block_start" => "content_block",
            "content_block_delta" => "delta",
            _ => return Vec::new(),
        };
        let (Some(of), Some(holder)) = (index(tree), tree.get(place)) else { return Vec::new() };
        let text = |(name, _): &(&'static str, _)| {
            Some(Seen::Text {
                block: Block { of, part: Part::Field(name) },
                path: vec![Step::Key(place), Step::Key(name)],
                text: holder.get(name)?.as_str()?,
                beside: None,
            })
        };
        FIELDS.iter().filter_map(text).collect()
    }

    fn ends(&self, tree: &Value, of: u64) -> bool {
        match kind(tree) {
            "content_block_stop" => index(tree) == Some(of),
            "message_delta" | "message_stop" => true,
            _ => is_error(tree),
        }
    }

    fn delta(&self, block: Block, text: &str, _: &Map<String, Value>) -> Frame {
        let name = match block.part {
            Part::Field(name) => name,
            _ => FIELDS[0].0,
        };
        let kind = FIELDS.iter().find(|(field, _)| *field == name).map_or(FIELDS[0].1, |(_, kind)| kind);
        let delta = json!({ "type": kind, name: text });
        let event = json!({ "type": "content_block_delta", "index": block.of, "delta": delta });
        sse::event("content_block_delta", event.to_string())
    }
}

fn kind(tree: &Value) -> &str {
    tree.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn index(tree: &Value) -> Option<u64> {
    tree.get("index").and_then(Value::as_u64)
}
