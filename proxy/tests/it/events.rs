//! Streams of events: what is over goes on at once, however long the upstream takes for the next.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use orch_proxy::{Body, Place, SCRUBBED};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::*;

/// Chunks that a server sends when it is told to, and the body that comes down.
async fn slow(head: &'static str, secret: &'static str) -> (Upstream, mpsc::UnboundedSender<Vec<u8>>, Body) {
    let (send, receive) = mpsc::unbounded_channel::<Vec<u8>>();
    let receive = Arc::new(tokio::sync::Mutex::new(receive));
    let (upstream, proxy) = scripted(
        move |_, mut wire| {
            let receive = Arc::clone(&receive);
            async move {
                wire.request().await;
                wire.send(format!("HTTP/1.1 200 OK\r\n{head}transfer-encoding: chunked\r\n\r\n")).await;
                while let Some(chunk) = receive.lock().await.recv().await {
                    wire.chunk(&chunk).await;
                }
                wire.send("0\r\n\r\n").await;
            }
        },
        |_| {},
    )
    .await;
    // In a query any value can stand.
    let binding = bind_in(Place::Query("key".to_owned()), Arc::new(Held(secret)));
    let url = format!("https://api.example.com/events?key={}", binding.placeholder);
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.bindings = vec![binding];
    let body = proxy.forward(&live(grant), get(&url)).await.unwrap().into_body();
    (upstream, send, body)
}

/// What comes down until this many bytes have.
async fn read(body: &mut Body, length: usize) -> String {
    let mut out = Vec::new();
    while out.len() < length {
        let frame = timeout(Duration::from_secs(20), body.frame()).await.expect("it is held back");
        out.extend_from_slice(&frame.unwrap().unwrap().into_data().unwrap());
    }
    String::from_utf8(out).unwrap()
}

const EVENTS: &str = "content-type: Text/Event-Stream ; charset=utf-8\r\n";

#[tokio::test]
async fn an_event_goes_on_before_the_next_one_begins() {
    // The second begins as an event ends, and the third goes on behind such an end.
    for secret in [SECRET, "\n\nsecret-0123456789", "sk-\n\ndata: 0123456789", "sk-\r\n\r\ndata: 0123456789"]
    {
        let (_upstream, send, mut body) = slow(EVENTS, secret).await;
        for event in [
            "data: one\n\n",
            "data: sk-\n\n",
            "data: a\r\n\r\n",
            "data: sk-\r\n\r\n",
            ": \r\r",
            "data: %\n\n",
            "data: \\\n\n",
        ] {
            for cut in [event.len(), event.len() - 1, event.len() - 2] {
                send.send(event.as_bytes()[..cut].to_vec()).unwrap();
                if cut < event.len() {
                    send.send(event.as_bytes()[cut..].to_vec()).unwrap();
                }
                assert_eq!(read(&mut body, event.len()).await, event, "with {secret:?}, cut at {cut}");
            }
        }
    }
}

#[tokio::test]
async fn within_an_event_the_secret_is_found_and_only_its_beginning_waits() {
    let (_upstream, send, mut body) = slow(EVENTS, SECRET).await;
    let (first, second) = SECRET.split_at(5);
    send.send(format!("data: {first}").into_bytes()).unwrap();
    assert_eq!(read(&mut body, 6).await, "data: ");
    send.send(format!("{second}\n\n").into_bytes()).unwrap();
    let clean = format!("{SCRUBBED}\n\n");
    assert_eq!(read(&mut body, clean.len()).await, clean);
}

#[tokio::test]
async fn other_bodies_are_searched_across_empty_lines() {
    let secret = "sk-\n\ndata: 0123456789";
    let (_upstream, send, mut body) = slow("content-type: text/plain\r\n", secret).await;
    let (first, second) = secret.split_at(5);
    send.send(format!("data: {first}").into_bytes()).unwrap();
    assert_eq!(read(&mut body, 6).await, "data: ");
    send.send(format!("{second}.").into_bytes()).unwrap();
    assert_eq!(read(&mut body, SCRUBBED.len() + 1).await, format!("{SCRUBBED}."));
}

#[tokio::test]
async fn compressed_events_go_on_as_soon_as_they_are_flushed() {
    let head = "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
    let (_upstream, send, mut body) = slow(head, SECRET).await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for number in 0..20 {
        encoder.write_all(format!("data: {number} {SECRET}\n\n").as_bytes()).unwrap();
        encoder.flush().unwrap();
        send.send(std::mem::take(encoder.get_mut())).unwrap();
        let clean = format!("data: {number} {SCRUBBED}\n\n");
        assert_eq!(read(&mut body, clean.len()).await, clean);
    }
}
