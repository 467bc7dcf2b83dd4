//! Message streams, read and written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::blocks::{Blocks, Kind, Step};
use super::super::emit::{object, sse};
use super::super::template::Template;
use super::super::{ResponseError, StreamParser, StreamWriter, TextAlone};
use super::plain;
use super::{Counts, error_value, merge_usage, stop_reason, stop_reason_name, usage_value};
use crate::classify::error_inside;
use crate::fields::{at_path, nonempty};
use crate::ir::{StopReason, StreamEvent, Usage};

/// Reads events. The kind is taken from the data: the `event` field only repeats it.
#[derive(Default)]
pub(super) struct Parser {
    started: bool,
    counts: Counts,
    /// Open blocks by the provider's index.
    blocks: BTreeMap<u64, Block>,
    tools: u32,
    stopped: bool,
    ended: bool,
    /// How a text alone was written last.
    template: Template<u64>,
}

enum Block {
    /// Text, thinking, and kinds that mean nothing in other dialects.
    Plain,
    Tool {
        index: u32,
        /// Some compatible providers send the whole input with the start, and no deltas.
        initial: Option<String>,
    },
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
        let mut events = Vec::new();
        match kind {
            "message_start" => self.message_start(value, &mut events),
            "content_block_start" => self.block_start(value, &mut events)?,
            "content_block_delta" => self.block_delta(value, &mut events)?,
            "content_block_stop" => {
                let block = self.blocks.remove(&index(value)?);
                block.into_iter().for_each(|block| close(block, &mut events));
            }
            "message_delta" => self.message_delta(value, &mut events),
            "message_stop" => {
                if !self.stopped {
                    return Err(ResponseError("the message stops without a stop_reason".to_owned()));
                }
                self.ended = true;
                events.push(StreamEvent::End);
            }
            // `ping`, and kinds that are still to be invented.
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
    fn message_start(&mut self, value: &Value, events: &mut Vec<StreamEvent>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let text = |path| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        events.push(StreamEvent::Start {
            id: text("/message/id"),
            model: text("/message/model"),
            created: 0,
        });
        if let Some(usage) = at_path(value, &["message", "usage"]) {
            merge_usage(&mut self.counts, usage);
            events.push(StreamEvent::Usage(self.counts.usage()));
        }
    }

    fn block_start(&mut self, value: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        let block = value.get("content_block").unwrap_or(&Value::Null);
        let text = |key| nonempty(block.get(key));
        let opened = match block.get("type").and_then(Value::as_str) {
            Some("tool_use") => {
                let missing = || ResponseError("a tool call begins without an id or a name".to_owned());
                let tool = self.tools;
                self.tools += 1;
                events.push(StreamEvent::ToolStart {
                    index: tool,
                    id: text("id").ok_or_else(missing)?,
                    name: text("name").ok_or_else(missing)?,
                    signature: None,
                });
                let input = block.get("input").filter(|v| v.as_object().is_some_and(|o| !o.is_empty()));
                Block::Tool { index: tool, initial: input.map(Value::to_string) }
            }
            Some("text") => {
                events.extend(text("text").map(StreamEvent::Text));
                Block::Plain
            }
            Some("thinking") => {
                events.extend(text("thinking").map(StreamEvent::Reasoning));
                Block::Plain
            }
            _ => {
                events.push(StreamEvent::Opaque(block.clone()));
                Block::Plain
            }
        };
        self.blocks.insert(index(value)?, opened);
        Ok(())
    }

    fn block_delta(&mut self, value: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        let block = self
            .blocks
            .get_mut(&index(value)?)
            .ok_or_else(|| ResponseError("a delta belongs to no open block".to_owned()))?;
        let delta = value.get("delta").unwrap_or(&Value::Null);
        let text = |key| nonempty(delta.get(key));
        match delta.get("type").and_then(Value::as_str) {
            Some("text_delta") => events.extend(text("text").map(StreamEvent::Text)),
            Some("thinking_delta") => events.extend(text("thinking").map(StreamEvent::Reasoning)),
            Some("signature_delta") => events.extend(text("signature").map(StreamEvent::ReasoningSignature)),
            Some("input_json_delta") => match (block, text("partial_json")) {
                (Block::Tool { index, initial }, Some(fragment)) => {
                    *initial = None;
                    events.push(StreamEvent::ToolArguments { index: *index, fragment });
                }
                // Of a tool that the provider runs.
                (Block::Plain, Some(_)) => events.push(StreamEvent::Opaque(delta.clone())),
                (_, None) => {}
            },
            // Citations, and kinds that are still to be invented.
            Some(_) => events.push(StreamEvent::Opaque(delta.clone())),
            None => {}
        }
        Ok(())
    }

    fn message_delta(&mut self, value: &Value, events: &mut Vec<StreamEvent>) {
        if let Some(usage) = value.get("usage") {
            merge_usage(&mut self.counts, usage);
            // Without the output it counts no more than the beginning did.
            if usage.get("output_tokens").is_some_and(|count| !count.is_null()) {
                events.push(StreamEvent::Usage(self.counts.usage()));
            }
        }
        let Some(reason) = at_path(value, &["delta", "stop_reason"]).and_then(Value::as_str) else { return };
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        // A tool call that hits max_tokens may end without its content_block_stop.
        for (_, block) in std::mem::take(&mut self.blocks) {
            close(block, events);
        }
        let sequence = at_path(value, &["delta", "stop_sequence"]).and_then(Value::as_str).map(str::to_owned);
        events.push(StreamEvent::Stop { reason: stop_reason(reason), sequence });
    }
}

fn close(block: Block, events: &mut Vec<StreamEvent>) {
    if let Block::Tool { index, initial } = block {
        events.extend(initial.map(|fragment| StreamEvent::ToolArguments { index, fragment }));
        events.push(StreamEvent::ToolEnd { index });
    }
}

fn index(value: &Value) -> Result<u64, ResponseError> {
    let index = value.get("index").and_then(Value::as_u64);
    index.ok_or_else(|| ResponseError("a block event has no index".to_owned()))
}

/// Writes events.
#[derive(Default)]
pub(super) struct Writer {
    started: bool,
    id: String,
    model: String,
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
            StreamEvent::Start { id, model, .. } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
            }
            StreamEvent::Usage(usage) => self.usage = *usage,
            // Usage may still come, and belongs into the same event.
            StreamEvent::Stop { reason, sequence } => self.stop = Some((*reason, sequence.clone())),
            StreamEvent::End => self.end(out),
            StreamEvent::Error(error) => {
                self.blocks.clear();
                sse("error", &error_value(error).1, out);
            }
            _ => {}
        }
    }
}

