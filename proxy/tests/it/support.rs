//! Servers that speak raw bytes, a resolver that says what it is told, and short ways to ask for things.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderName, Request, Response, request};
use http_body_util::BodyExt as _;
use orch_manifests::{HostName, RunId, Scheme};
use orch_proxy::{
    AuthorizeError, Binding, Body, BodyError, Credential, DnsError, EgressError, Grant, Grants, Limits,
    LiveGrant, Methods, Place, Placeholder, Proxy, ProxyConfig, Resolve, Rule, RuleOrigin, Scrubber, Target,
    Use,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

pub(crate) const HOST: &str = "api.example.com";
pub(crate) const SECRET: &str = "sk-live/0123456789+abcdef\"ghij";
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A certificate authority that lives as long as a test.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.server_with(names, rustls::crypto::ring::default_provider())
    }

    pub(crate) fn server_with(&self, names: &[&str], provider: CryptoProvider) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The server's end of one connection.
pub(crate) struct Wire {
    io: Box<dyn Io>,
    seen: Vec<u8>,
    log: Arc<Mutex<Vec<Raw>>>,
}

/// A request as it was on the wire: the body with its framing.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

impl Wire {
    /// The bare connection, for a server that speaks for itself.
    pub(crate) fn into_io(self) -> Box<dyn Io> {
        self.io
    }

    /// This many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.seen.len() < count {
            self.more().await.then_some(())?;
        }
        Some(self.seen.drain(..count).collect())
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.io.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.seen.extend_from_slice(&buffer[..n]);
                true
            }
        }
    }

    async fn take_through(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.seen.windows(mark.len()).position(|window| window == mark) {
                return Some(self.seen.drain(..at + mark.len()).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The head of the next request, without its body.
    pub(crate) async fn head(&mut self) -> Option<Raw> {
        let head = String::from_utf8(self.take_through(b"\r\n\r\n").await?).unwrap();
        let raw = Raw { head, body: Vec::new() };
        self.log.lock().unwrap().push(raw.clone());
        Some(raw)
    }

    /// The next request, whole.
    pub(crate) async fn request(&mut self) -> Option<Raw> {
        let mut raw = self.head().await?;
        if raw.fields("transfer-encoding") == ["chunked"] {
            loop {
                let line = self.take_through(b"\r\n").await?;
                raw.body.extend_from_slice(&line);
                if line.starts_with(b"0\r") {
                    break;
                }
                let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
                while self.seen.len() < size + 2 {
                    self.more().await.then_some(())?;
                }
                raw.body.extend(self.seen.drain(..size + 2));
            }
            loop {
                let line = self.take_through(b"\r\n").await?;
                raw.body.extend_from_slice(&line);
                if line == b"\r\n" {
                    break;
                }
            }
        } else if let [length] = raw.fields("content-length")[..] {
            let length: usize = length.parse().unwrap();
            while self.seen.len() < length {
                self.more().await.then_some(())?;
            }
            raw.body.extend(self.seen.drain(..length));
        }
        self.log.lock().unwrap().last_mut().unwrap().body.clone_from(&raw.body);
        Some(raw)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The client may have gone, which some tests want.
        let _ = self.io.write_all(bytes.as_ref()).await;
        let _ = self.io.flush().await;
    }

    /// One chunk of a chunked body.
    pub(crate) async fn chunk(&mut self, bytes: &[u8]) {
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.send(framed).await;
    }

    /// All that comes until the other side closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.seen)
    }

    /// Waits until the other side closes.
    pub(crate) async fn closed(&mut self) {
        while self.more().await {}
    }

    pub(crate) async fn close(mut self) {
        let _ = self.io.shutdown().await;
    }
}

/// A server on loopback. Its tasks end with it.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    log: Arc<Mutex<Vec<Raw>>>,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Runs `script` on every connection; its first argument counts them from 0.
    pub(crate) async fn scripted<F, T>(tls: Option<Arc<ServerConfig>>, script: F) -> Self
    where
        F: Fn(usize, Wire) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let (log_here, accepted_here) = (Arc::clone(&log), Arc::clone(&accepted));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let io: Box<dyn Io> = match &tls {
                    None => Box::new(stream),
                    Some(config) => match TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                let count = accepted_here.fetch_add(1, Ordering::SeqCst);
                connections.spawn(script(count, Wire { io, seen: Vec::new(), log: Arc::clone(&log_here) }));
            }
        });
        Self { addr, log, accepted, _tasks: tasks }
    }

    /// Answers every request with the same bytes and keeps the connection.
    pub(crate) async fn answering(tls: Option<Arc<ServerConfig>>, answer: &'static [u8]) -> Self {
        Self::scripted(tls, move |_, mut wire| async move {
            while wire.request().await.is_some() {
                wire.send(answer).await;
            }
        })
        .await
    }

    pub(crate) fn requests(&self) -> Vec<Raw> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Says what it is told, one answer after the other, the last one for ever; remembers what it was asked.
