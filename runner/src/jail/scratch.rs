//! Scratch folders: a file system in memory that is one run's alone.
//!
//! The kernel keeps the bounds. Bytes are those of pages that were written to, so a hole in a file costs nothing until
//! something is written into it; whatever has a name takes one of the files, a hard link as well. Nothing of it is ever on
//! a disk (but for swap), and it goes with the process, however that ends: no other process sees the file system, and there
//! is nothing to sweep.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::protocol::{LimitName, Scratch, ScratchUsage};

/// 64 TiB.
#[cfg(target_os = "linux")]
const MOST: u64 = 64 << 40;

/// The scratch folders of a run.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "there are none"))]
pub(crate) struct Space {
    root: OwnedFd,
    folders: Vec<(String, OwnedFd)>,
    bytes: u64,
    files: u64,
    taken: AtomicBool,
}

/// There are no scratch folders where some were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the scratch folders cannot be had: {0}")]
pub(crate) struct NoScratch(String);

impl NoScratch {
    /// Without a file system of the process's own there is none that nobody else sees.
    #[cfg(target_os = "linux")]
    pub(super) fn because(reason: &str) -> Self {
        NoScratch(format!("the process has no root of its own ({reason})"))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of_system() -> Self {
        NoScratch("they need Linux, where a file system can be a process's own".to_owned())
    }
}

impl Space {
    /// What the file system is mounted with. The kernel takes zero for no bound, and so it does numbers that overflow when it
    /// counts in pages: what no machine has is as good as any more.
    #[cfg(target_os = "linux")]
    pub(super) fn options(scratch: &Scratch) -> String {
        let own = 1 + scratch.guests.len() as u64;
        let (bytes, files) = (scratch.bytes.clamp(1, MOST), scratch.files.clamp(1, MOST >> 12) + own);
        format!("size={bytes},nr_inodes={files},mode=700")
    }

    /// Makes a folder for each path of the guest.
    #[cfg(target_os = "linux")]
    pub(super) fn new(root: OwnedFd, scratch: &Scratch) -> std::io::Result<Self> {
        use rustix::fs::{Mode, OFlags, mkdirat, openat};
        let make = |(at, guest): (usize, &String)| {
            let name = at.to_string();
            mkdirat(&root, name.as_str(), Mode::from_raw_mode(0o700))?;
            let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok((guest.clone(), openat(&root, name.as_str(), how, Mode::empty())?))
        };
        let folders = scratch.guests.iter().enumerate().map(make).collect::<std::io::Result<_>>()?;
        let taken = AtomicBool::new(false);
        Ok(Space { root, folders, bytes: scratch.bytes, files: scratch.files, taken })
    }

    #[cfg(target_os = "linux")]
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// For one run. What it leaves is not for another one to find.
    pub(super) fn take(&self) -> Result<&Self, NoScratch> {
        match self.taken.swap(true, Ordering::Relaxed) {
            true => Err(NoScratch("another run of this process had them".to_owned())),
            false => Ok(self),
        }
    }

    /// Each folder, with the path that the guest sees.
    pub(crate) fn folders(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.folders.iter().map(|(guest, folder)| (guest.as_str(), folder.as_fd()))
    }

    /// What they hold. Its root and these folders are not among the files.
    pub(super) fn usage(&self) -> Option<ScratchUsage> {
        let now = rustix::fs::fstatvfs(&self.root).ok()?;
        let own = 1 + self.folders.len() as u64;
        Some(ScratchUsage {
            bytes: now.f_blocks.saturating_sub(now.f_bfree).saturating_mul(now.f_frsize),
            files: now.f_files.saturating_sub(now.f_ffree).saturating_sub(own),
        })
    }

    /// What a run can be told of its bounds.
    pub(crate) fn quota(&self) -> std::io::Result<Quota> {
        Ok(Quota { root: self.root.try_clone()?, bytes: self.bytes, files: self.files })
    }
}

/// The bounds of scratch folders.
pub(crate) struct Quota {
    root: OwnedFd,
    bytes: u64,
    files: u64,
}

/// A bound that is reached: which, and how much it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) name: LimitName,
    pub(crate) limit: u64,
}

impl Quota {
    /// Which bound is reached, if one is.
    pub(crate) fn full(&self) -> Option<Full> {
        let now = rustix::fs::fstatvfs(&self.root).ok()?;
        if now.f_ffree == 0 {
            return Some(Full { name: LimitName::ScratchFiles, limit: self.files });
        }
        (now.f_bfree == 0).then_some(Full { name: LimitName::Scratch, limit: self.bytes })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_bounded_in_any_case() {
        let options = |bytes, files| {
            Space::options(&Scratch { guests: vec!["/a".to_owned(), "/b".to_owned()], bytes, files })
        };
        // Its root and two folders are no files of the guest's.
        assert_eq!(options(4096, 10), "size=4096,nr_inodes=13,mode=700");
        assert_eq!(options(0, 0), "size=1,nr_inodes=4,mode=700", "zero would be no bound at all");
        assert_eq!(options(u64::MAX, u64::MAX), "size=70368744177664,nr_inodes=17179869187,mode=700");
    }
}
