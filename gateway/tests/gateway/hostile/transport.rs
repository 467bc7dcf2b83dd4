//! Connections, heads and bodies.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use orch_gateway::Outcome;
use orch_gateway::ir::Class;
use orch_manifests::Dialect;

use super::server::{Play, Server, Step};
use super::speech::{self, Speech};
use super::{LITTLE, MUCH, Row, Then, Victim, every, http2};

/// The head of an answer.
pub(super) fn head(fields: &str) -> Step {
    Step::Send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into())
}

pub(super) fn send(bytes: impl Into<Bytes>) -> Step {
    Step::Send(bytes.into())
}

/// A head with the media type that belongs there, whose body ends with the connection.
pub(super) fn open(speech: &Speech, stream: bool) -> Step {
    head(&format!("content-type: {}\r\nconnection: close\r\n", speech.kind(stream)))
}

/// A head that says how long the body is.
fn sized(speech: &Speech, stream: bool, length: usize) -> Step {
    head(&format!("content-type: {}\r\ncontent-length: {length}\r\n", speech.kind(stream)))
}

fn chunked(speech: &Speech, stream: bool) -> Step {
    head(&format!("content-type: {}\r\ntransfer-encoding: chunked\r\n", speech.kind(stream)))
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Up to the first content; of a whole answer half.
pub(super) fn begun(speech: &Speech, stream: bool) -> Bytes {
    match stream {
        true => speech::join(&speech.frames[..speech.committed()]),
        false => Bytes::copy_from_slice(&speech.whole[..speech.whole.len() / 2]),
    }
}

/// Of streams that had begun another than of whole answers.
fn either(stream: bool, class: Class) -> Then {
    if stream { Then::Broken(class) } else { Then::Failed(class) }
}

const EVERY: Duration = Duration::from_millis(20);

#[tokio::test]
async fn slow_ones() {
    every(
        LITTLE,
        &[
            Row {
                name: "nothing at all",
                play: |_, _| Some(Play::new([Step::Hold])),
                then: |_, _| Then::Failed(Class::Timeout),
            },
            Row {
                name: "a head and then nothing",
                play: |speech, stream| Some(Play::new([open(speech, stream), Step::Hold])),
                then: |_, _| Then::Failed(Class::Timeout),
            },
            Row {
                name: "half of an answer and then nothing",
                play: |speech, stream| {
                    Some(Play::new([open(speech, stream), send(begun(speech, stream)), Step::Hold]))
                },
                then: |_, stream| either(stream, Class::Timeout),
            },
            Row {
                name: "a head byte by byte",
                play: |_, _| {
                    Some(Play::new([Step::Drip("HTTP/1.1 200 OK\r\nx: y".repeat(20).into(), EVERY)]))
                },
                then: |_, _| Then::Failed(Class::Timeout),
            },
            Row {
                // Bytes come all the time, and no event within the time for one.
                name: "a body byte by byte",
                play: |speech, stream| {
                    Some(Play::new([open(speech, stream), Step::Drip(speech.all(stream), EVERY)]))
                },
                then: |_, _| Then::Failed(Class::Timeout),
            },
            Row {
                name: "a body of announced length byte by byte",
                play: |speech, stream| {
                    let all = speech.all(stream);
                    Some(Play::new([sized(speech, stream, all.len()), Step::Drip(all, EVERY)]))
                },
                then: |_, _| Then::Failed(Class::Timeout),
            },
            Row {
                name: "informational answers without end",
                play: |_, _| {
                    Some(Play::new([Step::Repeat("HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".into(), EVERY)]))
                },
                then: |_, _| Then::Failed(Class::Timeout),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn short_ones() {
    every(
        MUCH,
        &[
            Row {
                name: "zero bytes",
                play: |_, _| Some(Play::new([])),
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "zero bytes, cut",
                play: |_, _| Some(Play::new([Step::Cut])),
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "an empty body",
                play: |speech, stream| Some(Play::new([sized(speech, stream, 0)])),
                then: |_, _| Then::Failed(Class::Truncated),
            },
            Row {
                name: "no content",
                play: |_, _| Some(Play::new([send("HTTP/1.1 204 No Content\r\n\r\n")])),
                then: |_, stream| Then::Failed(if stream { Class::Server } else { Class::Truncated }),
            },
            Row {
                name: "less than announced",
                play: |speech, stream| {
                    let all = speech.all(stream);
                    Some(Play::new([sized(speech, stream, all.len()), send(begun(speech, stream))]))
                },
                then: |_, stream| either(stream, Class::Truncated),
            },
            Row {
                name: "a byte less than announced",
                play: |speech, stream| {
                    let all = speech.all(stream);
                    let less = all.slice(..all.len() - 1);
                    Some(Play::new([sized(speech, stream, all.len()), send(less)]))
                },
                then: |_, stream| either(stream, Class::Truncated),
            },
            Row {
                name: "a chunk that does not end",
                play: |speech, stream| {
                    let piece = chunk(&begun(speech, stream));
                    Some(Play::new([chunked(speech, stream), send(piece), send("ffff\r\nx")]))
                },
                then: |_, stream| either(stream, Class::Truncated),
            },
            Row {
                name: "a body that ends with the connection, halfway",
                play: |speech, stream| Some(Play::new([open(speech, stream), send(begun(speech, stream))])),
                then: |_, stream| either(stream, Class::Truncated),
            },
            Row {
                // Without TLS's own end anybody on the way may have cut it.
                name: "a connection that is cut, halfway",
                play: |speech, stream| {
                    Some(Play::new([open(speech, stream), send(begun(speech, stream)), Step::Cut]))
                },
                then: |_, stream| either(stream, Class::Truncated),
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn broken_ones() {
    every(
        MUCH,
        &[
            Row {
                name: "no HTTP",
                play: |_, _| Some(Play::new([send("SSH-2.0-OpenSSH_9.9\r\n\r\n")])),
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "a head without end",
                play: |_, _| Some(Play::new([head(&"x: y\r\n".repeat(100_000))])),
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "two lengths",
                play: |speech, stream| {
                    let all = speech.all(stream);
                    let kind = speech.kind(stream);
                    let fields = format!(
                        "content-type: {kind}\r\ncontent-length: {}\r\ncontent-length: 5\r\n",
                        all.len()
                    );
                    Some(Play::new([head(&fields), send(all)]))
                },
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "a length that is none",
                play: |speech, stream| {
                    let kind = speech.kind(stream);
                    let fields =
                        format!("content-type: {kind}\r\ncontent-length: 99999999999999999999999\r\n");
                    Some(Play::new([head(&fields), send(speech.all(stream))]))
                },
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "another protocol",
                play: |_, _| {
                    Some(Play::new([
                        send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"),
                        Step::Hold,
                    ]))
                },
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "chunks with a size that is none",
                play: |speech, stream| {
                    let piece = chunk(&begun(speech, stream));
                    Some(Play::new([
                        chunked(speech, stream),
                        send(piece),
                        send("fffffffffffffffffffff\r\n"),
                        Step::Hold,
                    ]))
                },
                then: |_, stream| either(stream, Class::Truncated),
            },
            Row {
                name: "many informational answers",
                play: |speech, stream| {
                    let flood = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(500);
                    Some(Play::new([send(flood), open(speech, stream), send(speech.all(stream))]))
                },
                then: |_, _| Then::Right,
            },
            Row {
                name: "more than announced",
                play: |speech, stream| {
                    let all = speech.all(stream);
                    Some(Play::new([
                        sized(speech, stream, all.len()),
                        send(all),
                        send("HTTP/1.1 200 OK\r\n\r\nmore"),
                    ]))
                },
                then: |_, _| Then::Right,
            },
            Row {
                name: "an old version",
                play: |speech, stream| {
                    let head = format!("HTTP/1.0 200 OK\r\ncontent-type: {}\r\n\r\n", speech.kind(stream));
                    Some(Play::new([send(head), send(speech.all(stream))]))
                },
                then: |_, _| Then::Right,
            },
            Row {
                name: "trailers that nobody asked for",
                play: |speech, stream| {
                    let body = chunk(&speech.all(stream));
                    Some(Play::new([chunked(speech, stream), send(body), send("0\r\nx-checksum: 5\r\n\r\n")]))
                },
                then: |_, _| Then::Right,
            },
            Row {
                // The answer was all there, and a stream says so itself.
                name: "trailers that are garbage",
                play: |speech, stream| {
                    let body = chunk(&speech.all(stream));
                    Some(Play::new([chunked(speech, stream), send(body), send("0\r\n\0\x01garbage\r\n\r\n")]))
                },
                then: |spoken, stream| match (spoken, stream) {
                    (_, false) => Then::Failed(Class::Truncated),
                    // It has no terminator, so that its end is the body's.
                    (Dialect::GeminiGenerateContent, true) => Then::Broken(Class::Truncated),
                    (_, true) => Then::Right,
                },
            },
        ],
    )
    .await;
}

fn play(steps: Vec<Bytes>) -> Option<Play> {
    Some(Play { http2: true, steps: steps.into_iter().map(Step::Send).collect() })
}

#[tokio::test]
async fn http2_ones() {
    every(
        MUCH,
        &[
            Row {
                name: "an answer",
                play: |speech, stream| {
                    play(vec![http2::head(speech.kind(stream)), http2::data(&speech.all(stream), true)])
                },
                then: |_, _| Then::Right,
            },
            Row {
                name: "a reset before anything",
                play: |_, _| play(vec![http2::reset()]),
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "a farewell before anything",
                play: |_, _| play(vec![http2::goaway(1)]),
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "a reset halfway",
                play: |speech, stream| {
                    let half = http2::data(&begun(speech, stream), false);
                    let mut play = play(vec![http2::head(speech.kind(stream)), half])?;
                    // What came before a reset in the same moment is lost with it.
                    play.steps.extend([Step::Wait(EVERY), send(http2::reset())]);
                    Some(play)
                },
                then: |_, stream| either(stream, Class::Truncated),
            },
            Row {
                name: "a farewell halfway",
                play: |speech, stream| {
                    let half = http2::data(&begun(speech, stream), false);
                    play(vec![http2::head(speech.kind(stream)), half, http2::goaway(1)])
                },
                then: |_, stream| either(stream, Class::Truncated),
            },
            Row {
                name: "an end halfway",
                play: |speech, stream| {
                    let half = http2::data(&begun(speech, stream), true);
                    play(vec![http2::head(speech.kind(stream)), half])
                },
                then: |_, stream| either(stream, Class::Truncated),
            },
            Row {
                name: "a head without end",
                play: |speech, stream| {
                    let (head, more) = http2::endless_head(speech.kind(stream));
                    let mut play = play(vec![head])?;
                    play.steps.push(Step::Repeat(more, Duration::ZERO));
                    Some(play)
                },
                then: |_, _| Then::Failed(Class::Network),
            },
            Row {
                name: "trailers that are no trailers",
                play: |speech, stream| {
                    let half = http2::data(&begun(speech, stream), false);
                    play(vec![http2::head(speech.kind(stream)), half, http2::bad_trailers()])
                },
                then: |_, stream| either(stream, Class::Truncated),
            },
        ],
    )
    .await;
}

/// More than there is room for ends the connection, which the second attempt may still meet on its way out.
#[tokio::test]
async fn an_overflow_of_http2_is_no_answer() {
    for spoken in Dialect::ALL {
        let speech = Speech::new(spoken);
        let all = http2::data(&vec![b'x'; 12 << 20], false);
        let server = Server::start(play(vec![http2::head(speech.kind(false)), all]).unwrap()).await;
        let victim = Victim::new(spoken, &server, MUCH);
        let (status, _, receipt) = victim.hears(spoken, speech::model(spoken), false).await;
        let classes: Vec<_> = receipt.attempts.iter().filter_map(|attempt| attempt.class).collect();
        assert_eq!((receipt.outcome, classes[0]), (Outcome::AllFailed, Class::Truncated), "{spoken}");
        assert!(matches!(classes[1], Class::Truncated | Class::Network), "{spoken}: {classes:?}");
        assert!(!status.is_success() && status != 500, "{spoken}: {status}");
    }
}

/// A redirect of an API call would carry the key along.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        for spoken in Dialect::ALL {
            let speech = Speech::new(spoken);
            let elsewhere = Server::start(Play::new([open(&speech, false), send(speech.all(false))])).await;
            let location = format!(
                "HTTP/1.1 {status} Moved\r\nlocation: https://{}/\r\nrefresh: 0; url=https://{}/\r\ncontent-length: 0\r\n\r\n",
                elsewhere.address, elsewhere.address
            );
            let server = Server::start(Play::new([send(location)])).await;
            let victim = Victim::new(spoken, &server, MUCH);
            let heard = victim.hears(spoken, speech::model(spoken), false).await;
            let then = super::judged(&speech, spoken, false, heard).unwrap();
            assert_eq!(then, Then::Failed(Class::Server), "{status} {spoken}");
            assert_eq!(elsewhere.met.load(Ordering::SeqCst), 0, "{status} {spoken}: nobody goes there");
            assert_eq!(server.asked.lock().unwrap().len(), 2, "{status} {spoken}: once more, and no further");
        }
    }
}
