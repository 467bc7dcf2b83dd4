//! What a run may use: bytes to the last one, times, a pace, and no more of the proxy than leaves room for others.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use orch_manifests::HostName;
use orch_proxy::{
    Body, BodyError, DnsError, EgressError, LimitHit, Limits, LiveGrant, Outcome, Pace, Proxy, ProxyConfig,
    Resolve, Shares, TimeoutKind, full,
};
use tokio::time::Instant;

use crate::support::{
    OK, Upstream, Wire, answering, code, get, grant, live, request, rule, scripted, text, whole,
};

const URL: &str = "https://api.example.com/";

fn run(shares: Shares) -> Limits {
    Limits { run: shares, ..Limits::default() }
}

fn within(limits: Limits) -> Arc<LiveGrant> {
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.limits = limits;
    grant.expires = Instant::now() + Duration::from_secs(100_000);
    live(grant)
}

/// A body of unknown length.
fn streamed(pieces: &'static [&'static str]) -> Body {
    let frames =
        pieces.iter().map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from_static(piece.as_bytes()))));
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

/// The first `count` bytes of a body, and the error after them.
async fn all_of(mut body: Body) -> (Vec<u8>, Option<BodyError>) {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap()),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

#[tokio::test]
async fn a_response_comes_through_to_the_last_byte_that_is_left() {
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n1234\r\n4\r\n5678\r\n0\r\n\r\n";
    let (_upstream, proxy) = answering(answer).await;
    let exact = within(run(Shares { download: 16, ..Shares::default() }));
    for _ in 0..2 {
        assert_eq!(text(proxy.forward(&exact, get(URL)).await.unwrap()).await, "12345678");
    }
    assert_eq!((exact.downloaded(), exact.limit_hit()), (16, None));
    // Nothing is left: not a byte of the third.
    let (bytes, error) = all_of(proxy.forward(&exact, get(URL)).await.unwrap().into_body()).await;
    let hit = LimitHit { name: "download", used: 16, limit: 16 };
    assert!(bytes.is_empty() && matches!(error, Some(BodyError::Limit(said)) if said == hit), "{error:?}");

    let short = within(run(Shares { download: 7, ..Shares::default() }));
    let (bytes, error) = all_of(proxy.forward(&short, get(URL)).await.unwrap().into_body()).await;
    assert_eq!(bytes, b"1234567");
    assert_eq!(error.unwrap().to_string(), "limit reached: download (7 of 7)");
    assert_eq!((short.downloaded(), short.running()), (7, 0));
}

#[tokio::test]
async fn a_request_that_announces_too_much_is_not_sent() {
    let (upstream, proxy) = answering(OK).await;
    let grant = within(run(Shares { upload: 10, ..Shares::default() }));
    proxy.forward(&grant, request("POST", URL, full("1234567"))).await.unwrap();
    let error = proxy.forward(&grant, request("POST", URL, full("8901"))).await.unwrap_err();
    assert_eq!(error.to_string(), "limit reached: upload (7 of 10)");
    proxy.forward(&grant, request("POST", URL, full("890"))).await.unwrap();
    assert_eq!((grant.uploaded(), upstream.requests().len()), (10, 2));
}

