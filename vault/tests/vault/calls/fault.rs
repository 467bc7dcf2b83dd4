//! Makes file calls of a process fail.
//!
//! The process says when, by opening paths that are nowhere: `/orch-faults/arm/MODE/N` makes the Nth of the calls
//! below that change something fail, `/orch-faults/disarm` ends that and has one line written to the standard output:
//! `faults: SEEN calls, failed NAME PATH`, or `faults: SEEN calls, failed nothing`. A sync of what has no writes to be
//! kept is an `idle-sync`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::call::{Does, ORDERS, say};
use crate::trap::Raw;

const ENOENT: isize = -2;
const EIO: isize = -5;
const ENOSPC: isize = -28;

/// How calls fail.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Once, for want of room.
    NoSpace,
    /// Once, the disk says no.
    Io,
    /// The disk is full from then on: a write is cut short, and what needs room fails.
    Full,
    /// The disk is gone from then on.
    Gone,
    /// A write is cut short, once, and nothing fails.
    Short,
}

struct Faults {
    mode: Option<Mode>,
    /// Which call it is that fails.
    nth: usize,
    seen: usize,
    failed: Option<String>,
    /// What was written to and not synced since.
    dirty: BTreeSet<Vec<u8>>,
}

static FAULTS: Mutex<Faults> = Mutex::new(Faults { mode: None, nth: 0, seen: 0, failed: None, dirty: BTreeSet::new() });

pub(crate) fn handle(call: &Raw) -> isize {
    let does = call.does();
    if let Does::Open { path } = &does {
        return match path.strip_prefix(ORDERS) {
            Some(order) => obey(order),
            None => call.perform(),
        };
    }
    let Some((mut name, path, needs_room)) = described(&does) else { return call.perform() };
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    match does {
        Does::Write { .. } => drop(faults.dirty.insert(path.to_vec())),
        Does::Sync { .. } if faults.dirty.remove(path) => name = "sync",
        _ => {}
    }
    let Some(mode) = faults.mode else { return call.perform() };
    faults.seen += 1;
    let now = faults.seen == faults.nth;
    let later = faults.nth > 0 && faults.seen > faults.nth;
    let writes = matches!(does, Does::Write { .. });
    let answer = match mode {
        Mode::NoSpace if now && (needs_room || matches!(does, Does::Sync { .. } | Does::Rename { .. })) => ENOSPC,
        Mode::Io if now => EIO,
        Mode::Gone if now || later => EIO,
        Mode::Full if later && needs_room => ENOSPC,
        Mode::Full | Mode::Short if now && writes && call.data().len() > 1 => half(call),
        Mode::Full if now && needs_room => ENOSPC,
        _ => return call.perform(),
    };
    if faults.failed.is_none() {
        faults.failed = Some(format!("{name} {}", String::from_utf8_lossy(path)));
    }
    answer
}

/// Its name, its path, and whether a full disk keeps it from being done; nothing for what changes nothing.
fn described(does: &Does) -> Option<(&'static str, &[u8], bool)> {
    Some(match does {
        Does::Write { path, .. } => ("write", path, true),
        Does::Truncate { path, .. } => ("truncate", path, true),
        Does::Sync { path } => ("idle-sync", path, false),
        Does::Rename { to, .. } => ("rename", to, false),
        Does::Remove { path } => ("remove", path, false),
        Does::MakeFolder { path } => ("make-folder", path, true),
        Does::Link { to } => ("link", to, true),
        Does::Create { path, .. } => ("create", path, !Raw::finds(path)),
        Does::Say | Does::Open { .. } | Does::Other => return None,
    })
}

fn half(call: &Raw) -> isize {
    let mut arguments = call.arguments;
    arguments[2] /= 2;
    Raw { number: call.number, arguments }.perform()
}

fn obey(order: &[u8]) -> isize {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let order = String::from_utf8_lossy(order);
    match order.split('/').collect::<Vec<_>>().as_slice() {
        ["arm", mode, nth] => {
            let mode = match *mode {
                "no-space" => Mode::NoSpace,
                "io" => Mode::Io,
                "full" => Mode::Full,
                "gone" => Mode::Gone,
                "short" => Mode::Short,
                _ => return ENOENT,
            };
            (faults.mode, faults.nth) = (Some(mode), nth.parse().unwrap_or(0));
        }
        _ => {
            faults.mode = None;
            let failed = faults.failed.as_deref().unwrap_or("nothing");
            say(format!("\nfaults: {} calls, failed {failed}\n", faults.seen).as_bytes());
        }
    }
    ENOENT
}
