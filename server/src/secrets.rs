//! `/v1/secrets`: what the vault of a workspace holds, never what it says.
//!
//! A value goes in and does not come out again; there is no call that answers with one.

use orch_manifests::{AgentName, Catalog, HostPattern};
use orch_vault::{ExpectedVersion, GrantTerms, SecretMeta, SecretName, SecretSummary, ValuePlace};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;
use crate::keeper::{Keeper, VaultAt};
use crate::redact;

mod body;
#[cfg(test)]
mod tests;

pub(crate) use body::Written;

/// What the owner of a new secret says about it, before it is checked.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Hosts that it may go to: names, or patterns such as `*.example.com`.
    pub hosts: Vec<String>,
    /// The header that carries it; `Authorization` when nothing is said.
    pub header: Option<String>,
    /// The agents (`org/name`) that may have it; none: any that it is granted to.
    pub agents: Vec<String>,
    /// When it expires.
    pub expires: Option<OffsetDateTime>,
    /// Whether it may be too short to be cleaned out of responses.
    pub allow_short: bool,
}

impl Terms {
    /// Checks what is said about the secret `name`, and writes it as the vault has it.
    ///
    /// # Errors
    /// A host, header or agent that is none, or terms for a provider's key, whose place the catalog decides.
    pub fn check(self, name: &SecretName, catalog: &Catalog) -> Result<SecretMeta, Failure> {
        let bound = catalog.provider_of_key(name.as_str());
        if let Some(provider) = bound
            && (!self.hosts.is_empty() || !self.agents.is_empty() || self.header.is_some())
        {
            return Err(Failure::usage(
                "bad_usage",
                format!(
                    "{name} is {}'s key and goes to {} only; hosts, header and agents do not apply",
                    provider.name, provider.endpoint.host
                ),
            ));
        }
        let hosts = self.hosts.iter().map(|host| checked_host(host)).collect::<Result<Vec<_>, _>>()?;
        for agent in &self.agents {
            agent
                .parse::<AgentName>()
                .map_err(|e| Failure::usage("bad_usage", format!("the agent {agent:?}: {e}")))?;
        }
        let header = checked_header(self.header.as_deref().unwrap_or("authorization"))?;
        let grant = |host| GrantTerms {
            host: Some(host),
            place: Some(ValuePlace::Header(header.clone())),
            agents: self.agents.clone(),
            ..GrantTerms::default()
        };
        Ok(SecretMeta {
            grants: bound.is_none().then(|| hosts.into_iter().map(grant).collect()),
            never_in_header: false,
            expires: self.expires,
            scrubbable: !self.allow_short,
        })
    }
}

fn checked_host(text: &str) -> Result<String, Failure> {
    let pattern: HostPattern =
        text.parse().map_err(|e| Failure::usage("bad_usage", format!("the host {text:?}: {e}")))?;
    Ok(pattern.to_string())
}

fn checked_header(text: &str) -> Result<String, Failure> {
    let valid = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !valid {
        return Err(Failure::usage("bad_usage", format!("{text:?} is not the name of a header")));
    }
    Ok(text.to_ascii_lowercase())
}

/// The name of a secret. What was said is not repeated: it may be a value in the wrong place.
///
/// # Errors
/// When it is no name; the error guesses what was meant.
pub fn secret_name(text: &str, catalog: &Catalog) -> Result<SecretName, Failure> {
    text.parse().map_err(|e| {
        let failure = Failure::usage("secret_name_invalid", format!("that is not a secret's name: {e}"));
        let before = text.split_once('=').and_then(|(name, _)| name.parse::<SecretName>().ok());
        match (before, catalog.provider(text).and_then(|provider| provider.key_name())) {
            (Some(name), _) => {
                failure.hint(format!("the value does not follow an =: orch secrets set {name} -"))
            }
            (None, Some(name)) => failure.hint(format!("the key of {text} is {name}")),
            (None, None) => failure.hint("a name is like OPENAI_API_KEY"),
        }
    })
}

