//! The worker's end of the socket.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::tasks::Tasks;

/// A body on the socket, in either direction.
pub type WireBody = WasiBody;

/// The socket is gone, or the broker broke the stream off.
#[derive(Debug, thiserror::Error)]
#[error("the broker broke the stream off")]
pub struct WireError;

/// Where a run's standard streams and requests go. A worker's is the broker's socket.
pub trait Wire: Send + Sync + 'static {
    /// Sends a request to one of the [doors](crate::protocol). Dropping the future, or the response's body, resets
    /// the stream.
    fn send(&self, request: Request<WireBody>) -> BoxFuture<'static, Result<Response<WireBody>, WireError>>;
}

/// As in the broker's end: a stream's window is small, the connection's is as large as it can be.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
const MAX_HEADERS: u32 = 256 << 10;
const MAX_STREAMS: usize = 1 << 16;

/// The HTTP/2 client on the worker's socket.
pub(super) struct Socket(http2::SendRequest<WireBody>);

impl Socket {
    /// Connects, and returns the future that drives the connection until it closes.
    pub(super) async fn open(
        socket: StdUnixStream,
        tasks: Tasks,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + 'static), String> {
        let failed = |error: &dyn std::fmt::Display| format!("the socket cannot be used: {error}");
        socket.set_nonblocking(true).map_err(|error| failed(&error))?;
        let socket = UnixStream::from_std(socket).map_err(|error| failed(&error))?;
        let (sender, connection) = http2::Builder::new(tasks)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .initial_max_send_streams(MAX_STREAMS)
            // Guests may drop any number of requests; frames that still arrive for those are no offence.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(MAX_STREAMS)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| failed(&error))?;
        let drive = async {
            // How it ends makes no difference: without its socket the worker is over.
            let _ = connection.await;
        };
        Ok((Arc::new(Socket(sender)), drive))
    }
}

impl Wire for Socket {
    fn send(&self, request: Request<WireBody>) -> BoxFuture<'static, Result<Response<WireBody>, WireError>> {
        let sent = self.0.clone().send_request(request);
        Box::pin(async move {
            let response = sent.await.map_err(|_| WireError)?;
            Ok(response.map(|body| body.map_err(|_| Error::HttpResponseIncomplete).boxed_unsync()))
        })
    }
}

/// A request to `door` with no headers and no body yet.
pub(super) fn request_to(door: &'static str, method: Method, path: PathAndQuery) -> Request<()> {
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(Authority::from_static(door))
        .path_and_query(path)
        .build()
        .expect("all three parts are there and each is valid");
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    request
}

/// A body of nothing.
pub(super) fn empty() -> WireBody {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}
