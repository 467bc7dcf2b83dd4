//! A store made anew: from a backup, or from its own rows without what sled has piled up behind them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::index::{HEAD_KEY, SLOTS_KEY};
use super::state::{Opening, State};
use super::swap::{self, Beside};
use super::verify::{Subject, inspect};
use super::{OpenMode, Vault, VaultLocation, VaultStatus, open};
use crate::anchor::Anchor;
use crate::backup::{self, Content};
use crate::crypto::Key;
use crate::error::Tampering;
use crate::keyfile::KeyFile;
use crate::place::{Access, Folder, StoreLock};
use crate::slots::{self, Header, SlotId};
use crate::store::{Batch, SledStore, Store};
use crate::{AuditEvent, Clock, Secret, SystemClock, VaultError};

/// How much is written at once while a store is made, in bytes.
const BATCH_BYTES: usize = 1 << 20;

impl Vault {
    /// A backup of the whole store, all workspaces, sealed under a passphrase: it opens on any machine. That
    /// it was made is put on record first, and only what is sound is backed up. Works in a vault opened for
    /// reading.
    ///
    /// # Errors
    /// No vault, a refused passphrase, findings of a verification, storage.
    pub fn backup(&mut self, passphrase: &Secret) -> Result<Vec<u8>, VaultError> {
        let now = self.clock.now();
        let state = self.state.as_mut().ok_or(VaultError::ReadOnly)?;
        state.commit(Vec::new(), (now, &self.workspace), [AuditEvent::BackedUp])?;
        check_sound(&state.verify()?.findings)?;
        backup::seal(passphrase, &state.vault, &state.ring, &state.all_rows()?)
    }

    /// Writes a backup to a new file, durably. A file that is there is never replaced.
    ///
    /// # Errors
    /// A file that is there, or storage.
    pub fn write_backup(path: &Path, backup: &[u8]) -> Result<(), VaultError> {
        let name = path.file_name().ok_or_else(|| VaultError::place(path, "is not the name of a file"))?;
        if crate::place::exists(path)? {
            return Err(VaultError::place(path, "is there already, and a backup replaces nothing"));
        }
        Folder::any_parent_of(path)?
            .write_new(Path::new(name), backup)
            .map_err(|source| VaultError::storage("writing the backup", source))
    }

    /// Reads the file of a backup.
    ///
    /// # Errors
    /// A file that cannot be read, or is larger than any backup.
    pub fn read_backup(path: &Path) -> Result<Vec<u8>, VaultError> {
        let unreadable = |error| VaultError::place(path, format!("cannot be read: {error}"));
        let file = File::open(path).map_err(unreadable)?;
        let mut backup = Vec::new();
        file.take(backup::LARGEST + 1).read_to_end(&mut backup).map_err(unreadable)?;
        if backup.len() as u64 > backup::LARGEST {
            return Err(VaultError::place(path, "is larger than any backup"));
        }
        Ok(backup)
    }

    /// Puts the vault of a backup in the place of the one at `location`, or of none. The one that is there
    /// stays until the new one was verified, and a crash at any moment leaves one of the two whole. Key slots
    /// do not come back: the vault gets one slot, which is chosen as for a new vault ([`KeyChoice`](crate::KeyChoice));
    /// the status says which. A key file or credential that is there is used, if it is this vault's.
    ///
    /// # Errors
    /// A wrong passphrase, a backup that is not authentic, another vault's key file or credential, a keychain that
    /// does not work, nobody to ask for a passphrase, a vault in use, storage.
    pub fn restore(
        location: &VaultLocation,
        backup: &[u8],
        passphrase: &Secret,
    ) -> Result<VaultStatus, VaultError> {
        let content = backup::open(passphrase, backup)?;
        let parent = Folder::parent_of(&location.store, true)?;
        let beside = Beside::of(&location.store)?;
        let lock = StoreLock::acquire(&parent, &beside.lock)?;
        swap::finish(&parent, &beside)?;
        let folder = Folder::store(&location.store.with_file_name(&beside.next), true)?;
        let ring_key = Key::random()?;
        let key_file = KeyFile::at(&location.key_file, &folder, true)?;
        let (_, slot) = location.custody.first_slot(Some(content.vault), &key_file, &ring_key)?;
        let header = slots::encode(&content.vault, std::slice::from_ref(&slot), &ring_key, &content.ring)?;
        let anchor = parent.private_file(&beside.anchor, Access::Read)?.map(Anchor::new);
        // Later than whatever was there: a generation is never used twice.
        let anchored = anchor.and_then(|anchor| anchor.read(&content.vault, &content.ring).ok().flatten());
        let floor = anchored.map_or(0, |mark| mark.generation);
        let change = (vec![(SLOTS_KEY.to_vec(), Some(header))], AuditEvent::Restored);
        let keys = (ring_key.copied(), slot.id);
        Site { parent: &parent, beside: &beside, folder }.rebuild(content, keys, change, floor)?;
        drop(lock);
        // With the key that is at hand: nobody is asked for a passphrase that was just said.
        let (mode, known) = (OpenMode::WriteIfExists, Some((ring_key, slot.id)));
        let state = open::open(location, mode, SystemClock.now(), known, &mut State::load)?;
        let (location, workspace) = (location.clone(), location.workspace.clone());
        let vault = Vault { location, workspace, mode, clock: Box::new(SystemClock), state };
        vault.status()?.ok_or_else(|| Tampering::RolledBack.into())
    }

