//! Bedrock's requests, answers and streams, and what becomes of them in other dialects.

use serde_json::{Value, json};

use super::{anthropic, bedrock, events, gemini, openai, written};
use crate::classify::classify;
use crate::dialect::{Style, Written};
use crate::frames::{Framing, event_stream};
use crate::ir::{
    ApiError, ChatRequest, Class, Image, ImageSource, Part, ReasoningWish, ResponseFormat, StopReason,
    StreamEvent, Tool, ToolChoice, Usage,
};

pub(super) const TEXT: &[u8] = include_bytes!("../fixtures/bedrock_text.eventstream");
pub(super) const TOOLS: &[u8] = include_bytes!("../fixtures/bedrock_tools.eventstream");
pub(super) const ERROR: &[u8] = include_bytes!("../fixtures/bedrock_error.eventstream");

fn parse(body: &Value) -> ChatRequest {
    bedrock().parse_request(body.to_string().as_bytes()).unwrap()
}

fn body(written: &Written) -> Value {
    serde_json::from_slice(&written.body).unwrap()
}

fn dropped(written: &Written) -> Vec<&str> {
    written.dropped.iter().map(|d| d.field.as_str()).collect()
}

fn request() -> Value {
    json!({
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "messages": [
            {"role": "user", "content": [
                {"text": "What is this?"},
                {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                {"cachePoint": {"type": "default"}},
            ]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                {"text": "Let me see."},
                {"toolUse": {"toolUseId": "a", "name": "weather", "input": {"city": "Bern", "unit": null}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "a", "status": "error", "content": [{"json": {"code": 7}}, {"text": "no"}]}},
            ]},
        ],
        "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "weather", "description": "Weather", "strict": true,
                    "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string", "default": null}}}}}},
                {"cachePoint": {"type": "default"}},
            ],
            "toolChoice": {"tool": {"name": "weather"}},
        },
        "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema":
            {"name": "a", "schema": "{\"type\":\"object\"}"}}}},
        "additionalModelRequestFields": {"top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 1024}, "other": 1},
        "guardrailConfig": {"guardrailIdentifier": "g"},
    })
}

pub(super) fn whole() -> Value {
    json!({
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
            {"text": "Looking."},
            {"toolUse": {"toolUseId": "tooluse_a", "name": "weather", "input": {"city": "Bern"}}},
        ]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 10, "outputTokens": 7, "totalTokens": 25, "cacheReadInputTokens": 8, "cacheWriteInputTokens": 2},
        "metrics": {"latencyMs": 0},
    })
}

