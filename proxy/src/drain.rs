//! The rest of an answer whose reader has heard all that it wants.
//!
//! A stream says by itself that it is over, before the message that carries it is: the end of a chunked body, or of a
//! stream of HTTP/2, comes behind that. Whoever stops reading there costs the connection, and the next request a handshake.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use tokio::time::timeout;

use crate::{Body, Proxy};

/// How long the end may take. Nobody waits for it meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that may come before it. A frame of none counts as one.
const MOST: usize = 16 << 10;

impl Proxy {
    /// Reads what is left of an answer, so that its connection can serve again, and throws it away. It is not waited for:
    /// what has not come by now is read apart, and cut off if it does not end soon.
    pub fn drain(&self, rest: Body) {
        let mut rest = Rest { body: rest, left: MOST };
        // Nearly always it is there. What polls again later brings a waker.
        if rest.poll_end(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.setup().pool.spawn(async move {
                let _ = timeout(PATIENCE, std::future::poll_fn(|cx| rest.poll_end(cx))).await;
            });
        }
    }
}

struct Rest {
    body: Body,
    left: usize,
}

impl Rest {
    /// Ready at the end, or where there is too much before it. Dropped after that, it goes with its connection unless it
    /// came to its end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(Ok(frame)) = ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            match self.left.checked_sub(frame.data_ref().map_or(0, Bytes::len).max(1)) {
                Some(left) => self.left = left,
                None => break,
            }
        }
        Poll::Ready(())
    }
}
