//! A run that has not ended: what it has told so far, who follows it, and how it is stopped.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use orch_gateway::{Receipt, Receipts};
use orch_manifests::RunId;
use orch_vault::PlannedUse;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::permissions::{Answer, Question};
use crate::run::{Event, Observer};
use crate::store::{EventKind, RunEvent};

/// Text of one kind is gathered into one event until it is this long, in bytes.
const PIECE: usize = 8 << 10;
/// Text that comes sooner than this after the last event is gathered.
const GATHER: Duration = Duration::from_millis(100);
/// Events that are kept of one run, and the bytes of their texts.
const EVENTS: usize = 20_000;
const TEXT: usize = 16 << 20;
/// Bytes of text that a follower gets at once, so that a slow one holds no copy of everything.
const PAGE: usize = 256 << 10;

/// One run between its acceptance and its end.
pub(crate) struct LiveRun {
    pub(crate) run: RunId,
    pub(crate) workspace: String,
    /// Who asked for it: whose own keys may serve.
    pub(crate) member: String,
    told: Mutex<Told>,
    /// The number of the newest event; closed by the end.
    newest: watch::Sender<u64>,
    ended: watch::Sender<bool>,
    stop: watch::Sender<u8>,
    why: Mutex<Option<Why>>,
    /// What it called, once it may.
    calls: OnceLock<Arc<Receipts>>,
    /// Uses that are planned on record, and not counted there yet.
    owed: Mutex<Vec<PlannedUse>>,
}

/// Who stopped a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody who may.
    Cancelled,
    /// The server, which was about to stop.
    Draining,
}

#[derive(Default)]
struct Told {
    events: Vec<RunEvent>,
    next: u64,
    /// The agent's log and its output, as far as they are not events yet.
    log: Vec<u8>,
    output: Vec<u8>,
    last: Option<Instant>,
    /// Bytes of the events' texts.
    bytes: usize,
    /// How many of the events, and of the model calls, the store has.
    stored: usize,
    stored_calls: usize,
    dropped: bool,
}

impl LiveRun {
    pub(crate) fn new(run: RunId, workspace: &str) -> Self {
        Self {
            run,
            workspace: workspace.to_owned(),
            member: String::new(),
            told: Mutex::default(),
            newest: watch::Sender::new(0),
            ended: watch::Sender::new(false),
            stop: watch::Sender::new(0),
            why: Mutex::new(None),
            calls: OnceLock::new(),
            owed: Mutex::default(),
        }
    }

    /// The same, asked for by this member of the workspace.
    pub(crate) fn of_member(self, member: &str) -> Self {
        Self { member: member.to_owned(), ..self }
    }

    /// From now on these uses have to be counted at the end, however it ends.
    pub(crate) fn owes(&self, uses: Vec<PlannedUse>) {
        *self.owed.lock().unwrap_or_else(PoisonError::into_inner) = uses;
    }

    /// The uses that are left to count; they are counted with this.
    pub(crate) fn settled(&self) -> Vec<PlannedUse> {
        std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A run whose events up to this number were told by another process.
    pub(crate) fn after_event(run: RunId, workspace: &str, number: u64) -> Self {
        let live = Self::new(run, workspace);
        live.lock().next = number;
        live
    }

    /// What stops the run when it counts up.
    pub(crate) fn stopper(&self) -> watch::Receiver<u8> {
        self.stop.subscribe()
    }

    /// Stops the run. Who was first to do so is remembered.
    pub(crate) fn stop(&self, why: Why) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.stop.send_modify(|count| *count = count.saturating_add(1));
    }

    /// Why it was stopped, if it was.
    pub(crate) fn stopped(&self) -> Option<Why> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells something that is not the agent's.
    pub(crate) fn tell(&self, kind: EventKind, text: impl Into<String>) {
        let mut told = self.lock();
        told.flush(false);
        told.push(kind, text.into());
        self.announce(&told);
    }

    fn has_told(&self, kind: EventKind, text: &str) -> bool {
        self.lock().events.iter().any(|event| event.kind == kind && event.text == text)
    }

    /// Gathers what the agent wrote into events of whole characters.
    fn write(&self, kind: EventKind, bytes: &[u8], now: Instant) {
        let mut told = self.lock();
        let (this, other) = told.pieces(kind);
        this.extend_from_slice(bytes);
        // What was written to the other before comes before.
        let due = this.len() >= PIECE || !other.is_empty();
        if due || told.last.is_none_or(|last| now.saturating_duration_since(last) >= GATHER) {
            told.flush(false);
        }
        self.announce(&told);
    }

    fn announce(&self, told: &Told) {
        self.newest.send_if_modified(|newest| std::mem::replace(newest, told.next) != told.next);
    }

