//! What a process that died has left: runs that were accepted and have not ended.
//!
//! A run that had not been started is run again by the next server. One that had been started is reported as
//! interrupted: what it did has happened, and doing it twice is for its caller to decide. So is one whose keys came with
//! its request: they were in the memory of the process that died, and nowhere else.

use std::sync::Arc;

use orch_manifests::Digest;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::ending::interrupted_by_server;
use super::live::LiveRun;
use super::queue::Place;
use super::stored::StoredRequest;
use super::turns::Start;
use super::{Mode, Service};
use crate::failure::Failure;
use crate::records::Who;
use crate::run::{RunRequest, dollars};
use crate::store::{CallRow, RunEnd, RunRow, RunStatus};

mod uses;

impl Service {
    /// Takes over the runs of dead processes. The server also runs what had not been started, in the background: it is
    /// ready before that.
    pub(super) async fn recover(self: &Arc<Self>) -> Result<(), Failure> {
        let (mut again, mut cut_off) = (Vec::new(), Vec::new());
        for row in self.store().unfinished().await? {
            let waited = row.status == RunStatus::Queued && StoredRequest::is_whole(&row.request);
            if waited && self.mode == Mode::Embedded {
                // The next server's to run.
                continue;
            }
            if waited {
                again.push(row);
            } else if self.store().adopt(&row.run, &row.instance, self.instance.id()).await? {
                cut_off.push(row);
            }
        }
        uses::count_lost(&self.keeper, &cut_off).await;
        for row in cut_off {
            self.interrupted(&row).await?;
        }
        if again.is_empty() {
            return Ok(());
        }
        let service = Arc::downgrade(self);
        self.spawn(async move {
            for mut row in again {
                let Some(service) = service.upgrade() else { return };
                let request = StoredRequest::read(std::mem::take(&mut row.request), row.digest);
                let size = request.as_ref().map_or(0, RunRequest::size);
                // A server that is about to stop leaves them to the next one.
                let Some(place) = service.queue.enter_again(&row.workspace, size) else { return };
                // One at a time: what is not reached, or cannot be written, is left to the next process.
                let adopted = service.store().adopt(&row.run, &row.instance, service.instance.id()).await;
                if adopted.is_ok_and(|ours| ours) && service.run_again(row, request, place).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    async fn run_again(
        self: &Arc<Self>,
        row: RunRow,
        request: Option<RunRequest<Digest>>,
        place: Place,
    ) -> Result<(), Failure> {
        let Some(request) = request else { return self.interrupted(&row).await };
        let told = self.store().last_event(&row.run).await?;
        let live = LiveRun::after_event(row.run.clone(), &row.workspace, told).of_member(&row.caller);
        self.begin(Arc::new(live), Who::of_run(&row), Start::Later(row.agent, Box::new(request)), place);
        Ok(())
    }

    async fn interrupted(&self, row: &RunRow) -> Result<(), Failure> {
        let why = match row.status {
            RunStatus::Queued => {
                "it waited for its turn, and what it needs (keys, folders) ended with that process"
            }
            _ => "it had been started",
        };
        let failure = interrupted_by_server(&why);
        let report = match row.started {
            Some(_) => Some(what_is_known(row, failure.code(), &self.store().calls(&row.run).await?)),
            None => None,
        };
        self.end(row, RunStatus::Interrupted, &failure, report).await
    }

    async fn end(
        &self,
        row: &RunRow,
        status: RunStatus,
        failure: &Failure,
        report: Option<Value>,
    ) -> Result<(), Failure> {
        let end = RunEnd {
            status,
            exit_code: failure.kind().exit_code(),
            error: Some(failure.to_json()["error"].take()),
            report,
            finished: OffsetDateTime::now_utc(),
            calls: Vec::new(),
            decisions: Vec::new(),
            events: Vec::new(),
        };
        self.store().finish(&row.run, end).await
    }
}

/// The report of a run that nobody saw end, as far as it is on record: the model calls that were stored while it went on.
fn what_is_known(row: &RunRow, status: &str, calls: &[CallRow]) -> Value {
    let sum = |count: fn(&CallRow) -> u64| calls.iter().map(count).sum::<u64>();
    let cost = calls.iter().map(|call| call.cost_micro_usd).sum::<Option<u64>>();
    let receipts: Vec<Value> =
        calls.iter().filter_map(|call| serde_json::from_str(&call.receipt).ok()).collect();
    json!({
        "run_id": row.run,
        "status": status,
        "output": null,
        "usage": {
            "input_tokens": sum(|call| call.input_tokens),
            "output_tokens": sum(|call| call.output_tokens),
            "cost_usd": cost.map(dollars),
        },
        "calls": receipts,
    })
}
