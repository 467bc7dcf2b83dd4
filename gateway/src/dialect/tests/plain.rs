//! A text that is read alone is what would have been read with a tree of its event, in every state of a stream.

use std::collections::BTreeMap;

use orch_manifests::Dialect;
use serde_json::{Value, json};

use crate::bounded;
use crate::dialect::{StreamParser, wire};
use crate::fields::counts_are_whole;

const STREAMS: [(Dialect, &[u8]); 14] = [
    (Dialect::OpenAiChat, include_bytes!("../fixtures/openai_text.sse")),
    (Dialect::OpenAiChat, include_bytes!("../fixtures/openai_tools.sse")),
    (Dialect::OpenAiResponses, include_bytes!("../fixtures/openai_responses_text.sse")),
    (Dialect::OpenAiResponses, include_bytes!("../fixtures/openai_responses_tools.sse")),
    (Dialect::AnthropicMessages, include_bytes!("../fixtures/anthropic_text.sse")),
    (Dialect::AnthropicMessages, include_bytes!("../fixtures/anthropic_tools.sse")),
    (Dialect::GeminiGenerateContent, include_bytes!("../fixtures/gemini_text.sse")),
    (Dialect::GeminiGenerateContent, include_bytes!("../fixtures/gemini_tools.sse")),
    (Dialect::BedrockConverse, include_bytes!("../fixtures/bedrock_text.eventstream")),
    (Dialect::BedrockConverse, include_bytes!("../fixtures/bedrock_tools.eventstream")),
    (Dialect::CohereChat, include_bytes!("../fixtures/cohere_text.sse")),
    (Dialect::CohereChat, include_bytes!("../fixtures/cohere_tools.sse")),
    (Dialect::OllamaChat, include_bytes!("../fixtures/ollama_text.ndjson")),
    (Dialect::OllamaChat, include_bytes!("../fixtures/ollama_tools.ndjson")),
];

fn datas(spoken: Dialect, bytes: &[u8]) -> Vec<String> {
    let mut splitter = wire(spoken).framing().splitter(1 << 20);
    splitter.push(bytes);
    let frames = std::iter::from_fn(|| splitter.next_frame().unwrap());
    frames.filter_map(|frame| frame.data).filter(|data| !data.is_empty()).collect()
}

/// What a stream says, as long as it can be read; how many of its texts were read alone, where that is tried.
fn heard(spoken: Dialect, datas: &[&str], alone: bool) -> (String, usize) {
    let mut parser: Box<dyn StreamParser> = wire(spoken).stream_parser();
    let (mut said, mut count) = (Vec::new(), 0);
    for data in datas {
        let tree = bounded::event(data);
        let text = if alone { parser.text_alone(data) } else { None };
        count += usize::from(text.is_some());
        let events = match text {
            Some(alone) => {
                assert!(alone.usage.is_none() || counts_are_whole(tree.as_ref().unwrap()), "{data}");
                Ok(alone.into_events())
            }
            None => parser.read_data(data, tree.as_ref()),
        };
        let failed = events.is_err();
        said.push(events);
        if failed {
            break;
        }
    }
    (format!("{said:?}"), count)
}

