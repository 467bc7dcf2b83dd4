//! Who can open the vault: looking at its slots, adding and removing them, new keys for all of them.

use std::path::PathBuf;

use time::OffsetDateTime;

use super::index::SLOTS_KEY;
use super::state::State;
use super::{Vault, VaultLocation, writable};
use crate::custody::{self, key_slot, passphrase_slot};
use crate::error::Tampering;
use crate::keyfile::KeyFile;
use crate::place::Folder;
use crate::slots::{self, Header, Slot, SlotId, SlotKey, SlotKind};
use crate::{AuditEvent, ErrorKind, Secret, VaultError, credential, keychain};

/// One of the vault's key slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its id.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// Whether this vault was opened with it.
    pub in_use: bool,
}

/// A slot to be added.
pub enum NewSlot {
    /// A fresh key in the vault's key file.
    File,
    /// A passphrase.
    Passphrase(Secret),
    /// A fresh key, written to this new file (0600), for a credential to be made of it.
    SystemdCredential(PathBuf),
    /// A fresh key in the keychain.
    Keychain,
}

impl NewSlot {
    fn kind(&self) -> SlotKind {
        match self {
            NewSlot::File => SlotKind::File,
            NewSlot::Passphrase(_) => SlotKind::Passphrase,
            NewSlot::SystemdCredential(_) => SlotKind::SystemdCredential,
            NewSlot::Keychain => SlotKind::Keychain,
        }
    }
}

/// A slot that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedSlot {
    /// The slot.
    pub slot: SlotInfo,
    /// What stayed where the slot's key was kept, and why.
    pub left_behind: Option<String>,
}

/// What a re-keying left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// The term that new rows are sealed under.
    pub term: u32,
    /// The slots.
    pub slots: Vec<SlotInfo>,
    /// What stayed where old keys were kept, and why.
    pub left_behind: Vec<String>,
}

