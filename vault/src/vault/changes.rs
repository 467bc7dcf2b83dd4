//! What changes secrets: set, rotate, remove, grant. Each is one durable batch with its records.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::content::StoredMeta;
use super::rows::{current_meta, read_meta, seal_meta, sealed};
use super::{Vault, writable};
use crate::grant::{self, MOST_ENTRIES};
use crate::meta::{check_expiry, check_meta, check_value};
use crate::row::RowKind;
use crate::{
    AuditEvent, ExpectedVersion, Grant, GrantId, GrantTerms, MetaError, Secret, SecretMeta, SecretName,
    SecretSummary, ValuePlace, VaultError, Version,
};

/// A secret to be set, among others.
pub struct Entry {
    /// Its name.
    pub name: SecretName,
    /// Its value.
    pub value: Secret,
    /// What its owner says.
    pub meta: SecretMeta,
    /// What is there now.
    pub expected: ExpectedVersion,
}

/// A value in the place of another one.
pub struct Rotation {
    /// The new value.
    pub value: Secret,
    /// When it expires; `None`: it lives as long as the one before did from when it was set, for ever if that did.
    pub expires: Option<OffsetDateTime>,
    /// As [`SecretMeta::scrubbable`].
    pub scrubbable: bool,
}

impl Vault {
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
        let versions = self.set_all(vec![Entry { name: name.clone(), value, meta, expected }])?;
        versions.first().copied().ok_or(VaultError::ReadOnly)
    }

    /// Sets many secrets, durably, all of them or none. Returns their versions in the same order.
    ///
    /// # Errors
    /// As [`Vault::set`], for the first of them that is refused.
    #[allow(clippy::needless_pass_by_value, reason = "secrets that were set are used up, and wiped")]
    pub fn set_all(&mut self, entries: Vec<Entry>) -> Result<Vec<Version>, VaultError> {
        let now = self.clock.now();
        for entry in &entries {
            check_meta(&entry.meta, now)?;
            check_value(&entry.value, (entry.meta.never_in_header, entry.meta.scrubbable))?;
        }
        let state = writable(self.mode, &mut self.state)?;
        let workspace = self.workspace.as_str();
        let (mut changes, mut events, mut versions) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for Entry { name, value, meta, expected } in &entries {
            let before = read_meta(state, workspace, name)?;
            let found = before.as_ref().filter(|meta| !meta.removed).map(|meta| Version(meta.version));
            let matches = match *expected {
                ExpectedVersion::Any => true,
                ExpectedVersion::Absent => found.is_none(),
                ExpectedVersion::Exactly(version) => found == Some(version),
            };
            if !matches || !seen.insert(name) {
                return Err(VaultError::Conflict { name: name.clone(), expected: *expected, found });
            }
            let fingerprint = state.fingerprint(workspace, value);
            // As with a rotation: an end that nobody mentions is not one that nobody wants.
            let life = before.as_ref().filter(|before| !before.removed).and_then(StoredMeta::life);
            let life = life.map(|life| now.unix_timestamp().saturating_add(life));
            let mut stored = StoredMeta::new(name, value, fingerprint, before, now.unix_timestamp());
            stored.never_in_header = meta.never_in_header;
            stored.expires = meta.expires.map(OffsetDateTime::unix_timestamp).or(life);
            let version = Version(stored.version);
            let fingerprint = stored.fingerprint.clone();
            events.push(AuditEvent::Set { secret: name.clone(), version, fingerprint });
            match &meta.grants {
                Some(grants) => {
                    stored.bound = true;
                    events.extend(stored.grants.drain(..).map(|grant| grant_removed(name, grant.id)));
                    for terms in grants {
                        let grant = stored.grant(terms.clone());
                        let (secret, terms) = (name.clone(), terms.clone());
                        events.push(AuditEvent::SecretGranted { secret, grant, terms });
                    }
                }
                None => check_grants(&stored)?,
            }
            stored.check_size()?;
            changes.extend(sealed(state, workspace, &stored, value)?);
            versions.push(version);
        }
        if !entries.is_empty() {
            state.commit(changes, (now, workspace), events)?;
        }
        Ok(versions)
    }

    /// Puts another value in the place of one, durably. What its owner said about it stays.
    ///
    /// # Errors
    /// [`VaultError::Missing`]; a refused value; tampering or storage.
    #[allow(clippy::needless_pass_by_value, reason = "a secret that was set is used up, and wiped")]
    pub fn rotate(&mut self, name: &SecretName, rotation: Rotation) -> Result<SecretSummary, VaultError> {
        let now = self.clock.now();
        check_expiry(rotation.expires, now)?;
        let state = writable(self.mode, &mut self.state)?;
        let workspace = self.workspace.as_str();
        let before = current_meta(state, workspace, name)?;
        check_value(&rotation.value, (before.never_in_header, rotation.scrubbable))?;
        let life = before.life().map(|life| now.unix_timestamp().saturating_add(life));
        let (never_in_header, expires) =
            (before.never_in_header, rotation.expires.map(OffsetDateTime::unix_timestamp).or(life));
        let fingerprint = state.fingerprint(workspace, &rotation.value);
        let mut stored =
            StoredMeta::new(name, &rotation.value, fingerprint.clone(), Some(before), now.unix_timestamp());
        (stored.never_in_header, stored.expires) = (never_in_header, expires);
        let event =
            AuditEvent::Rotated { secret: name.clone(), version: Version(stored.version), fingerprint };
        let changes = sealed(state, workspace, &stored, &rotation.value)?.into();
        state.commit(changes, (now, workspace), [event])?;
        stored.into_summary()
    }

    /// Grants a use of a secret, durably.
    ///
    /// # Errors
    /// [`VaultError::Missing`]; refused terms; tampering or storage.
    pub fn grant(&mut self, name: &SecretName, terms: GrantTerms) -> Result<GrantId, VaultError> {
        let now = self.clock.now();
        let state = writable(self.mode, &mut self.state)?;
        let workspace = self.workspace.as_str();
        let mut stored = current_meta(state, workspace, name)?;
        grant::check(&terms, stored.never_in_header, now)?;
        if stored.grants.len() >= MOST_ENTRIES {
            return Err(MetaError::TooMany { field: "grants", count: stored.grants.len() + 1 }.into());
        }
        let id = stored.grant(terms.clone());
        stored.check_size()?;
        let event = AuditEvent::SecretGranted { secret: name.clone(), grant: id, terms };
        state.commit(vec![seal_meta(state, workspace, &stored)?], (now, workspace), [event])?;
        Ok(id)
    }

    /// Takes a grant of a secret back, durably.
    ///
    /// # Errors
    /// [`VaultError::Missing`], [`VaultError::GrantMissing`]; tampering or storage.
    pub fn remove_grant(&mut self, name: &SecretName, id: GrantId) -> Result<(), VaultError> {
        let now = self.clock.now();
        let state = writable(self.mode, &mut self.state)?;
        let workspace = self.workspace.as_str();
        let mut stored = current_meta(state, workspace, name)?;
        let before = stored.grants.len();
        stored.grants.retain(|grant| grant.id != id);
        if stored.grants.len() == before {
            return Err(VaultError::GrantMissing { name: name.clone(), grant: id });
        }
        let change = seal_meta(state, workspace, &stored)?;
        state.commit(vec![change], (now, workspace), [grant_removed(name, id)])
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
            seal_meta(state, workspace, &tombstone)?,
            (state.row_key(RowKind::Value, workspace, name), None),
        ];
        state.commit(changes, (now, workspace), [AuditEvent::Removed { secret: name.clone(), version }])?;
        Ok(Some(version))
    }
}

/// A value that may not go into a header has no grant that puts it there.
fn check_grants(stored: &StoredMeta) -> Result<(), MetaError> {
    let in_header = |grant: &Grant| matches!(grant.terms.place, Some(ValuePlace::Header(_)));
    if stored.never_in_header && stored.grants.iter().any(in_header) {
        return Err(MetaError::HeaderAndNever);
    }
    Ok(())
}

fn grant_removed(name: &SecretName, grant: GrantId) -> AuditEvent {
    AuditEvent::SecretGrantRemoved { secret: name.clone(), grant }
}
