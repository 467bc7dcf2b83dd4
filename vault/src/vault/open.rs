//! Opening and creating: places, lock, store, key, in this order.

use std::path::Path;

use time::OffsetDateTime;

use super::state::{HEAD_KEY, Opening, SLOTS_KEY, State, is_sealed};
use super::{OpenMode, VaultLocation};
use crate::VaultError;
use crate::error::Tampering;
use crate::keyfile::KeyFile;
use crate::place::{self, Folder, StoreLock};
use crate::slots::{self, Ring, SlotsError};
use crate::store::{SledStore, Store};

/// Opens the store at `location`. `None`: there is none, and `mode` does not create one.
pub(super) fn open(
    location: &VaultLocation,
    mode: OpenMode,
    now: OffsetDateTime,
) -> Result<Option<State>, VaultError> {
    let create = mode == OpenMode::Create;
    if !create && !place::exists(&location.store)? {
        return Ok(None);
    }
    let Some(name) = location.store.file_name() else {
        return Err(VaultError::place(location.store.as_path(), "is not the name of a folder"));
    };
    let parent = Folder::parent_of(&location.store, create)?;
    let mut lock_name = name.to_owned();
    lock_name.push(".lock");
    let lock = StoreLock::acquire(&parent, Path::new(&lock_name))?;
    let folder = Folder::store(&location.store, create)?;
    let identity = folder.identity()?;
    if is_sealed(identity) {
        return Err(VaultError::Sealed);
    }
    let key_file = KeyFile::at(&location.key_file, &folder, create)?;
    let store = SledStore::open(&folder)?;
    let opening = |store: SledStore, vault, ring| Opening {
        store: Box::new(store),
        vault,
        ring,
        identity,
        lock: Some(lock),
    };
    match (store.get(SLOTS_KEY)?, store.get(HEAD_KEY)?) {
        (None, None) if is_empty(&store)? => {
            if !create {
                return Ok(None);
            }
            // The key may be there already: from a creation that was cut short, or because the store was
            // removed. The head comes last, so a key without a store protects nothing yet.
            let slot = match key_file.read()? {
                Some(slot) => slot,
                None => key_file.create()?,
            };
            let ring = Ring::first_term()?;
            let header = slots::create(&slot, &ring)?;
            let state = State::create(opening(store, slot.vault, ring), header, now)?;
            // The folder's own name has to be durable too.
            parent.sync().map_err(|source| VaultError::storage("creating the vault's folder", source))?;
            Ok(Some(state))
        }
        (None, _) => Err(Tampering::Slots.into()),
        (_, None) => Err(Tampering::HeadMissing.into()),
        (Some(header), Some(head)) => {
            let slot = key_file
                .read()?
                .ok_or_else(|| VaultError::KeyMissing { path: key_file.path().to_owned() })?;
            let ring = slots::open(&header, &slot).map_err(|error| match error {
                SlotsError::WrongKey => VaultError::WrongKey { path: key_file.path().to_owned() },
                SlotsError::Vault(error) => error,
            })?;
            State::load(opening(store, slot.vault, ring), &head).map(Some)
        }
    }
}

fn is_empty(store: &dyn Store) -> Result<bool, VaultError> {
    let mut empty = true;
    store.scan(&[], None, &mut |_, _| {
        empty = false;
        Ok(())
    })?;
    Ok(empty)
}
