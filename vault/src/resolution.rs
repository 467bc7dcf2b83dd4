//! Which key a provider gets: flag, then environment, then vault.
//!
//! The answer is a reference: where the key is, never what it is. Provider and key are a unit: a key is
//! only ever looked for under the names of its own provider, so one provider's key cannot reach another.
//! A higher source with a worse name still wins over a lower source with a better one.

use std::ffi::OsString;
use std::fmt;

use crate::{Secret, SecretName, Vault, VaultError};

/// Where a key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `--key` and its relatives.
    Flag,
    /// An environment variable.
    Env,
    /// The vault.
    Vault,
    /// The simulated provider. Never an outcome of [`resolve_keys`]: a simulation resolves no real key.
    Simulated,
}

impl Source {
    /// The word for it in receipts and listings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Flag => "flag",
            Source::Env => "env",
            Source::Vault => "vault",
            Source::Simulated => "simulated",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A provider that wants a key.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The provider's slug.
    pub provider: &'a str,
    /// The names its key goes by, in order; the first is the canonical one, which flags are filed under.
    pub names: &'a [String],
}

/// A key given on the command line.
pub struct FlagKey {
    /// The provider it was given for; `None` is a bare `--key`.
    pub provider: Option<String>,
    /// The key.
    pub secret: Secret,
}

impl FlagKey {
    /// What [`resolve_keys`] needs to know of it.
    #[must_use]
    pub fn name(&self) -> FlagName<'_> {
        FlagName { provider: self.provider.as_deref() }
    }
}

/// A [`FlagKey`] without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagName<'a> {
    /// The provider it was given for; `None` is a bare `--key`, which is for the first wanted provider.
    pub provider: Option<&'a str>,
}

/// The layers below the flags.
pub trait Lookup {
    /// Whether the environment has a key of this name. A variable that is set but empty, or only white
    /// space, is not a key.
    fn env(&self, name: &str) -> bool;

    /// The version of the secret of this name in the vault.
    ///
    /// # Errors
    /// When the vault cannot be read.
    fn vault(&self, name: &str) -> Result<Option<u64>, VaultError>;
}

/// The usual [`Lookup`]: an environment and perhaps a vault.
pub struct Layers<'v, E> {
    env: E,
    vault: Option<&'v Vault>,
}

impl<'v, E: Fn(&str) -> Option<OsString>> Layers<'v, E> {
    /// `env` reads one variable: `|name| std::env::var_os(name)` outside of tests.
    pub fn new(env: E, vault: Option<&'v Vault>) -> Layers<'v, E> {
        Layers { env, vault }
    }
}

impl<E: Fn(&str) -> Option<OsString>> Lookup for Layers<'_, E> {
    fn env(&self, name: &str) -> bool {
        let Some(value) = (self.env)(name).map(OsString::into_encoded_bytes) else { return false };
        let value = Secret::new(value);
        value.expose(|bytes| !bytes.trim_ascii().is_empty())
    }

    fn vault(&self, name: &str) -> Result<Option<u64>, VaultError> {
        // What is not a secret's name cannot be in the vault.
        let (Some(vault), Ok(name)) = (self.vault, name.parse::<SecretName>()) else { return Ok(None) };
        Ok(vault.version(&name)?.map(crate::Version::get))
    }
}

/// One place where a key is, or was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The source.
    pub source: Source,
    /// The name in that source. A flag has the canonical one.
    pub name: String,
    /// The version, when it is in the vault.
    pub version: Option<u64>,
}

/// The key that a provider gets: a reference, without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRef {
    /// The provider's slug.
    pub provider: String,
    /// The name to take it by.
    pub name: String,
    /// Where it is.
    pub source: Source,
    /// Its version, when it is in the vault.
    pub version: Option<u64>,
    /// What else was found and is hidden by it, in the order that would have counted. With
    /// [`Depth::First`] the vault is not asked once a higher source has a key.
    pub shadows: Vec<Candidate>,
}

