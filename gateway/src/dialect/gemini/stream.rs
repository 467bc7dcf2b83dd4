//! Streams of partial answers, read and written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::emit::{object, sse};
use super::super::{
    MOST_ANSWERS, ResponseError, StreamParser, StreamWriter, TextAlone, notes, of_another_answer,
    says_something,
};
use super::{
    NOTES, Piece, call_id, call_part, error_value, finish_reason, model_version, piece, plain, stop_reason,
    usage_of, usage_value,
};
use crate::classify::error_inside;
use crate::fields::{at_path, nonempty};
use crate::ir::{StopReason, StreamEvent, Usage};

/// Reads chunks. Only the first candidate becomes events; further ones, which never cross dialects, are followed to
/// their ends.
#[derive(Default)]
pub(super) struct Parser {
    started: bool,
    /// The answer's id, for calls that have none.
    id: String,
    calls: u32,
    /// Whether each candidate seen so far has finished.
    finished: BTreeMap<u64, bool>,
    /// Why the first one did.
    reason: Option<String>,
    failed: bool,
}

impl StreamParser for Parser {
    fn read_data(
        &mut self,
        _: &str,
        parsed: Result<&Value, &serde_json::Error>,
    ) -> Result<Vec<StreamEvent>, ResponseError> {
        if self.failed {
            return Ok(Vec::new());
        }
        let chunk = parsed.map_err(|e| ResponseError(format!("a chunk is not readable JSON: {e}")))?;
        if let Some(failure) = error_inside(chunk) {
            self.failed = true;
            return Ok(vec![StreamEvent::Error(failure.into_error())]);
        }
        if !chunk.is_object() {
            return Err(ResponseError("a chunk is not an object".to_owned()));
        }
        let mut events = Vec::new();
        if !std::mem::replace(&mut self.started, true) {
            self.id = nonempty(chunk.get("responseId")).unwrap_or_default();
            let model = model_version(chunk);
            events.push(StreamEvent::Start { id: self.id.clone(), model, created: 0 });
        }
        let usage = chunk.get("usageMetadata").and_then(usage_of);
        events.extend(usage.map(StreamEvent::Usage));
        for candidate in chunk.get("candidates").and_then(Value::as_array).into_iter().flatten() {
            self.candidate(candidate, &mut events)?;
        }
        Ok(events)
    }

    fn text_alone(&mut self, data: &str) -> Option<TextAlone> {
        let goes_on = self.started && !self.failed && self.finished.contains_key(&0);
        if goes_on { plain::text(data) } else { None }
    }

    /// There is no terminator. What counts as one is the end of a body in which every candidate said why it ended; what a
    /// candidate says after that still counts, which is why the reason waits for the end as well.
    fn end(&mut self) -> Vec<StreamEvent> {
        let complete = !self.failed && self.finished.values().all(|done| *done);
        match self.reason.take() {
            Some(finish) if complete => {
                let reason = stop_reason(&finish, self.calls > 0);
                vec![StreamEvent::Stop { reason, sequence: None }, StreamEvent::End]
            }
            _ => Vec::new(),
        }
    }
}

