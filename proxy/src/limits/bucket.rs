//! A token bucket that is exact: no request more than the rate says, in any stretch of time.

use tokio::time::Instant;

use super::Rate;

/// Tokens as a point in time: how far ahead of now they are spent (the generic cell rate algorithm). Time is counted in
/// parts of a nanosecond, so that a token costs a whole number of them.
#[derive(Debug)]
pub(super) struct Bucket {
    began: Instant,
    requests: u128,
    /// What a token costs.
    cost: u128,
    /// How far ahead may be spent.
    most: u128,
    /// Until when all is spent.
    spent: u128,
}

impl Bucket {
    /// One that holds all that it can.
    pub(super) fn full(rate: Rate, now: Instant) -> Self {
        let cost = rate.per.as_nanos();
        Self {
            began: now,
            requests: rate.requests.into(),
            cost,
            most: cost * u128::from(rate.burst.max(1)),
            spent: 0,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.requests == 0 {
            return false;
        }
        let now = now.saturating_duration_since(self.began).as_nanos() * self.requests;
        let spent = self.spent.max(now) + self.cost;
        let fits = spent - now <= self.most;
        if fits {
            self.spent = spent;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
        Rate { requests, per, burst }
    }

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(rate(3, Duration::from_secs(1), 5), start);
        assert_eq!((0..9).filter(|_| bucket.take(start)).count(), 5);
        // A third of a second is one token, to the nanosecond.
        assert!(!bucket.take(start + Duration::from_nanos(333_333_333)));
        assert!(bucket.take(start + Duration::from_nanos(333_333_334)));
        assert!(!bucket.take(start + Duration::from_nanos(666_666_666)));
        assert!(bucket.take(start + Duration::from_nanos(666_666_667)));
        // It never holds more than the burst.
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..9).filter(|_| bucket.take(later)).count(), 5);
        assert!(!Bucket::full(rate(0, Duration::from_secs(1), 5), start).take(later));
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_has_more_than_burst_and_rate(
            requests in 1u32..50, burst in 1u32..20, gaps in prop::collection::vec(0u64..400_000_000, 1..200)
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::full(rate(requests, Duration::from_secs(1), burst), start);
            let mut now = Duration::ZERO;
            let mut taken: Vec<Duration> = Vec::new();
            for gap in gaps {
                now += Duration::from_nanos(gap);
                if bucket.take(start + now) {
                    taken.push(now);
                }
            }
            for (index, from) in taken.iter().enumerate() {
                for (count, to) in taken[index..].iter().enumerate() {
                    let refilled = (*to - *from).as_nanos() * u128::from(requests) / 1_000_000_000;
                    prop_assert!((count as u128) < u128::from(burst) + refilled);
                }
            }
        }
    }
}
