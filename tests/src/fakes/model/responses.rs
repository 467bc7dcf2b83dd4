//! OpenAI's responses.

use serde_json::{Value, json};

use super::asked::Calls;
use super::{Asked, CACHED, Door, INPUT, OUTPUT, SIGNATURE, Said, Script, Tool, halves, named};
use crate::fakes::responses::{ID, Responses};
use crate::fakes::{Failure, pieces};
use crate::reply::{Piece, Reply};
use crate::wire::Received;

/// The door of `judge`, which knows what it takes.
pub fn responses(judge: Responses) -> impl Door {
    judge
}

impl Door for Responses {
    fn objection(&self, request: &Received) -> Option<Reply> {
        Responses::objection(self, request)
    }

    fn asked(&self, request: &Received) -> Result<Asked, String> {
        let body = request.json();
        let mut asked = Asked { stream: body["stream"] == json!(true), ..Asked::default() };
        asked.thinks = body["reasoning"]["effort"].is_string();
        asked.aloud = body["reasoning"]["summary"].is_string();
        let mut calls = Calls::default();
        if let Some(text) = body["input"].as_str() {
            asked.hear(text);
        }
        for (i, item) in body["input"].as_array().into_iter().flatten().enumerate() {
            let at = |what: String| format!("input[{i}]: {what}");
            let of = |name: &str| item[name].as_str().unwrap_or_default();
            match of("type") {
                "function_call" => {
                    if !serde_json::from_str::<Value>(of("arguments")).is_ok_and(|v| v.is_object()) {
                        return Err(at("arguments are no object".into()));
                    }
                    calls.call(of("call_id"), of("name")).map_err(at)?;
                }
                "function_call_output" => calls.result(of("call_id"), of("output")).map_err(at)?,
                "reasoning"
                    if item["encrypted_content"].as_str().is_some_and(|sealed| sealed != SIGNATURE) =>
                {
                    return Err(at("the encrypted content could not be verified".into()));
                }
                "reasoning" => {}
                "message" | "" => message(item, &mut asked, &mut calls).map_err(at)?,
                other => return Err(at(format!("Invalid value: '{other}'"))),
            }
        }
        asked.results = calls.results()?;
        for tool in body["tools"].as_array().into_iter().flatten() {
            let name = tool["name"].as_str().unwrap_or_default().to_owned();
            asked.tools.push(Tool { name, parameters: tool["parameters"].clone() });
        }
        let format = &body["text"]["format"];
        if format["type"] == "json_schema" {
            if !format["name"].is_string() {
                return Err("Missing required parameter: 'text.format.name'.".into());
            }
            asked.schema = Some(format["schema"].clone());
        }
        Ok(asked)
    }

    fn invalid(&self, message: &str) -> Reply {
        Responses::error(400, message, "", None)
    }

    fn failure(&self, failure: Failure) -> Reply {
        Responses::failure(self, failure)
    }

    fn whole(&self, request: &Received, said: &Said) -> Reply {
        let whole = response(&request.json(), "completed", &items(said), said);
        Reply::json(200, &whole).with_header("x-request-id", "req_fake")
    }

    fn stream(&self, request: &Received, said: &Said) -> Script {
        let body = request.json();
        let begun = response(&body, "in_progress", &[], said);
        let mut writer = Writer::default();
        writer.push(json!({ "type": "response.created", "response": begun }));
        writer.push(json!({ "type": "response.in_progress", "response": begun }));
        let items = items(said);
        for (at, item) in items.iter().enumerate() {
            writer.item(at, item);
        }
        writer.push(
            json!({ "type": "response.completed", "response": response(&body, "completed", &items, said) }),
        );
        writer.script
    }

    fn broken(&self) -> Piece {
        let error = json!({
            "type": "error", "sequence_number": 99, "code": "server_error", "message": "The server had an error",
            "param": null,
        });
        named("error", &error)
    }
}

fn message(item: &Value, asked: &mut Asked, calls: &mut Calls) -> Result<(), String> {
    calls.over()?;
    let user = item["role"] == "user";
    if user {
        asked.turn();
    }
    for part in super::asked::parts(&item["content"]) {
        match part["type"].as_str() {
            Some("input_text" | "text") if user => asked.hear(part["text"].as_str().unwrap_or_default()),
            Some("input_image") if user => asked.see_url(part["image_url"].as_str().unwrap_or_default())?,
            Some("input_text" | "output_text" | "text") if !user => {}
            _ => return Err(format!("no such part here: {part}")),
        }
    }
    Ok(())
}

