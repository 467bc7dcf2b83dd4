//! Kinds of tools that providers run, by the names that all dialects have for them.

use orch_manifests::{ServerTool, ServerTools};
use serde_json::Value;

use super::address::of_value;

/// Kinds of tools that the client runs although they are not plain functions.
const CLIENT_TOOLS: &[&str] = &[
    "custom",
    "computer",
    "computer_use",
    "computer_use_preview",
    "computerUse",
    "local_shell",
    "apply_patch",
];

/// Beginnings of such that have a date behind them. With more words they are others: `memory_search` is the provider's.
const DATED_CLIENT_TOOLS: &[&str] = &["bash_", "text_editor_", "computer_", "memory_"];

/// Tools that find others among those of the request, and look at nothing else.
pub(super) const FINDERS: &str = "tool_search";

/// Names of tools, in lower case and without underscores; a version, or more words, may follow after an underscore.
const TOOLS: &[(&str, ServerTool)] = &[
    // OpenAI, Anthropic, Gemini, Bedrock, xAI, Groq, OpenRouter.
    ("websearch", ServerTool::Search),
    ("googlesearch", ServerTool::Search),
    ("googlesearchretrieval", ServerTool::Search),
    ("enterprisewebsearch", ServerTool::Search),
    ("googlemaps", ServerTool::Search),
    ("novagrounding", ServerTool::Search),
    ("xsearch", ServerTool::Search),
    ("browsersearch", ServerTool::Search),
    ("openrouter:websearch", ServerTool::Search),
    ("webfetch", ServerTool::Fetch),
    ("urlcontext", ServerTool::Fetch),
    ("visitwebsite", ServerTool::Fetch),
    ("mcp", ServerTool::Mcp),
    ("mcptoolset", ServerTool::Mcp),
    ("mcpservers", ServerTool::Mcp),
    ("codeexecution", ServerTool::Code),
    ("bashcodeexecution", ServerTool::Code),
    ("texteditorcodeexecution", ServerTool::Code),
    ("codeinterpreter", ServerTool::Code),
    ("novacodeinterpreter", ServerTool::Code),
    ("imagegeneration", ServerTool::Code),
    ("shell", ServerTool::Code),
    ("filesearch", ServerTool::Stored),
    ("retrieval", ServerTool::Stored),
    ("collectionssearch", ServerTool::Stored),
    ("memorysearch", ServerTool::Stored),
];

/// Whether a model's name is of some kind.
type Fits = fn(&str) -> bool;

/// Models that search, or run code, whatever the request says: how a part of their names begins, ends, or what is in it.
/// What follows a colon is a part as well, and so is what follows a slash there: NanoGPT's `:online/linkup-deep`.
const BY_THEMSELVES: &[(Fits, &[ServerTool])] = &[
    (|part| part.starts_with("sonar"), &[ServerTool::Search]),
    (|part| part.contains("-search-preview") || part.contains("-search-api"), &[ServerTool::Search]),
    (|part| part.contains("-deep-research"), &[ServerTool::Search]),
    (|part| part == "online", &[ServerTool::Search]),
    (|part| part.starts_with("compound"), &[ServerTool::Search, ServerTool::Fetch, ServerTool::Code]),
    // OpenRouter's panel of models, each of which searches.
    (|part| part == "fusion", &[ServerTool::Search, ServerTool::Fetch]),
];

/// Whether the client runs a tool of this kind, and not the provider.
fn is_clients(kind: &str) -> bool {
    let dated = |name: &&str| {
        kind.strip_prefix(*name).is_some_and(|date| date.starts_with(|first: char| first.is_ascii_digit()))
    };
    CLIENT_TOOLS.contains(&kind) || DATED_CLIENT_TOOLS.iter().any(dated)
}

/// Whether the provider runs a tool of this kind, and reaches beyond the request with it.
pub(crate) fn is_providers(kind: &str, raw: &Value) -> bool {
    !of_tool(kind, raw).is_empty()
}

