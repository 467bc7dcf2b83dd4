//! Power losses, replayed: whatever the disk had not been told to keep is dropped or torn, and what was
//! acknowledged is there all the same, whole.
//!
//! A child works on a vault while a preloaded library (`calls/library.rs`) writes down each of its file operations.
//! Each trial lets the power go at a random one of them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use orch_vault::{
    Entry, ExpectedVersion, GrantTerms, NewSlot, OpenMode, PlannedUse, Rotation, Secret, SecretMeta,
    SlotKind, Vault, VaultLocation,
};

use crate::calls::recorded_child;
use crate::shown::Shown;
use crate::support::*;

mod disk;

use disk::{Chance, Disk, Op, operations};

/// Which work the child does.
const PART: &str = "ORCH_VAULT_TEST_WORK";
/// How many changes are recorded.
const CHANGES: usize = 48;
/// Work that replaces files, with changes between.
const REBUILDS: [&str; 34] = [
    "create",
    "change",
    "change",
    "change",
    "uses",
    "set-all",
    "rotate",
    "grant",
    "compact",
    "rotate",
    "change",
    "change",
    "backup",
    "copy",
    "change",
    "rekey",
    "change",
    "add-slot",
    "change",
    "compact",
    "remove-slot",
    "change",
    "restore",
    "change",
    "rekey",
    "change",
    "compact",
    "change",
    "restore",
    "grant",
    "set-all",
    "compact",
    "rotate",
    "change",
];

/// The steps of a piece of work.
fn steps(work: &str) -> Vec<&'static str> {
    match work {
        "changes" => [&["create"], ["change"; CHANGES].as_slice()].concat(),
        _ => REBUILDS.to_vec(),
    }
}

/// Sets of small and of large values, and removals.
fn change(number: usize) -> (String, Option<Vec<u8>>) {
    let secret = format!("SECRET_{}", number % 5);
    // Every seventh is a removal, of something that was set five before.
    let filler = "x".repeat([0, 300, 9000, 20, 40_000][number % 5]);
    let value = format!("change-{number:012}-{filler}.");
    (secret, (number % 7 != 6).then(|| value.into_bytes()))
}

fn copies(home: &Path) -> PathBuf {
    home.join("copies")
}

/// A vault that is worked on.
struct Worker {
    location: VaultLocation,
    copies: PathBuf,
    /// What was backed up and is not written yet.
    backup: Vec<u8>,
    vault: Vault,
}

impl Worker {
    fn begin(home: &Path, location: VaultLocation) -> Worker {
        let vault = Vault::open(&location, OpenMode::Create).unwrap();
        Worker { location, copies: copies(home), backup: Vec::new(), vault }
    }

    fn step(mut self, number: usize, step: &str) -> Worker {
        let passphrase = Secret::new(b"five or six random words".to_vec());
        let copy = self.copies.join("vault.backup");
        let vault = &mut self.vault;
        match step {
            "change" => match change(number) {
                (secret, Some(value)) => drop(set(vault, &secret, &value)),
                (secret, None) => drop(vault.remove(&name(&secret)).unwrap()),
            },
            "uses" => {
                let planned = PlannedUse {
                    run: "run_1".into(),
                    secret: name("SECRET_1"),
                    host: "h.example".into(),
                    grant: None,
                };
                vault.record_uses(&[planned]).unwrap();
            }
            // Of secrets that no change removes.
            "set-all" => {
                let entries = ["ROTATED", "GRANTED"].map(|of| Entry {
                    name: name(of),
                    value: Secret::new(format!("{of} in step {number:012}").into_bytes()),
                    meta: SecretMeta::default(),
                    expected: ExpectedVersion::Any,
                });
                vault.set_all(entries.into()).unwrap();
            }
            "rotate" => {
                let value = Secret::new(format!("rotated {number:012}-{}.", "x".repeat(9000)).into_bytes());
                let rotation = Rotation { value, expires: None, scrubbable: true };
                drop(vault.rotate(&name("ROTATED"), rotation).unwrap());
            }
            "grant" => {
                let terms = GrantTerms { host: Some("h.example".into()), ..GrantTerms::default() };
                vault.grant(&name("GRANTED"), terms).unwrap();
            }
            "compact" => drop(vault.compact().unwrap()),
            "backup" => self.backup = vault.backup(&passphrase).unwrap(),
            "copy" => Vault::write_backup(&copy, &self.backup).unwrap(),
            "rekey" => drop(vault.rekey().unwrap()),
            "add-slot" => drop(vault.add_slot(NewSlot::Passphrase(passphrase), false).unwrap()),
            "remove-slot" => {
                let slots = vault.slots().unwrap();
                let slot = slots.iter().find(|slot| slot.kind == SlotKind::Passphrase).unwrap();
                vault.remove_slot(slot.id).unwrap();
            }
            "restore" => {
                drop(self.vault);
                let backup = Vault::read_backup(&copy).unwrap();
                Vault::restore(&self.location, &backup, &passphrase).unwrap();
                self.vault = Vault::open(&self.location, OpenMode::WriteIfExists).unwrap();
            }
            other => panic!("nobody knows how to {other}"),
        }
        self
    }
}

