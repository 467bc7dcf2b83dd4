//! `byok:` and `platform:` of the configuration: whose keys serve the members of workspaces.

use std::collections::BTreeMap;

use orch_gateway::ByokPolicy;
use orch_manifests::{Catalog, Slug};
use serde::Deserialize;

/// The workspace whose vault holds the platform's keys where the configuration does not say.
const PLATFORM: &str = "platform";

/// Whose keys serve.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ByokConfig {
    /// The policy of workspaces that say nothing themselves.
    pub policy: ByokPolicy,
    /// The policies of these workspaces, whatever they say.
    pub workspaces: BTreeMap<String, ByokPolicy>,
}

/// What the operator lends to every workspace. Nothing, unless it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformConfig {
    /// Where the keys are; `None`: there are none.
    pub keys: Option<PlatformKeys>,
    /// Whose vault holds them.
    pub workspace: String,
    /// The providers whose keys are lent.
    pub providers: Vec<Slug>,
}

impl Default for PlatformConfig {
    fn default() -> Self {
        Self { keys: None, workspace: PLATFORM.to_owned(), providers: Vec::new() }
    }
}

/// Where the platform's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlatformKeys {
    /// In the vault of a workspace.
    Vault,
    /// In the environment of the server.
    Env,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawByok {
    policy: Option<String>,
    workspaces: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPlatform {
    keys: Option<PlatformKeys>,
    workspace: Option<Slug>,
    providers: Vec<String>,
}

/// The field that is wrong, and why.
type Wrong = (String, String);

impl RawByok {
    pub(super) fn parse(self) -> Result<ByokConfig, Wrong> {
        let read = |field: String, word: String| match word.parse::<ByokPolicy>() {
            Ok(policy) => Ok(policy),
            Err(why) => Err((field, format!("{word:?} {why}"))),
        };
        let policy = match self.policy {
            Some(word) => read("byok.policy".to_owned(), word)?,
            None => ByokPolicy::default(),
        };
        let mut workspaces = BTreeMap::new();
        for (name, word) in self.workspaces {
            let field = format!("byok.workspaces.{name}");
            name.parse::<Slug>().map_err(|e| (field.clone(), e.to_string()))?;
            workspaces.insert(name, read(field, word)?);
        }
        Ok(ByokConfig { policy, workspaces })
    }
}

impl RawPlatform {
    pub(super) fn parse(self, catalog: impl FnOnce() -> Option<Catalog>) -> Result<PlatformConfig, Wrong> {
        let Self { keys, workspace, providers } = self;
        if keys.is_none() {
            if workspace.is_some() || !providers.is_empty() {
                let why = "says where the platform's keys are: vault or env; without it nothing is lent";
                return Err(("platform.keys".to_owned(), why.to_owned()));
            }
            return Ok(PlatformConfig::default());
        }
        if keys == Some(PlatformKeys::Env) && workspace.is_some() {
            let why = "is for keys of the vault, and these are in the environment";
            return Err(("platform.workspace".to_owned(), why.to_owned()));
        }
        if providers.is_empty() {
            let why = "names the providers whose keys are lent; nothing is lent that is not named";
            return Err(("platform.providers".to_owned(), why.to_owned()));
        }
        let catalog = catalog();
        let mut slugs = Vec::with_capacity(providers.len());
        for (index, name) in providers.iter().enumerate() {
            let field = || format!("platform.providers[{index}]");
            // What is wrong with the catalog itself is said elsewhere.
            let Some(catalog) = &catalog else { break };
            let Some(provider) = catalog.provider(name) else {
                let known: Vec<&str> = catalog.providers().map(|provider| provider.slug.as_str()).collect();
                return Err((field(), format!("{name:?} is no provider (known: {})", known.join(", "))));
            };
            if provider.key_name().is_none() {
                return Err((field(), format!("{} wants no key", provider.slug)));
            }
            slugs.push(provider.slug.clone());
        }
        let workspace = workspace.map_or_else(|| PLATFORM.to_owned(), |slug| slug.to_string());
        Ok(PlatformConfig { keys, workspace, providers: slugs })
    }
}
