//! Who shares an HTTP/2 connection, how many exchanges it takes, and what a request looks like on it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt as _, StreamExt as _};
use http::{Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use orch_manifests::{Endpoint, HostName};
use orch_proxy::{
    AuthorizeError, BodyError, Credential, DnsError, Grant, LiveGrant, Methods, ProviderCall, Proxy,
    ProxyConfig, Resolve, Scrubber, Use, full,
};
use tokio::sync::Barrier;

use crate::http2::*;
use crate::support::*;

const URL: &str = "https://api.example.com/";

#[tokio::test]
async fn requests_that_start_together_share_one_connection() {
    const MANY: usize = 20;
    // Nobody is answered before everybody is there.
    let all = Arc::new(Barrier::new(MANY));
    let (upstream, proxy, _) = serving(
        100,
        move |_, _| {
            let all = Arc::clone(&all);
            async move {
                all.wait().await;
                answer("ok")
            }
        },
        |_| {},
    )
    .await;
    // Runs of one agent under one policy.
    let grants: Vec<_> = (0..MANY).map(|_| open()).collect();
    let answers = join_all(grants.iter().map(|grant| async {
        let response = proxy.forward(grant, get(URL)).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        text(response).await
    }));
    assert!(answers.await.iter().all(|body| body == "ok"));
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn more_connections_are_opened_when_one_is_full() {
    // The peer's limit, then this side's.
    for (theirs, ours) in [(2, 32), (100, 2)] {
        const MANY: usize = 6;
        let all = Arc::new(Barrier::new(MANY));
        let now: Arc<Mutex<Vec<usize>>> = Arc::new(Mutex::new(vec![0; MANY]));
        let most = Arc::new(AtomicUsize::new(0));
        let most_there = Arc::clone(&most);
        let (upstream, proxy, _) = serving(
            theirs,
            move |connection, _| {
                let (all, now, most) = (Arc::clone(&all), Arc::clone(&now), Arc::clone(&most_there));
                async move {
                    now.lock().unwrap()[connection] += 1;
                    most.fetch_max(now.lock().unwrap()[connection], Ordering::SeqCst);
                    all.wait().await;
                    now.lock().unwrap()[connection] -= 1;
                    answer("ok")
                }
            },
            |config| config.pool.streams_per_connection = ours,
        )
        .await;
        let grant = open();
        join_all((0..MANY).map(|_| async { text(proxy.forward(&grant, get(URL)).await.unwrap()).await }))
            .await;
        assert!((3..=MANY).contains(&upstream.accepted()), "{} connections", upstream.accepted());
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_request_says_nothing_about_the_connection() {
    let (_upstream, proxy, log) = serving(100, |_, _| async { answer("ok") }, |_| {}).await;
    let mut asked = request("POST", "https://api.example.com/v1/x?q=1", full("body"));
    for (name, value) in [
        ("host", "api.example.com"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic x"),
        ("x-forwarded-for", "10.0.0.1"),
        ("orch-token", "x"),
        ("expect", "100-continue"),
        ("x-kept", "1"),
    ] {
        asked = with(asked, name, value);
    }
    text(proxy.forward(&open(), asked).await.unwrap()).await;
    let (_, parts) = log.lock().unwrap().pop().unwrap();
    assert_eq!(parts.uri, "https://api.example.com/v1/x?q=1");
    let mut names: Vec<_> = parts.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "x-kept"]);
    assert_eq!(parts.headers["content-length"], "4");
}

#[tokio::test]
async fn a_secret_goes_in_and_comes_out_as_over_http_1() {
    let (_upstream, proxy, log) =
        serving(100, |_, _| async { answer(format!("bad key {SECRET}")) }, |_| {}).await;
    let binding = bind("authorization", vec![target("https://api.example.com")]);
    let bearer = format!("Bearer {}", binding.placeholder);
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.bindings = vec![binding];
    let grant = live(grant);
    let response = proxy.forward(&grant, with(get(URL), "authorization", &bearer)).await.unwrap();
    assert!(!response.headers().contains_key("content-length"));
    assert_eq!(text(response).await, format!("bad key {}", orch_proxy::SCRUBBED));
    let (_, parts) = log.lock().unwrap().pop().unwrap();
    assert_eq!(parts.headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(parts.headers["accept-encoding"], "identity");
    assert_eq!(grant.ledger().decisions()[0].injected, ["TEST_KEY"]);
}

#[tokio::test]
async fn bodies_larger_than_every_window_pass_both_ways_with_trailers() {
    let echo = |_, request: http::Request<hyper::body::Incoming>| async move {
        let body = request.into_body().map_err(|e| BodyError::Upstream(e.to_string()));
        Response::new(body.boxed_unsync())
    };
    let (_upstream, proxy, _) = serving(100, echo, |_| {}).await;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    trailers.insert("orch-token", "x".parse().unwrap());
    let piece = Bytes::from(vec![b'x'; 100_000]);
    let frames: Vec<Result<_, BodyError>> = std::iter::repeat_n(piece, 40)
        .map(|piece| Ok(Frame::data(piece)))
        .chain([Ok(Frame::trailers(trailers))])
        .collect();
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let response = proxy.forward(&open(), request("POST", URL, body)).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"1".parse().unwrap()));
    assert_eq!(collected.to_bytes().len(), 4_000_000);
}

#[tokio::test]
async fn a_peer_without_alpn_or_without_http_2_gets_http_1() {
    for protocols in [Vec::new(), vec![b"http/1.1".to_vec()]] {
        let ca = Ca::new();
        let mut config = (*ca.server(&[HOST])).clone();
        config.alpn_protocols = protocols;
        let upstream = Upstream::answering(Some(Arc::new(config)), OK).await;
        let proxy = proxy_to(&ca, &upstream);
        let grant = open();
        let both =
            join_all((0..2).map(|_| async { text(proxy.forward(&grant, get(URL)).await.unwrap()).await }));
        assert_eq!(both.await, ["ok", "ok"]);
        assert_eq!(upstream.requests()[0].line(), "GET / HTTP/1.1");
    }
}

#[tokio::test]
async fn a_misdirected_request_is_told_and_the_connection_not_used_again() {
    let misdirect = |connection, _| async move {
        let mut response = answer("");
        if connection == 0 {
            *response.status_mut() = http::StatusCode::MISDIRECTED_REQUEST;
        }
        response
    };
    let (upstream, proxy, _) = serving(100, misdirect, |_| {}).await;
    let grant = open();
    assert_eq!(proxy.forward(&grant, get(URL)).await.unwrap().status(), 421);
    assert_eq!(proxy.forward(&grant, get(URL)).await.unwrap().status(), 200);
    assert_eq!(upstream.accepted(), 2);
}

/// A credential of another name.
struct Named(&'static str);

impl Credential for Named {
    fn id(&self) -> &str {
        self.0
    }

    fn source(&self) -> &str {
        "vault"
    }

    fn authorize(
        &self,
        _: &mut http::request::Parts,
        _: Option<&[u8; 32]>,
        _: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        Ok(None)
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        None
    }
}

fn changed(change: impl FnOnce(&mut Grant)) -> Arc<LiveGrant> {
    let mut binding = bind("authorization", vec![target("https://api.example.com")]);
    binding.credential = Arc::new(Named("ONE"));
    let mut grant = grant(vec![rule("https://api.example.com"), rule("https://other.example.com")]);
    grant.bindings = vec![binding];
    change(&mut grant);
    live(grant)
}

#[tokio::test]
async fn connections_are_shared_under_one_policy_and_not_beyond() {
    let (upstream, proxy, _) = serving(100, |_, _| async { answer("ok") }, |_| {}).await;
    let same: [&dyn Fn(&mut Grant); 3] =
        [&|_| {}, &|grant| grant.rules.reverse(), &|grant| grant.limits.run.requests += 1];
    for change in same {
        text(proxy.forward(&changed(change), get(URL)).await.unwrap()).await;
        assert_eq!(upstream.accepted(), 1);
    }
    let others: [&dyn Fn(&mut Grant); 8] = [
        &|grant| grant.workspace = "another".to_owned(),
        &|grant| drop(grant.rules.pop()),
        &|grant| grant.rules[0].methods = Methods::Only(vec![http::Method::GET]),
        &|grant| grant.rules[0].paths = vec!["/**".parse().unwrap()],
        &|grant| grant.bindings.clear(),
        &|grant| grant.bindings[0].credential = Arc::new(Named("TWO")),
        &|grant| grant.bindings[0].targets[0].paths = vec!["/v1/**".parse().unwrap()],
        &|grant| grant.bindings[0].targets.clear(),
    ];
    for (count, change) in others.iter().enumerate() {
        for _ in 0..2 {
            text(proxy.forward(&changed(change), get(URL)).await.unwrap()).await;
            assert_eq!(upstream.accepted(), 2 + count);
        }
    }
    // The gateway shares with no guest, and not across the keys that it uses.
    let endpoint: Endpoint = "https://api.example.com".parse().unwrap();
    let keys: [Option<Arc<dyn Credential>>; 3] =
        [None, Some(Arc::new(Named("ONE"))), Some(Arc::new(Named("TWO")))];
    for (count, key) in keys.iter().enumerate() {
        for _ in 0..2 {
            let call = ProviderCall {
                endpoint: &endpoint,
                pinned: false,
                request: get("/"),
                credential: key.as_ref(),
            };
            text(proxy.send(&changed(|_| {}), call).await.unwrap()).await;
            assert_eq!(upstream.accepted(), 10 + count);
        }
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let gone = Arc::new(AtomicUsize::new(0));
    let gone_there = Arc::clone(&gone);
    let (_upstream, proxy) = by_frames(
        move |_, mut frames| {
            let gone = Arc::clone(&gone_there);
            async move {
                let stream = frames.request().await.unwrap();
                frames.answer(stream, "ok").await;
                frames.closed().await;
                gone.fetch_add(1, Ordering::SeqCst);
            }
        },
        |config| config.pool.idle_for = std::time::Duration::from_millis(60),
    )
    .await;
    text(proxy.forward(&open(), get(URL)).await.unwrap()).await;
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while gone.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the idle connection is closed");
}

#[tokio::test]
async fn a_reader_that_stands_still_stops_nobody_else_and_is_sent_no_more() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 1024;
    let pulled = Arc::new(AtomicUsize::new(0));
    let pulled_there = Arc::clone(&pulled);
    let (upstream, proxy, _) = serving(
        100,
        move |_, request: http::Request<hyper::body::Incoming>| {
            let count = (request.uri().path() == "/unread").then(|| Arc::clone(&pulled_there));
            let pieces = if count.is_some() { PIECES } else { PIECES / 16 };
            let frames = futures_util::stream::iter(0..pieces).map(move |_| {
                if let Some(count) = &count {
                    count.fetch_add(PIECE, Ordering::SeqCst);
                }
                Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[b'x'; PIECE])))
            });
            std::future::ready(Response::new(StreamBody::new(frames).boxed_unsync()))
        },
        |_| {},
    )
    .await;
    let grant = open();
    let mut unread = Vec::new();
    for _ in 0..4 {
        unread.push(proxy.forward(&grant, get("https://api.example.com/unread")).await.unwrap());
    }
    // More than a connection's window is by default, past all those.
    let read = whole(proxy.forward(&grant, get(URL)).await.unwrap()).await.unwrap();
    assert_eq!((read.len(), upstream.accepted()), (PIECE * PIECES / 16, 1));
    let pulled = pulled.load(Ordering::SeqCst);
    assert!(pulled < unread.len() * (4 << 20), "{pulled} bytes were taken although nobody reads");
}

