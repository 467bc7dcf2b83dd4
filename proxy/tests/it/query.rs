//! Secrets that are bound to a parameter of the query.

use std::sync::Arc;

use http::Method;
use http_body_util::BodyExt as _;
use orch_proxy::{LiveGrant, Methods, Place, Placeholder, SCRUBBED, full};

use crate::http2::{answer, serving};
use crate::support::*;

/// [`SECRET`] as it stands in a query.
const ENCODED: &str = "sk-live%2F0123456789%2Babcdef%22ghij";

fn key() -> Place {
    Place::Query("key".to_owned())
}

/// A run that may go anywhere on one host, with a secret bound to `key` in a corner of it.
fn bound() -> (Arc<LiveGrant>, Placeholder) {
    let mut binding = bind_in(key(), Arc::new(Held(SECRET)));
    binding.targets[0].methods = Methods::Only(vec![Method::GET]);
    binding.targets[0].paths = vec!["/v1/**".parse().unwrap()];
    let placeholder = binding.placeholder.clone();
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.bindings = vec![binding];
    (live(grant), placeholder)
}

/// Nothing of a query is on record: not the placeholder, and not what it was turned into.
fn record_is_clean(grant: &LiveGrant, placeholder: &Placeholder) {
    let decisions = grant.ledger().decisions();
    let record = format!("{decisions:?} {}", serde_json::to_string(&decisions).unwrap());
    for part in [SECRET, ENCODED, placeholder.as_str(), "?", "key="] {
        assert!(!record.contains(part), "{part} in {record}");
    }
}

#[tokio::test]
async fn a_placeholder_turns_into_its_secret_as_the_whole_of_its_parameter_only() {
    let (upstream, proxy) = answering(OK).await;
    let (grant, placeholder) = bound();
    // The target as sent and as it arrives, `PH` and `SECRET` standing for what they say; whether it was swapped.
    let cases = [
        ("GET", "/v1/x?key=PH", "/v1/x?key=SECRET", true),
        ("GET", "/v1/x?a=1&key=PH&b=%2f+%20", "/v1/x?a=1&key=SECRET&b=%2f+%20", true),
        ("GET", "/v1/x?%6b%65y=PH", "/v1/x?%6b%65y=SECRET", true),
        ("GET", "/v1/x?other=PH&key=PH", "/v1/x?other=PH&key=SECRET", true),
        ("GET", "/v1/x?key=PH#key=PH", "/v1/x?key=SECRET", true),
        // Another method, path, parameter, shape.
        ("POST", "/v1/x?key=PH", "/v1/x?key=PH", false),
        ("GET", "/v2/x?key=PH", "/v2/x?key=PH", false),
        ("GET", "/v1/../v2/x?key=PH", "/v2/x?key=PH", false),
        ("GET", "/v1/x?Key=PH", "/v1/x?Key=PH", false),
        ("GET", "/v1/x?keys=PH", "/v1/x?keys=PH", false),
        ("GET", "/v1/x?k%2565y=PH", "/v1/x?k%2565y=PH", false),
        ("GET", "/v1/x?a=1;key=PH", "/v1/x?a=1;key=PH", false),
        ("GET", "/v1/x?key=xPH", "/v1/x?key=xPH", false),
        ("GET", "/v1/x?key=PHx", "/v1/x?key=PHx", false),
        ("GET", "/v1/x?key=Bearer+PH", "/v1/x?key=Bearer+PH", false),
        ("GET", "/v1/x?PH", "/v1/x?PH", false),
        ("GET", "/v1/x?PH=key", "/v1/x?PH=key", false),
        ("GET", "/v1/key=PH", "/v1/key=PH", false),
    ];
    for (method, sent, arrives, swapped) in cases {
        let sent = format!("https://api.example.com{}", sent.replace("PH", placeholder.as_str()));
        let expected = arrives.replace("PH", placeholder.as_str()).replace("SECRET", ENCODED);
        let request = request(method, &sent, orch_proxy::empty());
        assert_eq!(text(proxy.forward(&grant, request).await.unwrap()).await, "ok");
        let raw = upstream.requests().pop().unwrap();
        assert_eq!(raw.line(), format!("{method} {expected} HTTP/1.1"), "{sent}");
        let decision = grant.ledger().decisions().pop().unwrap();
        let inert = arrives.matches("PH").count();
        assert_eq!(decision.injected.len(), usize::from(swapped), "{sent}");
        assert_eq!(decision.inert_placeholders as usize, inert, "{sent}");
    }
    // The last case has its placeholder in the path, which is on record.
    let decisions = grant.ledger().decisions();
    assert!(decisions.iter().rev().skip(1).all(|decision| !decision.path.contains(placeholder.as_str())));
}

