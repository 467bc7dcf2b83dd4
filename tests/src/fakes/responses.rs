//! OpenAI's responses, beside its chat completions.

use serde_json::{Value, json};

use super::{pieces, stray_header, unknown_field, words};
use crate::reply::{Piece, Reply};
use crate::upstream::Host;
use crate::wire::Received;

const PATH: &str = "/v1/responses";
const FIELDS: [&str; 21] = [
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
];

/// OpenAI with both of its ways to ask.
#[derive(Debug, Clone)]
pub struct WithResponses<H> {
    others: H,
    key: String,
    says: String,
    arguments: Value,
}

/// `others`, and responses beside it: accepts `key`, knows `gpt-4o-mini` and `gpt-4o`, calls the first tool that it is
/// offered with these arguments, and otherwise answers `says`; where a schema is asked for, as `answer` of an object.
pub fn with_responses<H: Host>(others: H, key: &str, says: &str, arguments: Value) -> WithResponses<H> {
    WithResponses { others, key: key.to_owned(), says: says.to_owned(), arguments }
}

impl<H: Host> Host for WithResponses<H> {
    fn answer(&self, request: &Received) -> Reply {
        if request.path != PATH {
            return self.others.answer(request);
        }
        if let Some(objection) = self.objection(request) {
            return objection;
        }
        let body = request.json();
        let item = self.item(&body);
        match body["stream"] == json!(true) {
            true => Reply::sse(self.stream(&body, &item)),
            false => Reply::json(200, &self.response(&body, "completed", &[item])),
        }
    }
}

impl<H> WithResponses<H> {
    /// What is wrong with a request, as the answer that says so.
    fn objection(&self, request: &Received) -> Option<Reply> {
        let error = |status: u16, message: String, param: &str, code: Option<&str>| {
            let param = Some(param).filter(|param| !param.is_empty());
            let inner =
                json!({"message": message, "type": "invalid_request_error", "param": param, "code": code});
            Some(Reply::json(status, &json!({ "error": inner })).with_header("x-request-id", "req_fake"))
        };
        if request.method != "POST" || request.query.is_some() {
            return error(405, "Method not allowed".into(), "", None);
        }
        if request.header("authorization") != Some(&format!("Bearer {}", self.key)) {
            return error(401, "Incorrect API key provided.".into(), "", Some("invalid_api_key"));
        }
        if let Some(name) = stray_header(request) {
            return error(400, format!("unexpected header {name}"), "", None);
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return error(400, "We could not parse the JSON body of your request.".into(), "", None);
        };
        if let Some(field) = unknown_field(&body, &FIELDS) {
            return error(400, format!("Unknown parameter: '{field}'."), field, Some("unknown_parameter"));
        }
        if !["gpt-4o-mini", "gpt-4o"].iter().any(|known| body["model"] == json!(known)) {
            let message = "The model does not exist or you do not have access to it.".into();
            return error(404, message, "model", Some("model_not_found"));
        }
        if body["previous_response_id"].as_str().is_some_and(|id| id != ID) {
            let message = "Previous response not found.".into();
            return error(400, message, "previous_response_id", Some("previous_response_not_found"));
        }
        let input = &body["input"];
        if !input.is_string() && input.as_array().is_none_or(Vec::is_empty) {
            return error(400, "Invalid type for 'input'.".into(), "input", Some("invalid_type"));
        }
        None
    }

