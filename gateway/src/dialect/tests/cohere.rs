//! What is Cohere's own.

use serde_json::{Value, json};

use super::{anthropic, cohere, events, openai, written};
use crate::classify::error_inside;
use crate::dialect::{Style, Wire, Written};
use crate::ir::{
    ApiError, ChatRequest, Class, Dropped, Part, ReasoningWish, ResponseFormat, StopReason, StreamEvent,
    ToolCall, ToolChoice, Usage,
};

const TEXT: &str = include_str!("../fixtures/cohere_text.sse");
const TOOLS: &str = include_str!("../fixtures/cohere_tools.sse");

fn parse(wire: &dyn Wire, body: &Value) -> ChatRequest {
    wire.parse_request(body.to_string().as_bytes()).unwrap()
}

fn body(written: &Written) -> Value {
    serde_json::from_slice(&written.body).unwrap()
}

fn dropped(written: &Written) -> Vec<&str> {
    written.dropped.iter().map(|d| d.field.as_str()).collect()
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// The data of a stream's events.
fn data(stream: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(stream).unwrap().lines();
    lines.filter_map(|line| line.strip_prefix("data: ")).map(|data| value(data.as_bytes())).collect()
}

fn openai_request() -> Value {
    json!({
        "model": "m", "max_completion_tokens": 100, "temperature": 1.5, "top_p": 1, "seed": 7, "n": 2,
        "frequency_penalty": 1.5, "presence_penalty": 0.5, "stop": "END", "stream": true, "user": "u1",
        "reasoning_effort": "low", "logit_bias": {"1": 2}, "parallel_tool_calls": false,
        "tools": [
            {"type": "function", "function": {"name": "weather", "description": "Weather", "strict": true,
                "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": null}}}}},
            {"type": "function", "function": {"name": "clock"}},
            {"type": "web_search"},
        ],
        "response_format": {"type": "json_object"},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}},
            ]},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
                {"id": "b", "type": "function", "function": {"name": "clock", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "noon"}]},
            {"role": "assistant", "content": "It rains."},
            {"role": "user", "content": "And?"},
        ],
    })
}

#[test]
fn openai_becomes_cohere() {
    let request = parse(openai(), &openai_request());
    let written = cohere().write_request(&request, &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "model": "m", "max_tokens": 100, "temperature": 1.5, "p": 0.99, "seed": 7, "stream": true,
            "frequency_penalty": 1.0, "stop_sequences": ["END"],
            "tools": [
                {"type": "function", "function": {"name": "weather", "description": "Weather",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": null}}}}},
                {"type": "function", "function": {"name": "clock",
                    "parameters": {"type": "object", "properties": {}}}},
            ],
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                ]},
                {"role": "assistant", "tool_plan": "I look.", "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
                    {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "a", "content": "rain"},
                {"role": "tool", "tool_call_id": "b", "content": "noon"},
                {"role": "assistant", "content": "It rains."},
                {"role": "user", "content": "And?"},
            ],
        })
    );
    assert_eq!(
        dropped(&written),
        [
            "messages[1].name",
            "messages[1].content[2]",
            "messages[2].content[0]",
            "tools[2]",
            "tools[0].function.strict",
            "parallel_tool_calls",
            "top_p",
            "frequency_penalty",
            "presence_penalty",
            "response_format",
            "reasoning_effort",
            "n",
            "user",
            "logit_bias",
        ]
    );
}

