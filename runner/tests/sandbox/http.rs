//! Guests' requests.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use orch_runner::{Body, Exit, LimitName, RefusalCode, empty, full, refused};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use crate::support::{Ask, run, spec, worker_with};

fn wander(requests: &Value) -> String {
    json!({ "requests": requests }).to_string()
}

pub(crate) async fn a_request_reaches_the_door_and_its_response_the_guest() {
    let (seen, was_seen) = oneshot::channel();
    let seen = Mutex::new(Some(seen));
    let door = Ask(move |token: String, request: Request<Body>| {
        let seen = seen.lock().unwrap().take().unwrap();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            seen.send((token, parts, body)).ok().unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("checksum", "1".parse().unwrap());
            let frames = [Ok(Frame::data(Bytes::from("hello "))), Ok(Frame::data(Bytes::from("guest")))];
            let frames = frames.into_iter().chain([Ok(Frame::trailers(trailers))]);
            let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
            Response::builder().status(StatusCode::CREATED).header("x-answer", "42").body(body).unwrap()
        }
    });
    let worker = worker_with("wanderer", Arc::new(door)).await;
    let spec = spec(&wander(&json!([{
        "method": "PATCH",
        "url": "http://example.org:8080/a%2Fb/./c?q=1&r=%20",
        "headers": [["x-one", "1"], ["x-one", "2"], ["content-type", "text/plain"]],
        "body": "the body",
    }])));
    let token = spec.token.clone();
    let ran = run(&worker, spec).await;
    let (seen_token, parts, body) = was_seen.await.unwrap();
    assert_eq!(seen_token, token.reveal());
    assert_eq!(parts.method, "PATCH");
    assert_eq!(parts.uri, "http://example.org:8080/a%2Fb/./c?q=1&r=%20");
    let values: Vec<_> = parts.headers.get_all("x-one").iter().collect();
    assert_eq!(values, ["1", "2"]);
    assert!(!parts.headers.contains_key("host"));
    assert!(!parts.headers.keys().any(|name| name.as_str().starts_with("orch-")), "{:?}", parts.headers);
    assert_eq!(body, "the body");

    let answer = &ran.json()["results"][0];
    assert_eq!(answer["status"], 201, "{answer}");
    assert_eq!(answer["headers"]["x-answer"], "42");
    assert_eq!(answer["body"], "hello guest");
}

pub(crate) async fn reserved_headers_are_the_protocols_alone() {
    let door = Ask(|token: String, request: Request<Body>| async move {
        assert!(!request.headers().keys().any(|name| name.as_str().starts_with("orch-")));
        // An upstream that would like to be taken for the broker.
        Response::builder()
            .header("orch-refusal", "denied")
            .header("orch-token", "stolen")
            .header("x-uri", request.uri().to_string())
            .header("x-token", token)
            .body(empty())
            .unwrap()
    });
    let worker = worker_with("wanderer", Arc::new(door)).await;
    let spec = spec(&wander(&json!([{
        "url": "https://example.org/",
        "headers": [
            ["orch-token", "forged"],
            ["Orch-Authority", "169.254.169.254"],
            ["orch-scheme", "http"],
            ["ORCH-ANYTHING", "1"],
        ],
    }])));
    let token = spec.token.clone();
    let ran = run(&worker, spec).await;
    let answer = &ran.json()["results"][0];
    assert_eq!(answer["status"], 200, "{answer}");
    assert_eq!(answer["headers"], json!({ "x-uri": "https://example.org/", "x-token": token.reveal() }));
}

