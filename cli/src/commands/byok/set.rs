//! `orch byok set`: a key goes in, and its provider is thought with first.

use orch_manifests::{Auth, Provider};
use orch_server::secrets::Terms;
use orch_server::{Failure, checked_key};
use orch_vault::{Secret, SecretName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::active::{Place, choose, stored};
use super::anybody;
use crate::args::SetKeyArgs;
use crate::client::{Revealed, json};
use crate::commands::secrets::{Keeping, check_terms, proven};
use crate::printer::Printer;
use crate::value;
use crate::wire::{Installation, broken_pipe};

/// A key, as a server takes it.
#[derive(Serialize)]
struct New<'a> {
    provider: &'a str,
    key: Revealed<'a>,
}

#[derive(Deserialize)]
struct Set {
    version: u64,
    #[serde(alias = "mask")]
    last_four: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    /// What the server heard of it, where that asked.
    #[serde(default)]
    check: Option<Value>,
}

pub(super) fn run(
    here: &Installation,
    local: bool,
    args: &SetKeyArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let provider = anybody(&here.catalog, &args.provider)?;
    let named = super::named(provider, &args.provider);
    let name = key_name(provider)?;
    let place = Place::of(here, local)?;
    check_terms(here, &name, args.despite_terms).map_err(|failure| {
        failure.hint(format!("or of a token that is pasted: orch byok set {named} --despite-terms"))
    })?;
    let secret = read_key(provider, args, printer)?;
    let (secret, warnings) = checked_key(&here.catalog, provider, &name, secret)?;
    let keeping = Keeping::find(here, local)?;
    let check = proven(here, &keeping, (&name, &secret), &args.proof, printer)?;
    let asks = !args.proof.no_check && here.checks_keys();
    let answer = store(here, &keeping, provider, (&name, secret), (asks, args.despite_terms))?;
    let Set { version, last_four, warnings: said, check: checked } =
        keeping.typed("POST /api/user/provider-keys", answer)?;
    // Some are searched with, and think of nothing.
    let thinks = !provider.inference.is_empty();
    if thinks {
        // The model of another provider is none of this one.
        let before = stored(here, &place)?.filter(|(before, _)| provider.goes_by(before));
        choose(here, &place, Some((named.as_str(), before.and_then(|(_, model)| model))), printer)?;
    }
    let check = check.or(checked);
    let mut warnings = warnings;
    warnings.extend(said.into_iter().filter(|text| !warnings.contains(text)).collect::<Vec<_>>());
    if printer.json() {
        return printer
            .result_json(&json!({
                "provider": named, "name": name.as_str(), "version": version, "last_four": last_four,
                "active": thinks, "warnings": warnings, "check": check,
            }))
            .or_else(broken_pipe);
    }
    for warning in &warnings {
        printer.warn(warning);
    }
    if keeping.on_network()
        && let Some(check) = &check
    {
        say(check, printer);
    }
    let ends = last_four.map(|four| format!(", which ends in …{four}")).unwrap_or_default();
    printer.note(&format!("stored {name}, version {version}{ends}{}", keeping.elsewhere()));
    printer.note(&match thinks {
        true => format!(
            "{named} is active: agents that support it think with it first; orch byok status says more"
        ),
        false => format!("{named} serves no models, and what is thought with first stays as it was"),
    });
    Ok(())
}

/// Says what a server heard of a key, beside its warnings.
fn say(check: &Value, printer: Printer) {
    if check["verdict"] == "valid" {
        printer.note(check["text"].as_str().unwrap_or_default());
    }
    for hint in check["hints"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        printer.note(hint);
    }
}

/// A server elsewhere keeps it as the member's own, and asks the provider about it first where that is wanted; the vault of
/// this machine as `orch secrets set` does.
fn store(
    here: &Installation,
    keeping: &Keeping<'_>,
    provider: &Provider,
    (name, secret): (&SecretName, Secret),
    (asks, despite_terms): (bool, bool),
) -> Result<Value, Failure> {
    match keeping {
        Keeping::Server(client, runtime) if client.on_network() => {
            let key = Revealed::new(&secret).ok_or_else(|| {
                Failure::usage("value_unreadable", "the key is not text, which a server takes")
            })?;
            let body = json(&New { provider: provider.slug.as_str(), key })?;
            let meant = if despite_terms { "&despite_terms=true" } else { "" };
            runtime.block_on(client.post(&format!("/api/user/provider-keys?check={asks}{meant}"), body))
        }
        keeping => {
            let meta = Terms::default().check(name, &here.catalog)?;
            // It was asked about here.
            keeping.set(name, secret, (meta, despite_terms), false)
        }
    }
}

fn key_name(provider: &Provider) -> Result<SecretName, Failure> {
    let none = || {
        Failure::usage("provider_keyless", format!("{} wants no key", provider.slug))
            .hint(format!("orch byok use {}", provider.slug))
    };
    let name = provider.key_name().ok_or_else(none)?;
    name.parse().map_err(|e| Failure::defect(format!("the catalog names a key {name}: {e}")))
}

/// The key, from the one place that was named, else from the terminal without echo.
fn read_key(provider: &Provider, args: &SetKeyArgs, printer: Printer) -> Result<Secret, Failure> {
    let unreadable = |from: &str, e: &dyn std::fmt::Display| {
        Failure::usage(
            "value_unreadable",
            format!("cannot read the key of {} from {from}: {e}", provider.slug),
        )
    };
    if let Some(key) = &args.key {
        printer.warn("a key on the command line stays in the shell's history and shows in the process list");
        return Ok(value::copy(key.secret()));
    }
    if let Some(file) = &args.key_file {
        return value::from_file(file, printer).map_err(|e| unreadable(&file.display().to_string(), &e));
    }
    match args.stdin.as_deref() {
        Some(crate::args::SecretArg::Stdin) => {
            value::from_stdin(printer).map_err(|e| unreadable("standard input", &e))
        }
        // Not repeated: it is a key, where none belongs.
        Some(crate::args::SecretArg::Value(_)) => Err(Failure::usage(
            "bad_usage",
            "only - may follow the provider; a key there would be in the shell's history and the process list",
        )
        .hint(format!("orch byok set {}", provider.slug))
        .hint("what was written there is in the shell's history already: replace that key")),
        None if printer.interactive() => {
            let text = rpassword::prompt_password(format!("Key of {} (not shown): ", provider.name))
                .map_err(|e| unreadable("the terminal", &e))?;
            Ok(Secret::new(text.into_bytes()))
        }
        None => {
            let text = format!("no key for {}, and no terminal to ask on", provider.slug);
            let failure = Failure::usage("bad_usage", text)
                .hint(format!("orch byok set {} - < FILE", provider.slug))
                .hint(format!("orch byok set {} --key-file FILE", provider.slug));
            Err(match (&provider.auth, provider.key_name()) {
                (Auth::TokenFile(tool), Some(name)) => failure.hint(format!(
                    "the file of {} is read at each use with: orch secrets set {name} --credential-file",
                    tool.name()
                )),
                _ => failure,
            })
        }
    }
}
