//! Which models may serve a run, in which order, and what was left out and why. Pure: decided before any byte leaves.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use orch_manifests::{
    Auth, Catalog, Dialect, Llm, Model, ModelName, Price, Provider, Slug, Supported, UnknownModel,
    resolve_model,
};
use orch_proxy::Credential;

use crate::receipt::Skipped;

/// What a plan is made from.
pub struct Wishes<'a> {
    /// The manifest's models.
    pub llm: Option<&'a Llm>,
    /// The manifest's providers.
    pub supported: &'a Supported,
    /// The providers that are known, the operator's included.
    pub catalog: &'a Catalog,
    /// The credential of this run for a provider, if there is one.
    pub keys: &'a dyn Fn(&Slug) -> Option<Arc<dyn Credential>>,
    /// `--provider`: only this provider, by slug or alias.
    pub provider: Option<&'a str>,
    /// `--model`: in place of the manifest's primary.
    pub model: Option<&'a ModelName>,
    /// Whether the run is local, where providers without a pin may be on this machine.
    pub local: bool,
}

/// A model that may serve, and what is needed to ask it.
#[derive(Clone)]
pub struct Candidate {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The model as the provider knows it.
    pub model: String,
    /// The credential; `None` for providers that want none.
    pub credential: Option<Arc<dyn Credential>>,
}

