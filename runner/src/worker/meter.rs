//! What a run uses, and when that is too much.
//!
//! Processor time is the time that threads spend polling the run's future, host calls included, by the thread's own
//! clock, so that runs that share a thread do not pay for each other, and a run that waits pays nothing. Epochs do not
//! measure: they make a busy guest return to [`Meter::turn`], which does.
//!
//! Memory is one account ([`memory`]). How much of a processor a run may have before others come first is its
//! [credit](credit).

mod credit;
pub(crate) mod memory;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use self::credit::Credit;
use self::memory::Account;
use super::ticker::Ticks;
use crate::jail::Full;
use crate::protocol::{LimitName, RunLimits};

/// A bound was reached. Travels through wasmtime as the cause of a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run's {name} limit of {limit} was reached")]
pub(crate) struct LimitHit {
    pub(crate) name: LimitName,
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

/// Stops a run from elsewhere.
#[derive(Debug, Default)]
pub struct Cancel {
    requested: AtomicBool,
    notify: Notify,
}

impl Cancel {
    /// Asks the run to stop; for a run that has not begun it counts as well.
    pub fn cancel(&self) {
        self.requested.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(super) async fn requested(&self) {
        let notified = self.notify.notified();
        // `notified` counts from its creation on, so a request after this check is not missed.
        if !self.requested.load(Ordering::Acquire) {
            notified.await;
        }
    }
}

/// Why a run's future was given up.
#[derive(Debug)]
pub(crate) enum Stop {
    Limit(LimitHit),
    Cancelled,
}

/// The account of one run. One thread at a time polls the run; others only read, and hold memory.
pub(crate) struct Meter {
    limits: RunLimits,
    started: Instant,
    cpu_ns: AtomicU64,
    credit: Mutex<Credit>,
    memory: Account,
    /// The last growth that the guest was refused, which it may survive.
    refused: Mutex<Option<LimitHit>>,
    /// The last bound of its scratch folders that the guest was told of, which it may survive.
    full: Mutex<Option<LimitHit>>,
    /// A bound that was reached where no trap could say so.
    exceeded: OnceLock<LimitHit>,
    ticks: Ticks,
    /// It has had a turn.
    begun: AtomicBool,
    turn: CurrentTurn,
}

/// The processor time of a run's first turn, after which it is not taken for one that soon waits for something.
const FIRST_TURN: Duration = Duration::from_micros(500);

/// The poll that is under way.
#[derive(Default)]
struct CurrentTurn {
    /// The epoch in which it began.
    since: AtomicU64,
    /// It is the run's first.
    first: AtomicBool,
    /// What its thread had used of a processor when it began, in nanoseconds.
    used_before: AtomicU64,
    /// The guest returned because its time at a stretch was over, and would go on.
    interrupted: AtomicBool,
}

/// What one poll of a run came to.
pub(crate) enum Turn<T> {
    /// The guest is done.
    Over(T),
    /// It has used too much of something.
    Hit(LimitHit),
    /// It would go on.
    Interrupted,
    /// It waits for something.
    Waits,
}

impl Meter {
    pub(crate) fn start(limits: RunLimits, ticks: Ticks) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(Meter {
            limits,
            started,
            cpu_ns: AtomicU64::new(0),
            credit: Mutex::new(Credit::new()),
            memory: Account::default(),
            refused: Mutex::new(None),
            full: Mutex::new(None),
            exceeded: OnceLock::new(),
            ticks,
            begun: AtomicBool::new(false),
            turn: CurrentTurn::default(),
        })
    }

    pub(crate) fn limits(&self) -> &RunLimits {
        &self.limits
    }

    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }

    pub(crate) fn wall(&self) -> Duration {
        self.started.elapsed()
    }

