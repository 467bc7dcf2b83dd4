//! Several texts at once.

use serde_json::json;

use super::super::texts::{Block, Part};
use super::super::{AHEAD, MOST};
use super::ways::{Way, event, stream, texts, way};
use super::*;

const OPENAI: Dialect = Dialect::OpenAiChat;
const RESPONSES: Dialect = Dialect::OpenAiResponses;
const ANTHROPIC: Dialect = Dialect::AnthropicMessages;
const GEMINI: Dialect = Dialect::GeminiGenerateContent;
const COHERE: Dialect = Dialect::CohereChat;
const OLLAMA: Dialect = Dialect::OllamaChat;

/// Pairs of texts whose deltas may come in turns.
fn pairs() -> Vec<[Way; 2]> {
    vec![
        [way(OPENAI, "content", 0), way(OPENAI, "content", 1)],
        [way(OPENAI, "arguments 1", 0), way(OPENAI, "arguments 1", 1)],
        [way(OPENAI, "content", 0), way(OPENAI, "reasoning", 0)],
        [way(OPENAI, "content", 1), way(OPENAI, "arguments 1", 1)],
        [way(OPENAI, "arguments 1", 0), way(OPENAI, "input 3", 0)],
        [way(RESPONSES, "text", 0), way(RESPONSES, "text", 3)],
        [way(RESPONSES, "text", 0), way(RESPONSES, "refusal", 0)],
        [way(RESPONSES, "arguments", 0), way(RESPONSES, "arguments", 3)],
        [way(RESPONSES, "summary", 0), way(RESPONSES, "text", 3)],
        [way(ANTHROPIC, "text", 2), Way { of: 5, ..way(ANTHROPIC, "partial_json", 2) }],
        [way(ANTHROPIC, "thinking", 2), Way { of: 5, ..way(ANTHROPIC, "text", 2) }],
        [way(GEMINI, "text", 0), way(GEMINI, "text", 1)],
        [way(GEMINI, "text", 0), way(GEMINI, "thought", 0)],
        [way(COHERE, "text", 2), way(COHERE, "text", 3)],
        // A call and a content of the same index are two things.
        [way(COHERE, "text", 2), way(COHERE, "arguments", 2)],
        [way(COHERE, "tool_plan", 0), way(COHERE, "arguments", 2)],
        [way(OLLAMA, "content", 0), way(OLLAMA, "thinking", 0)],
    ]
}

/// Both texts in these pieces, taking turns.
fn run(ways: &[Way; 2], pieces: &[&str]) -> BTreeMap<String, String> {
    let dialect = ways[0].dialect;
    let mut events: Vec<String> = ways.iter().map(Way::open).collect();
    events.extend(pieces.iter().flat_map(|piece| ways.iter().map(|way| way.delta(piece))));
    let both_close = if ways[0].of == ways[1].of { 1 } else { 2 };
    events.extend(ways.iter().take(both_close).map(Way::close));
    let items = items(SECRET.as_bytes(), dialect, &stream(dialect, &events));
    assert!(complete(&items), "{}", raw(&items));
    texts(dialect, &raw(&items))
}

#[test]
fn texts_that_take_turns_do_not_hide_a_secret() {
    let text = format!("it {SECRET}.");
    for ways in pairs() {
        let apart = ways[0].of != ways[1].of;
        for pieces in cuts(&text, true) {
            let said = run(&ways, &pieces);
            for way in &ways {
                let said = &said[&way.key()];
                // In the same choice the first characters may have gone ahead.
                let most = if apart { 0 } else { AHEAD };
                let wanted = (0..=most).map(|ahead| format!("it {}{SCRUBBED}.", &SECRET[..ahead]));
                assert!(
                    wanted.into_iter().any(|wanted| *said == wanted),
                    "{}: {said} of {pieces:?}",
                    way.name
                );
            }
        }
    }
}

#[test]
fn texts_that_take_turns_character_by_character_do_not_either() {
    for ways in pairs() {
        for form in forms(SECRET) {
            let text = format!("{form} {form}");
            let pieces: Vec<&str> = text.split_inclusive(|_: char| true).collect();
            for said in run(&ways, &pieces).values() {
                assert!(!form.is_empty() && !said.contains(&form), "{said}");
                assert_eq!(said.matches(SCRUBBED).count(), 2, "{said}");
            }
        }
    }
}

#[test]
fn harmless_texts_that_take_turns_are_whole_and_in_order() {
    let pieces = ["files", " sk-", "sk-A", "s", "", "sk-Ab/9+zQ7", "?"];
    for ways in pairs() {
        let said = run(&ways, &pieces);
        assert_eq!(said.len(), 2);
        said.values().for_each(|said| assert_eq!(*said, pieces.concat()));
    }
}

#[test]
fn a_text_stays_in_front_of_the_call_that_follows_it() {
    let content = way(OPENAI, "content", 0);
    let call = way(OPENAI, "arguments 1", 0);
    let events = [content.delta("I read the files"), call.open(), call.delta("{}"), content.close()];
    let items = items(SECRET.as_bytes(), OPENAI, &stream(OPENAI, &events));
    let meaning: Vec<&StreamEvent> = items.iter().flat_map(|item| &item.meaning).collect();
    let at = |wanted: &dyn Fn(&StreamEvent) -> bool| meaning.iter().position(|event| wanted(event)).unwrap();
    let rest = at(&|event| *event == StreamEvent::Text("s".to_owned()));
    let begins = at(&|event| matches!(event, StreamEvent::ToolStart { .. }));
    assert!(rest < begins, "{meaning:?}");

    let part = json!({"functionCall": {"name": "f", "args": {}}});
    let events = [
        way(GEMINI, "text", 0).delta("I read the files"),
        event(&json!({"candidates": [{"content": {"parts": [part]}, "index": 0}]})),
        way(GEMINI, "text", 0).close(),
    ];
    let out = raw(&super::items(SECRET.as_bytes(), GEMINI, &stream(GEMINI, &events)));
    let (rest, call) = (out.find("\"text\":\"s\"").unwrap(), out.find("functionCall").unwrap());
    assert!(rest < call, "{out}");
}

