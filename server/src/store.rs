//! What an installation remembers: runs with their events, usage, tokens, agents, and grants.
//!
//! One SQLite database, `orch.db`, and two folders of files that are named by their content: `blobs` (modules) and
//! `documents` (requests and reports too long for a row). Several processes may have a store open; each says with an
//! [`Instance`] that it lives, so that the runs of a dead one are found by the next and those of a live one are left
//! alone.
//!
//! Writes go through one thread ([`writer`]) that commits what waits as one transaction: what was awaited is on disk.
//! Reads use connections of their own and see what is committed. Order is that of commits, never that of clocks.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orch_manifests::RunId;
use serde_json::Value;
use time::OffsetDateTime;

use crate::failure::{Failure, Kind};

mod blobs;
mod bodies;
mod byok;
mod calls;
mod columns;
mod documents;
mod events;
mod grants;
mod instance;
mod packed;
mod place;
mod problem;
mod readers;
mod registry;
mod routing;
mod rows;
mod runs;
mod schema;
mod spend;
#[cfg(test)]
mod tests;
mod tokens;
mod usage;
mod writer;

use documents::Document;
use readers::Readers;
use writer::Writer;

pub(crate) use spend::{SpendOf, Subject, Sums};

pub use blobs::Blobs;
pub use bodies::{Bodies, Kept};
pub use calls::Calls;
pub use instance::Instance;
pub use rows::{
    AgentRow, AgentSummary, COUNT_LIMIT, CallFilter, CallPage, CallRow, DECISIONS_LIMIT, EVENT_TEXT_LIMIT,
    EventKind, GrantRow, KeyUse, Moved, NewRun, PAGE_LIMIT, Published, RouteRow, RunEnd, RunEvent, RunPage,
    RunRow, RunStatus, TokenRow, UnknownWord, UsageBy, UsageQuery, UsageRow, VersionRow,
};

/// The name of the database in the store's folder.
const DATABASE: &str = "orch.db";

/// Rows that are looked at in one go for the documents that they name, so that no reader holds up the log for long.
const SWEPT_ROWS: u32 = 4096;

/// The store of one installation. Clones are the same store; the last one to go commits what is still queued.
///
/// Every method fails with one of the codes `store_unusable` (damaged, foreign, or the system refuses), `store_busy`
/// (another process writes for too long) or `store_full`, and with those that it names itself. Asynchronous ones need
/// a Tokio runtime.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    folder: Box<Path>,
    // Before the writer, so that its connection is the last to close: one that only reads would leave the log behind.
    readers: Readers,
    writer: Writer,
    /// Whether the log may hold requests of runs that have ended: of this handle's, and at first of those of a process
    /// that died with its log as it was.
    log_holds_requests: AtomicBool,
    blobs: Blobs,
    documents: Blobs,
    ledger: Mutex<events::Ledger>,
    unwritten: Arc<spend::Unwritten>,
}

impl Store {
    /// Whether there is one in `folder`.
    pub(crate) fn is_in(folder: &Path) -> bool {
        folder.join(DATABASE).symlink_metadata().is_ok()
    }

