//! The listener for other workloads: an ordinary forward proxy (RFC 9110, section 7.3) over [`Proxy`], for containers and
//! scripts that know `HTTP_PROXY` and nothing of `orch`.
//!
//! Each client shows a token and has a [`LiveGrant`] of its own. What passes is a request in absolute form, which is
//! judged, cleaned and sent as a guest's is, and CONNECT to a host where everything is allowed, whose TLS must name that
//! host. Read `connection.rs` first; `intake.rs` and `head.rs` say what is let near a parser, `tunnel.rs` what becomes of
//! a CONNECT.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, header};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{Lanes, ListenerEntry, Proxy, Reason};

mod answer;
mod chunks;
mod client_hello;
mod clients;
mod connection;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod greeting;
mod head;
mod intake;
mod retry;
mod strangers;
mod tunnel;
mod upgrade;

pub use client_hello::HelloError;
use clients::Clients;
pub use clients::{BadClient, Client, ClientName, ClientToken};
use strangers::Strangers;
pub use tunnel::{TunnelEnd, TunnelEnded};

/// How long nothing is accepted when the system has no descriptor left for it.
const RESPITE: Duration = Duration::from_millis(50);

/// Bounds of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Connections altogether. Whoever comes then waits. Those that have shown no token yet have an eighth of them, but
    /// at least 16: when there are more, the oldest of those is closed.
    pub connections: usize,
    /// Connections of one client.
    pub connections_per_client: usize,
    /// From the first moment of a connection, or the end of its last answer, to the end of a request's head. Until a
    /// token was shown it is 10 s at most, over all requests.
    pub header_read: Duration,
    /// How long a client may take no byte of an answer.
    pub write_idle: Duration,
    /// From the answer to a CONNECT to the end of the client's first TLS message; after it also until the server has
    /// answered, and until the end of a second one where the server asks for that.
    pub hello: Duration,
    /// How long no byte may move in a tunnel.
    pub tunnel_idle: Duration,
    /// How long a tunnel may carry no byte once one side has closed its half. Few programs close one half and go on to
    /// read, and those that went away look the same, until something is written to them.
    pub tunnel_half_closed: Duration,
    /// How long a tunnel may stand.
    pub tunnel_total: Duration,
}

impl Default for ListenerLimits {
    /// 16,384 connections, of one client as well; 30 s for a head, 120 s for taking an answer, 15 s for the TLS client;
    /// tunnels 10 min idle and 12 h.
    fn default() -> Self {
        Self {
            connections: 16 << 10,
            connections_per_client: 16 << 10,
            header_read: Duration::from_secs(30),
            write_idle: Duration::from_secs(120),
            hello: Duration::from_secs(15),
            tunnel_idle: Duration::from_secs(600),
            tunnel_half_closed: Duration::from_secs(30),
            tunnel_total: Duration::from_secs(12 * 3600),
        }
    }
}

/// Hears what happens at a listener and is in no grant's ledger.
pub trait Witness: Send + Sync {
    /// A request that was refused before any policy looked at it: it was malformed, or nobody's.
    fn refused(&self, peer: SocketAddr, client: Option<&ClientName>, reason: &Reason);

    /// A tunnel that was let through is over.
    fn tunnel_ended(&self, client: &ClientName, end: &TunnelEnd);
}

impl Witness for () {
    fn refused(&self, _: SocketAddr, _: Option<&ClientName>, _: &Reason) {}

    fn tunnel_ended(&self, _: &ClientName, _: &TunnelEnd) {}
}

/// A forward proxy on a socket.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    proxy: Arc<Proxy>,
    limits: ListenerLimits,
    lanes: Lanes,
    /// No request may come back in through here.
    _entry: ListenerEntry,
}

/// What all connections of a listener share.
struct Shared {
    proxy: Arc<Proxy>,
    clients: Clients,
    limits: ListenerLimits,
    witness: Arc<dyn Witness>,
    /// What requests that passed here carry.
    via: HeaderValue,
    pseudonym: String,
}

