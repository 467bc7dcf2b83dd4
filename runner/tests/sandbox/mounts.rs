//! What a guest gets at through the folders that it was given, and what it does not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use orch_runner::{Exit, Layer, LayerName, Mount, Worker};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, mknodat, open, renameat_with};
use serde_json::json;

use crate::support::{Ran, mounted, run, spec};

/// A folder with `data`, which is mounted, and `outside` beside it, which is not.
struct Ground {
    _folder: tempfile::TempDir,
    data: PathBuf,
    outside: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (data, outside) = (root.join("data"), root.join("outside"));
        fs::create_dir_all(data.join("inner")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(data.join("file"), "inside").unwrap();
        fs::write(outside.join("file"), "OUTSIDE").unwrap();
        Ground { _folder: folder, data, outside }
    }

    fn mount(&self, writable: bool) -> Mount {
        mount(&self.data, "/data", writable)
    }

    /// Everything outside, by its path: what it is, and what is in it.
    fn outside(&self) -> BTreeMap<PathBuf, String> {
        everything(&self.outside)
    }
}

fn mount(host: &Path, guest: &str, writable: bool) -> Mount {
    Mount { host: host.to_owned(), guest: guest.to_owned(), writable }
}

/// Everything in and below a folder, by its path: what it is, when it was changed, and what is in it.
fn everything(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let meta = path.symlink_metadata().unwrap();
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            kind if kind.is_file() => fs::read_to_string(&path).unwrap(),
            _ => String::new(),
        };
        let times = (meta.mtime(), meta.mtime_nsec(), meta.nlink(), meta.mode());
        found.insert(path, format!("{times:?} {content}"));
    }
    found
}

async fn done_by(worker: &Worker, mounts: &[Mount], todo: &[&[&str]]) -> Vec<String> {
    let mut spec = spec(&json!({ "todo": todo }).to_string());
    spec.mounts = mounts.to_vec();
    let ran = run(worker, spec).await;
    assert_eq!(*ran.exit(), Exit::Status(0), "{ran:?}");
    came_of(&ran)
}

/// Does all of it in a worker of its own.
async fn done(mounts: &[Mount], todo: &[&[&str]]) -> Vec<String> {
    done_by(&mounted("files", mounts.to_vec()).await, mounts, todo).await
}

