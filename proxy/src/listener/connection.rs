//! One connection of a client: requests one after the other, and perhaps a tunnel in the end.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::clients::Known;
use super::intake::{Intake, Verdicts};
use super::strangers::Stranger;
use super::tunnel::{self, TunnelTimeouts};
use super::{Shared, answer, head, upgrade};
use crate::connect::Opened;
use crate::forward::Inbound;
use crate::ledger::sanitised;
use crate::{Body, BodyError, Reason, body};

/// How long a connection may be nobody's.
const STRANGE: Duration = Duration::from_secs(10);
/// Wrong credentials that one connection may show.
const TRIES: u32 = 3;
/// How long a client may take to read the last answer, and what may still come from it meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 << 10;

/// Serves a connection to its end. A first `true` of `stopping` ends it after the request that is under way.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    stranger: Stranger,
    stopping: watch::Receiver<bool>,
) {
    // What HTTP needs is given back before a tunnel begins, which may stand for hours.
    let Some(upgraded) = Box::pin(speak_http(&shared, stream, peer, stranger, stopping)).await else {
        return;
    };
    let Upgraded { opened, stream, early, known, _permit } = upgraded;
    let limits = &shared.limits;
    let timeouts = TunnelTimeouts {
        hello: limits.hello,
        idle: limits.tunnel_idle,
        half_closed: limits.tunnel_half_closed,
        total: limits.tunnel_total,
    };
    if let Some(end) = tunnel::run(opened, stream, early, timeouts).await {
        shared.witness.tunnel_ended(&known.name, &end);
    }
}

/// A connection that is a tunnel now.
struct Upgraded {
    opened: Opened,
    stream: TcpStream,
    early: Vec<u8>,
    known: Arc<Known>,
    _permit: OwnedSemaphorePermit,
}

async fn speak_http(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    stranger: Stranger,
    mut stopping: watch::Receiver<bool>,
) -> Option<Upgraded> {
    let caps = shared.proxy.setup().caps;
    let (intake, verdicts) = Intake::new(stream, caps, shared.limits.write_idle);
    let put_out = stranger.put_out();
    let talk = Arc::new(Talk {
        shared: Arc::clone(shared),
        peer,
        verdicts,
        failures: AtomicU32::new(0),
        admitted: Mutex::default(),
        stranger: Mutex::new(Some(stranger)),
        opened: Mutex::default(),
    });
    let answering = Arc::clone(&talk);
    let service = service_fn(move |request| {
        let talk = Arc::clone(&answering);
        Box::pin(async move { Ok::<_, Infallible>(talk.answer(request).await) })
    });
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_read)
        .max_headers(caps.header_count + 1)
        .max_buf_size(head::longest(&caps))
        .auto_date_header(false);
    let mut connection = builder.serve_connection(TokioIo::new(intake), service);
    let remains_strange = async {
        let _ = timeout(STRANGE, put_out.notified()).await;
        if talk.admitted().is_some() {
            pending::<()>().await;
        }
    };
    let done = tokio::select! {
        done = &mut connection => Some(done),
        () = remains_strange => return None,
        _ = stopping.wait_for(|stop| *stop) => None,
    };
    let done = match done {
        Some(done) => done,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    // Whoever broke it off hears nothing more.
    done.ok()?;
    let parts = connection.into_parts();
    let (mut stream, rest) = parts.io.into_inner().into_parts();
    let Some(opened) = talk.opened().take() else {
        linger(&mut stream).await;
        return None;
    };
    let (known, permit) = talk.admitted().take()?;
    let early = [&parts.read_buf[..], &rest[..]].concat();
    Some(Upgraded { opened, stream, early, known, _permit: permit })
}

/// Lets the client read the last answer: a connection that is closed with something unread in it takes that along.
async fn linger(stream: &mut TcpStream) {
    let drained = async {
        // After a CONNECT that was refused hyper has not done so.
        let _ = stream.shutdown().await;
        let (mut space, mut left) = ([0; 4 << 10], LINGER_BYTES);
        while let Ok(count @ 1..) = stream.read(&mut space).await {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    };
    // As long as that is worth waiting for.
    let _ = timeout(LINGER, drained).await;
}

/// What one connection's requests share.
struct Talk {
    shared: Arc<Shared>,
    peer: SocketAddr,
    verdicts: Verdicts,
    failures: AtomicU32,
    /// Whose connection it is, and its place among those.
    admitted: Mutex<Option<(Arc<Known>, OwnedSemaphorePermit)>>,
    /// Its place among those that are nobody's yet.
    stranger: Mutex<Option<Stranger>>,
    /// The tunnel that it becomes.
    opened: Mutex<Option<Opened>>,
}

impl Talk {
    fn admitted(&self) -> MutexGuard<'_, Option<(Arc<Known>, OwnedSemaphorePermit)>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let host = request.uri().host().map(sanitised).unwrap_or_default();
        if let Err(reason) = self.verdicts.next() {
            self.shared.witness.refused(self.peer, None, &reason);
            return answer::closing(answer::refused(&reason, ""));
        }
        let connect = *request.method() == Method::CONNECT;
        let Some(known) = self.shared.clients.find(request.headers()).cloned() else {
            let reason = Reason::new("proxy_authentication_required", "no credentials, or wrong ones");
            self.shared.witness.refused(self.peer, None, &reason);
            let refused = answer::not_authenticated();
            let last = self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= TRIES;
            return if connect || last { answer::closing(refused) } else { refused };
        };
        if !self.admit(&known) {
            let reason = Reason::new("too_many_connections", "as many connections as it may have");
            self.shared.witness.refused(self.peer, Some(&known.name), &reason);
            return answer::too_many_connections();
        }
        if let Err(reason) = self.shared.check_form(&request) {
            self.shared.witness.refused(self.peer, Some(&known.name), &reason);
            return answer::closing(answer::refused(&reason, &host));
        }
        if connect {
            return match self.shared.proxy.open(&known.grant, &request.into_parts().0, &known.opaque).await {
                Ok(opened) => {
                    *self.opened() = Some(opened);
                    Response::new(body::empty())
                }
                Err(error) => answer::closing(answer::failed(&error, &host)),
            };
        }
        let (mut parts, incoming) = request.into_parts();
        let policy = known.grant.standing();
        let target = upgrade::to_https(&mut parts, &policy.rules, &policy.index);
        let body = match incoming.is_end_stream() {
            true => body::empty(),
            false => incoming.map_err(|error| BodyError::Guest(error.to_string())).boxed_unsync(),
        };
        let inbound = Inbound { parts, body, target, via: Some(self.shared.via.clone()) };
        match self.shared.proxy.forward_inbound(&known.grant, inbound).await {
            Ok(mut response) => {
                *response.version_mut() = Version::HTTP_11;
                response
            }
            Err(error) => answer::failed(&error, &host),
        }
    }

    /// Makes it the client's connection, if the client may have one more.
    fn admit(&self, known: &Arc<Known>) -> bool {
        let mut admitted = self.admitted();
        if admitted.as_ref().is_some_and(|(owner, _)| Arc::ptr_eq(owner, known)) {
            return true;
        }
        match Arc::clone(&known.connections).try_acquire_owned() {
            Ok(permit) => {
                *admitted = Some((Arc::clone(known), permit));
                drop(self.stranger.lock().unwrap_or_else(PoisonError::into_inner).take());
                true
            }
            Err(_) => false,
        }
    }
}
