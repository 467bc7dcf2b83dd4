//! The gateway's uses of the vault's keys, each on record before its first byte leaves.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use orch_gateway::ir::{ApiError, Class};
use orch_gateway::{Candidate, Witness};
use orch_vault::{PlannedUse, SecretName, Source};
use tokio::sync::OnceCell;

use super::Keeper;
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

/// Puts a client's uses on record: one record per token, secret and host for the life of the keeper.
pub(crate) struct ClientWitness {
    keeper: Arc<Keeper>,
    workspace: Arc<str>,
    token: Arc<str>,
    seen: Arc<Seen>,
}

impl ClientWitness {
    /// The witness of the calls that come with this token, which is named by its id.
    pub(crate) fn new(keeper: &Arc<Keeper>, workspace: &Arc<str>, token: &Arc<str>) -> Self {
        Self {
            keeper: Arc::clone(keeper),
            workspace: Arc::clone(workspace),
            token: Arc::clone(token),
            seen: keeper.seen(token),
        }
    }

    async fn record(&self, secret: &str, host: String) -> Result<(), Failure> {
        let secret: SecretName = secret
            .parse()
            .map_err(|e| Failure::defect(format!("a key came out of the vault by a wrong name: {e}")))?;
        let planned = PlannedUse { run: format!("gateway:{}", self.token), secret, host, grant: None };
        self.keeper.record_uses(&self.workspace, vec![planned]).await
    }
}

impl Witness for ClientWitness {
    fn before_use<'a>(&'a self, candidate: &'a Candidate) -> BoxFuture<'a, Result<(), ApiError>> {
        let credential = candidate.credential.as_ref();
        let Some(secret) = credential.filter(|held| held.source() == Source::Vault.as_str()) else {
            return std::future::ready(Ok(())).boxed();
        };
        let host = candidate.provider.endpoint.host.to_string();
        let entry = self.seen.entry(secret.id(), &host);
        if entry.initialized() {
            return std::future::ready(Ok(())).boxed();
        }
        async move {
            // Calls that come meanwhile wait for the same record; after a failure the next one tries again.
            let recorded = entry.get_or_try_init(|| self.record(secret.id(), host)).await;
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
