//! One run, as the gateway sees it; or one call of a client that belongs to no run.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use orch_manifests::{Routes, ServerTools};
use orch_proxy::LiveGrant;
use tokio::time::Instant;

use crate::byok::Keyrings;
use crate::health::Health;
use crate::intake::Intake;
use crate::ir::ApiError;
use crate::listener::Listener;
use crate::plan::{Candidate, Plan, Preference};
use crate::purse::Treasury;
use crate::reach::OwnAnswers;
use crate::receipt::Receipts;
use crate::usage::Budget;

/// What all LLM calls of one run share. Cloning is cheap and shares it.
#[derive(Clone)]
pub struct Session {
    /// What the run may do, and its ledger.
    pub grant: Arc<LiveGrant>,
    /// Which models may serve it, with which credentials.
    pub plan: Arc<Plan>,
    /// Whose keys beside the plan's may serve a client, and when; nobody's serve a run.
    pub keyrings: Keyrings,
    /// What a client that names no model thinks with; nobody's in a run, whose plan says that.
    pub preferred: Option<Preference>,
    /// Logical names that stand for models.
    pub routes: Arc<Routes>,
    /// What is known of how its keys fare.
    pub health: Arc<Health>,
    /// When the run is over; no call outlives it.
    pub deadline: Instant,
    /// What it may spend.
    pub budget: Arc<Budget>,
    /// Who keeps the budgets that others share with it.
    pub treasury: Option<Arc<dyn Treasury>>,
    /// What happened.
    pub receipts: Arc<Receipts>,
    /// What providers may do by themselves for it: the capability `llm.server_tools` of a run, the scope `llm:tools` of
    /// a client.
    pub server_tools: ServerTools,
    /// Answers that it got itself, which it may go on from.
    pub own: Arc<OwnAnswers>,
    /// Who hears of each use of a credential before it happens.
    pub witness: Option<Arc<dyn Witness>>,
    /// What its calls may hold.
    pub intake: Arc<Intake>,
    /// Who hears of each call while it happens.
    pub listener: Option<Arc<dyn Listener>>,
}

/// Hears of each use of a credential before its first byte leaves, and may forbid it.
pub trait Witness: Send + Sync {
    /// A request to this candidate is about to be sent.
    ///
    /// # Errors
    /// What the client is told instead; no other candidate is asked then.
    fn before_use<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<(), ApiError>>;
}

impl Session {
    /// A session that nothing has happened in yet: that of a run, until the methods below say otherwise. Its receipts are
    /// kept, its calls hold what a run's may, nobody hears of its uses, and providers run no tools for it.
    #[must_use]
    pub fn new(grant: Arc<LiveGrant>, plan: Arc<Plan>, deadline: Instant, budget: Arc<Budget>) -> Session {
        Session {
            grant,
            plan,
            keyrings: Keyrings::default(),
            preferred: None,
            routes: Arc::default(),
            health: Arc::default(),
            deadline,
            budget,
            treasury: None,
            receipts: Arc::new(Receipts::new()),
            server_tools: ServerTools::NONE,
            own: Arc::default(),
            witness: None,
            intake: Intake::of_run(),
            listener: None,
        }
    }

    /// The same, whose calls may be made with these keys as well.
    #[must_use]
    pub fn with_keyrings(self, keyrings: Keyrings) -> Session {
        Session { keyrings, ..self }
    }

    /// The same, whose calls go to this model where they name none.
    #[must_use]
    pub fn with_preferred(self, preferred: Option<Preference>) -> Session {
        Session { preferred, ..self }
    }

    /// The same, for which these logical names stand for models.
    #[must_use]
    pub fn with_routes(self, routes: Arc<Routes>) -> Session {
        Session { routes, ..self }
    }

    /// The same, which shares what is known of how keys fare.
    #[must_use]
    pub fn with_health(self, health: Arc<Health>) -> Session {
        Session { health, ..self }
    }

    /// The same, whose receipts go here.
    #[must_use]
    pub fn with_receipts(self, receipts: Arc<Receipts>) -> Session {
        Session { receipts, ..self }
    }

    /// The same, whose calls are paid from these budgets as well.
    #[must_use]
    pub fn with_treasury(self, treasury: Option<Arc<dyn Treasury>>) -> Session {
        Session { treasury, ..self }
    }

    /// The same, for which providers may do these by themselves.
    #[must_use]
    pub fn with_server_tools(self, server_tools: ServerTools) -> Session {
        Session { server_tools, ..self }
    }

    /// The same, of whose uses of credentials this one hears before they happen.
    #[must_use]
    pub fn with_witness(self, witness: Option<Arc<dyn Witness>>) -> Session {
        Session { witness, ..self }
    }

    /// The same, whose calls hold at most what this lets them.
    #[must_use]
    pub fn with_intake(self, intake: Arc<Intake>) -> Session {
        Session { intake, ..self }
    }
    /// The same, of whose calls this one hears while they happen.
    #[must_use]
    pub fn with_listener(self, listener: Option<Arc<dyn Listener>>) -> Session {
        Session { listener, ..self }
    }
}
