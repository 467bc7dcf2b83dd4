//! The server side of the socket: who knocks on which door, and what comes of it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::rt::{Read, Write};
use hyper::server::conn::http2;
use hyper::service::service_fn;

use super::control::Control;
use super::runs::LiveRun;
use super::{Body, BodyError, Door, Refusal, RefusalCode, Shared, empty, refused};
use crate::protocol::{self, RESERVED, Stdio};

/// Streams at once of a worker with few runs, and what each of many has: three for itself, and some for its requests, which
/// the broker's policy bounds.
const FEW_STREAMS: u32 = 1 << 16;
const STREAMS_PER_RUN: u32 = 3 + 64;

/// How much of one stream may wait here, in bytes. The connection's window is as large as HTTP/2 allows, so that
/// streams that are not being read cannot hold up the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Longest list of header fields in bytes; wasi:http lets guests have half of that.
const MAX_HEADERS: u32 = 256 << 10;

/// The doors of one worker.
pub(super) struct Doors {
    shared: Weak<Shared>,
    /// Streams at once.
    streams: u32,
    control: Mutex<Option<Control>>,
}

impl Doors {
    /// For a worker that has room for so many `runs`.
    pub(super) fn new(shared: &Arc<Shared>, runs: u32, control: Control) -> Self {
        let streams = runs.saturating_mul(STREAMS_PER_RUN).max(FEW_STREAMS);
        Doors { shared: Arc::downgrade(shared), streams, control: Mutex::new(Some(control)) }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let Some(shared) = self.shared.upgrade() else { return status(StatusCode::SERVICE_UNAVAILABLE) };
        // The strings are compared here and nowhere else: this is where the protocol's table is implemented.
        match (request.uri().authority().map(Authority::as_str), request.uri().path()) {
            (Some(protocol::CONTROL), "/v1/control") if request.method() == Method::POST => {
                let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
                match control {
                    Some(control) => Response::new(control.open(&shared, request.into_body())),
                    None => status(StatusCode::CONFLICT),
                }
            }
            (Some(protocol::IO), path) => match Stdio::parse(path) {
                Some((run, stdio)) => standard_stream(&shared, &run, stdio, request).await,
                None => status(StatusCode::NOT_FOUND),
            },
            (Some(protocol::EGRESS), _) => egress(&shared, request).await,
            _ => status(StatusCode::NOT_FOUND),
        }
    }
}

/// Serves the doors until the socket closes.
pub(super) fn serve<I>(io: I, doors: Doors) -> impl Future<Output = ()> + Send + 'static
where
    I: Read + Write + Unpin + Send + 'static,
{
    let tasks = doors.shared.upgrade().map(|shared| shared.tasks.clone());
    let streams = doors.streams;
    let doors = Arc::new(doors);
    async move {
        let Some(tasks) = tasks else { return };
        let service = service_fn(move |request| {
            let doors = Arc::clone(&doors);
            async move { Ok::<_, Infallible>(doors.answer(request).await) }
        });
        let connection = http2::Builder::new(tasks)
            .max_concurrent_streams(streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS)
            // A guest that drops many requests makes its worker reset many streams, which is no attack on the broker
            // and must not end the connection that all runs share.
            .max_pending_accept_reset_streams(FEW_STREAMS as usize)
            .max_local_error_reset_streams(None)
            .auto_date_header(false)
            .serve_connection(io, service);
        // How the connection ends makes no difference: the worker goes with it.
        let _ = connection.await;
    }
}

