//! What moves a connection's bytes.
//!
//! Whoever waits for an exchange drives its connection in passing, in the same task: the bytes that wake the task are
//! read where they are needed, and no second task has to be woken for them, on another thread as often as not. Nothing
//! drives a connection that nobody uses.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::task::AbortHandle;

/// A connection's own work. Resolves when the connection is over.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Drives one connection, and can end it from anywhere.
pub(crate) struct Driver {
    state: Mutex<State>,
    flushed: Arc<AtomicBool>,
}

enum State {
    /// Driven by whoever polls.
    Polled(Work),
    /// Driven by a task of its own.
    Spawned(AbortHandle),
    Over,
}

impl Driver {
    pub(crate) fn new(work: impl Future<Output = ()> + Send + 'static, flushed: Arc<AtomicBool>) -> Self {
        Self { state: Mutex::new(State::Polled(Box::pin(work))), flushed }
    }

    /// Moves what can be moved, and wakes the caller's task when there is more to move. A connection that a task drives
    /// moves by itself.
    pub(crate) fn drive(&self, cx: &mut Context<'_>) {
        let mut state = self.lock();
        if let State::Polled(work) = &mut *state
            && work.as_mut().poll(cx).is_ready()
        {
            *state = State::Over;
        }
    }

    /// Moves what is there already, such as the peer's goodbye.
    pub(crate) fn drive_once(&self) {
        self.drive(&mut Context::from_waker(Waker::noop()));
    }

    /// Whether the peer has taken all that was to be sent so far, or the system's buffers have.
    pub(crate) fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Acquire)
    }

    /// Leaves the rest to a task: more has to be moved than what anybody waits for.
    pub(crate) fn hand_over(&self, spawn: impl FnOnce(Work) -> AbortHandle) {
        let mut state = self.lock();
        *state = match std::mem::replace(&mut *state, State::Over) {
            State::Polled(work) => State::Spawned(spawn(work)),
            other => other,
        };
    }

    /// Ends the connection, whatever is under way on it.
    pub(crate) fn cut(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::Over);
        if let State::Spawned(task) = state {
            task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Work that panicked is not polled again: its exchange ends with the panic and cuts it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
