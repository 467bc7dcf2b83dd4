//! One loaded agent, and one run of it.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, UpdateDeadline};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, ResourceTableError};

use super::egress::Egress;
use super::files;
use super::guest::Guest;
use super::lane::Lane;
use super::meter::{Cancel, LimitHit, Meter, Stop, micros};
use super::stdio::{Input, Output, Streams};
use super::ticker::Ticker;
use super::turns::Turns;
use super::wire::Wire;
use crate::artifact::{Artifact, payload_length};
use crate::engine::mapped::Mapped;
use crate::engine::{Allocation, engine_for_mapped_code};
use crate::jail::Folders;
use crate::protocol::{Exit, Finished, LimitName, Pool, RunSpec, Usage};
use crate::text::printable;

/// Longest description of a trap, in bytes.
const MAX_TRAP: usize = 8 << 10;

/// What a guest may hand to its host in one call, in bytes.
const MAX_CALL: usize = 32 << 20;

/// How long a run that was stopped waits for what it wrote to be taken.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why an artifact cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("the artifact cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It does not fit this engine or its imports are not provided.
    #[error("the artifact cannot be loaded: {0:#}")]
    Load(wasmtime::Error),
}

/// The run was not started.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Rejected(String);

/// One agent, compiled, loaded and linked, that can be run many times at once. This is what a worker is a process
/// around; it isolates wasm, not the process.
pub struct Sandbox {
    engine: Engine,
    command: CommandPre<Guest>,
    ticker: Ticker,
    pool: Pool,
    /// For runs that keep a processor busy; none where they have no neighbours.
    lane: Option<Lane>,
    /// What its runs may mount.
    folders: Folders,
    /// Stays open although it is mapped: in a worker its number, that of standard output, must not go to another
    /// file.
    _artifact: File,
}

impl Sandbox {
    /// Loads an artifact. Its mapping stays for the rest of the process's life. No run of it can mount anything.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(artifact: Artifact, pool: Pool) -> Result<Self, LoadError> {
        Sandbox::load_file(artifact.into_descriptor().into(), pool, Folders::default)
    }

    /// `loaded` is called when the artifact needs no further rights of the process, before any thread is started, and
    /// says what runs may mount.
    pub(super) fn load_file(
        mut file: File,
        pool: Pool,
        loaded: impl FnOnce() -> Folders,
    ) -> Result<Self, LoadError> {
        // How many there are is in files, which are out of reach once it is loaded.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let engine = engine_for_mapped_code(Allocation::Pooled(pool)).map_err(LoadError::Load)?;
        let length = payload_length(&mut file)?;
        let mapped = Mapped::new(&file, length)?;
        // SAFETY: an `Artifact` is what the compile jail returned, by construction or by its verified MAC, and a
        // worker's descriptor is one that the broker made of an `Artifact`.
        #[allow(unsafe_code)]
        let component = unsafe { mapped.load(&engine) }.map_err(LoadError::Load)?;
        let command = link(&engine, &component).map_err(LoadError::Load)?;
        // Otherwise made by the first run, out of files in memory that nobody can make any more by then.
        component.initialize_copy_on_write_image().map_err(LoadError::Load)?;
        let folders = loaded();
        let ticker = Ticker::start(&engine)?;
        let lane = pool.yielding.then(|| Lane::new(processors));
        Ok(Sandbox { engine, command, ticker, pool, lane, folders, _artifact: file })
    }

    /// The engine, to compare with.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs the agent once. Needs a tokio runtime with timers.
    ///
    /// Dropping the future drops the guest wherever it is.
    ///
    /// # Errors
    /// When the run cannot be set up. However the guest ends is an [`Exit`].
    pub async fn run(
        &self,
        spec: &RunSpec,
        wire: Arc<dyn Wire>,
        cancel: &Cancel,
    ) -> Result<Finished, Rejected> {
        if spec.limits.memory > self.pool.memory {
            return Err(Rejected("its memory limit is beyond what the worker's pool allows".to_owned()));
        }
        let meter = Meter::start(spec.limits, self.ticker.ticks());
        let rejected = |reason: &str| Rejected(reason.to_owned());
        let streams = Streams::new(Arc::clone(&wire), spec, &meter).map_err(rejected)?;
        let (stdout, stderr) = (Output::stdout(spec, &streams), Output::stderr(spec, &streams));
        let (egress, run_ends) = Egress::new(wire, &spec.token, &meter).map_err(rejected)?;
        let input = Input::new(spec, &streams);
        let outputs = (stdout.clone(), stderr.clone());
        let guest = Guest::new(spec, &self.folders, input, outputs, egress, &meter)
            .map_err(|error| Rejected(error.to_string()))?;

        let ticking = self.ticker.run();
        let mut turns = Turns::new(&meter, self.lane.as_ref(), Box::pin(self.call(guest)));
        let called = turns.see_through(cancel).await;
        // Before the store: a request body that is cut short here must not look complete.
        drop(run_ends);
        turns.end().await;
        drop(ticking);

        let (exit, message) = match called {
            Ok(Err(error)) if error.is::<PoolConcurrencyLimitError>() => {
                return Err(Rejected(format!("the worker has no room for another run: {error:#}")));
            }
            Ok(result) => (exit_of(result, &meter), None),
            Err(Stop::Cancelled) => (Exit::Cancelled, None),
            Err(Stop::Limit(hit)) => (limit(hit), None),
        };
        let cpu = meter.cpu();
        let (exit, message) = deliver(&meter, spec, cancel, [&stdout, &stderr], exit, message).await;
        let usage = Usage {
            cpu_us: micros(cpu),
            wall_us: micros(meter.wall()),
            memory_peak: meter.memory_peak(),
            stdout_bytes: stdout.written(),
            stderr_bytes: stderr.written(),
            scratch: self.folders.scratch_usage(),
        };
        Ok(Finished { run: spec.run.clone(), exit, usage, message })
    }

    fn call(&self, guest: Guest) -> impl Future<Output = wasmtime::Result<Result<(), ()>>> + Send + 'static {
        let (engine, command) = (self.engine.clone(), self.command.clone());
        async move {
            let mut store = Store::new(&engine, guest);
            store.limiter(|guest| &mut guest.growth);
            store.set_hostcall_fuel(MAX_CALL);
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|mut store| {
                let guest = store.data_mut();
                guest.count_resources()?;
                let meter = guest.meter();
                Ok(if meter.turn_is_over() {
                    UpdateDeadline::YieldCustom(1, Box::pin(meter.end_turn()))
                } else {
                    UpdateDeadline::Continue(1)
                })
            });
            let command = command.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        }
    }
}

