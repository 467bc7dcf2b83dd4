//! Providers whose model wants to call a tool before it answers.
//!
//! When a request offers tools and no result is in it yet, the answer is a call of the first tool; else the provider
//! answers as it always does. What the provider would refuse stays refused.

use serde_json::{Value, json};

use super::anthropic::Messages;
use super::openai::Chat;
use crate::reply::{Piece, Reply};
use crate::upstream::Host;
use crate::wire::Received;

/// A provider that calls a tool first.
#[derive(Debug, Clone)]
pub struct CallsTool<H> {
    provider: H,
    arguments: Value,
}

/// `provider`, calling the first tool that it is offered with these arguments.
pub fn calls_tool<H>(provider: H, arguments: Value) -> CallsTool<H> {
    CallsTool { provider, arguments }
}

impl<H: Host> CallsTool<H> {
    /// The call that answers this request instead of the provider, written by `whole` or `stream`.
    fn answer_or(
        &self,
        request: &Received,
        name: fn(&Value) -> Option<&str>,
        write: fn(&Value, &str, &Value) -> (Value, Vec<Piece>),
    ) -> Reply {
        let reply = self.provider.answer(request);
        if !matches!(reply, Reply::Full { status: 200, .. } | Reply::Stream { status: 200, .. }) {
            return reply;
        }
        let body = request.json();
        let (Some(name), false) = (name(&body), has_result(&body)) else { return reply };
        let (whole, stream) = write(&body, name, &self.arguments);
        if body["stream"] == json!(true) { Reply::sse(stream) } else { Reply::json(200, &whole) }
    }
}

/// Whether the last message tells what a tool answered.
fn has_result(body: &Value) -> bool {
    let Some(last) = body["messages"].as_array().and_then(|messages| messages.last()) else { return false };
    let blocks = last["content"].as_array().into_iter().flatten();
    last["role"] == "tool" || blocks.into_iter().any(|block| block["type"] == "tool_result")
}

impl Host for CallsTool<Chat> {
    fn answer(&self, request: &Received) -> Reply {
        self.answer_or(request, |body| body["tools"][0]["function"]["name"].as_str(), chat)
    }
}

impl Host for CallsTool<Messages> {
    fn answer(&self, request: &Received) -> Reply {
        self.answer_or(request, |body| body["tools"][0]["name"].as_str(), messages)
    }
}

fn chat(body: &Value, name: &str, arguments: &Value) -> (Value, Vec<Piece>) {
    let arguments = arguments.to_string();
    let call = |arguments: &str| json!({"id": "call_fake", "type": "function", "function": {"name": name, "arguments": arguments}});
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8});
    let whole = json!({
        "id": "chatcmpl-fake", "object": "chat.completion", "created": 1_700_000_000, "model": body["model"],
        "choices": [{
            "index": 0, "message": {"role": "assistant", "content": null, "tool_calls": [call(&arguments)]},
            "finish_reason": "tool_calls", "logprobs": null,
        }],
        "usage": usage,
    });
    let chunk = |choices: Value| {
        json!({
            "id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": body["model"],
            "choices": choices,
        })
    };
    let delta = |delta: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]));
    let mut first = call("");
    first["index"] = json!(0);
    let (start, end) = halves(&arguments);
    let more = |part: &str| delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}));
    let mut chunks = vec![
        delta(json!({"role": "assistant", "content": null})),
        delta(json!({"tool_calls": [first]})),
        more(start),
        more(end),
        chunk(json!([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])),
    ];
    if body["stream_options"]["include_usage"] == json!(true) {
        let mut last = chunk(json!([]));
        last["usage"] = usage;
        chunks.push(last);
    }
    let mut pieces: Vec<Piece> =
        chunks.iter().map(|chunk| Piece::text(format!("data: {chunk}\n\n"))).collect();
    pieces.push(Piece::text("data: [DONE]\n\n"));
    (whole, pieces)
}

