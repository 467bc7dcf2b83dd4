//! Files that are written below a folder, and nowhere else.
//!
//! Where a published file belongs is its publisher's word, and the folder may hold links that somebody else put there,
//! even while this is under way. So every folder on the way is opened from the one above it, and no link is followed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use orch_server::Failure;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

const CODE: &str = "file_unwritable";

/// The folder that its user has named: wherever that leads to is what they want.
pub(super) struct Folder {
    path: PathBuf,
    opened: OwnedFd,
}

impl Folder {
    /// Opens it, and makes it where it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::create_dir_all(here).map_err(|e| Failure::file(CODE, "write", here, &e))?;
        let opened = openat(CWD, here, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Failure::file(CODE, "write", here, &e.into()))?;
        Ok(Self { path: path.to_owned(), opened })
    }

    /// A new file at a relative path of plain names. Without `force` there must be nothing yet.
    pub(super) fn create(&self, relative: &Path, force: bool) -> Result<NewFile, Failure> {
        let place = self.path.join(relative);
        let failed = |e: Errno| Failure::file(CODE, "write", &place, &e.into());
        let mut names = Vec::new();
        for component in relative.components() {
            match component {
                Component::Normal(name) => names.push(name),
                _ => return Err(failed(Errno::INVAL)),
            }
        }
        let Some(name) = names.pop() else { return Err(failed(Errno::ISDIR)) };
        let mut parent = self.opened.try_clone().map_err(|e| Failure::file(CODE, "write", &place, &e))?;
        for name in names {
            parent = enter(&parent, name).map_err(|e| match e {
                // What Linux says of a link that is no folder itself, and what others say.
                Errno::NOTDIR | Errno::LOOP | Errno::MLINK => failed(e).hint(format!(
                    "{} is a symbolic link or no folder, and nothing is written through one",
                    Path::new(name).display()
                )),
                _ => failed(e),
            })?;
        }
        let mut beside = name.to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let file = new_file(&parent, &beside).map_err(failed)?;
        let mut new =
            NewFile { place, parent, name: name.to_owned(), beside, file, reserved: false, kept: false };
        // Without --force what appeared since the check stays as well.
        if !force {
            new_file(&new.parent, &new.name)
                .map_err(|e| Failure::file(CODE, "write", &new.place, &e.into()))?;
            new.reserved = true;
        }
        Ok(new)
    }
}

/// The folder of this name in another one, made where it is not there.
fn enter(parent: &OwnedFd, name: &std::ffi::OsStr) -> rustix::io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, how, Mode::empty())
}

fn new_file(parent: &OwnedFd, name: &std::ffi::OsStr) -> rustix::io::Result<File> {
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, how, Mode::from_raw_mode(0o666)).map(File::from)
}

/// A file that appears in its place whole, or not at all: it is written beside it, and what it replaces is there until
/// then.
pub(super) struct NewFile {
    place: PathBuf,
    parent: OwnedFd,
    name: OsString,
    beside: OsString,
    file: File,
    /// Whether the place is held by an empty file of ours, so that nobody else's is written over.
    reserved: bool,
    kept: bool,
}

impl NewFile {
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.file.write_all(piece).map_err(|e| Failure::file(CODE, "write", &self.place, &e))
    }

    pub(super) fn keep(mut self) -> Result<(), Failure> {
        renameat(&self.parent, &self.beside, &self.parent, &self.name)
            .map_err(|e| Failure::file(CODE, "write", &self.place, &e.into()))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // What cannot be removed is left: the failure that led here is what matters.
        let _ = unlinkat(&self.parent, &self.beside, AtFlags::empty());
        if self.reserved {
            let _ = unlinkat(&self.parent, &self.name, AtFlags::empty());
        }
    }
}
