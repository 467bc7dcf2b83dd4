//! Chunks of chat completions as OpenAI and those that are compatible with it send them, beyond what the fixtures have;
//! and of Gemini where the same holds.

use serde_json::{Value, json};

use super::{events, gemini, openai};
use crate::dialect::MOST_ANSWERS;
use crate::ir::{Part, StopReason, StreamEvent, ToolCall, Usage};

/// What a stream of these deltas means, each with this `finish_reason` but the last, which has its own.
fn read(deltas: &[Value], meanwhile: &Value, finish: &str) -> Vec<StreamEvent> {
    let chunk = |delta: &Value, finish: &Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        format!("data: {}\n\n", json!({"id": "x", "model": "m", "created": 1, "choices": [choice]}))
    };
    let mut text: String = deltas.iter().map(|delta| chunk(delta, meanwhile)).collect();
    text += &chunk(&json!({}), &json!(finish));
    text += "data: [DONE]\n\n";
    let read = events(openai(), [text.as_bytes()]);
    assert!(matches!(read.first(), Some(StreamEvent::Start { .. })), "{read:?}");
    assert_eq!(read.last(), Some(&StreamEvent::End));
    read[1..read.len() - 1].to_vec()
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

#[test]
fn an_empty_reason_is_none() {
    let deltas = [json!({"content": "a"}), json!({"content": "b"})];
    let wanted = [StreamEvent::Text("a".into()), StreamEvent::Text("b".into()), stop(StopReason::Stop)];
    assert_eq!(read(&deltas, &json!(""), "stop"), wanted);
    let body = json!({"choices": [{"message": {"content": "x"}, "finish_reason": ""}]});
    let read = openai().parse_response(body.to_string().as_bytes()).unwrap();
    assert_eq!(read.stop, StopReason::Truncated, "it does not say why it ended");
}

#[test]
fn reasons_of_compatible_servers_are_known() {
    let text = [json!({"content": "a"})];
    for (word, reason) in [
        ("eos", StopReason::Stop),
        ("eos_token", StopReason::Stop),
        ("model_length", StopReason::Length),
        ("something_new", StopReason::Error),
    ] {
        assert_eq!(read(&text, &Value::Null, word).last(), Some(&stop(reason)), "{word}");
    }
    let call =
        [json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]})];
    assert_eq!(read(&call, &Value::Null, "eos").last(), Some(&stop(StopReason::ToolUse)));
}

#[test]
fn calls_that_share_an_index_are_kept_apart() {
    let call = |id: Option<&str>, name: Option<&str>, arguments: &str| json!({"tool_calls": [{"index": 0, "id": id, "function": {"name": name, "arguments": arguments}}]});
    let deltas = [
        call(Some("a"), Some("f"), "{\"x\":1}"),
        call(Some("b"), Some("f"), "{\"x\""),
        call(None, None, ":2"),
        // Some repeat the id, or make up another one with every piece, and some the name.
        call(Some("c"), None, ""),
        call(None, Some("f"), ""),
        call(Some("b"), Some("f"), "}"),
    ];
    let wanted = [
        tool(0, "a", "f"),
        args(0, "{\"x\":1}"),
        tool(1, "b", "f"),
        args(1, "{\"x\""),
        args(1, ":2"),
        args(1, "}"),
        StreamEvent::ToolEnd { index: 0 },
        StreamEvent::ToolEnd { index: 1 },
        stop(StopReason::ToolUse),
    ];
    assert_eq!(read(&deltas, &Value::Null, "tool_calls"), wanted);
}

