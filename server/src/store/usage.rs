//! Model calls as they are put on record, and adding them up.

use orch_manifests::RunId;
use rusqlite::{Connection, Row, named_params, params};
use time::Date;

use super::Store;
use super::columns::{count, count_in, micros, time_in};
use super::packed::{Packed, bounded};
use super::problem::Problem;
use super::rows::{CallRow, Moved, UsageBy, UsageQuery, UsageRow};
use crate::failure::Failure;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// 1 January 1970, as Julian day.
const EPOCH: i64 = 2_440_588;

/// What a [`CallRow`] is made of.
pub(super) const COLUMNS: &str = "workspace, time, run, caller, agent, provider, model, input_tokens, output_tokens, cost, \
     receipt, request, credential, price_date, token, member, source, mask, billing, provider_asked, model_asked, outcome, \
     class, latency, first_token";

/// Usage.
impl Store {
    /// Queues a model call of a client of the gateway for the record.
    pub fn record_call(&self, call: &CallRow) {
        let call = Packed::of(call);
        let is_one = call.moved.is_empty();
        let weight = call.weight();
        let write = move |db: &Connection| insert(db, &call, None);
        // What is more than one statement is undone as one.
        if is_one {
            self.inner.writer.queue_statement(weight, write);
        } else {
            self.inner.writer.queue(weight, write);
        }
    }

    /// Queues model calls of a run for the record; `first` is the place of the first among all calls of its run. What is
    /// on record already, as far as its place says, stays as it is.
    pub fn record_calls(&self, first: usize, calls: Vec<CallRow>) {
        let weight = calls.iter().map(|call| size_of::<CallRow>() + call.receipt.len()).sum();
        self.inner.writer.queue(weight, move |db| record_all(db, first, &calls));
    }

    /// The model calls of a run that are on record, in their order.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn calls(&self, run: &RunId) -> Result<Vec<CallRow>, Failure> {
        let run = run.clone();
        self.inner.readers.read(move |db| of_run(db, &run)).await
    }

    /// Adds up the model calls of a workspace; rows in the order of their keys.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn usage(&self, workspace: &str, query: &UsageQuery) -> Result<Vec<UsageRow>, Failure> {
        let (workspace, query) = (workspace.to_owned(), query.clone());
        self.inner.readers.read(move |db| add_up(db, &workspace, &query)).await
    }

    /// Adds up the model calls of a workspace as [`Store::usage`] does, and all of them as one row: both of the same state of
    /// the record, however many are put on it meanwhile.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn usage_and_total(
        &self,
        workspace: &str,
        query: &UsageQuery,
    ) -> Result<(Vec<UsageRow>, Option<UsageRow>), Failure> {
        let (workspace, query) = (workspace.to_owned(), query.clone());
        let whole = UsageQuery { by: UsageBy::Total, ..query.clone() };
        let both = move |db: &Connection| {
            Ok((add_up(db, &workspace, &query)?, add_up(db, &workspace, &whole)?.pop()))
        };
        self.inner.readers.read(both).await
    }
}

/// Puts the calls of a run on record, from this place on. Each is stored once, however often it is brought.
pub(super) fn record_all<'c>(
    db: &Connection,
    first: usize,
    calls: impl IntoIterator<Item = &'c CallRow>,
) -> Result<(), Problem> {
    let mut places = (first as u64..).map(count);
    calls.into_iter().try_for_each(|call| insert(db, &Packed::of(call), places.next()))
}

fn insert(db: &Connection, call: &Packed, place: Option<i64>) -> Result<(), Problem> {
    let inserted = db.prepare_cached(&format!(
        "INSERT INTO calls ({COLUMNS}, place)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
                 ?24, ?25, ?26)
         ON CONFLICT (run, place) WHERE run IS NOT NULL DO NOTHING"
    ))?
    .execute(params![
        call.text(call.workspace),
        call.time,
        call.text(call.run),
        call.text(call.caller),
        call.text(call.agent),
        call.text(call.provider),
        call.text(call.model),
        call.input_tokens,
        call.output_tokens,
        call.cost,
        call.text(call.receipt),
        call.text(call.request),
        call.text(call.credential),
        call.text(call.price_date),
        call.text(call.token),
        call.text(call.member),
        call.text(call.source),
        call.text(call.mask),
        call.text(call.billing),
        call.text(call.provider_asked),
        call.text(call.model_asked),
        call.text(call.outcome),
        call.text(call.class),
        call.latency,
        call.first_token,
        place,
    ])?;
    // What is on record already was moved with it.
    if inserted == 0 {
        return Ok(());
    }
    call.moved.iter().try_for_each(|moved| move_from(db, call, moved))
}

