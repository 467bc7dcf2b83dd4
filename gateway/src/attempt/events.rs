//! The events of a provider's stream, and what they mean.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Body as _;
use orch_proxy::{Alarm, Body};
use tokio::time::Instant;

use super::from_body;
use crate::bounded;
use crate::classify::Failure;
use crate::deltas::Deltas;
use crate::dialect::StreamParser;
use crate::envelope;
use crate::fields::counts_are_whole;
use crate::frames::{Frame, Splitter};
use crate::ir::{Class, StreamEvent};

/// Bytes of a body that are read at once: what a provider sends in a burst is one piece for its client.
const AT_ONCE: usize = 8 << 10;

/// A frame and what it means.
pub(crate) struct Item {
    pub(crate) frame: Frame,
    pub(crate) meaning: Vec<StreamEvent>,
    /// Whether its counts can be believed, where it has any.
    pub(crate) counts: bool,
}

/// The events of a provider's stream.
pub(crate) struct Events {
    body: Body,
    splitter: Splitter,
    parser: Box<dyn StreamParser>,
    /// Where the provider's host has got a secret.
    deltas: Option<Deltas>,
    /// What goes on before anything else is read.
    ready: VecDeque<Item>,
    /// What comes after that, once it is known.
    end: Option<Result<Option<Item>, Failure>>,
    pace: Pace,
    /// Whether each event is inside of another object.
    wrapped: bool,
    /// Since when it is waited for something that is said. Whoever takes its time with what was said before is not waiting.
    silent: Option<Instant>,
    /// When an event went to the reader that said nothing. What the reader does meanwhile is no waiting either.
    left: Option<Instant>,
    /// The body's end, and what went wrong with it, once it was read. What came before it may not have been.
    over: Option<Result<(), Failure>>,
    /// Whether what has come is read all at once.
    flows: bool,
    /// Whether the next piece of the body is waited for.
    waited: bool,
    /// Wakes up when that takes too long.
    alarm: Alarm,
}

/// How long a stream may keep its reader waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// For the next event, of whatever kind.
    pub(crate) idle: Duration,
    /// For the next one that says something: comments and pings show that somebody is there, and not that an answer is
    /// coming.
    pub(crate) silent: Duration,
}

impl Pace {
    fn ran_out(self, silent: bool) -> Failure {
        let (what, wait) = match silent {
            true => ("nothing but keep-alives", self.silent),
            false => ("no event of the stream", self.idle),
        };
        Failure::new(Class::Timeout, format!("{what} for {} s", wait.as_secs_f64()))
    }
}

impl Events {
    pub(crate) fn new(
        body: Body,
        splitter: Splitter,
        parser: Box<dyn StreamParser>,
        deltas: Option<Deltas>,
        pace: Pace,
    ) -> Events {
        Events {
            body,
            splitter,
            parser,
            deltas,
            ready: VecDeque::new(),
            end: None,
            pace,
            wrapped: false,
            silent: None,
            left: None,
            over: None,
            flows: false,
            waited: false,
            alarm: Alarm::default(),
        }
    }

    /// The same, of which each event is inside of another object.
    pub(crate) fn unwrapped(self) -> Events {
        Events { wrapped: true, ..self }
    }

    /// What is left of the body.
    pub(crate) fn into_rest(self) -> Body {
        self.body
    }

    /// From now on what has come is read all at once. Until then nothing is read beyond the piece that has the next event in it.
    pub(crate) fn flow(&mut self) {
        self.flows = true;
    }

    /// Whether it does.
    pub(crate) fn flows(&self) -> bool {
        self.flows
    }

    /// The next whole event; `None` at the end of the body. What is left of an unfinished event is thrown away.
    ///
    /// The idle clock runs from event to event, not from byte to byte: a byte a second is no progress.
    ///
    /// # Errors
    /// The body broke, no event came in time, or the `deadline` has passed.
    pub(crate) async fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Item>, Failure> {
        let mut waiting = None;
        loop {
            if let Some(item) = self.at_hand() {
                return Ok(Some(item));
            }
            if let Some(end) = self.end.take() {
                return end;
            }
            match self.over.take() {
                Some(Err(failure)) => self.ends(failure),
                Some(Ok(())) => {
                    self.take_held();
                    self.end = Some(Ok(self.close()));
                }
                None => {
                    let (until, silent) = *waiting.get_or_insert_with(|| self.wait());
                    let by = deadline.map_or(until, |deadline| deadline.min(until));
                    let came = poll_fn(|cx| match self.fill(cx) {
                        Poll::Ready(()) => Poll::Ready(true),
                        Poll::Pending => self.alarm.poll(by, cx).map(|()| false),
                    });
                    match came.await {
                        true => {}
                        false if by < until => {
                            return Err(Failure::new(Class::Timeout, "the run's deadline has passed"));
                        }
                        false => self.ends(self.pace.ran_out(silent)),
                    }
                }
            }
        }
    }

