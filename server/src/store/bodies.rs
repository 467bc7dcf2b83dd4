//! What was asked and answered, of workspaces that want it kept: for a while, and no more than so many.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};
use time::OffsetDateTime;

use super::Store;
use super::columns::{count, count_in, micros, time_in};
use super::problem::Problem;
use crate::failure::Failure;

/// The bodies that are kept of one workspace; beyond that the oldest go first, whatever their time.
pub(super) const KEPT: u32 = 10_000;

/// What was asked and answered in one call. It holds no key: whoever makes one has taken them out.
#[derive(Clone, PartialEq, Eq)]
pub struct Bodies {
    /// Whose call it was.
    pub workspace: String,
    /// The name of its request.
    pub request: String,
    /// From this time on nobody reads them, and they are removed soon after.
    pub expires: OffsetDateTime,
    /// The beginning of what the client sent.
    pub asked: Kept,
    /// The beginning of what it got.
    pub answered: Kept,
}

/// The beginning of a body.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Its bytes, as far as they are kept.
    pub bytes: Vec<u8>,
    /// How many there were in all.
    pub of: u64,
    /// Whether its end is not among them.
    pub cut: bool,
}

/// Bodies.
impl Store {
    /// Queues bodies for the record; without room for them they are not kept. Of two with one name the first stays.
    pub fn keep_bodies(&self, bodies: Bodies) {
        if !self.inner.writer.has_room() {
            return;
        }
        let weight = size_of::<Bodies>() + bodies.asked.bytes.len() + bodies.answered.bytes.len();
        self.inner.writer.queue_statement(weight, move |db| insert(db, &bodies));
    }

    /// The bodies of a workspace's call, if they were kept and their time is not over.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn bodies(
        &self,
        workspace: &str,
        request: &str,
        now: OffsetDateTime,
    ) -> Result<Option<Bodies>, Failure> {
        let (workspace, request) = (workspace.to_owned(), request.to_owned());
        self.inner.readers.read(move |db| find(db, &workspace, &request, now)).await
    }

    /// Removes the bodies whose time is over, those of which there are too many, and those of workspaces other than
    /// `wanted`: they want none kept any more. Of the wanted ones none is kept for longer than is said there, counted from
    /// now: less may be wanted than when it was kept, and the clock may have been set back. Says how many were removed.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn forget_bodies(
        &self,
        wanted: Vec<(String, Duration)>,
        now: OffsetDateTime,
    ) -> Result<usize, Failure> {
        let any = self.inner.readers.read(|db| {
            Ok(db.prepare_cached("SELECT EXISTS (SELECT 1 FROM bodies)")?.query_row([], |row| row.get(0))?)
        });
        if !any.await? {
            return Ok(0);
        }
        let removed = self.inner.writer.write(move |db| forget(db, &wanted, now)).await?;
        if removed > 0 {
            // What a row held stands in the log until that is emptied.
            self.inner.log_holds_requests.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(removed)
    }
}

fn insert(db: &Connection, bodies: &Bodies) -> Result<(), Problem> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO bodies (workspace, request, expires, asked, asked_bytes, asked_cut, answered,
                                       answered_bytes, answered_cut)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        bodies.workspace,
        bodies.request,
        micros(bodies.expires),
        bodies.asked.bytes,
        count(bodies.asked.of),
        bodies.asked.cut,
        bodies.answered.bytes,
        count(bodies.answered.of),
        bodies.answered.cut,
    ])?;
    Ok(())
}

fn find(
    db: &Connection,
    workspace: &str,
    request: &str,
    now: OffsetDateTime,
) -> Result<Option<Bodies>, Problem> {
    let mut statement =
        db.prepare_cached("SELECT * FROM bodies WHERE workspace = ?1 AND request = ?2 AND expires > ?3")?;
    let mut rows = statement.query(params![workspace, request, micros(now)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Bodies {
        workspace: row.get("workspace")?,
        request: row.get("request")?,
        expires: time_in(row, "expires")?,
        asked: Kept {
            bytes: row.get("asked")?,
            of: count_in(row, "asked_bytes")?,
            cut: row.get("asked_cut")?,
        },
        answered: Kept {
            bytes: row.get("answered")?,
            of: count_in(row, "answered_bytes")?,
            cut: row.get("answered_cut")?,
        },
    }))
}

fn forget(db: &Connection, wanted: &[(String, Duration)], now: OffsetDateTime) -> Result<usize, Problem> {
    let mut removed = db.prepare_cached("DELETE FROM bodies WHERE expires <= ?1")?.execute([micros(now)])?;
    let workspaces: Vec<String> = db
        .prepare_cached("SELECT DISTINCT workspace FROM bodies")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for workspace in workspaces {
        let Some((_, keep)) = wanted.iter().find(|(wanted, _)| *wanted == workspace) else {
            removed += db.prepare_cached("DELETE FROM bodies WHERE workspace = ?1")?.execute([workspace])?;
            continue;
        };
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        // By their end: most often there are none.
        db.prepare_cached(
            "UPDATE bodies INDEXED BY bodies_by_end SET expires = ?2 WHERE workspace = ?1 AND expires > ?2",
        )?
        .execute(params![workspace, micros(now).saturating_add(keep)])?;
        let last: Option<i64> = db
            .prepare_cached(
                "SELECT seq FROM bodies WHERE workspace = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2",
            )?
            .query_row(params![workspace, KEPT], |row| row.get(0))
            .optional()?;
        if let Some(last) = last {
            removed += db
                .prepare_cached("DELETE FROM bodies WHERE workspace = ?1 AND seq <= ?2")?
                .execute(params![workspace, last])?;
        }
    }
    Ok(removed)
}
