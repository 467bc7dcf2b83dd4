//! Upstreams that speak HTTP/2: one that hyper serves, and one that says what a test wants, frame by frame.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, request};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use orch_proxy::{Body, Proxy, ProxyConfig};
use rustls::ServerConfig;

use crate::support::*;

/// The same server, choosing HTTP/2 where it is offered.
pub(crate) fn choosing_http2(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What arrived, and on which connection.
pub(crate) type Log = Arc<Mutex<Vec<(usize, request::Parts)>>>;

/// A server for [`HOST`] and a proxy that leads there. The handler gets the connection's number, from 0.
pub(crate) async fn serving<F, T>(
    streams: u32,
    handler: F,
    change: impl FnOnce(&mut ProxyConfig),
) -> (Upstream, Arc<Proxy>, Log)
where
    F: Fn(usize, Request<Incoming>) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = Response<Body>> + Send + 'static,
{
    let log = Log::default();
    let seen = Arc::clone(&log);
    let script = move |connection, wire: Wire| {
        let (handler, seen) = (handler.clone(), Arc::clone(&seen));
        async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (parts, body) = request.into_parts();
                seen.lock().unwrap().push((connection, parts.clone()));
                let answer = handler(connection, Request::from_parts(parts, body));
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            // Ends with the client's connection.
            let _ = Builder::new(TokioExecutor::new())
                .max_concurrent_streams(streams)
                .serve_connection(TokioIo::new(wire.into_io()), service)
                .await;
        }
    };
    let (upstream, proxy) = by_frames_with(script, change).await;
    (upstream, proxy, log)
}

/// The same with a script over the bare connection.
pub(crate) async fn by_frames_with<F, T>(
    script: F,
    change: impl FnOnce(&mut ProxyConfig),
) -> (Upstream, Arc<Proxy>)
where
    F: Fn(usize, Wire) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let ca = Ca::new();
    let upstream = Upstream::scripted(Some(choosing_http2(&ca.server(&[HOST]))), script).await;
    let proxy = proxy_with(&ca, &upstream, change);
    (upstream, proxy)
}

/// A script over frames: the preface is over when it begins.
pub(crate) async fn by_frames<F, T>(
    script: F,
    change: impl FnOnce(&mut ProxyConfig),
) -> (Upstream, Arc<Proxy>)
where
    F: Fn(usize, Frames) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let script = move |connection, mut wire: Wire| {
        let script = script.clone();
        async move {
            let preface = wire.take(24).await;
            assert_eq!(preface.as_deref(), Some(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]));
            let mut frames = Frames(wire);
            frames.send(SETTINGS, 0, 0, b"").await;
            script(connection, frames).await;
        }
    };
    by_frames_with(script, change).await
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;

/// Flags of HEADERS and DATA.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;

/// A frame as it was on the wire (RFC 9113, section 4.1).
#[derive(Debug)]
pub(crate) struct Raw2 {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection, frame by frame.
pub(crate) struct Frames(Wire);

impl Frames {
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.send(frame).await;
    }

    /// So many frames of DATA without any, at once.
    pub(crate) async fn nothings(&mut self, stream: u32, count: usize) {
        let mut frame = vec![0, 0, 0, DATA, 0];
        frame.extend(stream.to_be_bytes());
        self.0.send(frame.repeat(count)).await;
    }

    async fn next(&mut self) -> Option<Raw2> {
        let head = self.0.take(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.0.take(length as usize).await?;
        Some(Raw2 { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind; others are passed over, SETTINGS acknowledged.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Raw2> {
        loop {
            let frame = self.next().await?;
            if frame.kind == SETTINGS && frame.flags == 0 {
                self.send(SETTINGS, 1, 0, b"").await;
            }
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// The stream of the next request, whose body is passed over.
    pub(crate) async fn request(&mut self) -> Option<u32> {
        let head = self.next_of(HEADERS).await?;
        let mut end = head.flags & END_STREAM != 0;
        while !end {
            end = self.next_of(DATA).await?.flags & END_STREAM != 0;
        }
        Some(head.stream)
    }

    /// A head with status 200 and these fields.
    pub(crate) async fn head(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        // Index 8 of the static table is `:status: 200` (RFC 7541, appendix A).
        let mut block = vec![0x88];
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS | flags, stream, &block).await;
    }

    /// 200, with this body.
    pub(crate) async fn answer(&mut self, stream: u32, body: &str) {
        self.head(stream, 0, &[]).await;
        self.send(DATA, END_STREAM, stream, body.as_bytes()).await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, code: u32) {
        self.send(RESET, 0, stream, &code.to_be_bytes()).await;
    }

    pub(crate) async fn go_away(&mut self, last: u32, code: u32, debug: &str) {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend(code.to_be_bytes());
        payload.extend(debug.as_bytes());
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    /// Waits until the other side closes.
    pub(crate) async fn closed(&mut self) {
        while self.next_of(u8::MAX).await.is_some() {}
    }

    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}

/// A response of these bytes.
pub(crate) fn answer(body: impl Into<Bytes>) -> Response<Body> {
    Response::new(orch_proxy::full(body))
}
