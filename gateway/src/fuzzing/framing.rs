//! How bytes become frames.

use super::read;
use crate::frames::event_stream::{self, Message};
use crate::frames::{Frame, FrameError, Framing};

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

pub(super) fn event_stream_seeds() -> Vec<Vec<u8>> {
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
        assert_eq!(alike(read(framing, data, 1)), alike(whole.clone()), "{framing:?} byte by byte");
        assert_eq!(alike(read(framing, data, 7)), alike(whole.clone()), "{framing:?} in sevens");
        for frame in whole.0 {
            let Some(data) = frame.data.clone().filter(|data| !data.contains(['\r', '\n'])) else { continue };
            let mut other = frame;
            other.replace_data(data.clone());
            let again = read(framing, &other.raw, other.raw.len().max(1)).0;
            let data = if framing == Framing::Ndjson {
                data.trim_matches([' ', '\t', '\r', '\n']).to_owned()
            } else {
                data
            };
            if !data.is_empty() {
                assert_eq!(again.first().and_then(|frame| frame.data.clone()), Some(data), "{framing:?}");
            }
        }
    }
}

/// Without the ends of lines that follow a frame: a CR that ends one is not waited behind for the LF that may belong to it.
fn alike((frames, error): (Vec<Frame>, Option<FrameError>)) -> (Vec<Frame>, Option<FrameError>) {
    let trimmed = |frame: Frame| match frame.framing {
        Framing::Sse => {
            let length = frame.raw.trim_ascii_end().len();
            Frame { raw: frame.raw.slice(..length), ..frame }
        }
        Framing::Ndjson | Framing::EventStream => frame,
    };
    (frames.into_iter().map(trimmed).collect(), error)
}
