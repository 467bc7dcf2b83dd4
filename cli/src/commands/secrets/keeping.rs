//! Where secrets are kept: the vault of this home, or a server that holds one.
//!
//! What is done, and what is answered, is the same (`orch_server::secrets`): here it is called, there it is asked for.

use orch_server::secrets::{self, GrantSaid};
use orch_server::{Failure, Kind};
use orch_vault::{GrantId, GrantTerms, OpenMode, Rotation, Secret, SecretMeta, SecretName, Vault};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::row::{Row, typed};
use crate::client::{Client, Revealed, json};
use crate::moment::written;
use crate::wire::{Installation, runtime};

#[derive(Deserialize)]
struct Rows {
    secrets: Vec<Row>,
}

/// A new value, as a server takes it.
#[derive(Serialize)]
struct New<'a> {
    value: Revealed<'a>,
    grants: Option<Vec<GrantSaid>>,
    multiline: bool,
    expires: Option<String>,
    allow_short: bool,
}

/// A value that replaces another one, as a server takes it.
#[derive(Serialize)]
struct Rotated<'a> {
    value: Revealed<'a>,
    expires: Option<String>,
    allow_short: bool,
}

/// Many values, as a server takes them.
#[derive(Serialize)]
struct Imported<'a> {
    secrets: Vec<Named<'a>>,
    overwrite: bool,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    value: Revealed<'a>,
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
        let server =
            runtime.block_on(async { if local { here.neighbour().await } else { here.server().await } })?;
        Ok(match server {
            Some(client) => Self::Server(Box::new(client), runtime),
            None => Self::Here(here),
        })
    }

    /// Whether secrets are sent over TCP.
    pub(crate) fn on_network(&self) -> bool {
        matches!(self, Self::Server(client, _) if client.on_network())
    }

    /// ` at SERVER`, where that is another machine.
    pub(crate) fn elsewhere(&self) -> String {
        match self {
            Self::Server(client, _) if client.on_network() => format!(", at {}", client.name()),
            _ => String::new(),
        }
    }

    /// Stores a value. Where its provider's terms forbid that, `despite_terms` says that it is meant; here that was judged
    /// before.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(crate) fn set(
        &self,
        name: &SecretName,
        secret: Secret,
        (meta, despite_terms): (SecretMeta, bool),
        asks: bool,
    ) -> Result<Value, Failure> {
        match self {
            Self::Here(here) => secrets::set(&mut create(here)?, name, secret, meta, &here.catalog),
            Self::Server(client, runtime) => {
                let SecretMeta { grants, never_in_header, expires, scrubbable } = meta;
                let body = json(&New {
                    value: revealed(name, &secret)?,
                    grants: grants.map(|grants| grants.iter().map(GrantSaid::from).collect()),
                    multiline: never_in_header,
                    expires: expires.map(written),
                    allow_short: !scrubbable,
                })?;
                let query = format!("?check={asks}&despite_terms={despite_terms}");
                runtime.block_on(client.put(&path(name, &query), body))
            }
        }
    }

    /// Puts a value in the place of another one.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(super) fn rotate(&self, name: &SecretName, rotation: Rotation, asks: bool) -> Result<Value, Failure> {
        match self {
            Self::Here(here) => secrets::rotate(&mut open(here)?, name, rotation, &here.catalog),
            Self::Server(client, runtime) => {
                let Rotation { value, expires, scrubbable } = rotation;
                let body = json(&Rotated {
                    value: revealed(name, &value)?,
                    expires: expires.map(written),
                    allow_short: !scrubbable,
                })?;
                runtime.block_on(client.post(&path(name, &format!("/rotate?check={asks}")), body))
            }
        }
    }

    /// Stores many values, all of them or none. A server elsewhere asks providers about their keys first where `asks` says so;
    /// here that was done before, and what terms forbid was judged.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(super) fn import(
        &self,
        values: Vec<(SecretName, Secret)>,
        overwrite: bool,
        (asks, despite_terms): (bool, bool),
    ) -> Result<Value, Failure> {
        match self {
            Self::Here(here) => secrets::import(&mut create(here)?, values, overwrite, &here.catalog),
            Self::Server(client, runtime) => {
                let named = values
                    .iter()
                    .map(|(name, value)| Ok(Named { name: name.as_str(), value: revealed(name, value)? }));
                let secrets = named.collect::<Result<_, Failure>>()?;
                let body = json(&Imported { secrets, overwrite })?;
                let asks = asks && client.on_network();
                let meant = if despite_terms { "&despite_terms=true" } else { "" };
                runtime.block_on(client.post(&format!("/v1/secrets/import?check={asks}{meant}"), body))
            }
        }
    }

    /// Grants a use.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(super) fn grant(&self, name: &SecretName, terms: GrantTerms) -> Result<Value, Failure> {
        match self {
            Self::Here(here) => secrets::grant(&mut open(here)?, name, terms),
            Self::Server(client, runtime) => {
                let body = json(&GrantSaid::from(&terms))?;
                runtime.block_on(client.post(&path(name, "/grants"), body))
            }
        }
    }

    /// Takes a grant back.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(super) fn remove_grant(&self, name: &SecretName, id: GrantId) -> Result<Value, Failure> {
        match self {
            Self::Here(here) => secrets::remove_grant(&mut open(here)?, name, id),
            Self::Server(client, runtime) => {
                runtime.block_on(client.delete(&path(name, &format!("/grants/{id}"))))
            }
        }
    }

    /// Removes a secret; `now` ends the requests under way that carry it, where somebody follows them.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(crate) fn remove(&self, name: &SecretName, now: bool) -> Result<Value, Failure> {
        match self {
            Self::Here(here) => secrets::remove(&mut open(here)?, name),
            Self::Server(client, runtime) => {
                runtime.block_on(client.delete(&path(name, if now { "?now=true" } else { "" })))
            }
        }
    }

    /// Who uses a secret, and who would miss it.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(super) fn uses(&self, name: &SecretName) -> Result<Value, Failure> {
        match self {
            Self::Here(here) => {
                // The vault is closed again at once: nobody else could use it in the meantime.
                let secret = secrets::one(&read(here)?, name)?;
                let Installation { home, catalog, vault, .. } = here;
                runtime()?.block_on(secrets::uses_here(home, &vault.workspace, &secret, catalog))
            }
            Self::Server(client, runtime) => runtime.block_on(client.get(&path(name, "/uses"))),
        }
    }

    /// Everything that is kept, as it is listed.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(super) fn listing(&self) -> Result<Value, Failure> {
        match self {
            Self::Here(here) => {
                // The vault is closed again at once, as above.
                let mut all = secrets::all(&read(here)?, &here.catalog)?;
                if let Some(listed) = all["secrets"].as_array_mut() {
                    let workspace = &here.vault.workspace;
                    runtime()?.block_on(secrets::add_spent_here(&here.home, workspace, listed))?;
                }
                Ok(all)
            }
            Self::Server(client, runtime) => runtime.block_on(client.get("/v1/secrets")),
        }
    }

    /// Everything that is kept.
    ///
    /// # Errors
    /// As the vault's, or the server's.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, Failure> {
        Ok(self.typed::<Rows>("GET /v1/secrets", self.listing()?)?.secrets)
    }

    /// An answer as the type that it is.
    ///
    /// # Errors
    /// When it is not: a server of another version, or a defect here.
    pub(crate) fn typed<T: serde::de::DeserializeOwned>(
        &self,
        asked: &str,
        answer: Value,
    ) -> Result<T, Failure> {
        match self {
            Self::Here(_) => typed(answer),
            Self::Server(client, _) => client.typed(asked, answer),
        }
    }
}

fn create(here: &Installation) -> Result<Vault, Failure> {
    here.prepare_vault()?;
    Ok(Vault::open(&here.vault, OpenMode::Create)?)
}

fn open(here: &Installation) -> Result<Vault, Failure> {
    Ok(Vault::open(&here.vault, OpenMode::WriteIfExists)?)
}

fn read(here: &Installation) -> Result<Vault, Failure> {
    Ok(Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)?)
}

fn revealed<'s>(name: &SecretName, value: &'s Secret) -> Result<Revealed<'s>, Failure> {
    Revealed::new(value).ok_or_else(|| {
        Failure::new(
            Kind::Usage,
            "value_unreadable",
            format!("the value of {name} is not text, which a server takes"),
        )
    })
}

fn path(name: &SecretName, more: &str) -> String {
    format!("/v1/secrets/{name}{more}")
}
