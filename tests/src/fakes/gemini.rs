//! Gemini's own dialect.

use serde_json::{Value, json};

use super::{Failure, input_tokens, pieces, stray_header, unknown_field, without_words, words};
use crate::reply::{Piece, Reply};
use crate::upstream::Host;
use crate::wire::Received;

const FIELDS: [&str; 8] = [
    "cachedContent",
    "contents",
    "generationConfig",
    "labels",
    "safetySettings",
    "systemInstruction",
    "toolConfig",
    "tools",
];
const CONFIG: [&str; 13] = [
    "candidateCount",
    "frequencyPenalty",
    "maxOutputTokens",
    "presencePenalty",
    "responseJsonSchema",
    "responseMimeType",
    "responseSchema",
    "seed",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
];
const MODEL: &str = "gemini-2.5-flash";

/// A fake of Gemini.
#[derive(Debug, Clone)]
pub struct Generate {
    key: String,
    says: String,
}

/// Gemini: accepts `key`, knows `gemini-2.5-flash`, and answers `says`.
pub fn gemini(key: &str, says: &str) -> Generate {
    Generate { key: key.to_owned(), says: says.to_owned() }
}

impl Generate {
    /// The answer that Gemini gives when it fails in this way.
    pub fn failure(&self, failure: Failure) -> Reply {
        match failure {
            Failure::RateLimited(seconds) => error(
                429,
                "You exceeded your current quota, please check your plan and billing details.",
                &[
                    quota("GenerateRequestsPerMinutePerProjectPerModel"),
                    json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")}),
                ],
            ),
            Failure::ServerError => error(500, "An internal error has occurred.", &[]),
            Failure::Overloaded => error(503, "The model is overloaded. Please try again later.", &[]),
            Failure::TimedOut => error(504, "Deadline expired before operation could complete.", &[]),
            Failure::OutOfMoney => error(
                429,
                "You exceeded your current quota, please check your plan and billing details.",
                &[quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")],
            ),
            Failure::BadKey => error(
                400,
                "API key not valid. Please pass a valid API key.",
                &[
                    json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}),
                ],
            ),
            Failure::NoModel => error(
                404,
                "models/gemini-0 is not found for API version v1beta, or is not supported for generateContent.",
                &[],
            ),
            Failure::NoAccess => error(403, "The caller does not have permission", &[]),
            Failure::Filtered => Reply::json(
                200,
                &json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 1}}),
            ),
            Failure::BadRequest => error(400, "Request contains an invalid argument.", &[]),
            Failure::TooLong => error(
                400,
                "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).",
                &[],
            ),
            // There is no life cycle: before content there is nothing but counts.
            Failure::CutBeforeContent => Reply::sse(vec![event(&chunk(&json!([]), 1, 0)), Piece::Cut]),
            Failure::CutInContent => {
                Reply::sse(vec![event(&said("Half", 1)), event(&said(" a", 1)), Piece::Cut])
            }
            Failure::ErrorInStream => Reply::sse(vec![
                event(&chunk(&json!([]), 1, 0)),
                event(
                    &json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}),
                ),
            ]),
            Failure::HangUp | Failure::Garbage => without_words(failure).expect("these have no words"),
        }
    }

    /// The pieces of the streamed answer to a request, for scripts that put pauses or cuts between them.
    pub fn stream(&self, request: &Value) -> Vec<Piece> {
        let input = input_tokens(request);
        let mut events: Vec<Piece> = pieces(&self.says).map(|text| event(&said(text, input))).collect();
        let end = json!([{"finishReason": "STOP", "index": 0}]);
        events.push(event(&chunk(&end, input, words(&self.says))));
        events
    }

    /// What is wrong with a request, as the answer that says so.
    pub(super) fn objection(&self, request: &Received) -> Option<Reply> {
        let invalid = |message: String| Some(error(400, &message, &[]));
        let Some((model, method)) =
            request.path.strip_prefix("/v1beta/models/").and_then(|rest| rest.split_once(':'))
        else {
            return Some(error(404, "Not Found", &[]));
        };
        match (method, request.query.as_deref()) {
            ("generateContent", None) | ("streamGenerateContent", Some("alt=sse")) => {}
            _ => return Some(error(404, "Not Found", &[])),
        }
        if request.method != "POST" {
            return Some(error(404, "Not Found", &[]));
        }
        if request.header("x-goog-api-key") != Some(&self.key) || request.header("authorization").is_some() {
            return Some(self.failure(Failure::BadKey));
        }
        if let Some(name) = stray_header(request) {
            return invalid(format!("unexpected header {name}"));
        }
        if !request.header("content-type").is_some_and(|v| v.starts_with("application/json")) {
            return invalid("the content type must be application/json".into());
        }
        if model != MODEL {
            return Some(self.failure(Failure::NoModel));
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return invalid("Invalid JSON payload received.".into());
        };
        let unknown =
            unknown_field(&body, &FIELDS).or_else(|| unknown_field(&body["generationConfig"], &CONFIG));
        if let Some(field) = unknown {
            return invalid(format!(
                "Invalid JSON payload received. Unknown name \"{field}\": Cannot find field."
            ));
        }
        let contents = body["contents"].as_array().map_or(&[][..], Vec::as_slice);
        let turn = |content: &Value| {
            matches!(content["role"].as_str(), Some("user" | "model"))
                && content["parts"].as_array().is_some_and(|parts| !parts.is_empty())
        };
        if contents.is_empty() || !contents.iter().all(turn) {
            return invalid("Please use a valid role: user, model.".into());
        }
        None
    }
}

