//! Whole bodies: answers, errors, and what clients send.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use orch_manifests::Dialect;
use serde_json::{Value, json};

use crate::bounded;
use crate::classify::{RETRY_AFTER_CAP, classify, error_inside};
use crate::dialect::{Style, wire};
use crate::ir::{ChatResponse, Part, StopReason, ToolCall, Usage};

/// JSON against a bound. A request's tree is what any parser reads, no value of it is left uncounted, and what is refused
/// is refused for a reason.
pub fn json(data: &[u8]) {
    let plain = serde_json::from_slice::<Value>(data);
    match (bounded::request(data), &plain) {
        (Ok(read), Ok(plain)) => {
            assert_eq!(read, *plain);
            assert_eq!(bounded::count(data), values(plain), "as many values as there are");
        }
        (Ok(read), Err(error)) => panic!("{read} was read of what is no JSON: {error}"),
        (Err(error), Ok(_)) => {
            let error = error.to_string();
            assert!(error.contains("there twice") || error.contains("more than"), "{error}");
        }
        (Err(_), Err(_)) => {}
    }
    let _ = bounded::answer(data);
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(bounded::event(text).ok(), bounded::answer(data).ok());
    }
}

fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(fields) => fields.values().map(values).sum(),
        _ => 0,
    }
}

pub(super) fn json_seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 5] = [
        br#"{"a":[1,-2.5e3,"\ud83d\ude00",null,true,{"b":{}}],"c":""}"#,
        br#"{"choices":[{"logprobs":{"content":[1,2]},"delta":{"content":"a"}}]}"#,
        br#"{"object":"response","tools":[{}],"output":[{"type":"output_text","logprobs":[]}]}"#,
        br#"{"a":1,"a":2}"#,
        b" [ [ ] , { } ] ",
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

/// An error in any envelope, with any status: it has a class and words, waits no longer than is believed, and is an error in
/// every dialect that it is written in.
pub fn errors(data: &[u8]) {
    let (status, body) = match data {
        [high, low, body @ ..] => (u16::from_be_bytes([*high, *low]), body),
        _ => return,
    };
    let status = StatusCode::from_u16(400 + status % 200).expect("between 400 and 599");
    let mut failures = vec![classify(status, &HeaderMap::new(), body, SystemTime::UNIX_EPOCH)];
    if let Ok(document) = bounded::answer(body) {
        failures.extend(error_inside(&document));
    }
    for failure in failures {
        assert!(!failure.message.is_empty(), "it has words");
        assert!(failure.retry_after.is_none_or(|wait| wait <= RETRY_AFTER_CAP), "{failure:?}");
        let error = failure.into_error();
        for client in Dialect::ALL {
            let (status, body) = wire(client).write_error(&error);
            assert!(status.is_client_error() || status.is_server_error(), "{client}: {status}");
            let document: Value = serde_json::from_slice(&body).expect("an error is JSON");
            // Bedrock's say what they are in a header.
            let said = classify(status, &HeaderMap::new(), &body, SystemTime::UNIX_EPOCH);
            // Clients of Anthropic's look for certain words before them.
            assert!(said.message.ends_with(&error.message), "{client}: {document}");
        }
    }
}

pub(super) fn error_seeds() -> Vec<Vec<u8>> {
    let bodies = [
        r#"{"error":{"message":"m","type":"insufficient_quota","param":"p","code":"c"}}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"m"},"request_id":"r"}"#,
        r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"PerDay"}],"retryDelay":"46s","reason":"API_KEY_INVALID"}]}}]"#,
        r#"{"message":"m","__type":"a#ThrottlingException"}"#,
        r#"{"detail":[{"msg":"m"}]}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"ERROR","error":"m","code":"c"}}"#,
        r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
        r#"{"response":{"error":{"code":"server_error","message":"Please try again in 1m2.5s."}}}"#,
        "<html>",
    ];
    bodies.iter().map(|body| [b"\0\x1d", body.as_bytes()].concat()).collect()
}

/// The headers by which providers say how long to wait.
const WAITS: [&str; 10] = [
    "retry-after",
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "x-ratelimit-reset",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
    "x-amzn-errortype",
];

