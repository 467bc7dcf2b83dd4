//! Streams, read and written. A frame's data is `{TYPE: PAYLOAD}`, see [`crate::frames::event_stream`].

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::blocks::{Blocks, Kind, Step};
use super::super::emit::{message, object};
use super::super::template::Template;
use super::super::{ResponseError, StreamParser, StreamWriter, TextAlone};
use super::plain;
use super::response::named;
use super::{error_value, exception_type, stop_reason, stop_reason_name, usage_of, usage_value};
use crate::classify::error_inside;
use crate::fields::{at_path, nonempty};
use crate::frames::event_stream::exception;
use crate::ir::{StopReason, StreamEvent, Usage};

/// Reads events.
#[derive(Default)]
pub(super) struct Parser {
    started: bool,
    /// Open blocks by the provider's index, and which tool call each is.
    blocks: BTreeMap<u64, Option<u32>>,
    tools: u32,
    stopped: bool,
    ended: bool,
    /// How a text alone was written last.
    template: Template<u64>,
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
        let (kind, value) = value
            .as_object()
            .and_then(|union| union.iter().next())
            .ok_or_else(|| ResponseError("an event has no type".to_owned()))?;
        let mut events = Vec::new();
        match kind.as_str() {
            "messageStart" => self.start(&mut events),
            "contentBlockStart" => self.block_start(value, &mut events)?,
            "contentBlockDelta" => self.block_delta(value, &mut events)?,
            "contentBlockStop" => {
                let block = self.blocks.remove(&index(value)?);
                events.extend(block.flatten().map(|index| StreamEvent::ToolEnd { index }));
            }
            "messageStop" => self.message_stop(value, &mut events)?,
            "metadata" => {
                events.extend(value.get("usage").and_then(usage_of).map(StreamEvent::Usage));
                if !self.stopped {
                    return Err(ResponseError(
                        "the stream's metadata come without a reason to stop".to_owned(),
                    ));
                }
                self.ended = true;
                events.push(StreamEvent::End);
            }
            // Kinds that are still to be invented.
            _ => {}
        }
        Ok(events)
    }

    fn text_alone(&mut self, data: &str) -> Option<TextAlone> {
        if self.ended {
            return None;
        }
        let (block, text) = self.template.read(data, plain::text)?;
        self.blocks.contains_key(&block).then(|| text.into())
    }
}

impl Parser {
    fn start(&mut self, events: &mut Vec<StreamEvent>) {
        if !std::mem::replace(&mut self.started, true) {
            events.push(StreamEvent::Start { id: String::new(), model: String::new(), created: 0 });
        }
    }

    /// Only tool calls have to begin with an event of their own.
    fn block_start(&mut self, value: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        let at = index(value)?;
        let Some(call) = at_path(value, &["start", "toolUse"]) else {
            if let Some(start) =
                value.get("start").filter(|start| start.as_object().is_some_and(|s| !s.is_empty()))
            {
                events.push(StreamEvent::Opaque(named(start.clone())));
            }
            self.blocks.insert(at, None);
            return Ok(());
        };
        let missing = || ResponseError("a tool call begins without an id or a name".to_owned());
        let text = |key| nonempty(call.get(key));
        let tool = self.tools;
        self.tools += 1;
        self.blocks.insert(at, Some(tool));
        events.push(StreamEvent::ToolStart {
            index: tool,
            id: text("toolUseId").ok_or_else(missing)?,
            name: text("name").ok_or_else(missing)?,
            signature: None,
        });
        Ok(())
    }

    fn block_delta(&mut self, value: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        let tool = *self.blocks.entry(index(value)?).or_insert(None);
        let Some(delta) = value.get("delta") else { return Ok(()) };
        let text = |path: &[&str]| nonempty(at_path(delta, path));
        if delta.get("toolUse").is_some() {
            let index = tool.ok_or_else(|| ResponseError("arguments belong to no tool call".to_owned()))?;
            let fragment = text(&["toolUse", "input"]);
            events.extend(fragment.map(|fragment| StreamEvent::ToolArguments { index, fragment }));
        } else if delta.get("text").is_some() {
            events.extend(text(&["text"]).map(StreamEvent::Text));
        } else if delta.get("reasoningContent").is_some() {
            events.extend(text(&["reasoningContent", "text"]).map(StreamEvent::Reasoning));
            events.extend(text(&["reasoningContent", "signature"]).map(StreamEvent::ReasoningSignature));
            if at_path(delta, &["reasoningContent", "redactedContent"]).is_some() {
                events.push(StreamEvent::Opaque(named(delta.clone())));
            }
        } else if delta.as_object().is_some_and(|delta| !delta.is_empty()) {
            events.push(StreamEvent::Opaque(named(delta.clone())));
        }
        Ok(())
    }