/// Takes away from where a call stands what belongs elsewhere, and adds it there.
fn move_from(db: &Connection, call: &Packed, moved: &Moved) -> Result<(), Problem> {
    let mut insert = db.prepare_cached(
        "INSERT INTO moved (workspace, time, token, caller, member, agent, provider, model, credential, billing,
                            input_tokens, output_tokens, cost)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    let here = (
        call.text(call.provider),
        call.text(call.model),
        call.text(call.credential),
        call.text(call.billing),
    );
    let there =
        (Some(&*moved.provider), Some(&*moved.model), moved.credential.as_deref(), moved.billing.as_deref());
    for ((provider, model, credential, billing), sign) in [(here, -1), (there, 1)] {
        insert.execute(params![
            call.text(call.workspace),
            call.time,
            call.text(call.token),
            call.text(call.caller),
            call.text(call.member),
            call.text(call.agent),
            provider,
            model,
            credential,
            billing,
            sign * bounded(moved.input_tokens),
            sign * bounded(moved.output_tokens),
            moved.cost_micro_usd.map(|cost| sign * bounded(cost)),
        ])?;
    }
    Ok(())
}

/// The statement for a run's calls.
pub(super) fn calls_of_run() -> String {
    format!("SELECT {COLUMNS} FROM calls WHERE run = ?1 ORDER BY place")
}

