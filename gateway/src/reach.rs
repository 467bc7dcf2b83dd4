//! Requests that make a *provider* reach out: web search, fetching, remote tool servers, image addresses.
//!
//! Each is a way around the run's egress policy, since whatever the model was told can leave in an address. They
//! need the capability `llm.server_tools`.

use serde_json::Value;

use crate::dialect::RequestError;
use crate::ir::{ChatRequest, ImageSource, Part, Tool};

/// Kinds of tools that the client runs although they are not plain functions; versioned names start so.
const CLIENT_TOOLS: &[&str] =
    &["bash_", "text_editor_", "computer_", "memory_", "computerUse", "local_shell", "apply_patch"];

/// Top-level fields that turn on searching or remote tools, or bring in what is stored in the account: OpenAI, xAI,
/// Anthropic, OpenRouter, Perplexity, Gemini, Cohere. An earlier answer (`previous_response_id`) is the caller's own; what
/// a stored prompt or conversation holds is not, and a prompt may bring tools along.
const REACHING_FIELDS: &[&str] = &[
    "web_search_options",
    "search_parameters",
    "mcp_servers",
    "plugins",
    "container",
    "web_search",
    "cachedContent",
    "conversation",
    "prompt",
    "connectors",
];

/// The first part of a request that reaches out, if any.
pub(crate) fn reaching_out(request: &ChatRequest) -> Option<RequestError> {
    let refuse = |path: String, what: &str| {
        let message =
            format!("{what}, which needs the capability llm.server_tools; this run does not have it");
        Some(RequestError { path, message })
    };
    for field in REACHING_FIELDS {
        if request.extras.contains_key(*field) {
            return refuse((*field).to_owned(), "the provider would reach out by itself");
        }
    }
    for (i, tool) in request.tools.iter().enumerate() {
        if let Tool::Provider { kind, .. } = tool
            && !is_clients(kind)
        {
            return refuse(format!("tools[{i}]"), &format!("the provider would run the tool {kind:?}"));
        }
    }
    let fetched = "the provider would fetch an address, or take what is stored in its account";
    if let Some(path) = address_in(&request.system, "system") {
        return refuse(path, fetched);
    }
    for (i, message) in request.messages.iter().enumerate() {
        if let Some(path) = address_in(&message.content, &format!("messages[{i}].content")) {
            return refuse(path, fetched);
        }
    }
    None
}

/// Whether the client runs a tool of this kind, and not the provider.
pub(crate) fn is_clients(kind: &str) -> bool {
    kind == "custom" || CLIENT_TOOLS.iter().any(|name| kind.starts_with(name))
}

fn address_in(parts: &[Part], path: &str) -> Option<String> {
    parts.iter().enumerate().find_map(|(i, part)| {
        let path = format!("{path}[{i}]");
        match part {
            Part::Image(image) => matches!(image.source, ImageSource::Url(_)).then_some(path),
            Part::ToolResult(result) => address_in(&result.content, &format!("{path}.content")),
            Part::Opaque(value) => (holds_address(value) || is_stored(value)).then_some(path),
            Part::Text { .. } | Part::ToolCall(_) | Part::Reasoning { .. } | Part::Refusal(_) => None,
        }
    })
}

/// Whether a part is something that lies in the provider's account, whoever put it there.
fn is_stored(value: &Value) -> bool {
    let referred = value.get("type").and_then(Value::as_str) == Some("item_reference");
    referred || names_file(value)
}

fn names_file(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            map.iter().any(|(key, value)| (key == "file_id" && !value.is_null()) || names_file(value))
        }
        Value::Array(items) => items.iter().any(names_file),
        _ => false,
    }
}