#[test]
fn a_tool_that_takes_free_text_is_called_like_any_other() {
    let deltas = [
        json!({"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"name": "sql", "input": ""}}]}),
        json!({"tool_calls": [{"index": 0, "custom": {"input": "SELECT "}}]}),
        json!({"tool_calls": [{"index": 0, "custom": {"input": "1"}}]}),
    ];
    let wanted = [
        tool(0, "c", "sql"),
        args(0, "SELECT "),
        args(0, "1"),
        StreamEvent::ToolEnd { index: 0 },
        stop(StopReason::ToolUse),
    ];
    assert_eq!(read(&deltas, &Value::Null, "tool_calls"), wanted);
    let call = json!({"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}});
    let message = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let body = json!({"choices": [{"message": message, "finish_reason": "tool_calls"}]});
    let read = openai().parse_response(body.to_string().as_bytes()).unwrap();
    let (id, name, arguments) = ("c".into(), "sql".into(), "SELECT 1".into());
    assert_eq!(read.content, [Part::ToolCall(ToolCall { id, name, arguments, signature: None })]);
}

#[test]
fn the_one_call_of_old_is_heard_as_it_comes() {
    let deltas = [
        json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": ""}}),
        json!({"function_call": {"arguments": "{\"a\":"}}),
        json!({"function_call": {"arguments": "1}"}}),
    ];
    let wanted = [
        tool(0, "call_0", "f"),
        args(0, "{\"a\":"),
        args(0, "1}"),
        StreamEvent::ToolEnd { index: 0 },
        stop(StopReason::ToolUse),
    ];
    assert_eq!(read(&deltas, &Value::Null, "function_call"), wanted);
    // As some providers spell out everything that there could be.
    let nothing = [
        json!({"content": "a", "function_call": {"name": "", "arguments": ""}, "tool_calls": []}),
        json!({"content": "b", "function_call": null, "tool_calls": null}),
    ];
    let wanted = [StreamEvent::Text("a".into()), StreamEvent::Text("b".into()), stop(StopReason::Stop)];
    assert_eq!(read(&nothing, &Value::Null, "stop"), wanted);
}

#[test]
fn sound_pictures_and_sources_are_something_that_was_said() {
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    let deltas = [
        json!({"audio": {"id": "a", "transcript": "hi"}}),
        json!({"content": "", "images": [picture]}),
        json!({"annotations": [{"type": "url_citation"}], "audio": null, "images": []}),
    ];
    let piece = |kind: &str| StreamEvent::Opaque(json!({"type": kind}));
    let wanted = [piece("audio"), piece("images"), piece("annotations"), stop(StopReason::Stop)];
    assert_eq!(read(&deltas, &Value::Null, "stop"), wanted);
    let message = json!({"content": "hi", "audio": null, "annotations": [{"type": "url_citation"}]});
    let body = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
    let read = openai().parse_response(body.to_string().as_bytes()).unwrap();
    assert_eq!(read.content, [Part::text("hi"), Part::Opaque(json!({"type": "annotations"}))]);
}

#[test]
fn counts_of_groq_s_own_are_heard_beside_an_empty_place_for_them() {
    let counts = json!({"prompt_tokens": 20, "completion_tokens": 7});
    let chunk = json!({"choices": [], "usage": null, "x_groq": {"id": "req_1", "usage": counts}});
    let usage = Usage { input: 20, output: 7, ..Usage::default() };
    let sent = format!("data: {chunk}\n\n");
    assert_eq!(events(openai(), [sent.as_bytes()]), [StreamEvent::Usage(usage)]);
}

/// Moonshot has them in the last chunk of each choice, whether or not it was asked for the one behind them.
#[test]
fn counts_that_stand_in_a_choice_are_heard() {
    let usage = |output: u64| json!({"prompt_tokens": 20, "completion_tokens": output, "cached_tokens": 4});
    let last = |index: u64, output: u64| {
        let choice = json!({"index": index, "delta": {}, "finish_reason": "stop", "usage": usage(output)});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let heard = |sent: &[String]| -> Vec<Usage> {
        let events = events(openai(), sent.iter().map(|sent| sent.as_bytes()));
        let usage =
            |event: StreamEvent| if let StreamEvent::Usage(usage) = event { Some(usage) } else { None };
        events.into_iter().filter_map(usage).collect()
    };
    let counted = |output| Usage { input: 20, output, cached_input: 4, ..Usage::default() };
    assert_eq!(heard(&[last(0, 7)]), [counted(7)]);
    // The choices answer one and the same input.
    assert_eq!(heard(&[last(0, 7), last(1, 5)]), [counted(7), counted(12)]);
    // What is counted of all of them counts.
    let all = json!({"choices": [], "usage": {"prompt_tokens": 21, "completion_tokens": 8}});
    let all = format!("data: {all}\n\n");
    let of_all = Usage { input: 21, output: 8, ..Usage::default() };
    assert_eq!(heard(&[last(0, 7), all]), [counted(7), of_all]);
}

/// Nobody follows what they say, but as long as they say it the stream is neither silent nor without content.
#[test]
fn a_piece_of_another_answer_is_something_that_was_said() {
    let chunk = |choice: Value| format!("data: {}\n\n", json!({ "choices": [choice] }));
    let piece = StreamEvent::Opaque(json!({"type": "answer"}));
    let sent = [
        chunk(json!({"index": 1, "delta": {"role": "assistant", "content": "", "refusal": null}})),
        chunk(json!({"index": 1, "delta": {"content": "b"}})),
        chunk(json!({"index": 1, "delta": {"tool_calls": [{"index": 0}]}})),
        chunk(json!({"index": 1, "delta": {}, "finish_reason": "stop"})),
    ];
    let read = events(openai(), [sent.concat().as_bytes()]);
    assert_eq!(read[1..], [piece.clone(), piece.clone()]);
    let chunk = |candidate: Value| format!("data: {}\n\n", json!({ "candidates": [candidate] }));
    let sent = [
        chunk(json!({"index": 1, "content": {"parts": [{"text": ""}], "role": "model"}})),
        chunk(json!({"index": 1, "content": {"parts": [{"text": ""}, {"text": "b"}]}})),
        chunk(json!({"index": 1, "content": {}, "finishReason": "STOP"})),
    ];
    assert_eq!(events(gemini(), [sent.concat().as_bytes()])[1..], [piece]);
}

#[test]
fn a_stream_has_no_end_of_answers() {
    for (wire, list) in [(openai(), "choices"), (gemini(), "candidates")] {
        let mut parser = wire.stream_parser();
        let mut read = |index: usize| {
            let data = json!({ list: [{ "index": index, "delta": {} }] }).to_string();
            parser.read(&crate::frames::sse::event("", data))
        };
        assert!((0..MOST_ANSWERS).all(|index| read(index).is_ok()));
        assert!(read(0).is_ok() && read(MOST_ANSWERS).is_err(), "{list}");
    }
}