impl Candidate {
    /// `provider/model`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider.slug, self.model)
    }

    /// What is spoken to it.
    pub fn dialect(&self) -> Dialect {
        self.provider.dialect
    }

    /// What the catalog knows of the model.
    pub fn known(&self) -> Option<&Model> {
        self.provider.model(&self.model)
    }

    /// What it costs, when that is known.
    pub fn price(&self) -> Option<Price> {
        self.provider.price(&self.model)
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A provider that the run may use, whether or not the plan names a model of it.
#[derive(Clone)]
pub struct AtHand {
    /// The provider.
    pub provider: Arc<Provider>,
    /// Its credential; `None` for providers that want none.
    pub credential: Option<Arc<dyn Credential>>,
}

impl AtHand {
    /// A provider where its credential is for.
    pub fn new(provider: &Provider, credential: Option<Arc<dyn Credential>>) -> AtHand {
        let region = credential.as_ref().and_then(|credential| credential.region());
        // A region that is none is the credential's to refuse.
        let there = region.and_then(|region| provider.in_region(&region).map(Cow::into_owned));
        AtHand { provider: Arc::new(there.unwrap_or_else(|| provider.clone())), credential }
    }

    /// A model of this provider as a candidate.
    pub fn candidate(&self, model: impl Into<String>) -> Candidate {
        Candidate {
            provider: Arc::clone(&self.provider),
            model: model.into(),
            credential: self.credential.clone(),
        }
    }
}

/// A provider's credential, or why the one that is there cannot be used.
pub type KeyAtHand = Result<Arc<dyn Credential>, String>;

/// The models of a run, or of a server's clients.
#[derive(Clone, Default)]
pub struct Plan {
    /// In the order in which they are asked.
    pub candidates: Vec<Candidate>,
    /// Models of the manifest that cannot serve, and why; to be said aloud.
    pub skipped: Vec<Skipped>,
    /// Every provider that the run may use.
    pub at_hand: Vec<AtHand>,
    /// Set for clients that belong to no run; see [`Plan::for_clients`].
    pub(crate) clients: Option<Clients>,
}

impl Plan {
    /// The plan of clients that say themselves which model they want: no model is named for them, and every provider
    /// of the catalog is at hand for which `key` has a credential, or that needs none and is an operator's pin.
    /// `key` tells why a credential that is there cannot be used; `None` is no credential at all.
    pub fn for_clients(catalog: &Catalog, key: &dyn Fn(&Slug) -> Option<KeyAtHand>) -> Plan {
        let mut plan = Plan::default();
        let mut lacking = Vec::new();
        for provider in catalog.providers().filter(|provider| !provider.local_only || provider.pinned) {
            let provider = Arc::new(provider.clone());
            let credential = match provider.auth {
                Auth::None => Ok(None),
                _ => key(&provider.slug)
                    .unwrap_or_else(|| Err(format!("this workspace has no key for {}", provider.slug)))
                    .map(Some),
            };
            match credential {
                Ok(credential) => plan.at_hand.push(AtHand::new(&provider, credential)),
                Err(reason) => lacking.push(Lacking { provider, reason }),
            }
        }
        plan.clients = Some(Clients { lacking });
        plan
    }

    /// The provider with this slug, if the run may use it.
    pub fn provider(&self, slug: &Slug) -> Option<&AtHand> {
        self.at_hand.iter().find(|at_hand| at_hand.provider.slug == *slug)
    }
}

/// What is known of a plan of clients beside what is at hand.
#[derive(Clone, Default)]
pub(crate) struct Clients {
    /// Providers that would be at hand if they had a key.
    pub(crate) lacking: Vec<Lacking>,
}

/// A provider that cannot be asked.
#[derive(Clone)]
pub(crate) struct Lacking {
    pub(crate) provider: Arc<Provider>,
    /// What is wrong with its key, for people.
    pub(crate) reason: String,
}

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

/// Makes the plan of a run.
///
/// # Errors
/// What `--provider` or `--model` name cannot be used, or no model is left. An agent that works with no provider at
/// all gets an empty plan.
pub fn plan(wishes: &Wishes<'_>) -> Result<Plan, PlanError> {
    let only = wishes.provider.map(|asked| named_provider(wishes, asked)).transpose()?;
    let within = |provider: &Provider| only.is_none_or(|only| only.slug == provider.slug);
    let mut plan = Plan::default();
    let mut missing = Vec::new();
    for provider in wishes.catalog.providers().filter(|p| within(p) && unavailable(wishes, p).is_none()) {
        match key(wishes, provider) {
            Ok(credential) => plan.at_hand.push(AtHand::new(provider, credential)),
            Err(key) => missing.push(key),
        }
    }
    let mut lacking = Vec::new();
    for name in models(wishes) {
        let asked = wishes.model == Some(name);
        let route = match resolve_in(wishes, name, only) {
            Ok(route) => route,
            Err(error) if asked => return Err(PlanError::UnknownModel(error)),
            Err(error) => {
                plan.skipped.push(Skipped { model: name.to_string(), reason: error.to_string() });
                continue;
            }
        };
        match candidate(wishes, &plan, &route, &within) {
            Ok(candidate) => {
                // A model that is named twice, or overridden by itself, is asked once.
                if !plan.candidates.iter().any(|known| known.name() == candidate.name()) {
                    plan.candidates.push(candidate);
                }
            }
            Err(reason) => {
                lacking.extend(missing.iter().find(|key| key.provider == route.provider).cloned());
                plan.skipped.push(Skipped { model: name.to_string(), reason });
            }
        }
    }
    if plan.candidates.is_empty() && !plan.skipped.is_empty() {
        return Err(match lacking.is_empty() {
            true => PlanError::NoCandidate(plan.skipped),
            false => PlanError::NoKey(once(lacking)),
        });
    }
    if plan.at_hand.is_empty() && !missing.is_empty() && !wishes.supported.is_empty() {
        return Err(PlanError::NoKey(missing));
    }
    Ok(plan)
}

/// A candidate for a model that the plan does not name: its provider must be at hand.
///
/// # Errors
/// Why it cannot be used, for people.
pub(crate) fn outside(plan: &Plan, catalog: &Catalog, asked: &str) -> Result<Candidate, String> {
    let name: ModelName = asked.parse().map_err(|e| format!("{e}"))?;
    let route = resolve_model(catalog, &name).map_err(|e| e.to_string())?;
    match plan.provider(&route.provider) {
        Some(at_hand) => Ok(at_hand.candidate(route.model)),
        None => Err(format!("this run has no key for {}, or the agent does not support it", route.provider)),
    }
}

/// The manifest's models with `--model` in the primary's place.
fn models<'a>(wishes: &Wishes<'a>) -> Vec<&'a ModelName> {
    let llm = wishes.llm;
    let first = wishes.model.or(llm.map(|llm| &llm.primary));
    first.into_iter().chain(llm.into_iter().flat_map(|llm| &llm.fallbacks)).collect()
}

