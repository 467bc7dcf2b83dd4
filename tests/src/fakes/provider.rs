//! Any provider, as somebody says that it is: where a request has to go, which headers it may have, and what it is answered.
//!
//! Nothing of it is taken from the catalog that it tests: what is right is written down by whoever makes one.

use serde_json::{Value, json};

use crate::reply::{Piece, Reply};
use crate::upstream::Host;
use crate::wire::Received;

/// What is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Google's contents.
    Gemini,
    /// Cohere's chat, version 2.
    Cohere,
}

/// Why a provider does not do what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It does.
    Good,
    /// It counts no tokens.
    Uncounted,
    /// It says that every model is one of its own.
    AnyModel,
    /// It answers a stream with an answer in one piece.
    Whole,
    /// It never calls a tool.
    NoTools,
}

/// A provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// What is spoken.
    pub spoken: Spoken,
    /// The path for whole answers and the path for streams, with their queries.
    pub paths: [String; 2],
    /// The header of the key, and what stands in it.
    pub auth: (String, String),
    /// The model that it has, as it wants to be asked for it.
    pub model: String,
    /// What it says.
    pub says: String,
    /// The tool that it calls where it is offered some.
    pub tool: String,
    /// How it is.
    pub mood: Mood,
}

/// Headers that a request has, each once, beside [`Provider::auth`] and what a dialect wants.
const HEADERS: [&str; 5] = ["host", "accept", "content-type", "content-length", "user-agent"];

/// Tokens of every request and of every answer.
pub const TOKENS: (u64, u64) = (11, 7);

impl Host for Provider {
    fn answer(&self, request: &Received) -> Reply {
        if let Some(wrong) = self.objection(request) {
            return wrong;
        }
        let (body, stream) = (request.json(), self.streams(request));
        let tools = body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
        let calls = tools && self.mood != Mood::NoTools;
        match stream && self.mood != Mood::Whole {
            true => Reply::sse(self.stream(calls)),
            false => Reply::json(200, &self.whole(calls)),
        }
    }
}

