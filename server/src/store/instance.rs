//! Which processes are alive.
//!
//! A process that owns runs holds a lock on a file of its own for as long as it lives; the kernel releases it however
//! the process ends. So a run whose owner's lock is free, or whose owner's file is gone, belongs to nobody, and a run
//! of a live process is never taken for one of a dead.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::place;
use crate::failure::Failure;

const PREFIX: &str = "inst_";
const LOCK: &str = "lock";

/// This process as the owner of runs. Dropping it says that the process owns no more.
#[derive(Debug)]
pub struct Instance {
    id: String,
    path: PathBuf,
    _lock: File,
}

impl Instance {
    /// A new instance, in the folder of the store.
    ///
    /// # Errors
    /// When its lock file cannot be made.
    pub fn claim(folder: &Path) -> Result<Self, Failure> {
        let folder = place::folder(&instances(folder))?;
        let failed = |e: io::Error| Failure::file("store_unwritable", "create a lock file in", &folder, &e);
        place::remove_leftovers(&folder).map_err(failed)?;
        let id = format!("{PREFIX}{}", place::random_name().map_err(failed)?);
        let path = lock_file(&folder, &id);
        // Locked before it has its name, so that nobody ever finds it unlocked.
        let (unfinished, lock) = place::unfinished(&folder).map_err(failed)?;
        fs::rename(&unfinished, &path).map_err(failed)?;
        Ok(Self { id, path, _lock: lock })
    }

    /// Its id, `inst_…`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A file that stays is removed by the next recovery; its lock is released all the same.
        let _ = fs::remove_file(&self.path);
    }
}

/// Those of `ids` whose process is gone. A lock that cannot be looked at counts as held.
pub(super) fn dead_instances(folder: &Path, ids: Vec<String>) -> Vec<String> {
    let folder = instances(folder);
    ids.into_iter().filter(|id| !alive(&folder, id)).collect()
}

/// Removes the lock files of processes that are gone. Their runs are nobody's with the file and without it.
pub(super) fn remove_dead(folder: &Path) -> io::Result<()> {
    let folder = instances(folder);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|end| end == LOCK) && !alive(&folder, id) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn instances(folder: &Path) -> PathBuf {
    folder.join("instances")
}

fn lock_file(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.{LOCK}"))
}

fn alive(folder: &Path, id: &str) -> bool {
    // Ids come from rows of the database; what is not one names no file.
    let named = id.strip_prefix(PREFIX).is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric()));
    if !named {
        return false;
    }
    match place::open(&lock_file(folder, id)) {
        // Shared, so that two who look at the same time do not take each other for the owner.
        Ok(file) => !matches!(file.try_lock_shared(), Ok(())),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}
