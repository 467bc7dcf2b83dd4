//! A secret as it is shown: names, terms and use, never its value.

use orch_manifests::Catalog;
use orch_vault::{Grant, SecretSummary};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::GrantSaid;
use crate::run::dollars;

/// A secret as it is listed.
#[must_use]
pub fn listed(secret: &SecretSummary, catalog: &Catalog) -> Value {
    let provider = catalog.provider_of_key(secret.name.as_str());
    json!({
        "name": secret.name.as_str(),
        "version": secret.version.get(),
        "mask": secret.mask,
        "fingerprint": secret.fingerprint,
        "created": date(secret.created),
        "updated": date(secret.updated),
        "expires": secret.expires.map(date),
        "expired": secret.expires.is_some_and(|at| at <= OffsetDateTime::now_utc()),
        "runs": secret.runs,
        "last_used": secret.last_used.map(date),
        // Where a provider's key goes is the catalog's to say.
        "provider": provider.map(|provider| json!({
            "name": provider.slug.as_str(), "host": provider.endpoint.host.to_string(),
        })),
        "grants": secret.grants.iter().map(granted).collect::<Vec<_>>(),
        "never_in_header": secret.never_in_header,
        "scrubbable": secret.scrubbable,
    })
}

/// A grant as it is listed: its terms, and what was done with it.
#[must_use]
pub fn granted(grant: &Grant) -> Value {
    // Made of texts and numbers: there is nothing in it that JSON could not say.
    let mut row = serde_json::to_value(GrantSaid::from(&grant.terms)).unwrap_or_default();
    row["id"] = json!(grant.id.get());
    row["used"] = json!({ "runs": grant.used.runs, "cost_usd": dollars(grant.used.cost_micro_usd) });
    row["spent"] = json!(grant.open(OffsetDateTime::now_utc()).err().map(|why| why.to_string()));
    row
}

pub(super) fn date(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}
