//! The one thread that writes.
//!
//! It takes everything that waits and commits it as one transaction: sixty callers wait for one `fsync` instead of
//! sixty. Each piece of work is a savepoint of its own, so what one caller does wrong is undone alone; what is wrong
//! with the disk fails the whole group, and leaves the state of before.

use std::collections::VecDeque;
use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::problem::Problem;
use crate::failure::Failure;
use crate::priority::step_back;

/// Most pieces of work in one transaction, so that the first caller does not wait for all the others.
const GROUP: usize = 1024;

/// How long work that nobody waits for is held back for company. Much longer, and whoever answers meets a burst of it.
const LINGER: Duration = Duration::from_millis(5);

/// Bytes of work that nobody waits for, above which there is no room for more.
const BACKLOG: usize = 32 << 20;

/// A piece of work inside the writer's transaction.
trait Work: Send {
    /// Does it; may be called once.
    fn apply(&mut self, db: &Connection) -> Result<(), Problem>;
    /// Tells its caller, if any, once the transaction has ended. It fails when it failed itself, or the transaction.
    fn settle(self: Box<Self>, outcome: Result<(), Failure>);
    /// Bytes that it keeps in memory, of work that nobody waits for.
    fn weight(&self) -> usize;
    /// Whether it is one statement, which undoes itself when it fails and needs no savepoint.
    fn is_one_statement(&self) -> bool {
        false
    }
}

/// The thread's handle. Dropping it commits what is still queued.
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Pieces of work that nobody waited for and that came to nothing.
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Box<dyn Work>>,
    /// Bytes of queued work that nobody waits for.
    backlog: usize,
    /// How many of the queued are waited for.
    awaited: usize,
    closed: bool,
}

impl Writer {
    /// Starts the thread on its connection to the database at `path`.
    pub(super) fn start(db: Connection, path: PathBuf) -> Result<Self, Failure> {
        let queue = Arc::new(Queue::default());
        let of_thread = Arc::clone(&queue);
        let thread = thread::Builder::new()
            .name("orch-store".to_owned())
            .spawn(move || {
                step_back();
                of_thread.serve(db, &path);
            })
            .map_err(|e| Failure::defect(format!("cannot start the thread that writes the store: {e}")))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Does `work` in the next transaction and returns what it returned, once that is durable. It is done even when
    /// nobody waits any more.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Box::new(Awaited { work: Some(work), value: None, reply }));
        answer.await.unwrap_or_else(|_| Err(Failure::defect("the thread that writes the store has ended")))
    }

    /// Does `work`, which keeps `weight` bytes, in one of the next transactions. Nobody is told what came of it;
    /// what came to nothing is counted.
    pub(super) fn queue(
        &self,
        weight: usize,
        work: impl FnOnce(&Connection) -> Result<(), Problem> + Send + 'static,
    ) {
        self.queue.push(Box::new(Unwatched { work: Some(work), weight, one_statement: false }));
    }

    /// As [`Writer::queue`], for work that is one statement: that is cheaper by two.
    pub(super) fn queue_statement(
        &self,
        weight: usize,
        work: impl FnOnce(&Connection) -> Result<(), Problem> + Send + 'static,
    ) {
        self.queue.push(Box::new(Unwatched { work: Some(work), weight, one_statement: true }));
    }

    /// Whether more work that nobody waits for should be queued.
    pub(super) fn has_room(&self) -> bool {
        self.queue.lock().backlog < BACKLOG
    }

    /// How much work that nobody waits for has come to nothing.
    pub(super) fn lost(&self) -> u64 {
        self.queue.lost.load(Ordering::Relaxed)
    }

    /// Whether the thread has ended before its time, which only a panic brings about.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How many pieces of work are queued and waited for.
    #[cfg(test)]
    pub(super) fn awaited(&self) -> usize {
        self.queue.lock().awaited
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told its callers by dropping their channels.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change of it is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, work: Box<dyn Work>) {
        let mut waiting = self.lock();
        if waiting.closed {
            // Its caller is told by the channel that is dropped with it.
            return;
        }
        let weight = work.weight();
        waiting.backlog += weight;
        waiting.awaited += usize::from(weight == 0);
        waiting.work.push_back(work);
        // The thread is woken by the first piece, by one that somebody waits for, and by a full group; whatever else is
        // queued meanwhile is found when it has lingered.
        let wakes = waiting.work.len() == 1 || weight == 0 || waiting.work.len() == GROUP;
        drop(waiting);
        if wakes {
            self.changed.notify_one();
        }
    }

