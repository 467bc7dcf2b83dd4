//! A histogram whose numbers can be read again, so that Prometheus and a collector are told the same.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};
use serde_json::{Value, json};

/// How many values fell between these bounds, and their sum.
#[derive(Debug)]
pub(super) struct Distribution {
    /// Upper bounds, each included in its bucket.
    bounds: &'static [f64],
    /// One for each bound, and one for what is above them all.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Distribution {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0_f64.to_bits()) }
    }

    pub(super) fn observe(&self, value: f64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // It never gives up, as `add` does not.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts().iter().all(|count| *count == 0)
    }

    fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }

    /// As Prometheus has it, several of the same bounds as one.
    pub(super) fn encode_all<'d>(
        all: impl IntoIterator<Item = &'d Distribution>,
        encoder: &mut MetricEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let mut sum = 0.0;
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        for one in all {
            if buckets.is_empty() {
                buckets.extend(one.bounds.iter().map(|bound| (*bound, 0)));
                buckets.push((f64::INFINITY, 0));
            }
            for ((_, total), count) in buckets.iter_mut().zip(one.counts()) {
                *total += count;
            }
            sum += one.sum();
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    /// As OTLP has it: a data point without attributes and times.
    pub(super) fn point(&self) -> Value {
        let counts = self.counts();
        json!({
            "count": counts.iter().sum::<u64>().to_string(),
            "sum": self.sum(),
            "bucketCounts": counts.iter().map(u64::to_string).collect::<Vec<_>>(),
            "explicitBounds": self.bounds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_the_bucket_of_their_bound() {
        let distribution = Distribution::new(&[0.5, 1.0]);
        assert!(distribution.is_empty());
        for value in [0.5, 0.75, 1.0, 3.0] {
            distribution.observe(value);
        }
        let point = distribution.point();
        assert_eq!(point["bucketCounts"], json!(["1", "2", "1"]));
        assert_eq!((&point["count"], &point["sum"]), (&json!("4"), &json!(5.25)));
        assert_eq!(point["explicitBounds"], json!([0.5, 1.0]));
    }

    #[test]
    fn no_value_is_lost_between_threads() {
        let distribution = Distribution::new(&[0.5]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| distribution.observe(1.0)));
            }
        });
        assert_eq!((distribution.counts(), distribution.sum()), (vec![0, 4000], 4000.0));
    }
}
