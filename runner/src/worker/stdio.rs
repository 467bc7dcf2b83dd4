//! A guest's standard streams, as streams on the socket.
//!
//! Each is opened when the guest first uses it. Output is bounded in two ways: by the run's limit, and by how much
//! the broker has taken, beyond which the guest waits.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi::{WasiCtxBuilder, async_trait};
use wasmtime_wasi_http::Error;

use super::meter::memory::Charge;
use super::meter::{LimitHit, Meter};
use super::wire::{Wire, WireBody, WireError, empty, request_to};
use crate::protocol::{self, LimitName, RunSpec, Stdio};

/// How much output may be on its way before the guest waits, in bytes.
const QUEUE: usize = 64 << 10;

/// How the streams of one run are opened.
#[derive(Clone)]
pub(super) struct Streams {
    wire: Arc<dyn Wire>,
    run: orch_manifests::RunId,
    token: HeaderValue,
    meter: Arc<Meter>,
}

impl Streams {
    pub(super) fn new(wire: Arc<dyn Wire>, spec: &RunSpec, meter: &Arc<Meter>) -> Result<Self, &'static str> {
        let token =
            HeaderValue::from_str(spec.token.reveal()).map_err(|_| "the token is not a header value")?;
        Ok(Streams { wire, run: spec.run.clone(), token, meter: Arc::clone(meter) })
    }

    fn request(&self, stdio: Stdio, method: Method, body: WireBody) -> Request<WireBody> {
        let path = stdio.path(&self.run).parse().expect("run ids need no escaping");
        let mut request = request_to(protocol::IO, method, path).map(|()| body);
        request.headers_mut().insert(protocol::TOKEN, self.token.clone());
        request
    }
}

/// Standard input.
pub(super) enum Input {
    Inline(MemoryInputPipe),
    Stream(Arc<Mutex<Incoming>>),
}

impl Input {
    pub(super) fn new(spec: &RunSpec, streams: &Streams) -> Self {
        match &spec.input {
            protocol::Input::Inline(text) => Input::Inline(MemoryInputPipe::new(text.clone())),
            protocol::Input::Stream => {
                let state = IncomingState::Unopened(streams.clone());
                Input::Stream(Arc::new(Mutex::new(Incoming { state, buffer: Bytes::new() })))
            }
        }
    }

    pub(super) fn connect(self, wasi: &mut WasiCtxBuilder) {
        match self {
            Input::Inline(pipe) => wasi.stdin(pipe),
            Input::Stream(incoming) => wasi.stdin(StdinPipe(incoming)),
        };
    }
}

/// What is known of a streamed input.
pub(super) struct Incoming {
    state: IncomingState,
    buffer: Bytes,
}

enum IncomingState {
    Unopened(Streams),
    Opening(BoxFuture<'static, Result<Response<WireBody>, WireError>>),
    Open(WireBody),
    Ended,
    Broken,
}

impl Incoming {
    /// Ready when there is something to read, be it the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.buffer.is_empty() {
            self.state = match &mut self.state {
                IncomingState::Unopened(streams) => {
                    let request = streams.request(Stdio::Stdin, Method::GET, empty());
                    IncomingState::Opening(streams.wire.send(request))
                }
                IncomingState::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(response) if response.status().is_success() => {
                        IncomingState::Open(response.into_body())
                    }
                    Ok(_) | Err(_) => IncomingState::Broken,
                },
                IncomingState::Open(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        self.buffer = frame.into_data().unwrap_or_default();
                        continue;
                    }
                    Some(Err(_)) => IncomingState::Broken,
                    None => IncomingState::Ended,
                },
                IncomingState::Ended | IncomingState::Broken => break,
            };
        }
        Poll::Ready(())
    }
}

struct StdinPipe(Arc<Mutex<Incoming>>);

impl StdinPipe {
    fn lock(&self) -> MutexGuard<'_, Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Pollable for StdinPipe {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.lock().poll_fill(cx)).await;
    }
}

impl InputStream for StdinPipe {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut incoming = self.lock();
        if incoming.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Ok(Bytes::new());
        }
        if !incoming.buffer.is_empty() {
            let size = size.min(incoming.buffer.len());
            return Ok(incoming.buffer.split_to(size));
        }
        match incoming.state {
            IncomingState::Broken => {
                Err(StreamError::LastOperationFailed(wasmtime::format_err!("the input was broken off")))
            }
            _ => Err(StreamError::Closed),
        }
    }
}

impl IsTerminal for StdinPipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for StdinPipe {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(OnlyPreview2)
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(StdinPipe(Arc::clone(&self.0)))
    }
}

/// Standard output or standard error.
#[derive(Clone)]
pub(super) struct Output(Arc<Outgoing>);

struct Outgoing {
    stdio: Stdio,
    streams: Streams,
    name: LimitName,
    limit: u64,
    written: AtomicU64,
    /// Bytes that were written and not yet taken by the connection.
    queued: Arc<Queued>,
    state: Mutex<OutgoingState>,
}

#[derive(Default)]
struct Queued {
    bytes: AtomicUsize,
    taken: Notify,
}

enum OutgoingState {
    Unopened,
    Open { sender: mpsc::UnboundedSender<(Bytes, Charge)>, pump: AbortOnDropJoinHandle<bool> },
    Finished,
}

