//! OpenAI's responses: what is taken. What is answered says [`super::model`].

use serde_json::{Value, json};

use super::{Failure, stray_header, unknown_field};
use crate::reply::Reply;
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

/// What every answer is called.
pub const ID: &str = "resp_fake";

/// OpenAI's judge of responses.
#[derive(Debug, Clone)]
pub struct Responses {
    key: String,
    model: String,
}

/// Accepts `key`, and knows `model`.
pub fn responses(key: &str, model: &str) -> Responses {
    Responses { key: key.to_owned(), model: model.to_owned() }
}

impl Responses {
    /// What is wrong with a request, as the answer that says so.
    pub(super) fn objection(&self, request: &Received) -> Option<Reply> {
        let refused = |status, message: &str, param, code| Some(Self::error(status, message, param, code));
        if request.path != PATH {
            return refused(404, "Invalid URL", "", None);
        }
        if request.method != "POST" || request.query.is_some() {
            return refused(405, "Method not allowed", "", None);
        }
        if request.header("authorization") != Some(&format!("Bearer {}", self.key)) {
            return Some(self.failure(Failure::BadKey));
        }
        if let Some(name) = stray_header(request) {
            return refused(400, &format!("unexpected header {name}"), "", None);
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return refused(400, "We could not parse the JSON body of your request.", "", None);
        };
        if let Some(field) = unknown_field(&body, &FIELDS) {
            let message = format!("Unknown parameter: '{field}'.");
            return refused(400, &message, field, Some("unknown_parameter"));
        }
        if body["model"] != json!(self.model) {
            return Some(self.failure(Failure::NoModel));
        }
        if body["previous_response_id"].as_str().is_some_and(|id| id != ID) {
            let (param, code) = ("previous_response_id", "previous_response_not_found");
            return refused(400, "Previous response not found.", param, Some(code));
        }
        let input = &body["input"];
        if !input.is_string() && input.as_array().is_none_or(Vec::is_empty) {
            return refused(400, "Invalid type for 'input'.", "input", Some("invalid_type"));
        }
        None
    }

    /// The answer that OpenAI gives when it fails in this way.
    pub fn failure(&self, failure: Failure) -> Reply {
        match failure {
            Failure::BadKey => Self::error(401, "Incorrect API key provided.", "", Some("invalid_api_key")),
            Failure::NoModel => {
                let message = "The model does not exist or you do not have access to it.";
                Self::error(404, message, "model", Some("model_not_found"))
            }
            Failure::RateLimited(seconds) => {
                Self::error(429, "Rate limit reached for requests", "", Some("rate_limit_exceeded"))
                    .with_header("retry-after", &seconds.to_string())
            }
            Failure::BadRequest => {
                Self::error(400, "Invalid type for 'input[0]'.", "input[0]", Some("invalid_type"))
            }
            _ => Self::error(500, "The server had an error while processing your request", "", None),
        }
    }

    pub(super) fn error(status: u16, message: &str, param: &str, code: Option<&str>) -> Reply {
        let param = Some(param).filter(|param| !param.is_empty());
        let inner =
            json!({ "message": message, "type": "invalid_request_error", "param": param, "code": code });
        Reply::json(status, &json!({ "error": inner })).with_header("x-request-id", "req_fake")
    }
}
