//! OpenAI's chat completions, and Ollama, which is reached through the same dialect.

use serde_json::{Value, json};

use super::{Failure, input_tokens, pieces, stray_header, unknown_field, without_words, words};
use crate::reply::{Piece, Reply};
use crate::upstream::Host;
use crate::wire::Received;

const FIELDS: [&str; 26] = [
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];

/// Whose endpoint it is: they differ in path, authorisation and the shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vendor {
    OpenAi,
    Ollama,
}

/// A fake of an OpenAI-compatible provider.
#[derive(Debug, Clone)]
pub struct Chat {
    vendor: Vendor,
    key: String,
    models: Vec<String>,
    says: String,
}

/// OpenAI: accepts `key`, knows `gpt-4o-mini` and `gpt-4o`, and answers `says`.
pub fn openai(key: &str, says: &str) -> Chat {
    Chat::new(Vendor::OpenAi, key, &["gpt-4o-mini", "gpt-4o"], says)
}

/// Ollama: takes no key, has `model`, and answers `says`.
pub fn ollama(model: &str, says: &str) -> Chat {
    Chat::new(Vendor::Ollama, "", &[model], says)
}

impl Chat {
    fn new(vendor: Vendor, key: &str, models: &[&str], says: &str) -> Self {
        let models = models.iter().map(ToString::to_string).collect();
        Self { vendor, key: key.to_owned(), models, says: says.to_owned() }
    }

    /// The answer that this provider gives when it fails in this way.
    pub fn failure(&self, failure: Failure) -> Reply {
        let error = |status, message, kind, code| self.error(status, message, kind, code);
        match failure {
            Failure::RateLimited(seconds) => {
                error(429, "Rate limit reached for requests", "requests", Some("rate_limit_exceeded"))
                    .with_header("retry-after", &seconds.to_string())
            }
            Failure::ServerError => {
                error(500, "The server had an error while processing your request", "server_error", None)
            }
            Failure::Overloaded => {
                error(503, "The engine is currently overloaded, please try again later", "server_error", None)
            }
            Failure::TimedOut => error(504, "The request timed out", "server_error", None),
            Failure::OutOfMoney => error(
                429,
                "You exceeded your current quota, please check your plan and billing details.",
                "insufficient_quota",
                Some("insufficient_quota"),
            ),
            Failure::BadKey => {
                error(401, "Incorrect API key provided.", "invalid_request_error", Some("invalid_api_key"))
            }
            Failure::NoModel => error(
                404,
                "The model does not exist or you do not have access to it.",
                "invalid_request_error",
                Some("model_not_found"),
            ),
            Failure::NoAccess => error(
                403,
                "You have insufficient permissions for this operation.",
                "invalid_request_error",
                Some("insufficient_permissions"),
            ),
            Failure::Filtered => {
                error(400, "The response was filtered", "invalid_request_error", Some("content_filter"))
            }
            Failure::BadRequest => error(
                400,
                "Invalid type for 'messages': expected an array of objects.",
                "invalid_request_error",
                Some("invalid_type"),
            ),
            Failure::TooLong => error(
                400,
                "This model's maximum context length is 128000 tokens.",
                "invalid_request_error",
                Some("context_length_exceeded"),
            ),
            Failure::CutBeforeContent => Reply::sse(vec![
                event(&self.chunk("m", &json!({"role": "assistant", "content": ""}), None)),
                Piece::Cut,
            ]),
            Failure::CutInContent => {
                let content = json!({"role": "assistant", "content": "Half a"});
                Reply::sse(vec![event(&self.chunk("m", &content, None)), Piece::Cut])
            }
            Failure::ErrorInStream => Reply::sse(vec![
                event(&self.chunk("m", &json!({"role": "assistant", "content": ""}), None)),
                event(
                    &json!({"error": {"message": "The server is overloaded", "type": "server_error", "code": null}}),
                ),
            ]),
            Failure::HangUp | Failure::Garbage => without_words(failure).expect("these have no words"),
        }
    }

    /// The pieces of the streamed answer to a request, for scripts that put pauses or cuts between them.
    pub fn stream(&self, request: &Value) -> Vec<Piece> {
        let model = request["model"].as_str().unwrap_or_default();
        let mut events = vec![event(&self.chunk(model, &json!({"role": "assistant", "content": ""}), None))];
        events.extend(
            pieces(&self.said(request))
                .map(|text| event(&self.chunk(model, &json!({"content": text}), None))),
        );
        events.push(event(&self.chunk(model, &json!({}), Some("stop"))));
        if request["stream_options"]["include_usage"] == json!(true) {
            let mut last = self.chunk(model, &json!({}), None);
            last["choices"] = json!([]);
            last["usage"] = self.usage(request);
            events.push(event(&last));
        }
        events.push(Piece::text("data: [DONE]\n\n"));
        events
    }

    /// The same with one model more.
    #[must_use]
    pub fn with_model(mut self, model: &str) -> Self {
        self.models.push(model.to_owned());
        self
    }

    /// The refusal of a request with these words.
    pub(super) fn invalid(&self, message: &str) -> Reply {
        self.error(400, message, "invalid_request_error", None)
    }

