//! A secret of the vault while runs and clients hold it.
//!
//! Its owner may replace it, remove it, or take a grant back while they do. Where the vault is held (`orch serve`) all
//! holders share one [`LiveSecret`], which the keeper changes with the vault: the next use sees what the vault says. A
//! run on the command line keeps what it read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use orch_manifests::{Auth, RunId};
use orch_proxy::{AuthorizeError, Hold, Scrubber};
use orch_vault::{Grant, GrantId, Secret, SecretName, SecretSummary};
use time::OffsetDateTime;

use crate::credential::shaped::Parted;
use crate::failure::{Failure, Kind};
use crate::owner::OwnerGrant;

mod held;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use held::HeldSecrets;
pub(crate) use tally::Tally;

/// One version of a secret, and what its owner says of it now. A use is judged and made from one of these.
pub(crate) struct Current {
    pub(crate) secret: Secret,
    /// Finds the whole value.
    whole: Option<Arc<Scrubber>>,
    /// Finds what is seen of it where it is more than a key.
    parted: Parted,
    pub(crate) summary: SecretSummary,
    pub(crate) grants: Vec<OwnerGrant>,
}

impl Current {
    fn new(secret: Secret, summary: SecretSummary) -> Result<Arc<Self>, Failure> {
        let grants = summary.grants.iter().map(OwnerGrant::read).collect::<Result<_, _>>();
        let grants = grants
            .map_err(|why| Failure::usage("secret_invalid", format!("a grant of {}: {why}", summary.name)))?;
        let whole = secret.expose(Scrubber::new).map(Arc::new);
        let parted = Parted::of(&secret);
        Ok(Arc::new(Self { secret, whole, parted, summary, grants }))
    }

    /// Whether it may be a provider's key.
    ///
    /// # Errors
    /// Its owner said to which hosts it may go, which is what is said of other secrets: a name that has become a key's
    /// since takes it nowhere else.
    pub(crate) fn check_is_key(&self) -> Result<(), Failure> {
        if self.grants.iter().all(|grant| grant.target.is_none()) {
            return Ok(());
        }
        let name = &self.summary.name;
        let text = format!("{name} is a secret for the hosts that its owner named, and not a provider's key");
        Err(Failure::new(Kind::Denied, "secret_for_hosts", text).hint(format!("orch secrets set {name}")))
    }

    /// Finds what travels of it where it is used in this way.
    pub(crate) fn scrubber(&self, auth: &Auth) -> Option<Arc<Scrubber>> {
        self.parted.scrubber(auth).or(self.whole.as_ref()).cloned()
    }
}

/// A secret that is held. See the module.
pub(crate) struct LiveSecret {
    name: SecretName,
    /// What it is now, or why it is none any more.
    now: RwLock<Result<Arc<Current>, &'static str>>,
    /// What calls with it cost, by grant.
    money: Mutex<BTreeMap<GrantId, Money>>,
    /// The runs that hold it, each as often as it does.
    holders: Mutex<Vec<RunId>>,
}

impl LiveSecret {
    /// A secret as it was opened.
    ///
    /// # Errors
    /// A grant that cannot be enforced.
    pub(crate) fn new(secret: Secret, summary: SecretSummary) -> Result<Arc<Self>, Failure> {
        let name = summary.name.clone();
        let current = Current::new(secret, summary)?;
        let now = RwLock::new(Err("it is not open yet"));
        let live = Self { name, now, money: Mutex::default(), holders: Mutex::default() };
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
        let spent = if bounded { self.money().get(&grant.id).map_or(0, |money| money.spent) } else { 0 };
        let refused = |why| AuthorizeError::NotPermitted(format!("grant {}: {why}", grant.id));
        grant.live_after(spent, OffsetDateTime::now_utc()).map_err(refused)
    }

    /// What a grant has left for calls beside what is held for those under way; `None` when it bounds no money.
    pub(crate) fn left(&self, grant: &Grant) -> Option<u64> {
        let most = grant.terms.cost_micro_usd?;
        let money = self.money().get(&grant.id).copied().unwrap_or_default();
        Some(most.saturating_sub(money.spent).saturating_sub(money.held))
    }

    /// Holds money of a grant for a call. `None`: not so much is left.
    pub(crate) fn hold(
        self: &Arc<Self>,
        grant: &Grant,
        micro_usd: u64,
        tally: Option<&Arc<Tally>>,
    ) -> Option<HeldMoney> {
        let mut money = self.money();
        let of_grant = money.entry(grant.id).or_default();
        let after = of_grant.spent.saturating_add(of_grant.held).saturating_add(micro_usd);
        if grant.terms.cost_micro_usd.is_some_and(|most| after > most) {
            return None;
        }
        of_grant.held = of_grant.held.saturating_add(micro_usd);
        drop(money);
        Some(HeldMoney { secret: Arc::clone(self), grant: grant.id, held: micro_usd, tally: tally.cloned() })
    }

    fn become_current(&self, now: Result<Arc<Current>, &'static str>) {
        if let Ok(current) = &now {
            let mut money = self.money();
            for grant in &current.summary.grants {
                let known = Money { spent: grant.used.cost_micro_usd, held: 0 };
                money.entry(grant.id).or_insert(known);
            }
        }
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn money(&self) -> MutexGuard<'_, BTreeMap<GrantId, Money>> {
        self.money.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a grant, in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default)]
struct Money {
    /// What the vault knew when the grant was first seen here, and all that came since.
    spent: u64,
    /// For calls under way.
    held: u64,
}

/// Money of a grant that is held for a call, until this is dropped.
pub(crate) struct HeldMoney {
    secret: Arc<LiveSecret>,
    grant: GrantId,
    held: u64,
    /// Where clients' calls are counted.
    tally: Option<Arc<Tally>>,
}

impl Hold for HeldMoney {
    fn spend(&self, cost_micro_usd: u64) {
        if let Some(money) = self.secret.money().get_mut(&self.grant) {
            money.spent = money.spent.saturating_add(cost_micro_usd);
        }
        if let Some(tally) = &self.tally {
            tally.charge(self.grant, cost_micro_usd);
        }
    }
}

impl Drop for HeldMoney {
    fn drop(&mut self) {
        if let Some(money) = self.secret.money().get_mut(&self.grant) {
            money.held = money.held.saturating_sub(self.held);
        }
    }
}

/// A run holds a secret for as long as this is there.
pub(crate) struct Holder {
    secret: Arc<LiveSecret>,
    run: RunId,
}

impl Holder {
    pub(crate) fn of(secret: &Arc<LiveSecret>, run: &RunId) -> Self {
        secret.holders.lock().unwrap_or_else(PoisonError::into_inner).push(run.clone());
        Self { secret: Arc::clone(secret), run: run.clone() }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut holders = self.secret.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = holders.iter().position(|run| *run == self.run) {
            holders.swap_remove(at);
        }
    }
}
