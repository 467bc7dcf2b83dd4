//! Bedrock's streams, whose frames are no text.

use serde_json::{Value, json};

use super::*;
use crate::frames::{Frame, Framing, event_stream};

const BEDROCK: Dialect = Dialect::BedrockConverse;

const FIXTURES: [&[u8]; 2] = [
    include_bytes!("../../dialect/fixtures/bedrock_text.eventstream"),
    include_bytes!("../../dialect/fixtures/bedrock_tools.eventstream"),
];

/// A text of an answer: the delta that carries a piece, and where it is.
type Way = (&'static str, fn(&str) -> Value);

const WAYS: [Way; 3] = [
    ("/text", |text| json!({ "text": text })),
    ("/reasoningContent/text", |text| json!({ "reasoningContent": { "text": text } })),
    ("/toolUse/input", |text| json!({ "toolUse": { "input": text } })),
];

fn event(name: &str, payload: &Value) -> Vec<u8> {
    event_stream::event(name, &payload.to_string()).raw.to_vec()
}

fn delta(way: Way, of: u64, text: &str) -> Vec<u8> {
    event("contentBlockDelta", &json!({ "contentBlockIndex": of, "delta": way.1(text), "p": "abc" }))
}

/// An answer of these deltas, with its beginning and end.
fn stream(way: Way, deltas: &[Vec<u8>]) -> Vec<u8> {
    let mut out = event("messageStart", &json!({ "role": "assistant" }));
    if way.0.starts_with("/toolUse") {
        let start = json!({ "toolUse": { "toolUseId": "t", "name": "f" } });
        out.extend(event("contentBlockStart", &json!({ "contentBlockIndex": 2, "start": start })));
    }
    out.extend(deltas.concat());
    out.extend(event("contentBlockStop", &json!({ "contentBlockIndex": 2 })));
    out.extend(event("messageStop", &json!({ "stopReason": "end_turn" })));
    out.extend(event("metadata", &json!({ "usage": { "inputTokens": 1, "outputTokens": 1 } })));
    out
}

/// The bytes that go to a client, read as it would read them: every checksum is verified.
fn frames(items: &[Item]) -> Vec<Frame> {
    let mut splitter = Framing::EventStream.splitter(1 << 20);
    items.iter().for_each(|item| splitter.push(&item.frame.raw));
    std::iter::from_fn(|| splitter.next_frame().expect("the frames are whole")).collect()
}

fn said(way: Way, items: &[Item]) -> String {
    let texts = frames(items).into_iter().filter_map(|frame| {
        let tree: Value = serde_json::from_str(&frame.data?).unwrap();
        let text = tree.pointer(&format!("/contentBlockDelta/delta{}", way.0))?;
        Some(text.as_str()?.to_owned())
    });
    texts.collect()
}

#[test]
fn a_secret_in_two_deltas_is_taken_out_wherever_it_is_cut() {
    for way in WAYS {
        for form in [SECRET.to_owned(), data_encoding::HEXLOWER.encode(SECRET.as_bytes())] {
            let text = format!("a {form} z");
            for pieces in cuts(&text, false) {
                let deltas: Vec<_> = pieces.iter().map(|piece| delta(way, 2, piece)).collect();
                let items = items(SECRET.as_bytes(), BEDROCK, &stream(way, &deltas));
                assert_eq!(said(way, &items), format!("a {SCRUBBED} z"), "{} in {pieces:?}", way.0);
                assert!(complete(&items));
                let out: String = items
                    .iter()
                    .flat_map(|item| &item.meaning)
                    .filter_map(|event| match event {
                        StreamEvent::Text(text) | StreamEvent::Reasoning(text) => Some(text.as_str()),
                        StreamEvent::ToolArguments { fragment, .. } => Some(fragment.as_str()),
                        _ => None,
                    })
                    .collect();
                assert_eq!(out, format!("a {SCRUBBED} z"), "what is translated says the same");
            }
        }
    }
}

#[test]
fn a_beginning_that_becomes_nothing_goes_on_at_the_end_of_its_block() {
    for way in WAYS {
        let items = items(SECRET.as_bytes(), BEDROCK, &stream(way, &[delta(way, 2, "a sk-Ab")]));
        assert_eq!(said(way, &items), "a sk-Ab", "{}", way.0);
        let names: Vec<_> = frames(&items).into_iter().map(|frame| frame.name).collect();
        let stop = names.iter().position(|name| name == "contentBlockStop").unwrap();
        assert_eq!(names[stop - 1], "contentBlockDelta", "the rest stands before the end: {names:?}");
        assert!(complete(&items));
    }
}

#[test]
fn what_has_nothing_to_do_with_a_secret_passes_byte_for_byte() {
    for fixture in FIXTURES {
        let out: Vec<u8> = items(b"~~~~~~~~~~~~~~~~~~", BEDROCK, fixture)
            .iter()
            .flat_map(|item| item.frame.raw.to_vec())
            .collect();
        assert_eq!(out, fixture);
    }
}
