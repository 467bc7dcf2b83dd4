//! The proxy is set up anew, and policy narrowed, while it works: the next request goes by it, and none is dropped.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use orch_proxy::{Proxy, ProxyConfig, RuleOrigin};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Ca, HOST, Told, Upstream, Wire, code, get, grant, live, open, rule, text, whole};

const URL: &str = "https://api.example.com/";

/// Answers each request in two pieces, with a pause in the middle, and says who it is.
async fn slow(ca: &Ca, name: &'static str) -> Upstream {
    Upstream::scripted(Some(ca.server(&[HOST])), move |_, mut wire: Wire| async move {
        while wire.request().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            wire.chunk(name.as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            wire.chunk(b"!").await;
            wire.send("0\r\n\r\n").await;
        }
    })
    .await
}

/// [`HOST`] at this server.
fn leading_to(ca: &Ca, upstream: &Upstream) -> ProxyConfig {
    ProxyConfig {
        connect_to: vec![((HOST.parse().unwrap(), 443), upstream.addr)],
        extra_roots: vec![ca.root()],
        ..ProxyConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_dropped_however_often_it_is_set_up_anew() {
    let ca = Ca::new();
    let (old, new) = (slow(&ca, "old").await, slow(&ca, "new").await);
    let proxy = Proxy::new(leading_to(&ca, &old), Arc::new(Told::default())).unwrap();
    let mut limits = grant(vec![rule("https://api.example.com")]);
    limits.limits.run.concurrent = 200;
    let grant = live(limits);
    let (go, mut gate) = watch::channel(0);
    let mut requests = JoinSet::new();
    for number in 0..200u32 {
        let (proxy, grant, mut gate) = (Arc::clone(&proxy), Arc::clone(&grant), gate.clone());
        requests.spawn(async move {
            // Some begin with each reload, so that reloads come before, in the middle of, and after requests.
            gate.wait_for(|turn| *turn >= number / 20).await.unwrap();
            text(proxy.forward(&grant, get(URL)).await.unwrap()).await
        });
    }
    gate.mark_unchanged();
    for turn in 0..12 {
        let config = leading_to(&ca, if turn % 2 == 0 { &new } else { &old });
        assert!(proxy.reconfigure(config).unwrap());
        go.send(turn).unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let mut answers = requests.join_all().await;
    answers.sort_unstable();
    assert_eq!(answers.len(), 200);
    assert!(answers.iter().all(|answer| answer == "old!" || answer == "new!"), "{answers:?}");
    assert!(answers[0] != answers[199], "both were reached");
    let totals = grant.ledger().totals();
    assert_eq!((totals.allowed, totals.failed, totals.denied, grant.running()), (200, 0, 0, 0));
}

#[tokio::test]
async fn the_next_request_takes_the_new_way_and_one_under_way_ends_on_the_old() {
    let ca = Ca::new();
    let (go, gate) = watch::channel(false);
    let (closed, mut is_closed) = watch::channel(false);
    let old = Upstream::scripted(Some(ca.server(&[HOST])), move |_, mut wire: Wire| {
        let (mut gate, closed) = (gate.clone(), closed.clone());
        async move {
            wire.request().await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nold").await;
            gate.wait_for(|go| *go).await.unwrap();
            wire.send("old").await;
            wire.closed().await;
            closed.send(true).unwrap();
        }
    })
    .await;
    let new = slow(&ca, "new").await;
    let proxy = Proxy::new(leading_to(&ca, &old), Arc::new(Told::default())).unwrap();
    let grant = open();
    let mut under_way = proxy.forward(&grant, get(URL)).await.unwrap().into_body();
    assert_eq!(under_way.frame().await.unwrap().unwrap().into_data().unwrap(), "old");
    assert!(proxy.reconfigure(leading_to(&ca, &new)).unwrap());
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "new!");
    go.send(true).unwrap();
    assert_eq!(under_way.collect().await.unwrap().to_bytes(), "old");
    // Its connection belongs to a setup that nobody uses any more.
    tokio::time::timeout(Duration::from_secs(10), is_closed.wait_for(|closed| *closed))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "new!");
    assert_eq!((old.accepted(), new.accepted()), (1, 1));
}

#[tokio::test]
async fn times_alone_keep_the_connections_and_nothing_new_changes_nothing() {
    let ca = Ca::new();
    let upstream = slow(&ca, "a").await;
    let config = leading_to(&ca, &upstream);
    let proxy = Proxy::new(config.clone(), Arc::new(Told::default())).unwrap();
    let grant = open();
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "a!");
    assert!(!proxy.reconfigure(config.clone()).unwrap());
    let mut quick = config.clone();
    quick.timeouts.idle = Duration::from_millis(1);
    assert!(proxy.reconfigure(quick).unwrap());
    // The pause in the middle is too long now.
    assert!(whole(proxy.forward(&grant, get(URL)).await.unwrap()).await.is_err());
    assert_eq!(upstream.accepted(), 1);
    assert!(proxy.reconfigure(config).unwrap());
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "a!");
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let ca = Ca::new();
    let upstream = slow(&ca, "a").await;
    let config = leading_to(&ca, &upstream);
    let proxy = Proxy::new(config.clone(), Arc::new(Told::default())).unwrap();
    let broken = ProxyConfig {
        connect_to: Vec::new(),
        extra_roots: vec![CertificateDer::from(vec![1, 2, 3])],
        ..config.clone()
    };
    assert!(proxy.reconfigure(broken).is_err());
    assert_eq!(text(proxy.forward(&open(), get(URL)).await.unwrap()).await, "a!");
    assert!(!proxy.reconfigure(config).unwrap(), "it is still the one from before");
    // A root that is taken out is not trusted by the next request, whatever was opened before.
    let untrusting = ProxyConfig { extra_roots: Vec::new(), ..leading_to(&ca, &upstream) };
    assert!(proxy.reconfigure(untrusting).unwrap());
    assert_eq!(code(proxy.forward(&open(), get(URL)).await), "tls_failed");
}

#[tokio::test]
async fn a_rule_that_is_taken_back_refuses_the_next_request_and_cuts_none() {
    let ca = Ca::new();
    let upstream = slow(&ca, "a").await;
    let proxy = Proxy::new(leading_to(&ca, &upstream), Arc::new(Told::default())).unwrap();
    let mut configured = rule("https://api.example.com");
    configured.origin = RuleOrigin::Config;
    let grant = live(grant(vec![configured, rule("https://other.example.com")]));
    let under_way = proxy.forward(&grant, get(URL)).await.unwrap();
    assert_eq!(grant.retain_rules(|rule| rule.origin != RuleOrigin::Config), 1);
    assert_eq!(code(proxy.forward(&grant, get(URL)).await), "host_not_allowed");
    assert_eq!(text(under_way).await, "a!");
    assert_eq!(upstream.requests().len(), 1);
}
