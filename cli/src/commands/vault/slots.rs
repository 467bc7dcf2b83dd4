//! `orch vault slots` and `orch vault rekey`.
//!
//! Both want the vault for themselves. A server that holds it is not asked to do it instead: its passphrase prompt, its
//! keychain and its credentials are another session's, and the keys that this one would make belong to whoever asks.

use std::path::Path;

use orch_server::vault::slot as slot_json;
use orch_server::{Failure, Kind};
use orch_vault::{NewSlot, OpenMode, SlotInfo, Vault};
use serde_json::{Value, json};

use crate::args::{AddSlotCommand, RmSlotArgs, SlotsArgs, SlotsCommand};
use crate::commands::secrets::Keeping;
use crate::custody;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

/// How much of a slot's id is shown: enough to tell sixteen apart, and any of them by its beginning.
const SHORT_ID: usize = 12;

pub(super) fn run(here: &Installation, args: &SlotsArgs, printer: Printer) -> Result<(), Failure> {
    match &args.command {
        SlotsCommand::List => list(here, printer),
        SlotsCommand::Add(new) => add(here, new, printer),
        SlotsCommand::Rm(args) => remove(here, args, printer),
    }
}

/// Gives the vault new keys.
pub(super) fn rekey(here: &Installation, printer: Printer) -> Result<(), Failure> {
    let rekeyed = existing(here, OpenMode::WriteIfExists)?.rekey()?;
    if printer.json() {
        let slots: Vec<Value> = rekeyed.slots.iter().map(slot_json).collect();
        let rekeyed = json!({ "term": rekeyed.term, "slots": slots, "left_behind": rekeyed.left_behind });
        return printer.result_json(&rekeyed).or_else(broken_pipe);
    }
    printer.note(&format!(
        "the vault has new keys (term {}); old copies of its keys open nothing new",
        rekeyed.term
    ));
    for left_behind in &rekeyed.left_behind {
        printer.note(left_behind);
    }
    Ok(())
}

fn list(here: &Installation, printer: Printer) -> Result<(), Failure> {
    let slots = existing(here, OpenMode::ReadOnlyIfExists)?.slots()?;
    if printer.json() {
        let rows: Vec<Value> = slots.iter().map(slot_json).collect();
        return printer.result_json(&json!({ "slots": rows })).or_else(broken_pipe);
    }
    let line = |slot: &SlotInfo| {
        let used = if slot.in_use { "  opened the vault just now" } else { "" };
        format!("{}  {:18}{used}", short(slot), slot.kind.to_string()).trim_end().to_owned()
    };
    printer.result(&slots.iter().map(line).collect::<Vec<_>>().join("\n")).or_else(broken_pipe)
}

fn add(here: &Installation, new: &AddSlotCommand, printer: Printer) -> Result<(), Failure> {
    let mut vault = existing(here, OpenMode::WriteIfExists)?;
    let added = match new {
        AddSlotCommand::File => vault.add_slot(NewSlot::File, false)?,
        AddSlotCommand::Keychain => vault.add_slot(NewSlot::Keychain, false)?,
        AddSlotCommand::Passphrase { passphrase_file, replace } => {
            let secret = custody::new_passphrase(passphrase_file.as_deref(), printer)?;
            vault.add_slot(NewSlot::Passphrase(secret), *replace)?
        }
        AddSlotCommand::SystemdCredential { out, replace } => add_credential(&mut vault, out, *replace)?,
    };
    if printer.json() {
        return printer.result_json(&json!({ "slot": slot_json(&added) })).or_else(broken_pipe);
    }
    printer.note(&format!("added the {} slot {}", added.kind, short(&added)));
    Ok(())
}

fn add_credential(vault: &mut Vault, out: &Path, replace: bool) -> Result<SlotInfo, Failure> {
    if out.symlink_metadata().is_ok() {
        return Err(Failure::usage(
            "output_failed",
            format!("{} is there already, and a credential replaces nothing", out.display()),
        ));
    }
    Ok(vault.add_slot(NewSlot::SystemdCredential(out.to_owned()), replace)?)
}

fn remove(here: &Installation, args: &RmSlotArgs, printer: Printer) -> Result<(), Failure> {
    let slot = *find(&existing(here, OpenMode::ReadOnlyIfExists)?.slots()?, &args.slot)?;
    if !args.yes {
        if !printer.interactive() {
            return Err(Failure::usage(
                "bad_usage",
                format!("removing the {} slot cannot be undone; nobody is here to ask", slot.kind),
            )
            .hint(format!("orch vault slots rm {} --yes", short(&slot))));
        }
        let question =
            format!("Remove the {} slot {}? Its key opens nothing any more. [y/N] ", slot.kind, short(&slot));
        if !printer.confirmed(&question)? {
            return Err(Failure::new(Kind::Interrupted, "not_confirmed", "nothing was removed"));
        }
    }
    let removed = existing(here, OpenMode::WriteIfExists)?.remove_slot(slot.id)?;
    if printer.json() {
        let removed = json!({ "removed": slot_json(&removed.slot), "left_behind": removed.left_behind });
        return printer.result_json(&removed).or_else(broken_pipe);
    }
    printer.note(&format!("removed the {} slot {}", removed.slot.kind, short(&removed.slot)));
    if let Some(left_behind) = &removed.left_behind {
        printer.note(left_behind);
    }
    printer.note("who has a copy of its key and of the vault can read what that copy holds; orch vault rekey keeps them from what comes later");
    Ok(())
}

/// The slot that is meant: by its id, the beginning of it, or its kind, where that leaves one.
fn find<'a>(slots: &'a [SlotInfo], said: &str) -> Result<&'a SlotInfo, Failure> {
    let meant = |slot: &&SlotInfo| {
        slot.kind.as_str() == said || (said.len() >= 4 && slot.id.to_string().starts_with(said))
    };
    let mut found = slots.iter().filter(meant);
    match (found.next(), found.next()) {
        (Some(slot), None) => Ok(slot),
        (None, _) => Err(Failure::new(Kind::Vault, "vault_slots", format!("the vault has no slot {said:?}"))
            .hint("orch vault slots list")),
        (Some(_), Some(_)) => Err(Failure::usage("bad_usage", format!("{said:?} could be several slots"))
            .hint("orch vault slots list")),
    }
}

/// The vault of this home, which no server holds.
fn existing(here: &Installation, mode: OpenMode) -> Result<Vault, Failure> {
    if let Keeping::Server(..) = Keeping::find(here, true)? {
        return Err(Failure::new(
            Kind::Vault,
            "vault_in_use",
            "the server of this home has the vault open, and its slots are changed by nobody else meanwhile",
        )
        .hint("stop orch serve, run the command again, and start it again"));
    }
    let vault = Vault::open(&here.vault, mode)?;
    if !vault.exists() {
        return Err(Failure::new(Kind::Vault, "vault_missing", "there is no vault yet")
            .hint("the first secret makes it: orch secrets set NAME"));
    }
    Ok(vault)
}

fn short(slot: &SlotInfo) -> String {
    slot.id.to_string().chars().take(SHORT_ID).collect()
}
