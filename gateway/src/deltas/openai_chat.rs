//! The texts of chat completion chunks, those of compatible providers included.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Map, Value, json};

use super::MOST;
use super::texts::{Block, Call, Part, Seen, Step, Texts, is_error, within};
use crate::fields::at_path;
use crate::frames::{Frame, sse};

/// Fields of a delta that are text.
const FIELDS: [&str; 4] = ["content", "reasoning_content", "reasoning", "refusal"];

/// Fields of a detail of the reasoning that are.
const DETAILS: [&str; 2] = ["text", "summary"];

#[derive(Default)]
pub(super) struct OpenAiChat {
    /// The call that was spoken of last without an index.
    call: u64,
    /// The calls that began last, the latest at the end.
    begun: Vec<Begun>,
}

/// A call that has an index and an id.
struct Begun {
    /// The choice, and the call in it.
    of: u64,
    index: u64,
    /// A hash of its id.
    id: u64,
    /// So many calls began under the same index before it.
    before: u64,
}

impl Texts for OpenAiChat {
    fn see<'t>(&mut self, tree: &'t Value) -> Vec<Seen<'t>> {
        let mut seen = Vec::new();
        for (at, choice) in list(tree, "choices") {
            if let Some(delta) = choice.get("delta") {
                self.delta_of(delta, Place { at, of: index_of(choice) }, &mut seen);
            }
        }
        seen
    }

    fn ends(&self, tree: &Value, of: u64) -> bool {
        // Some say by an empty text that it has not finished.
        let goes_on = |reason: &Value| reason.is_null() || reason.as_str() == Some("");
        let finished = |choice: &Value| choice.get("finish_reason").is_some_and(|reason| !goes_on(reason));
        is_error(tree) || list(tree, "choices").any(|(_, choice)| index_of(choice) == of && finished(choice))
    }

    fn delta(&self, block: Block, text: &str, envelope: &Map<String, Value>) -> Frame {
        let call = |call: Call, mut fields: Value| {
            if let Call::Index(index) | Call::Again(index, _) = call {
                fields["index"] = index.into();
            }
            json!({ "tool_calls": [fields] })
        };
        let delta = match block.part {
            Part::Field(name) => json!({ name: text }),
            Part::Thought => json!({ "reasoning_content": text }),
            Part::Detail(index, name) => {
                let kind = format!("reasoning.{name}");
                json!({ "reasoning_details": [{ "type": kind, name: text, "index": index }] })
            }
            Part::Transcript => json!({ "audio": { "transcript": text } }),
            Part::FunctionCall => json!({ "function_call": { "arguments": text } }),
            Part::Arguments(of) => call(of, json!({ "function": { "arguments": text } })),
            Part::Input(of) => call(of, json!({ "custom": { "input": text } })),
        };
        let mut chunk = envelope.clone();
        chunk.insert(
            "choices".to_owned(),
            json!([{ "index": block.of, "delta": delta, "logprobs": null, "finish_reason": null }]),
        );
        sse::event("", Value::Object(chunk).to_string())
    }

    fn envelope(&self) -> &'static [&'static str] {
        &["id", "object", "created", "model", "system_fingerprint", "service_tier", "provider"]
    }
}

/// A choice of a chunk: where it stands, and its index.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    of: u64,
}

impl Place {
    fn call<'t>(self, part: Part) -> Seen<'t> {
        Seen::Call { of: self.of, own: Some(Block { of: self.of, part }) }
    }

    fn text<'t>(self, part: Part, path: &[Step], text: Option<&'t Value>) -> Option<Seen<'t>> {
        let text = text?.as_str()?;
        Some(Seen::Text {
            block: Block { of: self.of, part },
            path: within(&[Step::Key("choices"), Step::At(self.at), Step::Key("delta")], path),
            text,
            beside: Some(vec![Step::Key("choices"), Step::At(self.at), Step::Key("logprobs")]),
        })
    }
}

