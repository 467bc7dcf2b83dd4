//! Anthropic's messages.

use serde_json::{Value, json};

use super::{Failure, input_tokens, pieces, stray_header, unknown_field, without_words, words};
use crate::reply::{Piece, Reply};
use crate::upstream::Host;
use crate::wire::Received;

const FIELDS: [&str; 17] = [
    "container",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];
/// The versions of the API that there are.
const VERSIONS: [&str; 2] = ["2023-06-01", "2026-10-21"];
/// What the second version no longer takes, not even as it is by default.
const SAMPLING: [&str; 3] = ["temperature", "top_k", "top_p"];
/// What the small model may write at most.
const MAX_TOKENS: u64 = 4096;
const SMALL: &str = "claude-3-haiku-20240307";

/// A fake of Anthropic.
#[derive(Debug, Clone)]
pub struct Messages {
    key: String,
    model: String,
    says: String,
}

/// Anthropic: accepts `key`, knows `claude-3-haiku-20240307`, and answers `says`.
pub fn anthropic(key: &str, says: &str) -> Messages {
    Messages { key: key.to_owned(), model: SMALL.to_owned(), says: says.to_owned() }
}

impl Messages {
    /// The same with another model.
    #[must_use]
    pub fn with_model(mut self, model: &str) -> Self {
        self.model = model.to_owned();
        self
    }

    /// The answer that Anthropic gives when it fails in this way.
    pub fn failure(&self, failure: Failure) -> Reply {
        match failure {
            Failure::RateLimited(seconds) => {
                error(429, "rate_limit_error", "This request would exceed your organization's rate limit")
                    .with_header("retry-after", &seconds.to_string())
            }
            Failure::ServerError => error(500, "api_error", "Internal server error"),
            Failure::Overloaded => error(529, "overloaded_error", "Overloaded"),
            Failure::TimedOut => error(504, "timeout_error", "The request timed out"),
            Failure::OutOfMoney => error(
                400,
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
            ),
            Failure::BadKey => error(401, "authentication_error", "invalid x-api-key"),
            Failure::NoModel => error(404, "not_found_error", "model: claude-0"),
            Failure::NoAccess => error(
                403,
                "permission_error",
                "Your API key does not have permission to use the specified resource.",
            ),
            Failure::Filtered => {
                error(400, "invalid_request_error", "Output blocked by content filtering policy")
            }
            Failure::BadRequest => error(400, "invalid_request_error", "messages: Field required"),
            Failure::TooLong => {
                error(400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum")
            }
            Failure::CutBeforeContent => Reply::sse(vec![self.start("m", 1), Piece::Cut]),
            Failure::CutInContent => {
                Reply::sse(vec![self.start("m", 1), block_start(), delta("Half"), delta(" a"), Piece::Cut])
            }
            Failure::ErrorInStream => Reply::sse(vec![
                self.start("m", 1),
                event(
                    "error",
                    &json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                ),
            ]),
            Failure::HangUp | Failure::Garbage => without_words(failure).expect("these have no words"),
        }
    }

    /// The pieces of the streamed answer to a request, for scripts that put pauses or cuts between them.
    pub fn stream(&self, request: &Value) -> Vec<Piece> {
        let model = request["model"].as_str().unwrap_or_default();
        let mut events = vec![self.start(model, input_tokens(request)), block_start()];
        events.push(event("ping", &json!({"type": "ping"})));
        events.extend(pieces(&self.says).map(delta));
        events.push(event("content_block_stop", &json!({"type": "content_block_stop", "index": 0})));
        events.push(event(
            "message_delta",
            &json!({
                "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                "usage": {"output_tokens": words(&self.says)},
            }),
        ));
        events.push(event("message_stop", &json!({"type": "message_stop"})));
        events
    }

    fn start(&self, model: &str, input_tokens: u64) -> Piece {
        event(
            "message_start",
            &json!({"type": "message_start", "message": {
                "id": "msg_fake", "type": "message", "role": "assistant", "model": model, "content": [],
                "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": input_tokens, "output_tokens": 1},
            }}),
        )
    }

