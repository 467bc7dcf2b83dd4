//! A new file that is there whole or not at all.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Folder, PRIVATE_FILE, exists};
use crate::VaultError;

/// The file of a backup while it is written: 0600, under another name beside the one that it gets when it is whole and
/// on disk. What is there is never replaced, no link is followed, and what is not finished goes with this.
#[derive(Debug)]
pub struct BackupFile {
    path: PathBuf,
    folder: Folder,
    name: OsString,
    draft: OsString,
    file: File,
    finished: bool,
}

impl BackupFile {
    /// Begins a file that is to be at `path`.
    ///
    /// # Errors
    /// Something that is there, or a folder that cannot be written to.
    pub fn create(path: &Path) -> Result<BackupFile, VaultError> {
        let name = path.file_name().ok_or_else(|| VaultError::place(path, "is not the name of a file"))?;
        if exists(path)? {
            return Err(occupied(path));
        }
        let folder = Folder::any_parent_of(path)?;
        let mut draft = name.to_owned();
        draft.push(format!(".{}.new", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder.file, &draft, flags, PRIVATE_FILE)
            .map_err(|errno| VaultError::storage("writing the backup", errno))?;
        let (path, name) = (path.to_owned(), name.to_owned());
        Ok(BackupFile { path, folder, name, draft, file: File::from(file), finished: false })
    }

    /// Writes what comes next.
    ///
    /// # Errors
    /// Storage.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), VaultError> {
        self.file.write_all(piece).map_err(|source| VaultError::storage("writing the backup", source))
    }

    /// Makes it durable, and gives it its name.
    ///
    /// # Errors
    /// Something that is there by now, or storage.
    pub fn finish(mut self) -> Result<(), VaultError> {
        let failed = |source| VaultError::storage("writing the backup", source);
        self.file.sync_all().map_err(failed)?;
        match rustix::fs::renameat_with(
            &self.folder.file,
            &self.draft,
            &self.folder.file,
            &self.name,
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => self.finished = true,
            Err(Errno::EXIST) => return Err(occupied(&self.path)),
            // Not every file system can refuse to replace by renaming; a second name replaces nothing, either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                let folder = &self.folder.file;
                rustix::fs::linkat(folder, &self.draft, folder, &self.name, AtFlags::empty())
                    .map_err(|errno| failed(errno.into()))?;
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        self.folder.sync().map_err(failed)
    }
}

impl Drop for BackupFile {
    fn drop(&mut self) {
        if !self.finished {
            // What matters is why it was not finished.
            let _ = self.folder.remove(Path::new(&self.draft));
        }
    }
}

fn occupied(path: &Path) -> VaultError {
    VaultError::place(path, "is there already, and a backup replaces nothing")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ErrorKind;

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let mut file = BackupFile::create(&path).unwrap();
        file.write(b"one ").unwrap();
        assert!(!path.exists(), "not yet");
        drop(file);
        assert!(names(folder.path()).is_empty(), "and nothing of it is left");
        // Somebody's own file of a name alike stays.
        fs::write(folder.path().join("backup.new"), "mine").unwrap();
        let mut file = BackupFile::create(&path).unwrap();
        file.write(b"one ").unwrap();
        file.write(b"two").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["backup", "backup.new"]);
    }

    #[test]
    fn what_is_there_or_comes_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let file = BackupFile::create(&path).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert_eq!(file.finish().unwrap_err().kind(), ErrorKind::Place);
        assert_eq!(BackupFile::create(&path).unwrap_err().kind(), ErrorKind::Place);
        assert_eq!(names(folder.path()), ["backup"]);
    }
}
