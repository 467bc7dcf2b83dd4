//! A block of which something is held.

use orch_proxy::ScrubStream;
use zeroize::Zeroizing;

use super::texts::Block;

pub(super) struct Held {
    pub(super) block: Block,
    stream: ScrubStream,
    /// The beginning of a character whose rest is held: secrets are bytes.
    cut: Zeroizing<Vec<u8>>,
}

impl Held {
    pub(super) fn new(block: Block, stream: ScrubStream) -> Held {
        Held { block, stream, cut: Zeroizing::default() }
    }

    /// What may go on now that `text` has come.
    pub(super) fn push(&mut self, text: &str) -> String {
        let bytes = self.stream.push(text.to_owned().into());
        self.whole_characters(&bytes)
    }

    /// What is held, if it is no more than `most` bytes; see [`ScrubStream::release`].
    pub(super) fn release(&mut self, most: usize) -> String {
        let bytes = self.stream.release(most);
        self.whole_characters(&bytes)
    }

    /// What is left at the block's end.
    pub(super) fn finish(mut self) -> String {
        let bytes = self.stream.finish();
        self.cut.extend_from_slice(&bytes);
        // Half a character is left only of one whose other half was part of a secret.
        String::from_utf8_lossy(&self.cut).into_owned()
    }

    /// Bytes that may be the beginning of a secret.
    pub(super) fn begun(&self) -> usize {
        self.stream.held()
    }

    /// Whether it is as if nothing had come.
    pub(super) fn is_idle(&self) -> bool {
        self.stream.held() == 0 && self.cut.is_empty()
    }

    fn whole_characters(&mut self, bytes: &[u8]) -> String {
        self.cut.extend_from_slice(bytes);
        let mut out = String::new();
        let mut left = 0;
        for chunk in self.cut.utf8_chunks() {
            out.push_str(chunk.valid());
            left = match chunk.invalid() {
                [] => 0,
                invalid if is_begun(invalid) => invalid.len(),
                _ => {
                    out.push(char::REPLACEMENT_CHARACTER);
                    0
                }
            };
        }
        let over = self.cut.len() - left;
        self.cut.drain(..over);
        out
    }
}

/// Whether these bytes, which are no character, become one with more.
fn is_begun(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
