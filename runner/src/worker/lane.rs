//! Threads for runs that keep processors busy.
//!
//! They have the lowest priority that the system knows, so that they run when no other thread of the machine would: a
//! guest that spins costs its neighbours nothing, and has a whole processor when nobody else wants one. Nobody waits
//! for a lock that one of them may hold when it is preempted: the queue has none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::mpsc;

use crate::priority;

/// A run that wants a turn.
pub(super) trait Job: Send + Sync {
    /// One turn. True if it wants another one.
    fn turn(self: Arc<Self>) -> bool;
}

/// The queue of one sandbox, and its threads, which are started when there is a first job.
pub(super) struct Lane {
    jobs: mpsc::UnboundedSender<Arc<dyn Job>>,
    /// Taken in turns: who has it waits for a job.
    waiting: Arc<Mutex<mpsc::UnboundedReceiver<Arc<dyn Job>>>>,
    started: AtomicBool,
    over: Arc<AtomicBool>,
}

impl Lane {
    pub(super) fn new() -> Self {
        let (jobs, waiting) = mpsc::unbounded_channel();
        Lane {
            jobs,
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
        self.jobs.send(job).is_ok()
    }

    /// Starts the threads. One is enough to go on.
    fn start(&self) -> bool {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let started = (0..count).filter(|_| {
            // Weak, so that the threads end with the lane.
            let (jobs, waiting) = (self.jobs.downgrade(), Arc::clone(&self.waiting));
            let over = Arc::clone(&self.over);
            let turns = move || {
                priority::yield_to_everybody();
                while let Some(job) = next(&waiting) {
                    if over.load(Ordering::Acquire) {
                        return;
                    }
                    if Arc::clone(&job).turn()
                        && let Some(jobs) = jobs.upgrade()
                    {
                        // It is closed when the lane is over.
                        let _ = jobs.send(job);
                    }
                }
            };
            thread::Builder::new().name("hogs".into()).spawn(turns).is_ok()
        });
        started.count() > 0
    }
}

fn next(waiting: &Mutex<mpsc::UnboundedReceiver<Arc<dyn Job>>>) -> Option<Arc<dyn Job>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

impl Drop for Lane {
    fn drop(&mut self) {
        // What is queued belongs to runs that are gone with the sandbox. The threads end after their turn.
        self.over.store(true, Ordering::Release);
    }
}
