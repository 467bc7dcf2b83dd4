//! The store at size: opening and recovery, listings, and awaited writes.
//!
//! A database of 100,000 runs is opened and asked for what a dead process left; one of 1,000,000 runs, all of one
//! workspace, is listed by every filter, at its newest and deep inside. Medians are compared with the targets, and one
//! above its target fails. What 64 callers can write and await, per second, is compared with its target as well; that
//! depends on the disk under the temporary folder (`TMPDIR`). What the indexes cost by which calls are found is told beside
//! what they cost when usage alone was added up: the same calls, written by turns into two databases, of which one has the
//! indexes of then.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it reports to a terminal and may fail loudly")]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use orch_manifests::{Digest, RunId};
use orch_server::store::{CallRow, NewRun, RunEnd, RunPage, RunStatus, Store};
use rusqlite::{Connection, params};
use serde_json::json;
use time::OffsetDateTime;
use tokio::task::JoinSet;

const RECOVERY_RUNS: u32 = 100_000;
const RECOVERY_TARGET: Duration = Duration::from_millis(100);

const LISTED_RUNS: u32 = 1_000_000;
const LISTING_TARGET: Duration = Duration::from_millis(10);

const CALLERS: u32 = 64;
const PAIRS_EACH: u32 = 200;
const WRITES_TARGET: f64 = 3000.0;

/// Calls of a round, as many as a busy server's in some seconds.
const CALLS: u64 = 20_000;
/// The indexes that calls had before they could be found by anything but their time.
const INDEXES_OF_THEN: &str = "
    DROP INDEX calls_by_time;
    DROP INDEX calls_by_request;
    DROP INDEX calls_by_key;
    CREATE INDEX calls_usage ON calls (workspace, time, agent, provider, model, run, input_tokens, output_tokens, cost);
";

/// Rounds of each measurement; the median counts.
const ROUNDS: usize = 11;

const WORKSPACE: &str = "default";
/// One agent has a hundredth of all runs.
const AGENTS: u32 = 100;

#[tokio::main]
async fn main() -> ExitCode {
    let mut met = recovery().await;
    met &= listings().await;
    met &= writes().await;
    calls().await;
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn recovery() -> bool {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), RECOVERY_RUNS);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let store = Store::open(folder.path()).unwrap();
        let left = store.unfinished().await.unwrap();
        times.push(begun.elapsed());
        assert_eq!(left.len(), RECOVERY_RUNS as usize / 1000 * 2);
    }
    verdict(&format!("open and recovery, {RECOVERY_RUNS} runs"), &mut times, RECOVERY_TARGET)
}

async fn listings() -> bool {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), LISTED_RUNS);
    let begun = Instant::now();
    let store = Store::open(folder.path()).unwrap();
    println!("{:<60} {:>10.1?}", format!("open, {LISTED_RUNS} runs"), begun.elapsed());
    let deep = deep_place(folder.path());
    let agent = || Some("acme/agent-7".parse().unwrap());
    let mut met = true;
    for (name, status, agent) in [
        ("all", None, None),
        ("by a common status", Some(RunStatus::Succeeded), None),
        ("by a rare status", Some(RunStatus::Interrupted), None),
        ("by agent", None, agent()),
        ("by agent and status", Some(RunStatus::Failed), agent()),
    ] {
        for (depth, before) in [("newest", None), ("deep", Some(deep.clone()))] {
            let page = RunPage { limit: 50, before, status, agent: agent.clone() };
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                let begun = Instant::now();
                let (rows, _) = store.runs(WORKSPACE, &page).await.unwrap();
                times.push(begun.elapsed());
                assert_eq!(rows.len(), 50);
            }
            met &= verdict(&format!("50 of {LISTED_RUNS}, {name}, {depth}"), &mut times, LISTING_TARGET);
        }
    }
    met
}

async fn writes() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let store = store.clone();
        callers.spawn(async move {
            for _ in 0..PAIRS_EACH {
                let run = RunId::random();
                store.accept(new_run(&run)).await.unwrap();
                store.finish(&run, end()).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    let each_second = f64::from(CALLERS * PAIRS_EACH * 2) / begun.elapsed().as_secs_f64();
    println!(
        "{:<60} {each_second:>10.0} (target {WRITES_TARGET:.0})",
        format!("awaited writes a second, {CALLERS} callers")
    );
    each_second >= WRITES_TARGET
}

/// There is no target: what calls are found by is worth what it costs, or is not. It is for whoever adds an index.
async fn calls() {
    let (then, now) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(Store::open(then.path()).unwrap());
    Connection::open(then.path().join("orch.db")).unwrap().execute_batch(INDEXES_OF_THEN).unwrap();
    let stores = [Store::open(then.path()).unwrap(), Store::open(now.path()).unwrap()];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS as u64 {
        for (store, times) in stores.iter().zip(&mut times) {
            let begun = Instant::now();
            for n in 0..CALLS {
                store.record_call(&call(round * CALLS + n));
            }
            store.flush().await.unwrap();
            times.push(begun.elapsed());
        }
    }
    let [then, now] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6 / CALLS as f64
    });
    println!(
        "{:<60} {now:>8.1}µs (with the indexes of before {then:.1}µs)",
        "a call's record, of as many as come"
    );
}