#[test]
fn anthropic_becomes_cohere() {
    let request = parse(
        anthropic(),
        &json!({
            "model": "m", "max_tokens": 9, "top_k": 900, "stop_sequences": ["a", "b", "c", "d", "e", "f"],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [
                        {"type": "text", "text": "one"}, {"type": "text", "text": "two"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    ]},
                ]},
            ],
        }),
    );
    let written = cohere().write_request(&request, &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "model": "m", "max_tokens": 9, "k": 500, "stop_sequences": ["a", "b", "c", "d", "e"],
            "thinking": {"type": "enabled", "token_budget": 1024},
            "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "tool_calls": [
                    {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "t", "content": [
                    {"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
                {"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            ],
        })
    );
    assert_eq!(
        dropped(&written),
        ["system.content[0].cache_control", "messages[2].content[0].is_error", "top_k", "stop_sequences"]
    );
    let style = Style { no_json_schema: true, ..Style::default() };
    let written = cohere().write_request(&request, &style);
    assert_eq!(body(&written)["response_format"], json!({"type": "json_object"}));
    assert!(dropped(&written).contains(&"response_format"));
}

#[test]
fn a_tool_is_forced_by_offering_no_other() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "strict": true}});
    let mut asked = json!({
        "messages": [{"role": "user", "content": "x"}], "tools": [tool("a"), tool("b")],
        "tool_choice": {"type": "function", "function": {"name": "b"}},
    });
    let written = cohere().write_request(&parse(openai(), &asked), &Style::default());
    let sent = body(&written);
    assert_eq!(
        (sent["tools"].as_array().unwrap().len(), &sent["tools"][0]["function"]["name"]),
        (1, &json!("b"))
    );
    assert_eq!((&sent["tool_choice"], &sent["strict_tools"]), (&json!("REQUIRED"), &json!(true)));
    assert_eq!(dropped(&written), ["tools[0]"]);
    for (choice, word) in [("required", json!("REQUIRED")), ("none", json!("NONE")), ("auto", Value::Null)] {
        asked["tool_choice"] = json!(choice);
        let written = cohere().write_request(&parse(openai(), &asked), &Style::default());
        assert_eq!((&body(&written)["tool_choice"], dropped(&written)), (&word, Vec::new()), "{choice}");
    }
}

fn own_request() -> Value {
    json!({
        "model": "command-a-03-2025", "stream": true, "max_tokens": 50, "temperature": 0.3, "k": 5, "p": 0.8,
        "seed": 3, "frequency_penalty": 0.5, "stop_sequences": ["END"], "strict_tools": true,
        "tool_choice": "REQUIRED", "safety_mode": "STRICT", "documents": [{"id": "1", "data": {"text": "d"}}],
        "citation_options": {"mode": "FAST"}, "thinking": {"type": "enabled", "token_budget": 512},
        "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}},
            ]},
            {"role": "assistant", "tool_plan": "I will look.", "content": [{"type": "thinking", "thinking": "Hm."}],
                "citations": [{"start": 0}], "tool_calls": [
                {"id": "f_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "f_1", "content": [
                {"type": "document", "document": {"id": "doc", "data": {"text": "rain"}}},
                {"type": "document", "document": {"data": {"title": "t", "snippet": "s"}}},
                {"type": "document", "document": {"data": "plain"}},
            ]},
        ],
    })
}

#[test]
fn cohere_is_read_and_becomes_openai() {
    let request = parse(cohere(), &own_request());
    let sampling = &request.sampling;
    assert_eq!((sampling.top_k, sampling.top_p, sampling.seed), (Some(5), Some(0.8), Some(3)));
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    assert_eq!(request.reasoning, Some(ReasoningWish::Budget(512)));
    assert!(matches!(&request.format, Some(ResponseFormat::JsonSchema { strict: Some(false), .. })));
    let written = openai().write_request(&request, &Style::default());
    assert_eq!(
        body(&written)["messages"],
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}},
            ]},
            {"role": "assistant", "content": "I will look.", "tool_calls": [
                {"id": "f_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "f_1", "content": "rain\n\n{\"title\":\"t\",\"snippet\":\"s\"}\n\nplain"},
        ])
    );
    assert_eq!(body(&written)["tools"][0]["function"]["strict"], true);
    assert_eq!(
        dropped(&written),
        [
            "messages[2].citations",
            "messages[2].content[0]",
            "messages[3].content[0].content[0].document",
            "top_k",
            "thinking",
            "safety_mode",
            "documents",
            "citation_options",
        ]
    );
}