    /// When the run's time is over.
    pub(crate) fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started + self.limits.time)
    }

    /// In bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.memory.peak()
    }

    /// The last growth that the guest was refused. Many programs answer a refusal by aborting.
    pub(crate) fn refused_growth(&self) -> Option<LimitHit> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last bound of its scratch folders that the guest was told of.
    pub(crate) fn full_scratch(&self) -> Option<LimitHit> {
        *self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest is told that its scratch folders are full.
    pub(super) fn was_full(&self, Full { name, limit }: Full) {
        let hit = LimitHit { name, used: limit, limit };
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = Some(hit);
    }

    /// A bound that was reached and that the guest did not hear of.
    pub(crate) fn exceeded(&self) -> Option<LimitHit> {
        self.exceeded.get().copied()
    }

    /// Whether the run comes before those that keep processors busy.
    pub(crate) fn has_credit(&self) -> bool {
        self.credit().positive(Instant::now())
    }

    /// Whether a guest that an epoch interrupts has had its time at a stretch, which is a whole epoch. One that has just
    /// been woken has not, however many epochs it slept through. A first turn is shorter, since many may wait for theirs.
    ///
    /// To be asked on the thread that has the turn.
    pub(crate) fn turn_is_over(&self) -> bool {
        if self.turn.first.load(Ordering::Relaxed) {
            let before = Duration::from_nanos(self.turn.used_before.load(Ordering::Relaxed));
            return thread_time().saturating_sub(before) >= FIRST_TURN;
        }
        self.ticks.now() > self.turn.since.load(Ordering::Relaxed) + 1
    }

    /// What a guest awaits to end its turn.
    pub(crate) fn end_turn(self: &Arc<Self>) -> EndTurn {
        EndTurn { meter: Arc::clone(self), ended: false }
    }

    /// Polls `future` once, on the meter.
    pub(crate) fn turn<F: Future + ?Sized>(
        &self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Turn<F::Output> {
        self.turn.since.store(self.ticks.now(), Ordering::Relaxed);
        self.turn.interrupted.store(false, Ordering::Relaxed);
        let first = !self.begun.swap(true, Ordering::Relaxed);
        let in_turn = self.ticks.turn(first);
        let before = thread_time();
        self.turn.first.store(first, Ordering::Relaxed);
        self.turn.used_before.store(before.as_nanos() as u64, Ordering::Relaxed);
        let polled = future.poll(cx);
        drop(in_turn);
        let spent = thread_time().saturating_sub(before);
        self.cpu_ns.fetch_add(spent.as_nanos() as u64, Ordering::Relaxed);
        let interrupted = self.turn.interrupted.load(Ordering::Relaxed);
        self.credit().spend(spent, !interrupted, Instant::now());
        match polled {
            // A guest that is done is done, even if that took a little longer than it should have.
            Poll::Ready(outcome) => Turn::Over(outcome),
            Poll::Pending => match self.check() {
                Err(hit) => Turn::Hit(hit),
                Ok(()) if interrupted => Turn::Interrupted,
                Ok(()) => Turn::Waits,
            },
        }
    }

    fn credit(&self) -> std::sync::MutexGuard<'_, Credit> {
        self.credit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), LimitHit> {
        if let Some(hit) = self.exceeded() {
            return Err(hit);
        }
        let cpu = self.cpu();
        if cpu > self.limits.cpu {
            return Err(LimitHit { name: LimitName::Cpu, used: micros(cpu), limit: micros(self.limits.cpu) });
        }
        // The timer alone would not do: it is looked at between guests' turns.
        if self.wall() > self.limits.time {
            return Err(self.time_hit());
        }
        Ok(())
    }

    /// The run's time is over.
    pub(crate) fn time_hit(&self) -> LimitHit {
        LimitHit { name: LimitName::Time, used: micros(self.wall()), limit: micros(self.limits.time) }
    }

    fn refuse(&self, hit: LimitHit) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(hit);
    }
}

/// Ends the turn of the guest that awaits it. Wakes nobody: whoever polls the guest knows that it would go on.
pub(crate) struct EndTurn {
    meter: Arc<Meter>,
    ended: bool,
}

impl Future for EndTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        self.ended = true;
        self.meter.turn.interrupted.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}

/// The processor time of this thread.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
