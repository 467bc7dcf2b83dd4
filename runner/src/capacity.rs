//! How many sandboxes a broker can have at once, and how many of them fit into one worker.
//!
//! A sandbox takes mappings and address space of its worker, and descriptors of the broker, and of each the system lets a
//! process have only so many. What there is is read before the first run, so that the bounds are known: runs for which a worker
//! has no room get another one, and those beyond what the broker can have wait for their turn, instead of failing somewhere
//! in between.

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;

/// Mappings that a worker has for one run. A test counts them.
pub const MAPPINGS_PER_RUN: u64 = 6;
/// Those of the process itself: program, threads, the empty pool, an artifact.
const MAPPINGS: u64 = 1_000;

/// Workers in use at once, shared ones among them. Each is a process, of which no machine has room for many more.
pub const WORKERS: u32 = 1_000;

/// Descriptors for one of so many runs: its worker's socket and standard error where it has one to itself, a connection to
/// its caller, one upstream.
const DESCRIPTORS_PER_RUN: u64 = 4;
/// For each run beyond them: one upstream. It shares its worker, and connections of callers are bounded as well.
const DESCRIPTORS_PER_FURTHER_RUN: u64 = 1;
/// Those of the process itself: listeners, stores, connections that wait.
const DESCRIPTORS: u64 = 256;

/// Address space that a run's place in a worker takes, in bytes: four memories with their guards.
const SPACE_PER_RUN: u64 = 17 << 30;

/// What the kernel allows where it does not say: its default.
const USUAL_MAPPINGS: u64 = 65_530;

/// What of a machine bounds the number of sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// `vm.max_map_count`.
    pub mappings: u64,
    /// Open files that this process may have at most (`ulimit -Hn`).
    pub descriptors: u64,
    /// Address space of a process in one piece, in bytes.
    pub space: u64,
}

/// What a number of sandboxes is bounded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// By what was asked for: there is room for more.
    Configuration,
    /// By `vm.max_map_count`.
    Mappings,
    /// By the limit of open files.
    Descriptors,
    /// By the address space of a process.
    AddressSpace,
}

/// How many sandboxes there can be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// So many; never none.
    pub sandboxes: u32,
    /// What more of would make it more.
    pub bound_by: Bound,
    /// So many of them in one worker; never none. Those of one agent beyond it get another worker.
    pub in_one_worker: u32,
    /// What more of would make that more.
    pub worker_bound_by: Bound,
    /// What it was computed from.
    pub machine: Machine,
}

impl Machine {
    /// This one, for this process. What cannot be read is taken for what it usually is.
    #[must_use]
    pub fn read() -> Self {
        let mappings = fs::read_to_string("/proc/sys/vm/max_map_count");
        let mappings = mappings.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL_MAPPINGS);
        let space = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
        Machine {
            mappings,
            descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            // Half of what the processor could address is the kernel's. In the rest the program stands two thirds up, and
            // allocators keep to places of their own below it: half of it again is free in one piece.
            space: space.min(1 << 46),
        }
    }

    /// What of `wanted` sandboxes there is room for.
    #[must_use]
    pub fn capacity(self, wanted: u32) -> Capacity {
        let room = |has: u64, itself: u64, each: u64| has.saturating_sub(itself) / each;
        let first = room(self.descriptors, DESCRIPTORS, DESCRIPTORS_PER_RUN);
        let further = room(self.descriptors, descriptors(WORKERS), DESCRIPTORS_PER_FURTHER_RUN);
        let descriptors = first.min(WORKERS.into()) + further;
        let (sandboxes, bound_by) =
            least(&[(wanted.into(), Bound::Configuration), (descriptors, Bound::Descriptors)]);
        let (in_one_worker, worker_bound_by) = least(&[
            (sandboxes.into(), Bound::Configuration),
            (room(self.mappings, MAPPINGS, MAPPINGS_PER_RUN), Bound::Mappings),
            (room(self.space, 1 << 36, SPACE_PER_RUN), Bound::AddressSpace),
        ]);
        Capacity { sandboxes, bound_by, in_one_worker, worker_bound_by, machine: self }
    }
}

/// The least of these, and what it is. Of equals the first: what was asked for, if that is it.
fn least(bounds: &[(u64, Bound)]) -> (u32, Bound) {
    let least = bounds.iter().min_by_key(|(sandboxes, _)| *sandboxes);
    let (sandboxes, bound_by) = least.copied().unwrap_or((0, Bound::Configuration));
    (u32::try_from(sandboxes).unwrap_or(u32::MAX).max(1), bound_by)
}

