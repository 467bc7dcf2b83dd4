//! A server that a test scripts: over TCP, with TLS, or on a unix socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use orch_proxy::{Body, full};
use orch_vault::Secret;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Channel, Client, Place, tls};

/// A request as it arrived.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

type Answer = dyn Fn(&Asked) -> Response<Body> + Send + Sync;

#[derive(Default)]
struct Record {
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
}

/// A scripted server; it is gone when this is dropped.
pub(crate) struct Served {
    address: Option<SocketAddr>,
    record: Arc<Record>,
    _tasks: JoinSet<()>,
}

impl Served {
    /// On a free port of loopback, with TLS when there is a configuration for it.
    pub(crate) async fn tcp(
        with: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (record, answer): (Arc<Record>, Arc<Answer>) = (Arc::default(), Arc::new(answer));
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&record);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                match with.clone() {
                    None => connections.spawn(connection(stream, seen, answer)),
                    Some(with) => connections.spawn(async move {
                        // A client that does not trust this server leaves at the handshake.
                        if let Ok(stream) = TlsAcceptor::from(with).accept(stream).await {
                            connection(stream, seen, answer).await;
                        }
                    }),
                };
            }
        });
        Self { address: Some(address), record, _tasks: tasks }
    }

    /// On a unix socket.
    pub(crate) fn unix(
        path: &Path,
        answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let (record, answer): (Arc<Record>, Arc<Answer>) = (Arc::default(), Arc::new(answer));
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&record);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, Arc::clone(&seen), Arc::clone(&answer)));
            }
        });
        Self { address: None, record, _tasks: tasks }
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.address.expect("a TCP server").port()
    }

    /// A client of it without TLS.
    pub(crate) fn client(&self, token: Option<&str>) -> Client {
        client(&format!("http://127.0.0.1:{}", self.port()), token)
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::Relaxed)
    }

    /// What was asked so far, each as the test wants to see it.
    pub(crate) fn asked<T>(&self, see: impl FnMut(&Asked) -> T) -> Vec<T> {
        self.record.asked.lock().expect("not poisoned").iter().map(see).collect()
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    record: Arc<Record>,
    answer: Arc<Answer>,
) {
    record.connections.fetch_add(1, Ordering::Relaxed);
    let service = service_fn(move |request: Request<Incoming>| {
        let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
        async move {
            let (parts, body) = request.into_parts();
            let asked = Asked {
                method: parts.method.to_string(),
                path: parts.uri.to_string(),
                headers: parts.headers,
                body: body.collect().await?.to_bytes(),
            };
            let response = answer(&asked);
            record.asked.lock().expect("not poisoned").push(asked);
            Ok::<_, hyper::Error>(response)
        }
    });
    // A scripted answer may break its connection on purpose.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A client of the server at a URL, which trusts the public authorities.
pub(crate) fn client(url: &str, token: Option<&str>) -> Client {
    let url: super::ServerUrl = url.parse().expect("a URL");
    let with = url.https().then(|| tls(&[]).expect("TLS"));
    let token = token.map(|token| Secret::new(token.as_bytes().to_vec()));
    Client::of_url(&url, Channel::to(Place::Tcp(url.clone(), with)), token)
}

/// An answer of JSON.
pub(crate) fn json(status: u16, text: &str) -> Response<Body> {
    answer(status, "application/json", text)
}

/// An answer of any kind.
pub(crate) fn answer(status: u16, kind: &str, text: &str) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("x-request-id", "req_test")
        .body(full(text.to_owned()))
        .expect("a response")
}
