//! A store made anew: from a backup, or from its own rows without what sled has piled up behind them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::index::{HEAD_KEY, SLOTS_KEY};
use super::open::{self, Held};
use super::state::{Opening, State};
use super::swap::{self, Beside};
use super::verify::{Subject, inspect};
use super::{OpenMode, SystemClock, Vault, VaultLocation, VaultStatus};
use crate::anchor::Anchor;
use crate::backup::{self, Content};
use crate::crypto::Key;
use crate::error::Tampering;
use crate::keyfile::KeyFile;
use crate::place::{Access, BackupFile, Folder, StoreLock};
use crate::slots::{self, Header, Ring, SlotId, SlotKind};
use crate::store::{Batch, SledStore, Store};
use crate::{AuditEvent, Secret, VaultError, keychain, passphrase};

/// How much is written at once while a store is made, in bytes.
const BATCH_BYTES: usize = 1 << 20;
/// More than the record of a backup takes, and what a backup has beside the rows.
const ROOM_FOR_A_RECORD: u64 = 1 << 20;

impl Vault {
    /// A backup of the whole store, all workspaces, sealed under a passphrase: it opens on any machine. Only
    /// what is sound is backed up, and that it is made is put on record, in the backup as well. Works in a
    /// vault opened for reading.
    ///
    /// # Errors
    /// No vault, a refused passphrase, findings of a verification, more than a backup holds, storage.
    pub fn backup(&mut self, passphrase: &Secret) -> Result<Vec<u8>, VaultError> {
        let now = self.clock.now();
        let state = self.state.as_mut().ok_or(VaultError::ReadOnly)?;
        // What refuses a backup comes before the record of it.
        passphrase::check_new(passphrase)?;
        check_sound(&state.verify()?.findings)?;
        backup::check_size(state.extent()?.live_bytes + ROOM_FOR_A_RECORD)?;
        state.commit(Vec::new(), (now, &self.workspace), [AuditEvent::BackedUp])?;
        backup::seal(passphrase, &state.vault, &state.ring, &state.all_rows()?)
    }

    /// Writes a backup to a new file, durably. A file that is there is never replaced.
    ///
    /// # Errors
    /// A file that is there, or storage.
    pub fn write_backup(path: &Path, backup: &[u8]) -> Result<(), VaultError> {
        let mut file = BackupFile::create(path)?;
        file.write(backup)?;
        file.finish()
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
    /// the status says which. A key file or credential that is there is used, if it is this vault's. Nor do root
    /// keys: what is written from now on is sealed under a new term, since the backup may be from before a
    /// [`Vault::rekey`].
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
        swap::clear(&parent, &beside)?;
        let folder = Folder::store(&location.store.with_file_name(&beside.next), true)?;
        let ring_key = Key::random()?;
        let key_file = KeyFile::at(&location.key_file, &folder, true)?;
        let ring = content.ring.with_new_term()?;
        // Later than whatever was there: a generation is never used twice.
        let anchor = parent.private_file(&beside.anchor, Access::Read)?.map(Anchor::new);
        let floor = anchor.map_or(Ok(0), |anchor| anchor.claimed_generation())?;
        let (vault, slot) = location.custody.first_slot(Some(content.vault), &key_file, &ring_key)?;
        let header = slots::encode(&vault, std::slice::from_ref(&slot), &ring_key, &ring)?;
        let change = Change {
            rows: vec![(SLOTS_KEY.to_vec(), Some(header))],
            ring: Some(ring),
            event: AuditEvent::Restored,
        };
        let keys = (ring_key.copied(), slot.id);
        let rebuilt = Site { parent: &parent, beside: &beside, folder }.rebuild(content, keys, change, floor);
        if let Err(error) = rebuilt {
            // A key that no header knows, unless the new store may hold all the same.
            if slot.kind == SlotKind::Keychain && !swap::is_pending(&location.store, &beside).unwrap_or(true)
            {
                let _ = keychain::forget(location.custody.keychain(), &vault, &slot.id);
            }
            return Err(error);
        }
        // Nobody gets in between: what is told of is what was restored. And with the key that is at hand: nobody is
        // asked for a passphrase that was just said.
        let held = Held { lock: Some(lock), known: Some((ring_key, slot.id)) };
        let vault = Vault::open_held(location, OpenMode::WriteIfExists, Box::new(SystemClock), held)?;
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
        let (lock, rebuilt) = rebuild_from(&self.location, state);
        if state.is_closed() {
            // One that could not be rebuilt is as it was, and nobody gets in between, or the vault would be theirs.
            // One that cannot be opened either stays closed: it is not to be taken for a vault with nothing in it.
            let held = Held { lock, known };
            let opened = open::open(&self.location, self.mode, self.clock.now(), held, &mut State::load);
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

/// Makes a store of what is in this one, which is closed then: its lock comes with the outcome.
fn rebuild_from(location: &VaultLocation, state: &mut State) -> (Option<StoreLock>, Result<(), VaultError>) {
    // What stops it before it has begun leaves the vault open.
    let prepared = || -> Result<_, VaultError> {
        check_sound(&state.verify()?.findings)?;
        let content = Content { vault: state.vault, ring: state.ring.copied(), rows: state.all_rows()? };
        let parent = Folder::parent_of(&location.store, false)?;
        let beside = Beside::of(&location.store)?;
        swap::clear(&parent, &beside)?;
        Ok((content, parent, beside))
    };
    let (content, parent, beside) = match prepared() {
        Ok(prepared) => prepared,
        Err(error) => return (None, Err(error)),
    };
    let keys = (state.ring_key.copied(), state.opened_by);
    let lock = state.close();
    let folder = Folder::store(&location.store.with_file_name(&beside.next), true);
    // The header stays the row that it is: every slot opens what comes out.
    let change = Change { rows: Vec::new(), ring: None, event: AuditEvent::Compacted };
    let rebuilt = folder.and_then(|folder| {
        Site { parent: &parent, beside: &beside, folder }.rebuild(content, keys, change, 0)
    });
    (lock, rebuilt)
}

/// What a rebuilt store has that the rows it is made of do not.
struct Change {
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The ring in the header among `rows`, if that is another one.
    ring: Option<Ring>,
    event: AuditEvent,
}

/// Where a store is made. The caller holds the lock.
struct Site<'a> {
    parent: &'a Folder,
    beside: &'a Beside,
    folder: Folder,
}

impl Site<'_> {
    /// Makes the store, proves it, and says that it holds: the next opening puts it in its place.
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
        let Change { rows, ring, event } = change;
        if let Some(ring) = ring {
            state.ring = ring;
        }
        state.commit(rows, (time::OffsetDateTime::now_utc(), ""), [event])?;
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
        // From here on the new store holds. Whoever opens it finishes the swap.
        self.parent.sync_with_parents().map_err(stage)?;
        self.parent.replace(&self.beside.unfinished_anchor, &self.beside.next_anchor).map_err(stage)
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
