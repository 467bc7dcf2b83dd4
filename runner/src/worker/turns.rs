//! Whose turn it is: a run's future, here or in the [lane](super::lane) for hogs.
//!
//! A run is polled by the task that owns it, on the runtime's threads, for as long as a guest may run at a stretch. One
//! that would go on then, or that has used up its [credit](super::meter) before, is handed to the lane, turn by turn,
//! until it waits for something; then it is the owner's again. The owner can always have it back: at once while it is
//! queued, and otherwise after the turn that is under way. Before its first turn it is a [beginner](super::beginners).

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;

use super::lane::{Job, Lane};
use super::meter::{Cancel, LimitHit, Meter, Stop, Turn};

/// A run, from its first turn to its last.
pub(super) struct Turns<'a, T> {
    meter: Arc<Meter>,
    /// Where a hog goes; none where it may have what it takes.
    lane: Option<&'a Lane>,
    place: Place<T>,
}

enum Place<T> {
    Here(BoxFuture<'static, T>),
    Away(Arc<Away<T>>),
    Nowhere,
}

/// A run in the lane.
struct Away<T> {
    meter: Arc<Meter>,
    runtime: Handle,
    slot: Mutex<Slot<T>>,
    /// Something that it waits for has happened since its last turn began.
    woken: AtomicBool,
    /// The owner wants it back, whether or not it would go on.
    recalled: AtomicBool,
    owner: AtomicWaker,
}

enum Slot<T> {
    /// It is queued.
    Queued(BoxFuture<'static, T>),
    /// A turn is under way.
    Turning,
    /// It waits for something.
    Back(BoxFuture<'static, T>),
    /// It has ended; what is left of it is the owner's to drop.
    Ended(BoxFuture<'static, T>, Ended<T>),
    /// The owner has it.
    Taken,
}

enum Ended<T> {
    Outcome(Result<T, LimitHit>),
    Panic(Box<dyn Any + Send>),
}

impl<'a, T: Send + 'static> Turns<'a, T> {
    pub(super) fn new(meter: &Arc<Meter>, lane: Option<&'a Lane>, run: BoxFuture<'static, T>) -> Self {
        Turns { meter: Arc::clone(meter), lane, place: Place::Here(run) }
    }

    /// Sees the run to its end within its time and processor time, unless it is cancelled.
    pub(super) async fn see_through(&mut self, cancel: &Cancel) -> Result<T, Stop> {
        let meter = Arc::clone(&self.meter);
        let turns = async {
            let mut beginner = match self.lane {
                Some(lane) => Some(lane.beginners.place().await),
                None => None,
            };
            std::future::poll_fn(|cx| {
                let polled = self.poll(cx);
                // After its first turn it is one no longer.
                beginner = None;
                polled
            })
            .await
        };
        tokio::select! {
            biased;
            () = cancel.requested() => Err(Stop::Cancelled),
            outcome = turns => outcome.map_err(Stop::Limit),
            () = tokio::time::sleep_until(meter.deadline()) => Err(Stop::Limit(meter.time_hit())),
        }
    }

    /// Drops what is left of the run, on this thread, after the turn that may be under way.
    pub(super) async fn end(mut self) {
        if let Place::Away(away) = &self.place {
            away.recalled.store(true, Ordering::Release);
            std::future::poll_fn(|cx| {
                away.owner.register(cx.waker());
                if matches!(*away.lock(), Slot::Turning) { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            drop(away.take());
        }
        self.place = Place::Nowhere;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, LimitHit>> {
        loop {
            match &mut self.place {
                Place::Here(run) => {
                    if let Some(lane) = self.lane.filter(|_| !self.meter.has_credit()) {
                        self.send_away(lane);
                        continue;
                    }
                    match self.meter.turn(run.as_mut(), cx) {
                        Turn::Over(outcome) => return Poll::Ready(Ok(outcome)),
                        Turn::Hit(hit) => return Poll::Ready(Err(hit)),
                        Turn::Waits => return Poll::Pending,
                        Turn::Interrupted => match self.lane {
                            Some(lane) => self.send_away(lane),
                            None => {
                                cx.waker().wake_by_ref();
                                return Poll::Pending;
                            }
                        },
                    }
                }
                Place::Away(away) => match ready!(away.poll_back(cx)) {
                    (run, None) => self.place = Place::Here(run),
                    (run, Some(ended)) => {
                        self.place = Place::Here(run);
                        match ended {
                            Ended::Outcome(outcome) => return Poll::Ready(outcome),
                            Ended::Panic(cause) => resume_unwind(cause),
                        }
                    }
                },
                Place::Nowhere => unreachable!("it is nowhere only after its end"),
            }
        }
    }

    fn send_away(&mut self, lane: &Lane) {
        let Place::Here(run) = mem::replace(&mut self.place, Place::Nowhere) else { return };
        let away = Arc::new(Away {
            meter: Arc::clone(&self.meter),
            runtime: Handle::current(),
            slot: Mutex::new(Slot::Queued(run)),
            woken: AtomicBool::new(true),
            recalled: AtomicBool::new(false),
            owner: AtomicWaker::new(),
        });
        if lane.push(Arc::clone(&away) as Arc<dyn Job>) {
            self.place = Place::Away(away);
        } else {
            // No thread can be had: it stays here, like everybody.
            self.lane = None;
            if let Slot::Queued(run) = away.take() {
                self.place = Place::Here(run);
            }
        }
    }
}

impl<T> Drop for Turns<'_, T> {
    fn drop(&mut self) {
        if let Place::Away(away) = &self.place {
            // A turn that is under way is the last one, and its thread drops the run.
            away.recalled.store(true, Ordering::Release);
            drop(away.take());
        }
    }
}

impl<T> Away<T> {
    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is there. During a turn this tells whoever has it that nobody wants it any more.
    fn take(&self) -> Slot<T> {
        mem::replace(&mut *self.lock(), Slot::Taken)
    }

    /// Ready when the run has ended, or has something to go on with after it waited.
    fn poll_back(&self, cx: &mut Context<'_>) -> Poll<(BoxFuture<'static, T>, Option<Ended<T>>)> {
        self.owner.register(cx.waker());
        let mut slot = self.lock();
        match &*slot {
            Slot::Ended(..) => {}
            Slot::Back(_) if self.woken.load(Ordering::Acquire) => {}
            _ => return Poll::Pending,
        }
        match mem::replace(&mut *slot, Slot::Taken) {
            Slot::Back(run) => Poll::Ready((run, None)),
            Slot::Ended(run, ended) => Poll::Ready((run, Some(ended))),
            Slot::Queued(_) | Slot::Turning | Slot::Taken => {
                unreachable!("it was one of the others a moment ago")
            }
        }
    }
}

impl<T: Send + 'static> Job for Away<T> {
    fn comes_first(&self) -> bool {
        self.meter.has_credit()
    }

    fn turn(self: Arc<Self>) -> bool {
        let mut run = {
            let mut slot = self.lock();
            match mem::replace(&mut *slot, Slot::Turning) {
                Slot::Queued(run) => run,
                other => {
                    // Its owner has taken it back.
                    *slot = other;
                    return false;
                }
            }
        };
        // What the guest starts and waits for belongs to the runtime, as it would there.
        let _runtime = self.runtime.enter();
        self.woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            self.meter.turn(run.as_mut(), &mut Context::from_waker(&waker))
        }));
        let next = match polled {
            Ok(Turn::Interrupted) => Slot::Queued(run),
            Ok(Turn::Waits) => Slot::Back(run),
            Ok(Turn::Hit(hit)) => Slot::Ended(run, Ended::Outcome(Err(hit))),
            Ok(Turn::Over(outcome)) => Slot::Ended(run, Ended::Outcome(Ok(outcome))),
            Err(cause) => Slot::Ended(run, Ended::Panic(cause)),
        };
        let (again, abandoned) = {
            let mut slot = self.lock();
            match &*slot {
                Slot::Turning => {
                    // Under the lock, so that whoever recalls it either sees the turn's end or is seen here.
                    let again = matches!(next, Slot::Queued(_)) && !self.recalled.load(Ordering::Acquire);
                    *slot = next;
                    (again, None)
                }
                _ => (false, Some(next)),
            }
        };
        if !again && abandoned.is_none() {
            self.owner.wake();
        }
        again
    }
}

impl<T: Send + 'static> Wake for Away<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.owner.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{LimitName, RunLimits};
    use crate::worker::meter::thread_time;
    use crate::worker::ticker::Ticks;

