use std::collections::BTreeMap;

use super::{ALL, anthropic, bedrock, cohere, events, gemini, ollama, openai, responses, written};
use orch_manifests::Dialect;

use crate::dialect::{StreamParser, Wire, wire};
use crate::frames::Framing;
use crate::ir::{Class, StopReason, StreamEvent, Usage};

const OPENAI_TEXT: &str = include_str!("../fixtures/openai_text.sse");
const OPENAI_TOOLS: &str = include_str!("../fixtures/openai_tools.sse");
const OPENAI_ERROR: &str = include_str!("../fixtures/openai_error.sse");
const ANTHROPIC_TEXT: &str = include_str!("../fixtures/anthropic_text.sse");
const ANTHROPIC_TOOLS: &str = include_str!("../fixtures/anthropic_tools.sse");
const ANTHROPIC_ERROR: &str = include_str!("../fixtures/anthropic_error.sse");
const GEMINI_TEXT: &str = include_str!("../fixtures/gemini_text.sse");
const GEMINI_TOOLS: &str = include_str!("../fixtures/gemini_tools.sse");
const GEMINI_ERROR: &str = include_str!("../fixtures/gemini_error.sse");
const COHERE_TEXT: &str = include_str!("../fixtures/cohere_text.sse");
const COHERE_TOOLS: &str = include_str!("../fixtures/cohere_tools.sse");
const COHERE_ERROR: &str = include_str!("../fixtures/cohere_error.sse");
const OLLAMA_TEXT: &str = include_str!("../fixtures/ollama_text.ndjson");
const OLLAMA_TOOLS: &str = include_str!("../fixtures/ollama_tools.ndjson");
const OLLAMA_ERROR: &str = include_str!("../fixtures/ollama_error.ndjson");

const RESPONSES_TEXT: &str = include_str!("../fixtures/openai_responses_text.sse");
const RESPONSES_TOOLS: &str = include_str!("../fixtures/openai_responses_tools.sse");
const RESPONSES_REFUSAL: &str = include_str!("../fixtures/openai_responses_refusal.sse");
const RESPONSES_INCOMPLETE: &str = include_str!("../fixtures/openai_responses_incomplete.sse");
const RESPONSES_ERROR: &str = include_str!("../fixtures/openai_responses_error.sse");
const RESPONSES_FAILED: &str = include_str!("../fixtures/openai_responses_failed.sse");

fn all() -> [(&'static dyn Wire, &'static [u8]); 24] {
    [
        (responses(), RESPONSES_TEXT.as_bytes()),
        (responses(), RESPONSES_TOOLS.as_bytes()),
        (responses(), RESPONSES_REFUSAL.as_bytes()),
        (responses(), RESPONSES_INCOMPLETE.as_bytes()),
        (responses(), RESPONSES_ERROR.as_bytes()),
        (responses(), RESPONSES_FAILED.as_bytes()),
        (openai(), OPENAI_TEXT.as_bytes()),
        (openai(), OPENAI_TOOLS.as_bytes()),
        (openai(), OPENAI_ERROR.as_bytes()),
        (anthropic(), ANTHROPIC_TEXT.as_bytes()),
        (anthropic(), ANTHROPIC_TOOLS.as_bytes()),
        (anthropic(), ANTHROPIC_ERROR.as_bytes()),
        (gemini(), GEMINI_TEXT.as_bytes()),
        (gemini(), GEMINI_TOOLS.as_bytes()),
        (gemini(), GEMINI_ERROR.as_bytes()),
        (bedrock(), bedrock::TEXT),
        (bedrock(), bedrock::TOOLS),
        (bedrock(), bedrock::ERROR),
        (cohere(), COHERE_TEXT.as_bytes()),
        (cohere(), COHERE_TOOLS.as_bytes()),
        (cohere(), COHERE_ERROR.as_bytes()),
        (ollama(), OLLAMA_TEXT.as_bytes()),
        (ollama(), OLLAMA_TOOLS.as_bytes()),
        (ollama(), OLLAMA_ERROR.as_bytes()),
    ]
}

