//! A run of a guest that does nothing, from the broker's end of the socket to a warm worker and back.
//!
//! One after another, which is what a caller waits for, and many at once, which is how many there are in a second with all
//! processors of the machine. Everything that HTTP, policy and store add to a run is not in it.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it reports to a terminal and may fail loudly")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use http::{Request, Response};
use orch_manifests::RunId;
use orch_runner::{
    Artifact, Body, CompileLimits, Compiler, Door, Exit, Input, Pool, RefusalCode, RunIo, RunLimits, RunSpec,
    Token, Worker, WorkerCommand, WorkerConfig, read_module, refused,
};

/// Runs one after another, and rounds of many at once; the first tenth of either warms up.
const SINGLE: usize = 5_000;
const ROUNDS: usize = 11;
const ROUND: Duration = Duration::from_millis(700);
/// Runs at once.
const CALLERS: usize = 32;
const LONGEST: Duration = Duration::from_micros(400);
const LEAST: f64 = 4_000.0;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("__compile") => orch_runner::compile_main(),
        Some("__worker") => orch_runner::worker_main(),
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure()),
    }
}

async fn measure() -> ExitCode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/noop/noop.wasm");
    let compiler = Compiler::new(WorkerCommand::this_program("__compile").unwrap(), CompileLimits::default());
    let compiled = compiler.compile(read_module(&path, 1 << 20).unwrap()).await.unwrap();
    let pool = Pool { runs: 100, memory: 256 << 20, yielding: true };
    let config = WorkerConfig { pool, ..WorkerConfig::default() };
    let command = WorkerCommand::this_program("__worker").unwrap();
    let artifact = Artifact::anonymous(&compiled).unwrap();
    let worker = Worker::start(&command, artifact, config, Arc::new(Closed)).await.unwrap();

    let mut times = Vec::new();
    for number in 0..SINGLE + SINGLE / 10 {
        let begun = Instant::now();
        run(&worker).await;
        if number >= SINGLE / 10 {
            times.push(begun.elapsed());
        }
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];

    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let begun = Instant::now();
        let callers = join_all((0..CALLERS).map(|_| async {
            let mut done = 0_u32;
            while begun.elapsed() < ROUND {
                run(&worker).await;
                done += 1;
            }
            done
        }));
        let done: u32 = callers.await.into_iter().sum();
        if round > 0 {
            rates.push(f64::from(done) / begun.elapsed().as_secs_f64());
        }
    }
    rates.sort_unstable_by(f64::total_cmp);
    let rate = rates[rates.len() / 2];

    let said = |holds: bool| if holds { "met" } else { "missed" };
    let (soon, many) = (at(0.5) <= LONGEST, rate >= LEAST);
    println!(
        "one after another: p50 {:.1?} (at most {LONGEST:?}, {}), p99 {:.1?}",
        at(0.5),
        said(soon),
        at(0.99)
    );
    println!("{CALLERS} at once: {rate:.0} runs per second (at least {LEAST}, {})", said(many));
    if soon && many { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(worker: &Worker) {
    let spec = RunSpec {
        run: RunId::random(),
        token: Token::new(RunId::random().to_string()),
        args: Vec::new(),
        env: Vec::new(),
        input: Input::Inline("{}".to_owned()),
        limits: RunLimits::default(),
        mounts: Vec::new(),
    };
    assert_eq!(worker.run(spec, RunIo::default()).await.unwrap().exit, Exit::Status(0));
}

/// A guest that does nothing sends nothing.
struct Closed;

impl Door for Closed {
    fn request<'a>(&'a self, _: &'a str, _: Request<Body>) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async { refused(RefusalCode::Denied) })
    }
}