    fn meter(cpu: Duration) -> Arc<Meter> {
        Meter::start(RunLimits { cpu, ..RunLimits::default() }, Ticks::default())
    }

    /// Spins, and says where, until `turns` of a millisecond of processor time are over, however busy the machine is.
    async fn spin(meter: Arc<Meter>, turns: u32, where_: std::sync::mpsc::Sender<String>) -> u32 {
        for _ in 0..turns {
            let begun = thread_time();
            while thread_time() - begun < Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            let _ = where_.send(std::thread::current().name().unwrap_or_default().to_owned());
            meter.end_turn().await;
        }
        turns
    }

    #[tokio::test]
    async fn a_busy_run_goes_on_among_the_hogs_and_ends_here() {
        let (meter, lane) = (meter(Duration::from_secs(60)), Lane::new(2));
        let (said, places) = std::sync::mpsc::channel();
        let mut turns = Turns::new(&meter, Some(&lane), Box::pin(spin(Arc::clone(&meter), 50, said)));
        assert_eq!(turns.see_through(&Cancel::default()).await.unwrap(), 50);
        turns.end().await;
        let places: Vec<String> = places.iter().collect();
        assert_ne!(places[0], "hogs");
        assert_eq!(places.last().unwrap(), "hogs");
        assert!(meter.cpu() >= Duration::from_millis(25), "it is metered there, too: {:?}", meter.cpu());
    }

