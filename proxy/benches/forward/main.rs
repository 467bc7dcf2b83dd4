//! Requests per second through [`Proxy::forward`] beside a bare hyper forwarder.
//!
//! Over HTTP/1.1 and over HTTP/2. Both run on this thread, with the same number of requests under way, towards the same TLS server on another thread.
//! The proxy decides, records, swaps a placeholder, pools and scrubs; the bare forwarder copies method, path and fields
//! onto a connection of its own and streams both bodies. They take turns, and the medians over the rounds are compared.
//! CPU time is this thread's, so the server's work is not in it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and reports by printing"
)]

mod bare;
mod upstream;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response, request};
use http_body_util::BodyExt as _;
use orch_manifests::{HostName, RunId, Scheme};
use orch_proxy::{
    AuthorizeError, Binding, Body, Credential, DnsError, Grant, Grants, LiveGrant, Methods, Place,
    Placeholder, Proxy, ProxyConfig, Resolve, Rule, RuleOrigin, Scrubber, Target, Use, full,
};
use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::CertificateDer;
use tokio::task::{JoinSet, LocalSet};

use bare::Bare;
use upstream::{certificates, serve};

const HOST: &str = "api.example.com";
const ROUNDS: usize = 11;
const REQUESTS: usize = 4000;
const CONCURRENCY: usize = 16;
const UP: &[u8] = &[b'u'; 1024];
const DOWN: &[u8] = &[b'd'; 4096];
const SECRET: &str = "sk-benchmark-0123456789abcdefghijklmnop";
/// The part of the bare forwarder's rate that the proxy is to reach.
const TARGET: f64 = 0.5;

#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    fn alpn(self) -> Vec<u8> {
        match self {
            Self::Http1 => b"http/1.1".to_vec(),
            Self::Http2 => b"h2".to_vec(),
        }
    }
}

fn main() -> ExitCode {
    let (root, server) = certificates();
    println!("{ROUNDS} interleaved rounds of {REQUESTS} requests, {CONCURRENCY} at a time; medians");
    let mut reached = true;
    for (name, protocol) in [("http/1.1", Protocol::Http1), ("http/2", Protocol::Http2)] {
        let addr = serve(server.clone(), protocol);
        let (ours, theirs) = compare(&root, addr, protocol);
        for (who, cost) in [("proxy", ours), ("bare hyper", theirs)] {
            let rate = 1.0 / cost.wall.as_secs_f64();
            println!(
                "{name:>8} {who:>10}: {rate:>8.0} requests/s, {:>9.3?} wall, {:>9.3?} cpu per request",
                cost.wall, cost.cpu
            );
        }
        let ratio = theirs.wall.as_secs_f64() / ours.wall.as_secs_f64();
        let cpu = theirs.cpu.as_secs_f64() / ours.cpu.as_secs_f64();
        println!(
            "{name:>8} {:>10}: {ratio:.2} of the bare rate ({cpu:.2} by cpu time), target {TARGET}",
            "ratio"
        );
        reached &= ratio >= TARGET;
    }
    if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Medians for the proxy and for hyper alone.
fn compare(root: &CertificateDer<'static>, addr: SocketAddr, protocol: Protocol) -> (Cost, Cost) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let through_proxy = ThroughProxy::new(root, addr);
        let bare = Bare::connect(root, addr, protocol).await;
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
    })
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
            trials: Vec::new(),
            bindings: vec![binding],
            limits: orch_proxy::Limits::of(u64::MAX, 64),
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
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        let Use::Swap { place, placeholder, .. } = how else { return Err(AuthorizeError::NotThere) };
        place.swap(parts, placeholder, SECRET.as_bytes())?;
        Ok(self.scrubber())
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        Some(Arc::clone(&self.0))
    }
}