#[test]
fn what_is_cohere_s_own_survives_a_round_trip() {
    let mut asked = own_request();
    // Beside tools it is refused, and thoughts, citations, documents and the rest of its own are for its own ears.
    for key in ["response_format", "safety_mode", "documents", "citation_options"] {
        asked.as_object_mut().unwrap().remove(key);
    }
    asked["messages"][2] = json!({"role": "assistant", "tool_plan": "I will look.", "tool_calls": [
        {"id": "f_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    asked["messages"][3] = json!({"role": "tool", "tool_call_id": "f_1", "content": "rain"});
    let written = cohere().write_request(&parse(cohere(), &asked), &Style::default());
    assert_eq!((body(&written), dropped(&written)), (asked, Vec::new()));
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let user = json!([{"role": "user", "content": "x"}]);
    let with = |key: &str, value: Value| json!({"messages": user, key: value});
    let rows = [
        (json!({}), "messages: is missing"),
        (json!({"messages": []}), "messages: must not be empty"),
        (json!({"messages": [{"role": "chatbot"}]}), "messages[0].role: \"chatbot\" is not system"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content: is missing"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].tool_call_id: is missing"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]}),
            "messages[0].content[0].image_url.url: is a data URL",
        ),
        (
            json!({"messages": [{"role": "tool", "tool_call_id": "t", "content": [{"type": "document", "document": {"data": 5}}]}]}),
            "messages[0].content[0].document.data: must be an object or a string",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}]}),
            "messages[0].tool_calls[0].function.name: is missing",
        ),
        (with("tool_choice", json!("auto")), "tool_choice: \"auto\" is not REQUIRED or NONE"),
        (with("tools", json!([{"type": "function"}])), "tools[0].function: is missing"),
        (with("response_format", json!({"type": "json"})), "response_format.type: \"json\" is not text"),
        (
            with("response_format", json!({"type": "json_object", "json_schema": 1})),
            "response_format.json_schema: must be an object",
        ),
        (with("thinking", json!({"type": "adaptive"})), "thinking.type: \"adaptive\" is not"),
        (with("k", json!(-1)), "k: must be a whole number"),
        (with("p", json!("x")), "p: must be a number"),
        (with("strict_tools", json!(1)), "strict_tools: must be true or false"),
    ];
    for (request, wanted) in rows {
        let error = cohere().parse_request(request.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{request}: {error}");
    }
}

#[test]
fn thinking_without_a_bound_is_kept_for_cohere_alone() {
    let asked = json!({"messages": [{"role": "user", "content": "x"}], "thinking": {"type": "enabled"}});
    let request = parse(cohere(), &asked);
    assert_eq!(
        (request.reasoning.as_ref(), &request.extras["thinking"]),
        (None, &json!({"type": "enabled"}))
    );
    assert_eq!(dropped(&openai().write_request(&request, &Style::default())), ["thinking"]);
    let off = json!({"messages": [{"role": "user", "content": "x"}], "thinking": {"type": "disabled"}});
    let request = parse(cohere(), &off);
    assert_eq!(request.reasoning, Some(ReasoningWish::Off));
    assert_eq!(body(&cohere().write_request(&request, &Style::default())), off_with_model(&off));
}

fn off_with_model(asked: &Value) -> Value {
    let mut asked = asked.clone();
    asked["model"] = json!("");
    asked
}

#[test]
fn an_answer_with_a_plan_thoughts_and_citations_is_read() {
    let answer = json!({
        "id": "c-1", "finish_reason": "TOOL_CALL",
        "message": {
            "role": "assistant", "tool_plan": "I will look.",
            "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Well."}],
            "tool_calls": [{"id": "f_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}],
            "citations": [{"start": 0, "end": 4, "text": "Well", "sources": []}],
        },
        "usage": {"tokens": {"input_tokens": 500.0, "output_tokens": 9}, "cached_tokens": 3},
    });
    let read = cohere().parse_response(answer.to_string().as_bytes()).unwrap();
    let call =
        ToolCall { id: "f_1".into(), name: "f".into(), arguments: "{\"a\":1}".into(), signature: None };
    let citation = json!({"type": "citation", "citation": answer["message"]["citations"][0]});
    assert_eq!(
        read.content,
        [
            Part::Reasoning { text: "Hm.".into(), signature: None },
            Part::text("Well."),
            Part::text("I will look."),
            Part::ToolCall(call),
            Part::Opaque(citation.clone()),
        ]
    );
    assert_eq!(Dropped::piece(&citation).field, "answer.citation");
    assert_eq!(read.usage, Some(Usage { input: 500, output: 9, cached_input: 3, ..Usage::default() }));
    let written = value(&cohere().write_response(&read));
    assert_eq!(written["message"]["tool_plan"], "Well.I will look.");
    assert_eq!(written["message"]["content"], json!([{"type": "thinking", "thinking": "Hm."}]));
    assert_eq!(written["message"]["tool_calls"], answer["message"]["tool_calls"]);
}

