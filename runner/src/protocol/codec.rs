//! Frames of the control stream: a 32-bit big-endian length, then that many bytes of JSON.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest frame in bytes, without its length: room for an inline input whose every byte needs a JSON escape.
pub const MAX_FRAME: usize = 4 << 20;

const PREFIX: usize = size_of::<u32>();

/// What is wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than [`MAX_FRAME`].
    #[error("a control frame of {0} bytes is longer than the {MAX_FRAME} that the worker protocol allows")]
    TooLong(usize),
    /// The frame is not the JSON of the expected type.
    #[error("a control frame cannot be understood: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The stream ended inside a frame.
    #[error("the control stream ended inside a frame")]
    Truncated,
}

/// One frame's bytes.
pub fn encode<T: Serialize>(frame: &T) -> Result<Bytes, FrameError> {
    let mut out = BytesMut::with_capacity(256);
    out.put_u32(0);
    let mut writer = out.writer();
    serde_json::to_writer(&mut writer, frame)?;
    let mut out = writer.into_inner();
    let length = out.len() - PREFIX;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_FRAME => out[..PREFIX].copy_from_slice(&prefix.to_be_bytes()),
        _ => return Err(FrameError::TooLong(length)),
    }
    Ok(out.freeze())
}

/// Finds frames in a stream of chunks. Holds at most one frame and one chunk.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// Adds what was read.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete frame, if there is one. After an error the stream is of no further use.
    pub fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        let frame = self.buffer.split_to(length);
        Ok(Some(serde_json::from_slice(&frame)?))
    }

    /// To be called at the end of the stream: an incomplete frame is an error.
    pub fn finish(self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_chunking() {
        let stream: Vec<u8> =
            ["one", "", "drei"].iter().flat_map(|text| encode(text).unwrap().to_vec()).collect();
        for size in 1..=stream.len() {
            let mut decoder = FrameDecoder::default();
            let mut seen: Vec<String> = Vec::new();
            for chunk in stream.chunks(size) {
                decoder.push(chunk);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, ["one", "", "drei"], "chunks of {size}");
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn a_length_beyond_the_cap_is_refused_before_its_bytes_arrive() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.next_frame::<String>(), Err(FrameError::TooLong(_))));
        let long = "x".repeat(MAX_FRAME);
        assert!(matches!(encode(&long), Err(FrameError::TooLong(_))), "the quotes make it too long");
        assert!(encode(&&long[2..]).is_ok());
    }

    #[test]
    fn an_unfinished_frame_is_an_error_at_the_end() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&encode(&"whole").unwrap()[..5]);
        assert!(decoder.next_frame::<String>().unwrap().is_none());
        assert!(matches!(decoder.finish(), Err(FrameError::Truncated)));
    }

    #[test]
    fn junk_is_an_error() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[0, 0, 0, 2, b'{', b'{']);
        assert!(matches!(decoder.next_frame::<String>(), Err(FrameError::Malformed(_))));
    }
}
