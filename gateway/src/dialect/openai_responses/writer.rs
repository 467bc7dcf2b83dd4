//! Streams for clients.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::emit::{object, sse};
use super::super::{StreamWriter, openai_chat};
use super::tools::Forms;
use super::{envelope, items, status, usage_value};
use crate::ir::{ApiError, StopReason, StreamEvent, ToolCall, Usage};

/// Writes events. Every part and item is closed with all that it said, and the last event repeats the whole answer, so
/// that the answer is kept until then.
#[derive(Default)]
pub(super) struct Writer {
    started: bool,
    id: String,
    model: String,
    created: u64,
    sequence: u64,
    usage: Option<Usage>,
    /// Each item of the output, as it is or was when it was done.
    output: Vec<Item>,
    /// Where the open message or reasoning stands, if one is open.
    prose: Option<usize>,
    /// Where each call that is not complete stands.
    calls: BTreeMap<u32, usize>,
    stop: Option<StopReason>,
    refused: bool,
    /// How the client knows the functions that are called.
    forms: Forms,
}

/// An item of the output.
enum Item {
    Message(Vec<Said>),
    Reasoning {
        text: String,
        signature: Option<String>,
    },
    Call(ToolCall),
    /// As it was written when it was done.
    Done(Value),
}

/// A part of a message.
struct Said {
    refusal: bool,
    text: String,
}

impl Said {
    fn value(&self) -> Value {
        if self.refusal { items::refusal(&self.text) } else { items::text(&self.text) }
    }
}

impl Item {
    fn kind(&self) -> &'static str {
        match self {
            Item::Message(_) => "msg",
            Item::Reasoning { .. } => "rs",
            Item::Call(_) => "fc",
            Item::Done(_) => "item",
        }
    }
}

impl StreamWriter for Writer {
    fn write(&mut self, event: &StreamEvent, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Start { id, model, created } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
                self.created = *created;
                self.start(out);
            }
            StreamEvent::Text(text) => self.said(text, false, out),
            StreamEvent::Refusal(text) => self.said(text, true, out),
            StreamEvent::Reasoning(text) => self.thought(text, out),
            StreamEvent::ReasoningSignature(signature) => {
                let at = self.reasoning(out);
                if let Some(Item::Reasoning { signature: known, .. }) = self.output.get_mut(at) {
                    *known = Some(signature.clone());
                }
            }
            StreamEvent::ToolStart { index, id, name, signature } => {
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                let call = ToolCall { id, name, arguments: String::new(), signature };
                self.close_prose("completed", out);
                let at = self.open(Item::Call(call), out);
                self.calls.insert(*index, at);
            }
            StreamEvent::ToolArguments { index, fragment } => {
                if let Some(at) = self.calls.get(index) {
                    self.arguments(*at, fragment, out);
                }
            }
            StreamEvent::ToolEnd { index } => {
                if let Some(at) = self.calls.remove(index) {
                    self.close_call(at, "completed", out);
                }
            }
            StreamEvent::Opaque(_) => {}
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Stop { reason, .. } => {
                let (word, _) = status(*reason, self.refused);
                let state = if word == "completed" { word } else { "incomplete" };
                self.start(out);
                self.close_prose(state, out);
                for (_, at) in std::mem::take(&mut self.calls) {
                    self.close_call(at, state, out);
                }
                self.stop = Some(*reason);
            }
            StreamEvent::End => self.end(out),
            StreamEvent::Error(error) => {
                let (_, body) = openai_chat::error_value(error);
                let inner = &body["error"];
                // The fields where the documentation has them, and where the client libraries look.
                let fields = json!({
                    "code": inner["code"], "message": inner["message"], "param": inner["param"], "error": inner,
                });
                // Some clients look at the one, and some at the other.
                self.fail(inner, out);
                self.emit("error", fields, out);
            }
        }
    }

    fn begun(&mut self, events: u64) {
        self.sequence = events;
    }
}

impl Writer {
    /// A writer for a client that knows functions in these forms.
    pub(super) fn new(forms: Forms) -> Writer {
        Writer { forms, ..Writer::default() }
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        for kind in ["response.created", "response.in_progress"] {
            let response = envelope(&self.id, &self.model, self.created, "in_progress");
            self.emit(kind, json!({ "response": response }), out);
        }
    }

    fn item_id(&self, at: usize) -> String {
        let kind = self.output.get(at).map_or("item", Item::kind);
        items::id(kind, &self.id, at)
    }

