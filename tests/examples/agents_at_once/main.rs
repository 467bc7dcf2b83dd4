//! So many agents at once on one server, each in its own sandbox, each reading a streamed reply of a model.
//!
//! `agents_at_once ORCH COUNT…` starts the `orch serve` that ORCH is, and for each COUNT, on a server of its own, so many runs
//! of `tests/guests/reader` at a steady rate. The provider is in this process and speaks HTTP/2 over TLS: a piece every 5 s, 12
//! of them. Prints one column per COUNT and fails where a bound does not hold.
//!
//! - **KiB per agent**: the proportional set size (`smaps_rollup`) of `orch serve` and all of its workers together, taken when
//!   every run has its first piece and none has its last; less the same at rest, after one run; divided by COUNT. So what the
//!   processes are without agents, and the compiled agent that all share, is not in it. This process is not counted.
//! - **delay of a piece**: from before the provider writes it until the guest has read it, by the guest's own clock.
//!
//! `ORCH_BENCH_EVERY_MS` (5000), `ORCH_BENCH_PIECES` (12) and `ORCH_BENCH_RATE` (runs started per second, 400) change the load.

mod client;
mod looks;
mod upstream;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use orch_tests::ca::Ca;
use orch_tests::guests;
use orch_tests::home::{Config, Home};
use orch_tests::orch::Orch;
use orch_tests::server::Server;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use client::Client;
use looks::Look;
use upstream::{Pace, Upstream};

const KEY: &str = "sk-0123456789abcdef0123456789abcdef";
const HOST: &str = "api.openai.com";
const MOST_KIB: f64 = 200.0;
const MOST_P99: Duration = Duration::from_millis(100);
/// Connections that runs are started on.
const CONNECTIONS: usize = 8;
/// How long something that has to happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a measurement came to nothing.
pub(crate) struct Failed(String);
pub(crate) type Result<T> = std::result::Result<T, Failed>;

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// How much of a load.
#[derive(Clone, Copy)]
struct Load {
    pace: Pace,
    /// Runs that are started each second.
    rate: u32,
}

/// What came of one number of agents.
struct Measured {
    agents: usize,
    succeeded: usize,
    /// By the code of their errors.
    failed: BTreeMap<String, usize>,
    rest: Vec<(String, Look)>,
    busy: Vec<(String, Look)>,
    cpu: Vec<(String, f64)>,
    connections: usize,
    took: Duration,
    /// All pieces, in order of their delay.
    late_us: Vec<u64>,
}

fn main() -> ExitCode {
    let said = |line: &str| drop(writeln!(std::io::stderr(), "{line}"));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((orch, counts)) = arguments.split_first().filter(|(_, counts)| !counts.is_empty()) else {
        said("agents_at_once ORCH COUNT…; see its source");
        return ExitCode::from(2);
    };
    let mut measured = Vec::new();
    let mut failed = false;
    for count in counts {
        said(&format!("{count} agents …"));
        let agents = count.parse().map_err(|_| Failed(format!("{count} is no number of agents")));
        match agents.and_then(|agents| measure(orch, agents, load()?)) {
            Ok(one) => measured.push(one),
            Err(Failed(why)) => {
                said(&format!("{count} agents: {why}"));
                failed = true;
            }
        }
    }
    let met = print(&measured);
    if met && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn load() -> Result<Load> {
    let number = |name: &str, default: u32| match std::env::var(name) {
        Ok(text) => {
            text.parse().ok().filter(|n| *n > 0).ok_or_else(|| Failed(format!("{name} is no number")))
        }
        Err(_) => Ok(default),
    };
    let every = Duration::from_millis(number("ORCH_BENCH_EVERY_MS", 5000)?.into());
    let pace = Pace { pieces: number("ORCH_BENCH_PIECES", 12)?, every };
    Ok(Load { pace, rate: number("ORCH_BENCH_RATE", 400)? })
}

fn measure(orch: &str, agents: usize, load: Load) -> Result<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (home, ca) = (Home::new(), Ca::new());
    let upstream = runtime.block_on(Upstream::start(&ca, HOST, load.pace))?;
    let config = Config::trusting(&ca, &home).connect(&format!("{HOST}:443"), upstream.address);
    home.configure(&config.server(json!({ "max_running": agents.max(64) })));
    Orch::new(orch, &home).args(["secrets", "set", "OPENAI_API_KEY", "-"]).stdin(KEY).run().expect(0);
    let server = Server::start(orch, &home);
    Orch::new(orch, &home)
        .arg("publish")
        .arg(guests::repository().join("tests/guests/reader"))
        .run()
        .expect(0);
    runtime.block_on(run_all(&server, &upstream, agents, load))
}

