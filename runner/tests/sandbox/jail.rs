//! What native code in a worker can and cannot do.
//!
//! The worker here is the real one, jailed as any other, but for one thing: when a run whose first argument is the name of
//! a [deed](native::DEEDS) starts, that deed is done in the worker's own process, as a guest would that had escaped from
//! wasmtime.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use orch_runner::{
    CompileError, Exit, JailReport, Layer, LayerName, Mount, Requirement, RunIo, RunSpec, Scratch, Worker,
    WorkerConfig, WorkerError,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::sync::mpsc;

use crate::support::{Closed, artifact, config, mounted, run, spec, this_program, until_it_speaks, worker};

pub(crate) mod native;

/// A worker whose native code does what its runs' first argument says.
async fn treacherous(guest: &str, mounts: Vec<Mount>) -> Worker {
    treacherous_with(guest, WorkerConfig { mounts, ..config() }).await
}

async fn treacherous_with(guest: &str, config: WorkerConfig) -> Worker {
    Worker::start(&this_program("__native"), artifact(guest).await, config, std::sync::Arc::new(Closed))
        .await
        .unwrap()
}

fn deed(name: &str, argument: &str) -> RunSpec {
    RunSpec { args: vec![name.to_owned(), argument.to_owned()], ..spec("") }
}

/// Does it in a fresh worker without mounts.
async fn attempt(name: &str, argument: &str) -> WorkerError {
    attempt_in(&treacherous("noop", Vec::new()).await, name, argument).await
}

async fn attempt_in(worker: &Worker, name: &str, argument: &str) -> WorkerError {
    worker.run(deed(name, argument), RunIo::default()).await.expect_err(name)
}

/// What the deed said of itself before it ended the worker.
#[track_caller]
fn said(error: WorkerError) -> String {
    match error {
        WorkerError::Died { diagnostics, .. } => diagnostics,
        other => panic!("it should have told what came of it: {other}"),
    }
}

fn mount(host: &Path, guest: &str, writable: bool) -> Mount {
    Mount { host: host.canonicalize().unwrap(), guest: guest.to_owned(), writable }
}

/// Layers that a system may have reasons not to grant to everybody, and what hangs on them. All others have to hold.
const AT_THE_SYSTEMS_DISCRETION: [LayerName; 3] =
    [LayerName::Namespaces, LayerName::Root, LayerName::Rlimits];

/// Whether this system grants everything. Where it does not, that is said, and what it does grant is tested.
fn granted(report: &JailReport) -> bool {
    for name in LayerName::ALL {
        let outcome = report.get(name).unwrap_or_else(|| panic!("nothing is said of {name}"));
        let open = AT_THE_SYSTEMS_DISCRETION.contains(&name);
        assert!(*outcome == Layer::Active || open, "{name}: {:?}; this needs Linux 6.12", outcome.reason());
    }
    let gaps = report.gaps();
    if !gaps.is_empty() {
        println!("this system does not grant every layer: {}", gaps.join("; "));
    }
    gaps.is_empty()
}

/// What comes of naming a file that is not mounted: with a root of its own there is none, else it may not be opened.
fn not_there(worker: &Worker) -> &'static str {
    if worker.jail().get(LayerName::Root) == Some(&Layer::Active) { "errno 2" } else { "errno 13" }
}

/// What comes of writing to what is mounted to be read.
fn not_to_be_written(worker: &Worker) -> &'static str {
    if worker.jail().get(LayerName::Root) == Some(&Layer::Active) { "errno 30" } else { "errno 13" }
}

pub(crate) async fn every_layer_is_active() {
    let folder = tempfile::tempdir().unwrap();
    for mounts in [Vec::new(), vec![mount(folder.path(), "/data", true)]] {
        let worker = mounted("noop", mounts).await;
        let all = granted(worker.jail());
        assert_eq!(worker.jail().unmet(&Requirement::all()).is_empty(), all);
        // The kernel's own word for it.
        let status = fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
        };
        assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
        assert_eq!(field("CapEff:"), "0000000000000000");
        assert_eq!(field("CapPrm:"), "0000000000000000");
        assert_eq!(*run(&worker, spec("")).await.exit(), Exit::Status(0));
    }
    let nothing = JailReport::default();
    assert_eq!(nothing.unmet(&Requirement::of([LayerName::Seccomp])).len(), 1);
    assert_eq!(nothing.get(LayerName::Seccomp), None::<&Layer>);
}

