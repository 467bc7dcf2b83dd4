//! From a route to a connection: resolve once, judge every answer, connect to a judged address, do TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use orch_manifests::{Host, RunId, Scheme};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tenancy::Tenancy;
use crate::tls::HTTP2;
use crate::turns::Turns;
use crate::{CheckedAddr, EgressError, Guard, Reach, Resolve, TimeoutKind, Timeouts};

mod tunnel;

pub use tunnel::{BadLogin, ProxyLogin, Resolution, TunnelError, UpstreamProxy};

/// How long one address may stay silent before the next is tried beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// How the addresses of an origin are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Via {
    /// By its name, which anybody could have registered.
    Name,
    /// By an operator's pin on exactly this host and port.
    Pin,
    /// At the address that `connect_to` names.
    ConnectTo(SocketAddr),
}

/// An origin and the way to it.
pub(crate) struct Route {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) via: Via,
}

/// A connection that is ready for HTTP.
pub(crate) struct Dialled {
    pub(crate) stream: Stream,
    pub(crate) address: IpAddr,
}

/// With or without TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the handshake settled on HTTP/2. A peer without ALPN speaks HTTP/1.1.
    pub(crate) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(HTTP2),
        }
    }
}

/// What is needed to open connections.
pub(crate) struct Dialler {
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) tls: TlsConnector,
    pub(crate) timeouts: Timeouts,
    pub(crate) turns: Arc<Turns>,
    pub(crate) upstream: Option<Arc<UpstreamProxy>>,
}

impl Dialler {
    /// Opens a connection, once it is this tenancy's turn, and this run's among its own.
    pub(crate) async fn dial(
        &self,
        route: &Route,
        tenancy: Tenancy,
        run: &RunId,
    ) -> Result<Dialled, EgressError> {
        let _turn = self.turns.take(tenancy, run).await;
        let host = route.host.to_string();
        let (stream, address) = match self.upstream(route) {
            Some(proxy) => self.tunnel(proxy, route, &host).await?,
            None => self.straight(route, &host).await?,
        };
        let address = address.ip();
        if route.scheme == Scheme::Http {
            return Ok(Dialled { stream: Stream::Plain(stream), address });
        }
        let name = match &route.host {
            Host::Name(name) => ServerName::try_from(name.as_str().to_owned())
                .map_err(|e| EgressError::Tls { host: host.clone(), cause: e.to_string() })?,
            Host::Ip(ip) => ServerName::from(*ip),
        };
        match timeout(self.timeouts.tls, self.tls.connect(name, stream)).await {
            Err(_) => Err(EgressError::Timeout(TimeoutKind::Tls)),
            Ok(Err(error)) => Err(EgressError::Tls { host, cause: error.to_string() }),
            Ok(Ok(stream)) => Ok(Dialled { stream: Stream::Tls(Box::new(stream)), address }),
        }
    }

    /// A connection to the origin itself.
    async fn straight(&self, route: &Route, host: &str) -> Result<(TcpStream, SocketAddr), EgressError> {
        let addresses = self.addresses(route, host).await?;
        match timeout(self.timeouts.connect, connect(&addresses)).await {
            Err(_) => Err(EgressError::Timeout(TimeoutKind::Connect)),
            Ok(Err(error)) => {
                Err(EgressError::Connect { host: host.to_owned(), port: route.port, cause: error.kind() })
            }
            Ok(Ok((stream, address))) => Ok((stream, address.get())),
        }
    }

    async fn addresses(&self, route: &Route, host: &str) -> Result<Vec<CheckedAddr>, EgressError> {
        let (found, port, reach) = match (route.via, &route.host) {
            (Via::ConnectTo(address), _) => (vec![address.ip()], address.port(), Reach::Pinned),
            (Via::Pin, Host::Ip(ip)) => (vec![*ip], route.port, Reach::Pinned),
            // Nothing builds such a route; were it built, the table would judge the address as any other.
            (Via::Name, Host::Ip(ip)) => (vec![*ip], route.port, Reach::Public),
            (via, Host::Name(name)) => {
                let reach = if via == Via::Pin { Reach::Pinned } else { Reach::Public };
                let found = timeout(self.timeouts.dns, self.resolver.resolve(name))
                    .await
                    .map_err(|_| EgressError::Timeout(TimeoutKind::Dns))?
                    .map_err(|cause| EgressError::Dns { host: host.to_owned(), cause })?;
                (found, route.port, reach)
            }
        };
        self.guard.check_all(host, found, port, reach)
    }
}

/// Connects to the first address that answers, starting them one after another, families in turn.
async fn connect(addresses: &[CheckedAddr]) -> io::Result<(TcpStream, CheckedAddr)> {
    let mut waiting = families_in_turn(addresses).into_iter();
    let mut trying = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            trying.push(async move { (TcpStream::connect(address.get()).await, address) });
        } else if trying.is_empty() {
            return Err(last);
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some((result, address)) = trying.next() => match result {
                Ok(stream) => {
                    // Requests are written whole; waiting for more to send would only add latency.
                    stream.set_nodelay(true)?;
                    return Ok((stream, address));
                }
                Err(error) => last = error,
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

/// IPv6 first, then alternating (RFC 8305, section 4).
fn families_in_turn(addresses: &[CheckedAddr]) -> Vec<CheckedAddr> {
    let (v6, v4): (Vec<CheckedAddr>, Vec<CheckedAddr>) =
        addresses.iter().partition(|address| address.get().is_ipv6());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(v6.next());
        ordered.extend(v4.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate() {
        let guard = Guard::new(Box::new(Vec::<ipnet::IpNet>::new()));
        let checked: Vec<CheckedAddr> = ["1.1.1.1:1", "8.8.8.8:1", "9.9.9.9:1", "[2606:4700::1]:1"]
            .iter()
            .map(|text| guard.check(text.parse().unwrap(), Reach::Public).unwrap())
            .collect();
        let order: Vec<String> =
            families_in_turn(&checked).iter().map(|address| address.get().ip().to_string()).collect();
        assert_eq!(order, ["2606:4700::1", "1.1.1.1", "8.8.8.8", "9.9.9.9"]);
    }

    #[tokio::test]
    async fn a_dead_address_does_not_stop_the_next() {
        let guard = Guard::new(Box::new(Vec::<ipnet::IpNet>::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        // Bound and closed again: connecting is refused at once.
        let dead = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
        let checked: Vec<CheckedAddr> =
            [dead, live].iter().map(|a| guard.check(*a, Reach::Pinned).unwrap()).collect();
        let (stream, address) = connect(&checked).await.unwrap();
        assert_eq!(address.get(), live);
        assert_eq!(stream.peer_addr().unwrap(), live);
        assert_eq!(connect(&checked[..1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