/// Never answers the first question.
#[derive(Default)]
struct Forgetful(AtomicUsize);

impl Resolve for Forgetful {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            Box::pin(std::future::pending())
        } else {
            Box::pin(std::future::ready(Ok(vec![Ipv4Addr::LOCALHOST.into()])))
        }
    }
}

#[tokio::test]
async fn who_waits_for_a_dial_that_is_given_up_dials() {
    let ca = Ca::new();
    let server = choosing_http2(&ca.server(&["model.example.com"]));
    let upstream = Upstream::scripted(Some(server), |_, wire| async move {
        let service =
            hyper::service::service_fn(|_| async { Ok::<_, std::convert::Infallible>(answer("ok")) });
        let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let _ = server.serve_connection(hyper_util::rt::TokioIo::new(wire.into_io()), service).await;
    })
    .await;
    let names = Arc::new(Forgetful::default());
    let config = ProxyConfig { extra_roots: vec![ca.root()], ..ProxyConfig::default() };
    let proxy = Proxy::new(config, Arc::clone(&names) as Arc<dyn Resolve>).unwrap();
    let endpoint: Endpoint = format!("https://model.example.com:{}", upstream.addr.port()).parse().unwrap();
    let grant = open();
    let call = || ProviderCall { endpoint: &endpoint, pinned: true, request: get("/"), credential: None };
    let mut first = Box::pin(proxy.send(&grant, call()));
    let mut others =
        Box::pin(join_all((0..3).map(|_| async { text(proxy.send(&grant, call()).await.unwrap()).await })));
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut others).now_or_never().is_none());
    assert_eq!(names.0.load(Ordering::SeqCst), 1);
    drop(first);
    assert_eq!(others.await, ["ok", "ok", "ok"]);
    assert_eq!((names.0.load(Ordering::SeqCst), upstream.accepted()), (2, 1));
}
