//! HTTP/1.1 towards upstreams: one exchange at a time on a connection.

use std::net::IpAddr;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use crate::Caps;
use crate::upload::Upload;

/// What hyper may buffer of a message on each connection.
const BUFFER: usize = 256 << 10;

/// A connection that can take a request. Dropping it closes it, whatever is under way on it.
pub(crate) struct Connection {
    /// Counts the connections of a pool in the order in which they were opened.
    pub(crate) id: u64,
    pub(crate) sender: SendRequest<Upload>,
    pub(crate) address: IpAddr,
    /// Ends the task that drives it.
    pub(crate) task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts HTTP/1.1 on a connection. The future drives it until it ends.
pub(crate) async fn handshake<S>(
    stream: S,
    caps: &Caps,
) -> hyper::Result<(SendRequest<Upload>, impl Future<Output = ()> + Send + use<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = Builder::new()
        .max_buf_size(BUFFER.max(caps.header_bytes))
        .max_headers(caps.header_count)
        .max_header_size(caps.header_bytes)
        .handshake(TokioIo::new(stream))
        .await?;
    let drive = async move {
        // Whatever ends a connection early also ends the exchange on it, which reports it.
        let _ = connection.await;
    };
    Ok((sender, drive))
}
