//! What a run uses, and when that is too much.
//!
//! Processor time is the time that threads spend polling the run's future, host calls included, by the thread's own
//! clock, so that runs that share a thread do not pay for each other. Epochs do not measure: they make a busy guest
//! return to [`Metered`], which does.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use wasmtime::{Engine, ResourceLimiter};

use crate::protocol::{LimitName, RunLimits};

/// Time between epochs: how long a guest runs at a stretch, and how late it notices that it must not.
const TICK: Duration = Duration::from_millis(5);

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

/// The account of one run.
pub(crate) struct Meter {
    limits: RunLimits,
    started: Instant,
    cpu_ns: AtomicU64,
    memory_peak: AtomicU64,
    refused: Mutex<Option<LimitHit>>,
}

impl Meter {
    pub(crate) fn start(limits: RunLimits) -> Arc<Self> {
        Arc::new(Meter {
            limits,
            started: Instant::now(),
            cpu_ns: AtomicU64::new(0),
            memory_peak: AtomicU64::new(0),
            refused: Mutex::new(None),
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

    /// In bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.memory_peak.load(Ordering::Relaxed)
    }

    /// The last growth that the guest was refused. Many programs answer a refusal by aborting.
    pub(crate) fn refused_growth(&self) -> Option<LimitHit> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, hit: LimitHit) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(hit);
    }

    /// Polls `future` to its end within the run's time and processor time, unless it is cancelled.
    pub(crate) async fn watch<T>(
        self: &Arc<Self>,
        cancel: &Cancel,
        future: Pin<&mut (impl Future<Output = T> + Send)>,
    ) -> Result<T, Stop> {
        let deadline = tokio::time::Instant::from_std(self.started + self.limits.time);
        tokio::select! {
            biased;
            () = cancel.requested() => Err(Stop::Cancelled),
            outcome = Metered { meter: self, future } => outcome.map_err(Stop::Limit),
            () = tokio::time::sleep_until(deadline) => Err(Stop::Limit(self.time_hit())),
        }
    }

    fn check(&self) -> Result<(), LimitHit> {
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

    fn time_hit(&self) -> LimitHit {
        LimitHit { name: LimitName::Time, used: micros(self.wall()), limit: micros(self.limits.time) }
    }
}

/// A future whose polls are on the meter.
struct Metered<'a, F> {
    meter: &'a Meter,
    future: Pin<&'a mut F>,
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = Result<F::Output, LimitHit>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let before = thread_time();
        let polled = self.future.as_mut().poll(cx);
        let spent = thread_time().saturating_sub(before);
        self.meter.cpu_ns.fetch_add(spent.as_nanos() as u64, Ordering::Relaxed);
        match polled {
            // A guest that is done is done, even if that took a little longer than it should have.
            Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
            Poll::Pending => match self.meter.check() {
                Ok(()) => Poll::Pending,
                Err(hit) => Poll::Ready(Err(hit)),
            },
        }
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Counts the memory and the tables of all of a run's instances.
pub(crate) struct Growth {
    meter: Arc<Meter>,
    memory: u64,
    tables: u64,
    /// What the growth that was allowed last added, until it is known to have worked.
    last: Added,
}

#[derive(Default)]
struct Added {
    memory: u64,
    tables: u64,
}

impl Growth {
    pub(crate) fn new(meter: &Arc<Meter>) -> Self {
        Growth { meter: Arc::clone(meter), memory: 0, tables: 0, last: Added::default() }
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.last = Added::default();
        let added = desired.saturating_sub(current) as u64;
        let total = self.memory.saturating_add(added);
        let limit = self.meter.limits.memory;
        if total > limit {
            self.meter.refuse(LimitHit { name: LimitName::Memory, used: total, limit });
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory = total;
        self.last.memory = added;
        self.meter.memory_peak.fetch_max(total, Ordering::Relaxed);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory -= std::mem::take(&mut self.last.memory);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.last = Added::default();
        let added = desired.saturating_sub(current) as u64;
        let total = self.tables.saturating_add(added);
        let limit = self.meter.limits.tables;
        if total > limit {
            self.meter.refuse(LimitHit { name: LimitName::Tables, used: total, limit });
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.tables = total;
        self.last.tables = added;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.tables -= std::mem::take(&mut self.last.tables);
        Ok(())
    }
}

/// Advances an engine's epoch while there are runs.
pub(crate) struct Ticker {
    runs: Arc<Runs>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Runs {
    state: Mutex<TickerState>,
    changed: Condvar,
}

#[derive(Default)]
struct TickerState {
    running: usize,
    /// The thread waits for a first run. Waking it takes a system call, and between runs it is mostly still awake.
    waiting: bool,
    over: bool,
}

/// Keeps the epochs coming for one run.
pub(crate) struct Ticking<'a>(&'a Runs);

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let runs = Arc::new(Runs::default());
        let (engine, shared) = (engine.weak(), Arc::clone(&runs));
        let thread = thread::Builder::new().name("epochs".into()).spawn(move || {
            while shared.wait_for_a_run() {
                thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Ticker { runs, thread: Some(thread) })
    }

    pub(crate) fn run(&self) -> Ticking<'_> {
        let mut state = self.runs.lock();
        state.running += 1;
        if std::mem::take(&mut state.waiting) {
            self.runs.changed.notify_one();
        }
        Ticking(&self.runs)
    }
}

impl Runs {
    fn lock(&self) -> std::sync::MutexGuard<'_, TickerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when it is over.
    fn wait_for_a_run(&self) -> bool {
        let idle = |state: &mut TickerState| {
            state.waiting = state.running == 0 && !state.over;
            state.waiting
        };
        !self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner).over
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.runs.lock().over = true;
        self.runs.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; and a tick is short.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> RunLimits {
        RunLimits { memory: 100, tables: 10, ..RunLimits::default() }
    }