    /// Opens the store in `folder`, and makes what is not there yet. Blocks for a moment.
    ///
    /// # Errors
    /// `store_version` for a database that a newer `orch` wrote, `store_unusable` for one that is foreign or damaged
    /// (it stays as it is), `home_unsafe` when anything in its place is a link or somebody else's.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        Self::open_waiting(folder, schema::patiently)
    }

    /// As [`Store::open`], with what is done while another process writes.
    pub(crate) fn open_waiting(folder: &Path, wait: fn(i32) -> bool) -> Result<Self, Failure> {
        let folder = place::folder(folder)?;
        let path = folder.join(DATABASE);
        place::database(&path)?;
        let db = schema::open_writer(&path, wait)?;
        instance::remove_dead(&folder)
            .map_err(|e| Failure::file("store_unwritable", "clean up below", &folder, &e))?;
        Ok(Self {
            inner: Arc::new(Inner {
                blobs: Blobs::open(&folder.join("blobs"))?,
                documents: Blobs::open(&folder.join("documents"))?,
                writer: Writer::start(db, path.clone())?,
                readers: Readers::new(path),
                log_holds_requests: AtomicBool::new(true),
                ledger: Mutex::default(),
                unwritten: Arc::default(),
                folder: folder.into(),
            }),
        })
    }

    /// The modules of agents.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Returns when everything that was queued before is durable.
    ///
    /// # Errors
    /// When the writer cannot commit.
    pub async fn flush(&self) -> Result<(), Failure> {
        self.inner.writer.write(|_| Ok(())).await
    }

    /// Empties the write-ahead log, the first time and then when this handle has ended runs since the last: what a row
    /// held before stands in it until then. Others that use the database at this moment are not waited for; then it is
    /// for the next time.
    ///
    /// # Errors
    /// `store_busy`, and those of [`Store`].
    pub async fn empty_log(&self) -> Result<(), Failure> {
        if !self.inner.log_holds_requests.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let path = self.inner.folder.join(DATABASE);
        let emptied = tokio::task::spawn_blocking(move || schema::empty_log(&path))
            .await
            .unwrap_or_else(|error| Err(Failure::defect(format!("emptying the store's log: {error}"))));
        if emptied.is_err() {
            self.inner.log_holds_requests.store(true, Ordering::Relaxed);
        }
        emptied
    }

    /// Removes the documents that no row names, and says how many: what a process left that died after its document was
    /// on disk and before its row was. Those of the last hour stay, for their rows may be about to come.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn sweep(&self) -> Result<usize, Failure> {
        self.sweep_by(SWEPT_ROWS).await
    }

    async fn sweep_by(&self, rows: u32) -> Result<usize, Failure> {
        // Looked for before the rows: what is old by now and was ever named, is named by one that is seen.
        let mut orphans = self.inner.documents.old().await?;
        let mut after = 0;
        while !orphans.is_empty() {
            let next = self.inner.readers.read(move |db| runs::documents(db, after, rows)).await?;
            let Some((last, named)) = next else { break };
            after = last;
            for document in named {
                orphans.remove(&document);
            }
        }
        self.inner.documents.remove_old(orphans).await
    }

    /// How many records could not be stored that nobody waits for: a full disk, or another process that writes for too long.
    pub(crate) fn lost(&self) -> u64 {
        self.inner.writer.lost()
    }

    /// Whether it can still be written to, as far as that is known without writing.
    ///
    /// # Errors
    /// `store_closed` when what writes it has failed.
    pub fn health(&self) -> Result<(), Failure> {
        if self.inner.writer.has_ended() {
            return Err(Failure::new(
                Kind::Server,
                "store_closed",
                "the store is closed: what writes it has failed",
            )
            .hint("start orch again; this is a defect, please report it"));
        }
        Ok(())
    }

    /// Makes the thread that writes panic.
    #[cfg(test)]
    pub(crate) async fn break_writer(&self) {
        let broken = self.inner.writer.write::<()>(|_| panic!("a test wants the writer to panic")).await;
        assert!(broken.is_err());
    }

    fn ledger(&self) -> MutexGuard<'_, events::Ledger> {
        // Every change of it is whole.
        self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs; what else there is lies with its statements.
impl Store {
    /// Puts a run on record as queued.
    ///
    /// # Errors
    /// `conflict` when there is a run with this id.
    pub async fn accept(&self, run: NewRun) -> Result<(), Failure> {
        let request = Document::keep(&self.inner.documents, &run.request).await?;
        let file = request.file();
        let accepted = self.inner.writer.write(move |db| runs::accept(db, &run, &request)).await;
        if let (Err(_), Some(file)) = (&accepted, file) {
            // Nothing was accepted, and nothing is kept. What cannot be removed is nobody's but the disk's trouble.
            let _ = self.inner.documents.remove(&file);
        }
        accepted
    }

    /// Notes that a run was started; again, when it is started again after a recovery.
    ///
    /// # Errors
    /// `run_ended`, `run_not_found`.
    pub async fn started(&self, run: &RunId, at: OffsetDateTime) -> Result<(), Failure> {
        let run = run.clone();
        self.inner.writer.write(move |db| runs::started(db, &run, at)).await
    }

    /// Queues events of a run. They are on disk some milliseconds later, in one transaction with others, and at the
    /// latest with the next awaited write of anybody.
    ///
    /// What a run may put on record is bounded; where something is left out a warning stands in its place.
    pub fn append(&self, run: &RunId, events: Vec<RunEvent>) {
        let room = self.inner.writer.has_room();
        let events = self.ledger().admit(run, events, room);
        if !events.is_empty() {
            let run = run.clone();
            let weight = events::weight(&events);
            self.inner.writer.queue(weight, move |db| events::append(db, &run, &events));
        }
    }

