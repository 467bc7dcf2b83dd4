//! The texts of streams of responses. Each comes in deltas, and whole again when its part, its item and the answer are
//! done: what is whole the proxy has looked through, but for the log probabilities beside it.

use serde_json::{Map, Value, json};

use super::MOST;
use super::texts::{Block, Part, Seen, Step, Texts, is_error, within};
use crate::fields::at_path;
use crate::frames::{Frame, sse};

const TEXT: &str = "response.output_text.delta";
const REFUSAL: &str = "response.refusal.delta";
const SUMMARY: &str = "response.reasoning_summary_text.delta";

/// The kinds of events that hold a delta, and the field that tells apart the texts of the same kind in an item.
const DELTAS: [(&str, &str); 8] = [
    (TEXT, "content_index"),
    (REFUSAL, "content_index"),
    (SUMMARY, "summary_index"),
    ("response.reasoning_text.delta", "content_index"),
    ("response.function_call_arguments.delta", ""),
    ("response.custom_tool_call_input.delta", ""),
    ("response.mcp_call_arguments.delta", ""),
    ("response.code_interpreter_call_code.delta", ""),
];

/// Stands for a text that is whole, of which nothing is held beyond its event.
const WHOLE: &str = "whole";

#[derive(Default)]
pub(super) struct OpenAiResponses {
    /// The items of the texts that were heard of last, the latest at the end: a delta names its item.
    items: Vec<(Block, String)>,
    /// The number of the event that was seen last, which is also that of a delta made here: those that follow have
    /// theirs already.
    number: Option<u64>,
}

impl Texts for OpenAiResponses {
    fn see<'t>(&mut self, tree: &'t Value) -> Vec<Seen<'t>> {
        let kind = kind(tree);
        self.number = tree.get("sequence_number").and_then(Value::as_u64).or(self.number);
        let of = number(tree, "output_index");
        if let Some((name, index)) = DELTAS.iter().find(|(name, _)| *name == kind) {
            let block = Block { of, part: Part::Detail(number(tree, index), name) };
            self.remember(block, tree);
            let beside = (*name == TEXT).then(|| vec![Step::Key("logprobs")]);
            return seen(block, vec![Step::Key("delta")], tree.get("delta"), beside).into_iter().collect();
        }
        match kind {
            // A part may begin with text.
            "response.content_part.added" | "response.reasoning_summary_part.added" => {
                let part = tree.get("part").unwrap_or(&Value::Null);
                let (name, key, index) = match part.get("type").and_then(Value::as_str) {
                    Some("refusal") => (REFUSAL, "refusal", "content_index"),
                    Some("summary_text") => (SUMMARY, "text", "summary_index"),
                    _ => (TEXT, "text", "content_index"),
                };
                let block = Block { of, part: Part::Detail(number(tree, index), name) };
                self.remember(block, tree);
                let path = vec![Step::Key("part"), Step::Key(key)];
                seen(block, path, part.get(key), None).into_iter().collect()
            }
            "response.output_text.done" => {
                let block = Block { of, part: Part::Detail(number(tree, "content_index"), WHOLE) };
                let beside = Some(vec![Step::Key("logprobs")]);
                seen(block, vec![Step::Key("text")], tree.get("text"), beside).into_iter().collect()
            }
            "response.content_part.done" => {
                let block = Block { of, part: Part::Detail(number(tree, "content_index"), WHOLE) };
                whole(block, &[Step::Key("part")], tree.get("part")).into_iter().collect()
            }
            "response.output_item.done" => contents(of, &[Step::Key("item")], tree.get("item")),
            kind if is_last(kind) => {
                let output = at_path(tree, &["response", "output"]).and_then(Value::as_array);
                let item = |(at, item)| {
                    let holder = [Step::Key("response"), Step::Key("output"), Step::At(at)];
                    contents(at as u64, &holder, Some(item))
                };
                output.into_iter().flatten().enumerate().flat_map(item).collect()
            }
            _ => Vec::new(),
        }
    }

    fn ends(&self, tree: &Value, of: u64) -> bool {
        let kind = kind(tree);
        is_error(tree) || is_last(kind) || (kind.ends_with(".done") && number(tree, "output_index") == of)
    }

    fn delta(&self, block: Block, text: &str, _: &Map<String, Value>) -> Frame {
        let (index, name) = match block.part {
            Part::Detail(index, name) => (index, name),
            _ => (0, TEXT),
        };
        let mut event = json!({ "type": name, "output_index": block.of, "delta": text });
        if let Some((_, key)) = DELTAS.iter().find(|(kind, key)| *kind == name && !key.is_empty()) {
            event[*key] = json!(index);
        }
        if name == TEXT {
            event["logprobs"] = json!([]);
        }
        if let Some((_, item)) = self.items.iter().find(|(of, _)| *of == block) {
            event["item_id"] = json!(item);
        }
        if let Some(number) = self.number {
            event["sequence_number"] = json!(number);
        }
        sse::event(name, event.to_string())
    }
}

impl OpenAiResponses {
    fn remember(&mut self, block: Block, tree: &Value) {
        let Some(item) = tree.get("item_id").and_then(Value::as_str).filter(|id| id.len() <= 256) else {
            return;
        };
        if self.items.last().is_some_and(|(of, known)| *of == block && known == item) {
            return;
        }
        self.items.retain(|(of, _)| *of != block);
        self.items.push((block, item.to_owned()));
        // No more blocks than these are ever held.
        if self.items.len() > 2 * MOST {
            self.items.remove(0);
        }
    }
}

/// The texts of an item that is done.
fn contents<'t>(of: u64, holder: &[Step], item: Option<&'t Value>) -> Vec<Seen<'t>> {
    let parts = item.and_then(|item| item.get("content")).and_then(Value::as_array);
    let part = |(at, part)| {
        let block = Block { of, part: Part::Detail(at as u64, WHOLE) };
        whole(block, &within(holder, &[Step::Key("content"), Step::At(at)]), Some(part))
    };
    parts.into_iter().flatten().enumerate().filter_map(part).collect()
}

/// The text of a part that is done.
fn whole<'t>(block: Block, holder: &[Step], part: Option<&'t Value>) -> Option<Seen<'t>> {
    let beside = within(holder, &[Step::Key("logprobs")]);
    seen(block, within(holder, &[Step::Key("text")]), part?.get("text"), Some(beside))
}

fn seen(block: Block, path: Vec<Step>, text: Option<&Value>, beside: Option<Vec<Step>>) -> Option<Seen<'_>> {
    Some(Seen::Text { block, path, text: text?.as_str()?, beside })
}

/// Whether an event of this kind is the last.
fn is_last(kind: &str) -> bool {
    matches!(kind, "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled")
}

fn kind(tree: &Value) -> &str {
    tree.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn number(tree: &Value, key: &str) -> u64 {
    tree.get(key).and_then(Value::as_u64).unwrap_or(0)
}
