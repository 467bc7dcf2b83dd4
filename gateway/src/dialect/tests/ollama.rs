//! What is Ollama's own.

use serde_json::{Value, json};

use super::{anthropic, events, ollama, openai, written};
use crate::dialect::{Style, Wire, Written};
use crate::ir::{
    ApiError, ChatRequest, ChatResponse, Class, ImageSource, Message, Part, ReasoningWish, ResponseFormat,
    Role, StopReason, StreamEvent, ToolCall, Usage,
};

const TEXT: &str = include_str!("../fixtures/ollama_text.ndjson");
const TOOLS: &str = include_str!("../fixtures/ollama_tools.ndjson");

fn parse(wire: &dyn Wire, body: &Value) -> ChatRequest {
    wire.parse_request(body.to_string().as_bytes()).unwrap()
}

fn body(written: &Written) -> Value {
    serde_json::from_slice(&written.body).unwrap()
}

fn dropped(written: &Written) -> Vec<&str> {
    written.dropped.iter().map(|d| d.field.as_str()).collect()
}

fn lines(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn openai_request() -> Value {
    json!({
        "model": "m", "max_completion_tokens": 100, "temperature": 1.5, "top_p": 0.9, "seed": -7, "n": 2,
        "frequency_penalty": 0.5, "presence_penalty": 0.1, "stop": ["END"], "user": "u1",
        "reasoning_effort": "minimal", "logit_bias": {"1": 2}, "parallel_tool_calls": false,
        "tools": [
            {"type": "function", "function": {"name": "weather", "description": "Weather", "strict": true,
                "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": null}}}}},
            {"type": "function", "function": {"name": "clock"}},
            {"type": "web_search"},
        ],
        "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What"}, {"type": "text", "text": "is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            ]},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
                {"id": "b", "type": "function", "function": {"name": "clock", "arguments": ""}},
                {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{cut"}},
            ]},
            {"role": "tool", "tool_call_id": "c", "content": "night"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "noon"}]},
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
            {"role": "user", "content": "And?"},
        ],
    })
}

#[test]
fn openai_becomes_ollama_with_results_in_the_order_of_their_calls() {
    let request = parse(openai(), &openai_request());
    let written = ollama().write_request(&request, &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "model": "m", "stream": false, "think": "low", "format": {"type": "object"},
            "options": {"num_predict": 100, "temperature": 1.5, "top_p": 0.9, "seed": -7, "stop": ["END"],
                "frequency_penalty": 0.5, "presence_penalty": 0.1},
            "tools": [
                {"type": "function", "function": {"name": "weather", "description": "Weather",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": null}}}}},
                {"type": "function", "function": {"name": "clock",
                    "parameters": {"type": "object", "properties": {}}}},
            ],
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What\nis this?", "images": ["AAAA"]},
                {"role": "assistant", "content": "I look.", "tool_calls": [
                    {"function": {"name": "weather", "arguments": {"city": "Bern"}}},
                    {"function": {"name": "clock", "arguments": {}}},
                    {"function": {"name": "clock", "arguments": {}}},
                ]},
                {"role": "tool", "tool_name": "weather", "content": "rain"},
                {"role": "tool", "tool_name": "clock", "content": "noon"},
                {"role": "tool", "tool_name": "clock", "content": "night"},
                {"role": "user", "content": "And?"},
            ],
        })
    );
    assert_eq!(
        dropped(&written),
        [
            "messages[1].name",
            "messages[1].content[2].image_url.detail",
            "messages[1].content[3]",
            "messages[2].content[0]",
            "messages[2].content[4].arguments",
            "tools[0].function.strict",
            "tools[2]",
            "tool_choice",
            "parallel_tool_calls",
            "reasoning_effort",
            "n",
            "user",
            "logit_bias",
        ]
    );
}

