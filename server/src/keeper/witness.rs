//! The gateway's uses of the vault's keys, each on record before its first byte leaves.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use orch_gateway::ir::{ApiError, Class};
use orch_gateway::{Candidate, Witness};
use orch_manifests::{RunId, Whose};
use orch_proxy::Credential;
use orch_vault::{PlannedUse, SecretName, Source};
use tokio::sync::OnceCell;

use super::{Keeper, Ring, name_of};
use crate::failure::Failure;

/// What one token was seen to use so far: secret, host, and whether that is on record.
#[derive(Default)]
pub(super) struct Seen {
    uses: RwLock<Vec<SeenUse>>,
}

struct SeenUse {
    secret: String,
    host: String,
    recorded: Arc<OnceCell<()>>,
}

impl Seen {
    /// The entry of a use, made when it is new. A token uses a handful of them.
    fn entry(&self, secret: &str, host: &str) -> Arc<OnceCell<()>> {
        let find = |uses: &[SeenUse]| {
            let found = uses.iter().find(|seen| seen.secret == secret && seen.host == host);
            found.map(|seen| Arc::clone(&seen.recorded))
        };
        if let Some(found) = find(&self.uses.read().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        let mut uses = self.uses.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been quicker.
        find(&uses).unwrap_or_else(|| {
            let recorded = Arc::default();
            let seen =
                SeenUse { secret: secret.to_owned(), host: host.to_owned(), recorded: Arc::clone(&recorded) };
            uses.push(seen);
            recorded
        })
    }
}

/// Tokens, and what each was seen to use.
pub(super) type SeenByToken = RwLock<HashMap<Arc<str>, Arc<Seen>>>;

/// The parts of the vault that a client's keys lie in.
#[derive(Clone)]
pub(crate) struct Rings {
    pub(crate) team: Ring,
    pub(crate) own: Ring,
    /// None where the operator lends nothing out of the vault.
    pub(crate) platform: Option<Ring>,
}

impl Rings {
    fn part(&self, whose: Whose) -> &Arc<str> {
        match (whose, &self.platform) {
            (Whose::Own, _) => &self.own.part,
            (Whose::Platform, Some(platform)) => &platform.part,
            (Whose::Team | Whose::Platform, _) => &self.team.part,
        }
    }
}

/// Puts a client's uses on record: one record per token, secret and host for the life of the keeper. Each is on record where
/// the secret lies.
pub(crate) struct ClientWitness {
    keeper: Arc<Keeper>,
    rings: Rings,
    /// Who uses it, as the record has it.
    by: String,
    /// Whether the uses of the team's keys are on record already.
    team_is_planned: bool,
    seen: Arc<Seen>,
}

impl ClientWitness {
    /// The witness of the calls that come with this token, which is named by its id.
    pub(crate) fn new(keeper: &Arc<Keeper>, rings: Rings, token: &Arc<str>) -> Self {
        Self {
            keeper: Arc::clone(keeper),
            rings,
            by: format!("gateway:{token}"),
            team_is_planned: false,
            seen: keeper.seen(token),
        }
    }

    /// The witness of a run's calls, whose uses of the workspace's own keys were planned on record before it.
    pub(crate) fn of_run(keeper: &Arc<Keeper>, rings: Rings, run: &RunId) -> Self {
        let (keeper, by) = (Arc::clone(keeper), run.to_string());
        Self { keeper, rings, by, team_is_planned: true, seen: Arc::default() }
    }

    async fn record(&self, secret: &dyn Credential, host: String) -> Result<(), Failure> {
        let part = self.rings.part(secret.whose());
        let secret: SecretName = name_of(secret.id())
            .parse()
            .map_err(|e| Failure::defect(format!("a key came out of the vault by a wrong name: {e}")))?;
        let planned = PlannedUse { run: self.by.clone(), secret, host, grant: None };
        self.keeper.record_uses(part, vec![planned]).await
    }
}

impl Witness for ClientWitness {
    fn before_use<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<(), ApiError>> {
        let credential = candidate.credential.as_ref();
        let planned = |held: &dyn Credential| self.team_is_planned && held.whose() == Whose::Team;
        let of_vault = |held: &&Arc<dyn Credential>| held.source() == Source::Vault.as_str();
        let Some(secret) = credential.filter(of_vault).filter(|held| !planned(&***held)) else {
            return std::future::ready(Ok(())).boxed();
        };
        let host = candidate.provider.endpoint.host.to_string();
        let entry = self.seen.entry(secret.id(), &host);
        if entry.initialized() {
            return std::future::ready(Ok(())).boxed();
        }
        async move {
            // Calls that come meanwhile wait for the same record; after a failure the next one tries again.
            let recorded = entry.get_or_try_init(|| self.record(&**secret, host)).await;
            recorded.map_err(|failure| not_on_record(&failure))?;
            Ok(())
        }
        .boxed()
    }
}

fn not_on_record(failure: &Failure) -> ApiError {
    ApiError {
        status: Some(http::StatusCode::SERVICE_UNAVAILABLE.as_u16()),
        code: Some("orch_vault".to_owned()),
        ..ApiError::new(
            Class::Server,
            format!("the use of a key could not be put on record, so it was not used: {failure}"),
        )
    }
}
