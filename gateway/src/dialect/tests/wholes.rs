use orch_manifests::Dialect;
use serde_json::{Value, json};

use super::{ALL, anthropic, cohere, gemini, ollama, openai, responses};
use crate::dialect::wire;
use crate::ir::{ApiError, Class, Part, StopReason, ToolCall, Usage};

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

/// The whole counts leave out what a summary of the conversation took, and what another model's advice did.
#[test]
fn rounds_that_the_counts_leave_out_are_counted() {
    let mut body = message();
    body["usage"] = json!({"input_tokens": 23_000, "output_tokens": 1000, "iterations": [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500, "cache_read_input_tokens": 10},
        {"type": "advisor_message", "model": "claude-opus-4-7", "input_tokens": 500, "output_tokens": 70},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
    ]});
    let usage = anthropic().parse_response(body.to_string().as_bytes()).unwrap().usage.unwrap();
    assert_eq!((usage.input, usage.output, usage.cached_input), (203_510, 4570, 10));
}

fn generated() -> Value {
    json!({
        "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
            {"text": "Let me see."},
            {"functionCall": {"id": "call_a", "name": "weather", "args": {"city": "Zürich"}}},
            {"functionCall": {"id": "call_b", "name": "clock", "args": {}}},
        ]}}],
        "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 7, "totalTokenCount": 27, "cachedContentTokenCount": 4},
        "modelVersion": "gpt-4o-mini", "responseId": "chatcmpl-1",
    })
}

#[test]
fn generated_content_becomes_a_completion_or_a_message_and_back() {
    let mut read = gemini().parse_response(generated().to_string().as_bytes()).unwrap();
    read.created = 1_700_000_000;
    assert_eq!(value(&openai().write_response(&read)), completion());
    assert_eq!(value(&anthropic().write_response(&read)), message());
    for (wire, body) in [(openai(), completion()), (anthropic(), message()), (gemini(), generated())] {
        let read = wire.parse_response(body.to_string().as_bytes()).unwrap();
        assert_eq!(value(&gemini().write_response(&read)), generated());
    }
}

/// As the gateway writes it: the items' ids are made of the answer's.
fn response() -> Value {
    let call = |at: usize, id: &str, name: &str, arguments: &str| {
        json!({"type": "function_call", "id": format!("fc_chatcmpl-1_{at}"), "status": "completed", "call_id": id,
            "name": name, "arguments": arguments})
    };
    json!({
        "id": "chatcmpl-1", "object": "response", "created_at": 1_700_000_000, "status": "completed", "error": null,
        "incomplete_details": null, "instructions": null, "max_output_tokens": null, "metadata": {},
        "model": "gpt-4o-mini", "output": [
            {"type": "message", "id": "msg_chatcmpl-1_0", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}]},
            call(1, "call_a", "weather", "{\"city\":\"Zürich\"}"),
            call(2, "call_b", "clock", "{}"),
        ],
        "parallel_tool_calls": true, "previous_response_id": null, "reasoning": {"effort": null, "summary": null},
        "store": false, "temperature": null, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
        "top_p": null, "truncation": "disabled", "user": null,
        "usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 27},
    })
}

fn chatted() -> Value {
    json!({
        "id": "chatcmpl-1", "finish_reason": "TOOL_CALL",
        "message": {
            "role": "assistant", "tool_plan": "Let me see.",
            "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Zürich\"}"}},
                {"id": "call_b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
            ],
        },
        "usage": {"billed_units": {"input_tokens": 20, "output_tokens": 7},
            "tokens": {"input_tokens": 20, "output_tokens": 7}, "cached_tokens": 4},
    })
}

#[test]
fn a_response_becomes_every_other_answer_and_back() {
    let read = responses().parse_response(response().to_string().as_bytes()).unwrap();
    assert_eq!(value(&responses().write_response(&read)), response());
    assert_eq!(value(&openai().write_response(&read)), completion());
    assert_eq!(value(&anthropic().write_response(&read)), message());
    assert_eq!(value(&gemini().write_response(&read)), generated());
    for (wire, body) in [(openai(), completion()), (anthropic(), message()), (gemini(), generated())] {
        let mut read = wire.parse_response(body.to_string().as_bytes()).unwrap();
        read.created = 1_700_000_000;
        assert_eq!(value(&responses().write_response(&read)), response());
    }
}

