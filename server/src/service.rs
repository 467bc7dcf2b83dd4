//! Runs on a server: accepted, queued, executed, recorded.
//!
//! A run is accepted when everything that could refuse it has spoken and its row is on disk. From then on it ends in
//! the store whatever happens: as succeeded, failed or cancelled here, or, when this process dies, as what the next one
//! makes of it (`recovery.rs`). The server and `orch run` without `--local` are the same code; the latter has no
//! listener and ends with its run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use orch_manifests::{Catalog, Digest, RunId};
use orch_vault::VaultLocation;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::afterwards;
use crate::agent::Agent;
use crate::broker::{Broker, Concluded};
use crate::caller::Caller;
use crate::config::Config;
use crate::environment::Environment;
use crate::execution::interrupted;
use crate::failure::{Failure, Kind};
use crate::home::Home;
use crate::keeper::{Keeper, VaultAt};
use crate::keys::{KeySources, Variables};
use crate::permissions::Remembered;
use crate::prepare::{Prepared, Standing};
use crate::run::{RunRequest, Simulate};
use crate::store::{AgentRow, EventKind, Instance, NewRun, RunEvent, Store};

mod ending;
mod library;
mod live;
mod recovery;
mod stored;

pub use library::{Library, is_reserved};
use live::{LiveRun, Why};
use stored::StoredRequest;

/// How long a worker that nobody uses is kept.
const WORKER_IDLE: Duration = Duration::from_secs(60);
/// How often idle workers are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// A run that takes longer than this has its events stored while it goes on.
const STORE_EVENTS: Duration = Duration::from_millis(500);
/// How often a service that is about to stop looks whether the last runs have been accepted.
const ACCEPTING: Duration = Duration::from_millis(10);
/// Bytes of input that runs may hold while they wait for their turn.
const WAITING_INPUT: usize = 512 << 20;
/// Input of this many bytes is parsed where the request is.
const SMALL: usize = 16 << 10;
/// How long runs that were told to stop may take to do so.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What a service is made of.
pub struct Parts {
    /// The folders of this installation.
    pub home: Home,
    /// The operator's configuration.
    pub config: Config,
    /// The providers, the operator's included.
    pub catalog: Catalog,
    /// Where the vault is. Its workspace is the first one; others lie in the same store.
    pub vault: VaultLocation,
    /// The program whose hidden subcommands are workers and compilers: this one.
    pub program: PathBuf,
    /// Simulated providers for everybody, instead of real ones.
    pub simulate: Option<Simulate>,
}

/// Whether a service outlives the runs it was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For one command, in its process. Workers are not kept, the vault is open only while it is read.
    Embedded,
    /// For as long as the process lives.
    Serve,
}

/// Runs agents for workspaces.
pub struct Service {
    mode: Mode,
    broker: Broker,
    store: Store,
    keeper: Arc<Keeper>,
    library: Library,
    instance: Instance,
    live: Mutex<HashMap<RunId, Arc<LiveRun>>>,
    /// Contents of agents that the store is known to have.
    kept_agents: Mutex<HashSet<Digest>>,
    turns: Arc<Semaphore>,
    /// Runs that are checked or wait for their turn, and the bytes of their inputs.
    waiting: AtomicUsize,
    waiting_input: AtomicUsize,
    draining: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

/// How much is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Accepted runs that wait for their turn.
    pub queued: usize,
    /// Runs that are executed.
    pub running: usize,
    /// Workers that are kept.
    pub workers: usize,
}

impl Service {
    /// Opens the store and the vault, and takes over what dead processes left.
    ///
    /// # Errors
    /// When the store or the vault cannot be used.
    pub async fn open(parts: Parts, mode: Mode) -> Result<Arc<Self>, Failure> {
        let Parts { home, config, catalog, vault, program, simulate } = parts;
        let folder = home.data().to_owned();
        home.ensure(&folder)?;
        for file in [&vault.store, &vault.key_file] {
            if let Some(folder) = file.parent() {
                home.ensure(folder)?;
            }
        }
        let (store, instance) = open_store(folder).await?;
        let max_running = config.max_running as usize;
        let broker =
            Broker::new(Environment::Fixed(BTreeMap::new()), home, config, catalog, vault.clone(), &program);
        if let Some(simulate) = simulate {
            broker.simulate(&simulate).await?;
        }
        let catalog = Arc::clone(broker.catalog());
        let keeper = match mode {
            Mode::Embedded => Keeper::new(vault, catalog),
            Mode::Serve => Keeper::hold(vault, catalog).await?,
        };
        let service = Arc::new(Self {
            mode,
            library: Library::new(store.clone(), Arc::clone(broker.catalog())),
            broker,
            store,
            keeper: Arc::new(keeper),
            instance,
            live: Mutex::default(),
            kept_agents: Mutex::default(),
            turns: Arc::new(Semaphore::new(max_running)),
            waiting: AtomicUsize::new(0),
            waiting_input: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            tasks: Mutex::default(),
        });
        service.recover().await?;
        if mode == Mode::Serve {
            let housekeeping = Arc::downgrade(&service);
            service.spawn(async move {
                loop {
                    tokio::time::sleep(HOUSEKEEPING).await;
                    let Some(service) = housekeeping.upgrade() else { return };
                    service.broker.workers().reap(WORKER_IDLE).await;
                }
            });
        }
        Ok(service)
    }

