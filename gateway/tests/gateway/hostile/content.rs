//! What is in the bodies, and what their heads say of them.

use std::time::Duration;

use bytes::Bytes;
use orch_gateway::frames::{Frame, Framing};
use orch_gateway::ir::Class;
use orch_manifests::Dialect;

use super::server::{Play, Step};
use super::speech::{self, Speech, binary};
use super::transport::{begun, head, open, send};
use super::{LITTLE, MUCH, Row, Then, every};
use crate::upstream::bomb;

const FAST: Duration = Duration::ZERO;
const OFTEN: Duration = Duration::from_millis(20);

const SERVER: fn(Dialect, bool) -> Then = |_, _| Then::Failed(Class::Server);

/// What comes of a frame that cannot be read: its text is not the first thing said in all dialects.
const SPOILED: fn(Dialect, bool) -> Then = |spoken, stream| {
    let speech = Speech::new(spoken);
    let text = |frame: &Frame| frame.data.as_ref().is_some_and(|data| data.contains("Grüße"));
    let first = speech.frames.iter().position(text).unwrap();
    match stream && speech.committed() <= first {
        true => Then::Broken(Class::Server),
        false => Then::Failed(Class::Server),
    }
};

/// What comes of an answer that cannot be unpacked. Without a key nothing is looked for in an answer, so that nobody
/// unpacks it.
const PACKED: fn(Dialect, bool) -> Then = |spoken, _| match spoken {
    Dialect::OllamaChat => Then::Failed(Class::Server),
    _ => Then::Failed(Class::Truncated),
};

/// This body under the right head.
fn body(speech: &Speech, stream: bool, bytes: impl Into<Bytes>) -> Play {
    Play::new([open(speech, stream), send(bytes)])
}

/// This body under a head of its own.
fn under(fields: &str, bytes: impl Into<Bytes>) -> Play {
    Play::new([head(&format!("{fields}connection: close\r\n")), send(bytes)])
}

/// A frame that says nothing, and that whoever speaks the dialect may send.
fn keep_alive(dialect: Dialect) -> Bytes {
    match dialect {
        Dialect::AnthropicMessages => Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        Dialect::BedrockConverse => binary("keepAlive", b"{}"),
        Dialect::OllamaChat => Bytes::from_static(b"\n"),
        _ => Bytes::from_static(b": still there\n\n"),
    }
}

