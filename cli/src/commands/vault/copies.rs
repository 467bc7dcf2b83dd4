//! `orch vault backup`, `restore` and `compact`: the vault in another file, and back.

use std::path::Path;

use orch_server::{Failure, Kind};
use orch_vault::{BackupFile, LARGEST_BACKUP, OpenMode, Secret, Vault};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{BackupArgs, PassphraseArgs, RestoreArgs};
use crate::client::{Revealed, json as body};
use crate::commands::secrets::Keeping;
use crate::custody;
use crate::printer::Printer;
use crate::value;
use crate::wire::{Installation, broken_pipe};

/// What a server is asked for a backup with.
#[derive(Serialize)]
struct Wanted<'a> {
    passphrase: Revealed<'a>,
}

pub(crate) fn backup<'a>(
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &BackupArgs,
    printer: Printer,
) -> Result<(), Failure> {
    // Better said before a passphrase is asked for.
    if args.file.symlink_metadata().is_ok() {
        return Err(Failure::usage(
            "file_exists",
            format!("{} is there already, and a backup replaces nothing", args.file.display()),
        ));
    }
    let passphrase = passphrase(&args.passphrase, Asked::Twice, printer)?;
    let bytes = match find()? {
        Keeping::Here(here) => {
            let backup = Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)
                .map_err(Failure::from)
                .and_then(|mut vault| match vault.exists() {
                    true => Ok(vault.backup(&passphrase)?),
                    false => Err(Failure::usage("vault_missing", "there is no vault to back up")),
                })?;
            Vault::write_backup(&args.file, &backup)?;
            backup.len() as u64
        }
        Keeping::Server(client, runtime) => {
            let passphrase = Revealed::new(&passphrase)
                .ok_or_else(|| Failure::usage("passphrase_unreadable", "the passphrase is not text"))?;
            let request = body(&Wanted { passphrase })?;
            // Before the server is asked: a place that cannot be written to is found out at no cost.
            let mut file = BackupFile::create(&args.file)?;
            let mut bytes = 0;
            let take = |piece: &[u8]| {
                bytes += piece.len() as u64;
                Ok(file.write(piece)?)
            };
            runtime.block_on(client.post_for_bytes("/v1/vault/backup", request, LARGEST_BACKUP, take))?;
            file.finish()?;
            bytes
        }
    };
    let file = args.file.display().to_string();
    if printer.json() {
        return printer.result_json(&json!({ "file": file, "bytes": bytes })).or_else(broken_pipe);
    }
    printer
        .note(&format!("wrote {file}, {bytes} bytes; the passphrase alone opens it, and nothing else does"));
    Ok(())
}

pub(super) fn restore(here: &Installation, args: &RestoreArgs, printer: Printer) -> Result<(), Failure> {
    here.home.check_vault()?;
    let backup = Vault::read_backup(&args.file)?;
    let replaces = here.vault.store.symlink_metadata().is_ok();
    if replaces && !args.yes {
        if !printer.interactive() {
            return Err(Failure::usage(
                "bad_usage",
                "a restoration replaces the vault that is here; nobody is here to ask",
            )
            .hint(format!("orch vault restore {} --yes", args.file.display())));
        }
        if !printer.confirmed("Replace the vault that is here? It cannot be brought back. [y/N] ")? {
            return Err(Failure::new(Kind::Interrupted, "not_confirmed", "nothing was restored"));
        }
    }
    let passphrase = passphrase(&args.passphrase, Asked::Once, printer)?;
    here.prepare_vault()?;
    let status = Vault::restore(&here.vault, &backup, &passphrase).map_err(|error| {
        let locked = error.kind() == orch_vault::ErrorKind::Locked;
        let failure = Failure::of_restoration(error);
        if locked { failure.hint("orch serve keeps the vault open: stop it first") } else { failure }
    })?;
    if printer.json() {
        let status = orch_server::vault::described(Some(&status));
        return printer.result_json(&status).or_else(broken_pipe);
    }
    let opened_by = status.slots.iter().map(|slot| custody::described(slot, &here.vault));
    printer.note(&format!(
        "restored: {} secrets, {} audit records; it is opened by {}",
        status.secrets,
        status.audit_records,
        opened_by.collect::<Vec<_>>().join(", ")
    ));
    Ok(())
}

pub(super) fn compact(keeping: &Keeping<'_>, printer: Printer) -> Result<(), Failure> {
    let done = match keeping {
        Keeping::Here(here) => {
            let mut vault = Vault::open(&here.vault, OpenMode::WriteIfExists)?;
            let done = if vault.exists() { vault.compact()? } else { None };
            orch_server::vault::compacted(done.as_ref())
        }
        Keeping::Server(client, runtime) => {
            runtime.block_on(client.post::<Value>("/v1/vault/compact", body(&json!({}))?))?
        }
    };
    if printer.json() {
        return printer.result_json(&done).or_else(broken_pipe);
    }
    printer.note(&match &done["before"] {
        Value::Null => "there is no vault to compact".to_owned(),
        before => format!("{before} bytes before, {} now, {} of them kept", done["after"], done["live"]),
    });
    Ok(())
}

/// How often a passphrase is asked for: twice where a mistyped one would lose everything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Once,
    Twice,
}

fn passphrase(args: &PassphraseArgs, asked: Asked, printer: Printer) -> Result<Secret, Failure> {
    let unreadable = |from: &str, e: &dyn std::fmt::Display| {
        Failure::usage("passphrase_unreadable", format!("cannot read the passphrase from {from}: {e}"))
    };
    let (file, stdin) = (args.passphrase_file.as_deref(), Path::new("-"));
    if let Some(file) = file.filter(|file| *file != stdin) {
        return custody::from_file(file)
            .map_err(|why| Failure::usage("passphrase_unreadable", format!("the passphrase: {why}")));
    }
    if args.passphrase_stdin || file.is_some() {
        return value::from_stdin(printer).map_err(|e| unreadable("standard input", &e));
    }
    if !printer.interactive() {
        return Err(Failure::usage("bad_usage", "no passphrase, and no terminal to ask on")
            .hint("--passphrase-file FILE, or --passphrase-stdin"));
    }
    let ask = |question: &str| {
        let text = rpassword::prompt_password(question).map_err(|e| unreadable("the terminal", &e))?;
        Ok::<_, Failure>(Secret::new(text.into_bytes()))
    };
    let first = ask("Passphrase of the backup (not shown): ")?;
    if asked == Asked::Twice {
        let second = ask("Once more: ")?;
        if !first.expose(|first| second.expose(|second| first == second)) {
            return Err(Failure::usage("passphrase_mismatch", "these are two different passphrases"));
        }
    }
    Ok(first)
}
