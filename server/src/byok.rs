//! Whose keys the calls of a workspace's members are made with: its policy, and what the operator lends.
//!
//! What follows from a policy for a request is the gateway's (`orch_gateway::ByokPolicy`); who said it, and where the
//! platform's keys are, is found here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use orch_gateway::{ByokPolicy, Plan};
use orch_manifests::{Catalog, Slug, Whose};
use orch_proxy::Credential;
use orch_vault::{KeyRef, Source};

use crate::config::{ByokConfig, PlatformConfig, PlatformKeys};
use crate::credential::HeldCredential;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::keeper::{Ring, platform_id};
use crate::keys::check_value;
use crate::store::Store;

/// Who decided a workspace's policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecidedBy {
    /// The configuration says it of this workspace, and nobody else can.
    Operator,
    /// An admin of the workspace.
    Workspace,
    /// What the configuration says of all that say nothing themselves.
    Default,
}

impl DecidedBy {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "server",
            Self::Workspace => "workspace",
            Self::Default => "default",
        }
    }
}

/// The policies of all workspaces. Nothing is read before somebody asks.
pub(crate) struct Policies {
    store: Store,
    kept: RwLock<HashMap<Arc<str>, Option<ByokPolicy>>>,
    /// One change after another, so that what is kept is what is stored.
    changing: tokio::sync::Mutex<()>,
}

impl Policies {
    /// Of the workspaces of this store.
    pub(crate) fn new(store: Store) -> Self {
        Self { store, kept: RwLock::default(), changing: tokio::sync::Mutex::new(()) }
    }

    /// A workspace's policy, and who decided it.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn of(
        &self,
        workspace: &str,
        config: &ByokConfig,
    ) -> Result<(ByokPolicy, DecidedBy), Failure> {
        if let Some(policy) = config.workspaces.get(workspace) {
            return Ok((*policy, DecidedBy::Operator));
        }
        Ok(match self.own(workspace).await? {
            Some(policy) => (policy, DecidedBy::Workspace),
            None => (config.policy, DecidedBy::Default),
        })
    }

    async fn own(&self, workspace: &str) -> Result<Option<ByokPolicy>, Failure> {
        let known = |policies: &Self| {
            policies.kept.read().unwrap_or_else(PoisonError::into_inner).get(workspace).copied()
        };
        if let Some(policy) = known(self) {
            return Ok(policy);
        }
        let _one = self.changing.lock().await;
        if let Some(policy) = known(self) {
            return Ok(policy);
        }
        let policy = self.store.byok_policy(workspace).await?;
        self.kept.write().unwrap_or_else(PoisonError::into_inner).insert(workspace.into(), policy);
        Ok(policy)
    }

    /// Puts a policy in the place of the one before; `None` leaves it to the configuration again. It holds from the next
    /// request on.
    ///
    /// # Errors
    /// `policy_of_operator` when the configuration decides; those of [`Store`].
    pub(crate) async fn set(
        &self,
        workspace: &str,
        config: &ByokConfig,
        policy: Option<ByokPolicy>,
    ) -> Result<(), Failure> {
        if config.workspaces.contains_key(workspace) {
            return Err(Failure::usage(
                "policy_of_operator",
                format!("the server's configuration decides the policy of {workspace}"),
            )
            .hint("have the operator change byok.workspaces in config.yaml"));
        }
        let _one = self.changing.lock().await;
        match policy {
            Some(policy) => self.store.put_byok_policy(workspace, policy).await?,
            None => drop(self.store.remove_byok_policy(workspace).await?),
        }
        self.kept.write().unwrap_or_else(PoisonError::into_inner).insert(workspace.into(), policy);
        Ok(())
    }
}

/// The operator's keys that are in the environment of the server, opened once; none where the configuration lends none, or
/// lends those of the vault.
///
/// # Errors
/// A provider that is not known, or whose key is not there or cannot be one: a server that starts all the same would let its
/// clients find that out.
pub(crate) fn lent_by_environment(
    config: &PlatformConfig,
    environment: &Environment,
    catalog: &Catalog,
) -> Result<Option<Arc<Plan>>, Failure> {
    if config.keys != Some(PlatformKeys::Env) {
        return Ok(None);
    }
    let mut keys: BTreeMap<Slug, Vec<Arc<dyn Credential>>> = BTreeMap::new();
    for name in &config.providers {
        let Some(provider) = catalog.provider(name.as_str()) else { continue };
        // A key and its place, or the halves of one that signs, are of one environment.
        let found =
            provider.env.iter().find_map(|name| Some((name, environment.provider_key(name, catalog)?)));
        let Some((name, secret)) = found else {
            return Err(Failure::usage(
                "platform_key_missing",
                format!(
                    "config.yaml: platform.providers: {} is lent, and there is no key for it",
                    provider.slug
                ),
            )
            .hint(format!("export {}=…", provider.key_name().unwrap_or_default()))
            .hint("or lend what the vault holds: platform.keys: vault"));
        };
        let found = KeyRef {
            provider: provider.slug.to_string(),
            name: name.clone(),
            source: Source::Env,
            version: None,
            shadows: Vec::new(),
        };
        check_value(&found, provider, &secret)?;
        let held = HeldCredential::given(name.clone(), Source::Env, provider.auth.clone(), secret);
        let held = held.of(Whose::Platform, platform_id(name));
        keys.entry(provider.slug.clone()).or_default().push(Arc::new(held));
    }
    Ok(Some(Arc::new(Plan::of_keys(catalog, &|slug| keys.get(slug).cloned().map(Ok)))))
}

/// Where the keys lie that the operator lends out of the vault; none where that is nothing. Whoever is in the workspace that
/// lends has those keys as the team's.
pub(crate) fn platform_ring(config: &PlatformConfig, workspace: &str) -> Option<Ring> {
    let lends = config.keys == Some(PlatformKeys::Vault) && config.workspace != workspace;
    lends.then(|| Ring::platform(&config.workspace))
}

/// What of a plan the operator lends: these providers' keys, and no others'.
pub(crate) fn lent(plan: &Arc<Plan>, config: &PlatformConfig) -> Arc<Plan> {
    match plan.without(&|slug| !config.providers.contains(slug)) {
        Some(lent) => Arc::new(lent),
        None => Arc::clone(plan),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_lends_may_be_in_parts() {
        let catalog = Catalog::builtin();
        let lent = |provider: &str, variables: &[(&str, &str)]| {
            let config = PlatformConfig {
                keys: Some(PlatformKeys::Env),
                providers: vec![provider.parse().expect("a slug")],
                ..PlatformConfig::default()
            };
            let set = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            lent_by_environment(&config, &Environment::Fixed(set.collect()), &catalog)
        };
        let halves = [
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"),
            ("AWS_REGION", "eu-west-1"),
        ];
        let resource =
            [("AZURE_API_KEY", "0123456789abcdef0123456789abcdef"), ("AZURE_RESOURCE_NAME", "acme")];
        for (provider, variables) in [("aws", halves.as_slice()), ("azure", resource.as_slice())] {
            let plan = lent(provider, variables).expect("lent").expect("a plan");
            assert!(plan.provider(&provider.parse().expect("a slug")).is_some(), "{provider}");
            let failure = lent(provider, &variables[..1]).err().expect("a part is no key");
            assert!(matches!(failure.code(), "platform_key_missing" | "key_unusable"), "{}", failure.code());
        }
        let foreign = [("OPENAI_API_KEY", "sk-ant-api03-0123456789abcdefghij0123456789")];
        assert_eq!(lent("openai", &foreign).err().expect("another's").code(), "key_unusable");
    }
}