#[test]
fn coheres_answer_becomes_every_other_and_back() {
    let mut read = cohere().parse_response(chatted().to_string().as_bytes()).unwrap();
    assert_eq!((read.model.as_str(), read.created), ("", 0), "it says neither");
    (read.model, read.created) = ("gpt-4o-mini".into(), 1_700_000_000);
    assert_eq!(value(&openai().write_response(&read)), completion());
    assert_eq!(value(&anthropic().write_response(&read)), message());
    assert_eq!(value(&gemini().write_response(&read)), generated());
    for (wire, body) in
        [(openai(), completion()), (anthropic(), message()), (gemini(), generated()), (cohere(), chatted())]
    {
        let read = wire.parse_response(body.to_string().as_bytes()).unwrap();
        assert_eq!(value(&cohere().write_response(&read)), chatted());
    }
}

fn lined() -> Value {
    let call = |id: &str, index: u64, name: &str, arguments: Value| json!({"id": id, "function": {"index": index, "name": name, "arguments": arguments}});
    json!({
        "model": "gpt-4o-mini", "created_at": "2023-11-14T22:13:20Z", "done": true, "done_reason": "stop",
        "message": {"role": "assistant", "content": "Let me see.", "tool_calls": [
            call("call_a", 0, "weather", json!({"city": "Zürich"})), call("call_b", 1, "clock", json!({})),
        ]},
        "prompt_eval_count": 20, "eval_count": 7,
    })
}

#[test]
fn ollamas_answer_becomes_every_other_and_back() {
    let mut read = ollama().parse_response(lined().to_string().as_bytes()).unwrap();
    assert_eq!((read.id.as_str(), read.created), ("chat_20231114T221320Z", 1_700_000_000));
    // It counts nothing as cached.
    read.usage = Some(Usage { input: 20, output: 7, cached_input: 4, ..Usage::default() });
    read.id = "chatcmpl-1".into();
    assert_eq!(value(&openai().write_response(&read)), completion());
    assert_eq!(value(&anthropic().write_response(&read)), message());
    assert_eq!(value(&gemini().write_response(&read)), generated());
    assert_eq!(value(&cohere().write_response(&read)), chatted());
    let others = [
        (openai(), completion()),
        (anthropic(), message()),
        (gemini(), generated()),
        (cohere(), chatted()),
        (ollama(), lined()),
    ];
    for (wire, body) in others {
        let mut read = wire.parse_response(body.to_string().as_bytes()).unwrap();
        (read.created, read.model) = (1_700_000_000, "gpt-4o-mini".into());
        assert_eq!(value(&ollama().write_response(&read)), lined());
    }
}

