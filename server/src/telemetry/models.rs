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

use super::distribution::Distribution;
use super::genai;

mod families;

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

#[cfg(test)]
mod tests {
    use orch_manifests::Catalog;

    use super::*;

    #[test]
    fn there_is_an_end_to_series() {
        let catalog = Catalog::builtin();
        let provider = catalog.provider("openai").expect("a provider");
        let models = Models::default();
        let of = |name: &str| models.of(Caller::Client, Operation::Chat, Some((provider, name)));
        for number in 0..2 * SERIES {
            of(&format!("model-{number}")).retried();
        }
        let all = models.all();
        assert_eq!(all.len(), SERIES + 1);
        let retried = |model: &str| {
            let (_, series) = all.iter().find(|(key, _)| key.model == model).expect("a series");
            series.retries.load(Ordering::Relaxed)
        };
        assert_eq!((retried("model-0"), retried(OTHER)), (1, SERIES as u64));
        // Those that were there go on, and a call that asked nobody has its own.
        of("model-0").retried();
        models.of(Caller::Run, Operation::Embeddings, None).retried();
        let all = models.all();
        assert_eq!((all.len(), retried("model-0")), (SERIES + 2, 2));
        assert_eq!(all.iter().filter(|(key, _)| key.provider == NONE).count(), 1);
    }

    #[test]
    fn every_error_has_a_place_of_its_own() {
        for at in 0..ERRORS {
            assert_eq!(error_at(error_of(at)), at);
        }
    }
}