fn came_of(ran: &Ran) -> Vec<String> {
    serde_json::from_value(ran.json()["came_of"].clone()).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[track_caller]
fn all_failed(todo: &[&[&str]], came_of: &[String]) {
    assert_eq!(todo.len(), came_of.len());
    for (words, came_of) in todo.iter().zip(came_of) {
        assert!(came_of.starts_with("failed: "), "{words:?}: {came_of}");
    }
}

pub(crate) async fn links_that_lead_out_lead_nowhere() {
    let ground = Ground::new();
    let link = |target: &str, name: &str| symlink(target, ground.data.join(name)).unwrap();
    let secret = ground.outside.join("file");
    let paths = [secret.to_str().unwrap(), ground.outside.to_str().unwrap(), "/"];
    for (at, target) in paths.iter().enumerate() {
        link(target, &format!("absolute-{at}"));
    }
    link("../outside/file", "relative");
    link("inner/../../outside/file", "roundabout");
    link("../outside", "folder");
    link("chain-2", "chain-1");
    link("chain-3", "chain-2");
    link("inner/../relative", "chain-3");
    link("/proc/self/environ", "environment");
    link("/proc/self/fd/0", "descriptor");
    link("/proc/self/root", "root");
    link("/proc/self/cwd", "working");
    link("loop", "loop");
    // And those that stay inside, by which it is known that links are followed at all.
    link("inner/../file", "good");
    link("good", "good-2");

    let good: &[&[&str]] = &[
        &["read", "/data/good"],
        &["read", "/data/good-2"],
        &["read", "/data/inner/../file"],
        &["raw", "3", "good"],
    ];
    let bad: &[&[&str]] = &[
        &["read", "/data/absolute-0"],
        &["read", "/data/absolute-1/file"],
        &["list", "/data/absolute-1"],
        &["list", "/data/absolute-2"],
        &["read", "/data/absolute-2/etc/passwd"],
        &["stat", "/data/absolute-0"],
        &["read", "/data/relative"],
        &["stat", "/data/relative"],
        &["read", "/data/roundabout"],
        &["read", "/data/folder/file"],
        &["list", "/data/folder"],
        &["read", "/data/chain-1"],
        &["read", "/data/environment"],
        &["read", "/data/descriptor"],
        &["list", "/data/root"],
        &["list", "/data/working"],
        &["read", "/data/loop"],
        &["read", "/data/../outside/file"],
        &["read", "/data/inner/../../outside/file"],
        &["list", "/data/.."],
        &["read", "/etc/passwd"],
        &["raw", "3", "../outside/file"],
        &["raw", "3", "inner/../../outside/file"],
        &["raw", "3", "/etc/passwd"],
        &["raw", "3", paths[0]],
        &["raw", "3", "folder/file"],
        &["raw", "3", "relative"],
        &["raw", "3", "root/etc/passwd"],
        &["raw", "3", ".."],
        &["raw", "3", "good\0/../../outside/file"],
        &["raw", "3", ""],
    ];
    let before = ground.outside();
    for writable in [false, true] {
        let mounts = [ground.mount(writable)];
        for came_of in done(&mounts, good).await {
            assert_eq!(came_of, "ok inside");
        }
        let came_of = done(&mounts, bad).await;
        all_failed(bad, &came_of);
        assert!(!came_of.concat().contains("OUTSIDE"), "{came_of:?}");
    }
    // Writing through them changes nothing, either.
    let todo: &[&[&str]] = &[
        &["write", "/data/relative", "changed"],
        &["append", "/data/absolute-0", "changed"],
        &["truncate", "/data/chain-1"],
        &["write", "/data/folder/new", "new"],
        &["mkdir", "/data/folder/new"],
        &["remove", "/data/folder/file"],
        &["rename", "/data/folder/file", "/data/mine"],
        &["rename", "/data/file", "/data/folder/file"],
        &["link", "/data/folder/file", "/data/mine"],
        &["link", "/data/file", "/data/folder/mine"],
        &["touch", "3", "relative"],
        &["touch", "3", "folder/file"],
        &["size", "/data/roundabout", "0"],
    ];
    all_failed(todo, &done(&[ground.mount(true)], todo).await);
    assert_eq!(ground.outside(), before);
}

pub(crate) async fn a_guest_makes_no_way_out() {
    let ground = Ground::new();
    let other = Ground::new();
    let mounts =
        [ground.mount(true), mount(&other.data, "/other", true), mount(&other.outside, "/read", false)];
    let before = (ground.outside(), everything(&other.outside));
    let path = ground.outside.join("file");
    // Somebody else's, and harmless where it is.
    symlink("../file", ground.data.join("inner/up")).unwrap();
    let bad: &[&[&str]] = &[
        &["rename", "/data/inner/up", "/data/way"],
        &["link", "/data/inner/up", "/data/way"],
        &["symlink", "../outside/file", "/data/way"],
        &["symlink", "inner/../../outside", "/data/way"],
        // Harmless where it is, and not where it could be moved to.
        &["symlink", "../file", "/data/inner/way"],
        &["symlink", "..", "/data/inner/way"],
        &["symlink", path.to_str().unwrap(), "/data/way"],
        &["symlink", "/proc/self/environ", "/data/way"],
        &["symlink", "/", "/data/way"],
        // From one mount into another, and from one that may only be read.
        &["link", "/data/file", "/other/way"],
        &["rename", "/data/file", "/other/way"],
        &["rename", "/data/inner", "/other/way"],
        &["link", "/read/file", "/data/way"],
        &["rename", "/read/file", "/data/way"],
        &["rename", "/data/file", "/read/way"],
        &["link", "/data/file", "/read/way"],
        &["rename", "/data/file", "/data/../outside/way"],
        &["link", "/data/../outside/file", "/data/way"],
        &["mkdir", "/data/../way"],
        &["rmdir", "/data"],
        &["rename", "/data", "/other/way"],
    ];
    let came_of = done(&mounts, bad).await;
    all_failed(bad, &came_of);
    assert_eq!((ground.outside(), everything(&other.outside)), before);
    for folder in [&ground.data, &other.data, &other.outside] {
        assert!(!folder.join("way").exists() && !folder.join("way").is_symlink(), "{}", folder.display());
    }
    assert_eq!(fs::read_to_string(ground.data.join("file")).unwrap(), "inside");
    // What stays inside can be made.
    let good: &[&[&str]] = &[
        &["symlink", "inner/deep", "/data/down"],
        &["write", "/data/down", "through a link"],
        &["read", "/data/inner/deep"],
        &["link", "/data/file", "/data/inner/twin"],
        &["rename", "/data/inner/twin", "/data/moved"],
        &["read", "/data/moved"],
        &["rename", "/data/inner/up", "/data/inner/still-up"],
    ];
    assert_eq!(done(&mounts, good).await, ["ok", "ok", "ok through a link", "ok", "ok", "ok inside", "ok"]);
}

pub(crate) async fn a_read_only_mount_stays_as_it_is() {
    let ground = Ground::new();
    symlink("file", ground.data.join("good")).unwrap();
    let before = everything(&ground.data);
    let todo: &[&[&str]] = &[
        &["write", "/data/file", "changed"],
        &["write", "/data/new", "new"],
        &["append", "/data/file", "changed"],
        &["open-to-write", "/data/file"],
        &["truncate", "/data/file"],
        &["truncate", "/data/good"],
        &["size", "/data/file", "3"],
        &["mkdir", "/data/new"],
        &["rmdir", "/data/inner"],
        &["remove", "/data/file"],
        &["rename", "/data/file", "/data/moved"],
        &["link", "/data/file", "/data/twin"],
        &["symlink", "file", "/data/new"],
        &["touch", "3", "file"],
        &["touch", "3", "inner"],
        &["touch", "3", "."],
    ];
    all_failed(todo, &done(&[ground.mount(false)], todo).await);
    assert_eq!(everything(&ground.data), before);
    // By the same words it is changed where it may be.
    let came_of = done(&[ground.mount(true)], &todo[..3]).await;
    assert_eq!(came_of, ["ok", "ok", "ok"]);
}

/// A pipe would hold the guest's thread until somebody else opens it, out of any limit's reach.
pub(crate) async fn pipes_sockets_and_devices_are_not_opened() {
    let ground = Ground::new();
    let pipe = ground.data.join("pipe");
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
    symlink("pipe", ground.data.join("to-pipe")).unwrap();
    let listener = UnixListener::bind(ground.data.join("socket")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut todo: Vec<&[&str]> = vec![
        &["read", "/data/pipe"],
        &["write", "/data/pipe", "text"],
        &["append", "/data/pipe", "text"],
        &["open-to-write", "/data/pipe"],
        &["truncate", "/data/to-pipe"],
        &["read", "/data/to-pipe"],
        &["raw", "3", "pipe"],
        &["raw", "3", "inner/../to-pipe"],
        &["touch", "3", "pipe"],
        &["touch", "3", "to-pipe"],
        &["read", "/data/socket"],
        &["write", "/data/socket", "text"],
        &["touch", "3", "socket"],
    ];
    // Zeroes without end: 1, 5.
    match mknodat(CWD, ground.data.join("device"), FileType::CharacterDevice, mode, rustix::fs::makedev(1, 5))
    {
        Ok(()) => {
            todo.push(&["read", "/data/device"]);
            todo.push(&["write", "/data/device", "text"]);
            todo.push(&["touch", "3", "device"]);
        }
        Err(error) => println!("no device to try: this user can make none ({error})"),
    }
    let began = Instant::now();
    all_failed(&todo, &done(&[ground.mount(true)], &todo).await);
    assert!(began.elapsed() < Duration::from_secs(30), "something held it for {:?}", began.elapsed());
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    let writer = open(&pipe, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    assert_eq!(writer.unwrap_err(), rustix::io::Errno::NXIO, "somebody reads from the pipe");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody connected");
    // They can be looked at and removed all the same.
    let came_of = done(&[ground.mount(true)], &[&["list", "/data"], &["remove", "/data/pipe"]]).await;
    assert!(came_of[0].contains("pipe socket"), "{came_of:?}");
    assert!(came_of[1] == "ok" && !pipe.exists());
}

/// Another process of the user's, or the agent's friend, swaps a folder and a link for each other while the guest goes
/// through it.
pub(crate) async fn a_folder_that_turns_into_a_link_again_and_again() {
    const ROUNDS: &str = "1500";
    let ground = Ground::new();
    fs::write(ground.data.join("inner/file"), "inside").unwrap();
    symlink("../outside", ground.data.join("other")).unwrap();
    let (inner, other) = (ground.data.join("inner"), ground.data.join("other"));
    let over = AtomicBool::new(false);
    let before = ground.outside();
    let mounts = [ground.mount(true)];
    let worker = mounted("files", mounts.to_vec()).await;
    let handle = tokio::runtime::Handle::current();
    let (came_of, swaps) = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &inner, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
                // A run that was busy has what processor time others leave: some has to be left.
                std::thread::sleep(Duration::from_micros(20));
            }
            swaps
        });
        let reading = scope.spawn(|| {
            let todo: &[&[&str]] = &[
                &["again", "/data/inner/file", ROUNDS],
                &["again", "/data/other/file", ROUNDS],
                &["write", "/data/inner/new", "new"],
                &["write", "/data/other/new", "new"],
                &["remove", "/data/inner/file"],
                &["remove", "/data/other/file"],
            ];
            let came_of = handle.block_on(done_by(&worker, &mounts, todo));
            over.store(true, Ordering::Relaxed);
            came_of
        });
        let came_of = reading.join();
        over.store(true, Ordering::Relaxed);
        (came_of.unwrap(), swapping.join().unwrap())
    });
    assert!(swaps > 100, "{swaps}");
    let mut times = 0;
    for came_of in &came_of[..2] {
        let (count, seen) = came_of.strip_prefix("ok ").unwrap().split_once(" times: ").unwrap();
        times += count.parse::<u64>().unwrap();
        assert!(matches!(seen, "inside" | ""), "{came_of}");
    }
    assert!(times > 0, "it was a folder some of the time: {came_of:?}");
    assert_eq!(ground.outside(), before);
}

