//! Secrets: in where they are bound, nowhere else, and out of the answers again.

use std::sync::Arc;

use http::Method;
use orch_proxy::{LiveGrant, Methods, Outcome, Place, Placeholder, SCRUBBED, full};

use crate::support::*;

/// A run that may go anywhere on two hosts, with one secret bound to a corner of one.
fn bound() -> (Arc<LiveGrant>, Placeholder) {
    let mut corner = target("https://api.example.com");
    corner.methods = Methods::Only(vec![Method::GET]);
    corner.paths = vec!["/v1/**".parse().unwrap()];
    let binding = bind("authorization", vec![corner]);
    let placeholder = binding.placeholder.clone();
    let mut grant = grant(vec![
        rule("https://api.example.com"),
        rule("https://api.example.com:8443"),
        rule("https://other.example.com"),
        rule("http://api.example.com"),
    ]);
    grant.bindings = vec![binding];
    (live(grant), placeholder)
}

#[tokio::test]
async fn a_placeholder_turns_into_its_secret_in_its_place_only() {
    let ca = Ca::new();
    let tls = Upstream::answering(Some(ca.server(&[HOST, "other.example.com"])), OK).await;
    let plain = Upstream::answering(None, OK).await;
    let proxy = proxy_with(&ca, &tls, |config| {
        let at = |host: &str, port: u16, address| ((host.parse().unwrap(), port), address);
        config.connect_to.push(at(HOST, 8443, tls.addr));
        config.connect_to.push(at("other.example.com", 443, tls.addr));
        config.connect_to.push(at(HOST, 80, plain.addr));
    });
    let (grant, placeholder) = bound();
    let bearer = format!("Bearer {placeholder}");
    let cases = [
        ("GET", "https://api.example.com/v1/x", "authorization", bearer.clone(), true),
        ("GET", "https://api.example.com/v1/x", "authorization", placeholder.to_string(), true),
        ("GET", "https://api.example.com/v1/x", "authorization", format!("token {placeholder}"), true),
        // Another method, path, port, host, scheme, header, shape.
        ("POST", "https://api.example.com/v1/x", "authorization", bearer.clone(), false),
        ("GET", "https://api.example.com/v2/x", "authorization", bearer.clone(), false),
        ("GET", "https://api.example.com:8443/v1/x", "authorization", bearer.clone(), false),
        ("GET", "https://other.example.com/v1/x", "authorization", bearer.clone(), false),
        ("GET", "http://api.example.com/v1/x", "authorization", bearer.clone(), false),
        ("GET", "https://api.example.com/v1/x", "x-api-key", placeholder.to_string(), false),
        ("GET", "https://api.example.com/v1/x", "authorization", format!("Bearer x{placeholder}"), false),
        ("GET", "https://api.example.com/v1/x", "authorization", format!("Bearer  {placeholder}"), false),
        ("GET", "https://api.example.com/v1/x", "authorization", format!("a b {placeholder}"), false),
        ("GET", "https://api.example.com/v1/x", "authorization", format!("{placeholder},"), false),
    ];
    for (method, url, header, value, swapped) in cases {
        let request = with(request(method, url, orch_proxy::empty()), header, &value);
        assert_eq!(text(proxy.forward(&grant, request).await.unwrap()).await, "ok");
        let server = if url.starts_with("https") { &tls } else { &plain };
        let raw = server.requests().pop().unwrap();
        let expected = if swapped { value.replace(placeholder.as_str(), SECRET) } else { value.clone() };
        assert_eq!(raw.fields(header), [expected], "{method} {url} {header}: {value}");
        let decision = grant.ledger().decisions().pop().unwrap();
        assert_eq!(decision.injected.len(), usize::from(swapped), "{url} {value}");
        assert_eq!(decision.inert_placeholders, u32::from(!swapped), "{url} {value}");
    }
    // In the URL and the body it travels as it is.
    let url = format!("https://api.example.com/v1/{placeholder}?key={placeholder}");
    let asked = with(get(&url), "authorization", &bearer);
    text(proxy.forward(&grant, asked).await.unwrap()).await;
    let raw = tls.requests().pop().unwrap();
    assert_eq!(raw.line(), format!("GET /v1/{placeholder}?key={placeholder} HTTP/1.1"));
    assert_eq!(raw.fields("authorization"), [format!("Bearer {SECRET}")]);
    assert_eq!(grant.ledger().decisions().pop().unwrap().inert_placeholders, 2);
    let body = request("POST", "https://api.example.com/v1/x", full(placeholder.to_string()));
    text(proxy.forward(&grant, body).await.unwrap()).await;
    assert_eq!(tls.requests().pop().unwrap().body, placeholder.as_str().as_bytes());
    assert_eq!(grant.ledger().decisions().pop().unwrap().inert_placeholders, 1, "the body is counted");
    // Toward a host that is not allowed nothing passes at all.
    let evil = with(get("https://evil.example/"), "authorization", &bearer);
    assert_eq!(code(proxy.forward(&grant, evil).await), "host_not_allowed");
}

#[tokio::test]
async fn basic_credentials_are_opened_and_closed_again() {
    let (upstream, proxy) = answering(OK).await;
    let (grant, placeholder) = bound();
    let encode = |text: String| data_encoding::BASE64.encode(text.as_bytes());
    for (pair, expected) in [
        (format!("user:{placeholder}"), Some(format!("user:{SECRET}"))),
        (format!("{placeholder}:"), Some(format!("{SECRET}:"))),
        (placeholder.to_string(), Some(SECRET.to_owned())),
        (format!("user:x{placeholder}"), None),
    ] {
        let sent = encode(pair);
        let request = with(get("https://api.example.com/v1/x"), "authorization", &format!("basic {sent}"));
        text(proxy.forward(&grant, request).await.unwrap()).await;
        let inert = u32::from(expected.is_none());
        let expected = format!("basic {}", expected.map_or(sent, encode));
        assert_eq!(upstream.requests().pop().unwrap().fields("authorization"), [expected]);
        assert_eq!(grant.ledger().decisions().pop().unwrap().inert_placeholders, inert);
    }
}

