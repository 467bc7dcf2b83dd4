//! Anthropic's messages dialect, as much of it as a plain conversation needs.
//!
//! For agents that call `https://api.anthropic.com/v1/messages` themselves, with the placeholder from
//! `ANTHROPIC_API_KEY` in `x-api-key`, or the same dialect through the gateway at `ANTHROPIC_BASE_URL`.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The value of the `anthropic-version` header that these types are written for.
pub const VERSION: &str = "2023-06-01";

/// The body of a request for one message, not streamed.
#[derive(Debug, Clone, Serialize)]
pub struct MessagesRequest {
    model: String,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    messages: Vec<Turn>,
}

#[derive(Debug, Clone, Serialize)]
struct Turn {
    role: &'static str,
    content: String,
}

impl MessagesRequest {
    /// Asks `model` for at most `max_tokens` tokens; the dialect has no default for that number.
    pub fn new(model: impl Into<String>, max_tokens: u32) -> MessagesRequest {
        MessagesRequest { model: model.into(), max_tokens, system: None, messages: Vec::new() }
    }

    /// Sets the instruction that stands above the conversation.
    #[must_use]
    pub fn system(mut self, text: impl Into<String>) -> MessagesRequest {
        self.system = Some(text.into());
        self
    }

    /// Adds a turn of the user.
    #[must_use]
    pub fn user(mut self, text: impl Into<String>) -> MessagesRequest {
        self.messages.push(Turn { role: "user", content: text.into() });
        self
    }

    /// Adds an earlier turn of the model.
    #[must_use]
    pub fn assistant(mut self, text: impl Into<String>) -> MessagesRequest {
        self.messages.push(Turn { role: "assistant", content: text.into() });
        self
    }
}

/// The model's answer.
#[derive(Debug, Clone, Deserialize)]
pub struct MessagesResponse {
    /// The model that answered.
    pub model: String,
    /// Why it stopped: `end_turn`, `max_tokens`, `stop_sequence`, `tool_use`, `refusal`, …
    pub stop_reason: Option<String>,
    /// What the call cost.
    pub usage: Usage,
    content: Vec<Block>,
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Tokens read, without those read from a cache.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        text: String,
    },
    /// Thinking, tool use and whatever comes later: not asked for by these types.
    #[serde(other)]
    Other,
}

impl MessagesResponse {
    /// Reads the answer to a [`MessagesRequest`] from its HTTP status and body.
    ///
    /// Fails with [`Error::Provider`] when the status is not 2xx, and with [`Error::Protocol`] when the body is not
    /// a message.
    pub fn parse(status: u16, body: &[u8]) -> Result<MessagesResponse> {
        if !(200..300).contains(&status) {
            return Err(Error::from_answer(status, body));
        }
        serde_json::from_slice(body).map_err(|error| Error::Protocol(error.to_string()))
    }

    /// The text of the answer; other kinds of content are left out.
    pub fn text(&self) -> String {
        let text = |block: &Block| match block {
            Block::Text { text } => Some(text.clone()),
            Block::Other => None,
        };
        self.content.iter().filter_map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_written_as_the_dialect_has_it() {
        let request = MessagesRequest::new("claude-3-haiku-20240307", 1024)
            .system("Translate.")
            .user("Hello")
            .assistant("Bonjour")
            .user("Thanks");
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            json!({
                "model": "claude-3-haiku-20240307",
                "max_tokens": 1024,
                "system": "Translate.",
                "messages": [
                    {"role": "user", "content": "Hello"},
                    {"role": "assistant", "content": "Bonjour"},
                    {"role": "user", "content": "Thanks"},
                ],
            })
        );
        let bare = serde_json::to_value(MessagesRequest::new("m", 1).user("x")).unwrap();
        assert_eq!(bare.get("system"), None);
    }

    #[test]
    fn an_answer_is_read_and_only_its_text_is_kept() {
        let body = br#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-3-haiku-20240307",
            "content":[{"type":"thinking","thinking":"hm","signature":"x"},{"type":"text","text":"Bon"},{"type":"text","text":"jour"}],
            "stop_reason":"end_turn","stop_sequence":null,
            "usage":{"input_tokens":9,"output_tokens":3,"cache_read_input_tokens":0}}"#;
        let response = MessagesResponse::parse(200, body).unwrap();
        assert_eq!(response.text(), "Bonjour");
        assert_eq!(response.model, "claude-3-haiku-20240307");
        assert_eq!(response.stop_reason.as_deref(), Some("end_turn"));
        assert_eq!(response.usage, Usage { input_tokens: 9, output_tokens: 3 });
    }

    #[test]
    fn errors_and_nonsense_are_told_apart() {
        let refused = MessagesResponse::parse(
            401,
            br#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
        );
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the model failed (401, authentication_error): invalid x-api-key"
        );
        assert!(matches!(MessagesResponse::parse(200, b"{}"), Err(Error::Protocol(_))));
    }
}