#[test]
fn a_request_is_read() {
    let read = parse(&request());
    let cached = json!({"type": "ephemeral"});
    let marked = |part: &Part| match part {
        Part::Text { extras, .. } => extras.get("cache_control") == Some(&cached),
        Part::Image(image) => image.extras.get("cache_control") == Some(&cached),
        _ => false,
    };
    assert!(
        matches!(&read.system[..], [part @ Part::Text { text, .. }] if text == "Be brief." && marked(part))
    );
    let [question, thought, result] = &read.messages[..] else { panic!("{:?}", read.messages) };
    assert_eq!(question.content.iter().map(marked).collect::<Vec<_>>(), [false, true]);
    let source = ImageSource::Base64 { media_type: "image/png".into(), data: "AAAA".into() };
    assert!(matches!(&question.content[1], Part::Image(Image { source: read, .. }) if *read == source));
    assert_eq!(thought.content[0], Part::Reasoning { text: "Hm.".into(), signature: Some("c2ln".into()) });
    let Part::ToolCall(call) = &thought.content[2] else { panic!("{:?}", thought.content) };
    assert_eq!((call.id.as_str(), call.arguments.as_str()), ("a", r#"{"city":"Bern","unit":null}"#));
    let Part::ToolResult(answer) = &result.content[0] else { panic!("{:?}", result.content) };
    assert_eq!((answer.is_error, &answer.content[0]), (true, &Part::text(r#"{"code":7}"#)));
    assert_eq!((read.max_tokens, read.stop.as_slice()), (Some(100), &["END".to_owned()][..]));
    assert_eq!((read.sampling.temperature, read.sampling.top_k), (Some(0.5), Some(5)));
    assert_eq!(read.reasoning, Some(ReasoningWish::Budget(1024)));
    assert_eq!(read.tool_choice, Some(ToolChoice::Named("weather".into())));
    let [Tool::Function { parameters, strict, extras, .. }] = &read.tools[..] else {
        panic!("{:?}", read.tools)
    };
    assert_eq!((*strict, extras.get("cache_control")), (Some(true), Some(&cached)));
    assert!(parameters.as_ref().unwrap().pointer("/properties/city/default").is_some_and(Value::is_null));
    assert!(matches!(&read.format, Some(ResponseFormat::JsonSchema { name, schema, .. })
        if name == "a" && *schema == json!({"type": "object"})));
    assert_eq!(read.extras["additionalModelRequestFields"], json!({"other": 1}));
    assert_eq!(read.extras["guardrailConfig"], json!({"guardrailIdentifier": "g"}));
}

#[test]
fn bedrock_becomes_openai_and_anthropic() {
    let read = ChatRequest { model: "m".into(), ..parse(&request()) };
    let written = openai().write_request(&read, &Style::default());
    let sent = body(&written);
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": "Be brief."}));
    assert_eq!(sent["messages"][1]["content"][1]["image_url"]["url"], "data:image/png;base64,AAAA");
    assert_eq!(sent["messages"][2]["tool_calls"][0]["function"]["name"], "weather");
    assert_eq!(sent["messages"][3]["tool_call_id"], "a");
    assert_eq!(sent["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
    let left = dropped(&written);
    for field in ["guardrailConfig", "additionalModelRequestFields", "messages[1].content[0]"] {
        assert!(left.contains(&field), "{field}: {left:?}");
    }
    let written = anthropic().write_request(&read, &Style::default());
    let sent = body(&written);
    // The model's own calls are answered, and come without its thoughts.
    assert!(sent.get("thinking").is_none() && dropped(&written).contains(&"thinking"));
    assert_eq!(sent["messages"][2]["content"][0]["is_error"], true);
}

#[test]
fn openai_becomes_bedrock() {
    let asked = json!({
        "model": "m", "max_completion_tokens": 100, "temperature": 1.5, "top_p": 0.9, "seed": 7, "n": 2,
        "stop": "END", "stream": true, "user": "u1", "reasoning_effort": "low", "parallel_tool_calls": false,
        "tools": [
            {"type": "function", "function": {"name": "weather", "description": "", "strict": true,
                "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "clock"}},
        ],
        "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
                {"id": "b", "type": "function", "function": {"name": "clock", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
            {"role": "tool", "tool_call_id": "b", "content": ""},
            {"role": "user", "content": "And?"},
            {"role": "user", "content": "  "},
        ],
    });
    let read = openai().parse_request(asked.to_string().as_bytes()).unwrap();
    let read = ChatRequest { model: "amazon.nova-lite-v1:0".into(), ..read };
    let written = bedrock().write_request(&read, &Style::default());
    assert_eq!(
        body(&written),
        json!({
            "system": [{"text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [
                    {"text": "What is this?"},
                    {"cachePoint": {"type": "default"}},
                    {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
                ]},
                {"role": "assistant", "content": [
                    {"toolUse": {"toolUseId": "a", "name": "weather", "input": {"city": "Bern"}}},
                    {"toolUse": {"toolUseId": "b", "name": "clock", "input": {}}},
                ]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "a", "content": [{"text": "rain"}]}},
                    {"toolResult": {"toolUseId": "b", "content": [{"json": {}}]}},
                    {"text": "And?"},
                ]},
            ],
            "inferenceConfig": {"maxTokens": 100, "temperature": 1.0, "topP": 0.9, "stopSequences": ["END"]},
            "toolConfig": {
                "tools": [
                    {"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
                    {"toolSpec": {"name": "clock", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
                ],
                "toolChoice": {"any": {}},
            },
            "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema":
                {"name": "a", "schema": "{\"type\":\"object\"}"}}}},
        })
    );
    let left = dropped(&written);
    for field in [
        "messages[1].content[2]",
        "messages[1].content[3]",
        "temperature",
        "seed",
        "tools[0].function.strict",
        "parallel_tool_calls",
        "reasoning_effort",
        "n",
        "user",
    ] {
        assert!(left.contains(&field), "{field}: {left:?}");
    }
    let plain = bedrock().write_request(&read, &Style { no_json_schema: true, ..Style::default() });
    assert!(body(&plain).get("outputConfig").is_none() && dropped(&plain).contains(&"response_format"));
}

#[test]
fn thoughts_and_tools_are_asked_for_as_the_model_wants_it() {
    let wish = |model: &str, reasoning: ReasoningWish| {
        let read = parse(&json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]}));
        let request = ChatRequest { model: model.into(), reasoning: Some(reasoning), ..read };
        let written = bedrock().write_request(&request, &Style::default());
        (body(&written).get("additionalModelRequestFields").cloned(), written.dropped.len())
    };
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 2048}});
    let claude = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    assert_eq!(wish(claude, ReasoningWish::Budget(2048)), (Some(thinking), 0));
    assert_eq!(
        wish("openai.gpt-oss-120b-1:0", ReasoningWish::Effort("low".into())),
        (Some(json!({"reasoning_effort": "low"})), 0)
    );
    let little = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
    assert_eq!(wish(claude, ReasoningWish::Effort("low".into())), (Some(little), 0));
    let told = json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}});
    assert_eq!(wish("us.anthropic.claude-opus-4-7", ReasoningWish::Effort("medium".into())), (Some(told), 0));
    assert_eq!(wish("amazon.nova-lite-v1:0", ReasoningWish::Effort("low".into())), (None, 1));
    assert_eq!(wish("amazon.nova-lite-v1:0", ReasoningWish::Budget(1)), (None, 1));
    assert_eq!(wish(claude, ReasoningWish::Off), (None, 0));

    // Calls of earlier turns want their tools declared; a client that forbids tools gets none where none were called.
    let turns = json!([
        {"role": "user", "content": [{"text": "x"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "f", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "a", "content": [{"text": "y"}]}}]},
    ]);
    let sent = body(&bedrock().write_request(&parse(&json!({ "messages": turns })), &Style::default()));
    assert_eq!(
        sent["toolConfig"],
        json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]})
    );
    let tools = json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]});
    let forbidding = |messages: Value| {
        let read = parse(&json!({"messages": messages, "toolConfig": tools}));
        let written = bedrock()
            .write_request(&ChatRequest { tool_choice: Some(ToolChoice::None), ..read }, &Style::default());
        (body(&written).get("toolConfig").is_some(), written.dropped.len())
    };
    assert_eq!(forbidding(json!([{"role": "user", "content": [{"text": "x"}]}])), (false, 0));
    assert_eq!(forbidding(turns), (true, 1));
}

