//! How far a provider may be ahead of whoever listens to it: it goes on with an answer while nobody reads, and charges for
//! all of it when somebody hangs up.

use std::time::Duration;

use tokio::time::Instant;

/// Tokens of an answer that no provider makes more of in a millisecond.
const FASTEST: u64 = 8;

/// Whoever has waited for so long has read all that was sent.
const NOTHING_LEFT: Duration = Duration::from_millis(5);

/// What there may be of an answer that nobody has read.
#[derive(Debug)]
pub(crate) struct Unread {
    /// How long nobody was waiting, all in all, since all that was sent had been read. What comes while somebody waits is
    /// read: a provider may be so quick that it never keeps anybody waiting for long.
    away: Duration,
    /// Since when the next event is waited for, or is not.
    since: Instant,
    waiting: bool,
}

impl Unread {
    /// All has been read so far.
    pub(crate) fn nothing() -> Unread {
        Unread { away: Duration::ZERO, since: Instant::now(), waiting: false }
    }

    /// The next event is waited for.
    pub(crate) fn waits(&mut self) {
        let now = Instant::now();
        self.away = self.away.saturating_add(now.duration_since(self.since));
        (self.since, self.waiting) = (now, true);
    }

    /// It has come.
    pub(crate) fn reads(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.since) >= NOTHING_LEFT {
            self.away = Duration::ZERO;
        }
        (self.since, self.waiting) = (now, false);
    }

    /// No more will come.
    pub(crate) fn ends(&mut self) {
        *self = Unread::nothing();
    }

    /// Tokens that were made and not read, at most.
    pub(crate) fn most(&self) -> u64 {
        let now = self.since.elapsed();
        if self.waiting && now >= NOTHING_LEFT {
            return 0;
        }
        let millis = u64::try_from(self.away.saturating_add(now).as_millis()).unwrap_or(u64::MAX);
        millis.saturating_mul(FASTEST)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_grows_until_somebody_has_waited() {
        let mut unread = Unread::nothing();
        assert_eq!(unread.most(), 0);
        advance(Duration::from_millis(100)).await;
        assert_eq!(unread.most(), 800);
        // What was there at once says nothing of what is behind it.
        unread.waits();
        unread.reads();
        assert_eq!(unread.most(), 800);
        unread.waits();
        advance(Duration::from_millis(4)).await;
        assert_eq!(unread.most(), 832);
        advance(Duration::from_millis(1)).await;
        assert_eq!(unread.most(), 0);
        unread.reads();
        assert_eq!(unread.most(), 0);
        advance(Duration::from_millis(10)).await;
        assert_eq!(unread.most(), 80);
        unread.ends();
        assert_eq!(unread.most(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_is_quicker_than_the_wait_is_read_all_the_same() {
        let mut unread = Unread::nothing();
        for _ in 0..5000 {
            unread.waits();
            advance(Duration::from_millis(2)).await;
            unread.reads();
        }
        assert_eq!(unread.most(), 0);
        // What a pause has left is there until somebody has waited for more.
        advance(Duration::from_millis(100)).await;
        for _ in 0..10 {
            unread.waits();
            advance(Duration::from_millis(2)).await;
            unread.reads();
        }
        assert_eq!(unread.most(), 800);
    }
}
