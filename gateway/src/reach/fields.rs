//! Fields of a request that make a provider act by itself, or bring in what is stored in its account.

use orch_manifests::{ServerTool, ServerTools};
use serde_json::Value;

use super::OwnAnswers;
use super::address::of_value;
use super::tools::{is_clients, kinds_of, of_tool};
use crate::fields::folded;

/// Those of which it is enough that they are there: OpenAI, xAI, Perplexity, OpenRouter, Qwen, Groq, Anthropic, Gemini,
/// Bedrock. All in small letters: some servers do not tell them from capitals.
const FIELDS: &[(&str, ServerTool)] = &[
    ("web_search_options", ServerTool::Search),
    ("web_search", ServerTool::Search),
    ("search_parameters", ServerTool::Search),
    ("search_settings", ServerTool::Search),
    ("search_options", ServerTool::Search),
    ("enable_search", ServerTool::Search),
    ("mcp_servers", ServerTool::Mcp),
    ("cachedcontent", ServerTool::Stored),
    ("conversation", ServerTool::Stored),
    ("promptvariables", ServerTool::Stored),
    ("guardrailconfig", ServerTool::Stored),
    ("guardrail_config", ServerTool::Stored),
];

/// Where Bedrock takes what only one maker's models know.
const ADDITIONAL: &str = "additionalmodelrequestfields";

/// What a field needs. Fields that no table knows need nothing: dialects have many, and new ones reach out by tools.
pub(super) fn of_field(field: &str, value: &Value, own: &OwnAnswers) -> ServerTools {
    let field = folded(field);
    let field = field.as_str();
    if let Some((_, kind)) = FIELDS.iter().find(|(name, _)| *name == field) {
        let off = field == "enable_search" && *value == Value::Bool(false);
        return if off { ServerTools::NONE } else { (*kind).into() };
    }
    match field {
        // To write into the account.
        "store" if *value == Value::Bool(true) => ServerTool::Stored.into(),
        "previous_response_id" => match value.as_str() {
            Some(id) if own.contain(id) => ServerTools::NONE,
            _ => ServerTool::Stored.into(),
        },
        // A stored prompt, and whatever tools it has.
        "prompt" => ServerTools::ALL,
        // Anthropic's: one that is there, or skills that run in a new one.
        "container" => match value.get("skills") {
            Some(_) => [ServerTool::Code, ServerTool::Stored].into_iter().collect(),
            None => ServerTool::Stored.into(),
        },
        "plugins" | "connectors" => each(value, |entry| match entry.get("id").and_then(Value::as_str) {
            Some("web" | "web-search") => ServerTool::Search.into(),
            _ => ServerTools::ALL,
        }),
        "compound_custom" => ServerTools::ALL,
        // Sources of the client's own (Azure); settings kept in the account, and further models (OpenRouter); what only one
        // provider's models know (Venice, and libraries that pass anything on).
        "data_sources" | "preset" | "models" | "venice_parameters" | "extra_body" => ServerTools::ALL,
        ADDITIONAL => {
            value.as_object().into_iter().flatten().fold(of_value(value), |needed, (key, value)| {
                let here = match folded(key).as_str() {
                    "tools" => each(value, of_additional_tool),
                    _ => of_field(key, value, own),
                };
                needed.and(here)
            })
        }
        _ => ServerTools::NONE,
    }
}

/// A tool in a maker's own form, where functions have no type or are called so.
fn of_additional_tool(tool: &Value) -> ServerTools {
    match tool.get("type").and_then(Value::as_str) {
        None | Some("function") => ServerTools::NONE,
        Some(kind) if is_clients(kind) => ServerTools::NONE,
        Some(kind) if kinds_of(kind).is_none() => ServerTools::ALL,
        Some(kind) => of_tool(kind, tool),
    }
}

/// What the entries of a list need together. What is no list needs everything.
fn each(list: &Value, of: impl Fn(&Value) -> ServerTools) -> ServerTools {
    match list {
        Value::Array(entries) => entries.iter().map(of).fold(ServerTools::NONE, ServerTools::and),
        _ => ServerTools::ALL,
    }
}