#[test]
fn a_whole_answer_crosses() {
    let read = bedrock().parse_response(whole().to_string().as_bytes()).unwrap();
    let usage = Usage { input: 20, output: 7, cached_input: 8, cache_write: 2, ..Usage::default() };
    assert_eq!((read.stop, read.usage), (StopReason::ToolUse, Some(usage)));
    let again: Value = serde_json::from_slice(&bedrock().write_response(&read)).unwrap();
    let mut wanted = whole();
    wanted["usage"]["totalTokens"] = json!(27);
    assert_eq!(again, wanted);
    let openai: Value = serde_json::from_slice(&openai().write_response(&read)).unwrap();
    assert_eq!(openai.pointer("/choices/0/message/tool_calls/0/id"), Some(&json!("tooluse_a")));
    assert_eq!(openai.pointer("/usage/prompt_tokens"), Some(&json!(20)));

    let cited = json!({"output": {"message": {"content": [
        {"citationsContent": {"content": [{"text": "It rains."}], "citations": [{"title": "a"}]}},
        {"reasoningContent": {"redactedContent": "AAAA"}},
    ]}}, "stopReason": "end_turn"});
    let read = bedrock().parse_response(cited.to_string().as_bytes()).unwrap();
    assert_eq!(read.content[0], Part::text("It rains."));
    let kinds: Vec<_> = read.content[1..]
        .iter()
        .map(|part| match part {
            Part::Opaque(piece) => piece["type"].as_str().unwrap_or_default(),
            _ => "",
        })
        .collect();
    assert_eq!(kinds, ["citationsContent", "reasoningContent"], "what is lost is named by its kind");
}

#[test]
fn a_stream_is_read() {
    let text = |text: &str| StreamEvent::Text(text.into());
    let thought = |text: &str| StreamEvent::Reasoning(text.into());
    let usage = Usage { input: 21, output: 12, cached_input: 8, cache_write: 3, ..Usage::default() };
    assert_eq!(
        events(bedrock(), [TEXT]),
        [
            StreamEvent::Start { id: String::new(), model: String::new(), created: 0 },
            thought("A short "),
            thought("story."),
            StreamEvent::ReasoningSignature("c2lnbmVk".into()),
            text("Grüße "),
            text("aus 東京."),
            StreamEvent::Stop { reason: StopReason::Stop, sequence: Some("END".into()) },
            StreamEvent::Usage(usage),
            StreamEvent::End,
        ]
    );
    let tool = |index, id: &str, name: &str| StreamEvent::ToolStart {
        index,
        id: id.into(),
        name: name.into(),
        signature: None,
    };
    let args = |index, fragment: &str| StreamEvent::ToolArguments { index, fragment: fragment.into() };
    assert_eq!(
        events(bedrock(), [TOOLS])[1..12],
        [
            text("Looking."),
            tool(0, "tooluse_a", "weather"),
            args(0, "{\"city\":\"Zü"),
            args(0, "rich\"}"),
            StreamEvent::ToolEnd { index: 0 },
            tool(1, "tooluse_b", "clock"),
            StreamEvent::ToolEnd { index: 1 },
            tool(2, "tooluse_c", "add"),
            args(2, "{\"a\":1}"),
            StreamEvent::ToolEnd { index: 2 },
            StreamEvent::Stop { reason: StopReason::ToolUse, sequence: None },
        ]
    );
}

