//! Real sockets.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use super::*;
use crate::http::{Server, TlsFiles};

/// A server on free places, and how to end it.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) socket: PathBuf,
    pub(super) fake: Fake,
    stop: Option<oneshot::Sender<()>>,
    /// Resolves when nothing is accepted any more.
    stopped: Option<oneshot::Receiver<()>>,
    drained: Option<oneshot::Sender<()>>,
    serving: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start(limits: Limits, tls: Option<&TlsFiles>) -> Self {
        Self::behind(limits, tls, TrustedProxies::default())
    }

    pub(super) fn behind(limits: Limits, tls: Option<&TlsFiles>, proxies: TrustedProxies) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("server.sock");
        let listen = ([127, 0, 0, 1], 0).into();
        let server = Server::bind(listen, tls, &socket, Names::default(), limits).expect("bound");
        let server = server.behind(proxies);
        let (address, fake) = (server.address(), Fake::default());
        assert_eq!((server.is_tls(), server.socket()), (tls.is_some(), socket.as_path()));
        let (stop, told) = oneshot::channel::<()>();
        let (say, stopped) = oneshot::channel();
        let (drained, finished) = oneshot::channel::<()>();
        let mut serving = JoinSet::new();
        let answer = fake.clone();
        serving.spawn(async move {
            let drained = async {
                let _ = say.send(());
                let _ = finished.await;
            };
            server.serve(answer, async { drop(told.await) }, drained).await;
        });
        let (stop, stopped, drained) = (Some(stop), Some(stopped), Some(drained));
        Self { address, socket, fake, stop, stopped, drained, serving, _folder: folder }
    }

    /// Tells it to stop, and waits until it accepts nothing more.
    async fn stop(&mut self) {
        self.stop.take().expect("not yet").send(()).expect("serving");
        self.stopped.take().expect("not yet").await.expect("serving");
    }

    /// Lets the drain be over, and waits for the end.
    async fn end(mut self) {
        self.drained.take().expect("not yet").send(()).expect("serving");
        self.serving.join_next().await.expect("one task").expect("no panic");
    }
}

pub(super) async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("connected")
}

async fn ask(io: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    ask_with(io, path, "").await
}

/// The same with more header fields.
pub(super) async fn ask_with(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    fields: &str,
) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{fields}connection: close\r\n\r\n");
    let mut answer = String::new();
    if io.write_all(request.as_bytes()).await.is_ok() {
        let _ = io.read_to_string(&mut answer).await;
    }
    answer
}

#[tokio::test]
async fn each_way_in_says_who_comes_by_it() {
    let running = Running::start(Limits::default(), None);
    let answer = ask(&mut connect(running.address).await, "/known").await;
    assert!(answer.ends_with("/known nobody tcp tls=false"), "{answer}");
    let mut unix = UnixStream::connect(&running.socket).await.expect("connected");
    let answer = ask(&mut unix, "/known").await;
    assert!(answer.ends_with("/known owner unix"), "{answer}");
    // Whatever name the owner's client uses: no page in a browser gets there.
    let mut unix = UnixStream::connect(&running.socket).await.expect("connected");
    unix.write_all(b"GET /known HTTP/1.1\r\nhost: orch\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    unix.read_to_string(&mut answer).await.expect("read");
    assert!(answer.ends_with("/known owner unix"), "{answer}");
}

#[tokio::test]
async fn one_peer_has_so_many_connections() {
    let limits = Limits { connections_per_peer: 2, ..Limits::default() };
    let running = Running::start(limits, None);
    let (mut first, mut second) = (connect(running.address).await, connect(running.address).await);
    let hold = b"GET /known HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for wire in [&mut first, &mut second] {
        // An answer shows that the connection has its place.
        wire.write_all(hold).await.expect("sent");
        wire.read_u8().await.expect("an answer");
    }
    assert_eq!(ask(&mut connect(running.address).await, "/known").await, "", "closed unheard");
    let mut unix = UnixStream::connect(&running.socket).await.expect("connected");
    assert!(ask(&mut unix, "/known").await.ends_with("owner unix"), "the owner has places of their own");
    drop(first);
    // The server finds out that one has left in its own time.
    while !ask(&mut connect(running.address).await, "/known").await.contains("200 OK") {}
}

