//! The end of a service: no further runs, and those under way are waited for or stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Service;
use super::live::{LiveRun, Why};
use crate::failure::Failure;

/// How long runs that were told to stop may take to do so.
const STOP_GRACE: Duration = Duration::from_secs(5);

impl Service {
    /// Takes no further runs, waits for those under way, and stops what is left after `deadline`.
    pub async fn drain(&self, deadline: Duration) {
        self.queue.close();
        // What is left after that is stopped.
        let _ = timeout_at(Instant::now() + deadline, self.all_over()).await;
        let left: Vec<Arc<LiveRun>> = self.lock().values().cloned().collect();
        for live in &left {
            live.stop(Why::Draining);
        }
        let until = Instant::now() + STOP_GRACE;
        for live in &left {
            // What does not stop is found, and reported, by the next process.
            let _ = timeout_at(until, live.over()).await;
        }
        self.broker.workers().shutdown().await;
        // Nobody is left who could be told that it was not.
        let _ = self.keeper.record_clients().await;
        self.broker.end_export().await;
        // Where there is never a server, this is when bodies go whose time is over, or that are not wanted any more.
        self.forget_bodies().await;
        // Another process may have the store open; then what this one's runs were asked leaves the log with that one.
        let _ = self.store.empty_log().await;
    }

    /// Returns when what was put on record by now is on disk, in the store and in the log of decisions. For the very end, when
    /// nobody is answered any more: both are written by threads that let a little come together, and a process that ends waits
    /// for none of them.
    ///
    /// # Errors
    /// When the store cannot be written to.
    pub async fn settle(&self) -> Result<(), Failure> {
        // Clients may have gone on for as long as runs did, or longer.
        let _ = self.keeper.record_clients().await;
        let telemetry = Arc::clone(self.broker.telemetry());
        let logged = tokio::task::spawn_blocking(move || telemetry.finish_log()).await;
        self.store.flush().await?;
        logged.map_err(|e| Failure::defect(format!("finishing the log of decisions: {e}")))
    }

    /// Resolves when no run is under way.
    async fn all_over(&self) {
        loop {
            // What was about to be accepted when this began has a place until it is live and has its turn.
            self.queue.empty().await;
            let Some(live) = self.any_live() else { return };
            live.over().await;
        }
    }

    fn any_live(&self) -> Option<Arc<LiveRun>> {
        self.lock().values().next().cloned()
    }
}