#[test]
fn a_stream_is_written_as_the_fixtures_have_it_but_for_the_padding() {
    let frames = |bytes: &[u8]| {
        let mut splitter = Framing::EventStream.splitter(1 << 20);
        splitter.push(bytes);
        let mut all = Vec::new();
        while let Some(frame) = splitter.next_frame().unwrap() {
            let mut tree: Value = serde_json::from_str(&frame.data.unwrap()).unwrap();
            let payload = tree[&frame.name].as_object_mut().unwrap();
            payload.remove("p");
            payload.remove("metrics");
            if let Some(usage) = payload.get_mut("usage").and_then(Value::as_object_mut) {
                usage.remove("serverToolUsage");
            }
            // An empty delta is none.
            let empty = ["/delta/text", "/delta/toolUse/input"]
                .into_iter()
                .any(|at| tree[&frame.name].pointer(at) == Some(&json!("")));
            if !empty {
                all.push(tree);
            }
        }
        all
    };
    for fixture in [TEXT, TOOLS] {
        let out = written(bedrock(), &events(bedrock(), [fixture]));
        assert_eq!(frames(&out), frames(fixture));
    }
}

#[test]
fn exceptions_inside_a_stream_are_errors_of_their_class() {
    for (kind, message, class) in [
        ("throttlingException", "Too many requests", Class::RateLimited),
        ("serviceUnavailableException", "busy", Class::Overloaded),
        ("internalServerException", "broke", Class::Server),
        ("modelStreamErrorException", "broke", Class::Server),
        ("validationException", "The request is not valid.", Class::BadRequest),
        ("validationException", "Input is too long for requested model.", Class::ContextTooLong),
        ("somethingNewException", "?", Class::Server),
    ] {
        let frame = event_stream::exception(kind, &json!({"message": message}).to_string());
        let read = events(bedrock(), [&frame.raw[..]]);
        let [StreamEvent::Error(error)] = &read[..] else { panic!("{kind}: {read:?}") };
        assert_eq!(
            (error.class, error.message.as_str(), error.code.as_deref()),
            (class, message, Some(kind))
        );
    }
    let read = events(bedrock(), [ERROR, TEXT]);
    assert!(
        matches!(read.last(), Some(StreamEvent::Error(error)) if error.class == Class::Overloaded),
        "nothing follows"
    );
    // And back: what the gateway says at the end of a stream is read as what it was.
    for class in [Class::RateLimited, Class::Overloaded, Class::Server, Class::BadRequest] {
        let out = written(bedrock(), &[StreamEvent::Error(ApiError::new(class, "no"))]);
        let read = events(bedrock(), [&out[..]]);
        assert!(
            matches!(&read[..], [StreamEvent::Error(error)] if error.class == class),
            "{class:?}: {read:?}"
        );
    }
}

