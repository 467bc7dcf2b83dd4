//! Agents by name and by content: what was published here, and what comes with `orch`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use orch_manifests::{AgentName, AgentRef, Catalog, Digest};
use semver::Version;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::store::{Store, VersionRow};

/// Bytes of modules that are kept in memory, beside those of the agent that was asked for last.
const AT_HAND: usize = 256 << 20;

/// Finds agents.
pub struct Library {
    store: Store,
    catalog: Arc<Catalog>,
    at_hand: Mutex<AtHand>,
}

/// Loaded agents; the one that was asked for longest ago goes first.
#[derive(Default)]
struct AtHand {
    agents: HashMap<Digest, (Arc<Agent>, u64)>,
    clock: u64,
    bytes: usize,
}

impl Library {
    pub(super) fn new(store: Store, catalog: Arc<Catalog>) -> Self {
        Self { store, catalog, at_hand: Mutex::default() }
    }

    /// The newest version of an agent that a reference allows. What was published goes before what comes with `orch`;
    /// a pre-release only when it is asked for, as semver has it.
    ///
    /// # Errors
    /// `agent_not_found` when there is no such agent, `version_not_found` when none of its versions fits.
    pub async fn find(&self, reference: &AgentRef) -> Result<Arc<Agent>, Failure> {
        let versions = self.store.versions(&reference.name).await?;
        if versions.is_empty() {
            return builtin(reference);
        }
        let fits = |row: &&VersionRow| reference.versions.matches(&row.version);
        match versions.iter().filter(fits).max_by(|a, b| a.version.cmp(&b.version)) {
            Some(row) => self.by_digest(&row.digest).await,
            None => Err(no_version(reference, versions.iter().map(|row| &row.version))),
        }
    }

    /// The agent with this content.
    ///
    /// # Errors
    /// When it is not stored, or what is stored is damaged.
    pub async fn by_digest(&self, digest: &Digest) -> Result<Arc<Agent>, Failure> {
        if let Some(agent) = self.lock().touch(digest) {
            return Ok(agent);
        }
        let missing = || {
            Failure::usage("agent_not_found", format!("the content {digest} of an agent is not stored here"))
        };
        let row = self.store.agent(digest).await?.ok_or_else(missing)?;
        let module = self.store.blobs().get(&row.module).await?.ok_or_else(missing)?;
        let catalog = Arc::clone(&self.catalog);
        // A large module is hashed for long.
        let load = move || {
            if row.bare {
                Agent::bare(row.name.name(), module)
            } else {
                Agent::from_parts(&row.manifest, row.format, module, &catalog)
            }
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        let agent =
            Arc::new(loaded.map_err(|e| Failure::defect(format!("loading an agent ended early: {e}")))??);
        self.remember(&agent);
        Ok(agent)
    }

    /// The agent of the same content that is at hand already, or this one.
    #[must_use]
    pub fn shared(&self, agent: Arc<Agent>) -> Arc<Agent> {
        self.lock().touch(&agent.digest).unwrap_or(agent)
    }

    /// Keeps an agent at hand in place of the same content in other words.
    pub(crate) fn retell(&self, agent: &Arc<Agent>) {
        let mut at_hand = self.lock();
        at_hand.forget(&agent.digest);
        at_hand.insert(agent);
    }

    /// Keeps an agent at hand.
    pub(super) fn remember(&self, agent: &Arc<Agent>) {
        self.lock().insert(agent);
    }

    /// Keeps an agent at hand no more.
    #[cfg(test)]
    pub(super) fn forget(&self, digest: &Digest) {
        self.lock().forget(digest);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AtHand> {
        self.at_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AtHand {
    fn touch(&mut self, digest: &Digest) -> Option<Arc<Agent>> {
        self.clock += 1;
        let (agent, used) = self.agents.get_mut(digest)?;
        *used = self.clock;
        Some(Arc::clone(agent))
    }

    fn insert(&mut self, agent: &Arc<Agent>) {
        // The same content in other words is the same agent: whoever was first is not replaced.
        if self.touch(&agent.digest).is_none() {
            self.agents.insert(agent.digest, (Arc::clone(agent), self.clock));
            self.bytes += agent.module.len();
        }
        while self.bytes > AT_HAND && self.agents.len() > 1 {
            let Some(oldest) =
                self.agents.iter().min_by_key(|(_, (_, used))| *used).map(|(digest, _)| *digest)
            else {
                return;
            };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, digest: &Digest) {
        if let Some((agent, _)) = self.agents.remove(digest) {
            self.bytes -= agent.module.len();
        }
    }
}

fn builtin(reference: &AgentRef) -> Result<Arc<Agent>, Failure> {
    let mut names = Vec::new();
    for agent in Agent::builtins() {
        let agent = agent?;
        let Agent { manifest, .. } = &agent;
        if manifest.name != reference.name {
            names.push(manifest.name.to_string());
        } else if reference.versions.matches(&manifest.version) {
            return Ok(Arc::new(agent));
        } else {
            return Err(no_version(reference, [&manifest.version].into_iter()));
        }
    }
    Err(Failure::usage("agent_not_found", format!("there is no agent {}", reference.name))
        .hint("orch list")
        .hint(format!("agents that come with orch: {}", names.join(", "))))
}

fn no_version<'a>(reference: &AgentRef, there: impl Iterator<Item = &'a Version>) -> Failure {
    let AgentRef { name, versions } = reference;
    let there: Vec<String> = there.map(ToString::to_string).collect();
    Failure::usage(
        "version_not_found",
        format!("no version of {name} is {versions}; there are {}", there.join(", ")),
    )
    .hint(format!("orch info {name}"))
}

/// Whether an agent's name is one that only `orch` itself, or only a path, may have.
#[must_use]
pub fn is_reserved(name: &AgentName) -> bool {
    matches!(name.org(), "orch" | "local")
}
