//! Streams of providers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::template::Template;
use super::super::{ResponseError, StreamParser, TextAlone};
use super::plain;
use super::{response, stop_reason, usage_of};
use crate::classify::{Failure, error_inside};
use crate::fields::nonempty;
use crate::ir::{Class, StreamEvent};

/// Reads events. The kind is taken from the data: the `event` field only repeats it.
///
/// Each text comes in deltas, and whole again at its end; what was heard in deltas is not heard again. Some compatible
/// providers send it whole only.
#[derive(Default)]
pub(super) struct Parser {
    started: bool,
    ended: bool,
    refused: bool,
    /// Texts of which something was heard.
    heard: BTreeSet<(u64, Place)>,
    /// Calls by the index of their item.
    calls: BTreeMap<u64, Call>,
    /// How a text alone was written last.
    template: Template<(u64, u64)>,
}

/// A text of an item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// A part of a message.
    Content(u64),
    /// A part of the summary of reasoning.
    Summary(u64),
    /// A part of the reasoning itself.
    Reasoning(u64),
}

struct Call {
    index: u32,
    /// Whether some of its arguments were heard.
    heard: bool,
    ended: bool,
}

impl StreamParser for Parser {
    fn read_data(
        &mut self,
        data: &str,
        parsed: Result<&Value, &serde_json::Error>,
    ) -> Result<Vec<StreamEvent>, ResponseError> {
        // Some compatible providers end as chat completions do; it means nothing here.
        if self.ended || data.trim() == "[DONE]" {
            return Ok(Vec::new());
        }
        let value = parsed.map_err(|e| ResponseError(format!("an event is not readable JSON: {e}")))?;
        if let Some(failure) = error_inside(value) {
            self.ended = true;
            return Ok(vec![StreamEvent::Error(failure.into_error())]);
        }
        let kind = value
            .get("type")
            .and_then(Value::as_str)
            .ok_or_else(|| ResponseError("an event has no type".to_owned()))?;
        let of = index(value, "output_index");
        let mut events = Vec::new();
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(&value["response"], &mut events);
            }
            "response.output_item.added" => match value["item"]["type"].as_str() {
                Some("function_call") => self.call_begins(of, &value["item"], &mut events)?,
                Some("message" | "reasoning") | None => {}
                // Tools that the provider runs, and kinds that are still to be invented.
                Some(_) => events.push(StreamEvent::Opaque(value["item"].clone())),
            },
            "response.output_text.annotation.added" => {
                events.push(StreamEvent::Opaque(value["annotation"].clone()));
            }
            "response.output_item.done" => self.item_done(of, &value["item"], &mut events)?,
            // A part may begin with text.
            "response.content_part.added" => self.part(of, content(value), &value["part"], &mut events),
            "response.output_text.delta" => self.text(of, content(value), value.get("delta"), &mut events),
            "response.refusal.delta" => self.refusal(of, content(value), value.get("delta"), &mut events),
            "response.reasoning_summary_text.delta" => {
                self.thought(of, summary(value), value.get("delta"), &mut events);
            }
            "response.reasoning_text.delta" => {
                self.thought(of, thinking(value), value.get("delta"), &mut events);
            }
            "response.function_call_arguments.delta" => self.arguments(of, value, &mut events),
            // Whole: heard unless its deltas were.
            "response.output_text.done" if !self.was_heard(of, content(value)) => {
                self.text(of, content(value), value.get("text"), &mut events);
            }
            "response.refusal.done" if !self.was_heard(of, content(value)) => {
                self.refusal(of, content(value), value.get("refusal"), &mut events);
            }
            "response.reasoning_summary_text.done" if !self.was_heard(of, summary(value)) => {
                self.thought(of, summary(value), value.get("text"), &mut events);
            }
            "response.reasoning_text.done" if !self.was_heard(of, thinking(value)) => {
                self.thought(of, thinking(value), value.get("text"), &mut events);
            }
            "response.completed" => self.end(&value["response"], "completed", &mut events)?,
            "response.incomplete" => self.end(&value["response"], "incomplete", &mut events)?,
            "response.failed" | "response.cancelled" => {
                self.ended = true;
                let failure = Failure::new(Class::Server, "the provider gave up on the answer");
                events.push(StreamEvent::Error(failure.into_error()));
            }
            // What a tool of another kind is given, as long as that may take.
            kind if kind.ends_with(".delta")
                && value["delta"].as_str().is_some_and(|text| !text.is_empty()) =>
            {
                events.push(StreamEvent::Opaque(json!({ "type": kind })));
            }
            // What the provider's own tools are doing, and kinds that are still to be invented.
            _ => {}
        }
        Ok(events)
    }

    fn text_alone(&mut self, data: &str) -> Option<TextAlone> {
        if self.ended {
            return None;
        }
        let ((of, content), text) = self.template.read(data, plain::text)?;
        self.was_heard(of, Place::Content(content)).then(|| text.into())
    }
}

impl Parser {
    fn start(&mut self, response: &Value, events: &mut Vec<StreamEvent>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        events.push(StreamEvent::Start {
            id: nonempty(response.get("id")).unwrap_or_default(),
            model: nonempty(response.get("model")).unwrap_or_default(),
            created: response.get("created_at").and_then(crate::fields::whole).unwrap_or(0),
        });
    }

    fn was_heard(&self, of: u64, place: Place) -> bool {
        self.heard.contains(&(of, place))
    }