/// Calls that end the worker, whatever their outcome would have been.
pub(crate) async fn forbidden_calls_end_the_worker() {
    for name in native::FORBIDDEN {
        let error = attempt(name, "").await;
        assert!(matches!(error, WorkerError::Violation { .. }), "{name}: {error}");
        assert!(error.to_string().starts_with("sandbox violation"), "{error}");
        assert!(!error.to_string().contains("succeeded"), "{name}: {error}");
    }
}

/// The test of the test: with nothing around it each of the deeds is possible, or fails for its arguments alone.
pub(crate) async fn forbidden_calls_are_possible_outside_of_the_jail() {
    for name in native::FORBIDDEN {
        let output = Command::new(std::env::current_exe().unwrap()).args(["__deed", name]).output().unwrap();
        let status = output.status;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            std::os::unix::process::ExitStatusExt::signal(&status) != Some(Signal::SYS.as_raw()),
            "{name} {status} {text}"
        );
        assert!(
            text.contains("succeeded") || text.contains("errno") || *name == "exec",
            "{name} {status}: {text}"
        );
    }
}

pub(crate) async fn files_are_out_of_reach() {
    let home = tempfile::tempdir().unwrap();
    let vault = home.path().join("vault.db");
    fs::write(&vault, "sealed").unwrap();
    fs::set_permissions(&vault, fs::Permissions::from_mode(0o600)).unwrap();
    let path = vault.to_str().unwrap();
    let broker = std::process::id();

    // Without mounts no file can be opened at all.
    for path in [path, "/proc/self/mem", &format!("/proc/{broker}/mem"), "/etc/passwd", "/", "."] {
        assert_eq!(said(attempt("open", path).await), "errno 13", "{path}");
    }
    // With one there is nothing beside it.
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("known"), "known").unwrap();
    let inside = data.path().canonicalize().unwrap().join("known");
    for path in [
        path,
        "/proc/self/mem",
        &format!("/proc/{broker}/mem"),
        "/etc/passwd",
        "../../../../../../etc/passwd",
    ] {
        let worker = treacherous("noop", vec![mount(data.path(), "/data", false)]).await;
        let expected = not_there(&worker);
        assert_eq!(said(attempt_in(&worker, "open", path).await), expected, "{path}");
    }
    let worker = treacherous("noop", vec![mount(data.path(), "/data", false)]).await;
    assert_eq!(said(attempt_in(&worker, "open", inside.to_str().unwrap()).await), "succeeded");
    // A path that is not there has no metadata and no times either.
    for name in ["stat", "touch"] {
        let worker = treacherous("noop", vec![mount(data.path(), "/data", true)]).await;
        // Landlock alone has no say in these.
        if granted(worker.jail()) {
            assert_eq!(said(attempt_in(&worker, name, path).await), "errno 2", "{name}");
        }
    }
    assert_eq!(fs::read_to_string(&vault).unwrap(), "sealed");
}

pub(crate) async fn a_read_only_mount_cannot_be_changed_and_none_executed() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().canonicalize().unwrap().join("file");
    fs::write(&path, "as it was").unwrap();
    let path = path.to_str().unwrap();
    for writable in [false, true] {
        let worker = treacherous("noop", vec![mount(data.path(), "/data", writable)]).await;
        let expected = if writable { "succeeded" } else { not_to_be_written(&worker) };
        assert_eq!(said(attempt_in(&worker, "write", path).await), expected);
    }
    assert_eq!(fs::read_to_string(path).unwrap(), "changed");
    // Not even a mount that may be written to can be given another mode, or have devices and sockets made in it.
    for name in ["chmod", "mknod", "exec"] {
        let worker = treacherous("noop", vec![mount(data.path(), "/data", true)]).await;
        let error = attempt_in(&worker, name, path).await;
        assert!(matches!(error, WorkerError::Violation { .. }), "{name}: {error}");
    }
}

pub(crate) async fn another_runs_mount_is_out_of_reach() {
    let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = theirs.path().canonicalize().unwrap().join("secret");
    fs::write(&secret, "theirs").unwrap();
    let other = treacherous("noop", vec![mount(theirs.path(), "/data", false)]).await;
    let worker = treacherous("noop", vec![mount(mine.path(), "/data", true)]).await;
    let expected = not_there(&worker);
    assert_eq!(said(attempt_in(&worker, "open", secret.to_str().unwrap()).await), expected);
    // The same deed, by the worker that it was mounted in.
    assert_eq!(said(attempt_in(&other, "open", secret.to_str().unwrap()).await), "succeeded");
}

