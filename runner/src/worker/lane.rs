//! Threads for runs that keep processors busy.
//!
//! They have the lowest priority that the system knows, so that they run when no other thread of the machine would: a
//! guest that spins costs its neighbours nothing, and has a whole processor when nobody else wants one. Nobody waits
//! for a lock that one of them may hold when it is preempted: the queue has none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::mpsc;

use super::beginners::Beginners;
use crate::priority;

/// A run that wants a turn.
pub(super) trait Job: Send + Sync {
    /// Whether it has used less than those it would wait for.
    fn comes_first(&self) -> bool;

    /// One turn. True if it wants another one.
    fn turn(self: Arc<Self>) -> bool;
}

/// The queue of one sandbox, and its threads, which are started when there is a first job.
pub(super) struct Lane {
    queue: Queue,
    processors: usize,
    pub(super) beginners: Beginners,
    /// Taken in turns: who has it waits for a job.
    waiting: Arc<Mutex<Waiting>>,
    started: AtomicBool,
    over: Arc<AtomicBool>,
}

/// Where jobs go in.
#[derive(Clone)]
struct Queue {
    first: mpsc::UnboundedSender<Arc<dyn Job>>,
    others: mpsc::UnboundedSender<Arc<dyn Job>>,
    /// One for each job in either.
    count: mpsc::UnboundedSender<()>,
}

/// Where jobs come out.
struct Waiting {
    first: mpsc::UnboundedReceiver<Arc<dyn Job>>,
    others: mpsc::UnboundedReceiver<Arc<dyn Job>>,
    count: mpsc::UnboundedReceiver<()>,
}

impl Queue {
    fn new() -> (Self, Waiting) {
        let ((first, from_first), (others, from_others)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (count, counted) = mpsc::unbounded_channel();
        (Queue { first, others, count }, Waiting { first: from_first, others: from_others, count: counted })
    }

    /// The other end is there as long as this one: it is the lane's.
    fn push(&self, job: Arc<dyn Job>) {
        let line = if job.comes_first() { &self.first } else { &self.others };
        let _ = line.send(job);
        let _ = self.count.send(());
    }
}

impl Waiting {
    /// The next job, or none when the lane is over.
    fn next(&mut self) -> Option<Arc<dyn Job>> {
        self.count.blocking_recv()?;
        self.first.try_recv().or_else(|_| self.others.try_recv()).ok()
    }
}

impl Lane {
    /// As many threads as there are processors.
    pub(super) fn new(processors: usize) -> Self {
        let (queue, waiting) = Queue::new();
        Lane {
            queue,
            processors,
            beginners: Beginners::new(processors),
            waiting: Arc::new(Mutex::new(waiting)),
            started: AtomicBool::new(false),
            over: Arc::default(),
        }
    }

    /// Queues a run. False if there is no thread for it.
    pub(super) fn push(&self, job: Arc<dyn Job>) -> bool {
        if !self.started.swap(true, Ordering::AcqRel) && !self.start() {
            self.started.store(false, Ordering::Release);
            return false;
        }
        self.queue.push(job);
        true
    }

    /// Starts the threads. One is enough to go on.
    fn start(&self) -> bool {
        let started = (0..self.processors).filter(|_| {
            let (queue, waiting) = (self.queue.clone(), Arc::clone(&self.waiting));
            let over = Arc::clone(&self.over);
            let turns = move || {
                priority::yield_to_everybody();
                while let Some(job) = next(&waiting) {
                    if over.load(Ordering::Acquire) {
                        return;
                    }
                    if Arc::clone(&job).turn() {
                        queue.push(job);
                    }
                }
            };
            thread::Builder::new().name("hogs".into()).spawn(turns).is_ok()
        });
        started.count() > 0
    }
}

/// The lock is let go before the turn.
fn next(waiting: &Mutex<Waiting>) -> Option<Arc<dyn Job>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).next()
}

impl Drop for Lane {
    fn drop(&mut self) {
        // What is queued belongs to runs that are gone with the sandbox. A word for each thread that waits.
        self.over.store(true, Ordering::Release);
        for _ in 0..self.processors {
            let _ = self.queue.count.send(());
        }
    }
}
