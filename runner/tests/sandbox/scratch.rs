//! Scratch folders: whose they are, how much fits, and that nothing is left of them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use orch_runner::{
    Exit, Layer, LayerName, LimitName, Mount, RunIo, RunSpec, Scratch, Worker, WorkerConfig, WorkerError,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Closed, Ran, artifact, config, run, spec, this_program, try_run, until_it_speaks};

const MIB: u64 = 1 << 20;

async fn worker(scratch: Scratch, mounts: Vec<Mount>) -> Worker {
    let config = WorkerConfig { scratch: Some(scratch), mounts, ..config() };
    let door = std::sync::Arc::new(Closed);
    Worker::start(&this_program("__worker"), artifact("files").await, config, door).await.unwrap()
}

fn at(guests: &[&str], bytes: u64, files: u64) -> Scratch {
    Scratch { guests: guests.iter().map(|guest| (*guest).to_owned()).collect(), bytes, files }
}

fn doing(todo: &[&[&str]], fail: bool) -> RunSpec {
    spec(&json!({ "todo": todo, "fail": fail }).to_string())
}

/// Whether this system lets a worker have a file system of its own. Where it does not, a run that wants scratch folders
/// has to be refused, which is tested instead.
async fn granted(worker: &Worker) -> bool {
    if worker.jail().get(LayerName::Root) == Some(&Layer::Active) {
        return true;
    }
    let error = try_run(worker, doing(&[], false), None).await.unwrap_err();
    let said = "scratch folders cannot be had";
    assert!(matches!(&error, WorkerError::Rejected { message } if message.contains(said)), "{error}");
    println!("this system has no scratch folders: {error}");
    false
}

/// Does it all in a worker of its own; none where there are no scratch folders.
async fn done(scratch: Scratch, todo: &[&[&str]], fail: bool) -> Option<Ran> {
    let worker = worker(scratch, Vec::new()).await;
    if !granted(&worker).await {
        return None;
    }
    Some(run(&worker, doing(todo, fail)).await)
}

