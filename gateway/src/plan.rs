//! Which models may serve a run, in which order, and what was left out and why. Pure: decided before any byte leaves.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use orch_manifests::{
    Auth, Catalog, Dialect, KeyChoice, Llm, Model, ModelName, ModelRoute, OnError, Price, Provider, Route,
    RouteName, Routes, Slug, Supported, Target, UnknownModel, Whose, resolve_model,
};
use orch_proxy::Credential;
use serde::{Deserialize, Serialize};

use crate::health::Rest;
use crate::receipt::Skipped;

pub(crate) mod pick;

/// What a plan is made from.
pub struct Wishes<'a> {
    /// The manifest's models.
    pub llm: Option<&'a Llm>,
    /// The manifest's providers.
    pub supported: &'a Supported,
    /// The providers that are known, the operator's included.
    pub catalog: &'a Catalog,
    /// The credentials of this run for a provider; none when there is none.
    pub keys: &'a dyn Fn(&Slug) -> Vec<Arc<dyn Credential>>,
    /// Logical names that stand for models.
    pub routes: &'a Routes,
    /// `--provider`: only this provider, by slug or alias.
    pub provider: Option<&'a str>,
    /// `--model`: in place of the manifest's primary.
    pub model: Option<&'a ModelName>,
    /// What the user thinks with first, where neither of them says otherwise. The manifest's models stay behind it.
    pub prefer: Option<&'a Preference>,
    /// Whether the run is local, where providers without a pin may be on this machine.
    pub local: bool,
}

/// The provider that a user thinks with first, and perhaps with which model of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// The provider's slug, alias or variant.
    pub provider: String,
    /// The model as the provider knows it; those of the manifest that are the provider's when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// A model that is about to be asked, with one key.
#[derive(Clone)]
pub struct Candidate {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The model as the catalog knows it.
    pub model: String,
    /// The name that is sent in its place, where a route says so.
    pub sent: Option<String>,
    /// Whether a name that the catalog does not know is paid for as the model, since the operator says so.
    pub priced_as_model: bool,
    /// The credential; `None` for providers that want none.
    pub credential: Option<Arc<dyn Credential>>,
    /// What has to be spoken to it, where whoever named it said so.
    pub dialect: Option<Dialect>,
    /// What follows failures that are the request's own doing.
    pub on: OnError,
    /// Why it is asked after others.
    pub(crate) rest: Option<Rest>,
}

impl Candidate {
    /// `provider/model`; of a variant, by its name.
    pub fn name(&self) -> String {
        name(&self.provider, self.dialect, &self.model)
    }

    /// Whose key it is asked with; `None` where it wants none.
    pub fn whose(&self) -> Option<Whose> {
        self.credential.as_ref().map(|credential| credential.whose())
    }

    /// The model as the provider is asked for it.
    pub fn sent(&self) -> &str {
        self.sent.as_deref().unwrap_or(&self.model)
    }

    /// What is spoken to it for a client of this dialect.
    pub fn spoken_with(&self, client: Dialect) -> Dialect {
        self.dialect.unwrap_or_else(|| self.provider.spoken_with(client))
    }

    /// What is spoken to it for a client of this dialect that asks for embeddings; `None` where its provider has none.
    pub fn embeds_with(&self, client: Dialect) -> Option<Dialect> {
        let named = self.dialect.filter(|dialect| self.provider.embeddings_path(*dialect, true).is_some());
        named.or_else(|| self.provider.embeds_with(client))
    }

    /// What the catalog knows of the model.
    pub fn known(&self) -> Option<&Model> {
        self.provider.model(self.counted())
    }

    /// What it costs, when that is known. Of another name it is what the catalog says of that one.
    pub fn price(&self) -> Option<Price> {
        if let Some(sent) = &self.sent
            && !self.priced_as_model
            && *sent != self.model
            && self.provider.model(sent).is_none()
        {
            return self.provider.free.then_some(Price::FREE);
        }
        self.provider.price(self.counted())
    }

    /// The model that is paid for: another name for it is looked up where the catalog knows that one.
    fn counted(&self) -> &str {
        match self.provider.model(self.sent()) {
            Some(_) => self.sent(),
            None => &self.model,
        }
    }

    /// Whether it is the same model at the same provider, spoken to in the same way, with whatever key.
    pub(crate) fn is_model_of(&self, other: &Candidate) -> bool {
        self.provider.slug == other.provider.slug
            && self.dialect == other.dialect
            && self.sent() == other.sent()
    }
}