/// Waits until the broker has everything that the guest wrote. A run that ended by itself has the rest of its time
/// for that; one that was stopped only a moment.
async fn deliver(
    meter: &Meter,
    spec: &RunSpec,
    cancel: &Cancel,
    outputs: [&Output; 2],
    exit: Exit,
    message: Option<String>,
) -> (Exit, Option<String>) {
    let stopped = !matches!(exit, Exit::Status(_) | Exit::Trap { .. });
    let patience =
        if stopped { LAST_WORDS } else { spec.limits.time.saturating_sub(meter.wall()).max(LAST_WORDS) };
    let finish = async {
        let (stdout, stderr) = tokio::join!(outputs[0].finish(), outputs[1].finish());
        stdout && stderr
    };
    let delivered = tokio::select! {
        delivered = timeout(patience, finish) => delivered,
        () = cancel.requested(), if !stopped => return (Exit::Cancelled, message),
    };
    match delivered {
        Ok(true) => (exit, message),
        Ok(false) => {
            (exit, message.or_else(|| Some("part of what the agent wrote was not taken".to_owned())))
        }
        Err(_) if stopped => {
            (exit, message.or_else(|| Some("part of what the agent wrote was not taken in time".to_owned())))
        }
        Err(_) => {
            let (used, limit) = (micros(meter.wall()), micros(spec.limits.time));
            (Exit::Limit { name: LimitName::Time, used, limit }, message)
        }
    }
}

fn limit(hit: LimitHit) -> Exit {
    Exit::Limit { name: hit.name, used: hit.used, limit: hit.limit }
}

fn exit_of(result: wasmtime::Result<Result<(), ()>>, meter: &Meter) -> Exit {
    // However it took that.
    if let Some(hit) = meter.exceeded() {
        return limit(hit);
    }
    // A program that cannot write what it has to fails in its own way.
    let failed = |exit| meter.full_scratch().map_or(exit, limit);
    let error = match result {
        Ok(Ok(())) => return Exit::Status(0),
        Ok(Err(())) => return failed(Exit::Status(1)),
        Err(error) => error,
    };
    if let Some(&I32Exit(status)) = error.downcast_ref() {
        return if status == 0 { Exit::Status(0) } else { failed(Exit::Status(status)) };
    }
    if let Some(&hit) = error.downcast_ref::<LimitHit>() {
        return limit(hit);
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        let most = u64::from(meter.limits().resources);
        return Exit::Limit { name: LimitName::Resources, used: most + 1, limit: most };
    }
    // A program that cannot get memory usually aborts, which is a trap like any other but for this.
    if let Some(hit) = meter.refused_growth() {
        return limit(hit);
    }
    failed(Exit::Trap { message: printable(&cause_first(&error), MAX_TRAP) })
}

/// What happened before where it did: a backtrace may be longer than anybody shows.
fn cause_first(error: &wasmtime::Error) -> String {
    let mut told: Vec<String> = error.chain().map(ToString::to_string).collect();
    told.reverse();
    told.join("\n")
}

/// Resolves a component's imports, once for all of its runs.
fn link(engine: &Engine, component: &Component) -> wasmtime::Result<CommandPre<Guest>> {
    CommandPre::new(linker(engine)?.instantiate_pre(component)?)
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    files::link(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

/// In the compile jail: checks that a component will link in a worker.
pub(crate) fn check_imports(engine: &Engine, component: &Component) -> wasmtime::Result<()> {
    link(engine, component)?;
    Ok(())
}
