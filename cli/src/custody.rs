//! Where the vault's keys are looked for: the terminal, a file, the session's keychain, systemd's credentials.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orch_server::{Environment, Failure};
use orch_vault::{Custody, KeyChoice, OsKeychain, PassphraseFor, Secret, SlotInfo, SlotKind, VaultLocation};
use rustix::fs::OFlags;

use crate::printer::Printer;
use crate::value;

/// The name of systemd's credential with the vault's key.
const CREDENTIAL: &str = "orch-vault-key";
/// How somebody says a passphrase who is not there to type it.
const FILE_VARIABLE: &str = "ORCH_PASSPHRASE_FILE";

/// Where the keys of the vault's slots are on this machine, in this session. Nothing is touched before a key is needed.
pub(crate) fn looked_for(environment: &Environment, choice: KeyChoice) -> Custody {
    let file = environment.get(FILE_VARIABLE).map(PathBuf::from);
    // The terminal is asked even with --json: the question goes to the terminal itself and not to stdout or stderr.
    let terminal = Printer::new(false, environment);
    let custody = Custody::new(choice)
        .with_keychain(Arc::new(OsKeychain::new(session(environment))))
        .with_passphrase(Arc::new(move |what_for| ask(file.as_deref(), what_for, terminal)));
    match environment.path("CREDENTIALS_DIRECTORY") {
        Some(folder) => custody.with_credential(folder.join(CREDENTIAL)),
        None => custody,
    }
}

/// What opens a slot, in words.
pub(crate) fn described(slot: &SlotInfo, vault: &VaultLocation) -> String {
    match slot.kind {
        SlotKind::File => format!("the file {}", vault.key_file.display()),
        SlotKind::Passphrase => "a passphrase".to_owned(),
        SlotKind::Keychain => "the keychain".to_owned(),
        SlotKind::SystemdCredential => "a systemd credential".to_owned(),
        other => format!("something that this version does not know, {other}"),
    }
}

/// Whether this session has a keychain to be looked for.
fn session(environment: &Environment) -> Result<(), &'static str> {
    let bus = || environment.path("XDG_RUNTIME_DIR").is_some_and(|folder| folder.join("bus").exists());
    let needs_bus = cfg!(target_os = "linux");
    if needs_bus && environment.get("DBUS_SESSION_BUS_ADDRESS").is_none() && !bus() {
        return Err("this session has no bus (DBUS_SESSION_BUS_ADDRESS)");
    }
    Ok(())
}

/// A passphrase for a new slot: from a file or standard input when that was said, else from the terminal.
///
/// # Errors
/// When it cannot be read, or there is nobody to ask.
pub(crate) fn new_passphrase(from: Option<&Path>, printer: Printer) -> Result<Secret, Failure> {
    let refused = |why: String| Failure::usage("bad_usage", why);
    match from {
        Some(path) if path == Path::new("-") => value::from_stdin(printer)
            .map_err(|e| refused(format!("cannot read the passphrase from standard input: {e}"))),
        Some(path) => from_file(path).map_err(refused),
        None if printer.interactive() => prompt(PassphraseFor::New).map_err(refused),
        None => Err(refused("no passphrase, and no terminal to ask on".to_owned())
            .hint("orch vault slots add passphrase --passphrase-file FILE")
            .hint("orch vault slots add passphrase --passphrase-file - < FILE")),
    }
}

fn ask(file: Option<&Path>, what_for: PassphraseFor, terminal: Printer) -> Result<Secret, String> {
    match file {
        Some(path) => from_file(path),
        None if terminal.interactive() => prompt(what_for),
        None => {
            Err(format!("there is no terminal to ask on, and {FILE_VARIABLE} names no file that holds it"))
        }
    }
}

/// Asks on the terminal, without echo; for a new slot twice, because a slip of the finger would lock its owner out.
fn prompt(what_for: PassphraseFor) -> Result<Secret, String> {
    let ask = |question: &str| {
        rpassword::prompt_password(question)
            .map(|text| Secret::new(text.into_bytes()))
            .map_err(|e| format!("the terminal cannot be asked: {e}"))
    };
    let first = match what_for {
        PassphraseFor::Opening => return ask("Passphrase of the vault (not shown): "),
        PassphraseFor::New => ask("New passphrase of the vault (not shown): ")?,
    };
    let second = ask("The same again: ")?;
    match first.expose(|first| second.expose(|second| first == second)) {
        true => Ok(first),
        false => Err("the two passphrases differ".to_owned()),
    }
}

/// The passphrase in a file that nobody else can read.
///
/// # Errors
/// In words, when it cannot be read, or is not that.
pub(crate) fn from_file(path: &Path) -> Result<Secret, String> {
    let name = path.display();
    let unreadable = |e: std::io::Error| format!("{name} cannot be read: {e}");
    // A pipe in this place must not block, and a link is somebody else's choice.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(format!("{name} is not a regular file"));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("{name} belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(format!(
            "{name} has mode {:04o}; others must have no access (chmod 600)",
            meta.mode() & 0o7777
        ));
    }
    value::from_reader(file).map_err(unreadable)
}
