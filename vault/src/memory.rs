//! Where keys and values are in memory: locked, kept out of dumps, wiped when they are done with.
//!
//! All of them share one small mapping. It is locked as far as the system allows (a user may lock 8 MiB
//! by default), excluded from core dumps, and what does not fit goes to the heap, where it is wiped all
//! the same. What a library copies on its way, and registers, are out of reach from here.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::{Resource, Rlimit};
use zeroize::{Zeroize, Zeroizing};

/// The mapping. Far below what may be locked, far above what a vault with its keys and values takes.
const ARENA_LEN: usize = 512 * 1024;
/// What is given out is a multiple of this: a key's size.
const CELL_LEN: usize = 32;
const CELLS: usize = ARENA_LEN / CELL_LEN;

static ARENA: OnceLock<Option<Arena>> = OnceLock::new();

/// What protects the memory of this process; see [`memory_protection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryProtection {
    /// Keys and values are never written to swap space.
    pub locked: bool,
    /// Keys and values are left out of core dumps.
    pub undumped: bool,
    /// Nobody but root can look into the process, and it leaves no core dump.
    pub closed: bool,
    /// The most that a core dump may be is nothing.
    pub no_core: bool,
}

/// Closes this process to others of the same user, and forbids it core dumps. For the start of a program
/// that will hold secrets; what it starts is not closed by it, but inherits the second.
///
/// # Errors
/// When the system refuses; the rest is done all the same.
pub fn harden_process() -> std::io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let core = rustix::process::setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(core?)
}

/// What protects the memory of this process.
#[must_use]
pub fn memory_protection() -> MemoryProtection {
    let arena = arena();
    #[cfg(target_os = "linux")]
    let closed =
        matches!(rustix::process::dumpable_behavior(), Ok(rustix::process::DumpableBehavior::NotDumpable));
    #[cfg(not(target_os = "linux"))]
    let closed = false;
    MemoryProtection {
        locked: arena.is_some_and(|arena| arena.locked),
        undumped: arena.is_some_and(|arena| arena.undumped),
        closed,
        no_core: rustix::process::getrlimit(Resource::Core).current == Some(0),
    }
}

/// Bytes in the mapping, or on the heap where it has no room. Wiped when dropped.
pub(crate) struct Locked(Place);

enum Place {
    /// `length` bytes from `start` on, which are this one's alone until it gives them back.
    Arena {
        start: NonNull<u8>,
        length: usize,
    },
    Heap(Zeroizing<Box<[u8]>>),
}

// SAFETY: a `Locked` owns its bytes as a `Box` does; nothing else reads or writes them, from any thread.
unsafe impl Send for Locked {}
// SAFETY: as above; through a shared reference they are only read.
unsafe impl Sync for Locked {}

impl Locked {
    /// So many zeros.
    pub(crate) fn zeros(length: usize) -> Locked {
        Locked(match arena().and_then(|arena| arena.take(length)) {
            Some(start) => Place::Arena { start, length },
            None => Place::Heap(Zeroizing::new(vec![0; length].into_boxed_slice())),
        })
    }

    /// A copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> Locked {
        let mut copy = Locked::zeros(bytes.len());
        copy.bytes_mut().copy_from_slice(bytes);
        copy
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the arena gave these initialised bytes to this value alone, and never goes away.
            Place::Arena { start, length } => unsafe { std::slice::from_raw_parts(start.as_ptr(), *length) },
            Place::Heap(bytes) => bytes,
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            // SAFETY: as for `bytes`, and the reference to this value is the only one.
            Place::Arena { start, length } => unsafe {
                std::slice::from_raw_parts_mut(start.as_ptr(), *length)
            },
            Place::Heap(bytes) => bytes,
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        if let (Place::Arena { start, length }, Some(arena)) = (&self.0, arena()) {
            arena.give_back(*start, *length);
        }
    }
}

/// The mapping, and which of its cells are taken.
struct Arena {
    base: NonNull<u8>,
    taken: Mutex<Vec<bool>>,
    locked: bool,
    undumped: bool,
}

