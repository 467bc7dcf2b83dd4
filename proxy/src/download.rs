//! The response's body on its way down: scrubbed when it may hold a secret, cut when the grant ends, and given back to
//! the pool at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::alarm::Alarm;
use crate::cleaning::Cleaning;
use crate::grant::Admission;
use crate::http2::Exchange;
use crate::hygiene::strip_trailers;
use crate::incoming::Incoming;
use crate::limits::{Debt, Meter, Patience, Way};
use crate::pool::{Key, Pool};
use crate::under_way::Cut;
use crate::upload::Progress;
use crate::{BodyError, LimitHit, LiveGrant, Scrubber, TimeoutKind, http1};

/// A response body as the guest's side sees it.
pub(crate) struct Download {
    inner: Incoming,
    cleaning: Cleaning,
    /// Trailers that wait until the scrubber's last bytes are out.
    trailers: Option<HeaderMap>,
    state: State,
    meter: Meter,
    /// The last of what a limit lets through came, and that limit.
    spent: Option<LimitHit>,
    /// How far it fell behind, where its length was announced.
    debt: Option<Debt>,
    /// When the upstream was first waited for in vain; not while the reader takes its time.
    waiting: Option<Instant>,
    /// Wakes up for that. Most answers never need it.
    alarm: Alarm,
    end: End,
    lease: Option<Lease>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Streaming,
    /// The upstream's data is over; trailers may wait.
    Ending,
    Over,
}

/// When an exchange has to end, whatever is under way: with its grant, with a credential that it carries, or by the bound
/// on its whole time.
pub(crate) struct End {
    pub(crate) grant: Arc<LiveGrant>,
    pub(crate) cut: Option<Cut>,
    pub(crate) total: Instant,
    pub(crate) patience: Patience,
}

impl End {
    fn at(&self) -> Instant {
        self.total.min(self.grant.grant().expires)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over_at(Instant::now())
    }

    fn is_over_at(&self, now: Instant) -> bool {
        self.grant.check_live_at(now).is_err() || self.withdrawn().is_some() || self.total <= now
    }

    fn withdrawn(&self) -> Option<&str> {
        self.cut.as_ref()?.by()
    }

    /// Resolves when it is over.
    pub(crate) async fn reached(&self) {
        loop {
            let news = self.grant.news();
            if self.is_over() {
                return;
            }
            let _ = timeout_at(self.at(), news).await;
        }
    }

    /// What ended it.
    pub(crate) fn error(&self) -> BodyError {
        match (self.grant.check_live(), self.withdrawn()) {
            (Err(ended), _) => BodyError::Ended(ended),
            (Ok(()), Some(credential)) => BodyError::Withdrawn { credential: credential.to_owned() },
            (Ok(()), None) => self.patience.ran_out(TimeoutKind::Total),
        }
    }
}

/// What an exchange runs on.
pub(crate) enum Line {
    /// A connection of its own.
    Http1(http1::Connection),
    /// A stream of one that is shared.
    Http2(Exchange),
}

/// What an exchange holds until its body ends. Dropped before, the exchange is cut off.
pub(crate) struct Lease {
    pub(crate) pool: Arc<Pool>,
    pub(crate) key: Key,
    pub(crate) line: Line,
    pub(crate) upload: Arc<Progress>,
    pub(crate) admission: Admission,
}

impl Lease {
    fn end(self) {
        let Self { pool, key, line, upload, admission } = self;
        // First, so that nobody outside ends the connection once it serves others. While the upload is not over, the line
        // is still in use.
        let free = admission.leave() && upload.done();
        match line {
            Line::Http1(connection) if free => pool.give_back(&key, connection),
            Line::Http2(exchange) if free => exchange.finish(),
            Line::Http1(_) | Line::Http2(_) => {}
        }
    }
}

impl Download {
    pub(crate) fn new(inner: Incoming, cleaning: Cleaning, meter: Meter, end: End, lease: Lease) -> Self {
        let debt = Debt::of(end.patience.pace, inner.size_hint().exact());
        let mut this = Self {
            inner,
            cleaning,
            trailers: None,
            state: State::Streaming,
            meter,
            spent: None,
            debt,
            waiting: None,
            alarm: Alarm::default(),
            end,
            lease: Some(lease),
        };
        if this.inner.is_end_stream() {
            this.finish();
        }
        this
    }

    /// The exchange ended well: nothing more will come on the connection for it.
    fn finish(&mut self) {
        self.state = State::Over;
        if let Some(lease) = self.lease.take() {
            lease.end();
        }
    }

