//! Runs: accepted, started, ended, listed, and taken over.

use orch_manifests::{Digest, RunId};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde_json::Value;

use super::blobs::Blobs;
use super::columns::{digest_in, json, micros, parsed, time_if, time_in};
use super::documents::Document;
use super::problem::Problem;
use super::rows::{DECISIONS_LIMIT, NewRun, PAGE_LIMIT, RunEnd, RunPage, RunRow, RunStatus};
use super::{events, usage};
use crate::failure::{Failure, Kind};
use time::OffsetDateTime;

/// The columns of a listing. What may be large is not among them.
const SUMMARY: &str = "id, workspace, agent, version, digest, caller, instance, status, created, started, finished, \
                       exit_code, error, token, member";

/// A run with the documents that its row holds or names.
pub(super) struct Stored {
    pub(super) row: RunRow,
    pub(super) request: Document,
    pub(super) report: Option<Document>,
}

/// Puts a run on record: queued, or running at once.
pub(super) fn accept(db: &Connection, run: &NewRun, request: &Document) -> Result<(), Problem> {
    db.prepare_cached(
        "INSERT INTO runs (id, workspace, agent, version, digest, caller, instance, status, created, started, request,
                           token, member)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        run.run.as_str(),
        run.workspace,
        run.agent.as_str(),
        run.version,
        run.digest.as_bytes(),
        run.caller,
        run.instance,
        if run.started.is_some() { RunStatus::Running } else { RunStatus::Queued }.as_str(),
        micros(run.created),
        run.started.map(micros),
        request,
        run.token,
        run.member,
    ])
    .map_err(Problem::from)
    .map_err(|problem| {
        if problem.is_constraint() {
            Failure::usage("conflict", format!("{} is on record already", run.run)).into()
        } else {
            problem
        }
    })?;
    Ok(())
}

/// Notes that a run was started; once more when it was recovered and started again.
pub(super) fn started(db: &Connection, run: &RunId, at: OffsetDateTime) -> Result<(), Problem> {
    let changed = db
        .prepare_cached("UPDATE runs SET status = ?2, started = ?3 WHERE id = ?1 AND finished IS NULL")?
        .execute(params![run.as_str(), RunStatus::Running.as_str(), micros(at)])?;
    if changed == 0 { Err(not_open(db, run)?) } else { Ok(()) }
}

