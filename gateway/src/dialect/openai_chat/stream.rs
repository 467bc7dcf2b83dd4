//! Chat completion chunks, read and written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::emit::{object, sse};
use super::super::template::Template;
use super::super::{
    MOST_ANSWERS, ResponseError, StreamParser, StreamWriter, TextAlone, notes, of_another_answer,
    says_something,
};
use super::plain;
use super::{
    NOTES, SOURCES, arguments_of_call, error_value, extra_content, finish_of, finish_reason, name_of_call,
    said_in_part, stop_reason, usage_of, usage_value,
};
use crate::classify::error_inside;
use crate::fields::{at_path, nonempty};
use crate::ir::{StopReason, StreamEvent, Usage};

/// Reads chunks. Only the first choice becomes events; further ones (`n` > 1, which never crosses dialects) are
/// followed to their ends.
#[derive(Default)]
pub(super) struct Parser {
    started: bool,
    tools: Tools,
    refused: bool,
    /// Whether each choice seen so far has finished.
    finished: BTreeMap<u64, bool>,
    /// What was counted of each, where that stands in the choice (Moonshot).
    counted: BTreeMap<u64, Usage>,
    ended: bool,
    /// Whether `[DONE]` may be missing.
    no_done: bool,
    /// How a text alone was written last.
    template: Template<()>,
}

impl StreamParser for Parser {
    fn read_data(
        &mut self,
        data: &str,
        parsed: Result<&Value, &serde_json::Error>,
    ) -> Result<Vec<StreamEvent>, ResponseError> {
        if self.ended {
            return Ok(Vec::new());
        }
        if data.trim() == "[DONE]" {
            return self.done();
        }
        let chunk = parsed.map_err(|e| ResponseError(format!("a chunk is not readable JSON: {e}")))?;
        if let Some(failure) = error_inside(chunk) {
            self.ended = true;
            return Ok(vec![StreamEvent::Error(failure.into_error())]);
        }
        if !chunk.is_object() {
            return Err(ResponseError("a chunk is not an object".to_owned()));
        }
        let mut events = Vec::new();
        let mut counted_here = false;
        for choice in chunk.get("choices").and_then(Value::as_array).into_iter().flatten() {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            self.finished.entry(index).or_insert(false);
            if self.finished.len() > MOST_ANSWERS {
                return Err(ResponseError(format!("it holds more than {MOST_ANSWERS} choices")));
            }
            if !std::mem::replace(&mut self.started, true) {
                events.push(StreamEvent::Start {
                    id: nonempty(chunk.get("id")).unwrap_or_default(),
                    model: nonempty(chunk.get("model")).unwrap_or_default(),
                    created: chunk.get("created").and_then(Value::as_u64).unwrap_or(0),
                });
            }
            let finish = finish_of(choice);
            if index == 0 {
                if let Some(delta) = choice.get("delta") {
                    self.delta(delta, &mut events)?;
                }
                if let Some(finish) = finish {
                    // They are repeated in each chunk.
                    events.extend(notes(chunk, SOURCES).map(StreamEvent::Opaque));
                    self.finish(finish, &mut events);
                }
            } else if choice.get("delta").is_some_and(says_something) {
                events.push(of_another_answer());
            }
            if finish.is_some() {
                self.finished.insert(index, true);
            }
            if let Some(usage) = choice.get("usage").and_then(usage_of) {
                self.counted.insert(index, usage);
                counted_here = true;
            }
        }
        let usage = chunk.get("usage").and_then(usage_of);
        let usage = usage
            .or_else(|| at_path(chunk, &["x_groq", "usage"]).and_then(usage_of))
            .or_else(|| if counted_here { self.counted() } else { None });
        events.extend(usage.map(StreamEvent::Usage));
        Ok(events)
    }

    fn text_alone(&mut self, data: &str) -> Option<TextAlone> {
        let goes_on = self.started && !self.ended && self.finished.contains_key(&0);
        if goes_on { self.template.read(data, plain::text).map(|((), text)| text.into()) } else { None }
    }

    fn end(&mut self) -> Vec<StreamEvent> {
        if self.ended || !self.no_done || !self.has_finished() {
            return Vec::new();
        }
        self.ended = true;
        vec![StreamEvent::End]
    }
}

impl Parser {
    /// For a provider that may leave out `[DONE]`.
    pub(super) fn without_done() -> Parser {
        Parser { no_done: true, ..Parser::default() }
    }

