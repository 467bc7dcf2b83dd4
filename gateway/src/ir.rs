//! The intermediate form that every dialect reads into and writes from.
//!
//! It keeps what it understands as types, keeps what it does not understand as `extras` (JSON as the client sent
//! it), and lists in [`Dropped`] what a target dialect could not carry. Nothing here knows a wire format.

mod error;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::bounded;

pub use error::{ApiError, Class};

/// A chat request, whatever dialect it arrived in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// The model as the client named it; may be empty, `default` or `auto`.
    pub model: String,
    /// Instructions that stand apart from the messages, in dialects that have such a place.
    pub system: Vec<Part>,
    /// The messages in the client's order; index for index the client's own.
    pub messages: Vec<Message>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Where each of `tools` stands in the client's list, and in the group there that it is one of; empty where each stands for
    /// itself.
    pub tool_places: Vec<(usize, Option<usize>)>,
    /// How the model has to choose among `tools`; `None` leaves it to the provider.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called in one turn; `None` leaves it to the provider.
    pub parallel_tools: Option<bool>,
    /// Randomness and penalties.
    pub sampling: Sampling,
    /// Upper bound of generated tokens per answer.
    pub max_tokens: Option<u64>,
    /// Sequences that end the answer.
    pub stop: Vec<String>,
    /// Whether the answer is wanted as a stream of events.
    pub stream: bool,
    /// Whether a streaming client asked for a usage event at the end (Anthropic clients always do).
    pub include_usage: bool,
    /// Structured output.
    pub format: Option<ResponseFormat>,
    /// How hard the model should think.
    pub reasoning: Option<ReasoningWish>,
    /// Number of answers wanted; 1 unless the client's dialect has the notion and asked for more.
    pub answers: u64,
    /// An opaque end-user id for the provider's abuse detection.
    pub user: Option<String>,
    /// Top-level fields that have no place above, as sent; of Gemini's nested configuration by their paths.
    pub extras: Map<String, Value>,
}

impl ChatRequest {
    /// The path of a tool in the client's request.
    pub(crate) fn tool_at(&self, number: usize) -> String {
        match self.tool_places.get(number) {
            Some((group, Some(at))) => format!("tools[{group}].tools[{at}]"),
            Some((at, None)) => format!("tools[{at}]"),
            None => format!("tools[{number}]"),
        }
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions (`system`, `developer`).
    System,
    /// The person or program that asks. Tool results are [`Part::ToolResult`] inside a user message.
    User,
    /// The model.
    Assistant,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub content: Vec<Part>,
    /// Fields that have no place above (`name`, …), as sent.
    pub extras: Map<String, Value>,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Plain text.
    Text {
        /// The text.
        text: String,
        /// Fields beside the text (`cache_control`, …), as sent.
        extras: Map<String, Value>,
    },
    /// An image.
    Image(Image),
    /// The model asks for a tool.
    ToolCall(ToolCall),
    /// What a tool answered.
    ToolResult(ToolResult),
    /// What the model thought before it answered.
    Reasoning {
        /// The readable thoughts; empty when the provider only sent an opaque form.
        text: String,
        /// The provider's signature, which has to be replayed unchanged.
        signature: Option<String>,
    },
    /// The model declined, in words that the provider marks as a refusal.
    Refusal(String),
    /// A part of a kind that is not known here, as sent.
    Opaque(Value),
}

impl Part {
    /// A text part without anything beside it.
    pub fn text(text: impl Into<String>) -> Part {
        Part::Text { text: text.into(), extras: Map::new() }
    }
}

/// An image in a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Where its bytes are.
    pub source: ImageSource,
    /// OpenAI's `detail`.
    pub detail: Option<String>,
    /// Fields beside it, as sent.
    pub extras: Map<String, Value>,
}

/// Where an image's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// The provider would fetch it.
    Url(String),
    /// In the message.
    Base64 {
        /// `image/png` and so on.
        media_type: String,
        /// Base64 text as sent.
        data: String,
    },
}

/// The model asks for a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Matches a later [`ToolResult::call`].
    pub id: String,
    /// The function's name.
    pub name: String,
    /// JSON text as the model wrote it: it may be empty (no arguments) or not even be JSON.
    pub arguments: String,
    /// Gemini's signature of the thoughts that led to the call, which has to be replayed unchanged.
    pub signature: Option<String>,
}

