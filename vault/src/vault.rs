//! The operations.

use std::collections::BTreeSet;
use std::path::PathBuf;

use time::OffsetDateTime;

use crate::error::Tampering;
use crate::meta::{check_meta, check_value, is_plain};
use crate::row::{self, Place, RowKind};
use crate::{
    AuditEvent, AuditRecord, Custody, ExpectedVersion, Secret, SecretMeta, SecretName, SecretSummary,
    VaultError, Version,
};

mod content;
mod custody;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod index;
mod open;
mod rebuild;
mod state;
mod status;
mod swap;
mod verify;

use content::StoredMeta;
pub use custody::{NewSlot, Rekeyed, RemovedSlot, SlotInfo};
use open::Held;
use state::State;
pub use status::VaultStatus;
pub use verify::{Finding, RowKindName, RowName, Verification};

/// Where a vault lives, and whose secrets are meant.
#[derive(Debug, Clone)]
pub struct VaultLocation {
    /// The store's folder. Beside it live its lock and its anchor, by the same name plus `.lock` and `.head`;
    /// who moves or removes the store does so with its anchor.
    pub store: PathBuf,
    /// The file with the key: outside of the store's folder, so that a copy of the store opens nothing.
    pub key_file: PathBuf,
    /// The workspace. One store holds many; each sees its own secrets only.
    pub workspace: String,
    /// Where the keys of other slots are, and which slot a new vault gets.
    pub custody: Custody,
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

impl From<PlannedUse> for AuditEvent {
    fn from(planned: PlannedUse) -> AuditEvent {
        AuditEvent::UsePlanned { run: planned.run, secret: planned.secret, host: planned.host }
    }
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

/// An open vault. Holds the store's lock until it is dropped, so it should not be kept for longer than it
/// takes, unless by the one server of the machine.
pub struct Vault {
    location: VaultLocation,
    workspace: String,
    mode: OpenMode,
    clock: Box<dyn Clock>,
    /// `None`: there is no store, and none was to be created.
    state: Option<State>,
}

impl Vault {
    /// Opens the vault. Checks the files' places, takes the lock (waiting two seconds at most), and
    /// verifies that the head is authentic, that the rows are the ones it was written with, and that the
    /// audit log ends where it says.
    ///
    /// # Errors
    /// All kinds but [`Conflict`](crate::ErrorKind::Conflict) and [`Expired`](crate::ErrorKind::Expired).
    pub fn open(location: &VaultLocation, mode: OpenMode) -> Result<Vault, VaultError> {
        Vault::open_with_clock(location, mode, Box::new(SystemClock))
    }

    /// [`Vault::open`] with another clock.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_with_clock(
        location: &VaultLocation,
        mode: OpenMode,
        clock: Box<dyn Clock>,
    ) -> Result<Vault, VaultError> {
        Vault::open_held(location, mode, clock, Held::default())
    }

    fn open_held(
        location: &VaultLocation,
        mode: OpenMode,
        clock: Box<dyn Clock>,
        held: Held,
    ) -> Result<Vault, VaultError> {
        check_text("the workspace", &location.workspace)?;
        let state = open::open(location, mode, clock.now(), held, &mut State::load)?;
        let here = location.clone();
        let mut vault = Vault { location: here, workspace: location.workspace.clone(), mode, clock, state };
        if vault.state.is_some() && mode != OpenMode::ReadOnlyIfExists {
            // What keeps it from being done keeps nobody from what is in the vault: it is done another time, and a
            // commit that failed has closed the store.
            let _ = vault.settle_file_slots();
        }
        Ok(vault)
    }

    /// The workspace that this handle sees.
    #[must_use]
    pub fn workspace(&self) -> &str {
        &self.workspace
    }

    /// From here on this handle sees another workspace, and no longer the one before. The store stays open.
    ///
    /// # Errors
    /// A name that is not plain; the handle stays where it was.
    pub fn enter(&mut self, workspace: &str) -> Result<(), VaultError> {
        check_text("the workspace", workspace)?;
        if self.workspace != workspace {
            workspace.clone_into(&mut self.workspace);
        }
        Ok(())
    }

    /// Whether there is a store; without one the vault is empty and refuses changes.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state.is_some()
    }

