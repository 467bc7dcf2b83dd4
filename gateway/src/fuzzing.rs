//! One function for each parser of a provider's bytes, which takes any bytes and must not panic. The fuzz targets
//! (`gateway/fuzz`) call them, and so do the property tests below, so that neither is left behind.
//!
//! There is no feature for this: `--cfg fuzzing` is what fuzzers set, and nothing else does.

mod documents;
mod framing;
mod streams;

use crate::frames::{Frame, FrameError, Framing};

pub use documents::{answers, errors, json, requests, retry_after};
pub use framing::{event_stream, frames};
pub use streams::{deltas, streams};

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
    Target { name: "answers", try_bytes: answers, seeds: documents::answer_seeds },
    Target { name: "deltas", try_bytes: deltas, seeds: streams::secret_seeds },
    Target { name: "errors", try_bytes: errors, seeds: documents::error_seeds },
    Target { name: "event_stream", try_bytes: event_stream, seeds: framing::event_stream_seeds },
    Target { name: "frames", try_bytes: frames, seeds: streams::seeds },
    Target { name: "json", try_bytes: json, seeds: documents::json_seeds },
    Target { name: "requests", try_bytes: requests, seeds: documents::request_seeds },
    Target { name: "retry_after", try_bytes: retry_after, seeds: documents::retry_after_seeds },
    Target { name: "streams", try_bytes: streams, seeds: streams::seeds },
];

/// Bytes of one frame.
const LIMIT: usize = 1 << 12;

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
