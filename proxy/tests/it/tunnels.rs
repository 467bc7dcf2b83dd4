//! Tunnels: what opens one, whom its TLS may name, what it carries, and what ends it.

use std::sync::Arc;
use std::time::Duration;

use orch_proxy::{Limits, ListenerLimits, Methods, Outcome, Proxy, Shares, TunnelEnded};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::listener::{Running, mine};
use crate::support::*;

fn client(ca: &Ca) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn hello(ca: &Ca, name: &'static str) -> Vec<u8> {
    let name = ServerName::try_from(name).unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(client(ca), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

async fn connect(running: &Running, authority: &str) -> (TcpStream, String) {
    let mut stream = running.connect().await;
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n", mine());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

/// An open tunnel to [`HOST`].
async fn tunnel(running: &Running) -> TcpStream {
    let (stream, head) = connect(running, "api.example.com:443").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    stream
}

/// A server that sends everything back, in front of which nobody does TLS.
async fn echoing() -> (Ca, Upstream, Arc<Proxy>) {
    let ca = Ca::new();
    let upstream = Upstream::scripted(None, |_, wire| async move {
        let (mut read, mut write) = tokio::io::split(wire.into_io());
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await;
    let proxy = proxy_to(&ca, &upstream);
    (ca, upstream, proxy)
}

async fn until(mut done: impl FnMut() -> bool) {
    let waited = timeout(Duration::from_secs(5), async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it happens in time");
}

fn all() -> Vec<orch_proxy::Rule> {
    vec![rule("https://api.example.com")]
}

#[tokio::test]
async fn tls_to_the_host_that_was_asked_for_passes() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    let running = Running::over(proxy_to(&ca, &upstream), grant(all())).await;
    let stream = tunnel(&running).await;
    let name = ServerName::try_from(HOST).unwrap();
    let mut tls = TlsConnector::from(client(&ca)).connect(name, stream).await.unwrap();
    tls.write_all(b"GET /x HTTP/1.1\r\nhost: api.example.com\r\n\r\n").await.unwrap();
    let mut answer = vec![0; OK.len()];
    tls.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, OK);
    assert_eq!(upstream.requests()[0].line(), "GET /x HTTP/1.1");
    tls.shutdown().await.unwrap();
    drop(tls);
    until(|| !running.heard.tunnels.lock().unwrap().is_empty()).await;
    let end = running.heard.tunnels.lock().unwrap()[0].clone();
    assert_eq!((end.host.as_str(), end.port), (HOST, 443));
    assert!(end.sent > 200 && end.received > 500, "{end:?}");
    let decisions = running.grant.ledger().decisions();
    assert_eq!(decisions.len(), 1);
    let decision = &decisions[0];
    assert_eq!((decision.method.as_str(), decision.host.as_str(), decision.port), ("CONNECT", HOST, 443));
    assert_eq!((decision.verdict, decision.status), (Outcome::Allowed, Some(200)));
    assert!(decision.address.unwrap().is_loopback());
    until(|| running.grant.running() == 0).await;
}

#[tokio::test]
async fn a_hello_may_come_in_pieces_and_arrives_as_it_was_sent() {
    let (ca, _upstream, proxy) = echoing().await;
    let running = Running::over(proxy, grant(all())).await;
    let hello = hello(&ca, HOST);
    // Split over segments, and over records as well.
    let message = &hello[5..];
    let records: Vec<u8> = message
        .chunks(40)
        .flat_map(|part| [&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()], part].concat())
        .collect();
    for (bytes, step) in [(&hello, hello.len()), (&hello, 1), (&records, records.len()), (&records, 7)] {
        let mut stream = tunnel(&running).await;
        for piece in bytes.chunks(step) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut back = vec![0; bytes.len()];
        timeout(Duration::from_secs(5), stream.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(&back, bytes);
        stream.write_all(b"and whatever follows").await.unwrap();
        let mut back = [0; 20];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"and whatever follows");
    }
    // Together with the CONNECT, before it was answered.
    let mut stream = running.connect().await;
    let head = format!("CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n{}\r\n", mine());
    stream.write_all(&[head.as_bytes(), &hello].concat()).await.unwrap();
    let mut back = vec![0; b"HTTP/1.1 200 OK\r\n\r\n".len() + hello.len()];
    timeout(Duration::from_secs(5), stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert!(back.ends_with(&hello));
}

#[tokio::test]
async fn tls_to_anybody_else_sends_nothing() {
    let (ca, upstream, proxy) = echoing().await;
    let running = Running::over(proxy, grant(all())).await;
    let name = hello(&ca, HOST);
    // Encrypted ClientHello stands behind the name: the extension of most bytes is turned into one.
    let mut hidden = name.clone();
    let versions = hidden.windows(4).position(|four| four == [0, 43, 0, 5]).expect("supported versions");
    hidden[versions..versions + 2].copy_from_slice(&[0xfe, 0x0d]);
    for (first, code, alert) in [
        (hello(&ca, "evil.example"), "sni_mismatch", Some(112)),
        (hello(&ca, "example.com"), "sni_mismatch", Some(112)),
        (hello(&ca, "x.api.example.com"), "sni_mismatch", Some(112)),
        (hello(&ca, "192.0.2.1"), "sni_missing", Some(112)),
        (hidden, "ech_refused", Some(49)),
        (b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n".to_vec(), "tunnel_not_tls", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "tunnel_not_tls", None),
    ] {
        let mut stream = tunnel(&running).await;
        stream.write_all(&first).await.unwrap();
        let mut said = Vec::new();
        // What is closed with something unread in it may be reset.
        let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await.expect("it ends");
        let expected: Vec<u8> = alert.map(|alert| vec![21, 3, 3, 0, 2, 2, alert]).unwrap_or_default();
        assert_eq!(said, expected, "{code}");
        until(|| running.decisions().last() == Some(&code)).await;
        assert_eq!(running.grant.ledger().decisions().last().unwrap().verdict, Outcome::Denied, "{code}");
    }
    // Each was connected, and got no byte: the server would have sent it back.
    assert_eq!(running.heard.tunnels.lock().unwrap().len(), 0);
    until(|| upstream.accepted() == 7).await;
    until(|| running.grant.running() == 0).await;
}

#[tokio::test]
async fn a_server_may_ask_for_a_second_hello() {
    let ca = Ca::new();
    // The client's first key share is for another curve.
    let mut provider = rustls::crypto::ring::default_provider();
    provider.kx_groups = vec![rustls::crypto::ring::kx_group::SECP384R1];
    let upstream = Upstream::answering(Some(ca.server_with(&[HOST], provider)), OK).await;
    let running = Running::over(proxy_to(&ca, &upstream), grant(all())).await;
    let stream = tunnel(&running).await;
    let name = ServerName::try_from(HOST).unwrap();
    let mut tls = TlsConnector::from(client(&ca)).connect(name, stream).await.unwrap();
    assert_eq!(
        tls.get_ref().1.handshake_kind(),
        Some(rustls::HandshakeKind::FullWithHelloRetryRequest),
        "it did ask"
    );
    tls.write_all(b"GET /x HTTP/1.1\r\nhost: api.example.com\r\n\r\n").await.unwrap();
    let mut answer = vec![0; OK.len()];
    tls.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, OK);
}

/// A ServerHello that asks for another ClientHello (RFC 8446, section 4.1.3).
fn retry_request() -> Vec<u8> {
    let random = ring::digest::digest(&ring::digest::SHA256, b"HelloRetryRequest");
    let message = [&[2, 0, 0, 40, 3, 3], random.as_ref(), &[0, 0x13, 1, 0, 0, 0]].concat();
    [&[22, 3, 3, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat()
}

#[tokio::test]
async fn the_second_hello_is_for_the_same_host_or_goes_nowhere() {
    let ca = Ca::new();
    let (hand, mut handed) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::scripted(None, move |_, wire| {
        let hand = hand.clone();
        async move { hand.send(wire.into_io()).expect("the test takes it") }
    })
    .await;
    let running = Running::over(proxy_to(&ca, &upstream), grant(all())).await;
    let first = hello(&ca, HOST);
    let compatible: &[u8] = &[20, 3, 3, 0, 1, 1];
    for (number, (second, pipelined, code)) in [
        (hello(&ca, HOST), false, None),
        (hello(&ca, HOST), true, None),
        (hello(&ca, "evil.example"), false, Some(112)),
        (hello(&ca, "evil.example"), true, Some(112)),
        (hello(&ca, "192.0.2.1"), false, Some(112)),
        (b"\x16\x03\x03\0\x04\x01\0\0\0".to_vec(), false, Some(49)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = tunnel(&running).await;
        let mut far = handed.recv().await.unwrap();
        let rest = [compatible, &second].concat();
        // Whoever guesses what the server will say does not wait for it.
        let (now, later) = if pipelined { (&rest[..], &[][..]) } else { (&[][..], &rest[..]) };
        stream.write_all(&[&first, now].concat()).await.unwrap();
        let mut arrived = vec![0; first.len()];
        far.read_exact(&mut arrived).await.unwrap();
        assert_eq!(arrived, first, "{number}");
        far.write_all(&retry_request()).await.unwrap();
        let mut said = vec![0; retry_request().len()];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(later).await.unwrap();
        match code {
            None => {
                let mut arrived = vec![0; rest.len()];
                timeout(Duration::from_secs(5), far.read_exact(&mut arrived)).await.unwrap().unwrap();
                assert_eq!(arrived, rest, "{number}");
                stream.write_all(b"sealed").await.unwrap();
                let mut arrived = [0; 6];
                far.read_exact(&mut arrived).await.unwrap();
                far.write_all(b"sealed, too").await.unwrap();
                let mut back = [0; 11];
                stream.read_exact(&mut back).await.unwrap();
                assert_eq!((&arrived, &back), (b"sealed", b"sealed, too"), "{number}");
            }
            Some(alert) => {
                let mut said = Vec::new();
                let _ =
                    timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await.expect("it ends");
                assert_eq!(said, [21, 3, 3, 0, 2, 2, alert], "{number}");
                let mut arrived = Vec::new();
                let _ =
                    timeout(Duration::from_secs(5), far.read_to_end(&mut arrived)).await.expect("it ends");
                assert!(compatible.starts_with(&arrived), "{number}: nothing of the hello: {arrived:?}");
                until(|| {
                    let tunnels = running.heard.tunnels.lock().unwrap();
                    tunnels.last().is_some_and(|end| end.ended == TunnelEnded::HelloRefused)
                })
                .await;
                running.heard.tunnels.lock().unwrap().clear();
            }
        }
    }
}

#[tokio::test]
async fn who_leaves_before_the_server_has_answered_is_missed() {
    let ca = Ca::new();
    let (hand, mut handed) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::scripted(None, move |_, wire| {
        let hand = hand.clone();
        async move { hand.send(wire.into_io()).expect("the test takes it") }
    })
    .await;
    let limits =
        ListenerLimits { tunnel_half_closed: Duration::from_millis(200), ..ListenerLimits::default() };
    let running = Running::with(proxy_to(&ca, &upstream), grant(all()), &[], limits).await;
    let mut stream = tunnel(&running).await;
    stream.write_all(&hello(&ca, HOST)).await.unwrap();
    drop(stream);
    let _far = handed.recv().await.unwrap();
    until(|| running.heard.tunnels.lock().unwrap().len() == 1).await;
    assert_eq!(running.heard.tunnels.lock().unwrap()[0].ended, TunnelEnded::Idle);
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let (ca, _upstream, proxy) = echoing().await;
    let limits = ListenerLimits { hello: Duration::from_millis(200), ..ListenerLimits::default() };
    let running = Running::with(proxy, grant(all()), &[], limits).await;
    let half = &hello(&ca, HOST)[..30];
    for begun in [&b""[..], half] {
        let mut stream = tunnel(&running).await;
        stream.write_all(begun).await.unwrap();
        let mut said = Vec::new();
        timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await.unwrap().unwrap();
        until(|| running.decisions().last() == Some(&"timeout")).await;
    }
    drop(tunnel(&running).await);
    until(|| running.decisions() == ["timeout", "timeout", "request_body_failed"]).await;
    until(|| running.grant.running() == 0).await;
}

#[tokio::test]
async fn what_was_granted_as_opaque_carries_anything() {
    let (_ca, _upstream, proxy) = echoing().await;
    let limits = ListenerLimits::default();
    let running = Running::with(proxy, grant(all()), &["api.example.com"], limits).await;
    let mut stream = tunnel(&running).await;
    // Enough that neither side takes all of it at once.
    let sent: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = stream.split();
    let writing = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let reading = async { read.read_to_end(&mut back).await.unwrap() };
    timeout(Duration::from_secs(20), async { tokio::join!(writing, reading) }).await.unwrap();
    assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
    until(|| !running.heard.tunnels.lock().unwrap().is_empty()).await;
    let end = running.heard.tunnels.lock().unwrap()[0].clone();
    assert_eq!((end.sent, end.received, end.ended), (4_000_000, 4_000_000, TunnelEnded::Closed));
}

#[tokio::test]
async fn only_a_rule_for_everything_opens_a_tunnel() {
    let (_ca, upstream, proxy) = echoing().await;
    let mut narrow = rule("https://api.example.com");
    narrow.methods = Methods::from(vec![http::Method::GET]);
    let rules = vec![narrow, rule("http://b.example.com"), rule("https://c.example.com:8443")];
    let running = Running::over(proxy, grant(rules)).await;
    for (authority, code) in [
        ("api.example.com:443", "connect_narrowed"),
        ("b.example.com:80", "scheme_not_allowed"),
        ("c.example.com:443", "port_not_allowed"),
        ("d.example.com:443", "host_not_allowed"),
        ("localhost:443", "name_refused"),
    ] {
        let named = authority;
        let (mut stream, head) = connect(&running, authority).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{authority}: {head}");
        let mut body = String::new();
        // It is closed at once: whoever waits for its end does not wait for the client.
        let read = timeout(Duration::from_millis(500), stream.read_to_string(&mut body)).await;
        read.expect("it ends").unwrap();
        assert!(body.contains(code), "{authority}: {body}");
        assert_eq!(body.contains("rule_missing"), code != "name_refused", "{authority}: {body}");
        assert_eq!(running.decisions().last(), Some(&code), "{authority}");
        let decision = running.grant.ledger().decisions().pop().unwrap();
        let missing = decision.reason.unwrap().rule_missing;
        let authority = missing.map(|missing| format!("{}:{}", missing.host, missing.port));
        assert_eq!(authority.as_deref(), (code != "name_refused").then_some(named), "what is on record");
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn a_tunnel_ends_with_its_grant() {
    let (ca, _upstream, proxy) = echoing().await;
    let running = Running::over(proxy, grant(all())).await;
    let mut stream = tunnel(&running).await;
    let hello = hello(&ca, HOST);
    stream.write_all(&hello).await.unwrap();
    let mut back = vec![0; hello.len()];
    stream.read_exact(&mut back).await.unwrap();
    // One that stands there without having said anything ends as well.
    let mut silent = tunnel(&running).await;
    running.grant.revoke();
    for stream in [&mut stream, &mut silent] {
        let mut said = Vec::new();
        let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await.expect("it ends");
    }
    until(|| running.heard.tunnels.lock().unwrap().len() == 1).await;
    assert_eq!(running.heard.tunnels.lock().unwrap()[0].ended, TunnelEnded::Revoked);
    until(|| running.decisions() == ["", "grant_revoked"]).await;
    until(|| running.grant.running() == 0).await;
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends_and_one_that_is_used_does_not() {
    let (_ca, _upstream, proxy) = echoing().await;
    let limits = ListenerLimits { tunnel_idle: Duration::from_millis(400), ..ListenerLimits::default() };
    let running = Running::with(proxy, grant(all()), &["api.example.com"], limits).await;
    let mut stream = tunnel(&running).await;
    for _ in 0..6 {
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut said = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await.expect("it ends");
    until(|| !running.heard.tunnels.lock().unwrap().is_empty()).await;
    let end = running.heard.tunnels.lock().unwrap()[0].clone();
    assert_eq!((end.sent, end.ended), (6, TunnelEnded::Idle));
    assert!(end.duration_ms >= 900, "{end:?}");
}

/// Whoever went away and whoever only has no more to say look the same.
#[tokio::test]
async fn a_tunnel_that_one_side_has_closed_goes_on_only_while_bytes_come() {
    let (hand, mut handed) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::scripted(None, move |_, wire| {
        let hand = hand.clone();
        async move { hand.send(wire.into_io()).expect("the test takes it") }
    })
    .await;
    let proxy = proxy_to(&Ca::new(), &upstream);
    let limits =
        ListenerLimits { tunnel_half_closed: Duration::from_millis(400), ..ListenerLimits::default() };
    let running = Running::with(proxy, grant(all()), &["api.example.com"], limits).await;
    let mut stream = tunnel(&running).await;
    stream.write_all(b"all of it").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut far = handed.recv().await.unwrap();
    let mut arrived = String::new();
    timeout(Duration::from_secs(5), far.read_to_string(&mut arrived))
        .await
        .expect("its end arrives")
        .unwrap();
    assert_eq!(arrived, "all of it");
    for _ in 0..6 {
        far.write_all(b"y").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'y');
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(running.heard.tunnels.lock().unwrap().is_empty());
    until(|| !running.heard.tunnels.lock().unwrap().is_empty()).await;
    let end = running.heard.tunnels.lock().unwrap()[0].clone();
    assert_eq!((end.sent, end.received, end.ended), (9, 6, TunnelEnded::Idle));
}

#[tokio::test]
async fn a_tunnel_stands_only_so_long_and_a_stop_ends_it() {
    let (_ca, _upstream, proxy) = echoing().await;
    let limits = ListenerLimits { tunnel_total: Duration::from_millis(300), ..ListenerLimits::default() };
    let running = Running::with(Arc::clone(&proxy), grant(all()), &["api.example.com"], limits).await;
    let mut stream = tunnel(&running).await;
    let _ = timeout(Duration::from_secs(5), stream.read_u8()).await.expect("it ends");
    until(|| !running.heard.tunnels.lock().unwrap().is_empty()).await;
    assert_eq!(running.heard.tunnels.lock().unwrap()[0].ended, TunnelEnded::Total);

    let limits = ListenerLimits::default();
    let mut running = Running::with(proxy, grant(all()), &["api.example.com"], limits).await;
    let mut stream = tunnel(&running).await;
    timeout(Duration::from_secs(5), running.stop()).await.expect("it stops although a tunnel stands");
    let _ = timeout(Duration::from_secs(5), stream.read_u8()).await.expect("it ends");
}

#[tokio::test]
async fn bytes_of_tunnels_count_to_the_last_one() {
    let (_ca, _upstream, proxy) = echoing().await;
    let limits = ListenerLimits::default();
    let hello = 1000;
    let shares = Shares { upload: hello, ..Shares::default() };
    let few = orch_proxy::Grant { limits: Limits { run: shares, ..Limits::default() }, ..grant(all()) };
    let running = Running::with(proxy, few, &["api.example.com"], limits).await;
    let mut stream = tunnel(&running).await;
    let sent = vec![b'x'; usize::try_from(hello).unwrap()];
    stream.write_all(&sent).await.unwrap();
    let mut back = vec![0; sent.len()];
    timeout(Duration::from_secs(5), stream.read_exact(&mut back)).await.expect("it echoes").unwrap();
    assert!(running.heard.tunnels.lock().unwrap().is_empty());
    stream.write_all(b"y").await.unwrap();
    until(|| !running.heard.tunnels.lock().unwrap().is_empty()).await;
    let ended = running.heard.tunnels.lock().unwrap()[0].clone();
    assert_eq!((ended.ended, ended.sent), (TunnelEnded::Limit, hello));

    // Whoever sends more at once and then closes its side was cut off all the same.
    let (_ca, _upstream, proxy) = echoing().await;
    let few = orch_proxy::Grant { limits: Limits { run: shares, ..Limits::default() }, ..grant(all()) };
    let running = Running::with(proxy, few, &["api.example.com"], limits).await;
    let mut stream = tunnel(&running).await;
    stream.write_all(&vec![b'x'; sent.len() + 1]).await.unwrap();
    // It may be over already.
    let _ = stream.shutdown().await;
    until(|| !running.heard.tunnels.lock().unwrap().is_empty()).await;
    let ended = running.heard.tunnels.lock().unwrap()[0].clone();
    assert_eq!((ended.ended, ended.sent), (TunnelEnded::Limit, hello));
}

/// Finds nothing, and never says so.
struct Stuck;

impl orch_proxy::Resolve for Stuck {
    fn resolve<'a>(
        &'a self,
        _: &'a orch_manifests::HostName,
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<std::net::IpAddr>, orch_proxy::DnsError>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_connect_does_not_wait_for_ever() {
    let mut config = orch_proxy::ProxyConfig::default();
    config.timeouts.dns = Duration::from_secs(3600);
    config.timeouts.first_byte = Duration::from_millis(200);
    let proxy = Proxy::new(config, Arc::new(Stuck)).unwrap();
    let running = Running::over(proxy, grant(all())).await;
    let waited = timeout(Duration::from_secs(5), connect(&running, "api.example.com:443"));
    let (_, head) = waited.await.expect("it is answered");
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    assert_eq!(running.decisions(), ["timeout"]);
    until(|| running.grant.running() == 0).await;
}

#[tokio::test]
async fn tunnels_count_as_requests() {
    let (_ca, _upstream, proxy) = echoing().await;
    let limits = ListenerLimits::default();
    let few = orch_proxy::Grant { limits: Limits::of(3, 1), ..grant(all()) };
    let running = Running::with(proxy, few, &["api.example.com"], limits).await;
    let first = tunnel(&running).await;
    let (_, head) = connect(&running, "api.example.com:443").await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    drop(first);
    until(|| running.grant.running() == 0).await;
    drop(tunnel(&running).await);
    until(|| running.grant.running() == 0).await;
    drop(tunnel(&running).await);
    until(|| running.grant.running() == 0).await;
    let (_, head) = connect(&running, "api.example.com:443").await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
}
