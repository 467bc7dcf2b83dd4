//! The simulation and the gateway's own dialects were written apart. Here they meet: what one writes the other has to
//! understand.

use std::time::{Duration, UNIX_EPOCH};

use orch_manifests::Dialect;
use serde_json::json;

use super::*;
use crate::classify::classify;
use crate::dialect::{Style, wire};
use crate::ir::{ChatResponse, Class, Part, StopReason, StreamEvent, Usage};

const HOSTS: [(&str, Dialect); 7] = [
    (RESPONSES, Dialect::OpenAiResponses),
    (OPENAI, Dialect::OpenAiChat),
    (GOOGLE, Dialect::GeminiGenerateContent),
    (ANTHROPIC, Dialect::AnthropicMessages),
    (BEDROCK, Dialect::BedrockConverse),
    (COHERE, Dialect::CohereChat),
    (LLAMA, Dialect::OllamaChat),
];

/// Reads a stream as the gateway does; one byte at a time, since TCP promises nothing about pieces.
fn read(dialect: Dialect, got: &Got) -> Vec<StreamEvent> {
    let wire = wire(dialect);
    let (mut parser, mut stream) = (wire.framing().splitter(1 << 20), wire.stream_parser());
    let mut events = Vec::new();
    for byte in &got.body {
        parser.push(std::slice::from_ref(byte));
        while let Some(event) = parser.next_frame().unwrap() {
            events.extend(stream.read(&event).unwrap());
        }
    }
    // A body that breaks off has no end that could mean something.
    if got.complete && !parser.has_rest() {
        events.extend(stream.end());
    }
    events
}

fn text(response: &ChatResponse) -> String {
    response
        .content
        .iter()
        .filter_map(|part| if let Part::Text { text, .. } = part { Some(text.as_str()) } else { None })
        .collect()
}

/// Why a complete stream stopped, and its last count; nothing for one without its terminator.
fn ending(events: &[StreamEvent]) -> (Option<StopReason>, Option<Usage>) {
    if events.last() != Some(&StreamEvent::End) {
        return (None, None);
    }
    let last = |pick: fn(&StreamEvent) -> bool| events.iter().rev().find(|event| pick(event));
    let stop = last(|event| matches!(event, StreamEvent::Stop { .. }));
    let usage = last(|event| matches!(event, StreamEvent::Usage(_)));
    (
        stop.and_then(
            |event| if let StreamEvent::Stop { reason, .. } = event { Some(*reason) } else { None },
        ),
        usage.and_then(|event| if let StreamEvent::Usage(usage) = event { Some(*usage) } else { None }),
    )
}

#[tokio::test]
async fn plain_and_streamed_answers_are_understood_alike() {
    let simulation = named("ok").await;
    for (host, dialect) in HOSTS {
        let got = post(&simulation, host, &hello(host)).await;
        let plain = wire(dialect).parse_response(&got.body).unwrap();
        assert_eq!(
            (text(&plain).as_str(), plain.stop),
            ("Boats carry fish to town. Rain falls on boats.", StopReason::Stop)
        );
        let usage = plain.usage.unwrap();
        assert!(usage.input > 20 && usage.output > 8, "{usage:?}");

        let mut body = set(hello(host), "stream", json!(true));
        if dialect == Dialect::OpenAiChat {
            body["stream_options"] = json!({"include_usage": true});
        }
        let events = read(dialect, &post(&simulation, host, &body).await);
        let streamed: String = events
            .iter()
            .filter_map(|event| if let StreamEvent::Text(text) = event { Some(text.as_str()) } else { None })
            .collect();
        assert_eq!(streamed, text(&plain));
        assert_eq!(ending(&events), (Some(StopReason::Stop), Some(usage)), "{host}");
    }
}

#[tokio::test]
async fn each_simulated_failure_has_the_class_that_it_is_named_after() {
    let rows = [
        ("rate-limit", Class::RateLimited),
        ("server-error", Class::Server),
        ("overloaded", Class::Overloaded),
        ("out-of-money", Class::OutOfMoney),
        ("bad-key", Class::BadKey),
        ("no-access", Class::NoAccess),
        ("no-model", Class::NoModel),
        ("context-too-long", Class::ContextTooLong),
        ("bad-request", Class::BadRequest),
    ];
    for (answer, class) in rows {
        let simulation =
            start(Scenario::parse(&format!("rules: [{{ answer: {answer} }}]"), "s").unwrap()).await;
        for (host, _) in HOSTS {
            let got = post(&simulation, host, &hello(host)).await;
            let failure = classify(got.status, &got.headers, &got.body, UNIX_EPOCH);
            // Anthropic says the same for both: 529 `overloaded_error`.
            let class = if host == ANTHROPIC && class == Class::Server { Class::Overloaded } else { class };
            assert_eq!(failure.class, class, "{answer} at {host}: {}", got.text());
            if answer == "rate-limit" {
                assert_eq!(failure.retry_after, Some(Duration::from_secs(30)), "{host}");
            }
        }
    }
}

#[tokio::test]
async fn what_the_gateway_writes_is_accepted() {
    let simulation = named("ok").await;
    let asked = json!({
        "model": "model-a",
        "max_tokens": 300,
        "temperature": 0.5,
        "stop": ["NEVER"],
        "tools": [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Call find for Oslo."},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "find", "arguments": "{\"q\":\"oslo\"}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Oslo lies on a fjord."},
            {"role": "user", "content": "Now find Bergen."}
        ]
    });
    let request = wire(Dialect::OpenAiChat).parse_request(asked.to_string().as_bytes()).unwrap();
    for (host, dialect) in HOSTS {
        let written = wire(dialect).write_request(&request, &Style::default());
        let body: Value = serde_json::from_slice(&written.body).unwrap();
        let got = post(&simulation, host, &body).await;
        assert_eq!(got.status, StatusCode::OK, "{host}: {body}\n{}", got.text());
        let response = wire(dialect).parse_response(&got.body).unwrap();
        assert_eq!(response.stop, StopReason::ToolUse, "{host}");
        let Some(Part::ToolCall(call)) = response.content.last() else { panic!("{response:?}") };
        assert_eq!(call.name, "find");
        assert!(call.arguments.contains("bergen"), "{}", call.arguments);

        let streaming = crate::ir::ChatRequest { stream: true, include_usage: true, ..request.clone() };
        let written = wire(dialect).write_request(&streaming, &Style::default());
        let mut body: Value = serde_json::from_slice(&written.body).unwrap();
        body["stream"] = true.into();
        let got = post(&simulation, host, &body).await;
        let events = read(dialect, &got);
        assert!(
            events.iter().any(|event| matches!(event, StreamEvent::ToolStart { name, .. } if name == "find"))
        );
        assert_eq!(ending(&events).0, Some(StopReason::ToolUse), "{host}");
    }
}

#[tokio::test]
async fn a_cut_stream_never_ends_for_the_gateway_and_an_error_inside_one_is_an_error() {
    for (host, dialect) in HOSTS {
        let body = set(hello(host), "stream", json!(true));
        let cut = read(dialect, &post(&named("cut").await, host, &body).await);
        assert!(cut.iter().any(|event| matches!(event, StreamEvent::Text(_))));
        assert!(!cut.iter().any(|event| matches!(event, StreamEvent::End)), "{cut:?}");
        let simulation = start(Scenario::parse("rules: [{ answer: stream-error }]", "s").unwrap()).await;
        let failed = read(dialect, &post(&simulation, host, &body).await);
        assert!(matches!(failed.last(), Some(StreamEvent::Error(_))), "{host}: {:?}", failed.last());
    }
}
