//! Which models may serve a run, in which order, and what was left out and why. Pure: decided before any byte leaves.

use std::sync::Arc;

use orch_manifests::{Auth, Catalog, Dialect, Provider, Slug};

use crate::receipt::Skipped;

mod at_hand;
mod candidate;
mod error;
mod making;
pub(crate) mod pick;
mod routed;
#[cfg(test)]
mod tests;

pub use at_hand::{AtHand, KeyAtHand};
pub use candidate::{Candidate, Keyed, Planned};
pub use error::{MissingKey, PlanError};
pub use making::{Preference, Wishes, plan};
pub(crate) use routed::{no_key_of, outside, route_of, targets, targets_with};

/// The models of a run, or of a server's clients.
#[derive(Clone, Default)]
pub struct Plan {
    /// In the order in which they are asked.
    pub candidates: Vec<Planned>,
    /// Models of the manifest that cannot serve, and why; to be said aloud.
    pub skipped: Vec<Skipped>,
    /// Every provider that the run may use.
    pub at_hand: Vec<AtHand>,
    /// Set for clients that belong to no run; see [`Plan::for_clients`].
    pub(crate) clients: Option<Clients>,
}

impl Plan {
    /// The plan of clients that say themselves which model they want: no model is named for them, and every provider
    /// of the catalog is at hand for which `key` has a credential, or that needs none and is an operator's pin.
    /// `key` tells why a credential that is there cannot be used; `None` is no credential at all.
    pub fn for_clients(catalog: &Catalog, key: &dyn Fn(&Slug) -> Option<KeyAtHand>) -> Plan {
        let mut plan = Plan::default();
        let mut lacking = Vec::new();
        for provider in catalog.providers().filter(|provider| !provider.local_only || provider.pinned) {
            let provider = Arc::new(provider.clone());
            let keys = match provider.auth {
                Auth::None => Some(Ok(Vec::new())),
                _ => key(&provider.slug),
            };
            let has_key = keys.is_some();
            match keys.unwrap_or_else(|| Err(format!("this workspace has no key for {}", provider.slug))) {
                Ok(keys) => plan.at_hand.push(AtHand::new(&provider, keys)),
                Err(reason) => lacking.push(Lacking { provider, reason, has_key }),
            }
        }
        plan.clients = Some(Clients { lacking });
        plan
    }

    /// The same of somebody's keys alone, beside a plan that has every provider: only those for which `key` has one.
    pub fn of_keys(catalog: &Catalog, key: &dyn Fn(&Slug) -> Option<KeyAtHand>) -> Plan {
        let mut plan = Plan::default();
        let mut lacking = Vec::new();
        for provider in catalog.providers().filter(|provider| provider.auth != Auth::None) {
            match key(&provider.slug) {
                Some(Ok(keys)) => plan.at_hand.push(AtHand::new(provider, keys)),
                Some(Err(reason)) => {
                    let provider = Arc::new(provider.clone());
                    lacking.push(Lacking { provider, reason, has_key: true });
                }
                None => {}
            }
        }
        plan.clients = Some(Clients { lacking });
        plan
    }

    /// Adds a model. One that is named twice, or overridden by itself, is asked once.
    fn add(&mut self, planned: Planned) {
        if !self.candidates.iter().any(|known| known.is_same_as(&planned)) {
            self.candidates.push(planned);
        }
    }

    /// Has the models of one provider asked before all others, which are `steps` behind them; each as before among its own,
    /// and in this dialect where nothing else was said of it.
    fn ask_first(&mut self, provider: &Slug, dialect: Option<Dialect>, steps: u32) {
        for planned in &mut self.candidates {
            match planned.provider.slug == *provider {
                true => planned.dialect = planned.dialect.or(dialect),
                false => planned.step = planned.step.saturating_add(steps),
            }
        }
        self.candidates.sort_by_key(|planned| planned.step);
    }

    /// Providers that clients could ask if they had a usable key, and what is wrong with it.
    pub fn lacking(&self) -> impl Iterator<Item = (&Provider, &str)> {
        let lacking = self.clients.iter().flat_map(|clients| &clients.lacking);
        lacking.map(|lacking| (&*lacking.provider, lacking.reason.as_str()))
    }

    /// The same without what it has of some providers; `None` where that is all of it.
    #[must_use]
    pub fn without(&self, drops: &dyn Fn(&Slug) -> bool) -> Option<Plan> {
        let lacking = self.clients.iter().flat_map(|clients| &clients.lacking);
        let mut all = self.at_hand.iter().map(|at_hand| &at_hand.provider);
        if !all.any(|provider| drops(&provider.slug)) && !lacking.clone().any(|l| drops(&l.provider.slug)) {
            return None;
        }
        let mut left = self.clone();
        left.at_hand.retain(|at_hand| !drops(&at_hand.provider.slug));
        if let Some(clients) = &mut left.clients {
            clients.lacking.retain(|lacking| !drops(&lacking.provider.slug));
        }
        Some(left)
    }

    /// Whether it has a key of any provider, be it one that cannot be used.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.at_hand.iter().any(|at_hand| !at_hand.keys.is_empty())
            || self.clients.iter().flat_map(|clients| &clients.lacking).any(|lacking| lacking.has_key)
    }

    /// What there is of a key for this provider: the provider with its keys, or why the one that is there cannot be used;
    /// `None` where there is none.
    pub fn key_for(&self, slug: &Slug) -> Option<Result<&AtHand, &str>> {
        if let Some(at_hand) = self.provider(slug) {
            return Some(Ok(at_hand));
        }
        let mut lacking = self.clients.iter().flat_map(|clients| &clients.lacking);
        let lacking = lacking.find(|lacking| lacking.has_key && lacking.provider.slug == *slug)?;
        Some(Err(lacking.reason.as_str()))
    }

    /// The provider with this slug, if the run may use it.
    pub fn provider(&self, slug: &Slug) -> Option<&AtHand> {
        self.at_hand.iter().find(|at_hand| at_hand.provider.slug == *slug)
    }
}

/// What is known of a plan of clients beside what is at hand.
#[derive(Clone, Default)]
pub(crate) struct Clients {
    /// Providers that would be at hand if they had a key.
    pub(crate) lacking: Vec<Lacking>,
}

/// A provider that cannot be asked.
#[derive(Clone)]
pub(crate) struct Lacking {
    pub(crate) provider: Arc<Provider>,
    /// What is wrong with its key, for people.
    pub(crate) reason: String,
    /// Whether there is one, which cannot be used.
    pub(crate) has_key: bool,
}
