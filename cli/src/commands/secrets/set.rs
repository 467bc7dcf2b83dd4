//! `orch secrets set`: a value goes in.

use orch_server::Failure;
use orch_server::secrets::{Terms, new_secret_name};
use orch_vault::{OpenMode, Vault, VaultError};
use serde::Deserialize;

use super::Keeping;
use super::proof::{arrived, asks_there, check_terms, proven, reference, say_heard};
use super::row::Row;
use super::said::{grants, read_value};
use crate::args::SetArgs;
use crate::custody;
use crate::moment;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

#[derive(Deserialize)]
struct Stored {
    #[serde(flatten)]
    secret: Row,
    kept_grants: usize,
}

pub(super) fn run<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &SetArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let name = new_secret_name(&args.name, &here.catalog)?;
    let terms = Terms {
        grants: grants(&args.grants)?,
        multiline: args.multiline,
        expires: args.expires.as_deref().map(moment::from_now).transpose()?,
        allow_short: args.value.allow_short,
    };
    let meta = terms.check(&name, &here.catalog)?;
    check_terms(here, &name, args.despite_terms)?;
    let given = match &args.credential_file {
        Some(_) => None,
        None => Some(read_value(here, ("set", &name), &args.value, printer)?),
    };

    let keeping = find()?;
    let secret = match given {
        Some(given) => given,
        None => reference(here, &keeping, &name, args)?
            .ok_or_else(|| Failure::defect("a credential file was asked for and is not there"))?,
    };
    let secret = arrived(here, &name, secret, printer)?;
    // What the vault would not take is not shown to anybody either.
    meta.accepts(&secret).map_err(VaultError::from)?;
    let check = proven(here, &keeping, (&name, &secret), &args.proof, printer)?;
    let first = matches!(keeping, Keeping::Here(_)) && !here.vault.store.exists();
    let mut answer =
        keeping.set(&name, secret, (meta, args.despite_terms), asks_there(here, &keeping, &args.proof))?;
    if let Some(check) = check {
        answer["check"] = check;
    }
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    say_heard(&keeping, &answer, printer);
    let Stored { secret, kept_grants } = keeping.typed("PUT /v1/secrets", answer)?;
    if first {
        say_who_opens_it(here, printer)?;
    }
    let kept = match kept_grants {
        0 => String::new(),
        1 => "; kept its grant".to_owned(),
        many => format!("; kept its {many} grants"),
    };
    printer.note(&format!("stored {name}, version {}{}{kept}", secret.version, keeping.elsewhere()));
    warn_about(&secret, printer);
    Ok(())
}

/// What about a secret that was just stored deserves attention.
pub(super) fn warn_about(secret: &Row, printer: Printer) {
    let name = &secret.name;
    if secret.goes_nowhere() {
        printer.warn(&format!(
            "{name} may go nowhere yet: say where with orch secrets grants add {name} --host HOST, or at a run with --secret {name}@HOST"
        ));
    }
    if !secret.scrubbable {
        printer.warn(&format!("{name} is too short to be cleaned out of responses"));
    }
    if secret.never_in_header {
        printer.note(&format!("{name} may have line breaks, and never goes into a header"));
    }
}

/// Where the key of the vault is was chosen just now, and nothing chooses it again.
pub(super) fn say_who_opens_it(here: &Installation, printer: Printer) -> Result<(), Failure> {
    for slot in Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)?.slots()? {
        printer.note(&format!("made the vault; it is opened by {}", custody::described(&slot, &here.vault)));
    }
    Ok(())
}
