//! A model of a plan, and the candidates that each call makes of it: one for each of its keys.

use std::fmt;
use std::sync::Arc;

use orch_manifests::{Dialect, Model, OnError, Price, Provider, RouteName, Whose};
use orch_proxy::Credential;

use crate::dialect::openai_chat::thinks;
use crate::health::Rest;

/// A model that is about to be asked, with one key.
#[derive(Clone)]
pub struct Candidate {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The model as the catalog knows it.
    pub model: String,
    /// The name that is sent in its place, where a route says so.
    pub sent: Option<String>,
    /// Whether a name that the catalog does not know is paid for as the model, since the operator says so.
    pub priced_as_model: bool,
    /// The credential; `None` for providers that want none.
    pub credential: Option<Arc<dyn Credential>>,
    /// What has to be spoken to it, where whoever named it said so.
    pub dialect: Option<Dialect>,
    /// What follows failures that are the request's own doing.
    pub on: OnError,
    /// Why it is asked after others.
    pub(crate) rest: Option<Rest>,
}

impl Candidate {
    /// `provider/model`; of a variant, by its name.
    pub fn name(&self) -> String {
        name(&self.provider, self.dialect, &self.model)
    }

    /// Whose key it is asked with; `None` where it wants none.
    pub fn whose(&self) -> Option<Whose> {
        self.credential.as_ref().map(|credential| credential.whose())
    }

    /// The model as the provider is asked for it.
    pub fn sent(&self) -> &str {
        self.sent.as_deref().unwrap_or(&self.model)
    }

    /// What is spoken to it for a client of this dialect.
    pub fn spoken_with(&self, client: Dialect) -> Dialect {
        if let Some(named) = self.dialect {
            return named;
        }
        let provider = &self.provider;
        let thinks = || self.known().map_or_else(|| thinks(self.sent()), |model| model.reasoning);
        match provider.quirks.thinks_in {
            Some(dialect) if !provider.speaks(client) && provider.speaks(dialect) && thinks() => dialect,
            _ => provider.spoken_with(client),
        }
    }

    /// What is spoken to it for a client of this dialect that asks for embeddings; `None` where its provider has none.
    pub fn embeds_with(&self, client: Dialect) -> Option<Dialect> {
        let named = self.dialect.filter(|dialect| self.provider.embeddings_path(*dialect, true).is_some());
        named.or_else(|| self.provider.embeds_with(client))
    }

    /// What the catalog knows of the model.
    pub fn known(&self) -> Option<&Model> {
        self.provider.model(self.counted())
    }

    /// What it costs, when that is known. Of another name it is what the operator or the catalog says of that one.
    pub fn price(&self) -> Option<Price> {
        if let Some(sent) = &self.sent
            && !self.priced_as_model
            && *sent != self.model
            && self.provider.model(sent).is_none()
        {
            return self.provider.price(sent);
        }
        if let Some(own) = self.provider.own_price(self.sent()) {
            return Some(own);
        }
        self.provider.price(self.counted())
    }

    /// The model that is paid for: another name for it is looked up where the catalog knows that one.
    fn counted(&self) -> &str {
        match self.provider.model(self.sent()) {
            Some(_) => self.sent(),
            None => &self.model,
        }
    }

    /// Whether what befell the other for reasons that no key changes would befall it as well: it is the same model, of the
    /// same owner's account. Somebody else's account may have capacity, a deployment or a tier that this one has not.
    pub(crate) fn shares_fate_of(&self, other: &Candidate) -> bool {
        self.is_model_of(other) && self.whose() == other.whose()
    }

    /// Whether it is the same model at the same provider, spoken to in the same way, with whatever key.
    pub(crate) fn is_model_of(&self, other: &Candidate) -> bool {
        self.provider.slug == other.provider.slug
            && self.dialect == other.dialect
            && self.sent() == other.sent()
    }
}

fn name(provider: &Provider, dialect: Option<Dialect>, model: &str) -> String {
    let variant = provider.variants.iter().find(|variant| Some(variant.dialect) == dialect);
    format!("{}/{model}", variant.map_or(&provider.slug, |variant| &variant.slug))
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A model of the plan: each call makes candidates of it, one for each key.
#[derive(Clone)]
pub struct Planned {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The model as the catalog knows it.
    pub model: String,
    /// The name that is sent in its place.
    pub sent: Option<String>,
    /// As [`Candidate::priced_as_model`].
    pub priced_as_model: bool,
    /// The credentials that may serve it; none for providers that want none.
    pub keys: Vec<Keyed>,
    /// What has to be spoken to it, where whoever named it said so.
    pub dialect: Option<Dialect>,
    /// The route that it comes from.
    pub route: Option<RouteName>,
    /// Its step: those of one step share the calls, and come before those of the next.
    pub step: u32,
    /// Its share among those of its step; 0 takes it out.
    pub weight: u16,
    /// What follows failures that are the request's own doing.
    pub on: OnError,
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A credential, and its share of the calls among its provider's.
#[derive(Clone)]
pub struct Keyed {
    /// The credential.
    pub credential: Arc<dyn Credential>,
    /// Its share.
    pub weight: u16,
}

impl Planned {
    /// `provider/model`; of a variant, by its name.
    pub fn name(&self) -> String {
        name(&self.provider, self.dialect, &self.model)
    }

    /// What the catalog knows of the model.
    pub fn known(&self) -> Option<&Model> {
        self.provider.model(&self.model)
    }

    /// Whether a call of the other would be the same call.
    pub(super) fn is_same_as(&self, other: &Planned) -> bool {
        let keys = |planned: &Planned| -> Vec<String> {
            planned.keys.iter().map(|key| key.credential.id().to_owned()).collect()
        };
        self.name() == other.name() && self.sent == other.sent && keys(self) == keys(other)
    }
}
