use orch_manifests::{Dialect, ServerTool, ServerTools};
use serde_json::{Value, json};

use super::*;
use crate::dialect::wire;

use ServerTool::{Code, Fetch, ImageUrl, Mcp, Search, Stored};

const CHAT: Dialect = Dialect::OpenAiChat;
const RESPONSES: Dialect = Dialect::OpenAiResponses;
const ANTHROPIC: Dialect = Dialect::AnthropicMessages;
const GEMINI: Dialect = Dialect::GeminiGenerateContent;
const BEDROCK: Dialect = Dialect::BedrockConverse;
const COHERE: Dialect = Dialect::CohereChat;
const OLLAMA: Dialect = Dialect::OllamaChat;

const EVERY: &[ServerTool] = &ServerTool::ALL;

/// The path and the kinds of each need of a request.
fn found(spoken: Dialect, body: &Value) -> Vec<(String, ServerTools)> {
    let request = wire(spoken).parse_request(body.to_string().as_bytes());
    let request = request.unwrap_or_else(|e| panic!("{e}: {body}"));
    needs(spoken, &request, &OwnAnswers::default()).into_iter().map(|need| (need.path, need.kinds)).collect()
}

fn check(spoken: Dialect, body: &Value, path: &str, kinds: &[ServerTool]) {
    let wanted = match kinds {
        [] => Vec::new(),
        some => vec![(path.to_owned(), some.iter().copied().collect())],
    };
    assert_eq!(found(spoken, body), wanted, "{body}");
}

/// A request of a dialect with a field more.
fn with(spoken: Dialect, key: &str, value: Value) -> Value {
    let mut body = match spoken {
        RESPONSES => json!({"input": "hi"}),
        GEMINI => json!({"contents": [{"parts": [{"text": "hi"}]}]}),
        BEDROCK => json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
        _ => json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}),
    };
    body[key] = value;
    body
}

/// A request of a dialect in which somebody says this.
fn saying(spoken: Dialect, part: &Value) -> Value {
    match spoken {
        RESPONSES => json!({"input": [{"role": "user", "content": [part]}]}),
        GEMINI => json!({"contents": [{"parts": [part]}]}),
        _ => json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [part]}]}),
    }
}

