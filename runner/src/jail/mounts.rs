//! The folders that a jailed process keeps, opened while it can still open anything.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::Unopened;
use crate::protocol::Mount;

/// A mount's folder.
pub(super) struct Opened<'a> {
    pub(super) mount: &'a Mount,
    pub(super) folder: OwnedFd,
}

/// Opens the folders, the outer of two that are nested first; and says which could not be opened, and why. Nothing of those
/// is there once the jail is closed.
///
/// The broker has judged the path with every link resolved. A link in it now was put there since, and is not followed.
pub(super) fn open(mounts: &[Mount]) -> (Vec<Opened<'_>>, Vec<Unopened>) {
    let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (mut opened, mut unopened) = (Vec::new(), Vec::new());
    for mount in mounts {
        let reason = match openat2(CWD, &mount.host, how, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Ok(folder) if mount.host.is_absolute() => {
                opened.push(Opened { mount, folder });
                continue;
            }
            Ok(_) => "its path is not absolute".to_owned(),
            Err(Errno::LOOP) => "a link has taken the place of a folder".to_owned(),
            Err(error) => error.to_string(),
        };
        unopened.push(Unopened { mount: mount.clone(), reason });
    }
    opened.sort_by_key(|opened| opened.mount.host.components().count());
    (opened, unopened)
}
