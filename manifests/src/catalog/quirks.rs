//! Where a provider differs from others of its dialect, as the catalog says.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::Dialect;

/// Where a provider differs from others of its dialect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// The bound on output is sent as `max_completion_tokens` and not as `max_tokens`.
    pub max_completion_tokens: bool,
    /// A bound on output has to be sent.
    pub max_tokens_required: bool,
    /// `stream_options.include_usage` is understood.
    pub stream_options: bool,
    /// A stream may end after its `finish_reason` without the dialect's terminator.
    pub no_done: bool,
    /// Requests and answers are inside of Code Assist's envelope (Google).
    pub code_assist: bool,
    /// Unknown keys in messages are refused, and so is a system message behind others.
    pub strict_messages: bool,
    /// Of OpenAI's responses: instructions are sent as the first message of the input.
    pub system_as_input: bool,
    /// What none of its models can do, so that a request that needs it is not for this provider.
    pub lacks: Vec<Lack>,
    /// Fields of a request that are refused, by dialect: they are left out, and that is said.
    #[serde(deserialize_with = "by_dialect")]
    pub drops: BTreeMap<Dialect, Vec<String>>,
    /// Fields of a request that are ignored, so that the answer would silently be another.
    pub ignores: Vec<String>,
    /// Fields of a request that go by another name.
    pub renames: BTreeMap<String, String>,
    /// The field of a message in which thoughts come, and are sent back.
    pub reasoning: Option<ReasoningField>,
    /// What is spoken to its models that think, for clients whose own dialect it does not speak: OpenAI's chat completions refuse
    /// some of them tools.
    #[serde(deserialize_with = "a_dialect")]
    pub thinks_in: Option<Dialect>,
    /// Of OpenAI's dialects, those in which PDFs are taken.
    #[serde(deserialize_with = "dialects")]
    pub files: Vec<Dialect>,
    /// What stands before a model's name that has no slash.
    pub model_prefix: Option<String>,
}

impl Quirks {
    /// Whether none of its models can do this.
    pub fn lack(&self, what: Lack) -> bool {
        self.lacks.contains(&what)
    }

    /// The fields of a request in this dialect that are refused.
    pub fn drops_in(&self, dialect: Dialect) -> &[String] {
        self.drops.get(&dialect).map_or(&[], Vec::as_slice)
    }
}

/// Something that a request may need, and that no model of some provider can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// Calls tools.
    Tools,
    /// Keeps its output to a JSON Schema.
    JsonSchema,
    /// Calls a tool because the request says so, while the output has to be JSON as well.
    ForcedToolBesideJson,
    /// Calls a tool because the request says so, and thinks.
    ForcedToolWhileThinking,
}

impl Lack {
    /// Its name in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::JsonSchema => "json_schema",
            Self::ForcedToolBesideJson => "forced_tool_beside_json",
            Self::ForcedToolWhileThinking => "forced_tool_while_thinking",
        }
    }
}

/// Where a message of OpenAI's chat dialect, which has no place for them, holds the model's thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningField {
    /// `reasoning`.
    Reasoning,
    /// `reasoning_content`.
    ReasoningContent,
}

impl ReasoningField {
    /// The field's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reasoning => "reasoning",
            Self::ReasoningContent => "reasoning_content",
        }
    }
}

fn a_dialect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Dialect>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

fn dialects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Dialect>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
}

fn by_dialect<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Dialect, Vec<String>>, D::Error> {
    let drops = BTreeMap::<String, Vec<String>>::deserialize(deserializer)?;
    let read = |(dialect, fields): (String, _)| {
        dialect.parse().map(|dialect| (dialect, fields)).map_err(serde::de::Error::custom)
    };
    drops.into_iter().map(read).collect()
}
