//! Fake upstreams: servers on loopback that answer by script and remember everything.
//!
//! Each [`Upstream`] listens on a port of its own (bound to 0, read back) and runs on its own thread, so that tests stay
//! ordinary blocking functions. A request is answered by the first script step that is left, else by the host's own
//! behaviour, and is on record *before* it is answered.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::ca::Ca;
use crate::reply::{self, Reply};
use crate::wire::{Fault, Reader, Received};

/// How long the harness waits for something that must happen. Reached only by a failing test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a host answers when no script step is left.
pub trait Host: Send + Sync + 'static {
    /// The answer to one request.
    fn answer(&self, request: &Received) -> Reply;
}

impl<F: Fn(&Received) -> Reply + Send + Sync + 'static> Host for F {
    fn answer(&self, request: &Received) -> Reply {
        self(request)
    }
}

/// A running fake upstream. Stops when dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    faults: Vec<String>,
    script: VecDeque<Reply>,
    connections: usize,
    open: usize,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    host: Box<dyn Host>,
}

impl Upstream {
    /// An HTTPS server that answers to `names`, with a certificate of `ca`.
    pub fn https(ca: &Ca, names: &[&str], host: impl Host) -> Self {
        Self::start(Some(TlsAcceptor::from(ca.server(names))), host)
    }

    /// A plain HTTP server.
    pub fn http(host: impl Host) -> Self {
        Self::start(None, host)
    }