fn of_run(db: &Connection, run: &RunId) -> Result<Vec<CallRow>, Problem> {
    let mut statement = db.prepare_cached(&calls_of_run())?;
    let mut rows = statement.query([run.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(call_in(row)?);
    }
    Ok(found)
}

/// A call as its row has it.
pub(super) fn call_in(row: &Row<'_>) -> Result<CallRow, Problem> {
    let counted = |column: &str| -> Result<Option<u64>, Problem> {
        let number: Option<i64> = row.get(column)?;
        number.map(|_| count_in(row, column)).transpose()
    };
    let run: Option<String> = row.get("run")?;
    let run =
        run.map(|run| run.parse::<RunId>().map_err(|_| Problem::Row("`run` is no run's id".to_owned())));
    Ok(CallRow {
        workspace: row.get("workspace")?,
        run: run.transpose()?,
        caller: row.get("caller")?,
        token: row.get("token")?,
        member: row.get("member")?,
        agent: row.get("agent")?,
        provider: row.get("provider")?,
        model: row.get("model")?,
        input_tokens: count_in(row, "input_tokens")?,
        output_tokens: count_in(row, "output_tokens")?,
        cost_micro_usd: counted("cost")?,
        time: time_in(row, "time")?,
        request: row.get("request")?,
        credential: row.get("credential")?,
        source: row.get("source")?,
        mask: row.get("mask")?,
        billing: row.get("billing")?,
        provider_asked: row.get("provider_asked")?,
        model_asked: row.get("model_asked")?,
        outcome: row.get("outcome")?,
        class: row.get("class")?,
        latency_ms: counted("latency")?,
        first_token_ms: counted("first_token")?,
        price_date: row.get("price_date")?,
        receipt: row.get("receipt")?,
        moved: Vec::new(),
    })
}

/// What rows of usage are made of: their key, their name, and how they are put together and in order.
fn grouped(by: UsageBy) -> (String, &'static str, &'static str) {
    let (key, group) = match by {
        UsageBy::Day => (format!("time / {MICROS_PER_DAY}"), " GROUP BY 1 ORDER BY 1"),
        UsageBy::Agent => ("ifnull(agent, '')".to_owned(), " GROUP BY 1 ORDER BY 1"),
        UsageBy::Model => ("provider || '/' || model".to_owned(), " GROUP BY 1 ORDER BY 1"),
        UsageBy::Provider => ("provider".to_owned(), " GROUP BY 1 ORDER BY 1"),
        UsageBy::Credential => ("ifnull(credential, '')".to_owned(), " GROUP BY 1 ORDER BY 1"),
        UsageBy::Billing => ("ifnull(billing, '')".to_owned(), " GROUP BY 1 ORDER BY 1"),
        UsageBy::Member => ("ifnull(member, '')".to_owned(), " GROUP BY 1 ORDER BY 1"),
        // Of calls before there were ids on record the name is all that there is.
        UsageBy::Token => ("ifnull(token, '')".to_owned(), " GROUP BY 1, caller ORDER BY 1, caller"),
        UsageBy::Total => ("''".to_owned(), ""),
    };
    (key, if by == UsageBy::Token { "caller" } else { "NULL" }, group)
}

/// The rows that a query is about; of one token alone, where that is said.
fn asked(of_one: bool) -> String {
    let only = if of_one { " AND token = :token" } else { "" };
    format!("workspace = :workspace AND time >= :since AND time < :until{only}")
}

/// The statement that adds calls up.
pub(super) fn sums(by: UsageBy, of_one: bool) -> String {
    let ((key, name, group), asked) = (grouped(by), asked(of_one));
    format!(
        "SELECT {key} AS key, {name} AS name, count(DISTINCT run) AS runs, count(*) AS calls,
                ifnull(sum(outcome <> 'served'), 0) AS failed,
                ifnull(sum(input_tokens), 0) AS input_tokens, ifnull(sum(output_tokens), 0) AS output_tokens,
                CASE WHEN count(cost) = count(*) THEN ifnull(sum(cost), 0) END AS cost,
                ifnull(sum(cost) FILTER (WHERE billing = 'platform'), 0) AS platform
         FROM calls INDEXED BY calls_by_time WHERE {asked}{group}"
    )
}

/// The statement that adds up what belongs to other keys than the calls stand under.
pub(super) fn moved_sums(by: UsageBy, of_one: bool) -> String {
    let ((key, name, group), asked) = (grouped(by), asked(of_one));
    format!(
        "SELECT {key} AS key, {name} AS name, count(*) AS parts,
                ifnull(sum(input_tokens), 0) AS input_tokens, ifnull(sum(output_tokens), 0) AS output_tokens,
                CASE WHEN count(cost) = count(*) THEN ifnull(sum(cost), 0) END AS cost,
                ifnull(sum(cost) FILTER (WHERE billing = 'platform'), 0) AS platform
         FROM moved INDEXED BY moved_by_time WHERE {asked}{group}"
    )
}

/// Adds calls up; rows in the order of their keys.
fn add_up(db: &Connection, workspace: &str, query: &UsageQuery) -> Result<Vec<UsageRow>, Problem> {
    let of_one = query.only_of.is_some();
    let mut found = Vec::new();
    each(db, &sums(query.by, of_one), workspace, query, |row| {
        let cost: Option<i64> = row.get("cost")?;
        found.push(UsageRow {
            key: key_in(row, query.by)?,
            name: row.get("name")?,
            runs: count_in(row, "runs")?,
            calls: count_in(row, "calls")?,
            failed: count_in(row, "failed")?,
            input_tokens: count_in(row, "input_tokens")?,
            output_tokens: count_in(row, "output_tokens")?,
            cost_micro_usd: cost.map(|_| count_in(row, "cost")).transpose()?,
            platform_micro_usd: count_in(row, "platform")?,
        });
        Ok(())
    })?;
    each(db, &moved_sums(query.by, of_one), workspace, query, |row| {
        if row.get::<_, i64>("parts")? > 0 {
            add_moved(&mut found, key_in(row, query.by)?, row)?;
        }
        Ok(())
    })?;
    Ok(found)
}

/// Runs a statement of sums, and does something with each of its rows.
fn each(
    db: &Connection,
    sql: &str,
    workspace: &str,
    query: &UsageQuery,
    mut act: impl FnMut(&Row<'_>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let since = query.since.map_or(i64::MIN, micros);
    let until = query.until.map_or(i64::MAX, micros);
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = match &query.only_of {
        None => {
            statement.query(named_params! { ":workspace": workspace, ":since": since, ":until": until })?
        }
        Some(token) => statement.query(
            named_params! { ":workspace": workspace, ":since": since, ":until": until, ":token": token },
        )?,
    };
    while let Some(row) = rows.next()? {
        act(row)?;
    }
    Ok(())
}

/// Adds what was moved under a key to its row, or makes one for a key under which no call stands.
fn add_moved(found: &mut Vec<UsageRow>, key: String, row: &Row<'_>) -> Result<(), Problem> {
    let name: Option<String> = row.get("name")?;
    let place = found.binary_search_by(|known| (&known.key, &known.name).cmp(&(&key, &name)));
    let at = place.unwrap_or_else(|at| {
        let nothing = UsageRow {
            key,
            name,
            runs: 0,
            calls: 0,
            failed: 0,
            input_tokens: 0,
            output_tokens: 0,
            cost_micro_usd: Some(0),
            platform_micro_usd: 0,
        };
        found.insert(at, nothing);
        at
    });
    let sum = &mut found[at];
    let cost: Option<i64> = row.get("cost")?;
    sum.input_tokens = sum.input_tokens.saturating_add_signed(row.get("input_tokens")?);
    sum.output_tokens = sum.output_tokens.saturating_add_signed(row.get("output_tokens")?);
    sum.cost_micro_usd = sum.cost_micro_usd.zip(cost).map(|(sum, more)| sum.saturating_add_signed(more));
    sum.platform_micro_usd = sum.platform_micro_usd.saturating_add_signed(row.get("platform")?);
    Ok(())
}

fn key_in(row: &Row<'_>, by: UsageBy) -> Result<String, Problem> {
    if by == UsageBy::Day { date(row.get("key")?) } else { Ok(row.get("key")?) }
}

/// The date of a day since 1970, as RFC 3339 writes it.
fn date(day: i64) -> Result<String, Problem> {
    let unknown = || Problem::Row(format!("{day} is no day"));
    let julian = i32::try_from(day + EPOCH).map_err(|_| unknown())?;
    // The default form of a date is the one wanted.
    Date::from_julian_day(julian).map(|date| date.to_string()).map_err(|_| unknown())
}