#[test]
fn metadata_are_the_end_and_only_after_a_reason() {
    let stop = event_stream::event("messageStop", r#"{"stopReason":"end_turn"}"#);
    let data = event_stream::event("metadata", r#"{"usage":{"inputTokens":1,"outputTokens":2}}"#);
    assert!(!events(bedrock(), [&stop.raw[..]]).contains(&StreamEvent::End));
    assert!(events(bedrock(), [&stop.raw[..], &data.raw[..]]).contains(&StreamEvent::End));
    let mut parser = bedrock().stream_parser();
    assert!(parser.read(&data).is_err());
    for (name, payload) in [
        ("contentBlockDelta", r#"{"delta":{"text":"x"}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"toolUse":{"input":"x"}}}"#),
        ("contentBlockStart", r#"{"contentBlockIndex":0,"start":{"toolUse":{"name":"x"}}}"#),
        ("messageStop", "{}"),
        ("messageStop", "{"),
    ] {
        let mut parser = bedrock().stream_parser();
        assert!(parser.read(&event_stream::event(name, payload)).is_err(), "{name} {payload}");
    }
}

#[test]
fn errors_are_written_and_classified() {
    let error =
        ApiError { details: Some(Box::new(json!({"a": 1}))), ..ApiError::new(Class::RateLimited, "slow") };
    let (status, body) = bedrock().write_error(&error);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status.as_u16(), &body["__type"], &body["message"]),
        (429, &json!("ThrottlingException"), &json!("slow"))
    );
    for (status, kind, message, class) in [
        (
            403,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            Class::BadKey,
        ),
        (
            403,
            "ExpiredTokenException",
            "The security token included in the request is expired",
            Class::BadKey,
        ),
        (
            403,
            "InvalidSignatureException",
            "The request signature we calculated does not match",
            Class::BadKey,
        ),
        (
            403,
            "AccessDeniedException",
            "Authentication failed: Please make sure your API Key is valid.",
            Class::BadKey,
        ),
        (
            403,
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
            Class::NoAccess,
        ),
        (400, "ValidationException", "The provided model identifier is invalid.", Class::NoModel),
        (
            400,
            "ValidationException",
            "Invocation of model ID x with on-demand throughput isn’t supported.",
            Class::NoModel,
        ),
        (
            404,
            "ResourceNotFoundException",
            "This model version has reached the end of its life.",
            Class::NoModel,
        ),
        (400, "ValidationException", "Input is too long for requested model.", Class::ContextTooLong),
        (400, "ValidationException", "Malformed input request", Class::BadRequest),
        (
            429,
            "ThrottlingException",
            "Too many requests, please wait before trying again.",
            Class::RateLimited,
        ),
        (
            429,
            "ThrottlingException",
            "Too many tokens per day, please wait before trying again.",
            Class::OutOfMoney,
        ),
        (429, "ModelNotReadyException", "not ready", Class::Overloaded),
        (408, "ModelTimeoutException", "took too long", Class::Timeout),
        (424, "ModelErrorException", "broke", Class::Server),
        (503, "ServiceUnavailableException", "busy", Class::Overloaded),
        (500, "InternalServerException", "broke", Class::Server),
    ] {
        let status = http::StatusCode::from_u16(status).unwrap();
        let mut headers = http::HeaderMap::new();
        let documented = format!("{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/");
        headers.insert("x-amzn-errortype", documented.parse().unwrap());
        let body = json!({"message": message}).to_string();
        let failure = classify(status, &headers, body.as_bytes(), std::time::UNIX_EPOCH);
        assert_eq!((failure.class, failure.message.as_str()), (class, message), "{kind}");
        assert_eq!(failure.code.as_deref(), Some(kind));
        let named =
            json!({"__type": format!("com.amazon.coral.service#{kind}"), "Message": message}).to_string();
        let failure = classify(status, &http::HeaderMap::new(), named.as_bytes(), std::time::UNIX_EPOCH);
        assert_eq!(failure.message, message);
    }
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let saying = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let with = |key: &str, value: Value| json!({"messages": [{"role": "user", "content": [{"text": "x"}]}], key: value});
    for (body, wanted) in [
        (json!({}), "messages: is missing or empty"),
        (json!({"messages": [{"role": "system", "content": []}]}), "messages[0].role: \"system\" is not"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content: is missing"),
        (saying(json!({"text": 5})), "messages[0].content[0].text: must be a string"),
        (saying(json!({"toolUse": {"name": "f"}})), "messages[0].content[0].toolUse.toolUseId: is missing"),
        (saying(json!({"toolResult": {}})), "messages[0].content[0].toolResult.toolUseId: is missing"),
        (saying(json!({"image": {"format": "png"}})), "messages[0].content[0].image.source: is missing"),
        (with("inferenceConfig", json!({"maxTokens": 0})), "inferenceConfig.maxTokens: must be at least 1"),
        (with("inferenceConfig", json!({"topP": "x"})), "inferenceConfig.topP: must be a number"),
        (
            with("toolConfig", json!({"tools": [{"toolSpec": {}}]})),
            "toolConfig.tools[0].toolSpec.name: is missing",
        ),
        (with("toolConfig", json!({"toolChoice": {"none": {}}})), "toolConfig.toolChoice: holds none of"),
        (
            with(
                "outputConfig",
                json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{"}}}}),
            ),
            "outputConfig.textFormat.structure.jsonSchema.schema: is not the text",
        ),
    ] {
        let error = bedrock().parse_request(body.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{body}: {error}");
    }
    // Gemini's clients reach it as well.
    let asked = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let read = gemini().parse_request(asked.to_string().as_bytes()).unwrap();
    let sent = body(&bedrock().write_request(&read, &Style::default()));
    assert_eq!(sent, json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}));
}
