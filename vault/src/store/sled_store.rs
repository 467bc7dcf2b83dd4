//! [`Store`] on sled 0.34.
//!
//! sled's `flush` hands its writes to the kernel and does not wait for the disk, so a commit ends with our
//! own `fsync` of sled's one log file. It is one entry first, and its rows after that (`last.rs`). What sled would put elsewhere, large pages in files under `blobs`
//! that nobody syncs, is kept from happening: a row is cut into *pieces* of 4 KiB at most, and a leaf of
//! sled's tree, about 17 pieces, stays below the size (128 KiB) where that begins.
//!
//! ```text
//! key ‖ 0   →  number of pieces ‖ first piece
//! key ‖ n   →  piece n
//! ```
//!
//! The pieces need no authentication of their own: the whole row has it.
//!
//! What sled does when a disk fails is `engine.rs`'s.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::{Batch, LARGEST_ROW, Store, Visit};
use crate::VaultError;
use crate::error::Tampering;
use crate::place::{Folder, LOCK_WAIT};

mod engine;
#[cfg(not(any(test, fuzzing)))]
mod last;
#[cfg(any(test, fuzzing))]
pub(crate) mod last;

use engine::Engine;

/// The largest piece, in bytes.
const PIECE_LEN: usize = 4096;
/// sled's page cache. The rows of a vault are few, and each is decrypted only when it is used.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
const REOPEN_PAUSE: Duration = Duration::from_millis(5);

/// The key of a piece, and the piece, or `None` to take it away.
type Piece = (Vec<u8>, Option<Vec<u8>>);

/// An open sled database, and its log file opened once more for `fsync`.
pub(crate) struct SledStore {
    db: Engine,
    log: File,
}

impl SledStore {
    /// Opens, or creates, the database in `folder`. The caller holds the store's lock.
    pub(crate) fn open(folder: &Folder) -> Result<SledStore, VaultError> {
        remove_unfinished_snapshots(folder.path())
            .map_err(|error| VaultError::storage("tidying up the store", error))?;
        check_entries(folder.path())?;
        let log_path = folder.path().join("db");
        let is_new =
            is_new(&log_path).map_err(|error| VaultError::storage("looking into the store", error))?;
        if is_new {
            // Half a one would keep sled from opening, and without a log there is nothing that it describes.
            remove_if_there(&folder.path().join("conf"))
                .map_err(|error| VaultError::storage("tidying up the store", error))?;
        }
        let watched = |error| VaultError::storage("opening the store", error);
        let db = Engine::new(open_sled(folder.path())?).map_err(watched)?;
        let opened = || -> io::Result<File> {
            let log = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&log_path)?;
            close_to_others(folder.path())?;
            if is_new {
                File::open(folder.path().join("conf"))?.sync_all()?;
                log.sync_all()?;
                folder.sync()?;
            }
            Ok(log)
        };
        let log = opened().map_err(|error| VaultError::storage("opening the store", error))?;
        let store = SledStore { db, log };
        store.put_last_in_place()?;
        Ok(store)
    }

    /// Puts the rows of the last batch in their places: whoever committed it may have been stopped before that.
    fn put_last_in_place(&self) -> Result<(), VaultError> {
        guarded(unreadable, || match self.db.get(last::KEY).map_err(failed)? {
            Some(entry) => self.put_in_place(self.pieces(&last::decode(&entry)?)?),
            None => Ok(()),
        })
    }

    fn make_durable(&self) -> Result<(), VaultError> {
        self.db.flush().map_err(failed)?;
        self.log.sync_all().map_err(|error| VaultError::storage("making a change durable", error))
    }

    fn assemble(&self, key: &[u8], first: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (&count, data) = first.split_first().ok_or(Tampering::Engine)?;
        let mut row = Vec::with_capacity(usize::from(count) * PIECE_LEN);
        row.extend_from_slice(data);
        for number in 1..count {
            let piece = self.db.get(piece_key(key, number)).map_err(failed)?.ok_or(Tampering::Engine)?;
            row.extend_from_slice(&piece);
        }
        Ok(row)
    }

    fn pieces_of(&self, key: &[u8]) -> Result<u8, VaultError> {
        let first = self.db.get(piece_key(key, 0)).map_err(failed)?;
        Ok(first.and_then(|first| first.first().copied()).unwrap_or(0))
    }

    /// The pieces that `batch` puts and takes away.
    fn pieces(&self, batch: &Batch) -> Result<Vec<Piece>, VaultError> {
        let mut pieces = Vec::with_capacity(batch.changes.len());
        for (key, row) in &batch.changes {
            let row = row.as_deref().unwrap_or_default();
            if row.len() > LARGEST_ROW {
                return Err(VaultError::storage(
                    "writing a row",
                    io::Error::from(io::ErrorKind::FileTooLarge),
                ));
            }
            let before = self.pieces_of(key)?;
            let count =
                u8::try_from(row.len().div_ceil(PIECE_LEN)).expect("LARGEST_ROW has fewer than 256 pieces");
            for (number, piece) in (0..count).zip(row.chunks(PIECE_LEN)) {
                let piece = if number == 0 { [&[count], piece].concat() } else { piece.to_vec() };
                pieces.push((piece_key(key, number), Some(piece)));
            }
            pieces.extend((count..before).map(|number| (piece_key(key, number), None)));
        }
        Ok(pieces)
    }

    /// Not durable, and no batch: see `last.rs`.
    fn put_in_place(&self, pieces: Vec<Piece>) -> Result<(), VaultError> {
        for (key, piece) in pieces {
            match piece {
                Some(piece) => self.db.insert(key, piece).map(drop),
                None => self.db.remove(key).map(drop),
            }
            .map_err(failed)?;
        }
        Ok(())
    }

    /// For what is too long for one entry: a batch of sled's, which takes the entry of the last one away.
    fn commit_at_length(&self, pieces: Vec<Piece>) -> Result<(), VaultError> {
        let mut batch = sled::Batch::default();
        batch.remove(last::KEY);
        for (key, piece) in pieces {
            match piece {
                Some(piece) => batch.insert(key, piece),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(failed)?;
        self.make_durable()
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        guarded(unreadable, || match self.db.get(piece_key(key, 0)).map_err(failed)? {
            Some(first) => self.assemble(key, &first).map(Some),
            None => Ok(None),
        })
    }

    fn scan(&self, from: &[u8], below: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), VaultError> {
        guarded(unreadable, || {
            let mut current: Option<(Vec<u8>, Vec<u8>, u8, u8)> = None;
            let from = if from == last::KEY { Bound::Excluded(from) } else { Bound::Included(from) };
            let below = below.map_or(Bound::Unbounded, Bound::Excluded);
            for entry in self.db.range::<&[u8], _>((from, below)) {
                let (piece_key, piece) = entry.map_err(failed)?;
                let (&number, key) = piece_key.split_last().ok_or(Tampering::Engine)?;
                if number == 0 {
                    if let Some((key, row, seen, count)) = current.take() {
                        visit_whole(&key, &row, seen, count, visit)?;
                    }
                    let (&count, data) = piece.split_first().ok_or(Tampering::Engine)?;
                    current = Some((key.to_vec(), data.to_vec(), 1, count));
                    continue;
                }
                match &mut current {
                    Some((expected, row, seen, _)) if expected == key && *seen == number => {
                        row.extend_from_slice(&piece);
                        *seen += 1;
                    }
                    _ => return Err(Tampering::Engine.into()),
                }
            }
            match current {
                Some((key, row, seen, count)) => visit_whole(&key, &row, seen, count, visit),
                None => Ok(()),
            }
        })
    }

    fn commit(&self, batch: Batch) -> Result<(), VaultError> {
        guarded(gave_up, || {
            let pieces = self.pieces(&batch)?;
            self.db.patiently(|| match last::encode(&batch) {
                Some(entry) => {
                    self.db.insert(last::KEY, entry).map_err(failed)?;
                    self.make_durable()?;
                    self.put_in_place(pieces)
                }
                None => self.commit_at_length(pieces),
            })
        })
    }

    fn sync(&self) -> Result<(), VaultError> {
        guarded(gave_up, || self.db.patiently(|| self.make_durable()))
    }

    fn bytes_on_disk(&self) -> Result<u64, VaultError> {
        guarded(unreadable, || self.db.size_on_disk().map_err(failed))
    }
}

fn visit_whole(key: &[u8], row: &[u8], seen: u8, count: u8, visit: &mut Visit<'_>) -> Result<(), VaultError> {
    if seen != count {
        return Err(Tampering::Engine.into());
    }
    visit(key, row)
}

fn piece_key(key: &[u8], number: u8) -> Vec<u8> {
    [key, &[number]].concat()
}

/// sled asserts in places where its files make no sense: that is an error like any other here.
fn guarded<T>(
    on_panic: impl FnOnce() -> VaultError,
    work: impl FnOnce() -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(on_panic()))
}

