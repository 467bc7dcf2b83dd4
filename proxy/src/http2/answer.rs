//! A response's body as it comes out of a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Frame, SizeHint};

use super::describe;
use crate::BodyError;

/// A response's body. Room for more is given to the peer only as bytes are taken here.
pub(crate) struct Answer {
    stream: RecvStream,
    /// Bytes still to come, when the peer announced how many; `h2` holds it to that.
    left: Option<u64>,
    data_over: bool,
}

impl Answer {
    /// `length` is what the head announced about this body.
    pub(super) fn new(stream: RecvStream, length: Option<u64>) -> Self {
        let left = if stream.is_end_stream() { Some(0) } else { length };
        Self { stream, left, data_over: false }
    }

    /// A reset without an error says that the rest of the request is not wanted; the answer is whole all the same
    /// (RFC 9113, section 8.1), unless more of it was announced.
    fn failed(&self, error: &h2::Error) -> Option<Result<Frame<Bytes>, BodyError>> {
        let whole = error.is_remote() && error.is_reset() && error.reason() == Some(Reason::NO_ERROR);
        (!whole || self.left.is_some_and(|left| left > 0)).then(|| Err(BodyError::Upstream(describe(error))))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        while !this.data_over {
            match ready!(this.stream.poll_data(cx)) {
                // Frames of nothing are no progress, and `h2` ends a connection that sends many.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // Fails only for a stream that is over, where there is nothing left to give room to.
                    let _ = this.stream.flow_control().release_capacity(data.len());
                    if let Some(left) = &mut this.left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(this.failed(&error)),
                None => this.data_over = true,
            }
        }
        Poll::Ready(match ready!(this.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => this.failed(&error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
