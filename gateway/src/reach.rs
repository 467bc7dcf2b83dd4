//! Requests that make a *provider* reach out, or reach into its account: web search, fetching, remote tool servers, code,
//! addresses of images and files, and what is stored there by id.
//!
//! Each is a way around the run's egress policy, since whatever the model was told can leave in an address, or a way to
//! what others have stored with the same key. So each kind needs the capability `llm.server_tools` of that kind. What
//! is of no kind that is known here is closed: it needs all of them.

use orch_manifests::{Dialect, ServerTool, ServerTools};
use serde_json::{Map, Value};

use crate::dialect::{openai_responses, paths};
use crate::ir::{ChatRequest, Image, ImageSource, Message, Part, Tool};

mod address;
mod fields;
mod own;
#[cfg(test)]
mod tests;
mod tools;

use address::{of_address, of_answered, of_map, of_value};
pub use own::OwnAnswers;
pub(crate) use tools::{by_itself, is_providers};

/// A part of a request that needs something of the provider that not every request has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// Where it stands, as the client's dialect spells it.
    pub(crate) path: String,
    /// All of these are needed.
    pub(crate) kinds: ServerTools,
    /// What the provider would do.
    pub(crate) what: String,
}

/// The first part of a request that needs a kind that is not `allowed`; its kinds are those that are missing.
pub(crate) fn lacking(
    spoken: Dialect,
    request: &ChatRequest,
    allowed: ServerTools,
    own: &OwnAnswers,
) -> Option<Need> {
    if allowed == ServerTools::ALL {
        return None;
    }
    needs(spoken, request, own)
        .into_iter()
        .map(|need| Need { kinds: need.kinds.without(allowed), ..need })
        .find(|need| !need.kinds.is_empty())
}

/// Everything in a request that needs a kind, in the order of the request's fields.
pub(crate) fn needs(spoken: Dialect, request: &ChatRequest, own: &OwnAnswers) -> Vec<Need> {
    let mut needs = beside(&request.model, &request.extras, own);
    let mut need = |path: String, kinds: ServerTools, what: &str| {
        if !kinds.is_empty() {
            needs.push(Need { path, kinds, what: what.to_owned() });
        }
    };
    for (i, tool) in request.tools.iter().enumerate() {
        if let Tool::Provider { kind, raw } = tool {
            let kinds = tools::of_tool(kind, raw);
            need(request.tool_at(i), kinds, &format!("run the tool {kind:?}"));
        }
    }
    let fetched = "fetch an address, or take what is stored in its account";
    let system = if spoken == Dialect::GeminiGenerateContent { "systemInstruction.parts" } else { "system" };
    in_parts(spoken, &request.system, system, &mut |path, kinds| need(path, kinds, fetched));
    for (i, message) in request.messages.iter().enumerate() {
        let (at, content) = place(spoken, i, message);
        in_parts(spoken, &message.content, &content, &mut |path, kinds| need(path, kinds, fetched));
        // What was said aloud before is named by its id.
        if message.extras.get("audio").is_some_and(|audio| audio.get("id").is_some()) {
            need(format!("{at}.audio.id"), ServerTool::Stored.into(), fetched);
        }
        // So are pictures that were drawn before, by their addresses.
        if let Some(images) = message.extras.get("images") {
            need(format!("{at}.images"), of_value(images), fetched);
        }
        // Some take further tools with what is said.
        if let Some(tools) = message.extras.get("tools") {
            need(format!("{at}.tools"), tools::of_tools(tools), "run tools of its own");
        }
    }
    needs
}

/// What a model's name needs, and what the fields do that stand beside what is said or asked about.
pub(crate) fn beside(model: &str, extras: &Map<String, Value>, own: &OwnAnswers) -> Vec<Need> {
    let mut needs = Vec::new();
    let kinds = of_model(model);
    if !kinds.is_empty() {
        let what = "take what is stored in its account for a model".to_owned();
        needs.push(Need { path: "model".to_owned(), kinds, what });
    }
    // Most fields need nothing, and cost nothing here.
    for (field, value) in extras {
        let kinds = fields::of_field(field, value, own);
        if !kinds.is_empty() {
            needs.push(Need { path: field.clone(), kinds, what: format!("act on {field} by itself") });
        }
    }
    needs
}

/// Where a message stands, and where its content does.
fn place(spoken: Dialect, i: usize, message: &Message) -> (String, String) {
    let at = format!("{}[{i}]", paths::list(spoken));
    let content = match spoken {
        // An item that is no message is one part, and stands for itself.
        Dialect::OpenAiResponses if openai_responses::is_item(message) => at.clone(),
        Dialect::GeminiGenerateContent => format!("{at}.parts"),
        _ => format!("{at}.content"),
    };
    (at, content)
}

fn in_parts(spoken: Dialect, parts: &[Part], path: &str, found: &mut dyn FnMut(String, ServerTools)) {
    let alone = spoken == Dialect::OpenAiResponses && path.ends_with(']');
    for (i, part) in parts.iter().enumerate() {
        let at = if alone { path.to_owned() } else { format!("{path}[{i}]") };
        match part {
            Part::Image(Image { source, extras, .. }) => {
                let fetched = match source {
                    ImageSource::Url(url) => of_address(url),
                    ImageSource::Base64 { .. } => ServerTools::NONE,
                };
                found(at, fetched.and(of_map(extras)));
            }
            Part::ToolResult(result) => in_result(spoken, &result.content, path, &at, found),
            Part::Opaque(value) => found(at, of_piece(value)),
            Part::Text { .. } | Part::ToolCall(_) | Part::Reasoning { .. } | Part::Refusal(_) => {}
        }
    }
}