    /// A new item, at the end of the output.
    fn open(&mut self, item: Item, out: &mut Vec<u8>) -> usize {
        self.start(out);
        let at = self.output.len();
        self.output.push(item);
        let id = self.item_id(at);
        let item = match &self.output[at] {
            Item::Message(_) => items::message(&id, "in_progress", &[]),
            Item::Reasoning { .. } => items::reasoning(&id, "", None),
            Item::Call(call) => items::call(&id, "in_progress", call, &self.forms),
            Item::Done(_) => Value::Null,
        };
        self.emit("response.output_item.added", json!({ "output_index": at, "item": item }), out);
        at
    }

    fn close(&mut self, at: usize, item: Value, out: &mut Vec<u8>) {
        self.emit("response.output_item.done", json!({ "output_index": at, "item": item }), out);
        self.output[at] = Item::Done(item);
    }

    fn said(&mut self, text: &str, refusal: bool, out: &mut Vec<u8>) {
        self.refused |= refusal;
        let open = self.prose.filter(|at| matches!(self.output.get(*at), Some(Item::Message(_))));
        let at = match open {
            Some(at) => at,
            None => {
                self.close_prose("completed", out);
                self.open(Item::Message(Vec::new()), out)
            }
        };
        self.prose = Some(at);
        let id = self.item_id(at);
        let fits = match self.output.get(at) {
            Some(Item::Message(parts)) => parts.last().is_some_and(|part| part.refusal == refusal),
            _ => false,
        };
        if !fits {
            self.close_part(at, out);
            let part = Said { refusal, text: String::new() };
            let value = part.value();
            let Some(Item::Message(parts)) = self.output.get_mut(at) else { return };
            let index = parts.len();
            parts.push(part);
            let fields = json!({ "item_id": id, "output_index": at, "content_index": index, "part": value });
            self.emit("response.content_part.added", fields, out);
        }
        let Some(Item::Message(parts)) = self.output.get_mut(at) else { return };
        let index = parts.len() - 1;
        parts[index].text.push_str(text);
        let sequence = self.next();
        if refusal {
            let kind = "response.refusal.delta";
            let event = object! {
                content_index: index, delta: text, item_id: id, output_index: at, sequence_number: sequence,
                r#type: kind
            };
            sse(kind, &event, out);
        } else {
            let kind = "response.output_text.delta";
            let logprobs: [(); 0] = [];
            let event = object! {
                content_index: index, delta: text, item_id: id, logprobs: logprobs, output_index: at,
                sequence_number: sequence, r#type: kind
            };
            sse(kind, &event, out);
        }
    }

    /// Closes the last part of a message, if it has one.
    fn close_part(&mut self, at: usize, out: &mut Vec<u8>) {
        let id = self.item_id(at);
        let Some(Item::Message(parts)) = self.output.get(at) else { return };
        let Some(last) = parts.last() else { return };
        let (index, refusal, text, value) = (parts.len() - 1, last.refusal, last.text.clone(), last.value());
        let place = |mut fields: Value| {
            fields["item_id"] = json!(id);
            fields["output_index"] = json!(at);
            fields["content_index"] = json!(index);
            fields
        };
        match refusal {
            true => self.emit("response.refusal.done", place(json!({ "refusal": text })), out),
            false => {
                let fields = place(json!({ "text": text, "logprobs": [] }));
                self.emit("response.output_text.done", fields, out);
            }
        }
        self.emit("response.content_part.done", place(json!({ "part": value })), out);
    }

    /// Where the open reasoning stands.
    fn reasoning(&mut self, out: &mut Vec<u8>) -> usize {
        let open = self.prose.filter(|at| matches!(self.output.get(*at), Some(Item::Reasoning { .. })));
        let at = match open {
            Some(at) => at,
            None => {
                self.close_prose("completed", out);
                self.open(Item::Reasoning { text: String::new(), signature: None }, out)
            }
        };
        self.prose = Some(at);
        at
    }

    fn thought(&mut self, thought: &str, out: &mut Vec<u8>) {
        let at = self.reasoning(out);
        let id = self.item_id(at);
        let Some(Item::Reasoning { text, .. }) = self.output.get_mut(at) else { return };
        let first = text.is_empty();
        text.push_str(thought);
        if first {
            let place = json!({ "item_id": id, "output_index": at, "summary_index": 0 });
            let fields = with(&place, "part", items::summary(""));
            self.emit("response.reasoning_summary_part.added", fields, out);
        }
        let (sequence, kind) = (self.next(), "response.reasoning_summary_text.delta");
        let event = object! {
            delta: thought, item_id: id, output_index: at, sequence_number: sequence, summary_index: 0,
            r#type: kind
        };
        sse(kind, &event, out);
    }