    /// What is wrong with a request, as the answer that says so.
    pub(super) fn objection(&self, request: &Received) -> Option<Reply> {
        let invalid = |message: String| Some(self.error(400, &message, "invalid_request_error", None));
        if request.path != "/v1/chat/completions" || request.query.is_some() {
            return Some(self.error(
                404,
                &format!("Invalid URL ({})", request.path),
                "invalid_request_error",
                None,
            ));
        }
        if request.method != "POST" {
            return Some(self.error(405, "Method not allowed", "invalid_request_error", None));
        }
        let authorized = match self.vendor {
            Vendor::OpenAi => request.header("authorization") == Some(&format!("Bearer {}", self.key)),
            // Ollama ignores a key. Sending it one is a leak, and no answer of a model.
            Vendor::Ollama => request.header("authorization").is_none(),
        };
        if !authorized {
            return Some(self.failure(Failure::BadKey));
        }
        if let Some(name) = stray_header(request) {
            return invalid(format!("unexpected header {name}"));
        }
        if !request.header("content-type").is_some_and(|v| v.starts_with("application/json")) {
            return invalid("the content type must be application/json".into());
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return invalid("We could not parse the JSON body of your request.".into());
        };
        if let Some(field) = unknown_field(&body, &FIELDS) {
            return invalid(format!("Unrecognized request argument supplied: {field}"));
        }
        if !self.models.iter().any(|known| body["model"] == json!(known)) {
            return Some(self.failure(Failure::NoModel));
        }
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let known_role = |m: &Value| {
            matches!(m["role"].as_str(), Some("system" | "developer" | "user" | "assistant" | "tool"))
        };
        if messages.is_empty()
            || !messages.iter().all(|m| {
                known_role(m)
                    && (m["content"].is_string() || m["content"].is_array() || m["tool_calls"].is_array())
            })
        {
            return invalid("Invalid value for 'messages'".into());
        }
        if body.get("stream_options").is_some() && body["stream"] != json!(true) {
            return invalid(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.".into(),
            );
        }
        None
    }

    fn error(&self, status: u16, message: &str, kind: &str, code: Option<&str>) -> Reply {
        match self.vendor {
            Vendor::OpenAi => Reply::json(
                status,
                &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}),
            )
            .with_header("x-request-id", "req_fake"),
            Vendor::Ollama => Reply::json(
                status,
                &json!({"error": {"message": message, "type": "api_error", "param": null, "code": null}}),
            ),
        }
    }

    fn chunk(&self, model: &str, delta: &Value, finish: Option<&str>) -> Value {
        json!({
            "id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        })
    }

    /// The text; where a schema is asked for, as `answer` of an object.
    fn said(&self, request: &Value) -> String {
        match request["response_format"]["type"] == json!("json_schema") {
            true => json!({ "answer": self.says }).to_string(),
            false => self.says.clone(),
        }
    }

    fn usage(&self, request: &Value) -> Value {
        let (input, output) = (input_tokens(request), words(&self.says));
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
    }
}

impl Host for Chat {
    fn answer(&self, request: &Received) -> Reply {
        if let Some(objection) = self.objection(request) {
            return objection;
        }
        let request = request.json();
        if request["stream"] == json!(true) {
            return Reply::sse(self.stream(&request));
        }
        Reply::json(
            200,
            &json!({
                "id": "chatcmpl-fake", "object": "chat.completion", "created": 1_700_000_000, "model": request["model"],
                "choices": [{
                    "index": 0, "message": {"role": "assistant", "content": self.said(&request)}, "finish_reason": "stop", "logprobs": null,
                }],
                "usage": self.usage(&request),
            }),
        )
    }
}

fn event(data: &Value) -> Piece {
    Piece::text(format!("data: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, authorization: &str, body: &Value) -> Received {
        Received {
            method: "POST".into(),
            path: path.into(),
            query: None,
            headers: vec![
                ("host".into(), "api.openai.com".into()),
                ("authorization".into(), authorization.into()),
                ("content-type".into(), "application/json".into()),
            ],
            body: body.to_string().into_bytes(),
            trailers: Vec::new(),
            head: Vec::new(),
        }
    }

    fn status(reply: &Reply) -> u16 {
        match reply {
            Reply::Full { status, .. } | Reply::Stream { status, .. } => *status,
            Reply::Held(..) | Reply::Raw(_) => 0,
        }
    }

    #[test]
    fn only_a_right_request_is_answered() {
        let good =
            json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": true});
        let fake = openai("sk-right", "One two.");
        let ask = |path: &str, key: &str, body: &Value| status(&fake.answer(&request(path, key, body)));
        assert_eq!(ask("/v1/chat/completions", "Bearer sk-right", &good), 200);
        assert_eq!(ask("/v1/chat/completions", "Bearer sk-wrong", &good), 401);
        assert_eq!(ask("/v1/chat/completions", "sk-right", &good), 401);
        assert_eq!(ask("/chat/completions", "Bearer sk-right", &good), 404);
        for (field, value, expected) in [
            ("model", json!("gpt-9"), 404),
            ("messages", json!([]), 400),
            ("messages", json!([{"role": "root", "content": "x"}]), 400),
            ("anthropic_version", json!("x"), 400),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            assert_eq!(ask("/v1/chat/completions", "Bearer sk-right", &bad), expected, "{bad}");
        }
        let mut stray = request("/v1/chat/completions", "Bearer sk-right", &good);
        stray.headers.push(("Orch-Token".into(), "x".into()));
        assert_eq!(status(&fake.answer(&stray)), 400);
    }

    #[test]
    fn a_key_sent_to_ollama_is_refused() {
        let body = json!({"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]});
        let mut plain = request("/v1/chat/completions", "x", &body);
        assert_eq!(status(&ollama("llama3.2", "Hm.").answer(&plain)), 401);
        plain.headers.retain(|(name, _)| name != "authorization");
        assert_eq!(status(&ollama("llama3.2", "Hm.").answer(&plain)), 200);
    }
}
