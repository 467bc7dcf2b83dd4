//! `/v1/secrets`: what the vault of a workspace holds, never what it says.
//!
//! A value goes in and does not come out again; there is no call that answers with one. What is said about a secret is
//! checked in one place (`terms.rs`), and done and answered in one (`acts.rs`), for servers and for the command line.

use orch_manifests::{Auth, Catalog};
use orch_vault::{GrantId, OpenMode, PlannedUse, Rotation, Secret, SecretName, Source, Vault, VaultError};
use serde_json::{Value, json};

use crate::credential::token_file::FileReference;
use crate::failure::Failure;
use crate::keeper::{Keeper, VaultAt};
use crate::key_check::{self, Proof};
use crate::redact;
use crate::service::Service;

mod acts;
mod body;
mod forbidden;
mod listed;
mod spent;
mod terms;
#[cfg(test)]
mod tests;
mod uses;

use acts::refuse_known;
pub use acts::{all, grant, import, one, remove, remove_grant, rotate, set};
pub use body::MOST_IMPORTED;
pub(crate) use body::Written;
pub use forbidden::check_terms;
pub(crate) use forbidden::{Manner, check_terms_of_request};
pub use listed::{granted, listed};
pub use spent::add_spent_here;
pub(crate) use spent::{add as add_spent, add_by_id as add_spent_by_id};
pub use terms::{GrantSaid, Terms};
pub use uses::{Uses, uses_here};

/// What stands in the place of a run in the record of a key that was checked.
pub const CHECK: &str = "key-check";