/// What a guest has is the folder that was granted, and not what is found later at its path.
/// Whoever opens a pipe waits for its other end, in a call of the host that nothing interrupts.
pub(crate) async fn a_file_that_turns_into_a_pipe_again_and_again() {
    const ROUNDS: &str = "3000";
    let ground = Ground::new();
    let (file, pipe) = (ground.data.join("file"), ground.data.join("pipe"));
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    let mounts = [ground.mount(true)];
    let worker = mounted("files", mounts.to_vec()).await;
    let over = AtomicBool::new(false);
    let handle = tokio::runtime::Handle::current();
    let (came_of, swaps) = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &file, CWD, &pipe, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
                // A run that was busy has what processor time others leave: some has to be left.
                std::thread::sleep(Duration::from_micros(20));
            }
            swaps
        });
        let reading = scope.spawn(|| {
            let reads: [&[&str]; 2] = [&["again", "/data/file", ROUNDS], &["again", "/data/pipe", ROUNDS]];
            let others: [&[&str]; 3] =
                [&["open-to-write", "/data/file"], &["touch", "3", "file"], &["append", "/data/file", ""]];
            let todo: Vec<&[&str]> = reads.into_iter().chain(others.into_iter().cycle().take(150)).collect();
            handle.block_on(done_by(&worker, &mounts, &todo))
        });
        let came_of = reading.join();
        over.store(true, Ordering::Relaxed);
        (came_of.unwrap(), swapping.join().unwrap())
    });
    assert!(swaps > 100, "{swaps}");
    for came_of in &came_of[..2] {
        let (count, seen) = came_of.strip_prefix("ok ").unwrap().split_once(" times: ").unwrap();
        assert!(
            count != "0" && seen == "inside",
            "it was the file some of the time, and nothing else: {came_of}"
        );
    }
    let went_well = came_of[2..].iter().filter(|came_of| *came_of == "ok").count();
    assert!(0 < went_well && went_well < 150, "{went_well}");
}