#[tokio::test]
async fn a_request_that_announces_nothing_is_cut_at_its_last_byte() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let there = Arc::clone(&seen);
    let (_upstream, proxy) = scripted(
        move |_, mut wire: Wire| {
            let seen = Arc::clone(&there);
            async move {
                wire.head().await;
                let rest = wire.rest().await;
                seen.lock().unwrap().push(rest);
            }
        },
        |_| {},
    )
    .await;
    for pieces in [&["1234", "5678"][..], &["12345678"], &["1", "2", "3", "4", "5", "6", "7"]] {
        let grant = within(run(Shares { upload: 6, ..Shares::default() }));
        let error = proxy.forward(&grant, request("POST", URL, streamed(pieces))).await.unwrap_err();
        assert_eq!(error.to_string(), "limit reached: upload (6 of 6)", "{pieces:?}");
        assert_eq!(grant.uploaded(), 6);
        // Some of it left: that is no refusal.
        assert_eq!(grant.ledger().decisions()[0].verdict, Outcome::Failed);
    }
    tokio::time::timeout(Duration::from_secs(10), async {
        while seen.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the connections are closed");
    for rest in seen.lock().unwrap().iter() {
        let rest = String::from_utf8(rest.clone()).unwrap();
        let sent: String = rest.split("\r\n").skip(1).step_by(2).collect();
        assert!("123456".starts_with(&sent) && !rest.contains("0\r\n\r\n"), "{rest:?}");
    }
}

#[tokio::test]
async fn a_host_has_limits_within_those_of_the_run() {
    let (_upstream, proxy) = answering(OK).await;
    let limits =
        Limits { host: Shares { download: 3, requests: 4, ..Shares::default() }, ..Limits::default() };
    let grant = within(limits);
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "ok");
    let (bytes, error) = all_of(proxy.forward(&grant, get(URL)).await.unwrap().into_body()).await;
    assert_eq!(
        (&bytes[..], error.unwrap().to_string().as_str()),
        (&b"o"[..], "limit reached: per_host.download (3 of 3)")
    );
    // What is refused was not at the host.
    assert_eq!(code(proxy.forward(&grant, get("https://evil.example/")).await), "host_not_allowed");
    for _ in 0..2 {
        drop(proxy.forward(&grant, get(URL)).await.unwrap());
    }
    let error = proxy.forward(&grant, get(URL)).await.unwrap_err();
    assert_eq!(error.to_string(), "limit reached: per_host.requests (4 of 4)");
    assert_eq!(grant.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_run_s_own_times_are_limits_and_the_operator_s_are_not() {
    let silent = |_, mut wire: Wire| async move { wire.closed().await };
    let (_upstream, proxy) = scripted(silent, |_| {}).await;
    let grant = within(Limits { first_byte: Some(Duration::from_secs(7)), ..Limits::default() });
    let began = Instant::now();
    let error = proxy.forward(&grant, get(URL)).await.unwrap_err();
    assert_eq!(error.to_string(), "limit reached: first_byte (7000 of 7000)");
    assert_eq!(began.elapsed().as_secs(), 7);
    let error = proxy.forward(&within(Limits::default()), get(URL)).await.unwrap_err();
    assert!(matches!(error, EgressError::Timeout(TimeoutKind::FirstByte)), "{error}");

    let stalls = |_, mut wire: Wire| async move {
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        wire.closed().await;
    };
    let (_upstream, proxy) = scripted(stalls, |_| {}).await;
    for (limits, said) in [
        (Limits { idle: Some(Duration::from_secs(3)), ..Limits::default() }, "idle (3000 of 3000)"),
        (Limits { exchange: Some(Duration::from_secs(2)), ..Limits::default() }, "exchange (2000 of 2000)"),
    ] {
        let grant = within(limits);
        let error = whole(proxy.forward(&grant, get(URL)).await.unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("limit reached: {said}"));
        assert!(grant.limit_hit().is_some_and(|hit| !hit.is_lasting()));
    }
}

/// Sends a byte of an answer every so often, under this head.
async fn dripping(head: &'static str, chunked: bool, every: Duration) -> (Upstream, Arc<Proxy>) {
    let script = move |_, mut wire: Wire| async move {
        wire.request().await;
        wire.send(head).await;
        for _ in 0..500 {
            tokio::time::sleep(every).await;
            if chunked { wire.chunk(b"x").await } else { wire.send("x").await }
        }
        wire.send("0\r\n\r\n").await;
    };
    scripted(script, |config| config.timeouts.total = Duration::from_secs(50_000)).await
}

#[tokio::test(start_paused = true)]
async fn an_announced_body_that_crawls_is_cut_and_a_stream_of_events_is_not() {
    let every = Duration::from_secs(20);
    let (_upstream, crawling) =
        dripping("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", false, every).await;
    let began = Instant::now();
    let response = crawling.forward(&within(Limits::default()), get(URL)).await.unwrap();
    let (bytes, error) = all_of(response.into_body()).await;
    assert!(matches!(error, Some(BodyError::Timeout(TimeoutKind::Pace))), "{error:?}");
    // Within the patience, but for the little that the bytes paid.
    assert_eq!((bytes.len(), began.elapsed().as_secs()), (6, 120));

    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let (_upstream, quiet) = dripping(head, true, every).await;
    let response = quiet.forward(&within(Limits::default()), get(URL)).await.unwrap();
    assert_eq!(whole(response).await.unwrap().len(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_does_not_buy_time() {
    let script = |_, mut wire: Wire| async move {
        wire.request().await;
        for byte in "HTTP/1.1 200 OK\r\nx-slow: 1\r\ncontent-length: 0\r\n\r\n".chars() {
            tokio::time::sleep(Duration::from_secs(50)).await;
            wire.send(byte.to_string()).await;
        }
    };
    let (_upstream, proxy) = scripted(script, |_| {}).await;
    let began = Instant::now();
    let error = proxy.forward(&within(Limits::default()), get(URL)).await.unwrap_err();
    assert!(matches!(error, EgressError::Timeout(TimeoutKind::FirstByte)), "{error}");
    assert_eq!(began.elapsed().as_secs(), 300);
}

/// A byte every so often, for ever.
fn drip(every: Duration) -> Body {
    let pieces = futures_util::stream::repeat(()).then(move |()| async move {
        tokio::time::sleep(every).await;
        Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x")))
    });
    StreamBody::new(pieces).boxed_unsync()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_crawls_is_cut_where_its_length_was_announced() {
    let script = |_, mut wire: Wire| async move {
        wire.head().await;
        wire.take(40).await;
        wire.send(OK).await;
        wire.closed().await;
    };
    let (_upstream, proxy) = scripted(script, |config| {
        config.timeouts.pace = Pace { rate: 10, patience: Duration::from_secs(60) }
    })
    .await;
    let began = Instant::now();
    let mut announced = request("POST", URL, drip(Duration::from_secs(8)));
    announced.headers_mut().insert("content-length", "100000".parse().unwrap());
    let error = proxy.forward(&within(Limits::default()), announced).await.unwrap_err();
    assert!(matches!(error, EgressError::Timeout(TimeoutKind::Pace)), "{error}");
    assert_eq!(began.elapsed().as_secs(), 60);
    // Fast enough on the whole, with pauses.
    let mut announced = request("POST", URL, full(vec![b'x'; 40]));
    announced.headers_mut().insert("content-length", "40".parse().unwrap());
    proxy.forward(&within(Limits::default()), announced).await.unwrap();
    // Nothing was announced, so nothing is owed.
    let stream = request("POST", URL, drip(Duration::from_secs(8)));
    proxy.forward(&within(Limits::default()), stream).await.unwrap();
}

/// Knows every name as one that takes for ever, but for this one, which it does not know at once.
struct Stuck {
    quick: &'static str,
    asked: Mutex<usize>,
}

impl Resolve for Stuck {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        if name.as_str() == self.quick {
            return Box::pin(async { Err(DnsError::NotFound) });
        }
        *self.asked.lock().unwrap() += 1;
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn lookups_of_one_run_do_not_hold_up_another_s() {
    let names = Arc::new(Stuck { quick: "quick.example.com", asked: Mutex::new(0) });
    let proxy = Proxy::new(ProxyConfig::default(), Arc::clone(&names) as Arc<dyn Resolve>).unwrap();
    let greedy = live(grant(vec![rule("https://*.example.com")]));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..90 {
        let (proxy, greedy) = (Arc::clone(&proxy), Arc::clone(&greedy));
        tasks.spawn(async move {
            proxy.forward(&greedy, get(&format!("https://h{number}.example.com/"))).await.map(drop)
        });
    }
    while *names.asked.lock().unwrap() < 32 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*names.asked.lock().unwrap(), 32, "no more at once, however many are wanted");
    let other = live(grant(vec![rule("https://quick.example.com")]));
    let before = Instant::now();
    assert_eq!(code(proxy.forward(&other, get("https://quick.example.com/")).await), "dns_failed");
    assert_eq!(before.elapsed(), Duration::ZERO);
    // The greedy one gets through all of its own in the end, 32 at a time.
    while let Some(done) = tasks.join_next().await {
        assert!(matches!(done.unwrap(), Err(EgressError::Timeout(TimeoutKind::Dns))));
    }
    assert_eq!((*names.asked.lock().unwrap(), before.elapsed().as_secs()), (90, 15));
}

#[tokio::test]
async fn a_run_that_talks_to_many_does_not_push_out_another_s_connections() {
    let ca = crate::support::Ca::new();
    let hosts: Vec<String> = (0..9).map(|number| format!("h{number}.example.com")).collect();
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let upstream = Upstream::answering(Some(ca.server(&names)), OK).await;
    let config = ProxyConfig {
        connect_to: hosts.iter().map(|host| ((host.parse().unwrap(), 443), upstream.addr)).collect(),
        extra_roots: vec![ca.root()],
        pool: orch_proxy::PoolLimits { idle_total: 4, ..Default::default() },
        ..ProxyConfig::default()
    };
    let proxy = Proxy::new(config, Arc::new(crate::support::Told::default())).unwrap();
    let modest = live(grant(vec![rule("https://h0.example.com")]));
    let greedy = live(grant(vec![rule("https://*.example.com")]));
    let ask = async |grant, host: &str| {
        text(proxy.forward(grant, get(&format!("https://{host}/"))).await.unwrap()).await
    };
    assert_eq!(ask(&modest, &hosts[0]).await, "ok");
    for host in &hosts[1..] {
        assert_eq!(ask(&greedy, host).await, "ok");
    }
    assert_eq!(upstream.accepted(), 9);
    assert_eq!(ask(&modest, &hosts[0]).await, "ok");
    assert_eq!(upstream.accepted(), 9, "the modest one's connection was kept");
    assert_eq!(ask(&greedy, &hosts[8]).await, "ok");
    assert_eq!(upstream.accepted(), 9, "and the newest of the greedy one's");
    assert_eq!(ask(&greedy, &hosts[1]).await, "ok");
    assert_eq!(upstream.accepted(), 10, "but not all of them");
}