fn tool(index: u32, id: &str, name: &str) -> StreamEvent {
    StreamEvent::ToolStart { index, id: id.into(), name: name.into(), signature: None }
}

fn args(index: u32, fragment: &str) -> StreamEvent {
    StreamEvent::ToolArguments { index, fragment: fragment.into() }
}

fn stop(reason: StopReason) -> StreamEvent {
    StreamEvent::Stop { reason, sequence: None }
}

/// What a client has at the end, however the pieces were cut and ordered.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    reasoning: String,
    signature: String,
    tools: BTreeMap<u32, (String, String, String)>,
    ended_tools: usize,
    usage: Option<Usage>,
    stop: Option<(StopReason, Option<String>)>,
    ended: bool,
    error: Option<Class>,
}

impl Said {
    fn sort_tools(&mut self) {
        let mut calls: Vec<_> = std::mem::take(&mut self.tools).into_values().collect();
        calls.sort();
        self.tools = (0..).zip(calls).collect();
    }
}

fn said(events: &[StreamEvent]) -> Said {
    let mut said = Said::default();
    for event in events {
        match event {
            StreamEvent::Start { .. } | StreamEvent::Opaque(_) => {}
            StreamEvent::Text(text) | StreamEvent::Refusal(text) => said.text += text,
            StreamEvent::Reasoning(text) => said.reasoning += text,
            StreamEvent::ReasoningSignature(text) => said.signature += text,
            StreamEvent::ToolStart { index, id, name, .. } => {
                let before = said.tools.insert(*index, (id.clone(), name.clone(), String::new()));
                assert_eq!(before, None, "tool {index} began twice");
            }
            StreamEvent::ToolArguments { index, fragment } => {
                said.tools.get_mut(index).expect("the tool has begun").2 += fragment;
            }
            StreamEvent::ToolEnd { .. } => said.ended_tools += 1,
            StreamEvent::Usage(usage) => said.usage = Some(*usage),
            StreamEvent::Stop { reason, sequence } => said.stop = Some((*reason, sequence.clone())),
            StreamEvent::End => said.ended = true,
            StreamEvent::Error(error) => said.error = Some(error.class),
        }
    }
    said
}

#[test]
fn openai_text_is_read() {
    let usage = Usage { input: 20, output: 7, cached_input: 4, reasoning: 2, ..Usage::default() };
    assert_eq!(
        events(openai(), [OPENAI_TEXT.as_bytes()]),
        [
            StreamEvent::Start {
                id: "chatcmpl-1".into(),
                model: "gpt-4o-mini-2024-07-18".into(),
                created: 1_700_000_000
            },
            StreamEvent::Text("Grüße".into()),
            StreamEvent::Text(", 世界 👋".into()),
            stop(StopReason::Stop),
            StreamEvent::Usage(usage),
            StreamEvent::End,
        ]
    );
}

#[test]
fn openai_tools_interleave_and_may_be_empty() {
    let read = events(openai(), [OPENAI_TOOLS.as_bytes()]);
    let calls: Vec<_> =
        read.iter().filter(|e| !matches!(e, StreamEvent::Usage(_))).skip(1).cloned().collect();
    assert_eq!(
        calls,
        [
            tool(0, "call_a", "weather"),
            args(0, "{\"city\":\"Zü"),
            tool(1, "call_b", "clock"),
            tool(2, "call_c", "add"),
            args(2, "{\"a\""),
            args(0, "rich\""),
            args(2, ":1}"),
            args(0, "}"),
            StreamEvent::ToolEnd { index: 0 },
            StreamEvent::ToolEnd { index: 1 },
            StreamEvent::ToolEnd { index: 2 },
            stop(StopReason::ToolUse),
            StreamEvent::End,
        ]
    );
}