/// A folder that was judged, and then replaced by a link to another before the worker is started.
pub(crate) async fn a_link_in_the_place_of_a_mount_is_not_followed() {
    let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = elsewhere.path().canonicalize().unwrap().join("secret");
    fs::write(&secret, "elsewhere").unwrap();
    let judged = Mount {
        host: place.path().canonicalize().unwrap().join("data"),
        guest: "/data".to_owned(),
        writable: false,
    };
    std::os::unix::fs::symlink(elsewhere.path(), &judged.host).unwrap();
    let worker = treacherous("noop", vec![judged.clone()]).await;
    let mut with = spec("");
    with.mounts.push(judged.clone());
    let error = worker.run(with, RunIo::default()).await.unwrap_err();
    assert!(matches!(&error, WorkerError::Rejected { message } if message.contains("a link")), "{error}");
    let (through, expected) = (judged.host.join("secret"), not_there(&worker));
    assert_eq!(said(attempt_in(&worker, "open", through.to_str().unwrap()).await), expected);
}

pub(crate) async fn nested_mounts_have_their_own_rights() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let file = |folder: &Path| folder.canonicalize().unwrap().join("file").to_str().unwrap().to_owned();
    let mounts = || vec![mount(&inner, "/inner", true), mount(outer.path(), "/outer", false)];
    for (path, writable) in [(file(&inner), true), (file(outer.path()), false)] {
        let worker = treacherous("noop", mounts()).await;
        let expected = if writable { "succeeded" } else { not_to_be_written(&worker) };
        assert_eq!(said(attempt_in(&worker, "write", &path).await), expected, "{path}");
    }
}

/// Somebody renames a mounted folder in another mount, back and forth, while workers are started with both. Each has its root,
/// and the folder or a reason, and nothing is made in its place.
pub(crate) async fn a_nested_mount_that_is_moved_costs_its_run_and_no_layer() {
    let outer = tempfile::tempdir().unwrap();
    let (inner, aside) = (outer.path().join("inner"), outer.path().join("aside"));
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("file"), "inner").unwrap();
    let mounts = vec![mount(outer.path(), "/outer", true), mount(&inner, "/inner", false)];
    let layer = |worker: &Worker| worker.jail().get(LayerName::Root).cloned();
    let expected = layer(&mounted("noop", mounts.clone()).await);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let moving = {
        let (stop, inner, aside) = (std::sync::Arc::clone(&stop), inner.clone(), aside.clone());
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&inner, &aside).unwrap();
                fs::rename(&aside, &inner).unwrap();
            }
        })
    };
    let mut refused = 0;
    for _ in 0..25 {
        let worker = mounted("noop", mounts.clone()).await;
        assert_eq!(layer(&worker), expected);
        let mut with = spec("");
        with.mounts.clone_from(&mounts);
        match worker.run(with, RunIo::default()).await {
            Ok(outcome) => assert_eq!(outcome.exit, Exit::Status(0)),
            Err(WorkerError::Rejected { message }) => {
                assert!(message.contains("moved") || message.contains("No such file"), "{message}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    moving.join().unwrap();
    println!("{refused} of 25 runs were refused");
    assert_eq!(
        fs::read_dir(outer.path()).unwrap().count(),
        1,
        "no folder was made in the place of the other"
    );
    assert_eq!(fs::read_to_string(inner.join("file")).unwrap(), "inner");
}

pub(crate) async fn scratch_folders_give_no_more_rights_than_a_mount() {
    let path = "/scratch-0/0/file";
    for (name, path, expected) in [
        ("write", path, Some("succeeded")),
        ("open", "/scratch-0/../etc/passwd", Some("errno 2")),
        ("write", "/file", Some("errno 30")),
        ("exec", path, None),
        ("chmod", path, None),
        ("mknod", path, None),
    ] {
        let scratch = Some(Scratch { guests: vec!["/tmp".to_owned()], bytes: 1 << 20, files: 10 });
        let worker = treacherous_with("noop", WorkerConfig { scratch, ..config() }).await;
        if !granted(worker.jail()) {
            return;
        }
        let error = attempt_in(&worker, name, path).await;
        match expected {
            Some(expected) => assert_eq!(said(error), expected, "{name} {path}"),
            None => assert!(matches!(error, WorkerError::Violation { .. }), "{name}: {error}"),
        }
    }
}

pub(crate) async fn an_undeclared_mount_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let worker = worker("noop").await;
    let mut with = spec("");
    with.mounts.push(mount(data.path(), "/data", false));
    let error = worker.run(with, RunIo::default()).await.unwrap_err();
    assert!(matches!(&error, WorkerError::BadSpec { message } if message.contains("mount")), "{error}");
}

/// What is refused, and not punished, because libraries try it.
pub(crate) async fn threads_are_started_and_processes_are_not() {
    assert_eq!(said(attempt("clone3", "").await), "errno 38");
    assert_eq!(said(attempt("thread", "").await), "succeeded");
}

pub(crate) async fn a_violation_ends_every_run_and_the_next_worker_is_fine() {
    let worker = treacherous("spinner", Vec::new()).await;
    let (spins, is_spinning) = tokio::sync::oneshot::channel();
    let innocent = async {
        let (stderr, speaks) = mpsc::channel(4);
        let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
        let spinning = async {
            until_it_speaks(speaks).await;
            let _ = spins.send(());
        };
        let (outcome, ()) = tokio::join!(worker.run(spec(""), io), spinning);
        outcome
    };
    let (started, has_started) = tokio::sync::oneshot::channel();
    let guilty = async {
        let (stderr, speaks) = mpsc::channel(4);
        let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
        let spinning = async {
            until_it_speaks(speaks).await;
            let _ = started.send(());
        };
        let deed = async {
            has_started.await.unwrap();
            is_spinning.await.unwrap();
            worker.run(deed("socket", ""), RunIo::default()).await
        };
        let (spun, (), done) = tokio::join!(worker.run(spec(""), io), spinning, deed);
        (spun, done)
    };
    let (first, (second, third)) = tokio::join!(innocent, guilty);
    for outcome in [first, second, third] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, WorkerError::Violation { pid, .. } if pid == worker.pid()), "{error}");
    }
    assert!(!worker.is_alive());
    // Nobody can be given to it any more, and another one works.
    let error = worker.run(spec(""), RunIo::default()).await.unwrap_err();
    assert!(matches!(error, WorkerError::Violation { .. }), "{error}");
    let next = treacherous("noop", Vec::new()).await;
    assert_eq!(*run(&next, spec("")).await.exit(), Exit::Status(0));
}

