//! Why a run has no plan, and what to do about it.

use orch_manifests::{Slug, UnknownModel};

use crate::receipt::Skipped;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No provider that could serve has a key.
    #[error("no key for {}", names(.0))]
    NoKey(Vec<MissingKey>),
    /// `--provider` names no provider of the catalog.
    #[error("no provider {asked:?} is known (known: {})", .known.join(", "))]
    UnknownProvider {
        /// What was asked for.
        asked: String,
        /// The catalog's slugs.
        known: Vec<String>,
    },
    /// `--provider` names one that the agent does not work with, or that is not available in this kind of run.
    #[error("{provider} cannot be used: {reason}")]
    Provider {
        /// Which provider.
        provider: Slug,
        /// Why not.
        reason: String,
    },
    /// `--model` leads to no provider.
    #[error("{0}")]
    UnknownModel(UnknownModel),
    /// Models were named and none of them can serve, for other reasons than keys.
    #[error("none of the agent's models can be used: {}", reasons(.0))]
    NoCandidate(Vec<Skipped>),
}

/// A key that would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingKey {
    /// Whose key.
    pub provider: Slug,
    /// Names under which it is looked up; the first is its name in the vault.
    pub names: Vec<String>,
}

impl PlanError {
    /// What to do about it, as commands to paste.
    pub fn hints(&self) -> Vec<String> {
        let PlanError::NoKey(missing) = self else { return Vec::new() };
        let by_secret =
            missing.iter().filter_map(|key| key.names.first()).map(|name| format!("orch secrets set {name}"));
        let mut hints: Vec<_> = by_secret.collect();
        if let Some(name) = missing.first().and_then(|key| key.names.first()) {
            hints.push(format!("export {name}=…"));
        }
        hints
    }
}

fn names(missing: &[MissingKey]) -> String {
    let one = |key: &MissingKey| format!("{} (set {})", key.provider, key.names.join(" or "));
    missing.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn reasons(skipped: &[Skipped]) -> String {
    skipped.iter().map(|s| format!("{}: {}", s.model, s.reason)).collect::<Vec<_>>().join("; ")
}
