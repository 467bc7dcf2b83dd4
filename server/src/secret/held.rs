//! Everything of the vault that runs and clients hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use orch_manifests::RunId;
use orch_proxy::LiveGrant;
use orch_vault::{AuditEvent, SecretName, Vault, VaultError};

use super::tally::Tally;
use super::{Current, LiveSecret};
use crate::failure::Failure;

/// Calls of a workspace's clients that are remembered before those that are over are looked for.
const SWEEP: usize = 64;

/// All secrets that are held, by workspace. Changed on the vault's thread alone, so that what is held is what the vault
/// says.
#[derive(Default)]
pub(crate) struct HeldSecrets {
    held: Mutex<Held>,
    tallies: Mutex<BTreeMap<TallyOf, Arc<Tally>>>,
    clients: Mutex<HashMap<Arc<str>, Followed>>,
}

/// The grants of clients' calls. Those that are over are forgotten when the list has doubled since the last time.
#[derive(Default)]
struct Followed {
    calls: Vec<Weak<LiveGrant>>,
    next_sweep: usize,
}

type Held = HashMap<String, HashMap<SecretName, Weak<LiveSecret>>>;

/// Workspace, secret and host.
type TallyOf = (String, SecretName, String);

impl HeldSecrets {
    /// The secret of this name that is held already, or a new one of what `vault` says. None when there is none.
    ///
    /// # Errors
    /// The vault's, or a grant that cannot be enforced.
    pub(crate) fn open(&self, vault: &Vault, name: &SecretName) -> Result<Option<Arc<LiveSecret>>, Failure> {
        let Some((secret, summary)) = vault.open_secret(name)? else { return Ok(None) };
        let mut held = self.lock();
        let held = held.entry(vault.workspace().to_owned()).or_default();
        if let Some(live) = held.get(name).and_then(Weak::upgrade) {
            live.become_current(Ok(Current::new(secret, summary)?));
            return Ok(Some(live));
        }
        let live = LiveSecret::new(secret, summary)?;
        held.insert(name.clone(), Arc::downgrade(&live));
        Ok(Some(live))
    }

    /// Brings everything that is held of a workspace up to what its vault says now, and forgets what nobody holds.
    pub(crate) fn refresh(&self, vault: &Vault) {
        let mut held = self.lock();
        let Some(secrets) = held.get_mut(vault.workspace()) else { return };
        secrets.retain(|name, live| {
            let Some(live) = live.upgrade() else { return false };
            live.become_current(match vault.open_secret(name) {
                Ok(Some((secret, summary))) => {
                    Current::new(secret, summary).map_err(|_| "a grant of it cannot be enforced")
                }
                Ok(None) => Err("it was removed"),
                Err(VaultError::Expired { .. }) => Err("it has expired"),
                Err(_) => Err("the vault cannot be read"),
            });
            true
        });
        if secrets.is_empty() {
            held.remove(vault.workspace());
        }
    }

    /// The runs under way that hold a secret.
    pub(crate) fn holders(&self, workspace: &str, name: &SecretName) -> Vec<RunId> {
        let live = self.lock().get(workspace).and_then(|secrets| secrets.get(name)?.upgrade());
        let Some(live) = live else { return Vec::new() };
        let mut runs = live.holders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        runs.sort_unstable();
        runs.dedup();
        runs
    }

    /// Where the uses of a secret by clients are counted.
    pub(crate) fn tally(&self, workspace: &str, name: &SecretName, host: &str) -> Arc<Tally> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let of = (workspace.to_owned(), name.clone(), host.to_owned());
        Arc::clone(tallies.entry(of).or_default())
    }

    /// The uses by clients that are not on record yet, by workspace. They are the caller's to put there.
    pub(crate) fn take_counts(&self) -> BTreeMap<String, Vec<AuditEvent>> {
        let mut counts: BTreeMap<String, Vec<AuditEvent>> = BTreeMap::new();
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        for ((workspace, name, host), tally) in &*tallies {
            let events = tally.take(name, host);
            if !events.is_empty() {
                counts.entry(workspace.clone()).or_default().extend(events);
            }
        }
        counts
    }

    /// Remembers a client's call while it is under way, so that it can be cut.
    pub(crate) fn follow(&self, workspace: &Arc<str>, call: &Arc<LiveGrant>) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = match clients.get_mut(workspace) {
            Some(followed) => followed,
            None => clients.entry(Arc::clone(workspace)).or_default(),
        };
        if followed.calls.len() >= followed.next_sweep {
            followed.calls.retain(|call| call.strong_count() > 0);
            followed.next_sweep = (2 * followed.calls.len()).max(SWEEP);
        }
        followed.calls.push(Arc::downgrade(call));
    }

    /// Ends what of the clients' calls under way carries the credential of this id. Says how many exchanges.
    pub(crate) fn cut_clients(&self, workspace: &str, id: &str) -> usize {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(followed) = clients.get(workspace) else { return 0 };
        followed.calls.iter().filter_map(Weak::upgrade).map(|call| call.cut_carrying(id)).sum()
    }

    #[cfg(test)]
    pub(super) fn followed(&self, workspace: &str) -> usize {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(workspace).map_or(0, |followed| followed.calls.len())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
