//! Out through a proxy that the operator's network insists on.
//!
//! It comes after the guard, not instead of it: names are resolved and every address judged here, and what the proxy is
//! asked to connect to is one of those addresses. TLS is between here and the origin; the proxy carries bytes. An operator
//! whose network has no name servers but the proxy's can say [`Resolution::Remote`], which is weaker: policy still judges
//! the name, but where it leads is the proxy's to decide.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::BASE64;
use orch_manifests::{Host, HostName, HostPattern};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Dialler, Route, Via, connect, families_in_turn};
use crate::{CheckedAddr, EgressError, Reach};

/// The most that the head of an answer to CONNECT may have, in bytes.
const MOST_HEAD: usize = 16 << 10;

/// Its fields.
const MOST_FIELDS: usize = 100;

/// Origins' addresses that are asked for in turn, where the proxy says that it cannot reach one.
const MOST_ADDRESSES: usize = 4;

/// A proxy on the way to every origin that is reached by its name. Pins, and what `connect_to` names, are reached
/// without it. It is the operator's pin itself: it may be at a private address, or on this machine.
pub struct UpstreamProxy {
    /// Where it is. A name is looked up for each connection.
    pub host: Host,
    /// TCP port.
    pub port: u16,
    /// What it is shown.
    pub login: Option<ProxyLogin>,
    /// Who looks up origins.
    pub resolution: Resolution,
    /// Hosts that are reached without it.
    pub no_proxy: Vec<HostPattern>,
}

/// Who turns the name of an origin into the address that is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolution {
    /// This machine; all addresses are judged, and the proxy gets one of them.
    #[default]
    Here,
    /// The proxy, which gets the name. No address is judged.
    Remote,
}

/// User and password, as they go into `Proxy-Authorization`.
#[derive(PartialEq, Eq)]
pub struct ProxyLogin(Zeroizing<String>);

/// A user or password that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLogin {
    /// RFC 7617, section 2.
    #[error("a user's name holds no colon")]
    Colon,
    /// Neither may hold any.
    #[error("it holds a control character")]
    Control,
}

impl ProxyLogin {
    /// The Basic scheme's credentials (RFC 7617), in UTF-8.
    ///
    /// # Errors
    /// What cannot be said in it.
    pub fn basic(user: &str, password: &str) -> Result<Self, BadLogin> {
        if user.contains(':') {
            return Err(BadLogin::Colon);
        }
        if user.chars().chain(password.chars()).any(char::is_control) {
            return Err(BadLogin::Control);
        }
        let both = Zeroizing::new(format!("{user}:{password}"));
        let encoded = Zeroizing::new(BASE64.encode(both.as_bytes()));
        Ok(Self(Zeroizing::new(format!("Basic {}", encoded.as_str()))))
    }
}

impl PartialEq for UpstreamProxy {
    fn eq(&self, other: &Self) -> bool {
        let Self { host, port, login, resolution, no_proxy } = self;
        *host == other.host
            && *port == other.port
            && *login == other.login
            && *resolution == other.resolution
            && *no_proxy == other.no_proxy
    }
}

impl Eq for UpstreamProxy {}

impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamProxy")
            .field("address", &self.to_string())
            .field("resolution", &self.resolution)
            .field("no_proxy", &self.no_proxy)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for UpstreamProxy {
    /// `host:port`, and nothing of the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl UpstreamProxy {
    fn is_for(&self, name: &HostName) -> bool {
        !self.no_proxy.iter().any(|pattern| pattern.matches(name))
    }
}

/// Why an upstream proxy did not lead to an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// It could not be connected to.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It wants to know who asks (407).
    #[error("it asks for a user and a password (407), and none is configured")]
    LoginWanted,
    /// It does not accept who asks (407).
    #[error("it does not accept the configured user and password (407)")]
    LoginRefused,
    /// It answered with a status that does not open a tunnel. Redirects are not followed.
    #[error("it refuses with status {0}")]
    Refused(u16),
    /// What it sent is no answer to CONNECT.
    #[error("it did not answer as a proxy does: {0}")]
    Garbage(&'static str),
    /// It took too long.
    #[error("it did not answer in time")]
    Timeout,
}

impl TunnelError {
    /// Whether another address of the origin may fare better.
    fn is_about_address(&self) -> bool {
        matches!(self, Self::Refused(502..=504))
    }
}

impl Dialler {
    /// The proxy that a route leads through, if any.
    pub(super) fn upstream(&self, route: &Route) -> Option<&UpstreamProxy> {
        match (route.via, &route.host) {
            (Via::Name, Host::Name(name)) => self.upstream.as_deref().filter(|proxy| proxy.is_for(name)),
            _ => None,
        }
    }

    /// A tunnel to the route's origin, and the address that was dialled for it: the origin's, or the proxy's where that is
    /// all that is known.
    pub(super) async fn tunnel(
        &self,
        proxy: &UpstreamProxy,
        route: &Route,
        host: &str,
    ) -> Result<(TcpStream, SocketAddr), EgressError> {
        let failed = |cause| EgressError::UpstreamProxy {
            proxy: proxy.to_string(),
            host: host.to_owned(),
            port: route.port,
            cause,
        };
        let origins: Vec<Option<CheckedAddr>> = match proxy.resolution {
            Resolution::Remote => vec![None],
            Resolution::Here => {
                let checked = self.addresses(route, host).await?;
                families_in_turn(&checked).into_iter().take(MOST_ADDRESSES).map(Some).collect()
            }
        };
        let through = async {
            let at = self.addresses_of(proxy).await?;
            let mut last = TunnelError::Unreachable("it has no address".to_owned());
            for origin in origins {
                let (stream, address) =
                    connect(&at).await.map_err(|error| TunnelError::Unreachable(error.kind().to_string()))?;
                let authority = match origin {
                    Some(origin) => origin.get().to_string(),
                    None => format!("{host}:{}", route.port),
                };
                let dialled = origin.unwrap_or(address).get();
                match open(stream, &authority, proxy.login.as_ref()).await {
                    Ok(stream) => return Ok((stream, dialled)),
                    Err(error) if error.is_about_address() => last = error,
                    Err(error) => return Err(error),
                }
            }
            Err(last)
        };
        // Lookup, connect and answer together.
        let patience: Duration = self.timeouts.connect;
        timeout(patience, through).await.unwrap_or(Err(TunnelError::Timeout)).map_err(failed)
    }

