//! Lines of partial answers, read and written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::emit::{line, object};
use super::super::template::Template;
use super::super::{ResponseError, StreamParser, StreamWriter, TextAlone};
use super::plain;
use super::{
    answer_id, call_id, call_of, call_value, created_at, ending, error_value, stop_reason, unix_seconds,
    usage_of,
};
use crate::classify::error_inside;
use crate::fields::nonempty;
use crate::ir::{StopReason, StreamEvent, ToolCall, Usage};

/// Reads lines.
#[derive(Default)]
pub(super) struct Parser {
    started: bool,
    /// The answer's id, for calls that have none.
    id: String,
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
        let line = parsed.map_err(|e| ResponseError(format!("a line is not readable JSON: {e}")))?;
        // Such a line says nothing of being done, and the status was 200 long before it.
        if let Some(failure) = error_inside(line) {
            self.ended = true;
            return Ok(vec![StreamEvent::Error(failure.into_error())]);
        }
        if !line.is_object() {
            return Err(ResponseError("a line is not an object".to_owned()));
        }
        let mut events = Vec::new();
        if !std::mem::replace(&mut self.started, true) {
            let created = nonempty(line.get("created_at")).unwrap_or_default();
            self.id = answer_id(&created);
            events.push(StreamEvent::Start {
                id: self.id.clone(),
                model: nonempty(line.get("model")).unwrap_or_default(),
                created: unix_seconds(&created),
            });
        }
        let message = line.get("message").unwrap_or(&Value::Null);
        events.extend(nonempty(message.get("thinking")).map(StreamEvent::Reasoning));
        events.extend(nonempty(message.get("content")).map(StreamEvent::Text));
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.call(call, &mut events)?;
        }
        if let Some(reason) = stop_reason(line, self.calls > 0) {
            self.ended = true;
            events.extend(usage_of(line).map(StreamEvent::Usage));
            events.push(StreamEvent::Stop { reason, sequence: None });
            events.push(StreamEvent::End);
        }
        Ok(events)
    }

    fn text_alone(&mut self, data: &str) -> Option<TextAlone> {
        let goes_on = self.started && !self.ended;
        if goes_on { self.template.read(data, plain::text).map(|((), text)| text.into()) } else { None }
    }
}

impl Parser {
    fn call(&mut self, call: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        let (given, name, arguments) = call_of(call)?;
        let index = self.calls;
        self.calls += 1;
        let id = given.unwrap_or_else(|| call_id(&self.id, index as usize));
        events.push(StreamEvent::ToolStart { index, id, name, signature: None });
        if !arguments.is_empty() {
            events.push(StreamEvent::ToolArguments { index, fragment: arguments });
        }
        events.push(StreamEvent::ToolEnd { index });
        Ok(())
    }
}

/// Writes lines. A call is one object here, so that it is held until it is whole; the reason is held until the counts have
/// come, which belong into the same line.
#[derive(Default)]
pub(super) struct Writer {
    model: String,
    /// As it is written.
    created_at: String,
    usage: Option<Usage>,
    calls: BTreeMap<u32, ToolCall>,
    /// Calls that were written.
    called: usize,
    stop: Option<StopReason>,
}

impl StreamWriter for Writer {
    fn write(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { model, created, .. } => {
                self.model.clone_from(model);
                self.created_at = created_at(*created);
            }
            StreamEvent::Text(text) | StreamEvent::Refusal(text) => {
                self.piece(object! { content: text, role: "assistant" }, out);
            }
            StreamEvent::Reasoning(text) => {
                self.piece(object! { content: "", role: "assistant", thinking: text }, out);
            }
            // Ollama has no place for them.
            StreamEvent::ReasoningSignature(_) | StreamEvent::Opaque(_) => {}
            StreamEvent::ToolStart { index, id, name, .. } => {
                let (id, name) = (id.clone(), name.clone());
                self.calls.insert(*index, ToolCall { id, name, arguments: String::new(), signature: None });
            }
            StreamEvent::ToolArguments { index, fragment } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(fragment);
                }
            }
            StreamEvent::ToolEnd { index } => self.call(*index, out),
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Stop { reason, .. } => {
                // Not every dialect says that a call is complete.
                for index in self.calls.keys().copied().collect::<Vec<_>>() {
                    self.call(index, out);
                }
                self.stop = Some(*reason);
            }
            StreamEvent::End => {
                if let Some(reason) = self.stop.take() {
                    let ending = ending(reason, self.usage.as_ref());
                    self.line(json!({ "role": "assistant", "content": "" }), ending, out);
                }
            }
            StreamEvent::Error(error) => {
                self.calls.clear();
                line(&error_value(error).1, out);
            }
        }
    }
}

impl Writer {
    fn call(&mut self, index: u32, out: &mut Vec<u8>) {
        let Some(call) = self.calls.remove(&index) else { return };
        let value = call_value(&call, self.called);
        self.called += 1;
        self.piece(json!({ "content": "", "role": "assistant", "tool_calls": [value] }), out);
    }

    fn piece(&self, message: impl Serialize, out: &mut Vec<u8>) {
        let (created_at, model) = (&*self.created_at, &*self.model);
        line(&object! { created_at: created_at, done: false, message: message, model: model }, out);
    }

    fn line(&self, message: Value, mut fields: Map<String, Value>, out: &mut Vec<u8>) {
        fields.insert("model".into(), json!(self.model));
        fields.insert("created_at".into(), json!(self.created_at));
        fields.insert("message".into(), message);
        line(&Value::Object(fields), out);
    }
}
