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
    /// When all that was sent had been read last.
    caught_up: Instant,
    /// Since when the next event is waited for, if it is.
    waiting: Option<Instant>,
}

impl Unread {
    /// All has been read so far.
    pub(crate) fn nothing() -> Unread {
        Unread { caught_up: Instant::now(), waiting: None }
    }

    /// The next event is waited for.
    pub(crate) fn waits(&mut self) {
        self.waiting = Some(Instant::now());
    }

    /// It has come.
    pub(crate) fn reads(&mut self) {
        if self.waiting.take().is_some_and(|since| since.elapsed() >= NOTHING_LEFT) {
            self.caught_up = Instant::now();
        }
    }

    /// No more will come.
    pub(crate) fn ends(&mut self) {
        *self = Unread::nothing();
    }

    /// Tokens that were made and not read, at most.
    pub(crate) fn most(&self) -> u64 {
        if self.waiting.is_some_and(|since| since.elapsed() >= NOTHING_LEFT) {
            return 0;
        }
        let millis = u64::try_from(self.caught_up.elapsed().as_millis()).unwrap_or(u64::MAX);
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
}
