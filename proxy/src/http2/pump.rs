//! A request's body on its way into a stream, no faster than the peer takes it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;

use super::Reset;
use super::replay::Kept;
use crate::BodyError;
use crate::upload::{Progress, Upload};

/// What is asked of the peer's windows at once. Asking for more than is about to be sent would take it from others.
const STEP: usize = 32 << 10;

/// Moves a request's body into its stream. Dropping it leaves the stream as it is.
pub(crate) struct Pump {
    upload: Upload,
    progress: Arc<Progress>,
    stream: Reset,
    /// Taken from the body and not sent yet; whether it is the last.
    waiting: Option<(Bytes, bool)>,
    kept: Kept,
    done: bool,
}

impl Pump {
    pub(super) fn new(upload: Upload, progress: Arc<Progress>, stream: Reset, done: bool) -> Self {
        Self { upload, progress, stream, waiting: None, kept: Kept::default(), done }
    }

    /// Whether there is nothing left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The answer has begun: the peer has seen the request.
    pub(super) fn commit(&mut self) {
        self.kept.forget();
    }

    /// The body as it was, for sending it again.
    pub(super) fn rewind(self) -> Option<Upload> {
        self.upload.rewound(|rest| self.kept.rewind(rest))
    }

    /// Resolves when everything was handed over, or the stream takes no more. What ends a stream early is the
    /// answer's to report; only the body's own failure is reported here.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(self.poll_send(cx));
        self.done = true;
        Poll::Ready(match result {
            Ok(()) | Err(Stop::Stream) => Ok(()),
            Err(Stop::Body(error)) => {
                self.stream.cancel();
                Err(error)
            }
        })
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        loop {
            if let Poll::Ready(_reset) = self.stream.lock().poll_reset(cx) {
                return Poll::Ready(Err(Stop::Stream));
            }
            while let Some((data, last)) = &mut self.waiting {
                let mut stream = self.stream.lock();
                if !data.is_empty() && stream.capacity() == 0 {
                    stream.reserve_capacity(data.len().min(STEP));
                    match ready!(stream.poll_capacity(cx)) {
                        Some(Ok(_)) => continue,
                        Some(Err(_)) | None => return Poll::Ready(Err(Stop::Stream)),
                    }
                }
                let piece = data.split_to(data.len().min(stream.capacity()));
                let end = *last && data.is_empty();
                stream.send_data(piece, end).map_err(|_| Stop::Stream)?;
                self.progress.start();
                if end {
                    return Poll::Ready(Ok(()));
                }
                if data.is_empty() {
                    stream.reserve_capacity(0);
                    drop(stream);
                    self.waiting = None;
                }
            }
            let frame = match ready!(Pin::new(&mut self.upload).poll_frame(cx)) {
                Some(frame) => frame.map_err(Stop::Body)?,
                None => {
                    self.stream.lock().send_data(Bytes::new(), true).map_err(|_| Stop::Stream)?;
                    return Poll::Ready(Ok(()));
                }
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() && !self.upload.is_end_stream() => {}
                Ok(data) => {
                    self.kept.data(&data);
                    self.waiting = Some((data, self.upload.is_end_stream()));
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.kept.trailers(&trailers);
                        self.stream.lock().send_trailers(trailers).map_err(|_| Stop::Stream)?;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

enum Stop {
    /// The stream takes no more.
    Stream,
    Body(BodyError),
}
