//! Every bound of a run, and what reaching it looks like.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use orch_runner::capacity::MAPPINGS_PER_RUN;
use orch_runner::worker::{Cancel, Sandbox, Wire, WireBody, WireError};
use orch_runner::{Exit, LimitName, RunIo, RunSpec, Worker};
use tokio::sync::{mpsc, watch};

use crate::support::{Closed, Ran, artifact, config, run, spec, this_program, until_it_speaks, worker};

const MIB: u64 = 1 << 20;

fn limited(input: &str, set: impl FnOnce(&mut orch_runner::RunLimits)) -> RunSpec {
    let mut spec = spec(input);
    set(&mut spec.limits);
    spec
}

/// The used and the allowed amount.
#[track_caller]
fn hit(ran: &Ran, expected: LimitName) -> (u64, u64) {
    match *ran.exit() {
        Exit::Limit { name, used, limit } if name == expected => (used, limit),
        _ => panic!("expected the limit {expected}: {:?}", ran.outcome),
    }
}

pub(crate) async fn processor_time() {
    let worker = worker("spinner").await;
    let ran = run(&worker, limited("", |limits| limits.cpu = Duration::from_millis(50))).await;
    let (used, limit) = hit(&ran, LimitName::Cpu);
    assert_eq!(limit, 50_000);
    // One epoch late at most, and a generous one for a busy machine, whose ticker has to wait for a processor, too.
    assert!((50_000..5_000_000).contains(&used), "{used} µs");
    assert!(ran.outcome.usage.cpu_us >= used);
    assert!(ran.stderr().contains("spinning"), "what it wrote before is kept");
}

pub(crate) async fn wall_clock_time_of_a_busy_guest() {
    let worker = worker("spinner").await;
    let ran = run(&worker, limited("", |limits| limits.time = Duration::from_millis(80))).await;
    let (used, limit) = hit(&ran, LimitName::Time);
    assert_eq!(limit, 80_000);
    assert!(used >= 80_000, "{used} µs");
}

pub(crate) async fn wall_clock_time_of_a_sleeping_guest() {
    let worker = worker("slow").await;
    // Long enough to come to its sleep on a slow machine.
    let ran = run(&worker, limited("{\"ms\":3600000}", |limits| limits.time = Duration::from_secs(2))).await;
    hit(&ran, LimitName::Time);
    // Sleeping is free.
    assert!(ran.outcome.usage.cpu_us < 1_000_000, "{:?}", ran.outcome.usage);
    assert!(ran.stderr().contains("sleeping") && !ran.stderr().contains("awake"));
}

pub(crate) async fn memory() {
    let worker = worker("hog").await;
    let ran = run(&worker, limited("{}", |limits| limits.memory = 32 * MIB)).await;
    let (used, limit) = hit(&ran, LimitName::Memory);
    assert_eq!(limit, 32 * MIB);
    assert!(used > limit);
    let peak = ran.outcome.usage.memory_peak;
    assert!((16 * MIB..=32 * MIB).contains(&peak), "{peak}");
    // Not even its first page fits.
    let ran = run(&worker, limited("{}", |limits| limits.memory = 64 << 10)).await;
    hit(&ran, LimitName::Memory);
    // The pool's bound is the run's, as it is when a worker serves one run.
    let mut config = config();
    config.pool.memory = 32 * MIB;
    let (command, artifact) = (this_program("__worker"), artifact("hog").await);
    let tight = Worker::start(&command, artifact, config, Arc::new(Closed)).await.unwrap();
    let ran = run(&tight, limited("{}", |limits| limits.memory = 32 * MIB)).await;
    hit(&ran, LimitName::Memory);
    // Within the bound all is well.
    let ran = run(&worker, limited("{\"mib\":8}", |limits| limits.memory = 32 * MIB)).await;
    assert_eq!(*ran.exit(), Exit::Status(0), "{ran:?}");
}

pub(crate) async fn a_polite_refusal_of_memory_is_not_the_limits_doing() {
    let worker = worker("hog").await;
    let ran = run(&worker, limited("{\"polite\":true}", |limits| limits.memory = 32 * MIB)).await;
    assert_eq!(*ran.exit(), Exit::Status(1), "the guest coped: {ran:?}");
}

