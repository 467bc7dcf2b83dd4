//! The runs that a worker was given and has not yet answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use orch_manifests::RunId;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::{Body, RunIo};
use crate::protocol::{Finished, RunLimits, RunSpec, Stdio, Token, Usage};

/// How the worker says that a run ended.
pub(super) enum Ended {
    Finished(Finished),
    Rejected(String),
}

/// One run, as the doors see it.
pub(super) struct LiveRun {
    run: RunId,
    token: Token,
    limits: RunLimits,
    io: Mutex<RunIo>,
    output: AtomicU64,
    log: AtomicU64,
    end: Mutex<Option<oneshot::Sender<Ended>>>,
    /// Its place in the worker's pool, which it has until the worker says that it ended.
    room: Mutex<Option<OwnedSemaphorePermit>>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Open,
    /// Its doors are closed; the worker may still have to say that it ended.
    Closed,
    /// The worker has answered.
    Removed,
}

/// An output stream of a run, while the worker sends it.
pub(super) struct Output<'a> {
    counter: &'a AtomicU64,
    limit: u64,
    sink: Option<mpsc::Sender<Bytes>>,
}

/// The worker sent more output than the run may write.
pub(super) struct TooMuch;

impl LiveRun {
    pub(super) fn new(
        spec: &RunSpec,
        io: RunIo,
        room: OwnedSemaphorePermit,
    ) -> (Arc<Self>, oneshot::Receiver<Ended>) {
        let (end, ended) = oneshot::channel();
        let live = LiveRun {
            run: spec.run.clone(),
            token: spec.token.clone(),
            limits: spec.limits,
            io: Mutex::new(io),
            output: AtomicU64::new(0),
            log: AtomicU64::new(0),
            end: Mutex::new(Some(end)),
            room: Mutex::new(Some(room)),
            state: watch::Sender::new(State::Open),
        };
        (Arc::new(live), ended)
    }

    pub(super) fn token(&self) -> &str {
        self.token.reveal()
    }

    /// Resolves when the run's doors are closed.
    pub(super) async fn closed(&self) {
        self.reached(State::Closed).await;
    }

    /// Resolves when the worker has said that the run ended.
    pub(super) async fn removed(&self) {
        self.reached(State::Removed).await;
    }

    async fn reached(&self, state: State) {
        // The sender is part of `self`, so it cannot go away meanwhile.
        let _ = self.state.subscribe().wait_for(|now| *now >= state).await;
    }

    /// Closes the run's doors and lets go of its streams.
    pub(super) fn close(&self) {
        self.advance(State::Closed);
        drop(std::mem::take(&mut *self.io.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    fn remove(&self) {
        self.close();
        self.advance(State::Removed);
        drop(self.room.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn advance(&self, to: State) {
        self.state.send_if_modified(|state| {
            let advances = *state < to;
            *state = to.max(*state);
            advances
        });
    }

    pub(super) fn take_stdin(&self) -> Option<Body> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner).stdin.take()
    }

    /// One of the output streams. Several requests may write to the same one; its limit counts them together.
    pub(super) fn output(&self, stdio: Stdio) -> Option<Output<'_>> {
        let io = self.io.lock().unwrap_or_else(PoisonError::into_inner);
        match stdio {
            Stdio::Stdin => None,
            Stdio::Stdout => {
                Some(Output { counter: &self.output, limit: self.limits.output, sink: io.stdout.clone() })
            }
            Stdio::Stderr => {
                Some(Output { counter: &self.log, limit: self.limits.log, sink: io.stderr.clone() })
            }
        }
    }

    /// The worker's account with the broker's own counts in it.
    pub(super) fn usage(&self, told: Usage) -> Usage {
        Usage {
            stdout_bytes: self.output.load(Ordering::Relaxed),
            stderr_bytes: self.log.load(Ordering::Relaxed),
            ..told
        }
    }
}

impl Output<'_> {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), TooMuch> {
        let length = bytes.len() as u64;
        let before = self.counter.fetch_add(length, Ordering::Relaxed);
        if before.saturating_add(length) > self.limit {
            return Err(TooMuch);
        }
        if let Some(sink) = &self.sink
            && !bytes.is_empty()
            && sink.send(bytes).await.is_err()
        {
            self.sink = None;
        }
        Ok(())
    }
}

/// All runs of a worker, by id and by token.
#[derive(Default)]
pub(super) struct Runs(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    by_id: HashMap<RunId, Arc<LiveRun>>,
    /// The worker may know all of these tokens, so that it does not matter what the time of a search tells.
    by_token: HashMap<Box<str>, Arc<LiveRun>>,
}

impl Runs {
    /// Adds a run, unless one with its id or token is there.
    pub(super) fn add(&self, live: &Arc<LiveRun>) -> bool {
        let mut runs = self.lock();
        if runs.by_id.contains_key(&live.run) || runs.by_token.contains_key(live.token()) {
            return false;
        }
        runs.by_token.insert(live.token().into(), Arc::clone(live));
        runs.by_id.insert(live.run.clone(), Arc::clone(live));
        true
    }

    pub(super) fn get(&self, run: &RunId) -> Option<Arc<LiveRun>> {
        self.lock().by_id.get(run).cloned()
    }

    /// The run with this token.
    pub(super) fn by_token(&self, token: &str) -> Option<Arc<LiveRun>> {
        self.lock().by_token.get(token).cloned()
    }

    /// Ends a run the way the worker says it ended. False if the worker has no such run.
    pub(super) fn end(&self, run: &RunId, ended: Ended) -> bool {
        let live = {
            let mut runs = self.lock();
            let Some(live) = runs.by_id.remove(run) else { return false };
            runs.by_token.remove(live.token());
            live
        };
        live.remove();
        if let Some(end) = live.end.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody waits for a run whose caller has cancelled it.
            let _ = end.send(ended);
        }
        true
    }

    /// For a worker that is gone.
    pub(super) fn close_all(&self) {
        let Tables { by_id, .. } = std::mem::take(&mut *self.lock());
        for (_, live) in by_id {
            live.remove();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