/// Resolves a model; with `--provider` and `--model` together, the model is that provider's whatever it is called.
fn resolve_in(
    wishes: &Wishes<'_>,
    name: &ModelName,
    only: Option<&Provider>,
) -> Result<orch_manifests::ModelRoute, UnknownModel> {
    match (only, wishes.model) {
        (Some(provider), Some(asked)) if asked == name => {
            let model = match name.split() {
                (Some(prefix), model) if provider.goes_by(prefix) => model,
                _ => name.as_str(),
            };
            let model = provider.model(model).map_or(model, |known| known.id.as_str());
            Ok(orch_manifests::ModelRoute { provider: provider.slug.clone(), model: model.to_owned() })
        }
        _ => resolve_model(wishes.catalog, name),
    }
}

fn candidate(
    wishes: &Wishes<'_>,
    plan: &Plan,
    route: &orch_manifests::ModelRoute,
    within: &dyn Fn(&Provider) -> bool,
) -> Result<Candidate, String> {
    if let Some(at_hand) = plan.provider(&route.provider) {
        return Ok(at_hand.candidate(route.model.clone()));
    }
    let Some(provider) = wishes.catalog.provider(route.provider.as_str()) else {
        return Err(format!("{} is not in the catalog", route.provider));
    };
    if !within(provider) {
        return Err(format!("it is {}'s, and --provider asks for another", provider.slug));
    }
    if let Some(reason) = unavailable(wishes, provider) {
        return Err(reason);
    }
    Err(format!("no key for {} (set {})", provider.slug, provider.env.join(" or ")))
}

fn named_provider<'a>(wishes: &Wishes<'a>, asked: &str) -> Result<&'a Provider, PlanError> {
    let Some(provider) = wishes.catalog.provider(asked) else {
        let known = wishes.catalog.providers().map(|p| p.slug.to_string()).collect();
        return Err(PlanError::UnknownProvider { asked: asked.to_owned(), known });
    };
    match unavailable(wishes, provider) {
        Some(reason) => Err(PlanError::Provider { provider: provider.slug.clone(), reason }),
        None => Ok(provider),
    }
}

/// Why a provider cannot be used in this run, whatever its key.
fn unavailable(wishes: &Wishes<'_>, provider: &Provider) -> Option<String> {
    if !wishes.supported.allows(provider) {
        return Some(format!("the agent's supported_providers leave out {}", provider.slug));
    }
    if provider.local_only && !provider.pinned && !wishes.local {
        return Some(format!("{} serves local runs, or needs an operator's pin", provider.slug));
    }
    None
}

fn key(wishes: &Wishes<'_>, provider: &Provider) -> Result<Option<Arc<dyn Credential>>, MissingKey> {
    if provider.auth == Auth::None {
        return Ok(None);
    }
    match (wishes.keys)(&provider.slug) {
        Some(credential) => Ok(Some(credential)),
        None => Err(MissingKey { provider: provider.slug.clone(), names: provider.env.clone() }),
    }
}

fn once(keys: Vec<MissingKey>) -> Vec<MissingKey> {
    let mut unique: Vec<MissingKey> = Vec::new();
    for key in keys {
        if !unique.contains(&key) {
            unique.push(key);
        }
    }
    unique
}

#[cfg(test)]
mod tests;