#[test]
fn fields_that_make_a_provider_act_by_itself() {
    for (spoken, field, value, kinds) in [
        (CHAT, "web_search_options", json!({}), &[Search][..]),
        (CHAT, "search_parameters", json!({"mode": "on"}), &[Search]),
        (CHAT, "enable_search", json!(true), &[Search]),
        (CHAT, "enable_search", json!(false), &[]),
        (CHAT, "plugins", json!([{"id": "web"}]), &[Search]),
        (CHAT, "plugins", json!([{"id": "web"}, {"id": "new"}]), EVERY),
        (CHAT, "plugins", json!("web"), EVERY),
        (
            CHAT,
            "data_sources",
            json!([{"type": "elasticsearch", "parameters": {"endpoint": "https://x.example"}}]),
            EVERY,
        ),
        (CHAT, "preset", json!("research"), EVERY),
        (CHAT, "models", json!(["a/b", "c/d"]), EVERY),
        // Further models, which nobody has looked at.
        (CHAT, "fallbacks", json!(["sonar-pro"]), EVERY),
        (ANTHROPIC, "fallbacks", json!([{"model": "claude-opus-4-8"}]), EVERY),
        (CHAT, "providerOptions", json!({"gateway": {"models": ["perplexity/sonar"]}}), EVERY),
        (
            CHAT,
            "provider_options",
            json!({"anthropic": {"mcpServers": [{"url": "https://x.example"}]}}),
            EVERY,
        ),
        (CHAT, "webhook", json!("https://x.example"), EVERY),
        (CHAT, "kv_transfer_params", json!({"remote_host": "x.example", "remote_port": 1}), EVERY),
        (CHAT, "bootstrap_host", json!("x.example"), EVERY),
        (CHAT, "enable_code_interpreter", json!(true), &[Code]),
        (CHAT, "enable_code_interpreter", json!(false), &[]),
        (CHAT, "input_image_url", json!("https://x.example/?q=s"), &[ImageUrl]),
        (CHAT, "vector_store_ids", json!(["vs_1"]), &[Stored]),
        (CHAT, "metadata", json!({"home": "https://x.example"}), &[]),
        (CHAT, "store", json!(true), &[Stored]),
        (CHAT, "store", json!("true"), &[Stored]),
        (CHAT, "store", json!(1), &[Stored]),
        (CHAT, "store", json!(false), &[]),
        (RESPONSES, "store", json!(true), &[Stored]),
        (RESPONSES, "store", json!(false), &[]),
        (RESPONSES, "previous_response_id", json!("resp_1"), &[Stored]),
        (RESPONSES, "conversation", json!("conv_1"), &[Stored]),
        (RESPONSES, "conversation", json!({"id": "conv_1"}), &[Stored]),
        (RESPONSES, "prompt", json!({"id": "pmpt_1"}), EVERY),
        (RESPONSES, "agent_reference", json!({"type": "agent_reference", "name": "a"}), EVERY),
        (ANTHROPIC, "mcp_servers", json!([{"type": "url", "url": "https://x.example"}]), &[Mcp]),
        (ANTHROPIC, "container", json!("container_1"), &[Stored]),
        (ANTHROPIC, "container", json!({"skills": [{"skill_id": "pdf"}]}), &[Code, Stored]),
        (GEMINI, "cachedContent", json!("cachedContents/x"), &[Stored]),
        (BEDROCK, "promptVariables", json!({"a": {"text": "b"}}), &[Stored]),
        (
            BEDROCK,
            "guardrailConfig",
            json!({"guardrailIdentifier": "gr-1", "guardrailVersion": "1"}),
            &[Stored],
        ),
        (COHERE, "connectors", json!([{"id": "web-search"}]), &[Search]),
        (COHERE, "connectors", json!([{"id": "mine"}]), EVERY),
        (COHERE, "documents", json!([{"data": {"url": "https://x.example"}}]), &[]),
    ] {
        check(spoken, &with(spoken, field, value), field, kinds);
    }
    check(GEMINI, &with(GEMINI, "cached_content", json!("cachedContents/x")), "cachedContent", &[Stored]);
}

/// Servers written in Go read a field whatever the case of its letters.
#[test]
fn the_case_of_letters_hides_no_field() {
    for (spoken, field, value, kinds) in [
        (CHAT, "Web_Search_Options", json!({}), &[Search][..]),
        (CHAT, "WEB_SEARCH_OPTIONS", json!({}), &[Search]),
        (CHAT, "web_\u{17f}earch_options", json!({}), &[Search]),
        (CHAT, "Enable_Search", json!(false), &[]),
        (CHAT, "Plugins", json!([{"id": "web"}]), &[Search]),
        (CHAT, "Data_Sources", json!([]), EVERY),
        (CHAT, "Extra_Body", json!({}), EVERY),
        (ANTHROPIC, "MCP_Servers", json!([]), &[Mcp]),
        (ANTHROPIC, "Container", json!("c"), &[Stored]),
        (BEDROCK, "GuardrailConfig", json!({"guardrailIdentifier": "gr-1"}), &[Stored]),
        (
            BEDROCK,
            "additionalModelRequestFields",
            json!({"MCP_servers": [], "Tools": [{"type": "web_search"}]}),
            &[Search, Mcp],
        ),
    ] {
        check(spoken, &with(spoken, field, value), field, kinds);
    }
    // What the gateway reads itself it reads under one name, and what is nearly that is not passed on unread.
    for (spoken, field) in [
        (CHAT, "Tools"),
        (CHAT, "Messages"),
        (ANTHROPIC, "TOOLS"),
        (RESPONSES, "Input"),
        (RESPONSES, "Conversation"),
        (OLLAMA, "Tools"),
    ] {
        let body = with(spoken, field, json!([{"type": "web_search"}]));
        let error = wire(spoken).parse_request(body.to_string().as_bytes()).expect_err(field);
        assert!(error.message.contains("letter case only") && error.path == field, "{error}");
    }
    for (spoken, part) in [
        (CHAT, json!({"type": "text", "text": "x", "Type": "image_url"})),
        (
            ANTHROPIC,
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA",
            "Type": "url"}}),
        ),
    ] {
        let body = saying(spoken, &part);
        let error = wire(spoken).parse_request(body.to_string().as_bytes()).expect_err("refused");
        assert!(error.message.contains("letter case only"), "{error}");
    }
}