#[test]
fn anthropic_becomes_ollama() {
    let asked = json!({
        "model": "m", "max_tokens": 9, "top_k": 5, "stream": true, "tool_choice": {"type": "none"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [
                    {"type": "text", "text": "one"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ]},
                {"type": "text", "text": "Go on."},
            ]},
        ],
    });
    let written = ollama().write_request(&parse(anthropic(), &asked), &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "model": "m", "stream": true, "think": true, "options": {"num_predict": 9, "top_k": 5},
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
                {"role": "tool", "tool_name": "f", "content": "one"},
                {"role": "user", "content": "", "images": ["AAAA"]},
                {"role": "user", "content": "Go on."},
            ],
        })
    );
    assert_eq!(
        dropped(&written),
        ["system.content[0].cache_control", "messages[2].content[0].is_error", "tools", "thinking"]
    );
}

fn own_request() -> Value {
    json!({
        "model": "llama3.2", "think": "high", "format": {"type": "object"}, "keep_alive": "5m",
        "options": {"num_predict": 50, "temperature": 0.3, "top_k": 5, "top_p": 0.8, "seed": 3, "stop": ["END"],
            "num_ctx": 8192, "repeat_penalty": 1.1},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look:", "images": ["iVBORw0KGgoAAAA", "/9j/4AAQ", "AAAA"]},
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [
                {"function": {"name": "f", "arguments": {"n": 1}}},
                {"function": {"name": "g", "arguments": {}}},
                {"function": {"name": "f", "arguments": {"n": 2}}},
            ]},
            {"role": "tool", "tool_name": "f", "content": "first"},
            {"role": "tool", "name": "f", "content": "second"},
            {"role": "tool", "content": "third"},
        ],
    })
}

