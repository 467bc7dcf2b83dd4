//! Model calls as they are found again: by page, by name, and by key.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, ToSql, params, params_from_iter};
use time::OffsetDateTime;

use super::Store;
use super::columns::{micros, time};
use super::problem::Problem;
use super::rows::{CallFilter, CallPage, CallRow, KeyUse, PAGE_LIMIT};
use super::usage::{COLUMNS, call_in};
use crate::failure::Failure;

/// A page of calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    /// The calls, in the order that was asked for.
    pub calls: Vec<CallRow>,
    /// Where the next page of older ones begins: for [`CallPage::Before`]. None after the last, and in pages of newer ones.
    pub next: Option<String>,
    /// The one of them that was put on record last: for [`CallPage::After`].
    pub newest: Option<String>,
}

/// Calls.
impl Store {
    /// A page of a workspace's calls, at most `limit` of them.
    ///
    /// # Errors
    /// `cursor_invalid` when a page before did not return what this one is to go on from.
    pub async fn call_page(
        &self,
        workspace: &str,
        filter: &CallFilter,
        page: &CallPage,
        limit: u32,
    ) -> Result<Calls, Failure> {
        let (workspace, filter, page) = (workspace.to_owned(), filter.clone(), page.clone());
        self.inner.readers.read(move |db| list(db, &workspace, &filter, &page, limit)).await
    }

    /// A workspace's call whose request has this name.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn call(&self, workspace: &str, request: &str) -> Result<Option<CallRow>, Failure> {
        let (workspace, request) = (workspace.to_owned(), request.to_owned());
        let find = move |db: &Connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM calls INDEXED BY calls_by_request WHERE workspace = ?1 AND request = ?2 \
                 ORDER BY seq DESC LIMIT 1"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let mut rows = statement.query([workspace, request])?;
            rows.next()?.map(call_in).transpose()
        };
        self.inner.readers.read(find).await
    }

    /// What each of a workspace's keys has come to, in the order of their names.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn key_uses(
        &self,
        workspace: &str,
        names: Vec<String>,
        now: OffsetDateTime,
    ) -> Result<Vec<KeyUse>, Failure> {
        let workspace = workspace.to_owned();
        let read = move |db: &Connection| {
            names.iter().map(|name| key_use(db, &workspace, name, now)).collect::<Result<Vec<_>, _>>()
        };
        self.inner.readers.read(read).await
    }
}

/// What is lent.
impl Store {
    /// What keys have come to that one workspace lends to all others, in whose records they have these names: in all of them
    /// together, in the order of the names.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn lent_uses(&self, names: Vec<String>, now: OffsetDateTime) -> Result<Vec<KeyUse>, Failure> {
        let read = move |db: &Connection| {
            let mut uses = vec![KeyUse::default(); names.len()];
            for workspace in workspaces(db)? {
                for (sum, name) in uses.iter_mut().zip(&names) {
                    sum.add(&key_use(db, &workspace, name, now)?);
                }
            }
            Ok(uses)
        };
        self.inner.readers.read(read).await
    }
}

/// The workspaces that have called models. Looks once for each of them, and not at each call.
fn workspaces(db: &Connection) -> Result<Vec<String>, Problem> {
    let mut statement = db.prepare_cached(
        "WITH RECURSIVE found(name) AS (
             SELECT min(workspace) FROM calls
             UNION ALL
             SELECT (SELECT min(workspace) FROM calls WHERE workspace > found.name) FROM found WHERE found.name IS NOT NULL
         )
         SELECT name FROM found WHERE name IS NOT NULL",
    )?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The statement of a page, and the values that it wants.
