//! A file system that has nothing in it but the mounts, each where its path says, and the scratch folders.
//!
//! What Landlock says nothing about (looking at a file's metadata, changing its mode or times) has no path to name here.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::ptr;

use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::{chdir, fchdir};

use super::mounts::{Folders, Lost, Opened};
use super::namespaces::Made;
use super::report::Layer;
use super::scratch::{NoScratch, Space};
use crate::protocol::Scratch;

/// Folders that the new root may cover before it takes the old one's place. Any that exists will do.
const STAGES: [&CStr; 4] = [c"/tmp", c"/proc", c"/dev", c"/usr"];

pub(super) struct Root<'a> {
    pub(super) namespaces: Made,
    pub(super) scratch: Option<&'a Scratch>,
}

impl Root<'_> {
    /// Once it holds, the mounts' folders are those in it, each with its own rights.
    pub(super) fn apply(&self, folders: &mut Folders) -> Layer {
        let layer = self.make(folders);
        if let Some(reason) = layer.reason() {
            folders.scratch = self.scratch.map(|_| Err(NoScratch::because(reason)));
        }
        layer
    }

    fn make(&self, folders: &mut Folders) -> Layer {
        let files = !folders.opened.is_empty() || self.scratch.is_some();
        if !self.namespaces.mounts {
            return Layer::missing("it needs a mount namespace");
        }
        if files && !self.namespaces.mapped {
            return Layer::missing("files have no place in it: the user namespace could not be mapped");
        }
        match enter(folders, self.scratch) {
            Ok(()) => Layer::Active,
            Err((what, error)) => Layer::missing(format!("{what}: {error}")),
        }
    }
}

/// Nothing that fails before the old root is left has changed what this process sees, but for the stage.
fn enter(folders: &mut Folders, scratch: Option<&Scratch>) -> Result<(), (&'static str, io::Error)> {
    let at = |what: &'static str| move |error: io::Error| (what, error);
    // Before trees are cloned, which stay what they are cloned from: what the host mounts later below a folder is not in it.
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None).map_err(at("mounts stay shared"))?;
    // Trees are cloned before the stage covers anything.
    let mut trees = Vec::new();
    folders.keep_if(|opened| match Tree::clone(opened) {
        Ok(tree) => {
            trees.push(tree);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Lost::This(GONE.to_owned())),
        Err(error) => Err(Lost::All(("a mount cannot be cloned", error))),
    })?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let stage = STAGES
        .into_iter()
        .find(|stage| {
            mount(Some(c"orch"), stage, Some(c"tmpfs"), flags, Some(c"size=64k,nr_inodes=16k,mode=755"))
                .is_ok()
        })
        .ok_or_else(io::Error::last_os_error)
        .map_err(at("no file system can be mounted"))?;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, stage, folder, Mode::empty()).map_err(|error| ("the new root", error.into()))?;
    // Whoever may rename a folder in a mount must not get a worker with less of a jail by that: what has no place any more is
    // not there.
    let (mut left, mut placed) = (trees.into_iter(), Vec::new());
    folders.keep_if(|opened| {
        let tree = left.next().expect("there is one for each");
        let place = place_of(&root, opened).map_err(|error| Lost::This(error.to_string()))?;
        put(&tree, &place).map_err(|error| Lost::All(("a mount cannot be placed", error)))?;
        placed.push(tree);
        Ok(())
    })?;
    let space = match scratch {
        None => None,
        Some(scratch) => Some(place_scratch(&root, stage, &folders.opened, scratch)?),
    };
    set_attributes(root.as_fd(), libc::MOUNT_ATTR_RDONLY, false)
        .map_err(at("the new root stays writable"))?;
    fchdir(&root).map_err(|error| ("the new root", error.into()))?;
    drop(root);
    pivot().map_err(at("the old root stays"))?;
    for (opened, tree) in folders.opened.iter_mut().zip(placed) {
        opened.folder = tree;
    }
    folders.scratch = space.map(Ok);
    chdir("/").map_err(|error| ("the new root", error.into()))
}

