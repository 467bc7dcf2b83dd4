//! What is done to the secrets of a vault, and what is answered: the same for the vault of a server and for one that
//! the command line opens itself.

use orch_manifests::Catalog;
use orch_vault::{
    Entry, ExpectedVersion, GrantId, GrantTerms, Rotation, Secret, SecretMeta, SecretName, SecretSummary,
    Vault, VaultError,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{granted, listed};
use crate::failure::Failure;

/// Everything that is kept.
///
/// # Errors
/// The vault's.
pub fn all(vault: &Vault, catalog: &Catalog) -> Result<Value, Failure> {
    let secrets: Vec<Value> = vault.list()?.iter().map(|secret| listed(secret, catalog)).collect();
    Ok(json!({ "secrets": secrets }))
}

/// One secret.
///
/// # Errors
/// When there is none of this name, or the vault's own.
pub fn one(vault: &Vault, name: &SecretName) -> Result<SecretSummary, Failure> {
    let missing = || VaultError::Missing { name: name.clone() };
    Ok(vault.summary(name)?.ok_or_else(missing)?)
}

/// Stores a value. The answer says how many grants of before were kept.
///
/// # Errors
/// A value or terms that are refused, or the vault's own.
pub fn set(
    vault: &mut Vault,
    name: &SecretName,
    value: Secret,
    meta: SecretMeta,
    catalog: &Catalog,
) -> Result<Value, Failure> {
    let keeps = meta.grants.is_none();
    vault.set(name, value, meta, ExpectedVersion::Any)?;
    let secret = one(vault, name)?;
    let mut answer = listed(&secret, catalog);
    answer["kept_grants"] = json!(if keeps { secret.grants.len() } else { 0 });
    Ok(answer)
}

/// Puts another value in the place of one.
///
/// # Errors
/// When there is none of this name, a value that is refused, or the vault's own.
pub fn rotate(
    vault: &mut Vault,
    name: &SecretName,
    rotation: Rotation,
    catalog: &Catalog,
) -> Result<Value, Failure> {
    one(vault, name)?;
    Ok(listed(&vault.rotate(name, rotation)?, catalog))
}

/// Refuses names that are there already.
///
/// # Errors
/// `secret_exists` with all of them, or the vault's own.
pub(crate) fn refuse_known(vault: &Vault, names: &[SecretName]) -> Result<(), Failure> {
    let mut known = Vec::new();
    for name in names {
        if vault.summary(name)?.is_some() {
            known.push(name.as_str());
        }
    }
    match known.is_empty() {
        true => Ok(()),
        false => Err(exists(&known)),
    }
}

fn exists(names: &[&str]) -> Failure {
    Failure::usage(
        "secret_exists",
        format!("nothing was stored: the vault holds {} already", names.join(", ")),
    )
    .hint("--overwrite replaces them; what was said about them stays")
    .detail("names", names.to_vec())
}

/// Stores many values, all of them or none. What was said about those that are replaced stays.
///
/// # Errors
/// A name that is there already, unless they may be replaced; a value that is refused, with its name; the vault's own.
pub fn import(
    vault: &mut Vault,
    values: Vec<(SecretName, Secret)>,
    overwrite: bool,
    catalog: &Catalog,
) -> Result<Value, Failure> {
    let now = OffsetDateTime::now_utc();
    let (mut entries, mut replaced, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in values {
        let before = vault.summary(&name)?;
        let meta = before.as_ref().map_or_else(SecretMeta::default, |secret| as_before(secret, now));
        if let Err(why) = meta.accepts(&value) {
            let failure = Failure::from(VaultError::from(why));
            return Err(
                Failure::usage("secret_refused", format!("{name}: {failure}")).detail("name", name.as_str())
            );
        }
        let expected = match before {
            None => ExpectedVersion::Absent,
            Some(secret) => {
                replaced.push(name.clone());
                ExpectedVersion::Exactly(secret.version)
            }
        };
        names.push(name.clone());
        entries.push(Entry { name, value, meta, expected });
    }
    if !overwrite && !replaced.is_empty() {
        let names: Vec<&str> = replaced.iter().map(SecretName::as_str).collect();
        return Err(exists(&names));
    }
    vault.set_all(entries)?;
    let mut stored = Vec::with_capacity(names.len());
    for name in names {
        let mut row = listed(&one(vault, &name)?, catalog);
        row["replaced"] = json!(replaced.contains(&name));
        stored.push(row);
    }
    Ok(json!({ "secrets": stored }))
}

/// What was said about a secret, for another value of it: as with a rotation it lives as long as the one before.
fn as_before(secret: &SecretSummary, now: OffsetDateTime) -> SecretMeta {
    SecretMeta {
        grants: None,
        never_in_header: secret.never_in_header,
        expires: secret.expires.and_then(|at| now.checked_add(at - secret.updated)),
        scrubbable: true,
    }
}

/// Grants a use.
///
/// # Errors
/// When there is no secret of this name, refused terms, or the vault's own.
pub fn grant(vault: &mut Vault, name: &SecretName, terms: GrantTerms) -> Result<Value, Failure> {
    one(vault, name)?;
    let id = vault.grant(name, terms)?;
    let secret = one(vault, name)?;
    let grant = secret.grants.iter().find(|grant| grant.id == id).map(granted);
    Ok(json!({ "name": name.as_str(), "grant": grant }))
}

/// Takes a grant back.
///
/// # Errors
/// When there is no such secret, or no such grant of it, or the vault's own.
pub fn remove_grant(vault: &mut Vault, name: &SecretName, id: GrantId) -> Result<Value, Failure> {
    one(vault, name)?;
    vault.remove_grant(name, id)?;
    Ok(json!({ "name": name.as_str(), "removed_grant": id.get() }))
}

/// Removes a secret.
///
/// # Errors
/// When there is none of this name, or the vault's own.
pub fn remove(vault: &mut Vault, name: &SecretName) -> Result<Value, Failure> {
    let version = if vault.exists() { vault.remove(name)? } else { None };
    let version = version.ok_or_else(|| VaultError::Missing { name: name.clone() })?;
    Ok(json!({ "name": name.as_str(), "removed": version.get() }))
}
