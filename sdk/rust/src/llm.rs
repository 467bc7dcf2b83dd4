//! Talking to a model through the gateway, in OpenAI's chat dialect.
//!
//! `ORCH_LLM_URL` is the gateway. It speaks this dialect whatever provider stands behind it, picks provider and
//! model from the run's plan, and falls back to the next when one fails; an agent only asks and reads.

mod completion;
#[cfg(target_family = "wasm")]
mod stream;

pub use completion::{Completion, Usage};
#[cfg(target_family = "wasm")]
pub use stream::{ChatStream, chat};

use serde::Serialize;

/// The name by which the gateway knows "whatever the plan says".
const PLANNED: &str = "default";

/// A request for a chat completion, always streamed.
#[derive(Debug, Clone, Serialize)]
pub struct ChatRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Debug, Clone, Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl ChatRequest {
    /// Asks for the first model of the run's plan: the manifest's primary, unless the caller chose another or its
    /// provider has no key.
    #[expect(clippy::new_without_default, reason = "a request without messages is nothing to default to")]
    pub fn new() -> ChatRequest {
        ChatRequest {
            model: PLANNED.to_owned(),
            messages: Vec::new(),
            temperature: None,
            max_tokens: None,
            stream: true,
            stream_options: StreamOptions { include_usage: true },
        }
    }

    /// Asks for this model instead, by the manifest's name for it or as `provider/model`.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> ChatRequest {
        self.model = model.into();
        self
    }

    /// Adds an instruction that stands above the conversation.
    #[must_use]
    pub fn system(self, text: impl Into<String>) -> ChatRequest {
        self.message("system", text)
    }

    /// Adds a turn of the user.
    #[must_use]
    pub fn user(self, text: impl Into<String>) -> ChatRequest {
        self.message("user", text)
    }

    /// Adds an earlier turn of the model.
    #[must_use]
    pub fn assistant(self, text: impl Into<String>) -> ChatRequest {
        self.message("assistant", text)
    }

    /// Sets how freely the model picks its words: 0 is the most predictable.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> ChatRequest {
        self.temperature = Some(temperature);
        self
    }

    /// Sets the most tokens that the answer may have.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> ChatRequest {
        self.max_tokens = Some(tokens);
        self
    }

    fn message(mut self, role: &'static str, text: impl Into<String>) -> ChatRequest {
        self.messages.push(Message { role, content: text.into() });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_written_as_the_dialect_has_it() {
        let request = ChatRequest::new().system("Be brief.").user("Hi").assistant("Hello").user("Why?");
        let bare = json!({
            "model": "default",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Why?"},
            ],
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        assert_eq!(serde_json::to_value(&request).unwrap(), bare);

        let full = request.model("openai/gpt-4o").temperature(0.0).max_tokens(10);
        let full = serde_json::to_value(full).unwrap();
        assert_eq!((&full["temperature"], &full["max_tokens"]), (&json!(0.0), &json!(10)));
        assert_eq!(full["model"], "openai/gpt-4o");
    }
}
