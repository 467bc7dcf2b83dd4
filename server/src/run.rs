//! What a run is asked with, what it tells while it goes on, and what it answers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orch_gateway::simulate::Scenario;
use orch_gateway::{Preference, Receipt, Receipts};
use orch_manifests::{ByteSize, EgressWant, MicroUsd, RunId};
use orch_proxy::Decision;
use orch_vault::FlagKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::keys::CallerKeys;
use crate::permissions::{Answer, Question};
use crate::telemetry::TraceParent;

/// What an entry of a list takes beside its texts, in bytes.
const ENTRY: usize = 128;

/// Everything that a caller says about one run.
pub struct RunRequest<A = Arc<Agent>> {
    /// The agent, or what it is found by.
    pub agent: A,
    /// Its input: JSON text. None is the empty object.
    pub input: Option<String>,
    /// Keys given for this run only.
    pub keys: Vec<FlagKey>,
    /// Keys of the caller's environment, where the caller is not this process.
    pub env_keys: CallerKeys,
    /// Use only this provider's candidates.
    pub provider: Option<String>,
    /// Use this model instead of the plan.
    pub model: Option<String>,
    /// What its caller thinks with first, where neither of these says otherwise and the agent allows it.
    pub prefer: Option<Preference>,
    /// On a server: whether a key that its member has registered is to serve, where the policy lets that be asked.
    pub byok: Option<bool>,
    /// Variables for the sandbox.
    pub env: Vec<(String, String)>,
    /// Hosts that the caller allows (`HOST[:PORT]`).
    pub allow: Vec<String>,
    /// Secrets that the caller lets the agent use (`NAME@HOST`).
    pub secrets: Vec<String>,
    /// Capabilities, as their texts, that whoever may grant them has granted for this run. Others are ignored.
    pub granted: BTreeSet<String>,
    /// A policy on trial: what it would refuse of what the run is allowed is written down, and nothing else.
    pub trial: Option<Vec<EgressWant>>,
    /// Folders that the caller hands over.
    pub mounts: Vec<MountRequest>,
    /// Limits that the caller sets.
    pub limits: LimitRequest,
    /// Whether output is passed on as it is written.
    pub stream: bool,
    /// The scenario of simulated providers, instead of real ones.
    pub simulate: Option<Simulate>,
    /// What its trace belongs to. It is stored nowhere.
    pub trace: Option<TraceParent>,
}

impl RunRequest {
    /// A run of `agent` with nothing said about it: no input, no flag, no limit of the caller's.
    #[must_use]
    pub fn new(agent: impl Into<Arc<Agent>>) -> Self {
        Self::of(agent.into())
    }
}

impl<A> RunRequest<A> {
    /// As [`RunRequest::new`], of an agent that may have to be found yet.
    pub(crate) fn of(agent: A) -> Self {
        Self {
            agent,
            input: None,
            keys: Vec::new(),
            env_keys: CallerKeys::new(),
            provider: None,
            model: None,
            prefer: None,
            byok: None,
            env: Vec::new(),
            allow: Vec::new(),
            secrets: Vec::new(),
            granted: BTreeSet::new(),
            trial: None,
            mounts: Vec::new(),
            limits: LimitRequest::default(),
            stream: false,
            simulate: None,
            trace: None,
        }
    }

    /// The same with another word for its agent.
    pub(crate) fn with_agent<B>(self, agent: B) -> RunRequest<B> {
        let Self { agent: _, input, keys, env_keys, provider, model, prefer, byok, .. } = self;
        let Self { env, allow, secrets, .. } = self;
        let Self { granted, trial, mounts, limits, stream, simulate, trace, .. } = self;
        RunRequest {
            agent,
            input,
            keys,
            env_keys,
            provider,
            model,
            prefer,
            byok,
            env,
            allow,
            secrets,
            granted,
            trial,
            mounts,
            limits,
            stream,
            simulate,
            trace,
        }
    }

    /// About how many bytes it holds, its agent aside; 0 when nothing is said with it.
    pub(crate) fn size(&self) -> usize {
        let texts = [&self.input, &self.provider, &self.model].into_iter().flatten().map(String::len);
        let simulate =
            self.simulate.iter().map(|(Simulate::Scenario(text) | Simulate::File(text))| text.len());
        let env = self.env.iter().map(|(name, value)| ENTRY + name.len() + value.len());
        let lists =
            self.allow.iter().chain(&self.secrets).chain(&self.granted).map(|text| ENTRY + text.len());
        let keys = self
            .keys
            .iter()
            .map(|key| ENTRY + key.provider.as_ref().map_or(0, String::len) + key.secret.len());
        let env_keys = self.env_keys.iter().map(|(name, key)| ENTRY + name.len() + key.len());
        let mounts = self.mounts.iter().map(|mount| ENTRY + mount.host.as_os_str().len() + mount.guest.len());
        let trial = self.trial.iter().flatten().map(|want| {
            let paths: usize = want.paths.iter().map(|path| path.as_str().len()).sum();
            2 * ENTRY + want.host.base().as_str().len() + paths
        });
        let entries = env.chain(trial).chain(lists).chain(keys).chain(env_keys).chain(mounts);
        texts.chain(simulate).chain(entries).sum()
    }
}

/// A scenario of the simulated providers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Simulate {
    /// One that needs no file, such as `ok`.
    Scenario(String),
    /// The text of a scenario file.
    File(String),
}