    /// What is wrong with a request, as the answer that says so.
    pub(super) fn objection(&self, request: &Received) -> Option<Reply> {
        let invalid = |message: &str| Some(error(400, "invalid_request_error", message));
        if request.path != "/v1/messages" || request.query.is_some() {
            return Some(error(404, "not_found_error", "Not found"));
        }
        if request.method != "POST" {
            return Some(error(405, "invalid_request_error", "Method Not Allowed"));
        }
        if request.header("x-api-key") != Some(&self.key) || request.header("authorization").is_some() {
            return Some(self.failure(Failure::BadKey));
        }
        let version = VERSIONS.iter().position(|known| request.header("anthropic-version") == Some(known));
        let Some(version) = version else {
            return invalid("anthropic-version: header is required");
        };
        if let Some(name) = stray_header(request) {
            return invalid(&format!("unexpected header {name}"));
        }
        if !request.header("content-type").is_some_and(|v| v.starts_with("application/json")) {
            return invalid("content-type must be application/json");
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return invalid("The request body is not valid JSON");
        };
        if let Some(field) = unknown_field(&body, &FIELDS) {
            return invalid(&format!("{field}: Extra inputs are not permitted"));
        }
        if version > 0
            && let Some(field) = SAMPLING.into_iter().find(|field| body.get(field).is_some())
        {
            return invalid(&format!("{field}: Extra inputs are not permitted"));
        }
        if body["model"] != json!(self.model) {
            return Some(self.failure(Failure::NoModel));
        }
        let most = if self.model == SMALL { MAX_TOKENS } else { u64::MAX };
        if !body["max_tokens"].as_u64().is_some_and(|n| (1..=most).contains(&n)) {
            return invalid("max_tokens: Field required, at most 4096");
        }
        let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let turn = |m: &Value| {
            matches!(m["role"].as_str(), Some("user" | "assistant"))
                && (m["content"].is_string() || m["content"].is_array())
        };
        if messages.is_empty() || !messages.iter().all(turn) {
            return invalid("messages: Input should be a valid list of turns of user and assistant");
        }
        None
    }
}

impl Host for Messages {
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
                "id": "msg_fake", "type": "message", "role": "assistant", "model": request["model"],
                "content": [{"type": "text", "text": self.says}], "stop_reason": "end_turn", "stop_sequence": null,
                "usage": {"input_tokens": input_tokens(&request), "output_tokens": words(&self.says)},
            }),
        )
    }
}

pub(super) fn error(status: u16, kind: &str, message: &str) -> Reply {
    let body =
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"});
    Reply::json(status, &body).with_header("request-id", "req_fake")
}

fn block_start() -> Piece {
    event(
        "content_block_start",
        &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    )
}

fn delta(text: &str) -> Piece {
    event(
        "content_block_delta",
        &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
    )
}

fn event(name: &str, data: &Value) -> Piece {
    Piece::text(format!("event: {name}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_right_request_is_answered() {
        let fake = anthropic("sk-ant-right", "One two.");
        let good = Received {
            method: "POST".into(),
            path: "/v1/messages".into(),
            query: None,
            headers: vec![
                ("x-api-key".into(), "sk-ant-right".into()),
                ("anthropic-version".into(), VERSIONS[0].into()),
                ("content-type".into(), "application/json".into()),
            ],
            body: json!({"model": "claude-3-haiku-20240307", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
                .to_string()
                .into_bytes(),
            trailers: Vec::new(),
            head: Vec::new(),
        };
        let status = |request: &Received| match fake.answer(request) {
            Reply::Full { status, .. } | Reply::Stream { status, .. } => status,
            Reply::Held(..) | Reply::Raw(_) => 0,
        };
        assert_eq!(status(&good), 200);
        assert_eq!(status(&Received { path: "/v1/chat/completions".into(), ..good.clone() }), 404);
        assert_eq!(status(&Received { method: "GET".into(), ..good.clone() }), 405);
        for left_out in 0..3 {
            let mut bad = good.clone();
            bad.headers.remove(left_out);
            assert!(status(&bad) >= 400, "without {:?}", good.headers[left_out]);
        }
        let mut newer = good.clone();
        newer.headers[1].1 = VERSIONS[1].into();
        assert_eq!(status(&newer), 200);
        let mut warm = good.json();
        warm["temperature"] = json!(1);
        let warm = warm.to_string().into_bytes();
        assert_eq!(status(&Received { body: warm.clone(), ..good.clone() }), 200);
        assert_eq!(status(&Received { body: warm, ..newer }), 400);
        let mut both = good.clone();
        both.headers.push(("authorization".into(), "Bearer sk-ant-right".into()));
        assert_eq!(status(&both), 401);
        for bad in [
            json!({"model": "gpt-4o-mini", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
            json!({"model": "claude-3-haiku-20240307", "messages": [{"role": "user", "content": "hi"}]}),
            json!({"model": "claude-3-haiku-20240307", "max_tokens": 5000, "messages": [{"role": "user", "content": "hi"}]}),
            json!({"model": "claude-3-haiku-20240307", "max_tokens": 9, "messages": [{"role": "system", "content": "hi"}]}),
            json!({"model": "claude-3-haiku-20240307", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream_options": {}}),
        ] {
            assert!(
                status(&Received { body: bad.to_string().into_bytes(), ..good.clone() }) >= 400,
                "accepted {bad}"
            );
        }
    }
}
