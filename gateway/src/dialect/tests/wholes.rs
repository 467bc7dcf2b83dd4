use orch_manifests::Dialect;
use serde_json::{Value, json};

use super::{BOTH, anthropic, openai};
use crate::dialect::wire;
use crate::ir::{ApiError, Class, Part, StopReason, Usage};

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn completion() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Let me see.", "refusal": null,
            "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Zürich\"}"}},
                {"id": "call_b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
            ],
        }}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 0}},
    })
}

fn message() -> Value {
    json!({
        "id": "chatcmpl-1", "type": "message", "role": "assistant", "model": "gpt-4o-mini",
        "content": [
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Zürich"}},
            {"type": "tool_use", "id": "call_b", "name": "clock", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 16, "output_tokens": 7, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0},
    })
}

#[test]
fn a_completion_becomes_a_message_and_back() {
    let read = openai().parse_response(completion().to_string().as_bytes()).unwrap();
    assert_eq!(value(&anthropic().write_response(&read)), message());
    assert_eq!(value(&openai().write_response(&read)), completion());
    let mut back = anthropic().parse_response(message().to_string().as_bytes()).unwrap();
    back.created = 1_700_000_000;
    assert_eq!(value(&openai().write_response(&back)), completion());
}

#[test]
fn every_reason_has_its_word_and_unknown_ones_are_failures() {
    let rows = [
        (Dialect::OpenAiChat, "stop", StopReason::Stop),
        (Dialect::OpenAiChat, "length", StopReason::Length),
        (Dialect::OpenAiChat, "tool_calls", StopReason::ToolUse),
        (Dialect::OpenAiChat, "content_filter", StopReason::ContentFilter),
        (Dialect::OpenAiChat, "error", StopReason::Error),
        (Dialect::OpenAiChat, "something_new", StopReason::Error),
        (Dialect::AnthropicMessages, "end_turn", StopReason::Stop),
        (Dialect::AnthropicMessages, "max_tokens", StopReason::Length),
        (Dialect::AnthropicMessages, "model_context_window_exceeded", StopReason::Length),
        (Dialect::AnthropicMessages, "tool_use", StopReason::ToolUse),
        (Dialect::AnthropicMessages, "refusal", StopReason::Refusal),
        (Dialect::AnthropicMessages, "pause_turn", StopReason::Error),
    ];
    for (dialect, word, wanted) in rows {
        let body = match dialect {
            Dialect::OpenAiChat => json!({"choices": [{"message": {"content": "x"}, "finish_reason": word}]}),
            Dialect::AnthropicMessages => {
                json!({"content": [{"type": "text", "text": "x"}], "stop_reason": word})
            }
        };
        let read = wire(dialect).parse_response(body.to_string().as_bytes()).unwrap();
        assert_eq!(read.stop, wanted, "{word}");
        assert_eq!(read.content, [Part::text("x")]);
    }
}

#[test]
fn an_answer_that_does_not_say_why_it_ended_is_truncated() {
    let body = json!({"choices": [{"message": {"content": "x"}, "finish_reason": null}]});
    assert_eq!(openai().parse_response(body.to_string().as_bytes()).unwrap().stop, StopReason::Truncated);
    let body = json!({"content": [], "stop_reason": null});
    assert_eq!(anthropic().parse_response(body.to_string().as_bytes()).unwrap().stop, StopReason::Truncated);
}

#[test]
fn a_cut_answer_is_no_answer() {
    for (dialect, body) in [(Dialect::OpenAiChat, completion()), (Dialect::AnthropicMessages, message())] {
        let text = body.to_string();
        for cut in 0..text.len() {
            assert!(wire(dialect).parse_response(&text.as_bytes()[..cut]).is_err(), "{dialect} cut at {cut}");
        }
    }
}

#[test]
fn refusals_and_reasoning_cross() {
    let body = json!({"choices": [{"finish_reason": "stop", "message": {
        "content": null, "refusal": "I cannot.", "reasoning_content": "Hm."}}]});
    let read = openai().parse_response(body.to_string().as_bytes()).unwrap();
    assert_eq!(read.stop, StopReason::Refusal);
    let written = value(&anthropic().write_response(&read));
    assert_eq!(written["stop_reason"], "refusal");
    assert_eq!(written["content"][0]["thinking"], "Hm.");
    assert_eq!(written["content"][1]["text"], "I cannot.");
    let written = value(&openai().write_response(&read));
    assert_eq!(written.pointer("/choices/0/message/refusal").unwrap(), "I cannot.");
    assert_eq!(written.pointer("/choices/0/finish_reason").unwrap(), "stop");
}

#[test]
fn arguments_that_are_no_object_are_shown_and_not_lost() {
    let body = json!({"choices": [{"finish_reason": "tool_calls", "message": {"content": null, "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"cut"}},
        {"id": "b", "type": "function", "function": {"name": "f", "arguments": ""}}]}}]});
    let read = openai().parse_response(body.to_string().as_bytes()).unwrap();
    let written = value(&anthropic().write_response(&read));
    assert_eq!(written["content"][0]["input"], json!({"_invalid_json": "{\"cut"}));
    assert_eq!(written["content"][1]["input"], json!({}));
    let written = value(&openai().write_response(&read));
    assert_eq!(written.pointer("/choices/0/message/tool_calls/1/function/arguments").unwrap(), "{}");
}

#[test]
fn counts_of_other_providers_are_read() {
    let body = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9.0, "completion_tokens": 3, "prompt_cache_hit_tokens": 5}});
    let read = openai().parse_response(body.to_string().as_bytes()).unwrap();
    let wanted = Usage { input: 9, output: 3, cached_input: 5, ..Usage::default() };
    assert_eq!(read.usage, Some(wanted));
}

#[test]
fn errors_look_as_clients_expect_them() {
    let error = ApiError { param: Some("model".into()), ..ApiError::new(Class::NoModel, "no such model") };
    let (status, body) = openai().write_error(&error);
    assert_eq!(status, 404);
    assert_eq!(
        value(&body),
        json!({"error": {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}})
    );
    let (status, body) = anthropic().write_error(&error);
    assert_eq!(status, 404);
    assert_eq!(
        value(&body),
        json!({"type": "error", "error": {"type": "not_found_error", "message": "no such model"}})
    );
    for dialect in BOTH {
        let error = ApiError { status: Some(502), details: Some(json!({"attempts": []})), ..error.clone() };
        let (status, body) = wire(dialect).write_error(&error);
        assert_eq!(status, 502);
        assert_eq!(value(&body)["error"]["orch"], json!({"attempts": []}));
    }
}
