//! How often clients of the gateway used a provider's key, until that is on record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use orch_vault::{AuditEvent, GrantId, SecretName};

/// Stands for the clients of the gateway where a run would be named.
const CLIENTS: &str = "gateway";

/// The uses of a provider's key by clients that are not on record yet.
#[derive(Default)]
pub(crate) struct Tally {
    uses: AtomicU64,
    /// What they cost, by the grant that let them.
    cost: Mutex<BTreeMap<GrantId, u64>>,
}

impl Tally {
    /// One more request carries it.
    pub(crate) fn count(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    /// A call with it cost this much.
    pub(crate) fn charge(&self, grant: GrantId, cost_micro_usd: u64) {
        let mut cost = self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        let total = cost.entry(grant).or_default();
        *total = total.saturating_add(cost_micro_usd);
    }

    /// What goes on record now.
    pub(super) fn take(&self, secret: &SecretName, host: &str) -> Vec<AuditEvent> {
        let uses = self.uses.swap(0, Ordering::Relaxed);
        let cost = std::mem::take(&mut *self.cost.lock().unwrap_or_else(PoisonError::into_inner));
        let event = |uses, grant, cost_micro_usd| AuditEvent::UseCounted {
            run: CLIENTS.to_owned(),
            secret: secret.clone(),
            host: host.to_owned(),
            uses,
            complete: true,
            grant,
            cost_micro_usd,
        };
        let uses = (uses > 0).then(|| event(uses, None, 0));
        uses.into_iter().chain(cost.into_iter().map(|(grant, cost)| event(0, Some(grant), cost))).collect()
    }
}
