//! Workers: started when an agent is first run, kept warm for its next runs where that pays, replaced when they die.
//!
//! A worker serves one workspace and one agent digest (promise P6), so that is what they are found by; there are several of
//! one kind where one cannot hold all of its runs. A run with mounts gets a worker of its own, whose mounts are fixed before
//! it starts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use orch_manifests::Digest;
use orch_runner::{
    Artifact, ArtifactCache, Capacity, CompileLimits, Compiler, JailReport, Layer, Mount, Origin, Pool,
    Requirement, Scratch, Worker, WorkerCommand, WorkerConfig,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::agent::Agent;
use crate::door::Router;
use crate::execution::with_progress;
use crate::failure::{Failure, incomplete, no_scratch};
use crate::home::Home;
use crate::permissions::{Answer, Question};
use crate::run::{Event, Observer};

/// The least that a kept worker's pool allows a run, in bytes, so that runs with other limits find the same worker.
const LEAST_MEMORY: u64 = 256 << 20;
/// Idle workers beyond this number are stopped, the longest idle one first.
const IDLE_WORKERS: usize = 32;

/// Who a worker serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    workspace: String,
    agent: Digest,
    /// What its pool allows a run, in bytes.
    memory: u64,
}

/// Starts workers, and keeps some.
pub(crate) struct Workers {
    home: Home,
    command: WorkerCommand,
    compiler: Compiler,
    cache: OnceLock<ArtifactCache>,
    door: Arc<Router>,
    /// Runs that a kept worker holds at once.
    runs_per_worker: u32,
    /// For each worker that runs are in.
    in_use: Arc<Semaphore>,
    /// Where one cannot hold all, the first ones are full.
    kept: Mutex<HashMap<Key, Vec<Arc<Place>>>>,
}

/// Where a kept worker is, or will be.
struct Place {
    worker: tokio::sync::Mutex<Option<Arc<Worker>>>,
    use_: Mutex<Use>,
}

struct Use {
    runs: u32,
    since: Instant,
    /// There while runs are in it: workers in use are counted, whoever shares them.
    permit: Option<OwnedSemaphorePermit>,
}

/// For whom a worker is wanted.
pub(crate) struct Wanted<'a> {
    pub(crate) workspace: &'a str,
    pub(crate) agent: &'a Agent,
    /// The run's memory limit, in bytes.
    pub(crate) memory: u64,
    /// Whether the worker may be shared with other runs and kept for later ones.
    pub(crate) shared: bool,
    /// What the run mounts. One that mounts anything has a worker to itself.
    pub(crate) mounts: &'a [Mount],
    /// Its scratch folders. A worker that has them runs once.
    pub(crate) scratch: Option<&'a Scratch>,
    /// Layers of the jail without which it is not run.
    pub(crate) required: &'a Requirement,
    /// Whether other runs are about, for whom one that keeps a processor busy has to make way.
    pub(crate) neighbours: bool,
}

/// A worker in use. [`Leased::end`] gives it back.
pub(crate) struct Leased {
    worker: Arc<Worker>,
    held: Held,
}

/// What a run with a worker takes up until this is dropped.
enum Held {
    /// A part of a kept one.
    Part(InUse),
    /// All of one.
    Whole(OwnedSemaphorePermit),
}