/// What a model does by itself, as far as its name tells.
pub(crate) fn by_itself(model: &str) -> ServerTools {
    let model = model.to_ascii_lowercase();
    let found = BY_THEMSELVES.iter().filter(|(fits, _)| model.split(['/', ':']).any(fits));
    found.flat_map(|(_, kinds)| kinds.iter().copied()).collect()
}

/// What an entry of `tools` needs that is no function.
pub(super) fn of_tool(kind: &str, raw: &Value) -> ServerTools {
    let environment = raw.pointer("/environment/type").and_then(Value::as_str);
    let local = kind == "shell" && environment == Some("local");
    if local || is_clients(kind) || kind.starts_with(FINDERS) {
        return ServerTools::NONE;
    }
    // Tools under a name that they share.
    if kind == "namespace" {
        return raw.get("tools").map_or(ServerTools::ALL, of_tools);
    }
    let Some(kinds) = kinds_of(kind) else { return ServerTools::ALL };
    // A container, files or stores that are there already.
    let container = raw.get("container").is_some_and(Value::is_string);
    let named = match container {
        true => ServerTool::Stored.into(),
        false => of_value(raw),
    };
    // The addresses of tool servers are what that kind is about.
    let servers = kinds.contains(ServerTool::Mcp).then_some(ServerTool::ImageUrl);
    let network = has_network(raw).then_some(ServerTool::Fetch);
    kinds.and(named.without(servers.into_iter().collect())).and(network.into_iter().collect())
}

/// Whether the container that a tool runs in may reach hosts that the request names.
fn has_network(raw: &Value) -> bool {
    let policies = ["/container/network_policy", "/environment/network_policy"];
    let found = policies.iter().filter_map(|at| raw.pointer(at)).filter(|policy| !policy.is_null());
    found.map(|policy| policy.get("type").and_then(Value::as_str)).any(|kind| kind != Some("disabled"))
}

/// What a list of tools needs that stands elsewhere than in `tools`, in whatever dialect's form they are.
pub(super) fn of_tools(list: &Value) -> ServerTools {
    each(list, of_any_tool)
}

/// A tool in a maker's own form, where functions have no type or are called so.
fn of_any_tool(tool: &Value) -> ServerTools {
    match (tool.get("type").and_then(Value::as_str), tool) {
        (Some("function"), _) => ServerTools::NONE,
        (Some(kind), _) => of_tool(kind, tool),
        // Gemini's and Bedrock's are named by a field of theirs.
        (None, Value::Object(fields)) => fields.iter().fold(ServerTools::NONE, |needed, (field, value)| {
            let kinds = match field.as_str() {
                "systemTool" => value.get("name").and_then(Value::as_str).and_then(kinds_of),
                name => Some(kinds_of(name).unwrap_or_default()),
            };
            needed.and(kinds.unwrap_or(ServerTools::ALL))
        }),
        (None, _) => ServerTools::ALL,
    }
}

/// What the entries of a list need together. What is no list needs everything.
pub(super) fn each(list: &Value, of: impl Fn(&Value) -> ServerTools) -> ServerTools {
    match list {
        Value::Array(entries) => entries.iter().map(of).fold(ServerTools::NONE, ServerTools::and),
        _ => ServerTools::ALL,
    }
}

/// The kind of a tool of this name; `None` when it is not known.
pub(super) fn kinds_of(tool: &str) -> Option<ServerTools> {
    // No known name is longer, and each word is looked at with all before it.
    if tool.len() > 128 {
        return None;
    }
    // The longest name that fits whole words.
    let words: Vec<&str> = tool.split('_').collect();
    (1..=words.len()).rev().find_map(|count| {
        let name = words[..count].concat().to_ascii_lowercase();
        TOOLS.iter().find(|(known, _)| *known == name).map(|(_, kind)| (*kind).into())
    })
}
