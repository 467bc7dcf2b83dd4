//! Who of those that have just come begins.
//!
//! What a run will do is known once it has done it. Until its first turn is over it may be a hog, so that beginners have
//! half of the threads at most: the others are for those who are known to do little, and for those who have just come.
//! With all of the threads, a hundred hogs that come together would have them one after the other, and whoever comes
//! meanwhile would not even get to stand in line until the last of them is known. Who came last begins first, since those
//! who come in a crowd are the ones that make others wait.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The places for beginners of one sandbox.
pub(super) struct Beginners(Mutex<State>);

struct State {
    free: usize,
    waiting: Vec<oneshot::Sender<()>>,
}

/// A place, until it is dropped.
pub(super) struct Place<'a>(&'a Beginners);

impl Beginners {
    pub(super) fn new(processors: usize) -> Self {
        Beginners::at_once((processors / 2).max(1))
    }

    fn at_once(free: usize) -> Self {
        Beginners(Mutex::new(State { free, waiting: Vec::new() }))
    }

    /// Waits for a place.
    pub(super) async fn place(&self) -> Place<'_> {
        let handed = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Place(self);
            }
            let (hand, handed) = oneshot::channel();
            state.waiting.push(hand);
            Handed { beginners: self, handed }
        };
        handed.wait().await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        // Some may have stopped waiting.
        while let Some(waiting) = state.waiting.pop() {
            if waiting.send(()).is_ok() {
                return;
            }
        }
        state.free += 1;
    }
}

/// A place that somebody waits for. One that was handed to somebody who no longer waits is passed on.
struct Handed<'a> {
    beginners: &'a Beginners,
    handed: oneshot::Receiver<()>,
}

impl<'a> Handed<'a> {
    async fn wait(mut self) -> Place<'a> {
        // It fails for a sandbox that is gone, and this one is not.
        let _ = (&mut self.handed).await;
        Place(self.beginners)
    }
}

impl Drop for Handed<'_> {
    fn drop(&mut self) {
        self.handed.close();
        if self.handed.try_recv().is_ok() {
            drop(Place(self.beginners));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};

    use super::*;

    fn waits<F: Future>(future: Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn the_last_to_come_is_next_and_who_left_is_passed_over() {
        let beginners = Beginners::at_once(1);
        let place = beginners.place().await;
        let mut first = pin!(beginners.place());
        assert!(waits(first.as_mut()));
        let mut second = pin!(beginners.place());
        assert!(waits(second.as_mut()));
        {
            let mut gone = pin!(beginners.place());
            assert!(waits(gone.as_mut()));
        }
        drop(place);
        assert!(waits(first.as_mut()));
        let place = second.await;
        drop(place);
        drop(first.await);
        assert_eq!(beginners.lock().free, 1);
    }

    #[tokio::test]
    async fn a_place_that_nobody_takes_any_more_is_not_lost() {
        let beginners = Beginners::at_once(1);
        let place = beginners.place().await;
        {
            let mut waiting = pin!(beginners.place());
            assert!(waits(waiting.as_mut()));
            // Handed over, and dropped before it was looked at.
            drop(place);
        }
        drop(beginners.place().await);
        assert_eq!(beginners.lock().free, 1);
    }
}
