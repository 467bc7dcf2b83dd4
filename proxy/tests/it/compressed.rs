//! Answers that come compressed although identity was asked for: unpacked and searched where a secret went, else passed on
//! as they are.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::header;
use orch_proxy::{LiveGrant, Place, Placeholder, Proxy, SCRUBBED};

use crate::support::*;

const URL: &str = "https://api.example.com/file";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A Brotli stream of one stored block of up to 64 KiB (RFC 7932, section 9.2).
fn brotli(text: &[u8]) -> Vec<u8> {
    let head = (u32::try_from(text.len()).unwrap() - 1) << 4 | 1 << 20;
    [&head.to_le_bytes()[..3], text, &[3]].concat()
}

/// A server that answers with this head and body, in chunks of so many bytes, and a run with a secret for it.
async fn serving(
    head: &'static str,
    body: Vec<u8>,
    chunk: usize,
) -> (Upstream, Arc<Proxy>, Arc<LiveGrant>, Placeholder) {
    let (upstream, proxy) = scripted(
        move |_, mut wire| {
            let body = body.clone();
            async move {
                while let Some(request) = wire.request().await {
                    if request.head.starts_with("HEAD") {
                        wire.send(format!("HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n", body.len()))
                            .await;
                        continue;
                    }
                    wire.send(format!("HTTP/1.1 200 OK\r\n{head}transfer-encoding: chunked\r\n\r\n")).await;
                    for piece in body.chunks(chunk) {
                        wire.chunk(piece).await;
                    }
                    wire.send("0\r\n\r\n").await;
                }
            }
        },
        |_| {},
    )
    .await;
    let binding = bind_in(Place::Header("x-api-key".parse().unwrap()), Arc::new(Held(SECRET)));
    let placeholder = binding.placeholder.clone();
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.bindings = vec![binding];
    (upstream, proxy, live(grant), placeholder)
}

#[tokio::test]
async fn an_echo_is_found_in_every_coding_and_the_head_tells_of_none() {
    let said =
        format!("you sent {SECRET}, {}, and that was all", data_encoding::HEXUPPER.encode(SECRET.as_bytes()));
    let clean = format!("you sent {SCRUBBED}, {SCRUBBED}, and that was all");
    let said = said.as_bytes();
    for (head, body) in [
        ("content-encoding: gzip\r\n", gzip(said)),
        ("Content-Encoding: identity, x-gzip\r\n", [gzip(&said[..20]), gzip(&said[20..])].concat()),
        ("content-encoding: deflate\r\n", zlib(said)),
        ("content-encoding: deflate\r\n", deflate(said)),
        ("content-encoding: br\r\n", brotli(said)),
    ] {
        for chunk in [1, 7, body.len()] {
            let (upstream, proxy, grant, key) = serving(head, body.clone(), chunk).await;
            // Nobody's secret yet: what the host says goes on as it is.
            let before = proxy.forward(&grant, get(URL)).await.unwrap();
            assert!(before.headers().contains_key(header::CONTENT_ENCODING));
            assert_eq!(whole(before).await.unwrap(), body);
            for request in [with(get(URL), "x-api-key", key.as_str()), get(URL)] {
                let response = proxy.forward(&grant, request).await.unwrap();
                assert!(
                    !response.headers().contains_key(header::CONTENT_ENCODING),
                    "{:?}",
                    response.headers()
                );
                assert_eq!(text(response).await, clean, "{head} in chunks of {chunk}");
            }
            assert_eq!(upstream.requests().last().unwrap().fields("accept-encoding"), ["identity"]);
            assert_eq!(upstream.accepted(), 1, "the connection is good for the next");
        }
    }
}

#[tokio::test]
async fn a_run_has_only_so_many_brotli_windows() {
    let (_upstream, proxy, grant, key) =
        serving("content-encoding: br\r\n", brotli(&vec![b'x'; 60_000]), 4096).await;
    let ask = || proxy.forward(&grant, with(get(URL), "x-api-key", key.as_str()));
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(ask().await.unwrap());
    }
    let error = ask().await.map(drop).unwrap_err();
    assert_eq!(error.code(), "protocol_error", "{error}");
    assert!(error.to_string().contains("8 such answers of the run are being read"), "{error}");
    drop(held.pop());
    assert_eq!(whole(ask().await.unwrap()).await.unwrap().len(), 60_000);
}

#[tokio::test]
async fn a_head_without_a_body_tells_of_what_a_body_would_be() {
    let (_upstream, proxy, grant, key) =
        serving("content-encoding: gzip\r\netag: \"1\"\r\n", gzip(b"file"), 1).await;
    let head = with(request("HEAD", URL, orch_proxy::empty()), "x-api-key", key.as_str());
    let response = proxy.forward(&grant, head).await.unwrap();
    assert_eq!(response.headers()["etag"], "W/\"1\"");
    for name in [header::CONTENT_ENCODING, header::CONTENT_LENGTH] {
        assert!(!response.headers().contains_key(name));
    }
    assert_eq!(whole(response).await.unwrap(), "");
}

#[tokio::test]
async fn a_body_that_is_broken_cut_short_or_a_bomb_is_an_error() {
    let whole_body = gzip(SECRET.repeat(50).as_bytes());
    let mut wrong = whole_body.clone();
    *wrong.last_mut().unwrap() ^= 1;
    for (body, expected) in [
        (b"no gzip at all".to_vec(), "its gzip data is not valid"),
        (wrong, "its gzip data is not valid"),
        (whole_body[..whole_body.len() - 1].to_vec(), "its gzip data is not whole"),
        (gzip(&vec![0; 8 << 20]), "its gzip data unpacks to more than 256 times its size"),
    ] {
        let (_upstream, proxy, grant, key) = serving("content-encoding: gzip\r\n", body, 4096).await;
        let response = proxy.forward(&grant, with(get(URL), "x-api-key", key.as_str())).await.unwrap();
        let error = whole(response).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(grant.running(), 0, "the exchange is over");
    }
}