/// The broker is killed without a chance to clean up, while its worker stands still and cannot notice anything.
pub(crate) async fn a_worker_does_not_outlive_its_broker() {
    for how in ["spinner", "stop"] {
        let mut broker = Command::new(std::env::current_exe().unwrap())
            .args(["__broker", how])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(broker.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let worker = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        if how == "stop" {
            stands_still(pid).await;
        }
        kill_process(Pid::from_child(&broker), Signal::KILL).unwrap();
        broker.wait().unwrap();
        let mut gone = [PollFd::new(&worker, PollFlags::IN)];
        let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut gone, Some(&patience)).unwrap(), 1, "{how}: the worker is still there");
    }
}

async fn stands_still(pid: Pid) {
    let began = Instant::now();
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let state = stat.rsplit_once(") ").unwrap().1.chars().next();
        if state == Some('T') {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it does not stop: {stat}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A broker for the test above: starts a worker and a run, says its worker's process id, and stays.
pub(crate) fn broker(how: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let worker = treacherous("spinner", Vec::new()).await;
        let spec = if how == "stop" { deed("stop", "") } else { spec("") };
        let (stderr, speaks) = mpsc::channel(4);
        let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
        let speak = async {
            if how != "stop" {
                until_it_speaks(speaks).await;
            }
            println!("{}", worker.pid());
        };
        let (outcome, ()) = tokio::join!(worker.run(spec, io), speak);
        panic!("{outcome:?}");
    })
}

pub(crate) async fn a_compile_jail_is_jailed_too() {
    let compiler = crate::support::compiler();
    let report = compiler.probe().await.unwrap();
    granted(&report);
    // Without what is required nothing is compiled.
    let unjailed = orch_runner::Compiler::new(this_program("__unjailed"), Default::default())
        .requiring(Requirement::of([LayerName::Seccomp]));
    let error = unjailed.compile(crate::support::guest("noop")).await.unwrap_err();
    assert!(matches!(error, CompileError::Unjailed { .. }), "{error}");
    assert!(error.to_string().contains("seccomp: "), "{error}");
}