impl Vault {
    /// The slots, in the order in which they were made.
    ///
    /// # Errors
    /// Tampering or storage.
    pub fn slots(&self) -> Result<Vec<SlotInfo>, VaultError> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        Ok(infos(state, &header(state)?.slots))
    }

    /// Adds a slot. There is one of a kind; with `replace`, a passphrase or credential takes the place of
    /// the one that is there. No row is touched, and no other slot's key is needed. The new key is where it is
    /// kept, durably, before the slot is: the one that is replaced opens the vault until then.
    ///
    /// # Errors
    /// A slot of the kind that is there already, a refused passphrase, a keychain that does not work, a
    /// credential's file that is there or cannot be written, storage.
    pub fn add_slot(&mut self, new: NewSlot, replace: bool) -> Result<SlotInfo, VaultError> {
        let now = self.clock.now();
        let state = writable(self.mode, &mut self.state)?;
        let Header { mut slots, .. } = header(state)?;
        let kind = new.kind();
        let there = slots.iter().any(|slot| slot.kind == kind);
        if there && (!replace || matches!(kind, SlotKind::File | SlotKind::Keychain)) {
            return Err(VaultError::slots(format!("the vault has a {kind} slot already")));
        }
        let fresh = || SlotKey::for_vault(state.vault);
        let slot = match new {
            NewSlot::Passphrase(passphrase) => passphrase_slot(&state.vault, &passphrase, &state.ring_key)?,
            NewSlot::SystemdCredential(out) => {
                let key = fresh()?;
                credential::write_new(&out, &key)?;
                key_slot(kind, &key, &state.ring_key)?
            }
            NewSlot::File => {
                let key = fresh()?;
                with_key_file(&self.location, |file| match file.read()? {
                    None => file.create(&key),
                    // What an addition or a removal left that failed half-way.
                    Some(stale) if stale.vault == state.vault => {
                        file.write_next(&key).and_then(|()| file.take_next())
                    }
                    Some(_) => Err(VaultError::place(
                        file.path(),
                        "is there already and opens no slot of this vault; move it away",
                    )),
                })?;
                key_slot(kind, &key, &state.ring_key)?
            }
            NewSlot::Keychain => {
                let key = fresh()?;
                let slot = key_slot(kind, &key, &state.ring_key)?;
                keychain::store(self.location.custody.keychain()?, &key)?;
                slot
            }
        };
        let removed: Vec<Slot> = slots.extract_if(.., |slot| slot.kind == kind).collect();
        let added = infos(state, std::slice::from_ref(&slot));
        let events = removed
            .iter()
            .map(removal)
            .chain([AuditEvent::SlotAdded { slot: slot.id.to_string(), kind: slot.kind.to_string() }]);
        slots.push(slot);
        write(state, &slots, now, events.collect())?;
        let [slot] = added.as_slice() else { return Err(Tampering::Slots.into()) };
        Ok(*slot)
    }

    /// Removes a slot, and its key from the key file or the keychain. Another one has to open the vault here
    /// and now, or nobody might.
    ///
    /// Who kept the slot's key and a copy of the store can still open what the copy holds, and later
    /// versions of it: [`Vault::rekey`] ends the second.
    ///
    /// # Errors
    /// No such slot, the last one that opens, storage.
    pub fn remove_slot(&mut self, id: SlotId) -> Result<RemovedSlot, VaultError> {
        let now = self.clock.now();
        let state = writable(self.mode, &mut self.state)?;
        let Header { mut slots, .. } = header(state)?;
        let Some(position) = slots.iter().position(|slot| slot.id == id) else {
            return Err(VaultError::slots(format!("the vault has no slot {id}")));
        };
        let slot = slots.remove(position);
        if !slots.iter().any(|slot| !matches!(slot.kind, SlotKind::Unknown(_))) {
            return Err(VaultError::slots(format!(
                "the {} slot is the last one: without it nobody could open the vault",
                slot.kind
            )));
        }
        let unlocked =
            with_key_file(&self.location, |file| self.location.custody.unlock(&state.vault, &slots, file));
        if let Err(error) = unlocked {
            // A disk that fails says nothing about keys.
            if error.kind() == ErrorKind::Storage {
                return Err(error);
            }
            return Err(VaultError::slots(format!(
                "the {} slot stays: no other one opens the vault here ({error}); have the key of another one at hand, or add one first",
                slot.kind
            )));
        }
        let info = infos(state, std::slice::from_ref(&slot));
        write(state, &slots, now, vec![removal(&slot)])?;
        let left_behind = match slot.kind {
            SlotKind::File => with_key_file(&self.location, |file| match file.read() {
                Ok(Some(key)) if key.slot == id => file.remove(),
                // Somebody else's, or no key at all: not ours to remove.
                _ => Ok(()),
            })
            .err()
            .map(|error| format!("the key file, which opens nothing any more, is still there: {error}")),
            SlotKind::Keychain => keychain::forget(self.location.custody.keychain(), &state.vault, &id),
            _ => None,
        };
        let [slot] = info.as_slice() else { return Err(Tampering::Slots.into()) };
        Ok(RemovedSlot { slot: *slot, left_behind })
    }

    /// Starts a new term, under which all that is written from now on is sealed, and locks the ring with a
    /// new key: copies of the header that were taken before, and keys of slots that were removed, open
    /// nothing later. Key file and keychain get new keys; passphrase and credential stay what they are. No
    /// row is touched.
    ///
    /// # Errors
    /// A slot whose key is not at hand: nothing was changed then. Storage.
    pub fn rekey(&mut self) -> Result<Rekeyed, VaultError> {
        self.settle_file_slots()?;
        let now = self.clock.now();
        let state = writable(self.mode, &mut self.state)?;
        let location = &self.location;
        let before = header(state)?;
        let vault = state.vault;
        let ring = state.ring.with_new_term()?;
        let ring_key = crate::crypto::Key::random()?;

        // All that can fail for want of a key comes first.
        let mut replaced = Vec::new();
        let mut slots = Vec::new();
        for slot in &before.slots {
            let key = with_key_file(location, |file| location.custody.key_of(&vault, slot, file))?;
            // Proves that it is this slot's: a wrong one would lock its owner out.
            custody::unwrap(&vault, slot, &key)?;
            match slot.kind {
                SlotKind::File | SlotKind::Keychain => replaced.push((slot, key)),
                kind => {
                    let parameters = slot.parameters.clone();
                    slots.push(Slot::wrap(&vault, (kind, slot.id), parameters, &key, &ring_key)?);
                }
            }
        }
        let mut both = slots.clone();
        let mut entries = Vec::new();
        let mut make = |old: &Slot, key| {
            let fresh = SlotKey::for_vault(vault)?;
            let slot = key_slot(old.kind, &fresh, &ring_key)?;
            if old.kind == SlotKind::File {
                with_key_file(location, |file| file.write_next(&fresh))?;
                // The old key opens the vault until the new one is in its place.
                both.push(Slot::wrap(&vault, (old.kind, old.id), Vec::new(), key, &ring_key)?);
            } else {
                keychain::store(location.custody.keychain()?, &fresh)?;
                entries.push(fresh.slot);
            }
            both.push(slot.clone());
            slots.push(slot);
            Ok(())
        };
        if let Err(error) = replaced.iter().try_for_each(|(old, key)| make(old, key)) {
            // Keys that no header knows. After a commit that failed they stay: it may be on disk all the same.
            for id in &entries {
                let _ = keychain::forget(location.custody.keychain(), &vault, id);
            }
            return Err(error);
        }

        let term = ring.newest().0;
        state.opened_by = succeeded(state.opened_by, &before.slots, &slots);
        (state.ring, state.ring_key) = (ring, ring_key);
        write(state, &both, now, vec![AuditEvent::Rekeyed { term }])?;
        let old_entries = replaced.iter().filter(|(old, _)| old.kind == SlotKind::Keychain);
        let forget = |(old, _): &(&Slot, _)| keychain::forget(location.custody.keychain(), &vault, &old.id);
        let left_behind = old_entries.filter_map(forget).collect();
        self.settle_file_slots()?;
        let slots = self.slots()?;
        Ok(Rekeyed { term, slots, left_behind })
    }

    /// Ends a re-keying whose new header is in the store: takes the new key file into its place, and then
    /// the slot of the one before out of the header. Whoever re-keys does so last; where that came to no end,
    /// it is done by who opens the vault to change it. Without such slots there is nothing to do.
    ///
    /// # Errors
    /// No key file that opens one of them, or one that cannot be replaced: nothing was changed then. Storage.
    pub(super) fn settle_file_slots(&mut self) -> Result<(), VaultError> {
        let now = self.clock.now();
        let state = writable(self.mode, &mut self.state)?;
        let Header { vault, mut slots, .. } = header(state)?;
        let files = || slots.iter().filter(|slot| slot.kind == SlotKind::File);
        if files().count() < 2 {
            return Ok(());
        }
        let opened_by = |key: Option<SlotKey>| {
            let key = key.filter(|key| key.vault == vault)?;
            let slot = files().find(|slot| slot.id == key.slot)?;
            slot.unwrap(&vault, &key.key).map(|_| slot.id)
        };
        let kept = with_key_file(&self.location, |file| {
            // One that cannot be read was not written to its end, and so was never in the header.
            if let Some(next) = opened_by(file.read_next().unwrap_or_default()) {
                file.take_next()?;
                return Ok(next);
            }
            let path = || file.path().to_owned();
            let key = file.read()?.ok_or_else(|| VaultError::KeyMissing { path: path() })?;
            opened_by(Some(key)).ok_or_else(|| VaultError::WrongKey { path: path() })
        })?;
        if files().any(|slot| slot.id == state.opened_by) {
            state.opened_by = kept;
        }
        slots.retain(|slot| slot.kind != SlotKind::File || slot.id == kept);
        write(state, &slots, now, Vec::new())
    }
}

