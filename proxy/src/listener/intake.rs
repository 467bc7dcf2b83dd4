//! A client's connection as the HTTP parser gets to see it: heads are checked before they are let through, and nothing
//! is let through that follows a message whose end is not clear.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::chunks::Chunks;
use super::head::{self, Framing, Scan};
use crate::{Caps, Reason};

/// What the parser reads in place of a head that was refused: it asks for nothing, and ends the connection.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
const READ: usize = 8 << 10;

/// What was thought of each head that the parser got, in the order in which it gets them.
#[derive(Clone, Default)]
pub(crate) struct Verdicts(Arc<Mutex<VecDeque<Result<(), Reason>>>>);

impl Verdicts {
    /// The verdict on the next head.
    pub(crate) fn next(&self) -> Result<(), Reason> {
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        next.unwrap_or_else(|| Err(Reason::new("malformed_request", "the request is malformed")))
    }

    fn push(&self, verdict: Result<(), Reason>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(verdict);
    }
}

/// A client's connection. See the module.
pub(crate) struct Intake {
    stream: TcpStream,
    /// What came and was not let through yet.
    buffer: BytesMut,
    state: State,
    verdicts: Verdicts,
    caps: Caps,
    /// How long the client may take no byte of an answer.
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

enum State {
    /// A head that is not whole yet.
    Head(Scan),
    /// So many bytes of the buffer may pass, and then this.
    Pass {
        left: usize,
        then: After,
    },
    /// So many bytes of a body.
    Length {
        left: u64,
    },
    Chunked(Chunks),
    /// Nothing more is for the parser.
    Shut,
}

#[derive(Clone, Copy)]
enum After {
    Body(Framing),
    Shut,
}

impl Intake {
    pub(crate) fn new(stream: TcpStream, caps: Caps, patience: Duration) -> (Self, Verdicts) {
        let verdicts = Verdicts::default();
        let intake = Self {
            stream,
            buffer: BytesMut::new(),
            state: State::Head(Scan::default()),
            verdicts: verdicts.clone(),
            caps,
            patience,
            stalled: None,
        };
        (intake, verdicts)
    }

    /// The connection, and what came on it that the parser did not get.
    pub(crate) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.buffer)
    }

    /// Reads more into the buffer; `false` at the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [0; READ];
        let mut space = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        self.buffer.extend_from_slice(space.filled());
        Poll::Ready(Ok(!space.filled().is_empty()))
    }

    /// Looks whether the head is whole, and judges it.
    fn judge(&mut self, mut scan: Scan) {
        let judged = match scan.look(&self.buffer) {
            Ok(Some(length)) => {
                head::check(&self.buffer[..length], &self.caps).map(|framing| Some((length, framing)))
            }
            Ok(None) if self.buffer.len() > head::longest(&self.caps) => Err(head::too_large(&self.caps)),
            Ok(None) => Ok(None),
            Err(reason) => Err(reason),
        };
        match judged {
            Ok(None) => self.state = State::Head(scan),
            Ok(Some((left, framing))) => {
                self.verdicts.push(Ok(()));
                self.state = State::Pass { left, then: After::Body(framing) };
            }
            Err(reason) => {
                self.verdicts.push(Err(reason));
                self.buffer = BytesMut::from(STAND_IN);
                self.state = State::Pass { left: STAND_IN.len(), then: After::Shut };
            }
        }
    }

    fn after(&mut self, then: After) {
        self.state = match then {
            After::Shut | After::Body(Framing::Connect) => State::Shut,
            After::Body(Framing::Chunked) => State::Chunked(Chunks::new()),
            After::Body(Framing::Length(left)) => State::Length { left },
        };
    }
}

impl AsyncRead for Intake {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match &mut this.state {
                State::Shut => return Poll::Pending,
                State::Head(scan) => {
                    let scan = std::mem::take(scan);
                    if !this.buffer.is_empty() {
                        this.judge(scan);
                    }
                    if matches!(this.state, State::Head(_)) && !ready!(this.fill(cx))? {
                        // Half a head at the end is no request.
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Pass { left, then } => {
                    let here = out.remaining().min(*left);
                    out.put_slice(&this.buffer[..here]);
                    this.buffer.advance(here);
                    *left -= here;
                    if *left == 0 {
                        let then = *then;
                        this.release();
                        this.after(then);
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Length { left: 0 } => this.state = State::Head(Scan::default()),
                State::Length { left } => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(out.remaining());
                    let taken = if this.buffer.is_empty() {
                        let mut part = ReadBuf::new(out.initialize_unfilled_to(most));
                        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
                        let taken = part.filled().len();
                        out.advance(taken);
                        taken
                    } else {
                        let taken = most.min(this.buffer.len());
                        out.put_slice(&this.buffer[..taken]);
                        this.buffer.advance(taken);
                        taken
                    };
                    *left -= taken as u64;
                    if this.buffer.is_empty() {
                        this.release();
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Chunked(chunks) if chunks.over() => this.state = State::Head(Scan::default()),
                State::Chunked(_) if this.buffer.is_empty() => {
                    if !ready!(this.fill(cx))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Chunked(chunks) => {
                    let here = out.remaining().min(this.buffer.len());
                    let Ok(taken) = chunks.follow(&this.buffer[..here]) else {
                        this.state = State::Shut;
                        let broken = io::Error::new(io::ErrorKind::InvalidData, "the chunks are malformed");
                        return Poll::Ready(Err(broken));
                    };
                    out.put_slice(&this.buffer[..taken]);
                    this.buffer.advance(taken);
                    if this.buffer.is_empty() {
                        this.release();
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl Intake {
    /// An idle connection keeps no memory.
    fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Ends a connection whose client takes nothing of what is written for it.
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        if stalled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Intake {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