// SAFETY: the base never changes and the mapping stays for good; cells are handed out under the mutex.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

fn arena() -> Option<&'static Arena> {
    ARENA.get_or_init(Arena::map).as_ref()
}

impl Arena {
    fn map() -> Option<Arena> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no other memory.
        let mapped =
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), ARENA_LEN, access, MapFlags::PRIVATE) };
        let base = NonNull::new(mapped.ok()?.cast::<u8>())?;
        // SAFETY: locking changes nothing about what the mapping, which is ours, holds.
        let locked = unsafe { rustix::mm::mlock(base.as_ptr().cast(), ARENA_LEN) }.is_ok();
        #[cfg(target_os = "linux")]
        // SAFETY: this advice changes only what a core dump of the mapping, which is ours, holds.
        let undumped = unsafe {
            rustix::mm::madvise(base.as_ptr().cast(), ARENA_LEN, rustix::mm::Advice::LinuxDontDump)
        }
        .is_ok();
        #[cfg(not(target_os = "linux"))]
        let undumped = false;
        Some(Arena { base, taken: Mutex::new(vec![false; CELLS]), locked, undumped })
    }

    /// Room for `length` bytes, all zero. `None` without such room.
    fn take(&self, length: usize) -> Option<NonNull<u8>> {
        let wanted = length.div_ceil(CELL_LEN).max(1);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = 0;
        let end = taken.iter().position(|&is_taken| {
            free = if is_taken { 0 } else { free + 1 };
            free == wanted
        })?;
        let first = end + 1 - wanted;
        taken.get_mut(first..=end)?.fill(true);
        // SAFETY: `end` is a cell of the arena, so the offset lies within the mapping.
        Some(unsafe { self.base.add(first * CELL_LEN) })
    }

    /// Takes cells back that [`Arena::take`] gave, and that were wiped.
    fn give_back(&self, start: NonNull<u8>, length: usize) {
        let first = (start.as_ptr().addr() - self.base.as_ptr().addr()) / CELL_LEN;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cells) = taken.get_mut(first..first + length.div_ceil(CELL_LEN).max(1)) {
            cells.fill(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_overlaps_with_nothing_and_is_zero_again() {
        let sizes = [0, 1, 31, 32, 33, 100, 4096, 65_536];
        let mut held: Vec<Locked> = sizes.iter().map(|&size| Locked::zeros(size)).collect();
        for (number, one) in held.iter_mut().enumerate() {
            one.bytes_mut().fill(u8::try_from(number).unwrap() + 1);
        }
        for (number, (one, size)) in held.iter().zip(sizes).enumerate() {
            assert_eq!(one.bytes().len(), size);
            assert!(one.bytes().iter().all(|&byte| usize::from(byte) == number + 1));
        }
        drop(held);
        assert!(sizes.iter().all(|&size| Locked::zeros(size).bytes().iter().all(|&byte| byte == 0)));
    }

    #[test]
    fn what_does_not_fit_is_on_the_heap() {
        let large = Locked::zeros(ARENA_LEN + 1);
        assert!(matches!(large.0, Place::Heap(_)));
        assert_eq!(large.bytes().len(), ARENA_LEN + 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn keys_are_in_memory_that_is_locked_and_not_dumped() {
        let key = Locked::zeros(32);
        let at = key.bytes().as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let mut flags = None;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let bounds = range.and_then(|(from, to)| {
                Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
            });
            if let Some((from, to)) = bounds {
                inside = (from..to).contains(&at);
            }
            if inside && let Some(found) = line.strip_prefix("VmFlags:") {
                flags = Some(found.to_owned());
            }
        }
        let flags = flags.expect("the mapping");
        let protection = memory_protection();
        assert_eq!(flags.split_whitespace().any(|flag| flag == "dd"), protection.undumped, "{flags}");
        assert_eq!(flags.split_whitespace().any(|flag| flag == "lo"), protection.locked, "{flags}");
        assert!(protection.undumped);
    }
}