/// An event with one thing in it changed, for every thing and many changes.
fn changed(event: &Value) -> Vec<Value> {
    let others = [
        json!(null),
        json!(""),
        json!("error"),
        json!("message-end"),
        json!("ERROR"),
        json!(0),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(1_u64 << 28),
        json!((1_u64 << 28) - 1),
        json!(true),
        json!([]),
        json!({}),
        json!([{}]),
        json!({"message": "m"}),
        json!({"text": "t"}),
        json!("\u{fffd}"),
    ];
    let more = [
        "error",
        "usage",
        "p",
        "obfuscation",
        "usageMetadata",
        "thought",
        "thoughtSignature",
        "finishReason",
        "promptTokenCount",
        "thoughtsTokenCount",
        "cachedContentTokenCount",
        "toolUsePromptTokenCount",
        "groundingMetadata",
        "type",
        "object",
        "message",
        "tool_calls",
        "function_call",
        "finish_reason",
        "refusal",
        "reasoning",
        "reasoning_content",
        "logprobs",
        "done_reason",
        "thinking",
        "content",
        "text",
        "role",
        "index",
        "annotations",
        "x_groq",
        "promptFeedback",
        "response",
        "toolUse",
        "citations",
        "tool_plan",
        "anything",
    ];
    let mut all = Vec::new();
    match event {
        Value::Object(map) => {
            for (key, value) in map {
                let put = |value: Value| {
                    let mut map = map.clone();
                    map.insert(key.clone(), value);
                    Value::Object(map)
                };
                all.extend(others.iter().cloned().map(put));
                all.extend(changed(value).into_iter().map(put));
                let mut without = map.clone();
                without.shift_remove(key);
                all.push(Value::Object(without));
            }
            for key in more.iter().filter(|key| !map.contains_key(**key)) {
                for value in &others[..10] {
                    let mut map = map.clone();
                    map.insert((*key).to_owned(), value.clone());
                    all.push(Value::Object(map));
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                for item in changed(item).into_iter().chain(others.iter().cloned()) {
                    let mut items = items.clone();
                    items[at] = item;
                    all.push(Value::Array(items));
                }
            }
            all.push(Value::Array([items.clone(), items.clone()].concat()));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    all
}

#[test]
fn a_text_that_is_read_alone_is_what_a_tree_of_it_says() {
    let mut alone = BTreeMap::<_, usize>::new();
    for (spoken, bytes) in STREAMS {
        let datas = datas(spoken, bytes);
        let datas: Vec<&str> = datas.iter().map(String::as_str).collect();
        let (said, count) = heard(spoken, &datas, true);
        assert_eq!(said, heard(spoken, &datas, false).0, "{spoken}");
        *alone.entry(spoken.as_str()).or_default() += count;
        // Where in a stream something stands decides what it means.
        let Some(at) = (0..datas.len()).find(|at| heard(spoken, &datas[..=*at], true).1 > 0) else {
            continue;
        };
        let event: Value = serde_json::from_str(datas[at]).unwrap();
        let changed = changed(&event);
        assert!(changed.len() > 200, "{}", changed.len());
        for place in [0, at, datas.len() - 1] {
            for changed in &changed {
                let changed = changed.to_string();
                let stream = [&datas[..place], &[changed.as_str()], &datas[place..]].concat();
                let (said, _) = heard(spoken, &stream, true);
                assert_eq!(said, heard(spoken, &stream, false).0, "{spoken} at {place}: {changed}");
            }
        }
    }
    assert!(alone.len() == 7 && alone.values().all(|count| *count > 0), "{alone:?}");
}

/// An event with each of its objects, in turn, as a list of its values.
fn as_lists(event: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    match event {
        Value::Object(map) => {
            all.push(map.values().cloned().collect());
            for (key, value) in map {
                for value in as_lists(value) {
                    let mut map = map.clone();
                    map.insert(key.clone(), value);
                    all.push(Value::Object(map));
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                for item in as_lists(item) {
                    let mut items = items.clone();
                    items[at] = item;
                    all.push(Value::Array(items));
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    all
}

#[test]
fn what_is_no_plain_json_is_left_to_others() {
    for (spoken, bytes) in STREAMS {
        let datas = datas(spoken, bytes);
        let datas: Vec<&str> = datas.iter().map(String::as_str).collect();
        let Some(at) = (0..datas.len()).find(|at| heard(spoken, &datas[..=*at], true).1 > 0) else {
            continue;
        };
        let (event, text) = (datas[at], heard(spoken, &datas[at..=at], false).0);
        assert!(!text.is_empty());
        let twice = event.replacen('{', r#"{"index":1,"index":0,"#, 1);
        let odd =
            [&event[1..], &event[..event.len() - 1], &format!("{event}x"), &format!(" {event} "), &twice];
        let mut odd = odd.map(str::to_owned).to_vec();
        let parsed: Value = serde_json::from_str(event).unwrap();
        odd.extend(as_lists(&parsed).iter().map(Value::to_string));
        for inside in [
            r"\ud83d",
            r"\ud83d\ude00",
            r"\u0000",
            r"\x",
            "\u{1}",
            r"\",
            r"\\",
            r#"\""#,
            r#"\\""#,
            "\"",
            "é",
            r#"","more":""#,
            r#"","type":""#,
            r#""},"more":{"a":""#,
        ] {
            odd.push(event.replacen(r#":""#, &format!(r#":"{inside}"#), 9));
            // In each of its strings, and instead of it.
            for (at, quoted) in event.match_indices(r#":""#) {
                let (before, behind) = event.split_at(at + quoted.len());
                odd.push([before, inside, behind].concat());
                odd.push([before, inside, &behind[behind.find('"').unwrap()..]].concat());
            }
        }
        for odd in odd {
            // Before anything like it was read, and after that.
            for place in [at, at + 1] {
                let stream = [&datas[..place], &[odd.as_str()], &datas[at..]].concat();
                assert_eq!(
                    heard(spoken, &stream, true).0,
                    heard(spoken, &stream, false).0,
                    "{spoken}: {odd}"
                );
            }
        }
    }
}
