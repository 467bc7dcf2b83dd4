//! HTTP/2, frame by frame.

use tokio::time::Instant;

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET path` for `host`, of fields that need no table.
fn head(path: &str, host: &str) -> Vec<u8> {
    let text = |index: u8, text: &str| {
        let length = u8::try_from(text.len()).expect("short");
        [&[index, length], text.as_bytes()].concat()
    };
    // Indexed `:method: GET` and `:scheme: http`; literal values for `:path` and `:authority`, not indexed.
    [vec![0x82, 0x86], text(0x04, path), text(0x01, host)].concat()
}

fn opening(settings: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()
}

fn request(stream: u32, path: &str, host: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head(path, host))
}

/// The frames of what was received: kind, stream and payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        frames.push((head[3], stream, payload.to_vec()));
        bytes = rest;
    }
    frames
}

/// The error of the connection, if the server gave one.
fn error(frames: &[(u8, u32, Vec<u8>)]) -> Option<u32> {
    let (.., payload) = frames.iter().rfind(|(kind, ..)| *kind == GOAWAY)?;
    payload.get(4..8)?.try_into().ok().map(u32::from_be_bytes)
}

fn text(frames: &[(u8, u32, Vec<u8>)], stream: u32) -> String {
    let of_stream = frames.iter().filter(|(kind, of, _)| (*kind, *of) == (DATA, stream));
    of_stream.map(|(.., payload)| String::from_utf8_lossy(payload).into_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_side_by_side_and_names_are_checked() {
    let all = [
        opening(&[]),
        request(1, "/known/forever", "localhost"),
        request(3, "/known", "localhost:7878"),
        request(5, "/x", "127.0.0.1"),
        request(7, "/known", "evil.example"),
    ]
    .concat();
    let mut wire = Wire::with(&all).await;
    // The connection ends once the server's pings stay unanswered.
    let frames = frames(&wire.rest().await);
    assert_eq!(text(&frames, 1), "");
    assert_eq!(text(&frames, 3), "/known nobody tcp tls=false");
    assert_eq!(text(&frames, 5), "/x nobody tcp tls=false");
    assert_eq!(text(&frames, 7), "host_unknown");
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_reset_at_once_end_the_connection() {
    let mut flood = opening(&[]);
    for n in 0..2000 {
        let stream = 2 * n + 1;
        flood.extend(request(stream, "/known/forever", "localhost"));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let begun = Instant::now();
    let mut wire = Wire::with(&flood).await;
    let frames = frames(&wire.rest().await);
    assert_eq!(error(&frames), Some(ENHANCE_YOUR_CALM));
    assert!(begun.elapsed() < seconds(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_may_be_open_are_refused() {
    let mut flood = opening(&[]);
    for n in 0..200 {
        flood.extend(request(2 * n + 1, "/known/forever", "localhost"));
    }
    let mut wire = Wire::with(&flood).await;
    let frames = frames(&wire.rest().await);
    let reset = frames.iter().filter(|(kind, ..)| *kind == RST_STREAM).count();
    // Each refusal is an error of the peer, and it may not make many of them.
    assert!(reset > 0 || error(&frames) == Some(ENHANCE_YOUR_CALM), "{frames:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_ends_the_connection() {
    let mut wire =
        Wire::with(&[opening(&[]), frame(HEADERS, 0, 1, &head("/known", "localhost"))].concat()).await;
    let piece =
        frame(CONTINUATION, 0, 1, &[&[0x00, 0x01, b'x', 0x7f, 0xe1, 0x06], [b'a'; 990].as_slice()].concat());
    let begun = Instant::now();
    let mut sent = 0;
    while sent < 100_000 && wire.client.write_all(&piece).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 100_000, "the server read it all");
    wire.rest().await;
    assert!(begun.elapsed() <= seconds(80), "{:?}", begun.elapsed());
}

/// A peer that lets nothing be sent to it cannot keep its connection by asking for what it is refused.
#[tokio::test(start_paused = true)]
async fn a_stranger_that_takes_no_answer_is_let_go() {
    let no_window = [0, 4, 0, 0, 0, 0];
    let begun = Instant::now();
    let mut wire = Wire::with(&[opening(&no_window), request(1, "/x", "localhost")].concat()).await;
    let frames = frames(&wire.rest().await);
    assert_eq!(text(&frames, 1), "");
    assert!(begun.elapsed() <= seconds(80), "{:?}", begun.elapsed());
}
