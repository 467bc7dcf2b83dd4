//! `/api/user/provider-keys`: the keys that a member of a workspace registers for their own requests.
//!
//! They lie in a part of the vault that is that member's alone ([`Ring::own`](crate::keeper::Ring)), and whoever asks is who
//! their token says: no call names a member. A value goes in and does not come out again; its last four characters do.

use std::sync::Arc;

use orch_gateway::AtHand;
use orch_manifests::{Catalog, Provider, Whose};
use orch_vault::{
    ExpectedVersion, OpenMode, Secret, SecretMeta, SecretName, SecretSummary, Vault, VaultError,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::failure::{Failure, Kind};
use crate::keeper::{Ring, VaultAt};
use crate::key_check::{Proof, refuse_rejected};
use crate::secrets::{Manner, Written, add_spent_by_id, check_terms_of_request, listed};
use crate::service::Service;

mod shape;

pub use shape::checked;

/// Whose key serves a member next for a provider, in each manner of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Serves {
    /// Requests that say nothing of keys.
    plain: Option<Whose>,
    /// Requests that ask for a key of their own.
    asked: Option<Whose>,
}

impl Serves {
    fn document(self) -> Value {
        json!({ "plain": self.plain, "byok": self.asked })
    }
}

/// A key, as it is sent: text, or a JSON object of the provider's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New<'a> {
    provider: String,
    #[serde(borrow)]
    key: &'a RawValue,
}

/// `GET /api/user/provider-keys`.
///
/// # Errors
/// When the vault cannot be read.
pub(crate) async fn list(service: &Service, caller: &Caller) -> Result<Value, Failure> {
    let ring = ring(caller);
    let catalog = Arc::clone(service.catalog());
    let read = move |vault: &Vault| {
        let all = vault.list()?;
        let of_provider = |secret: &SecretSummary| catalog.provider_of_key(secret.name.as_str()).is_some();
        Ok(all.into_iter().filter(of_provider).collect::<Vec<_>>())
    };
    let secrets: Vec<SecretSummary> = service
        .keeper()
        .look(&ring.part, move |at| match at {
            VaultAt::Open(vault) => read(vault),
            VaultAt::Rest(location) => read(&Vault::open(location, OpenMode::ReadOnlyIfExists)?),
        })
        .await?;
    let (policy, decided) = service.policies().of(&caller.workspace, &service.config().byok).await?;
    let mut keys = Vec::with_capacity(secrets.len());
    for secret in &secrets {
        let mut row = document(secret, service.catalog());
        if let Some(provider) = service.catalog().provider_of_key(secret.name.as_str()) {
            row["serves"] = serves(service, caller, provider).await?.document();
        }
        keys.push(row);
    }
    let ids = secrets.iter().map(|secret| ring.id(secret.name.as_str())).collect();
    add_spent_by_id(service.store(), &caller.workspace, ids, &mut keys).await?;
    Ok(json!({
        "member": &*caller.name, "policy": policy.as_str(), "decided_by": decided.as_str(), "keys": keys,
    }))
}

