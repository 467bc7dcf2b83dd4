//! An accepted run, from its place in the queue to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use time::OffsetDateTime;

use super::live::{LiveRun, Why};
use super::queue::{Place, Turn};
use super::{Mode, Service};
use crate::broker::Concluded;
use crate::execution::interrupted;
use crate::failure::Failure;
use crate::prepare::Prepared;
use crate::store::EventKind;

/// A run that takes longer than this has its events stored while it goes on.
const STORE_EVENTS: Duration = Duration::from_millis(500);

impl Service {
    /// Lets an accepted run take its turn.
    pub(super) fn begin(
        self: &Arc<Self>,
        live: Arc<LiveRun>,
        prepared: Prepared,
        caller: String,
        turn: Option<Turn>,
        place: Place,
    ) {
        live.tell(EventKind::Status, if turn.is_some() { "running" } else { "queued" });
        if turn.is_none() {
            // Who follows goes on after these, should another process run it.
            self.store.append(&live.run, live.unstored(false));
        }
        self.lock().insert(live.run.clone(), Arc::clone(&live));
        let service = Arc::clone(self);
        self.spawn(async move {
            let agent = prepared.agent.manifest.name.to_string();
            let turn = AssertUnwindSafe(service.take_turn(&live, prepared, turn, place)).catch_unwind();
            // Whatever a defect left half done is the run's own: its end is told all the same.
            let concluded = Box::pin(turn)
                .await
                .unwrap_or_else(|_| Some(Failure::defect("the execution of the run panicked").into()));
            match concluded {
                Some(concluded) => service.conclude(&live, &caller, &agent, concluded).await,
                // It stays in the store, and waits for the next server.
                None => service.let_go(&live),
            }
        });
    }

    /// Waits for the run's turn and executes it. None when the server stopped before that.
    async fn take_turn(
        &self,
        live: &Arc<LiveRun>,
        prepared: Prepared,
        turn: Option<Turn>,
        place: Place,
    ) -> Option<Concluded> {
        let mut stop = live.stopper();
        let turn = match turn {
            Some(turn) => turn,
            None => {
                let turn = tokio::select! {
                    turn = self.queue.turn(&live.workspace) => turn,
                    _ = stop.wait_for(|count| *count > 0) => {
                        let cancelled = live.stopped() != Some(Why::Draining);
                        return cancelled.then(|| interrupted("cancelled before it was started").into());
                    }
                };
                // On disk before anything of it happens: what was started is not run again.
                if let Err(failure) = self.store.started(&live.run, OffsetDateTime::now_utc()).await {
                    return Some(failure.into());
                }
                live.tell(EventKind::Status, "running");
                turn
            }
        };
        drop(place);
        let keep = self.mode == Mode::Serve;
        let execution = self.broker.execute(prepared, keep, std::time::Instant::now(), &**live, stop);
        let concluded = self.storing_events(live, Box::pin(execution)).await;
        drop(turn);
        Some(concluded)
    }

    /// Carries on with a run and stores what it tells from time to time.
    async fn storing_events<T>(&self, live: &LiveRun, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(STORE_EVENTS, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    let events = live.unstored(false);
                    if !events.is_empty() {
                        self.store.append(&live.run, events);
                    }
                }
            }
        }
    }
}
