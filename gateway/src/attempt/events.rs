//! The events of a provider's stream, and what they mean.

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::BodyExt as _;
use orch_proxy::Body;
use tokio::time::{Instant, timeout_at};

use super::from_body;
use crate::bounded;
use crate::classify::Failure;
use crate::deltas::Deltas;
use crate::dialect::StreamParser;
use crate::envelope;
use crate::fields::counts_are_whole;
use crate::frames::{Frame, Splitter};
use crate::ir::{Class, StreamEvent};

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
    over: bool,
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
            over: false,
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

    /// The next whole event; `None` at the end of the body. What is left of an unfinished event is thrown away.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, Failure> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                self.left = self.silent.map(|_| Instant::now());
                return Ok(Some(item));
            }
            if let Some(end) = self.end.take() {
                return end;
            }
            match self.read().await {
                Ok(Some(frame)) => self.take(frame),
                Ok(None) => {
                    self.take_held();
                    self.end = Some(Ok(self.close()));
                }
                Err(failure) => {
                    self.take_held();
                    self.end = Some(Err(failure));
                }
            }
        }
    }

    /// The next event of the body.
    ///
    /// The idle clock runs from event to event, not from byte to byte: a byte a second is no progress.
    async fn read(&mut self) -> Result<Option<Frame>, Failure> {
        let now = Instant::now();
        let away = self.left.take().map_or(Duration::ZERO, |left| now.duration_since(left));
        let since = self.silent.get_or_insert(now);
        *since += away;
        let silent = *since + self.pace.silent;
        let until = silent.min(now + self.pace.idle);
        loop {
            match self.splitter.next_frame() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) if self.over => return Ok(None),
                Ok(None) => {}
                Err(error) => return Err(Failure::new(Class::Server, error.to_string())),
            }
            match timeout_at(until, self.body.frame()).await {
                Err(_) => {
                    let (what, wait) = match until == silent {
                        true => ("nothing but keep-alives", self.pace.silent),
                        false => ("no event of the stream", self.pace.idle),
                    };
                    return Err(Failure::new(Class::Timeout, format!("{what} for {} s", wait.as_secs_f64())));
                }
                Ok(None) => self.over = true,
                Ok(Some(Err(error))) => return Err(from_body(&error).failure),
                Ok(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.splitter.push(data);
                    }
                }
            }
        }
    }

    /// Makes an event ready, and ahead of it what was held of texts that end with it.
    fn take(&mut self, mut frame: Frame) {
        if self.wrapped {
            envelope::unwrap(&mut frame);
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
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::StreamBody;
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
        let body = StreamBody::new(pieces).boxed_unsync();
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
            assert!(events.next().await.is_ok_and(|item| item.is_some()));
            tokio::time::sleep(Duration::from_secs(200)).await;
            assert!(events.next().await.is_ok_and(|item| item.is_some()), "a ping");
            tokio::time::sleep(Duration::from_secs(3600)).await;
            assert!(events.next().await.is_ok_and(|item| item.is_some()));
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_says_nothing_is_one() {
        let mut events = events(&[PINGS]);
        let began = Instant::now();
        let failure = loop {
            match events.next().await {
                Ok(item) => assert!(item.is_some()),
                Err(failure) => break failure,
            }
        };
        assert_eq!((failure.class, began.elapsed().as_secs()), (Class::Timeout, 300));
    }
}
