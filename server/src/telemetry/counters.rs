//! How many decisions there were, how they went, and how long they took.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use orch_proxy::{Decision, Outcome};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the histogram's buckets, in seconds: from a refusal to the longest thought of a model.
pub(super) const SECONDS: [f64; 12] =
    [0.000_1, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0];

/// Both have few values, whatever guests do: verdicts, and the codes of this program's reasons.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    verdict: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

/// The counters of one server.
pub(super) struct Counters {
    decisions: Family<Decided, Counter>,
    seconds: Family<Verdict, Histogram>,
    bytes: Family<Direction, Counter>,
    injected: Counter,
    inert: Counter,
    lost: Counter,
    /// The same once more, for whoever wants numbers and not text.
    sums: Mutex<Sums>,
}

/// What was counted so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sums {
    /// By verdict and code.
    pub(super) decisions: BTreeMap<(&'static str, &'static str), u64>,
    /// By verdict.
    pub(super) seconds: BTreeMap<&'static str, Durations>,
    /// Up and down.
    pub(super) bytes: [u64; 2],
    pub(super) injected: u64,
    pub(super) inert: u64,
}

/// A histogram: how many fell between the bounds of [`SECONDS`], the last ones above them all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Durations {
    pub(super) counts: [u64; SECONDS.len() + 1],
    pub(super) sum: f64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            decisions: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            bytes: Family::default(),
            injected: Counter::default(),
            inert: Counter::default(),
            lost: Counter::default(),
            sums: Mutex::default(),
        }
    }
}

impl Counters {
    pub(super) fn register(&self, registry: &mut Registry) {
        let counters = [
            ("egress_injected", "Secrets that were put into requests", &self.injected),
            ("egress_inert_placeholders", "Placeholders that travelled as they were", &self.inert),
            ("egress_decisions_lost", "Decisions that the log could not take", &self.lost),
        ];
        registry.register(
            "egress_decisions",
            "Requests that the egress proxy judged",
            self.decisions.clone(),
        );
        registry.register(
            "egress_decision_duration_seconds",
            "From a request's arrival to the head of its answer, or to its refusal",
            self.seconds.clone(),
        );
        registry.register("egress_bytes", "Bytes of bodies of runs that are over", self.bytes.clone());
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }

    /// Counts what the log loses.
    pub(super) fn lost(&self) -> &Counter {
        &self.lost
    }

    pub(super) fn count(&self, decision: &Decision) {
        let verdict = word(decision.verdict);
        let code = decision.reason.as_ref().map_or("ok", |reason| reason.code);
        let seconds = decision.duration_us as f64 / 1e6;
        let (injected, inert) = (decision.injected.len() as u64, u64::from(decision.inert_placeholders));
        self.decisions.get_or_create(&Decided { verdict, code }).inc();
        self.seconds.get_or_create(&Verdict { verdict }).observe(seconds);
        self.injected.inc_by(injected);
        self.inert.inc_by(inert);
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        *sums.decisions.entry((verdict, code)).or_default() += 1;
        let durations = sums.seconds.entry(verdict).or_default();
        let bucket = SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(SECONDS.len());
        durations.counts[bucket] += 1;
        durations.sum += seconds;
        sums.injected += injected;
        sums.inert += inert;
    }

    /// Bytes of request and response bodies.
    pub(super) fn moved(&self, up: u64, down: u64) {
        for (direction, bytes) in [("up", up), ("down", down)] {
            self.bytes.get_or_create(&Direction { direction }).inc_by(bytes);
        }
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.bytes = [sums.bytes[0] + up, sums.bytes[1] + down];
    }

    pub(super) fn sums(&self) -> Sums {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn word(verdict: Outcome) -> &'static str {
    match verdict {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "denied",
        Outcome::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::tests::decision;

    #[test]
    fn what_was_decided_is_in_the_text_and_in_the_sums() {
        let counters = Counters::default();
        let mut registry = Registry::with_prefix("orch");
        counters.register(&mut registry);
        for verdict in [Outcome::Allowed, Outcome::Allowed, Outcome::Failed] {
            counters.count(&decision(verdict, "/"));
        }
        let mut swapped = decision(Outcome::Denied, "/");
        (swapped.injected, swapped.inert_placeholders) = (vec!["KEY".to_owned()], 3);
        counters.count(&swapped);
        counters.moved(5, 7);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        for line in [
            "orch_egress_decisions_total{verdict=\"allowed\",code=\"ok\"} 2",
            "orch_egress_decisions_total{verdict=\"failed\",code=\"ok\"} 1",
            "orch_egress_decision_duration_seconds_bucket{le=\"0.001\",verdict=\"allowed\"} 0",
            "orch_egress_decision_duration_seconds_bucket{le=\"0.005\",verdict=\"allowed\"} 2",
            "orch_egress_bytes_total{direction=\"up\"} 5",
            "orch_egress_bytes_total{direction=\"down\"} 7",
            "orch_egress_injected_total 1",
            "orch_egress_inert_placeholders_total 3",
            "orch_egress_decisions_lost_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let sums = counters.sums();
        assert_eq!(sums.decisions[&("allowed", "ok")], 2);
        assert_eq!((sums.seconds["allowed"].counts[2], sums.injected, sums.inert), (2, 1, 3));
        assert!((sums.seconds["allowed"].sum - 0.003).abs() < 1e-9);
    }
}
