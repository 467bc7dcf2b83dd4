//! The operations.

use std::path::PathBuf;

use time::OffsetDateTime;

use crate::{
    AuditRecord, ExpectedVersion, Secret, SecretMeta, SecretName, SecretSummary, VaultError, Version,
};

/// Where a vault lives, and whose secrets are meant.
#[derive(Debug, Clone)]
pub struct VaultLocation {
    /// The store's folder. A lock file of the same name plus `.lock` lives beside it.
    pub store: PathBuf,
    /// The file with the key: outside of the store's folder, so that a copy of the store opens nothing.
    pub key_file: PathBuf,
    /// The workspace. One store holds many; each sees its own secrets only.
    pub workspace: String,
}

/// What opening may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Never creates and never changes a secret. Without a store, the vault is an empty one. Recording
    /// uses is the one thing that is written.
    ReadOnlyIfExists,
    /// Changes secrets; never creates. Without a store, the vault is an empty one that refuses changes.
    WriteIfExists,
    /// Creates what is missing.
    Create,
}

/// A use of a secret that a run may make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedUse {
    /// The run's id.
    pub run: String,
    /// The secret.
    pub secret: SecretName,
    /// The host that it would be sent to.
    pub host: String,
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The time now, in UTC.
    fn now(&self) -> OffsetDateTime;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

/// An open vault. Holds the store's lock until it is dropped.
pub struct Vault {
    workspace: String,
}

impl Vault {
    /// Opens the vault, and checks that head, rows and the end of the audit log belong together.
    ///
    /// # Errors
    /// See [`VaultError::kind`].
    pub fn open(location: &VaultLocation, mode: OpenMode) -> Result<Vault, VaultError> {
        Vault::open_with_clock(location, mode, Box::new(SystemClock))
    }

    /// [`Vault::open`] with another clock.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_with_clock(
        location: &VaultLocation,
        _mode: OpenMode,
        _clock: Box<dyn Clock>,
    ) -> Result<Vault, VaultError> {
        Ok(Vault { workspace: location.workspace.clone() })
    }

    /// The workspace that this handle sees.
    #[must_use]
    pub fn workspace(&self) -> &str {
        &self.workspace
    }

    /// Sets a secret; durable when this returns. Returns its new version.
    ///
    /// # Errors
    /// A refused value or metadata, a lost compare-and-swap, or storage.
    pub fn set(
        &mut self,
        _name: &SecretName,
        _value: Secret,
        _meta: SecretMeta,
        _expected: ExpectedVersion,
    ) -> Result<Version, VaultError> {
        Err(VaultError::ReadOnly)
    }

    /// All secrets of the workspace, by name. No value is decrypted for it.
    ///
    /// # Errors
    /// Tampering or storage.
    pub fn list(&self) -> Result<Vec<SecretSummary>, VaultError> {
        Ok(Vec::new())
    }

    /// The version of a secret, if there is one.
    ///
    /// # Errors
    /// Tampering or storage.
    pub fn version(&self, _name: &SecretName) -> Result<Option<Version>, VaultError> {
        Ok(None)
    }

    /// Whether there is a secret of this name.
    ///
    /// # Errors
    /// Tampering or storage.
    pub fn contains(&self, name: &SecretName) -> Result<bool, VaultError> {
        Ok(self.version(name)?.is_some())
    }

    /// Decrypts a secret for its use.
    ///
    /// # Errors
    /// An expired secret, tampering or storage.
    pub fn open_secret(
        &self,
        _name: &SecretName,
    ) -> Result<Option<(Secret, SecretMeta, Version)>, VaultError> {
        Ok(None)
    }

    /// Removes a secret; durable when this returns. Returns the version that was removed, `None` when
    /// there was none.
    ///
    /// # Errors
    /// Storage, or a vault opened for reading.
    pub fn remove(&mut self, _name: &SecretName) -> Result<Option<Version>, VaultError> {
        Err(VaultError::ReadOnly)
    }

    /// Puts planned uses on record: one audit record per run, secret and host, durable when this returns.
    ///
    /// # Errors
    /// Storage.
    pub fn record_uses(&mut self, _uses: &[PlannedUse]) -> Result<(), VaultError> {
        Err(VaultError::ReadOnly)
    }

    /// The audit log of this workspace, oldest first. The whole chain is verified on the way.
    ///
    /// # Errors
    /// A broken chain, or storage.
    pub fn audit(&self) -> Result<Vec<AuditRecord>, VaultError> {
        Ok(Vec::new())
    }
}
