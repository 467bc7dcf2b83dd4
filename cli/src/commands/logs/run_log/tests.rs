//! Logs of servers that are not what they should be.

use std::collections::BTreeMap;

use orch_server::Environment;

use super::*;
use crate::client::testing::{Asked, Served, json as told};

/// What is asked with as `after`.
fn after(asked: &Asked) -> u64 {
    let (_, behind) = asked.path.split_once("&after=").expect("asked with it");
    behind.split('&').next().expect("a part").parse().expect("a number")
}

async fn read(server: &Served, json: bool) -> Result<(), Failure> {
    let run = RunId::random();
    let mut lines = Lines { printer: Printer::new(json, &Environment::Fixed(BTreeMap::new())), open: false };
    all(&server.client(None), &run, &mut lines).await
}

async fn paging(events: &'static str, next: fn(u64) -> u64) -> Served {
    Served::tcp(None, move |asked| {
        told(200, &format!("{{\"events\":[{events}],\"next\":{}}}", next(after(asked))))
    })
    .await
}

const EVENT: &str = r#"{"seq":1,"kind":"log","text":"a"}"#;

#[tokio::test]
async fn pages_that_lead_nowhere_end() {
    let empty = r#"{"seq":1,"kind":"log","text":""}"#;
    for (events, next) in [
        ("", (|after| after + 1000) as fn(u64) -> u64),
        (empty, |after| after + 1),
        (EVENT, |after| after),
        (EVENT, |after| 5 - 5 * after.min(1)),
    ] {
        let server = paging(events, next).await;
        for json in [false, true] {
            let failure = read(&server, json).await.expect_err("no log is like that");
            assert_eq!((failure.kind(), failure.code()), (Kind::Server, "server_unexpected"), "{events}");
        }
    }
    // A run that goes on has told something else since, or nothing at all.
    for next in [(|after| after + 1) as fn(u64) -> u64, |after| after] {
        let server = paging("", next).await;
        read(&server, false).await.expect("all that there is by now");
        assert_eq!(server.asked(|_| ()).len(), 1);
    }
}

#[tokio::test]
async fn what_no_log_has_is_dropped() {
    let event: Logged =
        serde_json::from_str(r#"{"seq":1,"time":"t","kind":"log","text":"a","x":[[[]]]}"#).expect("an event");
    let text = serde_json::to_string(&event).expect("JSON");
    assert_eq!(text, r#"{"seq":1,"time":"t","kind":"log","text":"a"}"#);
}

#[tokio::test]
async fn all_that_is_kept_is_counted() {
    for field in ["text", "kind", "time"] {
        let server = Served::tcp(None, move |asked| {
            let mut event = json!({ "seq": 1, "kind": "log", "text": "a" });
            event[field] = "x".repeat(7 << 20).into();
            told(200, &json!({ "events": [event], "next": after(asked) + 1 }).to_string())
        })
        .await;
        let failure = read(&server, true).await.expect_err("too much");
        assert!(failure.message().contains("64 MiB"), "{failure}");
        assert!(server.asked(|_| ()).len() <= 10, "{field}");
    }
}