#[tokio::test]
async fn a_header_that_stands_twice_is_refused() {
    let (upstream, proxy) = answering(OK).await;
    let (grant, placeholder) = bound();
    let once = with(get("https://api.example.com/v1/x"), "authorization", &format!("Bearer {placeholder}"));
    let twice = with(once, "authorization", "Bearer other");
    assert_eq!(code(proxy.forward(&grant, twice).await), "credential_not_usable");
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn a_swap_that_cannot_be_done_is_refused_and_on_record() {
    const BAD: &str = "a value of\ntwo lines";
    let (upstream, proxy) = answering(OK).await;
    for (value, twice) in [(SECRET, true), (BAD, false)] {
        let binding = bind_in(Place::Header("x-api-key".parse().unwrap()), Arc::new(Held(value)));
        let mut asked = with(get("https://api.example.com/"), "x-api-key", binding.placeholder.as_str());
        if twice {
            asked = with(asked, "x-api-key", "other");
        }
        let mut grant = grant(vec![rule("https://api.example.com")]);
        grant.bindings = vec![binding];
        let grant = live(grant);
        let error = proxy.forward(&grant, asked).await.unwrap_err();
        assert!(error.is_refusal());
        assert_eq!(error.code(), "credential_not_usable");
        assert!(error.to_string().starts_with("TEST_KEY cannot be put into this request: the "), "{error}");
        let decision = grant.ledger().decisions().pop().unwrap();
        assert_eq!((decision.verdict, decision.injected.len()), (Outcome::Denied, 0));
        assert_eq!(decision.reason.unwrap().code, "credential_not_usable");
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn only_injected_requests_lose_range_and_compression() {
    let (upstream, proxy) = answering(OK).await;
    let (grant, placeholder) = bound();
    for injected in [false, true] {
        let mut request = get("https://api.example.com/v1/x");
        for (name, value) in [("range", "bytes=3-9"), ("if-range", "\"x\""), ("accept-encoding", "gzip, br")]
        {
            request = with(request, name, value);
        }
        if injected {
            request = with(request, "authorization", &format!("Bearer {placeholder}"));
        }
        text(proxy.forward(&grant, request).await.unwrap()).await;
        let raw = upstream.requests().pop().unwrap();
        assert_eq!(raw.fields("range").is_empty(), injected);
        assert_eq!(raw.fields("if-range").is_empty(), injected);
        assert_eq!(raw.fields("accept-encoding"), [if injected { "identity" } else { "gzip, br" }]);
    }
}

#[tokio::test]
async fn an_echoed_secret_is_taken_out_wherever_it_stands() {
    let hex = data_encoding::HEXLOWER.encode(SECRET.as_bytes());
    let base64 = data_encoding::BASE64.encode(format!("user:{SECRET}").as_bytes());
    let body = format!("raw {SECRET}, hex {hex}, json {}, end", serde_json::to_string(SECRET).unwrap());
    // The head holds the secret in a value, in a longer value, encoded, and in the reason; one chunk per byte; trailers.
    let (upstream, proxy) = scripted(
        move |_, mut wire| {
            let (body, base64) = (body.clone(), base64.clone());
            async move {
                wire.request().await;
                wire.send(format!(
                    "HTTP/1.1 400 no {SECRET} here\r\nx-echo: {SECRET}\r\nx-longer: you sent Bearer {SECRET}!\r\n\
                     www-authenticate: Basic {base64}\r\nx-fine: fine\r\ntrailer: x-end\r\n\
                     transfer-encoding: chunked\r\n\r\n"
                ))
                .await;
                for byte in body.bytes() {
                    wire.chunk(&[byte]).await;
                }
                wire.send(format!("0\r\nx-end: {SECRET}\r\n\r\n")).await;
                wire.closed().await;
            }
        },
        |_| {},
    )
    .await;
    let (grant, placeholder) = bound();
    let request =
        with(get("https://api.example.com/v1/x"), "authorization", &format!("Bearer {placeholder}"));
    let response = proxy.forward(&grant, request).await.unwrap();
    assert_eq!(upstream.requests()[0].fields("authorization"), [format!("Bearer {SECRET}")]);
    assert_eq!(response.headers()["x-echo"], SCRUBBED);
    assert_eq!(response.headers()["x-longer"], format!("you sent Bearer {SCRUBBED}!"));
    assert!(response.headers()["www-authenticate"].to_str().unwrap().contains(SCRUBBED));
    assert_eq!(response.headers()["x-fine"], "fine");
    assert!(response.extensions().get::<hyper::ext::ReasonPhrase>().is_none());
    let collected = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-end"], SCRUBBED);
    let body = String::from_utf8(collected.to_bytes().into()).unwrap();
    assert_eq!(body, format!("raw {SCRUBBED}, hex {SCRUBBED}, json \"{SCRUBBED}\", end"));
}

#[tokio::test]
async fn answers_to_other_requests_are_left_alone() {
    let body = format!("guess: {SECRET}");
    let answer =
        format!("HTTP/1.1 200 OK\r\nx-guess: {SECRET}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (_upstream, proxy) = answering(answer.leak().as_bytes()).await;
    let (grant, _) = bound();
    let response = proxy.forward(&grant, get("https://api.example.com/v1/x")).await.unwrap();
    assert_eq!(response.headers()["x-guess"], SECRET);
    assert_eq!(response.headers()["content-length"], body.len().to_string());
    assert_eq!(text(response).await, body);
}