/// The child's part.
#[test]
fn child_steps() {
    let (Some(location), Some(home)) = (child_location(), std::env::var_os(CHILD)) else { return };
    let steps = steps(&std::env::var(PART).unwrap());
    let mut worker = Worker::begin(Path::new(&home), location);
    for (number, step) in steps.into_iter().enumerate() {
        if step != "create" {
            worker = worker.step(number, step);
        }
        let shown = Shown::of(&worker.vault, &worker.copies).unwrap();
        // In one call, which becomes one record.
        let mut said = std::io::stdout();
        said.write_all(format!("\nacknowledged {shown:?}\n").as_bytes()).unwrap();
        said.flush().unwrap();
    }
}

/// A disk before the recording, what happened then, and what the vault showed after each step.
struct Recording {
    home: Home,
    before: Disk,
    operations: Vec<Op>,
    shown: Vec<String>,
}

impl Recording {
    fn of(work: &str) -> Recording {
        let home = Home::in_memory();
        fs::create_dir(copies(&home.path())).unwrap();
        let before = Disk::of(&home.path());
        let outside = tempfile::tempdir().unwrap();
        let record = outside.path().join("record");
        let done = recorded_child("power::child_steps", &home.path())
            .env(PART, work)
            .stdout(Stdio::from(File::create(&record).unwrap()))
            .status()
            .unwrap();
        assert!(done.success());
        let operations = operations(&fs::read(&record).unwrap());
        let shown: Vec<String> = operations.iter().filter_map(acknowledged).collect();
        assert_eq!(shown.len(), steps(work).len());
        Recording { home, before, operations, shown }
    }

    /// Runs trials; the bad ones. With `ignores`, as if the disk had never been told to keep that file or folder.
    fn trials(&self, seeds: impl Iterator<Item = u64>, ignores: Option<&str>) -> Vec<String> {
        let ignored = ignores.map(|name| self.home.path().join(name));
        let mut bad = Vec::new();
        for seed in seeds {
            let mut chance = Chance(seed);
            let moment = chance.below(self.operations.len() + 1);
            let mut disk = self.before.clone();
            let mut steps = 0;
            for op in &self.operations[..moment] {
                disk.apply(op, ignored.as_deref());
                steps += usize::from(acknowledged(op).is_some());
            }
            let after = Home::in_memory();
            disk.lose_power(&mut chance, &after.path());
            if let Err(error) = self.judge(steps, &after) {
                bad.push(format!("seed {seed}, {steps} steps acknowledged, {moment} operations: {error}"));
            }
        }
        bad
    }

    /// What is left after so many steps: what they led to, or what the next one does.
    fn judge(&self, steps: usize, after: &Home) -> Result<(), String> {
        let location = after.location("default");
        if steps == 0 {
            // Nobody was told that there is a vault. There is one then, or one can be made.
            return Vault::open(&location, OpenMode::Create).map(|_| ()).map_err(|error| error.to_string());
        }
        let left = format!("{:?}", Shown::at(&location, &copies(&after.path()))?);
        let expected = [self.shown.get(steps - 1), self.shown.get(steps)];
        match expected.into_iter().flatten().any(|shown| *shown == left) {
            true => Ok(()),
            false => Err(format!("what is left was never there: {left}")),
        }
    }
}

fn acknowledged(op: &Op) -> Option<String> {
    let Op::Said(text) = op else { return None };
    let text = String::from_utf8_lossy(text);
    Some(text.split("acknowledged ").nth(1)?.trim_end().to_owned())
}

fn all_is_well(work: &str) {
    let seed = u64::from(std::process::id()) << 32;
    let bad = Recording::of(work).trials(seed..seed + trials_wanted(), None);
    assert!(bad.is_empty(), "{} of {} bad:\n{}", bad.len(), trials_wanted(), bad.join("\n"));
}

#[test]
fn no_acknowledged_change_is_lost_with_the_power() {
    all_is_well("changes");
}

#[test]
fn nothing_that_is_rebuilt_is_lost_with_the_power() {
    all_is_well("rebuilds");
}

/// That the trials would find it: without one of the syncs, changes are lost.
#[test]
fn the_trials_see_a_missing_sync() {
    let changes = Recording::of("changes");
    let bad = changes.trials(0..20, Some("data/vault/db"));
    assert!(bad.len() > 5, "{} bad:\n{}", bad.len(), bad.join("\n"));
    let bad = changes.trials(0..40, Some("data/vault.head"));
    // An anchor that lags is refused or caught up with, never believed.
    assert!(bad.iter().all(|bad| !bad.contains("never there")), "{}", bad.join("\n"));
    let rebuilds = Recording::of("rebuilds");
    for ignored in ["data/vault.next/db", "data", "copies", "data/vault.head.unfinished"] {
        let bad = rebuilds.trials(0..100, Some(ignored));
        assert!(!bad.is_empty(), "nobody misses the sync of {ignored}");
    }
}
