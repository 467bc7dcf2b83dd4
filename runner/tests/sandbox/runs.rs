//! Runs that end by themselves, or because somebody wants them to.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use orch_runner::{Exit, Input, Mount, RunIo, RunSpec, WorkerError};
use tokio::sync::mpsc;

use crate::support::{
    Closed, artifact, config, mounted, run, spec, this_program, try_run, until_it_speaks, worker,
};

pub(crate) async fn a_guest_that_does_nothing_succeeds() {
    let worker = worker("noop").await;
    let ran = run(&worker, spec("")).await;
    assert_eq!(*ran.exit(), Exit::Status(0));
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (0, 0));
    let usage = ran.outcome.usage;
    assert!(
        usage.cpu_us > 0 && usage.wall_us >= usage.cpu_us / 2 && usage.memory_peak >= 64 << 10,
        "{usage:?}"
    );
}

pub(crate) async fn input_becomes_output() {
    let worker = worker("echo").await;
    for input in ["{}", "{\"text\":\"größer als ASCII\"}"] {
        let ran = run(&worker, spec(input)).await;
        assert_eq!(*ran.exit(), Exit::Status(0), "{ran:?}");
        assert!(ran.stdout().contains(input.trim_matches(['{', '}'])), "{ran:?}");
        assert_eq!(ran.outcome.usage.stdout_bytes, ran.stdout.len() as u64);
    }
}

pub(crate) async fn a_core_module_runs_like_a_component() {
    let (component, core) = (worker("echo").await, worker("echo-core").await);
    let input = "{\"a\":[1,2,3]}";
    let (one, two) = (run(&component, spec(input)).await, run(&core, spec(input)).await);
    assert_eq!(*two.exit(), Exit::Status(0), "{two:?}");
    assert_eq!(one.stdout(), two.stdout());
}

pub(crate) async fn long_input_is_streamed() {
    let worker = worker("echo").await;
    let long = format!("\"{}\"", "x".repeat(3 << 20));
    let too_long = run_error(&worker, spec(&long)).await;
    assert!(matches!(too_long, WorkerError::BadSpec { .. }), "{too_long}");

    let chunks: Vec<Bytes> = long.as_bytes().chunks(10_000).map(Bytes::copy_from_slice).collect();
    let frames = chunks.into_iter().map(|chunk| Ok(Frame::data(chunk)));
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let streamed = RunSpec { input: Input::Stream, ..spec("") };
    let ran = try_run(&worker, streamed, Some(body)).await.unwrap();
    assert_eq!(*ran.exit(), Exit::Status(0), "{}", ran.stderr());
    assert!(ran.stdout().contains(&long), "{} bytes came back", ran.stdout.len());
}

pub(crate) async fn the_environment_and_arguments_are_what_was_given() {
    let worker = worker("snoop").await;
    let mut spec = spec("{}");
    spec.env = vec![("ONE".into(), "1".into()), ("PLACEHOLDER".into(), "orch_ph_x".into())];
    spec.args = vec!["first".into(), "second".into()];
    let found = run(&worker, spec).await.json();
    assert_eq!(found["environment"], serde_json::json!({ "ONE": "1", "PLACEHOLDER": "orch_ph_x" }));
    assert_eq!(found["arguments"], serde_json::json!(["agent", "first", "second"]));
    // No mounts: no file could be found or made.
    assert_eq!(found["files"], serde_json::json!([]));
    assert!(found["written"].as_object().unwrap().values().all(|outcome| outcome != "written"), "{found}");
}

pub(crate) async fn a_failing_guest_has_its_status() {
    let worker = worker("exit7").await;
    // The wasip1 adapter knows success and failure only.
    assert_eq!(*run(&worker, spec("")).await.exit(), Exit::Status(1));
}

pub(crate) async fn a_trap_is_described() {
    let worker = worker("trap").await;
    let ran = run(&worker, spec("")).await;
    let Exit::Trap { message } = ran.exit() else { panic!("{ran:?}") };
    assert!(
        message.starts_with("wasm trap: wasm `unreachable`") && message.contains("backtrace"),
        "{message}"
    );
    assert!(ran.stderr().contains("this guest traps on purpose"), "{}", ran.stderr());
    // The worker goes on.
    assert!(matches!(run(&worker, spec("")).await.exit(), Exit::Trap { .. }));
}

