//! A provider with the keys that there are for it.

use std::borrow::Cow;
use std::sync::Arc;

use orch_manifests::{KeyChoice, ModelRoute, OnError, Provider, Target};
use orch_proxy::Credential;

use super::{Candidate, Keyed, Planned};

/// A provider that the run may use, whether or not the plan names a model of it.
#[derive(Clone)]
pub struct AtHand {
    /// The provider.
    pub provider: Arc<Provider>,
    /// Its credentials, the one that stands for all of them first; none for providers that want none.
    pub keys: Vec<Arc<dyn Credential>>,
}

impl AtHand {
    /// A provider where its credentials are for: where the first of them is, and those with it that are for the same place.
    pub fn new(provider: &Provider, mut keys: Vec<Arc<dyn Credential>>) -> AtHand {
        let site = keys.first().and_then(|credential| credential.site());
        if keys.len() > 1 {
            keys.retain(|credential| credential.site() == site);
        }
        // A place that is none is the credential's to refuse.
        let there = site.and_then(|site| provider.at(&site).ok().map(Cow::into_owned));
        AtHand { provider: Arc::new(there.unwrap_or_else(|| provider.clone())), keys }
    }

    /// The credential that stands for all of them.
    pub fn credential(&self) -> Option<&Arc<dyn Credential>> {
        self.keys.first()
    }

    /// A model of this provider, with the credential that stands for all of them.
    pub fn candidate(&self, model: impl Into<String>) -> Candidate {
        Candidate {
            provider: Arc::clone(&self.provider),
            model: model.into(),
            sent: self.provider.deployment.clone(),
            priced_as_model: self.provider.deployment.is_some(),
            credential: self.credential().cloned(),
            dialect: None,
            on: OnError::default(),
            rest: None,
        }
    }

    /// A model of this provider, with all of its keys.
    pub fn planned(&self, model: impl Into<String>) -> Planned {
        let keys = self.keys.iter().map(|key| Keyed { credential: Arc::clone(key), weight: 1 });
        Planned {
            provider: Arc::clone(&self.provider),
            model: model.into(),
            sent: self.provider.deployment.clone(),
            priced_as_model: self.provider.deployment.is_some(),
            keys: keys.collect(),
            dialect: None,
            route: None,
            step: 0,
            weight: 1,
            on: OnError::default(),
        }
    }

    /// The model that a name has led to.
    pub(crate) fn routed(&self, route: ModelRoute) -> Planned {
        Planned { dialect: route.dialect, ..self.planned(route.model) }
    }

    /// The same, as a route's target wants it.
    ///
    /// # Errors
    /// When none of the keys that it names is at hand.
    pub(crate) fn target(&self, route: ModelRoute, target: &Target) -> Result<Planned, String> {
        let mut planned = self.routed(route);
        // What the operator says of a route goes before what a key says of all models.
        if target.rename.is_some() {
            planned.sent.clone_from(&target.rename);
            planned.priced_as_model = false;
        }
        planned.weight = target.share();
        // What members and the platform have goes by names that no route could know: `own/MEMBER/OPENAI_API_KEY`.
        let nameable = self.credential().is_none_or(|key| !key.id().contains('/'));
        if let KeyChoice::Only(names) = &target.keys
            && nameable
        {
            planned.keys.retain_mut(|key| match target.keys.weight(key.credential.id()) {
                Some(weight) => {
                    key.weight = weight;
                    true
                }
                None => false,
            });
            if planned.keys.is_empty() {
                let names: Vec<&str> = names.keys().map(orch_manifests::SecretName::as_str).collect();
                return Err(format!("the route names {}, and there is no such key", names.join(", ")));
            }
        }
        Ok(planned)
    }
}

/// A provider's credentials, or why the one that is there cannot be used.
pub type KeyAtHand = Result<Vec<Arc<dyn Credential>>, String>;
