//! Where connections may lead: names, answers, pins and `connect_to`.

use std::net::SocketAddr;
use std::sync::Arc;

use orch_manifests::Endpoint;
use orch_proxy::{EgressError, Guard, ProviderCall, Proxy, ProxyConfig};

use crate::support::*;

/// A plain server and a proxy whose resolver gives these answers for [`HOST`]; the grant allows that server's port.
async fn resolving(answers: &[&[&str]]) -> (Upstream, Arc<Told>, Arc<Proxy>, Arc<orch_proxy::LiveGrant>) {
    let upstream = Upstream::answering(None, OK).await;
    let told = Told::of(HOST, answers);
    let proxy = Proxy::new(ProxyConfig::default(), told.clone()).unwrap();
    let grant = live(grant(vec![rule(&format!("http://{HOST}:{}", upstream.addr.port()))]));
    (upstream, told, proxy, grant)
}

fn url(upstream: &Upstream) -> String {
    format!("http://{HOST}:{}/", upstream.addr.port())
}

#[tokio::test]
async fn names_that_lead_inside_are_refused_and_never_dialled() {
    for answer in [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "fe80::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
    ] {
        let (upstream, told, proxy, grant) = resolving(&[&[answer]]).await;
        let error = proxy.forward(&grant, get(&url(&upstream))).await.unwrap_err();
        assert_eq!(error.code(), "address_refused", "{answer}: {error}");
        assert_eq!(told.asked(), [HOST]);
        assert_eq!(upstream.accepted(), 0);
        let decision = &grant.ledger().decisions()[0];
        assert_eq!(decision.address, Some(answer.parse().unwrap()));
    }
}