/// JSON values in the arguments of all tool calls together. One dialect has them as text, another as a tree, so that
/// whoever bounds a tree has to bound them beside it.
pub(crate) fn values_in_arguments(parts: &[Part]) -> usize {
    parts
        .iter()
        .map(|part| match part {
            Part::ToolCall(call) => bounded::count(call.arguments.as_bytes()),
            _ => 0,
        })
        .sum()
}

/// What a tool answered.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The id of the call that this answers.
    pub call: String,
    /// Text and images.
    pub content: Vec<Part>,
    /// Whether the tool failed.
    pub is_error: bool,
    /// Fields beside it, as sent.
    pub extras: Map<String, Value>,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    /// Run by the client.
    Function {
        /// The function's name.
        name: String,
        /// What it does, for the model.
        description: Option<String>,
        /// JSON Schema of its arguments; `None` means no arguments.
        parameters: Option<Value>,
        /// Whether the arguments have to match the schema.
        strict: Option<bool>,
        /// In which form the client knows it.
        form: Form,
        /// Fields beside it, as sent.
        extras: Map<String, Value>,
    },
    /// Run by the provider (web search, code execution, …) or of an unknown kind, as sent.
    Provider {
        /// The dialect's `type`.
        kind: String,
        /// The whole entry.
        raw: Value,
    },
}

/// In which form a client knows a function. Every provider knows plain ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    #[default]
    Plain,
    /// It takes a text in place of arguments (OpenAI's `custom`): of the arguments, [`Form::TEXT`].
    Text,
    /// It is one of a group (OpenAI's `namespace`). The function's name is that of both.
    Grouped {
        /// The group's name.
        group: String,
        /// Its name in the group.
        name: String,
        /// Whether it takes a text as well.
        text: bool,
    },
}

impl Form {
    /// The argument that holds the text of a tool which takes one.
    pub const TEXT: &str = "input";

    /// Whether it takes a text.
    pub fn takes_text(&self) -> bool {
        matches!(self, Form::Text | Form::Grouped { text: true, .. })
    }
}

/// How the model has to choose among the tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// No tool.
    None,
    /// At least one tool.
    Required,
    /// This one.
    Named(String),
}

/// Randomness and penalties. Numbers are as the client sent them: ranges are the provider's to judge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Temperature.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Top-k sampling (Anthropic, Gemini).
    pub top_k: Option<u64>,
    /// Frequency penalty (OpenAI).
    pub frequency_penalty: Option<f64>,
    /// Presence penalty (OpenAI).
    pub presence_penalty: Option<f64>,
    /// Seed (OpenAI).
    pub seed: Option<i64>,
}

/// Structured output.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseFormat {
    /// Any JSON object.
    JsonObject,
    /// JSON that matches a schema.
    JsonSchema {
        /// OpenAI wants a name; empty when the client's dialect has none.
        name: String,
        /// For the model.
        description: Option<String>,
        /// The schema.
        schema: Value,
        /// Whether the answer must match; `None` of dialects in which every answer does.
        strict: Option<bool>,
    },
}

/// How hard the model should think.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReasoningWish {
    /// OpenAI's `reasoning_effort` as sent, Gemini's `thinkingConfig.thinkingLevel` in lower case.
    Effort(String),
    /// Anthropic's `thinking.budget_tokens`, Gemini's `thinkingConfig.thinkingBudget`.
    Budget(u64),
    /// Explicitly off.
    Off,
}

/// Something that the target dialect or model cannot carry, for the receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The field's path in the client's request, e.g. `messages[2].content[0]` or `seed`; of an answer's piece,
    /// `answer.` and its kind.
    pub field: String,
    /// Why, in a few words.
    pub reason: Cow<'static, str>,
}

impl Dropped {
    /// Names a field and why it was left out.
    pub fn new(field: impl Into<String>, reason: impl Into<Cow<'static, str>>) -> Dropped {
        Dropped { field: field.into(), reason: reason.into() }
    }

