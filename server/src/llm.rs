//! The LLM gateway over HTTP: `POST /v1/chat/completions`, `POST /v1/responses`, `POST /v1/messages`, Gemini's
//! `POST /v1beta/models/…`, Cohere's `POST /v2/chat`, `GET /v1/models` and `GET /v1/models/…`, each under `/api` as
//! well, and Ollama's `POST /api/chat` and `GET /api/tags`; embeddings at `POST /v1/embeddings`, Gemini's methods, `POST
//! /v2/embed` and `POST /api/embed`, for clients that belong to no run.
//!
//! A client names its model, and the keys are its workspace's, its member's own, or those that the operator lends, as policy
//! and request say (`docs/byok.md`): those that the vault holds, and of this process's environment those alone that the
//! configuration names. Each call gets a grant and a session of its own, which touch neither disk nor lock; what it
//! came to goes to whoever keeps the books.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{Request, Response};
use orch_gateway::{
    Budget, ByokPolicy, Gateway, Intake, Keyrings, Plan, Preference, Receipts, Session, Witness,
};
use orch_manifests::{Limits, Routes, RunId, ServerTools};
use orch_proxy::{Body, Grant, LiveGrant};
use tokio::time::Instant;

use crate::budgets::Budgets;
use crate::byok;
use crate::caller::{Caller, Scope};
use crate::config::PlatformConfig;
use crate::failure::Failure;
use crate::keeper::{ClientWitness, Keeper, Ring, Rings};
use crate::limits;
use crate::records::{BodyKeeper, recorded};
use crate::redact::Known;
use crate::routing::{Routing, Routings};
use crate::store::Store;
use crate::telemetry::{Parent, TRACEPARENT, Telemetry};
use crate::upstream::Upstream;

mod books;
mod failures;
mod paths;
#[cfg(test)]
mod tests;

use books::{Books, books};
pub(crate) use failures::refuse;
pub(crate) use paths::family_at;

/// Longest time of one call, where the configuration has no shorter one. Official clients wait as long.
const LONGEST: Duration = Duration::from_secs(600);
/// Requests of one call, tries at the same provider included.
const REQUESTS: u64 = 16;
/// Requests of one call under way at once: one is tried after another, and the one before may be closing.
const CONCURRENT: u32 = 4;

/// Where the keys of clients are.
enum Keys {
    /// In the vault.
    Vault(VaultKeys),
    /// The simulation's, the same for everybody.
    Simulated(Arc<Plan>),
}

/// The keys of workspaces and their members, and what the operator lends.
struct VaultKeys {
    keeper: Arc<Keeper>,
    /// The operator's keys that are in the environment.
    lent: Option<Arc<Plan>>,
}

/// What the configuration says of a call.
pub(crate) struct Says<'c> {
    /// What nothing may exceed.
    pub(crate) ceilings: &'c Limits,
    /// The operator's routes.
    pub(crate) routes: &'c Arc<Routes>,
    /// The workspace's policy.
    pub(crate) policy: ByokPolicy,
    /// What the operator lends.
    pub(crate) platform: &'c PlatformConfig,
    /// What the member thinks with.
    pub(crate) preferred: Option<Preference>,
}

/// What one call may take.
struct Bounds {
    time: Duration,
    tokens: Option<u64>,
    micro_usd: Option<u64>,
    network: orch_proxy::Limits,
}

impl Bounds {
    /// What nothing may exceed, nor this call.
    fn of(ceilings: &Limits) -> Self {
        Self {
            time: ceilings.time.map_or(LONGEST, |ceiling| ceiling.min(LONGEST)),
            tokens: ceilings.tokens,
            micro_usd: ceilings.cost_usd.map(|cost| cost.micros()),
            network: limits::of_client(REQUESTS, CONCURRENT, ceilings),
        }
    }
}

/// The keys of one call, and who watches over them.
struct Custody {
    plan: Arc<Plan>,
    keyrings: Keyrings,
    /// Where they lie; none in a simulation.
    rings: Option<Rings>,
    witness: Option<Arc<dyn Witness>>,
}