    /// Runs, agents, tokens and usage.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The vault, and what was opened of it.
    #[must_use]
    pub fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// The providers, the operator's included.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        self.broker.catalog()
    }

    /// The operator's configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.broker.config()
    }

    /// The folders of this installation.
    #[must_use]
    pub fn home(&self) -> &Home {
        self.broker.home()
    }

    /// The runs and the way out that they share.
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Agents by name.
    #[must_use]
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// How much is going on.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let slots = self.config().max_running as usize;
        Gauges {
            queued: self.waiting.load(Ordering::Relaxed),
            running: slots.saturating_sub(self.turns.available_permits()),
            workers: self.broker.workers().kept(),
        }
    }

    /// Whether new runs are refused because this service is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Accepts a run: checks everything that could refuse it, puts it on disk, and lets it take its turn.
    ///
    /// # Errors
    /// Whatever refuses it; then nothing was accepted.
    pub async fn submit(self: &Arc<Self>, caller: &Caller, request: RunRequest) -> Result<RunId, Failure> {
        if self.is_draining() {
            return Err(Failure::new(Kind::Server, "shutting_down", "the server is about to stop")
                .hint("try again in a moment"));
        }
        let place = Waiting::enter(self, request.input.as_ref().map_or(0, String::len))?;
        let stored = StoredRequest::of(&request, self.mode == Mode::Embedded).to_json()?;
        let agent = Arc::clone(&request.agent);
        let live = Arc::new(LiveRun::new(RunId::random(), &caller.workspace));
        let prepared = match Box::pin(self.prepare(request, &live)).await {
            Ok(prepared) => prepared,
            Err(failure) => {
                if let Some(event) = afterwards::of_refusal(&live.run, &failure) {
                    // The refusal is what is reported.
                    let _ = self.keeper.record(&caller.workspace, vec![event]).await;
                }
                return Err(failure);
            }
        };
        self.keep_agent(&agent).await?;
        let turn = self.turns.clone().try_acquire_owned().ok();
        let created = OffsetDateTime::now_utc();
        let row = NewRun {
            run: live.run.clone(),
            workspace: caller.workspace.to_string(),
            agent: agent.manifest.name.clone(),
            version: agent.manifest.version.to_string(),
            digest: agent.digest,
            caller: caller.name.to_string(),
            instance: self.instance.id().to_owned(),
            request: stored,
            created,
            started: turn.as_ref().map(|_| created),
        };
        let run = live.run.clone();
        let (service, caller) = (Arc::clone(self), caller.name.to_string());
        let (accepted, answer) = oneshot::channel();
        // A task of its own: what is on disk is executed, whether or not its caller is still there to hear of it.
        self.spawn(async move {
            let stored = service.store.accept(row).await;
            if stored.is_ok() {
                service.begin(live, prepared, caller, turn, place);
            }
            // Who does not wait any more does not hear.
            let _ = accepted.send(stored);
        });
        answer.await.map_err(|_| Failure::defect("accepting the run ended early"))??;
        Ok(run)
    }

    /// Resolves when the run has ended and its record is complete; at once when it is not under way here.
    pub async fn ended(&self, run: &RunId) {
        let live = self.lock().get(run).cloned();
        if let Some(live) = live {
            live.over().await;
        }
    }

    /// The events of a run under way; none when it is not.
    #[must_use]
    pub fn follow(&self, run: &RunId) -> Option<Follower> {
        self.lock().get(run).cloned().map(Follower)
    }

    /// Cancels a run under way. False when there is none of this id.
    pub fn cancel(&self, run: &RunId) -> bool {
        let live = self.lock().get(run).cloned();
        live.inspect(|live| live.stop(Why::Cancelled)).is_some()
    }

    /// Takes no further runs, waits for those under way, and stops what is left after `deadline`.
    pub async fn drain(&self, deadline: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        let until = Instant::now() + deadline;
        // What was about to be accepted when this began becomes live meanwhile.
        loop {
            let over = match self.any_live() {
                Some(live) => tokio::time::timeout_at(until, async move { live.over().await }).await.is_ok(),
                None if self.waiting.load(Ordering::Relaxed) == 0 => break,
                None => {
                    tokio::time::sleep(ACCEPTING).await;
                    Instant::now() < until
                }
            };
            if !over {
                break;
            }
        }
        let left: Vec<Arc<LiveRun>> = self.lock().values().cloned().collect();
        for live in &left {
            live.stop(Why::Draining);
        }
        let until = Instant::now() + STOP_GRACE;
        for live in &left {
            // What does not stop is found, and reported, by the next process.
            let _ = tokio::time::timeout_at(until, live.over()).await;
        }
        self.broker.workers().shutdown().await;
    }

    /// The checks of a run: what takes time off the async threads, keys on the vault's.
    async fn prepare(
        self: &Arc<Self>,
        request: RunRequest,
        live: &Arc<LiveRun>,
    ) -> Result<Prepared, Failure> {
        let workspace = live.workspace.as_str();
        let upstream = self.broker.upstream(request.simulate.as_ref()).await?;
        let granted = self.granted(workspace, &request.agent).await?;
        let mut checked = if is_small(&request) {
            self.broker.check(live.run.clone(), request, upstream, &**live)?
        } else {
            let (service, live) = (Arc::clone(self), Arc::clone(live));
            let check = move || service.broker.check(live.run.clone(), request, upstream, &*live);
            tokio::task::spawn_blocking(check)
                .await
                .map_err(|e| Failure::defect(format!("the checks of a run ended early: {e}")))??
        };
        let catalog = Arc::clone(self.catalog());
        let (checked, keys) = self
            .keeper
            .look(workspace, move |vault| {
                let env_keys = checked.take_env_keys();
                let variables = Variables::Callers(&env_keys);
                let sources = match vault {
                    VaultAt::Open(vault) => KeySources::open(variables, &catalog, vault),
                    VaultAt::Rest(location) => KeySources::at_rest(variables, &catalog, location),
                };
                let keys = checked.open_keys(&sources, false)?;
                Ok((checked, keys))
            })
            .await?;
        let standing = Standing { workspace, local: false, granted, book: None };
        let prepared = self.broker.admit(checked, keys, &standing, &**live)?;
        self.keeper.record_uses(workspace, prepared.keys.uses.clone()).await?;
        Ok(prepared)
    }

    /// What the workspace's owner granted this agent, in any version.
    async fn granted(&self, workspace: &str, agent: &Agent) -> Result<Remembered, Failure> {
        let manifest = &agent.manifest;
        if manifest.egress.is_empty() && manifest.secrets.is_empty() && !agent.bare {
            return Ok(Remembered::default());
        }
        let mut rows = self.store.grants_of(workspace, &manifest.name).await?;
        // The newest comes last.
        rows.reverse();
        Ok(Remembered::of(
            rows.into_iter().map(|row| (row.agent, row.digest, row.capabilities.into_iter().collect())),
        ))
    }

    /// Stores the content of an agent, once.
    async fn keep_agent(&self, agent: &Arc<Agent>) -> Result<(), Failure> {
        let known = |service: &Self| {
            service.kept_agents.lock().unwrap_or_else(PoisonError::into_inner).contains(&agent.digest)
        };
        if known(self) {
            return Ok(());
        }
        let module = self.store.blobs().put(agent.module.clone()).await?;
        self.store
            .put_agent(AgentRow {
                digest: agent.digest,
                name: agent.manifest.name.clone(),
                version: agent.manifest.version.clone(),
                manifest: agent.text.to_string(),
                format: agent.format,
                module,
                bare: agent.bare,
            })
            .await?;
        self.library.remember(agent);
        self.kept_agents.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.digest);
        Ok(())
    }

    /// Lets an accepted run take its turn.
    fn begin(
        self: &Arc<Self>,
        live: Arc<LiveRun>,
        prepared: Prepared,
        caller: String,
        turn: Option<OwnedSemaphorePermit>,
        place: Waiting,
    ) {
        live.tell(EventKind::Status, if turn.is_some() { "running" } else { "queued" });
        if turn.is_none() {
            // Who follows goes on after these, should another process run it.
            self.store.append(&live.run, live.unstored(false));
        }
        self.lock().insert(live.run.clone(), Arc::clone(&live));
        let service = Arc::clone(self);
        self.spawn(async move {
            let agent = prepared.agent.manifest.name.to_string();
            let turn = AssertUnwindSafe(service.take_turn(&live, prepared, turn, place)).catch_unwind();
            // Whatever a defect left half done is the run's own: its end is told all the same.
            let concluded = Box::pin(turn)
                .await
                .unwrap_or_else(|_| Some(Failure::defect("the execution of the run panicked").into()));
            match concluded {
                Some(concluded) => service.conclude(&live, &caller, &agent, concluded).await,
                // It stays in the store, and waits for the next server.
                None => service.let_go(&live),
            }
        });
    }

    /// Waits for the run's turn and executes it. None when the server stopped before that.
    async fn take_turn(
        &self,
        live: &Arc<LiveRun>,
        prepared: Prepared,
        turn: Option<OwnedSemaphorePermit>,
        place: Waiting,
    ) -> Option<Concluded> {
        let mut stop = live.stopper();
        let turn = match turn {
            Some(turn) => turn,
            None => {
                let turn = tokio::select! {
                    turn = self.turns.clone().acquire_owned() => turn,
                    _ = stop.wait_for(|count| *count > 0) => {
                        let cancelled = live.stopped() != Some(Why::Draining);
                        return cancelled.then(|| interrupted("cancelled before it was started").into());
                    }
                };
                let Ok(turn) = turn else {
                    return Some(Failure::defect("the queue was closed while runs were in it").into());
                };
                // On disk before anything of it happens: what was started is not run again.
                if let Err(failure) = self.store.started(&live.run, OffsetDateTime::now_utc()).await {
                    return Some(failure.into());
                }
                live.tell(EventKind::Status, "running");
                turn
            }
        };
        drop(place);
        let keep = self.mode == Mode::Serve;
        let (run, uses) = (prepared.run.clone(), prepared.keys.uses.clone());
        let execution = self.broker.execute(prepared, keep, std::time::Instant::now(), &**live, stop);
        let concluded = self.storing_events(live, Box::pin(execution)).await;
        let events = afterwards::of_run(&run, &uses, &concluded.decisions, concluded.not_kept);
        if let Err(failure) = self.keeper.record(live.workspace.as_str(), events).await {
            let text = format!("the vault's record of this run is not complete: {failure}");
            live.tell(EventKind::Warning, &text);
        }
        drop(turn);
        Some(concluded)
    }

    /// Carries on with a run and stores what it tells from time to time.
    async fn storing_events<T>(&self, live: &LiveRun, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(STORE_EVENTS, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    let events = live.unstored(false);
                    if !events.is_empty() {
                        self.store.append(&live.run, events);
                    }
                }
            }
        }
    }

    /// Owns a task until it ends or the service goes away.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn any_live(&self) -> Option<Arc<LiveRun>> {
        self.lock().values().next().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Arc<LiveRun>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the store and claims an id for this process in it, off the async threads.
