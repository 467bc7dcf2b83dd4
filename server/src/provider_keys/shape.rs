//! What can be said of a key before it is stored. This is the one place where keys that members register are looked at.

use orch_manifests::{Catalog, Provider};
use orch_vault::{Secret, SecretName};

use crate::credential::{Unusable, is_odd};
use crate::failure::{Failure, Kind};
use crate::secrets::{Sender, arriving};

/// The key as it is stored, and what whoever stores it should know.
///
/// # Errors
/// It can be no key of this provider.
pub fn checked(
    catalog: &Catalog,
    provider: &Provider,
    name: &SecretName,
    secret: Secret,
) -> Result<(Secret, Vec<String>), Failure> {
    let json = secret.expose(|bytes| bytes.trim_ascii_start().first() == Some(&b'{'));
    if is_odd(&secret) && !json {
        let message = format!("the key for {} {}", provider.slug, Unusable::Odd.why());
        return Err(unusable(message).hint("copy the key again, without quotes and blanks around it"));
    }
    // Nobody's registered key names a file of the server's machine.
    arriving(catalog, name, secret, Sender::Other).map_err(|failure| match failure.kind() {
        Kind::Usage => {
            failure.hints().iter().cloned().fold(unusable(failure.message().to_owned()), Failure::hint)
        }
        _ => failure,
    })
}

/// It is the caller's to put right, and nothing was looked for.
fn unusable(message: String) -> Failure {
    Failure::usage("key_unusable", message).detail("field", "key")
}