fn items(said: &Said) -> Vec<Value> {
    let mut items = Vec::new();
    items.extend(said.thoughts.map(|thoughts| {
        let summary = json!([{ "type": "summary_text", "text": thoughts }]);
        json!({ "id": "rs_fake", "type": "reasoning", "summary": summary, "encrypted_content": SIGNATURE })
    }));
    let part = json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": said.text });
    items.push(json!({
        "id": "msg_fake", "type": "message", "status": "completed", "role": "assistant", "content": [part],
    }));
    items.extend(said.calls.iter().enumerate().map(|(i, call)| {
        json!({
            "id": format!("fc_fake{i}"), "type": "function_call", "status": "completed",
            "call_id": format!("call_fake{i}"), "name": call.name, "arguments": call.arguments.to_string(),
        })
    }));
    items
}

fn response(body: &Value, status: &str, output: &[Value], said: &Said) -> Value {
    let usage = json!({
        "input_tokens": INPUT, "input_tokens_details": { "cached_tokens": CACHED },
        "output_tokens": OUTPUT, "output_tokens_details": { "reasoning_tokens": said.reasoning() },
        "total_tokens": INPUT + OUTPUT,
    });
    json!({
        "id": ID, "object": "response", "created_at": 1_700_000_000, "status": status, "error": null,
        "incomplete_details": null, "instructions": body["instructions"], "model": body["model"], "output": output,
        "parallel_tool_calls": true, "previous_response_id": body["previous_response_id"], "store": true,
        "temperature": 1.0, "text": { "format": { "type": "text" } }, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": if status == "completed" { usage } else { Value::Null }, "metadata": {},
    })
}

/// Numbers its events.
#[derive(Default)]
struct Writer {
    script: Script,
    events: u64,
}

impl Writer {
    fn event(&mut self, mut event: Value) -> Piece {
        event["sequence_number"] = json!(self.events);
        self.events += 1;
        named(event["type"].as_str().unwrap_or_default(), &event)
    }

    fn push(&mut self, event: Value) {
        let piece = self.event(event);
        self.script.push(piece);
    }

    fn item(&mut self, at: usize, item: &Value) {
        let mut opened = item.clone();
        let (field, empty) = match item["type"].as_str() {
            Some("reasoning") => ("summary", json!([])),
            Some("message") => ("content", json!([])),
            _ => ("arguments", json!("")),
        };
        opened[field] = empty;
        if opened.get("status").is_some() {
            opened["status"] = json!("in_progress");
        }
        self.push(json!({ "type": "response.output_item.added", "output_index": at, "item": opened }));
        let place = |kind: &str, more: Value| {
            let mut event =
                json!({ "type": format!("response.{kind}"), "item_id": item["id"], "output_index": at });
            for (key, value) in more.as_object().into_iter().flatten() {
                event[key] = value.clone();
            }
            event
        };
        match field {
            "summary" => {
                let part = &item["summary"][0];
                let text = part["text"].as_str().unwrap_or_default();
                let blank = json!({ "type": "summary_text", "text": "" });
                self.push(place(
                    "reasoning_summary_part.added",
                    json!({ "summary_index": 0, "part": blank }),
                ));
                for piece in pieces(text) {
                    let delta = json!({ "summary_index": 0, "delta": piece });
                    self.push(place("reasoning_summary_text.delta", delta));
                }
                self.push(place("reasoning_summary_text.done", json!({ "summary_index": 0, "text": text })));
                self.push(place("reasoning_summary_part.done", json!({ "summary_index": 0, "part": part })));
            }
            "content" => {
                let part = &item["content"][0];
                let text = part["text"].as_str().unwrap_or_default();
                let mut blank = part.clone();
                blank["text"] = json!("");
                self.push(place("content_part.added", json!({ "content_index": 0, "part": blank })));
                for piece in pieces(text) {
                    let delta = json!({ "content_index": 0, "delta": piece, "logprobs": [] });
                    let event = self.event(place("output_text.delta", delta));
                    self.script.text(event);
                }
                let done = json!({ "content_index": 0, "text": text, "logprobs": [] });
                self.push(place("output_text.done", done));
                self.push(place("content_part.done", json!({ "content_index": 0, "part": part })));
            }
            _ => {
                let arguments = item["arguments"].as_str().unwrap_or_default();
                for part in halves(arguments) {
                    self.push(place("function_call_arguments.delta", json!({ "delta": part })));
                }
                self.push(place("function_call_arguments.done", json!({ "arguments": arguments })));
            }
        }
        self.push(json!({ "type": "response.output_item.done", "output_index": at, "item": item }));
    }
}
