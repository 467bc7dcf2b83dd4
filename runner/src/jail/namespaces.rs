//! Namespaces of its own: no network interface, no shared memory of others, no file system but a private view of it, and
//! rights that end at the process itself.
#![allow(unsafe_code)]

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::report::Layer;

/// What was made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Made {
    /// A user namespace.
    pub(super) user: bool,
    /// A mount namespace, in which this process may mount.
    pub(super) mounts: bool,
    /// Whether files can be made in file systems of these namespaces.
    pub(super) mapped: bool,
}

pub(super) struct Namespaces;

impl Namespaces {
    pub(super) fn apply(&self) -> (Layer, Made) {
        let quiet = UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
        let everything = UnshareFlags::NEWUSER | UnshareFlags::NEWNS | quiet;
        // A process that is closed to others does not own its own files under /proc either. It is closed again with the
        // rest of its privileges.
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let error = match unshare(everything) {
            Ok(()) => {
                let made = Made { user: true, mounts: true, mapped: map(user, group).is_ok() };
                return (Layer::Active, made);
            }
            Err(error) => error,
        };
        // Some systems let everybody make user namespaces and then grant nothing in them.
        let why = because(error);
        match unshare(UnshareFlags::NEWUSER | quiet) {
            Ok(()) => {
                let mapped = map(user, group).is_ok();
                (
                    Layer::partial(format!("no mount namespace: {why}")),
                    Made { user: true, mounts: false, mapped },
                )
            }
            Err(_) => match unshare(UnshareFlags::NEWUSER) {
                Ok(()) => {
                    let mapped = map(user, group).is_ok();
                    let reason = format!("a user namespace, but none for network, mounts and IPC: {why}");
                    (Layer::partial(reason), Made { user: true, mounts: false, mapped })
                }
                Err(_) => (Layer::missing(why), Made::default()),
            },
        }
    }
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: what makes this unsafe is a descriptor table of one's own, which is not asked for.
    unsafe { unshare_unsafe(flags) }
}

/// The process stays who it is, as seen from inside: files that it makes are its user's.
fn map(user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// Why the kernel refused, as far as it can be found out.
fn because(error: Errno) -> String {
    let setting = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is = |path: &str, value: &str| setting(path).as_deref() == Some(value);
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns is 1)".to_owned();
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "they are for root only (kernel.unprivileged_userns_clone is 0)".to_owned();
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return "none may be made (user.max_user_namespaces is 0)".to_owned();
    }
    match error {
        Errno::PERM => "not permitted, perhaps by the container that this runs in".to_owned(),
        Errno::NOSPC | Errno::USERS => "there are as many as may be (user.max_*_namespaces)".to_owned(),
        Errno::INVAL => "the kernel does not have them".to_owned(),
        other => other.to_string(),
    }
}