#[test]
fn calls_without_an_index_are_told_apart_as_clients_do() {
    let call = |call| event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}));
    let (first, rest) = SECRET.split_at(7);
    let events = [
        call(json!({"id": "a", "function": {"name": "f", "arguments": format!("[\"{first}")}})),
        call(json!({"function": {"arguments": rest}})),
        call(json!({"function": {"arguments": "\"]"}})),
        call(json!({"id": "b", "function": {"name": "g", "arguments": rest}})),
        way(OPENAI, "content", 0).close(),
    ];
    let items = items(SECRET.as_bytes(), OPENAI, &stream(OPENAI, &events));
    let mut arguments = BTreeMap::new();
    for event in items.iter().flat_map(|item| &item.meaning) {
        if let StreamEvent::ToolArguments { index, fragment } = event {
            *arguments.entry(*index).or_insert_with(String::new) += fragment;
        }
    }
    assert_eq!(arguments, BTreeMap::from([(0, format!("[\"{SCRUBBED}\"]")), (1, rest.to_owned())]));
}

#[test]
fn calls_that_share_an_index_are_told_apart_by_their_ids() {
    let call = |call| event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}));
    let begins = |id: &str, arguments: &str| {
        call(json!({"index": 0, "id": id, "function": {"name": "f", "arguments": arguments}}))
    };
    let (first, rest) = SECRET.split_at(7);
    let events = [
        begins("a", "files"),
        begins("b", first),
        call(json!({"index": 0, "function": {"arguments": rest}})),
        begins("b", "!"),
        begins("c", "sk"),
        way(OPENAI, "content", 0).close(),
    ];
    let items = items(SECRET.as_bytes(), OPENAI, &stream(OPENAI, &events));
    let mut arguments = BTreeMap::new();
    for event in items.iter().flat_map(|item| &item.meaning) {
        if let StreamEvent::ToolArguments { index, fragment } = event {
            *arguments.entry(*index).or_insert_with(String::new) += fragment;
        }
    }
    let wanted = ["files".to_owned(), format!("{SCRUBBED}!"), "sk".to_owned()];
    assert_eq!(arguments, (0..).zip(wanted).collect());
}

#[test]
fn a_reason_that_is_empty_ends_no_text() {
    let chunk = |text: &str| {
        event(&json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": ""}]}))
    };
    for (first, rest) in (1..SECRET.len()).map(|at| SECRET.split_at(at)) {
        let events = [chunk(first), chunk(rest), way(OPENAI, "content", 0).close()];
        let items = items(SECRET.as_bytes(), OPENAI, &stream(OPENAI, &events));
        assert_eq!(texts(OPENAI, &raw(&items)), BTreeMap::from([("0 content".into(), SCRUBBED.into())]));
    }
}

#[test]
fn one_event_with_several_texts_is_taken_text_by_text() {
    let (first, rest) = SECRET.split_at(9);
    let chunk = |zero: &str, one: [&str; 2]| {
        event(&json!({"candidates": [
            {"index": 0, "content": {"parts": [{"text": zero}]}},
            {"index": 1, "content": {"parts": [{"text": one[0]}, {"text": one[1]}]}},
        ]}))
    };
    let close = event(&json!({"candidates": [
        {"index": 0, "content": {"parts": [{"text": "s"}]}, "finishReason": "STOP"},
        {"index": 1, "content": {"parts": [{"text": "s"}, {"text": "k"}]}, "finishReason": "STOP"},
    ]}));
    let sent = [chunk(first, ["a ", first]), chunk(rest, [rest, " b"]), close].concat();
    let items = items(SECRET.as_bytes(), GEMINI, &sent);
    assert_eq!(items.len(), 4, "three events, and the end: {}", raw(&items));
    let wanted = [("0 text", format!("{SCRUBBED}s")), ("1 text", format!("a {SCRUBBED} bsk"))];
    assert_eq!(texts(GEMINI, &raw(&items)), wanted.map(|(key, text)| (key.to_owned(), text)).into());
}

#[test]
fn what_is_held_is_bounded_and_none_of_it_is_lost() {
    let begun = &SECRET[..10];
    let mut deltas = deltas(SECRET.as_bytes(), OPENAI);
    let mut out = String::new();
    let mut parser = crate::frames::sse::Parser::new(1 << 20);
    let choices = 10 * MOST as u64;
    for of in 0..choices {
        let way = Way { of, ..way(OPENAI, "content", 0) };
        parser.push(way.delta(begun).as_bytes());
        let mut event = parser.next_event().unwrap().unwrap();
        let mut tree = crate::bounded::event(event.data.as_deref().unwrap()).unwrap();
        let ahead = deltas.pass(&mut event, &mut tree);
        ahead.iter().chain([&event]).for_each(|event| out.push_str(std::str::from_utf8(&event.raw).unwrap()));
        assert!(deltas.held.len() <= MOST);
        assert!(deltas.held.iter().all(|held| held.begun() < SECRET.len()));
    }
    assert_eq!(deltas.held[0].block, Block { of: choices - MOST as u64, part: Part::Field("content") });
    deltas.finish().iter().for_each(|event| out.push_str(std::str::from_utf8(&event.raw).unwrap()));
    let said = texts(OPENAI, &out);
    assert_eq!(said.len() as u64, choices);
    assert!(said.values().all(|said| said == begun));
}