    fn start(tls: Option<TlsAcceptor>, host: impl Host) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), host: Box::new(host) });
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .thread_name("fake-upstream")
            .build()
            .expect("a thread can be started");
        let served = Arc::clone(&shared);
        // The runtime owns the accept loop, and its own end is the loop's.
        let _accepting = runtime.spawn(async move {
            let listener =
                tokio::net::TcpListener::from_std(listener).expect("the runtime has its I/O driver");
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                // Small writes must not wait for each other: chunking is part of what is tested.
                socket.set_nodelay(true).expect("a TCP socket has the option");
                let (shared, tls) = (Arc::clone(&served), tls.clone());
                shared.change(|s| {
                    s.connections += 1;
                    s.open += 1;
                });
                connections.spawn(async move {
                    match tls {
                        None => shared.serve(socket).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(stream) => shared.serve(stream).await,
                            Err(error) => shared.change(|s| s.faults.push(format!("TLS: {error}"))),
                        },
                    }
                    shared.change(|s| s.open -= 1);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Appends steps: each answers one request, in order, before the host's own behaviour returns.
    pub fn script(&self, steps: impl IntoIterator<Item = Reply>) {
        self.shared.change(|s| s.script.extend(steps));
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().received.clone()
    }

    /// The only request received.
    pub fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "expected one request: {received:#?}");
        received.into_iter().next().expect("counted")
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// Anything that arrived and was not one well-formed request.
    pub fn faults(&self) -> Vec<String> {
        self.shared.lock().faults.clone()
    }

    /// Fails unless nothing at all arrived: no connection, no request.
    #[track_caller]
    pub fn untouched(&self) {
        let state = self.shared.lock();
        assert_eq!(state.connections, 0, "connected, and sent: {:#?} {:?}", state.received, state.faults);
    }

    /// Fails unless every request carried this key, in the header where its kind of provider wants it.
    #[track_caller]
    pub fn took_key(&self, key: &str) {
        let received = self.received();
        assert!(!received.is_empty(), "no request arrived");
        for request in received {
            let bearer = format!("Bearer {key}");
            let sent = request.header("authorization") == Some(&bearer)
                || ["x-api-key", "x-goog-api-key"].iter().any(|name| request.header(name) == Some(key));
            assert!(sent, "the key is not in its header:\n{request:?}");
        }
    }

    /// Fails if any request carried these bytes anywhere.
    #[track_caller]
    pub fn never_saw(&self, bytes: &[u8]) {
        for request in self.received() {
            assert!(!request.carries(bytes), "a request carried it:\n{request:?}");
        }
    }

    /// Returns when `count` requests have arrived; answers may still be held.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        self.wait(&format!("{count} requests"), |s| s.received.len() >= count);
    }

    /// Returns when every connection is closed.
    #[track_caller]
    pub fn wait_closed(&self) {
        self.wait("all connections closed", |s| s.open == 0);
    }

    #[track_caller]
    fn wait(&self, what: &str, until: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        while !until(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited in vain for {what}; {} open, received {:#?}, faults {:?}",
                state.open,
                state.received,
                state.faults
            );
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite) {
        let (read, mut to) = tokio::io::split(Box::pin(stream));
        let mut reader = Reader::new(read);
        loop {
            let request = match reader.request().await {
                Ok(request) => request,
                Err(Fault::Closed) => return,
                Err(fault) => return self.change(|s| s.faults.push(format!("{fault:?}"))),
            };
            let mut scripted = None;
            self.change(|s| {
                s.received.push(request.clone());
                scripted = s.script.pop_front();
            });
            let answer = scripted.unwrap_or_else(|| self.host.answer(&request));
            if !reply::write(&mut reader, &mut to, answer).await {
                return;
            }
        }
    }
}

/// An address on loopback that refuses every connection: bound, so that nobody else gets the port, never listening.
pub struct Refused {
    address: SocketAddr,
    _bound: OwnedFd,
}

impl Refused {
    /// Reserves a port.
    pub fn new() -> Self {
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None)
            .expect("a socket can be made");
        net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("loopback has a free port");
        let address = net::getsockname(&socket).expect("a bound socket has an address");
        Self { address: SocketAddr::try_from(address).expect("bound to IPv4"), _bound: socket }
    }

    /// Where nobody answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Default for Refused {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use crate::gate::Gate;
    use crate::reply::Piece;

    const GET: &[u8] = b"GET /a?b HTTP/1.1\r\nhost: api.test\r\nauthorization: Bearer sk-1\r\n\r\n";
    /// The same, after which the caller reads to the end.
    const LAST: &[u8] = b"POST /last HTTP/1.1\r\nhost: api.test\r\ncontent-length: 2\r\n\r\nhi";

    fn plain(host: impl Host) -> (Upstream, TcpStream) {
        let upstream = Upstream::http(host);
        let stream = TcpStream::connect(upstream.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        (upstream, stream)
    }

    fn to_end(mut stream: impl Read) -> String {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {}
            Err(e) => panic!("{e}"),
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn the_script_comes_first_then_the_host_and_all_is_on_record() {
        let (upstream, mut stream) = plain(|request: &Received| Reply::text(200, &request.path));
        assert!(upstream.received().is_empty());
        upstream.script([Reply::text(418, "scripted")]);
        stream.write_all(&[GET, LAST].concat()).expect("sent");
        upstream.wait_for(2);
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        let answers = to_end(stream);
        assert!(answers.starts_with("HTTP/1.1 418 I'm a teapot\r\n"), "{answers}");
        assert!(answers.contains("scripted") && answers.ends_with("/last"), "{answers}");
        let received = upstream.received();
        assert_eq!((received[0].path.as_str(), received[0].query.as_deref()), ("/a", Some("b")));
        assert_eq!(received[1].body, b"hi");
        assert_eq!(upstream.connections(), 1);
        upstream.wait_closed();
        assert_eq!(upstream.faults(), Vec::<String>::new());
    }

    #[test]
    #[should_panic(expected = "the key is not in its header")]
    fn a_request_without_the_key_is_noticed() {
        let (upstream, mut stream) = plain(|_: &Received| Reply::text(200, ""));
        stream.write_all(&[GET, LAST].concat()).expect("sent");
        upstream.wait_for(2);
        upstream.took_key("sk-1");
    }

    #[test]
    fn a_stream_waits_at_its_gate_and_breaks_where_it_is_cut() {
        let gate = Gate::closed();
        let (upstream, mut stream) = plain(|_: &Received| Reply::hang_up());
        upstream.script([Reply::sse(vec![
            Piece::text("one"),
            Piece::Wait(gate.clone()),
            Piece::text("two"),
            Piece::Cut,
            Piece::text("never"),
        ])]);
        stream.write_all(GET).expect("sent");
        let mut seen = String::new();
        while !seen.ends_with("3\r\none\r\n") {
            let mut buffer = [0; 256];
            let n = stream.read(&mut buffer).expect("readable");
            seen.push_str(std::str::from_utf8(&buffer[..n]).expect("text"));
        }
        gate.open();
        assert_eq!(to_end(stream), "3\r\ntwo\r\n");
    }

    #[test]
    fn a_held_answer_notices_that_its_caller_is_gone() {
        let gate = Gate::closed();
        let (upstream, mut stream) = plain(|_: &Received| Reply::hang_up());
        upstream.script([Reply::text(200, "late").held(&gate)]);
        stream.write_all(GET).expect("sent");
        upstream.wait_for(1);
        drop(stream);
        upstream.wait_closed();
    }

    #[test]
    fn tls_answers_to_its_names_only() {
        let ca = Ca::new();
        let upstream = Upstream::https(&ca, &["api.test"], |_: &Received| Reply::garbage());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = Arc::new(
            ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("defaults")
                .with_root_certificates(roots)
                .with_no_client_auth(),
        );
        let ask = |name: &'static str| {
            let name = ServerName::try_from(name).expect("a name");
            let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
            let socket = TcpStream::connect(upstream.address()).expect("it listens");
            let mut stream = StreamOwned::new(client, socket);
            stream.write_all(GET).and_then(|()| stream.flush()).map(|()| to_end(stream))
        };
        assert!(ask("api.test").expect("trusted").contains("ESMTP"));
        assert!(ask("other.test").is_err());
        upstream.wait_closed();
        assert_eq!(upstream.received().len(), 1);
        assert_eq!(upstream.faults().len(), 1, "the handshake that failed");
    }

    #[test]
    fn a_refused_address_refuses() {
        let refused = Refused::new();
        let error = TcpStream::connect(refused.address()).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    #[should_panic(expected = "connected, and sent")]
    fn a_touched_upstream_is_noticed() {
        let (upstream, mut stream) = plain(|_: &Received| Reply::hang_up());
        stream.write_all(GET).expect("sent");
        upstream.wait_for(1);
        upstream.untouched();
    }
}
