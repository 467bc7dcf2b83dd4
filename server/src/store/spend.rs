//! What is spent and set aside, by day and by who it is about; and the budgets that were set over the API.
//!
//! Calls for which nothing was set aside are added up in memory until the writer comes to them, a few milliseconds later:
//! the rows of a busy workspace are the same for all of its calls.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};

use super::Store;
use super::instance;
use super::problem::Problem;
use super::rows::COUNT_LIMIT;
use crate::failure::Failure;

/// What is told of the memory that unwritten sums take: some dozens of them.
const UNWRITTEN_WEIGHT: usize = 4 << 10;

/// Tokens and millionths of a US dollar, spent and set aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) tokens: u64,
    pub(crate) micro_usd: u64,
    pub(crate) held_tokens: u64,
    pub(crate) held_micro_usd: u64,
}

/// A scope's word and whom it names there, such as `agent` and `acme/x`; the workspace itself has no name.
pub(crate) type Subject = (&'static str, String);

/// Who pays for a call, under each name that a budget may be about, and the day (since 1970, UTC) that it counts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SpendOf {
    pub(crate) workspace: String,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) day: i64,
    /// The process that makes it: the id of its [`Instance`](super::Instance).
    pub(crate) instance: Arc<str>,
}

/// What calls came to that the writer has not written yet: tokens and micro-dollars.
#[derive(Default)]
pub(super) struct Unwritten(Mutex<HashMap<SpendOf, (u64, u64)>>);

impl Unwritten {
    /// Adds to it. True when there was nothing before, and the writer has to be told.
    fn add(&self, of: &SpendOf, (tokens, micro_usd): (u64, u64)) -> bool {
        // Every change of it is whole.
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = sums.is_empty();
        match sums.get_mut(of) {
            Some(sum) => *sum = (sum.0.saturating_add(tokens), sum.1.saturating_add(micro_usd)),
            None => drop(sums.insert(of.clone(), (tokens, micro_usd))),
        }
        first
    }

    fn write(&self, db: &Connection) -> Result<(), Problem> {
        let sums = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        sums.into_iter().try_for_each(|(of, (tokens, micro_usd))| {
            add(db, &of, [bounded(tokens), bounded(micro_usd), 0, 0])
        })
    }
}