impl Provider {
    /// What is wrong with a request, in the words of such providers.
    fn objection(&self, request: &Received) -> Option<Reply> {
        let target = match &request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.clone(),
        };
        if request.method != "POST" || !self.paths.contains(&target) {
            return Some(self.error(404, "no such path", "not_found_error"));
        }
        let (name, value) = &self.auth;
        if !name.is_empty() && request.header(name) != Some(value) {
            return Some(self.error(401, "Invalid API key", "authentication_error"));
        }
        if let Some(wrong) = self.wrong_headers(request) {
            return Some(self.error(400, &wrong, "invalid_request_error"));
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Some(self.error(400, "no JSON", "invalid_request_error"));
        };
        let known = self.spoken == Spoken::Gemini || body["model"] == json!(self.model);
        if !known && self.mood != Mood::AnyModel {
            return Some(self.error(404, "The model does not exist.", "model_not_found"));
        }
        None
    }

    /// What is wrong with the headers: each is there once, with its value, and there are no others.
    fn wrong_headers(&self, request: &Received) -> Option<String> {
        let version = (self.spoken == Spoken::Messages).then_some("anthropic-version");
        let auth = Some(self.auth.0.as_str()).filter(|name| !name.is_empty());
        // Where a key is shown, the answer has to be one that can be searched for it.
        let plain = auth.map(|_| "accept-encoding");
        let mut wanted: Vec<&str> = HEADERS.into_iter().chain(version).chain(auth).chain(plain).collect();
        wanted.sort_unstable();
        let mut sent: Vec<String> =
            request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        sent.sort_unstable();
        if sent != wanted {
            return Some(format!("the headers are {sent:?} and should be {wanted:?}"));
        }
        let accept = if self.streams(request) { "text/event-stream" } else { "application/json" };
        let values = [
            ("accept", accept),
            ("accept-encoding", "identity"),
            ("content-type", "application/json"),
            ("anthropic-version", "2023-06-01"),
        ];
        let wrong = |(name, value): &&(&str, &str)| request.header(name).is_some_and(|said| said != *value);
        let wrong = values.iter().find(wrong);
        wrong.map(|(name, value)| format!("{name} should be {value}, and is {:?}", request.header(name)))
    }

    fn streams(&self, request: &Received) -> bool {
        match self.spoken {
            Spoken::Gemini => request.path.contains(":stream"),
            _ => {
                serde_json::from_slice::<Value>(&request.body).is_ok_and(|body| body["stream"] == json!(true))
            }
        }
    }

    fn error(&self, status: u16, message: &str, code: &str) -> Reply {
        let error = match self.spoken {
            Spoken::Chat | Spoken::Responses => {
                json!({ "error": { "message": message, "type": code, "param": null, "code": code } })
            }
            Spoken::Messages => {
                let kind = if code == "model_not_found" { "not_found_error" } else { code };
                json!({ "type": "error", "error": { "type": kind, "message": message } })
            }
            Spoken::Gemini => {
                json!({ "error": { "code": status, "message": message, "status": "NOT_FOUND" } })
            }
            Spoken::Cohere => json!({ "message": message }),
        };
        Reply::json(status, &error)
    }

    fn whole(&self, calls: bool) -> Value {
        let counted = self.mood != Mood::Uncounted;
        let (input, output) = TOKENS;
        let says = &self.says;
        let mut answer = match self.spoken {
            Spoken::Chat => {
                let message = match calls {
                    true => json!({ "role": "assistant", "content": null, "tool_calls": [self.call()] }),
                    false => json!({ "role": "assistant", "content": says }),
                };
                let finish = if calls { "tool_calls" } else { "stop" };
                json!({
                    "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": self.model,
                    "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
                    "usage": { "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output },
                })
            }
            Spoken::Responses => self.response(calls),
            Spoken::Messages => {
                let content = match calls {
                    true => json!({ "type": "tool_use", "id": "toolu_1", "name": self.tool, "input": {} }),
                    false => json!({ "type": "text", "text": says }),
                };
                json!({
                    "id": "msg_1", "type": "message", "role": "assistant", "model": self.model, "content": [content],
                    "stop_reason": if calls { "tool_use" } else { "end_turn" }, "stop_sequence": null,
                    "usage": { "input_tokens": input, "output_tokens": output },
                })
            }
            Spoken::Gemini => self.content(calls, true),
            Spoken::Cohere => {
                let message = match calls {
                    true => json!({ "role": "assistant", "tool_calls": [self.call()] }),
                    false => json!({ "role": "assistant", "content": [{ "type": "text", "text": says }] }),
                };
                json!({
                    "id": "c1", "message": message, "finish_reason": if calls { "TOOL_CALL" } else { "COMPLETE" },
                    "usage": cohere_usage(),
                })
            }
        };
        if !counted {
            for name in ["usage", "usageMetadata"] {
                answer.as_object_mut().map(|answer| answer.remove(name));
            }
        }
        answer
    }

    fn content(&self, calls: bool, last: bool) -> Value {
        let (input, output) = TOKENS;
        let part = match calls {
            true => json!({ "functionCall": { "name": self.tool, "args": {} } }),
            false => json!({ "text": self.says }),
        };
        let mut chunk = json!({
            "candidates": [{ "content": { "role": "model", "parts": [part] }, "index": 0 }],
            "modelVersion": self.model, "responseId": "r1",
        });
        if last {
            chunk["candidates"][0]["finishReason"] = json!("STOP");
            chunk["usageMetadata"] = json!({
                "promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output,
            });
        }
        chunk
    }

    fn response(&self, calls: bool) -> Value {
        let (input, output) = TOKENS;
        let item = match calls {
            true => json!({
                "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": self.tool, "arguments": "{}",
                "status": "completed",
            }),
            false => json!({
                "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{ "type": "output_text", "text": self.says, "annotations": [] }],
            }),
        };
        json!({
            "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": "completed", "model": self.model,
            "output": [item], "error": null, "incomplete_details": null,
            "usage": { "input_tokens": input, "output_tokens": output, "total_tokens": input + output },
        })
    }

    fn call(&self) -> Value {
        json!({ "id": "call_1", "type": "function", "function": { "name": self.tool, "arguments": "{}" } })
    }

    fn stream(&self, calls: bool) -> Vec<Piece> {
        let data = |value: Value| Piece::text(format!("data: {value}\n\n"));
        let named = |value: Value| {
            Piece::text(format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default()))
        };
        let counted = self.mood != Mood::Uncounted;
        let (input, output) = TOKENS;
        match self.spoken {
            Spoken::Chat => {
                let chunk = |delta: Value, finish: Option<&str>| {
                    json!({
                        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
                        "model": self.model, "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
                    })
                };
                let mut call = self.call();
                call["index"] = json!(0);
                let said =
                    if calls { json!({ "tool_calls": [call] }) } else { json!({ "content": self.says }) };
                let mut last = chunk(json!({}), Some(if calls { "tool_calls" } else { "stop" }));
                if counted {
                    // On the last chunk, unasked, as Mistral has it: who asks for an own chunk reads this as well.
                    last["usage"] = json!({
                        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
                    });
                }
                let first = chunk(json!({ "role": "assistant" }), None);
                vec![data(first), data(chunk(said, None)), data(last), Piece::text("data: [DONE]\n\n")]
            }
            Spoken::Responses => {
                let whole = self.response(calls);
                let item = whole["output"][0].clone();
                let mut begun = whole.clone();
                begun["status"] = json!("in_progress");
                begun["output"] = json!([]);
                let mut events = vec![
                    json!({ "type": "response.created", "response": begun }),
                    json!({ "type": "response.output_item.added", "output_index": 0, "item": item }),
                ];
                events.push(match calls {
                    true => json!({
                        "type": "response.function_call_arguments.done", "output_index": 0, "item_id": "fc_1",
                        "arguments": "{}",
                    }),
                    false => json!({
                        "type": "response.output_text.delta", "output_index": 0, "content_index": 0,
                        "item_id": "msg_1", "delta": self.says,
                    }),
                });
                events.push(json!({ "type": "response.output_item.done", "output_index": 0, "item": item }));
                events.push(json!({ "type": "response.completed", "response": whole }));
                let numbered = events.into_iter().enumerate().map(|(at, mut event)| {
                    event["sequence_number"] = json!(at);
                    named(event)
                });
                numbered.collect()
            }
            Spoken::Messages => {
                let mut message = self.whole(calls);
                message["content"] = json!([]);
                message["stop_reason"] = Value::Null;
                let block = match calls {
                    true => json!({ "type": "tool_use", "id": "toolu_1", "name": self.tool, "input": {} }),
                    false => json!({ "type": "text", "text": "" }),
                };
                let delta = match calls {
                    true => json!({ "type": "input_json_delta", "partial_json": "{}" }),
                    false => json!({ "type": "text_delta", "text": self.says }),
                };
                let stop = if calls { "tool_use" } else { "end_turn" };
                vec![
                    named(json!({ "type": "message_start", "message": message })),
                    named(json!({ "type": "content_block_start", "index": 0, "content_block": block })),
                    named(json!({ "type": "content_block_delta", "index": 0, "delta": delta })),
                    named(json!({ "type": "content_block_stop", "index": 0 })),
                    named(json!({
                        "type": "message_delta", "delta": { "stop_reason": stop, "stop_sequence": null },
                        "usage": { "output_tokens": output },
                    })),
                    named(json!({ "type": "message_stop" })),
                ]
            }
            Spoken::Gemini => vec![data(self.content(calls, true))],
            Spoken::Cohere => {
                let mut events = vec![json!({ "type": "message-start", "id": "c1", "delta": { "message": {
                    "role": "assistant", "content": [], "tool_calls": [],
                } } })];
                if calls {
                    events.push(json!({ "type": "tool-call-start", "index": 0,
                        "delta": { "message": { "tool_calls": self.call() } } }));
                    events.push(json!({ "type": "tool-call-end", "index": 0 }));
                } else {
                    events.push(json!({ "type": "content-start", "index": 0,
                        "delta": { "message": { "content": { "type": "text", "text": "" } } } }));
                    events.push(json!({ "type": "content-delta", "index": 0,
                        "delta": { "message": { "content": { "text": self.says } } } }));
                    events.push(json!({ "type": "content-end", "index": 0 }));
                }
                let finish = if calls { "TOOL_CALL" } else { "COMPLETE" };
                events.push(json!({ "type": "message-end",
                    "delta": { "finish_reason": finish, "usage": cohere_usage() } }));
                events.into_iter().map(named).collect()
            }
        }
    }
}

fn cohere_usage() -> Value {
    let (input, output) = TOKENS;
    let tokens = json!({ "input_tokens": input, "output_tokens": output });
    json!({ "billed_units": tokens, "tokens": tokens })
}