    /// Names an answer's piece ([`Part::Opaque`], [`StreamEvent::Opaque`]) that the client's dialect has no place for.
    pub(crate) fn piece(piece: &Value) -> Dropped {
        let kind = piece.get("type").and_then(Value::as_str).unwrap_or("unknown");
        let kind: String =
            kind.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).take(64).collect();
        Dropped::new(format!("answer.{kind}"), "the client's dialect has no place for it")
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatResponse {
    /// The provider's id of the answer; written back as it is.
    pub id: String,
    /// The model that the provider says has answered.
    pub model: String,
    /// Unix seconds; 0 when the dialect has no such field.
    pub created: u64,
    /// Text, tool calls, reasoning, refusal.
    pub content: Vec<Part>,
    /// Why it ended.
    pub stop: StopReason,
    /// The stop sequence that was hit, where the provider tells.
    pub stop_sequence: Option<String>,
    /// Tokens, when the provider told.
    pub usage: Option<Usage>,
}

/// Why an answer ended. Never invented: an end that the provider did not explain is `Truncated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model was done, or hit a stop sequence.
    Stop,
    /// `max_tokens` or the context's end.
    Length,
    /// The model waits for tool results.
    ToolUse,
    /// The provider's filter cut the answer.
    ContentFilter,
    /// The model or its provider declined.
    Refusal,
    /// The provider named a reason that is a failure, or one that is not known here.
    Error,
    /// The stream ended without its terminator.
    Truncated,
}

/// Tokens as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// Part of `input` that was read from the provider's cache.
    pub cached_input: u64,
    /// Part of `input` that was written to the provider's cache.
    pub cache_write: u64,
    /// Part of `cache_write` that the provider keeps for an hour, which costs more.
    pub cache_write_1h: u64,
    /// Part of `output` that was spent on reasoning, where the provider tells.
    pub reasoning: u64,
}

impl Usage {
    /// Both together.
    pub(crate) fn and(self, other: Usage) -> Usage {
        Usage {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

/// One event of a streamed answer.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// The answer begins. A lifecycle event: nothing has been said yet.
    Start {
        /// The provider's id of the answer.
        id: String,
        /// The model that the provider says answers.
        model: String,
        /// Unix seconds; 0 when the dialect has no such field.
        created: u64,
    },
    /// More text; never empty.
    Text(String),
    /// More reasoning; never empty.
    Reasoning(String),
    /// The signature of the reasoning so far.
    ReasoningSignature(String),
    /// More of a refusal in words; never empty.
    Refusal(String),
    /// A tool call begins.
    ToolStart {
        /// Position among the answer's tool calls, from 0.
        index: u32,
        /// Call id.
        id: String,
        /// Function name.
        name: String,
        /// As [`ToolCall::signature`].
        signature: Option<String>,
    },
    /// More argument text of a tool call that began; never empty. Calls may interleave.
    ToolArguments {
        /// Which call.
        index: u32,
        /// A fragment of JSON text.
        fragment: String,
    },
    /// A tool call is complete. Not every dialect says so.
    ToolEnd {
        /// Which call.
        index: u32,
    },
    /// A piece of a kind that other dialects have no place for (citations, the provider's own tools), as sent. Its
    /// `type` names the kind.
    Opaque(Value),
    /// The counts so far; a later one replaces an earlier one.
    Usage(Usage),
    /// Why the answer ended. The dialect's terminator is still to come.
    Stop {
        /// The reason.
        reason: StopReason,
        /// The stop sequence that was hit, where the provider tells.
        sequence: Option<String>,
    },
    /// The dialect's terminator: the stream is complete.
    End,
    /// The provider failed inside the stream; nothing follows.
    Error(ApiError),
}

impl StreamEvent {
    /// What the model has made in it and is paid for: text, thoughts, a refusal, or arguments of a call.
    pub fn text(&self) -> Option<&str> {
        match self {
            StreamEvent::Text(text)
            | StreamEvent::Reasoning(text)
            | StreamEvent::Refusal(text)
            | StreamEvent::ToolArguments { fragment: text, .. } => Some(text),
            StreamEvent::Start { .. }
            | StreamEvent::Usage(_)
            | StreamEvent::Error(_)
            | StreamEvent::ReasoningSignature(_)
            | StreamEvent::ToolStart { .. }
            | StreamEvent::ToolEnd { .. }
            | StreamEvent::Opaque(_)
            | StreamEvent::Stop { .. }
            | StreamEvent::End => None,
        }
    }

    /// Whether a client that saw this event has seen part of the answer, so that no other candidate may take over.
    pub fn commits(&self) -> bool {
        match self {
            StreamEvent::Start { .. } | StreamEvent::Usage(_) | StreamEvent::Error(_) => false,
            StreamEvent::Text(_)
            | StreamEvent::Reasoning(_)
            | StreamEvent::ReasoningSignature(_)
            | StreamEvent::Refusal(_)
            | StreamEvent::ToolStart { .. }
            | StreamEvent::ToolArguments { .. }
            | StreamEvent::ToolEnd { .. }
            | StreamEvent::Opaque(_)
            | StreamEvent::Stop { .. }
            | StreamEvent::End => true,
        }
    }
}