#[test]
fn anthropic_text_is_read() {
    let counts = |output| {
        StreamEvent::Usage(Usage { input: 20, output, cached_input: 4, cache_write: 2, ..Usage::default() })
    };
    assert_eq!(
        events(anthropic(), [ANTHROPIC_TEXT.as_bytes()]),
        [
            StreamEvent::Start { id: "msg_1".into(), model: "claude-3-haiku-20240307".into(), created: 0 },
            counts(1),
            StreamEvent::Reasoning("Hm… 世".into()),
            StreamEvent::ReasoningSignature("c2ln".into()),
            StreamEvent::Text("Grüße".into()),
            StreamEvent::Text(", 世界 👋".into()),
            counts(7),
            StreamEvent::Stop { reason: StopReason::Stop, sequence: Some("END".into()) },
            StreamEvent::End,
        ]
    );
}

#[test]
fn anthropic_tools_are_read_also_without_their_ends() {
    let read = said(&events(anthropic(), [ANTHROPIC_TOOLS.as_bytes()]));
    let call = |id: &str, name: &str, args: &str| (id.to_owned(), name.to_owned(), args.to_owned());
    assert_eq!(read.text, "Looking.");
    assert_eq!(
        read.tools.into_values().collect::<Vec<_>>(),
        [
            call("toolu_a", "weather", "{\"city\":\"Zürich\"}"),
            call("toolu_b", "clock", ""),
            call("toolu_c", "add", "{\"a\":1}"),
        ]
    );
    assert_eq!((read.ended_tools, read.stop, read.ended), (3, Some((StopReason::ToolUse, None)), true));
}

