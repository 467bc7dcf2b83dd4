//! The listeners of a server, and what they take from whoever is not known yet.
//!
//! Everything here happens before anybody has said who they are, so everything is bounded: connections in all and of
//! each peer, the time of a TLS handshake, of a request's head and of silence, the size of a head, what an HTTP/2
//! peer may open and reset, and how long a peer may refuse to read. Who asks, and what for, is for [`Answer`] to say.
//!
//! Read [`Server::serve`], then `connection.rs`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response};
use orch_proxy::{Body, Lanes};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::caller::{Caller, Peer};
use crate::failure::Failure;

mod activity;
mod connection;
mod forwarded;
mod limits;
mod names;
mod peers;
mod proxies;
mod reception;
mod socket;
mod stalling;
#[cfg(test)]
mod tests;
mod tls;

pub use forwarded::ForwardedHeader;
pub use limits::Limits;
pub use names::Names;
pub(crate) use peers::PeerKey;
pub use proxies::TrustedProxies;
pub use tls::TlsFiles;

use connection::Line;
use peers::Peers;
use reception::Reception;
use socket::SocketFile;

/// How long accepting pauses when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who answers the requests that come in.
pub trait Answer: Clone + Send + Sync + 'static {
    /// Answers one request. With a caller, the connection itself says who asks; without one, the request has to.
    fn answer(
        &self,
        caller: Option<Caller>,
        peer: Peer,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// Answers a request that was refused before anybody looked at who asks.
    fn refuse(&self, peer: Peer, request: &Parts, failure: &Failure) -> Response<Body>;
}

/// Marks the answer to somebody who is known: such a request keeps its connection for as long as its answer is read.
/// The answer to anybody else does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known;

/// A bound server that accepts nothing yet.
pub struct Server {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    unix: UnixListener,
    socket: SocketFile,
    names: Names,
    proxies: TrustedProxies,
    limits: Limits,
    lanes: Lanes,
}

impl Server {
    /// Binds the address and the socket.
    ///
    /// # Errors
    /// When one of them cannot be bound, somebody listens there already, or the TLS files are of no use.
    pub fn bind(
        listen: SocketAddr,
        tls: Option<&TlsFiles>,
        socket: &Path,
        names: Names,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let tls = tls.map(TlsFiles::acceptor).transpose()?;
        let (tcp, address) = bind_tcp(listen)?;
        let (unix, socket) = socket::bind(socket)?;
        let (proxies, lanes) = (TrustedProxies::default(), Lanes::none());
        Ok(Self { tcp, address, tls, unix, socket, names, proxies, limits, lanes })
    }

    /// Believes these proxies where requests come from.
    #[must_use]
    pub fn behind(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    /// Serves connections on so many threads of its own, rather than on the runtime of whoever calls [`Server::serve`]: model
    /// calls, whose way out is the same thread's, take less time so.
    ///
    /// # Errors
    /// When the system has no such threads to give.
    pub fn on_threads(self, count: NonZero<usize>) -> io::Result<Self> {
        Ok(Self { lanes: Lanes::start(count)?, ..self })
    }

    /// Where it listens; the port is the one that the system chose when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether TCP connections are TLS connections.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.socket.path()
    }