pub(crate) async fn output() {
    let worker = worker("flood").await;
    let ran = run(&worker, limited("{}", |limits| limits.output = 100_000)).await;
    let (used, limit) = hit(&ran, LimitName::Output);
    assert!(limit == 100_000 && used > limit, "{used}");
    assert_eq!(ran.stdout.len(), 100_000, "everything up to the limit arrives");
    assert_eq!(ran.outcome.usage.stdout_bytes, 100_000);
}

pub(crate) async fn log() {
    let worker = worker("flood").await;
    let ran = run(&worker, limited("{\"stderr\":true}", |limits| limits.log = 5_000)).await;
    hit(&ran, LimitName::Log);
    assert_eq!(ran.stderr.len(), 5_000);
}

pub(crate) async fn open_resources() {
    let worker = worker("wanderer").await;
    let request = "{\"requests\":[{\"url\":\"https://example.org/\"}]}";
    let ran = run(&worker, limited(request, |limits| limits.resources = 3)).await;
    assert_eq!(hit(&ran, LimitName::Resources), (4, 3));
}

pub(crate) async fn slow_readers_stop_the_guest() {
    let worker = worker("flood").await;
    let (stdout, mut out) = mpsc::channel(1);
    let io = RunIo { stdout: Some(stdout), ..RunIo::default() };
    let spec = limited("{}", |limits| {
        limits.output = u64::MAX;
        limits.time = Duration::from_secs(2);
    });
    // Nobody reads: the guest waits until its time is over, with little of an endless output written.
    let outcome = worker.run(spec, io).await.unwrap();
    assert!(matches!(outcome.exit, Exit::Limit { name: LimitName::Time, .. }), "{outcome:?}");
    assert!(outcome.usage.stdout_bytes < 4 * MIB, "{}", outcome.usage.stdout_bytes);
    assert!(out.recv().await.is_some());
}

pub(crate) async fn a_busy_run_does_not_starve_another() {
    let busy = worker("spinner").await;
    // More spinners than threads.
    let spinners = (0..8).map(|_| {
        let (stderr, speaks) = mpsc::channel(4);
        let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
        (busy.run(limited("", |limits| limits.time = Duration::from_secs(600)), io), speaks)
    });
    let (runs, speaks): (Vec<_>, Vec<_>) = spinners.unzip();
    tokio::select! {
        _ = futures_util::future::select_all(runs.into_iter().map(Box::pin)) => panic!("spinners do not end"),
        () = async {
            // Each gets its turn, although the others never stop by themselves.
            for speaks in speaks {
                until_it_speaks(speaks).await;
            }
        } => {}
    }
}

/// What [`orch_runner::capacity`] counts with.
pub(crate) async fn a_run_takes_as_many_mappings_as_are_counted_for_it() {
    const RUNS: usize = 20;
    let sandbox = Sandbox::load(artifact("slow").await, config().pool).unwrap();
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let begun = Arc::new(Begun(watch::Sender::new(0)));
    let spec = limited("{\"ms\":3600000}", |limits| limits.time = Duration::from_secs(60));
    let cancel = Cancel::default();
    let run = || sandbox.run(&spec, Arc::clone(&begun) as Arc<dyn Wire>, &cancel);
    let before = mappings();
    let runs: Vec<_> = (0..RUNS).map(|_| Box::pin(run())).collect();
    let mut all_begun = begun.0.subscribe();
    tokio::select! {
        _ = futures_util::future::join_all(runs) => panic!("they sleep"),
        all = all_begun.wait_for(|begun| *begun == RUNS) => drop(all.unwrap()),
    }
    let each = (mappings() - before).div_ceil(RUNS) as u64;
    assert!(each <= MAPPINGS_PER_RUN, "{each}");
}

/// Counts the runs that have said something.
struct Begun(watch::Sender<usize>);

impl Wire for Begun {
    fn send(&self, _: Request<WireBody>) -> BoxFuture<'static, Result<Response<WireBody>, WireError>> {
        self.0.send_modify(|begun| *begun += 1);
        Box::pin(std::future::pending())
    }
}
