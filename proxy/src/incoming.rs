//! A response's body from either kind of connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::BodyError;
use crate::download::describe;
use crate::http1::Driver;
use crate::http2::Answer;

/// A response's body as the upstream sends it.
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming, Arc<Driver>),
    Http2(Answer),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Http1(body, driver) => driver
                .poll(cx, |cx| Pin::new(&mut *body).poll_frame(cx))
                .map_err(|e| BodyError::Upstream(describe(&e))),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body, _) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body, _) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
