//! Runs that are checked or wait, and the turns of those that are executed.
//!
//! A run has a [`Place`] from its arrival until its [`Turn`]. How many places a workspace may hold is said in
//! `places.rs`, and whose turn is next in `lines.rs`. Both are given back by being dropped, wherever that happens: a
//! turn then goes straight to who is next, so none is ever free while somebody waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::failure::{Failure, Kind};

mod lines;
mod places;
#[cfg(test)]
mod tests;

use lines::Lines;
use places::Places;

/// The queue of a service.
pub(super) struct Queue {
    most_running: usize,
    most_waiting: usize,
    state: Mutex<State>,
    /// Told when the last place has been given back.
    emptied: Notify,
}

struct State {
    /// Turns that nobody has; none while somebody waits.
    free: usize,
    lines: Lines<oneshot::Sender<()>>,
    places: Places,
    closed: bool,
}

impl Queue {
    /// So many turns, and so many places for runs that wait.
    pub(super) fn new(most_running: usize, most_waiting: usize) -> Arc<Self> {
        let state =
            State { free: most_running, lines: Lines::new(), places: Places::default(), closed: false };
        Arc::new(Self { most_running, most_waiting, state: Mutex::new(state), emptied: Notify::new() })
    }

    /// A place for a new run with a request of so many bytes.
    ///
    /// # Errors
    /// `queue_full` when there is none for this workspace, `shutting_down` when there are none any more.
    pub(super) fn enter(self: &Arc<Self>, workspace: &str, size: usize) -> Result<Place, Failure> {
        let mut state = self.lock();
        if state.closed {
            return Err(shutting_down());
        }
        state.places.check(workspace, size, self.most_waiting, state.free)?;
        Ok(self.place(&mut state, workspace, size))
    }

    /// A place for a run that was accepted before: there always is one, until the queue is closed.
    pub(super) fn enter_again(self: &Arc<Self>, workspace: &str, size: usize) -> Option<Place> {
        let mut state = self.lock();
        (!state.closed).then(|| self.place(&mut state, workspace, size))
    }

    fn place(self: &Arc<Self>, state: &mut State, workspace: &str, size: usize) -> Place {
        state.places.take(workspace, size);
        Place { queue: Arc::clone(self), workspace: workspace.into(), size }
    }

    /// A turn, if one is free: then nobody waits for it.
    pub(super) fn try_turn(self: &Arc<Self>) -> Option<Turn> {
        let mut state = self.lock();
        state.free = state.free.checked_sub(1)?;
        Some(Turn(Arc::clone(self)))
    }

    /// A turn, when it is this workspace's. Who stops waiting leaves the line.
    pub(super) async fn turn(self: &Arc<Self>, workspace: &str) -> Turn {
        let waiter = {
            let mut state = self.lock();
            if let Some(left) = state.free.checked_sub(1) {
                state.free = left;
                return Turn(Arc::clone(self));
            }
            let (handed, heard) = oneshot::channel();
            let ticket = state.lines.join(workspace, handed);
            Waiter { queue: Arc::clone(self), workspace: workspace.into(), ticket, heard, done: false }
        };
        waiter.wait().await
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// Whether nobody is let in any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Resolves when no place is taken: every run that was let in has its turn, or is gone.
    pub(super) async fn empty(&self) {
        loop {
            // Made before it is looked, so that nothing is missed in between.
            let emptied = self.emptied.notified();
            if self.waiting() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Runs that are checked or wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.lock().places.taken()
    }

    /// Runs that have their turn.
    pub(super) fn running(&self) -> usize {
        self.most_running - self.lock().free
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a closed queue lets nobody in.
pub(super) fn shutting_down() -> Failure {
    Failure::new(Kind::Server, "shutting_down", "the server is about to stop").hint("try again in a moment")
}

impl State {
    /// A turn goes to who is next.
    fn hand_over(&mut self) {
        match self.lines.next() {
            // They are in line, so they listen: see `Waiter`.
            Some(next) => drop(next.send(())),
            None => self.free += 1,
        }
    }
}

/// A run's place in the queue, until it is dropped.
pub(super) struct Place {
    queue: Arc<Queue>,
    workspace: Box<str>,
    size: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.places.give_back(&self.workspace, self.size);
        if state.places.taken() == 0 {
            self.queue.emptied.notify_waiters();
        }
    }
}

/// A run's turn, until it is dropped.
pub(super) struct Turn(Arc<Queue>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().hand_over();
    }
}

/// Somebody in line. Whether they are still in it or were handed a turn is decided under the lock, so a turn is never
/// handed to somebody who has gone.
struct Waiter {
    queue: Arc<Queue>,
    workspace: Box<str>,
    ticket: u64,
    heard: oneshot::Receiver<()>,
    /// Whether the turn that was handed over is in use.
    done: bool,
}

impl Waiter {
    async fn wait(mut self) -> Turn {
        if (&mut self.heard).await.is_err() {
            // The other end is in the queue, which this holds: it goes nowhere without a word.
            std::future::pending::<()>().await;
        }
        self.done = true;
        Turn(Arc::clone(&self.queue))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.queue.lock();
        if !state.lines.leave(&self.workspace, self.ticket) {
            // It was handed over and nobody took it.
            state.hand_over();
        }
    }
}