/// A frame in which a text goes on by nothing.
fn empty_delta(dialect: Dialect) -> Bytes {
    let text = match dialect {
        Dialect::OpenAiChat => r#"data: {"id":"x","choices":[{"index":0,"delta":{"content":""}}]}"#,
        Dialect::OpenAiResponses => {
            r#"data: {"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":""}"#
        }
        Dialect::AnthropicMessages => {
            r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#
        }
        Dialect::GeminiGenerateContent => {
            r#"data: {"candidates":[{"index":0,"content":{"role":"model","parts":[{"text":""}]}}]}"#
        }
        Dialect::BedrockConverse => {
            return binary("contentBlockDelta", br#"{"contentBlockIndex":0,"delta":{"text":""}}"#);
        }
        Dialect::CohereChat => {
            r#"data: {"type":"content-delta","index":0,"delta":{"message":{"content":{"text":""}}}}"#
        }
        Dialect::OllamaChat => {
            return Bytes::from_static(
                b"{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n",
            );
        }
    };
    format!("{text}\n\n").into()
}

/// The beginning of a frame that says that it is this long, or never says where it ends.
fn giant(framing: Framing, length: usize) -> Vec<u8> {
    let begins: &[u8] = match framing {
        Framing::Sse => b"data: ",
        Framing::Ndjson => b"{\"x\":\"",
        Framing::EventStream => {
            let mut prelude = [0; 12];
            prelude[..4].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
            let sum = crc32fast::hash(&prelude[..8]).to_be_bytes();
            prelude[8..].copy_from_slice(&sum);
            return [&prelude[..], &vec![b'x'; length]].concat();
        }
    };
    [begins, &vec![b'x'; length]].concat()
}

#[tokio::test]
async fn large_ones() {
    every(
        MUCH,
        &[
            Row {
                name: "a line of 10 MB",
                play: |speech, stream| {
                    let line = if stream { giant(speech.framing(), 10 << 20) } else { vec![b'x'; 10 << 20] };
                    Some(body(speech, stream, line))
                },
                then: SERVER,
            },
            Row {
                name: "a text of 17 MB",
                play: |speech, stream| {
                    Some(body(speech, stream, speech.saying(stream, &vec![b'x'; 17 << 20])))
                },
                then: SPOILED,
            },
            Row {
                name: "a frame of 2 MB after the first words",
                play: |speech, stream| {
                    let all = [&begun(speech, stream)[..], &giant(speech.framing(), 2 << 20)].concat();
                    stream.then(|| body(speech, stream, all))
                },
                then: |_, _| Then::Broken(Class::Server),
            },
            Row {
                name: "many values",
                play: |speech, stream| {
                    let many = format!("\",\"x\":[{}],\"y\":\"", vec!["{}"; 200_000].join(","));
                    Some(body(speech, stream, speech.saying(stream, many.as_bytes())))
                },
                then: SPOILED,
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn endless_ones() {
    every(
        LITTLE,
        &[
            Row {
                name: "keep-alives",
                play: |speech, stream| {
                    let pings = Step::Repeat(keep_alive(speech.dialect), OFTEN);
                    stream.then(|| Play::new([open(speech, stream), pings]))
                },
                then: |_, _| Then::Failed(Class::Timeout),
            },
            Row {
                name: "keep-alives after the first words",
                play: |speech, stream| {
                    let pings = Step::Repeat(keep_alive(speech.dialect), OFTEN);
                    stream.then(|| Play::new([open(speech, stream), send(begun(speech, stream)), pings]))
                },
                then: |_, _| Then::Broken(Class::Timeout),
            },
            Row {
                name: "deltas of nothing after the first words",
                play: |speech, stream| {
                    let deltas = Step::Repeat(empty_delta(speech.dialect), OFTEN);
                    stream.then(|| Play::new([open(speech, stream), send(begun(speech, stream)), deltas]))
                },
                then: |_, _| Then::Broken(Class::Timeout),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn endless_and_fast_ones() {
    every(
        MUCH,
        &[
            Row {
                name: "keep-alives as fast as it goes",
                play: |speech, stream| {
                    let pings = Step::Repeat(keep_alive(speech.dialect), FAST);
                    // Blank lines are no frames: nothing of them is kept.
                    let kept = stream && speech.dialect != Dialect::OllamaChat;
                    kept.then(|| Play::new([open(speech, stream), pings]))
                },
                then: SERVER,
            },
            Row {
                name: "deltas of nothing",
                play: |speech, stream| {
                    let deltas = Step::Repeat(empty_delta(speech.dialect), FAST);
                    stream.then(|| Play::new([open(speech, stream), deltas]))
                },
                then: |_, _| Then::Failed(Class::Server),
            },
            Row {
                name: "blank space",
                play: |speech, stream| {
                    (!stream).then(|| {
                        Play::new([open(speech, stream), Step::Repeat(vec![b' '; 1 << 14].into(), FAST)])
                    })
                },
                then: SERVER,
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn ones_that_lie_about_what_they_send() {
    const PAGE: &str = "<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>";
    every(
        MUCH,
        &[
            Row {
                name: "an answer as a page",
                play: |speech, stream| Some(under("content-type: text/html\r\n", speech.all(stream))),
                // It is whole, and JSON of the dialect. A stream is told by its type alone.
                then: |_, stream| if stream { Then::Failed(Class::Server) } else { Then::Right },
            },
            Row {
                name: "an answer without a type",
                play: |speech, stream| Some(under("", speech.all(stream))),
                then: |_, stream| if stream { Then::Failed(Class::Server) } else { Then::Right },
            },
            Row {
                name: "a page as an answer",
                play: |speech, stream| Some(body(speech, stream, PAGE)),
                then: |spoken, stream| match (spoken, stream) {
                    (Dialect::BedrockConverse, true) | (_, false) => Then::Failed(Class::Server),
                    (_, true) => Then::Failed(Class::Truncated),
                },
            },
            Row {
                name: "a page",
                play: |_, _| Some(under("content-type: text/html\r\n", PAGE)),
                then: SERVER,
            },
            Row {
                name: "a stream instead of a whole answer",
                play: |speech, stream| {
                    let fields = format!("content-type: {}\r\n", speech.framing().media_type());
                    (!stream).then(|| under(&fields, speech.all(true)))
                },
                then: SERVER,
            },
            Row {
                name: "a whole answer instead of a stream",
                play: |speech, stream| {
                    stream.then(|| under("content-type: application/json\r\n", speech.all(false)))
                },
                then: SERVER,
            },
            Row {
                name: "a whole answer as a stream",
                play: |speech, stream| stream.then(|| body(speech, stream, speech.all(false))),
                then: |spoken, _| match spoken {
                    Dialect::BedrockConverse => Then::Failed(Class::Server),
                    // Its line has no end.
                    _ => Then::Failed(Class::Truncated),
                },
            },
            Row {
                name: "a stream as JSON",
                play: |speech, stream| {
                    stream.then(|| under("content-type: application/json\r\n", speech.all(true)))
                },
                then: SERVER,
            },
            Row {
                name: "compressed garbage",
                play: |speech, stream| {
                    let fields =
                        format!("content-type: {}\r\ncontent-encoding: gzip\r\n", speech.kind(stream));
                    Some(under(&fields, vec![0x5a; 500]))
                },
                then: PACKED,
            },
            Row {
                name: "an answer that is said to be compressed and is not",
                play: |speech, stream| {
                    let fields =
                        format!("content-type: {}\r\ncontent-encoding: gzip\r\n", speech.kind(stream));
                    Some(under(&fields, speech.all(stream)))
                },
                then: PACKED,
            },
            Row {
                name: "an answer that is compressed",
                play: |speech, stream| {
                    let fields =
                        format!("content-type: {}\r\ncontent-encoding: gzip\r\n", speech.kind(stream));
                    Some(under(&fields, stored(&speech.all(stream))))
                },
                then: |spoken, _| match spoken {
                    Dialect::OllamaChat => Then::Failed(Class::Server),
                    _ => Then::Right,
                },
            },
            Row {
                name: "an answer whose compressed form is cut",
                play: |speech, stream| {
                    let fields =
                        format!("content-type: {}\r\ncontent-encoding: gzip\r\n", speech.kind(stream));
                    let all = stored(&speech.all(stream));
                    Some(under(&fields, all[..all.len() - 20].to_vec()))
                },
                then: |spoken, stream| match (spoken, stream) {
                    (Dialect::OllamaChat, _) => Then::Failed(Class::Server),
                    (_, true) => Then::Broken(Class::Truncated),
                    (_, false) => Then::Failed(Class::Truncated),
                },
            },
            Row {
                name: "a bomb",
                play: |speech, stream| {
                    let fields =
                        format!("content-type: {}\r\ncontent-encoding: gzip\r\n", speech.kind(stream));
                    Some(under(&fields, bomb(1 << 30)))
                },
                then: SERVER,
            },
            Row {
                name: "an unknown compression",
                play: |speech, stream| {
                    let fields =
                        format!("content-type: {}\r\ncontent-encoding: lzma\r\n", speech.kind(stream));
                    Some(under(&fields, speech.all(stream)))
                },
                then: |spoken, _| match spoken {
                    Dialect::OllamaChat => Then::Failed(Class::Server),
                    // The proxy has no way to look for the key in it.
                    _ => Then::Failed(Class::Network),
                },
            },
        ],
    )
    .await;
}

/// Compressed by nothing: stored blocks (RFC 1951, 3.2.4) in gzip's wrapping (RFC 1952).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut chunks = bytes.chunks(1 << 12).peekable();
    while let Some(chunk) = chunks.next() {
        out.push(u8::from(chunks.peek().is_none()));
        let length = u16::try_from(chunk.len()).unwrap();
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
    }
    out.extend(crc32fast::hash(bytes).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    out
}

#[tokio::test]
async fn texts_that_are_none() {
    every(
        MUCH,
        &[
            Row {
                name: "an invalid byte",
                play: |speech, stream| Some(body(speech, stream, speech.saying(stream, b"Gr\xff"))),
                then: SPOILED,
            },
            Row {
                name: "half of a character",
                play: |speech, stream| Some(body(speech, stream, speech.saying(stream, b"Gr\xc3"))),
                then: SPOILED,
            },
            Row {
                name: "a bare zero byte",
                play: |speech, stream| Some(body(speech, stream, speech.saying(stream, b"Gr\0"))),
                then: SPOILED,
            },
            Row {
                name: "an escape that is none",
                play: |speech, stream| Some(body(speech, stream, speech.saying(stream, br"Gr\x66"))),
                then: SPOILED,
            },
            Row {
                name: "deep nesting",
                play: |speech, stream| {
                    let deep = format!("\",\"x\":{}{},\"y\":\"", "[".repeat(20_000), "]".repeat(20_000));
                    Some(body(speech, stream, speech.saying(stream, deep.as_bytes())))
                },
                then: SPOILED,
            },
            Row {
                name: "garbage",
                play: |speech, stream| Some(body(speech, stream, vec![0xde; 4096])),
                then: |spoken, stream| match (spoken, stream) {
                    (Dialect::BedrockConverse, true) | (_, false) => Then::Failed(Class::Server),
                    // No end of a frame is found in it.
                    (_, true) => Then::Failed(Class::Truncated),
                },
            },
            Row {
                name: "JSON of nothing",
                play: |speech, stream| {
                    let nothing = match (speech.framing(), stream) {
                        (_, false) => b"null".to_vec(),
                        (Framing::Sse, true) => b"data: null\n\n".to_vec(),
                        (Framing::Ndjson, true) => b"null\n".to_vec(),
                        (Framing::EventStream, true) => binary("contentBlockDelta", b"null").to_vec(),
                    };
                    Some(body(speech, stream, nothing))
                },
                then: SERVER,
            },
        ],
    )
    .await;
}

/// An escaped zero is a character like another, and the last of two fields counts.
#[tokio::test]
async fn odd_texts_arrive() {
    every(
        MUCH,
        &[
            Row {
                name: "an escaped text",
                play: |speech, stream| Some(body(speech, stream, speech.saying(stream, br"Gr\u00fc\u00dfe"))),
                then: |_, _| Then::Right,
            },
            Row {
                name: "a field that is there twice",
                play: |speech, stream| {
                    let twice = b"{\"twice\":1,\"twice\":{\"x\":2},";
                    Some(body(speech, stream, speech.replaced(stream, b"{", twice)))
                },
                then: |_, _| Then::Right,
            },
            Row {
                name: "frames after the end",
                play: |speech, stream| {
                    let more =
                        [&speech.all(stream)[..], &speech.frames[speech.committed() - 1].raw[..]].concat();
                    stream.then(|| body(speech, stream, more))
                },
                then: |_, _| Then::Right,
            },
            Row {
                name: "an end that is there twice",
                play: |speech, stream| {
                    let last = speech.frames.len() - 1;
                    let twice = [&speech.all(stream)[..], &speech.frames[last].raw[..]].concat();
                    stream.then(|| body(speech, stream, twice))
                },
                then: |_, _| Then::Right,
            },
            Row {
                name: "every frame of the end twice",
                play: |speech, stream| {
                    let ends = speech.frames.iter().skip(speech.committed());
                    let ends: Vec<_> = ends.filter(|frame| is_end(frame.data.as_deref())).cloned().collect();
                    assert!(!ends.is_empty(), "{}", speech.dialect);
                    let mut all = Vec::new();
                    for frame in &speech.frames {
                        let times = if ends.contains(frame) { 2 } else { 1 };
                        all.extend(frame.raw.repeat(times));
                    }
                    stream.then(|| body(speech, stream, all))
                },
                then: |_, _| Then::Right,
            },
        ],
    )
    .await;
}

/// Whether a frame says why an answer ended, or that it did.
fn is_end(data: Option<&str>) -> bool {
    const ENDS: [&str; 9] = [
        "finish_reason\": \"stop\"",
        "[DONE]",
        "response.completed",
        "\"stop_reason\": \"end_turn\"",
        "message_stop",
        "finishReason",
        "messageStop",
        "message-end",
        "\"done\":true",
    ];
    data.is_some_and(|data| ENDS.iter().any(|end| data.contains(end)))
}

/// What the first words are followed by in a stream that goes wrong.
#[tokio::test]
async fn errors_after_the_first_words_are_told() {
    every(
        MUCH,
        &[Row {
            name: "an unreadable frame",
            play: |speech, stream| {
                let bad = match speech.framing() {
                    Framing::Sse => b"data: {\"x\n\n".to_vec(),
                    Framing::Ndjson => b"{\"x\n".to_vec(),
                    Framing::EventStream => binary("contentBlockDelta", b"{\"x").to_vec(),
                };
                let all = [&speech::join(&speech.frames[..speech.committed()])[..], &bad].concat();
                stream.then(|| body(speech, stream, all))
            },
            then: |_, _| Then::Broken(Class::Server),
        }],
    )
    .await;
}
