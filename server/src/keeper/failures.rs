//! Keys that clients of the gateway were not given, for the record.
//!
//! A client may ask as often as it likes: what it is not given is on record once, until the vault changes.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use orch_vault::AuditEvent;

use super::ProviderKeys;
use crate::failure::{Failure, Kind};

/// Who stands in the record: whichever client was first.
const CLIENTS: &str = "gateway";

/// A workspace, a provider of it or none, and the word for what went wrong.
type Failed = (Arc<str>, String, String);

/// What is on record.
#[derive(Default)]
pub(super) struct Told(RwLock<BTreeSet<Failed>>);

impl Told {
    /// What of this is not on record yet; it is taken to be with this.
    pub(super) fn new_ones(
        &self,
        workspace: &Arc<str>,
        opened: &Result<Arc<ProviderKeys>, Failure>,
    ) -> Vec<AuditEvent> {
        let failed = match opened {
            Ok(keys) if keys.failed.is_empty() => return Vec::new(),
            Ok(keys) => keys.failed.clone(),
            // A vault that somebody else holds is no failure of a key.
            Err(failure) if failure.kind() == Kind::Vault && failure.code() != "vault_locked" => {
                vec![(String::new(), failure.code().to_owned())]
            }
            Err(_) => return Vec::new(),
        };
        let told = |(provider, reason): (String, String)| (Arc::clone(workspace), provider, reason);
        let failed: Vec<Failed> = failed.into_iter().map(told).collect();
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if failed.iter().all(|one| known.contains(one)) {
                return Vec::new();
            }
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let new = failed.into_iter().filter(|one| known.insert(one.clone()));
        new.map(|(_, _, reason)| AuditEvent::OpenFailed { run: CLIENTS.to_owned(), reason }).collect()
    }

    /// The vault has changed: what is not given out now is news.
    pub(super) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use orch_manifests::Catalog;
    use orch_vault::{Custody, ExpectedVersion, Secret, SecretMeta, Vault, VaultLocation};
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::keeper::Keeper;

    const KEY: &str = "sk-0123456789abcdef0123456789abcdef";

    async fn set(keeper: &Keeper, name: &'static str, value: &'static str, expires: Option<OffsetDateTime>) {
        let set = move |vault: &mut Vault| {
            let meta = SecretMeta { expires, ..SecretMeta::default() };
            let secret = Secret::new(value.as_bytes().to_vec());
            Ok(vault.set(&name.parse().expect("a name"), secret, meta, ExpectedVersion::Any)?)
        };
        keeper.with_new("default", set).await.expect("stored");
    }

    /// Why keys were not given out, as the record has it.
    async fn failed(keeper: &Keeper) -> Vec<String> {
        let records = keeper.with("default", |vault| Ok(vault.audit()?)).await.expect("a log");
        let reason = |event| match event {
            AuditEvent::OpenFailed { run, reason } => Some(format!("{run} {reason}")),
            _ => None,
        };
        records.into_iter().filter_map(|record| reason(record.event)).collect()
    }

    #[tokio::test]
    async fn what_clients_are_not_given_is_on_record_once_however_often_they_ask() {
        let folder = tempfile::tempdir().expect("a folder");
        let location = VaultLocation {
            store: folder.path().join("vault"),
            key_file: folder.path().join("vault.key"),
            workspace: "default".to_owned(),
            custody: Custody::default(),
        };
        let keeper = Keeper::hold(location, Arc::new(Catalog::builtin())).await.expect("a vault");
        let workspace: Arc<str> = "default".into();
        let ask = async || {
            for _ in 0..5 {
                keeper.providers(&workspace).await.expect("readable");
            }
        };
        let soon = OffsetDateTime::now_utc() + Duration::milliseconds(50);
        set(&keeper, "OPENAI_API_KEY", KEY, None).await;
        set(&keeper, "GEMINI_API_KEY", "a key with blanks", None).await;
        set(&keeper, "ANTHROPIC_API_KEY", KEY, Some(soon)).await;
        ask().await;
        while OffsetDateTime::now_utc() <= soon {
            tokio::task::yield_now().await;
        }
        ask().await;
        let mut failed = failed(&keeper).await;
        failed.sort();
        assert_eq!(failed, ["gateway key_unusable", "gateway secret_expired"]);
    }
}