#[test]
fn answers_that_are_none_are_refused() {
    for broken in [
        json!({"id": "x", "finish_reason": "COMPLETE"}),
        json!({"finish_reason": "COMPLETE", "message": {"content": [{"text": "x"}]}}),
        json!({"finish_reason": "TOOL_CALL", "message": {"tool_calls": [{"id": "a", "function": {}}]}}),
        json!([]),
    ] {
        assert!(cohere().parse_response(broken.to_string().as_bytes()).is_err(), "{broken}");
    }
}

#[test]
fn giving_up_is_a_failure_whole_and_streamed() {
    for (finish, class) in [("ERROR", Class::Server), ("TIMEOUT", Class::Timeout)] {
        let whole =
            json!({"id": "x", "finish_reason": finish, "message": {"role": "assistant", "content": []}});
        assert_eq!(error_inside(&whole).unwrap().class, class);
        let delta = json!({"finish_reason": finish, "error": "out of luck"});
        let failure = error_inside(&json!({"type": "message-end", "delta": delta})).unwrap();
        assert_eq!((failure.class, failure.message.as_str()), (class, "out of luck"));
    }
    for other in ["COMPLETE", "MAX_TOKENS", "ERROR_TOXIC", "ERROR_LIMIT"] {
        assert_eq!(error_inside(&json!({"finish_reason": other, "message": {}})), None, "{other}");
    }
}

#[test]
fn a_text_stream_is_read() {
    let read = events(cohere(), [TEXT.as_bytes()]);
    let usage = Usage { input: 20, output: 7, cached_input: 4, ..Usage::default() };
    let (opaque, others): (Vec<_>, Vec<_>) =
        read.into_iter().partition(|event| matches!(event, StreamEvent::Opaque(_)));
    assert_eq!(
        others,
        [
            StreamEvent::Start {
                id: "c14c80c3-18eb-4519-9460-6c92edd8cfb4".into(),
                model: String::new(),
                created: 0
            },
            StreamEvent::Reasoning("Hm… 世".into()),
            StreamEvent::Text("Grüße".into()),
            StreamEvent::Text(", 世界 👋".into()),
            StreamEvent::Usage(usage),
            StreamEvent::Stop { reason: StopReason::Stop, sequence: None },
            StreamEvent::End,
        ]
    );
    let [StreamEvent::Opaque(piece)] = opaque.as_slice() else { panic!("{opaque:?}") };
    assert_eq!((&piece["type"], &piece["citation"]["text"]), (&json!("citation"), &json!("Grüße")));
}

#[test]
fn a_tool_stream_is_read_also_without_its_last_end() {
    let read = events(cohere(), [TOOLS.as_bytes()]);
    let tool = |index, id: &str, name: &str| StreamEvent::ToolStart {
        index,
        id: id.into(),
        name: name.into(),
        signature: None,
    };
    let args = |index, fragment: &str| StreamEvent::ToolArguments { index, fragment: fragment.into() };
    assert_eq!(
        read[1..read.len() - 3],
        [
            StreamEvent::Text("I will".into()),
            StreamEvent::Text(" look.".into()),
            tool(0, "weather_a", "weather"),
            args(0, "{\"city\":\"Zü"),
            args(0, "rich\"}"),
            StreamEvent::ToolEnd { index: 0 },
            tool(1, "clock_b", "clock"),
            StreamEvent::ToolEnd { index: 1 },
            tool(2, "add_c", "add"),
            args(2, "{\"a\""),
            args(2, ":1}"),
            StreamEvent::ToolEnd { index: 2 },
        ]
    );
}