    /// Puts the end of a run on record: status, error, report, model calls, decisions and last events, all or nothing.
    /// Its request goes: nobody needs it any more, and it may hold what its caller would not want to lie about.
    ///
    /// # Errors
    /// `run_ended` when it has an end, which stays; `run_not_found`.
    pub async fn finish(&self, run: &RunId, end: RunEnd) -> Result<(), Failure> {
        let report = match &end.report {
            Some(report) => Some(Document::keep(&self.inner.documents, report).await?),
            None => None,
        };
        let (of, documents) = (run.clone(), self.inner.documents.clone());
        self.inner.writer.write(move |db| runs::finish(db, &of, &end, report.as_ref(), &documents)).await?;
        self.inner.log_holds_requests.store(true, Ordering::Relaxed);
        self.ledger().forget(run);
        Ok(())
    }

    /// A run of a workspace, with its request and report; none when there is none in this workspace.
    ///
    /// # Errors
    /// Those of [`Store`]; `blob_damaged`.
    pub async fn run(&self, workspace: &str, run: &RunId) -> Result<Option<RunRow>, Failure> {
        let (workspace, run) = (workspace.to_owned(), run.clone());
        let found = self.inner.readers.read(move |db| runs::find(db, &workspace, &run)).await?;
        match found {
            Some(stored) => self.whole(stored).await.map(Some),
            None => Ok(None),
        }
    }

    /// A page of a workspace's runs, newest first, and where the next page begins; none after the last. Rows have
    /// neither request nor report. Runs that are accepted in between neither shift nor repeat anything.
    ///
    /// # Errors
    /// `cursor_invalid` when [`RunPage::before`] is not what a page returned.
    pub async fn runs(
        &self,
        workspace: &str,
        page: &RunPage,
    ) -> Result<(Vec<RunRow>, Option<String>), Failure> {
        let (workspace, page) = (workspace.to_owned(), page.clone());
        self.inner.readers.read(move |db| runs::list(db, &workspace, &page)).await
    }

    /// Events of a run with numbers over `after`, in order. There may be fewer than `limit` although more follow;
    /// nothing follows when there are none. Whose run it is, the caller has asked before.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<RunEvent>, Failure> {
        let run = run.clone();
        self.inner.readers.read(move |db| events::page(db, &run, after, limit)).await
    }

    /// The number of a run's last event on record; 0 when it has none. A recovered run goes on after it.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn last_event(&self, run: &RunId) -> Result<u64, Failure> {
        let run = run.clone();
        self.inner.readers.read(move |db| events::last(db, &run)).await
    }

    /// What the egress proxy decided for a run, in its order.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn decisions(&self, run: &RunId) -> Result<Vec<Value>, Failure> {
        let run = run.clone();
        self.inner.readers.read(move |db| runs::decisions(db, &run)).await
    }

    /// A page of what the egress proxy decided for a run, from place `after` on, and the place at which the next page
    /// begins; none after the last. Whose run it is, the caller has asked before.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn decisions_page(
        &self,
        run: &RunId,
        after: u64,
        limit: u32,
    ) -> Result<(Vec<Value>, Option<u64>), Failure> {
        let run = run.clone();
        self.inner.readers.read(move |db| runs::decisions_page(db, &run, after, limit)).await
    }

    /// Runs that have not ended and whose process is gone, with their requests. Each is to be [adopted](Store::adopt)
    /// before anything is done with it. A request that is lost is `Null`: one damaged file must not keep the other
    /// runs from going on.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn unfinished(&self) -> Result<Vec<RunRow>, Failure> {
        let folder = self.inner.folder.clone();
        let found = self
            .inner
            .readers
            .read(move |db| {
                let dead = instance::dead_instances(&folder, runs::owners(db)?);
                runs::unfinished(db, &dead)
            })
            .await?;
        let mut rows = Vec::with_capacity(found.len());
        for runs::Stored { mut row, request, .. } in found {
            row.request = match request.value(&self.inner.documents).await {
                Err(failure) if failure.code() == blobs::DAMAGED => Value::Null,
                read => read?,
            };
            rows.push(row);
        }
        Ok(rows)
    }

    /// Takes over a run that has not ended; false when it is no longer that of `from`, because somebody was quicker or
    /// it has ended.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn adopt(&self, run: &RunId, from: &str, to: &str) -> Result<bool, Failure> {
        let (run, from, to) = (run.clone(), from.to_owned(), to.to_owned());
        self.inner.writer.write(move |db| runs::adopt(db, &run, &from, &to)).await
    }

    /// The run with its documents.
    async fn whole(&self, stored: runs::Stored) -> Result<RunRow, Failure> {
        let runs::Stored { mut row, request, report } = stored;
        row.request = request.value(&self.inner.documents).await?;
        if let Some(report) = report {
            row.report = Some(report.value(&self.inner.documents).await?);
        }
        Ok(row)
    }
}