pub(super) fn listing(
    workspace: &str,
    filter: &CallFilter,
    from: Option<(i64, i64)>,
    newer: bool,
    limit: i64,
) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = vec![workspace.to_owned().into()];
    let mut terms = String::new();
    let mut add = |term: &str, value: Value, values: &mut Vec<Value>| {
        values.push(value);
        let place = values.len();
        terms.push_str(" AND ");
        terms.push_str(&term.replace('?', &format!("?{place}")));
    };
    // The index goes by time: without bounds it would be taken for one on the workspace alone.
    add("time >= ?", filter.since.map_or(i64::MIN, micros).into(), &mut values);
    add("time < ?", filter.until.map_or(i64::MAX, micros).into(), &mut values);
    let same = [
        ("token = ?", &filter.only_of),
        ("(token = ? OR caller = ?)", &filter.token),
        ("member = ?", &filter.member),
        ("run = ?", &filter.run),
        ("agent = ?", &filter.agent),
        ("provider = ?", &filter.provider),
        ("(model = ? OR model_asked = ? OR provider || '/' || model = ?)", &filter.model),
        ("credential = ?", &filter.credential),
        ("billing = ?", &filter.billing),
        ("class = ?", &filter.class),
    ];
    for (term, wanted) in same {
        if let Some(wanted) = wanted {
            add(term, wanted.clone().into(), &mut values);
        }
    }
    match filter.outcome.as_deref() {
        Some("failed") => add("outcome <> ?", "served".to_owned().into(), &mut values),
        Some(outcome) => add("outcome = ?", outcome.to_owned().into(), &mut values),
        None => {}
    }
    let (index, order) = match (newer, from) {
        (true, Some((_, seq))) => {
            add("seq > ?", seq.into(), &mut values);
            // What has come since is little, and lies together.
            ("NOT INDEXED", "seq")
        }
        (_, from) => {
            if let Some((time, seq)) = from {
                values.extend([time.into(), seq.into()]);
                let place = values.len();
                terms.push_str(&format!(" AND (time, seq) < (?{}, ?{place})", place - 1));
            }
            ("INDEXED BY calls_by_time", "time DESC, seq DESC")
        }
    };
    values.push(limit.into());
    let place = values.len();
    let sql = format!(
        "SELECT seq, {COLUMNS} FROM calls {index} WHERE workspace = ?1{terms} ORDER BY {order} LIMIT ?{place}"
    );
    (sql, values)
}

fn list(
    db: &Connection,
    workspace: &str,
    filter: &CallFilter,
    page: &CallPage,
    limit: u32,
) -> Result<Calls, Problem> {
    let limit = limit.clamp(1, PAGE_LIMIT);
    let (from, newer) = match page {
        CallPage::Newest => (None, false),
        CallPage::Before(request) => (Some(place(db, workspace, filter, request)?), false),
        CallPage::After(request) => (Some(place(db, workspace, filter, request)?), true),
    };
    // One more than asked tells whether there is a next page.
    let (sql, values) = listing(workspace, filter, from, newer, i64::from(limit) + 1);
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values.iter().map(|value| value as &dyn ToSql)))?;
    let (mut calls, mut newest, mut more) = (Vec::new(), None, false);
    while let Some(row) = rows.next()? {
        if calls.len() == limit as usize {
            more = true;
            break;
        }
        let (seq, call): (i64, CallRow) = (row.get("seq")?, call_in(row)?);
        if newest.as_ref().is_none_or(|(known, _)| seq > *known) {
            newest = Some((seq, call.request.clone()));
        }
        calls.push(call);
    }
    let next = calls.last().filter(|_| more && !newer).and_then(|call| call.request.clone());
    Ok(Calls { calls, next, newest: newest.and_then(|(_, request)| request) })
}

/// Where a call stands whose request has this name. To whoever may not see it there is none.
fn place(
    db: &Connection,
    workspace: &str,
    filter: &CallFilter,
    request: &str,
) -> Result<(i64, i64), Problem> {
    db.prepare_cached(
        "SELECT time, seq FROM calls INDEXED BY calls_by_request
         WHERE workspace = ?1 AND request = ?2 AND (?3 IS NULL OR token = ?3) ORDER BY seq DESC LIMIT 1",
    )?
    .query_row(params![workspace, request, filter.only_of], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()?
    .ok_or_else(|| {
        Failure::usage("cursor_invalid", "there is no such place in the list of requests")
            .hint("pass what the page before returned as `next` or `newest`, or nothing to begin with the newest")
            .into()
    })
}

/// When a key was last used.
pub(super) const LAST_CALL: &str = "SELECT max(time) FROM calls WHERE workspace = ?1 AND credential = ?2";

fn key_use(db: &Connection, workspace: &str, name: &str, now: OffsetDateTime) -> Result<KeyUse, Problem> {
    let last: Option<i64> = db.prepare_cached(LAST_CALL)?.query_row([workspace, name], |row| row.get(0))?;
    let today = now.unix_timestamp().div_euclid(86_400);
    let month = today - i64::from(now.to_offset(time::UtcOffset::UTC).day() - 1);
    let sums = db
        .prepare_cached(
            "SELECT ifnull(sum(cost) FILTER (WHERE day >= ?3), 0), ifnull(sum(cost) FILTER (WHERE day >= ?4), 0),
                    ifnull(sum(cost), 0), ifnull(sum(tokens), 0)
             FROM spend WHERE workspace = ?1 AND scope = 'key' AND subject = ?2",
        )?
        .query_row(params![workspace, name, today, month], |row| {
            Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
        })?;
    let [today, month, total, tokens] = sums.map(|sum| u64::try_from(sum).unwrap_or(0));
    Ok(KeyUse { last_call: last.map(time).transpose()?, micro_usd: [today, month, total], tokens })
}
