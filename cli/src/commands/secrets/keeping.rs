//! Where secrets are kept: the vault of this home, or a server that holds one.

use orch_server::Failure;
use orch_server::secrets::listed;
use orch_vault::{ExpectedVersion, OpenMode, Secret, SecretMeta, SecretName, ValuePlace, Vault};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::client::{Client, Revealed, json};
use crate::moment::written;
use crate::wire::{Installation, runtime};

/// What is shown of a secret: a row of `orch secrets list --json`, and of the HTTP contract.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) mask: Option<String>,
    fingerprint: Value,
    created: String,
    pub(super) updated: String,
    pub(super) expires: Option<String>,
    pub(super) hosts: Vec<String>,
    header: Option<String>,
    agents: Vec<String>,
    pub(super) scrubbable: bool,
}

#[derive(Deserialize)]
struct Rows {
    secrets: Vec<Row>,
}

#[derive(Deserialize)]
struct Kept {
    version: u64,
}

/// A new value, as a server takes it.
#[derive(Serialize)]
struct New<'a> {
    value: Revealed<'a>,
    hosts: &'a [String],
    header: Option<&'a str>,
    agents: &'a [String],
    expires: Option<String>,
    allow_short: bool,
}

/// Who keeps the secrets that a command is about.
pub(crate) enum Keeping<'a> {
    /// This process, in the vault of its home.
    Here(&'a Installation),
    /// A server: the configured one, or the one that has this home's vault open.
    Server(Box<Client>, Runtime),
}

impl<'a> Keeping<'a> {
    /// Looks for a server, unless the vault of this machine was asked for.
    ///
    /// # Errors
    /// When the configured server cannot be addressed.
    pub(crate) fn find(here: &'a Installation, local: bool) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let server = runtime
            .block_on(async { if local { Ok(here.neighbour().await) } else { here.server().await } })?;
        Ok(match server {
            Some(client) => Self::Server(Box::new(client), runtime),
            None => Self::Here(here),
        })
    }

    /// Whether secrets are sent over TCP.
    pub(super) fn on_network(&self) -> bool {
        matches!(self, Self::Server(client, _) if client.on_network())
    }

    /// Stores a value; its version.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(super) fn set(&self, name: &SecretName, secret: Secret, meta: SecretMeta) -> Result<u64, Failure> {
        match self {
            Self::Here(here) => {
                here.prepare_vault()?;
                let mut vault = Vault::open(&here.vault, OpenMode::Create)?;
                Ok(vault.set(name, secret, meta, ExpectedVersion::Any)?.get())
            }
            Self::Server(client, runtime) => {
                let value = Revealed::new(&secret).ok_or_else(|| {
                    Failure::usage(
                        "value_unreadable",
                        format!("the value of {name} is not text, which a server takes"),
                    )
                })?;
                let grants = meta.grants.unwrap_or_default();
                let hosts: Vec<String> = grants.iter().filter_map(|grant| grant.host.clone()).collect();
                let header = grants.first().and_then(|grant| match &grant.place {
                    Some(ValuePlace::Header(name)) => Some(name.as_str()),
                    _ => None,
                });
                let agents = grants.first().map(|grant| grant.agents.clone()).unwrap_or_default();
                let new = New {
                    value,
                    hosts: &hosts,
                    header,
                    agents: &agents,
                    expires: meta.expires.map(written),
                    allow_short: !meta.scrubbable,
                };
                let body = json(&new)?;
                let kept: Kept = runtime.block_on(client.put(&path(name), body))?;
                Ok(kept.version)
            }
        }
    }

    /// Everything that is kept.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, Failure> {
        match self {
            Self::Here(here) => {
                let secrets = Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)?.list()?;
                let rows = secrets.iter().map(|secret| serde_json::from_value(listed(secret, &here.catalog)));
                rows.collect::<Result<_, _>>().map_err(|e| {
                    Failure::defect(format!("a secret is listed in other words than it is read: {e}"))
                })
            }
            Self::Server(client, runtime) => Ok(runtime.block_on(client.get::<Rows>("/v1/secrets"))?.secrets),
        }
    }

    /// Removes a secret; the version that it had, none when there was none.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(super) fn remove(&self, name: &SecretName) -> Result<Option<u64>, Failure> {
        match self {
            Self::Here(here) => {
                let mut vault = Vault::open(&here.vault, OpenMode::WriteIfExists)?;
                Ok(vault.remove(name)?.map(orch_vault::Version::get))
            }
            Self::Server(client, runtime) => match runtime.block_on(client.delete::<Kept>(&path(name))) {
                Ok(removed) => Ok(Some(removed.version)),
                Err(failure) if failure.code() == "secret_missing" => Ok(None),
                Err(failure) => Err(failure),
            },
        }
    }
}

fn path(name: &SecretName) -> String {
    format!("/v1/secrets/{name}")
}
