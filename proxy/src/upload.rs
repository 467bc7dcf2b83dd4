//! The request's body on its way up: counted, held to its announced length and to the run's limits, and not waited for
//! forever.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::hygiene::strip_trailers;
use crate::limits::{Debt, Meter, Patience, Way};
use crate::placeholders::InBody;
use crate::{Body, BodyError, TimeoutKind};

/// What the rest of an exchange needs to know about its upload.
pub(crate) struct Progress {
    /// When the upstream last took a piece, or could have begun to.
    last: Mutex<Instant>,
    touched: AtomicBool,
    done: AtomicBool,
    error: Mutex<Option<BodyError>>,
    inert: AtomicU32,
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

    /// How many placeholders went up so far; none of them was swapped.
    pub(crate) fn inert(&self) -> u32 {
        self.inert.load(Ordering::Relaxed)
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
    patience: Patience,
    meter: Meter,
    /// Bytes that were counted before, by an attempt that came to nothing. They are the same bytes.
    counted: u64,
    /// Bytes so far.
    sent: u64,
    /// How slowly the guest gives what it announced, and the upstream takes it.
    debts: Option<Debts>,
    /// The last of what may be sent was, or the body was told to be over.
    over: Option<BodyError>,
    /// When the guest was first waited for in vain.
    waiting: Option<Instant>,
    /// Wakes up for that.
    alarm: Alarm,
    /// None when the run has no placeholders.
    placeholders: Option<InBody>,
    progress: Arc<Progress>,
}

/// Who keeps an upload waiting.
#[derive(Clone, Copy)]
struct Debts {
    guest: Debt,
    upstream: Debt,
}

impl Upload {
    /// `length` is what the guest announced; hyper announces it again upstream.
    pub(crate) fn new(
        inner: Body,
        length: Option<u64>,
        patience: Patience,
        meter: Meter,
        placeholders: Option<InBody>,
    ) -> Self {
        let empty = inner.is_end_stream();
        let progress = Arc::new(Progress {
            last: Mutex::new(Instant::now()),
            touched: AtomicBool::new(false),
            done: AtomicBool::new(empty),
            error: Mutex::new(None),
            inert: AtomicU32::new(0),
        });
        let left = length.filter(|_| !empty);
        let debts = Debt::of(patience.pace, left).map(|debt| Debts { guest: debt, upstream: debt });
        Self {
            inner,
            length,
            left,
            patience,
            meter,
            counted: 0,
            sent: 0,
            debts,
            over: None,
            waiting: None,
            alarm: Alarm::default(),
            placeholders,
            progress,
        }
    }

    pub(crate) fn meter(&self) -> Meter {
        self.meter.clone()
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// From its beginning, when `again` can put back what was taken of the body.
    pub(crate) fn rewound(self, again: impl FnOnce(Body) -> Option<Body>) -> Option<Self> {
        let counted = self.counted.max(self.sent);
        let body = again(self.inner)?;
        let placeholders = self.placeholders.map(InBody::again);
        Some(Self { counted, ..Self::new(body, self.length, self.patience, self.meter, placeholders) })
    }

    /// Counts a piece. What is more than a limit lets through is cut off, and the body ends there.
    fn count(&mut self, data: &mut Bytes) {
        let known = self.counted.saturating_sub(self.sent).min(data.len() as u64);
        // No more than the length of the piece.
        let mut fresh = data.split_off(usize::try_from(known).unwrap_or(usize::MAX));
        let passed = self.meter.pass(Way::Up, &mut fresh);
        if data.is_empty() {
            *data = fresh;
        } else if !fresh.is_empty() {
            *data = [&data[..], &fresh[..]].concat().into();
        }
        self.sent += data.len() as u64;
        if let Err(hit) = passed {
            self.over = Some(BodyError::Limit(hit));
        }
    }

    /// Since the last piece the upstream was waited for, but for the time in which the guest was.
    fn settle(&mut self, guest: Duration, bytes: usize) {
        let Some(debts) = &mut self.debts else { return };
        let waited = self.progress.last().elapsed().saturating_sub(guest);
        debts.guest.paid(guest, bytes);
        debts.upstream.paid(waited, bytes);
        if debts.upstream.left().is_zero() && self.progress.touched() {
            self.over = Some(BodyError::Timeout(TimeoutKind::Pace));
        }
    }

    fn fail(&self, error: BodyError) -> BodyError {
        let text = error.to_string();
        *self.progress.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        BodyError::Guest(text)
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            let guest = self.waiting.take().map(|since| since.elapsed()).unwrap_or_default();
            let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
            self.settle(guest, bytes.unwrap_or_default());
            return polled;
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let idle = since + self.patience.idle;
        let until = self.debts.map_or(idle, |debts| idle.min(since + debts.guest.left()));
        ready!(self.alarm.poll(until, cx));
        let kind = if until < idle { TimeoutKind::Pace } else { TimeoutKind::Idle };
        Poll::Ready(Some(Err(self.patience.ran_out(kind))))
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
        if let Some(error) = this.over.take() {
            return Poll::Ready(Some(Err(this.fail(error))));
        }
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
            Ok(mut data) => {
                this.count(&mut data);
                if data.is_empty()
                    && let Some(error) = this.over.take()
                {
                    return Poll::Ready(Some(Err(this.fail(error))));
                }
                if let Some(left) = &mut this.left {
                    match left.checked_sub(data.len() as u64) {
                        Some(rest) => *left = rest,
                        None => {
                            let error = BodyError::Guest("more bytes than announced".to_owned());
                            return Poll::Ready(Some(Err(this.fail(error))));
                        }
                    }
                }
                if let Some(placeholders) = &mut this.placeholders {
                    this.progress.inert.fetch_add(placeholders.count(&data), Ordering::Relaxed);
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
        if this.is_end_stream() {
            this.progress.done.store(true, Ordering::Release);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.over.is_none() && self.left.map_or_else(|| self.inner.is_end_stream(), |left| left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(|| self.inner.size_hint(), SizeHint::with_exact)
    }
}
