//! Guests that attack their host, each beside a neighbour in the same worker that must not notice.

use std::sync::OnceLock;
use std::time::Duration;

use orch_runner::{Artifact, Exit, LimitName, RunLimits, RunSpec, Worker};
use tokio::sync::OnceCell;

use crate::PATIENCE;
use crate::support::{Closed, compiler, config, run, spec, this_program, wat};

const MIB: u64 = 1 << 20;

/// What a guest of `hostile.wat` does with that many arguments.
#[derive(Debug, Clone, Copy)]
enum Attack {
    Spin = 1,
    Recursion,
    IndirectRecursion,
    HostCalls,
    RandomBytes,
    Fill,
    MemoryGrowth,
    TableGrowth,
    Pollables,
    Sleep,
    LogFlood,
    OutputFlood,
}

/// The same for `resources.wat`.
#[derive(Debug, Clone, Copy)]
enum Resources {
    Fields = 1,
    SpinInRealloc,
    GiantMethods,
    LongestString,
}

/// What the end of an attack must be.
enum Ends {
    Limit(LimitName),
    /// With a trap whose description holds this.
    Trap(&'static str),
}

/// The bound where processor time is what runs out.
const LITTLE_CPU: Duration = Duration::from_millis(200);

/// More processor time, and time, than a test has: however slow the machine, neither ends what should end by something else.
fn limits() -> RunLimits {
    RunLimits { memory: 128 * MIB, cpu: PATIENCE, time: PATIENCE, output: MIB, log: 100_000, resources: 500 }
}

fn hostile(arguments: usize, limits: RunLimits) -> RunSpec {
    let mut spec = spec("");
    spec.args = vec!["-".to_owned(); arguments];
    spec.limits = limits;
    spec
}

/// Carries out an attack and, as soon as it is under way and until it is over, runs of a neighbour. Each of those
/// must succeed.
async fn attack(worker: &Worker, name: &str, spec: RunSpec, ends: &Ends) {
    let limits = spec.limits;
    let attack = async { run(worker, spec).await };
    let neighbour = async {
        let ran = run(worker, hostile(0, RunLimits::default())).await;
        assert_eq!(*ran.exit(), Exit::Status(0), "beside {name}: {ran:?}");
    };
    let (ran, ()) = tokio::join!(attack, neighbour);
    match (ran.exit(), ends) {
        (Exit::Limit { name: hit, used, limit }, Ends::Limit(expected)) => {
            assert_eq!(hit, expected, "{name}");
            let bound = match expected {
                LimitName::Memory => limits.memory,
                LimitName::Cpu => u64::try_from(limits.cpu.as_micros()).unwrap(),
                LimitName::Time => u64::try_from(limits.time.as_micros()).unwrap(),
                LimitName::Output => limits.output,
                LimitName::Log => limits.log,
                LimitName::Resources => limits.resources.into(),
                LimitName::Scratch | LimitName::ScratchFiles => unreachable!("it has no scratch folders"),
            };
            assert!(*limit == bound && used > limit, "{name}: {used} of {limit}");
        }
        (Exit::Trap { message }, Ends::Trap(expected)) => {
            assert!(message.contains(expected), "{name}: {message}");
        }
        (exit, _) => panic!("{name}: {exit:?}"),
    }
    assert!(worker.is_alive(), "{name}");
    assert!(ran.outcome.usage.memory_peak <= limits.memory, "{name}: {:?}", ran.outcome.usage);
    // And afterwards.
    let ran = run(worker, hostile(0, RunLimits::default())).await;
    assert_eq!(*ran.exit(), Exit::Status(0), "after {name}: {ran:?}");
}

async fn worker(name: &str, artifact: &OnceCell<Artifact>) -> Worker {
    let made = async { Artifact::anonymous(&compiler().compile(wat(name)).await.unwrap()).unwrap() };
    let artifact = artifact.get_or_init(|| made).await.try_clone().unwrap();
    Worker::start(&this_program("__worker"), artifact, config(), std::sync::Arc::new(Closed)).await.unwrap()
}

async fn core_worker() -> Worker {
    static ARTIFACT: OnceLock<OnceCell<Artifact>> = OnceLock::new();
    worker("hostile", ARTIFACT.get_or_init(OnceCell::new)).await
}

async fn component_worker() -> Worker {
    static ARTIFACT: OnceLock<OnceCell<Artifact>> = OnceLock::new();
    worker("resources", ARTIFACT.get_or_init(OnceCell::new)).await
}

pub(crate) async fn processors() {
    let worker = core_worker().await;
    for what in [Attack::Spin, Attack::HostCalls, Attack::Fill] {
        let tight = RunLimits { cpu: LITTLE_CPU, ..limits() };
        let ends = Ends::Limit(LimitName::Cpu);
        attack(&worker, &format!("{what:?}"), hostile(what as usize, tight), &ends).await;
    }
    let time = RunLimits { time: Duration::from_millis(300), ..limits() };
    attack(&worker, "Sleep", hostile(Attack::Sleep as usize, time), &Ends::Limit(LimitName::Time)).await;
}

pub(crate) async fn stacks() {
    let worker = core_worker().await;
    for what in [Attack::Recursion, Attack::IndirectRecursion] {
        let ends = Ends::Trap("call stack exhausted");
        attack(&worker, &format!("{what:?}"), hostile(what as usize, limits()), &ends).await;
    }
}

pub(crate) async fn memory() {
    let worker = core_worker().await;
    let ends = Ends::Limit(LimitName::Memory);
    attack(&worker, "MemoryGrowth", hostile(Attack::MemoryGrowth as usize, limits()), &ends).await;
    // The guest and its adapter have six pages, and tables of 800,000 bytes at most.
    let tight = RunLimits { memory: 700_000, ..limits() };
    attack(&worker, "TableGrowth", hostile(Attack::TableGrowth as usize, tight), &ends).await;
    let random = hostile(Attack::RandomBytes as usize, limits());
    attack(&worker, "RandomBytes", random, &Ends::Trap("exceeds limit")).await;
}

pub(crate) async fn streams() {
    let worker = core_worker().await;
    for (what, limit) in [(Attack::OutputFlood, LimitName::Output), (Attack::LogFlood, LimitName::Log)] {
        attack(&worker, &format!("{what:?}"), hostile(what as usize, limits()), &Ends::Limit(limit)).await;
    }
}

pub(crate) async fn resources() {
    let ends = Ends::Limit(LimitName::Resources);
    let core = core_worker().await;
    attack(&core, "Pollables", hostile(Attack::Pollables as usize, limits()), &ends).await;
    let worker = component_worker().await;
    attack(&worker, "Fields", hostile(Resources::Fields as usize, limits()), &ends).await;
    // What they hold counts, and not only how many there are.
    let ends = Ends::Limit(LimitName::Memory);
    let giants = hostile(Resources::GiantMethods as usize, RunLimits { memory: 32 * MIB, ..limits() });
    attack(&worker, "GiantMethods", giants, &ends).await;
    let longest = hostile(Resources::LongestString as usize, limits());
    attack(&worker, "LongestString", longest, &Ends::Trap("fuel")).await;
}

pub(crate) async fn inside_a_call() {
    let worker = component_worker().await;
    let spec = hostile(Resources::SpinInRealloc as usize, RunLimits { cpu: LITTLE_CPU, ..limits() });
    attack(&worker, "SpinInRealloc", spec, &Ends::Limit(LimitName::Cpu)).await;
}

/// All of them at once, and neighbours that all the same do not wait.
pub(crate) async fn everything_at_once() {
    let worker = core_worker().await;
    let endless =
        [Attack::Spin, Attack::HostCalls, Attack::Fill, Attack::Sleep, Attack::Spin, Attack::HostCalls];
    let hogs = endless.map(|what| Box::pin(run(&worker, hostile(what as usize, limits()))));
    let neighbours = async {
        for _ in 0..20 {
            let ran = run(&worker, hostile(0, RunLimits::default())).await;
            assert_eq!(*ran.exit(), Exit::Status(0), "{ran:?}");
        }
    };
    tokio::select! {
        (ran, _, _) = futures_util::future::select_all(hogs) => panic!("it does not end: {ran:?}"),
        () = neighbours => {}
    }
}