    fn has_finished(&self) -> bool {
        !self.finished.is_empty() && self.finished.values().all(|finished| *finished)
    }

    /// What was counted of all choices, which answer one and the same input.
    fn counted(&self) -> Option<Usage> {
        self.counted.values().copied().reduce(|all, one| Usage {
            output: all.output.saturating_add(one.output),
            reasoning: all.reasoning.saturating_add(one.reasoning),
            ..all
        })
    }

    fn done(&mut self) -> Result<Vec<StreamEvent>, ResponseError> {
        if !self.has_finished() {
            return Err(ResponseError("the stream says [DONE] without a finish_reason".to_owned()));
        }
        self.ended = true;
        Ok(vec![StreamEvent::End])
    }

    fn delta(&mut self, delta: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        if let Some(text) = ["reasoning_content", "reasoning"].iter().find_map(|key| nonempty(delta.get(key)))
        {
            events.push(StreamEvent::Reasoning(text));
        }
        match delta.get("content") {
            Some(Value::String(text)) if !text.is_empty() => events.push(StreamEvent::Text(text.clone())),
            Some(Value::Array(parts)) => {
                events.extend(parts.iter().filter_map(said_in_part).map(|(thought, text)| match thought {
                    true => StreamEvent::Reasoning(text),
                    false => StreamEvent::Text(text),
                }));
            }
            _ => {}
        }
        events.extend(notes(delta, NOTES).map(StreamEvent::Opaque));
        if let Some(text) = nonempty(delta.get("refusal")) {
            self.refused = true;
            events.push(StreamEvent::Refusal(text));
        }
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.tools.delta(call, events)?;
        }
        if let Some(call) = delta.get("function_call").filter(|call| call.is_object()) {
            self.tools.only(call, events);
        }
        Ok(())
    }

    fn finish(&mut self, finish: &str, events: &mut Vec<StreamEvent>) {
        if self.finished.get(&0) == Some(&true) {
            return;
        }
        let count = self.tools.calls.len();
        events.extend((0..count).map(|i| StreamEvent::ToolEnd { index: i as u32 }));
        let reason = stop_reason(finish, count > 0, self.refused);
        events.push(StreamEvent::Stop { reason, sequence: None });
    }
}

/// Tool calls by the provider's `index`, which is not always there and not always dense.
#[derive(Default)]
struct Tools {
    /// The provider's index and id of each call, in order of appearance. The id is empty where there was none.
    calls: Vec<(Option<u64>, String)>,
    /// Which of them is the one call that a request with `functions` gets.
    only: Option<usize>,
}

impl Tools {
    fn delta(&mut self, call: &Value, events: &mut Vec<StreamEvent>) -> Result<(), ResponseError> {
        let given = call.get("index").and_then(Value::as_u64);
        let id = nonempty(call.get("id"));
        let name = name_of_call(call);
        let known = match given {
            // Some give every call the same index. Another id and a name make another call.
            Some(_) => self.calls.iter().rposition(|(index, _)| *index == given).filter(|at| {
                let known = &self.calls[*at].1;
                name.is_none() || known.is_empty() || id.as_ref().is_none_or(|id| id == known)
            }),
            // Without an index a new id, or a name, begins a call, and anything else belongs to the last one.
            None => match &id {
                Some(id) => self.calls.iter().position(|(_, known)| known == id),
                None if name.is_none() => self.calls.len().checked_sub(1),
                None => None,
            },
        };
        let index = match known {
            Some(index) => index,
            None => {
                let name =
                    name.ok_or_else(|| ResponseError("a tool call begins without a name".to_owned()))?;
                self.begin(given, id, name, events)
            }
        };
        let fragment = arguments_of_call(call);
        if !fragment.is_empty() {
            events.push(StreamEvent::ToolArguments { index: index as u32, fragment });
        }
        Ok(())
    }

    /// The one call that a request with `functions` gets: it has neither an index nor an id.
    fn only(&mut self, call: &Value, events: &mut Vec<StreamEvent>) {
        let index = match (self.only, nonempty(call.get("name"))) {
            (Some(index), _) => index,
            (None, Some(name)) if self.calls.is_empty() => self.begin(None, None, name, events),
            // Some spell out everything that there could be, or say the same in both fields.
            (None, _) => return,
        };
        self.only = Some(index);
        let fragment = nonempty(call.get("arguments"));
        events.extend(fragment.map(|fragment| StreamEvent::ToolArguments { index: index as u32, fragment }));
    }

