//! An accepted run, from its place in the queue to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use orch_manifests::{AgentName, Digest};
use time::OffsetDateTime;

use super::ending::Payer;
use super::live::{LiveRun, Why};
use super::queue::{Place, Turn};
use super::{Mode, Service};
use crate::afterwards;
use crate::broker::Concluded;
use crate::execution::interrupted;
use crate::failure::Failure;
use crate::prepare::Prepared;
use crate::records::Who;
use crate::run::RunRequest;
use crate::store::EventKind;

/// A run that takes longer than this has its events and model calls stored while it goes on.
const RECORD: Duration = Duration::from_millis(500);

/// How an accepted run begins.
pub(super) enum Start {
    /// Its turn has come already.
    AtOnce(Box<Prepared>, Turn),
    /// It waits, with what it was asked with and no key but those that came with that. What its workspace granted and
    /// stored is looked at again when its turn comes: what was taken back meanwhile does not reach it. Its agent is
    /// loaded again, too: many may wait, and each would hold a module.
    Later(AgentName, Box<RunRequest<Digest>>),
}

impl Start {
    fn agent(&self) -> &AgentName {
        match self {
            Self::AtOnce(prepared, _) => &prepared.request.agent.manifest.name,
            Self::Later(agent, _) => agent,
        }
    }
}

impl Service {
    /// Lets an accepted run take its turn.
    pub(super) fn begin(self: &Arc<Self>, live: Arc<LiveRun>, who: Who, start: Start, place: Place) {
        let at_once = matches!(start, Start::AtOnce(..));
        live.tell(EventKind::Status, if at_once { "running" } else { "queued" });
        if !at_once {
            // Who follows goes on after these, should another process run it.
            self.store.append(&live.run, live.unstored(false));
        }
        self.lock().insert(live.run.clone(), Arc::clone(&live));
        let service = Arc::clone(self);
        self.spawn(async move {
            let payer = Payer { who, agent: start.agent().to_string() };
            let turn = AssertUnwindSafe(service.take_turn(&live, &payer, start, place)).catch_unwind();
            // Whatever a defect left half done is the run's own: its end is told all the same.
            let concluded = Box::pin(turn)
                .await
                .unwrap_or_else(|_| Some(Failure::defect("the execution of the run panicked").into()));
            // What was not counted by then is not known any more. The failure of the run is what is reported.
            let lost = afterwards::of_lost(&live.settled());
            let _ = service.keeper.record_after(&live.workspace, lost).await;
            match concluded {
                Some(concluded) => service.conclude(&live, &payer, concluded).await,
                // It stays in the store, and waits for the next server.
                None => service.let_go(&live),
            }
        });
    }

    /// Waits for the run's turn and executes it. None when the server stopped before that.
    async fn take_turn(
        self: &Arc<Self>,
        live: &Arc<LiveRun>,
        payer: &Payer,
        start: Start,
        place: Place,
    ) -> Option<Concluded> {
        let mut stop = live.stopper();
        let (mut prepared, turn) = match start {
            Start::AtOnce(prepared, turn) => {
                drop(place);
                (*prepared, turn)
            }
            Start::Later(_, request) => {
                let ready = tokio::select! {
                    ready = Box::pin(self.wait(live, *request, place)) => ready,
                    _ = stop.wait_for(|count| *count > 0) => {
                        let cancelled = live.stopped() != Some(Why::Draining);
                        return cancelled.then(|| interrupted("cancelled before it was started").into());
                    }
                };
                match self.start(live, ready).await {
                    Ok(started) => started,
                    Err(failure) => return Some(failure.into()),
                }
            }
        };
        // Over simulated providers nothing is spent that anybody has set a budget for.
        if !prepared.simulated {
            let agent = Some(&*payer.agent);
            prepared.treasury = Some(self.budgets.account(&live.workspace, &payer.who.name, agent));
        }
        prepared.bodies = self.body_keeper(&live.workspace);
        if let Some(keeper) = &prepared.bodies {
            live.tell(EventKind::Note, format!("{} (records.bodies)", keeper.kept.said()));
        }
        prepared.witness = self.witness_of(live, &prepared.keys);
        let keep = self.mode == Mode::Serve;
        if let Err(failure) = self.broker.export() {
            live.tell(EventKind::Warning, failure.to_string());
        }
        let run = prepared.run.clone();
        live.owes(prepared.keys.uses.clone());
        // What it spends counts with its keys for as long as they are held: until the vault knows it.
        let held: Vec<_> = prepared.keys.of_providers().cloned().collect();
        let execution = self.broker.execute(prepared, keep, std::time::Instant::now(), &**live, stop);
        let concluded = self.keeping_record(live, payer, Box::pin(execution)).await;
        let uses = live.settled();
        let mut events = afterwards::of_run(&run, &uses, &concluded.tally, &concluded.spent);
        events.extend(afterwards::of_violation(&run, &concluded.result));
        // A run that used nothing of a vault that is closed to this process has nothing to tell of it.
        if let Err(failure) = self.keeper.record_after(&live.workspace, events).await
            && (keep || !uses.is_empty())
        {
            let text = format!("the vault's record of this run is not complete: {failure}");
            live.tell(EventKind::Warning, &text);
        }
        drop((turn, held));
        Some(concluded)
    }

    /// Waits for the run's turn, and prepares it as things are then.
    async fn wait(
        self: &Arc<Self>,
        live: &Arc<LiveRun>,
        request: RunRequest<Digest>,
        place: Place,
    ) -> Result<(Prepared, Turn), Failure> {
        let turn = self.queue.turn(&live.workspace).await;
        drop(place);
        let agent = self.library.by_digest(&request.agent).await?;
        Ok((self.prepare(request.with_agent(agent), live).await?, turn))
    }

    /// Puts on record that a run that waited is started, before anything of it happens: what was started is not run
    /// again.
    async fn start(
        &self,
        live: &LiveRun,
        ready: Result<(Prepared, Turn), Failure>,
    ) -> Result<(Prepared, Turn), Failure> {
        let (prepared, turn) = ready?;
        self.store.started(&live.run, OffsetDateTime::now_utc()).await?;
        self.record_uses(&prepared).await?;
        live.tell(EventKind::Status, "running");
        Ok((prepared, turn))
    }

    /// Carries on with a run, and stores from time to time what it tells and which models it called: what it spent is on
    /// record even if this process is killed.
    async fn keeping_record<T>(&self, live: &LiveRun, payer: &Payer, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(RECORD, &mut work).await {
                return done;
            }
            let events = live.unstored(false);
            if !events.is_empty() {
                self.store.append(&live.run, events);
            }
            let (first, receipts) = live.unstored_calls();
            if !receipts.is_empty() {
                let now = OffsetDateTime::now_utc();
                let calls = receipts.iter().map(|receipt| payer.call(live, receipt, now)).collect();
                self.store.record_calls(first, calls);
            }
        }
    }
}