    /// Sets a secret, durably: a later version replaces the one before. Returns the new version.
    ///
    /// Refused are values that are empty, larger than 64 KiB, wrapped in white space, or contain NUL; line
    /// breaks unless [`never_in_header`](SecretMeta::never_in_header); fewer than 16 bytes unless
    /// [`scrubbable`](SecretMeta::scrubbable) is `false`.
    ///
    /// # Errors
    /// A refused value or metadata, a lost compare-and-swap, tampering or storage.
    #[allow(clippy::needless_pass_by_value, reason = "a secret that was set is used up, and wiped")]
    pub fn set(
        &mut self,
        name: &SecretName,
        value: Secret,
        meta: SecretMeta,
        expected: ExpectedVersion,
    ) -> Result<Version, VaultError> {
        let now = self.clock.now();
        check_meta(&meta, now)?;
        check_value(&value, &meta)?;
        let state = writable(self.mode, &mut self.state)?;
        let workspace = self.workspace.as_str();
        let before = read_meta(state, workspace, name)?;
        let current = before.as_ref().filter(|meta| !meta.removed);
        let found = current.map(|meta| Version(meta.version));
        let matches = match expected {
            ExpectedVersion::Any => true,
            ExpectedVersion::Absent => found.is_none(),
            ExpectedVersion::Exactly(version) => found == Some(version),
        };
        if !matches {
            return Err(VaultError::Conflict { name: name.clone(), expected, found });
        }

        let version = before.as_ref().map_or(0, |meta| meta.version) + 1;
        let created = current.map_or(now.unix_timestamp(), |meta| meta.created);
        let fingerprint = state.fingerprint(workspace, &value);
        let stored =
            StoredMeta::new(name, version, (created, now.unix_timestamp()), fingerprint, &value, meta);
        let event = AuditEvent::Set {
            secret: name.clone(),
            version: Version(version),
            fingerprint: stored.fingerprint.clone(),
            hosts: stored.hosts.clone(),
        };
        let plain = content::pad_value(&value);
        let sealed = row::seal(&state.ring, &Place::value(&state.vault, workspace, name, version), &plain)?;
        let changes = vec![
            seal_meta(state, workspace, name, &stored)?,
            (state.row_key(RowKind::Value, workspace, name), Some(sealed)),
        ];
        state.commit(changes, (now, workspace), [event])?;
        Ok(Version(version))
    }

