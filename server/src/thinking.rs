//! Which models a run may think with: from the manifest and the caller's word to the gateway's plan and session.

use std::sync::Arc;

use orch_gateway::{Budget, Listener, Plan, PlanError, Preference, Session, Treasury, Wishes, Witness};
use orch_manifests::{
    Catalog, Manifest, ModelName, Provider, Routes, ServerTools, nearest_provider, resolve_model,
};
use orch_proxy::LiveGrant;
use tokio::time::Instant;

use crate::failure::{Failure, Kind};
use crate::keys::Keys;
use crate::limits::RunLimits;
use crate::routing::Routing;
use crate::run::RunRequest;

/// The models that are asked for, and the providers that may serve them.
pub(crate) struct WantedModels<'c> {
    catalog: &'c Catalog,
    /// The caller's `--model`.
    model: Option<ModelName>,
    /// The caller's `--provider`.
    only: Option<String>,
    /// What the caller thinks with first.
    prefer: Option<Preference>,
    /// Every provider that the run may use, the primary's first.
    providers: Vec<&'c Provider>,
}

/// The models that a name stands for: those of a route, or the one that is called so.
fn models_of<'n>(name: &'n ModelName, routes: &'n Routes) -> Vec<&'n ModelName> {
    match routes.get(name.as_str()) {
        Some(route) => route.steps().into_iter().flatten().map(|target| &target.model).collect(),
        None => vec![name],
    }
}

impl<'c> WantedModels<'c> {
    /// Reads the manifest and the caller's `--model` and `--provider`.
    ///
    /// # Errors
    /// When a provider or model is not known, or the agent does not support the provider that the caller wants.
    pub(crate) fn of(request: &RunRequest, catalog: &'c Catalog, routes: &Routes) -> Result<Self, Failure> {
        let manifest = &request.agent.manifest;
        let model = request.model.as_deref().map(str::parse::<ModelName>).transpose();
        let model = model.map_err(|e| Failure::usage("model_unknown", format!("--model: {e}")))?;
        let only = match request.provider.as_deref() {
            Some(name) => Some(catalog.provider(name).ok_or_else(|| unknown_provider(catalog, name))?),
            None => None,
        };
        let llm = manifest.llm.as_ref();
        let named = model
            .iter()
            .chain(llm.map(|llm| &llm.primary))
            .chain(llm.into_iter().flat_map(|llm| &llm.fallbacks));
        let planned = named
            .flat_map(|name| models_of(name, routes))
            .filter_map(|name| catalog.provider(resolve_model(catalog, name).ok()?.provider.as_str()));

        let mut providers: Vec<&Provider> = Vec::new();
        for provider in only.into_iter().chain(planned).chain(catalog.providers()) {
            let known = providers.iter().any(|p| p.slug == provider.slug);
            let wanted = only.is_none_or(|only| only.slug == provider.slug);
            if !known && wanted && manifest.supported_providers.allows(provider) {
                providers.push(provider);
            }
        }
        let prefer = request.prefer.clone();
        // As it was said: a variant's name asks for its dialect.
        let only = only.and_then(|_| request.provider.clone());
        Ok(Self { catalog, model, only, prefer, providers })
    }

    /// Every provider that the run may use, the primary's first.
    pub(crate) fn providers(&self) -> &[&'c Provider] {
        &self.providers
    }
}

fn unknown_provider(catalog: &Catalog, name: &str) -> Failure {
    let known: Vec<String> = catalog.providers().map(|provider| provider.slug.to_string()).collect();
    let failure =
        Failure::usage("provider_unknown", format!("--provider {name:?}: there is no such provider"));
    let failure = match nearest_provider(catalog.providers(), name) {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => failure,
    };
    failure.hint(format!("known providers: {}", known.join(", ")))
}