#[tokio::test]
async fn in_all_there_are_so_many_connections_and_the_rest_waits() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let running = Running::start(limits, None);
    let mut first = connect(running.address).await;
    first.write_all(b"GET /known HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    first.read_u8().await.expect("an answer");
    let mut second = connect(running.address).await;
    let waiting = ask(&mut second, "/known/second");
    let let_go = async move { drop(first) };
    let (answer, ()) = tokio::join!(waiting, let_go);
    assert!(answer.ends_with("/known/second nobody tcp tls=false"), "{answer}");
}

#[tokio::test]
async fn a_drain_lets_what_is_under_way_end_and_nothing_begin() {
    let mut running = Running::start(Limits::default(), None);
    let mut held = connect(running.address).await;
    let mut idle = connect(running.address).await;
    idle.write_all(b"GET /known HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    idle.read_u8().await.expect("an answer");
    let fake = running.fake.clone();
    let asking = ask(&mut held, "/known/held");
    let stopping = async {
        fake.held.notified().await;
        running.stop().await;
        assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens");
        assert!(UnixStream::connect(&running.socket).await.is_err(), "nobody listens");
        assert!(!running.socket.exists());
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.expect("closed");
        fake.release.notify_one();
    };
    let (answer, ()) = tokio::join!(asking, stopping);
    assert!(answer.ends_with("/known/held nobody tcp tls=false"), "{answer}");
    running.end().await;
}

#[tokio::test]
async fn what_does_not_end_is_cut() {
    let limits = Limits { goodbye: Duration::ZERO, ..Limits::default() };
    let mut running = Running::start(limits, None);
    let mut held = connect(running.address).await;
    let fake = running.fake.clone();
    let asking = ask(&mut held, "/known/held");
    let ending = async move {
        fake.held.notified().await;
        running.stop().await;
        running.end().await;
    };
    let (answer, ()) = tokio::join!(asking, ending);
    assert_eq!(answer, "");
}

/// A certificate for `localhost`, and its files.
fn certificate() -> (CertificateDer<'static>, tempfile::TempDir, TlsFiles) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let files = TlsFiles { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    (made.cert.der().clone(), folder, files)
}

async fn connect_tls(
    address: SocketAddr,
    root: &CertificateDer<'static>,
    protocol: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = "localhost".try_into().expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, connect(address).await)
        .await
        .expect("a handshake")
}

#[tokio::test]
async fn tls_speaks_both_versions() {
    let (root, _folder, files) = certificate();
    let running = Running::start(Limits::default(), Some(&files));
    let mut one = connect_tls(running.address, &root, b"http/1.1").await;
    let answer = ask(&mut one, "/known").await;
    assert!(answer.ends_with("/known nobody tcp tls=true"), "{answer}");
    let two = connect_tls(running.address, &root, b"h2").await;
    assert_eq!(two.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let plain = ask(&mut connect(running.address).await, "/known").await;
    assert!(!plain.contains("/known"), "{plain}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let (_, _folder, files) = certificate();
    let limits = Limits { handshake: Duration::ZERO, ..Limits::default() };
    let running = Running::start(limits, Some(&files));
    let mut rest = Vec::new();
    let _ = connect(running.address).await.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
}

#[test]
fn files_that_are_no_use_are_named() {
    let (_, _folder, files) = certificate();
    let (_, _other, others) = certificate();
    let missing = PathBuf::from("/nowhere/x.pem");
    let code = |certificate: &PathBuf, key: &PathBuf| {
        let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
        files.acceptor().err().map(|failure| failure.to_string())
    };
    assert_eq!(code(&files.certificate, &files.key), None);
    for (certificate, key, part) in [
        (&missing, &files.key, "/nowhere/x.pem"),
        (&files.certificate, &missing, "/nowhere/x.pem"),
        (&files.key, &files.key, "holds no PEM certificate"),
        (&files.certificate, &files.certificate, "holds no PEM private key"),
        (&files.certificate, &others.key, "does not fit the key"),
    ] {
        let said = code(certificate, key).expect("refused");
        assert!(said.contains(part), "{said}");
    }
}
