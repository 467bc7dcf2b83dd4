//! A provider that writes whatever bytes it is told to, over TLS under the providers' own names.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::http2;

/// What is done after a request.
#[derive(Clone)]
pub(crate) enum Step {
    Send(Bytes),
    Wait(Duration),
    /// Each byte by itself, this long after the one before.
    Drip(Bytes, Duration),
    /// Without end.
    Repeat(Bytes, Duration),
    /// Nothing, for ever.
    Hold,
    /// The connection ends without TLS's own end.
    Cut,
}

/// All of it. The connection is closed in order after the last step.
#[derive(Clone)]
pub(crate) struct Play {
    pub(crate) http2: bool,
    pub(crate) steps: Vec<Step>,
}

impl Play {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Play {
        Play { http2: false, steps: steps.into_iter().collect() }
    }
}

/// An authority, and a certificate for every host of a test.
struct Identity {
    ca: CertificateDer<'static>,
    http1: TlsAcceptor,
    http2: TlsAcceptor,
}

/// Beside the catalog's.
pub(crate) const OLLAMA: &str = "ollama.test";

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = authority.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(authority, key);
    let catalog = orch_manifests::Catalog::builtin();
    let hosts = catalog.providers().map(|provider| provider.endpoint.host.to_string());
    let hosts: Vec<String> = hosts.filter(|host| host != "localhost").chain([OLLAMA.to_owned()]).collect();
    let host_key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(hosts).unwrap().signed_by(&host_key, &issuer).unwrap();
    let acceptor = |protocol: &[u8]| {
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(host_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate.der().clone()], private).unwrap();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    };
    Identity { ca, http1: acceptor(b"http/1.1"), http2: acceptor(b"h2") }
});

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Connections so far.
    pub(crate) met: Arc<AtomicUsize>,
    /// Requests, with their bodies.
    pub(crate) asked: Arc<Mutex<Vec<Vec<u8>>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) fn ca() -> CertificateDer<'static> {
        IDENTITY.ca.clone()
    }

    /// One that answers every request like this, on a connection of its own.
    pub(crate) async fn start(play: Play) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (met, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = JoinSet::new();
        let (counter, requests) = (Arc::clone(&met), Arc::clone(&asked));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let (play, requests) = (play.clone(), Arc::clone(&requests));
                connections.spawn(async move {
                    let acceptor = if play.http2 { &IDENTITY.http2 } else { &IDENTITY.http1 };
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    // Whoever has heard enough hangs up, which is an error here.
                    let _ = exchange(&mut stream, &play, &requests).await;
                });
            }
        });
        Server { address, met, asked, _tasks: tasks }
    }
}

async fn exchange<S>(stream: &mut S, play: &Play, asked: &Mutex<Vec<Vec<u8>>>) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = if play.http2 { http2::request(stream).await? } else { request(stream).await? };
    asked.lock().unwrap().push(request);
    for step in &play.steps {
        match step {
            Step::Send(bytes) => stream.write_all(bytes).await?,
            Step::Wait(time) => {
                stream.flush().await?;
                tokio::time::sleep(*time).await;
            }
            Step::Drip(bytes, every) => {
                for byte in bytes {
                    stream.write_all(&[*byte]).await?;
                    stream.flush().await?;
                    tokio::time::sleep(*every).await;
                }
            }
            Step::Repeat(bytes, every) => loop {
                stream.write_all(bytes).await?;
                if !every.is_zero() {
                    stream.flush().await?;
                    tokio::time::sleep(*every).await;
                }
            },
            Step::Hold => {
                stream.flush().await?;
                std::future::pending::<()>().await;
            }
            Step::Cut => return stream.flush().await,
        }
    }
    stream.flush().await?;
    stream.shutdown().await?;
    // What is left unread would turn the end into a reset.
    tokio::io::copy(stream, &mut tokio::io::sink()).await.map(drop)
}

/// A request whose length is announced.
async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        if let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("the request's length").trim().parse().unwrap();
            if read.len() >= head + 4 + length {
                return Ok(read);
            }
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