/// They take their time, and a client of Anthropic's own hears them.
#[test]
fn what_a_tool_of_anthropic_is_given_and_citations_are_something_that_was_said() {
    let event = |event: &serde_json::Value| format!("data: {event}\n\n");
    let (input, citation) = (
        serde_json::json!({"type": "input_json_delta", "partial_json": "{\"code\""}),
        serde_json::json!({"type": "citations_delta", "citation": {"cited_text": "x"}}),
    );
    let delta = |delta: &serde_json::Value| {
        event(&serde_json::json!({"type": "content_block_delta", "index": 0, "delta": delta}))
    };
    let block =
        serde_json::json!({"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {}});
    let text = [
        event(&serde_json::json!({"type": "content_block_start", "index": 0, "content_block": block})),
        delta(&serde_json::json!({"type": "input_json_delta", "partial_json": ""})),
        delta(&input),
        delta(&citation),
    ];
    let wanted = [block, input, citation].map(StreamEvent::Opaque);
    assert_eq!(events(anthropic(), [text.concat().as_bytes()]), wanted);
}

#[test]
fn gemini_text_is_read() {
    let early = StreamEvent::Usage(Usage { input: 20, cached_input: 4, ..Usage::default() });
    let late = Usage { input: 20, output: 7, cached_input: 4, reasoning: 2, ..Usage::default() };
    assert_eq!(
        events(gemini(), [GEMINI_TEXT.as_bytes()]),
        [
            StreamEvent::Start { id: "resp-1".into(), model: "gemini-2.5-flash".into(), created: 0 },
            early.clone(),
            StreamEvent::Reasoning("Hm… 世".into()),
            early.clone(),
            StreamEvent::Text("Grüße".into()),
            early,
            StreamEvent::Text(", 世界 👋".into()),
            StreamEvent::Usage(late),
            stop(StopReason::Stop),
            StreamEvent::End,
        ]
    );
}

#[test]
fn gemini_tools_are_whole_and_get_ids() {
    let read = events(gemini(), [GEMINI_TOOLS.as_bytes()]);
    let calls: Vec<_> =
        read.iter().filter(|e| !matches!(e, StreamEvent::Usage(_))).skip(2).cloned().collect();
    let signed = StreamEvent::ToolStart {
        index: 0,
        id: "call_resp-1_0".into(),
        name: "weather".into(),
        signature: Some("c2ln".into()),
    };
    assert_eq!(
        calls,
        [
            signed,
            args(0, "{\"city\":\"Zürich\"}"),
            StreamEvent::ToolEnd { index: 0 },
            tool(1, "call_resp-1_1", "clock"),
            StreamEvent::ToolEnd { index: 1 },
            tool(2, "given", "add"),
            args(2, "{\"a\":1}"),
            StreamEvent::ToolEnd { index: 2 },
            stop(StopReason::ToolUse),
            StreamEvent::End,
        ]
    );
    // Another answer's calls have other ids, or a conversation would have two of the same.
    let next = said(&events(gemini(), [GEMINI_TOOLS.replace("resp-1", "resp-2").as_bytes()]));
    assert_eq!(next.tools[&0].0, "call_resp-2_0");
}

#[test]
fn a_gemini_stream_ends_only_where_every_candidate_says_why() {
    let ends = |chunks: &[&str]| {
        let text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        said(&events(gemini(), [text.as_bytes()]))
    };
    let says = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#;
    let done = r#"{"candidates":[{"finishReason":"STOP"}]}"#;
    let counts = r#"{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":1}}"#;
    let second = r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"b"}]}}]}"#;
    let second_done = r#"{"candidates":[{"index":1,"finishReason":"MAX_TOKENS"}]}"#;
    assert!(!ends(&[]).ended && !ends(&[says]).ended && !ends(&[counts]).ended);
    assert!(!ends(&[says, counts]).ended, "a stop that was not sent is never invented");
    assert_eq!(ends(&[says, counts]).stop, None);
    assert!(!ends(&[says, done, second]).ended && ends(&[says, second, done, second_done]).ended);
    let late = ends(&[says, done, counts, done]);
    assert_eq!((late.ended, late.stop), (true, Some((StopReason::Stop, None))));
    assert_eq!(late.usage.map(|usage| usage.input), Some(3), "counts may come after the reason");
    let each = r#"{"candidates":[{"content":{"parts":[{"text":"b"}]},"finishReason":"STOP"}]}"#;
    let all = ends(&[each, says, each]);
    assert_eq!((all.text.as_str(), all.ended), ("bab", true), "older models give a reason with every chunk");
    let blocked =
        ends(&[r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}"#]);
    assert_eq!((blocked.ended, blocked.error), (false, Some(Class::RefusedByFilter)));
    let mut sse = crate::frames::sse::Parser::new(1 << 16);
    sse.push(b"data: [1]\n\ndata: {\n\n");
    let mut parser = gemini().stream_parser();
    for _ in 0..2 {
        assert!(parser.read(&sse.next_event().unwrap().unwrap()).is_err());
    }
}

#[test]
fn pictures_and_code_of_a_gemini_stream_are_something_that_was_said() {
    let parts = concat!(
        r#"{"executableCode":{"language":"PYTHON","code":"1"}},"#,
        r#"{"codeExecutionResult":{"outcome":"OUTCOME_OK"}},"#,
        r#"{"inlineData":{"mimeType":"image/png","data":"AAAA"}},"#,
        r#"{"thoughtSignature":"c2ln","text":""},{"somethingNew":{}}"#,
    );
    let chunk = format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{parts}]}}}}]}}\n\n");
    let read = events(gemini(), [chunk.as_bytes()]);
    let piece = |kind: &str| StreamEvent::Opaque(serde_json::json!({ "type": kind }));
    let kinds = ["executableCode", "codeExecutionResult", "inlineData", "somethingNew"];
    assert_eq!(read[1..], kinds.map(piece));
    assert!(read[1].commits(), "whoever hears it has heard part of the answer");
}

