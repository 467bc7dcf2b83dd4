//! What is known of a provider's key before it is stored: what it looks like, and what its provider says.

use futures_util::future::join_all;
use orch_manifests::{Auth, Catalog, Provider, Tool};
use orch_server::secrets::{self, Sender, arriving};
use orch_server::{Failure, FileReference, KeyChecker, Kind, describe, document, refuse_rejected};
use orch_vault::{Secret, SecretName};
use serde_json::Value;

use super::Keeping;
use crate::args::{ProofArgs, SetArgs};
use crate::printer::Printer;
use crate::wire::{Installation, runtime};

/// A value as it is kept. What about it deserves attention is said.
///
/// # Errors
/// It could never be used as the key that its name says it is.
pub(super) fn arrived(
    here: &Installation,
    name: &SecretName,
    value: Secret,
    printer: Printer,
) -> Result<Secret, Failure> {
    let (value, warnings) = arriving(&here.catalog, name, value, Sender::Owner)?;
    for warning in warnings {
        printer.warn(&warning);
    }
    Ok(value)
}

/// Asks the provider about its key, and says what came of it. None where nobody was asked.
///
/// # Errors
/// The provider rejects the key.
pub(crate) fn proven(
    here: &Installation,
    keeping: &Keeping<'_>,
    (name, value): (&SecretName, &Secret),
    args: &ProofArgs,
    printer: Printer,
) -> Result<Option<Value>, Failure> {
    let Some(provider) = here.catalog.provider_of_key(name.as_str()) else { return Ok(None) };
    // A server elsewhere may have this provider at another place than this machine, and the key is for there.
    if args.no_check || !here.checks_keys() || keeping.on_network() {
        return Ok(None);
    }
    let checker = KeyChecker::new(&here.config)?;
    let verdict = runtime()?.block_on(checker.check(&here.vault.workspace, provider, name.as_str(), value));
    refuse_rejected(provider, name.as_str(), &verdict, None).map_err(|failure| {
        failure.hint(format!("--no-check stores it all the same: orch secrets set {name} --no-check"))
    })?;
    let said = describe(provider, name.as_str(), &verdict);
    match verdict.word() {
        "valid" => printer.note(&said.text),
        _ => {
            printer.warn(&said.text);
            for hint in said.hints {
                printer.note(&hint);
            }
        }
    }
    Ok(Some(document(provider, name.as_str(), &verdict)))
}

/// Whether a server elsewhere is to ask the provider: it may have that at another place than this machine, and the key is for
/// there.
pub(super) fn asks_there(here: &Installation, keeping: &Keeping<'_>, args: &ProofArgs) -> bool {
    keeping.on_network() && !args.no_check && here.checks_keys()
}

/// Says what a server elsewhere heard of a key.
pub(super) fn say_heard(keeping: &Keeping<'_>, answer: &Value, printer: Printer) {
    let Some(check) = answer.get("check").filter(|_| keeping.on_network()) else { return };
    let text = check["text"].as_str().unwrap_or_default();
    match check["verdict"] == "valid" {
        true => printer.note(text),
        false => printer.warn(text),
    }
    for hint in check["hints"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        printer.note(hint);
    }
}

