//! sled on a disk that fails.
//!
//! Two things go wrong with it then. A thread that writes notes its error and does not wake who waits for it, and that
//! wait never ends; any later flush sees the error and wakes everybody. So while somebody waits for longer than a
//! disk should need, others flush beside it. And sled panics when its last handle is dropped and the disk cannot be
//! synced. What had to be kept was flushed before and failed there, so that panic says nothing new.

use std::io;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How long a flush may take before another one looks why; twice as long each time after that.
const PATIENCE: Duration = Duration::from_millis(250);

/// An open database.
pub(super) struct Engine {
    /// `None` while it is dropped.
    db: Option<sled::Db>,
    watch: Arc<Watch>,
    watcher: Option<JoinHandle<()>>,
}

/// What the watcher is told.
#[derive(Default)]
struct Watch {
    waits: Mutex<Waits>,
    changed: Condvar,
}

#[derive(Default)]
struct Waits {
    /// How many wait for the disk.
    waiting: usize,
    /// How many ever did.
    begun: u64,
    /// The watcher sleeps until somebody waits. Waking it at each wait would cost more than the wait's own work.
    asleep: bool,
    /// Nobody will wait any more.
    over: bool,
}

impl Engine {
    /// Watches over `db`.
    pub(super) fn new(db: sled::Db) -> io::Result<Engine> {
        let watch = Arc::new(Watch::default());
        let (theirs, watched) = (Arc::clone(&watch), db.clone());
        let watcher = Builder::new().name("vault-flush".to_owned()).spawn(move || theirs.over(&watched))?;
        Ok(Engine { db: Some(db), watch, watcher: Some(watcher) })
    }

    /// Does what waits for the disk.
    pub(super) fn patiently<T>(&self, work: impl FnOnce() -> T) -> T {
        self.watch.begin();
        let _done = Done(&self.watch);
        work()
    }
}

impl Deref for Engine {
    type Target = sled::Db;

    fn deref(&self) -> &sled::Db {
        self.db.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        let _ = catch_unwind(AssertUnwindSafe(|| self.patiently(|| db.flush())));
        self.watch.end();
        // The watcher lets go of its handle first: the last one is dropped here.
        let _ = self.watcher.take().map(JoinHandle::join);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

/// Ends a wait, however it ends.
struct Done<'a>(&'a Watch);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let mut waits = self.lock();
        waits.waiting += 1;
        waits.begun += 1;
        if waits.asleep {
            self.changed.notify_one();
        }
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.notify_one();
    }

    /// The watcher's part. It looks once per [`PATIENCE`] while somebody waits, and sleeps when nobody did since.
    fn over(&self, db: &sled::Db) {
        let mut pause = PATIENCE;
        let mut waits = self.lock();
        while !waits.over {
            let seen = waits.begun;
            if waits.waiting == 0 {
                waits.asleep = true;
                waits = self.changed.wait(waits).unwrap_or_else(PoisonError::into_inner);
                waits.asleep = false;
                pause = PATIENCE;
                continue;
            }
            waits = self.changed.wait_timeout(waits, pause).unwrap_or_else(PoisonError::into_inner).0;
            if waits.begun != seen || waits.waiting == 0 {
                pause = PATIENCE;
                continue;
            }
            let db = db.clone();
            // In a thread of its own, for it may wait like the others; without one, the next may do better.
            let flush = move || drop(catch_unwind(AssertUnwindSafe(move || db.flush())));
            let _ = Builder::new().name("vault-flush-again".to_owned()).spawn(flush);
            pause *= 2;
        }
    }
}
