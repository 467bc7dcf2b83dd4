//! The operations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use time::OffsetDateTime;

use crate::error::Tampering;
use crate::meta::is_plain;
use crate::row::{self, Place, RowKind};
use crate::{
    AuditEvent, AuditRecord, Custody, GrantId, Secret, SecretName, SecretSummary, VaultError, Version,
};

mod changes;
mod content;
mod custody;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod index;
mod log;
mod open;
mod rebuild;
mod rows;
mod state;
mod status;
mod swap;
mod verify;

pub use changes::{Entry, Rotation};
use content::StoredMeta;
pub use custody::{NewSlot, Rekeyed, RemovedSlot, SlotInfo};
use open::Held;
use rows::{current_meta, open_meta, read_meta, seal_meta};
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
    /// The grant of its owner that lets it; `None` for a provider's key that its owner bound to nothing more.
    pub grant: Option<GrantId>,
}

impl From<PlannedUse> for AuditEvent {
    fn from(planned: PlannedUse) -> AuditEvent {
        let PlannedUse { run, secret, host, grant } = planned;
        AuditEvent::UsePlanned { run, secret, host, grant }
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

    /// Whether a change could not be made durable earlier in this process, which closes the store for it.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.state.as_ref().is_some_and(State::is_closed)
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

    /// One secret as [`Vault::list`] has it. `None` when there is none.
    ///
    /// # Errors
    /// Tampering or storage.
    pub fn summary(&self, name: &SecretName) -> Result<Option<SecretSummary>, VaultError> {
        let Some(state) = &self.state else { return Ok(None) };
        let stored = read_meta(state, &self.workspace, name)?.filter(|meta| !meta.removed);
        stored.map(StoredMeta::into_summary).transpose()
    }

    /// Decrypts a secret for its use. `None` when there is none. Whether one of its grants allows the use is for the
    /// caller to say.
    ///
    /// # Errors
    /// An expired secret, tampering or storage.
    pub fn open_secret(&self, name: &SecretName) -> Result<Option<(Secret, SecretSummary)>, VaultError> {
        let Some(summary) = self.summary(name)? else { return Ok(None) };
        let Some(state) = &self.state else { return Ok(None) };
        if let Some(at) = summary.expires.filter(|at| *at <= self.clock.now()) {
            return Err(VaultError::Expired { name: name.clone(), at });
        }
        let row =
            state.row(&state.row_key(RowKind::Value, &self.workspace, name))?.ok_or(Tampering::RowContent)?;
        let place = Place::value(&state.vault, &self.workspace, name, summary.version.0);
        let value = content::unpad_value(&row::open(&state.ring, &place, &row)?)?;
        Ok(Some((value, summary)))
    }

    /// Puts planned uses on record, durably, before the first of them: one audit record per run, secret and
    /// host, however often it is in `uses`. Each run counts once against each grant. Works in a vault opened for
    /// reading.
    ///
    /// # Errors
    /// A secret or grant that is gone, a grant that is used up, a text that is not plain, storage, or no store
    /// ([`Vault::exists`]): then none of the uses may be.
    pub fn record_uses(&mut self, uses: &[PlannedUse]) -> Result<(), VaultError> {
        let unique: BTreeSet<&PlannedUse> = uses.iter().collect();
        self.record(unique.into_iter().cloned().map(AuditEvent::from).collect())
    }

    /// Puts what happened outside of the vault on record, durably, all of it or nothing, and counts the uses among it
    /// with their secrets. Works in a vault opened for reading.
    ///
    /// # Errors
    /// As [`Vault::record_uses`].
    pub fn record(&mut self, events: Vec<AuditEvent>) -> Result<(), VaultError> {
        for (what, text) in events.iter().flat_map(AuditEvent::texts) {
            check_text(what, text)?;
        }
        if events.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let state = self.state.as_mut().ok_or(VaultError::ReadOnly)?;
        let workspace = self.workspace.as_str();
        let counted = count(state, workspace, &events, now)?;
        let changes = counted.values().map(|stored| seal_meta(state, workspace, stored));
        let changes = changes.collect::<Result<_, _>>()?;
        state.commit(changes, (now, workspace), events)
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
            if self.has_on_record(&record.workspace) && since.is_none_or(|since| record.time >= since) {
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

/// The secrets that `events` are about, with the uses among them counted.
fn count(
    state: &State,
    workspace: &str,
    events: &[AuditEvent],
    now: OffsetDateTime,
) -> Result<BTreeMap<SecretName, StoredMeta>, VaultError> {
    let mut metas: BTreeMap<SecretName, StoredMeta> = BTreeMap::new();
    let mut counted = BTreeSet::new();
    for event in events {
        let (secret, planned) = match event {
            AuditEvent::UsePlanned { secret, .. } => (secret, true),
            AuditEvent::UseCounted { secret, .. } => (secret, false),
            _ => continue,
        };
        if !metas.contains_key(secret) {
            match current_meta(state, workspace, secret) {
                Ok(meta) => metas.insert(secret.clone(), meta),
                // What happened is told, though it is gone by now.
                Err(VaultError::Missing { .. }) if !planned => continue,
                Err(error) => return Err(error),
            };
        }
        let Some(meta) = metas.get_mut(secret) else { continue };
        meta.count(event, &mut counted, now)?;
    }
    Ok(metas)
}

fn check_text(what: &'static str, text: &str) -> Result<(), VaultError> {
    if is_plain(text) { Ok(()) } else { Err(VaultError::Text { what }) }
}
