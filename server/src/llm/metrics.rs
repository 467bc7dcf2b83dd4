//! What clients' calls add up to since the server began, for Prometheus.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

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
    /// What was looked up in the families before, so that a call costs one look-up and not five.
    at_hand: RwLock<HashMap<String, Arc<OfProvider>>>,
}

/// The counters of one provider.
struct OfProvider {
    served: Counter,
    input: Counter,
    output: Counter,
    seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            tokens: Family::default(),
            dollars: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            at_hand: RwLock::default(),
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

    /// Counts a call that `provider` answered, or was asked last.
    pub(super) fn count(&self, provider: &str, receipt: &Receipt) {
        let of = self.of(provider);
        match receipt.outcome {
            Outcome::Served => of.served.inc(),
            other => self.calls.get_or_create(&call(provider, other)).inc(),
        };
        of.input.inc_by(receipt.input_tokens);
        of.output.inc_by(receipt.output_tokens);
        if let Some(micro_usd) = receipt.cost_micro_usd {
            let provider = Provider { provider: provider.to_owned() };
            self.dollars.get_or_create(&provider).inc_by(micro_usd as f64 / 1e6);
        }
        of.seconds.observe(receipt.latency_ms as f64 / 1e3);
    }

    fn of(&self, provider: &str) -> Arc<OfProvider> {
        if let Some(found) = self.at_hand.read().unwrap_or_else(PoisonError::into_inner).get(provider) {
            return Arc::clone(found);
        }
        let tokens = |direction| {
            self.tokens.get_or_create(&Tokens { provider: provider.to_owned(), direction }).clone()
        };
        let made = Arc::new(OfProvider {
            served: self.calls.get_or_create(&call(provider, Outcome::Served)).clone(),
            input: tokens("input"),
            output: tokens("output"),
            seconds: self.seconds.get_or_create(&Provider { provider: provider.to_owned() }).clone(),
        });
        let mut at_hand = self.at_hand.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(at_hand.entry(provider.to_owned()).or_insert(made))
    }
}

fn call(provider: &str, of: Outcome) -> Call {
    Call { provider: provider.to_owned(), outcome: outcome(of) }
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