    /// The next whole event, if it has been read already.
    pub(crate) fn at_hand(&mut self) -> Option<Item> {
        if let (Some(left), Some(silent)) = (self.left.take(), &mut self.silent) {
            *silent += left.elapsed();
        }
        while self.ready.is_empty() && self.end.is_none() {
            match self.splitter.next_frame() {
                Ok(Some(frame)) => self.take(frame),
                Ok(None) => break,
                Err(error) => self.ends(Failure::new(Class::Server, error.to_string())),
            }
        }
        let item = self.ready.pop_front()?;
        self.left = self.silent.map(|_| Instant::now());
        Some(item)
    }

    /// Until when the next event may be waited for, and whether that is because nothing has been said for long.
    fn wait(&mut self) -> (Instant, bool) {
        let now = Instant::now();
        let silent = *self.silent.get_or_insert(now) + self.pace.silent;
        let idle = now + self.pace.idle;
        (silent.min(idle), silent < idle)
    }

    /// Takes the next piece of the body. Where it was not waited for, others may be there as well: as many as are enough.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let enough = if self.flows && !self.waited { AT_ONCE } else { 1 };
        let mut filled = 0;
        while filled < enough {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Some(data) = frame.data_ref() else { continue };
                    self.splitter.push(data);
                    filled += data.len().max(1);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.over = Some(Err(from_body(&error).failure));
                    break;
                }
                Poll::Ready(None) => {
                    self.over = Some(Ok(()));
                    break;
                }
                Poll::Pending if filled == 0 => {
                    self.waited = true;
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        self.waited = false;
        Poll::Ready(())
    }

    /// After what is ready comes this.
    fn ends(&mut self, failure: Failure) {
        self.take_held();
        self.end = Some(Err(failure));
    }

    /// Makes an event ready, and ahead of it what was held of texts that end with it.
    fn take(&mut self, mut frame: Frame) {
        if self.wrapped {
            envelope::unwrap(&mut frame);
        }
        let alone = frame.data.as_deref().and_then(|data| self.parser.text_alone(data));
        if let Some(alone) = alone
            && self.deltas.as_ref().is_none_or(|deltas| deltas.lets_through(&alone.text))
        {
            self.silent = None;
            return self.ready.push_back(Item { frame, meaning: alone.into_events(), counts: true });
        }
        let mut parsed = frame.data.as_deref().filter(|data| !data.is_empty()).map(bounded::event);
        match (&mut self.deltas, &mut parsed) {
            (Some(deltas), Some(Ok(tree))) => {
                let ahead = deltas.pass(&mut frame, tree);
                self.take_own(ahead);
            }
            // A terminator, or what the parser refuses.
            (Some(_), Some(Err(_))) => self.take_held(),
            _ => {}
        }
        let meaning = match (&frame.data, &parsed) {
            (Some(data), Some(parsed)) => self.parser.read_data(data, parsed.as_ref()),
            _ => Ok(Vec::new()),
        };
        match meaning {
            Ok(meaning) => {
                if meaning.iter().any(StreamEvent::commits) {
                    self.silent = None;
                }
                let counted = meaning.iter().any(|event| matches!(event, StreamEvent::Usage(_)));
                let counts = !counted || matches!(&parsed, Some(Ok(tree)) if counts_are_whole(tree));
                self.ready.push_back(Item { frame, meaning, counts });
            }
            Err(error) => self.end = Some(Err(Failure::new(Class::Server, error.to_string()))),
        }
    }

    /// Makes ready what is still held of the texts.
    fn take_held(&mut self) {
        let held = self.deltas.as_mut().map(Deltas::finish).unwrap_or_default();
        self.take_own(held);
    }

