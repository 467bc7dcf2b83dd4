//! A system call, read: what it does, to which path.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use crate::trap::Raw;

/// The folder below which files are of interest.
pub(crate) static ROOT: OnceLock<Vec<u8>> = OnceLock::new();

/// What paths that are orders begin with.
pub(crate) const ORDERS: &[u8] = b"/orch-faults/";

/// The calls that are caught, of x86-64.
pub(crate) const NUMBERS: &[u32] = &[
    WRITE, OPEN, PWRITE, FSYNC, FDATASYNC, TRUNCATE, RENAME, MKDIR, RMDIR, UNLINK, OPENAT, MKDIRAT, UNLINKAT,
    RENAMEAT, RENAMEAT2, LINK, LINKAT,
];

const WRITE: u32 = 1;
const OPEN: u32 = 2;
const PWRITE: u32 = 18;
const FSYNC: u32 = 74;
const FDATASYNC: u32 = 75;
const TRUNCATE: u32 = 77;
const RENAME: u32 = 82;
const MKDIR: u32 = 83;
const RMDIR: u32 = 84;
const LINK: u32 = 86;
const UNLINK: u32 = 87;
const OPENAT: u32 = 257;
const MKDIRAT: u32 = 258;
const UNLINKAT: u32 = 263;
const RENAMEAT: u32 = 264;
const LINKAT: u32 = 265;
const RENAMEAT2: u32 = 316;
const LSEEK: usize = 8;
const READLINK: usize = 89;
const O_CREAT: usize = 0o100;
const O_TRUNC: usize = 0o1000;

/// What a call does to files.
pub(crate) enum Does {
    /// Writes to a descriptor that is no file below the root: the standard output, by its number.
    Say,
    Write {
        path: Vec<u8>,
        offset: i64,
    },
    Truncate {
        path: Vec<u8>,
        length: i64,
    },
    Sync {
        path: Vec<u8>,
    },
    Rename {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// Removes a file or a folder.
    Remove {
        path: Vec<u8>,
    },
    MakeFolder {
        path: Vec<u8>,
    },
    Link {
        to: Vec<u8>,
    },
    /// Opens what may not be there yet.
    Create {
        path: Vec<u8>,
        truncates: bool,
    },
    /// Opens, and creates nothing.
    Open {
        path: Vec<u8>,
    },
    /// Anything else, and everything elsewhere.
    Other,
}

impl Raw {
    /// What it does.
    pub(crate) fn does(&self) -> Does {
        let [a, b, c, d, _] = self.arguments;
        let at = |folder: usize, path: usize| resolved(folder as i32, unsafe { text(path) });
        let here = |path: usize| at(-100_i32 as usize, path);
        let opens = |path, flags: usize| match flags & O_CREAT {
            0 => Does::Open { path },
            _ => Does::Create { path, truncates: flags & O_TRUNC != 0 },
        };
        let root = ROOT.get().map_or(&b""[..], Vec::as_slice);
        let elsewhere = |path: usize| {
            let path = unsafe { text(path) };
            path.starts_with(b"/") && !path.starts_with(root) && !path.starts_with(ORDERS)
        };
        let does = match self.number as u32 {
            // Before anything is allocated: the allocator opens files as well, and would be entered twice.
            OPEN if elsewhere(a) => return Does::Other,
            OPENAT if elsewhere(b) => return Does::Other,
            WRITE if a == 1 => return Does::Say,
            WRITE => {
                let raw = Raw { number: LSEEK, arguments: [a, 0, 1, 0, 0] };
                Does::Write { path: path_of(a), offset: raw.perform() as i64 }
            }
            PWRITE => Does::Write { path: path_of(a), offset: d as i64 },
            FSYNC | FDATASYNC => Does::Sync { path: path_of(a) },
            TRUNCATE => Does::Truncate { path: path_of(a), length: b as i64 },
            RENAME => Does::Rename { from: here(a), to: here(b) },
            RENAMEAT | RENAMEAT2 => Does::Rename { from: at(a, b), to: at(c, d) },
            UNLINK | RMDIR => Does::Remove { path: here(a) },
            UNLINKAT => Does::Remove { path: at(a, b) },
            MKDIR => Does::MakeFolder { path: here(a) },
            MKDIRAT => Does::MakeFolder { path: at(a, b) },
            LINK => Does::Link { to: here(b) },
            LINKAT => Does::Link { to: at(c, d) },
            OPEN => opens(here(a), b),
            OPENAT => opens(at(a, b), c),
            _ => return Does::Other,
        };
        match &does {
            Does::Write { path, .. }
            | Does::Truncate { path, .. }
            | Does::Sync { path }
            | Does::Remove { path }
            | Does::MakeFolder { path }
            | Does::Create { path, .. }
            | Does::Rename { to: path, .. }
            | Does::Link { to: path }
                if !path.starts_with(root) =>
            {
                Does::Other
            }
            _ => does,
        }
    }

    /// Whether a file that it may create is there already.
    pub(crate) fn finds(path: &[u8]) -> bool {
        const ACCESS: usize = 21;
        let path = [path, b"\0"].concat();
        Raw { number: ACCESS, arguments: [path.as_ptr() as usize, 0, 0, 0, 0] }.perform() == 0
    }

    /// What a writing call writes.
    pub(crate) fn data(&self) -> &[u8] {
        let [_, data, length, ..] = self.arguments;
        unsafe { std::slice::from_raw_parts(data as *const u8, length) }
    }
}

/// Writes to the standard output.
pub(crate) fn say(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let raw = Raw { number: WRITE as usize, arguments: [1, bytes.as_ptr() as usize, bytes.len(), 0, 0] };
        match usize::try_from(raw.perform()) {
            Ok(written) => bytes = &bytes[written..],
            Err(_) => std::process::abort(),
        }
    }
}

unsafe fn text<'a>(path: usize) -> &'a [u8] {
    unsafe { CStr::from_ptr(path as *const c_char) }.to_bytes()
}

fn resolved(folder: i32, path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") || folder == -100 {
        return path.to_vec();
    }
    [&path_of(folder as usize), &b"/"[..], path].concat()
}

fn path_of(fd: usize) -> Vec<u8> {
    let link = format!("/proc/self/fd/{fd}\0");
    let mut path = vec![0; 512];
    let arguments = [link.as_ptr() as usize, path.as_mut_ptr() as usize, path.len(), 0, 0];
    let length = Raw { number: READLINK, arguments }.perform();
    path.truncate(usize::try_from(length).unwrap_or(0));
    path
}
