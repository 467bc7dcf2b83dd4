//! What the terms of a provider forbid is not stored by accident, whichever way it comes in.

use orch_manifests::{Auth, Catalog, Provider};
use orch_vault::SecretName;

use crate::failure::{Failure, Kind};

/// How values are to be stored, as the query of a request says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Whether providers are asked about their keys first.
    pub(crate) check: bool,
    /// Whether what a provider's terms forbid is meant.
    pub(crate) despite_terms: bool,
}

/// Refuses a token of another tool whose use in other products its provider's terms forbid. A value that takes the place of
/// one is let in without: whoever stored that one said that it is meant.
///
/// # Errors
/// `terms_forbid`: it is one, and nobody said that it is meant (`despite`).
pub fn check_terms(catalog: &Catalog, name: &SecretName, despite: bool) -> Result<(), Failure> {
    if despite {
        return Ok(());
    }
    let Some(provider) = catalog.provider_of_key(name.as_str()) else { return Ok(()) };
    let Auth::TokenFile(tool) = &provider.auth else { return Ok(()) };
    let Some(why) = tool.forbids() else { return Ok(()) };
    let failure =
        Failure::new(Kind::Denied, "terms_forbid", format!("{name}: {why}")).detail("name", name.as_str());
    Err(match catalog.provider("anthropic").and_then(Provider::key_name) {
        Some(other) => failure.hint(format!("use an API key: orch secrets set {other}")),
        None => failure,
    })
}

/// The same of a request, whose query says that it is meant.
pub(crate) fn check_terms_of_request(
    catalog: &Catalog,
    name: &SecretName,
    despite: bool,
) -> Result<(), Failure> {
    check_terms(catalog, name, despite).map_err(|failure| {
        failure.hint("?despite_terms=true (--despite-terms) takes it all the same, at your own risk")
    })
}