    /// Makes frames ready that were made here, of a text that the parser knows of.
    fn take_own(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            let meaning = self.parser.read(&frame).unwrap_or_default();
            self.ready.push_back(Item { frame, meaning, counts: true });
        }
    }

    /// What the end of the body means in dialects without a terminator: an item that has no bytes. An event that was cut
    /// in two is no end.
    fn close(&mut self) -> Option<Item> {
        let meaning = if self.splitter.has_rest() { Vec::new() } else { self.parser.end() };
        let frame = Frame::nothing(self.splitter.framing());
        (!meaning.is_empty()).then_some(Item { frame, meaning, counts: true })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use orch_manifests::Dialect;
    use orch_proxy::BodyError;

    use super::*;
    use crate::dialect::wire;

    /// A stream of which a piece comes every second for whoever waits for it.
    fn events(pieces: &'static [&'static str]) -> Events {
        let pieces = stream::iter(pieces.iter().cycle()).then(|piece| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, BodyError>(http_body::Frame::data(Bytes::from_static(piece.as_bytes())))
        });
        events_of(StreamBody::new(pieces).boxed_unsync())
    }

    fn events_of(body: Body) -> Events {
        let wire = wire(Dialect::OpenAiChat);
        let pace = Pace { idle: Duration::from_secs(60), silent: Duration::from_secs(300) };
        Events::new(body, wire.framing().splitter(1 << 16), wire.stream_parser(), None, pace)
    }

    const SAYS: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    const PINGS: &str = ": still there\n\n";

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_is_no_silent_provider() {
        let mut events = events(&[SAYS, PINGS, SAYS]);
        for _ in 0..3 {
            assert!(events.next(None).await.is_ok_and(|item| item.is_some()));
            tokio::time::sleep(Duration::from_secs(200)).await;
            assert!(events.next(None).await.is_ok_and(|item| item.is_some()), "a ping");
            tokio::time::sleep(Duration::from_secs(3600)).await;
            assert!(events.next(None).await.is_ok_and(|item| item.is_some()));
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_says_nothing_is_one() {
        let mut events = events(&[PINGS]);
        let began = Instant::now();
        let failure = loop {
            match events.next(None).await {
                Ok(item) => assert!(item.is_some()),
                Err(failure) => break failure,
            }
        };
        assert_eq!((failure.class, began.elapsed().as_secs()), (Class::Timeout, 300));
    }

    /// A stream of which some has come, and how often it was asked for more.
    fn come(pieces: Vec<Poll<Result<&'static str, BodyError>>>) -> (Events, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let mut pieces = VecDeque::from(pieces);
        let pieces = stream::poll_fn(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            let data = |piece: &'static str| http_body::Frame::data(Bytes::from_static(piece.as_bytes()));
            pieces.pop_front().map_or(Poll::Ready(None), |piece| piece.map(|piece| Some(piece.map(data))))
        });
        (events_of(StreamBody::new(pieces).boxed_unsync()), asked)
    }

    /// The next event for a task of this waker.
    fn polled(events: &mut Events, waker: &Waker) -> Poll<Result<bool, Class>> {
        let next = pin!(events.next(None)).poll(&mut Context::from_waker(waker));
        next.map(|item| item.map(|item| item.is_some()).map_err(|failure| failure.class))
    }

    #[tokio::test]
    async fn until_it_flows_nothing_is_read_beyond_the_next_event() {
        let said = || Poll::Ready(Ok(SAYS));
        let (mut events, asked) = come(vec![said(), said(), said(), said()]);
        let times = || asked.load(Ordering::SeqCst);
        assert!(events.next(None).await.is_ok_and(|item| item.is_some()));
        assert!(events.at_hand().is_none());
        assert_eq!(times(), 1);
        events.flow();
        assert!(events.next(None).await.is_ok_and(|item| item.is_some()));
        assert_eq!(times(), 5, "with its end");
        assert!(events.at_hand().is_some() && events.at_hand().is_some() && events.at_hand().is_none());
        assert_eq!(times(), 5);
    }

    #[tokio::test]
    async fn no_more_is_read_at_once_than_enough() {
        let many = AT_ONCE / SAYS.len() + 1;
        let (mut events, asked) = come((0..2 * many).map(|_| Poll::Ready(Ok(SAYS))).collect());
        events.flow();
        assert!(events.next(None).await.is_ok_and(|item| item.is_some()));
        assert_eq!(asked.load(Ordering::SeqCst), many);
    }

    #[tokio::test]
    async fn what_came_before_a_failure_comes_before_it() {
        let failed = Poll::Ready(Err(BodyError::Upstream("gone".to_owned())));
        let (mut events, _) = come(vec![Poll::Ready(Ok(SAYS)), Poll::Ready(Ok(SAYS)), failed]);
        events.flow();
        let waker = Waker::noop();
        for expected in [Ok(true), Ok(true), Err(Class::Truncated)] {
            assert_eq!(polled(&mut events, waker), Poll::Ready(expected));
        }
    }

    #[tokio::test]
    async fn what_was_waited_for_goes_on_before_more_is_asked_for() {
        let said = || Poll::Ready(Ok(SAYS));
        let (mut events, asked) =
            come(vec![Poll::Pending, Poll::Pending, said(), said(), said(), Poll::Pending]);
        events.flow();
        let waker = Waker::noop();
        for (polls, expected) in [(1, None), (2, None), (3, Some(Ok(true))), (6, Some(Ok(true)))] {
            let next = polled(&mut events, waker);
            assert_eq!(
                (next, asked.load(Ordering::SeqCst)),
                (expected.map_or(Poll::Pending, Poll::Ready), polls)
            );
        }
        assert!(events.at_hand().is_some());
        assert_eq!(polled(&mut events, waker), Poll::Ready(Ok(false)), "whoever asks gets an answer");
    }
}
