//! A secret of the vault while runs and clients hold it.
//!
//! Its owner may replace it, remove it, or take a grant back while they do. Where the vault is held (`orch serve`) all
//! holders share one [`LiveSecret`], which the keeper changes with the vault: the next use sees what the vault says. A
//! run on the command line keeps what it read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use orch_proxy::{AuthorizeError, Scrubber};
use orch_vault::{Grant, GrantId, Secret, SecretName, SecretSummary, Vault, VaultError};
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::owner::OwnerGrant;

/// One version of a secret, and what its owner says of it now. A use is judged and made from one of these.
pub(crate) struct Current {
    pub(crate) secret: Secret,
    pub(crate) scrubber: Option<Arc<Scrubber>>,
    pub(crate) summary: SecretSummary,
    pub(crate) grants: Vec<OwnerGrant>,
}

impl Current {
    fn new(secret: Secret, summary: SecretSummary) -> Result<Arc<Self>, Failure> {
        let grants = summary.grants.iter().map(OwnerGrant::read).collect::<Result<_, _>>();
        let grants = grants
            .map_err(|why| Failure::usage("secret_invalid", format!("a grant of {}: {why}", summary.name)))?;
        let scrubber = secret.expose(Scrubber::new).map(Arc::new);
        Ok(Arc::new(Self { secret, scrubber, summary, grants }))
    }
}

/// A secret that is held. See the module.
pub(crate) struct LiveSecret {
    name: SecretName,
    /// What it is now, or why it is none any more.
    now: RwLock<Result<Arc<Current>, &'static str>>,
    /// What calls with it cost, by grant, in millionths of a US dollar: what the vault knew when the grant was first
    /// seen here, and all that came since.
    spent: Mutex<BTreeMap<GrantId, u64>>,
}

impl LiveSecret {
    /// A secret as it was opened.
    ///
    /// # Errors
    /// A grant that cannot be enforced.
    pub(crate) fn new(secret: Secret, summary: SecretSummary) -> Result<Arc<Self>, Failure> {
        let name = summary.name.clone();
        let current = Current::new(secret, summary)?;
        let live = Self { name, now: RwLock::new(Err("")), spent: Mutex::default() };
        live.become_current(Ok(current));
        Ok(Arc::new(live))
    }

    pub(crate) fn name(&self) -> &SecretName {
        &self.name
    }

    /// What it is now.
    ///
    /// # Errors
    /// It was removed or has expired.
    pub(crate) fn current(&self) -> Result<Arc<Current>, AuthorizeError> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        let current = now.as_ref().map_err(|why| AuthorizeError::NotPermitted((*why).to_owned()))?;
        match current.summary.expires {
            Some(at) if at <= OffsetDateTime::now_utc() => {
                Err(AuthorizeError::NotPermitted(format!("it expired {at}")))
            }
            _ => Ok(Arc::clone(current)),
        }
    }

    /// Whether a grant still lets who was let use it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, grant: &Grant) -> Result<(), AuthorizeError> {
        let bounded = grant.terms.cost_micro_usd.is_some();
        let spent = if bounded { self.spent().get(&grant.id).copied().unwrap_or_default() } else { 0 };
        let refused = |why| AuthorizeError::NotPermitted(format!("grant {}: {why}", grant.id));
        grant.live_after(spent, OffsetDateTime::now_utc()).map_err(refused)
    }

    /// Counts what a call with it cost.
    pub(crate) fn charge(&self, grant: GrantId, cost_micro_usd: u64) {
        let mut spent = self.spent();
        let total = spent.entry(grant).or_default();
        *total = total.saturating_add(cost_micro_usd);
    }

    fn become_current(&self, now: Result<Arc<Current>, &'static str>) {
        if let Ok(current) = &now {
            let mut spent = self.spent();
            for grant in &current.summary.grants {
                spent.entry(grant.id).or_insert(grant.used.cost_micro_usd);
            }
        }
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn spent(&self) -> std::sync::MutexGuard<'_, BTreeMap<GrantId, u64>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All secrets that are held, by workspace. Changed on the vault's thread alone, so that what is held is what the vault
/// says.
#[derive(Default)]
pub(crate) struct HeldSecrets {
    held: Mutex<HashMap<String, HashMap<SecretName, Weak<LiveSecret>>>>,
}

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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, HashMap<SecretName, Weak<LiveSecret>>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