/// A wait, as each header and as words: never longer than is believed. A line for each header; nothing in a line leaves it
/// out.
pub fn retry_after(data: &[u8]) {
    let waits_at_most = |headers: &HeaderMap, body: &[u8]| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let failure = classify(StatusCode::TOO_MANY_REQUESTS, headers, body, now);
        assert!(failure.retry_after.is_none_or(|wait| wait <= RETRY_AFTER_CAP), "{failure:?}");
    };
    let mut all = HeaderMap::new();
    for (name, line) in WAITS.into_iter().zip(data.split(|byte| *byte == b'\n')) {
        let name = HeaderName::from_static(name);
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        waits_at_most(&HeaderMap::from_iter([(name.clone(), value.clone())]), b"");
        if !line.is_empty() {
            all.insert(name, value);
        }
    }
    waits_at_most(&all, b"");
    let words = String::from_utf8_lossy(data);
    for phrase in ["", "try again in ", "reset after ", "retry after "] {
        let body =
            json!({"error": {"message": format!("{phrase}{words}"), "details": [{"retryDelay": words}]}});
        waits_at_most(&HeaderMap::new(), body.to_string().as_bytes());
    }
}

pub(super) fn retry_after_seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 4] = [
        b"20\n1500\n2.5\n1700000009\n0\n1m2.5s\n6m0s\n0\n2023-11-14T22:13:40Z\nThrottlingException:http://x/",
        b"Wed, 21 Oct 2026 07:28:00 GMT",
        b"\n\n\n1700000009000",
        b"10h17m5.7s",
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

/// A whole answer in each dialect. What is written of it for a client of each can be read there, and says the same.
pub fn answers(data: &[u8]) {
    let Ok(document) = bounded::answer(data) else { return };
    let _ = error_inside(&document);
    for spoken in Dialect::ALL {
        let Ok(answer) = wire(spoken).read_response(document.clone()) else { continue };
        // No client gets either of these.
        if matches!(answer.stop, StopReason::Truncated | StopReason::Error) {
            continue;
        }
        for client in Dialect::ALL {
            let body = wire(client).write_response(&answer);
            let text = || String::from_utf8_lossy(&body).into_owned();
            let again = wire(client).parse_response(&body);
            let again = again.unwrap_or_else(|e| panic!("{spoken} to {client}: {e}: {}", text()));
            assert_eq!(said(&again), said(&answer), "{spoken} to {client}: {}", text());
            assert!(
                !matches!(again.stop, StopReason::Truncated | StopReason::Error),
                "{spoken} to {client}: {}",
                text()
            );
        }
    }
}

/// What an answer says in words.
fn said(answer: &ChatResponse) -> String {
    let texts = answer.content.iter().filter_map(|part| match part {
        Part::Text { text, .. } | Part::Refusal(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// The same answer in each dialect.
pub(super) fn answer_seeds() -> Vec<Vec<u8>> {
    let arguments = r#"{"city":"Bern"}"#.to_owned();
    let call = ToolCall { id: "call_a".into(), name: "weather".into(), arguments, signature: None };
    let usage = Usage { input: 20, output: 7, cached_input: 4, ..Usage::default() };
    let thought = Part::Reasoning { text: "hm".into(), signature: Some("c2ln".into()) };
    let content = [vec![Part::text("Let me see.")], vec![thought, Part::text("See."), Part::ToolCall(call)]];
    let answers = content.into_iter().map(|content| ChatResponse {
        id: "x".into(),
        model: "m".into(),
        created: 1,
        stop: if content.len() > 1 { StopReason::ToolUse } else { StopReason::Stop },
        content,
        stop_sequence: None,
        usage: Some(usage),
    });
    let answers: Vec<_> = answers.collect();
    let written = |client: Dialect| answers.iter().map(move |answer| wire(client).write_response(answer));
    Dialect::ALL.into_iter().flat_map(written).collect()
}

/// What a client sends, in each dialect: what is written of it for a provider of each is JSON.
pub fn requests(data: &[u8]) {
    for client in Dialect::ALL {
        let Ok(request) = wire(client).parse_request(data) else { continue };
        for spoken in Dialect::ALL {
            let written = wire(spoken).write_request(&request, &Style::default());
            assert!(serde_json::from_slice::<Value>(&written.body).is_ok(), "{client} to {spoken}");
        }
    }
}

/// A conversation with a tool, in each dialect.
pub(super) fn request_seeds() -> Vec<Vec<u8>> {
    let request = json!({"model": "m", "max_tokens": 50, "temperature": 0.5, "stop": ["x"], "stream": true,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        "messages": [{"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "rain"}]});
    let parsed = wire(Dialect::OpenAiChat).parse_request(request.to_string().as_bytes());
    let parsed = parsed.expect("it is a request");
    let written = |spoken: Dialect| wire(spoken).write_request(&parsed, &Style::default()).body.to_vec();
    let mut seeds: Vec<_> = Dialect::ALL.into_iter().map(written).collect();
    seeds.push(request.to_string().into_bytes());
    seeds
}