impl OpenAiChat {
    fn delta_of<'t>(&mut self, delta: &'t Value, place: Place, seen: &mut Vec<Seen<'t>>) {
        for name in FIELDS {
            seen.extend(place.text(Part::Field(name), &[Step::Key(name)], delta.get(name)));
        }
        for (at, part) in list(delta, "content") {
            let path = [Step::Key("content"), Step::At(at), Step::Key("text")];
            seen.extend(place.text(Part::Field("content"), &path, part.get("text")));
        }
        for (at, detail) in list(delta, "reasoning_details") {
            let index = detail.get("index").and_then(Value::as_u64).unwrap_or(0);
            for name in DETAILS {
                let path = [Step::Key("reasoning_details"), Step::At(at), Step::Key(name)];
                seen.extend(place.text(Part::Detail(index, name), &path, detail.get(name)));
            }
        }
        let path = [Step::Key("audio"), Step::Key("transcript")];
        seen.extend(place.text(Part::Transcript, &path, at_path(delta, &["audio", "transcript"])));
        if let Some(call) = delta.get("function_call").filter(|call| call.is_object()) {
            seen.push(place.call(Part::FunctionCall));
            let path = [Step::Key("function_call"), Step::Key("arguments")];
            seen.extend(place.text(Part::FunctionCall, &path, call.get("arguments")));
        }
        for (at, call) in list(delta, "tool_calls") {
            let which = self.which(place.of, call);
            let kinds =
                [(Part::Arguments(which), "function", "arguments"), (Part::Input(which), "custom", "input")];
            for (part, kind, field) in kinds {
                let Some(call) = call.get(kind).filter(|call| call.is_object()) else { continue };
                seen.push(place.call(part));
                let path = [Step::Key("tool_calls"), Step::At(at), Step::Key(kind), Step::Key(field)];
                seen.extend(place.text(part, &path, call.get(field)));
            }
        }
    }

    /// As the parser tells calls apart: by index, or else by id; a name begins one, and what has neither goes on.
    fn which(&mut self, of: u64, call: &Value) -> Call {
        let text =
            |path: &[&str]| at_path(call, path).and_then(Value::as_str).filter(|text| !text.is_empty());
        let id = text(&["id"]).map(|id| {
            let mut hasher = DefaultHasher::new();
            id.hash(&mut hasher);
            hasher.finish()
        });
        let named = || text(&["function", "name"]).or_else(|| text(&["custom", "name"])).is_some();
        if let Some(index) = call.get("index").and_then(Value::as_u64) {
            return self.of_index(of, index, id.filter(|_| named()));
        }
        match id {
            Some(id) => self.call = id,
            None if named() => self.call = self.call.wrapping_add(1),
            None => {}
        }
        Call::Other(self.call)
    }

    /// The call with this index, or with this index and another id than the one before, where one begins with an id.
    fn of_index(&mut self, of: u64, index: u64, begins: Option<u64>) -> Call {
        let known = self.begun.iter().find(|begun| (begun.of, begun.index) == (of, index));
        let before = match (known.map(|begun| (begun.id, begun.before)), begins) {
            (Some((_, before)), None) => before,
            (Some((known, before)), Some(id)) if known == id => before,
            (known, Some(id)) => {
                let before = known.map_or(0, |(_, before)| before + 1);
                self.begun.retain(|begun| (begun.of, begun.index) != (of, index));
                if self.begun.len() == MOST {
                    self.begun.remove(0);
                }
                self.begun.push(Begun { of, index, id, before });
                before
            }
            (None, None) => 0,
        };
        if before == 0 { Call::Index(index) } else { Call::Again(index, before) }
    }
}

fn list<'t>(value: &'t Value, name: &str) -> impl Iterator<Item = (usize, &'t Value)> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().enumerate()
}

fn index_of(choice: &Value) -> u64 {
    choice.get("index").and_then(Value::as_u64).unwrap_or(0)
}