fn came_of(ran: &Ran) -> Vec<String> {
    assert_eq!(*ran.exit(), Exit::Status(0), "{ran:?}");
    serde_json::from_value(ran.json()["came_of"].clone()).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

pub(crate) async fn bytes_are_bounded_and_a_full_folder_is_an_error_like_any_other() {
    let todo: &[&[&str]] = &[
        &["fill", "/tmp/a", "0", "700000"],
        &["fill", "/tmp/b", "0", "700000"],
        &["append", "/tmp/b", "more"],
        &["read", "/tmp/none"],
        // What is removed makes room again, all of it.
        &["remove", "/tmp/a"],
        &["remove", "/tmp/b"],
        &["fill", "/tmp/c", "0", "1048576"],
        &["fill", "/tmp/d", "0", "1"],
    ];
    let Some(ran) = done(at(&["/tmp"], MIB, 10), todo, false).await else { return };
    let came_of = came_of(&ran);
    assert_eq!(came_of[0], "ok");
    // Whole pages are counted, and 171 of the 256 are the first file's. Of a piece that fits in part nothing is told.
    assert!(came_of[1].starts_with("failed: after 327680 bytes: No space left"), "{came_of:?}");
    assert!(came_of[2].contains("No space left"), "{came_of:?}");
    assert_eq!(came_of[4..7], ["ok", "ok", "ok"], "{came_of:?}");
    assert!(came_of[7].contains("No space left"), "{came_of:?}");

    // A program that fails over it has failed for that.
    let ran = done(at(&["/tmp"], MIB, 10), &todo[..2], true).await.unwrap();
    assert_eq!(*ran.exit(), Exit::Limit { name: LimitName::Scratch, used: MIB, limit: MIB }, "{ran:?}");
    // One that fails over something else has not.
    let ran = done(at(&["/tmp"], MIB, 10), &todo[..1], true).await.unwrap();
    assert_eq!(*ran.exit(), Exit::Status(1), "{ran:?}");
}

pub(crate) async fn files_are_bounded_whatever_they_are() {
    let todo: &[&[&str]] = &[&["many", "/tmp", "20"]];
    let Some(ran) = done(at(&["/tmp"], MIB, 10), todo, false).await else { return };
    assert!(came_of(&ran)[0].starts_with("failed: after 10 files: No space left"), "{ran:?}");
    let ran = done(at(&["/tmp"], MIB, 10), todo, true).await.unwrap();
    assert_eq!(*ran.exit(), Exit::Limit { name: LimitName::ScratchFiles, used: 10, limit: 10 }, "{ran:?}");
    // Of all folders together, and a link is one of them as well.
    let todo: &[&[&str]] = &[
        &["mkdir", "/tmp/folder"],
        &["write", "/cache/file", "x"],
        &["link", "/cache/file", "/cache/twin"],
        &["symlink", "folder", "/tmp/link"],
        &["write", "/tmp/one-more", ""],
        &["mkdir", "/cache/one-more"],
        &["link", "/cache/file", "/cache/one-more"],
        &["symlink", "folder", "/tmp/one-more"],
        &["remove", "/cache/twin"],
        &["write", "/tmp/one-more", ""],
    ];
    let came_of = came_of(&done(at(&["/tmp", "/cache"], MIB, 4), todo, false).await.unwrap());
    assert!(came_of[..4].iter().all(|came_of| came_of == "ok"), "{came_of:?}");
    assert!(came_of[4..8].iter().all(|came_of| came_of.contains("No space left")), "{came_of:?}");
    assert_eq!(came_of[8..], ["ok", "ok"], "{came_of:?}");
}

pub(crate) async fn a_hole_costs_nothing_until_it_is_written_to() {
    let todo: &[&[&str]] = &[
        &["size", "/tmp/a", "1099511627776"],
        &["stat", "/tmp/a"],
        &["fill", "/tmp/a", "1099510579200", "1048576"],
        &["fill", "/tmp/a", "4096", "1"],
        &["fill", "/tmp/b", "0", "1"],
        &["size", "/tmp/b", "1099511627776"],
        &["fill", "/tmp/b", "1099511627776", "1"],
        // Cut off, its pages are free again.
        &["size", "/tmp/a", "1099510583296"],
        &["fill", "/tmp/b", "0", "1044480"],
        &["fill", "/tmp/b", "1044480", "1"],
    ];
    let Some(ran) = done(at(&["/tmp"], MIB, 10), todo, false).await else { return };
    let came_of = came_of(&ran);
    assert_eq!(came_of[..3], ["ok", "ok file 1099511627776", "ok"], "{came_of:?}");
    assert!(came_of[3].contains("No space left") && came_of[4].contains("No space left"), "{came_of:?}");
    assert_eq!(came_of[5], "ok", "nothing is written to it: {came_of:?}");
    assert!(came_of[6].contains("No space left"), "{came_of:?}");
    assert_eq!(came_of[7..9], ["ok", "ok"], "{came_of:?}");
    assert!(came_of[9].contains("No space left"), "{came_of:?}");
}

pub(crate) async fn they_lead_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().canonicalize().unwrap();
    fs::write(host.join("file"), "mounted").unwrap();
    let mount = Mount { host: host.clone(), guest: "/data".to_owned(), writable: true };
    let worker = worker(at(&["/tmp", "/cache"], MIB, 100), vec![mount.clone()]).await;
    if !granted(&worker).await {
        return;
    }
    let todo: &[&[&str]] = &[
        &["write", "/tmp/file", "scratch"],
        &["list", "/cache"],
        &["list", "/tmp"],
        &["read", "/data/file"],
        // Down from each there is what is in it; up, and across, there is nothing.
        &["raw", "4", "../1/file"],
        &["raw", "4", "../../etc/passwd"],
        &["list", "/tmp/.."],
        &["symlink", "../1", "/tmp/way"],
        &["symlink", "/data", "/tmp/way"],
        &["rename", "/data/file", "/tmp/stolen"],
        &["link", "/data/file", "/tmp/stolen"],
        &["rename", "/tmp/file", "/data/planted"],
        &["link", "/tmp/file", "/data/planted"],
    ];
    let spec = RunSpec { mounts: vec![mount], ..doing(todo, false) };
    let came_of = came_of(&run(&worker, spec).await);
    assert_eq!(came_of[..4], ["ok", "ok", "ok file", "ok mounted"], "{came_of:?}");
    assert!(came_of[4..].iter().all(|came_of| came_of.starts_with("failed: ")), "{came_of:?}");
    assert_eq!(fs::read_dir(&host).unwrap().count(), 1);
}

