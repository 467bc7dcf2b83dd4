//! HTTP/1.1 to a server, over its unix socket or over TCP: connections that are kept for the next call of the same
//! command, and no pool beyond that.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use orch_proxy::{Body, BodyError};
use orch_server::{Failure, Kind};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::address::ServerUrl;

/// How long a connection may take to be there, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a server listens.
pub(crate) enum Place {
    /// The socket of the server of this home, whose user must be this one.
    Unix(PathBuf),
    /// A host and port; with TLS when the URL says so.
    Tcp(ServerUrl, Option<TlsConnector>),
}

/// The connections to one server.
pub(crate) struct Wire {
    place: Place,
    /// Connections whose last answer was read to its end.
    idle: Mutex<Vec<SendRequest<Body>>>,
    /// What moves the bytes of each connection, for as long as the command.
    drivers: Mutex<JoinSet<()>>,
}

/// An answer, and the connection that it comes over.
pub(crate) struct Exchange {
    pub(crate) response: Response<Body>,
    pub(crate) connection: SendRequest<Body>,
}

impl Wire {
    /// Connects when it is first used.
    pub(crate) fn new(place: Place) -> Self {
        Self { place, idle: Mutex::default(), drivers: Mutex::default() }
    }

    /// Whether this is TCP.
    pub(crate) fn on_network(&self) -> bool {
        matches!(self.place, Place::Tcp(..))
    }

    /// Sends a request, over a connection that is there already if it still lives.
    ///
    /// # Errors
    /// When the server cannot be reached, or ends the connection before it answers.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Exchange, Failure> {
        while let Some(mut connection) = self.take_idle() {
            // Ready, or closed by the server in the meantime.
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok(Exchange { response: streamed(response), connection }),
                Err(mut error) => match error.take_message() {
                    // It was closed under our hands, before a byte was sent: another one does not repeat anything.
                    Some(unsent) => request = unsent,
                    None => return Err(self.broken(&error.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        match connection.send_request(request).await {
            Ok(response) => Ok(Exchange { response: streamed(response), connection }),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Keeps a connection for the next call; its answer was read to the end.
    pub(crate) fn keep(&self, connection: SendRequest<Body>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Failure> {
        let connected = tokio::time::timeout(CONNECT, async {
            match &self.place {
                Place::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(|e| e.to_string())?;
                    check_peer(&stream)?;
                    self.handshake(stream).await
                }
                Place::Tcp(url, tls) => {
                    let stream = dial(url).await?;
                    match tls {
                        None => self.handshake(stream).await,
                        Some(tls) => {
                            let name = ServerName::try_from(url.host()).map_err(|e| e.to_string())?;
                            let stream = tls.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
                            self.handshake(stream).await
                        }
                    }
                }
            }
        });
        let why = match connected.await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(why)) => why,
            Err(_) => format!("no connection within {} s", CONNECT.as_secs()),
        };
        let failure = unreachable(&self.name(), &why);
        Err(match why.starts_with("TLS: ") {
            true => failure
                .hint("for a certificate of your own authority, name it as server.ca_file in config.yaml"),
            false => failure,
        })
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<SendRequest<Body>, String> {
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let driven = async move {
            // How it ended is said by the request that was under way, if one was.
            let _ = driver.await;
        };
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner).spawn(driven);
        Ok(connection)
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        unreachable(&self.name(), &format!("the connection broke before the answer: {}", chain(error)))
    }

    fn name(&self) -> String {
        match &self.place {
            Place::Unix(path) => format!("the server at {}", path.display()),
            Place::Tcp(url, _) => url.to_string(),
        }
    }
}

/// The failure of a server that does not answer.
pub(crate) fn unreachable(server: &str, why: &str) -> Failure {
    Failure::new(Kind::Server, "server_unreachable", format!("cannot reach {server}: {why}"))
}

/// Tries the addresses of a name in turn.
async fn dial(url: &ServerUrl) -> Result<TcpStream, String> {
    let host = url.host();
    let addresses = tokio::net::lookup_host((host.as_str(), url.port())).await.map_err(|e| e.to_string())?;
    let mut why = format!("{host} has no address that may be used");
    for address in addresses.filter(|address| url.may_dial(address.ip())) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Requests are small and wait for answers; a socket that refuses the option still works.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// Keys are sent over the socket without a token: whoever listens must be this user.
fn check_peer(stream: &UnixStream) -> Result<(), String> {
    let peer = stream.peer_cred().map_err(|e| format!("cannot tell whose server that is: {e}"))?;
    if peer.uid() == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err("another user's program listens there".to_owned())
    }
}

fn streamed(response: Response<Incoming>) -> Response<Body> {
    response.map(|body| body.map_err(|e| BodyError::Upstream(chain(&e))).boxed_unsync())
}

/// hyper's texts name the step; what went wrong in it is the source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

/// TLS towards a server: Mozilla's roots and the operator's own; HTTP/1.1 is the only protocol on offer.
///
/// # Errors
/// When a certificate of the configuration cannot be a root.
pub(crate) fn tls(extra: &[rustls::pki_types::CertificateDer<'static>]) -> Result<TlsConnector, Failure> {
    let wrong = |why: String| Failure::usage("config_invalid", format!("server.ca_file: {why}"));
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra {
        roots.add(root.clone()).map_err(|e| wrong(e.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::defect(format!("TLS cannot be set up: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
