//! HTTP/2 by hand (RFC 9113): what a library would not send.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The stream of the first request.
const FIRST: u32 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Reads up to the end of the first request. Gives back its frames.
pub(super) async fn request<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> std::io::Result<Vec<u8>> {
    stream.write_all(&frame(SETTINGS, 0, 0, b"")).await?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    let mut all = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await?;
        let (kind, flags) = (head[3], head[4]);
        if kind == SETTINGS && flags & ACK == 0 {
            stream.write_all(&frame(SETTINGS, ACK, 0, b"")).await?;
            stream.flush().await?;
        }
        all.extend_from_slice(&payload);
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Ok(all);
        }
    }
}

/// The head of an answer with status 200, in HPACK's static table and literals.
pub(super) fn head(content_type: &str) -> Bytes {
    frame(HEADERS, END_HEADERS, FIRST, &fields(content_type)).into()
}

fn fields(content_type: &str) -> Vec<u8> {
    [&[0x88, 0x5f, u8::try_from(content_type.len()).unwrap()], content_type.as_bytes()].concat()
}

/// A piece of the body, in frames of the size that everybody takes.
pub(super) fn data(bytes: &[u8], ends: bool) -> Bytes {
    let mut chunks = bytes.chunks(1 << 14).peekable();
    let mut out = Vec::new();
    while let Some(chunk) = chunks.next() {
        let flags = if ends && chunks.peek().is_none() { END_STREAM } else { 0 };
        out.extend(frame(DATA, flags, FIRST, chunk));
    }
    out.into()
}

/// The stream is given up, as an internal error.
pub(super) fn reset() -> Bytes {
    frame(RST_STREAM, 0, FIRST, &2u32.to_be_bytes()).into()
}

/// The connection is given up, as an internal error; the streams up to `last` were looked at.
pub(super) fn goaway(last: u32) -> Bytes {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), 2u32.to_be_bytes()].concat()).into()
}

/// A head that goes on without end: it never says so, and each piece holds a field.
pub(super) fn endless_head(content_type: &str) -> (Bytes, Bytes) {
    let piece = [&b"\x00\x01x\x7f\x81\x01"[..], &[b'y'; 256]].concat();
    (frame(HEADERS, 0, FIRST, &fields(content_type)).into(), frame(CONTINUATION, 0, FIRST, &piece).into())
}

/// Trailers that hold what only a head may.
pub(super) fn bad_trailers() -> Bytes {
    frame(HEADERS, END_HEADERS | END_STREAM, FIRST, &[0x88]).into()
}
