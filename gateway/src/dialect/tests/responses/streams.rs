//! Streams of events, which have their numbers and their items.

use super::*;

/// The events of a stream, each with its data.
fn data(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let blocks = text.split_terminator("\n\n").map(|block| {
        let (name, data) = block.split_once("\ndata: ").expect("a name and data");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{block}");
        data
    });
    blocks.collect()
}

/// What every client counts on: numbers without gaps, items that begin before they go on and end once, whole texts that
/// are their deltas, and a last event that repeats it all.
fn check(stream: &[u8]) -> Vec<Value> {
    let events = data(stream);
    let mut open: BTreeMap<u64, (Value, String)> = BTreeMap::new();
    let mut done = Vec::new();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
        let kind = event["type"].as_str().unwrap();
        let at = event["output_index"].as_u64();
        match kind {
            "response.output_item.added" => {
                let at = at.unwrap();
                assert_eq!(at as usize, open.len() + done.len(), "{event}");
                open.insert(at, (event["item"]["id"].clone(), String::new()));
            }
            "response.output_item.done" => {
                let (id, _) = open.remove(&at.unwrap()).expect("the item is open");
                assert_eq!(event["item"]["id"], id);
                done.push((at.unwrap(), event["item"].clone()));
            }
            "response.created" | "response.in_progress" => {
                assert_eq!(event["response"]["status"], "in_progress");
            }
            "response.completed" | "response.incomplete" => {
                assert!(open.is_empty(), "{event}");
                done.sort_by_key(|(at, _)| *at);
                let items: Vec<Value> = done.iter().map(|(_, item)| item.clone()).collect();
                assert_eq!(event["response"]["output"], json!(items));
                assert_eq!(number + 1, events.len());
            }
            "error" => {}
            _ => {
                let (id, text) = open.get_mut(&at.unwrap()).expect("the item is open");
                assert_eq!(event["item_id"], *id, "{event}");
                if kind.ends_with(".delta") {
                    text.push_str(event["delta"].as_str().unwrap());
                }
                if kind.ends_with("part.added") {
                    text.clear();
                }
                if kind.ends_with(".done") && !kind.ends_with("part.done") {
                    let whole = ["text", "refusal", "arguments"].iter().find_map(|key| event[*key].as_str());
                    assert_eq!(whole, Some(text.as_str()), "{event}");
                }
            }
        }
    }
    events
}

fn kinds(events: &[Value]) -> Vec<String> {
    let short = |event: &Value| {
        let kind = event["type"].as_str().unwrap().trim_start_matches("response.").to_owned();
        match event["output_index"].as_u64() {
            Some(at) => format!("{at} {kind}"),
            None => kind,
        }
    };
    events.iter().map(short).collect()
}

#[test]
fn a_stream_goes_through_the_whole_life_of_its_items() {
    let out = check(&written(responses(), &events(anthropic(), [ANTHROPIC_TEXT.as_bytes()])));
    assert_eq!(
        kinds(&out),
        [
            "created",
            "in_progress",
            "0 output_item.added",
            "0 reasoning_summary_part.added",
            "0 reasoning_summary_text.delta",
            "0 reasoning_summary_text.done",
            "0 reasoning_summary_part.done",
            "0 output_item.done",
            "1 output_item.added",
            "1 content_part.added",
            "1 output_text.delta",
            "1 output_text.delta",
            "1 output_text.done",
            "1 content_part.done",
            "1 output_item.done",
            "completed",
        ]
    );
    let last = &out.last().unwrap()["response"];
    assert_eq!(last["output"][0]["encrypted_content"], "c2ln");
    assert_eq!(last["usage"]["total_tokens"], 27);
}

#[test]
fn interleaved_calls_stay_interleaved() {
    let out = check(&written(responses(), &events(openai(), [OPENAI_TOOLS.as_bytes()])));
    assert_eq!(
        kinds(&out),
        [
            "created",
            "in_progress",
            "0 output_item.added",
            "0 function_call_arguments.delta",
            "1 output_item.added",
            "2 output_item.added",
            "2 function_call_arguments.delta",
            "0 function_call_arguments.delta",
            "2 function_call_arguments.delta",
            "0 function_call_arguments.delta",
            "0 function_call_arguments.done",
            "0 output_item.done",
            "1 function_call_arguments.delta",
            "1 function_call_arguments.done",
            "1 output_item.done",
            "2 function_call_arguments.done",
            "2 output_item.done",
            "completed",
        ]
    );
    let calls = out.last().unwrap()["response"]["output"].as_array().unwrap().clone();
    let told: Vec<_> =
        calls.iter().map(|c| (c["call_id"].as_str().unwrap(), c["arguments"].as_str().unwrap())).collect();
    assert_eq!(told, [("call_a", "{\"city\":\"Zürich\"}"), ("call_b", "{}"), ("call_c", "{\"a\":1}")]);
}