#[test]
fn thoughts_signatures_and_made_up_ids() {
    let body = json!({
        "responseId": "aB/3=", "modelVersion": "models/gemini-3-pro-preview",
        "candidates": [{"finishReason": "STOP", "content": {"parts": [
            {"text": "Hm.", "thought": true, "thoughtSignature": "dGg="},
            {"functionCall": {"name": "f", "args": {"x": null}}, "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "f"}},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        ]}}],
        "usageMetadata": {"promptTokenCount": 9, "toolUsePromptTokenCount": 3, "thoughtsTokenCount": 5},
    });
    let read = gemini().parse_response(body.to_string().as_bytes()).unwrap();
    let call = |id: &str, arguments: &str, signature: Option<&str>| {
        Part::ToolCall(ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: arguments.into(),
            signature: signature.map(Into::into),
        })
    };
    assert_eq!(read.model, "gemini-3-pro-preview");
    assert_eq!(
        read.content,
        [
            Part::Reasoning { text: "Hm.".into(), signature: Some("dGg=".into()) },
            call("call_aB3_0", "{\"x\":null}", Some("c2ln")),
            call("call_aB3_1", "", None),
            // Its kind alone, for the receipt.
            Part::Opaque(json!({"type": "inlineData"})),
        ]
    );
    let wanted = Usage { input: 12, output: 5, reasoning: 5, ..Usage::default() };
    assert_eq!((read.stop, read.usage), (StopReason::ToolUse, Some(wanted)));
    let written = value(&openai().write_response(&read));
    let signature = "/choices/0/message/tool_calls/0/extra_content/google/thought_signature";
    assert_eq!(written.pointer(signature), Some(&json!("c2ln")));
    assert_eq!(written.pointer("/choices/0/message/tool_calls/1/extra_content"), None);
}

#[test]
fn every_reason_has_its_word_and_unknown_ones_are_failures() {
    let rows = [
        (Dialect::OpenAiChat, "stop", StopReason::Stop),
        (Dialect::OpenAiChat, "length", StopReason::Length),
        (Dialect::OpenAiChat, "tool_calls", StopReason::ToolUse),
        (Dialect::OpenAiChat, "content_filter", StopReason::ContentFilter),
        (Dialect::OpenAiChat, "eos", StopReason::Stop),
        (Dialect::OpenAiChat, "model_length", StopReason::Length),
        (Dialect::OpenAiChat, "error", StopReason::Error),
        (Dialect::OpenAiChat, "something_new", StopReason::Error),
        (Dialect::OpenAiResponses, "completed", StopReason::Stop),
        (Dialect::OpenAiResponses, "max_output_tokens", StopReason::Length),
        (Dialect::OpenAiResponses, "content_filter", StopReason::ContentFilter),
        (Dialect::OpenAiResponses, "something_new", StopReason::Error),
        (Dialect::OpenAiResponses, "cancelled", StopReason::Error),
        (Dialect::OpenAiResponses, "in_progress", StopReason::Truncated),
        (Dialect::AnthropicMessages, "end_turn", StopReason::Stop),
        (Dialect::AnthropicMessages, "max_tokens", StopReason::Length),
        (Dialect::AnthropicMessages, "model_context_window_exceeded", StopReason::Length),
        (Dialect::AnthropicMessages, "tool_use", StopReason::ToolUse),
        (Dialect::AnthropicMessages, "refusal", StopReason::Refusal),
        (Dialect::AnthropicMessages, "pause_turn", StopReason::Error),
        (Dialect::GeminiGenerateContent, "STOP", StopReason::Stop),
        (Dialect::GeminiGenerateContent, "MAX_TOKENS", StopReason::Length),
        (Dialect::GeminiGenerateContent, "SAFETY", StopReason::ContentFilter),
        (Dialect::GeminiGenerateContent, "RECITATION", StopReason::ContentFilter),
        (Dialect::GeminiGenerateContent, "PROHIBITED_CONTENT", StopReason::ContentFilter),
        (Dialect::GeminiGenerateContent, "MALFORMED_FUNCTION_CALL", StopReason::Error),
        (Dialect::GeminiGenerateContent, "OTHER", StopReason::Error),
        (Dialect::GeminiGenerateContent, "SOMETHING_NEW", StopReason::Error),
        (Dialect::BedrockConverse, "end_turn", StopReason::Stop),
        (Dialect::BedrockConverse, "stop_sequence", StopReason::Stop),
        (Dialect::BedrockConverse, "max_tokens", StopReason::Length),
        (Dialect::BedrockConverse, "model_context_window_exceeded", StopReason::Length),
        (Dialect::BedrockConverse, "tool_use", StopReason::ToolUse),
        (Dialect::BedrockConverse, "guardrail_intervened", StopReason::ContentFilter),
        (Dialect::BedrockConverse, "content_filtered", StopReason::ContentFilter),
        (Dialect::BedrockConverse, "malformed_tool_use", StopReason::Error),
        (Dialect::BedrockConverse, "something_new", StopReason::Error),
        (Dialect::CohereChat, "COMPLETE", StopReason::Stop),
        (Dialect::CohereChat, "STOP_SEQUENCE", StopReason::Stop),
        (Dialect::CohereChat, "MAX_TOKENS", StopReason::Length),
        (Dialect::CohereChat, "ERROR_LIMIT", StopReason::Length),
        (Dialect::CohereChat, "TOOL_CALL", StopReason::ToolUse),
        (Dialect::CohereChat, "ERROR_TOXIC", StopReason::ContentFilter),
        (Dialect::CohereChat, "USER_CANCEL", StopReason::Error),
        (Dialect::CohereChat, "SOMETHING_NEW", StopReason::Error),
        (Dialect::OllamaChat, "stop", StopReason::Stop),
        (Dialect::OllamaChat, "length", StopReason::Length),
        (Dialect::OllamaChat, "content_filter", StopReason::ContentFilter),
        (Dialect::OllamaChat, "load", StopReason::Error),
        (Dialect::OllamaChat, "unload", StopReason::Error),
        (Dialect::OllamaChat, "something_new", StopReason::Error),
    ];
    for (dialect, word, wanted) in rows {
        let body = match dialect {
            Dialect::OpenAiChat => json!({"choices": [{"message": {"content": "x"}, "finish_reason": word}]}),
            Dialect::OpenAiResponses => {
                let incomplete = matches!(word, "max_output_tokens" | "content_filter" | "something_new");
                let status = if incomplete { "incomplete" } else { word };
                json!({"output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}],
                    "status": status, "incomplete_details": {"reason": word}})
            }
            Dialect::AnthropicMessages => {
                json!({"content": [{"type": "text", "text": "x"}], "stop_reason": word})
            }
            Dialect::GeminiGenerateContent => {
                json!({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": word}]})
            }
            Dialect::BedrockConverse => {
                json!({"output": {"message": {"content": [{"text": "x"}]}}, "stopReason": word})
            }
            Dialect::CohereChat => {
                json!({"finish_reason": word, "message": {"content": [{"type": "text", "text": "x"}]}})
            }
            Dialect::OllamaChat => json!({"done": true, "done_reason": word, "message": {"content": "x"}}),
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
    let body = json!({"object": "response", "output": []});
    assert_eq!(responses().parse_response(body.to_string().as_bytes()).unwrap().stop, StopReason::Truncated);
    let body = json!({"content": [], "stop_reason": null});
    assert_eq!(anthropic().parse_response(body.to_string().as_bytes()).unwrap().stop, StopReason::Truncated);
    let body = json!({"candidates": [{"content": {"parts": [{"text": "x"}]}}]});
    assert_eq!(gemini().parse_response(body.to_string().as_bytes()).unwrap().stop, StopReason::Truncated);
    assert!(gemini().parse_response(br#"{"usageMetadata":{}}"#).is_err());
    let body = json!({"message": {"content": [{"type": "text", "text": "x"}]}});
    assert_eq!(cohere().parse_response(body.to_string().as_bytes()).unwrap().stop, StopReason::Truncated);
    for body in
        [json!({"message": {"content": "x"}}), json!({"message": {}, "done": false, "done_reason": "stop"})]
    {
        assert_eq!(ollama().parse_response(body.to_string().as_bytes()).unwrap().stop, StopReason::Truncated);
    }
    assert!(ollama().parse_response(br#"{"done":true}"#).is_err());
}

#[test]
fn a_cut_answer_is_no_answer() {
    let answers = [
        (Dialect::OpenAiChat, completion()),
        (Dialect::OpenAiResponses, response()),
        (Dialect::AnthropicMessages, message()),
        (Dialect::GeminiGenerateContent, generated()),
        (Dialect::BedrockConverse, super::bedrock::whole()),
        (Dialect::CohereChat, chatted()),
        (Dialect::OllamaChat, lined()),
    ];
    for (dialect, body) in answers {
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
    let written = value(&responses().write_response(&read));
    assert_eq!(written["status"], "completed");
    assert_eq!(written.pointer("/output/0/summary/0/text").unwrap(), "Hm.");
    assert_eq!(
        written.pointer("/output/1/content/0").unwrap(),
        &json!({"type": "refusal", "refusal": "I cannot."})
    );
    assert_eq!(responses().parse_response(written.to_string().as_bytes()).unwrap().content, read.content);
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
    let read = |usage: &Value| {
        let body =
            json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage});
        openai().parse_response(body.to_string().as_bytes()).unwrap().usage
    };
    let counted = |input, output| Usage { input, output, ..Usage::default() };
    let rows = [
        // DeepSeek.
        (
            json!({"prompt_tokens": 9.0, "completion_tokens": 3, "prompt_cache_hit_tokens": 5}),
            Usage { cached_input: 5, ..counted(9, 3) },
        ),
        // Moonshot.
        (
            json!({"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "cached_tokens": 10}),
            Usage { cached_input: 10, ..counted(19, 21) },
        ),
        // xAI: what was thought is not in the completion.
        (
            json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
                "prompt_tokens_details": {"cached_tokens": 6}, "completion_tokens_details": {"reasoning_tokens": 94}}),
            Usage { cached_input: 6, reasoning: 94, ..counted(32, 103) },
        ),
        // OpenAI: it is.
        (
            json!({"prompt_tokens": 32, "completion_tokens": 103, "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94}}),
            Usage { reasoning: 94, ..counted(32, 103) },
        ),
        // OpenRouter, and OpenAI's newer models.
        (
            json!({"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 12}}),
            Usage { cached_input: 4, cache_write: 12, ..counted(20, 7) },
        ),
    ];
    for (usage, wanted) in rows {
        assert_eq!(read(&usage), Some(wanted), "{usage}");
    }
}

/// Nothing of an answer vanishes without being named.
#[test]
fn what_is_noted_beside_an_answers_words_is_named_by_its_kind() {
    let searched = json!({"candidates": [{"finishReason": "STOP",
        "content": {"parts": [{"text": "x"}, {"text": ""}, {"executableCode": {"code": "1"}}]},
        "groundingMetadata": {"webSearchQueries": ["x"]}, "citationMetadata": {}}]});
    let cited = json!({"citations": ["https://x.example"], "search_results": [], "choices": [{"finish_reason": "stop",
        "message": {"content": "x", "annotations": [{"type": "url_citation"}], "audio": null, "images": []}}]});
    for (wire, body, wanted) in [
        (gemini(), searched, ["executableCode", "groundingMetadata"]),
        (openai(), cited, ["annotations", "citations"]),
    ] {
        let read = wire.parse_response(body.to_string().as_bytes()).unwrap();
        let kinds = read.content.iter().filter_map(|part| match part {
            Part::Opaque(piece) => piece["type"].as_str(),
            _ => None,
        });
        assert_eq!(kinds.collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn what_was_written_to_a_cache_is_counted_in_both_of_openais_dialects() {
    let usage = Usage { input: 20, output: 7, cached_input: 4, cache_write: 12, ..Usage::default() };
    let read = openai().parse_response(completion().to_string().as_bytes()).unwrap();
    let answer = crate::ir::ChatResponse { usage: Some(usage), ..read };
    for wire in [openai(), responses(), anthropic()] {
        let again = wire.parse_response(&wire.write_response(&answer)).unwrap();
        assert_eq!(again.usage, Some(usage));
    }
}

/// At xAI what a model thought is not part of the answer's tokens, and costs as much.
#[test]
fn thoughts_that_are_counted_beside_the_answer_are_output() {
    let read = |usage: Value| {
        let body =
            json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage});
        let usage = openai().parse_response(body.to_string().as_bytes()).unwrap().usage.unwrap();
        (usage.input, usage.output, usage.reasoning)
    };
    let counted = |answer: u64, total: Value| {
        read(json!({"prompt_tokens": 12, "completion_tokens": answer, "total_tokens": total,
            "completion_tokens_details": {"reasoning_tokens": 386}}))
    };
    assert_eq!(counted(1, json!(399)), (12, 387, 386), "xAI");
    assert_eq!(counted(387, json!(399)), (12, 387, 386), "OpenAI");
    assert_eq!(counted(387, json!(null)), (12, 387, 386), "whoever tells no total");
    assert_eq!(counted(1, json!(u64::MAX)), (12, 387, 386), "no more than was thought");
    assert_eq!(counted(1, json!(0)), (12, 1, 386));
}

#[test]
fn cache_writes_at_openrouter_are_counted() {
    let read = |cached: u64, written: u64| {
        let body = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196,
                "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written}}});
        let usage = openai().parse_response(body.to_string().as_bytes()).unwrap().usage.unwrap();
        (usage.input, usage.cached_input, usage.cache_write)
    };
    assert_eq!(read(50, 100), (194, 50, 100));
    assert_eq!(read(500, 500), (194, 194, 0), "no more than there was");
}

#[test]
fn counts_that_add_up_to_more_than_a_number_holds_are_no_end_of_the_world() {
    let hour = json!({"ttl": "1h", "inputTokens": u64::MAX});
    let converse = json!({"stopReason": "end_turn",
        "output": {"message": {"role": "assistant", "content": [{"text": "x"}]}},
        "usage": {"inputTokens": 1, "outputTokens": 2, "cacheWriteInputTokens": 5, "cacheDetails": [hour, hour]}});
    let read = wire(Dialect::BedrockConverse).parse_response(converse.to_string().as_bytes()).unwrap();
    assert_eq!(read.usage.map(|usage| (usage.input, usage.cache_write_1h)), Some((6, 5)));
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
    let (status, body) = gemini().write_error(&error);
    assert_eq!(status, 404);
    assert_eq!(
        value(&body),
        json!({"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND", "details": [{
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "model", "description": "no such model"}],
        }]}})
    );
    let (status, body) = gemini().write_error(&ApiError::new(Class::BadKey, "no"));
    assert_eq!(
        (status.as_u16(), &value(&body)["error"]["details"][0]["reason"]),
        (400, &json!("API_KEY_INVALID"))
    );
    let (status, body) = cohere().write_error(&error);
    assert_eq!(
        (status.as_u16(), value(&body)),
        (404, json!({"message": "no such model", "code": "model_not_found"}))
    );
    for dialect in ALL {
        let error =
            ApiError { status: Some(502), details: Some(Box::new(json!({"attempts": []}))), ..error.clone() };
        let (status, body) = wire(dialect).write_error(&error);
        assert_eq!(status, 502);
        let body = value(&body);
        // Cohere's errors are flat, and Ollama's, and Bedrock's.
        let holder = body.get("error").filter(|error| error.is_object()).unwrap_or(&body);
        assert_eq!(holder["orch"], json!({"attempts": []}), "{dialect}");
    }
}

#[test]
fn anthropic_has_types_for_what_is_nowhere_and_what_is_too_large() {
    for (status, kind) in [
        (None, "invalid_request_error"),
        (Some(404), "not_found_error"),
        (Some(405), "invalid_request_error"),
        (Some(413), "request_too_large"),
        (Some(415), "invalid_request_error"),
    ] {
        let error = ApiError { status, ..ApiError::new(Class::BadRequest, "no") };
        let (written, body) = anthropic().write_error(&error);
        assert_eq!(written.as_u16(), status.unwrap_or(400));
        assert_eq!(value(&body)["error"]["type"], kind, "{status:?}");
    }
}

/// A client could not say which call it answers.
#[test]
fn a_call_without_an_id_or_a_name_is_no_answer() {
    for (id, name) in [("", "f"), ("c", "")] {
        let message = json!({"id": "x", "model": "m", "stop_reason": "tool_use",
            "content": [{"type": "tool_use", "id": id, "name": name, "input": {}}]});
        assert!(anthropic().parse_response(message.to_string().as_bytes()).is_err(), "{message}");
        let converse = json!({"stopReason": "tool_use", "output": {"message": {"role": "assistant",
            "content": [{"toolUse": {"toolUseId": id, "name": name, "input": {}}}]}}});
        assert!(wire(Dialect::BedrockConverse).parse_response(converse.to_string().as_bytes()).is_err());
        let chat = json!({"id": "x", "finish_reason": "TOOL_CALL", "message": {"role": "assistant",
            "tool_calls": [{"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}}]}});
        assert!(cohere().parse_response(chat.to_string().as_bytes()).is_err(), "{chat}");
    }
}