fn unreadable() -> VaultError {
    Tampering::Engine.into()
}

fn gave_up() -> VaultError {
    VaultError::storage("writing to the store", io::Error::other("the storage engine gave up"))
}

fn failed(error: sled::Error) -> VaultError {
    match error {
        sled::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
            VaultError::storage("working on the store", source)
        }
        _ => Tampering::Engine.into(),
    }
}

/// sled lets go of its file a moment after its last handle is dropped, and says "other error" when
/// somebody has it. Our own lock is held, so waiting is for an earlier handle of this same process.
fn open_sled(folder: &Path) -> Result<sled::Db, VaultError> {
    let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let started = Instant::now();
    loop {
        let opened = guarded(unreadable, || Ok(config.open()))?;
        match opened {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(error))
                if error.kind() == io::ErrorKind::Other && started.elapsed() < LOCK_WAIT =>
            {
                sleep(REOPEN_PAUSE);
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Whether nothing was ever written to the log.
fn is_new(log: &Path) -> io::Result<bool> {
    match fs::metadata(log) {
        Ok(metadata) => Ok(metadata.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Deletes snapshots that a crash left half written, and which sled stumbles over. Finished ones stay:
/// without them, and with a damaged log, sled silently goes back in time.
fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b"snap.") && name.ends_with(b".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// sled follows symlinks; nothing in the store's folder may be one.
fn check_entries(folder: &Path) -> Result<(), VaultError> {
    let list = || fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>();
    for entry in list().map_err(|error| VaultError::storage("looking into the store", error))? {
        let kind = entry.file_type().map_err(|error| VaultError::storage("looking into the store", error))?;
        if !(kind.is_file() || kind.is_dir()) {
            return Err(VaultError::place(entry.path(), "does not belong into a vault"));
        }
    }
    Ok(())
}

/// sled creates files with the process's umask. The folder keeps others out already; this is for copies
/// that keep modes.
fn close_to_others(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.permissions().mode() & 0o077 != 0 {
            let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
