//! What model calls add up to since the process began: those of runs and those of clients alike.
//!
//! Each number is kept once, and told twice: to Prometheus by labels, to a collector by the conventions' attributes. A
//! series is a caller's kind, a provider, an operation and a model that the catalog or the operator names; what others make
//! up is `other`, and so is everything once there are too many.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use orch_gateway::ir::Class;
use orch_gateway::{BoundOf, Candidate, LimitHit, Operation, Outcome};
use orch_manifests::Provider;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::distribution::Distribution;
use super::genai;

/// Series that are told apart. What comes after that is of the model `other`, of which there are few.
const SERIES: usize = 500;
/// A model that neither the catalog nor the operator names.
pub(super) const OTHER: &str = "other";
/// A call that asked nobody.
const NONE: &str = "none";

/// On whose behalf a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// A client of the gateway over HTTP.
    Client,
    /// An agent.
    Run,
}

impl Caller {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Run => "run",
        }
    }
}

/// Which calls a series counts.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) caller: Caller,
    pub(super) provider: String,
    pub(super) operation: Operation,
    pub(super) model: String,
}

/// The numbers of one series.
#[derive(Debug)]
pub(super) struct Series {
    /// Where the provider is, if that is one place.
    pub(super) server: Option<(String, u16)>,
    calls: [AtomicU64; OUTCOMES.len()],
    failures: [AtomicU64; Class::ALL.len()],
    input: AtomicU64,
    output: AtomicU64,
    micro_usd: AtomicU64,
    /// Attempts at a model that had failed in the same call before.
    retries: AtomicU64,
    /// Attempts at a model because another one had failed.
    fallbacks: AtomicU64,
    pub(super) input_sizes: Distribution,
    pub(super) output_sizes: Distribution,
    pub(super) first_token: Distribution,
    pub(super) first_chunk: Distribution,
    pub(super) per_token: Distribution,
    /// How long calls took, by how they failed.
    durations: [OnceLock<Distribution>; ERRORS],
}

const OUTCOMES: [Outcome; 6] = [
    Outcome::Served,
    Outcome::AllFailed,
    Outcome::Rejected,
    Outcome::Limit,
    Outcome::Broken,
    Outcome::Cancelled,
];

/// None, every class, and what else there is.
const ERRORS: usize = 1 + Class::ALL.len() + 3;

fn error_at(error: Option<&str>) -> usize {
    let others = 1 + Class::ALL.len();
    match error {
        None => 0,
        Some(genai::LIMIT) => others,
        Some(genai::CANCELLED) => others + 1,
        Some(word) => {
            let class = Class::ALL.iter().position(|class| class.as_str() == word);
            class.map_or(others + 2, |at| 1 + at)
        }
    }
}

fn error_of(at: usize) -> Option<&'static str> {
    let others = 1 + Class::ALL.len();
    match at {
        0 => None,
        at if at < others => Some(Class::ALL[at - 1].as_str()),
        at if at == others => Some(genai::LIMIT),
        at if at == others + 1 => Some(genai::CANCELLED),
        _ => Some("_OTHER"),
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Served => "served",
        Outcome::AllFailed => "failed",
        Outcome::Rejected => "rejected",
        Outcome::Limit => "limit",
        Outcome::Broken => "broken",
        Outcome::Cancelled => "cancelled",
    }
}

