//! Which runs come first.
//!
//! Every run has a little processor time at once, and a share of a processor on top of it: enough for agents that wait
//! for models and think in between. A run that takes more is a hog until it has waited long enough, and comes after
//! everybody else ([`super::super::lane`]). It is a bucket that refills with the time that passes.

use std::time::{Duration, Instant};

/// What a run may use at once.
const BURST_NS: i64 = 5_000_000;
/// Time that passes for each unit that the bucket refills by: a tenth of a processor.
const REFILL: i64 = 10;
/// The most that a run has to wait for: half a second of waiting.
const DEBT_NS: i64 = -50_000_000;

pub(super) struct Credit {
    nanos: i64,
    at: Instant,
}

impl Credit {
    pub(super) fn new(now: Instant) -> Self {
        Credit { nanos: BURST_NS, at: now }
    }

    pub(super) fn positive(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.nanos > 0
    }

    pub(super) fn spend(&mut self, spent: Duration, now: Instant) {
        self.refill(now);
        let spent = i64::try_from(spent.as_nanos()).unwrap_or(i64::MAX);
        self.nanos = self.nanos.saturating_sub(spent).max(DEBT_NS);
    }

    fn refill(&mut self, now: Instant) {
        let passed = i64::try_from(now.saturating_duration_since(self.at).as_nanos()).unwrap_or(i64::MAX);
        self.nanos = self.nanos.saturating_add(passed / REFILL).min(BURST_NS);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_run_that_waits_most_of_the_time_keeps_its_credit() {
        let mut now = Instant::now();
        let mut credit = Credit::new(now);
        for _ in 0..1000 {
            now += 40 * MS;
            assert!(credit.positive(now));
            credit.spend(3 * MS, now);
        }
    }

    #[test]
    fn a_run_that_keeps_a_processor_busy_loses_it_and_waiting_brings_it_back() {
        let mut now = Instant::now();
        let mut credit = Credit::new(now);
        for _ in 0..2 {
            now += 4 * MS;
            credit.spend(4 * MS, now);
        }
        assert!(!credit.positive(now), "used up within two turns");
        for _ in 0..1000 {
            now += 5 * MS;
            credit.spend(5 * MS, now);
        }
        assert!(!credit.positive(now + 499 * MS));
        assert!(credit.positive(now + 520 * MS), "the debt is bounded");
    }
}