/// The gateway for clients.
pub(crate) struct Llm {
    gateway: Arc<Gateway>,
    keys: Keys,
    books: Books,
    /// What pays for calls beside their own bounds.
    budgets: Option<Arc<Budgets>>,
    /// What is told of decisions.
    telemetry: Arc<Telemetry>,
    /// What calls go by; none where nothing is stored.
    routings: Option<Arc<Routings>>,
    /// Stands for the run in grants that belong to none. Nobody looks these grants up.
    no_run: RunId,
    /// Calls of a workspace's clients at once, beyond what is usual.
    calls: usize,
    /// What the clients of each workspace hold at this moment.
    intakes: RwLock<HashMap<Arc<str>, Arc<Intake>>>,
}

impl Llm {
    /// The gateway over what stands behind the proxy. The keys are the vault's; over simulated providers they are the
    /// simulation's, and no key is looked for. Each call is recorded in the store.
    pub(crate) fn new(upstream: &Upstream, keeper: Arc<Keeper>, store: Store) -> Self {
        let keys = if upstream.simulation.is_some() {
            let all: Vec<_> = upstream.catalog.providers().collect();
            let simulated = upstream.simulated_keys(&all);
            let plan = Plan::for_clients(&upstream.catalog, &|slug| {
                simulated.get(slug).map(|key| Ok(vec![Arc::clone(key)]))
            });
            Keys::Simulated(Arc::new(plan))
        } else {
            Keys::Vault(VaultKeys { keeper, lent: None })
        };
        Self::with_books(Arc::clone(&upstream.gateway), keys, books(store))
    }

    fn with_books(gateway: Arc<Gateway>, keys: Keys, books: Books) -> Self {
        let telemetry = Arc::default();
        let (budgets, routings, no_run, intakes) = (None, None, RunId::random(), RwLock::default());
        Self { gateway, keys, books, budgets, telemetry, routings, no_run, calls: 0, intakes }
    }

    /// The same, where the operator lends these keys beside those of the vault.
    pub(crate) fn lending(mut self, lent: Option<Arc<Plan>>) -> Self {
        if let Keys::Vault(keys) = &mut self.keys {
            keys.lent = lent;
        }
        self
    }