/// A provider without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The provider's slug.
    pub provider: String,
    /// Everywhere it was looked for, in order; `version` is `None` throughout.
    pub looked_for: Vec<Candidate>,
}

/// The outcome, in the order of what was wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// Providers with a key.
    pub found: Vec<KeyRef>,
    /// Providers without one.
    pub missing: Vec<Missing>,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// For a run: the vault is asked only when flag and environment have nothing, so that a run whose
    /// keys are all in the environment works without a vault, or with a locked one.
    First,
    /// For `orch secrets which`: every source is asked.
    All,
}

/// Why no answer can be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolutionError {
    /// Two keys on the command line for one provider.
    #[error("two keys were given on the command line for {provider}")]
    TwoFlags {
        /// The provider.
        provider: String,
    },
    /// A key on the command line for a provider that nothing wants.
    #[error("a key was given on the command line for {provider}, which this run does not use")]
    UnusedFlag {
        /// The provider.
        provider: String,
    },
    /// A bare key on the command line, and nothing wants any.
    #[error("a key was given on the command line, and this run uses none")]
    NothingWanted,
    /// The vault could not be read.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Finds the key of each wanted provider: flag, then environment, then vault.
///
/// `wanted` names each provider once, the plan's primary first: a bare `--key` is for that one.
///
/// # Errors
/// When the flags make no sense together, or the vault had to be asked and could not be read.
pub fn resolve_keys(
    wanted: &[Wanted<'_>],
    flags: &[FlagName<'_>],
    lookup: &dyn Lookup,
    depth: Depth,
) -> Result<Resolution, ResolutionError> {
    let flagged = assign_flags(wanted, flags)?;
    let mut resolution = Resolution::default();
    for want in wanted {
        let places = places(want);
        let mut found: Vec<Candidate> = Vec::new();
        for place in &places {
            let there = match place.source {
                Source::Flag => flagged.contains(&want.provider).then_some(None),
                Source::Env => lookup.env(&place.name).then_some(None),
                Source::Vault if !found.is_empty() && depth == Depth::First => None,
                Source::Vault => lookup.vault(&place.name)?.map(Some),
                Source::Simulated => None,
            };
            found.extend(there.map(|version| Candidate { version, ..place.clone() }));
        }
        if found.is_empty() {
            resolution.missing.push(Missing { provider: want.provider.to_owned(), looked_for: places });
            continue;
        }
        let first = found.remove(0);
        resolution.found.push(KeyRef {
            provider: want.provider.to_owned(),
            name: first.name,
            source: first.source,
            version: first.version,
            shadows: found,
        });
    }
    Ok(resolution)
}

/// Every place where the key of `want` may be, the one that counts most first.
fn places(want: &Wanted<'_>) -> Vec<Candidate> {
    let at = |source| move |name: &str| Candidate { source, name: name.to_owned(), version: None };
    // A provider without names (a local model server) still takes a key from a flag.
    let canonical = want.names.first().map_or(want.provider, String::as_str);
    let names = || want.names.iter().map(String::as_str);
    std::iter::once(canonical)
        .map(at(Source::Flag))
        .chain(names().map(at(Source::Env)))
        .chain(names().map(at(Source::Vault)))
        .collect()
}

/// The providers that have a key on the command line.
fn assign_flags<'a>(wanted: &[Wanted<'a>], flags: &[FlagName<'a>]) -> Result<Vec<&'a str>, ResolutionError> {
    let mut flagged = Vec::with_capacity(flags.len());
    for flag in flags {
        let provider = match flag.provider {
            Some(provider) => provider,
            None => wanted.first().ok_or(ResolutionError::NothingWanted)?.provider,
        };
        if !wanted.iter().any(|want| want.provider == provider) {
            return Err(ResolutionError::UnusedFlag { provider: provider.to_owned() });
        }
        if flagged.contains(&provider) {
            return Err(ResolutionError::TwoFlags { provider: provider.to_owned() });
        }
        flagged.push(provider);
    }
    Ok(flagged)
}

#[cfg(test)]
mod tests;
