//! Keys of providers: where each would come from, and whether its provider accepts it.

use std::net::IpAddr;

use futures_util::StreamExt as _;
use orch_manifests::{Auth, Host, Provider, Scheme};
use orch_server::{Failure, KeyChecker, Kind, asked_host, document};
use orch_vault::{
    Depth, KeyRef, OpenMode, PlannedUse, Secret, SecretName, Source, Vault, Wanted, resolve_keys,
};
use serde::Deserialize;
use serde_json::Value;

use super::{Check, State};
use crate::client::Client;
use crate::commands::secrets::{Keeping, layers};
use crate::wire::{Installation, runtime};

/// Providers that are asked at once.
const AT_ONCE: usize = 8;

/// A key that a run would find.
struct Found<'a> {
    provider: &'a Provider,
    key: KeyRef,
}

/// One line for where keys come from, and one for each that its provider was asked about.
pub(super) fn checks(here: &Installation, offline: bool) -> Vec<Check> {
    let keeping = match Keeping::find(here, true) {
        Ok(keeping) => keeping,
        Err(failure) => return vec![Check::broken("keys", &failure)],
    };
    let found = match found(here, &keeping) {
        Ok(found) => found,
        Err(failure) => return vec![Check::broken("keys", &failure)],
    };
    let places: Vec<String> = found
        .iter()
        .map(|Found { key, .. }| format!("{} ({}, {})", key.provider, key.name, key.source))
        .collect();
    let mut checks = vec![match places.as_slice() {
        [] => Check::notice("keys", "no provider has a key", Some("orch secrets set OPENAI_API_KEY")),
        some => Check::fine("keys", some.join(", ")),
    }];
    checks.extend(in_clear_text(here));
    if offline || !here.checks_keys() {
        return checks;
    }
    match asked(here, &keeping, &found) {
        Ok(verdicts) => checks.extend(verdicts),
        Err(failure) => checks.push(Check::broken("keys", &failure)),
    }
    checks
}

/// Operators' providers whose key everybody on the way can read.
fn in_clear_text(here: &Installation) -> impl Iterator<Item = Check> {
    let open = |provider: &&Provider| {
        provider.auth != Auth::None
            && provider.endpoint.scheme == Scheme::Http
            && !is_near(&provider.endpoint.host)
    };
    here.catalog.providers().filter(open).map(|provider| {
        let said = format!("its key goes to {} in clear text", provider.endpoint);
        let hint = format!("in config.yaml: providers.{}.base_url with https://", provider.slug);
        Check::notice(format!("provider.{}", provider.slug), said, Some(&hint))
    })
}

/// Whether a host is this machine, or in a network of one's own.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Name(_) => false,
        Host::Ip(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
        Host::Ip(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
    }
}

fn found<'a>(here: &'a Installation, keeping: &Keeping<'_>) -> Result<Vec<Found<'a>>, Failure> {
    let sources = layers(here, keeping)?;
    let mut found = Vec::new();
    for provider in here.catalog.everybody().filter(|provider| provider.auth != Auth::None) {
        let wanted = [Wanted { provider: provider.slug.as_str(), names: &provider.env }];
        // Where the environment has nothing for this provider and the vault cannot be asked, nothing can be said.
        let resolution = resolve_keys(&wanted, &[], &*sources, Depth::First)?;
        found.extend(resolution.found.into_iter().map(|key| Found { provider, key }));
    }
    Ok(found)
}

/// What is asked about one key.
enum Ask<'a> {
    /// Its provider, from here.
    Provider(Secret),
    /// The server that has the vault open.
    Server(&'a Client),
    /// Nobody: it cannot be opened, and why.
    Nobody(Failure),
}

