//! What the store keeps of a run's request, so that a run that waited when its server died can be run by the next one.
//!
//! Keys that came with the request are never part of it: they are in memory only, and a run that had some is not run
//! again but reported. When a run has ended, the store keeps nothing of its request.

use std::collections::BTreeSet;
use std::time::Duration;

use orch_gateway::Preference;
use orch_manifests::{ByteSize, Digest, EgressWant, Format, MicroUsd, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;
use crate::run::{LimitRequest, RunRequest, Simulate};

/// The format that this version writes and reads.
const VERSION: u32 = 1;

/// A request without its agent, which is found by its digest, and without its keys.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredRequest {
    version: u32,
    /// Whose it is. No two runs have the same request, so what is stored of it can go with its run.
    #[serde(default)]
    run: String,
    input: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    /// Left out where nothing is said, as with the policy on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefer: Option<Preference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    byok: Option<bool>,
    env: Vec<(String, String)>,
    allow: Vec<String>,
    secrets: Vec<String>,
    granted: BTreeSet<String>,
    /// A policy on trial, as JSON. Left out where there is none, so that an older version can read the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial: Option<String>,
    time_ms: Option<u64>,
    memory_bytes: Option<u64>,
    cost_micro_usd: Option<u64>,
    stream: bool,
    simulate: Option<Simulate>,
    /// Whether it ends with the process that accepted it: it had what is not stored (keys, folders of its caller's
    /// machine), or belongs to one command.
    incomplete: bool,
}

impl StoredRequest {
    /// What is kept of a request. The input is not copied here: it is handed over when the run is prepared.
    pub(crate) fn of<A>(run: &RunId, request: &RunRequest<A>, embedded: bool) -> Self {
        Self {
            version: VERSION,
            run: run.to_string(),
            input: request.input.clone(),
            provider: request.provider.clone(),
            model: request.model.clone(),
            prefer: request.prefer.clone(),
            byok: request.byok,
            env: request.env.clone(),
            allow: request.allow.clone(),
            secrets: request.secrets.clone(),
            granted: request.granted.clone(),
            trial: request.trial.as_ref().and_then(|list| serde_json::to_string(list).ok()),
            time_ms: request.limits.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            memory_bytes: request.limits.memory.map(ByteSize::bytes),
            cost_micro_usd: request.limits.max_cost.map(MicroUsd::micros),
            stream: request.stream,
            simulate: request.simulate.clone(),
            incomplete: embedded
                || !request.keys.is_empty()
                || !request.env_keys.is_empty()
                || !request.mounts.is_empty(),
        }
    }

    /// As the store keeps it.
    ///
    /// # Errors
    /// Only by a defect: it is made of texts and numbers.
    pub(crate) fn to_json(&self) -> Result<Value, Failure> {
        serde_json::to_value(self)
            .map_err(|e| Failure::defect(format!("the request cannot be written as JSON: {e}")))
    }

    /// Whether what the store has can be run by another process than the one that accepted it.
    pub(crate) fn is_whole(stored: &Value) -> bool {
        Self::deserialize(stored).is_ok_and(|stored| stored.version == VERSION && !stored.incomplete)
    }

    /// Reads what the store has; none when another version wrote it, or the request cannot be made whole again.
    pub(crate) fn read(stored: Value, agent: Digest) -> Option<RunRequest<Digest>> {
        let stored: Self = serde_json::from_value(stored).ok()?;
        if stored.version != VERSION || stored.incomplete {
            return None;
        }
        let trial = match &stored.trial {
            Some(text) => EgressWant::list_in(text, Format::Json, "the policy on trial", &[]).ok()?,
            None => None,
        };
        Some(RunRequest {
            trial,
            input: stored.input,
            provider: stored.provider,
            model: stored.model,
            prefer: stored.prefer,
            byok: stored.byok,
            env: stored.env,
            allow: stored.allow,
            secrets: stored.secrets,
            granted: stored.granted,
            limits: LimitRequest {
                time: stored.time_ms.map(Duration::from_millis),
                memory: stored.memory_bytes.map(ByteSize),
                max_cost: stored.cost_micro_usd.map(MicroUsd),
            },
            stream: stored.stream,
            simulate: stored.simulate,
            ..RunRequest::of(agent)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stage::{ONE_MODEL, agent};
    use orch_vault::{FlagKey, Secret};

    #[test]
    fn a_request_comes_back_as_it_was() {
        let agent = Arc::new(agent(ONE_MODEL));
        let run = RunId::random();
        let mut request = RunRequest::new(Arc::clone(&agent));
        request.input = Some("{}".to_owned());
        request.env = vec![("A".to_owned(), "b".to_owned())];
        request.limits.time = Some(Duration::from_secs(3));
        request.trial = Some(
            EgressWant::list_in("[{host: a.example.com, methods: [GET]}]", Format::Yaml, "x", &[])
                .expect("a list")
                .expect("there"),
        );
        request.granted = BTreeSet::from(["talk to https://a.example (GET)".to_owned()]);
        let stored = StoredRequest::of(&run, &request, false);
        let json = stored.to_json().expect("JSON");
        let again = StoredRequest::read(json, agent.digest).expect("whole");
        assert_eq!(again.trial, request.trial);
        assert_eq!(StoredRequest::of(&run, &again, false), stored);
    }

    #[test]
    fn what_had_keys_is_not_made_whole_again() {
        let agent = Arc::new(agent(ONE_MODEL));
        let run = RunId::random();
        let mut request = RunRequest::new(Arc::clone(&agent));
        request.keys.push(FlagKey { provider: None, secret: Secret::new(b"sk-0123456789abcdef".to_vec()) });
        let json = StoredRequest::of(&run, &request, false).to_json().expect("JSON");
        assert!(!json.to_string().contains("0123456789"), "{json}");
        assert!(StoredRequest::read(json, agent.digest).is_none());
    }
}