#[test]
fn events_that_cannot_be_are_refused() {
    for broken in [
        "[DONE]",
        "{",
        r#"{"id":"x"}"#,
        r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"x"}}}}}"#,
        r#"{"type":"tool-call-start","delta":{"message":{"tool_calls":{"id":"a","function":{"name":"f"}}}}}"#,
        r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"a"}}}}"#,
        r#"{"type":"message-end","delta":{"usage":{}}}"#,
    ] {
        let mut parser = cohere().stream_parser();
        assert!(parser.read_data(broken, crate::bounded::event(broken).as_ref()).is_err(), "{broken}");
    }
    for ignored in [r#"{"type":"debug","prompt":"x"}"#, r#"{"type":"brand-new"}"#] {
        let mut parser = cohere().stream_parser();
        assert_eq!(parser.read_data(ignored, crate::bounded::event(ignored).as_ref()), Ok(Vec::new()));
    }
}

#[test]
fn interleaved_calls_come_one_after_the_other() {
    let interleaved = include_str!("../fixtures/openai_tools.sse");
    let out = written(cohere(), &events(openai(), [interleaved.as_bytes()]));
    let lines: Vec<_> = data(&out)
        .iter()
        .map(|event| {
            let calls = event.pointer("/delta/message/tool_calls");
            let what =
                |path| calls.and_then(|calls| calls.pointer(path)).and_then(Value::as_str).unwrap_or("");
            let kind = event["type"].as_str().unwrap();
            format!("{} {kind} {}{}", event["index"], what("/function/name"), what("/function/arguments"))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "null message-start ",
            "0 tool-call-start weather",
            "0 tool-call-delta {\"city\":\"Zü",
            "0 tool-call-delta rich\"",
            "0 tool-call-delta }",
            "0 tool-call-end ",
            "1 tool-call-start clock",
            "1 tool-call-delta {}",
            "1 tool-call-end ",
            "2 tool-call-start add",
            "2 tool-call-delta {\"a\":1}",
            "2 tool-call-end ",
            "null message-end ",
        ]
    );
}

#[test]
fn anthropic_becomes_these_events() {
    let stream = include_str!("../fixtures/anthropic_text.sse");
    let out = written(cohere(), &events(anthropic(), [stream.as_bytes()]));
    let all = data(&out);
    let kinds: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let prose = ["content-start", "content-delta", "content-end"];
    assert_eq!(kinds[..4], ["message-start", prose[0], prose[1], prose[2]]);
    assert_eq!(kinds[4..], [prose[0], prose[1], prose[1], prose[2], "message-end"]);
    assert_eq!(all[1]["delta"]["message"]["content"], json!({"type": "thinking", "thinking": ""}));
    assert_eq!(
        (&all[4]["index"], &all[4]["delta"]["message"]["content"]["type"]),
        (&json!(1), &json!("text"))
    );
    let end = all.last().unwrap();
    assert_eq!(
        end["delta"],
        json!({"finish_reason": "STOP_SEQUENCE", "usage": {
            "billed_units": {"input_tokens": 20, "output_tokens": 7},
            "tokens": {"input_tokens": 20, "output_tokens": 7}, "cached_tokens": 4}})
    );
    // The event field repeats what the data say.
    let names = std::str::from_utf8(&out).unwrap().lines().filter_map(|line| line.strip_prefix("event: "));
    assert_eq!(names.collect::<Vec<_>>(), kinds);
}

#[test]
fn an_error_is_cohere_s_own_kind_of_end() {
    for (class, finish) in [(Class::Overloaded, "ERROR"), (Class::Timeout, "TIMEOUT")] {
        let error = ApiError {
            details: Some(Box::new(json!({"class": class.as_str()}))),
            ..ApiError::new(class, "gone")
        };
        let out = written(cohere(), &[StreamEvent::Text("a".into()), StreamEvent::Error(error)]);
        let all = data(&out);
        let delta = &all.last().unwrap()["delta"];
        assert_eq!((&delta["finish_reason"], &delta["error"]), (&json!(finish), &json!("gone")));
        assert_eq!(delta["orch"]["class"], class.as_str());
        assert_eq!(error_inside(all.last().unwrap()).unwrap().class, class);
    }
}