    /// The one item of the answer: a call while a tool is offered and its result is not there, else a message.
    fn item(&self, body: &Value) -> Value {
        let last = body["input"].as_array().and_then(|items| items.last());
        let answered = last.is_some_and(|item| item["type"] == "function_call_output");
        if let (Some(name), false) = (body["tools"][0]["name"].as_str(), answered) {
            return json!({
                "id": "fc_fake", "type": "function_call", "status": "completed", "call_id": "call_fake", "name": name,
                "arguments": self.arguments.to_string(),
            });
        }
        let text = match body["text"]["format"]["type"] == json!("json_schema") {
            true => json!({ "answer": self.says }).to_string(),
            false => self.says.clone(),
        };
        let part = json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text});
        json!({
            "id": "msg_fake", "type": "message", "status": "completed", "role": "assistant", "content": [part],
        })
    }

    fn response(&self, body: &Value, status: &str, output: &[Value]) -> Value {
        let input = words(&body["input"].to_string());
        let usage = json!({
            "input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": words(&self.says), "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input + words(&self.says),
        });
        json!({
            "id": ID, "object": "response", "created_at": 1_700_000_000, "status": status, "error": null,
            "incomplete_details": null, "instructions": body["instructions"], "model": body["model"], "output": output,
            "parallel_tool_calls": true, "previous_response_id": body["previous_response_id"], "store": true,
            "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "truncation": "disabled", "usage": if status == "completed" { usage } else { Value::Null }, "metadata": {},
        })
    }

    fn stream(&self, body: &Value, item: &Value) -> Vec<Piece> {
        let begun = self.response(body, "in_progress", &[]);
        let mut events = vec![
            json!({"type": "response.created", "response": begun}),
            json!({"type": "response.in_progress", "response": begun}),
        ];
        let mut opened = item.clone();
        opened["status"] = json!("in_progress");
        let place = |mut event: Value| {
            event["item_id"] = item["id"].clone();
            event["output_index"] = json!(0);
            event
        };
        if let Some(arguments) = item["arguments"].as_str() {
            opened["arguments"] = json!("");
            events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": opened}));
            let delta =
                |piece| place(json!({"type": "response.function_call_arguments.delta", "delta": piece}));
            // Cut where a reader has to join.
            let middle = arguments.char_indices().nth(arguments.chars().count() / 2).map_or(0, |(at, _)| at);
            let (start, end) = arguments.split_at(middle);
            events.extend([delta(start), delta(end)]);
            events.push(place(
                json!({"type": "response.function_call_arguments.done", "arguments": arguments}),
            ));
        } else {
            opened["content"] = json!([]);
            let part = &item["content"][0];
            let text = part["text"].as_str().unwrap_or_default();
            let mut empty = part.clone();
            empty["text"] = json!("");
            events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": opened}));
            let place = |event: Value| {
                let mut event = place(event);
                event["content_index"] = json!(0);
                event
            };
            events.push(place(json!({"type": "response.content_part.added", "part": empty})));
            let delta =
                |piece| place(json!({"type": "response.output_text.delta", "delta": piece, "logprobs": []}));
            events.extend(pieces(text).map(delta));
            events.push(place(json!({"type": "response.output_text.done", "text": text, "logprobs": []})));
            events.push(place(json!({"type": "response.content_part.done", "part": part})));
        }
        events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
        let whole = self.response(body, "completed", std::slice::from_ref(item));
        events.push(json!({"type": "response.completed", "response": whole}));
        let piece = |(number, mut event): (usize, Value)| {
            event["sequence_number"] = json!(number);
            let kind = event["type"].as_str().unwrap_or_default();
            Piece::text(format!("event: {kind}\ndata: {event}\n\n"))
        };
        events.into_iter().enumerate().map(piece).collect()
    }
}

/// What every answer is called.
const ID: &str = "resp_fake";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::openai::openai;

    fn ask(path: &str, key: &str, body: &Value) -> (u16, Value) {
        let host = with_responses(openai("sk-1", "Done."), "sk-1", "Done.", json!({"n": 1}));
        let headers =
            [("authorization", format!("Bearer {key}")), ("content-type", "application/json".into())];
        let request = Received {
            method: "POST".into(),
            path: path.into(),
            query: None,
            headers: headers.map(|(name, value)| (name.into(), value)).into(),
            body: body.to_string().into_bytes(),
            trailers: Vec::new(),
            head: Vec::new(),
        };
        match host.answer(&request) {
            Reply::Full { status, body, .. } => (status, serde_json::from_slice(&body).expect("JSON")),
            Reply::Stream { status, .. } => (status, Value::Null),
            Reply::Held(..) | Reply::Raw(_) => (0, Value::Null),
        }
    }

    #[test]
    fn only_a_right_request_is_answered() {
        let good = json!({"model": "gpt-4o-mini", "input": "hi"});
        assert_eq!(ask(PATH, "sk-1", &good).1["output"][0]["content"][0]["text"], "Done.");
        assert_eq!(ask(PATH, "sk-2", &good).0, 401);
        let chat = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(ask("/v1/chat/completions", "sk-1", &chat).0, 200);
        for (bad, status) in [
            (chat, 400),
            (json!({"model": "gpt-4o-mini", "input": []}), 400),
            (json!({"model": "gpt-9", "input": "hi"}), 404),
            (json!({"model": "gpt-4o-mini", "input": "hi", "previous_response_id": "resp_x"}), 400),
        ] {
            assert_eq!(ask(PATH, "sk-1", &bad).0, status, "{bad}");
        }
    }

    #[test]
    fn a_tool_is_called_once_and_a_schema_kept() {
        let mut body = json!({"model": "gpt-4o-mini", "input": [{"role": "user", "content": "x"}],
            "tools": [{"type": "function", "name": "add"}]});
        let call = ask(PATH, "sk-1", &body).1["output"][0].clone();
        assert_eq!((&call["name"], &call["arguments"]), (&json!("add"), &json!(r#"{"n":1}"#)));
        body["input"] =
            json!([call, {"type": "function_call_output", "call_id": "call_fake", "output": "2"}]);
        body["text"] = json!({"format": {"type": "json_schema", "name": "a", "schema": {}}});
        let text = ask(PATH, "sk-1", &body).1["output"][0]["content"][0]["text"].clone();
        assert_eq!(text, r#"{"answer":"Done."}"#);
    }
}
