//! Finding the error inside the many envelopes that providers wrap it in.

use http::StatusCode;
use serde_json::Value;

/// The parts of an error document that classification looks at.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) message: String,
    /// `code`: text or a number.
    code: Option<String>,
    /// `type`.
    kind: Option<String>,
    /// `status`: Google's status name.
    status: Option<String>,
    pub(super) param: Option<String>,
    /// `reason` of Google's ErrorInfo and `code` of Azure's inner error.
    reasons: Vec<String>,
    /// Google's QuotaFailure.
    pub(super) quota_ids: Vec<String>,
    /// Google's RetryInfo and quota metadata, such as `46s`.
    pub(super) delays: Vec<String>,
}

impl Envelope {
    /// Every machine-readable name, the most telling first.
    pub(super) fn codes(&self) -> impl Iterator<Item = String> {
        let named = [&self.code, &self.kind, &self.status];
        self.reasons.iter().chain(named.into_iter().flatten()).cloned()
    }

    /// Takes the name that a header gives, which may be followed by where it is documented (AWS).
    pub(super) fn name(&mut self, kind: &str) {
        let kind = kind.split([':', ',']).next().unwrap_or_default().trim();
        let kind = kind.rsplit('#').next().unwrap_or_default();
        if !kind.is_empty() {
            self.kind.get_or_insert_with(|| kind.to_owned());
        }
    }

    /// The name to report.
    pub(super) fn code(&self) -> Option<String> {
        self.reasons.first().or(self.code.as_ref()).or(self.kind.as_ref()).or(self.status.as_ref()).cloned()
    }

    /// Google and OpenRouter repeat the HTTP status as a numeric code.
    pub(super) fn http_status(&self) -> Option<StatusCode> {
        let code: u16 = self.code.as_ref()?.parse().ok()?;
        StatusCode::from_u16(code).ok().filter(|s| s.is_client_error() || s.is_server_error())
    }
}

/// Whether a document that came with a success status is an error all the same.
pub(super) fn is_error(document: &Value) -> bool {
    match document {
        Value::Array(items) => items.first().is_some_and(is_error),
        Value::Object(map) => {
            let named = match map.get("error") {
                Some(Value::Object(_)) => true,
                Some(Value::String(text)) => !text.is_empty(),
                _ => false,
            };
            named
                || matches!(map.get("type").and_then(Value::as_str), Some("error"))
                || matches!(map.get("object").and_then(Value::as_str), Some("error"))
                || map.get("response").and_then(|of| of.get("error")).is_some_and(Value::is_object)
                // Cohere's errors are nothing but a message, where answers have an object of that name. SiliconFlow says
                // `"message": "OK"` beside what was asked for.
                || (map.get("message").is_some_and(Value::is_string)
                    && map.get("data").is_none_or(Value::is_null)
                    && !["choices", "content", "candidates", "output"].iter().any(|key| map.contains_key(*key)))
        }
        _ => false,
    }
}

/// Why Gemini blocked a prompt, in an answer that looks like any other and has nothing in it.
pub(super) fn blocked(document: &Value) -> Option<String> {
    let empty = document.get("candidates").and_then(Value::as_array).is_none_or(Vec::is_empty);
    let reason = document.get("promptFeedback").filter(|_| empty)?.get("blockReason")?.as_str()?;
    (reason != "BLOCK_REASON_UNSPECIFIED").then(|| reason.to_owned())
}

/// The end of an answer of Cohere's, whole or streamed, that says that there will be none.
pub(super) fn given_up(document: &Value) -> Option<Envelope> {
    let holder = match document.get("type").and_then(Value::as_str) {
        Some("message-end") => document.get("delta")?,
        _ => document,
    };
    let finish = holder.get("finish_reason")?.as_str()?;
    let usual = match finish {
        "ERROR" => "server_error",
        "TIMEOUT" => "timeout_error",
        _ => return None,
    };
    let message = text(holder.get("error")).unwrap_or_else(|| format!("the provider gave up: {finish}"));
    let code = text(holder.get("code")).unwrap_or_else(|| usual.to_owned());
    Some(Envelope { message, code: Some(code), ..Envelope::default() })
}

/// Reads the envelope; `None` when there is nothing in it that looks like an error.
pub(super) fn read(document: &Value) -> Option<Envelope> {
    if let Value::Array(items) = document {
        return read(items.first()?);
    }
    let outer = document.as_object()?;
    if let Some(inner) = document.pointer("/response/error").filter(|e| e.is_object()) {
        return Some(from_object(inner));
    }
    match outer.get("error") {
        Some(inner @ Value::Object(_)) => {
            let mut envelope = from_object(inner);
            if envelope.message.is_empty() {
                envelope.message = text(outer.get("message")).unwrap_or_default();
            }
            return Some(envelope);
        }
        Some(Value::String(message)) if !message.is_empty() => {
            let mut envelope = from_object(document);
            envelope.message.clone_from(message);
            return Some(envelope);
        }
        _ => {}
    }
    match outer.get("detail") {
        Some(Value::String(message)) => {
            return Some(Envelope { message: message.clone(), ..Envelope::default() });
        }
        Some(Value::Object(_)) => return outer.get("detail").and_then(read),
        // FastAPI's list of validation errors.
        Some(Value::Array(items)) => {
            let words = items.iter().filter_map(|item| text(item.get("msg"))).collect::<Vec<_>>().join("; ");
            return Some(Envelope { message: words, ..Envelope::default() });
        }
        _ => {}
    }
    let envelope = from_object(document);
    let tells = !envelope.message.is_empty() || envelope.code.is_some() || envelope.kind.is_some();
    tells.then_some(envelope)
}

fn from_object(error: &Value) -> Envelope {
    let mut envelope = Envelope {
        message: text(error.get("message")).or_else(|| text(error.get("Message"))).unwrap_or_default(),
        code: text(error.get("code")).or_else(|| text(error.get("__type"))),
        kind: text(error.get("type")).filter(|kind| kind != "error"),
        status: text(error.get("status")),
        param: text(error.get("param")),
        ..Envelope::default()
    };
    if let Some(inner) = text(error.pointer("/innererror/code")) {
        envelope.reasons.push(inner);
    }
    for detail in error.get("details").and_then(Value::as_array).into_iter().flatten() {
        envelope.reasons.extend(text(detail.get("reason")));
        envelope.delays.extend(text(detail.get("retryDelay")));
        envelope.delays.extend(text(detail.pointer("/metadata/quotaResetDelay")));
        for violation in detail.get("violations").and_then(Value::as_array).into_iter().flatten() {
            envelope.quota_ids.extend(text(violation.get("quotaId")));
        }
    }
    envelope
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}
