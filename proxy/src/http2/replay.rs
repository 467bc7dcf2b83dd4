//! What was sent of a request's body, kept until the answer begins in case the peer says that it did not look at it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::{Body, BodyError};

/// A request is repeated only when no more than this was sent of its body. Prompts fit; uploads are not worth it.
const KEPT: usize = 256 << 10;

/// The frames that were sent so far. Their bytes are shared with what goes out, not copied.
#[derive(Default)]
pub(super) struct Kept {
    frames: VecDeque<Piece>,
    bytes: usize,
    /// More was sent than is kept.
    overflown: bool,
}

enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Kept {
    pub(super) fn data(&mut self, data: &Bytes) {
        self.bytes += data.len();
        if self.bytes > KEPT {
            self.forget();
        } else if !self.overflown {
            self.frames.push_back(Piece::Data(data.clone()));
        }
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if !self.overflown {
            self.frames.push_back(Piece::Trailers(trailers.clone()));
        }
    }

    /// From here on the request cannot be repeated.
    pub(super) fn forget(&mut self) {
        self.overflown = true;
        self.frames = VecDeque::new();
    }

    /// The whole body again, when all of it can be had.
    pub(super) fn rewind(self, rest: Body) -> Option<Body> {
        let Self { frames, overflown, .. } = self;
        (!overflown).then(|| Body::new(Replayed { frames, rest }))
    }
}

struct Replayed {
    frames: VecDeque<Piece>,
    rest: Body,
}

impl http_body::Body for Replayed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.frames.pop_front() {
            Some(Piece::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Piece::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.frames.is_empty() { self.rest.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::body::full;

    #[tokio::test]
    async fn what_was_sent_comes_before_the_rest() {
        let mut kept = Kept::default();
        kept.data(&Bytes::from_static(b"a "));
        kept.data(&Bytes::from_static(b"whole "));
        let body = kept.rewind(full("body")).unwrap();
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "a whole body");
    }

    #[test]
    fn more_than_is_kept_cannot_be_had_again() {
        let mut kept = Kept::default();
        kept.data(&Bytes::from(vec![0; KEPT]));
        assert!(!kept.overflown);
        kept.data(&Bytes::from_static(b"x"));
        kept.data(&Bytes::from_static(b"y"));
        assert!(kept.rewind(full("rest")).is_none());
        let mut seen = Kept::default();
        seen.forget();
        assert!(seen.rewind(full("rest")).is_none());
    }
}