impl Writer {
    fn advance(&mut self, out: &mut Vec<u8>) {
        self.message_start(out);
        self.blocks.advance(|index, step| match step {
            Step::Start(kind) => {
                let block = match kind {
                    Kind::Text => json!({ "type": "text", "text": "" }),
                    Kind::Thinking => json!({ "type": "thinking", "thinking": "", "signature": "" }),
                    Kind::Tool { id, name, .. } => {
                        json!({ "type": "tool_use", "id": id, "name": name, "input": {} })
                    }
                };
                emit_typed("content_block_start", json!({ "index": index, "content_block": block }), out);
            }
            Step::Delta(kind, text) => match kind {
                Kind::Text => delta(index, object! { text: text, r#type: "text_delta" }, out),
                Kind::Thinking => delta(index, object! { thinking: text, r#type: "thinking_delta" }, out),
                Kind::Tool { .. } => {
                    delta(index, object! { partial_json: text, r#type: "input_json_delta" }, out);
                }
            },
            Step::Signature(signature) => {
                delta(index, object! { signature: signature, r#type: "signature_delta" }, out);
            }
            Step::Stop => emit_typed("content_block_stop", json!({ "index": index }), out),
        });
    }

    fn message_start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage_value(&self.usage),
        });
        emit_typed("message_start", json!({ "message": message }), out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.advance(out);
        let Some((reason, sequence)) = self.stop.take() else { return };
        let name = match &sequence {
            Some(_) if reason == StopReason::Stop => "stop_sequence",
            _ => stop_reason_name(reason),
        };
        let delta = json!({ "stop_reason": name, "stop_sequence": sequence });
        emit_typed("message_delta", json!({ "delta": delta, "usage": usage_value(&self.usage) }), out);
        emit_typed("message_stop", json!({}), out);
    }
}

/// A piece of a block.
fn delta(index: u64, delta: impl Serialize, out: &mut Vec<u8>) {
    let kind = "content_block_delta";
    sse(kind, &object! { delta: delta, index: index, r#type: kind }, out);
}

fn emit_typed(kind: &str, mut value: Value, out: &mut Vec<u8>) {
    value["type"] = json!(kind);
    sse(kind, &value, out);
}