/// The name of a secret. What was said is not repeated: it may be a value in the wrong place.
///
/// # Errors
/// When it is no name; the error guesses what was meant.
pub fn secret_name(text: &str, catalog: &Catalog) -> Result<SecretName, Failure> {
    text.parse().map_err(|e| {
        let failure = Failure::usage("secret_name_invalid", format!("that is not a secret's name: {e}"));
        let before = text.split_once('=').and_then(|(name, _)| name.parse::<SecretName>().ok());
        match (before, catalog.anybody(text).and_then(|provider| provider.key_name())) {
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

/// The number of a grant.
///
/// # Errors
/// When it is none.
pub fn grant_id(text: &str) -> Result<GrantId, Failure> {
    let number = text.parse().map_err(|_| {
        Failure::usage("bad_usage", format!("{text:?} is not the number of a grant"))
            .hint("orch secrets grants")
    });
    number.map(GrantId::new)
}

/// `GET /v1/secrets`.
///
/// # Errors
/// When the vault cannot be read.
pub(crate) async fn list(keeper: &Keeper, workspace: &str, catalog: &Catalog) -> Result<Value, Failure> {
    look(keeper, (workspace, catalog), all).await
}

/// `GET /v1/secrets/{name}`.
///
/// # Errors
/// When there is none of that name, or the vault cannot be read.
pub(crate) async fn get(
    keeper: &Keeper,
    workspace: &str,
    catalog: &Catalog,
    name: &str,
) -> Result<Value, Failure> {
    let name = secret_name(name, catalog)?;
    look(keeper, (workspace, catalog), move |vault, catalog| Ok(listed(&one(vault, &name)?, catalog))).await
}

/// `GET /v1/secrets/{name}/uses`: what would be without it.
///
/// # Errors
/// As [`get`].
pub(crate) async fn uses(service: &Service, workspace: &str, name: &str) -> Result<Value, Failure> {
    let catalog = service.catalog();
    let name = secret_name(name, catalog)?;
    let wanted = name.clone();
    let secret = look(service.keeper(), (workspace, catalog), move |vault, _| one(vault, &wanted)).await?;
    let mut uses = Uses::of(&secret);
    uses.add_store(service.store(), workspace, catalog).await?;
    uses.under_way = Some(service.users_of(workspace, &name));
    Ok(uses.document(catalog))
}

/// `PUT /v1/secrets/{name}`. It holds from the next request on.
///
/// # Errors
/// A body that is not what it should be, a value or terms that are refused, `terms_forbid` where a provider's own do and
/// nobody said that it is meant (`despite_terms`), or the vault's own.
pub(crate) async fn put(
    keeper: &Keeper,
    workspace: &str,
    catalog: &Catalog,
    (name, despite_terms): (&str, bool),
    asks: Option<&Service>,
    (body, from): (&[u8], Sender),
) -> Result<Value, Failure> {
    let name = new_secret_name(name, catalog)?;
    let (value, terms) = body::new(body)?;
    let meta = terms.check(&name, catalog)?;
    check_terms_of_request(catalog, &name, despite_terms)?;
    let (value, mut warnings) = arriving(catalog, &name, value, from)?;
    // What the vault would not take is not shown to anybody either.
    meta.accepts(&value).map_err(VaultError::from)?;
    let key = [(name, value)];
    let heard = heard(asks, workspace, &key, &mut warnings).await?;
    let ([(name, value)], catalog) = (key, catalog.clone());
    let stored = keeper.with_new(workspace, move |vault| set(vault, &name, value, meta, &catalog));
    let mut answer = stored.await?;
    answer["warnings"] = json!(warnings);
    if let Some(heard) = heard {
        answer["check"] = heard;
    }
    Ok(answer)
}

/// What the provider of a key that is about to be stored says of it, where somebody asks; none where nobody does.
///
/// # Errors
/// `key_rejected`: that it is none.
async fn heard(
    asks: Option<&Service>,
    workspace: &str,
    key: &[(SecretName, Secret); 1],
    warnings: &mut Vec<String>,
) -> Result<Option<Value>, Failure> {
    let Some(service) = asks else { return Ok(None) };
    let proofs = service.verdicts_before_storing(workspace, key, true).await;
    for Proof { provider, name, verdict } in &proofs {
        key_check::refuse_rejected(provider, name.as_str(), verdict, None)
            .map_err(|failure| failure.hint("to store it without asking: --no-check"))?;
    }
    warnings.extend(proofs.iter().filter_map(Proof::warning));
    Ok(proofs.first().map(Proof::document))
}

/// Who sends a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The owner of this machine's vault, on this machine: a value may name a file of theirs.
    Owner,
    /// Anybody else.
    Other,
}

/// A value on its way into the vault, as it is kept, and what about it deserves a word. What could never be used as the key
/// that its name says it is is refused.
///
/// # Errors
/// As [`key_check::check_shape`].
pub fn arriving(
    catalog: &Catalog,
    name: &SecretName,
    value: Secret,
    from: Sender,
) -> Result<(Secret, Vec<String>), Failure> {
    let Some(provider) = catalog.provider_of_key(name.as_str()) else { return Ok((value, Vec::new())) };
    let value = key_check::tidy(provider, value);
    let names_file =
        matches!(provider.auth, Auth::TokenFile(_)) && matches!(FileReference::read(&value), Ok(Some(_)));
    let warnings = match names_file && from == Sender::Owner {
        true => key_check::check_file(provider, name.as_str(), &value)?,
        false => key_check::check_shape(catalog, provider, name.as_str(), &value)?,
    };
    Ok((value, warnings))
}

/// `POST /v1/secrets/{name}/rotate`. Requests under way end with the value that they began with, and runs use the new
/// one from their next request on: the answer has their ids.
///
/// # Errors
/// When there is none of that name; otherwise as [`put`].
pub(crate) async fn post_rotation(
    service: &Service,
    workspace: &str,
    (name, check): (&str, bool),
    (body, from): (&[u8], Sender),
) -> Result<Value, Failure> {
    let name = secret_name(name, service.catalog())?;
    let rotation = body::rotation(body)?;
    let (value, mut warnings) = arriving(service.catalog(), &name, rotation.value, from)?;
    if check {
        // What takes nothing's place is not shown to anybody.
        let wanted = name.clone();
        look(service.keeper(), (workspace, service.catalog()), move |vault, _| one(vault, &wanted).map(drop))
            .await?;
    }
    let key = [(name.clone(), value)];
    let heard = heard(check.then_some(service), workspace, &key, &mut warnings).await?;
    let [(_, value)] = key;
    let rotation = Rotation { value, ..rotation };
    let (rotated, catalog) = (name.clone(), service.catalog().clone());
    let done = service.keeper().with(workspace, move |vault| rotate(vault, &rotated, rotation, &catalog));
    let mut answer = done.await?;
    answer["under_way"] = json!(service.users_of(workspace, &name));
    answer["warnings"] = json!(warnings);
    if let Some(heard) = heard {
        answer["check"] = heard;
    }
    Ok(answer)
}

/// `POST /v1/secrets/{name}/check`: asks the provider about its key.
///
/// # Errors
/// When there is none of that name, it is no provider's key, or the vault's own.
pub(crate) async fn post_check(service: &Service, workspace: &str, name: &str) -> Result<Value, Failure> {
    let catalog = service.catalog();
    let name = secret_name(name, catalog)?;
    let provider = catalog.provider_of_key(name.as_str()).ok_or_else(|| {
        Failure::usage(
            "secret_of_no_provider",
            format!("{name} is no provider's key, and nobody says how it is checked"),
        )
    })?;
    let wanted = name.clone();
    let opened = look(service.keeper(), (workspace, catalog), move |vault, _| {
        one(vault, &wanted)?;
        Ok(vault.open_secret(&wanted)?)
    });
    let missing = || VaultError::Missing { name: name.clone() };
    let (secret, _) = opened.await?.ok_or_else(missing)?;
    let planned = PlannedUse {
        run: CHECK.to_owned(),
        secret: name.clone(),
        host: key_check::asked_host(provider, &secret),
        grant: None,
    };
    service.keeper().record_uses(workspace, vec![planned]).await?;
    let verdict = service.verdict(Source::Vault, workspace, provider, (&name, &secret)).await;
    Ok(key_check::document(provider, name.as_str(), &verdict))
}

/// `POST /v1/secrets/import`: all of it or nothing. Providers are asked about their keys first, unless that is not wanted.
///
/// # Errors
/// As [`put`], names that are there already, unless they may be replaced, and `key_rejected` with every key that its
/// provider rejects.
pub(crate) async fn post_import(
    service: &Service,
    workspace: &str,
    body: &[u8],
    Manner { check, despite_terms }: Manner,
) -> Result<Value, Failure> {
    let catalog = service.catalog();
    let (values, overwrite) = body::import(body, catalog)?;
    for (name, _) in &values {
        check_terms_of_request(catalog, name, despite_terms)?;
    }
    let mut warnings = Vec::new();
    let arrived = values.into_iter().map(|(name, value)| {
        let (value, said) = arriving(catalog, &name, value, Sender::Other)?;
        warnings.extend(said);
        Ok((name, value))
    });
    let values = arrived.collect::<Result<Vec<_>, Failure>>()?;
    // What could not be stored is not shown to anybody else either.
    let (held, names) = (service.keeper(), values.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    if !overwrite {
        look(held, (workspace, catalog), move |vault, _| refuse_known(vault, &names)).await?;
    }
    let proofs = service.verdicts_before_storing(workspace, &values, check).await;
    refuse_rejected(&proofs)?;
    warnings.extend(proofs.iter().filter_map(Proof::warning));
    let checks: Vec<Value> = proofs.iter().map(Proof::document).collect();
    drop(proofs);
    let catalog = catalog.clone();
    let store = move |vault: &mut Vault| import(vault, values, overwrite, &catalog);
    let mut answer = service.keeper().with_new(workspace, store).await?;
    answer["checks"] = json!(checks);
    answer["warnings"] = json!(warnings);
    Ok(answer)
}

/// Refuses all of an import on account of keys that their providers reject, and names every one of them.
fn refuse_rejected(proofs: &[Proof<'_>]) -> Result<(), Failure> {
    let rejected: Vec<&Proof<'_>> = proofs.iter().filter(|proof| proof.verdict.rejects_key()).collect();
    let Some(first) = rejected.first() else { return Ok(()) };
    let names: Vec<&str> = rejected.iter().map(|proof| proof.name.as_str()).collect();
    let checks: Vec<Value> = rejected.iter().map(|proof| proof.document()).collect();
    key_check::refuse_rejected(first.provider, first.name.as_str(), &first.verdict, None).map_err(|failure| {
        failure
            .hint("take these lines out, or store all of it without asking: --no-check, ?check=false")
            .detail("rejected", names)
            .detail("checks", checks)
    })
}

/// `POST /v1/secrets/{name}/grants`.
///
/// # Errors
/// When there is none of that name, refused terms, or the vault's own.
pub(crate) async fn post_grant(
    keeper: &Keeper,
    workspace: &str,
    catalog: &Catalog,
    name: &str,
    said: GrantSaid,
) -> Result<Value, Failure> {
    let name = secret_name(name, catalog)?;
    let terms = said.check(&name, catalog)?;
    keeper.with(workspace, move |vault| grant(vault, &name, terms)).await
}

/// `DELETE /v1/secrets/{name}/grants/{id}`. It holds from the next request on.
///
/// # Errors
/// When there is no such secret, or no such grant of it, or the vault's own.
pub(crate) async fn delete_grant(
    keeper: &Keeper,
    workspace: &str,
    catalog: &Catalog,
    name: &str,
    id: &str,
) -> Result<Value, Failure> {
    let name = secret_name(name, catalog)?;
    let id = grant_id(id)?;
    keeper.with(workspace, move |vault| remove_grant(vault, &name, id)).await
}

/// `DELETE /v1/secrets/{name}`. Requests under way end with what they began with, unless they are to end `now`.
///
/// # Errors
/// When there is none of that name, or the vault's own.
pub(crate) async fn delete(
    service: &Service,
    workspace: &str,
    name: &str,
    now: bool,
) -> Result<Value, Failure> {
    let name = secret_name(name, service.catalog())?;
    let removed = name.clone();
    let mut answer = service.keeper().with(workspace, move |vault| remove(vault, &removed)).await?;
    answer["cut"] = json!(now.then(|| service.cut(workspace, &name)));
    Ok(answer)
}

async fn look<T: Send + 'static>(
    keeper: &Keeper,
    (workspace, catalog): (&str, &Catalog),
    read: impl FnOnce(&Vault, &Catalog) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let catalog = catalog.clone();
    keeper
        .look(workspace, move |at| match at {
            VaultAt::Open(vault) => read(vault, &catalog),
            VaultAt::Rest(location) => read(&Vault::open(location, OpenMode::ReadOnlyIfExists)?, &catalog),
        })
        .await
}
