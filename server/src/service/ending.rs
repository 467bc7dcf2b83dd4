//! The end of a run: what is put on record, in one transaction, before anybody hears of it.

use std::time::Duration;

use orch_gateway::Receipt;
use orch_manifests::RunId;
use serde_json::Value;
use time::OffsetDateTime;

use super::Service;
use super::live::{LiveRun, Why};
use crate::broker::Concluded;
use crate::failure::{Failure, Kind};
use crate::records::Who;
use crate::run::Report;
use crate::store::{CallRow, EventKind, RunEnd, RunStatus};

/// How long is waited before an end is stored again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(7);

impl Service {
    /// Puts the end of a run on record, and lets those who wait know.
    pub(super) async fn conclude(&self, live: &LiveRun, payer: &Payer, concluded: Concluded) {
        let Concluded { result, decisions, tally: _, spent: _ } = concluded;
        let now = OffsetDateTime::now_utc();
        let Ending { status, exit_code, error, report } = ending(result, live.stopped());
        let calls = live.calls().iter().map(|receipt| payer.call(live, receipt, now)).collect();
        live.tell(EventKind::Status, status.as_str());
        let end = RunEnd {
            status,
            exit_code,
            error,
            report,
            finished: now,
            calls,
            decisions: decisions.iter().filter_map(|decision| serde_json::to_value(decision).ok()).collect(),
            events: live.unstored(true),
        };
        if let Err(failure) = self.store_end(&live.run, end).await {
            // The store is broken. Whoever follows hears why; the next process finds the run unfinished.
            live.tell(EventKind::Warning, format!("the end of this run could not be stored: {failure}"));
        }
        self.let_go(live);
    }

    /// Stores an end, with patience: a disk may be full or a database busy for a while, and a run ends only once.
    async fn store_end(&self, run: &RunId, end: RunEnd) -> Result<(), Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.store().finish(run, end.clone()).await {
                Err(failure) if pause <= LAST_PAUSE && failure.kind() == Kind::Server => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
    }

    /// Nothing more happens to the run here.
    pub(super) fn let_go(&self, live: &LiveRun) {
        self.lock().remove(&live.run);
        live.end();
    }
}

/// How a run ended, as it is stored.
struct Ending {
    status: RunStatus,
    exit_code: u8,
    error: Option<Value>,
    report: Option<Value>,
}

fn ending(result: Result<Report, Failure>, stopped: Option<Why>) -> Ending {
    let failure = match result {
        Ok(report) => match serde_json::to_value(&report) {
            Ok(report) => {
                return Ending {
                    status: RunStatus::Succeeded,
                    exit_code: 0,
                    error: None,
                    report: Some(report),
                };
            }
            Err(error) => Failure::defect(format!("the report cannot be written as JSON: {error}")),
        },
        Err(failure) => failure,
    };
    let (status, failure) = match (failure.kind(), stopped) {
        (Kind::Interrupted, Some(Why::Draining)) => (RunStatus::Interrupted, interrupted_by_server(&failure)),
        (Kind::Interrupted, _) => (RunStatus::Cancelled, failure),
        _ => (RunStatus::Failed, failure),
    };
    let exit_code = failure.kind().exit_code();
    let mut error = failure.to_json()["error"].take();
    // The report is a field of its own.
    let report = error["details"].as_object_mut().and_then(|details| details.remove("run"));
    Ending { status, exit_code, error: Some(error), report }
}

/// The failure of a run that ended because its server did.
pub(super) fn interrupted_by_server(why: &impl std::fmt::Display) -> Failure {
    Failure::new(
        Kind::Server,
        "server_stopped",
        format!("the server stopped while the run was under way: {why}"),
    )
    .hint("whatever it has done so far has happened; run it again if that does no harm")
}

/// Who pays for the calls of a run.
pub(super) struct Payer {
    /// Who asked for it.
    pub(super) who: Who,
    /// The agent's name.
    pub(super) agent: String,
}

impl Payer {
    /// A call, as it is put on record.
    pub(super) fn call(&self, live: &LiveRun, receipt: &Receipt, time: OffsetDateTime) -> CallRow {
        self.who.call(Some((&live.run, &self.agent)), receipt, time)
    }
}