async fn open_store(folder: PathBuf) -> Result<(Store, Instance), Failure> {
    let open = move || {
        let store = Store::open(&folder)?;
        let instance = Instance::claim(&folder)?;
        Ok((store, instance))
    };
    tokio::task::spawn_blocking(open)
        .await
        .map_err(|e| Failure::defect(format!("opening the store ended early: {e}")))?
}

/// Whether the documents of a request are checked sooner than another thread could begin.
fn is_small(request: &RunRequest) -> bool {
    let manifest = &request.agent.manifest;
    let schemas = manifest.input.is_some() || manifest.output.is_some();
    !schemas && request.mounts.is_empty() && request.input.as_ref().is_none_or(|input| input.len() <= SMALL)
}

/// A place among the runs that wait for their checks or their turn, until it is dropped.
struct Waiting {
    service: Arc<Service>,
    input: usize,
}

impl Waiting {
    /// Takes a place for a new run with so many bytes of input, if there is one.
    fn enter(service: &Arc<Service>, input: usize) -> Result<Self, Failure> {
        let place = Self::again(service, input);
        let limit = service.config().max_queued + service.turns.available_permits();
        let (runs, held) =
            (service.waiting.load(Ordering::Relaxed), service.waiting_input.load(Ordering::Relaxed));
        // Who waits alone may be large.
        if runs > limit || (runs > 1 && held > WAITING_INPUT) {
            return Err(Failure::new(
                Kind::Server,
                "queue_full",
                format!("{} runs wait already, which is all that this server accepts", runs - 1),
            )
            .hint("try again later, or raise `server.max_queued`"));
        }
        Ok(place)
    }

    /// A place for a run that was accepted before; there always is one.
    fn again(service: &Arc<Service>, input: usize) -> Self {
        service.waiting.fetch_add(1, Ordering::Relaxed);
        service.waiting_input.fetch_add(input, Ordering::Relaxed);
        Self { service: Arc::clone(service), input }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.service.waiting.fetch_sub(1, Ordering::Relaxed);
        self.service.waiting_input.fetch_sub(self.input, Ordering::Relaxed);
    }
}

/// Reads the events of a run under way.
pub struct Follower(Arc<LiveRun>);

impl Follower {
    /// Events after this number, as soon as there are any; none when the run has ended and all were told.
    pub async fn next(&mut self, after: u64) -> Vec<RunEvent> {
        self.0.after(after).await
    }
}
