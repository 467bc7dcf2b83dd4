//! Why an agent failed, in words for whoever ran it.

use std::fmt;

use serde::Deserialize;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in an agent. `Display` is one sentence for a person, without a trailing full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// stdin did not hold the JSON that the agent expects.
    Input(String),
    /// The result could not be written to stdout as JSON.
    Output(String),
    /// A variable that `orch` or the manifest should have set is missing or not text.
    Env(String),
    /// A URL without `scheme://authority`, which no request can be made from.
    Url(String),
    /// No answer arrived: the request was refused, or the connection failed. `reason` is the host's error code.
    Http {
        /// The request's URL as the agent gave it, without its query.
        url: String,
        /// The `wasi:http` error code, or what the host added to it.
        reason: String,
    },
    /// The model's provider, or the gateway before it, answered with an error.
    Provider {
        /// The HTTP status; `None` when the error arrived inside a stream that had begun with 200.
        status: Option<u16>,
        /// The error's type in the provider's words, such as `rate_limit_error`.
        kind: Option<String>,
        /// The provider's message.
        message: String,
    },
    /// The answer is not what the dialect says it should be.
    Protocol(String),
    /// The stream ended before its terminator: what arrived is not the whole answer.
    Truncated,
    /// The agent's own reason.
    Agent(String),
}

impl Error {
    /// The agent's own reason to fail.
    pub fn agent(reason: impl Into<String>) -> Error {
        Error::Agent(reason.into())
    }

    /// Reads an error answer of any of the dialects: `{"error":{"message","type"}}` as OpenAI and Anthropic have
    /// it, `{"error":"text"}` as Ollama does, or else the first line of whatever came.
    pub(crate) fn from_answer(status: u16, body: &[u8]) -> Error {
        if let Ok(ErrorBody { error }) = serde_json::from_slice(body) {
            return error.into_error(Some(status));
        }
        let text = String::from_utf8_lossy(body);
        let line: String = text.lines().next().unwrap_or_default().trim().chars().take(300).collect();
        let message = if line.is_empty() { "no message in the answer".to_owned() } else { line };
        Error::Provider { status: Some(status), kind: None, message }
    }
}

/// The body of an error answer, or of an error event inside a stream.
#[derive(Debug, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorDetail,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum ErrorDetail {
    Object {
        message: String,
        #[serde(rename = "type")]
        kind: Option<String>,
    },
    Text(String),
}

impl ErrorDetail {
    pub(crate) fn into_error(self, status: Option<u16>) -> Error {
        match self {
            ErrorDetail::Object { message, kind } => Error::Provider { status, kind, message },
            ErrorDetail::Text(message) => Error::Provider { status, kind: None, message },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Input(reason) => write!(f, "the input is not what this agent expects: {reason}"),
            Error::Output(reason) => write!(f, "the result could not be written: {reason}"),
            Error::Env(name) => {
                write!(f, "the environment variable {name} is not set; run this agent with orch")
            }
            Error::Url(url) => write!(f, "not a URL that can be requested: {url}"),
            Error::Http { url, reason } => write!(f, "no answer from {url}: {reason}"),
            Error::Provider { status, kind, message } => {
                f.write_str("the model failed")?;
                match (status, kind) {
                    (Some(status), Some(kind)) => write!(f, " ({status}, {kind})")?,
                    (Some(status), None) => write!(f, " ({status})")?,
                    (None, Some(kind)) => write!(f, " ({kind})")?,
                    (None, None) => {}
                }
                write!(f, ": {message}")
            }
            Error::Protocol(reason) => write!(f, "the answer could not be understood: {reason}"),
            Error::Truncated => f.write_str("the answer was cut off before its end"),
            Error::Agent(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(status: u16, kind: Option<&str>, message: &str) -> Error {
        Error::Provider { status: Some(status), kind: kind.map(str::to_owned), message: message.to_owned() }
    }

    #[test]
    fn error_answers_of_each_dialect_are_read() {
        let openai = br#"{"error":{"message":"No such model","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
        assert_eq!(
            Error::from_answer(404, openai),
            provider(404, Some("invalid_request_error"), "No such model")
        );
        let anthropic = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#;
        assert_eq!(Error::from_answer(529, anthropic), provider(529, Some("overloaded_error"), "Overloaded"));
        assert_eq!(
            Error::from_answer(404, br#"{"error":"model not found"}"#),
            provider(404, None, "model not found")
        );
        assert_eq!(
            Error::from_answer(502, b"<html>Bad gateway\n</html>"),
            provider(502, None, "<html>Bad gateway")
        );
        assert_eq!(Error::from_answer(500, b""), provider(500, None, "no message in the answer"));
        assert_eq!(Error::from_answer(500, &[0xff, b'x']), provider(500, None, "\u{fffd}x"));
    }

    #[test]
    fn messages_are_one_line_that_names_status_and_kind() {
        assert_eq!(
            provider(429, Some("rate_limit_error"), "Slow down").to_string(),
            "the model failed (429, rate_limit_error): Slow down"
        );
        let in_stream = Error::Provider { status: None, kind: None, message: "Overloaded".into() };
        assert_eq!(in_stream.to_string(), "the model failed: Overloaded");
        assert_eq!(
            Error::Env("ORCH_LLM_URL".into()).to_string(),
            "the environment variable ORCH_LLM_URL is not set; run this agent with orch"
        );
    }
}
