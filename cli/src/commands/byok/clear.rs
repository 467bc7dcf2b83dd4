//! `orch byok clear`: a key goes, and the next one that there is comes first.

use orch_manifests::Provider;
use orch_server::Failure;
use orch_vault::SecretName;
use serde_json::json;

use super::active::{Place, choose, stored};
use super::anybody;
use super::keys::{KeyAt, KeysAt};
use crate::args::ClearArgs;
use crate::commands::secrets::Keeping;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

pub(super) fn run(
    here: &Installation,
    local: bool,
    args: &ClearArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let provider = anybody(&here.catalog, &args.provider)?;
    let place = Place::of(here, local)?;
    let keeping = Keeping::find(here, local)?;
    let removed = remove(&keeping, provider, args.now)?;
    let where_to = keeping.elsewhere();
    let keys = KeysAt::look(here, keeping)?;
    let left = keys.of(provider)?;
    let was_active = stored(here, &place)?.is_some_and(|(active, _)| provider.goes_by(&active));
    // One that is active and has no key, since its variable is gone, is left all the same.
    if removed.is_empty() && (left.is_some() || !was_active) {
        let failure =
            Failure::usage("secret_missing", format!("there is no key for {} to remove", provider.slug));
        return Err(match left {
            Some(key) => failure.hint(format!("{} comes from {}", key.name, key.holder.place())),
            None => failure.hint("orch byok status"),
        });
    }
    let mut active = stored(here, &place)?.map(|(active, _)| active);
    let mut notes = vec![match removed.is_empty() {
        true => format!("there was no key for {} to remove", provider.slug),
        false => format!("removed {}{where_to}", removed.join(", ")),
    }];
    if let Some(key) = &left {
        notes.push(format!("{} from {} serves {} from now on", key.name, key.holder.place(), provider.slug));
    } else if was_active {
        let next = keys.first_but(provider)?;
        choose(here, &place, next.as_ref().map(|next| (next.slug.as_str(), None)), printer)?;
        notes.push(match &next {
            Some(next) => format!("{} is active now, the next provider that has a key", next.slug),
            None => "no provider is active any more: agents think with what they name themselves".to_owned(),
        });
        active = next.map(|next| next.slug.to_string());
    }
    if printer.json() {
        return printer
            .result_json(&json!({
                "provider": provider.slug, "removed": removed, "active": active,
                "serves_now": left.as_ref().map(KeyAt::document),
            }))
            .or_else(broken_pipe);
    }
    for note in &notes {
        printer.note(note);
    }
    Ok(())
}

/// Removes all keys of a provider. Says which there were.
fn remove(keeping: &Keeping<'_>, provider: &Provider, now: bool) -> Result<Vec<String>, Failure> {
    if let Keeping::Server(client, runtime) = keeping
        && client.on_network()
    {
        let now = if now { "&now=true" } else { "" };
        let path = format!("/api/user/provider-keys?provider={}{now}", provider.slug);
        return match runtime.block_on(client.delete::<serde_json::Value>(&path)) {
            Ok(answer) => Ok(serde_json::from_value(answer["removed"].clone()).unwrap_or_default()),
            Err(failure) if failure.code() == "secret_missing" => Ok(Vec::new()),
            Err(failure) => Err(failure),
        };
    }
    let names: Vec<String> = keeping.rows()?.into_iter().map(|row| row.name).collect();
    let mut removed = Vec::new();
    for name in names.into_iter().filter(|name| provider.takes_key(name)) {
        let parsed: SecretName =
            name.parse().map_err(|e| Failure::defect(format!("the vault lists {name}: {e}")))?;
        keeping.remove(&parsed, now)?;
        removed.push(name);
    }
    Ok(removed)
}
