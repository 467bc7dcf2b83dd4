//! The operations of a vault, each with what has to be there for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use orch_vault::{
    Custody, Entry, ExpectedVersion, GrantTerms, NewSlot, OpenMode, PlannedUse, Rotation, Secret, SecretMeta,
    SlotKind, Vault, VaultError, VaultLocation,
};

use crate::calls::failing_child;
use crate::shown::Shown;
use crate::support::*;

/// What is set when the operation is over.
pub(super) const MORE: &str = "MORE";
const PASSPHRASE: &[u8] = b"five or six random words";

/// An operation.
pub(super) struct Work(&'static str);

const WORKS: [&str; 19] = [
    "create",
    "open-behind",
    "finish",
    "set",
    "replace",
    "rotate",
    "grant",
    "set-all",
    "remove",
    "uses",
    "compact",
    "backup",
    "restore",
    "restore-new",
    "rekey",
    "add-file",
    "add-credential",
    "add-passphrase",
    "remove-slot",
];

/// An operation that is about to be done.
pub(super) struct Begun {
    work: &'static str,
    home: PathBuf,
    vault: Option<Vault>,
}

/// A vault whose keys are in its key file or in a credential.
pub(super) fn location(home: &Path) -> VaultLocation {
    VaultLocation {
        store: home.join("data").join("vault"),
        key_file: home.join("config").join("vault.key"),
        workspace: "default".to_owned(),
        custody: Custody::default().with_credential(credential(home)),
    }
}

/// Where backups go.
pub(super) fn copies(home: &Path) -> PathBuf {
    home.join("copies")
}

fn credential(home: &Path) -> PathBuf {
    home.join("credential")
}

fn source(home: &Path) -> PathBuf {
    home.join("source.backup")
}

/// The first number whose file is not there.
fn unused(folder: &Path, kind: &str) -> PathBuf {
    let files = (1..).map(|number| folder.join(format!("{number}.{kind}")));
    files.into_iter().find(|file| !file.exists()).unwrap()
}

fn passphrase() -> Secret {
    Secret::new(PASSPHRASE.to_vec())
}

impl Work {
    pub(super) fn named(name: &str) -> Work {
        Work(WORKS.iter().find(|work| **work == name).unwrap())
    }

    pub(super) fn name(&self) -> &'static str {
        self.0
    }

    /// Whether there is no vault before.
    pub(super) fn creates(&self) -> bool {
        matches!(self.0, "create" | "restore-new")
    }

    /// Whether it can be done once only.
    pub(super) fn once(&self) -> bool {
        self.0.starts_with("add-") || self.0 == "remove-slot"
    }

    /// Whether a key is derived from a passphrase.
    pub(super) fn asks_argon2(&self) -> bool {
        matches!(self.0, "backup" | "restore" | "restore-new" | "add-passphrase")
    }

    /// A backup is first put on record and then written, and no two are alike: what there is of it is a whole one.
    pub(super) fn check(
        &self,
        home: &Path,
        left: &mut Shown,
        before: &Shown,
        after: &Shown,
    ) -> Result<(), String> {
        if self.0 != "backup" {
            return Ok(());
        }
        for (name, digest) in &mut left.copies {
            let backup = Vault::read_backup(&copies(home).join(name)).map_err(|error| error.to_string())?;
            let elsewhere = Home::in_memory();
            Vault::restore(&location(&elsewhere.path()), &backup, &passphrase())
                .map_err(|error| format!("{name}: {error}"))?;
            *digest = after.copies[name];
        }
        if left.copies.is_empty() && left.events == after.events {
            left.events.clone_from(&before.events);
        }
        Ok(())
    }

    /// A home in which it can be done.
    pub(super) fn template(&self) -> Home {
        let home = Home::in_memory();
        fs::create_dir(copies(&home.path())).unwrap();
        if self.0 == "create" {
            return home;
        }
        let vault = || Vault::open(&location(&home.path()), OpenMode::Create).unwrap();
        let mut open = vault();
        set(&mut open, "A", value_of("A").as_bytes());
        set(&mut open, "B", &[b'b'; 9000]);
        match self.0 {
            "restore" | "restore-new" => {
                fs::write(source(&home.path()), open.backup(&passphrase()).unwrap()).unwrap();
                set(&mut open, "A", CANARY);
            }
            "open-behind" => {
                let anchor = fs::read(home.anchor()).unwrap();
                set(&mut open, "A", CANARY);
                fs::write(home.anchor(), anchor).unwrap();
            }
            "add-file" | "remove-slot" => {
                let path = credential(&home.path());
                open.add_slot(NewSlot::SystemdCredential(path.clone()), false).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
                if self.0 == "add-file" {
                    let file = open.slots().unwrap()[0].id;
                    open.remove_slot(file).unwrap();
                }
            }
            _ => {}
        }
        drop(open);
        match self.0 {
            "restore-new" => {
                fs::remove_dir_all(home.path().join("data")).unwrap();
                fs::remove_dir_all(home.path().join("config")).unwrap();
            }
            "finish" => return interrupted_swap(&home),
            _ => {}
        }
        home
    }

    pub(super) fn begin(&self, home: &Path) -> Result<Begun, VaultError> {
        let vault = match self.0 {
            "create" | "open-behind" | "finish" | "restore" | "restore-new" => None,
            _ => Some(Vault::open(&location(home), OpenMode::WriteIfExists)?),
        };
        Ok(Begun { work: self.0, home: home.to_owned(), vault })
    }
}

