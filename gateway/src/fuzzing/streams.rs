//! What the events of a stream mean, and what is written of them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use orch_manifests::Dialect;
use orch_proxy::{SCRUBBED, Scrubber, Sought};

use super::read;
use crate::bounded;
use crate::deltas::Deltas;
use crate::dialect::wire;
use crate::frames::{Frame, FrameError};
use crate::ir::StreamEvent;

/// A provider's stream in each dialect, and what a client of each is written of it. Nothing follows an end, and who is told
/// the end of an answer by another dialect's parser was told it by the provider.
pub fn streams(data: &[u8]) {
    for spoken in Dialect::ALL {
        let (frames, _) = read(wire(spoken).framing(), data, data.len().max(1));
        let Some(events) = meaning(spoken, &frames) else { continue };
        let over = |event: &StreamEvent| matches!(event, StreamEvent::End | StreamEvent::Error(_));
        let end = events.iter().position(over);
        assert!(end.is_none_or(|end| end + 1 == events.len()), "{spoken}: something follows the end");
        let ended = events.contains(&StreamEvent::End);
        for client in Dialect::ALL {
            let mut writer = wire(client).stream_writer(true);
            let mut out = Vec::new();
            events.iter().for_each(|event| writer.write(event, &mut out));
            let (again, error) = read(wire(client).framing(), &out, out.len().max(1));
            assert!(
                matches!(error, None | Some(FrameError::TooLarge { .. })),
                "{client} cannot be read back: {error:?}"
            );
            if ended || error.is_some() {
                continue;
            }
            let again = meaning(client, &again).unwrap_or_default();
            assert!(
                !again.contains(&StreamEvent::End),
                "{client} is told of an end that {spoken} did not have: {}",
                String::from_utf8_lossy(&out)
            );
        }
    }
}

/// What the events of a stream mean; `None` when one of them is not what the dialect says. A text that is read alone is what
/// a tree of its event says.
fn meaning(spoken: Dialect, frames: &[Frame]) -> Option<Vec<StreamEvent>> {
    let (mut parser, mut by_trees) = (wire(spoken).stream_parser(), wire(spoken).stream_parser());
    let mut events = Vec::new();
    for frame in frames {
        let read = parser.read(frame).ok();
        if let Some(data) = frame.data.as_deref().filter(|data| !data.is_empty()) {
            let tree = by_trees.read_data(data, bounded::event(data).as_ref()).ok();
            assert_eq!(read, tree, "{spoken}: {data}");
        }
        events.extend(read?);
    }
    events.extend(parser.end());
    Some(events)
}

const SECRET: &str = "sk-Ab/9+zQ7_endx";

static SCRUBBER: LazyLock<Arc<Scrubber>> =
    LazyLock::new(|| Arc::new(Scrubber::new(SECRET.as_bytes()).expect("long enough")));

/// A stream of a host that has got a secret. Without it all texts arrive as they were; spread over events no event holds it
/// any more; and every event is what its bytes say.
pub fn deltas(data: &[u8]) {
    for spoken in Dialect::ALL {
        let framing = wire(spoken).framing();
        let (frames, _) = read(framing, data, data.len().max(1));
        let mut deltas = Deltas::new(Sought::new(&[Arc::clone(&SCRUBBER)]), spoken);
        let mut passed = Vec::new();
        for frame in &frames {
            let mut frame = frame.clone();
            let parsed = frame.data.as_deref().filter(|data| !data.is_empty()).map(bounded::event);
            match parsed {
                Some(Ok(mut tree)) => {
                    let ahead = deltas.pass(&mut frame, &mut tree);
                    passed.extend(ahead);
                }
                Some(Err(_)) => passed.extend(deltas.finish()),
                None => {}
            }
            passed.push(frame);
        }
        passed.extend(deltas.finish());
        for frame in &passed {
            let again = read(framing, &frame.raw, frame.raw.len().max(1)).0;
            let said = frame.data.as_deref().map(str::trim).filter(|data| !data.is_empty());
            let again = again.first().and_then(|frame| frame.data.as_deref()).map(str::trim);
            assert_eq!(again.filter(|data| !data.is_empty()), said, "{spoken}: bytes say something else");
        }
        let (Some(before), Some(after)) = (meaning(spoken, &frames), meaning(spoken, &passed)) else {
            continue;
        };
        let (before, after) = (texts(&before), texts(&after));
        // What a parser passes over may be a text all the same, of a kind that is still to come: it counts as well.
        let near =
            |bytes: &[u8]| bytes.windows(4).any(|part| part == &SECRET.as_bytes()[..4] || part == b"endx");
        let like = |text: &String| text.contains(SCRUBBED) || near(text.as_bytes());
        if !frames.iter().any(|frame| near(&frame.raw)) && !before.values().any(like) {
            assert_eq!(after, before, "{spoken}: a text without a secret is another");
        }
        // In one event it is for the proxy to find, which looks through the bytes.
        if frames.iter().any(|frame| SCRUBBER.clean(&frame.raw).is_some()) {
            continue;
        }
        for frame in &passed {
            let told = frame.data.as_deref().and_then(|data| bounded::event(data).ok());
            let Some(told) = told.and_then(|_| meaning(spoken, std::slice::from_ref(frame))) else {
                continue;
            };
            for text in texts(&told).into_values() {
                assert!(!text.contains(SECRET), "{spoken}: {text:?}");
            }
        }
    }
}

