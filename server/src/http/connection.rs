//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use orch_proxy::{Body, BodyError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::activity::{Activity, UnderWay};
use super::peers::Place;
use super::stalling::Stalling;
use super::{Answer, Known, Limits, Reception};
use crate::caller::{Caller, Peer};

/// What a connection says of whoever is at its other end.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) peer: Peer,
    /// Who it is, where the connection itself says so.
    pub(super) caller: Option<Caller>,
    /// The address that the connection was made to; none where names do not matter, because no browser gets there.
    pub(super) local: Option<IpAddr>,
}

/// Serves requests until the peer is done, was silent for too long, or `closing` says that it is enough.
pub(super) async fn serve<A: Answer>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    line: Line,
    answer: A,
    reception: Arc<Reception>,
    limits: &Limits,
    mut closing: watch::Receiver<bool>,
) {
    let activity = Activity::new();
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = activity.begin();
        let (line, answer, reception) = (line.clone(), answer.clone(), Arc::clone(&reception));
        let activity = activity.clone();
        async move {
            let (response, place) = respond(request, line, &answer, &reception).await;
            let known = response.extensions().get::<Known>().is_some();
            if known {
                activity.recognise();
            }
            let under_way = known.then_some(under_way);
            Ok::<_, Infallible>(response.map(|body| Tracked { body, _under_way: under_way, _place: place }))
        }
    });
    let builder = builder(limits);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(Stalling::new(io, limits.unread)), service));
    // How a connection ends is its peer's affair: what went wrong on it was answered, or nobody is there to be told.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = activity.silence(limits.head, limits.stranger, limits.idle) => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(limits.goodbye, connection).await;
        }
        () = told_to(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Resolves when the connection should be closed, or nobody is left who could say so.
async fn told_to(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The silence of a connection is watched in one place for both versions.
        .header_read_timeout(None)
        .max_headers(limits.headers)
        .max_buf_size(limits.head_bytes.max(8 << 10) * 2);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes * 2).unwrap_or(u32::MAX))
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.stream_window.saturating_mul(4))
        .max_pending_accept_reset_streams(limits.resets)
        .max_local_error_reset_streams(limits.resets)
        .max_send_buf_size(limits.stream_window as usize)
        .keep_alive_interval(limits.unread / 2)
        .keep_alive_timeout(limits.unread / 2);
    builder
}

async fn respond(
    request: Request<Incoming>,
    line: Line,
    answer: &impl Answer,
    reception: &Reception,
) -> (Response<Body>, Option<Place>) {
    let (parts, body) = request.into_parts();
    let peer = reception.origin(line.peer, &parts);
    let place = match reception.check(&parts, line.local).and_then(|()| reception.enter(peer)) {
        Ok(place) => place,
        Err(failure) => return (answer.refuse(peer, &parts, &failure), None),
    };
    let body = body.map_err(|e| BodyError::Guest(e.to_string())).boxed_unsync();
    (answer.answer(line.caller, peer, Request::from_parts(parts, body)).await, place)
}

/// A body that holds its connection open, and its client's place, for as long as somebody reads it.
struct Tracked {
    body: Body,
    _under_way: Option<UnderWay>,
    _place: Option<Place>,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
