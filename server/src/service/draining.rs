//! The end of a service: no further runs, and those under way are waited for or stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Service;
use super::live::{LiveRun, Why};

/// How often a service that is about to stop looks whether the last runs have been accepted.
const ACCEPTING: Duration = Duration::from_millis(10);
/// How long runs that were told to stop may take to do so.
const STOP_GRACE: Duration = Duration::from_secs(5);

impl Service {
    /// Takes no further runs, waits for those under way, and stops what is left after `deadline`.
    pub async fn drain(&self, deadline: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        let until = Instant::now() + deadline;
        // What was about to be accepted when this began becomes live meanwhile.
        loop {
            let over = match self.any_live() {
                Some(live) => tokio::time::timeout_at(until, async move { live.over().await }).await.is_ok(),
                None if self.waiting.load(Ordering::Relaxed) == 0 => break,
                None => {
                    tokio::time::sleep(ACCEPTING).await;
                    Instant::now() < until
                }
            };
            if !over {
                break;
            }
        }
        let left: Vec<Arc<LiveRun>> = self.lock().values().cloned().collect();
        for live in &left {
            live.stop(Why::Draining);
        }
        let until = Instant::now() + STOP_GRACE;
        for live in &left {
            // What does not stop is found, and reported, by the next process.
            let _ = tokio::time::timeout_at(until, live.over()).await;
        }
        self.broker.workers().shutdown().await;
    }

    fn any_live(&self) -> Option<Arc<LiveRun>> {
        self.lock().values().next().cloned()
    }
}