    /// A call begins. One without an id gets one.
    fn begin(
        &mut self,
        given: Option<u64>,
        id: Option<String>,
        name: String,
        events: &mut Vec<StreamEvent>,
    ) -> usize {
        let index = self.calls.len();
        self.calls.push((given, id.clone().unwrap_or_default()));
        let id = id.unwrap_or_else(|| format!("call_{index}"));
        events.push(StreamEvent::ToolStart { index: index as u32, id, name, signature: None });
        index
    }
}

/// Writes chunks.
pub(super) struct Writer {
    include_usage: bool,
    id: String,
    model: String,
    created: u64,
    started: bool,
    /// Whether each tool call has had any argument text.
    arguments: BTreeMap<u32, bool>,
    refused: bool,
    usage: Option<Usage>,
}

impl Writer {
    pub(super) fn new(include_usage: bool) -> Writer {
        Writer {
            include_usage,
            id: String::new(),
            model: String::new(),
            created: 0,
            started: false,
            arguments: BTreeMap::new(),
            refused: false,
            usage: None,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.started, true) {
            self.choice(object! { content: "", role: "assistant" }, None, out);
        }
    }

    fn choice(&mut self, delta: impl Serialize, finish: Option<&str>, out: &mut Vec<u8>) {
        self.begin(out);
        let choice = object! { delta: delta, finish_reason: finish, index: 0, logprobs: () };
        self.chunk([choice], None, out);
    }

    fn chunk(&self, choices: impl Serialize, usage: Option<Value>, out: &mut Vec<u8>) {
        let (created, id, model) = (self.created, &*self.id, &*self.model);
        let object = "chat.completion.chunk";
        let (choices, name) = (&choices, "");
        if self.include_usage {
            let chunk = object! {
                choices: choices, created: created, id: id, model: model, object: object, usage: usage
            };
            sse(name, &chunk, out);
        } else {
            let chunk = object! { choices: choices, created: created, id: id, model: model, object: object };
            sse(name, &chunk, out);
        }
    }

    fn arguments(&mut self, index: u32, fragment: &str, out: &mut Vec<u8>) {
        self.arguments.insert(index, true);
        let call = object! { function: object! { arguments: fragment }, index: index };
        self.choice(object! { tool_calls: [call] }, None, out);
    }

    /// Clients parse the arguments: a call that had none gets an empty object.
    fn end_tool(&mut self, index: u32, out: &mut Vec<u8>) {
        if self.arguments.get(&index) == Some(&false) {
            self.arguments(index, "{}", out);
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
                self.begin(out);
            }
            StreamEvent::Text(text) => self.choice(object! { content: text }, None, out),
            StreamEvent::Reasoning(text) => self.choice(object! { reasoning_content: text }, None, out),
            // Chat completions have no place for them.
            StreamEvent::ReasoningSignature(_) | StreamEvent::Opaque(_) => {}
            StreamEvent::Refusal(text) => {
                self.refused = true;
                self.choice(object! { refusal: text }, None, out);
            }
            StreamEvent::ToolStart { index, id, name, signature } => {
                self.arguments.insert(*index, false);
                let function = json!({ "name": name, "arguments": "" });
                let mut call = json!({ "index": index, "id": id, "type": "function", "function": function });
                if let Some(signature) = signature {
                    call["extra_content"] = extra_content(signature);
                }
                self.choice(object! { tool_calls: [call] }, None, out);
            }
            StreamEvent::ToolArguments { index, fragment } => self.arguments(*index, fragment, out),
            StreamEvent::ToolEnd { index } => self.end_tool(*index, out),
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Stop { reason, .. } => {
                for index in self.arguments.keys().copied().collect::<Vec<_>>() {
                    self.end_tool(index, out);
                }
                let finish = match reason {
                    StopReason::Refusal if self.refused => "stop",
                    reason => finish_reason(*reason),
                };
                self.choice(json!({}), Some(finish), out);
            }
            StreamEvent::End => {
                if self.include_usage
                    && let Some(usage) = self.usage
                {
                    self.chunk(json!([]), Some(usage_value(&usage)), out);
                }
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
            StreamEvent::Error(error) => sse("", &error_value(error).1, out),
        }
    }
}
