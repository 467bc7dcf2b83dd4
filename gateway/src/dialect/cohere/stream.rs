//! Chat streams, read and written.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::emit::{object, sse};
use super::super::template::Template;
use super::super::{ResponseError, StreamParser, StreamWriter, TextAlone};
use super::plain;
use super::response::citation;
use super::{error_fields, finish_reason, stop_reason, usage_of, usage_value};
use crate::classify::error_inside;
use crate::fields::{at_path, nonempty};
use crate::ir::{ApiError, Class, Part, StopReason, StreamEvent, Usage};

/// Reads events. The kind is taken from the data: where there is an `event` field, it only repeats it.
#[derive(Default)]
pub(super) struct Parser {
    started: bool,
    /// Calls that have begun and not ended, by the provider's index.
    open: BTreeMap<u64, u32>,
    calls: u32,
    ended: bool,
    /// How a text alone was written last.
    template: Template<()>,
}

impl StreamParser for Parser {
    fn read_data(
        &mut self,
        _: &str,
        parsed: Result<&Value, &serde_json::Error>,
    ) -> Result<Vec<StreamEvent>, ResponseError> {
        if self.ended {
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
        let message = at_path(value, &["delta", "message"]).unwrap_or(&Value::Null);
        let mut events = Vec::new();
        match kind {
            "message-start" => self.message_start(value, &mut events),
            "content-start" | "content-delta" => {
                let content = message.get("content").unwrap_or(&Value::Null);
                events.extend(nonempty(content.get("thinking")).map(StreamEvent::Reasoning));
                events.extend(nonempty(content.get("text")).map(StreamEvent::Text));
            }
            "tool-plan-delta" => {
                events.extend(nonempty(message.get("tool_plan")).map(StreamEvent::Text));
            }
            "tool-call-start" => self.call_start(index(value)?, message, &mut events)?,
            "tool-call-delta" => {
                let call = self.open.get(&index(value)?);
                let call =
                    *call.ok_or_else(|| ResponseError("a delta belongs to no open call".to_owned()))?;
                arguments(call, message, &mut events);
            }
            "tool-call-end" => {
                let call = self.open.remove(&index(value)?);
                events.extend(call.map(|index| StreamEvent::ToolEnd { index }));
            }
            "citation-start" => {
                let citations = message.get("citations").unwrap_or(&Value::Null);
                if let Part::Opaque(piece) = citation(citations) {
                    events.push(StreamEvent::Opaque(piece));
                }
            }
            "message-end" => self.message_end(value, &mut events)?,
            // `content-end` and `citation-end`, `debug`, and kinds that are still to be invented.
            _ => {}
        }
        Ok(events)
    }

    fn text_alone(&mut self, data: &str) -> Option<TextAlone> {
        if self.ended { None } else { self.template.read(data, plain::text).map(|((), text)| text.into()) }
    }
}

impl Parser {
    fn message_start(&mut self, value: &Value, events: &mut Vec<StreamEvent>) {
        if !std::mem::replace(&mut self.started, true) {
            let id = nonempty(value.get("id")).unwrap_or_default();
            // The model is named nowhere.
            events.push(StreamEvent::Start { id, model: String::new(), created: 0 });
        }
    }