#[tokio::test]
async fn elsewhere_in_the_request_it_travels_as_it_is() {
    let (upstream, proxy) = answering(OK).await;
    let (grant, placeholder) = bound();
    // In two pieces, each of which is none.
    let (one, two) = placeholder.as_str().split_at(20);
    let split = format!("/v1/x?key={one}&key={two}");
    let request = get(&format!("https://api.example.com{split}"));
    let request = with(request, "referer", &format!("https://api.example.com/?key={placeholder}"));
    let request = with(request, "authorization", &format!("Bearer {placeholder}"));
    text(proxy.forward(&grant, request).await.unwrap()).await;
    let raw = upstream.requests().pop().unwrap();
    assert_eq!(raw.line(), format!("GET {split} HTTP/1.1"));
    assert_eq!(raw.fields("referer"), [format!("https://api.example.com/?key={placeholder}")]);
    assert_eq!(raw.fields("authorization"), [format!("Bearer {placeholder}")]);
    let decision = grant.ledger().decisions().pop().unwrap();
    assert_eq!((decision.injected.len(), decision.inert_placeholders), (0, 2));
    // In a body that looks like a query.
    let form = with(
        crate::support::request("GET", "https://api.example.com/v1/x", full(format!("key={placeholder}"))),
        "content-type",
        "application/x-www-form-urlencoded",
    );
    text(proxy.forward(&grant, form).await.unwrap()).await;
    let raw = upstream.requests().pop().unwrap();
    assert_eq!(raw.body, format!("key={placeholder}").as_bytes());
    assert!(grant.ledger().decisions().pop().unwrap().injected.is_empty());
}

