//! Fields of a request that make a provider act by itself, or bring in what is stored in its account.

use orch_manifests::{ServerTool, ServerTools};
use serde_json::Value;

use super::OwnAnswers;
use super::address::{of_named, of_value};
use super::tools::{each, of_tools};
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
    ("enable_code_interpreter", ServerTool::Code),
    ("mcp_servers", ServerTool::Mcp),
    ("cachedcontent", ServerTool::Stored),
    ("conversation", ServerTool::Stored),
    ("promptvariables", ServerTool::Stored),
    ("guardrailconfig", ServerTool::Stored),
    ("guardrail_config", ServerTool::Stored),
];

/// Where Bedrock takes what only one maker's models know.
const ADDITIONAL: &str = "additionalmodelrequestfields";

/// What a field needs. Of fields that no table knows, those do that are named for an address or an id of what is stored:
/// dialects have many, and new ones reach out by tools.
pub(super) fn of_field(field: &str, value: &Value, own: &OwnAnswers) -> ServerTools {
    let field = folded(field);
    let field = field.as_str();
    if let Some((_, kind)) = FIELDS.iter().find(|(name, _)| *name == field) {
        let off = field.starts_with("enable_") && *value == Value::Bool(false);
        return if off { ServerTools::NONE } else { (*kind).into() };
    }
    match field {
        // To write into the account: some take `1` and `"true"` for a yes.
        "store" if *value != Value::Bool(false) => ServerTool::Stored.into(),
        "previous_response_id" => match value.as_str() {
            Some(id) if own.contain(id) => ServerTools::NONE,
            _ => ServerTool::Stored.into(),
        },
        // A stored prompt, or an agent (Azure, Mistral), and whatever tools it has.
        "prompt" | "agent" | "agent_reference" | "agent_id" => ServerTools::ALL,
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
        // Sources of the client's own (Azure); settings kept in the account, and further models (OpenRouter, Anthropic,
        // LiteLLM), which may reach out by themselves; what only one provider's models know (Vercel, Venice, and libraries
        // that pass anything on).
        "data_sources" | "preset" | "models" | "fallbacks" | "provideroptions" | "provider_options"
        | "venice_parameters" | "extra_body" | "extra_headers" => ServerTools::ALL,
        // Where the answer is to go, or is to be asked for, besides; and the host that a server takes what another one has
        // computed from (vLLM, SGLang, and xAI, whose API has its field).
        "webhook" | "webhook_url" | "callback" | "callback_url" | "api_base" | "kv_transfer_params"
        | "bootstrap_host" => ServerTools::ALL,
        ADDITIONAL => {
            value.as_object().into_iter().flatten().fold(of_value(value), |needed, (key, value)| {
                let here = match folded(key).as_str() {
                    "tools" => of_tools(value),
                    _ => of_field(key, value, own),
                };
                needed.and(here)
            })
        }
        _ => of_named(field, value),
    }
}
