//! Answers of the fake upstreams: HTTP/1.1 in any shape that a test asks for, well-formed or not.
//!
//! A library would refuse to misbehave. Here an answer may stall, break off, or be no HTTP at all.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::gate::Gate;
use crate::wire::{Reader, Received};

/// One step of an answer's body.
#[derive(Clone)]
pub enum Piece {
    /// One chunk, flushed.
    Bytes(Vec<u8>),
    /// Nothing more until the gate opens.
    Wait(Gate),
    /// Opens the gate: what came before was taken, by the caller or by what buffers for it.
    Open(Gate),
    /// Nothing more. The gate opens when the caller has hung up.
    Left(Gate),
    /// The connection ends here, in the middle.
    Cut,
}

impl Piece {
    /// A chunk of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bytes(text.into().into_bytes())
    }
}

/// An answer.
#[derive(Clone)]
pub enum Reply {
    /// Head and body with a Content-Length.
    Full {
        /// The status code.
        status: u16,
        /// Headers beyond the framing.
        headers: Vec<(String, String)>,
        /// The whole body.
        body: Vec<u8>,
    },
    /// Head and chunks, each in its own time.
    Stream {
        /// The status code.
        status: u16,
        /// Headers beyond the framing.
        headers: Vec<(String, String)>,
        /// The body's chunks and pauses.
        pieces: Vec<Piece>,
    },
    /// Silence until the gate opens, then the answer. Ends early when the caller hangs up.
    Held(Gate, Box<Reply>),
    /// These bytes and nothing else, then the end of the connection.
    Raw(Vec<u8>),
}

impl Reply {
    /// JSON with a status.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Full {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
        }
    }

    /// Plain text with a status.
    pub fn text(status: u16, body: &str) -> Self {
        Self::Full {
            status,
            headers: vec![("content-type".into(), "text/plain; charset=utf-8".into())],
            body: body.as_bytes().to_vec(),
        }
    }

    /// An event stream of these pieces.
    pub fn sse(pieces: Vec<Piece>) -> Self {
        Self::Stream {
            status: 200,
            headers: vec![("content-type".into(), "text/event-stream".into())],
            pieces,
        }
    }

    /// A redirect.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::Full { status, headers: vec![("location".into(), location.into())], body: Vec::new() }
    }

    /// The connection closes without a byte.
    pub fn hang_up() -> Self {
        Self::Raw(Vec::new())
    }

    /// Not HTTP.
    pub fn garbage() -> Self {
        Self::Raw(b"\x16\x03\x01 220 smtp.example.org ESMTP ready\r\n\0\xff\xfe\r\n\r\n".to_vec())
    }

    /// Everything that was received, sent back as JSON: `{method, path, query, headers: [[name, value]…], body}`.
    pub fn echo(request: &Received) -> Self {
        Self::json(
            200,
            &serde_json::json!({
                "method": request.method,
                "path": request.path,
                "query": request.query,
                "headers": request.headers,
                "body": String::from_utf8_lossy(&request.body),
            }),
        )
    }

    /// This answer, held back until the gate opens.
    pub fn held(self, gate: &Gate) -> Self {
        Self::Held(gate.clone(), Box::new(self))
    }

    /// The same answer with one more header.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        match &mut self {
            Self::Full { headers, .. } | Self::Stream { headers, .. } => {
                headers.push((name.into(), value.into()));
            }
            Self::Held(_, inner) => {
                let taken = std::mem::replace(&mut **inner, Self::hang_up());
                **inner = taken.with_header(name, value);
            }
            Self::Raw(_) => panic!("raw bytes have no headers"),
        }
        self
    }
}

/// Writes an answer. False when the connection cannot carry another request.
pub async fn write<R, W>(reader: &mut Reader<R>, to: &mut W, reply: Reply) -> bool
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut reply = reply;
    while let Reply::Held(gate, inner) = reply {
        tokio::select! {
            () = gate.passed() => reply = *inner,
            () = reader.hung_up() => return false,
        }
    }
    match reply {
        Reply::Full { status, headers, body } => {
            let mut bytes = head(status, &headers, &format!("content-length: {}", body.len()));
            bytes.extend(body);
            send(to, &bytes).await
        }
        Reply::Stream { status, headers, pieces } => {
            send(to, &head(status, &headers, "transfer-encoding: chunked")).await
                && stream(reader, to, pieces).await
        }
        Reply::Raw(bytes) => {
            send(to, &bytes).await;
            false
        }
        Reply::Held(..) => unreachable!("unwrapped above"),
    }
}

async fn stream<R, W>(reader: &mut Reader<R>, to: &mut W, pieces: Vec<Piece>) -> bool
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => {
                // An empty chunk would be the terminator.
                assert!(!bytes.is_empty(), "a script sends an empty chunk");
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend(bytes);
                chunk.extend(b"\r\n");
                if !send(to, &chunk).await {
                    return false;
                }
            }
            Piece::Wait(gate) => tokio::select! {
                () = gate.passed() => {}
                () = reader.hung_up() => return false,
            },
            Piece::Open(gate) => gate.open(),
            Piece::Left(gate) => {
                reader.hung_up().await;
                gate.open();
                return false;
            }
            Piece::Cut => return false,
        }
    }
    send(to, b"0\r\n\r\n").await
}

async fn send<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> bool {
    to.write_all(bytes).await.is_ok() && to.flush().await.is_ok()
}

fn head(status: u16, headers: &[(String, String)], framing: &str) -> Vec<u8> {
    let reason =
        http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Unknown");
    let mut head = format!("HTTP/1.1 {status} {reason}\r\n{framing}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}