fn asked(here: &Installation, keeping: &Keeping<'_>, found: &[Found<'_>]) -> Result<Vec<Check>, Failure> {
    // The vault is closed again before anybody is asked.
    let opened = opened(here, keeping, found)?;
    let checker = KeyChecker::new(&here.config)?;
    let checker = &checker;
    let asking = found.iter().zip(opened).map(|(found, ask)| async move {
        let Found { provider, key } = found;
        let workspace = &here.vault.workspace;
        let said = match ask {
            Ask::Nobody(failure) => return failed(found, &failure),
            Ask::Provider(secret) => {
                let verdict = checker.check_from(key.source, workspace, provider, &key.name, &secret).await;
                document(provider, &key.name, &verdict)
            }
            Ask::Server(client) => {
                let path = format!("/v1/secrets/{}/check", key.name);
                match client.post(&path, Vec::new().into()).await {
                    Ok(said) => said,
                    Err(failure) => return failed(found, &failure),
                }
            }
        };
        check(found, said)
    });
    // In the order of the catalog, whoever answers first.
    let asking: Vec<_> = asking.collect();
    let all = futures_util::stream::iter(asking).buffered(AT_ONCE).collect::<Vec<_>>();
    Ok(match keeping {
        Keeping::Here(_) => runtime()?.block_on(all),
        Keeping::Server(_, runtime) => runtime.block_on(all),
    })
}

fn opened<'k>(
    here: &Installation,
    keeping: &'k Keeping<'_>,
    found: &[Found<'_>],
) -> Result<Vec<Ask<'k>>, Failure> {
    let of_vault = |found: &&Found<'_>| found.key.source == Source::Vault;
    let mut vault = match keeping {
        Keeping::Here(_) if found.iter().any(|found| of_vault(&found)) => {
            Some(Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)?)
        }
        Keeping::Here(_) | Keeping::Server(..) => None,
    };
    if let Some(vault) = &mut vault {
        let uses = found.iter().filter(of_vault).filter_map(|found| {
            let secret: SecretName = found.key.name.parse().ok()?;
            let value = vault.open_secret(&secret).ok().flatten();
            let host = value.map(|(value, _)| asked_host(found.provider, &value));
            let host = host.unwrap_or_else(|| found.provider.endpoint.host.to_string());
            Some(PlannedUse { run: orch_server::secrets::CHECK.to_owned(), secret, host, grant: None })
        });
        let uses: Vec<_> = uses.collect();
        vault.record_uses(&uses)?;
    }
    Ok(found.iter().map(|found| ask(here, keeping, vault.as_ref(), found)).collect())
}

fn ask<'k>(
    here: &Installation,
    keeping: &'k Keeping<'_>,
    vault: Option<&Vault>,
    found: &Found<'_>,
) -> Ask<'k> {
    let name = &found.key.name;
    let gone = || Failure::new(Kind::NoKey, "key_gone", format!("{name} was there and is gone"));
    let secret = match (found.key.source, keeping, vault) {
        (Source::Env, ..) => Ok(here.environment.provider_key(name, &here.catalog)),
        (Source::Vault, Keeping::Server(client, _), _) => return Ask::Server(client),
        (Source::Vault, Keeping::Here(_), Some(vault)) => name
            .parse::<SecretName>()
            .map_err(|_| gone())
            .and_then(|name| Ok(vault.open_secret(&name)?.map(|(secret, _)| secret))),
        _ => Ok(None),
    };
    match secret {
        Ok(Some(secret)) => Ask::Provider(secret),
        Ok(None) => Ask::Nobody(gone()),
        Err(failure) => Ask::Nobody(failure),
    }
}

/// What a check says, here and over HTTP.
#[derive(Deserialize)]
struct Said {
    verdict: String,
    text: String,
    hints: Vec<String>,
}

fn check(found: &Found<'_>, said: Value) -> Check {
    let Ok(Said { verdict, text, hints }) = serde_json::from_value(said.clone()) else {
        return failed(found, &Failure::defect("what was said of a key is not understood"));
    };
    let (state, kind) = match verdict.as_str() {
        "valid" => (State::Fine, None),
        "invalid" | "revoked" => (State::Broken, Some(Kind::NoKey)),
        _ => (State::Notice, None),
    };
    Check { name: name(found), state, detail: text, hints, facts: Some(said), kind }
}

fn failed(found: &Found<'_>, failure: &Failure) -> Check {
    let hints = failure.hints().to_vec();
    let detail = failure.message().to_owned();
    Check { name: name(found), state: State::Broken, detail, hints, facts: None, kind: Some(failure.kind()) }
}

fn name(found: &Found<'_>) -> std::borrow::Cow<'static, str> {
    format!("key.{}", found.provider.slug).into()
}
