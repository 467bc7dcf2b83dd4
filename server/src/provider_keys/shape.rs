//! What can be said of a key before it is stored. This is the one place where keys that come in are looked at.

use orch_manifests::{Catalog, Provider};
use orch_vault::{KeyRef, Secret, SecretName, Source};

use crate::failure::{Failure, Kind};
use crate::keys::check_value;

/// The key as it is stored, and what whoever stores it should know.
///
/// # Errors
/// It can be no key of this provider.
pub fn checked(
    _catalog: &Catalog,
    provider: &Provider,
    name: &SecretName,
    secret: Secret,
) -> Result<(Secret, Vec<String>), Failure> {
    let found = KeyRef {
        provider: provider.slug.to_string(),
        name: name.to_string(),
        source: Source::Vault,
        version: None,
        shadows: Vec::new(),
    };
    check_value(&found, provider, &secret).map_err(|failure| match failure.kind() {
        // It is the caller's to put right, and nothing was looked for.
        Kind::NoKey => Failure::usage("key_unusable", failure.message()).detail("field", "key"),
        _ => failure,
    })?;
    Ok((secret, Vec::new()))
}