#[tokio::test]
async fn one_bad_answer_among_good_ones_refuses_the_name() {
    let rows: [&[&str]; 6] = [
        &["127.0.0.1", "1.1.1.1"],
        &["1.1.1.1", "127.0.0.1"],
        &["2606:4700::1111", "::1"],
        &["::1", "2606:4700::1111"],
        &["1.1.1.1", "::ffff:10.0.0.1"],
        &["2606:4700::1111", "1.1.1.1", "10.0.0.1", "8.8.8.8"],
    ];
    for answers in rows {
        let (upstream, _, proxy, grant) = resolving(&[answers]).await;
        assert_eq!(code(proxy.forward(&grant, get(&url(&upstream))).await), "address_refused", "{answers:?}");
        assert_eq!(upstream.accepted(), 0);
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_judged_each_time() {
    // Time-to-live of zero, in effect: the pinned name is a LAN server first and the metadata service next.
    let upstream = Upstream::scripted(None, |_, mut wire| async move {
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
    })
    .await;
    let told =
        Told::of("model.example.com", &[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1", "fe80::1"]]);
    let proxy = Proxy::new(ProxyConfig::default(), told.clone()).unwrap();
    let endpoint: Endpoint = format!("http://model.example.com:{}/v1", upstream.addr.port()).parse().unwrap();
    let grant = live(grant(Vec::new()));
    let call = || ProviderCall { endpoint: &endpoint, pinned: true, request: get("/v1/x"), credential: None };
    assert_eq!(text(proxy.send(&grant, call()).await.unwrap()).await, "ok");
    assert_eq!(code(proxy.send(&grant, call()).await), "address_refused");
    assert_eq!(code(proxy.send(&grant, call()).await), "address_refused");
    assert_eq!(upstream.accepted(), 1);
    assert_eq!(told.asked().len(), 3);
}

#[tokio::test]
async fn giant_and_empty_answers_are_refused() {
    let giant: Vec<String> = (0..200).map(|n| format!("1.1.1.{n}")).collect();
    let giant: Vec<&str> = giant.iter().map(String::as_str).collect();
    for answers in [&giant[..], &[]] {
        let (upstream, _, proxy, grant) = resolving(&[answers]).await;
        let error = proxy.forward(&grant, get(&url(&upstream))).await.unwrap_err();
        assert!(matches!(error, EgressError::Dns { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_to_loopback_comes_back_unfollowed() {
    let inner = Upstream::answering(None, OK).await;
    let location = format!("http://127.0.0.1:{}/latest/meta-data", inner.addr.port());
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let (_upstream, proxy) = answering(answer.leak().as_bytes()).await;
    let grant = open();
    let response = proxy.forward(&grant, get("https://api.example.com/")).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], location.as_str());
    assert_eq!(code(proxy.forward(&grant, get(&location)).await), "ip_literal_refused");
    assert_eq!(inner.accepted(), 0);
}

#[tokio::test]
async fn connect_to_keeps_name_and_certificate_and_leads_nowhere_forbidden() {
    let ca = Ca::new();
    // A server for another name must not be taken for this one.
    let other = Upstream::answering(Some(ca.server(&["other.example.com"])), OK).await;
    let proxy = proxy_to(&ca, &other);
    let error = proxy.forward(&open(), get("https://api.example.com/")).await.unwrap_err();
    assert_eq!(error.code(), "tls_failed", "{error}");
    // Nor one whose authority nobody trusts.
    let stranger = Upstream::answering(Some(Ca::new().server(&[HOST])), OK).await;
    let proxy = proxy_to(&ca, &stranger);
    assert_eq!(code(proxy.forward(&open(), get("https://api.example.com/")).await), "tls_failed");

    for forbidden in
        ["169.254.169.254:80", "0.0.0.0:80", "[fe80::1]:80", "[fd00:ec2::254]:80", "[::ffff:127.0.0.1]:80"]
    {
        let address: SocketAddr = forbidden.parse().unwrap();
        let proxy = proxy_with(&ca, &other, |config| config.connect_to[0].1 = address);
        let result = proxy.forward(&open(), get("https://api.example.com/")).await;
        assert_eq!(code(result), "address_refused", "{forbidden}");
    }
}

#[tokio::test]
async fn connect_to_is_for_one_name_and_port() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    let proxy = proxy_to(&ca, &upstream);
    let grant = live(grant(vec![rule("https://api.example.com:8443"), rule("https://*.example.com")]));
    for url in ["https://api.example.com:8443/", "https://other.example.com/"] {
        // The resolver knows no names, so without connect_to this is as far as it gets.
        assert_eq!(code(proxy.forward(&grant, get(url)).await), "dns_failed");
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn own_listeners_are_refused_whatever_the_operator_set() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    let proxy = proxy_to(&ca, &upstream);
    let entry = proxy.guard().listeners().register(upstream.addr);
    assert_eq!(code(proxy.forward(&open(), get("https://api.example.com/")).await), "address_refused");
    let endpoint: Endpoint = format!("https://{}", upstream.addr).parse().unwrap();
    let call = ProviderCall { endpoint: &endpoint, pinned: true, request: get("/"), credential: None };
    assert_eq!(code(proxy.send(&open(), call).await), "address_refused");
    assert_eq!(upstream.accepted(), 0);
    drop(entry);
    assert_eq!(text(proxy.forward(&open(), get("https://api.example.com/")).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn this_machines_own_address_is_refused_even_if_public() {
    let told = Told::of(HOST, &[&["81.2.69.160"]]);
    let own: Vec<ipnet::IpNet> = vec!["81.2.69.160/32".parse().unwrap()];
    let proxy = Proxy::with_guard(ProxyConfig::default(), told, Guard::new(Box::new(own))).unwrap();
    let error = proxy.forward(&open(), get("https://api.example.com/")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "api.example.com leads to 81.2.69.160, which is refused: it is an address of this machine"
    );
}

#[tokio::test]
async fn guests_do_not_reach_pins() {
    let upstream = Upstream::answering(None, OK).await;
    let told = Told::of("model.example.com", &[&["127.0.0.1"]]);
    let proxy = Proxy::new(ProxyConfig::default(), told).unwrap();
    let port = upstream.addr.port();
    let grant = live(grant(vec![rule(&format!("http://model.example.com:{port}"))]));
    let endpoint: Endpoint = format!("http://model.example.com:{port}").parse().unwrap();
    let call = ProviderCall { endpoint: &endpoint, pinned: true, request: get("/v1"), credential: None };
    assert_eq!(text(proxy.send(&grant, call).await.unwrap()).await, "ok");
    // The gateway's connection is kept, and still no guest request goes out on it.
    let guest = get(&format!("http://model.example.com:{port}/api/delete"));
    assert_eq!(code(proxy.forward(&grant, guest).await), "address_refused");
    assert_eq!(upstream.requests().len(), 1);
}
