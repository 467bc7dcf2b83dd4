//! The jail around worker and compile jail: what native code in there could do if wasmtime failed.
//!
//! A process jails itself, in two steps. [`enter`] comes first of all: it ties the process to its broker and lets go of
//! everything that was not meant for it. [`Jail::close`] comes last, when whatever needs more rights than the process
//! keeps has been done (the artifact is mapped and executable, the mounts' folders are known) and before any thread is
//! started or any untrusted byte is looked at. It applies one layer after the other and says what became of each.
//!
//! | layer | what it takes away | file |
//! |---|---|---|
//! | `descriptors` | files and sockets that the broker had open; its environment | `inheritance.rs` |
//! | `parent-death` | life without the broker | `tether.rs` |
//! | `namespaces` | network, other processes' IPC, the user's identity beyond its own | `namespaces.rs` |
//! | `root` | every path but the mounts | `root.rs` |
//! | `privileges` | capabilities, set-user-ID programs, being looked into by others | `privileges.rs` |
//! | `rlimits` | core dumps, files, descriptors, processes without end | `rlimits.rs` |
//! | `landlock` | every file but the mounts, TCP, signals to others | `landlock.rs` |
//! | `seccomp` | every system call that running a guest does not need | `seccomp.rs` |
//!
//! Each layer alone would do for most of what the others prevent; none is relied on alone. Where the kernel does not have
//! one, the others hold, and the [`Report`] says what is missing and why. There is no process namespace: threads cannot be
//! started in a process that has asked for one, and what it would hide is out of reach without the calls that are filtered.

mod inheritance;
#[cfg(target_os = "linux")]
mod landlock;
mod mounts;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod privileges;
mod report;
mod rlimits;
#[cfg(target_os = "linux")]
mod root;
mod scratch;
#[cfg(target_os = "linux")]
mod seccomp;
mod tether;

use std::io;

use crate::protocol::{Mount, Scratch};

pub(crate) use inheritance::{Inherited, say};
pub(crate) use mounts::{Folders, NoMount};
pub use report::{Applied, Layer, LayerName, Report, Requirement, UnknownLayer};
pub(crate) use scratch::{Full, NoScratch, Quota};

/// What a process is jailed for, which decides what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Running one agent.
    Worker,
    /// Compiling one module.
    Compile,
}

/// The first half: to be called once, first of all.
pub(crate) fn enter() -> io::Result<Entered> {
    let inherited = inheritance::take()?;
    let tether = tether::Tether.apply()?;
    Ok(Entered { inherited, tether })
}

/// A process that has let go of what it does not need, and is not confined yet.
pub(crate) struct Entered {
    pub(crate) inherited: Inherited,
    tether: Layer,
}

impl Entered {
    /// What was inherited, and the second half.
    pub(crate) fn split(self, purpose: Purpose) -> (Inherited, Jail) {
        (self.inherited, Jail { purpose, tether: self.tether })
    }
}

/// A closed jail, and what the process keeps of the host's files.
pub(crate) struct Closed {
    pub(crate) report: Report,
    pub(crate) folders: Folders,
}

/// The second half. It can be closed once, and not be left.
pub(crate) struct Jail {
    purpose: Purpose,
    tether: Layer,
}

impl Jail {
    /// Confines this process to what its purpose needs, to `mounts` and to `scratch`. It must have one thread.
    #[cfg(target_os = "linux")]
    pub(crate) fn close(self, mounts: &[Mount], scratch: Option<&Scratch>) -> Closed {
        let mut report =
            Report::new([(LayerName::Descriptors, Layer::Active), (LayerName::ParentDeath, self.tether)]);
        // Its memory, and what is in its scratch folders, is the first to go where a machine has none left.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        let (namespaces, made) = namespaces::Namespaces.apply();
        report.add(LayerName::Namespaces, namespaces);
        // In the mount namespace that holds from here on, and before anything is mounted over them.
        let mut folders = Folders::open(mounts);
        report.add(LayerName::Root, root::Root { namespaces: made, scratch }.apply(&mut folders));
        report.add(LayerName::Privileges, privileges::Privileges.apply());
        let files = !mounts.is_empty() || scratch.is_some();
        let writes = mounts.iter().any(|mount| mount.writable) || scratch.is_some();
        let limits = rlimits::Rlimits { purpose: self.purpose, mounted: files, writes, own_user: made.user };
        report.add(LayerName::Rlimits, limits.apply());
        report.add(LayerName::Landlock, landlock::Landlock { folders: &folders }.apply());
        let seccomp = seccomp::Seccomp { files };
        report.add(LayerName::Seccomp, seccomp.apply());
        Closed { report, folders }
    }

    /// Confines this process as far as this system can.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn close(self, mounts: &[Mount], scratch: Option<&Scratch>) -> Closed {
        let mut report =
            Report::new([(LayerName::Descriptors, Layer::Active), (LayerName::ParentDeath, self.tether)]);
        let mut folders = Folders::open(mounts);
        folders.scratch = scratch.map(|_| Err(NoScratch::of_system()));
        let writes = mounts.iter().any(|mount| mount.writable);
        let limits =
            rlimits::Rlimits { purpose: self.purpose, mounted: !mounts.is_empty(), writes, own_user: false };
        report.add(LayerName::Rlimits, limits.apply());
        for name in LayerName::ALL {
            if report.get(name).is_none() {
                let reason =
                    "it needs Linux; here there is a process of its own, with no environment and one socket";
                report.add(name, Layer::missing(reason));
            }
        }
        Closed { report, folders }
    }
}
