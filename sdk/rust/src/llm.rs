//! Talking to a model through the gateway, in OpenAI's chat dialect.
//!
//! `ORCH_LLM_URL` is the gateway. It speaks this dialect whatever provider stands behind it, picks provider and
//! model from the run's plan, and falls back to the next when one fails; an agent only asks and reads.
//!
//! # Tools
//!
//! A model that was offered [`Tool`]s may answer with [`Completion::tool_calls`] instead of text. The agent runs them,
//! adds that turn with [`ChatRequest::turn`] and what came of each call with [`ChatRequest::tool_result`], and asks
//! again, until the answer is text:
//!
//! ```
//! use orch_sdk::llm::{ChatRequest, Completion, Tool};
//!
//! fn ask() -> ChatRequest {
//!     let schema = serde_json::json!({
//!         "type": "object",
//!         "properties": { "city": { "type": "string" } },
//!         "required": ["city"],
//!     });
//!     ChatRequest::new().user("Is it raining in Oslo?").tool(Tool::new("weather", "The weather now.", schema))
//! }
//!
//! fn go_on(mut request: ChatRequest, answer: &Completion) -> ChatRequest {
//!     request = request.turn(answer);
//!     for call in &answer.tool_calls {
//!         let result = match call.arguments::<serde_json::Value>() {
//!             Ok(arguments) => format!("It rains in {}.", arguments["city"]),
//!             Err(error) => error.to_string(), // the model can try again
//!         };
//!         request = request.tool_result(call, result);
//!     }
//!     request
//! }
//! ```

mod completion;
#[cfg(target_family = "wasm")]
mod stream;
mod tool;

pub use completion::{Completion, Usage};
#[cfg(target_family = "wasm")]
pub use stream::{ChatStream, chat};
pub use tool::{Tool, ToolCall};

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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool>,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Debug, Clone, Serialize)]
struct Message {
    role: &'static str,
    /// `null` where a turn consists of tool calls alone, as the dialect wants it.
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
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
            tools: Vec::new(),
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

    /// Adds a turn of the model as it was answered, with its tool calls. Each of those wants a
    /// [`ChatRequest::tool_result`] before anything else is added, or providers refuse the request.
    #[must_use]
    pub fn turn(mut self, answer: &Completion) -> ChatRequest {
        let calls = &answer.tool_calls;
        let content = (!answer.text.is_empty() || calls.is_empty()).then(|| answer.text.clone());
        self.messages.push(Message { content, tool_calls: calls.clone(), ..Message::of("assistant") });
        self
    }

    /// Adds what came of a tool call: its result, or in words why there is none, so that the model can try again.
    #[must_use]
    pub fn tool_result(mut self, call: &ToolCall, result: impl Into<String>) -> ChatRequest {
        let content = Some(result.into());
        self.messages.push(Message { content, tool_call_id: Some(call.id.clone()), ..Message::of("tool") });
        self
    }

    /// Offers a tool. Whether and how often the model calls it is up to the model.
    #[must_use]
    pub fn tool(mut self, tool: Tool) -> ChatRequest {
        self.tools.push(tool);
        self
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
        self.messages.push(Message { content: Some(text.into()), ..Message::of(role) });
        self
    }
}

impl Message {
    fn of(role: &'static str) -> Message {
        Message { role, content: None, tool_calls: Vec::new(), tool_call_id: None }
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

    #[test]
    fn tools_calls_and_results_are_written_as_the_dialect_has_them() {
        let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}});
        let call = ToolCall { id: "c1".into(), name: "find".into(), arguments: "{\"q\":\"x\"}".into() };
        let answer = Completion { tool_calls: vec![call.clone()], ..Completion::default() };
        let said = Completion { text: "Found.".into(), ..Completion::default() };
        let request = ChatRequest::new()
            .tool(Tool::new("find", "Finds things.", schema.clone()))
            .user("Find x.")
            .turn(&answer)
            .tool_result(&call, "x is here")
            .turn(&said);
        let request = serde_json::to_value(&request).unwrap();
        assert_eq!(
            request["tools"],
            json!([{"type": "function", "function": {
                "name": "find", "description": "Finds things.", "parameters": schema,
            }}])
        );
        assert_eq!(
            request["messages"],
            json!([
                {"role": "user", "content": "Find x."},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{\"q\":\"x\"}"}},
                ]},
                {"role": "tool", "content": "x is here", "tool_call_id": "c1"},
                {"role": "assistant", "content": "Found."},
            ])
        );
    }
}