/// `POST /api/user/provider-keys`: in the place of the one before. The next request uses it; those under way end with what
/// they began with.
///
/// # Errors
/// A body that is not what it should be, a provider that is not known, a credential that lacks something, `key_rejected`
/// when the provider says that it is none and is to be asked (`check`), `terms_forbid` when the provider's terms do and nobody
/// said that it is meant, or the vault's own.
pub(crate) async fn set(
    service: &Service,
    caller: &Caller,
    body: &[u8],
    Manner { check, despite_terms }: Manner,
) -> Result<Value, Failure> {
    let (name, secret) = new(body)?;
    let catalog = service.catalog();
    let provider = provider(catalog, &name)?;
    let key_name = key_name(provider)?;
    check_terms_of_request(catalog, &key_name, despite_terms)?;
    let (secret, mut warnings) = checked(catalog, provider, &key_name, secret)?;
    // What the vault would not take is not shown to anybody either.
    SecretMeta::default().accepts(&secret).map_err(VaultError::from)?;
    let key = [(key_name.clone(), secret)];
    let proofs = service.verdicts_before_storing(&caller.workspace, &key, check).await;
    for Proof { name, verdict, .. } in &proofs {
        let slug = &provider.slug;
        let set = format!("orch byok set {slug}");
        refuse_rejected(provider, name.as_str(), verdict, Some(set.as_str())).map_err(|failure| {
            failure
                .hint(format!("to store it without asking: orch byok set {slug} --no-check, or ?check=false"))
        })?;
    }
    warnings.extend(proofs.iter().filter_map(Proof::warning));
    if provider.inference.is_empty() {
        warnings.push(format!(
            "agents of yours search with it where the workspace's policy is prefer_own or a run asks for a key of its member's own (`byok: true`), and otherwise with the workspace's: orch secrets set {key_name}"
        ));
    }
    let verdict = proofs.first().map(Proof::document);
    drop(proofs);
    let [(stored, secret)] = key;
    let store = move |vault: &mut Vault| {
        vault.set(&stored, secret, SecretMeta::default(), ExpectedVersion::Any)?;
        let missing = || VaultError::Missing { name: stored.clone() };
        Ok(vault.summary(&stored)?.ok_or_else(missing)?)
    };
    let summary = service.keeper().with_new(&ring(caller).part, store).await?;
    let mut said = document(&summary, catalog);
    said["warnings"] = json!(warnings);
    said["check"] = json!(verdict);
    said["serves"] = serves(service, caller, provider).await?.document();
    Ok(said)
}

/// `DELETE /api/user/provider-keys?provider=NAME`. The next request goes by what is left, which the answer says; those under
/// way end with what they began with, unless they are to end `now`.
///
/// # Errors
/// When the member has none for that provider, or the vault's own.
pub(crate) async fn remove(
    service: &Service,
    caller: &Caller,
    name: &str,
    now: bool,
) -> Result<Value, Failure> {
    let catalog = service.catalog();
    let provider = provider(catalog, name)?;
    let ring = ring(caller);
    let names: Vec<SecretName> = provider.env.iter().filter_map(|name| name.parse().ok()).collect();
    let remove = move |vault: &mut Vault| {
        let mut removed = Vec::new();
        // Where there is no vault there is nothing to remove from it.
        if !vault.exists() {
            return Ok(removed);
        }
        for name in &names {
            if let Some(version) = vault.remove(name)? {
                removed.push((name.clone(), version));
            }
        }
        Ok(removed)
    };
    let removed = service.keeper().with(&ring.part, remove).await?;
    if removed.is_empty() {
        return Err(Failure::usage(
            "secret_missing",
            format!("you have registered no key for {}", provider.slug),
        )
        .hint("GET /api/user/provider-keys"));
    }
    let cut = now.then(|| {
        removed.iter().map(|(name, _)| service.cut_own(&caller.workspace, &ring, name)).sum::<usize>()
    });
    Ok(json!({
        "provider": provider.slug, "removed": removed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        "cut": cut, "serves": serves(service, caller, provider).await?.document(),
    }))
}

/// Where a member's keys lie.
fn ring(caller: &Caller) -> Ring {
    Ring::own(&caller.workspace, &caller.name)
}

/// Whose key serves a member for a provider from the next request on.
async fn serves(service: &Service, caller: &Caller, provider: &Provider) -> Result<Serves, Failure> {
    let config = service.config();
    let (policy, _) = service.policies().of(&caller.workspace, &config.byok).await?;
    let there = Standing::of(service, caller).await?;
    let first = |asked: Option<bool>| {
        let order = policy.order(asked, false)?;
        // One that is there and cannot be used is an error, and nobody else's is taken in its place.
        let found = order.whose.iter().find_map(|whose| Some((*whose, there.key(*whose, provider)?)))?;
        found.1.is_ok().then_some(found.0)
    };
    Ok(Serves { plain: first(None), asked: first(Some(true)) })
}

