//! What the store promises, through its own door.

use std::fs;
use std::path::Path;

use orch_manifests::{Digest, RunId};
use rusqlite::Connection;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;

mod bounds;
mod files;
mod finding;
mod keeping;
mod leftovers;
mod migrating;
mod opening;
mod ownership;
mod paging;
mod records;
mod writing;

/// A store in a folder that goes with it.
struct Stage {
    folder: tempfile::TempDir,
    store: Store,
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    Stage { folder, store }
}

/// A second connection to the database, as another process would have it.
fn raw(folder: &Path) -> Connection {
    Connection::open(folder.join(DATABASE)).expect("a connection")
}

/// A moment: so many seconds after some fixed one.
fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).expect("a time")
}

fn new_run(workspace: &str) -> NewRun {
    NewRun {
        run: RunId::random(),
        workspace: workspace.to_owned(),
        agent: "acme/writer".parse().expect("a name"),
        version: "1.2.3".to_owned(),
        digest: Digest::of(b"agent"),
        caller: "ci".to_owned(),
        token: Some("tok_1".to_owned()),
        member: Some("ada".to_owned()),
        instance: "inst_gone".to_owned(),
        request: json!({"input": {"n": 1}}),
        created: at(0),
        started: None,
    }
}

fn end(status: RunStatus) -> RunEnd {
    RunEnd {
        status,
        exit_code: 0,
        error: None,
        report: None,
        finished: at(9),
        calls: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    }
}

fn event(seq: u64, text: &str) -> RunEvent {
    RunEvent { seq, time: at(1), kind: EventKind::Log, text: text.to_owned() }
}

fn call(workspace: &str, model: &str, cost: Option<u64>) -> CallRow {
    CallRow {
        workspace: workspace.to_owned(),
        run: None,
        caller: "ci".to_owned(),
        token: Some("tok_1".to_owned()),
        member: Some("ada".to_owned()),
        agent: None,
        provider: "openai".to_owned(),
        model: model.to_owned(),
        input_tokens: 10,
        output_tokens: 5,
        cost_micro_usd: cost,
        time: at(0),
        request: Some("req_1".to_owned()),
        credential: Some("OPENAI_API_KEY".to_owned()),
        source: Some("vault".to_owned()),
        mask: Some("cdef".to_owned()),
        billing: Some("team".to_owned()),
        provider_asked: Some("openai".to_owned()),
        model_asked: Some("fast".to_owned()),
        outcome: Some("served".to_owned()),
        class: None,
        latency_ms: Some(120),
        first_token_ms: Some(40),
        price_date: Some("2026-07-02".to_owned()),
        receipt: json!({"outcome": "served"}).to_string(),
        moved: Vec::new(),
    }
}

/// Accepts a run and returns its id.
async fn accepted(store: &Store, run: NewRun) -> RunId {
    let id = run.run.clone();
    store.accept(run).await.expect("accepted");
    id
}