    /// The exchange ended badly: the connection goes with it.
    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state = State::Over;
        self.lease = None;
        Poll::Ready(Some(Err(error)))
    }

    fn poll_upstream(
        &mut self,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if let Some(since) = self.waiting.take()
                && let Some(debt) = &mut self.debt
            {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                debt.paid(since.elapsed(), data.map_or(0, Bytes::len));
            }
            return Poll::Ready(frame);
        }
        let since = *self.waiting.get_or_insert(now);
        let idle = since + self.end.patience.idle;
        let quiet = self.debt.map_or(idle, |debt| idle.min(since + debt.left()));
        let until = quiet.min(self.end.at());
        ready!(self.alarm.poll(until, cx));
        let error = match self.end.is_over() {
            true => self.end.error(),
            false if quiet < idle => BodyError::Timeout(TimeoutKind::Pace),
            false => self.end.patience.ran_out(TimeoutKind::Idle),
        };
        Poll::Ready(Some(Err(error)))
    }

    fn take_data(&mut self, mut data: Bytes) -> Result<Bytes, BodyError> {
        self.spent = self.meter.pass(Way::Down, &mut data).err();
        // A piece that is unpacked may have more in it than is read at once.
        let last = self.inner.is_end_stream() && self.spent.is_none() && !self.cleaning.unpacks();
        let mut out = self.cleaning.push(data)?;
        if last {
            out = joined(out, self.cleaning.finish()?);
            self.finish();
        }
        Ok(out)
    }

    fn take_trailers(&mut self, mut trailers: HeaderMap) {
        strip_trailers(&mut trailers);
        self.cleaning.trailers(&mut trailers);
        self.trailers = Some(trailers);
    }

    /// What is left once the upstream has no more data: the scrubber's last bytes, then the trailers.
    fn poll_rest(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.cleaning.finish() {
            Ok(rest) if rest.is_empty() => {}
            Ok(rest) => return Poll::Ready(Some(Ok(Frame::data(rest)))),
            Err(error) => return self.fail(error),
        }
        let trailers = self.trailers.take().filter(|trailers| !trailers.is_empty());
        self.finish();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.state == State::Over {
            return Poll::Ready(None);
        }
        let now = Instant::now();
        if this.end.is_over_at(now) {
            return this.fail(this.end.error());
        }
        while this.state == State::Streaming {
            match this.cleaning.more() {
                Ok(None) => {}
                Ok(Some(out)) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                Err(error) => return this.fail(error),
            }
            if let Some(hit) = this.spent.take() {
                return this.fail(BodyError::Limit(hit));
            }
            match ready!(this.poll_upstream(now, cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => match this.take_data(data) {
                        Ok(out) if out.is_empty() => {}
                        Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                        Err(error) => return this.fail(error),
                    },
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            this.take_trailers(trailers);
                        }
                    }
                },
                // What ends it from outside ends the line, which may show first.
                Some(Err(_)) if this.end.is_over() => return this.fail(this.end.error()),
                Some(Err(error)) => return this.fail(error),
                None if this.end.is_over() => return this.fail(this.end.error()),
                None => this.state = State::Ending,
            }
        }
        if this.state == State::Over {
            return Poll::Ready(None);
        }
        this.poll_rest()
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Over
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Over => SizeHint::with_exact(0),
            _ if self.cleaning.is_nothing() => self.inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

/// Takes secrets out of header fields: out of values by replacement; a field whose name spells one is dropped.
pub(crate) fn scrub_headers(headers: &mut HeaderMap, scrubbers: &[Arc<Scrubber>]) {
    for scrubber in scrubbers {
        let named: Vec<_> =
            headers.keys().filter(|name| scrubber.holds_folded(name.as_str().as_bytes())).cloned().collect();
        for name in named {
            headers.remove(name);
        }
        for value in headers.values_mut() {
            if let Some(clean) = scrubber.clean(value.as_bytes()) {
                // What is left of a legal value, and the marker, are legal.
                *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static(crate::SCRUBBED));
            }
        }
    }
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => [first, second].concat().into(),
    }
}

/// A hyper error in words: its kind and what caused it, never a byte of the message.
pub(crate) fn describe(error: &hyper::Error) -> String {
    let early = |source: &(dyn std::error::Error + 'static)| {
        source.downcast_ref().is_some_and(|e: &std::io::Error| e.kind() == std::io::ErrorKind::UnexpectedEof)
    };
    match std::error::Error::source(error) {
        // rustls adds advice for programmers here.
        Some(source) if early(source) => format!("{error}: the connection was closed early"),
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
