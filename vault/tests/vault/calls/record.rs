//! Writes down what a process does to files, in the order in which it is done. Its standard output becomes the
//! record, and what the process itself writes there is a record as well. `sync_file_range` is let through
//! unrecorded, for it promises nothing.
//!
//! ```text
//! kind 1 ‖ length 4 ‖ path ‖ offset 8 ‖ length 4 ‖ data
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

use crate::call::{Does, say};
use crate::trap::Raw;

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

pub(crate) fn handle(call: &Raw) -> isize {
    let _turn = Turn::take();
    let does = call.does();
    if let Does::Say = does {
        record(b'o', b"", 0, call.data());
        return call.data().len() as isize;
    }
    let result = call.perform();
    if result < 0 {
        return result;
    }
    match does {
        Does::Write { path, offset } if offset >= 0 => {
            record(b'w', &path, offset, &call.data()[..result as usize]);
        }
        Does::Truncate { path, length } => record(b't', &path, length, b""),
        Does::Sync { path } => record(b's', &path, 0, b""),
        Does::Rename { from, to } => record(b'r', &from, 0, &to),
        Does::Remove { path } => record(b'u', &path, 0, b""),
        Does::MakeFolder { path } => record(b'd', &path, 0, b""),
        Does::Create { path, truncates } => record(b'c', &path, i64::from(truncates), b""),
        // Nobody links yet; who does, finds out here.
        Does::Link { .. } => std::process::abort(),
        _ => {}
    }
    result
}

fn record(kind: u8, path: &[u8], offset: i64, data: &[u8]) {
    let mut out = Vec::with_capacity(17 + path.len() + data.len());
    out.push(kind);
    out.extend_from_slice(&(path.len() as u32).to_be_bytes());
    out.extend_from_slice(path);
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    out.extend_from_slice(data);
    say(&out);
}
