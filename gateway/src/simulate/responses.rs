//! OpenAI responses, written as the provider writes them.

use serde_json::{Value, json};

use super::chat::{Answer, Ask, Finish, Format, Ids};
use super::openai::CREATED;
use super::reply::{Event, Reply};
use super::tokens;

pub(super) mod request;

/// The answer as a response or as a stream of events.
pub(super) fn write(ask: &Ask, answer: &Answer, ids: &Ids) -> Reply {
    let writer = Writer { ask, answer, ids };
    if ask.stream {
        Reply::events(writer.events())
    } else {
        Reply::json(http::StatusCode::OK, &writer.response())
    }
}

struct Writer<'a> {
    ask: &'a Ask,
    answer: &'a Answer,
    ids: &'a Ids,
}

/// The events of a stream, numbered as they come.
struct Numbered(Vec<Event>);

impl Numbered {
    fn push(&mut self, kind: &str, mut data: Value, content: bool) {
        data["type"] = kind.into();
        data["sequence_number"] = self.0.len().into();
        self.0.push(Event::sse(Some(kind), &data.to_string(), content));
    }
}

impl Writer<'_> {
    fn response(&self) -> Value {
        let mut response = self.envelope(self.status());
        response["incomplete_details"] = match self.answer.finish {
            Finish::Length => json!({"reason": "max_output_tokens"}),
            Finish::Filter => json!({"reason": "content_filter"}),
            Finish::End | Finish::Stop(_) | Finish::Tools => Value::Null,
        };
        response["output"] = self.output();
        let (input, output) = (self.ask.input_tokens, self.answer.output_tokens);
        response["usage"] = json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input + output
        });
        response
    }

    fn output(&self) -> Value {
        if self.answer.calls.is_empty() {
            if self.answer.text.is_empty() {
                return json!([]);
            }
            return json!([self.message(self.status(), &[self.part(&self.answer.text)])]);
        }
        (0..self.answer.calls.len())
            .map(|at| self.call(at, "completed", &self.answer.calls[at].arguments))
            .collect()
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Numbered(Vec::new());
        for kind in ["response.created", "response.in_progress"] {
            events.push(kind, json!({"response": self.envelope("in_progress")}), false);
        }
        if self.answer.calls.is_empty() && !self.answer.text.is_empty() {
            self.text_events(&mut events);
        }
        for at in 0..self.answer.calls.len() {
            self.call_events(at, &mut events);
        }
        let last = if self.status() == "completed" { "response.completed" } else { "response.incomplete" };
        events.push(last, json!({"response": self.response()}), false);
        events.0
    }

    fn text_events(&self, events: &mut Numbered) {
        let id = self.message_id();
        let added = json!({"output_index": 0, "item": self.message("in_progress", &[])});
        events.push("response.output_item.added", added, false);
        let place = |mut data: Value| {
            data["item_id"] = id.clone().into();
            data["output_index"] = 0.into();
            data["content_index"] = 0.into();
            data
        };
        events.push("response.content_part.added", place(json!({"part": self.part("")})), false);
        for piece in tokens::chunks(&self.answer.text) {
            let delta = place(json!({"delta": piece, "logprobs": [], "obfuscation": "xxxxxxxx"}));
            events.push("response.output_text.delta", delta, true);
        }
        let text = &self.answer.text;
        events.push("response.output_text.done", place(json!({"text": text, "logprobs": []})), false);
        events.push("response.content_part.done", place(json!({"part": self.part(text)})), false);
        let done = json!({"output_index": 0, "item": self.message(self.status(), &[self.part(text)])});
        events.push("response.output_item.done", done, false);
    }

    fn call_events(&self, at: usize, events: &mut Numbered) {
        let arguments = &self.answer.calls[at].arguments;
        let id = self.item_id(at);
        let added = json!({"output_index": at, "item": self.call(at, "in_progress", "")});
        events.push("response.output_item.added", added, true);
        for piece in tokens::chunks(arguments) {
            let delta = json!({"item_id": id, "output_index": at, "delta": piece, "obfuscation": "xxxx"});
            events.push("response.function_call_arguments.delta", delta, true);
        }
        let done = json!({"item_id": id, "output_index": at, "arguments": arguments});
        events.push("response.function_call_arguments.done", done, false);
        let item = json!({"output_index": at, "item": self.call(at, "completed", arguments)});
        events.push("response.output_item.done", item, false);
    }

    fn envelope(&self, status: &str) -> Value {
        let format = match &self.ask.format {
            Format::Text => json!({"type": "text"}),
            Format::Json => json!({"type": "json_object"}),
            Format::Schema(schema) => json!({"type": "json_schema", "name": "simulated", "schema": schema}),
        };
        json!({
            "id": format!("resp_{}", self.ids.id("response", 40)),
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": if self.ask.system.is_empty() { Value::Null } else { self.ask.system.clone().into() },
            "max_output_tokens": self.ask.max_tokens,
            "max_tool_calls": null,
            "model": self.ask.model,
            "output": [],
            "parallel_tool_calls": self.ask.parallel,
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "service_tier": "default",
            "store": false,
            "temperature": 1.0,
            "text": {"format": format, "verbosity": "medium"},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": null,
            "user": null,
            "metadata": {}
        })
    }

    fn message(&self, status: &str, content: &[Value]) -> Value {
        json!({
            "id": self.message_id(), "type": "message", "status": status, "content": content, "role": "assistant"
        })
    }

    fn part(&self, text: &str) -> Value {
        json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
    }

    fn call(&self, at: usize, status: &str, arguments: &str) -> Value {
        json!({
            "id": self.item_id(at),
            "type": "function_call",
            "status": status,
            "arguments": arguments,
            "call_id": format!("call_{}", self.ids.id(&format!("call {at}"), 24)),
            "name": self.answer.calls[at].name
        })
    }

    fn status(&self) -> &'static str {
        match self.answer.finish {
            Finish::End | Finish::Stop(_) | Finish::Tools => "completed",
            Finish::Length | Finish::Filter => "incomplete",
        }
    }

    fn message_id(&self) -> String {
        format!("msg_{}", self.ids.id("message", 40))
    }

    fn item_id(&self, at: usize) -> String {
        format!("fc_{}", self.ids.id(&format!("item {at}"), 40))
    }
}
