//! Whose key a provider would be asked with, and where it is.

use orch_manifests::{Auth, Provider, Whose};
use orch_server::Failure;
use orch_vault::{Depth, Source, Wanted, resolve_keys};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Client;
use crate::commands::secrets::{Keeping, layers};
use crate::wire::Installation;

/// Who has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// This environment.
    Environment,
    /// The vault of this machine.
    Vault,
    /// The member, at the server.
    Own,
    /// The workspace, at the server.
    Team,
    /// The operator of the server.
    Platform,
}

impl Holder {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "env",
            Self::Vault => "vault",
            Self::Own => "own",
            Self::Team => "team",
            Self::Platform => "platform",
        }
    }

    /// Where that is, for people.
    pub(super) fn place(self) -> &'static str {
        match self {
            Self::Environment => "this environment",
            Self::Vault => "the vault",
            Self::Own => "your keys at the server",
            Self::Team => "the workspace's vault at the server",
            Self::Platform => "the operator of the server",
        }
    }
}

/// A provider's key, and where it is.
pub(crate) struct KeyAt {
    pub(crate) holder: Holder,
    pub(crate) name: String,
    pub(crate) version: Option<u64>,
    pub(crate) last_four: Option<String>,
}

impl KeyAt {
    pub(super) fn document(&self) -> Value {
        let Self { holder, name, version, last_four } = self;
        json!({ "source": holder.as_str(), "name": name, "version": version, "last_four": last_four })
    }
}

#[derive(Deserialize)]
pub(super) struct Registered {
    pub(super) policy: String,
    keys: Vec<OwnKey>,
}

#[derive(Deserialize)]
struct OwnKey {
    provider: Option<String>,
    name: String,
    version: u64,
    last_four: Option<String>,
}

#[derive(Deserialize)]
struct Providers {
    providers: Vec<Known>,
}

#[derive(Deserialize)]
struct Known {
    provider: String,
    keys: Vec<KnownKey>,
}

#[derive(Deserialize)]
struct KnownKey {
    key: String,
    version: Option<u64>,
    /// Whose it is; the team's where the server does not say, since it then lists no others.
    #[serde(default)]
    whose: Option<Whose>,
}

#[derive(Deserialize)]
struct Lends {
    platform: Vec<String>,
}

/// What there is of keys at the place that commands are for, looked at once.
pub(super) enum KeysAt<'a> {
    /// This environment, and the vault of this machine or of the server that holds it.
    Here(&'a Installation, Keeping<'a>),
    /// A server elsewhere.
    There(Box<There<'a>>),
}

pub(super) struct There<'a> {
    here: &'a Installation,
    pub(super) registered: Registered,
    providers: Vec<Known>,
    lends: Vec<String>,
}

impl<'a> KeysAt<'a> {
    /// Looks at what there is.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(super) fn look(here: &'a Installation, keeping: Keeping<'a>) -> Result<Self, Failure> {
        let Keeping::Server(client, runtime) = &keeping else { return Ok(Self::Here(here, keeping)) };
        if !client.on_network() {
            return Ok(Self::Here(here, keeping));
        }
        runtime.block_on(There::ask(here, client)).map(|there| Self::There(Box::new(there)))
    }

    /// The key that a provider would be asked with; `None` where there is none.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub(super) fn of(&self, provider: &Provider) -> Result<Option<KeyAt>, Failure> {
        match self {
            Self::Here(here, keeping) => found_here(here, keeping, provider),
            Self::There(there) => Ok(there.of(provider)),
        }
    }

    /// The first provider of the catalog that has a key, but for one.
    ///
    /// # Errors
    /// As [`KeysAt::of`].
    pub(super) fn first_but(&self, left_out: &Provider) -> Result<Option<Provider>, Failure> {
        let here = match self {
            Self::Here(here, _) => here,
            Self::There(there) => there.here,
        };
        for provider in here.catalog.providers() {
            let wants = provider.auth != Auth::None && provider.slug != left_out.slug;
            if wants && self.of(provider)?.is_some() {
                return Ok(Some(provider.clone()));
            }
        }
        Ok(None)
    }
}

impl<'a> There<'a> {
    async fn ask(here: &'a Installation, client: &Client) -> Result<Self, Failure> {
        let registered: Registered = client.get("/api/user/provider-keys").await?;
        let Providers { providers } = client.get("/v1/providers").await?;
        let Lends { platform } = client.get("/v1/byok").await?;
        Ok(Self { here, registered, providers, lends: platform })
    }

    fn of(&self, provider: &Provider) -> Option<KeyAt> {
        let slug = provider.slug.as_str();
        let own = self.registered.keys.iter().find(|key| key.provider.as_deref() == Some(slug));
        if let Some(OwnKey { name, version, last_four, .. }) = own {
            return Some(KeyAt {
                holder: Holder::Own,
                name: name.clone(),
                version: Some(*version),
                last_four: last_four.clone(),
            });
        }
        let known = self.providers.iter().find(|known| known.provider == slug);
        let mut keys = known.into_iter().flat_map(|known| &known.keys);
        let team = keys.find(|key| key.whose.is_none_or(|whose| whose == Whose::Team));
        if let Some(KnownKey { key, version, .. }) = team {
            let (name, version) = (key.clone(), *version);
            return Some(KeyAt { holder: Holder::Team, name, version, last_four: None });
        }
        let name = provider.key_name()?.to_owned();
        let lent = self.lends.iter().any(|lent| lent == slug);
        lent.then_some(KeyAt { holder: Holder::Platform, name, version: None, last_four: None })
    }
}

/// As a run here finds it: this environment, then the vault.
fn found_here(
    here: &Installation,
    keeping: &Keeping<'_>,
    provider: &Provider,
) -> Result<Option<KeyAt>, Failure> {
    if provider.auth == Auth::None {
        return Ok(None);
    }
    let wanted = [Wanted { provider: provider.slug.as_str(), names: &provider.env }];
    // The vault is closed again before its rows are listed, which opens it.
    let resolution = {
        let layers = layers(here, keeping)?;
        resolve_keys(&wanted, &[], &*layers, Depth::First)?
    };
    let Some(found) = resolution.found.into_iter().next() else { return Ok(None) };
    Ok(Some(match found.source {
        Source::Vault => {
            let rows = keeping.rows()?;
            let row = rows.iter().find(|row| row.name == found.name);
            KeyAt {
                holder: Holder::Vault,
                last_four: row.and_then(|row| row.mask.clone()),
                version: found.version,
                name: found.name,
            }
        }
        _ => KeyAt {
            holder: Holder::Environment,
            last_four: here.environment.key(&found.name).and_then(|key| key.mask()),
            version: None,
            name: found.name,
        },
    }))
}
