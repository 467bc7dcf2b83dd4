//! `orch byok`: the provider that is thought with first, and its key.

use std::process::ExitCode;

use orch_manifests::{Catalog, Provider, nearest_provider};
use orch_server::Failure;

use crate::args::{ByokArgs, ByokCommand};
use crate::printer::Printer;
use crate::wire::Installation;

mod active;
mod choose;
mod clear;
mod keys;
mod policy;
mod set;
mod status;

pub(crate) use active::{Active, By, Place, chosen, chosen_here};
pub(crate) use status::Status;

pub(crate) fn run(args: &ByokArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    match &args.command {
        ByokCommand::Set(set) => set::run(&here, args.local, set, printer),
        ByokCommand::Use(chosen) => choose::provider(&here, args.local, chosen, printer),
        ByokCommand::Model(chosen) => choose::model(&here, args.local, chosen, printer),
        ByokCommand::Status => status::run(&here, args.local, printer),
        ByokCommand::Clear(clear) => clear::run(&here, args.local, clear, printer),
        ByokCommand::Policy(policy) => policy::run(&here, policy, printer),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The provider of models of this name.
///
/// # Errors
/// There is none; the known ones are named.
fn provider<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Provider, Failure> {
    catalog
        .provider(&name.to_ascii_lowercase())
        .ok_or_else(|| unknown(name, &catalog.providers().collect::<Vec<_>>()))
}

/// Whoever has this name and takes a key, whether they serve models or not.
///
/// # Errors
/// As [`provider`].
fn anybody<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Provider, Failure> {
    catalog
        .anybody(&name.to_ascii_lowercase())
        .ok_or_else(|| unknown(name, &catalog.everybody().collect::<Vec<_>>()))
}

/// What a provider was called: the name of a variant, which asks for its dialect, or its own.
fn named(provider: &Provider, said: &str) -> String {
    let said = said.to_ascii_lowercase();
    match provider.named_dialect(&said) {
        Some(_) => said,
        None => provider.slug.to_string(),
    }
}

/// What was said is not repeated: somebody may have written their key where the provider belongs.
fn unknown(name: &str, known: &[&Provider]) -> Failure {
    let failure = Failure::usage("provider_unknown", "there is no provider of this name");
    let failure = match nearest_provider(known.iter().copied(), name) {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => failure,
    };
    let known: Vec<&str> = known.iter().map(|provider| provider.slug.as_str()).collect();
    failure.hint(format!("known providers: {}", known.join(", "))).hint("orch byok set openai")
}
