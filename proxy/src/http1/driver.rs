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

    /// Polls what the connection alone makes ready, and drives the connection as far as that takes. One that a task drives
    /// moves by itself, and may still be moving when it was cut.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut what: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !matches!(*self.lock(), State::Polled(_)) {
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
        match state {
            State::Spawned(task) => task.abort(),
            // With it goes what holds its exchange open.
            State::Polled(work) => drop(work),
            State::Over => {}
        }
        // Whoever waits for something of it has to see that it is over, which it is by now.
        self.wish.make();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Work that panicked is not polled again: its exchange ends with the panic and cuts it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::mpsc::{self, Receiver, Sender};
    use tokio::task::JoinSet;

    use super::*;

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// What comes from outside is passed on in pieces, of which one at most lies ready, as in hyper.
    fn driver() -> (Sender<usize>, Driver, Receiver<usize>) {
        let (outside, mut comes) = mpsc::channel(8);
        let (passes, body) = mpsc::channel(1);
        let work = async move {
            while let Ok(place) = passes.reserve().await
                && let Some(piece) = comes.recv().await
            {
                place.send(piece);
            }
        };
        (outside, Driver::new(work, Arc::new(AtomicBool::new(true))), body)
    }

    #[test]
    fn a_piece_wakes_whoever_waits_for_it_once() {
        let (outside, driver, mut body) = driver();
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut next = || driver.poll(&mut Context::from_waker(&waker), |cx| body.poll_recv(cx));
        let times = || woken.0.load(Ordering::Acquire);
        assert!(next().is_pending());
        for piece in 1..4 {
            outside.try_send(piece).unwrap();
            assert_eq!(times(), piece);
            assert_eq!(next(), Poll::Ready(Some(piece)));
            assert!(next().is_pending());
            assert_eq!(times(), piece);
        }
        // Several that came together are one reason to look.
        outside.try_send(4).unwrap();
        outside.try_send(5).unwrap();
        assert_eq!((next(), next()), (Poll::Ready(Some(4)), Poll::Ready(Some(5))));
        assert!(next().is_pending());
        assert_eq!(times(), 4);
        driver.cut();
        assert_eq!((times(), next()), (5, Poll::Ready(None)));
    }

    /// Notes at each wake whether the connection is gone.
    struct Sees(Sender<usize>, Mutex<Vec<bool>>);

    impl Wake for Sees {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0.is_closed());
        }
    }

    #[test]
    fn whoever_is_woken_by_a_cut_finds_it_done() {
        let (outside, driver, mut body) = driver();
        let sees = Arc::new(Sees(outside, Mutex::default()));
        let waker = Waker::from(Arc::clone(&sees));
        let mut next = || driver.poll(&mut Context::from_waker(&waker), |cx| body.poll_recv(cx));
        assert!(next().is_pending());
        driver.cut();
        assert_eq!(*sees.1.lock().unwrap(), [true]);
        assert_eq!(next(), Poll::Ready(None));
    }

    #[tokio::test]
    async fn what_a_task_drives_comes_as_well() {
        let (outside, driver, mut body) = driver();
        let mut tasks = JoinSet::new();
        driver.hand_over(|work| tasks.spawn(work));
        for piece in 1..4 {
            let later = outside.clone();
            tasks.spawn(async move {
                tokio::task::yield_now().await;
                later.send(piece).await.unwrap();
            });
            assert_eq!(poll_fn(|cx| driver.poll(cx, |cx| body.poll_recv(cx))).await, Some(piece));
        }
        driver.cut();
        assert_eq!(poll_fn(|cx| driver.poll(cx, |cx| body.poll_recv(cx))).await, None);
    }
}
