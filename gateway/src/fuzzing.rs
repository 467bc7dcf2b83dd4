//! One function for each parser of a provider's bytes, which takes any bytes and must not panic. The fuzz targets
//! (`gateway/fuzz`) call them, and so do the property tests below, so that neither is left behind.
//!
//! There is no feature for this: `--cfg fuzzing` is what fuzzers set, and nothing else does.

use orch_manifests::Dialect;

use crate::dialect::wire;
use crate::frames::event_stream::{self, Message};
use crate::frames::{Frame, FrameError, Framing};
use crate::ir::StreamEvent;

/// A parser, and bytes that it accepts.
pub struct Target {
    /// Its name, that of its fuzz target.
    pub name: &'static str,
    /// Tries the bytes.
    pub try_bytes: fn(&[u8]),
    /// Bytes that it has much to do with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "event_stream", try_bytes: event_stream, seeds: event_stream_seeds },
    Target { name: "frames", try_bytes: frames, seeds: frame_seeds },
    Target { name: "streams", try_bytes: streams, seeds: frame_seeds },
];

/// Bytes of one frame.
const LIMIT: usize = 1 << 12;

const FRAMINGS: [Framing; 3] = [Framing::Sse, Framing::Ndjson, Framing::EventStream];

/// One binary message. What is read is written to the same bytes. So that more than checksums is tried, they are put
/// right first, where there is room for them.
pub fn event_stream(data: &[u8]) {
    let _ = Message::parse(data);
    let mut bytes = data.to_vec();
    let Ok(total) = u32::try_from(bytes.len()) else { return };
    if bytes.len() < 16 {
        return;
    }
    let end = bytes.len() - 4;
    bytes[..4].copy_from_slice(&total.to_be_bytes());
    let sum = crc32fast::hash(&bytes[..8]);
    bytes[8..12].copy_from_slice(&sum.to_be_bytes());
    let sum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_be_bytes());
    if let Ok(message) = Message::parse(&bytes) {
        assert_eq!(message.to_bytes(), bytes, "what was read is written as it was");
    }
    let whole = read(Framing::EventStream, &bytes, bytes.len());
    assert_eq!(read(Framing::EventStream, &bytes, 1), whole, "chunks do not matter");
}

fn event_stream_seeds() -> Vec<Vec<u8>> {
    vec![
        event_stream::event("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"a"}}"#)
            .raw
            .to_vec(),
        event_stream::exception("throttlingException", r#"{"message":"no"}"#).raw.to_vec(),
        event_stream::event("messageStop", "").raw.to_vec(),
    ]
}

/// A stream in each framing: how it is cut into chunks does not matter, and other data in a frame is what is read from its
/// bytes then.
pub fn frames(data: &[u8]) {
    for framing in FRAMINGS {
        let whole = read(framing, data, data.len().max(1));
        assert_eq!(read(framing, data, 1), whole, "{framing:?} byte by byte");
        assert_eq!(read(framing, data, 7), whole, "{framing:?} in sevens");
        for frame in whole.0 {
            let Some(data) = frame.data.clone().filter(|data| !data.contains(['\r', '\n'])) else { continue };
            let mut other = frame;
            other.replace_data(data.clone());
            let again = read(framing, &other.raw, other.raw.len().max(1)).0;
            let data = if framing == Framing::Ndjson { data.trim().to_owned() } else { data };
            if !data.is_empty() {
                assert_eq!(again.first().and_then(|frame| frame.data.clone()), Some(data), "{framing:?}");
            }
        }
    }
}

fn frame_seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("dialect/fixtures/openai_tools.sse").to_vec(),
        include_bytes!("dialect/fixtures/anthropic_tools.sse").to_vec(),
        include_bytes!("dialect/fixtures/gemini_tools.sse").to_vec(),
        include_bytes!("dialect/fixtures/bedrock_tools.eventstream").to_vec(),
        b"{\"message\":{\"content\":\"a\"}}\n{\"done\":true}\n".to_vec(),
    ]
}

/// A provider's stream in each dialect, and what a client of each is written of it. Nothing follows an end.
pub fn streams(data: &[u8]) {
    for spoken in Dialect::ALL {
        let wire_ = wire(spoken);
        let (frames, _) = read(wire_.framing(), data, data.len().max(1));
        let mut parser = wire_.stream_parser();
        let mut events = Vec::new();
        for frame in &frames {
            let Ok(meaning) = parser.read(frame) else { break };
            events.extend(meaning);
        }
        let over = |event: &StreamEvent| matches!(event, StreamEvent::End | StreamEvent::Error(_));
        let end = events.iter().position(over);
        assert!(end.is_none_or(|end| end + 1 == events.len()), "{spoken}: something follows the end");
        for client in Dialect::ALL {
            let mut writer = wire(client).stream_writer(true);
            let mut out = Vec::new();
            events.iter().for_each(|event| writer.write(event, &mut out));
            let (_, error) = read(wire(client).framing(), &out, out.len().max(1));
            assert!(
                matches!(error, None | Some(FrameError::TooLarge { .. })),
                "{client} cannot be read back: {error:?}"
            );
        }
    }
}

/// The frames of a stream that comes in chunks of this size, and what ended it early.
fn read(framing: Framing, data: &[u8], size: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut splitter = framing.splitter(LIMIT);
    let mut frames = Vec::new();
    for chunk in data.chunks(size) {
        splitter.push(chunk);
        loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

#[cfg(test)]
mod tests;