    /// The same, whose decisions and calls are told.
    pub(crate) fn telling(self, telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry, ..self }
    }

    /// The same, for so many calls of a workspace's clients at once, where that is more than usual.
    pub(crate) fn of_calls(self, calls: usize) -> Self {
        Self { calls, ..self }
    }

    /// The same, whose calls are paid from these budgets.
    pub(crate) fn paid_from(self, budgets: &Arc<Budgets>) -> Self {
        Self { budgets: Some(Arc::clone(budgets)), ..self }
    }

    /// The same, whose calls go by what each workspace's do.
    pub(crate) fn routed(self, routings: Arc<Routings>) -> Self {
        Self { routings: Some(routings), ..self }
    }

    /// Answers a client's request at one of the gateway's paths. A model may be a route's name, of those of the operator or of
    /// the workspace's own. What is asked and answered is kept by `bodies`. What the gateway has to say is said in the path's
    /// dialect.
    ///
    /// # Errors
    /// When the vault cannot be read. [`refuse`] says that in the path's dialect, too.
    pub(crate) async fn answer(
        &self,
        client: &Caller,
        says: &Says<'_>,
        bodies: Option<BodyKeeper>,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        paths::drop_prefix(request.uri_mut());
        let Routing { routes, health } = match &self.routings {
            Some(routings) => routings.of(&client.workspace, says.routes).await?,
            None => Routing::local(says.routes),
        };
        // It is for us, and no provider's.
        let parent = Parent::of_request(request.headers());
        request.headers_mut().remove(TRACEPARENT);
        let session = self.session(client, says).await?;
        let listener = self.telemetry.client(&client.workspace, parent);
        let session = session.with_routes(routes).with_health(health).with_listener(Some(listener));
        let recorder = bodies.map(|bodies| {
            // Whoever's key it turns out to be, none of them is in what is kept.
            let rings =
                [Some(&session.plan), session.keyrings.own.as_ref(), session.keyrings.platform.as_ref()];
            let at_hand = rings.into_iter().flatten().flat_map(|plan| &plan.at_hand);
            let keys = at_hand.flat_map(|at_hand| at_hand.keys.iter().cloned());
            bodies.without(Arc::new(Known::holding(keys.collect())))
        });
        let answer = async |request| self.gateway.serve(&session, request).await;
        Ok(recorded(recorder.as_ref(), request, answer).await)
    }

    /// The session of one call.
    async fn session(&self, client: &Caller, says: &Says<'_>) -> Result<Session, Failure> {
        let bounds = Bounds::of(says.ceilings);
        let Custody { plan, keyrings, rings, witness } = self.custody(client, says).await?;
        let deadline = Instant::now() + bounds.time;
        // Whatever is in a client's decisions is the gateway's own.
        let told = self.telemetry.hearing(&client.workspace, Arc::default(), |_| {});
        let grant = Grant {
            run: self.no_run.clone(),
            workspace: client.workspace.to_string(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            limits: bounds.network,
            expires: deadline,
        };
        let grant = LiveGrant::telling(grant, told);
        if let (Keys::Vault(VaultKeys { keeper, .. }), Some(rings)) = (&self.keys, &rings) {
            for ring in [Some(&rings.team), Some(&rings.own), rings.platform.as_ref()].into_iter().flatten() {
                keeper.held().follow(&ring.part, &grant);
            }
        }
        let (books, payer) = (Arc::clone(&self.books), client.clone());
        let budget = Budget::new(bounds.tokens, bounds.micro_usd);
        // The keys are the workspace's, and what providers do by themselves reaches beyond them: not every token may.
        let server_tools = match client.may(Scope::LlmTools) {
            true => ServerTools::ALL,
            false => ServerTools::NONE,
        };
        Ok(Session::new(grant, plan, deadline, budget)
            .with_receipts(Arc::new(Receipts::passed_to(move |receipt| books(&payer, receipt))))
            .with_treasury(
                self.budgets.as_ref().map(|budgets| budgets.account(&client.workspace, &client.name, None)),
            )
            .with_server_tools(server_tools)
            .with_keyrings(keyrings)
            .with_preferred(says.preferred.clone())
            .with_witness(witness)
            .with_intake(self.intake(&client.workspace)))
    }

    /// Whose keys a call may be made with. What the request itself says of that is read by the gateway.
    async fn custody(&self, client: &Caller, says: &Says<'_>) -> Result<Custody, Failure> {
        let policy = says.policy;
        let VaultKeys { keeper, lent } = match &self.keys {
            Keys::Vault(keys) => keys,
            Keys::Simulated(plan) => {
                // Nobody has any, and everybody is answered.
                let all = || Some(Arc::clone(plan));
                let keyrings = Keyrings { policy, own: all(), platform: all() };
                return Ok(Custody { plan: Arc::clone(plan), keyrings, rings: None, witness: None });
            }
        };
        let rings = Rings {
            team: Ring::team(&client.workspace),
            own: Ring::own(&client.workspace, &client.name),
            platform: byok::platform_ring(says.platform, &client.workspace),
        };
        let plan = Arc::clone(&keeper.keys_of(&rings.team).await?.plan);
        let own = Some(Arc::clone(&keeper.keys_of(&rings.own).await?.plan)).filter(|plan| plan.has_keys());
        let platform = match &rings.platform {
            Some(ring) => Some(byok::lent(&keeper.keys_of(ring).await?.plan, says.platform)),
            None => lent.clone(),
        };
        let keyrings = Keyrings { policy, own, platform: platform.filter(|plan| plan.has_keys()) };
        let witness = ClientWitness::new(keeper, rings.clone(), &client.id);
        let witness = Some(Arc::new(witness) as Arc<dyn Witness>);
        Ok(Custody { plan, keyrings, rings: Some(rings), witness })
    }

    fn intake(&self, workspace: &Arc<str>) -> Arc<Intake> {
        if let Some(intake) = self.intakes.read().unwrap_or_else(PoisonError::into_inner).get(workspace) {
            return Arc::clone(intake);
        }
        let mut intakes = self.intakes.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(intakes.entry(Arc::clone(workspace)).or_insert_with(|| Intake::of_clients(self.calls)))
    }
}
