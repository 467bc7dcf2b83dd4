//! Kinds of tools that providers run, by the names that all dialects have for them.

use orch_manifests::{ServerTool, ServerTools};
use serde_json::Value;

use super::address::of_value;

/// Kinds of tools that the client runs although they are not plain functions; versioned names start so.
const CLIENT_TOOLS: &[&str] =
    &["bash_", "text_editor_", "computer_", "memory_", "computerUse", "local_shell", "apply_patch"];

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
];

/// Whether a model's name is of some kind.
type Fits = fn(&str) -> bool;

/// Models that search, or run code, whatever the request says: how their names begin, end, or what is in them.
const BY_THEMSELVES: &[(Fits, &[ServerTool])] = &[
    (|name| name.starts_with("sonar"), &[ServerTool::Search]),
    (|name| name.contains("-search-preview") || name.contains("-search-api"), &[ServerTool::Search]),
    (|name| name.split(':').skip(1).any(|variant| variant == "online"), &[ServerTool::Search]),
    (|name| name.starts_with("compound"), &[ServerTool::Search, ServerTool::Fetch, ServerTool::Code]),
];

/// Whether the client runs a tool of this kind, and not the provider.
pub(crate) fn is_clients(kind: &str) -> bool {
    kind == "custom" || CLIENT_TOOLS.iter().any(|name| kind.starts_with(name))
}

/// What a model does by itself, as far as its name tells.
pub(crate) fn by_itself(model: &str) -> ServerTools {
    let model = model.to_ascii_lowercase();
    let name = model.rsplit('/').next().unwrap_or_default();
    let found = BY_THEMSELVES.iter().filter(|(fits, _)| fits(name));
    found.flat_map(|(_, kinds)| kinds.iter().copied()).collect()
}

/// What an entry of `tools` needs that is no function.
pub(super) fn of_tool(kind: &str, raw: &Value) -> ServerTools {
    let environment = raw.pointer("/environment/type").and_then(Value::as_str);
    if is_clients(kind) || (kind == "shell" && environment == Some("local")) {
        return ServerTools::NONE;
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
    kinds.and(named.without(servers.into_iter().collect()))
}

/// The kind of a tool of this name; `None` when it is not known.
pub(super) fn kinds_of(tool: &str) -> Option<ServerTools> {
    // The longest name that fits whole words.
    let words: Vec<&str> = tool.split('_').collect();
    (1..=words.len()).rev().find_map(|count| {
        let name = words[..count].concat().to_ascii_lowercase();
        TOOLS.iter().find(|(known, _)| *known == name).map(|(_, kind)| (*kind).into())
    })
}