pub(crate) async fn each_is_one_runs_alone() {
    let first = worker(at(&["/tmp"], MIB, 10), Vec::new()).await;
    if !granted(&first).await {
        return;
    }
    let leave: &[&[&str]] = &[&["write", "/tmp/left", "something"], &["list", "/tmp"]];
    let look: &[&[&str]] = &[&["list", "/tmp"], &["read", "/tmp/left"]];
    let left = run(&first, doing(leave, false)).await;
    assert_eq!(came_of(&left)[1], "ok left");
    // While it is still there: another worker's is another one.
    let second = worker(at(&["/tmp"], MIB, 10), Vec::new()).await;
    let found = came_of(&run(&second, doing(look, false)).await);
    assert!(found[0] == "ok" && found[1].starts_with("failed: "), "{found:?}");
    // And no second run gets at the first one's.
    let error = try_run(&first, doing(look, false), None).await.unwrap_err();
    assert!(
        matches!(&error, WorkerError::Rejected { message } if message.contains("another run")),
        "{error}"
    );
}

/// What all file systems in memory hold, in bytes.
fn in_memory() -> u64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap();
    let line = table.lines().find_map(|line| line.strip_prefix("Shmem:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// The worker is killed in the middle of it. Its memory is free again, and no disk ever had any of it.
pub(crate) async fn nothing_is_left_of_them_however_the_worker_ends() {
    const SIZE: u64 = 96 * MIB;
    let name = format!("left-over-{}", std::process::id());
    let path = format!("/tmp/{name}");
    for end in ["killed", "told to leave"] {
        let worker = worker(at(&["/tmp"], SIZE, 10), Vec::new()).await;
        if !granted(&worker).await {
            return;
        }
        let before = in_memory();
        let size = SIZE.to_string();
        let todo: &[&[&str]] = &[&["fill", &path, "0", &size], &["say", "full"], &["sleep", "50000"]];
        let (stderr, speaks) = mpsc::channel(4);
        let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
        let spec = doing(todo, false);
        let id = spec.run.clone();
        let (outcome, full) = tokio::join!(worker.run(spec, io), async {
            until_it_speaks(speaks).await;
            let full = in_memory();
            assert!(full > before + SIZE / 2, "it takes {full} after {before}");
            assert!(!Path::new(&path).exists() && !std::env::temp_dir().join(&name).exists());
            match end {
                "killed" => {
                    let pid = Pid::from_raw(worker.pid().cast_signed()).unwrap();
                    kill_process(pid, Signal::KILL).unwrap();
                }
                _ => worker.cancel(&id),
            }
            full
        });
        match (end, outcome) {
            ("killed", Err(WorkerError::Died { .. })) => {}
            (_, Ok(outcome)) if outcome.exit == Exit::Cancelled => worker.shutdown().await,
            (_, other) => panic!("{end}: {other:?}"),
        }
        let since = Instant::now();
        while in_memory() > full - SIZE / 2 {
            assert!(since.elapsed() < Duration::from_secs(20), "{end}: {} of {full}", in_memory());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