impl Output {
    pub(super) fn stdout(spec: &RunSpec, streams: &Streams) -> Self {
        Output::new(Stdio::Stdout, LimitName::Output, spec.limits.output, streams)
    }

    pub(super) fn stderr(spec: &RunSpec, streams: &Streams) -> Self {
        Output::new(Stdio::Stderr, LimitName::Log, spec.limits.log, streams)
    }

    fn new(stdio: Stdio, name: LimitName, limit: u64, streams: &Streams) -> Self {
        Output(Arc::new(Outgoing {
            stdio,
            streams: streams.clone(),
            name,
            limit,
            written: AtomicU64::new(0),
            queued: Arc::default(),
            state: Mutex::new(OutgoingState::Unopened),
        }))
    }

    /// Bytes that the guest wrote, within the limit.
    pub(super) fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Ends the stream, and returns when the broker has taken everything. False if it did not.
    pub(super) async fn finish(&self) -> bool {
        let state = std::mem::replace(&mut *self.0.lock(), OutgoingState::Finished);
        match state {
            OutgoingState::Open { sender, pump } => {
                drop(sender);
                pump.await
            }
            OutgoingState::Unopened | OutgoingState::Finished => true,
        }
    }
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, OutgoingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, bytes: Bytes) -> StreamResult<()> {
        let mut state = self.lock();
        if let OutgoingState::Unopened = *state {
            *state = self.open();
        }
        let OutgoingState::Open { sender, .. } = &*state else { return Err(StreamError::Closed) };
        let charge =
            self.streams.meter.charge(bytes.len() as u64).map_err(|hit| StreamError::Trap(hit.into()))?;
        self.queued.bytes.fetch_add(bytes.len(), Ordering::AcqRel);
        sender.send((bytes, charge)).map_err(|_| StreamError::Closed)
    }

    fn open(&self) -> OutgoingState {
        let (sender, receiver) = mpsc::unbounded_channel();
        let body = OutgoingBody { receiver, queued: Arc::clone(&self.queued) }.boxed_unsync();
        let sent = self.streams.wire.send(self.streams.request(self.stdio, Method::POST, body));
        let queued = Arc::clone(&self.queued);
        let pump = spawn(async move {
            let taken = sent.await.is_ok_and(|response| response.status().is_success());
            // Whoever waits for room learns that there will never be any.
            queued.taken.notify_waiters();
            taken
        });
        OutgoingState::Open { sender, pump }
    }

    fn closed(&self) -> bool {
        match &*self.lock() {
            OutgoingState::Unopened => false,
            OutgoingState::Open { sender, .. } => sender.is_closed(),
            OutgoingState::Finished => true,
        }
    }
}

/// One of the guest's handles to an output.
struct OutputPipe(Arc<Outgoing>);

impl OutputStream for OutputPipe {
    fn write(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        // A guest can collect a permit from each of its handles; `QUEUE` bounds each of them, and the output's limit
        // all of them together.
        if bytes.len() > QUEUE {
            return Err(StreamError::trap("a write was longer than permitted"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let output = &self.0;
        let before = output.written.load(Ordering::Relaxed);
        let asked = before.saturating_add(bytes.len() as u64);
        // Guests are single-threaded: nothing else changes the count meanwhile.
        output.written.store(asked.min(output.limit), Ordering::Relaxed);
        if asked <= output.limit {
            return output.send(bytes);
        }
        bytes.truncate(usize::try_from(output.limit - before).unwrap_or(usize::MAX));
        if !bytes.is_empty() {
            output.send(bytes)?;
        }
        let hit = LimitHit { name: output.name, used: asked, limit: output.limit };
        Err(StreamError::Trap(hit.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        if self.0.closed() { Err(StreamError::Closed) } else { Ok(()) }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.0.closed() {
            return Err(StreamError::Closed);
        }
        Ok(QUEUE.saturating_sub(self.0.queued.bytes.load(Ordering::Acquire)))
    }
}

#[async_trait]
impl Pollable for OutputPipe {
    async fn ready(&mut self) {
        loop {
            // Created before the check, so that room made after it is not missed.
            let taken = self.0.queued.taken.notified();
            if self.0.queued.bytes.load(Ordering::Acquire) < QUEUE || self.0.closed() {
                return;
            }
            taken.await;
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(OnlyPreview2)
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(OutputPipe(Arc::clone(&self.0)))
    }
}

/// What was written, as a request's body.
struct OutgoingBody {
    receiver: mpsc::UnboundedReceiver<(Bytes, Charge)>,
    queued: Arc<Queued>,
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some((bytes, charge)) = ready!(self.receiver.poll_recv(cx)) else { return Poll::Ready(None) };
        self.queued.bytes.fetch_sub(bytes.len(), Ordering::AcqRel);
        self.queued.taken.notify_waiters();
        drop(charge);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl Drop for OutgoingBody {
    fn drop(&mut self) {
        self.receiver.close();
        self.queued.taken.notify_waiters();
    }
}

/// The other shape of a stream, which only later previews of WASI ask for.
struct OnlyPreview2;

fn unsupported<T>() -> Poll<std::io::Result<T>> {
    Poll::Ready(Err(std::io::ErrorKind::Unsupported.into()))
}

impl AsyncRead for OnlyPreview2 {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        unsupported()
    }
}

impl AsyncWrite for OnlyPreview2 {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        unsupported()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        unsupported()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        unsupported()
    }
}