fn name(provider: &Provider, dialect: Option<Dialect>, model: &str) -> String {
    let variant = provider.variants.iter().find(|variant| Some(variant.dialect) == dialect);
    format!("{}/{model}", variant.map_or(&provider.slug, |variant| &variant.slug))
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A model of the plan: each call makes candidates of it, one for each key.
#[derive(Clone)]
pub struct Planned {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The model as the catalog knows it.
    pub model: String,
    /// The name that is sent in its place.
    pub sent: Option<String>,
    /// As [`Candidate::priced_as_model`].
    pub priced_as_model: bool,
    /// The credentials that may serve it; none for providers that want none.
    pub keys: Vec<Keyed>,
    /// What has to be spoken to it, where whoever named it said so.
    pub dialect: Option<Dialect>,
    /// The route that it comes from.
    pub route: Option<RouteName>,
    /// Its step: those of one step share the calls, and come before those of the next.
    pub step: u32,
    /// Its share among those of its step; 0 takes it out.
    pub weight: u16,
    /// What follows failures that are the request's own doing.
    pub on: OnError,
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A credential, and its share of the calls among its provider's.
#[derive(Clone)]
pub struct Keyed {
    /// The credential.
    pub credential: Arc<dyn Credential>,
    /// Its share.
    pub weight: u16,
}

impl Planned {
    /// `provider/model`; of a variant, by its name.
    pub fn name(&self) -> String {
        name(&self.provider, self.dialect, &self.model)
    }

    /// What the catalog knows of the model.
    pub fn known(&self) -> Option<&Model> {
        self.provider.model(&self.model)
    }

    /// Whether a call of the other would be the same call.
    fn is_same_as(&self, other: &Planned) -> bool {
        let keys = |planned: &Planned| -> Vec<String> {
            planned.keys.iter().map(|key| key.credential.id().to_owned()).collect()
        };
        self.name() == other.name() && self.sent == other.sent && keys(self) == keys(other)
    }
}

/// A provider that the run may use, whether or not the plan names a model of it.
#[derive(Clone)]
pub struct AtHand {
    /// The provider.
    pub provider: Arc<Provider>,
    /// Its credentials, the one that stands for all of them first; none for providers that want none.
    pub keys: Vec<Arc<dyn Credential>>,
}

impl AtHand {
    /// A provider where its credentials are for: where the first of them is, and those with it that are for the same place.
    pub fn new(provider: &Provider, mut keys: Vec<Arc<dyn Credential>>) -> AtHand {
        let site = keys.first().and_then(|credential| credential.site());
        if keys.len() > 1 {
            keys.retain(|credential| credential.site() == site);
        }
        // A place that is none is the credential's to refuse.
        let there = site.and_then(|site| provider.at(&site).ok().map(Cow::into_owned));
        AtHand { provider: Arc::new(there.unwrap_or_else(|| provider.clone())), keys }
    }

    /// The credential that stands for all of them.
    pub fn credential(&self) -> Option<&Arc<dyn Credential>> {
        self.keys.first()
    }

    /// A model of this provider, with the credential that stands for all of them.
    pub fn candidate(&self, model: impl Into<String>) -> Candidate {
        Candidate {
            provider: Arc::clone(&self.provider),
            model: model.into(),
            sent: self.provider.deployment.clone(),
            priced_as_model: self.provider.deployment.is_some(),
            credential: self.credential().cloned(),
            dialect: None,
            on: OnError::default(),
            rest: None,
        }
    }

    /// A model of this provider, with all of its keys.
    pub fn planned(&self, model: impl Into<String>) -> Planned {
        let keys = self.keys.iter().map(|key| Keyed { credential: Arc::clone(key), weight: 1 });
        Planned {
            provider: Arc::clone(&self.provider),
            model: model.into(),
            sent: self.provider.deployment.clone(),
            priced_as_model: self.provider.deployment.is_some(),
            keys: keys.collect(),
            dialect: None,
            route: None,
            step: 0,
            weight: 1,
            on: OnError::default(),
        }
    }

    /// The model that a name has led to.
    pub(crate) fn routed(&self, route: ModelRoute) -> Planned {
        Planned { dialect: route.dialect, ..self.planned(route.model) }
    }

    /// The same, as a route's target wants it.
    ///
    /// # Errors
    /// When none of the keys that it names is at hand.
    pub(crate) fn target(&self, route: ModelRoute, target: &Target) -> Result<Planned, String> {
        let mut planned = self.routed(route);
        // What the operator says of a route goes before what a key says of all models.
        if target.rename.is_some() {
            planned.sent.clone_from(&target.rename);
            planned.priced_as_model = false;
        }
        planned.weight = target.share();
        // What members and the platform have goes by names that no route could know: `own/MEMBER/OPENAI_API_KEY`.
        let nameable = self.credential().is_none_or(|key| !key.id().contains('/'));
        if let KeyChoice::Only(names) = &target.keys
            && nameable
        {
            planned.keys.retain_mut(|key| match target.keys.weight(key.credential.id()) {
                Some(weight) => {
                    key.weight = weight;
                    true
                }
                None => false,
            });
            if planned.keys.is_empty() {
                let names: Vec<&str> = names.keys().map(orch_manifests::SecretName::as_str).collect();
                return Err(format!("the route names {}, and there is no such key", names.join(", ")));
            }
        }
        Ok(planned)
    }
}

/// A provider's credentials, or why the one that is there cannot be used.
pub type KeyAtHand = Result<Vec<Arc<dyn Credential>>, String>;

/// The models of a run, or of a server's clients.
#[derive(Clone, Default)]
pub struct Plan {
    /// In the order in which they are asked.
    pub candidates: Vec<Planned>,
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
            let keys = match provider.auth {
                Auth::None => Some(Ok(Vec::new())),
                _ => key(&provider.slug),
            };
            let has_key = keys.is_some();
            match keys.unwrap_or_else(|| Err(format!("this workspace has no key for {}", provider.slug))) {
                Ok(keys) => plan.at_hand.push(AtHand::new(&provider, keys)),
                Err(reason) => lacking.push(Lacking { provider, reason, has_key }),
            }
        }
        plan.clients = Some(Clients { lacking });
        plan
    }

    /// The same of somebody's keys alone, beside a plan that has every provider: only those for which `key` has one.
    pub fn of_keys(catalog: &Catalog, key: &dyn Fn(&Slug) -> Option<KeyAtHand>) -> Plan {
        let mut plan = Plan::default();
        let mut lacking = Vec::new();
        for provider in catalog.providers().filter(|provider| provider.auth != Auth::None) {
            match key(&provider.slug) {
                Some(Ok(keys)) => plan.at_hand.push(AtHand::new(provider, keys)),
                Some(Err(reason)) => {
                    let provider = Arc::new(provider.clone());
                    lacking.push(Lacking { provider, reason, has_key: true });
                }
                None => {}
            }
        }
        plan.clients = Some(Clients { lacking });
        plan
    }

    /// Adds a model. One that is named twice, or overridden by itself, is asked once.
    fn add(&mut self, planned: Planned) {
        if !self.candidates.iter().any(|known| known.is_same_as(&planned)) {
            self.candidates.push(planned);
        }
    }

    /// Has the models of one provider asked before all others, which are `steps` behind them; each as before among its own,
    /// and in this dialect where nothing else was said of it.
    fn ask_first(&mut self, provider: &Slug, dialect: Option<Dialect>, steps: u32) {
        for planned in &mut self.candidates {
            match planned.provider.slug == *provider {
                true => planned.dialect = planned.dialect.or(dialect),
                false => planned.step = planned.step.saturating_add(steps),
            }
        }
        self.candidates.sort_by_key(|planned| planned.step);
    }

    /// Providers that clients could ask if they had a usable key, and what is wrong with it.
    pub fn lacking(&self) -> impl Iterator<Item = (&Provider, &str)> {
        let lacking = self.clients.iter().flat_map(|clients| &clients.lacking);
        lacking.map(|lacking| (&*lacking.provider, lacking.reason.as_str()))
    }

    /// The same without what it has of some providers; `None` where that is all of it.
    #[must_use]
    pub fn without(&self, drops: &dyn Fn(&Slug) -> bool) -> Option<Plan> {
        let lacking = self.clients.iter().flat_map(|clients| &clients.lacking);
        let mut all = self.at_hand.iter().map(|at_hand| &at_hand.provider);
        if !all.any(|provider| drops(&provider.slug)) && !lacking.clone().any(|l| drops(&l.provider.slug)) {
            return None;
        }
        let mut left = self.clone();
        left.at_hand.retain(|at_hand| !drops(&at_hand.provider.slug));
        if let Some(clients) = &mut left.clients {
            clients.lacking.retain(|lacking| !drops(&lacking.provider.slug));
        }
        Some(left)
    }

    /// Whether it has a key of any provider, be it one that cannot be used.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.at_hand.iter().any(|at_hand| !at_hand.keys.is_empty())
            || self.clients.iter().flat_map(|clients| &clients.lacking).any(|lacking| lacking.has_key)
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
    /// Whether there is one, which cannot be used.
    pub(crate) has_key: bool,
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
            Ok(keys) => plan.at_hand.push(AtHand::new(provider, keys)),
            Err(key) => missing.push(key),
        }
    }
    let mut lacking = Vec::new();
    let mut step = 0;
    let preferred = preferred(wishes, &plan);
    let first = preferred.as_ref().ok().and_then(|preferred| preferred.as_ref()?.1.as_ref());
    for name in first.into_iter().chain(models(wishes)) {
        if let Some((route_name, route)) = route_of(wishes.routes, name.as_str()) {
            let (planned, left_out) =
                targets(&plan, wishes.catalog, (route_name, route), step, &mut |resolved| {
                    lacking.extend(missing.iter().find(|key| key.provider == resolved.provider).cloned());
                    not_at_hand(wishes, resolved, &within)
                });
            plan.skipped.extend(left_out);
            planned.into_iter().for_each(|planned| plan.add(planned));
            step += u32::try_from(route.steps().len()).unwrap_or(u32::MAX / 2);
            continue;
        }
        let asked = wishes.model == Some(name);
        let route = match resolve_in(wishes, name, only) {
            Ok(route) => route,
            Err(error) if asked => return Err(PlanError::UnknownModel(error)),
            Err(error) => {
                plan.skipped.push(Skipped::new(name.as_str(), error.to_string()));
                continue;
            }
        };
        match plan.provider(&route.provider) {
            Some(at_hand) => {
                let planned = Planned { step, ..at_hand.routed(route) };
                plan.add(planned);
                step += 1;
            }
            None => {
                lacking.extend(missing.iter().find(|key| key.provider == route.provider).cloned());
                plan.skipped.push(Skipped::new(name.as_str(), not_at_hand(wishes, &route, &within)));
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
    match preferred {
        Ok(Some((provider, _))) => {
            // Whom it prefers may go by the name of a variant.
            let said = wishes.prefer.map(|prefer| prefer.provider.as_str()).unwrap_or_default();
            let dialect = wishes.catalog.provider(said).and_then(|provider| provider.named_dialect(said));
            plan.ask_first(&provider, dialect, step);
        }
        Ok(None) => {}
        Err(skipped) => plan.skipped.push(skipped),
    }
    Ok(plan)
}

/// The provider that comes first, and the model of it that does; or why it does not, though it was to.
fn preferred(wishes: &Wishes<'_>, plan: &Plan) -> Result<Option<(Slug, Option<ModelName>)>, Skipped> {
    let said = wishes.prefer.filter(|_| wishes.provider.is_none() && wishes.model.is_none());
    let Some(Preference { provider: name, model }) = said else { return Ok(None) };
    let skipped = |reason: String| Skipped::new(name, reason);
    let Some(provider) = wishes.catalog.provider(name) else {
        return Err(skipped("there is no such provider here".to_owned()));
    };
    if let Some(reason) = unavailable(wishes, provider) {
        return Err(skipped(reason));
    }
    if plan.provider(&provider.slug).is_none() {
        return Err(skipped(format!("no key for {} (set {})", provider.slug, provider.env.join(" or "))));
    }
    let named = |model: &String| format!("{name}/{model}").parse::<ModelName>();
    let model = model.as_ref().map(named).transpose().map_err(|e| skipped(e.to_string()))?;
    Ok(Some((provider.slug.clone(), model)))
}

/// A model that the plan does not name: its provider must be at hand.
///
/// # Errors
/// Why it cannot be used, for people.
pub(crate) fn outside(plan: &Plan, catalog: &Catalog, asked: &str) -> Result<Planned, String> {
    let name: ModelName = asked.parse().map_err(|e| format!("{e}"))?;
    let route = resolve_model(catalog, &name).map_err(|e| e.to_string())?;
    match plan.provider(&route.provider) {
        Some(at_hand) => Ok(at_hand.routed(route)),
        None => Err(no_key_of(&route.provider)),
    }
}

/// Why a provider is not at hand for a model that no plan names.
pub(crate) fn no_key_of(provider: &Slug) -> String {
    format!("this run has no key for {provider}, or the agent does not support it")
}

/// The route of this name, with its name.
pub(crate) fn route_of<'r>(routes: &'r Routes, name: &str) -> Option<(&'r RouteName, &'r Route)> {
    routes.iter().find(|(known, _)| known.as_str() == name)
}

/// The models of a route, in steps from `first` on, and those that cannot serve: `lacking` says why a model has no
/// provider at hand.
pub(crate) fn targets(
    plan: &Plan,
    catalog: &Catalog,
    route: (&RouteName, &Route),
    first: u32,
    lacking: &mut dyn FnMut(&ModelRoute) -> String,
) -> (Vec<Planned>, Vec<Skipped>) {
    targets_with(catalog, route, first, &mut |target, resolved| {
        // A run's keys are those that it was given, whosever they are.
        let Some(at_hand) = plan.provider(&resolved.provider) else { return Err(lacking(&resolved)) };
        Ok(vec![at_hand.target(resolved, target)?])
    })
}

/// What a target of a route leads to with each of the keys that may serve it, those first that are tried first; or why with
/// none.
pub(crate) type Targeted = Result<Vec<Planned>, String>;

/// The same, where `keyed` finds the keys of each target.
pub(crate) fn targets_with(
    catalog: &Catalog,
    (name, route): (&RouteName, &Route),
    first: u32,
    keyed: &mut dyn FnMut(&Target, ModelRoute) -> Targeted,
) -> (Vec<Planned>, Vec<Skipped>) {
    let (mut planned, mut skipped) = (Vec::new(), Vec::new());
    let mut step = first;
    for targets in route.steps() {
        // Keys that are tried one after another are steps of their own.
        let mut last = step;
        for target in targets {
            let resolved = match resolve_model(catalog, &target.model) {
                Ok(resolved) => resolved,
                // The catalog may have changed since the route was written.
                Err(unknown) => {
                    skipped.push(Skipped::new(target.model.as_str(), unknown.to_string()));
                    continue;
                }
            };
            match keyed(target, resolved) {
                Ok(found) => {
                    let priced_as_model = route.by_operator;
                    for (step, found) in (step..).zip(found) {
                        last = last.max(step);
                        let (on, route) = (route.on, Some(name.clone()));
                        planned.push(Planned { step, on, route, priced_as_model, ..found });
                    }
                }
                Err(reason) => skipped.push(Skipped::new(target.model.as_str(), reason)),
            }
        }
        step = last.saturating_add(1);
    }
    (planned, skipped)
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
) -> Result<ModelRoute, UnknownModel> {
    let mut route = match (only, wishes.model) {
        (Some(provider), Some(asked)) if asked == name => {
            let model = match name.split() {
                (Some(prefix), model) if provider.goes_by(prefix) => model,
                _ => name.as_str(),
            };
            let model = provider.model(model).map_or(model, |known| known.id.as_str());
            let dialect = name.split().0.and_then(|prefix| provider.named_dialect(prefix));
            ModelRoute { provider: provider.slug.clone(), model: model.to_owned(), dialect }
        }
        _ => resolve_model(wishes.catalog, name)?,
    };
    // `--provider` may name a variant.
    if let (Some(provider), Some(asked)) = (only, wishes.provider)
        && provider.slug == route.provider
    {
        route.dialect = route.dialect.or(provider.named_dialect(asked));
    }
    Ok(route)
}

/// Why the provider of a model is not at hand.
fn not_at_hand(wishes: &Wishes<'_>, route: &ModelRoute, within: &dyn Fn(&Provider) -> bool) -> String {
    let Some(provider) = wishes.catalog.provider(route.provider.as_str()) else {
        return format!("{} is not in the catalog", route.provider);
    };
    if !within(provider) {
        return format!("it is {}'s, and --provider asks for another", provider.slug);
    }
    unavailable(wishes, provider)
        .unwrap_or_else(|| format!("no key for {} (set {})", provider.slug, provider.env.join(" or ")))
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

fn key(wishes: &Wishes<'_>, provider: &Provider) -> Result<Vec<Arc<dyn Credential>>, MissingKey> {
    if provider.auth == Auth::None {
        return Ok(Vec::new());
    }
    let keys = (wishes.keys)(&provider.slug);
    match keys.is_empty() {
        false => Ok(keys),
        true => Err(MissingKey { provider: provider.slug.clone(), names: provider.env.clone() }),
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