    /// Closes the open message or reasoning, which anything else that begins completes.
    fn close_prose(&mut self, state: &str, out: &mut Vec<u8>) {
        let Some(at) = self.prose.take() else { return };
        let id = self.item_id(at);
        self.close_part(at, out);
        let item = match &self.output[at] {
            Item::Message(parts) => {
                let content: Vec<Value> = parts.iter().map(Said::value).collect();
                items::message(&id, state, &content)
            }
            Item::Reasoning { text, signature } => {
                let item = items::reasoning(&id, text, signature.as_deref());
                if !text.is_empty() {
                    let text = text.clone();
                    let place = json!({ "item_id": id, "output_index": at, "summary_index": 0 });
                    let fields = with(&place, "text", json!(text));
                    self.emit("response.reasoning_summary_text.done", fields, out);
                    let fields = with(&place, "part", items::summary(&text));
                    self.emit("response.reasoning_summary_part.done", fields, out);
                }
                item
            }
            Item::Call(_) | Item::Done(_) => return,
        };
        self.close(at, item, out);
    }

    fn arguments(&mut self, at: usize, fragment: &str, out: &mut Vec<u8>) {
        let id = self.item_id(at);
        let Some(Item::Call(call)) = self.output.get_mut(at) else { return };
        call.arguments.push_str(fragment);
        // A text is said when it is known as a whole: within the arguments it is escaped.
        if self.forms.takes_text(&call.name) {
            return;
        }
        let (sequence, kind) = (self.next(), "response.function_call_arguments.delta");
        let event = object! {
            delta: fragment, item_id: id, output_index: at, sequence_number: sequence, r#type: kind
        };
        sse(kind, &event, out);
    }

    fn close_call(&mut self, at: usize, state: &str, out: &mut Vec<u8>) {
        let plain = |call: &ToolCall| call.arguments.is_empty() && !self.forms.takes_text(&call.name);
        if matches!(self.output.get(at), Some(Item::Call(call)) if plain(call)) {
            self.arguments(at, items::arguments(""), out);
        }
        let id = self.item_id(at);
        let Some(Item::Call(call)) = self.output.get(at) else { return };
        let item = items::call(&id, state, call, &self.forms);
        let place = json!({ "item_id": id, "output_index": at });
        match item.get("input") {
            Some(text) => {
                let text = text.clone();
                self.emit("response.custom_tool_call_input.delta", with(&place, "delta", text.clone()), out);
                self.emit("response.custom_tool_call_input.done", with(&place, "input", text), out);
            }
            None => {
                let named = with(&place, "name", item["name"].clone());
                let fields = with(&named, "arguments", json!(call.arguments));
                self.emit("response.function_call_arguments.done", fields, out);
            }
        }
        self.close(at, item, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let Some(reason) = self.stop.take() else { return };
        let (word, details) = status(reason, self.refused);
        let mut response: Map<String, Value> = envelope(&self.id, &self.model, self.created, word);
        let output = std::mem::take(&mut self.output).into_iter().filter_map(|item| match item {
            Item::Done(value) => Some(value),
            // Everything was closed when the answer stopped.
            Item::Message(_) | Item::Reasoning { .. } | Item::Call(_) => None,
        });
        response.insert("output".into(), output.collect());
        response.insert("incomplete_details".into(), details);
        response.insert("usage".into(), self.usage.as_ref().map_or(Value::Null, usage_value));
        self.emit(&format!("response.{word}"), json!({ "response": response }), out);
    }

    /// The answer has failed.
    fn fail(&mut self, error: &Value, out: &mut Vec<u8>) {
        let mut response = envelope(&self.id, &self.model, self.created, "failed");
        // Here an error has a code, whatever it is.
        let code = if error["code"].is_null() { json!("server_error") } else { error["code"].clone() };
        response.insert("error".into(), json!({ "code": code, "message": error["message"] }));
        response.insert("usage".into(), self.usage.as_ref().map_or(Value::Null, usage_value));
        self.emit("response.failed", json!({ "response": response }), out);
    }

    fn emit(&mut self, kind: &str, mut fields: Value, out: &mut Vec<u8>) {
        fields["type"] = json!(kind);
        fields["sequence_number"] = json!(self.next());
        sse(kind, &fields, out);
    }

    /// The number of the event that is about to be written.
    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }
}

/// A stream of an answer that fails before anything is said.
pub(super) fn failed(error: &ApiError) -> Vec<u8> {
    let (mut writer, mut out) = (Writer::default(), Vec::new());
    writer.start(&mut out);
    let (_, body) = openai_chat::error_value(error);
    writer.fail(&body["error"], &mut out);
    out
}

fn with(fields: &Value, key: &str, value: Value) -> Value {
    let mut fields = fields.clone();
    fields[key] = value;
    fields
}
