//! A vault in a temporary folder, and ways to reach beneath it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use orch_vault::{
    Clock, ExpectedVersion, OpenMode, Secret, SecretMeta, SecretName, Vault, VaultError, VaultLocation,
    Version,
};
use time::OffsetDateTime;

/// A value that is long enough for every rule, and easy to find.
pub(crate) const CANARY: &[u8] = b"sk-canary-7f3a9b52c1d84e60";

pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home { dir: tempfile::Builder::new().prefix("vault-").tempdir().unwrap() }
    }

    /// In memory where the system has a folder for that: for tests that write a lot and crash nothing.
    pub(crate) fn in_memory() -> Home {
        let folder = Some(Path::new("/dev/shm")).filter(|folder| folder.is_dir());
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_owned);
        Home { dir: tempfile::Builder::new().prefix("vault-").tempdir_in(folder).unwrap() }
    }

    /// Another home in memory, with the same in it.
    pub(crate) fn copied(&self) -> Home {
        let home = Home::in_memory();
        copy_entries(&self.path(), &home.path());
        home
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("data").join("vault")
    }

    pub(crate) fn anchor(&self) -> PathBuf {
        self.store().with_extension("head")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.path().join("config").join("vault.key")
    }

    pub(crate) fn location(&self, workspace: &str) -> VaultLocation {
        VaultLocation {
            store: self.store(),
            key_file: self.key_file(),
            workspace: workspace.to_owned(),
            custody: orch_vault::Custody::default(),
        }
    }

    pub(crate) fn try_open(&self, mode: OpenMode) -> Result<Vault, VaultError> {
        Vault::open(&self.location("default"), mode)
    }

    pub(crate) fn open(&self) -> Vault {
        self.try_open(OpenMode::Create).unwrap()
    }

    /// Creates the vault with `names` in it, each with a value of its own.
    pub(crate) fn with(names: &[&str]) -> Home {
        Home::new().filled(names)
    }

    /// The same in memory, as [`Home::in_memory`].
    pub(crate) fn in_memory_with(names: &[&str]) -> Home {
        Home::in_memory().filled(names)
    }

    fn filled(self, names: &[&str]) -> Home {
        let mut vault = self.open();
        for name in names {
            set(&mut vault, name, value_of(name).as_bytes());
        }
        drop(vault);
        self
    }
}

pub(crate) fn name(name: &str) -> SecretName {
    name.parse().unwrap()
}

pub(crate) fn value_of(name: &str) -> String {
    format!("value-of-{name}-0123456789")
}

pub(crate) fn set(vault: &mut Vault, secret: &str, value: &[u8]) -> Version {
    vault
        .set(&name(secret), Secret::new(value.to_vec()), SecretMeta::default(), ExpectedVersion::Any)
        .unwrap()
}

/// The value and the version of a secret.
pub(crate) fn get(vault: &Vault, secret: &str) -> Option<(Vec<u8>, u64)> {
    let (value, found) = vault.open_secret(&name(secret)).unwrap()?;
    Some((value.expose(<[u8]>::to_vec), found.version.get()))
}

/// A clock that stands where it was put.
pub(crate) struct At(pub(crate) i64);

impl Clock for At {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0).unwrap()
    }
}

/// `value` as it is, and as it would look encoded.
pub(crate) fn encodings(value: &[u8]) -> Vec<Vec<u8>> {
    use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
    let mut all = vec![value.to_vec(), value.iter().rev().copied().collect()];
    all.extend([HEXLOWER.encode(value), HEXUPPER.encode(value)].map(String::into_bytes));
    // In the middle of a longer text, base64 may begin one or two bytes into the value; its last group may
    // differ, so only whole groups are kept.
    for skipped in 0..3 {
        let whole = &value[skipped..value.len() - (value.len() - skipped) % 3];
        all.extend([BASE64.encode(whole), BASE64URL_NOPAD.encode(whole)].map(String::into_bytes));
    }
    all
}

/// Every file below `folder`.
pub(crate) fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_under(&path)) } else { files.push(path) }
    }
    files
}

/// Copies a folder.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    copy_entries(from, to);
}

fn copy_entries(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Entries of sled, below everything that the vault does.
pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where the store keeps its last batch.
pub(crate) const LAST_BATCH: &[u8] = b"";

/// What sled holds: each row in one piece, since these are small.
pub(crate) fn entries(home: &Home) -> Entries {
    with_sled(home, |db| {
        db.iter().map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
    })
}

/// Makes sled hold exactly `entries`.
pub(crate) fn replace(home: &Home, entries: &Entries) {
    with_sled(home, |db| {
        db.clear().unwrap();
        for (key, value) in entries {
            db.insert(key.as_slice(), value.as_slice()).unwrap();
        }
    });
}

/// Opens sled beneath the vault. The entry of the last batch goes first, which would undo a change of its rows.
pub(crate) fn with_sled<T>(home: &Home, work: impl FnOnce(&sled::Db) -> T) -> T {
    let config = sled::Config::new().path(home.store()).flush_every_ms(None);
    // An earlier handle of this process may take a moment to let go of the file.
    let db = loop {
        match config.open() {
            Ok(db) => break db,
            Err(sled::Error::Io(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    db.remove(LAST_BATCH).unwrap();
    let outcome = work(&db);
    db.flush().unwrap();
    outcome
}

pub(crate) fn keys_of(entries: &Entries, kind: u8) -> Vec<Vec<u8>> {
    entries.keys().filter(|key| key.first() == Some(&kind)).cloned().collect()
}

/// How often a process is killed, or the power lost: 20 times, or what `ORCH_VAULT_TRIALS` says. How many calls
/// fail goes by it as well.
pub(crate) fn trials_wanted() -> u64 {
    std::env::var("ORCH_VAULT_TRIALS").map_or(20, |text| text.parse().unwrap())
}

/// The name of a variable that makes a test binary play a child's part.
pub(crate) const CHILD: &str = "ORCH_VAULT_TEST_CHILD";

/// This test binary again, to run the one test `test`, in which [`child_home`] is `home`.
pub(crate) fn child(test: &str, home: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, home);
    command
}

/// The location in the parent's home, in a child.
pub(crate) fn child_location() -> Option<VaultLocation> {
    let home = PathBuf::from(std::env::var_os(CHILD)?);
    Some(VaultLocation {
        store: home.join("data").join("vault"),
        key_file: home.join("config").join("vault.key"),
        workspace: "default".to_owned(),
        custody: orch_vault::Custody::default(),
    })
}
