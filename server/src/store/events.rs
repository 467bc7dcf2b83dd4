//! Events of runs: bounded, in order, and written in the background.

use std::collections::HashMap;

use orch_manifests::RunId;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{count, count_in, micros, parsed, time_in};
use super::problem::Problem;
use super::rows::{EVENT_TEXT_LIMIT, EventKind, PAGE_LIMIT, RunEvent};

/// Most events of a run, and most bytes of their texts, beside those of its end.
const EVENTS: usize = 10_000;
const BYTES: usize = 8 << 20;

/// A page of events ends when its texts have this many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// What an event takes in memory beside its text, roughly.
const OVERHEAD: usize = 64;

/// How much of each live run is on record.
#[derive(Default)]
pub(super) struct Ledger {
    runs: HashMap<RunId, Recorded>,
}

#[derive(Default)]
struct Recorded {
    events: usize,
    bytes: usize,
    losing: bool,
}

impl Ledger {
    /// What of `new` is to be kept. The first one that is not becomes a warning in its place, which says so; when
    /// `room` comes back after that, events are kept again.
    pub(super) fn admit(&mut self, run: &RunId, mut new: Vec<RunEvent>, room: bool) -> Vec<RunEvent> {
        let recorded = self.runs.entry(run.clone()).or_default();
        let mut kept = 0;
        for event in &mut new {
            cut(&mut event.text);
            let fits = recorded.events < EVENTS && recorded.bytes + event.text.len() <= BYTES;
            if !(fits && room) {
                if !recorded.losing {
                    recorded.losing = true;
                    event.kind = EventKind::Warning;
                    event.text = if fits { BEHIND } else { FULL }.to_owned();
                    kept += 1;
                }
                break;
            }
            recorded.losing = false;
            recorded.events += 1;
            recorded.bytes += event.text.len();
            kept += 1;
        }
        new.truncate(kept);
        new
    }

    /// The run has ended.
    pub(super) fn forget(&mut self, run: &RunId) {
        self.runs.remove(run);
    }
}

const FULL: &str = "the record of this run is full: what it tells from here on is not kept";
const BEHIND: &str = "the disk is too slow for what this run tells: some of it is not kept";

/// Cuts a text to what is stored of it.
fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(EVENT_TEXT_LIMIT));
}

/// What queued events take in memory.
pub(super) fn weight(events: &[RunEvent]) -> usize {
    events.iter().map(|event| event.text.len() + OVERHEAD).sum()
}

/// Adds events to a run. There being no such run is nobody's trouble: the events say nothing then.
pub(super) fn append(db: &Connection, run: &RunId, events: &[RunEvent]) -> Result<(), Problem> {
    let seq: Option<i64> = db
        .prepare_cached("SELECT seq FROM runs WHERE id = ?1")?
        .query_row([run.as_str()], |row| row.get(0))
        .optional()?;
    seq.map_or(Ok(()), |seq| insert(db, seq, events))
}

/// Adds events to the run with this number.
pub(super) fn insert(db: &Connection, run: i64, events: &[RunEvent]) -> Result<(), Problem> {
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO events (run, seq, time, kind, text) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for event in events {
        let text = &event.text[..event.text.floor_char_boundary(EVENT_TEXT_LIMIT)];
        insert.execute(params![run, count(event.seq), micros(event.time), event.kind.as_str(), text])?;
    }
    Ok(())
}

/// The statement for a run's events.
pub(super) const PAGE: &str = "SELECT seq, time, kind, text FROM events
     WHERE run = (SELECT seq FROM runs WHERE id = ?1) AND seq > ?2 ORDER BY seq LIMIT ?3";

/// Events of a run after `after`; fewer than `limit` when their texts are long, but one at least when there is one.
pub(super) fn page(db: &Connection, run: &RunId, after: u64, limit: u32) -> Result<Vec<RunEvent>, Problem> {
    let mut statement = db.prepare_cached(PAGE)?;
    let mut rows = statement.query(params![run.as_str(), count(after), limit.clamp(1, PAGE_LIMIT)])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let event = RunEvent {
            seq: count_in(row, "seq")?,
            time: time_in(row, "time")?,
            kind: parsed(row, "kind")?,
            text: row.get("text")?,
        };
        bytes += event.text.len();
        found.push(event);
    }
    Ok(found)
}

/// The number of a run's last event; 0 when it has none.
pub(super) fn last(db: &Connection, run: &RunId) -> Result<u64, Problem> {
    db.prepare_cached(
        "SELECT ifnull(max(seq), 0) AS last FROM events WHERE run = (SELECT seq FROM runs WHERE id = ?1)",
    )?
    .query_row([run.as_str()], |row| Ok(count_in(row, "last")))?
}