#[test]
fn what_bedrock_takes_of_a_maker_s_own_fields() {
    let additional = |fields: Value| with(BEDROCK, "additionalModelRequestFields", fields);
    for (fields, kinds) in [
        (json!({"mcp_servers": [{"url": "https://x.example"}]}), &[Mcp, ImageUrl][..]),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), &[Search]),
        (json!({"tools": [{"type": "bash_20250124", "name": "bash"}, {"name": "f"}]}), &[]),
        (json!({"tools": [{"type": "brand_new_20300101"}]}), EVERY),
        (json!({"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}), &[Search]),
        (json!({"toolConfig": {"tools": [{"systemTool": {"name": "brand_new"}}, {"toolSpec": {}}]}}), EVERY),
        (json!({"request": {"tools": [{"googleSearch": {}}]}}), &[Search]),
        (json!({"container": "c"}), &[Stored]),
        (json!({"anthropic_beta": ["computer-use-2025-01-24"]}), &[]),
    ] {
        check(BEDROCK, &additional(fields), "additionalModelRequestFields", kinds);
    }
}

#[test]
fn tools_of_each_dialect() {
    for (spoken, tool, kinds) in [
        (CHAT, json!({"type": "web_search"}), &[Search][..]),
        (CHAT, json!({"type": "custom_search"}), EVERY),
        (CHAT, json!({"type": "builtin_function", "function": {"name": "$web_search"}}), EVERY),
        (CHAT, json!({"type": "custom", "custom": {"name": "c"}}), &[]),
        (RESPONSES, json!({"type": "web_search_preview_2025_03_11"}), &[Search]),
        (RESPONSES, json!({"type": "file_search", "vector_store_ids": ["vs_1"]}), &[Stored]),
        (RESPONSES, json!({"type": "mcp", "server_url": "https://x.example"}), &[Mcp]),
        (RESPONSES, json!({"type": "code_interpreter", "container": {"type": "auto"}}), &[Code]),
        (RESPONSES, json!({"type": "code_interpreter", "container": "cntr_1"}), &[Code, Stored]),
        (
            RESPONSES,
            json!({"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}),
            &[Code, Stored],
        ),
        // A container with a way to hosts that the request names.
        (
            RESPONSES,
            json!({"type": "code_interpreter", "container": {"type": "auto",
                "network_policy": {"type": "allowlist", "allowed_domains": ["x.example"]}}}),
            &[Fetch, Code],
        ),
        (
            RESPONSES,
            json!({"type": "shell", "environment": {"type": "container_auto", "network_policy": {"type": "allowlist"}}}),
            &[Fetch, Code],
        ),
        (
            RESPONSES,
            json!({"type": "shell", "environment": {"type": "container_auto", "network_policy": {"type": "disabled"},
                "skills": [{"type": "skill_reference", "skill_id": "skill_1"}]}}),
            &[Code, Stored],
        ),
        (
            RESPONSES,
            json!({"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}),
            &[],
        ),
        (RESPONSES, json!({"type": "namespace", "name": "n"}), EVERY),
        (RESPONSES, json!({"type": "tool_search"}), &[]),
        // The provider's, although the client's begin so.
        (RESPONSES, json!({"type": "memory_search_preview", "memory_store_name": "m"}), &[Stored]),
        (ANTHROPIC, json!({"type": "bash_code_execution_20250825", "name": "bash"}), &[Code]),
        (RESPONSES, json!({"type": "computer"}), &[]),
        (
            ANTHROPIC,
            json!({"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}),
            &[],
        ),
        (RESPONSES, json!({"type": "image_generation"}), &[Code]),
        (
            RESPONSES,
            json!({"type": "image_generation", "input_image_mask": {"image_url": "https://x.example/"}}),
            &[Code, ImageUrl],
        ),
        (RESPONSES, json!({"type": "shell"}), &[Code]),
        (RESPONSES, json!({"type": "shell", "environment": {"type": "local"}}), &[]),
        (RESPONSES, json!({"type": "local_shell"}), &[]),
        (RESPONSES, json!({"type": "computer_use_preview"}), &[]),
        (RESPONSES, json!({"type": "apply_patch"}), &[]),
        (ANTHROPIC, json!({"type": "web_search_20250305", "name": "web_search"}), &[Search]),
        (ANTHROPIC, json!({"type": "web_fetch_20250910", "name": "web_fetch"}), &[Fetch]),
        (ANTHROPIC, json!({"type": "code_execution_20250825", "name": "code_execution"}), &[Code]),
        (ANTHROPIC, json!({"type": "mcp_toolset", "mcp_server_name": "x"}), &[Mcp]),
        (ANTHROPIC, json!({"type": "bash_20250124", "name": "bash"}), &[]),
        (ANTHROPIC, json!({"type": "memory_20250818", "name": "memory"}), &[]),
        (ANTHROPIC, json!({"name": "url", "input_schema": {"type": "object"}}), &[]),
        (GEMINI, json!({"googleSearch": {}}), &[Search]),
        (GEMINI, json!({"google_search": {}}), &[Search]),
        (GEMINI, json!({"googleMaps": {}}), &[Search]),
        (GEMINI, json!({"urlContext": {}}), &[Fetch]),
        (GEMINI, json!({"codeExecution": {}}), &[Code]),
        (GEMINI, json!({"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/x"]}}), &[Stored]),
        (GEMINI, json!({"brandNew": {}}), EVERY),
        (GEMINI, json!({"computerUse": {}}), &[]),
        (COHERE, json!({"type": "web_search"}), &[Search]),
        (OLLAMA, json!({"type": "web_search"}), &[Search]),
    ] {
        check(spoken, &with(spoken, "tools", json!([tool])), "tools[0]", kinds);
    }
    // A list of one without its brackets, and several in one entry.
    check(GEMINI, &with(GEMINI, "tools", json!({"googleSearch": {}})), "tools[0]", &[Search]);
    let beside = json!([{"functionDeclarations": [{"name": "f"}], "googleSearch": {}}]);
    check(GEMINI, &with(GEMINI, "tools", beside), "tools[1]", &[Search]);
    for (tool, kinds) in [
        (json!({"systemTool": {"name": "nova_grounding"}}), &[Search][..]),
        (json!({"systemTool": {"name": "nova_code_interpreter"}}), &[Code]),
        (json!({"systemTool": {"name": "brand_new"}}), EVERY),
        (json!({"toolSpec": {"name": "url", "inputSchema": {"json": {"type": "object"}}}}), &[]),
    ] {
        check(BEDROCK, &with(BEDROCK, "toolConfig", json!({"tools": [tool]})), "tools[0]", kinds);
    }
    let group = json!({"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]});
    check(RESPONSES, &json!({"input": "hi", "tools": [group]}), "tools[0].tools[0]", &[Search]);
}

#[test]
fn addresses_and_ids_in_what_is_said() {
    let at = "messages[0].content[0]";
    let (input, parts) = ("input[0].content[0]", "contents[0].parts[0]");
    for (spoken, part, path, kinds) in [
        (
            CHAT,
            json!({"type": "image_url", "image_url": {"url": "https://x.example/?q=s"}}),
            at,
            &[ImageUrl][..],
        ),
        (CHAT, json!({"type": "image_url", "image_url": {"url": "DATA:image/png;base64,AAAA"}}), at, &[]),
        (CHAT, json!({"type": "text", "text": "https://x.example"}), at, &[]),
        (CHAT, json!({"type": "file", "file": {"file_url": "https://x.example/"}}), at, &[ImageUrl]),
        (CHAT, json!({"type": "file", "file": {"file_id": "file-1"}}), at, &[Stored]),
        (CHAT, json!({"type": "video_url", "video_url": {"url": "https://x.example/"}}), at, &[ImageUrl]),
        (RESPONSES, json!({"type": "input_image", "image_url": "https://x.example/"}), input, &[ImageUrl]),
        (RESPONSES, json!({"type": "input_image", "file_id": "file-1"}), input, &[Stored]),
        (
            RESPONSES,
            json!({"type": "input_image", "image_url": "data:image/png;base64,AAAA", "file_id": "file-1"}),
            input,
            &[Stored],
        ),
        (RESPONSES, json!({"type": "input_file", "file_url": "https://x.example/a.pdf"}), input, &[ImageUrl]),
        (RESPONSES, json!({"type": "input_file", "file_id": "file-1"}), input, &[Stored]),
        (
            ANTHROPIC,
            json!({"type": "image", "source": {"type": "url", "url": "https://x.example/"}}),
            at,
            &[ImageUrl],
        ),
        (ANTHROPIC, json!({"type": "image", "source": {"type": "file", "file_id": "f"}}), at, &[Stored]),
        (
            ANTHROPIC,
            json!({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}),
            at,
            &[ImageUrl],
        ),
        (ANTHROPIC, json!({"type": "document", "source": {"type": "file", "file_id": "f"}}), at, &[Stored]),
        (ANTHROPIC, json!({"type": "container_upload", "file_id": "file_1"}), at, &[Stored]),
        (
            GEMINI,
            json!({"fileData": {"fileUri": "https://x.example/?q=s", "mimeType": "image/png"}}),
            parts,
            &[ImageUrl],
        ),
        (GEMINI, json!({"file_data": {"file_uri": "https://x.example/a.pdf"}}), parts, &[ImageUrl]),
        (
            GEMINI,
            json!({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}}),
            parts,
            &[Stored],
        ),
        (
            GEMINI,
            json!({"fileData": {"fileUri": "https://x.example/https://generativelanguage.googleapis.com/"}}),
            parts,
            &[ImageUrl],
        ),
        (GEMINI, json!({"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/x"}}), parts, &[Stored]),
        (GEMINI, json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}), parts, &[]),
        (
            BEDROCK,
            json!({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/x.png"}}}}),
            at,
            &[Stored],
        ),
        (
            BEDROCK,
            json!({"document": {"format": "pdf", "name": "d", "source": {"s3Location": {"uri": "s3://b/x"}}}}),
            at,
            &[Stored],
        ),
        (BEDROCK, json!({"image": {"format": "png", "source": {"bytes": "AAAA"}}}), at, &[]),
        (COHERE, json!({"type": "image_url", "image_url": {"url": "https://x.example/"}}), at, &[ImageUrl]),
        // Kimi's files.
        (CHAT, json!({"type": "image_url", "image_url": {"url": "ms://f1"}}), at, &[Stored]),
        // In whatever field it stands.
        (CHAT, json!({"type": "file", "file": {"file_data": "https://x.example/?q=s"}}), at, &[ImageUrl]),
        (CHAT, json!({"type": "video", "video": ["HTTPS://x.example/a"]}), at, &[ImageUrl]),
        (CHAT, json!({"type": "text", "text": "https://x.example/ is only said"}), at, &[]),
    ] {
        check(spoken, &saying(spoken, &part), path, kinds);
    }
    let spoken_before = json!({"model": "m", "messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "audio": {"id": "audio_1"}}]});
    check(CHAT, &spoken_before, "messages[1].audio.id", &[Stored]);
}

#[test]
fn addresses_and_ids_in_what_tools_answered() {
    let image = json!({"type": "image_url", "image_url": {"url": "https://x.example/"}});
    let tool = json!({"model": "m", "messages": [{"role": "tool", "tool_call_id": "t", "content": [image]}]});
    check(CHAT, &tool, "messages[0].content[0]", &[ImageUrl]);
    let document = json!({"type": "document", "document": {"data": {"url": "https://x.example"}}});
    let tool =
        json!({"model": "m", "messages": [{"role": "tool", "tool_call_id": "t", "content": [document]}]});
    check(COHERE, &tool, "", &[]);
    let image = json!({"type": "image", "source": {"type": "url", "url": "https://x.example/"}});
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [image]});
    check(ANTHROPIC, &saying(ANTHROPIC, &result), "messages[0].content[0].content[0]", &[ImageUrl]);
    let image = json!({"fileData": {"fileUri": "https://x.example/", "mimeType": "image/png"}});
    let result = json!({"functionResponse": {"name": "f", "response": {"url": "https://x.example"}, "parts": [image]}});
    check(GEMINI, &saying(GEMINI, &result), "contents[0].parts[0].functionResponse.parts[0]", &[ImageUrl]);
    let image = json!({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/x"}}}});
    let result = json!({"toolResult": {"toolUseId": "t", "content": [image]}});
    check(BEDROCK, &saying(BEDROCK, &result), "messages[0].content[0].toolResult.content[0]", &[Stored]);
    let call =
        json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"url\":\"https://x\"}"});
    let file = json!({"type": "input_file", "file_id": "file-1"});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": [file]});
    check(RESPONSES, &json!({"input": [call, output]}), "input[1].output[0]", &[Stored]);
}

#[test]
fn pieces_that_the_provider_s_tools_left_need_what_those_do() {
    for (item, kinds) in [
        (json!({"type": "item_reference", "id": "msg_1"}), &[Stored][..]),
        (json!({"type": "web_search_call", "id": "ws_1", "action": {"url": "https://x.example"}}), &[Search]),
        (json!({"type": "file_search_call", "id": "fs_1"}), &[Stored]),
        (json!({"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}), &[Code]),
        (json!({"type": "mcp_call", "id": "mcp_1"}), &[Mcp]),
        (json!({"type": "mcp_approval_response", "approve": true}), &[Mcp]),
        (json!({"type": "image_generation_call", "id": "ig_1"}), &[Code, Stored]),
        (json!({"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}), &[]),
        (json!({"type": "local_shell_call", "call_id": "c"}), &[]),
        // Tools that are brought in later.
        (
            json!({"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}),
            &[Search],
        ),
        (
            json!({"type": "tool_search_output", "call_id": "c", "tools": [
                {"type": "mcp", "server_label": "x", "server_url": "https://x.example"}, {"type": "brand_new"}]}),
            EVERY,
        ),
        (
            json!({"type": "tool_search_output", "call_id": "c", "tools": [{"type": "function", "name": "f",
                "parameters": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}]}),
            &[],
        ),
        // What the client's own tools were told and answered is only said.
        (
            json!({"type": "custom_tool_call", "call_id": "c", "name": "open", "input": "https://x.example"}),
            &[],
        ),
        (
            json!({"type": "local_shell_call", "action": {"type": "exec", "command": ["curl", "https://x.example"]}}),
            &[],
        ),
        (
            json!({"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "https://x.example"}]}),
            &[],
        ),
        (
            json!({"type": "computer_call_output", "call_id": "c", "output": {"image_url": "https://x.example/"}}),
            &[ImageUrl],
        ),
        (json!({"type": "computer_call_output", "call_id": "c", "output": {"file_id": "file-1"}}), &[Stored]),
    ] {
        check(RESPONSES, &json!({"input": [item]}), "input[0]", kinds);
    }
    let call =
        json!({"type": "custom_tool_call", "call_id": "c", "name": "open", "input": "https://x.example"});
    for (output, path, kinds) in [
        (json!("https://x.example"), "", &[][..]),
        (
            json!([{"type": "input_image", "image_url": "https://x.example"}]),
            "input[1].output[0]",
            &[ImageUrl],
        ),
    ] {
        let result = json!({"type": "custom_tool_call_output", "call_id": "c", "output": output});
        check(RESPONSES, &json!({"input": [call, result]}), path, kinds);
    }
    for (block, kinds) in [
        (
            json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}),
            &[Search][..],
        ),
        (json!({"type": "server_tool_use", "id": "s", "name": "brand_new"}), EVERY),
        (
            json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "https://x.example"}]}),
            &[Search],
        ),
        (json!({"type": "web_fetch_tool_result", "tool_use_id": "s"}), &[Fetch]),
        (json!({"type": "bash_code_execution_tool_result", "tool_use_id": "s"}), &[Code]),
        (json!({"type": "server_tool_use", "id": "s", "name": "tool_search_tool_regex"}), &[]),
        (json!({"type": "mcp_tool_use", "id": "s", "name": "x"}), &[Mcp]),
        (json!({"type": "mcp_tool_result", "tool_use_id": "s"}), &[Mcp]),
    ] {
        check(ANTHROPIC, &saying(ANTHROPIC, &block), "messages[0].content[0]", kinds);
    }
    let location = json!({"web": {"url": "https://x.example"}});
    let cited =
        json!({"citationsContent": {"content": [{"text": "x"}], "citations": [{"location": location}]}});
    check(BEDROCK, &saying(BEDROCK, &cited), "", &[]);
    let more = json!({"type": "x", "citationsContent": {}, "image": "https://x.example"});
    check(CHAT, &saying(CHAT, &more), "messages[0].content[0]", &[ImageUrl]);
    let code = json!({"executableCode": {"language": "PYTHON", "code": "1"}});
    check(GEMINI, &saying(GEMINI, &code), "contents[0].parts[0]", &[Code]);
}

#[test]
fn what_stands_beside_what_is_said() {
    let beside = |field: &str, value: Value| {
        let mut body = with(CHAT, "n", json!(1));
        body["messages"][0][field] = value;
        body
    };
    // Kimi takes tools in any message of the system's.
    let tools = json!([{"type": "builtin_function", "function": {"name": "$web_search"}}]);
    let body = beside("tools", tools);
    check(CHAT, &body, "messages[0].tools", EVERY);
    let request = wire(CHAT).parse_request(body.to_string().as_bytes()).unwrap();
    assert!(brings_tools(&request.messages[0]));
    check(CHAT, &beside("tools", json!([{"type": "function", "function": {"name": "f"}}])), "", &[]);
    let images = json!([{"type": "image_url", "image_url": {"url": "https://x.example/?q=s"}}]);
    check(CHAT, &beside("images", images), "messages[0].images", &[ImageUrl]);
    let cited = json!([{"type": "url_citation", "url_citation": {"url": "https://x.example"}}]);
    check(CHAT, &beside("annotations", cited), "", &[]);
}

/// Whoever reads a union may look at another member than was looked at here.
#[test]
fn a_union_with_two_members_is_refused() {
    let bytes_and_more = json!({"bytes": "AAAA", "s3Location": {"uri": "s3://b/x"}});
    for (spoken, part) in [
        (
            BEDROCK,
            json!({"text": "hi", "image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/x"}}}}),
        ),
        (BEDROCK, json!({"image": {"format": "png", "source": bytes_and_more}})),
        (
            BEDROCK,
            json!({"cachePoint": {"type": "default"}, "video": {"format": "mp4", "source": bytes_and_more}}),
        ),
        (BEDROCK, json!({"toolResult": {"toolUseId": "t", "content": [{"json": {}, "text": "x"}]}})),
        (GEMINI, json!({"text": "hi", "fileData": {"fileUri": "https://x.example"}})),
        (GEMINI, json!({"functionCall": {"name": "f"}, "file_data": {"fileUri": "https://x.example"}})),
        (
            ANTHROPIC,
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA", "file_id": "f"}}),
        ),
    ] {
        let body = saying(spoken, &part);
        let error = wire(spoken).parse_request(body.to_string().as_bytes()).expect_err(&body.to_string());
        assert!(error.message.contains("only one of them may be there"), "{error}");
    }
    let tool = json!({"toolSpec": {"name": "f"}, "systemTool": {"name": "nova_grounding"}});
    let body = with(BEDROCK, "toolConfig", json!({"tools": [tool]}));
    assert!(wire(BEDROCK).parse_request(body.to_string().as_bytes()).is_err());
}

#[test]
fn models_that_are_resources_of_an_account_and_models_that_search() {
    let model = |model: &str| of_model(model);
    let arn = |resource: &str| format!("arn:aws:bedrock:eu-west-1:123456789012:{resource}");
    for (name, kinds) in [
        ("gpt-4o", ServerTools::NONE),
        ("amazon.nova-lite-v1:0", ServerTools::NONE),
        ("arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-lite-v1:0", ServerTools::NONE),
        (&arn("inference-profile/eu.amazon.nova-lite-v1:0"), ServerTools::NONE),
        (&arn("prompt/PROMPT12345:1"), ServerTools::ALL),
        (&arn("prompt/PROMPT12345:1").replace(':', "%3A").replace('/', "%2f"), ServerTools::ALL),
        (&arn("custom-model/x/y"), Stored.into()),
        // The gateway takes them by their provider as well.
        (&format!("aws/{}", arn("prompt/PROMPT12345:1")), ServerTools::ALL),
        (&format!("bedrock/{}", arn("provisioned-model/x")), Stored.into()),
        (&format!("aws/{}", arn("inference-profile/eu.amazon.nova-lite-v1:0")), ServerTools::NONE),
        (&arn("provisioned-model/x"), Stored.into()),
        ("arn:aws:bedrock", ServerTools::ALL),
        ("@preset/research", ServerTools::ALL),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123", Stored.into()),
        ("openai/ft:gpt-4o:acme:x:1", Stored.into()),
        ("FT:gpt-4o", Stored.into()),
        ("soft:gpt", ServerTools::NONE),
        ("accounts/fireworks/models/glm-5", ServerTools::NONE),
        ("accounts/acme/models/tuned", Stored.into()),
        ("fireworks/accounts/acme/models/tuned", Stored.into()),
        ("accounts/fireworks/models/glm-5#accounts/acme/deployments/d", Stored.into()),
    ] {
        assert_eq!(model(name), kinds, "{name}");
    }
    for (name, kinds) in [
        ("sonar-pro", &[Search][..]),
        ("perplexity/Sonar", &[Search]),
        ("gpt-4o-search-preview-2025-03-11", &[Search]),
        ("openai/gpt-4o:online", &[Search]),
        ("openai/gpt-4o:online:nitro", &[Search]),
        ("openai/gpt-4o:online/linkup-deep", &[Search]),
        ("perplexity/sonar-pro:x/y", &[Search]),
        ("openai/o4-mini-deep-research", &[Search]),
        ("openrouter/fusion", &[Search, Fetch]),
        ("groq/compound-mini", &[Search, Fetch, Code]),
        ("gpt-4o", &[]),
        ("claude-sonnet-4-6", &[]),
    ] {
        assert_eq!(by_itself(name), kinds.iter().copied().collect(), "{name}");
    }
}

#[test]
fn what_is_allowed_is_not_missed_and_what_is_own_needs_nothing() {
    let parse =
        |spoken: Dialect, body: &Value| wire(spoken).parse_request(body.to_string().as_bytes()).unwrap();
    let mut body = with(ANTHROPIC, "tools", json!([{"type": "web_search_20250305", "name": "web_search"}]));
    body["mcp_servers"] = json!([{"url": "https://x.example"}]);
    let request = parse(ANTHROPIC, &body);
    let own = OwnAnswers::default();
    let missing = |allowed: &[ServerTool]| {
        let need = lacking(ANTHROPIC, &request, allowed.iter().copied().collect(), &own)?;
        Some((need.path, need.kinds.to_string()))
    };
    assert_eq!(missing(&[]), Some(("mcp_servers".to_owned(), "mcp".to_owned())));
    assert_eq!(missing(&[Mcp]), Some(("tools[0]".to_owned(), "search".to_owned())));
    assert_eq!(missing(&[Search, Stored]), Some(("mcp_servers".to_owned(), "mcp".to_owned())));
    assert_eq!(missing(&[Search, Mcp]), None);

    let unknown = parse(GEMINI, &with(GEMINI, "tools", json!([{"brandNew": {}}])));
    let most: ServerTools = [Search, Fetch, Mcp, Code, ImageUrl].into_iter().collect();
    let need = lacking(GEMINI, &unknown, most, &own).expect("what nobody knows needs all");
    assert_eq!(need.kinds, Stored.into());
    assert_eq!(lacking(GEMINI, &unknown, ServerTools::ALL, &own), None);

    let on = parse(RESPONSES, &with(RESPONSES, "previous_response_id", json!("resp_1")));
    assert!(lacking(RESPONSES, &on, ServerTools::NONE, &own).is_some());
    own.note("resp_1");
    assert_eq!(lacking(RESPONSES, &on, ServerTools::NONE, &own), None);
}