impl Simulate {
    /// What `--simulate=SCENARIO` means: a known name, else the path of a scenario file, which is read.
    ///
    /// # Errors
    /// A word that is neither, or a file that cannot be used.
    pub fn open(word: &str) -> Result<Self, Failure> {
        let scenario = Scenario::open(word).map_err(|e| invalid(&e))?;
        if Scenario::NAMES.contains(&scenario.name()) {
            return Ok(Self::Scenario(word.to_owned()));
        }
        let path = std::path::Path::new(word);
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::file("scenario_invalid", "read the scenario", path, &e))?;
        Ok(Self::File(text))
    }

    /// The scenario itself.
    ///
    /// # Errors
    /// When there is none of this name, or the text is not one.
    pub(crate) fn scenario(&self) -> Result<Scenario, Failure> {
        match self {
            Self::Scenario(name) => Scenario::named(name)
                .ok_or_else(|| invalid(&format!("{name:?} is not one of {}", Scenario::NAMES.join(", ")))),
            Self::File(text) => Scenario::parse(text, "the scenario file").map_err(|e| invalid(&e)),
        }
    }
}

fn invalid(why: &impl std::fmt::Display) -> Failure {
    Failure::usage("scenario_invalid", why.to_string())
        .hint("--simulate=rate-limit|server-error|out-of-money|bad-key|slow|cut, or a scenario file")
}

/// A folder of the host, and where the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// The folder on this machine.
    pub host: PathBuf,
    /// Its absolute path inside the sandbox.
    pub guest: String,
    /// Whether the guest may write.
    pub writable: bool,
}

/// The caller's limits; what is not set comes from the manifest, then the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct LimitRequest {
    /// Wall time.
    pub time: Option<Duration>,
    /// Memory.
    pub memory: Option<ByteSize>,
    /// Money for model calls.
    pub max_cost: Option<MicroUsd>,
}

/// What a run tells while it goes on.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
    /// The agent wants what nobody has granted yet. Asked before the run's clock starts.
    fn ask(&self, question: &Question) -> Answer;
    /// The run may call models: each call that ends is among these from then on.
    fn calls(&self, _: &Arc<Receipts>) {}
}

/// One event of a run.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// What is going on: for a person who waits, until the next one says something else.
    Progress(&'a str),
    /// Something that was decided for this run and matters to who reads the result.
    Note(&'a str),
    /// Something that deserves attention.
    Warning(&'a str),
    /// Bytes of the agent's log.
    Log(&'a [u8]),
    /// Bytes of the agent's output, only with [`RunRequest::stream`].
    Output(&'a [u8]),
    /// A request of the agent was refused: which, and why.
    Refused(&'a str),
    /// What the egress proxy decided about a request, as a line of JSON.
    Decision(&'a str),
}

/// What a finished run answers: the JSON result of `orch run --json`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The run.
    pub run_id: RunId,
    /// `ok`, or the code of the failure.
    pub status: String,
    /// What the agent answered; null when it did not.
    pub output: Value,
    /// Tokens and money over all calls.
    pub usage: UsageReport,
    /// One receipt per model call.
    pub calls: Vec<Receipt>,
    /// What the egress proxy decided.
    pub egress: EgressReport,
    /// Each limit, and how much of it was used.
    pub limits: LimitsReport,
    /// Wall time from start to end, in milliseconds.
    pub duration_ms: u64,
    /// Whether the providers were simulated.
    pub simulated: bool,
}

/// Tokens and money.
#[derive(Debug, Default, Serialize)]
pub struct UsageReport {
    /// Tokens sent to models.
    pub input_tokens: u64,
    /// Tokens received from models.
    pub output_tokens: u64,
    /// US dollars; null when a price is not known.
    pub cost_usd: Option<f64>,
}

/// Millionths of a US dollar as dollars.
#[expect(clippy::cast_precision_loss, reason = "exact below nine billion dollars")]
pub(crate) fn dollars(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Decisions of the egress proxy.
#[derive(Debug, Default, Serialize)]
pub struct EgressReport {
    /// How many requests were allowed.
    pub allowed: u64,
    /// The refused ones, the first hundred of them.
    pub denied: Vec<Decision>,
    /// What a policy on trial would have refused; none without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialReport>,
}

/// What policies on trial say about requests that were allowed.
#[derive(Debug, Serialize)]
pub struct TrialReport {
    /// How many they would have refused.
    pub denied: u64,
    /// Those, the first hundred of them.
    pub would_deny: Vec<Decision>,
}

/// A limit and its use, in the unit of the field's name.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LimitUse {
    /// The bound; null when there is none.
    pub limit: Option<u64>,
    /// How much was used.
    pub used: u64,
}

/// The run's limits.
#[derive(Debug, Serialize)]
pub struct LimitsReport {
    /// Peak memory, of all kinds.
    pub memory_bytes: LimitUse,
    /// Wall time.
    pub time_ms: LimitUse,
    /// CPU time of the guest.
    pub cpu_ms: LimitUse,
    /// Bytes written to standard output.
    pub output_bytes: LimitUse,
    /// Bytes written to standard error.
    pub log_bytes: LimitUse,
    /// Bytes that its scratch folders held in the end; none where it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch_bytes: Option<LimitUse>,
    /// Files, folders and links in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch_files: Option<LimitUse>,
    /// Requests that left the sandbox.
    pub requests: LimitUse,
    /// Bytes of request bodies.
    pub upload_bytes: LimitUse,
    /// Bytes of response bodies.
    pub download_bytes: LimitUse,
    /// Tokens, in and out.
    pub tokens: LimitUse,
    /// Money, in millionths of a US dollar.
    pub cost_micro_usd: LimitUse,
}