impl Parser {
    fn candidate(&mut self, candidate: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        let index = candidate.get("index").and_then(Value::as_u64).unwrap_or(0);
        let finish = nonempty(candidate.get("finishReason"));
        *self.finished.entry(index).or_insert(false) |= finish.is_some();
        if self.finished.len() > MOST_ANSWERS {
            return Err(ResponseError(format!("it holds more than {MOST_ANSWERS} candidates")));
        }
        if index != 0 {
            let mut parts =
                at_path(candidate, &["content", "parts"]).and_then(Value::as_array).into_iter().flatten();
            events.extend(parts.any(says_something).then(of_another_answer));
            return Ok(());
        }
        self.reason = finish.or(self.reason.take());
        for part in at_path(candidate, &["content", "parts"]).and_then(Value::as_array).into_iter().flatten()
        {
            match piece(part)? {
                None => {}
                Some(Piece::Text(text)) => events.push(StreamEvent::Text(text)),
                Some(Piece::Thought { text, signature }) => {
                    events.extend((!text.is_empty()).then_some(StreamEvent::Reasoning(text)));
                    events.extend(signature.map(StreamEvent::ReasoningSignature));
                }
                Some(Piece::Call { id, name, arguments, signature }) => {
                    let index = self.calls;
                    self.calls += 1;
                    let id = id.unwrap_or_else(|| call_id(&self.id, index as usize));
                    events.push(StreamEvent::ToolStart { index, id, name, signature });
                    if !arguments.is_empty() {
                        events.push(StreamEvent::ToolArguments { index, fragment: arguments });
                    }
                    events.push(StreamEvent::ToolEnd { index });
                }
                Some(Piece::Other(kind)) => events.push(StreamEvent::Opaque(kind)),
            }
        }
        events.extend(notes(candidate, NOTES).map(StreamEvent::Opaque));
        Ok(())
    }
}

/// Writes chunks. A call is one part here, so that it is held until it is whole; the reason is held until the counts
/// have come, which belong into the same chunk.
#[derive(Default)]
pub(super) struct Writer {
    id: String,
    model: String,
    usage: Option<Usage>,
    calls: BTreeMap<u32, Call>,
    stop: Option<StopReason>,
}

struct Call {
    id: String,
    name: String,
    signature: Option<String>,
    arguments: String,
}

impl StreamWriter for Writer {
    fn write(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { id, model, .. } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
            }
            StreamEvent::Text(text) | StreamEvent::Refusal(text) => self.part(object! { text: text }, out),
            StreamEvent::Reasoning(text) => self.part(object! { text: text, thought: true }, out),
            StreamEvent::ReasoningSignature(signature) => {
                self.part(json!({ "text": "", "thought": true, "thoughtSignature": signature }), out);
            }
            StreamEvent::ToolStart { index, id, name, signature } => {
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                self.calls.insert(*index, Call { id, name, signature, arguments: String::new() });
            }
            StreamEvent::ToolArguments { index, fragment } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(fragment);
                }
            }
            StreamEvent::ToolEnd { index } => self.call(*index, out),
            StreamEvent::Opaque(_) => {}
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Stop { reason, .. } => {
                // Not every dialect says that a call is complete.
                for index in self.calls.keys().copied().collect::<Vec<_>>() {
                    self.call(index, out);
                }
                self.stop = Some(*reason);
            }
            StreamEvent::End => self.end(out),
            StreamEvent::Error(error) => {
                self.calls.clear();
                sse("", &error_value(error).1, out);
            }
        }
    }
}

impl Writer {
    fn call(&mut self, index: u32, out: &mut Vec<u8>) {
        let Some(call) = self.calls.remove(&index) else { return };
        let part = call_part(&call.id, &call.name, &call.arguments, call.signature.as_deref());
        self.part(part, out);
    }

    fn part(&self, part: impl Serialize, out: &mut Vec<u8>) {
        self.chunk(object! { content: object! { parts: [part], role: "model" }, index: 0 }, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let Some(reason) = self.stop.take() else { return };
        let content = json!({ "role": "model", "parts": [{ "text": "" }] });
        let finish = finish_reason(reason);
        self.chunk(json!({ "content": content, "finishReason": finish, "index": 0 }), out);
    }

    fn chunk(&self, candidate: impl Serialize, out: &mut Vec<u8>) {
        let (candidates, model, id) = ([candidate], &*self.model, &*self.id);
        match self.usage.as_ref().map(usage_value) {
            Some(usage) => {
                let chunk = object! {
                    candidates: candidates, modelVersion: model, responseId: id, usageMetadata: usage
                };
                sse("", &chunk, out);
            }
            None => {
                sse("", &object! { candidates: candidates, modelVersion: model, responseId: id }, out);
            }
        }
    }
}
