//! The series as Prometheus reads them.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use orch_gateway::ir::Class;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{BOUNDS, Caller, Key, Models, OUTCOMES, Series, word};
use crate::telemetry::distribution::Distribution;
use crate::telemetry::genai;

/// A family of the series: its name without the prefix, what it is, its type, and how a series writes its own.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    write: fn(&Series, &Key, &mut MetricEncoder<'_>) -> fmt::Result,
}

type Labels<'k, const N: usize> = [(&'static str, &'k str); N];

fn labels(key: &Key) -> Labels<'_, 4> {
    [
        ("caller", key.caller.word()),
        ("provider", &key.provider),
        ("operation", genai::operation(key.operation)),
        ("model", &key.model),
    ]
}

fn with<'k>(key: &'k Key, name: &'static str, value: &'k str) -> Labels<'k, 5> {
    let [caller, provider, operation, model] = labels(key);
    [caller, provider, operation, model, (name, value)]
}

fn count<const N: usize>(
    encoder: &mut MetricEncoder<'_>,
    labels: &Labels<'_, N>,
    value: &AtomicU64,
) -> fmt::Result {
    match value.load(Ordering::Relaxed) {
        0 => Ok(()),
        value => encoder.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None),
    }
}

fn spread<'d>(
    encoder: &mut MetricEncoder<'_>,
    key: &Key,
    all: impl Iterator<Item = &'d Distribution> + Clone,
) -> fmt::Result {
    if all.clone().all(Distribution::is_empty) {
        return Ok(());
    }
    Distribution::encode_all(all, &mut encoder.encode_family(&labels(key))?)
}

const FAMILIES: [Family; 8] = [
    Family {
        name: "llm_calls",
        help: "Model calls, by how they ended",
        kind: MetricType::Counter,
        write: |series, key, to| {
            let mut all = OUTCOMES.iter().zip(&series.calls);
            all.try_for_each(|(outcome, calls)| count(to, &with(key, "outcome", word(*outcome)), calls))
        },
    },
    Family {
        name: "llm_tokens",
        help: "Tokens of model calls",
        kind: MetricType::Counter,
        write: |series, key, to| {
            count(to, &with(key, "direction", "input"), &series.input)?;
            count(to, &with(key, "direction", "output"), &series.output)
        },
    },
    Family {
        name: "llm_cost_usd",
        help: "Dollars of model calls, where the price is known",
        kind: MetricType::Counter,
        write: |series, key, to| match series.micro_usd.load(Ordering::Relaxed) {
            0 => Ok(()),
            micro_usd => {
                let dollars = micro_usd as f64 / 1e6;
                to.encode_family(&labels(key))?.encode_counter::<NoLabelSet, _, u64>(&dollars, None)
            }
        },
    },
    Family {
        name: "llm_call_seconds",
        help: "From a model call's request to the end of its answer",
        kind: MetricType::Histogram,
        write: |series, key, to| spread(to, key, series.durations.iter().filter_map(OnceLock::get)),
    },
    Family {
        name: "llm_first_token_seconds",
        help: "From a request to its provider to the first token of the stream",
        kind: MetricType::Histogram,
        write: |series, key, to| spread(to, key, [&series.first_token].into_iter()),
    },
    Family {
        name: "llm_failures",
        help: "Attempts that failed, and streams that broke, by class",
        kind: MetricType::Counter,
        write: |series, key, to| {
            let mut all = Class::ALL.iter().zip(&series.failures);
            all.try_for_each(|(class, failed)| count(to, &with(key, "class", class.as_str()), failed))
        },
    },
    Family {
        name: "llm_retries",
        help: "Attempts at a model that had failed in the same call",
        kind: MetricType::Counter,
        write: |series, key, to| count(to, &labels(key), &series.retries),
    },
    Family {
        name: "llm_fallbacks",
        help: "Attempts at a model because another one had failed",
        kind: MetricType::Counter,
        write: |series, key, to| count(to, &labels(key), &series.fallbacks),
    },
];

impl Collector for Models {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.all();
        for Family { name, help, kind, write } in &FAMILIES {
            let mut family = encoder.encode_descriptor(name, help, None, *kind)?;
            all.iter().try_for_each(|(key, series)| write(series, key, &mut family))?;
        }
        let help = "Calls that a limit of the run, of a key's owner or of a budget refused or cut";
        let mut refusals =
            encoder.encode_descriptor("llm_budget_refusals", help, None, MetricType::Counter)?;
        for caller in [Caller::Client, Caller::Run] {
            for (bound, refused) in BOUNDS.iter().zip(&self.refusals[caller as usize]) {
                count(&mut refusals, &[("caller", caller.word()), ("bound", bound)], refused)?;
            }
        }
        Ok(())
    }
}