#[test]
fn every_order_of_pieces_makes_a_stream_in_order() {
    let text = |text: &str| StreamEvent::Text(text.into());
    let call =
        |index| StreamEvent::ToolStart { index, id: format!("c{index}"), name: "f".into(), signature: None };
    let stop = |reason| StreamEvent::Stop { reason, sequence: None };
    let pieces = [
        StreamEvent::ReasoningSignature("s".into()),
        StreamEvent::Reasoning("hm".into()),
        text("a"),
        StreamEvent::Refusal("no".into()),
        text("b"),
        call(0),
        text("c"),
        StreamEvent::ToolArguments { index: 0, fragment: "{}".into() },
        call(1),
        StreamEvent::Reasoning("more".into()),
        StreamEvent::ToolEnd { index: 0 },
        text("d"),
    ];
    for first in 0..pieces.len() {
        for (reason, last) in
            [(StopReason::ToolUse, "response.completed"), (StopReason::Length, "response.incomplete")]
        {
            let mut all = pieces[first..].to_vec();
            all.extend([stop(reason), StreamEvent::End]);
            let out = check(&written(responses(), &all));
            assert_eq!(out.last().unwrap()["type"], last);
        }
    }
    // A message has its text and its refusal as parts.
    let out = check(&written(
        responses(),
        &[text("a"), StreamEvent::Refusal("no".into()), stop(StopReason::Refusal), StreamEvent::End],
    ));
    let message = &out.last().unwrap()["response"]["output"][0];
    let parts: Vec<_> = message["content"].as_array().unwrap().iter().map(|p| p["type"].clone()).collect();
    assert_eq!(parts, ["output_text", "refusal"]);
}

#[test]
fn an_error_has_its_fields_where_clients_look_and_its_number() {
    let error = ApiError {
        details: Some(Box::new(json!({"class": "server"}))),
        ..ApiError::new(Class::Server, "broke")
    };
    let mut writer = responses().stream_writer(false);
    writer.begun(7);
    let mut out = Vec::new();
    writer.write(&StreamEvent::Error(error), &mut out);
    let [failed, event] = &data(&out)[..] else { panic!("{out:?}") };
    assert_eq!((&failed["type"], &failed["sequence_number"]), (&json!("response.failed"), &json!(7)));
    let told = json!({"code": "server_error", "message": "broke"});
    assert_eq!((&failed["response"]["status"], &failed["response"]["error"]), (&json!("failed"), &told));
    assert_eq!((&event["type"], &event["sequence_number"]), (&json!("error"), &json!(8)));
    assert_eq!((&event["message"], &event["error"]["message"]), (&json!("broke"), &json!("broke")));
    assert_eq!(event["error"]["orch"], json!({"class": "server"}));
}

fn stream(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[test]
fn what_comes_whole_only_is_heard_once() {
    let message = |content: Value| json!({"type": "message", "content": content});
    let text = json!([{"type": "output_text", "text": "hello", "annotations": []}]);
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":1}"});
    let done = |at: u64, item: &Value| json!({"type": "response.output_item.done", "output_index": at, "item": item});
    let end = |output: Value| json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": output}});
    let added = json!({"type": "response.output_item.added", "output_index": 1, "item":
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}});
    let part = json!({"type": "response.content_part.added", "output_index": 0, "content_index": 0,
        "part": {"type": "output_text", "text": "he"}});
    let delta =
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "llo"});
    let whole =
        json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "hello"});
    let output = json!([message(text.clone()), call]);
    for events_sent in [
        vec![end(output.clone())],
        vec![done(0, &message(text.clone())), done(1, &call), end(output.clone())],
        vec![
            whole.clone(),
            done(0, &message(text.clone())),
            added.clone(),
            done(1, &call),
            end(output.clone()),
        ],
        vec![part, delta, whole, done(0, &message(text)), added, done(1, &call), end(output)],
    ] {
        let sent = stream(&events_sent);
        let heard = events(responses(), [sent.as_bytes()]);
        let text: String = heard
            .iter()
            .filter_map(|e| if let StreamEvent::Text(t) = e { Some(t.as_str()) } else { None })
            .collect();
        let arguments: String = heard
            .iter()
            .filter_map(|e| {
                if let StreamEvent::ToolArguments { fragment, .. } = e {
                    Some(fragment.as_str())
                } else {
                    None
                }
            })
            .collect();
        assert_eq!((text.as_str(), arguments.as_str()), ("hello", "{\"a\":1}"), "{sent}");
        let ends = heard.iter().filter(|e| matches!(e, StreamEvent::ToolEnd { .. })).count();
        assert_eq!((ends, heard.last()), (1, Some(&StreamEvent::End)), "{sent}");
    }
}