#[tokio::test]
async fn a_parameter_that_stands_twice_is_refused() {
    let (upstream, proxy) = answering(OK).await;
    let (grant, placeholder) = bound();
    for query in ["key=PH&key=PH", "key=PH&key=other", "key=other&key=PH", "key&key=PH", "key=PH&%6Bey=other"]
    {
        let query = query.replace("PH", placeholder.as_str());
        let error =
            proxy.forward(&grant, get(&format!("https://api.example.com/v1/x?{query}"))).await.unwrap_err();
        assert_eq!(error.code(), "credential_not_usable", "{query}");
        assert!(error.to_string().contains("more than once"), "{error}");
        assert!(!format!("{error} {error:?}").contains(placeholder.as_str()), "{error:?}");
    }
    assert_eq!(upstream.accepted(), 0);
    record_is_clean(&grant, &placeholder);
    // Without the placeholder it is nobody's business.
    let twice = get("https://api.example.com/v1/x?key=a&key=b");
    assert_eq!(text(proxy.forward(&grant, twice).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn an_echo_is_taken_out_encoded_or_not_and_of_redirects_too() {
    let (_upstream, proxy) = scripted(
        |_, mut wire| async move {
            let target = wire.request().await.unwrap().line().split(' ').nth(1).unwrap().to_owned();
            let lower = target.replace("%2F", "%2f").replace("%2B", "%2b");
            // To a page that leads back, with the whole URL as a parameter of its own.
            let back = target.replace('%', "%25").replace('?', "%3F").replace('=', "%3D");
            wire.send(format!(
                "HTTP/1.1 302 Found\r\nlocation: https://api.example.com{target}&again=1\r\nx-lower: {lower}\r\nx-back: /login?next={back}\r\n\
                 link: <{target}>; rel=next\r\nx-raw: {SECRET}\r\ntransfer-encoding: chunked\r\n\r\n"
            ))
            .await;
            for byte in format!("<a href=\"{target}\">{SECRET}</a>").bytes() {
                wire.chunk(&[byte]).await;
            }
            wire.send("0\r\n\r\n").await;
            wire.closed().await;
        },
        |_| {},
    )
    .await;
    let (grant, placeholder) = bound();
    let asked = with(get(&format!("https://api.example.com/v1/x?key={placeholder}")), "range", "bytes=1-");
    let response = proxy.forward(&grant, with(asked, "accept-encoding", "gzip")).await.unwrap();
    assert_eq!(response.status(), 302);
    let location = response.headers()["location"].to_str().unwrap();
    assert_eq!(location, format!("https://api.example.com/v1/x?key={SCRUBBED}&again=1"));
    assert_eq!(response.headers()["x-lower"], format!("/v1/x?key={SCRUBBED}"));
    assert_eq!(response.headers()["link"], format!("</v1/x?key={SCRUBBED}>; rel=next"));
    assert_eq!(response.headers()["x-back"], format!("/login?next=/v1/x%3Fkey%3D{SCRUBBED}"));
    assert_eq!(response.headers()["x-raw"], SCRUBBED);
    assert_eq!(text(response).await, format!("<a href=\"/v1/x?key={SCRUBBED}\">{SCRUBBED}</a>"));
    record_is_clean(&grant, &placeholder);
}

#[tokio::test]
async fn failures_say_nothing_of_the_query() {
    // The upstream breaks off, or answers with rubbish that echoes the query.
    for rubbish in ["", "HTTP/1.1 200 OK\r\nbad ECHO\r\n\r\n", "ECHO\r\n\r\n"] {
        let (_upstream, proxy) = scripted(
            move |_, mut wire| async move {
                let line = wire.request().await.unwrap().line().to_owned();
                wire.send(rubbish.replace("ECHO", &line)).await;
                wire.close().await;
            },
            |_| {},
        )
        .await;
        let (grant, placeholder) = bound();
        let asked = get(&format!("https://api.example.com/v1/x?key={placeholder}"));
        let error = proxy.forward(&grant, asked).await.unwrap_err();
        assert_eq!(error.code(), "protocol_error");
        let said = format!("{error} {error:?}");
        assert!(!said.contains(SECRET) && !said.contains(ENCODED) && !said.contains("key="), "{said}");
        record_is_clean(&grant, &placeholder);
    }
}

#[tokio::test]
async fn over_http_2_it_goes_in_and_comes_out_the_same() {
    let (_upstream, proxy, log) = serving(
        100,
        |_, request: http::Request<hyper::body::Incoming>| async move {
            let mut response = answer(format!("you asked for {}", request.uri()));
            response.headers_mut().insert("location", request.uri().to_string().try_into().unwrap());
            response
        },
        |_| {},
    )
    .await;
    let (grant, placeholder) = bound();
    let url = format!("https://api.example.com/v1/x?key={placeholder}");
    let response = proxy.forward(&grant, get(&url)).await.unwrap();
    let scrubbed = format!("https://api.example.com/v1/x?key={SCRUBBED}");
    assert_eq!(response.headers()["location"], scrubbed);
    assert_eq!(text(response).await, format!("you asked for {scrubbed}"));
    let (_, parts) = log.lock().unwrap().pop().unwrap();
    assert_eq!(parts.uri.to_string(), format!("https://api.example.com/v1/x?key={ENCODED}"));
    assert_eq!(parts.headers["accept-encoding"], "identity");
    record_is_clean(&grant, &placeholder);
}

#[tokio::test]
async fn two_secrets_go_into_one_request_and_neither_into_the_others_place() {
    const OTHER: &str = "other-secret-0123456789&key=x";
    let (upstream, proxy) = answering(OK).await;
    let bindings = vec![
        bind_in(Place::Query("token".to_owned()), Arc::new(Held(OTHER))),
        bind_in(key(), Arc::new(Held(SECRET))),
        bind("authorization", vec![target("https://api.example.com")]),
    ];
    let [other, key, header] = [0, 1, 2].map(|n: usize| bindings[n].placeholder.to_string());
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.bindings = bindings;
    let grant = live(grant);
    let asked = |token: &str, key: &str, header: &str| {
        let url = format!("https://api.example.com/?token={token}&key={key}");
        with(get(&url), "authorization", &format!("Bearer {header}"))
    };
    text(proxy.forward(&grant, asked(&other, &key, &header)).await.unwrap()).await;
    let raw = upstream.requests().pop().unwrap();
    assert_eq!(raw.line(), format!("GET /?token=other-secret-0123456789%26key%3Dx&key={ENCODED} HTTP/1.1"));
    assert_eq!(raw.fields("authorization"), [format!("Bearer {SECRET}")]);
    assert_eq!(grant.ledger().decisions().pop().unwrap().injected.len(), 3);
    // Each in the place of another.
    text(proxy.forward(&grant, asked(&key, &header, &other)).await.unwrap()).await;
    let raw = upstream.requests().pop().unwrap();
    assert_eq!(raw.line(), format!("GET /?token={key}&key={header} HTTP/1.1"));
    assert_eq!(raw.fields("authorization"), [format!("Bearer {other}")]);
    assert_eq!(grant.ledger().decisions().pop().unwrap().inert_placeholders, 3);
}

#[tokio::test]
async fn any_byte_can_stand_in_a_query_and_none_breaks_out_of_it() {
    const WILD: &str = "a b&key=c#d\r\nx-evil: 1\r\n\r\n%00\u{0}ü";
    let (upstream, proxy) = answering(OK).await;
    let binding = bind_in(key(), Arc::new(Held(WILD)));
    let url = format!("https://api.example.com/?key={}", binding.placeholder);
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.bindings = vec![binding];
    text(proxy.forward(&live(grant), get(&url)).await.unwrap()).await;
    let raw = upstream.requests().pop().unwrap();
    let expected = "a%20b%26key%3Dc%23d%0D%0Ax-evil%3A%201%0D%0A%0D%0A%2500%00%C3%BC";
    assert_eq!(raw.line(), format!("GET /?key={expected} HTTP/1.1"));
    assert!(raw.fields("x-evil").is_empty());
}

#[tokio::test]
async fn a_query_is_another_place_than_a_header() {
    // A connection that served under one binding serves no run under the other.
    let (upstream, proxy) = answering(OK).await;
    let places = [key(), Place::Query("other".to_owned()), Place::Header("key".parse().unwrap())];
    for (count, place) in places.into_iter().enumerate() {
        let mut grant = grant(vec![rule("https://api.example.com")]);
        grant.bindings = vec![bind_in(place, Arc::new(Held(SECRET)))];
        let response = proxy.forward(&live(grant), get("https://api.example.com/")).await.unwrap();
        response.into_body().collect().await.unwrap();
        assert_eq!(upstream.accepted(), count + 1);
    }
}