    #[test]
    fn memory_is_counted_over_all_memories_and_given_back_when_growth_fails() {
        let meter = Meter::start(limits());
        let mut growth = Growth::new(&meter);
        assert!(growth.memory_growing(0, 60, None).unwrap());
        assert!(growth.memory_growing(0, 40, None).unwrap());
        growth.memory_grow_failed(wasmtime::format_err!("no room")).unwrap();
        assert!(growth.memory_growing(60, 90, None).unwrap());
        assert!(!growth.memory_growing(90, 101, None).unwrap());
        assert_eq!(meter.memory_peak(), 100, "what was allowed, even if it then failed");
        let hit = meter.refused_growth().unwrap();
        assert_eq!(hit, LimitHit { name: LimitName::Memory, used: 101, limit: 100 });
    }

    #[test]
    fn a_growth_beyond_the_guests_own_maximum_is_not_the_limits_doing() {
        let meter = Meter::start(limits());
        let mut growth = Growth::new(&meter);
        assert!(!growth.memory_growing(0, 90, Some(80)).unwrap());
        assert!(!growth.table_growing(0, 9, Some(8)).unwrap());
        assert!(meter.refused_growth().is_none());
        assert!(!growth.table_growing(0, 11, None).unwrap());
        assert_eq!(meter.refused_growth().unwrap().name, LimitName::Tables);
    }

    #[tokio::test]
    async fn a_busy_future_is_stopped_when_its_processor_time_is_over() {
        let meter = Meter::start(RunLimits { cpu: Duration::from_millis(2), ..RunLimits::default() });
        let busy = async {
            let mut spins = 0_u64;
            loop {
                for _ in 0..10_000 {
                    spins = std::hint::black_box(spins + 1);
                }
                tokio::task::yield_now().await;
            }
        };
        let mut busy = std::pin::pin!(busy);
        let stop = meter.watch::<()>(&Cancel::default(), busy.as_mut()).await.unwrap_err();
        assert!(
            matches!(stop, Stop::Limit(LimitHit { name: LimitName::Cpu, used, limit: 2000 }) if used > 2000)
        );
    }

    #[tokio::test]
    async fn cancelling_counts_before_and_during_a_run() {
        let meter = Meter::start(RunLimits::default());
        let cancel = Cancel::default();
        let mut idle = std::pin::pin!(std::future::pending::<()>());
        let watched = meter.watch(&cancel, idle.as_mut());
        let (stop, ()) = tokio::join!(watched, async { cancel.cancel() });
        assert!(matches!(stop, Err(Stop::Cancelled)));
        assert!(matches!(meter.watch(&cancel, idle.as_mut()).await, Err(Stop::Cancelled)));
    }
}