#[test]
fn responses_text_is_read() {
    let usage =
        Usage { input: 20, output: 7, cached_input: 4, cache_write: 0, cache_write_1h: 0, reasoning: 2 };
    assert_eq!(
        events(responses(), [RESPONSES_TEXT.as_bytes()]),
        [
            StreamEvent::Start {
                id: "resp_1".into(),
                model: "gpt-5-mini-2025-08-07".into(),
                created: 1_700_000_000
            },
            StreamEvent::Reasoning("Hm… ".into()),
            StreamEvent::Reasoning("世".into()),
            StreamEvent::ReasoningSignature("c2ln".into()),
            StreamEvent::Text("Grüße".into()),
            StreamEvent::Text(", 世界 👋".into()),
            StreamEvent::Usage(usage),
            stop(StopReason::Stop),
            StreamEvent::End,
        ]
    );
}

#[test]
fn responses_tools_interleave_and_may_be_empty() {
    let read = events(responses(), [RESPONSES_TOOLS.as_bytes()]);
    let calls: Vec<_> =
        read.iter().filter(|e| !matches!(e, StreamEvent::Usage(_))).skip(1).cloned().collect();
    assert_eq!(
        calls,
        [
            tool(0, "call_a", "weather"),
            args(0, "{\"city\":\"Zü"),
            tool(1, "call_b", "clock"),
            tool(2, "call_c", "add"),
            args(2, "{\"a\""),
            args(0, "rich\""),
            args(2, ":1}"),
            args(0, "}"),
            StreamEvent::ToolEnd { index: 1 },
            StreamEvent::ToolEnd { index: 2 },
            StreamEvent::ToolEnd { index: 0 },
            stop(StopReason::ToolUse),
            StreamEvent::End,
        ]
    );
}