/// Spending and budgets.
impl Store {
    /// Sets aside what `decide` says of the sums as they are (of these subjects, each of its days), for all whom it is
    /// about at once, and returns what else it says. It is on disk when this returns. What is set aside and not taken back
    /// by [`Store::spend`] is spent.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn set_aside<T: Send + 'static>(
        &self,
        of: SpendOf,
        asked: Vec<(Subject, Range<i64>)>,
        decide: impl FnOnce(&[Sums]) -> (T, u64, u64) + Send + 'static,
    ) -> Result<T, Failure> {
        let work = move |db: &Connection| {
            let (said, tokens, micro_usd) = decide(&all_within(db, &of.workspace, &asked)?);
            if (tokens, micro_usd) != (0, 0) {
                add(db, &of, [0, 0, bounded(tokens), bounded(micro_usd)])?;
            }
            Ok(said)
        };
        self.inner.writer.write(work).await
    }

    /// Queues what a call came to for which nothing was set aside, in tokens and micro-dollars. Whatever is queued later finds
    /// it booked.
    pub(crate) fn spent(&self, of: &SpendOf, spent: (u64, u64)) {
        if self.inner.unwritten.add(of, spent) {
            let unwritten = Arc::clone(&self.inner.unwritten);
            self.inner.writer.queue(UNWRITTEN_WEIGHT, move |db| unwritten.write(db));
        }
    }

    /// Queues what a call came to: `spent` is booked, and `held` is no longer set aside; tokens and micro-dollars each.
    pub(crate) fn spend(&self, of: SpendOf, spent: (u64, u64), held: (u64, u64)) {
        let change = [bounded(spent.0), bounded(spent.1), -bounded(held.0), -bounded(held.1)];
        let weight =
            size_of::<SpendOf>() + of.subjects.iter().map(|(_, name)| name.len() + 32).sum::<usize>();
        self.inner.writer.queue(weight, move |db| add(db, &of, change));
    }

    /// Frees what is set aside for a subject from a day on, but for what processes hold that live. Returns what was freed.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn release(
        &self,
        workspace: &str,
        (scope, subject): Subject,
        from: i64,
    ) -> Result<Sums, Failure> {
        let (workspace, folder) = (workspace.to_owned(), self.inner.folder.clone());
        let work = move |db: &Connection| {
            let of = params![workspace, scope, subject, from];
            let holders: Vec<String> = db
                .prepare_cached(
                    "SELECT DISTINCT instance FROM holds WHERE workspace = ?1 AND scope = ?2 AND subject = ?3 AND day >= ?4",
                )?
                .query_map(of, |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for gone in instance::dead_instances(&folder, holders) {
                db.prepare_cached(
                    "DELETE FROM holds
                     WHERE workspace = ?1 AND scope = ?2 AND subject = ?3 AND day >= ?4 AND instance = ?5",
                )?
                .execute(params![workspace, scope, subject, from, gone])?;
            }
            let days: Vec<(i64, i64, i64)> = db
                .prepare_cached(
                    "SELECT day, held_tokens, held_cost FROM spend WHERE workspace = ?1 AND scope = ?2
                     AND subject = ?3 AND day >= ?4 AND (held_tokens > 0 OR held_cost > 0)",
                )?
                .query_map(of, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_, _>>()?;
            let mut still = db.prepare_cached(
                "SELECT ifnull(sum(tokens), 0), ifnull(sum(cost), 0) FROM holds
                 WHERE workspace = ?1 AND scope = ?2 AND subject = ?3 AND day = ?4",
            )?;
            let mut update = db.prepare_cached(
                "UPDATE spend SET held_tokens = ?5, held_cost = ?6
                 WHERE workspace = ?1 AND scope = ?2 AND subject = ?3 AND day = ?4",
            )?;
            let mut freed = Sums::default();
            let count = |number: i64| u64::try_from(number).unwrap_or(0);
            for (day, tokens, cost) in days {
                let open: (i64, i64) = still.query_row(params![workspace, scope, subject, day], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
                let kept = (tokens.min(open.0), cost.min(open.1));
                update.execute(params![workspace, scope, subject, day, kept.0, kept.1])?;
                freed.held_tokens = freed.held_tokens.saturating_add(count(tokens - kept.0));
                freed.held_micro_usd = freed.held_micro_usd.saturating_add(count(cost - kept.1));
            }
            Ok(freed)
        };
        self.inner.writer.write(work).await
    }

    /// The sums of subjects of a workspace, each of its days.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn spending(
        &self,
        workspace: &str,
        of: Vec<(Subject, Range<i64>)>,
    ) -> Result<Vec<Sums>, Failure> {
        let workspace = workspace.to_owned();
        let read = move |db: &Connection| all_within(db, &workspace, &of);
        self.inner.readers.read(read).await
    }

    /// A workspace's budgets that were set over the API: names and documents.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn budgets(&self, workspace: &str) -> Result<Vec<(String, String)>, Failure> {
        let workspace = workspace.to_owned();
        let read = move |db: &Connection| {
            let mut statement =
                db.prepare_cached("SELECT name, document FROM budgets WHERE workspace = ?1 ORDER BY name")?;
            let rows = statement.query_map([workspace], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        };
        self.inner.readers.read(read).await
    }

    /// Puts a budget in the place of the workspace's one of this name.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn put_budget(
        &self,
        workspace: &str,
        name: &str,
        document: String,
    ) -> Result<(), Failure> {
        let (workspace, name) = (workspace.to_owned(), name.to_owned());
        let write = move |db: &Connection| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO budgets (workspace, name, document) VALUES (?1, ?2, ?3)",
            )?
            .execute([workspace, name, document])?;
            Ok(())
        };
        self.inner.writer.write(write).await
    }

    /// Removes a budget; false when there is none of this name.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn remove_budget(&self, workspace: &str, name: &str) -> Result<bool, Failure> {
        let (workspace, name) = (workspace.to_owned(), name.to_owned());
        let write = move |db: &Connection| {
            let mut statement =
                db.prepare_cached("DELETE FROM budgets WHERE workspace = ?1 AND name = ?2")?;
            Ok(statement.execute([workspace, name])? == 1)
        };
        self.inner.writer.write(write).await
    }
}

