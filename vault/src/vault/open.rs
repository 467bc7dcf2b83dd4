//! Opening and creating: places, lock, store, key, in this order.

use std::path::Path;

use time::OffsetDateTime;

use super::index::{HEAD_KEY, SLOTS_KEY};
use super::state::{Opening, State, is_sealed, seal};
use super::swap::{self, Beside};
use super::{OpenMode, VaultLocation};
use crate::VaultError;
use crate::anchor::Anchor;
use crate::crypto::Key;
use crate::error::Tampering;
use crate::keyfile::KeyFile;
use crate::place::{self, Access, Folder, StoreLock};
use crate::slots::{self, Header, Ring, SlotId};
use crate::store::{SledStore, Store};

/// Makes a state of a store that has a head: [`State::load`], or what else looks at it.
pub(super) type Load<'a> = &'a mut dyn FnMut(Opening, &[u8]) -> Result<State, VaultError>;

/// What whoever opens a store has of it already.
#[derive(Default)]
pub(super) struct Held {
    /// Its lock, which is not let go of then.
    pub(super) lock: Option<StoreLock>,
    /// A key that opens it, if that still holds.
    pub(super) known: Option<(Key, SlotId)>,
}

/// Opens the store at `location`. `None`: there is none, and `mode` does not create one.
pub(super) fn open(
    location: &VaultLocation,
    mode: OpenMode,
    now: OffsetDateTime,
    held: Held,
    load: Load<'_>,
) -> Result<Option<State>, VaultError> {
    let create = mode == OpenMode::Create;
    let beside = Beside::of(&location.store)?;
    let is_there = || place::exists(&location.store);
    let anchor_path = location.store.with_file_name(&beside.anchor);
    // Without the lock another process may be just about to put a rebuilt store there, so where anything says
    // that there was one, that has the last word under it.
    let nothing =
        !is_there()? && !swap::is_pending(&location.store, &beside)? && !place::exists(&anchor_path)?;
    if nothing && !create {
        return Ok(None);
    }
    let parent = Folder::parent_of(&location.store, create)?;
    let lock = held.lock.map_or_else(|| StoreLock::acquire(&parent, &beside.lock), Ok)?;
    swap::finish(&parent, &beside)?;
    if !is_there()? {
        let anchor = parent.private_file(&beside.anchor, Access::Read)?.map(Anchor::new);
        if let Some(anchor) = anchor
            && !anchor.is_blank()?
        {
            return Err(Tampering::RolledBack.into());
        }
        if !create {
            return Ok(None);
        }
        check_nothing_was_there(location)?;
    }
    let folder = Folder::store(&location.store, create)?;
    let identity = folder.identity()?;
    if is_sealed(identity) {
        return Err(VaultError::Sealed);
    }
    let key_file = KeyFile::at(&location.key_file, &folder, create)?;
    let anchor = parent.private_file(&beside.anchor, Access::Write)?.map(Anchor::new);
    let store = SledStore::open(&folder).inspect_err(|error| {
        // sled syncs what it repairs: one that failed is not to be followed by one that seems to work.
        if matches!(error, VaultError::Storage { .. }) {
            seal(identity);
        }
    })?;
    match (store.get(SLOTS_KEY)?, store.get(HEAD_KEY)?) {
        (None, None) if is_empty(&store)? => {
            if let Some(anchor) = anchor
                && !anchor.is_blank()?
            {
                return Err(Tampering::RolledBack.into());
            }
            if !create {
                return Ok(None);
            }
            let (ring, ring_key) = (Ring::first_term()?, Key::random()?);
            // Names first: what the key is made for is found again after a power cut, and so is what the first
            // batch relies on.
            let anchor = new_anchor(&parent, &beside.anchor)?;
            parent
                .sync_with_parents()
                .map_err(|source| VaultError::storage("creating the vault's folder", source))?;
            let (vault, slot) = location.custody.first_slot(None, &key_file, &ring_key)?;
            let header = slots::encode(&vault, std::slice::from_ref(&slot), &ring_key, &ring)?;
            let opening = Opening {
                store: Box::new(store),
                vault,
                ring,
                ring_key,
                opened_by: slot.id,
                anchor: Some(anchor),
                identity: Some(identity),
                lock: Some(lock),
            };
            State::create(opening, header, now).map(Some)
        }
        (None, _) => Err(Tampering::Slots.into()),
        (_, None) => Err(Tampering::HeadMissing.into()),
        (Some(header), Some(head)) => {
            let header = Header::parse(&header)?;
            let (ring_key, opened_by) = match held.known {
                Some((ring_key, opened_by)) if header.open(&ring_key).is_ok() => (ring_key, opened_by),
                _ => location.custody.unlock(&header.vault, &header.slots, &key_file)?,
            };
            let ring = header.open(&ring_key)?;
            let opening = Opening {
                store: Box::new(store),
                vault: header.vault,
                ring,
                ring_key,
                opened_by,
                anchor: Some(anchor.ok_or(Tampering::Anchor)?),
                identity: Some(identity),
                lock: Some(lock),
            };
            load(opening, &head).map(Some)
        }
    }
}

/// A key file is made after the store's folder. Where it is alone, there was a vault, and a new one would take its
/// name and its key: what was lost would go unnoticed.
pub(super) fn check_nothing_was_there(location: &VaultLocation) -> Result<(), VaultError> {
    if place::exists(&location.key_file)? {
        let (store, key_file) = (location.store.clone(), location.key_file.clone());
        return Err(VaultError::StoreGone { store, key_file });
    }
    Ok(())
}

fn new_anchor(parent: &Folder, name: &Path) -> Result<Anchor, VaultError> {
    let file = parent.private_file(name, Access::Create)?;
    file.map(Anchor::new)
        .ok_or_else(|| VaultError::place(parent.path().join(name), "vanished while it was opened"))
}

fn is_empty(store: &dyn Store) -> Result<bool, VaultError> {
    let mut empty = true;
    store.scan(&[], None, &mut |_, _| {
        empty = false;
        Ok(())
    })?;
    Ok(empty)
}