    /// Events that the store does not have yet, progress aside, which is of no use afterwards. At the end of the run
    /// that is everything, also half a character.
    pub(crate) fn unstored(&self, at_the_end: bool) -> Vec<RunEvent> {
        let mut told = self.lock();
        told.flush(at_the_end);
        self.announce(&told);
        let all = told.events.len();
        let from = std::mem::replace(&mut told.stored, all);
        told.events[from..].iter().filter(|event| event.kind != EventKind::Progress).cloned().collect()
    }

    /// The receipts of its model calls so far, in the order in which they ended.
    pub(crate) fn calls(&self) -> Vec<Receipt> {
        self.calls.get().map(|calls| calls.all()).unwrap_or_default()
    }

    /// Those that the store does not have yet, and the place of the first among all.
    pub(crate) fn unstored_calls(&self) -> (usize, Vec<Receipt>) {
        let mut calls = self.calls();
        let from = std::mem::replace(&mut self.lock().stored_calls, calls.len());
        (from, calls.split_off(from))
    }

    /// Whoever follows hears that there is nothing more to come.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Resolves when the run has ended and its record is complete.
    pub(crate) async fn over(&self) {
        // The sender is part of `self`, so it cannot go away meanwhile.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Events after this number, as soon as there are any; none when the run has ended and all were told.
    pub(crate) async fn after(&self, number: u64) -> Vec<RunEvent> {
        let (mut newest, mut ended) = (self.newest.subscribe(), self.ended.subscribe());
        loop {
            let over = *ended.borrow_and_update();
            let events: Vec<RunEvent> = {
                let told = self.lock();
                let from = told.events.partition_point(|event| event.seq <= number);
                told.page(from)
            };
            if !events.is_empty() || over {
                return events;
            }
            newest.borrow_and_update();
            if self.lock().next > number {
                continue;
            }
            tokio::select! {
                _ = newest.changed() => {}
                _ = ended.changed() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// Events from this place on, as many as make a page.
    fn page(&self, from: usize) -> Vec<RunEvent> {
        let mut bytes = 0;
        let fits = |event: &&RunEvent| {
            let first = bytes == 0;
            bytes += event.text.len() + size_of::<RunEvent>();
            first || bytes <= PAGE
        };
        self.events[from..].iter().take_while(fits).cloned().collect()
    }

    fn push(&mut self, kind: EventKind, text: String) {
        // What a person waits by replaces itself: only the newest is of use.
        if kind == EventKind::Progress
            && self.events.last().is_some_and(|last| last.kind == EventKind::Progress)
            && self.events.len() > self.stored
        {
            self.events.pop();
        }
        if self.events.len() >= EVENTS || self.bytes > TEXT {
            if !std::mem::replace(&mut self.dropped, true) {
                self.add(
                    EventKind::Warning,
                    "this run tells too much: its further events are not kept".to_owned(),
                );
            }
            return;
        }
        self.add(kind, text);
    }

    fn add(&mut self, kind: EventKind, text: String) {
        self.next += 1;
        self.last = Some(Instant::now());
        // As precise as the store is: who reads it there is told the same.
        let now = OffsetDateTime::now_utc();
        let time = now.replace_microsecond(now.microsecond()).unwrap_or(now);
        self.bytes += text.len();
        self.events.push(RunEvent { seq: self.next, time, kind, text });
    }

    /// What of the agent's writing is not an event yet: of this kind, and of the other.
    fn pieces(&mut self, kind: EventKind) -> (&mut Vec<u8>, &mut Vec<u8>) {
        match kind {
            EventKind::Output => (&mut self.output, &mut self.log),
            _ => (&mut self.log, &mut self.output),
        }
    }

    /// What was gathered becomes events; a character that is not whole yet waits for its rest, unless `all` is asked.
    fn flush(&mut self, all: bool) {
        for kind in [EventKind::Log, EventKind::Output] {
            let mut bytes = std::mem::take(self.pieces(kind).0);
            let rest = match std::str::from_utf8(&bytes) {
                Err(error) if error.error_len().is_none() && !all => bytes.split_off(error.valid_up_to()),
                _ => Vec::new(),
            };
            if !bytes.is_empty() {
                self.push(kind, String::from_utf8_lossy(&bytes).into_owned());
            }
            *self.pieces(kind).0 = rest;
        }
    }
}

impl Observer for LiveRun {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Progress(text) => self.tell(EventKind::Progress, text),
            Event::Note(text) => self.tell(EventKind::Note, text),
            Event::Warning(text) => self.tell(EventKind::Warning, text),
            Event::Refused(text) => self.tell(EventKind::Refused, text),
            Event::Decision(text) => self.tell(EventKind::Decision, text),
            Event::Log(bytes) => self.write(EventKind::Log, bytes, Instant::now()),
            Event::Output(bytes) => self.write(EventKind::Output, bytes, Instant::now()),
        }
    }

    /// Nobody can be asked while a run is accepted: what was granted is in the store and in the request.
    fn ask(&self, _: &Question) -> Answer {
        Answer::Deny
    }

    fn calls(&self, receipts: &Arc<Receipts>) {
        // A run is executed once.
        let _ = self.calls.set(Arc::clone(receipts));
    }
}

/// Passes on what a run was not told in the same words before: one that is prepared again has much to say twice.
pub(crate) struct Once<'a>(pub(crate) &'a LiveRun);

impl Observer for Once<'_> {
    fn event(&self, event: Event<'_>) {
        let told = match event {
            Event::Note(text) => self.0.has_told(EventKind::Note, text),
            Event::Warning(text) => self.0.has_told(EventKind::Warning, text),
            _ => false,
        };
        if !told {
            self.0.event(event);
        }
    }

