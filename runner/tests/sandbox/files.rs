//! What a run's files make its worker hold.

use std::fs;

use orch_runner::{Artifact, Exit, LimitName, Mount, RunSpec, Worker, WorkerConfig};

use crate::support::{Closed, compiler, config, run, spec, this_program, wat};

const MIB: u64 = 1 << 20;

/// What a guest of `files.wat` does with that many arguments.
#[derive(Debug, Clone, Copy)]
enum Conduct {
    Nothing = 0,
    Listings,
    Streams,
}

/// A folder with more than a listing reads at once, and a file that is read in one piece; and a worker with it.
async fn worker() -> (Worker, tempfile::TempDir, Mount) {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().canonicalize().unwrap();
    fs::write(host.join("file"), vec![7; 100_000]).unwrap();
    for number in 0..100 {
        fs::write(host.join(format!("{number}-{}", "n".repeat(200))), "").unwrap();
    }
    let mount = Mount { host, guest: "/data".to_owned(), writable: false };
    let config = WorkerConfig { mounts: vec![mount.clone()], ..config() };
    let artifact = Artifact::anonymous(&compiler().compile(wat("files")).await.unwrap()).unwrap();
    let door = std::sync::Arc::new(Closed);
    (Worker::start(&this_program("__worker"), artifact, config, door).await.unwrap(), folder, mount)
}

fn does(conduct: Conduct, mount: &Mount, memory: u64) -> RunSpec {
    let mut spec = spec("");
    spec.args = vec!["-".to_owned(); conduct as usize];
    spec.mounts = vec![mount.clone()];
    spec.limits.memory = memory;
    spec
}

pub(crate) async fn listings_are_on_the_runs_account() {
    let (worker, _folder, mount) = worker().await;
    let ran = run(&worker, does(Conduct::Listings, &mount, 4 * MIB)).await;
    let Exit::Limit { name: LimitName::Memory, used, limit } = *ran.exit() else { panic!("{ran:?}") };
    assert!(limit == 4 * MIB && used > limit, "{used} of {limit}");
    assert!((3 * MIB..=limit).contains(&ran.outcome.usage.memory_peak), "{:?}", ran.outcome.usage);
    // With room for more of them it is their number that ends.
    let ran = run(&worker, does(Conduct::Listings, &mount, 64 * MIB)).await;
    assert!(matches!(ran.exit(), Exit::Limit { name: LimitName::Resources, .. }), "{ran:?}");
    // What they held was given back.
    let ran = run(&worker, does(Conduct::Nothing, &mount, 4 * MIB)).await;
    assert_eq!(*ran.exit(), Exit::Status(0), "{ran:?}");
}

/// They are read when the guest asks, by its own thread: 900 times 64 KiB would be 56 MiB that no account knows, and as many
/// threads as a pool of them may have.
pub(crate) async fn files_that_a_guest_begins_to_read_hold_nothing() {
    let (worker, _folder, mount) = worker().await;
    let threads = || fs::read_dir(format!("/proc/{}/task", worker.pid())).map(|tasks| tasks.count()).ok();
    let ran = run(&worker, does(Conduct::Nothing, &mount, 4 * MIB)).await;
    assert_eq!(*ran.exit(), Exit::Status(0), "{ran:?}");
    let before = threads();
    let ran = run(&worker, does(Conduct::Streams, &mount, 4 * MIB)).await;
    assert_eq!(*ran.exit(), Exit::Status(0), "{ran:?}");
    let cores = std::thread::available_parallelism().unwrap().get();
    if let (Some(before), Some(after)) = (before, threads()) {
        // Those for hogs are started when there is a first one.
        assert!(after <= before + cores, "{after} threads, {before} before");
    }
}