#[derive(Default)]
pub(crate) struct Told {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Told {
    pub(crate) fn of(name: &str, answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers.iter().map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        let told = Self::default();
        told.answers.lock().unwrap().insert(name.to_owned(), answers);
        Arc::new(told)
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Resolve for Told {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        self.asked.lock().unwrap().push(name.to_string());
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.get_mut(name.as_str()) {
            Some(list) if list.len() > 1 => Ok(list.remove(0)),
            Some(list) => Ok(list[0].clone()),
            None => Err(DnsError::NotFound),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// A credential that holds its value, as a broker's would.
pub(crate) struct Held(pub(crate) &'static str);

impl Credential for Held {
    fn id(&self) -> &str {
        "TEST_KEY"
    }

    fn source(&self) -> &str {
        "flag"
    }

    fn authorize(
        &self,
        parts: &mut request::Parts,
        _: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        match how {
            Use::Own { .. } => drop(parts.headers.insert("x-api-key", self.0.try_into().unwrap())),
            Use::Swap { place, placeholder, .. } => place.swap(parts, placeholder, self.0.as_bytes())?,
        }
        Ok(self.scrubber())
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        Scrubber::new(self.0.as_bytes()).map(Arc::new)
    }
}

/// A credential whose owner may replace the value or take it back at any time.
pub(crate) struct Owned {
    id: &'static str,
    /// The value, or why it may not be used.
    state: Mutex<Result<&'static str, &'static str>>,
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Owned {
    pub(crate) fn new(id: &'static str, value: &'static str) -> Arc<Self> {
        Arc::new(Self { id, state: Mutex::new(Ok(value)), meanwhile: Mutex::default() })
    }

    pub(crate) fn set(&self, state: Result<&'static str, &'static str>) {
        *self.state.lock().unwrap() = state;
    }

    /// What happens in the middle of the next use, once the credential has made up its mind.
    pub(crate) fn meanwhile(&self, happens: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(happens));
    }
}

impl Credential for Owned {
    fn id(&self) -> &str {
        self.id
    }

    fn source(&self) -> &str {
        "vault"
    }

    fn authorize(
        &self,
        parts: &mut request::Parts,
        _: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        let state = *self.state.lock().unwrap();
        if let Some(happens) = self.meanwhile.lock().unwrap().take() {
            happens();
        }
        let value = state.map_err(|why| AuthorizeError::NotPermitted(why.to_owned()))?;
        match how {
            Use::Own { .. } => drop(parts.headers.insert("x-api-key", value.try_into().unwrap())),
            Use::Swap { place, placeholder, .. } => place.swap(parts, placeholder, value.as_bytes())?,
        }
        Ok(Scrubber::new(value.as_bytes()).map(Arc::new))
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        panic!("answers are searched with what `authorize` gave back")
    }
}

pub(crate) fn rule(text: &str) -> Rule {
    let (scheme, host, port) = origin(text);
    Rule {
        scheme,
        host: host.parse().unwrap(),
        port,
        methods: Methods::Any,
        paths: Vec::new(),
        origin: RuleOrigin::Manifest,
    }
}

pub(crate) fn target(text: &str) -> Target {
    let (scheme, host, port) = origin(text);
    Target { scheme, host: host.parse().unwrap(), port, methods: Methods::Any, paths: Vec::new() }
}

fn origin(text: &str) -> (Scheme, &str, u16) {
    let (scheme, rest) = text.split_once("://").unwrap();
    let scheme: Scheme = scheme.parse().unwrap();
    match rest.split_once(':') {
        Some((host, port)) => (scheme, host, port.parse().unwrap()),
        None => (scheme, rest, scheme.default_port()),
    }
}

pub(crate) fn bind(header: &str, targets: Vec<Target>) -> Binding {
    Binding {
        placeholder: Placeholder::random(),
        credential: Arc::new(Held(SECRET)),
        targets,
        place: Place::Header(header.parse::<HeaderName>().unwrap()),
    }
}

/// The same for any credential in any place, everywhere on [`HOST`] over TLS.
pub(crate) fn bind_in(place: Place, credential: Arc<dyn Credential>) -> Binding {
    let targets = vec![target("https://api.example.com")];
    Binding { placeholder: Placeholder::random(), credential, targets, place }
}

pub(crate) fn grant(rules: Vec<Rule>) -> Grant {
    Grant {
        run: RunId::random(),
        workspace: "default".to_owned(),
        rules,
        trials: Vec::new(),
        bindings: Vec::new(),
        limits: Limits::of(1000, 100),
        expires: Instant::now() + Duration::from_secs(60),
    }
}

pub(crate) fn live(grant: Grant) -> Arc<LiveGrant> {
    Grants::new().mint(grant).1
}

/// A grant for everything on [`HOST`] over TLS.
pub(crate) fn open() -> Arc<LiveGrant> {
    live(grant(vec![rule("https://api.example.com")]))
}

/// A proxy for which [`HOST`] is at `upstream`, over TLS.
pub(crate) fn proxy_to(ca: &Ca, upstream: &Upstream) -> Arc<Proxy> {
    proxy_with(ca, upstream, |_| {})
}

pub(crate) fn proxy_with(ca: &Ca, upstream: &Upstream, change: impl FnOnce(&mut ProxyConfig)) -> Arc<Proxy> {
    let mut config = ProxyConfig {
        connect_to: vec![((HOST.parse().unwrap(), 443), upstream.addr)],
        extra_roots: vec![ca.root()],
        ..ProxyConfig::default()
    };
    change(&mut config);
    Proxy::new(config, Arc::new(Told::default())).unwrap()
}

/// A CA, a TLS server for [`HOST`] that always says the same, and a proxy that leads there.
pub(crate) async fn answering(answer: &'static [u8]) -> (Upstream, Arc<Proxy>) {
    let ca = Ca::new();
    let upstream = Upstream::answering(Some(ca.server(&[HOST])), answer).await;
    let proxy = proxy_to(&ca, &upstream);
    (upstream, proxy)
}

/// The same with a script.
pub(crate) async fn scripted<F, T>(script: F, change: impl FnOnce(&mut ProxyConfig)) -> (Upstream, Arc<Proxy>)
where
    F: Fn(usize, Wire) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let ca = Ca::new();
    let upstream = Upstream::scripted(Some(ca.server(&[HOST])), script).await;
    let proxy = proxy_with(&ca, &upstream, change);
    (upstream, proxy)
}

pub(crate) fn get(url: &str) -> Request<Body> {
    request("GET", url, orch_proxy::empty())
}

pub(crate) fn request(method: &str, url: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(url).body(body).unwrap()
}

pub(crate) fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().append(name, value.parse().unwrap());
    request
}

pub(crate) async fn text(response: Response<Body>) -> String {
    String::from_utf8(whole(response).await.unwrap().into()).unwrap()
}

pub(crate) async fn whole(response: Response<Body>) -> Result<Bytes, BodyError> {
    Ok(response.into_body().collect().await?.to_bytes())
}

/// The code of a refusal.
pub(crate) fn code(result: Result<Response<Body>, EgressError>) -> &'static str {
    match result {
        Ok(response) => panic!("a response came: {}", response.status()),
        Err(error) => error.code(),
    }
}