#[test]
fn a_signature_goes_to_an_openai_client_beside_its_call() {
    let out = written(openai(), &events(gemini(), [GEMINI_TOOLS.as_bytes()]));
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(r#""extra_content":{"google":{"thought_signature":"c2ln"}}"#), "{text}");
    assert_eq!(text.matches("extra_content").count(), 1);
    let out = written(gemini(), &events(gemini(), [GEMINI_TOOLS.as_bytes()]));
    assert!(String::from_utf8(out).unwrap().contains(r#""thoughtSignature":"c2ln""#));
}

#[test]
fn interleaved_calls_become_whole_ones() {
    let out = written(gemini(), &events(openai(), [OPENAI_TOOLS.as_bytes()]));
    let calls: Vec<_> = std::str::from_utf8(&out)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str::<serde_json::Value>(data).unwrap())
        .filter_map(|chunk| Some(chunk.pointer("/candidates/0/content/parts/0/functionCall")?.to_string()))
        .collect();
    assert_eq!(
        calls,
        [
            r#"{"id":"call_a","name":"weather","args":{"city":"Zürich"}}"#,
            r#"{"id":"call_b","name":"clock","args":{}}"#,
            r#"{"id":"call_c","name":"add","args":{"a":1}}"#,
        ]
    );
}

#[test]
fn an_error_inside_a_stream_is_its_end() {
    let read = said(&events(openai(), [OPENAI_ERROR.as_bytes(), b"data: [DONE]\n\n"]));
    assert_eq!((read.text.as_str(), read.error, read.ended), ("Once", Some(Class::Server), false));
    let read =
        said(&events(anthropic(), [ANTHROPIC_ERROR.as_bytes(), b"data: {\"type\":\"message_stop\"}\n\n"]));
    assert_eq!((read.text.as_str(), read.error, read.ended), ("Once", Some(Class::Overloaded), false));
    let done = b"data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n";
    for (text, class) in [(RESPONSES_ERROR, Class::Server), (RESPONSES_FAILED, Class::RateLimited)] {
        let read = said(&events(responses(), [text.as_bytes(), done]));
        assert_eq!((read.text.as_str(), read.error, read.ended), ("Once", Some(class), false));
    }
    let done = b"data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n";
    let read = said(&events(gemini(), [GEMINI_ERROR.as_bytes(), done]));
    assert_eq!((read.text.as_str(), read.error, read.ended), ("Once", Some(Class::Overloaded), false));
    let done = b"data: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\"}}\n\n";
    let read = said(&events(cohere(), [COHERE_ERROR.as_bytes(), done]));
    assert_eq!((read.text.as_str(), read.error, read.ended), ("Once", Some(Class::Timeout), false));
    let read =
        said(&events(ollama(), [OLLAMA_ERROR.as_bytes(), b"{\"done\":true,\"done_reason\":\"stop\"}\n"]));
    assert_eq!((read.text.as_str(), read.error, read.ended), ("Once", Some(Class::Server), false));
}

#[test]
fn how_a_stream_is_cut_into_chunks_does_not_matter() {
    for (wire, text) in all() {
        let whole = events(wire, [text]);
        for size in [1, 2, 3, 7, 64, 1000] {
            assert_eq!(events(wire, text.chunks(size)), whole, "chunks of {size}");
        }
        if wire.framing() == Framing::EventStream {
            continue;
        }
        let text = std::str::from_utf8(text).unwrap();
        for (from, to) in [("\n", "\r\n"), ("\n", "\r"), ("data: ", "data:")] {
            if to == "\r" && wire.framing() != Framing::Sse {
                continue;
            }
            let spelled = text.replace(from, to);
            assert_eq!(events(wire, spelled.as_bytes().chunks(5)), whole, "{from:?} as {to:?}");
        }
    }
}

#[test]
fn a_stream_cut_after_any_byte_is_never_complete() {
    for (wire, text) in all() {
        for cut in 0..text.len() {
            let read = said(&events(wire, [&text[..cut]]));
            assert!(!read.ended, "cut after {cut} of {} bytes: {read:?}", text.len());
        }
    }
}

#[test]
fn a_terminator_without_a_reason_is_no_end() {
    let mut sse = crate::frames::sse::Parser::new(1 << 16);
    sse.push(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n");
    let mut parser = openai().stream_parser();
    parser.read(&sse.next_event().unwrap().unwrap()).unwrap();
    assert!(parser.read(&sse.next_event().unwrap().unwrap()).is_err());

    let mut sse = crate::frames::sse::Parser::new(1 << 16);
    sse.push(b"data: {\"type\":\"message_start\",\"message\":{}}\n\ndata: {\"type\":\"message_stop\"}\n\n");
    let mut parser = anthropic().stream_parser();
    parser.read(&sse.next_event().unwrap().unwrap()).unwrap();
    assert!(parser.read(&sse.next_event().unwrap().unwrap()).is_err());
}

/// A stream of one dialect, read, written in either, and read again says the same.
#[test]
fn translated_streams_say_the_same() {
    for (source, text) in all() {
        let read = events(source, [text]);
        let mut wanted = said(&read);
        for target in ALL {
            let mut again = said(&events(wire(target), written(wire(target), &read).chunks(11)));
            wanted.ended_tools = again.ended_tools;
            let mut wanted = said_in(target, &wanted);
            // A call without arguments is an empty object for clients that parse them.
            for (_, _, arguments) in wanted.tools.values_mut() {
                let whole = [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::CohereChat];
                if arguments.is_empty() && whole.contains(&target) {
                    *arguments = "{}".into();
                }
            }
            // A call is whole there, and stands where it ended.
            if matches!(target, Dialect::GeminiGenerateContent | Dialect::OllamaChat) {
                again.sort_tools();
                wanted.sort_tools();
            }
            assert_eq!(again, wanted, "in {target}");
        }
    }
}

/// What the target dialect has no words for is left out.
fn said_in(target: Dialect, said: &Said) -> Said {
    // They carry counts only at the end, and no signatures.
    let openai = matches!(target, Dialect::OpenAiChat | Dialect::CohereChat | Dialect::OllamaChat);
    let anthropic = target == Dialect::AnthropicMessages;
    let bedrock = target == Dialect::BedrockConverse;
    let counts_at_the_end = openai || bedrock || target == Dialect::OpenAiResponses;
    // These have no words for a refusal.
    let silent = matches!(
        target,
        Dialect::GeminiGenerateContent | Dialect::CohereChat | Dialect::OllamaChat | Dialect::BedrockConverse
    );
    let stop = |reason| match reason {
        StopReason::Refusal if silent => StopReason::ContentFilter,
        reason => reason,
    };
    let counts_writes =
        anthropic || bedrock || matches!(target, Dialect::OpenAiChat | Dialect::OpenAiResponses);
    let counts_reasoning =
        matches!(target, Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::GeminiGenerateContent);
    Said {
        text: said.text.clone(),
        reasoning: said.reasoning.clone(),
        signature: if openai { String::new() } else { said.signature.clone() },
        tools: said.tools.clone(),
        ended_tools: said.ended_tools,
        usage: said
            .usage
            .filter(|_| said.ended || !counts_at_the_end)
            .map(|usage| Usage {
                cache_write: if counts_writes { usage.cache_write } else { 0 },
                cached_input: if target == Dialect::OllamaChat { 0 } else { usage.cached_input },
                reasoning: if counts_reasoning { usage.reasoning } else { 0 },
                ..usage
            })
            .or(anthropic.then(Usage::default)),
        stop: said
            .stop
            .clone()
            .map(|(reason, sequence)| (stop(reason), sequence.filter(|_| anthropic || bedrock))),
        ended: said.ended,
        error: said.error,
    }
}

#[test]
fn interleaved_calls_become_blocks_one_after_the_other() {
    let out = written(anthropic(), &events(openai(), [OPENAI_TOOLS.as_bytes()]));
    let lines: Vec<_> = std::str::from_utf8(&out)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str::<serde_json::Value>(data).unwrap())
        .filter_map(|v| {
            let kind = v["type"].as_str()?.strip_prefix("content_block_")?.to_owned();
            let what = v.pointer("/delta/partial_json").or(v.pointer("/content_block/name"));
            Some(format!("{} {kind} {}", v["index"], what.and_then(|w| w.as_str()).unwrap_or("")))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "0 start weather",
            "0 delta {\"city\":\"Zü",
            "0 delta rich\"",
            "0 delta }",
            "0 stop ",
            "1 start clock",
            "1 stop ",
            "2 start add",
            "2 delta {\"a\":1}",
            "2 stop ",
        ]
    );
}

#[test]
fn anthropic_becomes_these_chunks() {
    let out = written(openai(), &events(anthropic(), [ANTHROPIC_TOOLS.as_bytes()]));
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"));
    let deltas: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"))
        .map(|rest| serde_json::from_str::<serde_json::Value>(&format!("{{{rest}")).unwrap())
        .map(|v| match v.pointer("/choices/0") {
            Some(choice) if choice["finish_reason"].is_string() => choice["finish_reason"].to_string(),
            Some(choice) => choice["delta"].to_string(),
            None => v["usage"]["total_tokens"].to_string(),
        })
        .collect();
    assert_eq!(
        deltas,
        [
            r#"{"content":"","role":"assistant"}"#,
            r#"{"content":"Looking."}"#,
            r#"{"tool_calls":[{"index":0,"id":"toolu_a","type":"function","function":{"name":"weather","arguments":""}}]}"#,
            r#"{"tool_calls":[{"function":{"arguments":"{\"city\":\"Zü"},"index":0}]}"#,
            r#"{"tool_calls":[{"function":{"arguments":"rich\"}"},"index":0}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"toolu_b","type":"function","function":{"name":"clock","arguments":""}}]}"#,
            r#"{"tool_calls":[{"function":{"arguments":"{}"},"index":1}]}"#,
            r#"{"tool_calls":[{"index":2,"id":"toolu_c","type":"function","function":{"name":"add","arguments":""}}]}"#,
            r#"{"tool_calls":[{"function":{"arguments":"{\"a\":1}"},"index":2}]}"#,
            r#""tool_calls""#,
            "27",
        ]
    );
}

#[test]
fn an_error_leaves_no_terminator_behind() {
    for target in ALL {
        let out = written(wire(target), &events(openai(), [OPENAI_ERROR.as_bytes()]));
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("The server had an error"), "{text}");
        assert!(
            !text.contains("[DONE]") && !text.contains("message_stop") && !text.contains("messageStop"),
            "{text}"
        );
        assert!(!text.contains("response.completed") && !text.contains("output_item.done"), "{text}");
        assert!(!text.contains("\"stop\"") && !text.contains("end_turn"), "{text}");
    }
}

#[test]
fn calls_without_an_index_or_an_id_are_kept_apart() {
    let stream = concat!(
        r#"data: {"choices":[{"delta":{"tool_calls":[{"id":"x","function":{"name":"a","arguments":"{"}}]}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"}"}}]}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"b","arguments":{"n":1}}}]}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        "\n\ndata: [DONE]\n\n",
    );
    let read = said(&events(openai(), [stream.as_bytes()]));
    assert_eq!(read.tools[&0], ("x".into(), "a".into(), "{}".into()));
    assert_eq!(read.tools[&1], ("call_1".into(), "b".into(), "{\"n\":1}".into()));
    assert_eq!(
        read.stop,
        Some((StopReason::ToolUse, None)),
        "providers that say stop after calls mean tool use"
    );
}

/// Where the provider may leave out the terminator, the end counts once every choice has finished, and not before.
#[test]
fn a_stream_may_end_without_done_where_the_provider_leaves_it_out() {
    let chunk = |index: u64, rest: &str| {
        format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"a\"}}{rest}}}]}}\n\n")
    };
    let finished = r#","finish_reason":"stop""#;
    let ends = |parser: &mut Box<dyn StreamParser>, text: &str| {
        let mut sse = crate::frames::sse::Parser::new(1 << 16);
        sse.push(text.as_bytes());
        let mut ends = 0;
        while let Some(frame) = sse.next_event().unwrap() {
            ends += parser.read(&frame).unwrap().iter().filter(|event| **event == StreamEvent::End).count();
        }
        ends + parser.end().len()
    };
    let rows = [
        (String::new(), 0, 0),
        (chunk(0, ""), 0, 0),
        (chunk(0, finished), 1, 0),
        (chunk(0, finished) + &chunk(1, ""), 0, 0),
        (chunk(0, finished) + &chunk(1, finished), 1, 0),
        (chunk(0, finished) + "data: [DONE]\n\n", 1, 1),
        ("data: {\"error\":{\"message\":\"m\"}}\n\n".to_owned(), 0, 0),
    ];
    for (text, lenient, strict) in rows {
        assert_eq!(ends(&mut openai().lenient_stream_parser(), &text), lenient, "{text}");
        assert_eq!(ends(&mut openai().stream_parser(), &text), strict, "{text}");
    }
}

#[test]
fn further_choices_have_to_finish_too() {
    let stream = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
        "\n\n",
        r#"data: {"choices":[{"index":1,"delta":{"content":"b"}}]}"#,
        "\n\n",
    );
    let mut sse = crate::frames::sse::Parser::new(1 << 16);
    sse.push(stream.as_bytes());
    sse.push(b"data: [DONE]\n\n");
    let mut parser = openai().stream_parser();
    for _ in 0..2 {
        parser.read(&sse.next_event().unwrap().unwrap()).unwrap();
    }
    assert!(parser.read(&sse.next_event().unwrap().unwrap()).is_err());
}
