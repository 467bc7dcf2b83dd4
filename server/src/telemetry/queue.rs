//! Spans that wait to be exported: as many as there is room for, and the number of the others.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

use super::span::Span;

/// Spans that may wait, a few MiB of them.
const WAITING: usize = 4096;
/// Spans of one export. As soon as so many wait nobody waits for time to pass.
pub(super) const BATCH: usize = 512;

/// Finished spans on their way to a collector. Whoever hands them over never waits.
#[derive(Debug)]
pub(super) struct Queue {
    spans: Mutex<VecDeque<Span>>,
    /// A batch waits.
    full: Notify,
    /// Spans that were not exported: no room, or a collector that did not take them.
    lost: Counter,
}

impl Queue {
    /// `lost` counts the spans that are not exported.
    pub(super) fn new(lost: Counter) -> Self {
        Self { spans: Mutex::default(), full: Notify::new(), lost }
    }

    /// Takes spans that belong together: all of them or none.
    pub(super) fn push(&self, spans: Vec<Span>) {
        let count = spans.len();
        let waiting = {
            let mut waiting = self.lock();
            if waiting.len() + count > WAITING {
                drop(waiting);
                self.lose(count as u64);
                return;
            }
            waiting.extend(spans);
            waiting.len()
        };
        if waiting >= BATCH {
            self.full.notify_one();
        }
    }

    /// The oldest ones, as many as are exported at once.
    pub(super) fn batch(&self) -> Vec<Span> {
        let mut waiting = self.lock();
        let count = waiting.len().min(BATCH);
        waiting.drain(..count).collect()
    }

    /// Resolves when a batch waits.
    pub(super) async fn filled(&self) {
        if self.lock().len() < BATCH {
            self.full.notified().await;
        }
    }

    /// Counts spans as lost.
    pub(super) fn lose(&self, count: u64) {
        self.lost.inc_by(count);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Span>> {
        // Spans are pushed and taken whole.
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::span::Kind;
    use super::super::trace::Sampler;
    use super::*;

    fn spans(count: usize) -> Vec<Span> {
        let span = || Span {
            begun: Sampler::default().begin(None).expect("kept"),
            name: "chat".to_owned(),
            kind: Kind::Client,
            start: 1,
            end: 2,
            attributes: Vec::new(),
            failed: false,
        };
        (0..count).map(|_| span()).collect()
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_nothing_is_torn_apart() {
        let queue = Queue::new(Counter::default());
        for _ in 0..WAITING / 3 {
            queue.push(spans(3));
        }
        assert_eq!(queue.lost.get(), 0);
        // One has room and its sibling has not.
        queue.push(spans(2));
        queue.push(spans(1));
        assert_eq!(queue.lost.get(), 2);
        let mut taken = 0;
        loop {
            let batch = queue.batch();
            assert!(batch.len() <= BATCH);
            if batch.is_empty() {
                break;
            }
            taken += batch.len();
        }
        assert_eq!(taken, WAITING);
    }
}
