use serde_json::json;

use super::*;
use crate::dialect::Wire;
use crate::dialect::openai_chat::OpenAiChat;

#[test]
fn the_worst_input_counts_text_by_bytes_and_images_by_number() {
    let text = json!({"messages": [{"role": "user", "content": "x".repeat(1000)}]}).to_string();
    let parse = |body: &str| OpenAiChat.parse_request(body.as_bytes()).unwrap();
    let worst = worst_input(&parse(&text), text.len(), None);
    assert!((1000..1200).contains(&worst), "{worst}");
    assert_eq!(worst_input(&parse(&text), text.len(), Some(500)), 500);
    let url = format!("data:image/png;base64,{}", "A".repeat(1_000_000));
    let image = json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]});
    let image = image.to_string();
    let worst = worst_input(&parse(&image), image.len(), None);
    assert!((IMAGE_TOKENS..IMAGE_TOKENS + 1000).contains(&worst), "{worst}");
}

/// Anthropic counts 530 tokens of its own where there is a tool, however short the request is.
#[test]
fn what_a_provider_says_of_tools_is_input() {
    let worst = |tools: Value| {
        let body = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "hi"}], "tools": tools})
            .to_string();
        let request = crate::dialect::anthropic::Anthropic.parse_request(body.as_bytes()).unwrap();
        worst_input(&request, body.len(), Some(200_000))
    };
    let none = worst(json!([]));
    assert!(none < 200, "{none}");
    assert!(worst(json!([{"name": "f", "input_schema": {}}])) > 530 + none);
}

#[test]
fn wishes_for_cache_writes_are_found_wherever_they_are() {
    let mark = json!({"type": "ephemeral"});
    let found = |body: Value| {
        let request =
            crate::dialect::anthropic::Anthropic.parse_request(body.to_string().as_bytes()).unwrap();
        cache_writes(&request, body.to_string().as_bytes())
    };
    let said = |part: Value| json!({"max_tokens": 1, "messages": [{"role": "user", "content": [part]}]});
    assert_eq!(found(said(json!({"type": "text", "text": "x"}))), CacheWrites::None);
    assert_eq!(found(said(json!({"type": "text", "text": "x", "cache_control": mark}))), CacheWrites::Short);
    assert_eq!(found(said(json!({"type": "document", "cache_control": mark}))), CacheWrites::Short);
    assert_eq!(
        found(said(json!({"type": "tool_result", "tool_use_id": "a",
        "content": [{"type": "text", "text": "x", "cache_control": mark}]}))),
        CacheWrites::Short
    );
    let mut tools = said(json!({"type": "text", "text": "x"}));
    tools["tools"] = json!([{"name": "f", "input_schema": {}, "cache_control": mark}]);
    assert_eq!(found(tools), CacheWrites::Short);
}

#[test]
fn writes_for_an_hour_are_seen_however_they_are_spelled() {
    let found = |ttl: &str| {
        let body = format!(
            r#"{{"max_tokens": 1, "messages": [{{"role": "user", "content": [{{"type": "text", "text": "x",
                "cache_control": {{"type": "ephemeral", "ttl": {ttl}}}}}]}}]}}"#
        );
        let request = crate::dialect::anthropic::Anthropic.parse_request(body.as_bytes()).unwrap();
        cache_writes(&request, body.as_bytes())
    };
    assert_eq!(found(r#""5m""#), CacheWrites::Short);
    for ttl in [r#""1h""#, r#""\u0031h""#, r#""1\u0068""#] {
        assert_eq!(found(ttl), CacheWrites::Long, "{ttl}");
    }
}

#[test]
fn documents_are_as_long_as_the_context() {
    let anthropic = |part: Value| {
        let body = json!({"max_tokens": 1, "messages": [{"role": "user", "content": [part]}]}).to_string();
        let request = crate::dialect::anthropic::Anthropic.parse_request(body.as_bytes()).unwrap();
        worst_input(&request, body.len(), Some(200_000))
    };
    let source = |source: Value| json!({"type": "document", "source": source});
    for document in [
        source(json!({"type": "url", "url": "https://x.example/a.pdf"})),
        source(json!({"type": "file", "file_id": "file_1"})),
        source(json!({"type": "base64", "media_type": "application/pdf", "data": "AAAA"})),
        json!({"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
        json!({"type": "tool_result", "tool_use_id": "t",
            "content": [source(json!({"type": "file", "file_id": "file_1"}))]}),
    ] {
        assert_eq!(anthropic(document.clone()), 200_000, "{document}");
    }
    let text = source(json!({"type": "text", "media_type": "text/plain", "data": "x"}));
    assert!(anthropic(text) < 1_000);

    for part in [
        json!({"type": "file", "file": {"file_id": "file-1"}}),
        json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}),
    ] {
        let body = json!({"messages": [{"role": "user", "content": [part]}]}).to_string();
        let request = OpenAiChat.parse_request(body.as_bytes()).unwrap();
        assert_eq!(worst_input(&request, body.len(), None), ANY_CONTEXT, "{body}");
    }
}