/// The name of a secret that is stored. Some keys are made of what names are made of, and a name is listed, logged and
/// shown.
///
/// # Errors
/// As [`secret_name`], and when it looks like a key.
pub fn new_secret_name(text: &str, catalog: &Catalog) -> Result<SecretName, Failure> {
    if redact::keys(text).next().is_some() {
        return Err(Failure::usage(
            "secret_name_invalid",
            "that looks like a key, and the name of a secret belongs in its place",
        )
        .hint("the value is asked for: orch secrets set OPENAI_API_KEY")
        .hint("a key that was written on a command line or in a URL is in histories and logs: replace it"));
    }
    secret_name(text, catalog)
}

/// A secret as it is listed.
#[must_use]
pub fn listed(secret: &SecretSummary, catalog: &Catalog) -> Value {
    json!({
        "name": secret.name.as_str(),
        "version": secret.version.get(),
        "mask": secret.mask,
        "fingerprint": secret.fingerprint,
        "created": date(secret.created),
        "updated": date(secret.updated),
        "expires": secret.expires.map(date),
        "hosts": destinations(secret, catalog),
        "header": secret.grants.first().and_then(|grant| grant.terms.place.as_ref()).map(ToString::to_string),
        "agents": secret.grants.first().map(|grant| grant.terms.agents.clone()).unwrap_or_default(),
        "scrubbable": secret.scrubbable,
    })
}

/// Where a value may go: its provider's host for names of the catalog, else what its owner said.
#[must_use]
pub fn destinations(secret: &SecretSummary, catalog: &Catalog) -> Vec<String> {
    match catalog.provider_of_key(secret.name.as_str()) {
        Some(provider) => vec![provider.endpoint.host.to_string()],
        None => secret.grants.iter().filter_map(|grant| grant.terms.host.clone()).collect(),
    }
}

fn date(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// `GET /v1/secrets`.
///
/// # Errors
/// When the vault cannot be read.
pub(crate) async fn list(keeper: &Keeper, workspace: &str, catalog: &Catalog) -> Result<Value, Failure> {
    let secrets = keeper
        .look(workspace, |at| match at {
            VaultAt::Open(vault) => Ok(vault.list()?),
            VaultAt::Rest(location) => {
                Ok(orch_vault::Vault::open(location, orch_vault::OpenMode::ReadOnlyIfExists)?.list()?)
            }
        })
        .await?;
    let rows: Vec<Value> = secrets.iter().map(|secret| listed(secret, catalog)).collect();
    Ok(json!({ "secrets": rows }))
}

/// `PUT /v1/secrets/{name}`. It holds from the next request on.
///
/// # Errors
/// A body that is not what it should be, a value or terms that are refused, or the vault's own.
pub(crate) async fn put(
    keeper: &Keeper,
    workspace: &str,
    catalog: &Catalog,
    name: &str,
    body: &[u8],
) -> Result<Value, Failure> {
    let name = new_secret_name(name, catalog)?;
    let (value, terms) = body::read(body)?;
    let meta = terms.check(&name, catalog)?;
    let stored = name.clone();
    let version = keeper
        .with_new(workspace, move |vault| Ok(vault.set(&name, value, meta, ExpectedVersion::Any)?))
        .await?;
    Ok(json!({ "name": stored.as_str(), "version": version.get() }))
}

/// `DELETE /v1/secrets/{name}`. Requests under way end with what they began with.
///
/// # Errors
/// When there is none of that name, or the vault's own.
pub(crate) async fn delete(
    keeper: &Keeper,
    workspace: &str,
    catalog: &Catalog,
    name: &str,
) -> Result<Value, Failure> {
    let name = secret_name(name, catalog)?;
    let removed = name.clone();
    let version = keeper
        .with(workspace, move |vault| match vault.exists() {
            true => Ok(vault.remove(&name)?),
            false => Ok(None),
        })
        .await?;
    let version = version.ok_or_else(|| {
        Failure::usage("secret_missing", format!("the vault holds no {removed}")).hint("orch secrets list")
    })?;
    Ok(json!({ "name": removed.as_str(), "version": version.get() }))
}
