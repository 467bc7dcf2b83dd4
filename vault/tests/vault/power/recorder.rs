//! Preloaded into a process (`LD_PRELOAD`), writes down what it does to files, in the order in which it is done.
//!
//! The process's standard output becomes the record: each write, truncation, renaming, removal and sync is a
//! record there, and what the process itself writes to it is one as well. Compiled by the test that uses it;
//! `sync_file_range` is let through unrecorded, for it promises nothing.
//!
//! ```text
//! kind 1 ‖ length 4 ‖ path ‖ offset 8 ‖ length 4 ‖ data
//! ```
#![allow(unsafe_code, reason = "it stands in for functions of the C library")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn readlink(path: *const c_char, buffer: *mut c_char, size: usize) -> isize;
    fn lseek(fd: c_int, offset: i64, whence: c_int) -> i64;
}

/// One record at a time, together with what it is about.
static BUSY: AtomicBool = AtomicBool::new(false);

struct Turn;

impl Turn {
    fn take() -> Turn {
        while BUSY.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Release);
    }
}

/// The function of this name that would have been called without this library.
macro_rules! real {
    ($name:literal as $kind:ty) => {{
        static FOUND: AtomicUsize = AtomicUsize::new(0);
        let mut found = FOUND.load(Ordering::Relaxed);
        if found == 0 {
            // RTLD_NEXT.
            let next = usize::MAX as *mut c_void;
            found = unsafe { dlsym(next, concat!($name, "\0").as_ptr().cast()) } as usize;
            FOUND.store(found, Ordering::Relaxed);
        }
        unsafe { std::mem::transmute::<usize, $kind>(found) }
    }};
}

type Write = unsafe extern "C" fn(c_int, *const c_void, usize) -> isize;
type PWrite = unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize;
type Sync = unsafe extern "C" fn(c_int) -> c_int;
type Truncate = unsafe extern "C" fn(c_int, i64) -> c_int;
type Rename = unsafe extern "C" fn(*const c_char, *const c_char) -> c_int;
type Unlink = unsafe extern "C" fn(*const c_char) -> c_int;

fn path_of(fd: c_int, buffer: &mut [u8; 512]) -> usize {
    let link = format!("/proc/self/fd/{fd}\0");
    let length = unsafe { readlink(link.as_ptr().cast(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(length).unwrap_or(0)
}

fn put(bytes: &[u8]) {
    let write = real!("write" as Write);
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = unsafe { write(1, rest.as_ptr().cast(), rest.len()) };
        match usize::try_from(written) {
            Ok(written) => rest = &rest[written..],
            Err(_) => std::process::abort(),
        }
    }
}

fn record(kind: u8, path: &[u8], offset: i64, data: &[u8]) {
    let mut out = Vec::with_capacity(17 + path.len() + data.len());
    out.push(kind);
    out.extend_from_slice(&(path.len() as u32).to_be_bytes());
    out.extend_from_slice(path);
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    out.extend_from_slice(data);
    put(&out);
}

fn record_fd(kind: u8, fd: c_int, offset: i64, data: &[u8]) {
    let mut path = [0; 512];
    let length = path_of(fd, &mut path);
    record(kind, &path[..length], offset, data);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, data: *const c_void, length: usize) -> isize {
    let _turn = Turn::take();
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) };
    if fd == 1 {
        record(b'o', b"", 0, bytes);
        return length as isize;
    }
    let offset = unsafe { lseek(fd, 0, 1) };
    let written = unsafe { real!("write" as Write)(fd, data, length) };
    if let (Ok(written), true) = (usize::try_from(written), offset >= 0) {
        record_fd(b'w', fd, offset, &bytes[..written]);
    }
    written
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, data: *const c_void, length: usize, offset: i64) -> isize {
    let _turn = Turn::take();
    let written = unsafe { real!("pwrite64" as PWrite)(fd, data, length, offset) };
    if let Ok(written) = usize::try_from(written) {
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), written) };
        record_fd(b'w', fd, offset, bytes);
    }
    written
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(fd: c_int, length: i64) -> c_int {
    let _turn = Turn::take();
    let done = unsafe { real!("ftruncate64" as Truncate)(fd, length) };
    if done == 0 {
        record_fd(b't', fd, length, b"");
    }
    done
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    let _turn = Turn::take();
    let done = unsafe { real!("fsync" as Sync)(fd) };
    if done == 0 {
        record_fd(b's', fd, 0, b"");
    }
    done
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    let _turn = Turn::take();
    let done = unsafe { real!("fdatasync" as Sync)(fd) };
    if done == 0 {
        record_fd(b's', fd, 0, b"");
    }
    done
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let _turn = Turn::take();
    let done = unsafe { real!("rename" as Rename)(from, to) };
    if done == 0 {
        let (from, to) = unsafe { (CStr::from_ptr(from), CStr::from_ptr(to)) };
        record(b'r', from.to_bytes(), 0, to.to_bytes());
    }
    done
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    let _turn = Turn::take();
    let done = unsafe { real!("unlink" as Unlink)(path) };
    if done == 0 {
        record(b'u', unsafe { CStr::from_ptr(path) }.to_bytes(), 0, b"");
    }
    done
}