pub(crate) async fn many_runs_share_a_worker() {
    let worker = worker("echo").await;
    // More than the pool holds: the rest wait for room.
    let runs = (0..100).map(|number| {
        let worker = &worker;
        async move {
            let ran = run(worker, spec(&format!("{{\"number\":{number}}}"))).await;
            assert_eq!(*ran.exit(), Exit::Status(0), "{ran:?}");
            assert!(ran.stdout().contains(&format!("\"number\":{number}")), "{ran:?}");
        }
    });
    join_all(runs).await;
}

pub(crate) async fn cancelling_stops_a_busy_guest() {
    let worker = worker("spinner").await;
    let (stderr, speaks) = mpsc::channel(4);
    let spec = spec("");
    let run = spec.run.clone();
    let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
    let (outcome, ()) = tokio::join!(worker.run(spec, io), async {
        until_it_speaks(speaks).await;
        worker.cancel(&run);
        worker.cancel(&run);
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.exit, Exit::Cancelled);
    assert!(outcome.usage.cpu_us > 0);
    worker.cancel(&run);
}

pub(crate) async fn dropping_the_future_stops_a_busy_guest() {
    let mut config = config();
    config.pool.runs = 1;
    let (command, artifact) = (this_program("__worker"), artifact("spinner").await);
    let worker = orch_runner::Worker::start(&command, artifact, config, Arc::new(Closed)).await.unwrap();
    for _ in 0..3 {
        let (stderr, speaks) = mpsc::channel(4);
        let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
        // There is room for one: this gets a turn only because the one before it was stopped.
        tokio::select! {
            outcome = worker.run(spec(""), io) => panic!("{outcome:?}"),
            () = until_it_speaks(speaks) => {}
        }
    }
}

pub(crate) async fn a_run_that_cannot_be_set_up_is_rejected() {
    let nowhere = Mount { host: "/nonexistent/folder".into(), guest: "/data".into(), writable: false };
    let worker = mounted("noop", vec![nowhere.clone()]).await;
    let mut missing = spec("");
    missing.mounts.push(nowhere);
    let error = run_error(&worker, missing).await;
    assert!(
        matches!(&error, WorkerError::Rejected { message } if message.contains("/nonexistent/folder")),
        "{error}"
    );

    let mut large = spec("");
    large.limits.memory = config().pool.memory + 1;
    let error = run_error(&worker, large).await;
    assert!(matches!(error, WorkerError::BadSpec { .. }), "{error}");

    let mut bad = spec("");
    bad.env.push(("A=B".into(), "C".into()));
    let error = run_error(&worker, bad).await;
    assert!(matches!(error, WorkerError::BadSpec { .. }), "{error}");
    assert_eq!(*run(&worker, spec("")).await.exit(), Exit::Status(0));
}

pub(crate) async fn mounts_are_visible_and_read_only_unless_writable() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("known.txt"), "known contents").unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.txt"), "out of reach").unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
    for writable in [false, true] {
        let mut spec = spec("{\"paths\":[\"/tmp/link/secret.txt\",\"/tmp/../etc/passwd\"]}");
        let host = folder.path().canonicalize().unwrap();
        spec.mounts.push(Mount { host, guest: "/tmp".into(), writable });
        let worker = mounted("snoop", spec.mounts.clone()).await;
        let ran = run(&worker, spec).await;
        let found = ran.json();
        assert!(ran.stdout().contains("known contents"), "{found}");
        assert!(!ran.stdout().contains("out of reach") && !ran.stdout().contains("root:"), "{found}");
        assert_eq!(found["written"]["/tmp/snoop-was-here"] == "written", writable, "{found}");
        assert_eq!(folder.path().join("snoop-was-here").exists(), writable);
    }
}

pub(crate) async fn shutting_down_lets_runs_finish() {
    let worker = worker("slow").await;
    let (stderr, speaks) = mpsc::channel(4);
    let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
    let (outcome, ()) = tokio::join!(worker.run(spec("{\"ms\":300}"), io), async {
        until_it_speaks(speaks).await;
        worker.shutdown().await;
    });
    assert_eq!(outcome.unwrap().exit, Exit::Status(0));
    assert!(!std::path::Path::new(&format!("/proc/{}", worker.pid())).exists());
    let error = run_error(&worker, spec("{\"ms\":1}")).await;
    assert!(matches!(error, WorkerError::ShuttingDown), "{error}");
}

async fn run_error(worker: &orch_runner::Worker, spec: RunSpec) -> WorkerError {
    try_run(worker, spec, None).await.unwrap_err()
}