/// Puts the end of a run on record, and lets its request go.
pub(super) fn finish(
    db: &Connection,
    run: &RunId,
    end: &RunEnd,
    report: Option<&Document>,
    documents: &Blobs,
) -> Result<(), Problem> {
    if !end.status.is_final() {
        return Err(Failure::defect(format!("{run} cannot end as {}", end.status)).into());
    }
    let open: Option<(i64, Document)> = db
        .prepare_cached("SELECT seq, request FROM runs WHERE id = ?1 AND finished IS NULL")?
        .query_row([run.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((seq, request)) = open else { return Err(not_open(db, run)?) };
    if let Some(file) = request.file() {
        // Before the commit: when that fails, a run that has ended is without its request, which it does not need. The
        // other way round a crash in between would leave the file for good.
        documents.remove(&file)?;
    }
    db.prepare_cached(
        "UPDATE runs SET status = ?2, finished = ?3, exit_code = ?4, error = ?5, report = ?6, request = 'null'
         WHERE seq = ?1",
    )?
    .execute(params![
        seq,
        end.status.as_str(),
        micros(end.finished),
        end.exit_code,
        end.error.as_ref().map(Value::to_string),
        report,
    ])?;
    usage::record_all(db, 0, &end.calls)?;
    let mut insert = db.prepare_cached("INSERT INTO decisions (run, place, decision) VALUES (?1, ?2, ?3)")?;
    for (place, decision) in (0_i64..).zip(end.decisions.iter().take(DECISIONS_LIMIT)) {
        insert.execute(params![seq, place, decision.to_string()])?;
    }
    events::insert(db, seq, &end.events)
}

/// Why a run cannot go on: it has ended, or there is none.
fn not_open(db: &Connection, run: &RunId) -> Result<Problem, Problem> {
    let status: Option<String> = db
        .prepare_cached("SELECT status FROM runs WHERE id = ?1")?
        .query_row([run.as_str()], |row| row.get(0))
        .optional()?;
    Ok(match status {
        Some(status) => Failure::new(Kind::Usage, "run_ended", format!("{run} has ended already: {status}")),
        None => Failure::usage("run_not_found", format!("there is no run {run}")),
    }
    .into())
}

/// A run of a workspace.
pub(super) fn find(db: &Connection, workspace: &str, run: &RunId) -> Result<Option<Stored>, Problem> {
    let sql = format!("SELECT {SUMMARY}, request, report FROM runs WHERE id = ?1 AND workspace = ?2");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([run.as_str(), workspace])?;
    rows.next()?.map(stored).transpose()
}

/// What the egress proxy decided for a run, in its order.
pub(super) fn decisions(db: &Connection, run: &RunId) -> Result<Vec<Value>, Problem> {
    let mut statement = db.prepare_cached(
        "SELECT decision FROM decisions WHERE run = (SELECT seq FROM runs WHERE id = ?1) ORDER BY place",
    )?;
    let mut rows = statement.query([run.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(json(&row.get::<_, String>(0)?, "decision")?);
    }
    Ok(found)
}

/// A page of them: from the place `after` on, and where the next page begins.
pub(super) fn decisions_page(
    db: &Connection,
    run: &RunId,
    after: u64,
    limit: u32,
) -> Result<(Vec<Value>, Option<u64>), Problem> {
    let limit = limit.clamp(1, PAGE_LIMIT);
    let mut statement = db.prepare_cached(
        "SELECT place, decision FROM decisions
         WHERE run = (SELECT seq FROM runs WHERE id = ?1) AND place >= ?2 ORDER BY place LIMIT ?3",
    )?;
    // One more than asked tells whether there is a next page.
    let from = i64::try_from(after).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![run.as_str(), from, i64::from(limit) + 1])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() == limit as usize {
            return Ok((found, u64::try_from(row.get::<_, i64>(0)?).ok()));
        }
        found.push(json(&row.get::<_, String>(1)?, "decision")?);
    }
    Ok((found, None))
}

/// A page of a listing, and where the next one goes on.
///
/// The place is the last run's own id: it says nothing about other workspaces, and means the same while runs are added.
pub(super) fn list(
    db: &Connection,
    workspace: &str,
    page: &RunPage,
) -> Result<(Vec<RunRow>, Option<String>), Problem> {
    let before = page.before.as_deref().map(|cursor| place(db, workspace, cursor)).transpose()?;
    let limit = page.limit.clamp(1, PAGE_LIMIT);
    // One more than asked tells whether there is a next page.
    let fetch = i64::from(limit) + 1;
    let status = page.status.map(RunStatus::as_str);
    let agent = page.agent.as_ref().map(orch_manifests::AgentName::as_str);
    let mut values: Vec<(&str, &dyn ToSql)> = vec![(":workspace", &workspace), (":limit", &fetch)];
    if let Some(status) = &status {
        values.push((":status", status));
    }
    if let Some(agent) = &agent {
        values.push((":agent", agent));
    }
    if let Some(before) = &before {
        values.push((":before", before));
    }
    let mut statement = db.prepare_cached(&listing(status.is_some(), agent.is_some(), before.is_some()))?;
    let mut rows = statement.query(values.as_slice())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(summary(row)?);
    }
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|row| row.run.to_string());
    Ok((found, next))
}

/// The statement of a listing. Each combination has an index that holds its rows in its order.
pub(super) fn listing(by_status: bool, by_agent: bool, from_place: bool) -> String {
    let index = match (by_agent, by_status) {
        (false, false) => "runs_by_workspace",
        (false, true) => "runs_by_status",
        (true, false) => "runs_by_agent",
        (true, true) => "runs_by_agent_status",
    };
    let mut sql = format!("SELECT {SUMMARY} FROM runs INDEXED BY {index} WHERE workspace = :workspace");
    if by_agent {
        sql.push_str(" AND agent = :agent");
    }
    if by_status {
        sql.push_str(" AND status = :status");
    }
    if from_place {
        sql.push_str(" AND seq < :before");
    }
    sql.push_str(" ORDER BY seq DESC LIMIT :limit");
    sql
}

