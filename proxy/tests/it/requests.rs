//! What of a guest's request arrives upstream, and what never leaves.

use std::time::Duration;

use http::{HeaderMap, Method};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use orch_proxy::{Body, BodyError, Maker, Methods, Outcome, full};
use tokio::time::Instant;

use crate::support::*;

fn streamed(frames: Vec<Frame<bytes::Bytes>>) -> Body {
    StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok::<_, BodyError>))).boxed_unsync()
}

#[tokio::test]
async fn a_request_arrives_clean_and_once() {
    let (upstream, proxy) = answering(OK).await;
    let mut request = get("https://API.example.com:443/a/./b/../c%7e?q=%2F..&x");
    for (name, value) in [
        ("accept", "*/*"),
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("proxy-authorization", "Basic eDp5"),
        ("proxy-connection", "keep-alive"),
        ("expect", "100-continue"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("via", "1.1 me"),
        ("orch-token", "0123"),
        ("orch-scheme", "http"),
        ("host", "api.example.com"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ] {
        request = with(request, name, value);
    }
    let grant = open();
    let response = proxy.forward(&grant, request).await.unwrap();
    assert_eq!(text(response).await, "ok");
    let arrived = upstream.requests();
    assert_eq!(arrived.len(), 1);
    let mut lines: Vec<&str> = arrived[0].head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "GET /a/c~?q=%2F..&x HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(lines, ["accept: */*", "cookie: a=1", "cookie: b=2", "host: api.example.com"]);
    assert!(arrived[0].body.is_empty());
}

#[tokio::test]
async fn what_is_not_allowed_is_neither_looked_up_nor_sent() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    let told = Told::of(HOST, &[&["127.0.0.1"]]);
    let config = orch_proxy::ProxyConfig {
        connect_to: vec![((HOST.parse().unwrap(), 443), upstream.addr)],
        extra_roots: vec![ca.root()],
        ..Default::default()
    };
    let proxy = orch_proxy::Proxy::new(config, told.clone()).unwrap();
    let mut narrow = rule("https://api.example.com");
    narrow.methods = Methods::Only(vec![Method::GET]);
    narrow.paths = vec!["/v1/*".parse().unwrap()];
    let below = rule("https://*.wild.example");
    let odd = rule("https://odd.example:8443");
    let local = rule("https://db.internal");
    let grant = live(grant(vec![narrow, below, odd, local]));
    let rows = [
        ("GET", "https://evil.example/", "host_not_allowed"),
        ("GET", "https://api.example.com.evil.example/", "host_not_allowed"),
        ("GET", "https://xapi.example.com/", "host_not_allowed"),
        ("GET", "https://wild.example/", "host_not_allowed"),
        ("GET", "https://evilwild.example/", "host_not_allowed"),
        ("GET", "http://api.example.com/v1/x", "scheme_not_allowed"),
        ("GET", "https://api.example.com:444/v1/x", "port_not_allowed"),
        ("GET", "https://odd.example/", "port_not_allowed"),
        ("POST", "https://api.example.com/v1/x", "method_not_allowed"),
        ("get", "https://api.example.com/v1/x", "method_not_allowed"),
        ("GET", "https://api.example.com/v2/x", "path_not_allowed"),
        ("GET", "https://api.example.com/v1/../v2", "path_not_allowed"),
        ("GET", "https://api.example.com/v1/%2e%2e/v2", "path_not_allowed"),
        ("GET", "https://api.example.com/v1/..%2fv2", "path_refused"),
        ("GET", "https://api.example.com/v1/..%5cv2", "path_refused"),
        ("GET", "https://db.internal/", "name_refused"),
        ("GET", "https://localhost/", "name_refused"),
        ("GET", "https://metadata.google.internal/", "name_refused"),
        ("GET", "https://metadata.goog/", "name_refused"),
        ("GET", "https://127.0.0.1/", "ip_literal_refused"),
        ("GET", "https://127.1/", "ip_literal_refused"),
        ("GET", "https://2130706433/", "ip_literal_refused"),
        ("GET", "https://0x7f000001/", "ip_literal_refused"),
        ("GET", "https://017700000001/", "ip_literal_refused"),
        ("GET", "https://[::1]/", "ip_literal_refused"),
        ("GET", "https://[::ffff:127.0.0.1]:443/", "ip_literal_refused"),
        ("GET", "https://user:pass@api.example.com/v1/x", "target_refused"),
        ("GET", "https://api.example.com@evil.example/", "target_refused"),
        ("GET", "https://api.example.com:0/v1/x", "target_refused"),
        ("GET", "https://api.example.com:+443/v1/x", "target_refused"),
        ("GET", "https://api.example.com:/v1/x", "target_refused"),
        ("GET", "ftp://api.example.com/v1/x", "scheme_refused"),
        ("TRACE", "https://api.example.com/v1/x", "method_refused"),
        ("trace", "https://api.example.com/v1/x", "method_refused"),
        ("TRACK", "https://api.example.com/v1/x", "method_refused"),
        ("PRI", "https://api.example.com/v1/x", "method_refused"),
        ("CONNECT", "https://api.example.com/v1/x", "method_refused"),
    ];
    let mut tried = 0;
    for (method, url, expected) in rows {
        // What the http crate does not even parse never gets this far.
        let Ok(request) = http::Request::builder().method(method).uri(url).body(orch_proxy::empty()) else {
            continue;
        };
        tried += 1;
        let error =
            proxy.forward(&grant, request).await.err().unwrap_or_else(|| panic!("{method} {url} passed"));
        assert_eq!(error.code(), expected, "{method} {url}: {error}");
        assert!(error.is_refusal());
    }
    assert!(tried >= rows.len() - 2, "{tried} of {} could be written down", rows.len());
    assert!(told.asked().is_empty(), "{:?}", told.asked());
    assert_eq!(upstream.accepted(), 0);
    let totals = grant.ledger().totals();
    assert_eq!((totals.allowed, totals.denied, totals.failed), (0, tried as u64, 0));

    // The same grant lets through what it names, so the refusals above were not for another reason.
    let response = proxy.forward(&grant, get("https://api.example.com/v1/x")).await.unwrap();
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn an_empty_allowlist_allows_nothing_and_says_what_would() {
    let (upstream, proxy) = answering(OK).await;
    let grant = live(grant(Vec::new()));
    let error = proxy.forward(&grant, get("https://api.example.com:8443/a?b")).await.unwrap_err();
    assert_eq!(error.code(), "nothing_allowed");
    let next = error.next_step().unwrap();
    assert_eq!(next, r#"- { host: api.example.com, port: 8443, methods: [GET], paths: ["/a"] }"#);
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn two_authorities_are_refused() {
    let (upstream, proxy) = answering(OK).await;
    let grant = open();
    for host in ["evil.example", "api.example.com:444", "api.example.com, evil.example", "127.0.0.1", ""] {
        let request = with(get("https://api.example.com/"), "host", host);
        assert_eq!(code(proxy.forward(&grant, request).await), "authority_conflict", "{host}");
    }
    let twice = with(with(get("https://api.example.com/"), "host", HOST), "host", HOST);
    assert_eq!(code(proxy.forward(&grant, twice).await), "authority_conflict");
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn upgrades_and_oversized_heads_are_refused() {
    let (upstream, proxy) = answering(OK).await;
    let grant = open();
    let url = "https://api.example.com/";
    let websocket = with(with(get(url), "connection", "upgrade"), "upgrade", "websocket");
    assert_eq!(code(proxy.forward(&grant, websocket).await), "upgrade_refused");
    let h2c = with(get(url), "http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA");
    assert_eq!(code(proxy.forward(&grant, h2c).await), "upgrade_refused");
    let big = with(get(url), "x-big", &"x".repeat(65 << 10));
    assert_eq!(code(proxy.forward(&grant, big).await), "headers_too_large");
    let many = (0..101).fold(get(url), |request, _| with(request, "x-many", "1"));
    assert_eq!(code(proxy.forward(&grant, many).await), "headers_too_large");
    let long = get(&format!("{url}?{}", "q".repeat(17 << 10)));
    assert_eq!(code(proxy.forward(&grant, long).await), "url_too_long");
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn framing_conflicts_are_refused_before_anything_is_sent() {
    let (upstream, proxy) = answering(OK).await;
    let grant = open();
    let post = |body: &'static str| request("POST", "https://api.example.com/", full(body));
    let rows = [
        with(with(post("abc"), "content-length", "3"), "content-length", "3"),
        with(with(post("abc"), "content-length", "3"), "content-length", "4"),
        with(post("abc"), "content-length", "3, 3"),
        with(post("abc"), "content-length", "+3"),
        with(post("abc"), "content-length", "-1"),
        with(post("abc"), "content-length", "0x3"),
        with(post("abc"), "content-length", ""),
        with(post("abc"), "content-length", "99999999999999999999999"),
        with(with(post("abc"), "content-length", "3"), "transfer-encoding", "chunked"),
        with(post("abc"), "content-length", "2"),
        with(post("abc"), "content-length", "4"),
    ];
    for request in rows {
        let shown = format!("{:?}", request.headers());
        assert_eq!(code(proxy.forward(&grant, request).await), "framing_refused", "{shown}");
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn bodies_go_up_with_the_framing_that_fits() {
    let (upstream, proxy) = answering(OK).await;
    let grant = open();
    let url = "https://api.example.com/";
    let data = |text: &'static str| Frame::data(text.into());
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    trailers.insert("orch-token", "no".parse().unwrap());
    trailers.insert("content-length", "7".parse().unwrap());
    let requests = [
        request("POST", url, full("known")),
        with(request("POST", url, streamed(vec![data("anno"), data("unced")])), "content-length", "9"),
        request("POST", url, streamed(vec![data("un"), data("known")])),
        request("POST", url, orch_proxy::empty()),
        request("GET", url, streamed(Vec::new())),
        request("GET", url, streamed(vec![data("odd")])),
        with(
            request("PUT", url, streamed(vec![data("x"), Frame::trailers(trailers)])),
            "trailer",
            "x-sum, orch-token, content-length",
        ),
    ];
    for request in requests {
        assert_eq!(text(proxy.forward(&grant, request).await.unwrap()).await, "ok");
    }
    let arrived: Vec<(Vec<String>, Vec<String>, String)> = upstream
        .requests()
        .iter()
        .map(|raw| {
            let own = |name| raw.fields(name).into_iter().map(str::to_owned).collect();
            (own("content-length"), own("transfer-encoding"), String::from_utf8(raw.body.clone()).unwrap())
        })
        .collect();
    let length = |n: &str| (vec![n.to_owned()], Vec::new());
    let chunked = || (Vec::new(), vec!["chunked".to_owned()]);
    let none = (Vec::new(), Vec::new());
    let expected = [
        (length("5"), "known"),
        (length("9"), "announced"),
        (chunked(), "2\r\nun\r\n5\r\nknown\r\n0\r\n\r\n"),
        (length("0"), ""),
        (none, ""),
        (chunked(), "3\r\nodd\r\n0\r\n\r\n"),
        (chunked(), "1\r\nx\r\n0\r\nx-sum: 42\r\n\r\n"),
    ];
    assert_eq!(arrived.len(), expected.len());
    for ((length, coding, body), ((expected_length, expected_coding), expected_body)) in
        arrived.into_iter().zip(expected)
    {
        assert_eq!((length, coding, body.as_str()), (expected_length, expected_coding, expected_body));
    }
}

#[tokio::test]
async fn an_upload_that_breaks_its_announcement_is_cut() {
    for (sent, announced) in [("toolong", "3"), ("short", "9")] {
        let (upstream, proxy) = answering(OK).await;
        let frames = vec![Frame::data(sent.into())];
        let request =
            with(request("POST", "https://api.example.com/", streamed(frames)), "content-length", announced);
        assert_eq!(code(proxy.forward(&open(), request).await), "request_body_failed");
        // Whatever of it arrived was never a whole request.
        assert!(upstream.requests().iter().all(|raw| raw.body.is_empty()));
    }
    // What comes after the announced end goes nowhere, and the next request is not glued to it.
    let (upstream, proxy) = answering(OK).await;
    let grant = open();
    let frames = ["too", "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"].map(|text| Frame::data(text.into()));
    let request =
        with(request("POST", "https://api.example.com/", streamed(frames.into())), "content-length", "3");
    text(proxy.forward(&grant, request).await.unwrap()).await;
    text(proxy.forward(&grant, get("https://api.example.com/next")).await.unwrap()).await;
    let lines: Vec<String> = upstream.requests().iter().map(|raw| raw.line().to_owned()).collect();
    assert_eq!(lines, ["POST / HTTP/1.1", "GET /next HTTP/1.1"]);
    assert_eq!(upstream.requests()[0].body, b"too");
}

#[tokio::test]
async fn limits_hold() {
    let (_upstream, proxy) = answering(OK).await;
    let mut few = grant(vec![rule("https://api.example.com")]);
    few.limits.run.requests = 3;
    few.limits.run.concurrent = 2;
    let few = live(few);
    let url = "https://api.example.com/";
    let first = proxy.forward(&few, get(url)).await.unwrap();
    let second = proxy.forward(&few, get(url)).await.unwrap();
    assert_eq!(few.running(), 2);
    let error = proxy.forward(&few, get(url)).await.unwrap_err();
    assert_eq!(error.to_string(), "limit reached: concurrent (2 of 2)");
    drop(first);
    assert_eq!(text(second).await, "ok");
    assert_eq!(few.running(), 0);
    // A refused request counts too: trying is not free.
    assert_eq!(code(proxy.forward(&few, get("https://evil.example/")).await), "host_not_allowed");
    let error = proxy.forward(&few, get(url)).await.unwrap_err();
    assert_eq!(error.to_string(), "limit reached: requests (3 of 3)");
    assert_eq!(few.requests_used(), 3);
    assert_eq!(few.running(), 0);
}

#[tokio::test]
async fn a_grant_that_is_over_lets_nothing_out() {
    let (upstream, proxy) = answering(OK).await;
    let mut over = grant(vec![rule("https://api.example.com")]);
    over.expires = Instant::now() - Duration::from_millis(1);
    assert_eq!(code(proxy.forward(&live(over), get("https://api.example.com/")).await), "grant_expired");
    let revoked = open();
    revoked.revoke();
    assert_eq!(code(proxy.forward(&revoked, get("https://api.example.com/")).await), "grant_revoked");
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn decisions_tell_what_happened_without_control_characters() {
    let (upstream, proxy) = answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let grant = open();
    let seen = proxy.forward(&grant, get("https://api.example.com/found?token=hidden")).await.unwrap();
    assert_eq!(seen.status(), 404);
    let _ = proxy.forward(&grant, get("https://evil.example/a%0d%0aSet-Cookie:x")).await;
    let _ = proxy.forward(&grant, get("https://evil.example/")).await;
    let decisions = grant.ledger().decisions();
    assert_eq!(decisions.len(), 3);
    let first = &decisions[0];
    assert_eq!((first.verdict, first.status, first.maker), (Outcome::Allowed, Some(404), Maker::Guest));
    assert_eq!((first.host.as_str(), first.port, first.path.as_str()), (HOST, 443, "/found"));
    assert_eq!(first.address, Some(upstream.addr.ip()));
    assert_eq!(decisions[2].reason.as_ref().unwrap().code, "host_not_allowed");
    for decision in &decisions {
        let json = serde_json::to_string(decision).unwrap();
        assert!(!json.contains("hidden"), "{json}");
        let text = [&decision.host, &decision.path, &decision.method].map(String::as_str).concat();
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?}");
    }
    let json: serde_json::Value = serde_json::to_value(first).unwrap();
    assert_eq!(json["scheme"], "https");
    assert_eq!(json["verdict"], "allowed");
    assert!(json["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_request_that_is_given_up_is_recorded() {
    let (upstream, proxy) = scripted(|_, mut wire| async move { wire.closed().await }, |_| {}).await;
    let grant = open();
    let asking = proxy.forward(&grant, get("https://api.example.com/"));
    tokio::select! {
        _ = asking => panic!("nobody answers"),
        () = async { while upstream.accepted() == 0 { tokio::task::yield_now().await } } => {}
    }
    let decisions = grant.ledger().decisions();
    assert_eq!(decisions[0].reason.as_ref().unwrap().code, "cancelled");
    assert_eq!((decisions[0].verdict, grant.running()), (Outcome::Failed, 0));
}
