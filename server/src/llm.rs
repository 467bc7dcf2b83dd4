//! The LLM gateway over HTTP: `POST /v1/chat/completions`, `POST /v1/messages` and `GET /v1/models`, each under `/api`
//! as well, for clients that belong to no run.
//!
//! A client names its model, and the keys are its workspace's: those that the vault holds, never those of this
//! process's environment. Each call gets a grant and a session of its own, which touch neither disk nor lock; what it
//! came to goes to whoever keeps the books.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::Request;
use http::Response;
use orch_gateway::{Budget, Gateway, Intake, Plan, Receipt, Receipts, Session, Witness};
use orch_manifests::{Limits, RunId, Slug};
use orch_proxy::{Body, Credential, Grant, LiveGrant};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::keeper::{ClientWitness, Keeper};

mod failures;
mod paths;
#[cfg(test)]
mod tests;

pub use failures::refuse;
pub use paths::spoken_at;

/// Longest time of one call, where the configuration has no shorter one. Official clients wait as long.
const LONGEST: Duration = Duration::from_secs(600);
/// Requests of one call, tries at the same provider included.
const REQUESTS: u64 = 16;
/// Requests of one call under way at once: one is tried after another, and the one before may be closing.
const CONCURRENT: u32 = 4;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client {
    /// Whose keys and whose bill.
    pub workspace: Arc<str>,
    /// The id of the token that it came with, or who it is where none is needed. For the records; not a secret.
    pub token: Arc<str>,
}

/// Where the keys of clients are.
enum Keys {
    /// In the vault.
    Vault(Arc<Keeper>),
    /// The simulation's, the same for everybody.
    Simulated(Arc<Plan>),
}

/// What one call may take.
#[derive(Clone, Copy)]
struct Bounds {
    time: Duration,
    tokens: Option<u64>,
    micro_usd: Option<u64>,
}

type Books = Arc<dyn Fn(&Client, Receipt) + Send + Sync>;

/// The gateway for clients.
pub struct Llm {
    gateway: Arc<Gateway>,
    keys: Keys,
    bounds: Bounds,
    books: Books,
    /// What the clients of each workspace hold at this moment.
    intakes: RwLock<HashMap<Arc<str>, Arc<Intake>>>,
}

impl Llm {
    /// The gateway with the keys of the vault. `ceilings` bound each call; `books` gets the receipt of each call when
    /// it has ended, and must not block.
    #[must_use]
    pub fn new(
        gateway: Arc<Gateway>,
        keeper: Arc<Keeper>,
        ceilings: &Limits,
        books: impl Fn(&Client, Receipt) + Send + Sync + 'static,
    ) -> Self {
        Self::with_keys(gateway, Keys::Vault(keeper), ceilings, books)
    }

    /// The gateway over simulated providers: no key is looked for, and nothing leaves this machine. `keys` are the
    /// simulation's.
    pub(crate) fn simulated(
        gateway: Arc<Gateway>,
        keys: &dyn Fn(&Slug) -> Option<Arc<dyn Credential>>,
        ceilings: &Limits,
        books: impl Fn(&Client, Receipt) + Send + Sync + 'static,
    ) -> Self {
        let plan = Plan::for_clients(gateway.catalog(), &|slug| keys(slug).map(Ok));
        Self::with_keys(gateway, Keys::Simulated(Arc::new(plan)), ceilings, books)
    }

    fn with_keys(
        gateway: Arc<Gateway>,
        keys: Keys,
        ceilings: &Limits,
        books: impl Fn(&Client, Receipt) + Send + Sync + 'static,
    ) -> Self {
        let bounds = Bounds {
            time: ceilings.time.map_or(LONGEST, |ceiling| ceiling.min(LONGEST)),
            tokens: ceilings.tokens,
            micro_usd: ceilings.cost_usd.map(|cost| cost.micros()),
        };
        Self { gateway, keys, bounds, books: Arc::new(books), intakes: RwLock::default() }
    }

    /// Answers a client's request at one of the gateway's paths; see [`spoken_at`]. Errors are in the path's dialect.
    pub async fn answer(&self, client: &Client, mut request: Request<Body>) -> Response<Body> {
        paths::drop_prefix(request.uri_mut());
        match self.session(client).await {
            Ok(session) => self.gateway.serve(&session, request).await,
            Err(failure) => {
                let spoken = spoken_at(request.uri().path(), request.headers());
                refuse(spoken.unwrap_or(orch_manifests::Dialect::OpenAiChat), &failure)
            }
        }
    }

    /// The session of one call.
    async fn session(&self, client: &Client) -> Result<Session, Failure> {
        let (plan, witness) = match &self.keys {
            Keys::Vault(keeper) => {
                let plan = Arc::clone(&keeper.providers(&client.workspace).await?.plan);
                let witness = ClientWitness::new(keeper, &client.workspace, &client.token);
                (plan, Some(Arc::new(witness) as Arc<dyn Witness>))
            }
            Keys::Simulated(plan) => (Arc::clone(plan), None),
        };
        let deadline = Instant::now() + self.bounds.time;
        let grant = LiveGrant::without_token(Grant {
            run: RunId::random(),
            workspace: client.workspace.to_string(),
            rules: Vec::new(),
            bindings: Vec::new(),
            requests: REQUESTS,
            concurrent: CONCURRENT,
            expires: deadline,
        });
        let (books, payer) = (Arc::clone(&self.books), client.clone());
        Ok(Session {
            grant,
            plan,
            deadline,
            budget: Budget::new(self.bounds.tokens, self.bounds.micro_usd),
            receipts: Arc::new(Receipts::passed_to(move |receipt| books(&payer, receipt))),
            // What a provider may do for an agent is the agent's to ask and its owner's to grant. A client asks for
            // itself, with its own keys.
            server_tools: true,
            witness,
            intake: self.intake(&client.workspace),
        })
    }

    fn intake(&self, workspace: &Arc<str>) -> Arc<Intake> {
        if let Some(intake) = self.intakes.read().unwrap_or_else(PoisonError::into_inner).get(workspace) {
            return Arc::clone(intake);
        }
        let mut intakes = self.intakes.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(intakes.entry(Arc::clone(workspace)).or_insert_with(Intake::of_clients))
    }
}