    fn call_start(
        &mut self,
        index: u64,
        message: &Value,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ResponseError> {
        let missing = || ResponseError("a tool call begins without an id or a name".to_owned());
        let text = |path: &[&str]| nonempty(at_path(message, path)).ok_or_else(missing);
        let call = self.calls;
        events.push(StreamEvent::ToolStart {
            index: call,
            id: text(&["tool_calls", "id"])?,
            name: text(&["tool_calls", "function", "name"])?,
            signature: None,
        });
        self.calls += 1;
        // One that was open under this index has had its end forgotten.
        let before = self.open.insert(index, call);
        if let Some(index) = before {
            events.push(StreamEvent::ToolEnd { index });
        }
        arguments(call, message, events);
        Ok(())
    }

    fn message_end(&mut self, value: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        let finish = nonempty(at_path(value, &["delta", "finish_reason"]))
            .ok_or_else(|| ResponseError("the message ends without a finish_reason".to_owned()))?;
        // A call that hits max_tokens may end without saying so.
        events
            .extend(std::mem::take(&mut self.open).into_values().map(|index| StreamEvent::ToolEnd { index }));
        let usage = at_path(value, &["delta", "usage"]).and_then(usage_of);
        events.extend(usage.map(StreamEvent::Usage));
        events.push(StreamEvent::Stop { reason: stop_reason(&finish), sequence: None });
        events.push(StreamEvent::End);
        self.ended = true;
        Ok(())
    }
}

fn arguments(index: u32, message: &Value, events: &mut Vec<StreamEvent>) {
    let fragment = nonempty(at_path(message, &["tool_calls", "function", "arguments"]));
    events.extend(fragment.map(|fragment| StreamEvent::ToolArguments { index, fragment }));
}

fn index(value: &Value) -> Result<u64, ResponseError> {
    let index = value.get("index").and_then(Value::as_u64);
    index.ok_or_else(|| ResponseError("an event of a tool call has no index".to_owned()))
}

/// Writes events. Blocks come one after the other, as Cohere's clients expect them, while other dialects interleave tool
/// calls: the front block is live, the ones behind it are held until it is complete.
#[derive(Default)]
pub(super) struct Writer {
    started: bool,
    id: String,
    usage: Option<Usage>,
    blocks: VecDeque<Held>,
    /// Whether the front block's start has been written.
    open: bool,
    /// Blocks of content, and calls, that were written before the front block.
    contents: u64,
    calls: u64,
    stop: Option<(StopReason, bool)>,
}

struct Held {
    kind: Kind,
    /// Text that has not been written.
    pending: String,
    /// Whether there was any.
    said: bool,
    complete: bool,
}

#[derive(PartialEq)]
enum Kind {
    Text,
    Thinking,
    Call { index: u32, id: String, name: String },
}

impl StreamWriter for Writer {
    fn write(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { id, .. } => {
                self.id.clone_from(id);
                self.message_start(out);
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            // Cohere has no place for them.
            StreamEvent::ReasoningSignature(_) | StreamEvent::Opaque(_) => {}
            StreamEvent::Text(text) | StreamEvent::Refusal(text) => self.prose(Kind::Text, text, out),
            StreamEvent::Reasoning(text) => self.prose(Kind::Thinking, text, out),
            StreamEvent::ToolStart { index, id, name, .. } => {
                self.begin(Kind::Call { index: *index, id: id.clone(), name: name.clone() });
                self.advance(out);
            }
            StreamEvent::ToolArguments { index, fragment } => {
                if let Some(block) = self.call(*index) {
                    block.pending.push_str(fragment);
                }
                self.advance(out);
            }
            StreamEvent::ToolEnd { index } => {
                if let Some(block) = self.call(*index) {
                    block.complete = true;
                }
                self.advance(out);
            }
            StreamEvent::Stop { reason, sequence } => {
                self.blocks.iter_mut().for_each(|block| block.complete = true);
                self.advance(out);
                // Usage may still come, and belongs into the same event.
                self.stop = Some((*reason, sequence.is_some()));
            }
            StreamEvent::End => {
                self.message_start(out);
                if let Some((reason, has_sequence)) = self.stop.take() {
                    let finish = finish_reason(reason, has_sequence);
                    self.message_end(Map::from_iter([("finish_reason".to_owned(), json!(finish))]), out);
                }
            }
            StreamEvent::Error(error) => {
                self.blocks.clear();
                self.message_end(failure(error), out);
            }
        }
    }
}

impl Writer {
    /// Text for the last block if that is of this kind and still open, or for a new one.
    fn prose(&mut self, kind: Kind, text: &str, out: &mut Vec<u8>) {
        let fits = self.blocks.back().is_some_and(|block| block.kind == kind && !block.complete);
        if !fits {
            self.begin(kind);
        }
        if let Some(last) = self.blocks.back_mut() {
            last.pending.push_str(text);
        }
        self.advance(out);
    }