pub(crate) async fn a_folder_that_was_moved_away_is_still_the_guests() {
    let ground = Ground::new();
    let mounts = [ground.mount(true)];
    let worker = mounted("files", mounts.to_vec()).await;
    let moved = ground.data.with_file_name("moved");
    fs::rename(&ground.data, &moved).unwrap();
    symlink(&ground.outside, &ground.data).unwrap();
    let before = ground.outside();
    let todo: &[&[&str]] = &[&["read", "/data/file"], &["write", "/data/new", "new"], &["list", "/data"]];
    let came_of = done_by(&worker, &mounts, todo).await;
    assert_eq!(came_of, ["ok inside", "ok", "ok file inner new"]);
    assert_eq!(fs::read_to_string(moved.join("new")).unwrap(), "new");
    assert_eq!(ground.outside(), before);
    // Removed altogether, there is nothing in it any more, and it is no other.
    fs::remove_dir_all(&moved).unwrap();
    fs::create_dir(&moved).unwrap();
    fs::write(moved.join("file"), "another").unwrap();
    let came_of = done_by(&worker, &mounts, &todo[..2]).await;
    all_failed(&todo[..2], &came_of);
}

pub(crate) async fn nested_mounts_do_not_widen_each_other() {
    let ground = Ground::new();
    let inner = ground.data.join("inner");
    let both = |outer: bool| [mount(&inner, "/inner", !outer), mount(&ground.data, "/outer", outer)];
    let todo: &[&[&str]] = &[
        &["write", "/outer/new", "new"],
        &["write", "/outer/inner/new", "new"],
        &["write", "/inner/new", "new"],
        &["rename", "/inner/new", "/outer/stolen"],
        &["link", "/inner/new", "/outer/stolen"],
    ];
    // The outer one may be read, and what is below it may be written to by its own path alone.
    let came_of = done(&both(false), todo).await;
    assert_eq!(came_of[2], "ok", "{came_of:?}");
    for at in [0, 1, 3, 4] {
        assert!(came_of[at].starts_with("failed: "), "{came_of:?}");
    }
    // The outer one may be written to, but for what was said of its part.
    let mounts = both(true);
    let worker = mounted("files", mounts.to_vec()).await;
    let came_of = done_by(&worker, &mounts, todo).await;
    assert_eq!(came_of[0], "ok", "{came_of:?}");
    for at in [2, 3, 4] {
        assert!(came_of[at].starts_with("failed: "), "{came_of:?}");
    }
    match worker.jail().get(LayerName::Root) {
        Some(Layer::Active) => assert!(came_of[1].starts_with("failed: "), "{came_of:?}"),
        missing => {
            println!("without a root of its own the outer mount's rights hold for all of it: {missing:?}");
        }
    }
}