#[test]
fn ollama_is_read_with_ids_for_its_calls() {
    let request = parse(ollama(), &own_request());
    assert!(request.stream && request.include_usage, "a stream is what is usual");
    assert_eq!(request.max_tokens, Some(50));
    assert_eq!(request.reasoning, Some(ReasoningWish::Effort("high".into())));
    assert!(matches!(&request.format, Some(ResponseFormat::JsonSchema { strict: Some(false), .. })));
    let kinds: Vec<_> = request.messages[1]
        .content
        .iter()
        .filter_map(|part| match part {
            Part::Image(image) => match &image.source {
                ImageSource::Base64 { media_type, .. } => Some(media_type.as_str()),
                ImageSource::Url(_) => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(kinds, ["image/png", "image/jpeg", "application/octet-stream"]);
    let written = openai().write_request(&request, &Style::default());
    let messages = &body(&written)["messages"];
    let ids: Vec<_> = messages[2]["tool_calls"].as_array().unwrap().iter().map(|call| &call["id"]).collect();
    assert_eq!(ids, ["call_2_0", "call_2_1", "call_2_2"]);
    // By name, and in the order of the calls of that name; without a name, the next one.
    let results: Vec<_> =
        (3..6).map(|i| (messages[i]["tool_call_id"].clone(), messages[i]["content"].clone())).collect();
    let wanted = [("call_2_0", "first"), ("call_2_2", "second"), ("call_2_1", "third")];
    assert_eq!(results, wanted.map(|(id, text)| (json!(id), json!(text))));
    assert_eq!(
        dropped(&written),
        ["messages[2].content[0]", "top_k", "options.num_ctx", "options.repeat_penalty", "keep_alive"]
    );
    assert_eq!(parse(ollama(), &own_request()), request, "the same request gets the same ids");
}

#[test]
fn ids_that_are_given_are_kept() {
    let asked = json!({"messages": [
        {"role": "assistant", "tool_calls": [
            {"id": "x", "function": {"name": "f", "arguments": {}}},
            {"id": "y", "function": {"name": "f", "arguments": {}}},
        ]},
        {"role": "tool", "tool_call_id": "y", "tool_name": "f", "content": "b"},
        {"role": "tool", "tool_name": "f", "content": "a"},
        {"role": "tool", "tool_call_id": "z", "content": "of nobody"},
    ]});
    let request = parse(ollama(), &asked);
    let calls: Vec<&str> = request.messages[1..]
        .iter()
        .filter_map(|message| match message.content.as_slice() {
            [Part::ToolResult(result)] => Some(result.call.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(calls, ["y", "x", "z"]);
    let Message { role: Role::Assistant, content, .. } = &request.messages[0] else { panic!("{request:?}") };
    assert_eq!(content.len(), 2);
}

#[test]
fn what_is_ollama_s_own_survives_a_round_trip() {
    let mut asked = own_request();
    asked["stream"] = json!(true);
    asked.as_object_mut().unwrap().remove("keep_alive");
    let options = asked["options"].as_object_mut().unwrap();
    options.remove("num_ctx");
    options.remove("repeat_penalty");
    asked["messages"][2].as_object_mut().unwrap().remove("thinking");
    asked["messages"][3]["tool_name"] = json!("f");
    asked["messages"][4] = json!({"role": "tool", "tool_name": "g", "content": "second"});
    asked["messages"][5] = json!({"role": "tool", "tool_name": "f", "content": "third"});
    let written = ollama().write_request(&parse(ollama(), &asked), &Style::default());
    assert_eq!((body(&written), dropped(&written)), (asked, Vec::new()));
}

#[test]
fn every_spelling_of_a_wish_is_understood() {
    let user = json!([{"role": "user", "content": "x"}]);
    let with = |key: &str, value: Value| parse(ollama(), &json!({"messages": user, key: value}));
    assert!(!with("stream", json!(false)).stream && with("stream", Value::Null).stream);
    assert_eq!(with("think", json!(false)).reasoning, Some(ReasoningWish::Off));
    let on = with("think", json!(true));
    assert_eq!((on.reasoning, &on.extras["think"]), (None, &json!(true)));
    assert_eq!(with("format", json!("json")).format, Some(ResponseFormat::JsonObject));
    assert_eq!(with("format", json!("")).format, None);
    let none = [json!(-1), json!(-2), json!(0), json!(0.0), Value::Null].map(|number| (number, None));
    for (number, bound) in none.into_iter().chain([(json!(7), Some(7))]) {
        let request = with("options", json!({"num_predict": number}));
        assert_eq!((request.max_tokens, request.extras.len()), (bound, 0), "{number}");
    }
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let user = json!([{"role": "user", "content": "x"}]);
    let with = |key: &str, value: Value| json!({"messages": user, key: value});
    let rows = [
        (json!({"model": "m"}), "messages: is missing"),
        (json!({"messages": []}), "messages: must not be empty"),
        (json!({"messages": [{"role": "robot"}]}), "messages[0].role: \"robot\" is not system"),
        (json!({"messages": [{"role": "user", "content": [1]}]}), "messages[0].content: must be a string"),
        (json!({"messages": [{"role": "user", "images": [1]}]}), "messages[0].images[0]: must be a string"),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role: is tool, and the message answers",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}),
            "messages[0].tool_calls[0].function.arguments: must be an object",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}),
            "messages[0].tool_calls[0].function.name: is missing",
        ),
        (with("tools", json!([{"type": "function"}])), "tools[0].function: is missing"),
        (with("format", json!("yaml")), "format: \"yaml\" is not json"),
        (with("format", json!(1)), "format: must be \"json\" or a schema"),
        (with("think", json!(1)), "think: must be true, false or a level"),
        (with("stream", json!("no")), "stream: must be true or false"),
        (with("options", json!({"num_predict": 1.5})), "options.num_predict: must be a whole number"),
        (with("options", json!({"stop": 1})), "options.stop: must be a string or an array"),
    ];
    for (request, wanted) in rows {
        let error = ollama().parse_request(request.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{request}: {error}");
    }
}

#[test]
fn a_text_stream_is_read() {
    let usage = Usage { input: 20, output: 7, ..Usage::default() };
    assert_eq!(
        events(ollama(), [TEXT.as_bytes()]),
        [
            StreamEvent::Start {
                id: "chat_20251017T231407414671Z".into(),
                model: "qwen3:4b".into(),
                created: 1_760_742_847,
            },
            StreamEvent::Reasoning("Hm… 世".into()),
            StreamEvent::Text("Grüße".into()),
            StreamEvent::Text(", 世界 👋".into()),
            StreamEvent::Usage(usage),
            StreamEvent::Stop { reason: StopReason::Stop, sequence: None },
            StreamEvent::End,
        ]
    );
}

#[test]
fn calls_are_whole_and_get_ids_of_their_answer() {
    let read = events(ollama(), [TOOLS.as_bytes()]);
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
            StreamEvent::Text("Looking.".into()),
            tool(0, "call_20250707T202219184789Z_0", "weather"),
            args(0, "{\"city\":\"Zürich\"}"),
            StreamEvent::ToolEnd { index: 0 },
            tool(1, "call_20250707T202219184789Z_1", "clock"),
            StreamEvent::ToolEnd { index: 1 },
            tool(2, "call_given", "add"),
            args(2, "{\"a\":1}"),
            StreamEvent::ToolEnd { index: 2 },
        ]
    );
    assert_eq!(read[read.len() - 2], StreamEvent::Stop { reason: StopReason::ToolUse, sequence: None });
}

#[test]
fn only_a_line_that_is_done_ends_a_stream() {
    let says = |line: &str| {
        let mut parser = ollama().stream_parser();
        parser.read_data(line, crate::bounded::event(line).as_ref())
    };
    let ends = |line: &str| says(line).unwrap().contains(&StreamEvent::End);
    assert!(!ends(r#"{"message":{"content":"a"},"done":false}"#));
    assert!(!ends(r#"{"message":{"content":"a"}}"#));
    assert!(!ends(r#"{"message":{"content":"a"},"done":false,"done_reason":"stop"}"#));
    assert!(ends(r#"{"message":{"content":"a"},"done":true}"#), "older versions say no reason");
    let failed = says(r#"{"error":"no","done":true}"#).unwrap();
    assert!(matches!(failed.as_slice(), [StreamEvent::Error(_)]), "{failed:?}");
    for broken in ["{", "[1]", "7", r#"{"message":{"tool_calls":[{"function":{}}]}}"#] {
        assert!(says(broken).is_err(), "{broken}");
    }
}

#[test]
fn interleaved_calls_become_whole_ones() {
    let interleaved = include_str!("../fixtures/openai_tools.sse");
    let all = lines(&written(ollama(), &events(openai(), [interleaved.as_bytes()])));
    let calls: Vec<_> =
        all.iter().filter_map(|line| line.pointer("/message/tool_calls/0")).cloned().collect();
    let call = |id: &str, index: u64, name: &str, arguments: Value| json!({"id": id, "function": {"index": index, "name": name, "arguments": arguments}});
    assert_eq!(
        calls,
        [
            call("call_a", 0, "weather", json!({"city": "Zürich"})),
            call("call_b", 1, "clock", json!({})),
            call("call_c", 2, "add", json!({"a": 1})),
        ]
    );
    let last = all.last().unwrap();
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));
    assert!(
        all[..all.len() - 1].iter().all(|line| line["done"] == false && line.get("done_reason").is_none())
    );
    assert_eq!(last["created_at"], "2023-11-14T22:13:20Z");
}

#[test]
fn a_whole_answer_is_written_and_read_back() {
    let call = ToolCall { id: "a".into(), name: "f".into(), arguments: "[1]".into(), signature: None };
    let answer = ChatResponse {
        id: "chat_20231114T221320Z".into(),
        model: "m".into(),
        created: 1_700_000_000,
        content: vec![
            Part::Reasoning { text: "Hm.".into(), signature: None },
            Part::text("Well."),
            Part::ToolCall(ToolCall { arguments: "{\"_invalid_json\":\"[1]\"}".into(), ..call.clone() }),
        ],
        stop: StopReason::ToolUse,
        stop_sequence: None,
        usage: Some(Usage { input: 3, output: 4, ..Usage::default() }),
    };
    let given = ChatResponse {
        content: [answer.content[..2].to_vec(), vec![Part::ToolCall(call)]].concat(),
        ..answer.clone()
    };
    let bytes = ollama().write_response(&given);
    assert_eq!(ollama().parse_response(&bytes), Ok(answer));
}

#[test]
fn an_error_is_a_line_that_says_nothing_else() {
    let error = ApiError {
        details: Some(Box::new(json!({"attempts": []}))),
        ..ApiError::new(Class::Overloaded, "busy")
    };
    let all = lines(&written(ollama(), &[StreamEvent::Text("a".into()), StreamEvent::Error(error)]));
    let wanted = json!({"error": "busy", "code": "server_is_overloaded", "orch": {"attempts": []}});
    assert_eq!(all.last(), Some(&wanted));
}