/// Who has keys, as calls of a member find them.
struct Standing {
    own: Arc<orch_gateway::Plan>,
    team: Arc<orch_gateway::Plan>,
    platform: Option<Arc<orch_gateway::Plan>>,
}

impl Standing {
    async fn of(service: &Service, caller: &Caller) -> Result<Self, Failure> {
        let keeper = service.keeper();
        let plan = async |ring: &Ring| Ok::<_, Failure>(Arc::clone(&keeper.keys_of(ring).await?.plan));
        Ok(Self {
            own: plan(&ring(caller)).await?,
            team: plan(&Ring::team(&caller.workspace)).await?,
            platform: service.platform_plan(&caller.workspace).await?,
        })
    }

    /// What there is of a key of somebody's.
    fn key(&self, whose: Whose, provider: &Provider) -> Option<Result<&AtHand, &str>> {
        let plan = match whose {
            Whose::Own => Some(&self.own),
            Whose::Team => Some(&self.team),
            Whose::Platform => self.platform.as_ref(),
        };
        plan?.key_for(&provider.slug)
    }
}

fn document(secret: &SecretSummary, catalog: &Catalog) -> Value {
    let listed = listed(secret, catalog);
    let provider = catalog.provider_of_key(secret.name.as_str());
    json!({
        "provider": provider.map(|provider| provider.slug.as_str()), "name": secret.name.as_str(),
        "last_four": secret.mask, "version": listed["version"], "created": listed["created"],
        "updated": listed["updated"], "last_used": listed["last_used"],
    })
}

/// The provider, and what was sent as its key.
///
/// # Errors
/// When the body is not that. What was sent is not repeated.
fn new(body: &[u8]) -> Result<(String, Secret), Failure> {
    let wrong = |why: &str| {
        Failure::usage("body_invalid", format!("the body is not what it should be: {why}"))
            .hint(r#"{"provider": "openai", "key": "sk-…"}, or as `key` the provider's JSON credential"#)
    };
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("it is not a JSON object"));
    }
    let New { provider, key } = serde_json::from_slice(body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => {
            wrong("it has the fields provider and key, both of them and no others")
        }
        _ => wrong(&format!("it is not JSON (line {}, column {})", e.line(), e.column())),
    })?;
    let raw = key.get();
    if raw.starts_with('"') {
        let written: Written = serde_json::from_str(raw).map_err(|_| wrong("key is no text"))?;
        return Ok((provider, written.0));
    }
    if !raw.starts_with('{') {
        return Err(wrong("key is text, or the provider's JSON credential"));
    }
    // No JSON text has line breaks in it but between its parts, and no credential keeps them.
    let compact: Vec<u8> = raw.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r' | b'\t')).collect();
    Ok((provider, Secret::new(compact)))
}

/// The provider of this name.
pub(crate) fn provider<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Provider, Failure> {
    catalog.anybody(name).ok_or_else(|| {
        let known: Vec<&str> = catalog.everybody().map(|provider| provider.slug.as_str()).collect();
        // What stands there may be a key in the wrong place.
        Failure::usage("provider_unknown", "there is no provider of this name")
            .detail("field", "provider")
            .detail("known", known.clone())
            .hint(format!("known providers: {}", known.join(", ")))
    })
}

/// The name that a provider's key is stored by.
///
/// # Errors
/// The provider wants none.
pub(crate) fn key_name(provider: &Provider) -> Result<SecretName, Failure> {
    let none = || {
        Failure::new(Kind::Usage, "provider_keyless", format!("{} wants no key", provider.slug))
            .detail("field", "provider")
    };
    let name = provider.key_name().ok_or_else(none)?;
    name.parse().map_err(|e| Failure::defect(format!("the catalog names a key {name}: {e}")))
}
