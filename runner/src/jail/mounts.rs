//! The folders that a jailed process keeps, opened while it can still open anything.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::scratch::{NoScratch, Space};
use crate::protocol::{Mount, ScratchUsage};

/// A mount's folder.
pub(super) struct Opened {
    pub(super) mount: Mount,
    pub(super) folder: OwnedFd,
}

/// A mount whose folder could not be opened, and why.
struct Unopened {
    mount: Mount,
    reason: String,
}

/// The folders of all mounts that this process was given. What a guest has of the host's files are these descriptors: no
/// path is looked up again once the jail is closed.
#[derive(Default)]
pub(crate) struct Folders {
    pub(super) opened: Vec<Opened>,
    unopened: Vec<Unopened>,
    /// The scratch folders, where any were asked for.
    pub(super) scratch: Option<Result<Space, NoScratch>>,
}

/// Why a folder is not kept.
#[cfg(target_os = "linux")]
pub(super) enum Lost<E> {
    /// For a reason of its own.
    This(String),
    /// Nothing can be done for any of them.
    All(E),
}

/// A mount that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be mounted: {reason}", .host.display())]
pub(crate) struct NoMount {
    pub(crate) host: std::path::PathBuf,
    pub(crate) reason: String,
}

impl Folders {
    /// Opens the folders, the outer of two that are nested first. What cannot be opened is not there once the jail is
    /// closed, and a run that wants it hears why.
    ///
    /// The broker has judged the path with every link resolved. A link in it now was put there since, and is not followed.
    pub(super) fn open(mounts: &[Mount]) -> Self {
        let mut folders = Folders::default();
        for mount in mounts {
            let mount = mount.clone();
            let reason = match open(&mount) {
                Ok(folder) if mount.host.is_absolute() => {
                    folders.opened.push(Opened { mount, folder });
                    continue;
                }
                Ok(_) => "its path is not absolute".to_owned(),
                Err(Errno::LOOP) => "a link has taken the place of a folder".to_owned(),
                Err(Errno::NOTDIR) => "it is not a folder".to_owned(),
                Err(error) => error.to_string(),
            };
            folders.unopened.push(Unopened { mount, reason });
        }
        folders.opened.sort_by_key(|opened| opened.mount.host.components().count());
        folders
    }

    /// Goes through the folders, the outer of two that are nested first, up to one for which nothing can be done for any. One
    /// that is lost is not there, as if it had not been opened; all others are.
    #[cfg(target_os = "linux")]
    pub(super) fn keep_if<E>(
        &mut self,
        mut keep: impl FnMut(&Opened) -> Result<(), Lost<E>>,
    ) -> Result<(), E> {
        let mut outcome = Ok(());
        for opened in std::mem::take(&mut self.opened) {
            match if outcome.is_ok() { keep(&opened) } else { Ok(()) } {
                Err(Lost::This(reason)) => {
                    self.unopened.push(Unopened { mount: opened.mount, reason });
                    continue;
                }
                Err(Lost::All(error)) => outcome = Err(error),
                Ok(()) => {}
            }
            self.opened.push(opened);
        }
        outcome
    }

    /// Every folder below which this process has rights to files, and whether it may change what is there.
    #[cfg(target_os = "linux")]
    pub(super) fn rights(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let mounts = self.opened.iter().map(|opened| (opened.folder.as_fd(), opened.mount.writable));
        let scratch = self.scratch.iter().flatten().map(|space| (space.root(), true));
        mounts.chain(scratch)
    }

    /// The scratch folders, for the run that asks first; none where none were asked for.
    pub(crate) fn take_scratch(&self) -> Result<Option<&Space>, NoScratch> {
        match &self.scratch {
            None => Ok(None),
            Some(Ok(space)) => space.take().map(Some),
            Some(Err(missing)) => Err(missing.clone()),
        }
    }

    /// What the scratch folders hold; none where there are none.
    pub(crate) fn scratch_usage(&self) -> Option<ScratchUsage> {
        self.scratch.as_ref()?.as_ref().ok()?.usage()
    }

    /// The folder of a mount.
    pub(crate) fn of(&self, mount: &Mount) -> Result<BorrowedFd<'_>, NoMount> {
        let no_mount = |reason: &str| NoMount { host: mount.host.clone(), reason: reason.to_owned() };
        if let Some(opened) = self.opened.iter().find(|opened| opened.mount == *mount) {
            return Ok(opened.folder.as_fd());
        }
        Err(match self.unopened.iter().find(|unopened| unopened.mount == *mount) {
            Some(unopened) => no_mount(&unopened.reason),
            None => no_mount("the process was not given it before its jail closed"),
        })
    }
}

#[cfg(target_os = "linux")]
fn open(mount: &Mount) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, &mount.host, how, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// Where no call refuses links on the way, it is looked for them first.
#[cfg(not(target_os = "linux"))]
fn open(mount: &Mount) -> rustix::io::Result<OwnedFd> {
    let real =
        mount.host.canonicalize().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if real != mount.host {
        return Err(Errno::LOOP);
    }
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, &mount.host, how, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_opened_is_a_folder_that_no_link_leads_to() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("folder/inner")).unwrap();
        fs::write(real.join("file"), "").unwrap();
        std::os::unix::fs::symlink(real.join("folder"), real.join("link")).unwrap();
        let mount =
            |below: &str| Mount { host: real.join(below), guest: "/data".to_owned(), writable: false };
        let mounts = ["folder/inner", "folder", "file", "link", "link/inner", "nothing"].map(mount);
        let folders = Folders::open(&mounts);
        let order: Vec<_> = folders.opened.iter().map(|opened| opened.mount.host.clone()).collect();
        assert_eq!(order, [real.join("folder"), real.join("folder/inner")], "the outer one first");
        for (mount, says) in mounts.iter().zip(["", "", "not a folder", "a link", "a link", "No such file"]) {
            match folders.of(mount) {
                Ok(_) => assert_eq!(says, ""),
                Err(error) => assert!(!says.is_empty() && error.to_string().contains(says), "{error}"),
            }
        }
        // Nor is one that was asked for otherwise.
        let other = Mount { writable: true, ..mounts[1].clone() };
        assert!(folders.of(&other).is_err());
    }

    #[test]
    fn what_was_opened_stays_what_it_is() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().canonicalize().unwrap();
        let (host, elsewhere) = (real.join("folder"), real.join("elsewhere"));
        for folder in [&host, &elsewhere] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("name"), folder.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
        let mount = Mount { host: host.clone(), guest: "/data".to_owned(), writable: false };
        let folders = Folders::open(std::slice::from_ref(&mount));
        fs::rename(&host, real.join("moved")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &host).unwrap();
        let folder = folders.of(&mount).unwrap();
        let file =
            rustix::fs::openat(folder, "name", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut name = String::new();
        std::io::Read::read_to_string(&mut fs::File::from(file), &mut name).unwrap();
        assert_eq!(name, "folder");
    }
}