/// The texts of an answer, by what they are.
fn texts(events: &[StreamEvent]) -> BTreeMap<(&'static str, u32), String> {
    let mut texts = BTreeMap::<_, String>::new();
    for event in events {
        let (which, text) = match event {
            StreamEvent::Text(text) => (("text", 0), text),
            StreamEvent::Reasoning(text) => (("reasoning", 0), text),
            StreamEvent::Refusal(text) => (("refusal", 0), text),
            StreamEvent::ToolArguments { index, fragment } => (("arguments", *index), fragment),
            _ => continue,
        };
        texts.entry(which).or_default().push_str(text);
    }
    texts
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let text: [&[u8]; 24] = [
        include_bytes!("../dialect/fixtures/anthropic_error.sse"),
        include_bytes!("../dialect/fixtures/anthropic_text.sse"),
        include_bytes!("../dialect/fixtures/anthropic_tools.sse"),
        include_bytes!("../dialect/fixtures/bedrock_error.eventstream"),
        include_bytes!("../dialect/fixtures/bedrock_text.eventstream"),
        include_bytes!("../dialect/fixtures/bedrock_tools.eventstream"),
        include_bytes!("../dialect/fixtures/cohere_error.sse"),
        include_bytes!("../dialect/fixtures/cohere_text.sse"),
        include_bytes!("../dialect/fixtures/cohere_tools.sse"),
        include_bytes!("../dialect/fixtures/gemini_error.sse"),
        include_bytes!("../dialect/fixtures/gemini_text.sse"),
        include_bytes!("../dialect/fixtures/gemini_tools.sse"),
        include_bytes!("../dialect/fixtures/ollama_error.ndjson"),
        include_bytes!("../dialect/fixtures/ollama_text.ndjson"),
        include_bytes!("../dialect/fixtures/ollama_tools.ndjson"),
        include_bytes!("../dialect/fixtures/openai_error.sse"),
        include_bytes!("../dialect/fixtures/openai_responses_error.sse"),
        include_bytes!("../dialect/fixtures/openai_responses_failed.sse"),
        include_bytes!("../dialect/fixtures/openai_responses_incomplete.sse"),
        include_bytes!("../dialect/fixtures/openai_responses_refusal.sse"),
        include_bytes!("../dialect/fixtures/openai_responses_text.sse"),
        include_bytes!("../dialect/fixtures/openai_responses_tools.sse"),
        include_bytes!("../dialect/fixtures/openai_text.sse"),
        include_bytes!("../dialect/fixtures/openai_tools.sse"),
    ];
    text.iter().map(|seed| seed.to_vec()).collect()
}

/// Streams in each dialect in which the secret is spread over two texts and a call's arguments.
pub(super) fn secret_seeds() -> Vec<Vec<u8>> {
    let (one, two) = SECRET.split_at(7);
    let say = |text: &str| StreamEvent::Text(text.to_owned());
    let argue = |text: &str| StreamEvent::ToolArguments { index: 0, fragment: text.to_owned() };
    let named = |text: &str| text.to_owned();
    let events = [
        StreamEvent::Start { id: named("x"), model: named("m"), created: 1 },
        say("see "),
        say(one),
        say(two),
        StreamEvent::ToolStart { index: 0, id: named("call_1"), name: named("f"), signature: None },
        argue("{\"a\":\""),
        argue(one),
        argue(two),
        argue("\"}"),
        StreamEvent::ToolEnd { index: 0 },
        StreamEvent::Stop { reason: crate::ir::StopReason::ToolUse, sequence: None },
        StreamEvent::End,
    ];
    let written = |client: Dialect| {
        let mut writer = wire(client).stream_writer(true);
        let mut out = Vec::new();
        events.iter().for_each(|event| writer.write(event, &mut out));
        out
    };
    Dialect::ALL.into_iter().map(written).chain(seeds()).collect()
}