    fn message_stop(&mut self, value: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        let reason = value.get("stopReason").and_then(Value::as_str);
        let reason = reason.ok_or_else(|| ResponseError("the message stops without a reason".to_owned()))?;
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        // A call that hits the bound may end without its stop.
        let open = std::mem::take(&mut self.blocks).into_values().flatten();
        events.extend(open.map(|index| StreamEvent::ToolEnd { index }));
        let sequence =
            at_path(value, &["additionalModelResponseFields", "stop_sequence"]).and_then(Value::as_str);
        events.push(StreamEvent::Stop { reason: stop_reason(reason), sequence: sequence.map(str::to_owned) });
        Ok(())
    }
}

fn index(value: &Value) -> Result<u64, ResponseError> {
    let index = value.get("contentBlockIndex").and_then(Value::as_u64);
    index.ok_or_else(|| ResponseError("a block event has no index".to_owned()))
}

/// Writes events.
#[derive(Default)]
pub(super) struct Writer {
    started: bool,
    usage: Usage,
    blocks: Blocks,
    stop: Option<(StopReason, Option<String>)>,
}

impl StreamWriter for Writer {
    fn write(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        if self.blocks.take(event) {
            self.advance(out);
        }
        match event {
            StreamEvent::Usage(usage) => self.usage = *usage,
            StreamEvent::Stop { reason, sequence } => self.stop = Some((*reason, sequence.clone())),
            StreamEvent::End => self.end(out),
            StreamEvent::Error(error) => {
                self.blocks.clear();
                let kind = exception_type(error.class);
                let mut value = error_value(kind, error);
                if let Some(fields) = value.as_object_mut() {
                    // The name is the message's own header.
                    fields.remove("__type");
                }
                out.extend_from_slice(&exception(kind, &value.to_string()).raw);
            }
            _ => {}
        }
    }
}

impl Writer {
    fn advance(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.started, true) {
            message("messageStart", &json!({ "role": "assistant" }), out);
        }
        self.blocks.advance(|index, step| {
            let say = |kind: &str, field: &str, value: Value, out: &mut Vec<u8>| {
                let mut payload = Map::new();
                payload.insert("contentBlockIndex".to_owned(), json!(index));
                if !field.is_empty() {
                    payload.insert(field.to_owned(), value);
                }
                message(kind, &Value::Object(payload), out);
            };
            match step {
                Step::Start(Kind::Tool { id, name, .. }) => {
                    say(
                        "contentBlockStart",
                        "start",
                        json!({ "toolUse": { "toolUseId": id, "name": name } }),
                        out,
                    );
                }
                Step::Start(Kind::Text | Kind::Thinking) => {}
                Step::Delta(kind, text) => match kind {
                    Kind::Text => delta(index, object! { text: text }, out),
                    Kind::Thinking => {
                        delta(index, object! { reasoningContent: object! { text: text } }, out);
                    }
                    Kind::Tool { .. } => delta(index, object! { toolUse: object! { input: text } }, out),
                },
                Step::Signature(signature) => {
                    say(
                        "contentBlockDelta",
                        "delta",
                        json!({ "reasoningContent": { "signature": signature } }),
                        out,
                    );
                }
                Step::Stop => say("contentBlockStop", "", Value::Null, out),
            }
        });
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.advance(out);
        let Some((reason, sequence)) = self.stop.take() else { return };
        let name = match &sequence {
            Some(_) if reason == StopReason::Stop => "stop_sequence",
            _ => stop_reason_name(reason),
        };
        let mut stop = json!({ "stopReason": name });
        if let Some(sequence) = sequence {
            stop["additionalModelResponseFields"] = json!({ "stop_sequence": sequence });
        }
        message("messageStop", &stop, out);
        let metadata = json!({ "usage": usage_value(&self.usage), "metrics": { "latencyMs": 0 } });
        message("metadata", &metadata, out);
    }
}

/// A piece of a block.
fn delta(index: u64, delta: impl Serialize, out: &mut Vec<u8>) {
    message("contentBlockDelta", &object! { contentBlockIndex: index, delta: delta }, out);
}
