//! Limits that the kernel keeps.
//!
//! A worker's address space is not bounded: wasmtime reserves terabytes of it, of which a run's limits say what may be used.
//! A compile jail's is, by what its broker orders.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Purpose;
use super::report::Layer;

/// Descriptors of a process without mounts: its three, the runtimes' own, and to spare.
const FEW_DESCRIPTORS: u64 = 256;
/// Descriptors of one whose guest may open files. How many that are is the run's limit.
const MANY_DESCRIPTORS: u64 = 1 << 16;
/// Threads. tokio has up to 512 for file operations, beside one per processor.
const THREADS: u64 = 2048;

pub(super) struct Rlimits {
    pub(super) purpose: Purpose,
    /// Whether there are mounts.
    pub(super) mounted: bool,
    /// Whether it may write to files.
    pub(super) writes: bool,
    /// Whether the kernel counts its threads apart from the user's other processes.
    pub(super) own_user: bool,
}

impl Rlimits {
    pub(super) fn apply(&self) -> Layer {
        let descriptors = match (self.purpose, self.mounted) {
            (Purpose::Worker, true) => MANY_DESCRIPTORS,
            _ => FEW_DESCRIPTORS,
        };
        let mut steps =
            vec![("core dumps", set(Resource::Core, 0)), ("descriptors", set(Resource::Nofile, descriptors))];
        if !self.writes {
            steps.push(("file sizes", set(Resource::Fsize, 0)));
        }
        if self.own_user {
            steps.push(("threads", set(Resource::Nproc, THREADS)));
        }
        let failed: Vec<&str> =
            steps.into_iter().filter_map(|(what, step)| step.is_err().then_some(what)).collect();
        match (failed.as_slice(), self.own_user) {
            ([], true) => Layer::Active,
            ([], false) => Layer::Partial {
                reason: "threads are not bounded: without a user namespace they count with the user's other processes"
                    .to_owned(),
            },
            (failed, _) => Layer::Partial { reason: format!("no bound on {}", failed.join(", ")) },
        }
    }
}

/// Lowers a limit for good; what is lower already stays.
fn set(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let now = getrlimit(resource);
    let most = [now.current, now.maximum].into_iter().flatten().fold(most, u64::min);
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}
