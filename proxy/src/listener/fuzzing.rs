//! What the listener lets near a parser, compared with what that parser reads. Called by [`crate::fuzzing`].

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::chunks::Chunks;
use super::client_hello::HelloReader;
use super::head::{self, Framing, Scan};
use super::retry::{SecondReader, ServerReader};
use crate::Caps;

/// A message of a client: where the listener sees its end, the parser behind it sees exactly one request, with exactly
/// that body or none.
pub(crate) fn framing(data: &[u8]) {
    let whole = Scan::default().look(data);
    // However it is cut, the head ends where it ends.
    let mut scan = Scan::default();
    let mut pieces = (1..=data.len()).map(|end| scan.look(&data[..end]));
    let cut = pieces.find(|seen| !matches!(seen, Ok(None))).unwrap_or(Ok(None));
    match (&whole, &cut) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (one, other) => assert_eq!(one.is_err(), other.is_err()),
    }
    let Ok(Some(end)) = whole else { return };
    let (first, rest) = data.split_at(end);
    let Ok(framing) = head::check(first, &Caps::default()) else { return };
    let body = match framing {
        Framing::Connect => return,
        Framing::Length(length) => match usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
            Some(body) => (body.len(), body.to_vec()),
            None => return,
        },
        Framing::Chunked => {
            let mut chunks = Chunks::new();
            match chunks.follow(rest) {
                Ok(taken) if chunks.over() => (taken, decoded(&rest[..taken])),
                _ => return,
            }
        }
    };
    let (length, body) = body;
    let seen = parsed(&data[..end + length]);
    let [one] = &seen[..] else { panic!("the parser sees {} requests", seen.len()) };
    // Trailers that the parser does not take break the body off: then there is no request, and no other either.
    if let Some(seen) = &one.body {
        assert_eq!(seen, &body, "the parser sees another body");
    }
    let line = String::from_utf8_lossy(first);
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some(one.method.as_str()));
    let target = words.next().and_then(|target| Uri::try_from(target).ok()).map(|target| target.to_string());
    assert_eq!(target.as_ref(), Some(&one.target));
    assert!(one.hosts <= 1);
}

/// The content of chunks that are known to be well-formed, read as simply as can be.
fn decoded(mut chunks: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let line = chunks.iter().position(|byte| *byte == b'\r').expect("a size line has an end");
        let text = std::str::from_utf8(&chunks[..line]).expect("a size line is ASCII");
        let size = usize::from_str_radix(text.split(';').next().unwrap_or_default(), 16).expect("a size");
        if size == 0 {
            return out;
        }
        out.extend_from_slice(&chunks[line + 2..line + 2 + size]);
        chunks = &chunks[line + 2 + size + 2..];
    }
}

struct Parsed {
    method: String,
    target: String,
    hosts: usize,
    /// None when it broke off.
    body: Option<Vec<u8>>,
}

/// The requests that hyper reads in these bytes and their end.
fn parsed(bytes: &[u8]) -> Vec<Parsed> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(bytes.len() + (64 << 10));
        client.write_all(bytes).await.expect("there is room");
        client.shutdown().await.expect("memory has an end");
        let seen = Arc::<Mutex<Vec<Parsed>>>::default();
        let service = service_fn(|request: Request<Incoming>| {
            let seen = Arc::clone(&seen);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
                let parsed = Parsed {
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    hosts: parts.headers.get_all(header::HOST).iter().count(),
                    body,
                };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(parsed);
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.half_close(true).max_headers(Caps::default().header_count);
        // What it thinks of the connection's end is not the question.
        let _ = builder.serve_connection(TokioIo::new(server), service).await;
        std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
    })
}

pub(crate) fn framing_seeds() -> Vec<Vec<u8>> {
    [
        "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "POST http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
        "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "GET http://a/ HTTP/1.0\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX:\t\u{e9}\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// What follows a ClientHello, from either side: what is made of it does not depend on how the bytes were cut, and nothing
/// of it is lost, or passes on that is part of a second hello.
fn second_hello(data: &[u8]) {
    let server = |step: usize| {
        let mut reader = ServerReader::default();
        data.chunks(step).find_map(|piece| reader.feed(piece))
    };
    assert_eq!(server(1), server(data.len().max(1)));
    let client = |step: usize| {
        let (mut reader, mut passing) = (SecondReader::default(), Vec::new());
        let read =
            data.chunks(step).map(|piece| reader.feed(piece, &mut passing)).find(|read| *read != Ok(None));
        (read.unwrap_or(Ok(None)), passing, reader.into_seen())
    };
    let (whole, passing, (hello, behind)) = client(data.len().max(1));
    let (cut, also_passing, _) = client(1);
    match (&whole, &cut) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (one, other) => assert_eq!(one.is_err(), other.is_err()),
    }
    assert_eq!(passing, also_passing);
    if whole.is_ok() {
        // The first bytes of a record that goes by are held until its length is known.
        let seen = [passing, hello, behind].concat();
        assert!(data.starts_with(&seen) && data.len() - seen.len() < 5);
    }
}

/// The beginning of a conversation: the name that is read does not depend on how the bytes were cut, and is the one that
/// a TLS server reads.
pub(crate) fn client_hello(data: &[u8]) {
    second_hello(data);
    let whole = HelloReader::default().feed(data);
    let mut reader = HelloReader::default();
    let mut pieces = data.iter().map(|byte| reader.feed(&[*byte]));
    let cut = pieces.find(|read| !matches!(read, Ok(None))).unwrap_or(Ok(None));
    match (&whole, &cut) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (one, other) => assert_eq!(one.is_err(), other.is_err()),
    }
    let Ok(Some(name)) = whole else { return };
    assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = data;
    while !rest.is_empty() && acceptor.read_tls(&mut rest).is_ok_and(|count| count > 0) {
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                // Some names are none to a server, which then serves whoever it is by default.
                if let Some(other) = hello.server_name() {
                    assert!(name.eq_ignore_ascii_case(other), "{name} is {other} to a server");
                }
                return;
            }
            Err(_) => return,
        }
    }
}

pub(crate) fn hello_seeds() -> Vec<Vec<u8>> {
    ["api.example.com", "a.b", "xn--bcher-kva.example.com"].map(hello).into()
}

/// What rustls writes to this name.
fn hello(name: &str) -> Vec<u8> {
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut out = Vec::new();
    client.write_tls(&mut out).expect("memory takes it");
    out
}