    #[tokio::test]
    async fn a_hog_that_waits_is_its_owners_again() {
        let (meter, lane) = (meter(Duration::from_secs(60)), Lane::new(2));
        let (said, places) = std::sync::mpsc::channel();
        let run = {
            let (meter, said) = (Arc::clone(&meter), said);
            async move {
                spin(Arc::clone(&meter), 100, said.clone()).await;
                tokio::time::sleep(Duration::from_millis(600)).await;
                let _ = said.send(std::thread::current().name().unwrap_or_default().to_owned());
            }
        };
        let mut turns = Turns::new(&meter, Some(&lane), Box::pin(run));
        turns.see_through(&Cancel::default()).await.unwrap();
        let places: Vec<String> = places.iter().collect();
        assert_eq!(places[places.len() - 2], "hogs");
        assert_ne!(places[places.len() - 1], "hogs", "what waited long enough comes first again");
    }

    #[tokio::test]
    async fn a_hog_is_stopped_when_its_processor_time_is_over() {
        let (meter, lane) = (meter(Duration::from_millis(20)), Lane::new(2));
        for lane in [None, Some(&lane)] {
            let (said, _places) = std::sync::mpsc::channel();
            let mut turns = Turns::new(&meter, lane, Box::pin(spin(Arc::clone(&meter), u32::MAX, said)));
            let stop = turns.see_through(&Cancel::default()).await.unwrap_err();
            assert!(
                matches!(stop, Stop::Limit(LimitHit { name: LimitName::Cpu, used, limit: 20_000 }) if used > 20_000)
            );
            turns.end().await;
        }
    }

    #[tokio::test]
    async fn cancelling_counts_before_and_during_a_run_wherever_it_is() {
        let lane = Lane::new(2);
        for before in [true, false] {
            let meter = meter(Duration::from_secs(60));
            let (said, places) = std::sync::mpsc::channel();
            let cancel = Cancel::default();
            let held = Arc::new(());
            let run = {
                let (held, meter) = (Arc::clone(&held), Arc::clone(&meter));
                async move {
                    let _held = held;
                    spin(meter, u32::MAX, said).await
                }
            };
            let mut turns = Turns::new(&meter, Some(&lane), Box::pin(run));
            // Whoever is polled first may use up its first turn.
            if before {
                cancel.cancel();
            }
            let soon = async {
                if !before {
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    cancel.cancel();
                }
            };
            let (stop, ()) = tokio::join!(turns.see_through(&cancel), soon);
            assert!(matches!(stop, Err(Stop::Cancelled)));
            turns.end().await;
            assert_eq!(Arc::strong_count(&held), 1, "nothing is left of it");
            assert_eq!(places.iter().any(|place| place == "hogs"), !before);
        }
    }

    #[tokio::test]
    async fn a_panic_among_the_hogs_is_the_owners() {
        let (meter, lane) = (meter(Duration::from_secs(60)), Lane::new(2));
        let run = {
            let meter = Arc::clone(&meter);
            async move {
                let (said, _places) = std::sync::mpsc::channel();
                spin(meter, 20, said).await;
                panic!("over there");
            }
        };
        let mut turns: Turns<'_, ()> = Turns::new(&meter, Some(&lane), Box::pin(run));
        let caught = futures_util::FutureExt::catch_unwind(AssertUnwindSafe(async {
            turns.see_through(&Cancel::default()).await
        }))
        .await;
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"over there"));
    }
}