/// Who has a say in a run's calls, or hears of them.
#[derive(Default)]
pub(crate) struct Watched {
    /// Who pays for them beside the run's own limits.
    pub(crate) treasury: Option<Arc<dyn Treasury>>,
    /// Who hears of uses of keys before they happen.
    pub(crate) witness: Option<Arc<dyn Witness>>,
    /// Who hears of the calls while they happen.
    pub(crate) listener: Option<Arc<dyn Listener>>,
}

/// The plan of a run: which candidates serve it, in order, and what was left out.
pub(crate) struct Thinking {
    plan: Arc<Plan>,
    routing: Routing,
}

impl Thinking {
    /// Decides the plan before any byte leaves. `local` says whether providers on this machine may serve without a
    /// pin: in the user's own runs, except simulated ones, which must reach nothing real.
    ///
    /// # Errors
    /// When no model of the plan can be used: no key, an unknown model, or a provider that does not fit.
    pub(crate) fn plan(
        manifest: &Manifest,
        wanted: &WantedModels<'_>,
        keys: &Keys,
        local: bool,
        routing: Routing,
    ) -> Result<Self, Failure> {
        let plan = orch_gateway::plan(&Wishes {
            llm: manifest.llm.as_ref(),
            supported: &manifest.supported_providers,
            catalog: wanted.catalog,
            keys: &|slug| keys.of(slug),
            routes: &routing.routes,
            provider: wanted.only.as_deref(),
            model: wanted.model.as_ref(),
            prefer: wanted.prefer.as_ref(),
            local,
        })
        .map_err(|error| plan_failure(&error, keys))?;
        Ok(Self { plan: Arc::new(plan), routing })
    }

    /// What was left out of the plan, and why; said before the run.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> {
        self.plan.skipped.iter().map(|skipped| format!("{} is not used: {}", skipped.model, skipped.reason))
    }

    /// Whether the run can think at all.
    pub(crate) fn has_models(&self) -> bool {
        !self.plan.candidates.is_empty() || !self.plan.at_hand.is_empty()
    }

    /// The run's session with the gateway; none when it cannot think.
    pub(crate) fn session(
        &self,
        grant: &Arc<LiveGrant>,
        limits: &RunLimits,
        deadline: Instant,
        server_tools: ServerTools,
        Watched { treasury, witness, listener }: Watched,
    ) -> Option<Arc<Session>> {
        self.has_models().then(|| {
            let budget = Budget::new(Some(limits.tokens), limits.cost.map(|cost| cost.micros()));
            let session = Session::new(Arc::clone(grant), Arc::clone(&self.plan), deadline, budget);
            let Routing { routes, health } = self.routing.clone();
            let session = session.with_treasury(treasury).with_server_tools(server_tools);
            let session = session.with_routes(routes).with_health(health).with_witness(witness);
            Arc::new(session.with_listener(listener))
        })
    }
}

fn plan_failure(error: &PlanError, keys: &Keys) -> Failure {
    let (kind, code) = match error {
        PlanError::NoKey(_) => (Kind::NoKey, "no_key"),
        PlanError::UnknownProvider { .. } => (Kind::Usage, "provider_unknown"),
        PlanError::Provider { .. } => (Kind::Usage, "provider_unsupported"),
        PlanError::UnknownModel(_) => (Kind::Usage, "model_unknown"),
        PlanError::NoCandidate(_) => (Kind::Usage, "no_candidate"),
    };
    let failure = Failure::new(kind, code, error.to_string());
    let failure = error.hints().into_iter().fold(failure, Failure::hint);
    if kind != Kind::NoKey {
        return failure;
    }
    let looked: Vec<String> = keys
        .missing
        .iter()
        .map(|missing| {
            let places: Vec<String> =
                missing.looked_for.iter().map(|place| format!("{}:{}", place.source, place.name)).collect();
            format!("{}: {}", missing.provider, places.join(", "))
        })
        .collect();
    failure.detail("looked_for", looked).hint("try it without a key: add --simulate")
}
