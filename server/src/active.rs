//! What the members of workspaces think with where a request names no model: what `orch byok use` and `orch byok model` chose.
//!
//! A member's choice at a server is kept in its store. What the owner of the installation chose on this machine is kept there
//! by the command line, which tells a server of it; it holds for everybody of the owner's workspace who has chosen nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use orch_gateway::Preference;
use orch_manifests::{Catalog, ModelName, resolve_at};

use crate::caller::{Caller, DEFAULT_WORKSPACE};
use crate::failure::Failure;
use crate::store::Store;

/// Choices of members, by workspace and name.
type Kept = HashMap<Arc<str>, HashMap<Arc<str>, Option<Preference>>>;

/// What everybody thinks with. Nothing is read before somebody asks.
pub(crate) struct Actives {
    store: Store,
    /// The owner's.
    owners: RwLock<Option<Preference>>,
    kept: RwLock<Kept>,
    /// One change after another, so that what is kept is what is stored.
    changing: tokio::sync::Mutex<()>,
}

/// Who chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChosenBy {
    /// The member.
    Member,
    /// The owner of the installation, for their workspace.
    Owner,
}

impl ChosenBy {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Owner => "workspace",
        }
    }
}

impl Actives {
    /// Of the members that this store knows.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            owners: RwLock::default(),
            kept: RwLock::default(),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// What the owner thinks with from now on.
    pub(crate) fn prefer(&self, preferred: Option<Preference>) {
        *self.owners.write().unwrap_or_else(PoisonError::into_inner) = preferred;
    }

    /// What a member thinks with, and who chose it.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn of(&self, caller: &Caller) -> Result<Option<(Preference, ChosenBy)>, Failure> {
        if let Some(own) = self.own(caller).await? {
            return Ok(Some((own, ChosenBy::Member)));
        }
        if *caller.workspace != *DEFAULT_WORKSPACE {
            return Ok(None);
        }
        let owners = self.owners.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(owners.map(|preferred| (preferred, ChosenBy::Owner)))
    }

    async fn own(&self, caller: &Caller) -> Result<Option<Preference>, Failure> {
        if let Some(known) = self.known(caller) {
            return Ok(known);
        }
        let _one = self.changing.lock().await;
        if let Some(known) = self.known(caller) {
            return Ok(known);
        }
        let own = self.store.active(&caller.workspace, &caller.name).await?;
        self.keep(caller, own.clone());
        Ok(own)
    }

    /// Puts what a member thinks with in the place of what it was. The next request goes by it.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn set(&self, caller: &Caller, active: Option<Preference>) -> Result<(), Failure> {
        if is_owner(caller) {
            self.prefer(active);
            return Ok(());
        }
        let _one = self.changing.lock().await;
        self.store.put_active(&caller.workspace, &caller.name, active.clone()).await?;
        self.keep(caller, active);
        Ok(())
    }

    fn known(&self, caller: &Caller) -> Option<Option<Preference>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(&caller.workspace)?.get(&caller.name).cloned()
    }

    fn keep(&self, caller: &Caller, active: Option<Preference>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let members = kept.entry(Arc::clone(&caller.workspace)).or_default();
        members.insert(Arc::clone(&caller.name), active);
    }
}

/// Whether it is the owner of this installation, on this machine: no token has their id.
fn is_owner(caller: &Caller) -> bool {
    caller.id == Caller::owner().id
}

/// A choice, as it is kept.
///
/// # Errors
/// The provider is none, or answers no models; the model is another provider's, or makes vectors.
pub(crate) fn checked(catalog: &Catalog, said: &Preference) -> Result<Preference, Failure> {
    let provider = catalog.provider(&said.provider).filter(|provider| !provider.inference.is_empty());
    let provider = provider.ok_or_else(|| {
        let answers = catalog.providers().filter(|provider| !provider.inference.is_empty());
        let known: Vec<&str> = answers.map(|provider| provider.slug.as_str()).collect();
        // What stands there may be a key in the wrong place.
        Failure::usage("provider_unknown", "there is no provider of models of this name")
            .detail("field", "provider")
            .hint(format!("known providers: {}", known.join(", ")))
    })?;
    let wrong = |code: &'static str, why: String| Failure::usage(code, why).detail("field", "model");
    let model = match &said.model {
        None => None,
        Some(model) => {
            let name: ModelName =
                model.parse().map_err(|e| wrong("model_unknown", format!("the model: {e}")))?;
            let at = resolve_at(catalog, provider, provider.slug.as_str(), &name).map_err(|elsewhere| {
                wrong("model_unknown", elsewhere.to_string()).detail("candidates", elsewhere.candidates)
            })?;
            let model = at.route.model;
            if provider.model(&model).is_some_and(|known| known.embedding.is_some()) {
                let why = format!("{model} makes embeddings, and answers nothing");
                return Err(wrong("model_unfit", why));
            }
            Some(model)
        }
    };
    Ok(Preference { provider: provider.slug.to_string(), model })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_provider_of_models_and_a_model_that_it_may_have() {
        let catalog = Catalog::builtin();
        let of = |provider: &str, model: Option<&str>| {
            let said = Preference { provider: provider.to_owned(), model: model.map(str::to_owned) };
            checked(&catalog, &said).map(|kept| (kept.provider, kept.model)).map_err(|failure| {
                assert!(!failure.message().contains("sk-proj"), "{failure}");
                failure.code().to_owned()
            })
        };
        let kept = |provider: &str, model: Option<&str>| Ok((provider.to_owned(), model.map(str::to_owned)));
        assert_eq!(of("openai", Some("gpt-4o-mini")), kept("openai", Some("gpt-4o-mini")));
        assert_eq!(of("google", Some("google/gemini-2.5-flash")), kept("gemini", Some("gemini-2.5-flash")));
        assert_eq!(of("openai", None), kept("openai", None));
        for (provider, model, code) in [
            ("nobody", None, "provider_unknown"),
            ("sk-proj-0123456789abcdef0123", None, "provider_unknown"),
            ("tavily", None, "provider_unknown"),
            ("openai", Some("claude-3-haiku"), "model_unknown"),
            ("openai", Some(""), "model_unknown"),
            ("openai", Some("text-embedding-3-small"), "model_unfit"),
        ] {
            assert_eq!(of(provider, model), Err(code.to_owned()), "{provider} {model:?}");
        }
    }
}