/// The slot that took the place of the one the vault was opened with.
fn succeeded(id: SlotId, before: &[Slot], after: &[Slot]) -> SlotId {
    let kind = before.iter().find(|slot| slot.id == id).map(|slot| slot.kind);
    after.iter().find(|slot| Some(slot.kind) == kind).map_or(id, |slot| slot.id)
}

fn header(state: &State) -> Result<Header, VaultError> {
    Header::parse(&state.row(SLOTS_KEY)?.ok_or(Tampering::Slots)?)
}

fn write(
    state: &mut State,
    slots: &[Slot],
    now: OffsetDateTime,
    events: Vec<AuditEvent>,
) -> Result<(), VaultError> {
    let header = slots::encode(&state.vault, slots, &state.ring_key, &state.ring)?;
    state.commit(vec![(SLOTS_KEY.to_vec(), Some(header))], (now, ""), events)
}

fn infos(state: &State, slots: &[Slot]) -> Vec<SlotInfo> {
    let info = |slot: &Slot| SlotInfo { id: slot.id, kind: slot.kind, in_use: slot.id == state.opened_by };
    slots.iter().map(info).collect()
}

fn removal(slot: &Slot) -> AuditEvent {
    AuditEvent::SlotRemoved { slot: slot.id.to_string(), kind: slot.kind.to_string() }
}

fn with_key_file<T>(
    location: &VaultLocation,
    act: impl FnOnce(&KeyFile<'_>) -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    act(&KeyFile::at(&location.key_file, &Folder::store(&location.store, false)?, true)?)
}

#[cfg(test)]
mod tests;
