//! What runs that spin cost the ones beside them, in the same worker.
//!
//! 100 callers start a run that does nothing, wait for its end, think for a while and start the next; 100 agents
//! wait for something over and over and do a little each time. That is measured twice in turn: by themselves, and
//! beside 100 runs that never return. The first is what a caller waits for, the second how late an agent gets its
//! turn. A 99th percentile of that beyond the target fails. A hundred hogs that begin in the same moment are a hundred runs to set
//! up, and not yet known to be some: the second row of each pair has what came in that time, the first half second of a round.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it reports to a terminal and may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "every handle is kept and joined")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::{Request, Response};
use orch_manifests::RunId;
use orch_runner::{
    Artifact, Body, CompileLimits, Compiler, Door, Exit, Input, LimitName, Pool, RefusalCode, RunIo,
    RunLimits, RunSpec, Token, Worker, WorkerCommand, WorkerConfig, refused,
};
use tokio::sync::mpsc;
use tokio::time::sleep;

const HOGS: usize = 100;
/// Callers, and agents.
const HONEST: usize = 100;
/// Runs of each caller in a round, and how long it thinks between them.
const RUNS: u32 = 60;
const THINKING: Duration = Duration::from_millis(150);
/// How long an agent waits between two bytes.
const PAUSE: Duration = Duration::from_millis(100);
const ROUNDS: usize = 3;
/// While the hogs are set up and made out.
const BEGINNING: Duration = Duration::from_millis(500);
/// The longest that the 99th percentile may be.
const TARGET: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("__compile") => orch_runner::compile_main(),
        Some("__worker") => orch_runner::worker_main(),
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(compare()),
    }
}

async fn compare() -> ExitCode {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/wat/neighbour.wat");
    let compiler = Compiler::new(WorkerCommand::this_program("__compile").unwrap(), CompileLimits::default());
    let compiled = compiler.compile(wat::parse_file(guest).unwrap().into()).await.unwrap();
    let artifact = Artifact::anonymous(&compiled).unwrap();
    let pool = Pool { runs: 2 * HONEST as u32 + HOGS as u32, memory: 256 << 20, yielding: true };
    let config = WorkerConfig { pool, ..WorkerConfig::default() };
    let command = WorkerCommand::this_program("__worker").unwrap();
    let worker = Arc::new(Worker::start(&command, artifact, config, Arc::new(Closed)).await.unwrap());

    // It warms up.
    honest(&worker, 3).await;
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let (runs, turns) = honest(&worker, RUNS).await;
        times[0].extend(runs);
        times[2].extend(turns);
        let hogs = join_all((0..HOGS).map(|_| hog(&worker)));
        let (runs, turns) = tokio::select! {
            measured = honest(&worker, RUNS) => measured,
            _ = hogs => panic!("hogs do not end by themselves"),
        };
        times[1].extend(runs);
        times[3].extend(turns);
        // Those that were dropped are stopped meanwhile.
        sleep(Duration::from_millis(500)).await;
    }
    println!(
        "{HONEST} callers and {HONEST} agents, {ROUNDS} rounds each            p50        p99        max"
    );
    let mut worst = Duration::ZERO;
    for (name, times) in [
        "a run, without hogs",
        "a run, beside 100 hogs",
        "an agent's turn is late by, without hogs",
        "an agent's turn is late by, beside 100 hogs",
    ]
    .iter()
    .zip(&times)
    {
        worst = worst.max(show(name, times.iter().map(|(_, took)| *took).collect()));
        let first = times.iter().filter(|(since, _)| *since < BEGINNING).map(|(_, took)| *took).collect();
        show("    in the first half second of a round", first);
    }
    println!("target for each p99: {TARGET:?}");
    if worst <= TARGET { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a row; returns its 99th percentile.
fn show(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{name:<48} {:>9.2?}  {:>9.2?}  {:>9.2?}", at(0.5), at(0.99), at(1.0));
    at(0.99)
}

/// When in a round something ended, and how long it took.
type Timed = (Duration, Duration);

/// How long the callers' runs took, and how late the agents' turns were.
async fn honest(worker: &Arc<Worker>, runs: u32) -> (Vec<Timed>, Vec<Timed>) {
    let round = Instant::now();
    let callers = (0..HONEST as u32).map(|number| {
        let worker = Arc::clone(worker);
        tokio::spawn(async move {
            // Not all at the same moment, which would measure how many fit into one.
            sleep(THINKING * number / HONEST as u32).await;
            let mut took = Vec::new();
            for _ in 0..runs {
                let began = Instant::now();
                let outcome = worker.run(spec(0), RunIo::default()).await.unwrap();
                took.push((round.elapsed(), began.elapsed()));
                assert_eq!(outcome.exit, Exit::Status(0));
                sleep(THINKING).await;
            }
            took
        })
    });
    let agents = (0..HONEST as u32).map(|number| {
        let worker = Arc::clone(worker);
        tokio::spawn(async move {
            sleep(PAUSE * number / HONEST as u32).await;
            turns(&worker, round).await
        })
    });
    let (callers, agents): (Vec<_>, Vec<_>) = (callers.collect(), agents.collect());
    let (callers, agents) = tokio::join!(join_all(callers), join_all(agents));
    let all = |of: Vec<Result<Vec<Timed>, _>>| of.into_iter().flat_map(Result::unwrap).collect();
    (all(callers), all(agents))
}

/// How much later than its pause each byte of an agent came after the one before it.
async fn turns(worker: &Worker, round: Instant) -> Vec<Timed> {
    let (stderr, mut written) = mpsc::channel::<Bytes>(64);
    let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
    let listen = async {
        let (mut last, mut late) = (None::<Instant>, Vec::new());
        while written.recv().await.is_some() {
            let now = Instant::now();
            late.extend(last.map(|last| (now - round, (now - last).saturating_sub(PAUSE))));
            last = Some(now);
        }
        late
    };
    let (outcome, late) = tokio::join!(worker.run(spec(2), io), listen);
    assert_eq!(outcome.unwrap().exit, Exit::Status(0));
    late
}

async fn hog(worker: &Worker) {
    let outcome = worker.run(spec(1), RunIo::default()).await.unwrap();
    assert!(matches!(outcome.exit, Exit::Limit { name: LimitName::Cpu, .. }), "{outcome:?}");
}

/// A run with so many arguments, which decide what it does.
fn spec(arguments: usize) -> RunSpec {
    RunSpec {
        run: RunId::random(),
        token: Token::new(RunId::random().to_string()),
        args: vec![String::new(); arguments],
        env: Vec::new(),
        input: Input::Inline(String::new()),
        limits: RunLimits::default(),
        mounts: Vec::new(),
    }
}

struct Closed;

impl Door for Closed {
    fn request<'a>(&'a self, _: &'a str, _: Request<Body>) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async { refused(RefusalCode::Denied) })
    }
}