    /// Accepts and serves connections until `stop` resolves. Then nothing is accepted any more, and every connection
    /// is closed as soon as its requests have been answered; those that are left a moment after `drained` resolves are
    /// cut.
    pub async fn serve(
        self,
        answer: impl Answer,
        stop: impl Future<Output = ()>,
        drained: impl Future<Output = ()>,
    ) {
        let Self { tcp, address: _, tls, unix, socket, names, proxies, limits, lanes } = self;
        let limits = Arc::new(limits);
        let (close, closing) = watch::channel(false);
        let peers = Peers::new(limits.connections_per_peer);
        let reception = Arc::new(Reception::new(names, proxies, &limits));
        let shared =
            Shared { answer, reception: Arc::clone(&reception), limits: Arc::clone(&limits), closing };
        let mut connections = JoinSet::new();
        let strangers = Arc::new(Semaphore::new(limits.connections));
        let owners = Arc::new(Semaphore::new(limits.connections_of_owner));

        let mut stop = std::pin::pin!(stop);
        loop {
            // A place is there before a connection is accepted; who has to wait waits in the system's queue.
            let (stranger, owner) = (strangers.available_permits() > 0, owners.available_permits() > 0);
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = tcp.accept(), if stranger => match accepted {
                    Ok((stream, from)) => {
                        // A proxy's connections are those of many: the bound of all is theirs as well.
                        let place = match reception.proxies().contain(from.ip()) {
                            true => Some(None),
                            false => peers.enter(PeerKey::of(from.ip())).map(Some),
                        };
                        let room = Arc::clone(&strangers).try_acquire_owned().ok();
                        if let (Some(place), Some(room)) = (place, room) {
                            let (shared, tls) = (shared.clone(), tls.clone());
                            let Ok(stream) = stream.into_std() else { continue };
                            seat(&mut connections, &lanes, async move {
                                if let Ok(stream) = TcpStream::from_std(stream) {
                                    serve_tcp(stream, from, tls, shared).await;
                                }
                                drop((place, room));
                            });
                        }
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                accepted = unix.accept(), if owner => match accepted {
                    Ok((stream, _)) => {
                        if let Ok(room) = Arc::clone(&owners).try_acquire_owned() {
                            let shared = shared.clone();
                            let Ok(stream) = stream.into_std() else { continue };
                            seat(&mut connections, &lanes, async move {
                                if let Ok(stream) = UnixStream::from_std(stream) {
                                    serve_unix(stream, shared, room).await;
                                }
                            });
                        }
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
        // Whoever tries again finds out at once that nobody listens.
        drop((tcp, unix, socket));
        close.send_replace(true);
        drained.await;
        let rest = async { while connections.join_next().await.is_some() {} };
        // What is cut here was told to close long ago.
        let _ = timeout(limits.goodbye, rest).await;
        connections.shutdown().await;
    }
}

/// Has a connection served: on the thread that has the fewest, where there are any. A stream is made there, so that this
/// thread is told when there is something to read.
fn seat(connections: &mut JoinSet<()>, lanes: &Lanes, serving: impl Future<Output = ()> + Send + 'static) {
    let Some(seat) = lanes.seat() else {
        connections.spawn(serving);
        return;
    };
    let runtime = seat.runtime().clone();
    let seated = async move {
        serving.await;
        drop(seat);
    };
    connections.spawn_on(seated, &runtime);
}

/// What every connection needs.
#[derive(Clone)]
struct Shared<A> {
    answer: A,
    reception: Arc<Reception>,
    limits: Arc<Limits>,
    closing: watch::Receiver<bool>,
}

impl<A: Answer> Shared<A> {
    async fn serve(self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, line: Line) {
        connection::serve(io, line, self.answer, self.reception, &self.limits, self.closing).await;
    }
}

async fn serve_tcp(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Shared<impl Answer>,
) {
    // Only a matter of latency; a connection that is gone already ends below.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let line = Line {
        peer: Peer::Tcp { address, tls: tls.is_some() },
        caller: None,
        local: Some(local.ip().to_canonical()),
    };
    match tls {
        None => shared.serve(stream, line).await,
        Some(tls) => {
            // Bytes that are no handshake are nobody's request.
            if let Ok(Ok(stream)) = timeout(shared.limits.handshake, tls.accept(stream)).await {
                shared.serve(stream, line).await;
            }
        }
    }
}

/// The socket's owner needs no token; anybody else who got as far as here is turned away.
async fn serve_unix(stream: UnixStream, shared: Shared<impl Answer>, _room: OwnedSemaphorePermit) {
    if socket::is_ours(&stream) {
        let line = Line { peer: Peer::Unix, caller: Some(Caller::owner()), local: None };
        shared.serve(stream, line).await;
    }
}

fn bind_tcp(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let refuse = |error: io::Error| {
        let failure = Failure::usage("listen_failed", format!("cannot listen on {listen}: {error}"));
        match error.kind() {
            io::ErrorKind::AddrInUse => failure.hint("another program listens there: --listen ADDRESS:PORT"),
            _ => failure,
        }
    };
    let listener = std::net::TcpListener::bind(listen).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    Ok((TcpListener::from_std(listener).map_err(refuse)?, address))
}