/// What a tool answered, where the dialect has it.
fn in_result(
    spoken: Dialect,
    content: &[Part],
    message: &str,
    at: &str,
    found: &mut dyn FnMut(String, ServerTools),
) {
    match spoken {
        // The message is the result.
        Dialect::OpenAiChat | Dialect::CohereChat | Dialect::OllamaChat => {
            in_parts(spoken, content, message, found);
        }
        Dialect::OpenAiResponses => in_parts(spoken, content, &format!("{at}.output"), found),
        Dialect::AnthropicMessages => in_parts(spoken, content, &format!("{at}.content"), found),
        Dialect::BedrockConverse => in_parts(spoken, content, &format!("{at}.toolResult.content"), found),
        // The first is what its object says.
        Dialect::GeminiGenerateContent => {
            let inner = content.get(1..).unwrap_or_default();
            in_parts(spoken, inner, &format!("{at}.functionResponse.parts"), found);
        }
    }
}

/// Whether a message brings tools along that the provider runs.
pub(crate) fn brings_tools(message: &Message) -> bool {
    let pieces = message.content.iter().filter_map(|part| match part {
        Part::Opaque(piece) => piece.get("tools"),
        _ => None,
    });
    pieces.chain(message.extras.get("tools")).any(|tools| !tools::of_tools(tools).is_empty())
}

/// Pieces that the client's own tools left, and `custom`, as which a call of one of them goes in OpenAI's older dialect.
const CLIENTS_PIECES: [&str; 7] = [
    "custom",
    "local_shell_call",
    "local_shell_call_output",
    // The client's own as well as the provider's; what either did is in it.
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
];

/// What a part of an unknown kind needs. Pieces of what the provider's own tools did before need what those do: of what
/// is in them, nobody can tell what the provider looks at again.
fn of_piece(piece: &Value) -> ServerTools {
    let kind = piece.get("type").and_then(Value::as_str).unwrap_or_default();
    // What was said of sources, with their addresses (Bedrock): where it came from is fetched by nobody again.
    if let Some(cited) = piece.get("citationsContent")
        && piece.as_object().is_some_and(|piece| piece.len() == 1)
    {
        return cited.get("content").map_or(ServerTools::NONE, of_value);
    }
    let tool = match kind {
        "item_reference" => return ServerTool::Stored.into(),
        kind if CLIENTS_PIECES.contains(&kind) => return of_answered(piece),
        // It found tools of the request.
        "server_tool_use" if is_finder(piece) => return ServerTools::NONE,
        "server_tool_use" => piece.get("name").and_then(Value::as_str),
        _ => kind.strip_suffix("_tool_result").or_else(|| kind.strip_suffix("_call")),
    };
    let known = tool.and_then(tools::kinds_of);
    // An image by the id of the call that made it.
    let made = kind == "image_generation_call";
    match known {
        Some(kinds) if made => kinds.and(ServerTool::Stored.into()),
        Some(kinds) => kinds,
        None if kind == "server_tool_use" => ServerTools::ALL,
        None if kind.starts_with("mcp_") => ServerTool::Mcp.into(),
        None if ["executableCode", "codeExecutionResult"].iter().any(|key| piece.get(key).is_some()) => {
            ServerTool::Code.into()
        }
        None => of_value(piece),
    }
}

/// What follows this beginning of a model's name, whether or not a provider's stands before it.
fn behind<'m>(beginning: &str, model: &'m str) -> Option<&'m str> {
    let name = model.split_once('/').map_or(model, |(_, name)| name);
    model.strip_prefix(beginning).or_else(|| name.strip_prefix(beginning))
}

fn is_finder(piece: &Value) -> bool {
    piece.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with(tools::FINDERS))
}

/// What a model needs by its name: one that is a resource of the account, or a prompt that is stored there and may bring
/// tools along. Models of everybody, and profiles that only route to them, need nothing.
fn of_model(model: &str) -> ServerTools {
    let model = model.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/");
    // OpenRouter's settings that are kept in the account, with whatever tools they have.
    if model.contains("@preset/") {
        return ServerTools::ALL;
    }
    // A fine-tuned model of OpenAI's is the account's own, made of what somebody uploaded there: `ft:BASE:ORG::ID`, with or
    // without its provider before it.
    let name = model.rsplit('/').next().unwrap_or_default();
    if name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ft:")) {
        return ServerTool::Stored.into();
    }
    // Fireworks' models are those of an account, everybody's are its own account's; and what runs one may be named as well.
    if let Some((account, _)) = behind("accounts/", &model).and_then(|rest| rest.split_once('/'))
        && (account != "fireworks" || model.contains('#'))
    {
        return ServerTool::Stored.into();
    }
    // arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE
    let Some(fields) = behind("arn:", &model) else { return ServerTools::NONE };
    let resource = fields.splitn(5, ':').nth(4).unwrap_or_default();
    let is = |kind: &str| resource.strip_prefix(kind).is_some_and(|rest| rest.starts_with('/'));
    if is("foundation-model") || is("inference-profile") {
        return ServerTools::NONE;
    }
    if is("prompt") || resource.is_empty() { ServerTools::ALL } else { ServerTool::Stored.into() }
}
