//! The epochs that interrupt busy guests.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

/// Time between epochs while a guest runs: how long it does at a stretch, and how late it notices that it must not.
const TICK: Duration = Duration::from_millis(1);
/// The same while all of them wait.
const QUIET: Duration = Duration::from_millis(5);

/// Advances an engine's epoch while there are runs.
pub(crate) struct Ticker {
    runs: Arc<Runs>,
    thread: Option<JoinHandle<()>>,
}

/// How many epochs have passed, and whether anybody minds.
#[derive(Clone, Default)]
pub(crate) struct Ticks(Arc<Counts>);

#[derive(Default)]
struct Counts {
    passed: AtomicU64,
    turns: AtomicUsize,
}

/// A guest runs.
pub(crate) struct InTurn<'a>(&'a Counts);

impl Ticks {
    pub(crate) fn now(&self) -> u64 {
        self.0.passed.load(Ordering::Relaxed)
    }

    /// Counts a guest that runs until this is dropped.
    pub(crate) fn turn(&self) -> InTurn<'_> {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        InTurn(&self.0)
    }

    fn interval(&self) -> Duration {
        if self.0.turns.load(Ordering::Relaxed) > 0 { TICK } else { QUIET }
    }
}

impl Drop for InTurn<'_> {
    fn drop(&mut self) {
        self.0.turns.fetch_sub(1, Ordering::Relaxed);
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
            while shared.wait_for_a_run() {
                thread::sleep(shared.ticks.interval());
                match engine.upgrade() {
                    Some(engine) => {
                        // First: whoever is interrupted by the epoch finds that it has passed.
                        shared.ticks.0.passed.fetch_add(1, Ordering::Relaxed);
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