#[test]
fn thoughts_are_paragraphs_whether_they_stream_or_not() {
    let summary = json!([{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]);
    let item = json!({"type": "reasoning", "summary": summary, "encrypted_content": "e"});
    let whole = json!({"status": "completed", "output": [item]});
    let read = responses().parse_response(whole.to_string().as_bytes()).unwrap();
    assert_eq!(read.content, [Part::Reasoning { text: "one\n\ntwo".into(), signature: Some("e".into()) }]);
    let delta = |at: u64, text: &str| json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": at, "delta": text});
    let sent = stream(&[
        delta(0, "o"),
        delta(0, "ne"),
        delta(1, "two"),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
    ]);
    let heard = events(responses(), [sent.as_bytes()]);
    let thought: String = heard
        .iter()
        .filter_map(|e| if let StreamEvent::Reasoning(t) = e { Some(t.as_str()) } else { None })
        .collect();
    assert_eq!(thought, "one\n\ntwo");
    assert_eq!(heard.last(), Some(&StreamEvent::ReasoningSignature("e".into())));
}

#[test]
fn pieces_without_a_place_elsewhere_are_named() {
    let search = json!({"type": "web_search_call", "id": "ws_1", "status": "completed"});
    let note = json!({"type": "url_citation", "url": "https://x.example"});
    let text = json!({"type": "output_text", "text": "a", "annotations": [note]});
    let whole = json!({"status": "completed", "output": [search, {"type": "message", "content": [text]}]});
    let read = responses().parse_response(whole.to_string().as_bytes()).unwrap();
    assert_eq!(read.content, [Part::Opaque(search.clone()), Part::text("a"), Part::Opaque(note.clone())]);
    let sent = stream(&[
        json!({"type": "response.output_item.added", "output_index": 0, "item": search}),
        json!({"type": "response.web_search_call.searching", "output_index": 0}),
        json!({"type": "response.output_text.annotation.added", "output_index": 1, "annotation": note}),
    ]);
    assert_eq!(
        events(responses(), [sent.as_bytes()]),
        [StreamEvent::Opaque(search), StreamEvent::Opaque(note)]
    );
}

/// It takes its time, and a client of responses hears it.
#[test]
fn what_a_tool_of_another_kind_is_given_is_something_that_was_said() {
    let kind = "response.custom_tool_call_input.delta";
    let delta = |text: &str| json!({"type": kind, "output_index": 0, "delta": text});
    let sent = stream(&[delta(""), delta("*** Begin"), delta(" Patch")]);
    let piece = StreamEvent::Opaque(json!({"type": kind}));
    assert_eq!(events(responses(), [sent.as_bytes()]), [piece.clone(), piece]);
}

#[test]
fn garbage_is_refused_and_odd_values_do_no_harm() {
    for bad in ["{", "[1]", "{\"no\":\"type\"}", "\"x\""] {
        let mut parser = responses().stream_parser();
        let frame = crate::frames::sse::event("", bad.to_owned());
        assert!(parser.read(&frame).is_err(), "{bad}");
    }
    let kinds = [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_summary_text.delta",
        "response.output_text.annotation.added",
        "response.incomplete",
        "response.completed",
    ];
    for kind in kinds {
        for odd in [
            Value::Null,
            json!("x"),
            json!(5),
            json!([1]),
            json!({"type": 5, "content": "x", "summary": {}, "output": [[]]}),
        ] {
            let mut parser = responses().stream_parser();
            let event = json!({"type": kind, "response": odd, "item": odd, "part": odd, "delta": odd, "output_index": odd});
            // Whether it means something or is refused: it does not panic.
            let _ = parser.read(&crate::frames::sse::event(kind, event.to_string()));
        }
    }
    assert!(
        responses().parse_response(b"{}").is_err()
            && responses().parse_response(b"{\"output\":[{}]}").is_err()
    );
}

#[test]
fn the_end_of_another_dialect_is_no_end() {
    let begun =
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a"});
    let heard = events(responses(), [format!("data: {begun}\n\ndata: [DONE]\n\n").as_bytes()]);
    assert_eq!(heard, [StreamEvent::Text("a".into())]);
}
