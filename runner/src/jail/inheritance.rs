//! What a jailed process inherits: three descriptors, and nothing else.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{close, fcntl_getfd};
use rustix::process::{Resource, getrlimit};

/// What the broker handed over on descriptors 0 and 1. Descriptor 2 stays where it is, for diagnostics.
pub(crate) struct Inherited {
    pub(crate) first: File,
    pub(crate) second: File,
}

/// Takes what was inherited on purpose and closes all else. To be called once, before anything is opened or any thread
/// is started.
pub(super) fn take() -> io::Result<Inherited> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("a process can be jailed only once"));
    }
    if std::env::vars_os().next().is_some() {
        return Err(io::Error::other("this command is started by orch itself, with an empty environment"));
    }
    close_other_descriptors()?;
    // SAFETY: the descriptors were inherited for this purpose and nothing in this process has used them: the swap
    // above makes this the only place that ever takes them. If one is not open, its first use says so.
    let (first, second) = unsafe { (File::from_raw_fd(0), File::from_raw_fd(1)) };
    Ok(Inherited { first, second })
}

/// Writes a line of diagnostics for the broker. Failing to is not worth failing for.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Closes every descriptor above 2. The broker opens its own with close-on-exec; this is for what it inherited
/// itself from a careless parent.
fn close_other_descriptors() -> io::Result<()> {
    for descriptor in open_descriptors()? {
        // SAFETY: nothing in this process owns a descriptor yet beyond the standard ones, and there is no other
        // thread. Whether the number is in use is asked first: the list may name the folder it was read from.
        unsafe {
            if fcntl_getfd(BorrowedFd::borrow_raw(descriptor)).is_ok() {
                close(descriptor);
            }
        }
    }
    Ok(())
}

fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    let Ok(entries) = fs::read_dir(folder) else {
        // Without the folder: every number that could be one.
        let highest = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20).min(1 << 20);
        return Ok((3..highest as RawFd).collect());
    };
    let mut open = Vec::new();
    for entry in entries {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        open.extend(number.filter(|&number| number > 2));
    }
    Ok(open)
}