/// Asks providers about many keys at the same time, and says what came of it. Nothing where nobody was asked.
///
/// # Errors
/// A provider rejects its key; all such are named.
pub(super) fn all_proven(
    here: &Installation,
    keeping: &Keeping<'_>,
    values: &[(SecretName, Secret)],
    args: &ProofArgs,
    printer: Printer,
) -> Result<Vec<Value>, Failure> {
    if args.no_check || !here.checks_keys() || keeping.on_network() {
        return Ok(Vec::new());
    }
    let mut keys: Vec<(&Provider, &SecretName, &Secret)> = Vec::new();
    for (name, value) in values {
        keys.extend(here.catalog.provider_of_key(name.as_str()).map(|provider| (provider, name, value)));
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let checker = KeyChecker::new(&here.config)?;
    let workspace = &here.vault.workspace;
    let asked =
        keys.iter().map(|(provider, name, value)| checker.check(workspace, provider, name.as_str(), value));
    let verdicts = runtime()?.block_on(join_all(asked));
    let checks: Vec<Value> = keys
        .iter()
        .zip(&verdicts)
        .map(|((provider, name, _), verdict)| document(provider, name.as_str(), verdict))
        .collect();
    let rejected = || keys.iter().zip(&verdicts).filter(|(_, verdict)| verdict.rejects_key());
    if let Some(((provider, name, _), verdict)) = rejected().next() {
        let names: Vec<&str> = rejected().map(|((_, name, _), _)| name.as_str()).collect();
        refuse_rejected(provider, name.as_str(), verdict, None).map_err(|failure| {
            failure
                .hint("take these lines out, or store all of it without asking: --no-check")
                .detail("rejected", names)
                .detail("checks", checks.clone())
        })?;
    }
    for ((provider, name, _), verdict) in keys.iter().zip(&verdicts) {
        let said = describe(provider, name.as_str(), verdict);
        match verdict.word() {
            "valid" => printer.note(&said.text),
            _ => printer.warn(&said.text),
        }
    }
    Ok(checks)
}

/// The provider whose credential file goes by this name.
fn tool_of<'c>(catalog: &'c Catalog, name: &SecretName) -> Option<(&'c Provider, Tool)> {
    let provider = catalog.provider_of_key(name.as_str())?;
    match &provider.auth {
        Auth::TokenFile(tool) => Some((provider, *tool)),
        _ => None,
    }
}

/// What its provider's terms forbid is not done by accident.
///
/// # Errors
/// They do, and nobody said that it is meant.
pub(crate) fn check_terms(here: &Installation, name: &SecretName, despite: bool) -> Result<(), Failure> {
    secrets::check_terms(&here.catalog, name, despite).map_err(|failure| {
        failure.hint(format!(
            "--despite-terms takes it all the same, at your own risk: orch secrets set {name} --credential-file --despite-terms"
        ))
    })
}

/// The row that lets a tool's credential file be read at each use.
///
/// # Errors
/// The name is of no such file, it is nowhere, or a server elsewhere would have to read it.
pub(super) fn reference(
    here: &Installation,
    keeping: &Keeping<'_>,
    name: &SecretName,
    args: &SetArgs,
) -> Result<Option<Secret>, Failure> {
    let Some(said) = &args.credential_file else { return Ok(None) };
    let Some((_, tool)) = tool_of(&here.catalog, name) else {
        let all = here.catalog.providers().filter(|provider| matches!(provider.auth, Auth::TokenFile(_)));
        let names: Vec<&str> = all.filter_map(Provider::key_name).collect();
        return Err(Failure::usage("bad_usage", format!("{name} is no credential file of another tool"))
            .hint(format!("those are {}", names.join(", "))));
    };
    if args.project.is_some() && tool != Tool::GeminiCli {
        return Err(Failure::usage(
            "bad_usage",
            format!("--project is for Gemini CLI, and {} bills no project", tool.name()),
        ));
    }
    let path = match said {
        Some(path) => {
            std::path::absolute(path).map_err(|e| Failure::file("file_unreadable", "find", path, &e))?
        }
        None => {
            let home = here.environment.path("HOME").ok_or_else(|| {
                Failure::usage("bad_usage", "HOME does not say where the credential file is")
                    .hint(format!("orch secrets set {name} --credential-file PATH"))
            })?;
            let places: Vec<_> = tool.files().iter().map(|file| home.join(file)).collect();
            match places.iter().find(|path| path.symlink_metadata().is_ok()) {
                Some(path) => path.clone(),
                None => {
                    let shown: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
                    let message = format!(
                        "{} has no credential file here: there is no {}",
                        tool.name(),
                        shown.join(" and no ")
                    );
                    return Err(Failure::new(Kind::NoKey, "credential_file_missing", message)
                        .hint(format!("sign in with {}: {}", tool.name(), tool.command()))
                        .hint(format!(
                            "where it is elsewhere: orch secrets set {name} --credential-file PATH"
                        )));
                }
            }
        }
    };
    if keeping.on_network() {
        return Err(Failure::usage(
            "bad_usage",
            format!("a server elsewhere cannot read {} at each use", path.display()),
        )
        .hint(format!("paste what is in it now: orch secrets set {name} --from-file {}", path.display())));
    }
    Ok(Some(FileReference { path, project: args.project.clone() }.to_secret()))
}
