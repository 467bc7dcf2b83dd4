//! Whether anything is under way on a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Counts the requests of one connection.
#[derive(Clone)]
pub(super) struct Activity(Arc<watch::Sender<Requests>>);

#[derive(Clone, Copy, Default)]
struct Requests {
    under_way: usize,
    /// Ever begun: a request may come and go between two looks.
    begun: u64,
    /// Whether one of them came from somebody who is known.
    known: bool,
}

/// A request that is under way until this is dropped.
pub(super) struct UnderWay(Arc<watch::Sender<Requests>>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Requests::default())))
    }

    pub(super) fn begin(&self) -> UnderWay {
        self.0.send_modify(|requests| {
            requests.under_way += 1;
            requests.begun += 1;
        });
        UnderWay(Arc::clone(&self.0))
    }

    /// Notes that somebody who is known has asked something.
    pub(super) fn recognise(&self) {
        self.0.send_if_modified(|requests| !std::mem::replace(&mut requests.known, true));
    }

    /// Resolves when no request was under way for `idle`, or for `stranger` while nobody known has asked anything; or
    /// when none came within `head` from now.
    pub(super) async fn silence(&self, head: Duration, stranger: Duration, idle: Duration) {
        let mut requests = self.0.subscribe();
        let (mut patience, mut seen) = (head, 0);
        loop {
            let news = requests.wait_for(|now| now.under_way > 0 || now.begun != seen);
            // Too long, or nobody is left who could begin one.
            let Ok(Ok(_)) = timeout(patience, news).await else { return };
            let Ok(quiet) = requests.wait_for(|now| now.under_way == 0).await else { return };
            seen = quiet.begun;
            patience = if quiet.known { idle } else { stranger };
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|requests| requests.under_way -= 1);
    }
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