    /// Rewrites the store with nothing in it but its rows, the slots' among them. The same swap as a
    /// restoration's. Returns how large it was and is; `None` without a vault.
    ///
    /// # Errors
    /// As opening a vault. The vault stays usable unless it cannot be opened any more.
    pub fn compact(&mut self) -> Result<Option<(VaultStatus, VaultStatus)>, VaultError> {
        if self.mode == OpenMode::ReadOnlyIfExists {
            return Err(VaultError::ReadOnly);
        }
        let Some(before) = self.status()? else { return Ok(None) };
        let Some(state) = &mut self.state else { return Ok(None) };
        // Nobody is asked again for what opened it: a keychain may be locked by now.
        let known = Some((state.ring_key.copied(), state.opened_by));
        let rebuilt = rebuild_from(&self.location, state);
        if state.is_closed() {
            // One that could not be rebuilt is as it was. One that cannot be opened either stays closed: it is not to
            // be taken for a vault with nothing in it.
            let opened = open::open(&self.location, self.mode, self.clock.now(), known, &mut State::load);
            match opened {
                Ok(Some(opened)) => self.state = Some(opened),
                Ok(None) => return Err(rebuilt.err().unwrap_or_else(|| Tampering::RolledBack.into())),
                Err(error) => return Err(rebuilt.err().unwrap_or(error)),
            }
        }
        rebuilt?;
        Ok(self.status()?.map(|after| (before, after)))
    }
}

fn rebuild_from(location: &VaultLocation, state: &mut State) -> Result<(), VaultError> {
    check_sound(&state.verify()?.findings)?;
    let rows = state.all_rows()?;
    let keys = (state.ring_key.copied(), state.opened_by);
    let content = Content { vault: state.vault, ring: state.ring.copied(), rows };
    let _lock = state.close();
    let parent = Folder::parent_of(&location.store, false)?;
    let beside = Beside::of(&location.store)?;
    let folder = Folder::store(&location.store.with_file_name(&beside.next), true)?;
    // The header stays the row that it is: every slot opens what comes out.
    let change = (Vec::new(), AuditEvent::Compacted);
    Site { parent: &parent, beside: &beside, folder }.rebuild(content, keys, change, 0)
}

type Change = (Vec<(Vec<u8>, Option<Vec<u8>>)>, AuditEvent);

/// Where a store is made. The caller holds the lock.
struct Site<'a> {
    parent: &'a Folder,
    beside: &'a Beside,
    folder: Folder,
}

impl Site<'_> {
    /// Makes the store, proves it, and puts it in its place.
    fn rebuild(
        self,
        content: Content,
        (ring_key, opened_by): (Key, SlotId),
        change: Change,
        floor: u64,
    ) -> Result<(), VaultError> {
        let Content { vault, ring, rows } = content;
        let store = SledStore::open(&self.folder)?;
        fill(&store, &rows)?;
        let head = rows.iter().find(|(key, _)| key == HEAD_KEY).ok_or(Tampering::HeadMissing)?;
        let opening = Opening {
            store: Box::new(store),
            vault,
            ring,
            ring_key: ring_key.copied(),
            opened_by,
            anchor: None,
            identity: None,
            lock: None,
        };
        let mut state = State::load(opening, &head.1)?;
        state.raise_generation(floor);
        let (changes, event) = change;
        state.commit(changes, (time::OffsetDateTime::now_utc(), ""), [event])?;
        let mark = state.mark();
        let (vault, ring) = state.into_keys();

        let stage = |source| VaultError::storage("writing the anchor", source);
        self.parent.remove(&self.beside.unfinished_anchor).map_err(stage)?;
        let file = self
            .parent
            .private_file(&self.beside.unfinished_anchor, Access::Create)?
            .ok_or_else(|| VaultError::place(self.parent.path(), "loses files while they are opened"))?;
        let anchor = Anchor::new(file);
        anchor.write(mark, &vault, &ring).map_err(stage)?;

        // From the disk, with nothing of the above in memory.
        let store = SledStore::open(&self.folder)?;
        let subject = Subject { store: &store, vault: &vault, ring: &ring, anchor: Some(&anchor) };
        check_sound(&inspect(subject)?.findings)?;
        // A store that no slot opens would be no store.
        let header = Header::parse(&store.get(SLOTS_KEY)?.ok_or(Tampering::Slots)?)?;
        header.open(&ring_key)?;
        if !header.slots.iter().any(|slot| slot.id == opened_by) {
            return Err(Tampering::Slots.into());
        }
        drop(store);
        self.parent.sync_with_parents().map_err(stage)?;
        self.parent.replace(&self.beside.unfinished_anchor, &self.beside.next_anchor).map_err(stage)?;
        swap::finish(self.parent, self.beside)
    }
}

fn fill(store: &SledStore, rows: &backup::Rows) -> Result<(), VaultError> {
    let mut batch = Batch::default();
    let mut size = 0;
    for (key, row) in rows {
        size += key.len() + row.len();
        batch.put(key.clone(), row.clone());
        if size >= BATCH_BYTES {
            store.commit(std::mem::take(&mut batch))?;
            size = 0;
        }
    }
    store.commit(batch)
}

fn check_sound(findings: &[super::Finding]) -> Result<(), VaultError> {
    if findings.is_empty() {
        return Ok(());
    }
    Err(VaultError::Unsound { findings: findings.iter().map(|finding| finding.message.clone()).collect() })
}