    fn serve(&self, mut db: Connection, path: &std::path::Path) {
        // However this thread ends, nobody queues for it after that.
        let _closes = Closes(self);
        while let Some(group) = self.next_group() {
            let outcomes = commit(&mut db, group);
            for (work, outcome) in outcomes {
                // Nobody is told, but somebody may look.
                let unwatched = work.weight() > 0;
                self.lost.fetch_add(u64::from(unwatched && outcome.is_err()), Ordering::Relaxed);
                work.settle(outcome.map_err(|problem| problem.told(path)));
            }
        }
    }

    /// What waits, as soon as somebody waits for it or it has lingered; none when the store is closed and all is done.
    fn next_group(&self) -> Option<Vec<Box<dyn Work>>> {
        let mut waiting = self.lock();
        while waiting.work.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut waiting, _) = self
            .changed
            .wait_timeout_while(waiting, LINGER, |waiting| {
                waiting.awaited == 0 && !waiting.closed && waiting.work.len() < GROUP
            })
            .unwrap_or_else(PoisonError::into_inner);
        let count = waiting.work.len().min(GROUP);
        let group: Vec<_> = waiting.work.drain(..count).collect();
        waiting.backlog -= group.iter().map(|work| work.weight()).sum::<usize>();
        waiting.awaited -= group.iter().filter(|work| work.weight() == 0).count();
        Some(group)
    }
}

struct Closes<'a>(&'a Queue);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        let left = {
            let mut waiting = self.0.lock();
            waiting.closed = true;
            mem::take(&mut waiting.work)
        };
        drop(left);
    }
}

type Outcome = (Box<dyn Work>, Result<(), Problem>);

/// Commits the group. What fails alone is undone alone; when the transaction fails, all of it does.
fn commit(db: &mut Connection, group: Vec<Box<dyn Work>>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(group.len());
    let mut left = group.into_iter();
    match attempt(db, &mut left, &mut outcomes) {
        Ok(()) => outcomes,
        Err(problem) => {
            let problem = Arc::new(problem);
            outcomes
                .into_iter()
                .map(|(work, outcome)| (work, outcome.and_then(|()| Err(shared(&problem)))))
                .chain(left.map(|work| (work, Err(shared(&problem)))))
                .collect()
        }
    }
}

fn attempt(
    db: &mut Connection,
    group: &mut impl Iterator<Item = Box<dyn Work>>,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Problem> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for mut work in group {
        let savepoint = !work.is_one_statement();
        if savepoint {
            transaction.prepare_cached("SAVEPOINT work")?.execute([])?;
        }
        let outcome = work.apply(&transaction);
        match outcome {
            // SQLite ends the transaction itself after some errors; then nothing of the group is left.
            Err(problem) if !problem.is_own() || transaction.is_autocommit() => {
                outcomes.push((work, Err(shared(&problem))));
                return Err(problem);
            }
            Err(problem) => {
                if savepoint {
                    transaction.prepare_cached("ROLLBACK TO work")?.execute([])?;
                }
                outcomes.push((work, Err(problem)));
            }
            Ok(()) => outcomes.push((work, Ok(()))),
        }
        if savepoint {
            transaction.prepare_cached("RELEASE work")?.execute([])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The same problem once more: everybody in the group is told.
fn shared(problem: &Problem) -> Problem {
    match problem {
        Problem::Sqlite(rusqlite::Error::SqliteFailure(error, text)) => {
            Problem::Sqlite(rusqlite::Error::SqliteFailure(*error, text.clone()))
        }
        Problem::Sqlite(error) => Problem::Row(error.to_string()),
        Problem::Row(why) => Problem::Row(why.clone()),
        Problem::Refused(failure) => Problem::Refused(failure.clone()),
    }
}

struct Awaited<T, F> {
    work: Option<F>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<T, F> Work for Awaited<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Problem> + Send,
{
    fn apply(&mut self, db: &Connection) -> Result<(), Problem> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(db)?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), Failure>) {
        let Self { value, reply, .. } = *self;
        let told = match (outcome, value) {
            (Err(failure), _) => Err(failure),
            (Ok(()), Some(value)) => Ok(value),
            (Ok(()), None) => Err(Failure::defect("work was committed without having been done")),
        };
        // Who asked may be gone.
        let _ = reply.send(told);
    }

    fn weight(&self) -> usize {
        0
    }
}

struct Unwatched<F> {
    work: Option<F>,
    weight: usize,
    one_statement: bool,
}

impl<F: FnOnce(&Connection) -> Result<(), Problem> + Send> Work for Unwatched<F> {
    fn apply(&mut self, db: &Connection) -> Result<(), Problem> {
        self.work.take().map_or(Ok(()), |work| work(db))
    }

    fn settle(self: Box<Self>, _: Result<(), Failure>) {}

    fn weight(&self) -> usize {
        // Nought says that somebody waits.
        self.weight.max(1)
    }

    fn is_one_statement(&self) -> bool {
        self.one_statement
    }
}
