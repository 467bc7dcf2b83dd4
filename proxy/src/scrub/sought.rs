//! What an answer was searched for, for whoever knows more of it than its bytes.

use std::sync::Arc;

use super::{ScrubStream, Scrubber};

/// Finds the secrets that the origin of an answer had got when the answer began. [`crate::Proxy::send`] leaves it in the
/// extensions of an answer that was searched: a text that comes in pieces, with other things between them, is put together
/// only by who reads the pieces, and has to be searched again there.
#[derive(Clone)]
pub struct Sought(Arc<[Arc<Scrubber>]>);

impl Sought {
    /// What these find.
    #[must_use]
    pub fn new(scrubbers: &[Arc<Scrubber>]) -> Self {
        Self(scrubbers.into())
    }

    /// For one text that comes in pieces.
    #[must_use]
    pub fn stream(&self) -> ScrubStream {
        ScrubStream::new(&self.0, false)
    }

    /// Whether a stream that holds nothing lets `text` through as it is, and holds nothing afterwards.
    #[must_use]
    pub fn lets_through(&self, text: &[u8]) -> bool {
        self.0.iter().all(|scrubber| scrubber.lets_through(text))
    }
}
