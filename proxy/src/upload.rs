//! The request's body on its way up: counted, held to its announced length, and not waited for forever.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::hygiene::strip_trailers;
use crate::{Body, BodyError, TimeoutKind};

/// What the rest of an exchange needs to know about its upload.
pub(crate) struct Progress {
    /// When the upstream last took a piece, or could have begun to.
    last: Mutex<Instant>,
    touched: AtomicBool,
    done: AtomicBool,
    error: Mutex<Option<BodyError>>,
}

impl Progress {
    pub(crate) fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece was taken, or the request is on a connection from now on.
    pub(crate) fn start(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether any piece was taken, so that sending the request again would need it back.
    pub(crate) fn touched(&self) -> bool {
        self.touched.load(Ordering::Acquire)
    }

    /// Whether the body was taken to its end.
    pub(crate) fn done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Why the upload failed, if it did: hyper's own error hides it.
    pub(crate) fn take_error(&self) -> Option<BodyError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn touch(&self, bytes: usize) {
        self.touched.store(true, Ordering::Release);
        // Frames of nothing are no progress.
        if bytes > 0 {
            self.start();
        }
    }
}

/// A request body as hyper sees it.
pub(crate) struct Upload {
    inner: Body,
    /// What was announced.
    length: Option<u64>,
    /// Bytes still to come, when a length was announced.
    left: Option<u64>,
    idle: Duration,
    /// Runs while the guest is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    progress: Arc<Progress>,
}

impl Upload {
    /// `length` is what the guest announced; hyper announces it again upstream.
    pub(crate) fn new(inner: Body, length: Option<u64>, idle: Duration) -> Self {
        let empty = inner.is_end_stream();
        let progress = Arc::new(Progress {
            last: Mutex::new(Instant::now()),
            touched: AtomicBool::new(false),
            done: AtomicBool::new(empty),
            error: Mutex::new(None),
        });
        let left = length.filter(|_| !empty);
        Self { inner, length, left, idle, waiting: None, progress }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// From its beginning, when `again` can put back what was taken of the body.
    pub(crate) fn rewound(self, again: impl FnOnce(Body) -> Option<Body>) -> Option<Self> {
        again(self.inner).map(|body| Self::new(body, self.length, self.idle))
    }

    fn fail(&self, error: BodyError) -> BodyError {
        let text = error.to_string();
        *self.progress.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        BodyError::Guest(text)
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let idle = self.idle;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Timeout(TimeoutKind::Idle))))
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match ready!(this.poll_inner(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(this.fail(error)))),
            None => {
                if let Some(left) = this.left.filter(|left| *left > 0) {
                    let error = BodyError::Guest(format!("{left} bytes fewer than announced"));
                    return Poll::Ready(Some(Err(this.fail(error))));
                }
                this.progress.done.store(true, Ordering::Release);
                return Poll::Ready(None);
            }
        };
        this.progress.touch(frame.data_ref().map_or(1, Bytes::len));
        let frame = match frame.into_data() {
            Ok(data) => {
                if let Some(left) = &mut this.left {
                    match left.checked_sub(data.len() as u64) {
                        Some(rest) => *left = rest,
                        None => {
                            let error = BodyError::Guest("more bytes than announced".to_owned());
                            return Poll::Ready(Some(Err(this.fail(error))));
                        }
                    }
                }
                Frame::data(data)
            }
            Err(frame) => frame.map_data(|data: Bytes| data),
        };
        let frame = match frame.into_trailers() {
            Ok(mut trailers) => {
                strip_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        };
        // hyper does not ask for more than was announced, and nothing more goes up.
        if this.left.map_or_else(|| this.inner.is_end_stream(), |left| left == 0) {
            this.progress.done.store(true, Ordering::Release);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.left.map_or_else(|| self.inner.is_end_stream(), |left| left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(|| self.inner.size_hint(), SizeHint::with_exact)
    }
}