impl Listener {
    /// Listens. Nobody is served before [`Listener::serve`]; who connects earlier waits.
    ///
    /// # Errors
    /// As the system says.
    pub async fn bind(address: SocketAddr, proxy: Arc<Proxy>, limits: ListenerLimits) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        let entry = proxy.guard().listeners().register(address);
        Ok(Self { socket, address, proxy, limits, lanes: Lanes::none(), _entry: entry })
    }

    /// Serves connections on so many threads of its own, each with its own upstream connections, rather than on the
    /// runtime of whoever calls [`Listener::serve`]: many small requests take half the time so.
    ///
    /// # Errors
    /// When the system has no such threads to give.
    pub fn on_threads(self, count: NonZero<usize>) -> io::Result<Self> {
        Ok(Self { lanes: Lanes::start(count)?, ..self })
    }

    /// Where it listens: the port is the true one if it was bound to port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves these clients until `stop` resolves; then accepts nobody, lets what is under way end for as long as
    /// `drain`, and cuts off the rest.
    pub async fn serve(
        self,
        clients: Vec<Client>,
        witness: Arc<dyn Witness>,
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) {
        let Self { socket, proxy, limits, lanes, _entry, .. } = self;
        let pseudonym = pseudonym();
        let shared = Arc::new(Shared {
            proxy,
            clients: Clients::new(clients, limits.connections_per_client),
            limits,
            witness,
            via: HeaderValue::try_from(format!("1.1 {pseudonym}")).expect("a token of letters"),
            pseudonym,
        });
        let places = Arc::new(Semaphore::new(limits.connections));
        let strangers = Strangers::among(limits.connections);
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, socket.accept().await)
            };
            tokio::select! {
                biased;
                () = &mut stop => break,
                // Whatever became of it is in the ledger; a panic in one is no reason to end the others.
                Some(_) = connections.join_next() => {}
                (place, accepted) = accepted => match (place, accepted) {
                    (Ok(place), Ok((stream, peer))) => {
                        // Answers are written whole; waiting for more to send would only add latency.
                        let _ = stream.set_nodelay(true);
                        let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
                        let stranger = strangers.enter();
                        let serve = move |stream| connection::serve(shared, stream, peer, stranger, stopped);
                        let Some(seat) = lanes.seat() else {
                            connections.spawn(async move {
                                serve(stream).await;
                                drop(place);
                            });
                            continue;
                        };
                        let Ok(stream) = stream.into_std() else { continue };
                        let runtime = seat.runtime().clone();
                        let serving = async move {
                            // The thread that reads it is told when there is something to read.
                            if let Ok(stream) = TcpStream::from_std(stream) {
                                serve(stream).await;
                            }
                            drop((place, seat));
                        };
                        connections.spawn_on(serving, &runtime);
                    }
                    _ => sleep(RESPITE).await,
                },
            }
        }
        drop(socket);
        stopping.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(drain, drained).await.is_err() {
            connections.shutdown().await;
        }
    }
}

impl Shared {
    /// Whether this is a request to a proxy, and not one that passed here already.
    fn check_form<B>(&self, request: &Request<B>) -> Result<(), Reason> {
        let passed = request.headers().get_all(header::VIA).iter().any(|line| {
            let text = String::from_utf8_lossy(line.as_bytes());
            text.split([',', ' ', '\t']).any(|word| word == self.pseudonym)
        });
        if passed {
            return Err(Reason::new("loop_detected", "the request passed this proxy before"));
        }
        if *request.method() == Method::CONNECT || request.uri().scheme().is_some() {
            return Ok(());
        }
        let text =
            "this is a proxy: it wants the whole URL in the request line, as clients send it for HTTP_PROXY";
        Err(Reason::new("target_refused", text))
    }
}

/// The name of this listener in `Via`, of this process alone.
fn pseudonym() -> String {
    let mut bits = [0_u8; 8];
    SystemRandom::new().fill(&mut bits).expect("the operating system provides randomness");
    format!("orch-{}", data_encoding::HEXLOWER.encode(&bits))
}
