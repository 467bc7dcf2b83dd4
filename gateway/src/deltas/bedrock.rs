//! The texts of Bedrock's streams: the deltas of its blocks.

use serde_json::{Map, Value, json};

use super::texts::{Block, Part, Seen, Step, Texts, is_error, within};
use crate::frames::{Frame, event_stream};

const DELTA: &str = "contentBlockDelta";

/// Where a delta has text that goes on: where it stands, and what the field is called. A signature comes in one piece.
const FIELDS: [(&[Step], &str); 3] =
    [(&[], "text"), (&[Step::Key("reasoningContent")], "text"), (&[Step::Key("toolUse")], "input")];

/// What the three are called here: the first and the second share a name.
const NAMES: [&str; 3] = ["text", "reasoningContent", "toolUse"];

pub(super) struct Bedrock;

impl Texts for Bedrock {
    fn see<'t>(&mut self, tree: &'t Value) -> Vec<Seen<'t>> {
        let Some(event) = tree.get(DELTA) else { return Vec::new() };
        let (Some(of), Some(delta)) = (index(event), event.get("delta")) else { return Vec::new() };
        let text = |((inside, field), name): (&(&'static [Step], &'static str), &&'static str)| {
            let holder = match inside {
                [Step::Key(key), ..] => delta.get(*key)?,
                _ => delta,
            };
            let front = [Step::Key(DELTA), Step::Key("delta")];
            Some(Seen::Text {
                block: Block { of, part: Part::Field(name) },
                path: within(&within(&front, inside), &[Step::Key(field)]),
                text: holder.get(*field)?.as_str()?,
                beside: None,
            })
        };
        FIELDS.iter().zip(&NAMES).filter_map(text).collect()
    }

    fn ends(&self, tree: &Value, of: u64) -> bool {
        match tree.get("contentBlockStop") {
            Some(stop) => index(stop) == Some(of),
            None => is_error(tree) || tree.get("messageStop").is_some() || tree.get("metadata").is_some(),
        }
    }

    fn delta(&self, block: Block, text: &str, _: &Map<String, Value>) -> Frame {
        let delta = match block.part {
            Part::Field("reasoningContent") => json!({ "reasoningContent": { "text": text } }),
            Part::Field("toolUse") => json!({ "toolUse": { "input": text } }),
            _ => json!({ "text": text }),
        };
        let payload = json!({ "contentBlockIndex": block.of, "delta": delta });
        event_stream::event(DELTA, &payload.to_string())
    }
}

fn index(event: &Value) -> Option<u64> {
    event.get("contentBlockIndex").and_then(Value::as_u64)
}