async fn run_all(server: &Server, upstream: &Upstream, agents: usize, load: Load) -> Result<Measured> {
    let seen = &upstream.seen;
    let mut client = Client::connect(server.address(), server.token()).await?;
    let body = json!({ "agent": "guests/reader" }).to_string();
    // Compiles the agent, starts its worker, opens a connection.
    let warm = client.ask("POST", "/v1/runs?wait", &body).await?;
    if warm["status"] != "succeeded" {
        return Err(Failed(format!("the first run: {warm}")));
    }
    sleep(Duration::from_secs(1)).await;
    let rest = look(server)?;
    let before = cpu(server)?;
    seen.hurry.store(false, Ordering::Relaxed);
    seen.begun.store(0, Ordering::Relaxed);
    seen.ended.store(0, Ordering::Relaxed);

    let began = Instant::now();
    start(server, &body, agents, load.rate).await?;
    let all = load.pace.every * load.pace.pieces;
    let begun = || seen.begun.load(Ordering::Relaxed) >= agents;
    if !until(PATIENCE, begun).await {
        return Err(Failed(format!("{} of {agents} replies have begun", seen.begun.load(Ordering::Relaxed))));
    }
    // Every one has its first piece by then.
    sleep(load.pace.every).await;
    let busy = look(server)?;
    let over = || seen.ended.load(Ordering::Relaxed) + seen.broken.load(Ordering::Relaxed) >= agents;
    if seen.ended.load(Ordering::Relaxed) > 0 {
        return Err(Failed(
            "the first reply ended before the last began: start more runs in a second".into(),
        ));
    }
    until(all + PATIENCE, over).await;
    // The other one was quiet for so long that the server has closed it.
    let mut client = Client::connect(server.address(), server.token()).await?;
    wait_for_rest(&mut client).await?;
    let took = began.elapsed();
    let cpu = cpu(server)?.into_iter().map(|(name, now)| {
        let then = before.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, then)| *then);
        (name, now - then)
    });
    let mut measured = Measured {
        agents,
        succeeded: 0,
        failed: BTreeMap::new(),
        rest,
        busy,
        cpu: cpu.collect(),
        connections: seen.connections.load(Ordering::Relaxed),
        took,
        late_us: Vec::new(),
    };
    collect(&mut client, &mut measured).await?;
    measured.late_us.sort_unstable();
    Ok(measured)
}

/// Starts so many runs, at a steady rate.
async fn start(server: &Server, body: &str, agents: usize, rate: u32) -> Result<()> {
    let left = Arc::new(AtomicUsize::new(agents));
    let mut all = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(server.address(), server.token()).await?;
        let (left, body) = (Arc::clone(&left), body.to_owned());
        let mut ticks = interval(Duration::from_secs(1) * CONNECTIONS as u32 / rate);
        all.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                ticks.tick().await;
                client.ask("POST", "/v1/runs", &body).await?;
            }
            Ok::<_, Failed>(())
        });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    Ok(())
}

async fn until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(patience, waiting).await.is_ok()
}

