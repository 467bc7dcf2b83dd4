//! Makes the plan of a run: from what its manifest, its caller and its keys say.

use std::sync::Arc;

use orch_manifests::{
    Auth, Catalog, Llm, ModelName, ModelRoute, Provider, Routes, Slug, Supported, UnknownModel, resolve_model,
};
use orch_proxy::Credential;
use serde::{Deserialize, Serialize};

use super::routed::{route_of, targets};
use super::{AtHand, MissingKey, Plan, PlanError, Planned};
use crate::receipt::Skipped;

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
