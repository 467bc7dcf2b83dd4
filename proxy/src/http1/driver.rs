//! What moves a connection's bytes.
//!
//! Whoever waits for an exchange drives its connection in passing, in the same task: the bytes that wake the task are
//! read where they are needed, and no second task has to be woken for them, on another thread as often as not. Nothing
//! drives a connection that nobody uses.
//!
//! hyper's halves of an exchange wake each other, as if they were two tasks. Here they are one, which has just looked at
//! the other half or is about to: it is woken for what comes from outside alone.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::AbortHandle;

/// A connection's own work. Resolves when the connection is over.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Drives one connection, and can end it from anywhere.
pub(crate) struct Driver {
    state: Mutex<State>,
    wish: Arc<Wish>,
    /// `wish`, as what the connection wakes.
    waker: Waker,
    flushed: Arc<AtomicBool>,
}

enum State {
    /// Driven by whoever polls.
    Polled(Work),
    /// Driven by a task of its own.
    Spawned(AbortHandle),
    Over,
}

/// A connection's wish to be driven, and who waits until it has one.
struct Wish {
    made: AtomicBool,
    /// `None` while somebody looks at it anyway.
    waits: Mutex<Option<Waker>>,
}

impl Wish {
    fn waits(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) {
        self.made.store(true, Ordering::Release);
        let waits = self.waits().take();
        if let Some(task) = waits {
            task.wake();
        }
    }

    /// Has the task woken once there is a wish; `false` if there is one by now.
    #[must_use]
    fn wait(&self, cx: &Context<'_>) -> bool {
        *self.waits() = Some(cx.waker().clone());
        !self.made.load(Ordering::Acquire)
    }

    /// From here on somebody looks.
    fn look(&self) {
        self.waits().take();
    }
}

impl Wake for Wish {
    fn wake(self: Arc<Self>) {
        self.make();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.make();
    }
}

impl Driver {
    pub(crate) fn new(work: impl Future<Output = ()> + Send + 'static, flushed: Arc<AtomicBool>) -> Self {
        let wish = Arc::new(Wish { made: AtomicBool::new(true), waits: Mutex::new(None) });
        let waker = Waker::from(Arc::clone(&wish));
        Self { state: Mutex::new(State::Polled(Box::pin(work))), wish, waker, flushed }
    }

    /// Polls what the connection alone makes ready, and drives the connection as far as that takes. A connection that a
    /// task drives moves by itself.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut what: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if matches!(*self.lock(), State::Spawned(_)) {
            return what(cx);
        }
        self.wish.look();
        loop {
            let polled = what(&mut Context::from_waker(Waker::noop()));
            if polled.is_ready() {
                return polled;
            }
            if !self.drive() && self.wish.wait(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Moves what can be moved if the connection wished for it, and says whether it did.
    fn drive(&self) -> bool {
        let wished = self.wish.made.swap(false, Ordering::AcqRel);
        if wished {
            self.drive_once();
        }
        wished
    }

    /// Moves what is there already, such as the peer's goodbye.
    pub(crate) fn drive_once(&self) {
        let mut state = self.lock();
        if let State::Polled(work) = &mut *state
            && work.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready()
        {
            *state = State::Over;
        }
    }

    /// Whether the peer has taken all that was to be sent so far, or the system's buffers have.
    pub(crate) fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Acquire)
    }

    /// Leaves the rest to a task: more has to be moved than what anybody waits for. Whoever polls something of the
    /// connection has to do so again.
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
        // What was to be read from it is over, and whoever waits for it has to see that.
        self.wish.make();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Work that panicked is not polled again: its exchange ends with the panic and cuts it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