/// A mount's folder and everything below it, as a tree of mounts that is not anywhere yet.
struct Tree;

impl Tree {
    fn clone(opened: &Opened) -> io::Result<OwnedFd> {
        let flags = libc::OPEN_TREE_CLONE
            | libc::OPEN_TREE_CLOEXEC
            | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as libc::c_uint;
        // SAFETY: a descriptor, an empty path with its NUL, and flags; what is returned is a new descriptor or an error.
        let tree = unsafe {
            let tree = libc::syscall(libc::SYS_open_tree, opened.folder.as_raw_fd(), c"".as_ptr(), flags);
            OwnedFd::from_raw_fd(checked(tree)? as i32)
        };
        let locked = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        let writable = if opened.mount.writable { 0 } else { libc::MOUNT_ATTR_RDONLY };
        set_attributes(tree.as_fd(), locked | writable, true)?;
        Ok(tree)
    }
}

/// A file system in memory with the scratch folders, under a name that no mount's path begins with. It is nowhere but in this
/// mount namespace, and goes with the process.
fn place_scratch(
    root: &OwnedFd,
    stage: &CStr,
    mounts: &[Opened],
    scratch: &Scratch,
) -> Result<Space, (&'static str, io::Error)> {
    let at = |what: &'static str| move |error: io::Error| (what, error);
    let free = |name: &String| !mounts.iter().any(|mount| mount.mount.host.starts_with(format!("/{name}")));
    let name = (0_u32..).map(|at| format!("scratch-{at}")).find(free);
    let name = name.expect("there are more numbers than mounts");
    let make = || -> io::Result<OwnedFd> {
        mkdirat(root, name.as_str(), Mode::from_raw_mode(0o700))?;
        let mut place = stage.to_bytes().to_vec();
        place.push(b'/');
        place.extend_from_slice(name.as_bytes());
        let options = CString::new(Space::options(scratch))?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        mount(Some(c"orch"), &CString::new(place)?, Some(c"tmpfs"), flags, Some(&options))?;
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(root, name.as_str(), folder, Mode::empty())?)
    };
    let space = make().map_err(at("no scratch file system can be mounted"))?;
    Space::new(space, scratch).map_err(at("the scratch folders cannot be made"))
}

/// Of a mount whose folder was moved or removed since it was opened.
const GONE: &str = "its folder was moved while the process was started";

/// The folder where a mount's path says, below the new root and through no link. What is not there yet is made, but never in
/// another mount: that is the user's, and has no such folder any more.
fn place_of(root: &OwnedFd, opened: &Opened) -> io::Result<OwnedFd> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = fstat(root)?.st_dev;
    let mut at = root.try_clone()?;
    for component in opened.mount.host.components() {
        let name = match component {
            Component::RootDir => continue,
            Component::Normal(name) => name,
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        };
        let name = CString::new(name.as_bytes())?;
        at = match openat(&at, &name, folder, Mode::empty()) {
            Err(Errno::NOENT) if fstat(&at)?.st_dev != own => return Err(io::Error::other(GONE)),
            Err(Errno::NOENT) => {
                mkdirat(&at, &name, Mode::from_raw_mode(0o755))?;
                openat(&at, &name, folder, Mode::empty())?
            }
            found => found?,
        };
    }
    Ok(at)
}

/// Puts a tree there.
fn put(tree: &OwnedFd, place: &OwnedFd) -> io::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: two descriptors and two empty paths with their NUL.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            place.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    checked(moved).map(drop)
}

const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn set_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    let attributes = Attributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: a descriptor, an empty path with its NUL, and a structure that is read, with its size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    checked(done).map(drop)
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: strings with their NUL, or null, that outlive the call.
    let done = unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(options).cast())
    };
    checked(done.into()).map(drop)
}

/// Makes the working folder the root, and lets go of the one before.
fn pivot() -> io::Result<()> {
    // SAFETY: paths with their NUL. The old root ends up on top of the new one, where the second call finds it.
    unsafe {
        checked(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
        checked(libc::umount2(c".".as_ptr(), libc::MNT_DETACH).into())?;
    }
    Ok(())
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
