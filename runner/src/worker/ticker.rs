//! The epochs that interrupt busy guests.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wasmtime::Engine;

/// Time between epochs while a guest runs: how long it does at a stretch, and how late it notices that it must not.
const TICK: Duration = Duration::from_millis(1);
/// The same while one of them has just come, of which nobody knows yet whether it will ever stop.
const QUICK: Duration = Duration::from_micros(250);
/// The same while all of them wait.
const QUIET: Duration = Duration::from_millis(5);

/// Advances an engine's epoch while there are runs.
pub(crate) struct Ticker {
    runs: Arc<Runs>,
    thread: Option<JoinHandle<()>>,
}

/// How many epochs have passed, of the usual length or longer, and whether anybody minds.
#[derive(Clone, Default)]
pub(crate) struct Ticks(Arc<Counts>);

#[derive(Default)]
struct Counts {
    passed: AtomicU64,
    turns: AtomicUsize,
    first_turns: AtomicUsize,
}

/// A guest runs.
pub(crate) struct InTurn<'a> {
    counts: &'a Counts,
    first: bool,
}

impl Ticks {
    pub(crate) fn now(&self) -> u64 {
        self.0.passed.load(Ordering::Relaxed)
    }

    /// Counts a guest that runs until this is dropped, and whether it does so for the first time.
    pub(crate) fn turn(&self, first: bool) -> InTurn<'_> {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        self.0.first_turns.fetch_add(first.into(), Ordering::Relaxed);
        InTurn { counts: &self.0, first }
    }

    fn interval(&self) -> Duration {
        let any = |of: &AtomicUsize| of.load(Ordering::Relaxed) > 0;
        match (any(&self.0.first_turns), any(&self.0.turns)) {
            (true, _) => QUICK,
            (false, true) => TICK,
            (false, false) => QUIET,
        }
    }
}

impl Drop for InTurn<'_> {
    fn drop(&mut self) {
        self.counts.turns.fetch_sub(1, Ordering::Relaxed);
        self.counts.first_turns.fetch_sub(self.first.into(), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Runs {
    state: Mutex<TickerState>,
    changed: Condvar,
    ticks: Ticks,
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
            let mut counted = Instant::now();
            while shared.wait_for_a_run() {
                thread::sleep(shared.ticks.interval());
                match engine.upgrade() {
                    Some(engine) => {
                        // First: whoever is interrupted by the epoch finds that it has passed.
                        if counted.elapsed() >= TICK {
                            counted = Instant::now();
                            shared.ticks.0.passed.fetch_add(1, Ordering::Relaxed);
                        }
                        engine.increment_epoch();
                    }
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

    pub(crate) fn ticks(&self) -> Ticks {
        self.runs.ticks.clone()
    }
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, TickerState> {
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
