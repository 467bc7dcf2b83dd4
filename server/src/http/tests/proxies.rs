//! Requests through proxies, over real sockets.

use tokio::net::TcpStream;

use super::listeners::{Running, ask_with, connect};
use super::*;

/// A server for which every process of this machine is a trusted proxy, or none is.
fn start(limits: Limits, trusted: bool) -> Running {
    let mut proxies = TrustedProxies::default();
    if trusted {
        proxies.add("127.0.0.0/8").expect("a network");
    }
    Running::behind(limits, None, proxies)
}

async fn hold(running: &Running, client: &str) -> TcpStream {
    let mut wire = connect(running.address).await;
    let request = format!("GET /known/held HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {client}\r\n\r\n");
    wire.write_all(request.as_bytes()).await.expect("sent");
    running.fake.held.notified().await;
    wire
}

#[tokio::test]
async fn a_request_comes_from_where_a_trusted_proxy_says() {
    let running = start(Limits::default(), true);
    for (fields, from) in [
        ("x-forwarded-for: 192.0.2.1\r\n", "192.0.2.1 private=false"),
        ("x-forwarded-for: 1.1.1.1, 192.0.2.1, 127.0.0.9\r\n", "192.0.2.1 private=false"),
        ("x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\n", "192.0.2.1 private=true"),
        ("forwarded: for=\"[2001:db8::1]:9\";proto=https\r\n", "2001:db8::1 private=true"),
        ("x-forwarded-for: unknown\r\n", "unclear by 127.0.0.1 private=false"),
        ("forwarded: for=\"\r\n", "unclear by 127.0.0.1 private=false"),
        ("x-forwarded-for: 192.0.2.1\r\nforwarded: x\r\n", "unclear by 127.0.0.1 private=false"),
        ("", "unsaid by 127.0.0.1 private=false"),
    ] {
        let answer = ask_with(&mut connect(running.address).await, "/known", fields).await;
        assert!(answer.ends_with(&format!("/known nobody {from}")), "{fields}: {answer}");
    }
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let running = start(Limits::default(), false);
    let fields = "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\nforwarded: for=192.0.2.1\r\n";
    let answer = ask_with(&mut connect(running.address).await, "/known", fields).await;
    assert!(answer.ends_with("/known nobody tcp tls=false"), "{answer}");
    let mut unix = tokio::net::UnixStream::connect(&running.socket).await.expect("connected");
    let answer = ask_with(&mut unix, "/known", fields).await;
    assert!(answer.ends_with("/known owner unix"), "{answer}");
}

#[tokio::test]
async fn a_proxy_has_as_many_connections_as_there_are() {
    let limits = Limits { connections: 4, connections_per_peer: 2, ..Limits::default() };
    let running = start(limits, true);
    let mut wires = Vec::new();
    for _ in 0..4 {
        let mut wire = connect(running.address).await;
        wire.write_all(b"GET /known HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
        wire.read_u8().await.expect("an answer shows that the connection has its place");
        wires.push(wire);
    }
    // The fifth waits until one has gone.
    let mut fifth = connect(running.address).await;
    let waiting = ask_with(&mut fifth, "/known/fifth", "");
    let let_go = async move { drop(wires.pop()) };
    let (answer, ()) = tokio::join!(waiting, let_go);
    assert!(answer.contains("/known/fifth"), "{answer}");
}

#[tokio::test]
async fn one_client_of_a_proxy_has_so_many_requests_under_way() {
    let limits = Limits { connections_per_peer: 2, ..Limits::default() };
    let running = start(limits, true);
    let held = [hold(&running, "192.0.2.1").await, hold(&running, "192.0.2.1").await];
    let ask = async |client: &str| {
        let fields = format!("x-forwarded-for: {client}\r\n");
        ask_with(&mut connect(running.address).await, "/known", &fields).await
    };
    assert!(ask("192.0.2.1").await.ends_with("rate_limited"));
    assert!(ask("192.0.2.2").await.contains("200 OK"), "others have their own");
    running.fake.release.notify_waiters();
    for mut wire in held {
        wire.read_u8().await.expect("an answer");
    }
    // The place is given back when the answer has been written, which its reader may see a little earlier.
    while !ask("192.0.2.1").await.contains("200 OK") {}
}

#[tokio::test]
async fn clients_that_nobody_can_tell_apart_take_no_place_of_the_proxy() {
    let limits = Limits { connections_per_peer: 1, ..Limits::default() };
    let running = start(limits, true);
    let _held = hold(&running, "192.0.2.1\r\nforwarded: x").await;
    let ask = async |fields| ask_with(&mut connect(running.address).await, "/known", fields).await;
    assert!(ask("x-forwarded-for: 192.0.2.2\r\nforwarded: y\r\n").await.ends_with("rate_limited"));
    assert!(ask("").await.contains("200 OK"), "the proxy's own");
    assert!(ask("x-forwarded-for: 192.0.2.2\r\n").await.contains("200 OK"), "who can be told apart");
}

#[tokio::test]
async fn a_header_that_the_proxy_does_not_write_is_ignored() {
    let mut proxies = TrustedProxies::default();
    proxies.add("127.0.0.0/8").expect("a network");
    proxies.report_in(ForwardedHeader::XForwardedFor);
    let running = Running::behind(Limits::default(), None, proxies);
    let fields = "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\nforwarded: x\r\n";
    let answer = ask_with(&mut connect(running.address).await, "/known", fields).await;
    assert!(answer.ends_with("/known nobody 192.0.2.1 private=true"), "{answer}");
}
