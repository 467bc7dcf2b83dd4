//! The key of a systemd-credential slot: a file in the folder that systemd makes for a service.
//!
//! systemd mounts `$CREDENTIALS_DIRECTORY` read-only for one service's user and gives each file the mode
//! 0400. The file may belong to that user or to root, who put it there; anybody else's is refused.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::VaultError;
use crate::keyfile::{self, DecodeError};
use crate::place::{self, Folder};
use crate::slots::{SlotKey, SlotKind};

const KIND: SlotKind = SlotKind::SystemdCredential;

/// Reads the key in the credential at `path`; `None` where systemd gave none.
pub(crate) fn read(path: &Path) -> Result<Option<SlotKey>, VaultError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(place::cannot_open(path, errno)),
    };
    if let Some(problem) = place::problem_as_credential(path, &file)? {
        return Err(VaultError::place(path, problem));
    }
    let content = keyfile::read_bounded(&file)
        .map_err(|error| VaultError::place(path, format!("cannot be read: {error}")))?;
    keyfile::decode(&content).map(Some).map_err(|error| match error {
        DecodeError::Damaged(problem) => VaultError::SlotKeyWrong { kind: KIND, problem },
        DecodeError::Version(found) => keyfile::unknown_version(found),
    })
}

/// Writes the key that a credential is to be made of to a new file, durably.
pub(crate) fn write_new(path: &Path, key: &SlotKey) -> Result<(), VaultError> {
    let name = path.file_name().ok_or_else(|| VaultError::place(path, "is not the name of a file"))?;
    if place::exists(path)? {
        return Err(VaultError::place(path, "is there already, and a credential replaces nothing"));
    }
    let folder = Folder::any_parent_of(path)?;
    folder
        .write_new(Path::new(name), &keyfile::encode(key))
        .and_then(|()| folder.sync_with_parents())
        .map_err(|source| VaultError::storage("writing the credential", source))
}
