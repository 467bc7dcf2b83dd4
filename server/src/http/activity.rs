//! Whether anything is under way on a connection.
//!
//! A request's beginning and end are noted and wake nobody: whoever waits for silence looks again when there could be some.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Counts the requests of one connection.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<Requests>>);

struct Requests {
    under_way: usize,
    /// Whether one was ever begun.
    begun: bool,
    /// Whether one of them came from somebody who is known.
    known: bool,
    /// When the last one ended; before there was any, when the connection began.
    quiet_since: Instant,
}

/// A request that is under way until this is dropped.
pub(super) struct UnderWay(Arc<Mutex<Requests>>);

impl Activity {
    pub(super) fn new() -> Self {
        let quiet_since = Instant::now();
        Self(Arc::new(Mutex::new(Requests { under_way: 0, begun: false, known: false, quiet_since })))
    }

    pub(super) fn begin(&self) -> UnderWay {
        let mut requests = lock(&self.0);
        requests.under_way += 1;
        requests.begun = true;
        UnderWay(Arc::clone(&self.0))
    }

    /// Notes that somebody who is known has asked something.
    pub(super) fn recognise(&self) {
        lock(&self.0).known = true;
    }

    /// Resolves when no request was under way for `idle`, or for `stranger` while nobody known has asked anything; or
    /// when none came within `head` from the connection's beginning.
    pub(super) async fn silence(&self, head: Duration, stranger: Duration, idle: Duration) {
        loop {
            let next_look = {
                let requests = lock(&self.0);
                let patience = match (requests.begun, requests.known) {
                    (false, _) => head,
                    (true, false) => stranger,
                    (true, true) => idle,
                };
                let now = Instant::now();
                let over = if requests.under_way > 0 { now } else { requests.quiet_since } + patience;
                if over <= now {
                    return;
                }
                // Meanwhile a stranger may have come and be quiet. Once somebody is known nothing gets shorter.
                if requests.begun { over } else { over.min(now + stranger) }
            };
            sleep_until(next_look).await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut requests = lock(&self.0);
        requests.under_way -= 1;
        requests.quiet_since = Instant::now();
    }
}

fn lock(requests: &Mutex<Requests>) -> MutexGuard<'_, Requests> {
    // Every change of it is whole.
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const HEAD: Duration = Duration::from_secs(10);
    const STRANGER: Duration = Duration::from_secs(2);
    const IDLE: Duration = Duration::from_secs(75);

    /// Somebody known asked first.
    fn known() -> Activity {
        let activity = Activity::new();
        activity.recognise();
        activity
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_does_not_keep_a_place() {
        let activity = Activity::new();
        let begun = Instant::now();
        let work = async {
            tokio::time::sleep(Duration::from_secs(8)).await;
            drop(activity.begin());
        };
        tokio::join!(activity.silence(HEAD, STRANGER, IDLE), work);
        assert_eq!(begun.elapsed().as_secs(), 8 + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_given_the_time_of_a_head() {
        let begun = Instant::now();
        Activity::new().silence(HEAD, STRANGER, IDLE).await;
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_is_no_silence_however_long_it_takes() {
        let activity = known();
        let begun = Instant::now();
        let request = activity.begin();
        let work = async {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            drop(request);
        };
        tokio::join!(activity.silence(HEAD, STRANGER, IDLE), work);
        assert_eq!(begun.elapsed().as_secs(), 1075);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_over_at_once_counts() {
        let activity = known();
        let begun = Instant::now();
        let work = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(8)).await;
                drop(activity.begin());
            }
        };
        tokio::join!(activity.silence(HEAD, STRANGER, IDLE), work);
        assert_eq!(begun.elapsed().as_secs(), 5 * 8 + 75);
    }
}