    /// All secrets of the workspace, by name. No value is decrypted for it.
    ///
    /// # Errors
    /// Tampering or storage.
    pub fn list(&self) -> Result<Vec<SecretSummary>, VaultError> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let prefix = state.workspace_prefix(RowKind::Meta, &self.workspace);
        let mut list = Vec::new();
        for key in state.root.keys(&prefix) {
            let Some(row) = state.row(key)? else { continue };
            let meta = open_meta(state, &self.workspace, key, &row)?;
            if !meta.removed {
                list.push(meta.into_summary()?);
            }
        }
        list.sort_by(|a: &SecretSummary, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// The current version of a secret, if there is one.
    ///
    /// # Errors
    /// Tampering or storage.
    pub fn version(&self, name: &SecretName) -> Result<Option<Version>, VaultError> {
        let Some(state) = &self.state else { return Ok(None) };
        let meta = read_meta(state, &self.workspace, name)?;
        Ok(meta.filter(|meta| !meta.removed).map(|meta| Version(meta.version)))
    }

    /// Whether there is a secret of this name.
    ///
    /// # Errors
    /// Tampering or storage.
    pub fn contains(&self, name: &SecretName) -> Result<bool, VaultError> {
        Ok(self.version(name)?.is_some())
    }

    /// Decrypts a secret for its use. `None` when there is none.
    ///
    /// # Errors
    /// An expired secret, tampering or storage.
    pub fn open_secret(
        &self,
        name: &SecretName,
    ) -> Result<Option<(Secret, SecretMeta, Version)>, VaultError> {
        let Some(state) = &self.state else { return Ok(None) };
        let Some(stored) = read_meta(state, &self.workspace, name)?.filter(|meta| !meta.removed) else {
            return Ok(None);
        };
        let version = Version(stored.version);
        let meta = stored.into_summary()?.meta;
        if let Some(at) = meta.expires.filter(|at| *at <= self.clock.now()) {
            return Err(VaultError::Expired { name: name.clone(), at });
        }
        let row =
            state.row(&state.row_key(RowKind::Value, &self.workspace, name))?.ok_or(Tampering::RowContent)?;
        let place = Place::value(&state.vault, &self.workspace, name, version.0);
        let value = content::unpad_value(&row::open(&state.ring, &place, &row)?)?;
        Ok(Some((value, meta, version)))
    }

    /// Removes a secret, durably. A sealed tombstone stays, so that its versions do not begin again. Returns
    /// the version that was removed, `None` when there was none.
    ///
    /// # Errors
    /// Tampering, storage, or a vault opened for reading.
    pub fn remove(&mut self, name: &SecretName) -> Result<Option<Version>, VaultError> {
        let now = self.clock.now();
        let state = writable(self.mode, &mut self.state)?;
        let workspace = self.workspace.as_str();
        let Some(before) = read_meta(state, workspace, name)?.filter(|meta| !meta.removed) else {
            return Ok(None);
        };
        let version = Version(before.version);
        let tombstone = before.into_tombstone(now.unix_timestamp());
        let changes = vec![
            seal_meta(state, workspace, name, &tombstone)?,
            (state.row_key(RowKind::Value, workspace, name), None),
        ];
        state.commit(changes, (now, workspace), [AuditEvent::Removed { secret: name.clone(), version }])?;
        Ok(Some(version))
    }

    /// Puts planned uses on record, durably, before the first of them: one audit record per run, secret and
    /// host, however often it is in `uses`. Works in a vault opened for reading.
    ///
    /// # Errors
    /// A text that is not plain, storage, or no store ([`Vault::exists`]).
    pub fn record_uses(&mut self, uses: &[PlannedUse]) -> Result<(), VaultError> {
        let unique: BTreeSet<&PlannedUse> = uses.iter().collect();
        self.record(unique.into_iter().cloned().map(AuditEvent::from).collect())
    }

    /// Puts what happened outside of the vault on record, durably, all of it or nothing. Works in a vault opened
    /// for reading.
    ///
    /// # Errors
    /// A text that is not plain, storage, or no store ([`Vault::exists`]).
    pub fn record(&mut self, events: Vec<AuditEvent>) -> Result<(), VaultError> {
        for (what, text) in events.iter().flat_map(AuditEvent::texts) {
            check_text(what, text)?;
        }
        if events.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let state = self.state.as_mut().ok_or(VaultError::ReadOnly)?;
        state.commit(Vec::new(), (now, &self.workspace), events)
    }

    /// The audit log of this workspace and of the store itself, oldest first. The whole chain, other
    /// workspaces' records included, is verified on the way.
    ///
    /// # Errors
    /// A broken chain, tampering or storage.
    pub fn audit(&self) -> Result<Vec<AuditRecord>, VaultError> {
        self.audit_since(None)
    }

    /// [`Vault::audit`], from `since` on by the clock that the records were written with. Records before it
    /// are verified like the others.
    ///
    /// # Errors
    /// As [`Vault::audit`].
    pub fn audit_since(&self, since: Option<OffsetDateTime>) -> Result<Vec<AuditRecord>, VaultError> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        state.walk_audit(&mut |record| {
            let ours = record.workspace.is_empty() || record.workspace == self.workspace;
            if ours && since.is_none_or(|since| record.time >= since) {
                records.push(record);
            }
        })?;
        Ok(records)
    }
}

fn writable(mode: OpenMode, state: &mut Option<State>) -> Result<&mut State, VaultError> {
    match state {
        Some(state) if mode != OpenMode::ReadOnlyIfExists => Ok(state),
        _ => Err(VaultError::ReadOnly),
    }
}

fn read_meta(state: &State, workspace: &str, name: &SecretName) -> Result<Option<StoredMeta>, VaultError> {
    let key = state.row_key(RowKind::Meta, workspace, name);
    let Some(row) = state.row(&key)? else { return Ok(None) };
    let meta = open_meta(state, workspace, &key, &row)?;
    if meta.name != *name {
        return Err(Tampering::RowContent.into());
    }
    Ok(Some(meta))
}

fn open_meta(state: &State, workspace: &str, key: &[u8], row: &[u8]) -> Result<StoredMeta, VaultError> {
    StoredMeta::decode(&row::open(&state.ring, &meta_place(state, workspace, key), row)?)
}

fn seal_meta(
    state: &State,
    workspace: &str,
    name: &SecretName,
    meta: &StoredMeta,
) -> Result<(Vec<u8>, Option<Vec<u8>>), VaultError> {
    let key = state.row_key(RowKind::Meta, workspace, name);
    let row = row::seal(&state.ring, &meta_place(state, workspace, &key), &meta.encode()?)?;
    Ok((key, Some(row)))
}

fn meta_place<'a>(state: &'a State, workspace: &'a str, key: &'a [u8]) -> Place<'a> {
    Place { vault: &state.vault, workspace, kind: RowKind::Meta, name: key, version: 0 }
}

fn check_text(what: &'static str, text: &str) -> Result<(), VaultError> {
    if is_plain(text) { Ok(()) } else { Err(VaultError::Text { what }) }
}