    /// A new block completes the prose before it; a call is completed only by its own end.
    fn begin(&mut self, kind: Kind) {
        for block in &mut self.blocks {
            block.complete |= matches!(block.kind, Kind::Text | Kind::Thinking);
        }
        self.blocks.push_back(Held { kind, pending: String::new(), said: false, complete: false });
    }

    fn call(&mut self, wanted: u32) -> Option<&mut Held> {
        self.blocks.iter_mut().find(|block| matches!(block.kind, Kind::Call { index, .. } if index == wanted))
    }

    /// Writes what the front block has, and the ones behind it as far as those before them are complete.
    fn advance(&mut self, out: &mut Vec<u8>) {
        self.message_start(out);
        while let Some(front) = self.blocks.front_mut() {
            let call = matches!(front.kind, Kind::Call { .. });
            let index = if call { self.calls } else { self.contents };
            if !std::mem::replace(&mut self.open, true) {
                let message = match &front.kind {
                    Kind::Text => json!({ "content": { "type": "text", "text": "" } }),
                    Kind::Thinking => json!({ "content": { "type": "thinking", "thinking": "" } }),
                    Kind::Call { id, name, .. } => {
                        let function = json!({ "name": name, "arguments": "" });
                        json!({ "tool_calls": { "id": id, "type": "function", "function": function } })
                    }
                };
                emit(if call { "tool-call-start" } else { "content-start" }, index, Some(&message), out);
            }
            // Clients parse the arguments: no arguments are an empty object.
            if call && front.complete && !front.said && front.pending.is_empty() {
                front.pending.push_str("{}");
            }
            if !front.pending.is_empty() {
                front.said = true;
                let text = std::mem::take(&mut front.pending);
                let kind = if call { "tool-call-delta" } else { "content-delta" };
                match front.kind {
                    Kind::Text => delta(kind, index, object! { content: object! { text: text } }, out),
                    Kind::Thinking => {
                        delta(kind, index, object! { content: object! { thinking: text } }, out);
                    }
                    Kind::Call { .. } => {
                        let function = object! { arguments: text };
                        delta(kind, index, object! { tool_calls: object! { function: function } }, out);
                    }
                }
            }
            if !front.complete {
                return;
            }
            emit(if call { "tool-call-end" } else { "content-end" }, index, None, out);
            self.blocks.pop_front();
            self.open = false;
            if call { self.calls += 1 } else { self.contents += 1 }
        }
    }

    fn message_start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let message =
            json!({ "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": [] });
        let event = json!({ "type": "message-start", "id": self.id, "delta": { "message": message } });
        sse("message-start", &event, out);
    }

    fn message_end(&self, mut delta: Map<String, Value>, out: &mut Vec<u8>) {
        if let Some(usage) = &self.usage {
            delta.insert("usage".into(), usage_value(usage));
        }
        sse("message-end", &json!({ "type": "message-end", "id": self.id, "delta": delta }), out);
    }
}

/// How Cohere says inside a stream that it failed: the message ends, with an error in the place of what was to come.
fn failure(error: &ApiError) -> Map<String, Value> {
    let finish = if error.class == Class::Timeout { "TIMEOUT" } else { "ERROR" };
    let (_, mut fields) = error_fields(error);
    fields.insert("finish_reason".into(), json!(finish));
    fields.insert("error".into(), json!(error.message));
    fields
}

/// A piece of a message.
fn delta(kind: &str, index: u64, message: impl Serialize, out: &mut Vec<u8>) {
    sse(kind, &object! { delta: object! { message: message }, index: index, r#type: kind }, out);
}

fn emit(kind: &str, index: u64, message: Option<&Value>, out: &mut Vec<u8>) {
    let mut event = json!({ "type": kind, "index": index });
    if let Some(message) = message {
        event["delta"] = json!({ "message": message });
    }
    sse(kind, &event, out);
}
