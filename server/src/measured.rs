//! What the benchmarks of this crate reach beyond its API. No part of it.

use std::sync::Arc;

use orch_manifests::Auth;
use orch_proxy::Credential;
use orch_vault::{Secret, SecretName, Source, Vault};

use crate::credential::{HeldCredential, Lease};
use crate::failure::Failure;
use crate::secret::LiveSecret;

/// A secret of a vault as a run holds it that was let use it by all of its grants. None when there is none.
///
/// # Errors
/// The vault's, or a grant that cannot be enforced.
pub fn lent(vault: &Vault, name: &SecretName) -> Result<Option<Arc<dyn Credential>>, Failure> {
    let Some((secret, summary)) = vault.open_secret(name)? else { return Ok(None) };
    let grants = summary.grants.iter().map(|grant| grant.id).collect();
    let live = LiveSecret::new(secret, summary)?;
    let lease = Lease::Secret(grants, Vec::new());
    Ok(Some(Arc::new(HeldCredential::lent(live, Auth::None, lease, None))))
}

/// A value that was given for a run: nobody's word is asked for when it is used.
#[must_use]
pub fn given(value: Secret) -> Arc<dyn Credential> {
    Arc::new(HeldCredential::given("GIVEN".to_owned(), Source::Flag, Auth::None, value))
}
