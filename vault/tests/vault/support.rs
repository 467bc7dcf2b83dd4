//! A vault in a temporary folder, and ways to reach beneath it.

use std::path::PathBuf;

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

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("data").join("vault")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.path().join("config").join("vault.key")
    }

    pub(crate) fn location(&self, workspace: &str) -> VaultLocation {
        VaultLocation { store: self.store(), key_file: self.key_file(), workspace: workspace.to_owned() }
    }

    pub(crate) fn try_open(&self, mode: OpenMode) -> Result<Vault, VaultError> {
        Vault::open(&self.location("default"), mode)
    }

    pub(crate) fn open(&self) -> Vault {
        self.try_open(OpenMode::Create).unwrap()
    }

    /// Creates the vault with `names` in it, each with a value of its own.
    pub(crate) fn with(names: &[&str]) -> Home {
        let home = Home::new();
        let mut vault = home.open();
        for name in names {
            set(&mut vault, name, value_of(name).as_bytes());
        }
        home
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
    let (value, _, version) = vault.open_secret(&name(secret)).unwrap()?;
    Some((value.expose(<[u8]>::to_vec), version.get()))
}

/// A clock that stands where it was put.
pub(crate) struct At(pub(crate) i64);

impl Clock for At {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0).unwrap()
    }
}