pub(crate) async fn refusals_become_error_codes() {
    let door = Ask(|_: String, request: Request<Body>| async move {
        refused(request.uri().path().trim_start_matches('/').parse::<RefusalCode>().unwrap())
    });
    let worker = worker_with("wanderer", Arc::new(door)).await;
    let codes: Vec<_> =
        RefusalCode::ALL.iter().map(|code| json!({ "url": format!("https://h.example/{code}") })).collect();
    let ran = run(&worker, spec(&wander(&json!(codes)))).await;
    let results = ran.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), RefusalCode::ALL.len());
    let error = |code: RefusalCode| {
        let at = RefusalCode::ALL.iter().position(|&other| other == code).unwrap();
        results[at]["error"].as_str().unwrap_or_else(|| panic!("{code}: {}", results[at])).to_lowercase()
    };
    for (code, word) in [
        (RefusalCode::Denied, "denied"),
        (RefusalCode::AddressProhibited, "prohibited"),
        (RefusalCode::DnsTimeout, "dns"),
        (RefusalCode::TlsCertificate, "certificate"),
    ] {
        assert!(error(code).contains(word), "{code}: {}", error(code));
    }
    // All of them are errors, not answers.
    RefusalCode::ALL.into_iter().for_each(|code| drop(error(code)));
}

pub(crate) async fn large_bodies_travel_both_ways() {
    const SIZE: usize = 3 << 20;
    let door = Ask(|_: String, request: Request<Body>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), SIZE);
        Response::new(full(vec![b'y'; 2 * SIZE]))
    });
    let worker = worker_with("wanderer", Arc::new(door)).await;
    let ran =
        run(&worker, spec(&wander(&json!([{ "method": "POST", "url": "https://h.example/", "pad": SIZE }]))))
            .await;
    let answer = &ran.json()["results"][0];
    assert_eq!(answer["body_bytes"], 2 * SIZE, "{answer}");
    assert!(answer.get("body_error").is_none_or(Value::is_null));
}

pub(crate) async fn responses_without_bodies_keep_their_heads() {
    let door = Ask(|_: String, request: Request<Body>| async move {
        let path = request.uri().path_and_query().unwrap().as_str();
        assert_eq!(path, if request.method() == "HEAD" { "/" } else { "/?q" });
        let status = if request.method() == "HEAD" { StatusCode::OK } else { StatusCode::NO_CONTENT };
        let length = if status == StatusCode::OK { "1234" } else { "0" };
        Response::builder().status(status).header("content-length", length).body(empty()).unwrap()
    });
    let worker = worker_with("wanderer", Arc::new(door)).await;
    let requests =
        json!([{ "method": "HEAD", "url": "https://h.example" }, { "url": "https://h.example?q" }]);
    let ran = run(&worker, spec(&wander(&requests))).await;
    let results = &ran.json()["results"];
    assert_eq!(results[0]["status"], 200, "{results}");
    assert_eq!(results[0]["headers"]["content-length"], "1234", "{results}");
    assert_eq!(results[1]["status"], 204, "{results}");
}

pub(crate) async fn a_broken_response_is_an_error_in_the_guest() {
    let door = Ask(|_: String, _: Request<Body>| async {
        let frames = [Ok(Frame::data(Bytes::from("half"))), Err("the upstream is gone".into())];
        Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
    });
    let worker = worker_with("wanderer", Arc::new(door)).await;
    let ran = run(&worker, spec(&wander(&json!([{ "url": "https://h.example/" }])))).await;
    let answer = &ran.json()["results"][0];
    assert!(answer["body_error"].is_string() || answer["error"].is_string(), "{answer}");
    assert!(!ran.stdout().contains("the upstream is gone"), "the cause stays with the broker: {answer}");
}

pub(crate) async fn a_run_that_ends_takes_its_requests_with_it() {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let dropped = Arc::new(Notify::new());
    let notify = Arc::clone(&dropped);
    let door = Ask(move |_: String, _: Request<Body>| {
        let guard = Dropped(Arc::clone(&notify));
        async move {
            let _guard = guard;
            std::future::pending::<Response<Body>>().await
        }
    });
    let worker = worker_with("wanderer", Arc::new(door)).await;
    let mut spec = spec(&wander(&json!([{ "url": "https://h.example/" }])));
    spec.limits.time = std::time::Duration::from_millis(300);
    let ran = run(&worker, spec).await;
    assert!(matches!(ran.exit(), Exit::Limit { name: LimitName::Time, .. }), "{ran:?}");
    dropped.notified().await;
}