    fn ask(&self, question: &Question) -> Answer {
        self.0.ask(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(events: &[RunEvent]) -> Vec<(u64, EventKind, &str)> {
        events.iter().map(|event| (event.seq, event.kind, event.text.as_str())).collect()
    }

    #[tokio::test]
    async fn who_follows_hears_everything_once_and_then_the_end() {
        let live = LiveRun::new(RunId::random(), "default");
        live.tell(EventKind::Note, "one");
        let first = live.after(0).await;
        assert_eq!(texts(&first), [(1, EventKind::Note, "one")]);
        let (second, ()) = tokio::join!(live.after(1), async {
            tokio::task::yield_now().await;
            live.tell(EventKind::Warning, "two");
        });
        assert_eq!(texts(&second), [(2, EventKind::Warning, "two")]);
        let (none, ()) = tokio::join!(live.after(2), async {
            tokio::task::yield_now().await;
            live.end();
        });
        assert!(none.is_empty());
        assert_eq!(live.after(0).await.len(), 2, "also for who comes late");
    }

    #[tokio::test]
    async fn what_an_agent_writes_at_once_is_one_event_of_whole_characters() {
        let live = LiveRun::new(RunId::random(), "default");
        let now = Instant::now();
        let log = |bytes: &[u8], at| live.write(EventKind::Log, bytes, at);
        log(b"a", now);
        for piece in [&b"b"[..], "\u{e9}".as_bytes().split_at(1).0] {
            log(piece, now);
        }
        assert_eq!(texts(&live.after(0).await), [(1, EventKind::Log, "a")]);
        log(&"\u{e9}".as_bytes()[1..], now + 2 * GATHER);
        log(b"\xff", now + 2 * GATHER);
        log("\u{e9}".as_bytes().split_at(1).0, now + 2 * GATHER);
        let told = live.after(1).await;
        assert_eq!(texts(&told), [(2, EventKind::Log, "b\u{e9}"), (3, EventKind::Log, "\u{fffd}")]);
        assert_eq!(live.unstored(true).len(), 4, "what is left at the end is told, whole or not");
        assert!(live.unstored(true).is_empty());
    }

    #[test]
    fn progress_replaces_itself_and_is_not_stored() {
        let live = LiveRun::new(RunId::random(), "default");
        for text in ["1 s", "2 s"] {
            live.event(Event::Progress(text));
        }
        live.event(Event::Note("x"));
        assert_eq!(texts(&live.unstored(true)), [(3, EventKind::Note, "x")]);
    }

    #[test]
    fn what_was_told_is_not_told_again_in_the_same_words() {
        let live = LiveRun::new(RunId::random(), "default");
        for text in ["x", "y", "x"] {
            Once(&live).event(Event::Note(text));
            Once(&live).event(Event::Warning(text));
        }
        let told = live.unstored(true);
        assert_eq!(
            texts(&told),
            [
                (1, EventKind::Note, "x"),
                (2, EventKind::Warning, "x"),
                (3, EventKind::Note, "y"),
                (4, EventKind::Warning, "y")
            ]
        );
    }

    #[test]
    fn a_flood_of_events_ends_in_a_warning() {
        let live = LiveRun::new(RunId::random(), "default");
        for _ in 0..EVENTS + 10 {
            live.event(Event::Refused("x"));
        }
        let stored = live.unstored(true);
        assert_eq!((stored.len(), stored[EVENTS].kind), (EVENTS + 1, EventKind::Warning));
    }

    #[test]
    fn who_stopped_it_first_is_remembered() {
        let live = LiveRun::new(RunId::random(), "default");
        live.stop(Why::Cancelled);
        live.stop(Why::Draining);
        assert_eq!((live.stopped(), *live.stopper().borrow()), (Some(Why::Cancelled), 2));
    }
}
