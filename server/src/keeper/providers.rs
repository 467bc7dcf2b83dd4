//! The keys of a workspace for the providers of the catalog, opened once and used for many calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use orch_gateway::{KeyAtHand, Plan};
use orch_manifests::{Auth, Catalog, Provider, Slug, Whose};
use orch_proxy::Credential;
use orch_vault::{KeyRef, SecretName, Source, Vault};
use time::OffsetDateTime;

use super::Ring;
use crate::credential::{HeldCredential, Lease};
use crate::failure::{Failure, Kind};
use crate::keys::check_value;
use crate::secret::HeldSecrets;

/// What a workspace's clients may think with.
pub(crate) struct ProviderKeys {
    /// Every provider at hand, with its credential.
    pub(crate) plan: Arc<Plan>,
    /// A member's own keys to search the web with; where one is there and cannot be used, why.
    pub(crate) searchers: BTreeMap<Slug, Result<Arc<dyn Credential>, String>>,
    /// When the first of these keys expires.
    expires: Option<OffsetDateTime>,
    /// Providers whose key is there and was not given out, and the word for why.
    pub(super) failed: Vec<(String, String)>,
}

impl ProviderKeys {
    /// Opens the keys that a workspace's vault has.
    ///
    /// A key that has expired, or that no header can carry, counts as none; who asks for its provider hears why.
    ///
    /// # Errors
    /// A vault that cannot be trusted or read.
    pub(super) fn open(
        vault: &Vault,
        held: &HeldSecrets,
        catalog: &Catalog,
        ring: &Ring,
    ) -> Result<Self, Failure> {
        let mut keys: BTreeMap<Slug, KeyAtHand> = BTreeMap::new();
        let (mut expires, mut failed) = (None::<OffsetDateTime>, Vec::new());
        for provider in catalog.providers().filter(|provider| provider.auth != Auth::None) {
            let opened_as = |name: &str| opened_as(vault, held, provider, ring, name);
            let key = match first(provider, &opened_as) {
                Ok(Some((name, (credential, until)))) => {
                    expires = [expires, until].into_iter().flatten().min();
                    let mut all = vec![Arc::clone(&credential)];
                    for name in Provider::further_keys(name) {
                        match opened_as(&name) {
                            Ok(Some((further, until))) => {
                                expires = [expires, until].into_iter().flatten().min();
                                all.push(further);
                            }
                            Ok(None) => {}
                            // The others serve without it.
                            Err(failure) if matches!(failure.kind(), Kind::NoKey | Kind::Denied) => {
                                failed.push((provider.slug.to_string(), failure.code().to_owned()));
                            }
                            Err(failure) => return Err(failure),
                        }
                    }
                    Ok(all)
                }
                Ok(None) => continue,
                Err(failure) if matches!(failure.kind(), Kind::NoKey | Kind::Denied) => {
                    failed.push((provider.slug.to_string(), failure.code().to_owned()));
                    Err(failure.message().to_owned())
                }
                Err(failure) => return Err(failure),
            };
            keys.insert(provider.slug.clone(), key);
        }
        let mut searchers = BTreeMap::new();
        // The workspace's are opened for each run that wants them, and the operator lends none.
        for provider in catalog.searchers().filter(|_| ring.whose == Whose::Own) {
            let key = match first(provider, &|name: &str| opened_as(vault, held, provider, ring, name)) {
                Ok(Some((_, (credential, until)))) => {
                    expires = [expires, until].into_iter().flatten().min();
                    Ok(credential)
                }
                Ok(None) => continue,
                Err(failure) if matches!(failure.kind(), Kind::NoKey | Kind::Denied) => {
                    Err(failure.message().to_owned())
                }
                Err(failure) => return Err(failure),
            };
            searchers.insert(provider.slug.clone(), key);
        }
        let key = |slug: &Slug| keys.get(slug).cloned();
        let plan = match ring.whose {
            Whose::Team => Plan::for_clients(catalog, &key),
            // What is not among these is looked for elsewhere.
            Whose::Own | Whose::Platform => Plan::of_keys(catalog, &key),
        };
        Ok(Self { plan: Arc::new(plan), searchers, expires, failed })
    }

    /// Whether none of these keys has expired yet.
    pub(super) fn are_fresh(&self) -> bool {
        self.expires.is_none_or(|at| OffsetDateTime::now_utc() < at)
    }
}

/// A credential, and when it expires.
type Opened = (Arc<dyn Credential>, Option<OffsetDateTime>);

/// The provider's key under the first of its names that the vault has.
fn first<'p>(
    provider: &'p Provider,
    opened_as: &dyn Fn(&str) -> Result<Option<Opened>, Failure>,
) -> Result<Option<(&'p str, Opened)>, Failure> {
    for name in &provider.env {
        if let Some(opened) = opened_as(name)? {
            return Ok(Some((name, opened)));
        }
    }
    Ok(None)
}

/// The provider's key under this name.
fn opened_as(
    vault: &Vault,
    held: &HeldSecrets,
    provider: &Provider,
    ring: &Ring,
    name: &str,
) -> Result<Option<Opened>, Failure> {
    let Ok(name) = name.parse::<SecretName>() else { return Ok(None) };
    let Some(secret) = held.open(vault, &name)? else { return Ok(None) };
    let current = secret
        .current()
        .map_err(|why| Failure::new(Kind::NoKey, "secret_expired", format!("{name}: {why}")))?;
    current.check_is_key()?;
    let found = KeyRef {
        provider: provider.slug.to_string(),
        name: name.to_string(),
        source: Source::Vault,
        version: Some(current.summary.version.get()),
        shadows: Vec::new(),
    };
    // What a file of another tool holds is for each call to find out: it changes while nothing changes in the vault.
    if !matches!(provider.auth, Auth::TokenFile(_)) {
        check_value(&found, provider, &current.secret)?;
    }
    let expires = current.summary.expires;
    let tally = held.tally(vault.workspace(), &name, &provider.endpoint.host.to_string());
    let credential = HeldCredential::lent(secret, provider.auth.clone(), Lease::Client(tally), None);
    let credential = credential.of(ring.whose, ring.id(name.as_str()));
    Ok(Some((Arc::new(credential), expires)))
}