impl Series {
    fn of(provider: Option<&Provider>) -> Self {
        let place = provider.filter(|provider| provider.region.is_none());
        Self {
            server: place.map(|provider| (provider.endpoint.host.to_string(), provider.endpoint.port)),
            calls: std::array::from_fn(|_| AtomicU64::new(0)),
            failures: std::array::from_fn(|_| AtomicU64::new(0)),
            input: AtomicU64::new(0),
            output: AtomicU64::new(0),
            micro_usd: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            input_sizes: Distribution::new(genai::TOKENS),
            output_sizes: Distribution::new(genai::TOKENS),
            first_token: Distribution::new(genai::FIRST_TOKEN),
            first_chunk: Distribution::new(genai::SECONDS),
            per_token: Distribution::new(genai::PER_TOKEN),
            durations: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    pub(super) fn failed(&self, class: Class) {
        if let Some(at) = Class::ALL.iter().position(|known| *known == class) {
            add(&self.failures[at], 1);
        }
    }

    pub(super) fn retried(&self) {
        add(&self.retries, 1);
    }

    pub(super) fn fell_back(&self) {
        add(&self.fallbacks, 1);
    }

    /// A call ended. What it used is in its receipt.
    pub(super) fn ended(&self, receipt: &orch_gateway::Receipt, error: Option<&str>, seconds: f64) {
        if let Some(at) = OUTCOMES.iter().position(|outcome| *outcome == receipt.outcome) {
            add(&self.calls[at], 1);
        }
        add(&self.input, receipt.input_tokens);
        add(&self.output, receipt.output_tokens);
        add(&self.micro_usd, receipt.cost_micro_usd.unwrap_or(0));
        // An estimate is no count.
        if receipt.outcome == Outcome::Served && !receipt.estimated {
            self.input_sizes.observe(receipt.input_tokens as f64);
            self.output_sizes.observe(receipt.output_tokens as f64);
        }
        self.durations[error_at(error)].get_or_init(|| Distribution::new(genai::SECONDS)).observe(seconds);
    }

    /// How long calls took, by how they failed.
    pub(super) fn durations(&self) -> impl Iterator<Item = (Option<&'static str>, &Distribution)> {
        let made = self.durations.iter().enumerate();
        made.filter_map(|(at, durations)| Some((error_of(at), durations.get()?)))
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// All series.
#[derive(Default)]
pub(crate) struct Models {
    series: RwLock<Tree>,
    /// Calls that a bound refused or cut, by caller and by whose bound it was.
    refusals: [[AtomicU64; BOUNDS.len()]; 2],
}

const BOUNDS: [&str; 3] = ["run", "key", "budget"];

/// Those of one model.
type Leaf = BTreeMap<(Caller, Operation), Arc<Series>>;

/// Series by provider, model, caller and operation: a look-up by names that are borrowed.
#[derive(Default)]
struct Tree {
    leaves: BTreeMap<String, BTreeMap<String, Leaf>>,
    count: usize,
}

impl Tree {
    fn find(&self, provider: &str, model: &str, of: (Caller, Operation)) -> Option<&Arc<Series>> {
        self.leaves.get(provider)?.get(model)?.get(&of)
    }
}

impl Models {
    /// The series of calls of a provider's model, or of those that asked nobody.
    pub(super) fn of(
        &self,
        caller: Caller,
        operation: Operation,
        asked: Option<(&Provider, &str)>,
    ) -> Arc<Series> {
        let (provider, model) = match asked {
            Some((provider, model)) => (provider.slug.as_str(), model),
            None => (NONE, NONE),
        };
        let of = (caller, operation);
        if let Some(found) = self.read().find(provider, model, of) {
            return Arc::clone(found);
        }
        let mut tree = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let room = tree.count < SERIES || asked.is_none();
        let model = if room { model } else { OTHER };
        if let Some(found) = tree.find(provider, model, of) {
            return Arc::clone(found);
        }
        let made = Arc::new(Series::of(asked.map(|(provider, _)| provider)));
        let models = tree.leaves.entry(provider.to_owned()).or_default();
        models.entry(model.to_owned()).or_default().insert(of, Arc::clone(&made));
        tree.count += 1;
        made
    }

    /// A bound ended a call.
    pub(super) fn refused(&self, caller: Caller, hit: &LimitHit) {
        let bound = match hit.of {
            BoundOf::Run => 0,
            BoundOf::Key { .. } => 1,
            BoundOf::Budget { .. } => 2,
        };
        add(&self.refusals[caller as usize][bound], 1);
    }

    /// All series, in the order of their keys.
    pub(super) fn all(&self) -> Vec<(Key, Arc<Series>)> {
        let tree = self.read();
        let leaves = tree.leaves.iter().flat_map(|(provider, models)| {
            models.iter().flat_map(move |(model, all)| {
                all.iter().map(move |((caller, operation), series)| {
                    let key = Key {
                        caller: *caller,
                        provider: provider.clone(),
                        operation: *operation,
                        model: model.clone(),
                    };
                    (key, Arc::clone(series))
                })
            })
        });
        leaves.collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Tree> {
        // A series is put in whole.
        self.series.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name under which a candidate's model is counted: what the catalog calls it, or the operator, who may have named many
/// with one pattern.
pub(super) fn counted_as(candidate: &Candidate) -> &str {
    match candidate.known() {
        Some(known) => &known.id,
        None => {
            candidate.provider.pattern_of(&candidate.model).filter(|name| is_label(name)).unwrap_or(OTHER)
        }
    }
}

/// Whether nothing in an operator's name for models would end a label.
fn is_label(name: &str) -> bool {
    name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").field("series", &self.read().count).finish_non_exhaustive()
    }
}

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