    /// Where the proxy is.
    async fn addresses_of(&self, proxy: &UpstreamProxy) -> Result<Vec<CheckedAddr>, TunnelError> {
        let unreachable = |error: &dyn fmt::Display| TunnelError::Unreachable(error.to_string());
        let found = match &proxy.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.resolver.resolve(name).await.map_err(|error| unreachable(&error))?,
        };
        let host = proxy.host.to_string();
        self.guard.check_all(&host, found, proxy.port, Reach::Pinned).map_err(|error| unreachable(&error))
    }
}

/// Asks for a tunnel, and reads the answer to its last byte and none further.
async fn open(
    mut stream: TcpStream,
    authority: &str,
    login: Option<&ProxyLogin>,
) -> Result<TcpStream, TunnelError> {
    let lost = |error: std::io::Error| TunnelError::Unreachable(error.kind().to_string());
    let mut request = Zeroizing::new(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"));
    if let Some(ProxyLogin(login)) = login {
        request.push_str("Proxy-Authorization: ");
        request.push_str(login);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut head = Vec::with_capacity(512);
    loop {
        if head.len() >= MOST_HEAD {
            return Err(ENDLESS);
        }
        let room = MOST_HEAD - head.len();
        let read = (&mut stream).take(room as u64).read_buf(&mut head).await.map_err(lost)?;
        if read == 0 {
            return Err(TunnelError::Garbage("it closed the connection before its answer was whole"));
        }
        if let Some(opened) = judge(&head, login.is_some()) {
            opened?;
            // The last read may have ended with the head by chance.
            return match stream.try_read(&mut [0]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(stream),
                Err(error) => Err(lost(error)),
                Ok(0) => Err(TunnelError::Garbage("it closed the tunnel that it opened")),
                Ok(_) => Err(EARLY),
            };
        }
    }
}

const ENDLESS: TunnelError = TunnelError::Garbage("its answer has no end");

const EARLY: TunnelError = TunnelError::Garbage("it sent bytes of its own into the tunnel");

/// What the beginning of an answer means, once there is enough of it.
fn judge(bytes: &[u8], logged_in: bool) -> Option<Result<(), TunnelError>> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let length = match answer.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(length)) => length,
        Err(httparse::Error::TooManyHeaders) => return Some(Err(ENDLESS)),
        Err(_) => return Some(Err(TunnelError::Garbage("its answer is not HTTP/1.1"))),
    };
    Some(match answer.code {
        // An origin speaks when it is spoken to: what is here already is the proxy's, and would be taken for the origin's.
        // Its length fields mean nothing in this answer (RFC 9110, section 9.3.6).
        Some(200..=299) if bytes.len() > length => Err(EARLY),
        Some(200..=299) => Ok(()),
        Some(407) if logged_in => Err(TunnelError::LoginRefused),
        Some(407) => Err(TunnelError::LoginWanted),
        Some(status @ 300..=599) => Err(TunnelError::Refused(status)),
        _ => Err(TunnelError::Garbage("its answer has no final status")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_when_they_are_whole() {
        let whole = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 corp\r\nContent-Length: 5\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(judge(&whole[..cut], false), None, "{cut}");
        }
        assert_eq!(judge(whole, false), Some(Ok(())));
        assert_eq!(judge(b"HTTP/1.0 200\r\n\r\n", false), Some(Ok(())));
        let refused = |bytes: &[u8], login| judge(bytes, login).expect("whole").expect_err("refused");
        assert_eq!(refused(b"HTTP/1.1 407 No\r\n\r\nwho?", false), TunnelError::LoginWanted);
        assert_eq!(refused(b"HTTP/1.1 407 No\r\n\r\n", true), TunnelError::LoginRefused);
        assert_eq!(refused(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", false), TunnelError::Refused(302));
        for garbage in [
            &b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.0\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
        ] {
            let error = refused(garbage, false);
            assert!(matches!(error, TunnelError::Garbage(_)), "{error}");
        }
    }

    #[test]
    fn a_login_is_what_basic_says_and_shows_nowhere() {
        let login = ProxyLogin::basic("Aladdin", "open sesame").expect("it can be said");
        assert_eq!(login.0.as_str(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(ProxyLogin::basic("a:b", "c").err(), Some(BadLogin::Colon));
        assert_eq!(ProxyLogin::basic("a", "c\r\nX: y").err(), Some(BadLogin::Control));
        let host = Host::Ip("10.0.0.1".parse().expect("an address"));
        let proxy = UpstreamProxy {
            host,
            port: 3128,
            login: Some(login),
            resolution: Resolution::Here,
            no_proxy: Vec::new(),
        };
        for said in [format!("{proxy:?}"), proxy.to_string()] {
            assert!(
                said.contains("10.0.0.1:3128") && !said.contains("QWx") && !said.contains("sesame"),
                "{said}"
            );
        }
    }
}
