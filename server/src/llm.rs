//! The LLM gateway over HTTP: `POST /v1/chat/completions`, `POST /v1/responses`, `POST /v1/messages`, Gemini's
//! `POST /v1beta/models/…`, Cohere's `POST /v2/chat`, `GET /v1/models` and `GET /v1/models/…`, each under `/api` as
//! well, and Ollama's `POST /api/chat` and `GET /api/tags`; embeddings at `POST /v1/embeddings`, Gemini's methods, `POST
//! /v2/embed` and `POST /api/embed`, for clients that belong to no run.
//!
//! A client names its model, and the keys are its workspace's: those that the vault holds, never those of this
//! process's environment. Each call gets a grant and a session of its own, which touch neither disk nor lock; what it
//! came to goes to whoever keeps the books.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{Request, Response};
use orch_gateway::{Budget, Gateway, Intake, Plan, Receipts, Session, Witness};
use orch_manifests::{Limits, Routes, RunId, ServerTools};
use orch_proxy::{Body, Grant, LiveGrant};
use tokio::time::Instant;

use crate::budgets::Budgets;
use crate::caller::{Caller, Scope};
use crate::failure::Failure;
use crate::keeper::{ClientWitness, Keeper};
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
    Vault(Arc<Keeper>),
    /// The simulation's, the same for everybody.
    Simulated(Arc<Plan>),
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
            Keys::Vault(keeper)
        };
        Self::with_books(Arc::clone(&upstream.gateway), keys, books(store))
    }

    fn with_books(gateway: Arc<Gateway>, keys: Keys, books: Books) -> Self {
        let telemetry = Arc::default();
        let (budgets, routings, no_run, intakes) = (None, None, RunId::random(), RwLock::default());
        Self { gateway, keys, books, budgets, telemetry, routings, no_run, calls: 0, intakes }
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

    /// Answers a client's request at one of the gateway's paths, within `ceilings`. A model may be a
    /// route's name, of these of the operator or of the workspace's own. What is asked and answered is kept by `bodies`.
    /// What the gateway has to say is said in the path's dialect.
    ///
    /// # Errors
    /// When the vault cannot be read. [`refuse`] says that in the path's dialect, too.
    pub(crate) async fn answer(
        &self,
        client: &Caller,
        ceilings: &Limits,
        operators: &Arc<Routes>,
        bodies: Option<BodyKeeper>,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        paths::drop_prefix(request.uri_mut());
        let Routing { routes, health } = match &self.routings {
            Some(routings) => routings.of(&client.workspace, operators).await?,
            None => Routing::local(operators),
        };
        // It is for us, and no provider's.
        let parent = Parent::of_request(request.headers());
        request.headers_mut().remove(TRACEPARENT);
        let session = self.session(client, &Bounds::of(ceilings)).await?;
        let listener = self.telemetry.client(&client.workspace, parent);
        let session = session.with_routes(routes).with_health(health).with_listener(Some(listener));
        let recorder = bodies.map(|bodies| {
            let keys = session.plan.at_hand.iter().flat_map(|at_hand| at_hand.keys.iter().cloned());
            bodies.without(Arc::new(Known::holding(keys.collect())))
        });
        let answer = async |request| self.gateway.serve(&session, request).await;
        Ok(recorded(recorder.as_ref(), request, answer).await)
    }

    /// The session of one call.
    async fn session(&self, client: &Caller, bounds: &Bounds) -> Result<Session, Failure> {
        let (plan, witness) = match &self.keys {
            Keys::Vault(keeper) => {
                let plan = Arc::clone(&keeper.providers(&client.workspace).await?.plan);
                let witness = ClientWitness::new(keeper, &client.workspace, &client.id);
                (plan, Some(Arc::new(witness) as Arc<dyn Witness>))
            }
            Keys::Simulated(plan) => (Arc::clone(plan), None),
        };
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
        if let Keys::Vault(keeper) = &self.keys {
            keeper.held().follow(&client.workspace, &grant);
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
            .with_witness(witness)
            .with_intake(self.intake(&client.workspace)))
    }

    fn intake(&self, workspace: &Arc<str>) -> Arc<Intake> {
        if let Some(intake) = self.intakes.read().unwrap_or_else(PoisonError::into_inner).get(workspace) {
            return Arc::clone(intake);
        }
        let mut intakes = self.intakes.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(intakes.entry(Arc::clone(workspace)).or_insert_with(|| Intake::of_clients(self.calls)))
    }
}
