//! Which runs come first.
//!
//! Every run has a little processor time at once, and more of it for the time that it waits for something: enough for
//! agents that wait for models and think in between. A run that takes more is a hog until it has waited long enough, and
//! comes after everybody else ([`super::super::lane`]). To wait for its turn earns a hog nothing: among a hundred of them
//! each waits nearly always.

use std::time::{Duration, Instant};

/// What a run may use at once.
const BURST_NS: i64 = 5_000_000;
/// Time that it waits for each unit of processor time that it earns.
const REFILL: i64 = 10;
/// The most that a run can owe: half a second of waiting.
const DEBT_NS: i64 = -50_000_000;

pub(super) struct Credit {
    nanos: i64,
    /// Since when it waits for something, as far as that was not yet credited.
    waits_since: Option<Instant>,
}

impl Credit {
    pub(super) fn new() -> Self {
        Credit { nanos: BURST_NS, waits_since: None }
    }

    pub(super) fn positive(&mut self, now: Instant) -> bool {
        if let Some(since) = &mut self.waits_since {
            let since = std::mem::replace(since, now);
            let waited = i64::try_from(now.saturating_duration_since(since).as_nanos()).unwrap_or(i64::MAX);
            self.nanos = self.nanos.saturating_add(waited / REFILL).min(BURST_NS);
        }
        self.nanos > 0
    }

    /// A turn has ended, after which the run waits for something or would go on.
    pub(super) fn spend(&mut self, spent: Duration, waits: bool, now: Instant) {
        let spent = i64::try_from(spent.as_nanos()).unwrap_or(i64::MAX);
        self.nanos = self.nanos.saturating_sub(spent).max(DEBT_NS);
        self.waits_since = waits.then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_run_that_waits_most_of_the_time_keeps_its_credit() {
        let mut now = Instant::now();
        let mut credit = Credit::new();
        for _ in 0..1000 {
            assert!(credit.positive(now));
            credit.spend(3 * MS, true, now);
            // Being asked does not count twice.
            assert!(credit.positive(now + 20 * MS));
            now += 40 * MS;
        }
    }

    #[test]
    fn a_run_that_keeps_a_processor_busy_loses_it_and_waiting_brings_it_back() {
        let mut now = Instant::now();
        let mut credit = Credit::new();
        for _ in 0..2 {
            now += 4 * MS;
            credit.spend(4 * MS, false, now);
        }
        assert!(!credit.positive(now), "used up within two turns");
        for _ in 0..1000 {
            // However long it was queued between two turns.
            now += 500 * MS;
            assert!(!credit.positive(now));
            credit.spend(MS, false, now);
        }
        credit.spend(MS, true, now);
        assert!(!credit.positive(now + 499 * MS));
        assert!(credit.positive(now + 501 * MS), "the debt is bounded");
    }
}