fn place(db: &Connection, workspace: &str, cursor: &str) -> Result<i64, Problem> {
    db.prepare_cached("SELECT seq FROM runs WHERE id = ?1 AND workspace = ?2")?
        .query_row([cursor, workspace], |row| row.get(0))
        .optional()?
        .ok_or_else(|| {
            Failure::usage("cursor_invalid", "there is no such place in the list of runs")
                .hint("pass what the page before returned as `next`, or nothing to begin with the newest")
                .into()
        })
}

/// The owners of runs that have not ended.
pub(super) const OWNERS: &str = "SELECT DISTINCT instance FROM runs WHERE finished IS NULL";

/// The runs of an owner that have not ended, in the order of their acceptance.
pub(super) fn unfinished_of() -> String {
    format!(
        "SELECT {SUMMARY}, request, report FROM runs INDEXED BY runs_unfinished \
         WHERE instance = ?1 AND finished IS NULL ORDER BY seq"
    )
}

/// All owners of unfinished runs.
pub(super) fn owners(db: &Connection) -> Result<Vec<String>, Problem> {
    let mut statement = db.prepare_cached(OWNERS)?;
    let owners = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(owners)
}

/// The unfinished runs of these owners.
pub(super) fn unfinished(db: &Connection, owners: &[String]) -> Result<Vec<Stored>, Problem> {
    let mut statement = db.prepare_cached(&unfinished_of())?;
    let mut found = Vec::new();
    for owner in owners {
        let mut rows = statement.query([owner])?;
        while let Some(row) = rows.next()? {
            found.push(stored(row)?);
        }
    }
    Ok(found)
}

/// Makes `to` the owner of a run that has not ended, if `from` is.
pub(super) fn adopt(db: &Connection, run: &RunId, from: &str, to: &str) -> Result<bool, Problem> {
    let changed = db
        .prepare_cached("UPDATE runs SET instance = ?3 WHERE id = ?1 AND instance = ?2 AND finished IS NULL")?
        .execute([run.as_str(), from, to])?;
    Ok(changed == 1)
}

/// The documents that the next `limit` rows after `seq` name, and the last of these rows; none when no row follows.
pub(super) fn documents(
    db: &Connection,
    seq: i64,
    limit: u32,
) -> Result<Option<(i64, Vec<Digest>)>, Problem> {
    // What a document is tells without reading it: short ones lie here, and there may be much of them.
    let mut statement = db.prepare_cached(
        "SELECT seq, CASE typeof(request) WHEN 'blob' THEN request END, CASE typeof(report) WHEN 'blob' THEN report END
         FROM runs WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = statement.query(params![seq, limit])?;
    let (mut last, mut named) = (None, Vec::new());
    while let Some(row) = rows.next()? {
        last = Some(row.get(0)?);
        let documents: [Option<Document>; 2] = [row.get(1)?, row.get(2)?];
        named.extend(documents.into_iter().flatten().filter_map(|document| document.file()));
    }
    Ok(last.map(|last| (last, named)))
}

fn stored(row: &Row<'_>) -> Result<Stored, Problem> {
    Ok(Stored { row: summary(row)?, request: row.get("request")?, report: row.get("report")? })
}

fn summary(row: &Row<'_>) -> Result<RunRow, Problem> {
    Ok(RunRow {
        run: parsed(row, "id")?,
        workspace: row.get("workspace")?,
        agent: parsed(row, "agent")?,
        version: row.get("version")?,
        digest: digest_in(row, "digest")?,
        caller: row.get("caller")?,
        token: row.get("token")?,
        member: row.get("member")?,
        instance: row.get("instance")?,
        status: parsed(row, "status")?,
        created: time_in(row, "created")?,
        started: time_if(row, "started")?,
        finished: time_if(row, "finished")?,
        exit_code: row.get("exit_code")?,
        error: row.get::<_, Option<String>>("error")?.map(|text| json(&text, "error")).transpose()?,
        report: None,
        request: Value::Null,
    })
}
