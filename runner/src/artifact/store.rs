//! Files and folders that only their owner can read, written whole or not at all.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tokio::sync::OwnedMutexGuard;

use super::key::ArtifactKey;

const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// Creates a folder and its parents, 0700 where they are new.
pub(super) fn create_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder)
}

/// Opens an entry for reading: a file of this user that nobody else may write. A link in its place is not followed,
/// and a pipe does not block.
pub(super) fn open_entry(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    let refuse = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if !meta.is_file() {
        return refuse("it is not a regular file");
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return refuse("it belongs to another user");
    }
    if meta.mode() & 0o022 != 0 {
        return refuse("other users may write to it");
    }
    Ok(file)
}

/// Writes a 0600 file such that a reader, or a machine that lost power, sees all of it or none.
pub(super) fn write_atomically(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = temporary_name(folder)?;
    let written = write_new(&temporary, parts).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: what failed is already being reported.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)?.sync_all()
}

/// The 32 bytes in `path`. If there is no such file it is created with random ones; of two processes that do so at
/// once both get the same.
pub(super) fn load_or_create_key(path: &Path) -> io::Result<[u8; 32]> {
    match read_key(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_private_folder(folder)?;
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
    let temporary = temporary_name(folder)?;
    write_new(&temporary, &[&key])?;
    // A link, not a rename: it fails when another process was first, and then that one's key counts.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => File::open(folder)?.sync_all()?,
    }
    read_key(path)
}

fn read_key(path: &Path) -> io::Result<[u8; 32]> {
    let mut bytes = Vec::with_capacity(33);
    let file = open_entry(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "other users may read it"));
    }
    file.take(33).read_to_end(&mut bytes)?;
    bytes.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not hold 32 bytes"))
}

fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

fn temporary_name(folder: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
    Ok(folder.join(format!(".{}.tmp", data_encoding::HEXLOWER.encode(&random))))
}

/// A file without a name.
#[cfg(target_os = "linux")]
pub(super) fn anonymous_file() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create("orch-artifact", MemfdFlags::CLOEXEC)?.into())
}

/// A file without a name.
#[cfg(not(target_os = "linux"))]
pub(super) fn anonymous_file() -> io::Result<File> {
    let path = temporary_name(&std::env::temp_dir())?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE_FILE).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// The same file, for reading only: a new description on Linux, where one can be opened through `/proc`.
#[cfg(target_os = "linux")]
pub(super) fn read_only(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The same file. Without `/proc` its descriptor stays writable, by a worker that could only harm itself.
#[cfg(not(target_os = "linux"))]
pub(super) fn read_only(file: &File) -> io::Result<File> {
    file.try_clone()
}

/// How often a process looks whether another one has compiled what both want.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long it waits for that: longer than a compilation may take. Who has the lock may be stopped.
const PATIENCE: Duration = Duration::from_secs(150);

/// A turn of this process among those of the machine, for one entry: a lock on a file beside it. The file goes with the
/// turn, and the lock with the process.
pub(super) struct Alone {
    path: PathBuf,
    _locked: File,
}

impl Alone {
    /// Waits for the turn. Where no lock can be had there is none: then each process compiles, and the last rename wins,
    /// with equal code.
    pub(super) async fn turn(entry: &Path) -> Option<Self> {
        tokio::time::timeout(PATIENCE, Self::locked(entry.with_extension("compiling"))).await.ok().flatten()
    }

    async fn locked(path: PathBuf) -> Option<Self> {
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(PRIVATE_FILE)
                .custom_flags(OFlags::NOFOLLOW.bits() as i32)
                .open(&path)
                .ok()?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_still(&path, &file)? => return Some(Alone { path, _locked: file }),
                // Whoever had it took the file away.
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => tokio::time::sleep(LOOK_EVERY).await,
                Err(_) => return None,
            }
        }
    }
}

/// Whether a path still names this file; none when the file cannot be asked.
fn is_still(path: &Path, file: &File) -> Option<bool> {
    let ours = file.metadata().ok()?;
    Some(fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())))
}

impl Drop for Alone {
    fn drop(&mut self) {
        // A file that stays is locked again by whoever comes next.
        let _ = fs::remove_file(&self.path);
    }
}

/// One turn at a time per artifact within this process.
#[derive(Default)]
pub(super) struct InProgress(Mutex<HashMap<ArtifactKey, Arc<tokio::sync::Mutex<()>>>>);

/// A turn. Dropping it lets the next one in.
pub(super) struct Turn<'a> {
    of: &'a InProgress,
    key: ArtifactKey,
    guard: Option<OwnedMutexGuard<()>>,
}

impl InProgress {
    pub(super) async fn turn(&self, key: &ArtifactKey) -> Turn<'_> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(*key).or_default())
        };
        Turn { of: self, key: *key, guard: Some(lock.lock_owned().await) }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut locks = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.guard.take());
        // Under the map's lock nobody can be between finding the entry and waiting on it.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}