impl Host for Generate {
    fn answer(&self, request: &Received) -> Reply {
        if let Some(objection) = self.objection(request) {
            return objection;
        }
        let body = request.json();
        if request.query.is_some() {
            return Reply::sse(self.stream(&body));
        }
        let mut candidate = part(&json!({ "text": self.says }));
        candidate["finishReason"] = json!("STOP");
        Reply::json(200, &chunk(&json!([candidate]), input_tokens(&body), words(&self.says)))
    }
}

/// A stream in which the model calls a function, as one whole part without an id.
pub fn calls(name: &str, args: &Value) -> Reply {
    let call = part(&json!({ "functionCall": { "name": name, "args": args } }));
    let end = json!([{"finishReason": "STOP", "index": 0}]);
    Reply::sse(vec![event(&chunk(&json!([call]), 1, 0)), event(&chunk(&end, 1, 1))])
}

fn part(part: &Value) -> Value {
    json!({"content": {"parts": [part], "role": "model"}, "index": 0})
}

fn said(text: &str, input: u64) -> Value {
    chunk(&json!([part(&json!({ "text": text }))]), input, 0)
}

fn chunk(candidates: &Value, input: u64, output: u64) -> Value {
    let mut usage = json!({"promptTokenCount": input, "totalTokenCount": input + output});
    if output > 0 {
        usage["candidatesTokenCount"] = json!(output);
    }
    let mut chunk = json!({"usageMetadata": usage, "modelVersion": MODEL, "responseId": "fake"});
    if candidates.as_array().is_some_and(|all| !all.is_empty()) {
        chunk["candidates"] = candidates.clone();
    }
    chunk
}

fn quota(id: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id}]})
}

pub(super) fn error(status: u16, message: &str, details: &[Value]) -> Reply {
    let name = match status {
        400 => "INVALID_ARGUMENT",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    Reply::json(
        status,
        &json!({"error": {"code": status, "message": message, "status": name, "details": details}}),
    )
}

/// Google ends its lines as HTTP does.
fn event(data: &Value) -> Piece {
    Piece::text(format!("data: {data}\r\n\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_right_request_is_answered() {
        let fake = gemini("AIza-right", "One two.");
        let good = Received {
            method: "POST".into(),
            path: format!("/v1beta/models/{MODEL}:generateContent"),
            query: None,
            headers: vec![
                ("x-goog-api-key".into(), "AIza-right".into()),
                ("content-type".into(), "application/json".into()),
            ],
            body: json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}).to_string().into_bytes(),
            trailers: Vec::new(),
            head: Vec::new(),
        };
        let status = |request: &Received| match fake.answer(request) {
            Reply::Full { status, .. } | Reply::Stream { status, .. } => status,
            Reply::Held(..) | Reply::Raw(_) => 0,
        };
        assert_eq!(status(&good), 200);
        let streamed =
            Received { path: format!("/v1beta/models/{MODEL}:streamGenerateContent"), ..good.clone() };
        assert_eq!(status(&streamed), 404, "without alt=sse it is an array, which nobody asks for");
        assert_eq!(status(&Received { query: Some("alt=sse".into()), ..streamed }), 200);
        assert_eq!(status(&Received { query: Some("key=AIza-right".into()), ..good.clone() }), 404);
        assert_eq!(
            status(&Received { path: "/v1beta/models/gemini-0:generateContent".into(), ..good.clone() }),
            404
        );
        assert_eq!(status(&Received { path: "/v1beta/openai/chat/completions".into(), ..good.clone() }), 404);
        for left_out in 0..2 {
            let mut bad = good.clone();
            bad.headers.remove(left_out);
            assert_eq!(status(&bad), 400, "without {:?}", good.headers[left_out]);
        }
        for body in [
            json!({"contents": []}),
            json!({"messages": []}),
            json!({"contents": [{"role": "assistant", "parts": [{"text": "hi"}]}]}),
            json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"max_tokens": 1}}),
        ] {
            assert_eq!(
                status(&Received { body: body.to_string().into_bytes(), ..good.clone() }),
                400,
                "{body}"
            );
        }
    }
}