/// A run that is counted in at a place until this is dropped, however that comes.
struct InUse(Arc<Place>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Workers {
    /// Workers and compilers are `program`, called with the hidden subcommands of `orch`; requests of their guests
    /// arrive at `door`. `capacity` says how many runs there are in one worker, and how many workers may be in use.
    pub(crate) fn new(home: Home, program: &Path, door: Arc<Router>, capacity: Capacity) -> Self {
        let command = |name: &str| WorkerCommand { program: program.to_owned(), args: vec![name.into()] };
        Self {
            home,
            command: command("__worker"),
            compiler: Compiler::new(command("__compile"), CompileLimits::default()),
            cache: OnceLock::new(),
            door,
            runs_per_worker: capacity.in_one_worker,
            in_use: Arc::new(Semaphore::new(capacity.workers() as usize)),
            kept: Mutex::default(),
        }
    }

    /// A worker for a run: a kept one, or a new one. What its jail lacks is told.
    ///
    /// # Errors
    /// When the agent cannot be compiled, the process cannot be started, or its jail lacks what is required.
    pub(crate) async fn lease(
        &self,
        wanted: &Wanted<'_>,
        observer: &dyn Observer,
    ) -> Result<Leased, Failure> {
        let leased = Box::pin(self.find(wanted, observer)).await?;
        let jail = leased.worker.jail();
        let missing = jail.unmet(wanted.required);
        if !missing.is_empty() {
            leased.end().await;
            return Err(incomplete(&missing));
        }
        if wanted.scratch.is_some()
            && let Some(reason) = jail.lacks_scratch()
        {
            let failure = no_scratch(reason);
            leased.end().await;
            return Err(failure);
        }
        tell_gaps(jail, observer);
        Ok(leased)
    }

    async fn find(&self, wanted: &Wanted<'_>, observer: &dyn Observer) -> Result<Leased, Failure> {
        if !wanted.shared {
            let permit = self.permit().await?;
            let pool = Pool { runs: 1, memory: wanted.memory, yielding: wanted.neighbours };
            let worker = self.start(wanted, pool, observer).await?;
            return Ok(Leased { worker: Arc::new(worker), held: Held::Whole(permit) });
        }
        let memory = wanted.memory.max(LEAST_MEMORY);
        let memory = memory.checked_next_power_of_two().unwrap_or(memory);
        let key = Key { workspace: wanted.workspace.to_owned(), agent: wanted.agent.digest, memory };
        let place = match self.join(&key) {
            Some(place) => place,
            None => {
                let permit = self.permit().await?;
                self.enter(key, permit)
            }
        };
        let worker = {
            let mut worker = place.0.worker.lock().await;
            match worker.as_ref().filter(|worker| worker.is_alive()) {
                Some(worker) => Arc::clone(worker),
                // Whoever else wants this agent waits here for the one start.
                None => {
                    let pool = Pool { runs: self.runs_per_worker, memory, yielding: true };
                    Arc::clone(worker.insert(Arc::new(self.start(wanted, pool, observer).await?)))
                }
            }
        };
        Ok(Leased { worker, held: Held::Part(place) })
    }

    /// What becomes of the layers of a worker's jail and of a compile jail's, on this machine: both are started for it.
    ///
    /// # Errors
    /// When the agent cannot be compiled or a process cannot be started.
    pub(crate) async fn probe(&self, agent: &Agent) -> Result<[(&'static str, JailReport); 2], Failure> {
        let compiler = self.compiler.probe().await.map_err(orch_runner::ArtifactError::from)?;
        let wanted = Wanted {
            workspace: "",
            agent,
            memory: LEAST_MEMORY,
            shared: false,
            neighbours: false,
            mounts: &[],
            scratch: None,
            required: &Requirement::default(),
        };
        let leased = Box::pin(self.find(&wanted, &Unheard)).await?;
        let worker = leased.worker.jail().clone();
        leased.end().await;
        Ok([("worker", worker), ("compiler", compiler)])
    }

    /// How many workers are kept.
    pub(crate) fn kept(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Stops workers that nobody has used for this long, and the longest idle ones where there are too many.
    pub(crate) async fn reap(&self, idle: Duration) {
        let mut over = Vec::new();
        {
            let mut kept = self.lock();
            let mut resting: Vec<Instant> =
                kept.values().flatten().filter_map(|place| place.resting_since()).collect();
            resting.sort_unstable();
            let surplus =
                resting.len().checked_sub(IDLE_WORKERS + 1).and_then(|last| resting.get(last).copied());
            kept.retain(|_, places| {
                over.extend(places.extract_if(.., |place| {
                    let since = place.resting_since();
                    since.is_some_and(|since| Some(since) <= surplus || since.elapsed() >= idle)
                }));
                !places.is_empty()
            });
        }
        for place in over {
            // Nobody is in it, and nobody finds it any more.
            if let Some(worker) = place.worker.lock().await.take() {
                worker.shutdown().await;
            }
        }
    }

    /// Stops them all.
    pub(crate) async fn shutdown(&self) {
        let places: Vec<Arc<Place>> = self.lock().drain().flat_map(|(_, places)| places).collect();
        for place in places {
            if let Some(worker) = place.worker.lock().await.take() {
                worker.shutdown().await;
            }
        }
    }

    /// For one more worker in use. Its descriptors are accounted for, as those of a run in a worker of others are not.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = Arc::clone(&self.in_use).acquire_owned().await;
        permit.map_err(|_| Failure::defect("workers are not counted any more"))
    }

    /// Counts a run in at a place of this key that is in use and has room.
    fn join(&self, key: &Key) -> Option<InUse> {
        let kept = self.lock();
        let mut places = kept.get(key)?.iter();
        let place =
            places.find(|place| place.resting_since().is_none() && place.join(self.runs_per_worker))?;
        Some(InUse(Arc::clone(place)))
    }

    /// Finds a place of this key that has room, or makes one, and counts a run in before anybody could take it for idle.
    fn enter(&self, key: Key, permit: OwnedSemaphorePermit) -> InUse {
        let mut kept = self.lock();
        let places = kept.entry(key).or_default();
        if let Some(place) = places.iter().find(|place| place.join(self.runs_per_worker)) {
            place.lock().permit.get_or_insert(permit);
            return InUse(Arc::clone(place));
        }
        let first = Use { runs: 1, since: Instant::now(), permit: Some(permit) };
        let place = Arc::new(Place { worker: tokio::sync::Mutex::new(None), use_: Mutex::new(first) });
        places.push(Arc::clone(&place));
        InUse(place)
    }

    async fn start(
        &self,
        wanted: &Wanted<'_>,
        pool: Pool,
        observer: &dyn Observer,
    ) -> Result<Worker, Failure> {
        let compiling = AtomicBool::new(false);
        let what = |seconds| match compiling.load(Ordering::Relaxed) {
            true => format!("compiling the agent for {seconds} s: later runs find it compiled"),
            false => format!("preparing the agent for {seconds} s"),
        };
        let artifact = with_progress(what, observer, self.obtain(wanted, observer, &compiling)).await?;
        let config = WorkerConfig {
            pool,
            mounts: wanted.mounts.to_vec(),
            scratch: wanted.scratch.cloned(),
            ..WorkerConfig::default()
        };
        let door: Arc<Router> = Arc::clone(&self.door);
        Ok(Worker::start(&self.command, artifact, config, door).await?)
    }

    /// The compiled agent, from the cache or from a compiler process.
    async fn obtain(
        &self,
        wanted: &Wanted<'_>,
        observer: &dyn Observer,
        compiling: &AtomicBool,
    ) -> Result<Artifact, Failure> {
        let cache = match self.cache.get() {
            Some(cache) => cache,
            None => {
                let opened = self.open_cache()?;
                self.cache.get_or_init(|| opened)
            }
        };
        let compiler = self.compiler.clone().requiring(wanted.required.clone());
        let module = wanted.agent.module.clone();
        let starting = || compiling.store(true, Ordering::Relaxed);
        let obtained = cache.obtain_telling(module, &compiler, starting).await?;
        if let Origin::Replaced { reason } = &obtained.origin {
            observer.event(Event::Warning(&format!(
                "a compiled artifact in the cache was not used ({reason}) and was made again"
            )));
        }
        Ok(obtained.artifact)
    }

    fn open_cache(&self) -> Result<ArtifactCache, Failure> {
        for folder in
            [Some(self.home.artifacts().as_path()), self.home.artifact_key().parent()].into_iter().flatten()
        {
            self.home.ensure(folder)?;
        }
        Ok(ArtifactCache::open(&self.home.artifacts(), &self.home.artifact_key())?)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Arc<Place>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody follows a probe.
struct Unheard;

impl Observer for Unheard {
    fn event(&self, _: Event<'_>) {}

    fn ask(&self, _: &Question) -> Answer {
        Answer::Deny
    }
}

/// Says, in one line, which layers of the jail this run goes without.
fn tell_gaps(jail: &JailReport, observer: &dyn Observer) {
    let gaps = jail.gaps();
    if gaps.is_empty() {
        return;
    }
    let text = format!("the sandbox is not complete: {} (`orch doctor` shows every layer)", gaps.join("; "));
    let whole = |applied: &orch_runner::jail::Applied| !matches!(applied.outcome, Layer::Missing { .. });
    let event = match jail.layers().iter().all(whole) {
        true => Event::Note(&text),
        false => Event::Warning(&text),
    };
    observer.event(event);
}

impl Place {
    /// When its last run left it; none while one is in it.
    fn resting_since(&self) -> Option<Instant> {
        let use_ = self.lock();
        (use_.runs == 0).then_some(use_.since)
    }

    /// Counts a run in, unless there are so many.
    fn join(&self, most: u32) -> bool {
        let mut use_ = self.lock();
        let fits = use_.runs < most;
        use_.runs += u32::from(fits);
        fits
    }

    fn leave(&self) {
        let mut use_ = self.lock();
        use_.runs -= 1;
        use_.since = Instant::now();
        if use_.runs == 0 {
            use_.permit = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leased {
    /// The worker.
    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Gives it back; one that was not shared is stopped.
    pub(crate) async fn end(self) {
        match self.held {
            Held::Part(place) => drop(place),
            Held::Whole(permit) => {
                self.worker.shutdown().await;
                drop(permit);
            }
        }
    }
}

#[cfg(test)]
mod tests;