async fn standard_stream(
    shared: &Arc<Shared>,
    run: &orch_manifests::RunId,
    stdio: Stdio,
    request: Request<Incoming>,
) -> Response<Body> {
    let live =
        shared.runs.get(run).filter(|live| only(request.headers(), protocol::TOKEN) == Some(live.token()));
    let Some(live) = live else { return status(StatusCode::FORBIDDEN) };
    if stdio == Stdio::Stdin {
        return match live.take_stdin() {
            Some(body) if request.method() == Method::GET => Response::new(until_closed(body, live)),
            _ => status(StatusCode::NOT_FOUND),
        };
    }
    let Some(mut output) = live.output(stdio).filter(|_| request.method() == Method::POST) else {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    };
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(bytes) = frame.into_data() else { continue };
        let write = output.write(bytes);
        tokio::select! {
            written = write => if written.is_err() {
                shared.condemn(format!("sent more output of run {run} than it may write"));
                return status(StatusCode::PAYLOAD_TOO_LARGE);
            },
            // Nobody reads the output of a run that was given up; the worker is not kept waiting.
            () = live.closed() => return status(StatusCode::GONE),
        }
    }
    status(StatusCode::NO_CONTENT)
}

async fn egress(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let live = only(request.headers(), protocol::TOKEN).and_then(|token| shared.runs.by_token(token));
    let Some(live) = live else { return mark(refused(RefusalCode::Denied)) };
    let Some(request) = for_door(request, &live) else { return mark(refused(RefusalCode::BadRequest)) };
    let door: &dyn Door = &*shared.door;
    let response = tokio::select! {
        response = door.request(live.token(), request) => response,
        () = live.closed() => return mark(refused(RefusalCode::Denied)),
    };
    let (mut parts, body) = mark(response).into_parts();
    parts.version = Version::HTTP_2;
    Response::from_parts(parts, until_closed(body, live))
}

/// The request as the guest meant it, or none if that cannot be told.
fn for_door(request: Request<Incoming>, live: &Arc<LiveRun>) -> Option<Request<Body>> {
    let (parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return None;
    }
    let scheme = match only(&parts.headers, protocol::SCHEME)? {
        "http" => Scheme::HTTP,
        "https" => Scheme::HTTPS,
        _ => return None,
    };
    let authority: Authority = only(&parts.headers, protocol::AUTHORITY)?.parse().ok()?;
    // User information is never part of what is requested (RFC 9110, section 4.2.4) and misleads who reads it.
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if !path.as_str().starts_with('/') {
        return None;
    }
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()?;

    let mut headers = parts.headers;
    strip_reserved(&mut headers);
    headers.remove(header::HOST);
    let mut out = Request::new(until_closed(body.map_err(BodyError::from).boxed_unsync(), Arc::clone(live)));
    *out.method_mut() = parts.method;
    *out.uri_mut() = uri;
    *out.headers_mut() = headers;
    Some(out)
}

/// Turns a door's answer into one for the worker: what an upstream says in the protocol's own headers is removed,
/// and a [`Refusal`] becomes the header that only the broker writes.
fn mark(mut response: Response<Body>) -> Response<Body> {
    strip_reserved(response.headers_mut());
    if let Some(Refusal(code)) = response.extensions_mut().remove() {
        response.headers_mut().insert(protocol::REFUSAL, HeaderValue::from_static(code.as_str()));
    }
    response
}

fn strip_reserved(headers: &mut HeaderMap) {
    let reserved: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with(RESERVED)).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

/// The value of a header that must be there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = code;
    response
}

/// A body that breaks off when its run's doors close, and in whose trailers nothing is reserved.
fn until_closed(body: Body, live: Arc<LiveRun>) -> Body {
    let closed = Box::pin(async move { live.closed().await });
    UntilClosed { body, closed: Some(closed) }.boxed_unsync()
}

struct UntilClosed {
    body: Body,
    /// Empty once it has resolved.
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Why such a body breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the run is over")]
struct RunOver;

impl HttpBody for UntilClosed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(closed) = &mut self.closed else { return Poll::Ready(None) };
        if closed.as_mut().poll(cx).is_ready() {
            self.closed = None;
            return Poll::Ready(Some(Err(RunOver.into())));
        }
        let mut frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            strip_reserved(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
