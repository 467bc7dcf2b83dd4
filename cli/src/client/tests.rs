//! The client against scripted servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Response};
use orch_manifests::Digest;
use orch_server::{Failure, Kind};
use orch_tests::ca::Ca;
use serde_json::{Value, json};

use super::testing::{Served, answer, client, json as told};
use super::{Channel, Client, Place, ServerUrl, tls};

mod hostile;

async fn blob(client: &Client, digest: &Digest) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let take = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    client.get_blob(digest, take).await.map(|()| bytes)
}

async fn get(client: &Client) -> Result<Value, Failure> {
    client.get("/v1/whoami").await
}

#[tokio::test]
async fn calls_share_a_connection_and_present_the_token() {
    let server = Served::tcp(None, |_| told(200, r#"{"name":"ci"}"#)).await;
    let client = server.client(Some("orch_token"));
    for _ in 0..3 {
        assert_eq!(get(&client).await.expect("answered"), json!({ "name": "ci" }));
    }
    let sent: Value =
        client.post("/v1/runs?wait", super::json(&json!({ "a": 1 })).expect("JSON")).await.expect("answered");
    assert_eq!(sent["name"], "ci");
    assert_eq!(server.connections(), 1);
    let tokens = server.asked(|asked| asked.header("authorization").map(str::to_owned));
    assert_eq!(tokens, vec![Some("Bearer orch_token".to_owned()); 4]);
    let host = format!("127.0.0.1:{}", server.port());
    assert!(server.asked(|asked| asked.header("host") == Some(&host)).iter().all(|same| *same));
    let last = server.asked(|a| {
        (a.method.clone(), a.path.clone(), a.header("content-type").map(str::to_owned), a.body.clone())
    });
    assert_eq!(
        last.last().expect("asked"),
        &(
            "POST".to_owned(),
            "/v1/runs?wait".to_owned(),
            Some("application/json".to_owned()),
            Bytes::from(r#"{"a":1}"#)
        )
    );
}

#[tokio::test]
async fn a_connection_that_the_server_ended_is_replaced() {
    let server = Served::tcp(None, |_| {
        let mut response = told(200, "{}");
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
        response
    })
    .await;
    let client = server.client(None);
    for _ in 0..3 {
        get(&client).await.expect("answered");
    }
    assert_eq!(server.connections(), 3);
    assert_eq!(server.asked(|asked| asked.header("authorization").is_some()), [false; 3]);
}

#[tokio::test]
async fn the_socket_needs_no_token() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("server.sock");
    let server = Served::unix(&path, |_| told(200, "{}"));
    let client = Client::trusted(Channel::to(Place::Unix(path)), "the server of this home");
    assert!(!client.on_network() && !client.in_process());
    get(&client).await.expect("answered");
    assert_eq!(server.asked(|asked| asked.header("authorization").is_some()), [false]);
}

#[tokio::test]
async fn a_server_in_process_is_asked_without_a_connection() {
    let channel = Channel::InProcess(Arc::new(|request| {
        Box::pin(async move { told(200, &json!({ "path": request.uri().path() }).to_string()) })
    }));
    let client = Client::trusted(channel, "this home");
    assert!(client.in_process() && !client.on_network());
    assert_eq!(get(&client).await.expect("answered"), json!({ "path": "/v1/whoami" }));
}

#[tokio::test]
async fn a_refusal_is_the_failure_that_was_told() {
    let body =
        r#"{"error":{"code":"not_authenticated","message":"no","hints":[],"details":{}},"exit_code":8}"#;
    let server = Served::tcp(None, move |_| told(401, body)).await;
    let client = server.client(None);
    let failure = get(&client).await.expect_err("refused");
    assert_eq!((failure.kind(), failure.code()), (Kind::Server, "not_authenticated"));
    assert_eq!(failure.hints(), [format!("orch login http://127.0.0.1:{}", server.port())]);
    assert_eq!(failure.details()["request_id"], "req_test");
    // The connection is still good.
    get(&client).await.expect_err("refused");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn what_is_not_of_the_contract_is_said_to_be() {
    for (status, kind, text) in
        [(502, "text/html", "<html>"), (200, "text/html", "<html>"), (200, "application/json", "[1]")]
    {
        let server = Served::tcp(None, move |_| answer(status, kind, text)).await;
        let failure = server.client(None).get::<std::collections::BTreeMap<String, u8>>("/v1/x").await;
        let failure = failure.expect_err("not understood");
        assert_eq!((failure.kind(), failure.code()), (Kind::Server, "server_unexpected"), "{text}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_the_cause_and_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let client = client(&url, None).hint_when_unreachable("orch serve");
    let failure = get(&client).await.expect_err("nobody there");
    assert_eq!((failure.kind(), failure.code()), (Kind::Server, "server_unreachable"));
    assert!(failure.message().contains(&url) && failure.message().contains("refused"), "{failure}");
    assert_eq!(failure.hints(), ["orch serve"]);

    let gone = Client::trusted(Channel::to(Place::Unix("/nowhere/server.sock".into())), "x");
    assert_eq!(get(&gone).await.expect_err("no socket").code(), "server_unreachable");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let failure = get(&client(&url, None)).await.expect_err("hung up");
    assert_eq!(failure.code(), "server_unreachable");
    assert!(failure.message().contains("broke"), "{failure}");
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_public_and_the_named_authorities() {
    let ca = Ca::new();
    let server = Served::tcp(Some(ca.server(&["localhost"])), |_| told(200, "{}")).await;
    let url: ServerUrl = format!("https://localhost:{}", server.port()).parse().expect("a URL");
    let trusting = tls(&[ca.der()]).expect("TLS");
    let channel = Channel::to(Place::Tcp(url.clone(), Some(trusting.clone())));
    get(&Client::of_url(&url, channel, None)).await.expect("trusted");

    let failure = get(&client(&url.to_string(), None)).await.expect_err("not trusted");
    assert_eq!(failure.code(), "server_unreachable");
    assert!(failure.hints().iter().any(|hint| hint.contains("server.ca_file")), "{failure:?}");

    // The right authority, and another name.
    let other: ServerUrl = format!("https://127.0.0.1:{}", server.port()).parse().expect("a URL");
    let channel = Channel::to(Place::Tcp(other.clone(), Some(trusting)));
    let failure = get(&Client::of_url(&other, channel, None)).await.expect_err("another name");
    assert_eq!(failure.code(), "server_unreachable");
    assert_eq!(server.asked(|_| ()).len(), 1, "nothing was sent to a server that was not trusted");
}

#[tokio::test]
async fn a_blob_is_sent_when_it_is_missing_and_checked_when_it_comes() {
    let bytes = Bytes::from(vec![7; 300_000]);
    let digest = Digest::of(&bytes);
    let there = Arc::new(AtomicUsize::new(0));
    let (kept, content) = (Arc::clone(&there), bytes.clone());
    let server = Served::tcp(None, move |asked| match asked.method.as_str() {
        "HEAD" if kept.load(Ordering::Relaxed) == 0 => answer(404, "application/json", ""),
        "HEAD" => answer(200, "application/octet-stream", ""),
        "PUT" => {
            kept.store(asked.body.len(), Ordering::Relaxed);
            told(201, "{}")
        }
        _ => {
            let mut response = Response::new(orch_proxy::full(content.clone()));
            if asked.path.ends_with(&Digest::of(b"other").to_hex()) {
                *response.body_mut() = orch_proxy::full("not these");
            }
            response
        }
    })
    .await;
    let client = server.client(None);
    assert!(!client.has_blob(&digest).await.expect("answered"));
    client.put_blob(&digest, &bytes, &|_| {}).await.expect("sent");
    assert!(client.has_blob(&digest).await.expect("answered"));
    assert_eq!(there.load(Ordering::Relaxed), bytes.len());
    assert_eq!(blob(&client, &digest).await.expect("there"), bytes);
    assert_eq!(server.connections(), 1);
    let kinds = server.asked(|asked| asked.header("content-type").map(str::to_owned));
    assert_eq!(kinds[1].as_deref(), Some("application/octet-stream"));

    let failure = blob(&client, &Digest::of(b"other")).await.expect_err("other bytes");
    assert_eq!(failure.code(), "server_unexpected");
}

#[tokio::test]
async fn events_are_taken_up_where_they_broke_off() {
    let server = Served::tcp(None, |_| {
        answer(200, "text/event-stream; charset=utf-8", "id: 8\nevent: log\ndata: x\n\n")
    })
    .await;
    let client = server.client(None);
    let mut events = client.events("/v1/runs/r/events", Some("7")).await.expect("a stream");
    assert_eq!(events.next().await.expect("read").expect("an event").kind, "log");
    assert_eq!(events.next().await.expect("read"), None);
    let asked = server
        .asked(|a| (a.header("last-event-id").map(str::to_owned), a.header("accept").map(str::to_owned)));
    assert_eq!(asked, [(Some("7".to_owned()), Some("text/event-stream".to_owned()))]);

    let other = Served::tcp(None, |_| told(200, "{}")).await;
    let Err(failure) = other.client(None).events("/v1/runs/r/events", None).await else {
        panic!("no events")
    };
    assert_eq!(failure.code(), "server_unexpected");
}

#[tokio::test]
async fn a_token_that_is_no_header_is_refused_and_not_repeated() {
    let server = Served::tcp(None, |_| told(200, "{}")).await;
    let failure = get(&server.client(Some("orch_\r\nx: SECRET"))).await.expect_err("no header");
    assert_eq!(failure.code(), "token_invalid");
    assert!(!failure.message().contains("SECRET"));
    assert_eq!(server.connections(), 0);
}
