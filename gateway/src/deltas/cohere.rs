//! The texts of Cohere's chat streams.

use serde_json::{Map, Value, json};

use super::texts::{Block, Call, Part, Seen, Step, Texts, is_error};
use crate::fields::at_path;
use crate::frames::{Frame, sse};

/// Fields of a piece of content that are text.
const FIELDS: [&str; 2] = ["text", "thinking"];

/// Content and calls are counted apart: of the content the blocks are even, of the calls odd.
const KINDS: u64 = 2;

/// The plan has no index. No event ends it before the message does.
const PLAN: u64 = u64::MAX;

pub(super) struct Cohere;

impl Texts for Cohere {
    fn see<'t>(&mut self, tree: &'t Value) -> Vec<Seen<'t>> {
        let kind = kind(tree);
        let message = |path: &[Step]| {
            let mut all = vec![Step::Key("delta"), Step::Key("message")];
            all.extend_from_slice(path);
            all
        };
        let text = |of, part, path: &[Step], text: Option<&'t Value>| {
            let beside = Some(vec![Step::Key("logprobs")]);
            let text = text?.as_str()?;
            Some(Seen::Text { block: Block { of, part }, path: message(path), text, beside })
        };
        let index = index(tree);
        let mut seen = Vec::new();
        if matches!(kind, "content-start" | "tool-call-start") {
            seen.push(Seen::Call { of: PLAN, own: None });
        }
        match (kind, index) {
            ("content-start" | "content-delta", Some(index)) => {
                let content = at_path(tree, &["delta", "message", "content"]);
                for name in FIELDS {
                    let path = [Step::Key("content"), Step::Key(name)];
                    let piece = content.and_then(|content| content.get(name));
                    seen.extend(text(content_at(index), Part::Field(name), &path, piece));
                }
            }
            ("tool-plan-delta", _) => {
                let plan = at_path(tree, &["delta", "message", "tool_plan"]);
                seen.extend(text(PLAN, Part::Field("tool_plan"), &[Step::Key("tool_plan")], plan));
            }
            ("tool-call-start" | "tool-call-delta", Some(index)) => {
                let path = [Step::Key("tool_calls"), Step::Key("function"), Step::Key("arguments")];
                let arguments = at_path(tree, &["delta", "message", "tool_calls", "function", "arguments"]);
                seen.extend(text(call_at(index), Part::Arguments(Call::Index(index)), &path, arguments));
            }
            _ => {}
        }
        seen
    }

    fn ends(&self, tree: &Value, of: u64) -> bool {
        match (kind(tree), index(tree)) {
            ("content-end", Some(index)) => content_at(index) == of,
            ("tool-call-end", Some(index)) => call_at(index) == of,
            ("message-end", _) => true,
            _ => is_error(tree),
        }
    }

    fn delta(&self, block: Block, text: &str, _: &Map<String, Value>) -> Frame {
        let (kind, index, message) = match block.part {
            Part::Arguments(Call::Index(index)) => {
                let call = json!({ "function": { "arguments": text } });
                ("tool-call-delta", Some(index), json!({ "tool_calls": call }))
            }
            Part::Field(name) if block.of == PLAN => ("tool-plan-delta", None, json!({ name: text })),
            Part::Field(name) => {
                ("content-delta", Some(block.of / KINDS), json!({ "content": { name: text } }))
            }
            _ => ("content-delta", Some(block.of / KINDS), json!({ "content": { "text": text } })),
        };
        let mut event = json!({ "type": kind, "delta": { "message": message } });
        if let Some(index) = index {
            event["index"] = index.into();
        }
        sse::event(kind, event.to_string())
    }
}

fn content_at(index: u64) -> u64 {
    index.wrapping_mul(KINDS)
}

fn call_at(index: u64) -> u64 {
    index.wrapping_mul(KINDS) | 1
}

fn kind(tree: &Value) -> &str {
    tree.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn index(tree: &Value) -> Option<u64> {
    tree.get("index").and_then(Value::as_u64)
}
