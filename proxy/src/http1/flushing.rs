//! Whether all that was to be sent has been sent.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection's bytes, and whether any of those that were to be written wait for the peer to take them. Nothing else
/// tells: a body is over for its sender as soon as its last piece is in hyper's buffer.
pub(super) struct Flushing<S> {
    io: S,
    flushed: Arc<AtomicBool>,
}

impl<S> Flushing<S> {
    /// The connection, and where to look. hyper writes before it asks for a flush, and asks for one only when all that it
    /// had was written.
    pub(super) fn new(io: S) -> (Self, Arc<AtomicBool>) {
        let flushed = Arc::new(AtomicBool::new(true));
        (Self { io, flushed: Arc::clone(&flushed) }, flushed)
    }

    fn writes(&self) {
        self.flushed.store(false, Ordering::Release);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flushing<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushing<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.writes();
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.writes();
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        if polled.is_ready() {
            this.flushed.store(true, Ordering::Release);
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