fn call(n: u64) -> CallRow {
    let text = |text: String| Some(text);
    CallRow {
        workspace: WORKSPACE.to_owned(),
        run: None,
        caller: format!("caller-{}", n % 50),
        token: text(format!("tok_{}", n % 50)),
        member: text(format!("caller-{}", n % 50)),
        agent: None,
        provider: "openai".to_owned(),
        model: format!("model-{}", n % 7),
        input_tokens: 1000 + n % 100,
        output_tokens: 100,
        cost_micro_usd: Some(250),
        time: OffsetDateTime::now_utc(),
        // As far apart as real ones are.
        request: text(format!("req_{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        credential: text(format!("KEY_{}", n % 5)),
        source: text("vault".to_owned()),
        mask: text("cdef".to_owned()),
        billing: text("team".to_owned()),
        provider_asked: text("openai".to_owned()),
        model_asked: text("smart".to_owned()),
        outcome: text("served".to_owned()),
        class: None,
        latency_ms: Some(800),
        first_token_ms: Some(90),
        price_date: text("2026-07-02".to_owned()),
        receipt: json!({"outcome": "served", "attempts": [{"provider": "openai", "model": "m"}], "pad": "x".repeat(500)})
            .to_string(),
        moved: Vec::new(),
    }
}

fn verdict(name: &str, times: &mut [Duration], target: Duration) -> bool {
    let first = times[0];
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!("{name:<60} {median:>10.1?} (first {first:.1?}, target {target:?})");
    median <= target
}

/// Makes a database with that many runs, of which two in a thousand have not ended and belong to no live process.
///
/// What the store writes one by one is written here in one statement each, without waiting for the disk.
fn fill(folder: &Path, runs: u32) {
    drop(Store::open(folder).unwrap());
    let mut db = Connection::open(folder.join("orch.db")).unwrap();
    db.pragma_update(None, "synchronous", "off").unwrap();
    let transaction = db.transaction().unwrap();
    {
        let mut insert = transaction
            .prepare(
                "INSERT INTO runs (id, workspace, agent, version, digest, caller, instance, status, created, started,
                                   finished, exit_code, request, report)
                 VALUES (?1, ?2, ?3, '1.0.0', ?4, 'tok_bench', 'inst_dead', ?5, ?6, ?6, ?7, ?8, ?9, ?10)",
            )
            .unwrap();
        let request = json!({"input": {"text": "x".repeat(400)}}).to_string();
        let report = json!({"output": {"text": "y".repeat(800)}}).to_string();
        let digest = Digest::of(b"agent");
        for n in 0..runs {
            let status = match n % 1000 {
                0 => RunStatus::Queued,
                1 => RunStatus::Running,
                2 | 3 => RunStatus::Interrupted,
                // Coprime to the number of agents, so that every agent has failures.
                _ if n % 7 == 0 => RunStatus::Failed,
                _ => RunStatus::Succeeded,
            };
            insert
                .execute(params![
                    RunId::random().as_str(),
                    WORKSPACE,
                    format!("acme/agent-{}", n % AGENTS),
                    digest.as_bytes(),
                    status.as_str(),
                    i64::from(n),
                    status.is_final().then_some(i64::from(n)),
                    status.is_final().then_some(0),
                    request,
                    status.is_final().then_some(&report),
                ])
                .unwrap();
        }
    }
    transaction.commit().unwrap();
}

/// The place after which a twentieth of all runs remains.
fn deep_place(folder: &Path) -> String {
    let db = Connection::open(folder.join("orch.db")).unwrap();
    db.query_row("SELECT id FROM runs WHERE seq = (SELECT max(seq) / 20 FROM runs)", [], |row| row.get(0))
        .unwrap()
}

fn new_run(run: &RunId) -> NewRun {
    NewRun {
        run: run.clone(),
        workspace: WORKSPACE.to_owned(),
        agent: "acme/writer".parse().unwrap(),
        version: "1.0.0".to_owned(),
        digest: Digest::of(b"agent"),
        caller: "tok_bench".to_owned(),
        token: None,
        member: None,
        instance: "inst_bench".to_owned(),
        request: json!({"input": {"text": "x".repeat(400)}}),
        created: OffsetDateTime::now_utc(),
        started: None,
    }
}

fn end() -> RunEnd {
    RunEnd {
        status: RunStatus::Succeeded,
        exit_code: 0,
        error: None,
        report: Some(json!({"output": {"text": "y".repeat(800)}})),
        finished: OffsetDateTime::now_utc(),
        calls: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    }
}