/// The sums of subjects, each of its days.
fn all_within(
    db: &Connection,
    workspace: &str,
    asked: &[(Subject, Range<i64>)],
) -> Result<Vec<Sums>, Problem> {
    let mut statement = db.prepare_cached(
        "SELECT ifnull(sum(tokens), 0), ifnull(sum(cost), 0), ifnull(sum(held_tokens), 0), ifnull(sum(held_cost), 0)
         FROM spend WHERE workspace = ?1 AND scope = ?2 AND subject = ?3 AND day >= ?4 AND day < ?5",
    )?;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let mut found = Vec::with_capacity(asked.len());
    for ((scope, subject), days) in asked {
        found.push(statement.query_row(params![workspace, scope, subject, days.start, days.end], |row| {
            Ok(Sums {
                tokens: count(row.get(0)?),
                micro_usd: count(row.get(1)?),
                held_tokens: count(row.get(2)?),
                held_micro_usd: count(row.get(3)?),
            })
        })?);
    }
    Ok(found)
}

fn bounded(number: u64) -> i64 {
    number.min(COUNT_LIMIT).cast_signed()
}

/// Adds to all subjects of a day. No sum goes below nothing or beyond what a row holds.
fn add(db: &Connection, of: &SpendOf, change: [i64; 4]) -> Result<(), Problem> {
    let mut statement = db.prepare_cached(
        "INSERT INTO spend (workspace, scope, subject, day, tokens, cost, held_tokens, held_cost)
         VALUES (?1, ?2, ?3, ?4, max(0, ?5), max(0, ?6), max(0, ?7), max(0, ?8))
         ON CONFLICT (workspace, scope, subject, day) DO UPDATE SET
             tokens = min(tokens + ?5, ?9), cost = min(cost + ?6, ?9),
             held_tokens = min(max(0, held_tokens + ?7), ?9), held_cost = min(max(0, held_cost + ?8), ?9)",
    )?;
    let [tokens, cost, held_tokens, held_cost] = change;
    let most = COUNT_LIMIT.cast_signed();
    for (scope, subject) in &of.subjects {
        statement.execute(params![
            of.workspace,
            scope,
            subject,
            of.day,
            tokens,
            cost,
            held_tokens,
            held_cost,
            most
        ])?;
    }
    if (held_tokens, held_cost) == (0, 0) { Ok(()) } else { hold(db, of, held_tokens, held_cost) }
}

/// Notes whose it is that something is set aside for, or is no longer.
fn hold(db: &Connection, of: &SpendOf, tokens: i64, cost: i64) -> Result<(), Problem> {
    let mut change = db.prepare_cached(
        "INSERT INTO holds (workspace, scope, subject, day, instance, tokens, cost)
         VALUES (?1, ?2, ?3, ?4, ?5, max(0, ?6), max(0, ?7))
         ON CONFLICT (workspace, scope, subject, day, instance) DO UPDATE SET
             tokens = min(max(0, tokens + ?6), ?8), cost = min(max(0, cost + ?7), ?8)",
    )?;
    let mut remove = db.prepare_cached(
        "DELETE FROM holds WHERE workspace = ?1 AND scope = ?2 AND subject = ?3 AND day = ?4 AND instance = ?5
         AND tokens = 0 AND cost = 0",
    )?;
    let most = COUNT_LIMIT.cast_signed();
    for (scope, subject) in &of.subjects {
        let (workspace, instance) = (&of.workspace, &*of.instance);
        change.execute(params![workspace, scope, subject, of.day, instance, tokens, cost, most])?;
        remove.execute(params![workspace, scope, subject, of.day, instance])?;
    }
    Ok(())
}