fn messages(body: &Value, name: &str, arguments: &Value) -> (Value, Vec<Piece>) {
    let call = |input: &Value| json!({"type": "tool_use", "id": "toolu_fake", "name": name, "input": input});
    let message = |content: Value, stop: Value| {
        json!({
            "id": "msg_fake", "type": "message", "role": "assistant", "model": body["model"], "content": content,
            "stop_reason": stop, "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 3},
        })
    };
    let text = arguments.to_string();
    let (start, end) = halves(&text);
    let more = |part: &str| {
        let delta = json!({"type": "input_json_delta", "partial_json": part});
        json!({"type": "content_block_delta", "index": 0, "delta": delta})
    };
    let events = [
        json!({"type": "message_start", "message": message(json!([]), Value::Null)}),
        json!({"type": "content_block_start", "index": 0, "content_block": call(&json!({}))}),
        more(start),
        more(end),
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"output_tokens": 3},
        }),
        json!({"type": "message_stop"}),
    ];
    let piece = |event: &Value| {
        Piece::text(format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
    };
    (message(json!([call(arguments)]), json!("tool_use")), events.iter().map(piece).collect())
}

/// Two parts of a text, so that a reader has to join them. Cut between characters.
fn halves(text: &str) -> (&str, &str) {
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(text.len(), |(at, _)| at);
    text.split_at(middle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{anthropic::anthropic, openai::openai};

    fn sent(path: &str, headers: &[(&str, &str)], body: &Value) -> Received {
        let mut headers: Vec<(String, String)> =
            headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        headers.push(("content-type".into(), "application/json".into()));
        Received {
            method: "POST".into(),
            path: path.into(),
            query: None,
            headers,
            body: body.to_string().into_bytes(),
            trailers: Vec::new(),
            head: Vec::new(),
        }
    }

    fn whole(reply: &Reply) -> Value {
        let Reply::Full { body, .. } = reply else { panic!("a whole answer") };
        serde_json::from_slice(body).expect("JSON")
    }

    #[test]
    fn the_first_turn_calls_and_the_second_answers() {
        let chat = calls_tool(openai("sk-1", "Done."), json!({"n": 1}));
        let ask = |body: &Value| {
            whole(&chat.answer(&sent("/v1/chat/completions", &[("authorization", "Bearer sk-1")], body)))
        };
        let mut body = json!({
            "model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}],
            "tools": [{"type": "function", "function": {"name": "add"}}],
        });
        let call = &ask(&body)["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!((&call["name"], &call["arguments"]), (&json!("add"), &json!(r#"{"n":1}"#)));
        body["messages"] = json!([{"role": "tool", "tool_call_id": "call_fake", "content": "2"}]);
        assert_eq!(ask(&body)["choices"][0]["message"]["content"], "Done.");
        body["model"] = json!("gpt-9");
        assert_eq!(ask(&body)["error"]["code"], "model_not_found");

        let messages = calls_tool(anthropic("sk-1", "Done."), json!({"n": 1}));
        let headers = [("x-api-key", "sk-1"), ("anthropic-version", "2023-06-01")];
        let ask = |body: &Value| whole(&messages.answer(&sent("/v1/messages", &headers, body)));
        let mut body = json!({
            "model": "claude-3-haiku-20240307", "max_tokens": 9, "tools": [{"name": "add", "input_schema": {}}],
            "messages": [{"role": "user", "content": "x"}],
        });
        assert_eq!(ask(&body)["content"][0]["input"], json!({"n": 1}));
        let result = json!([{"type": "tool_result", "tool_use_id": "toolu_fake", "content": "2"}]);
        body["messages"] = json!([{"role": "user", "content": result}]);
        assert_eq!(ask(&body)["content"][0]["text"], "Done.");
    }

    #[test]
    fn arguments_come_in_two_pieces() {
        assert_eq!(halves(r#"{"a":"é"}"#), (r#"{"a""#, r#":"é"}"#));
        assert_eq!(halves(""), ("", ""));
    }
}
