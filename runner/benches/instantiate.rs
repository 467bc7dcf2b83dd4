//! One run of a guest that does nothing: as a worker does it, against bare wasmtime.
//!
//! Both sides have the same engine settings, the same component and a single thread. "Bare" is what a program that
//! only uses wasmtime and wasmtime-wasi would write: a store with an empty context, instantiate, call, drop. The
//! worker's side is its own code for a run: limits, meter, standard streams, the way out. Rounds alternate, so that
//! a machine that slows down slows down both; medians of the rounds are compared, and a ratio above the target
//! fails. What a run costs from the broker's side of the socket is shown beside it.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it reports to a terminal and may fail loudly")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use orch_manifests::RunId;
use orch_runner::engine::{Allocation, engine};
use orch_runner::worker::{Cancel, Sandbox, Wire, WireBody, WireError};
use orch_runner::{
    Artifact, Body, CompileLimits, Compiler, Door, Exit, Input, Pool, RefusalCode, RunIo, RunLimits, RunSpec,
    Token, Worker, WorkerCommand, WorkerConfig, read_module, refused,
};
use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// Rounds of each side.
const ROUNDS: usize = 11;
/// Slices per round, and runs per slice. The two sides alternate by slices.
const SLICES: usize = 40;
const SLICE: u32 = 50;
/// What a worker's run may cost, in runs of bare wasmtime.
const TARGET: f64 = 1.3;

const POOL: Pool = Pool { runs: 100, memory: 256 << 20, yielding: true };

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("__compile") => orch_runner::compile_main(),
        Some("__worker") => orch_runner::worker_main(),
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(compare()),
    }
}

async fn compare() -> ExitCode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/noop/noop.wasm");
    let module = read_module(&path, 1 << 20).unwrap();
    let compiler = Compiler::new(WorkerCommand::this_program("__compile").unwrap(), CompileLimits::default());
    let artifact = Artifact::anonymous(&compiler.compile(module.clone()).await.unwrap()).unwrap();
    let sandbox = Sandbox::load(artifact.try_clone().unwrap(), POOL).unwrap();
    let bare = Bare::load(&module);
    let command = WorkerCommand::this_program("__worker").unwrap();
    let config = WorkerConfig { pool: POOL, ..WorkerConfig::default() };
    let worker = Worker::start(&command, artifact, config, Arc::new(Closed)).await.unwrap();

    // What a worker is told about a run, it is told by the broker.
    let told = spec();
    let mut results = [const { Vec::new() }; 3];
    for round in 0..=ROUNDS {
        let (mut bare_cost, mut inside_cost) = (Cost::default(), Cost::default());
        for slice in 0..SLICES {
            // Who comes first takes turns as well: a scheduler is kinder to what has just been waiting.
            let bare_first = (slice + round) % 2 == 0;
            if bare_first {
                bare_cost += measure(async || bare.run().await).await;
            }
            inside_cost += measure(async || in_sandbox(&sandbox, &told).await).await;
            if !bare_first {
                bare_cost += measure(async || bare.run().await).await;
            }
        }
        let mut socket_cost = Cost::default();
        for _ in 0..SLICES / 10 {
            socket_cost += measure(async || over_the_socket(&worker).await).await;
        }
        // The first round warms up.
        if round > 0 {
            results[0].push(bare_cost / (SLICES as u32 * SLICE));
            results[1].push(inside_cost / (SLICES as u32 * SLICE));
            results[2].push(socket_cost / (SLICES as u32 / 10 * SLICE));
        }
    }
    let [bare, inside, socket] = results.map(|rounds| median(&rounds));
    println!(
        "median of {ROUNDS} interleaved rounds of {} runs, per run     wall        processor",
        SLICES as u32 * SLICE
    );
    for (name, cost) in [
        ("bare wasmtime", bare),
        ("the worker's run", inside),
        ("a run over the socket (broker's share)", socket),
    ] {
        println!("{name:<54} {:>8.1?} {:>12.1?}", cost.wall, cost.cpu);
    }
    let ratio = |part: fn(&Cost) -> Duration| part(&inside).as_secs_f64() / part(&bare).as_secs_f64();
    let (wall, cpu) = (ratio(|cost| cost.wall), ratio(|cost| cost.cpu));
    println!("worker / bare: {wall:.2} wall, {cpu:.2} processor; target {TARGET}");
    if wall <= TARGET { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What runs cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

impl std::ops::Div<u32> for Cost {
    type Output = Cost;

    fn div(self, runs: u32) -> Cost {
        Cost { wall: self.wall / runs, cpu: self.cpu / runs }
    }
}

/// One slice.
async fn measure(mut run: impl AsyncFnMut()) -> Cost {
    let (wall, cpu) = (Instant::now(), processor_time());
    for _ in 0..SLICE {
        run().await;
    }
    Cost { wall: wall.elapsed(), cpu: processor_time() - cpu }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn median(rounds: &[Cost]) -> Cost {
    let middle = |part: fn(&Cost) -> Duration| {
        let mut all: Vec<_> = rounds.iter().map(part).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    Cost { wall: middle(|cost| cost.wall), cpu: middle(|cost| cost.cpu) }
}

fn spec() -> RunSpec {
    RunSpec {
        run: RunId::random(),
        token: Token::new("token"),
        args: Vec::new(),
        env: Vec::new(),
        input: Input::Inline("{}".to_owned()),
        limits: RunLimits::default(),
        mounts: Vec::new(),
    }
}

async fn in_sandbox(sandbox: &Sandbox, spec: &RunSpec) {
    let finished = sandbox.run(spec, Arc::new(Nowhere), &Cancel::default()).await.unwrap();
    assert_eq!(finished.exit, Exit::Status(0));
}

async fn over_the_socket(worker: &Worker) {
    let outcome = worker.run(spec(), RunIo::default()).await.unwrap();
    assert_eq!(outcome.exit, Exit::Status(0));
}

/// A guest that does nothing sends nothing.
struct Nowhere;

impl Wire for Nowhere {
    fn send(&self, _: Request<WireBody>) -> BoxFuture<'static, Result<Response<WireBody>, WireError>> {
        Box::pin(async { Err(WireError) })
    }
}

struct Closed;

impl Door for Closed {
    fn request<'a>(&'a self, _: &'a str, _: Request<Body>) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async { refused(RefusalCode::Denied) })
    }
}

struct Bare {
    engine: Engine,
    command: CommandPre<Context>,
}

struct Context {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl Bare {
    fn load(module: &[u8]) -> Self {
        let engine = engine(Allocation::Pooled(POOL)).unwrap();
        let component = Component::from_binary(&engine, module).unwrap();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        let command = CommandPre::new(linker.instantiate_pre(&component).unwrap()).unwrap();
        Bare { engine, command }
    }

    async fn run(&self) {
        let context = Context { wasi: WasiCtxBuilder::new().build(), table: ResourceTable::new() };
        let mut store = Store::new(&self.engine, context);
        // Nobody advances the epoch here.
        store.set_epoch_deadline(1);
        let command = self.command.instantiate_async(&mut store).await.unwrap();
        command.wasi_cli_run().call_run(&mut store).await.unwrap().unwrap();
    }
}
