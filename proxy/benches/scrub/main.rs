//! Bytes per second through a scrubber beside a plain copy of the same bytes.
//!
//! Chunks of 16 KiB, as a connection delivers them, on one thread. The copy is what a body costs that is passed on without
//! being looked at but is moved once. They take turns, and the medians over the rounds are compared. Each kind of content
//! has to reach its target by itself.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and reports by printing"
)]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orch_proxy::{SCRUBBED, ScrubStream, Scrubber};

const ROUNDS: usize = 11;
const SIZE: usize = 32 << 20;
const CHUNK: usize = 16 << 10;
const SECRET: &str = "sk-proj-0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P";
/// Bytes per second and core.
const TARGET: f64 = 1e9;
/// The same for text that is nothing but words and escapes, each of which is looked at: no answer is, but a host may try.
const ESCAPES_TARGET: f64 = 0.1e9;

fn main() -> ExitCode {
    let scrubber = Arc::new(Scrubber::new(SECRET.as_bytes()).unwrap());
    println!("{ROUNDS} interleaved rounds over {} MiB in chunks of {} KiB; medians", SIZE >> 20, CHUNK >> 10);
    let mut reached = true;
    for (name, body, target) in [
        ("prose", prose(), TARGET),
        ("JSON", json(), TARGET),
        ("events", events(), TARGET),
        ("base64", data_encoding::BASE64.encode(&random(SIZE)).into_bytes(), TARGET),
        ("hex", data_encoding::HEXLOWER.encode(&random(SIZE)).into_bytes(), TARGET),
        ("random bytes", random(SIZE), TARGET),
        ("percent escapes", query(), ESCAPES_TARGET),
        ("with echoes", echoes(), TARGET),
    ] {
        let body = Bytes::from(body);
        let secrets = check(&scrubber, &body);
        let (mut scrubbed, mut copied) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            scrubbed.push(timed(|| pass(&scrubber, &body)));
            copied.push(timed(|| copy(&body)));
        }
        let rate = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            body.len() as f64 / times[times.len() / 2].as_secs_f64()
        };
        let (ours, theirs) = (rate(&mut scrubbed), rate(&mut copied));
        println!(
            "{name:>16}: {:>6.2} GB/s, a copy {:>6.2} GB/s, {secrets} secrets; target {:.1} GB/s",
            ours / 1e9,
            theirs / 1e9,
            target / 1e9
        );
        reached &= ours >= target;
    }
    if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn timed(work: impl FnOnce() -> usize) -> Duration {
    let started = Instant::now();
    black_box(work());
    started.elapsed()
}

fn pass(scrubber: &Arc<Scrubber>, body: &Bytes) -> usize {
    let mut stream = ScrubStream::new(std::slice::from_ref(scrubber), false);
    let mut passed = 0;
    let mut at = 0;
    while at < body.len() {
        let end = (at + CHUNK).min(body.len());
        passed += black_box(stream.push(body.slice(at..end))).len();
        at = end;
    }
    passed + stream.finish().len()
}

fn copy(body: &Bytes) -> usize {
    let mut passed = 0;
    for chunk in body.chunks(CHUNK) {
        passed += black_box(Bytes::copy_from_slice(chunk)).len();
    }
    passed
}

/// What comes out holds no secret, and says how many there were.
fn check(scrubber: &Arc<Scrubber>, body: &Bytes) -> usize {
    let mut stream = ScrubStream::new(std::slice::from_ref(scrubber), false);
    let mut out = Vec::with_capacity(body.len());
    for chunk in body.chunks(CHUNK) {
        out.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&stream.finish());
    assert!(scrubber.clean(&out).is_none());
    memchr::memmem::find_iter(&out, SCRUBBED).count()
}

/// Xorshift: the same in every round and on every machine.
fn random(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size / 8).flat_map(|_| next()).collect()
}

fn filled(mut piece: impl FnMut(usize) -> String) -> Vec<u8> {
    let mut out = String::with_capacity(SIZE + CHUNK);
    for number in 0.. {
        if out.len() >= SIZE {
            break;
        }
        out.push_str(&piece(number));
    }
    out.into_bytes()
}

fn words(number: usize) -> String {
    const WORDS: [&str; 24] = [
        "the",
        "broker",
        "holds",
        "keys",
        "and",
        "asks",
        "sk-ilful",
        "workers",
        "to",
        "skip",
        "what",
        "is",
        "risky",
        "a",
        "task",
        "prompt",
        "that",
        "seeks",
        "secrets",
        "finds",
        "placeholders",
        "only",
        "in",
        "disks",
    ];
    let mut state = number.wrapping_mul(0x9e37_79b9).wrapping_add(7);
    let mut text = String::new();
    for _ in 0..12 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(state >> 33) % WORDS.len()]);
        text.push(' ');
    }
    text
}

fn prose() -> Vec<u8> {
    filled(|number| words(number) + ".\n")
}

fn json() -> Vec<u8> {
    filled(|number| {
        let line = serde_json::json!({ "id": number, "text": words(number) + "\n\"quoted\"\t", "ok": true, "score": 0.125 });
        line.to_string() + ",\n"
    })
}

fn events() -> Vec<u8> {
    filled(|number| {
        let delta = words(number);
        format!(
            "data: {{\"id\":\"chatcmpl-{number}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{delta}\\n\"}}}}]}}\n\n"
        )
    })
}

/// As URLs in redirects: an escape every few characters.
fn query() -> Vec<u8> {
    filled(|number| words(number).replace(' ', "%20") + "%2Fpath%2F%7B%22a%22%3A1%7D&")
}

/// An echo every 64 KiB.
fn echoes() -> Vec<u8> {
    let mut left = 0;
    filled(|number| {
        let text = words(number);
        if left < text.len() {
            left = 64 << 10;
            return format!("Bearer {SECRET}, ");
        }
        left -= text.len();
        text
    })
}
