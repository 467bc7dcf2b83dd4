//! A provider on loopback that answers from a script and remembers what it was asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What a provider does with one request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// A whole answer.
    Whole { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// The same, of anything, under the media type of a stream.
    #[allow(dead_code, reason = "the tests of memory share this")]
    Bytes { headers: Vec<(&'static str, String)>, body: Bytes },
    /// A stream of these pieces, and what follows them.
    Stream { pieces: Vec<String>, then: Then },
    /// Nothing, for ever.
    Silence,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Then {
    End,
    Cut,
    Silence,
    /// The last piece again and again, as fast as it goes.
    Forever,
    /// The same, now and then.
    Pinging,
}

pub(crate) fn whole(status: u16, body: &Value) -> Reply {
    Reply::Whole { status, headers: Vec::new(), body: body.to_string() }
}

pub(crate) fn pieces(text: &str) -> Vec<String> {
    text.split_inclusive("\n\n").map(str::to_owned).collect()
}

pub(crate) fn stream_of(text: &str) -> Reply {
    Reply::Stream { pieces: pieces(text), then: Then::End }
}

/// A completion that says this.
pub(crate) fn says(text: &str) -> Reply {
    whole(
        200,
        &json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-4o-mini-2024-07-18",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27},
        }),
    )
}

/// A message that says this.
pub(crate) fn messages(text: &str) -> Reply {
    whole(
        200,
        &json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-haiku-20240307",
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 20, "output_tokens": 7},
        }),
    )
}

/// Generated content that says this.
pub(crate) fn generates(text: &str) -> Reply {
    whole(
        200,
        &json!({
            "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 27},
            "modelVersion": "gemini-2.5-flash", "responseId": "resp-1",
        }),
    )
}

/// A chat of Cohere's that says this.
pub(crate) fn chats(text: &str) -> Reply {
    whole(
        200,
        &json!({
            "id": "c-1", "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": [{"type": "text", "text": text}],
                "citations": [{"start": 0, "end": 1, "text": "h", "sources": []}]},
            "usage": {"billed_units": {"input_tokens": 20, "output_tokens": 7},
                "tokens": {"input_tokens": 500, "output_tokens": 9}},
        }),
    )
}

/// A chat of Ollama's that says this.
pub(crate) fn lines_up(text: &str) -> Reply {
    whole(
        200,
        &json!({
            "model": "llama3.2", "created_at": "2025-01-01T00:00:00Z", "done": true, "done_reason": "stop",
            "message": {"role": "assistant", "content": text}, "prompt_eval_count": 20, "eval_count": 7,
        }),
    )
}

/// So many spaces, each 258 of them as 13 bits: the longest match in the fixed code (RFC 1951, 3.2.6).
pub(crate) fn bomb(length: usize) -> Vec<u8> {
    let (mut out, mut held, mut bits) = (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], 0u32, 0);
    let mut put = |code: u32, width: u32, out: &mut Vec<u8>| {
        // Codes begin with their highest bit, bytes with their lowest.
        for at in (0..width).rev() {
            held |= (code >> at & 1) << bits;
            bits += 1;
            if bits == 8 {
                out.push(u8::try_from(held).unwrap());
                (held, bits) = (0, 0);
            }
        }
    };
    put(0b110, 3, &mut out);
    put(0x30 + u32::from(b' '), 8, &mut out);
    // Length 258 and distance 1.
    (0..length / 258).for_each(|_| put(0b11000101 << 5, 13, &mut out));
    out
}

pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    asked: Vec<Asked>,
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    pub(crate) async fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    // A cut is an error here, on purpose.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Upstream { address, state, _tasks: tasks }
    }

    /// Adds to the script. Requests beyond it get a 500 that says so.
    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().script.extend(replies);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

type Out = BoxBody<Bytes, std::io::Error>;

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Out>, Infallible> {
    let (parts, body) = request.into_parts();
    let kind = match parts.uri.path() {
        "/api/chat" => "application/x-ndjson",
        _ => "text/event-stream",
    };
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let reply = {
        let mut state = state.lock().unwrap();
        state.asked.push(Asked {
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers,
            // Large ones are sent where memory is measured.
            body: match body.len() > 256 << 10 {
                true => Value::Null,
                false => serde_json::from_slice(&body).unwrap_or(Value::Null),
            },
        });
        state.script.pop_front()
    };
    let reply = reply.unwrap_or_else(|| whole(500, &json!({"error": {"message": "the script is over"}})));
    Ok(match reply {
        Reply::Whole { status, headers, body } => {
            let mut response = Response::builder().status(status).header("content-type", "application/json");
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::new(Bytes::from(body)).map_err(|e| match e {}).boxed()).unwrap()
        }
        Reply::Bytes { headers, body } => {
            let mut response = Response::builder().header("content-type", kind);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::new(body).map_err(|e| match e {}).boxed()).unwrap()
        }
        Reply::Silence => std::future::pending().await,
        Reply::Stream { pieces, then } => {
            let body = StreamBody::new(stream::unfold((VecDeque::from(pieces), then), next_piece));
            Response::builder().header("content-type", kind).body(BodyExt::boxed(body)).unwrap()
        }
    })
}

type Rest = (VecDeque<String>, Then);

async fn next_piece((mut left, then): Rest) -> Option<(Result<Frame<Bytes>, std::io::Error>, Rest)> {
    let frame = |text: String| Ok(Frame::data(Bytes::from(text)));
    match (left.pop_front(), then) {
        (Some(piece), Then::Forever) if left.is_empty() => {
            left.push_back(piece.clone());
            // Lets the reader keep up, so that the test sees the gateway stop reading and not a full buffer.
            tokio::task::yield_now().await;
            Some((frame(piece), (left, then)))
        }
        (Some(piece), Then::Pinging) if left.is_empty() => {
            left.push_back(piece.clone());
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((frame(piece), (left, then)))
        }
        (Some(piece), _) => Some((frame(piece), (left, then))),
        (None, Then::End | Then::Forever | Then::Pinging) => None,
        (None, Then::Cut) => {
            // hyper writes out what it has when it is polled again.
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Err(std::io::Error::other("cut")), (left, then)))
        }
        (None, Then::Silence) => std::future::pending().await,
    }
}
