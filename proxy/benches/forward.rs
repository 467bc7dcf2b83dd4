//! Requests per second through [`Proxy::forward`] beside a bare hyper forwarder.
//!
//! Both run on this thread, with the same number of requests under way, towards the same TLS server on another thread.
//! The proxy decides, records, swaps a placeholder, pools and scrubs; the bare forwarder copies method, path and fields
//! onto a connection of its own and streams both bodies. They take turns, and the medians over the rounds are compared.
//! CPU time is this thread's, so the server's work is not in it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and reports by printing"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use orch_manifests::{HostName, RunId, Scheme};
use orch_proxy::{
    AuthorizeError, Binding, Body, Credential, DnsError, Grant, Grants, LiveGrant, Methods, Place,
    Placeholder, Proxy, ProxyConfig, Resolve, Rule, RuleOrigin, Scrubber, Target, Use, full, swap_in_header,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HOST: &str = "api.example.com";
const ROUNDS: usize = 11;
const REQUESTS: usize = 4000;
const CONCURRENCY: usize = 16;
const UP: &[u8] = &[b'u'; 1024];
const DOWN: &[u8] = &[b'd'; 4096];
const SECRET: &str = "sk-benchmark-0123456789abcdefghijklmnop";
/// The part of the bare forwarder's rate that the proxy is to reach.
const TARGET: f64 = 0.5;

fn main() -> ExitCode {
    let (root, server) = certificates();
    let addr = serve(server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    let report = local.block_on(&runtime, async {
        let through_proxy = ThroughProxy::new(&root, addr);
        let bare = Bare::connect(&root, addr).await;
        // Connections and code are warm before anything is counted.
        through_proxy.round(REQUESTS / 4).await;
        bare.round(REQUESTS / 4).await;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                ours.push(through_proxy.round(REQUESTS).await);
                theirs.push(bare.round(REQUESTS).await);
            } else {
                theirs.push(bare.round(REQUESTS).await);
                ours.push(through_proxy.round(REQUESTS).await);
            }
        }
        (median(&ours), median(&theirs))
    });
    let (ours, theirs) = report;
    println!("{ROUNDS} interleaved rounds of {REQUESTS} requests, {CONCURRENCY} at a time; medians");
    for (name, cost) in [("proxy", ours), ("bare hyper", theirs)] {
        let rate = 1.0 / cost.wall.as_secs_f64();
        println!(
            "{name:>12}: {rate:>8.0} requests/s, {:>9.3?} wall, {:>9.3?} cpu per request",
            cost.wall, cost.cpu
        );
    }
    let ratio = theirs.wall.as_secs_f64() / ours.wall.as_secs_f64();
    let cpu = theirs.cpu.as_secs_f64() / ours.cpu.as_secs_f64();
    println!("{:>12}: {ratio:.2} of the bare rate ({cpu:.2} by cpu time), target {TARGET}", "ratio");
    if ratio >= TARGET { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Average cost of one request in a round.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn median(costs: &[Cost]) -> Cost {
    let middle = |pick: fn(&Cost) -> Duration| {
        let mut times: Vec<Duration> = costs.iter().map(pick).collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    Cost { wall: middle(|cost| cost.wall), cpu: middle(|cost| cost.cpu) }
}

fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// Runs `count` requests, [`CONCURRENCY`] at a time.
async fn timed<W, F>(
    count: usize,
    workers: impl Iterator<Item = W>,
    run: impl Fn(W, Arc<AtomicUsize>) -> F,
) -> Cost
where
    F: Future<Output = ()> + 'static,
{
    let left = Arc::new(AtomicUsize::new(count));
    let mut tasks = JoinSet::new();
    let (started, cpu) = (Instant::now(), thread_cpu());
    for worker in workers {
        tasks.spawn_local(run(worker, Arc::clone(&left)));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let (wall, cpu) = (started.elapsed(), thread_cpu() - cpu);
    let count = u32::try_from(count).unwrap();
    Cost { wall: wall / count, cpu: cpu / count }
}

fn one_more(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// What a guest sends.
fn guest_request(authorization: &str) -> Request<Body> {
    Request::post(format!("https://{HOST}/v1/things/17/parts?limit=10"))
        .header("accept", "application/json")
        .header("content-type", "application/json")
        .header("user-agent", "bench/1")
        .header("x-request-id", "0123456789abcdef")
        .header("authorization", authorization)
        .body(full(UP))
        .unwrap()
}

async fn read(response: Response<impl http_body::Body<Error = impl std::fmt::Debug>>) {
    assert_eq!(response.status(), 200);
    let body = response.into_body();
    tokio::pin!(body);
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.unwrap().into_data() {
            read += bytes::Buf::remaining(&data);
        }
    }
    assert_eq!(read, DOWN.len());
}

struct ThroughProxy {
    proxy: Arc<Proxy>,
    grant: Arc<LiveGrant>,
    authorization: String,
}

impl ThroughProxy {
    fn new(root: &CertificateDer<'static>, addr: SocketAddr) -> Self {
        let config = ProxyConfig {
            connect_to: vec![((HOST.parse().unwrap(), 443), addr)],
            extra_roots: vec![root.clone()],
            ..ProxyConfig::default()
        };
        let placeholder = Placeholder::random();
        let authorization = format!("Bearer {placeholder}");
        // A run with a dozen rules, of which the last is the one that fits, and one bound secret.
        let mut rules: Vec<Rule> = (0..11).map(|n| rule(&format!("host-{n}.example.com"))).collect();
        rules.push(rule(HOST));
        let target = Target {
            scheme: Scheme::Https,
            host: HOST.parse().unwrap(),
            port: 443,
            methods: Methods::Any,
            paths: vec!["/v1/**".parse().unwrap()],
        };
        let binding = Binding {
            placeholder,
            credential: Arc::new(Key(Arc::new(Scrubber::new(SECRET.as_bytes()).unwrap()))),
            targets: vec![target],
            place: Place::Header(http::header::AUTHORIZATION),
        };
        let grant = Grant {
            run: RunId::random(),
            workspace: "default".to_owned(),
            rules,
            bindings: vec![binding],
            requests: u64::MAX,
            concurrent: 64,
            expires: tokio::time::Instant::now() + Duration::from_secs(3600),
        };
        let (_, grant) = Grants::new().mint(grant);
        let proxy = Proxy::new(config, Arc::new(NoNames)).unwrap();
        Self { proxy, grant, authorization }
    }

    async fn round(&self, count: usize) -> Cost {
        timed(count, 0..CONCURRENCY, |_, left| {
            let (proxy, grant) = (Arc::clone(&self.proxy), Arc::clone(&self.grant));
            let authorization = self.authorization.clone();
            async move {
                while one_more(&left) {
                    read(proxy.forward(&grant, guest_request(&authorization)).await.unwrap()).await;
                }
            }
        })
        .await
    }
}

fn rule(host: &str) -> Rule {
    Rule {
        scheme: Scheme::Https,
        host: host.parse().unwrap(),
        port: 443,
        methods: Methods::Any,
        paths: vec!["/v1/**".parse().unwrap()],
        origin: RuleOrigin::Manifest,
    }
}

struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(
        &'a self,
        _: &'a HostName,
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<std::net::IpAddr>, DnsError>> {
        Box::pin(std::future::ready(Err(DnsError::NotFound)))
    }
}

struct Key(Arc<Scrubber>);

impl Credential for Key {
    fn id(&self) -> &str {
        "BENCH_KEY"
    }

    fn source(&self) -> &str {
        "simulated"
    }

    fn authorize(
        &self,
        parts: &mut request::Parts,
        _: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<(), AuthorizeError> {
        match how {
            Use::Own => Err(AuthorizeError::NotThere),
            Use::Swap { header, placeholder } => {
                swap_in_header(parts, header, placeholder, SECRET.as_bytes())
            }
        }
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        Some(Arc::clone(&self.0))
    }
}

/// One connection per worker, nothing else.
struct Bare {
    senders: Vec<std::rc::Rc<tokio::sync::Mutex<SendRequest<Body>>>>,
    _connections: JoinSet<()>,
}

impl Bare {
    async fn connect(root: &CertificateDer<'static>, addr: SocketAddr) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let mut connections = JoinSet::new();
        let mut senders = Vec::new();
        for _ in 0..CONCURRENCY {
            let stream = TcpStream::connect(addr).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            connections.spawn_local(async move {
                let _ = connection.await;
            });
            senders.push(std::rc::Rc::new(tokio::sync::Mutex::new(sender)));
        }
        Self { senders, _connections: connections }
    }

    async fn round(&self, count: usize) -> Cost {
        timed(count, self.senders.iter().cloned(), |sender, left| async move {
            let mut sender = sender.lock().await;
            while one_more(&left) {
                let (mut parts, body) = guest_request(&format!("Bearer {SECRET}")).into_parts();
                parts.headers.insert(http::header::HOST, HOST.try_into().unwrap());
                parts.uri = parts.uri.path_and_query().unwrap().as_str().try_into().unwrap();
                sender.ready().await.unwrap();
                read(sender.send_request(Request::from_parts(parts, body)).await.unwrap()).await;
            }
        })
        .await
    }
}

/// A root, and what a server for [`HOST`] needs.
fn certificates() -> (CertificateDer<'static>, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (issuer.der().clone(), Arc::new(config))
}

/// The upstream, on a thread of its own until the process ends.
fn serve(config: Arc<ServerConfig>) -> SocketAddr {
    let (report, bound) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            report.send(listener.local_addr().unwrap()).unwrap();
            let acceptor = TlsAcceptor::from(config);
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let service = hyper::service::service_fn(answer);
                    // Ends with the client's connection.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
    });
    bound.recv().unwrap()
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let authorized = request.headers()["authorization"] == format!("Bearer {SECRET}");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    assert!(authorized && body.len() == UP.len());
    Ok(Response::new(Full::new(Bytes::from_static(DOWN))))
}
