//! What an answer's body goes through before a guest reads it: unpacked if it came compressed, then searched.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;

use crate::decode::{Coding, Decoder};
use crate::download::scrub_headers;
use crate::scrub::ScrubStream;
use crate::{BodyError, Scrubber};

/// The steps between the upstream's body and the guest's. None of them for most answers.
pub(crate) struct Cleaning {
    decoder: Option<Decoder>,
    /// Room for the decoder's window, where it has a large one.
    _window: Option<OwnedSemaphorePermit>,
    scrub: Option<Search>,
}

struct Search {
    stream: ScrubStream,
    /// For the trailers.
    scrubbers: Vec<Arc<Scrubber>>,
}

impl Cleaning {
    /// For a body in this coding that may hold what these find. What is known to be a stream of `events` waits for
    /// nothing once an event is over.
    pub(crate) fn new(
        coding: Option<Coding>,
        window: Option<OwnedSemaphorePermit>,
        scrubbers: Vec<Arc<Scrubber>>,
        events: bool,
    ) -> Self {
        let scrub = (!scrubbers.is_empty())
            .then(|| Search { stream: ScrubStream::new(&scrubbers, events), scrubbers });
        Self { decoder: coding.map(Decoder::new), _window: window, scrub }
    }

    /// Whether every piece comes out as it went in.
    pub(crate) fn is_nothing(&self) -> bool {
        self.decoder.is_none() && self.scrub.is_none()
    }

    /// Whether one piece may come out as several, which [`Cleaning::more`] then gives.
    pub(crate) fn unpacks(&self) -> bool {
        self.decoder.is_some()
    }

    /// What may go on now that `data` has arrived; may be empty.
    pub(crate) fn push(&mut self, data: Bytes) -> Result<Bytes, BodyError> {
        match &mut self.decoder {
            None => Ok(searched(&mut self.scrub, data)),
            Some(decoder) => {
                decoder.feed(data);
                Ok(self.more()?.unwrap_or_default())
            }
        }
    }

    /// What may go on without more data; never empty.
    pub(crate) fn more(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        while let Some(piece) = decoder.next()? {
            let out = searched(&mut self.scrub, piece);
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
        Ok(None)
    }

    /// What is left once there is no more data.
    pub(crate) fn finish(&mut self) -> Result<Bytes, BodyError> {
        if let Some(decoder) = &self.decoder {
            decoder.finish()?;
        }
        Ok(self.scrub.as_mut().map(|search| search.stream.finish()).unwrap_or_default())
    }

    /// Takes secrets out of trailers.
    pub(crate) fn trailers(&self, trailers: &mut HeaderMap) {
        if let Some(search) = &self.scrub {
            scrub_headers(trailers, &search.scrubbers);
        }
    }
}

fn searched(scrub: &mut Option<Search>, data: Bytes) -> Bytes {
    match scrub {
        None => data,
        Some(search) => search.stream.push(data),
    }
}
