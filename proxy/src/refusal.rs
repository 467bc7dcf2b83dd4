//! What whoever was refused gets to read: a body that a program, or the model behind it, can act on.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{Body, body};

/// A request that was not carried out, in the shape in which guests and clients of the listener read it.
#[derive(Debug, Clone)]
pub struct Refusal<'a> {
    /// `egress_denied` where policy said no, `egress_failed` where something on the way failed, `bad_request` where the
    /// request makes no sense.
    pub kind: &'static str,
    /// Stable word.
    pub code: &'a str,
    /// The host that was asked for, as far as it is known.
    pub host: &'a str,
    /// One sentence.
    pub message: &'a str,
    /// The rule that would allow exactly this, as fields; none where no rule could.
    pub rule_missing: Option<Value>,
    /// What to do about it.
    pub next_steps: &'a [String],
}

impl Refusal<'_> {
    /// The response with this status.
    #[must_use]
    pub fn response(&self, status: StatusCode) -> Response<Body> {
        let Self { kind, code, host, message, rule_missing, next_steps } = self;
        let mut error = json!({
            "type": kind, "code": code, "host": host, "message": message, "next_steps": next_steps,
        });
        if let (Some(missing), Value::Object(fields)) = (rule_missing, &mut error) {
            fields.insert("rule_missing".to_owned(), missing.clone());
        }
        let text = json!({ "error": error });
        let mut response = Response::new(body::full(Bytes::from(text.to_string())));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