/// What a compaction leaves that is done but for its renames.
fn interrupted_swap(home: &Home) -> Home {
    // It has some fifty calls, and this is near their end.
    let cut_off = (1..60).rev().map(|nth| {
        let home = home.copied();
        let child = failing_child("faults::child_works", &home.path())
            .env(super::PART, format!("compact gone {nth}"))
            .output()
            .unwrap();
        assert!(child.status.success());
        home
    });
    let pending = |home: &Home| home.store().with_extension("head.next").exists() && home.store().exists();
    cut_off.into_iter().find(pending).expect("a compaction has such a moment")
}

impl Begun {
    /// Does it.
    pub(super) fn act(&mut self) -> Result<(), VaultError> {
        let location = location(&self.home);
        let Some(vault) = &mut self.vault else {
            return match self.work {
                "create" => Vault::open(&location, OpenMode::Create).map(|vault| self.vault = Some(vault)),
                "open-behind" | "finish" => {
                    Vault::open(&location, OpenMode::WriteIfExists).map(|vault| self.vault = Some(vault))
                }
                _ => {
                    let backup = Vault::read_backup(&source(&self.home))?;
                    Vault::restore(&location, &backup, &passphrase()).map(|_| ())
                }
            };
        };
        let value = |value: &[u8]| Secret::new(value.to_vec());
        let mut put = |name_of: &str, bytes: &[u8]| {
            vault.set(&name(name_of), value(bytes), SecretMeta::default(), ExpectedVersion::Any).map(|_| ())
        };
        match self.work {
            "set" => put("C", CANARY),
            "replace" => put("B", &[b'c'; 20_000]),
            "rotate" => {
                let rotation = Rotation { value: value(&[b'r'; 20_000]), expires: None, scrubbable: true };
                vault.rotate(&name("B"), rotation).map(|_| ())
            }
            "grant" => {
                let terms = GrantTerms { host: Some("a.example".to_owned()), ..GrantTerms::default() };
                vault.grant(&name("A"), terms).map(|_| ())
            }
            "set-all" => {
                let entry = |(of, bytes): (&str, &[u8])| Entry {
                    name: name(of),
                    value: value(bytes),
                    meta: SecretMeta::default(),
                    expected: ExpectedVersion::Any,
                };
                let entries = [("A", CANARY), ("B", &[b'c'; 20_000]), ("C", CANARY)];
                vault.set_all(entries.map(entry).into()).map(|_| ())
            }
            "remove" => vault.remove(&name("B")).map(|_| ()),
            "uses" => vault.record_uses(&["a.example", "b.example"].map(|host| PlannedUse {
                run: "run_1".to_owned(),
                secret: name("A"),
                host: host.to_owned(),
                grant: None,
            })),
            "compact" => vault.compact().map(|_| ()),
            "backup" => {
                let backup = vault.backup(&passphrase())?;
                Vault::write_backup(&unused(&copies(&self.home), "backup"), &backup)
            }
            "rekey" => vault.rekey().map(|_| ()),
            "add-file" => vault.add_slot(NewSlot::File, false).map(|_| ()),
            "add-credential" => {
                let out = unused(&self.home, "credential");
                vault.add_slot(NewSlot::SystemdCredential(out), false).map(|_| ())
            }
            "add-passphrase" => vault.add_slot(NewSlot::Passphrase(passphrase()), false).map(|_| ()),
            "remove-slot" => {
                let slots = vault.slots()?;
                let file = slots.iter().find(|slot| slot.kind == SlotKind::File).unwrap();
                vault.remove_slot(file.id).map(|_| ())
            }
            other => panic!("nobody knows how to {other}"),
        }
    }

    /// Goes on with the same handle, or, where there is none, with a new one of the same process.
    pub(super) fn goes_on(&mut self) -> Result<(), VaultError> {
        if self.vault.is_none() {
            let mode = if self.work == "create" { OpenMode::Create } else { OpenMode::WriteIfExists };
            self.vault = Some(Vault::open(&location(&self.home), mode)?);
        }
        let vault = self.vault.as_mut().unwrap();
        let value = Secret::new(CANARY.to_vec());
        vault.set(&name(MORE), value, SecretMeta::default(), ExpectedVersion::Any).map(|_| ())
    }
}