/// Whether a field that is named as an address holds one: `url`, `file_url`, `image_url`, `uri`, `fileUri`, ….
fn holds_address(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| {
            let key = key.to_ascii_lowercase();
            let named = key.ends_with("url") || key.ends_with("uri");
            let inline = |s: &str| s.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"));
            (named && value.as_str().is_some_and(|s| !inline(s))) || holds_address(value)
        }),
        Value::Array(items) => items.iter().any(holds_address),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Wire;
    use crate::dialect::anthropic::Anthropic;
    use crate::dialect::cohere::Cohere;
    use crate::dialect::gemini::Gemini;
    use crate::dialect::openai_chat::OpenAiChat;
    use crate::dialect::openai_responses::OpenAiResponses;
    use serde_json::json;

    fn openai(body: &Value) -> Option<String> {
        reaching_out(&OpenAiChat.parse_request(body.to_string().as_bytes()).unwrap()).map(|e| e.path)
    }

    fn anthropic(body: &Value) -> Option<String> {
        reaching_out(&Anthropic.parse_request(body.to_string().as_bytes()).unwrap()).map(|e| e.path)
    }

    #[test]
    fn every_way_out_is_seen() {
        let user = json!([{"role": "user", "content": "hi"}]);
        let with = |key: &str, value: Value| {
            let mut body = json!({"model": "m", "max_tokens": 1, "messages": user});
            body[key] = value;
            body
        };
        let saying = |part: Value| json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [part]}]});
        let at = |path: &str| Some(path.to_owned());

        assert_eq!(openai(&with("web_search_options", json!({}))), at("web_search_options"));
        assert_eq!(openai(&with("tools", json!([{"type": "web_search"}]))), at("tools[0]"));
        assert_eq!(openai(&with("tools", json!([{"type": "custom_search"}]))), at("tools[0]"));
        let image = json!({"type": "image_url", "image_url": {"url": "https://x.example/?q=secret"}});
        assert_eq!(openai(&saying(image)), at("messages[0].content[0]"));
        let file = json!({"type": "file", "file": {"file_url": "https://x.example/"}});
        assert_eq!(openai(&saying(file)), at("messages[0].content[0]"));
        let stored = json!({"type": "file", "file": {"file_id": "file-1"}});
        assert_eq!(openai(&saying(stored)), at("messages[0].content[0]"));
        let stored = json!({"type": "document", "source": {"type": "file", "file_id": "file_1"}});
        assert_eq!(anthropic(&saying(stored)), at("messages[0].content[0]"));
        let stored = json!({"type": "container_upload", "file_id": "file_1"});
        assert_eq!(anthropic(&saying(stored)), at("messages[0].content[0]"));

        assert_eq!(anthropic(&with("mcp_servers", json!([{"url": "https://x.example"}]))), at("mcp_servers"));
        let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
        assert_eq!(anthropic(&with("tools", search)), at("tools[0]"));
        let image = json!({"type": "image", "source": {"type": "url", "url": "https://x.example/"}});
        assert_eq!(anthropic(&saying(image.clone())), at("messages[0].content[0]"));
        let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [image]});
        assert_eq!(anthropic(&saying(result)), at("messages[0].content[0].content[0]"));
        let document =
            json!({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}});
        assert_eq!(anthropic(&saying(document)), at("messages[0].content[0]"));
    }

    fn gemini(body: &Value) -> Option<String> {
        reaching_out(&Gemini.parse_request(body.to_string().as_bytes()).unwrap()).map(|e| e.path)
    }

    #[test]
    fn every_way_out_of_gemini_is_seen_in_either_spelling() {
        let saying = |part: Value| json!({"contents": [{"parts": [part]}]});
        let with = |key: &str, value: Value| json!({"contents": [{"parts": [{"text": "hi"}]}], key: value});
        let at = |path: &str| Some(path.to_owned());
        for tool in ["googleSearch", "google_search", "urlContext", "codeExecution", "fileSearch", "brandNew"]
        {
            assert_eq!(gemini(&with("tools", json!([{tool: {}}]))), at("tools[0]"), "{tool}");
            assert_eq!(gemini(&with("tools", json!({tool: {}}))), at("tools[0]"), "{tool}");
        }
        let beside = json!([{"functionDeclarations": [{"name": "f"}], "googleSearch": {}}]);
        assert_eq!(gemini(&with("tools", beside)), at("tools[1]"));
        assert_eq!(gemini(&with("cached_content", json!("cachedContents/x"))), at("cachedContent"));
        for part in [
            json!({"fileData": {"fileUri": "https://x.example/?q=secret", "mimeType": "image/png"}}),
            json!({"file_data": {"file_uri": "https://x.example/a.pdf"}}),
            json!({"fileData": {"mimeType": "video/mp4", "fileUri": "https://x.example/"}}),
        ] {
            assert_eq!(gemini(&saying(part)), at("messages[0].content[0]"));
        }
        let image = json!({"fileData": {"fileUri": "https://x.example/", "mimeType": "image/png"}});
        let result = json!({"functionResponse": {"name": "f", "response": {}, "parts": [image]}});
        assert_eq!(gemini(&saying(result)), at("messages[0].content[0].content[1]"));

        let inside = json!({
            "contents": [{"parts": [{"text": "https://x.example"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}],
            "tools": [{"functionDeclarations": [{"name": "url"}]}, {"computerUse": {}}],
        });
        assert_eq!(gemini(&inside), None);
    }

    #[test]
    fn every_way_out_of_responses_is_seen() {
        let responses = |body: &Value| {
            reaching_out(&OpenAiResponses.parse_request(body.to_string().as_bytes()).unwrap()).map(|e| e.path)
        };
        let with = |key: &str, value: Value| json!({"input": "hi", key: value});
        let saying = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
        let at = |path: &str| Some(path.to_owned());
        for tool in [
            "web_search",
            "web_search_preview",
            "file_search",
            "mcp",
            "code_interpreter",
            "image_generation",
            "shell",
        ] {
            assert_eq!(responses(&with("tools", json!([{"type": tool}]))), at("tools[0]"), "{tool}");
        }
        assert_eq!(responses(&with("conversation", json!("conv_1"))), at("conversation"));
        assert_eq!(responses(&with("prompt", json!({"id": "pmpt_1"}))), at("prompt"));
        for part in [
            json!({"type": "input_image", "image_url": "https://x.example/?q=secret"}),
            json!({"type": "input_file", "file_url": "https://x.example/a.pdf"}),
            json!({"type": "input_file", "file_id": "file-1"}),
            json!({"type": "input_image", "file_id": "file-1"}),
        ] {
            assert_eq!(responses(&saying(part.clone())), at("messages[0].content[0]"));
            let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
            let result = json!({"type": "function_call_output", "call_id": "c", "output": [part]});
            assert_eq!(responses(&json!({"input": [call, result]})), at("messages[1].content[0].content[0]"));
        }
        let screen = json!({"type": "computer_call_output", "call_id": "c", "output": {"image_url": "https://x.example/"}});
        assert_eq!(responses(&json!({"input": [screen]})), at("messages[0].content[0]"));
        let inside = json!({
            "previous_response_id": "resp_1", "tools": [
                {"type": "function", "name": "url"}, {"type": "custom", "name": "c"}, {"type": "local_shell"},
                {"type": "computer_use_preview"}],
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}],
        });
        assert_eq!(responses(&inside), None);
    }

    #[test]
    fn every_way_out_of_cohere_is_seen() {
        let path = |body: &Value| {
            reaching_out(&Cohere.parse_request(body.to_string().as_bytes()).unwrap()).map(|e| e.path)
        };
        let image = json!({"type": "image_url", "image_url": {"url": "https://x.example/?q=secret"}});
        let document = json!({"type": "document", "document": {"data": {"url": "https://x.example"}}});
        let user = json!([{"role": "user", "content": "hi"}]);
        let rows = [
            (json!({"messages": [{"role": "user", "content": [image]}]}), Some("messages[0].content[0]")),
            (json!({"messages": user, "connectors": [{"id": "web-search"}]}), Some("connectors")),
            (json!({"messages": user, "tools": [{"type": "web_search"}]}), Some("tools[0]")),
            // Data that the model reads, and nobody fetches.
            (json!({"messages": [{"role": "tool", "tool_call_id": "t", "content": [document]}]}), None),
            (json!({"messages": user, "documents": [{"data": {"url": "https://x.example"}}]}), None),
        ];
        for (body, wanted) in rows {
            assert_eq!(path(&body).as_deref(), wanted, "{body}");
        }
    }

    #[test]
    fn what_stays_inside_passes() {
        let inline = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
        let body = json!({"model": "m", "messages": [{"role": "user", "content": [inline, {"type": "text", "text": "https://x.example"}]}],
            "tools": [{"type": "function", "function": {"name": "url"}}, {"type": "custom", "custom": {"name": "c"}}]});
        assert_eq!(openai(&body), None);
        let body = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "bash_20250124", "name": "bash"}, {"name": "f", "input_schema": {"type": "object"}}]});
        assert_eq!(anthropic(&body), None);
    }
}