    /// A piece of a text, noted as heard.
    fn text(&mut self, of: u64, place: Place, text: Option<&Value>, events: &mut Vec<StreamEvent>) {
        if let Some(text) = nonempty(text) {
            self.heard.insert((of, place));
            events.push(StreamEvent::Text(text));
        }
    }

    fn refusal(&mut self, of: u64, place: Place, text: Option<&Value>, events: &mut Vec<StreamEvent>) {
        if let Some(text) = nonempty(text) {
            self.heard.insert((of, place));
            self.refused = true;
            events.push(StreamEvent::Refusal(text));
        }
    }

    /// Parts of a summary are paragraphs.
    fn thought(&mut self, of: u64, place: Place, text: Option<&Value>, events: &mut Vec<StreamEvent>) {
        if let Some(text) = nonempty(text) {
            let goes_on = self.has_thought(of);
            let apart = if self.heard.insert((of, place)) && goes_on { "\n\n" } else { "" };
            events.push(StreamEvent::Reasoning(format!("{apart}{text}")));
        }
    }

    fn has_thought(&self, of: u64) -> bool {
        self.heard.iter().any(|(item, place)| *item == of && !matches!(place, Place::Content(_)))
    }

    /// A part of a message with what it holds already, or all of it.
    fn part(&mut self, of: u64, place: Place, part: &Value, events: &mut Vec<StreamEvent>) {
        match part.get("type").and_then(Value::as_str) {
            Some("refusal") => self.refusal(of, place, part.get("refusal"), events),
            Some("output_text" | "text") => self.text(of, place, part.get("text"), events),
            _ => {}
        }
    }

    /// A call whose name or id is not told yet is whole when its item is done.
    fn call_begins(
        &mut self,
        at: u64,
        item: &Value,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ResponseError> {
        let Ok(call) = response::call(item) else { return Ok(()) };
        if self.calls.contains_key(&at) {
            return Err(ResponseError("two calls stand at the same place".to_owned()));
        }
        let index = self.calls.len() as u32;
        self.calls.insert(at, Call { index, heard: false, ended: false });
        events.push(StreamEvent::ToolStart { index, id: call.id, name: call.name, signature: None });
        Ok(())
    }

    fn arguments(&mut self, of: u64, value: &Value, events: &mut Vec<StreamEvent>) {
        let call = self.calls.get_mut(&of).filter(|call| !call.ended);
        if let (Some(call), Some(fragment)) = (call, nonempty(value.get("delta"))) {
            call.heard = true;
            events.push(StreamEvent::ToolArguments { index: call.index, fragment });
        }
    }

    fn item_done(
        &mut self,
        at: u64,
        item: &Value,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ResponseError> {
        match item.get("type").and_then(Value::as_str) {
            Some("function_call") => self.call_done(at, item, events)?,
            Some("message") => {
                for (j, part) in item["content"].as_array().into_iter().flatten().enumerate() {
                    let place = Place::Content(j as u64);
                    if !self.was_heard(at, place) {
                        self.part(at, place, part, events);
                    }
                }
            }
            Some("reasoning") => {
                if !self.has_thought(at) {
                    let text = response::thoughts(item).collect::<Vec<_>>().join("\n\n");
                    events.extend((!text.is_empty()).then_some(StreamEvent::Reasoning(text)));
                    self.heard.insert((at, Place::Summary(0)));
                }
                events.extend(nonempty(item.get("encrypted_content")).map(StreamEvent::ReasoningSignature));
            }
            _ => {}
        }
        Ok(())
    }

    fn call_done(
        &mut self,
        at: u64,
        item: &Value,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ResponseError> {
        let whole = response::call(item)?;
        if !self.calls.contains_key(&at) {
            let index = self.calls.len() as u32;
            self.calls.insert(at, Call { index, heard: false, ended: false });
            events.push(StreamEvent::ToolStart { index, id: whole.id, name: whole.name, signature: None });
        }
        let Some(call) = self.calls.get_mut(&at).filter(|call| !call.ended) else { return Ok(()) };
        if !call.heard && !whole.arguments.is_empty() {
            events.push(StreamEvent::ToolArguments { index: call.index, fragment: whole.arguments });
        }
        call.ended = true;
        events.push(StreamEvent::ToolEnd { index: call.index });
        Ok(())
    }

    /// The dialect's terminator, which holds the whole answer.
    fn end(
        &mut self,
        response: &Value,
        status: &str,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ResponseError> {
        self.start(response, events);
        // Of a stream that said nothing on the way, this is all there is.
        if self.heard.is_empty() && self.calls.is_empty() {
            for (at, item) in response["output"].as_array().into_iter().flatten().enumerate() {
                self.item_done(at as u64, item, events)?;
            }
        }
        for call in self.calls.values_mut().filter(|call| !call.ended) {
            call.ended = true;
            events.push(StreamEvent::ToolEnd { index: call.index });
        }
        events.extend(response.get("usage").and_then(usage_of).map(StreamEvent::Usage));
        let reason = stop_reason(response, status, !self.calls.is_empty(), self.refused);
        events.push(StreamEvent::Stop { reason, sequence: None });
        events.push(StreamEvent::End);
        self.ended = true;
        Ok(())
    }
}

fn index(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn content(value: &Value) -> Place {
    Place::Content(index(value, "content_index"))
}

fn summary(value: &Value) -> Place {
    Place::Summary(index(value, "summary_index"))
}

fn thinking(value: &Value) -> Place {
    Place::Reasoning(index(value, "content_index"))
}
