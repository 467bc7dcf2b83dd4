//! Power losses, replayed: whatever the disk had not been told to keep is dropped or torn, and what was
//! acknowledged is there all the same, whole.
//!
//! A child process changes a vault while a preloaded library (`power/recorder.rs`, compiled here by `rustc`)
//! writes down each of its file operations. Each trial lets the power go at a random one of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use orch_vault::{AuditEvent, OpenMode, Vault, VaultLocation};

use crate::support::*;

mod disk;

use disk::{Chance, Disk, Op, operations};

/// How many changes are recorded.
const CHANGES: usize = 48;
/// Changes before the recording begins, so that there is a store, and it is on disk.
const BEFORE: usize = 3;

/// What the vault holds after the first `changes` changes.
fn expected(changes: usize) -> BTreeMap<String, Vec<u8>> {
    let mut secrets = BTreeMap::new();
    for number in 0..changes {
        match change(number) {
            (secret, Some(value)) => secrets.insert(secret, value),
            (secret, None) => secrets.remove(&secret),
        };
    }
    secrets
}

/// Sets of small and of large values, and removals.
fn change(number: usize) -> (String, Option<Vec<u8>>) {
    let secret = format!("SECRET_{}", number % 5);
    // Every seventh is a removal, of something that was set five before.
    let filler = "x".repeat([0, 300, 9000, 20, 40_000][number % 5]);
    let value = format!("change-{number:012}-{filler}.");
    (secret, (number % 7 != 6).then(|| value.into_bytes()))
}

fn make(vault: &mut Vault, number: usize) {
    match change(number) {
        (secret, Some(value)) => {
            set(vault, &secret, &value);
        }
        (secret, None) => {
            vault.remove(&name(&secret)).unwrap();
        }
    }
}

/// The child's part.
#[test]
fn child_changes() {
    let Some(location) = child_location() else { return };
    let mut vault = Vault::open(&location, OpenMode::Create).unwrap();
    for number in BEFORE..CHANGES {
        make(&mut vault, number);
        println!("acknowledged {}", number + 1);
        std::io::stdout().flush().unwrap();
    }
}

fn recorder(folder: &Path) -> PathBuf {
    let library = folder.join("recorder.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vault/power/recorder.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-C", "panic=abort", "-o"])
        .args([&library, &source])
        .status()
        .expect("rustc, which has built this test, can be run");
    assert!(built.success());
    library
}

/// A disk before the recording, and what happened then.
fn recorded() -> (Home, Disk, Vec<Op>) {
    let home = Home::in_memory();
    let mut vault = home.open();
    for number in 0..BEFORE {
        make(&mut vault, number);
    }
    drop(vault);
    let disk = Disk::of(&home.path());
    let outside = tempfile::tempdir().unwrap();
    let record = outside.path().join("record");
    let done = child("power::child_changes", &home.path())
        .env("LD_PRELOAD", recorder(outside.path()))
        .stdout(Stdio::from(File::create(&record).unwrap()))
        .status()
        .unwrap();
    assert!(done.success());
    let operations = operations(&fs::read(&record).unwrap());
    (home, disk, operations)
}

fn acknowledged(op: &Op) -> Option<usize> {
    let Op::Said(text) = op else { return None };
    let text = String::from_utf8_lossy(text);
    text.split("acknowledged ").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// What is left of a vault after a power loss: how many changes it shows, or why it does not open.
fn left(location: &VaultLocation) -> Result<usize, String> {
    let vault = Vault::open(location, OpenMode::WriteIfExists).map_err(|error| error.to_string())?;
    let report = vault.verify().map_err(|error| error.to_string())?;
    if !report.is_sound() {
        return Err(format!("{:?}", report.findings));
    }
    let mut secrets = BTreeMap::new();
    for summary in vault.list().map_err(|error| error.to_string())? {
        let (value, _) = vault.open_secret(&summary.name).unwrap().unwrap();
        secrets.insert(summary.name.to_string(), value.expose(<[u8]>::to_vec));
    }
    let is_change = |event: &AuditEvent| matches!(event, AuditEvent::Set { .. } | AuditEvent::Removed { .. });
    let records = vault.audit().unwrap().iter().filter(|record| is_change(&record.event)).count();
    // Each change leaves one record.
    match expected(records) == secrets {
        true => Ok(records),
        false => Err(format!("{records} records, and secrets that were never together")),
    }
}

/// Runs the trials; the bad ones. With `ignores`, as if the disk had never been told to keep that file.
fn trials(seeds: impl Iterator<Item = u64>, ignores: Option<&str>) -> Vec<String> {
    let (home, before, operations) = recorded();
    let ignored = ignores.map(|name| home.path().join(name));
    let mut bad = Vec::new();
    for seed in seeds {
        let mut chance = Chance(seed);
        let moment = chance.below(operations.len() + 1);
        let mut disk = before.clone();
        let mut last = BEFORE;
        for op in &operations[..moment] {
            disk.apply(op, ignored.as_deref());
            last = acknowledged(op).unwrap_or(last);
        }
        let after = Home::in_memory();
        disk.lose_power(&mut chance, &after.path());
        match left(&after.location("default")) {
            Ok(shown) if shown == last || shown == last + 1 => {}
            Ok(shown) => bad.push(format!("seed {seed}: {last} acknowledged, {shown} there")),
            Err(error) => bad.push(format!("seed {seed}: {last} acknowledged, and {error}")),
        }
    }
    bad
}

#[test]
fn nothing_acknowledged_is_lost_with_the_power() {
    let seed = u64::from(std::process::id()) << 32;
    let bad = trials(seed..seed + trials_wanted(), None);
    assert!(bad.is_empty(), "{} bad:\n{}", bad.len(), bad.join("\n"));
}

/// That the trials would find it: without the one sync that a commit ends with, changes are lost.
#[test]
fn the_trials_see_a_missing_sync() {
    let bad = trials(0..20, Some("data/vault/db"));
    assert!(bad.len() > 5, "{} bad:\n{}", bad.len(), bad.join("\n"));
    let bad = trials(0..40, Some("data/vault.head"));
    // An anchor that lags is refused or caught up with, never believed.
    assert!(bad.iter().all(|bad| bad.contains("acknowledged, and")), "{}", bad.join("\n"));
}