/// Waits until no run is under way any more.
async fn wait_for_rest(client: &mut Client) -> Result<()> {
    let waiting = async {
        loop {
            let running = client.ask("GET", "/v1/runs?status=running&limit=1", "").await?;
            if running["runs"].as_array().is_some_and(Vec::is_empty) {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, waiting).await.map_err(|_| Failed("there are runs that do not end".into()))?
}

/// How each run ended, from the server's record; the first one, which was not counted, aside.
async fn collect(client: &mut Client, measured: &mut Measured) -> Result<()> {
    let mut before = String::new();
    let mut left = measured.agents;
    while left > 0 {
        let page = client.ask("GET", &format!("/v1/runs?limit=200{before}"), "").await?;
        let runs = page["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
        for run in runs.iter().take(left) {
            let id = run["id"].as_str().unwrap_or_default();
            let run = client.ask("GET", &format!("/v1/runs/{id}"), "").await?;
            let late = run["report"]["output"]["late_us"].as_array();
            match late.filter(|_| run["status"] == "succeeded") {
                Some(late) => {
                    measured.succeeded += 1;
                    measured.late_us.extend(late.iter().filter_map(Value::as_u64));
                }
                None => {
                    let why = run["error"]["code"].as_str().unwrap_or("no output").to_owned();
                    *measured.failed.entry(why).or_default() += 1;
                }
            }
        }
        left = left.saturating_sub(runs.len());
        let Some(next) = page["next"].as_str() else { break };
        before = format!("&before={next}");
    }
    Ok(())
}

/// The server, and each of its workers.
fn processes(server: &Server) -> Vec<(String, u32)> {
    let broker = server.process();
    let workers = broker.workers().into_iter().enumerate();
    let workers = workers.map(|(number, pid)| (format!("worker {}", number + 1), pid));
    [("broker".to_owned(), broker.pid())].into_iter().chain(workers).collect()
}

fn look(server: &Server) -> Result<Vec<(String, Look)>> {
    processes(server).into_iter().map(|(name, pid)| Ok((name, Look::at(pid)?))).collect()
}

fn cpu(server: &Server) -> Result<Vec<(String, f64)>> {
    let this = ("this load".to_owned(), std::process::id());
    let all = processes(server).into_iter().chain([this]);
    all.map(|(name, pid)| Ok((name, looks::cpu(pid)?))).collect()
}

#[expect(clippy::print_stdout, reason = "its output is its result")]
#[expect(clippy::cast_precision_loss, reason = "none of these is near 2^52")]
fn print(measured: &[Measured]) -> bool {
    let mut met = true;
    let row = |what: &str, of: &dyn Fn(&Measured) -> String| {
        let cells: Vec<String> = measured.iter().map(|one| format!("{:>22}", of(one))).collect();
        println!("{what:<32}{}", cells.concat());
    };
    let verdict = |holds: bool| if holds { "met" } else { "MISSED" };
    let pss = |looks: &[(String, Look)]| looks.iter().map(|(_, look)| look.pss).sum::<u64>();
    let each = |one: &Measured, kib: u64| kib as f64 / one.agents as f64;
    let grown = |one: &Measured| pss(&one.busy).saturating_sub(pss(&one.rest));
    let late = |one: &Measured, share: f64| {
        let at = (one.late_us.len() as f64 * share) as usize;
        Duration::from_micros(
            one.late_us.get(at.min(one.late_us.len().saturating_sub(1))).copied().unwrap_or(u64::MAX),
        )
    };
    row("agents at once", &|one| one.agents.to_string());
    row("finished", &|one| one.succeeded.to_string());
    row("failed", &|one| if one.failed.is_empty() { "0".into() } else { format!("{:?}", one.failed) });
    row("pieces read", &|one| one.late_us.len().to_string());
    row("all of it took", &|one| format!("{:.1} s", one.took.as_secs_f64()));
    row("upstream connections", &|one| one.connections.to_string());
    row("PSS at rest, after one run", &|one| format!("{} KiB", pss(&one.rest)));
    row("PSS with all in flight", &|one| format!("{} KiB", pss(&one.busy)));
    let names: Vec<String> =
        measured.iter().flat_map(|one| one.cpu.iter().map(|(name, _)| name.clone())).collect();
    let mut told: Vec<&String> = Vec::new();
    for name in &names {
        if told.contains(&name) {
            continue;
        }
        told.push(name);
        let find =
            |looks: &[(String, Look)]| looks.iter().find(|(known, _)| known == name).map(|(_, look)| *look);
        let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "–".into());
        if name != "this load" {
            row(&format!("  {name}, KiB per agent"), &|one| {
                let rest = find(&one.rest).unwrap_or_default().pss;
                or_none(
                    find(&one.busy).map(|busy| format!("{:.1}", each(one, busy.pss.saturating_sub(rest)))),
                )
            });
            row(&format!("  {name}, mappings"), &|one| {
                or_none(find(&one.busy).map(|look| look.mappings.to_string()))
            });
            row(&format!("  {name}, descriptors"), &|one| {
                or_none(find(&one.busy).map(|look| look.descriptors.to_string()))
            });
            row(&format!("  {name}, threads"), &|one| {
                or_none(find(&one.busy).map(|look| look.threads.to_string()))
            });
        }
        row(&format!("  {name}, processor"), &|one| {
            or_none(
                one.cpu
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, cpu)| format!("{cpu:.1} s, {:.2} ms each", cpu * 1e3 / one.agents as f64)),
            )
        });
    }
    row("KiB per agent", &|one| format!("{:.1}", each(one, grown(one))));
    for (what, share) in [("p50", 0.5), ("p99", 0.99), ("worst", 1.0)] {
        row(&format!("delay of a piece, {what}"), &|one| format!("{:.1?}", late(one, share)));
    }
    for one in measured {
        let finished = one.succeeded == one.agents;
        let (kib, p99) = (each(one, grown(one)), late(one, 0.99));
        let (small, soon) = (kib <= MOST_KIB, p99 <= MOST_P99);
        met &= finished && small && soon;
        println!(
            "{} agents: all finish: {}; {kib:.1} KiB each, at most {MOST_KIB}: {}; p99 {p99:.1?}, at most {MOST_P99:?}: {}",
            one.agents,
            verdict(finished),
            verdict(small),
            verdict(soon)
        );
    }
    met
}