impl Capacity {
    /// Lets this process have the descriptors that so many sandboxes take, as far as it may.
    pub fn prepare(self) {
        let wanted = descriptors(self.sandboxes);
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current.is_some_and(|current| current < wanted) {
            limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
            // It is within what is allowed; and without it, connections are refused when there are too many.
            let _ = setrlimit(Resource::Nofile, limit);
        }
    }

    /// How many workers may be in use at once.
    #[must_use]
    pub fn workers(self) -> u32 {
        self.sandboxes.min(WORKERS)
    }

    /// What would make it more, for a person; none where it is what was asked for.
    #[must_use]
    pub fn advice(self) -> Option<String> {
        (self.bound_by == Bound::Descriptors).then(|| {
            format!(
                "ulimit -Hn N, or LimitNOFILE=N in the unit: it is {}, and {} sandboxes take {}",
                self.machine.descriptors,
                self.sandboxes + 1,
                descriptors(self.sandboxes + 1)
            )
        })
    }

    /// Why one worker holds no more, for a person; none where it holds all.
    #[must_use]
    pub fn why_several_workers(self) -> Option<String> {
        let most = self.in_one_worker;
        match self.worker_bound_by {
            Bound::Mappings => Some(format!(
                "{most} in one worker: vm.max_map_count is {}, and a sandbox takes {MAPPINGS_PER_RUN}",
                self.machine.mappings
            )),
            Bound::AddressSpace => {
                Some(format!("{most} in one worker: a sandbox takes 17 GiB of its address space"))
            }
            Bound::Configuration | Bound::Descriptors => None,
        }
    }
}

/// Descriptors that so many sandboxes take.
fn descriptors(sandboxes: u32) -> u64 {
    let further = u64::from(sandboxes.saturating_sub(WORKERS)) * DESCRIPTORS_PER_FURTHER_RUN;
    DESCRIPTORS + u64::from(sandboxes.min(WORKERS)) * DESCRIPTORS_PER_RUN + further
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Machine = Machine { mappings: 1 << 20, descriptors: 1 << 20, space: 1 << 46 };

    #[test]
    fn the_scarcest_thing_is_the_bound_and_is_named() {
        for (machine, wanted, sandboxes, bound_by) in [
            (LARGE, 64, 64, Bound::Configuration),
            (Machine { mappings: 4_000, ..LARGE }, 20_000, 20_000, Bound::Configuration),
            (Machine { descriptors: 1_024, ..LARGE }, 1_000, 192, Bound::Descriptors),
            (Machine { descriptors: 1_024, ..LARGE }, 192, 192, Bound::Configuration),
            (Machine { descriptors: 4_256, ..LARGE }, 20_000, 1_000, Bound::Descriptors),
            (Machine { descriptors: 20_000, ..LARGE }, 10_000, 10_000, Bound::Configuration),
            (Machine { descriptors: 20_000, ..LARGE }, 20_000, 16_744, Bound::Descriptors),
            (Machine { descriptors: 10, ..LARGE }, 64, 1, Bound::Descriptors),
        ] {
            let capacity = machine.capacity(wanted);
            assert_eq!((capacity.sandboxes, capacity.bound_by), (sandboxes, bound_by), "{machine:?}");
            assert_eq!(capacity.advice().is_none(), bound_by == Bound::Configuration);
            assert!(sandboxes == 1 || descriptors(sandboxes) <= machine.descriptors, "{machine:?}");
        }
    }

    #[test]
    fn a_worker_holds_what_its_address_space_and_mappings_allow() {
        for (machine, wanted, in_one, bound_by) in [
            (LARGE, 64, 64, Bound::Configuration),
            (Machine { mappings: 65_530, ..LARGE }, 20_000, 3_851, Bound::AddressSpace),
            (Machine { mappings: 4_000, ..LARGE }, 1_000, 500, Bound::Mappings),
            (Machine { mappings: 4_000, ..LARGE }, 500, 500, Bound::Configuration),
            (Machine { mappings: 100, ..LARGE }, 500, 1, Bound::Mappings),
        ] {
            let capacity = machine.capacity(wanted);
            assert_eq!((capacity.in_one_worker, capacity.worker_bound_by), (in_one, bound_by), "{machine:?}");
            assert_eq!(capacity.why_several_workers().is_none(), bound_by == Bound::Configuration);
        }
    }

    #[test]
    fn there_are_so_many_workers_and_no_more() {
        assert_eq!((LARGE.capacity(20_000).workers(), LARGE.capacity(64).workers()), (WORKERS, 64));
    }

    #[test]
    fn this_machine_has_room_for_some() {
        let capacity = Machine::read().capacity(64);
        assert!(capacity.sandboxes >= 1 && capacity.machine.mappings > 0, "{capacity:?}");
        capacity.prepare();
        let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(open >= descriptors(64).min(capacity.machine.descriptors));
    }
}
