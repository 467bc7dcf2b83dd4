//! HTTP/1.1 towards upstreams: one exchange at a time on a connection.

mod driver;
mod flushing;

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Caps;
use crate::upload::Upload;

pub(crate) use driver::Driver;
use flushing::Flushing;

/// What hyper may buffer of a message on each connection.
const BUFFER: usize = 256 << 10;

/// A connection that can take a request. Dropping it closes it, whatever is under way on it.
pub(crate) struct Connection {
    /// Counts the connections of a pool in the order in which they were opened.
    pub(crate) id: u64,
    pub(crate) sender: SendRequest<Upload>,
    pub(crate) address: IpAddr,
    pub(crate) driver: Arc<Driver>,
}

impl Connection {
    /// Whether the peer has not closed it, as far as can be told without waiting.
    pub(crate) fn is_open(&self) -> bool {
        self.driver.drive_once();
        !self.sender.is_closed()
    }

    /// Waits until it can take a request.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let Self { sender, driver, .. } = self;
        driver.poll(cx, |cx| sender.poll_ready(cx))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.cut();
    }
}

/// Starts HTTP/1.1 on a connection.
pub(crate) async fn handshake<S>(stream: S, caps: &Caps) -> hyper::Result<(SendRequest<Upload>, Driver)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, flushed) = Flushing::new(stream);
    let (sender, connection) = Builder::new()
        .max_buf_size(BUFFER.max(caps.header_bytes))
        .max_headers(caps.header_count)
        .max_header_size(caps.header_bytes)
        .handshake(TokioIo::new(stream))
        .await?;
    let work = async move {
        // Whatever ends a connection early also ends the exchange on it, which reports it.
        let _ = connection.await;
    };
    let driver = Driver::new(work, flushed);
    Ok((sender, driver))
}
