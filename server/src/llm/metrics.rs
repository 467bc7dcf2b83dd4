//! What clients' calls add up to since the server began, for Prometheus.

use std::sync::atomic::AtomicU64;

use orch_gateway::{Outcome, Receipt};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the histogram's buckets, in seconds: from an error to the longest answers.
const SECONDS: [f64; 11] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    provider: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tokens {
    provider: String,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Provider {
    provider: String,
}

/// Counters of clients' calls. Labels are names of providers, never of models: those a client can make up.
pub(crate) struct Metrics {
    calls: Family<Call, Counter>,
    tokens: Family<Tokens, Counter>,
    dollars: Family<Provider, Counter<f64, AtomicU64>>,
    seconds: Family<Provider, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            tokens: Family::default(),
            dollars: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        }
    }
}

impl Metrics {
    /// Adds them to what is told.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("llm_calls", "Model calls of clients", self.calls.clone());
        registry.register("llm_tokens", "Tokens of clients' model calls", self.tokens.clone());
        registry.register(
            "llm_cost_usd",
            "Dollars of clients' model calls, where the price is known",
            self.dollars.clone(),
        );
        registry.register(
            "llm_call_seconds",
            "From a client's request to the end of its answer",
            self.seconds.clone(),
        );
    }

    pub(super) fn count(&self, receipt: &Receipt) {
        let (provider, _) = receipt.answered_by();
        let outcome = outcome(receipt.outcome);
        self.calls.get_or_create(&Call { provider: provider.clone(), outcome }).inc();
        for (direction, count) in [("input", receipt.input_tokens), ("output", receipt.output_tokens)] {
            self.tokens.get_or_create(&Tokens { provider: provider.clone(), direction }).inc_by(count);
        }
        let provider = Provider { provider };
        if let Some(micro_usd) = receipt.cost_micro_usd {
            self.dollars.get_or_create(&provider).inc_by(micro_usd as f64 / 1e6);
        }
        self.seconds.get_or_create(&provider).observe(receipt.latency_ms as f64 / 1e3);
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Served => "served",
        Outcome::AllFailed => "failed",
        Outcome::Rejected => "rejected",
        Outcome::Limit => "limit",
        Outcome::Broken => "broken",
        Outcome::Cancelled => "cancelled",
    }
}
