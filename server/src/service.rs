//! Runs on a server: accepted, queued, executed, recorded.
//!
//! A run is accepted when everything that could refuse it has spoken and its row is on disk. From then on it ends in
//! the store whatever happens: as succeeded, failed or cancelled here, or, when this process dies, as what the next one
//! makes of it (`recovery.rs`). The server and `orch run` without `--local` are the same code; the latter has no
//! listener and ends with its run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use orch_gateway::{Plan, Preference};
use orch_manifests::{Catalog, Digest, RunId};
use orch_vault::VaultLocation;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::active::Actives;
use crate::broker::Broker;
use crate::budgets::Budgets;
use crate::byok::{self, Policies, lent_by_environment};
use crate::caller::Caller;
use crate::config::Config;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::home::Home;
use crate::keeper::Keeper;
use crate::records::{BodyKeeper, Who};
use crate::routing::Routings;
use crate::run::{RunRequest, Simulate};
use crate::store::{Instance, NewRun, RunEvent, Store};

mod draining;
mod ending;
mod lending;
mod library;
mod live;
mod preparing;
mod queue;
mod recovery;
mod refusals;
mod stored;
#[cfg(test)]
mod tests;
mod turns;
mod users;

pub use library::{Library, is_reserved};
use live::{LiveRun, Why};
use queue::Queue;
use refusals::Refusals;
use stored::StoredRequest;
use turns::Start;

/// How long a worker that nobody uses is kept.
const WORKER_IDLE: Duration = Duration::from_secs(60);
/// How often idle workers are looked for, and what runs have left behind.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// How often the uses of keys by clients go on record.
const COUNTS: Duration = Duration::from_secs(60);
/// How often documents are looked for that crashes have left behind.
const SWEEP: Duration = Duration::from_secs(6 * 60 * 60);

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
    /// Where the platform's keys are, if the configuration lends those of the environment. Nothing else is looked up there.
    pub environment: Environment,
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
    routings: Arc<Routings>,
    policies: Arc<Policies>,
    /// What the operator lends out of the environment.
    lent: Option<Arc<Plan>>,
    /// Whether providers are asked about keys before they are stored.
    checks_keys: bool,
    /// What members think with first.
    actives: Actives,
    library: Library,
    budgets: Arc<Budgets>,
    instance: Instance,
    live: Mutex<HashMap<RunId, Arc<LiveRun>>>,
    /// Contents of agents that the store is known to have.
    kept_agents: Mutex<HashSet<Digest>>,
    queue: Arc<Queue>,
    refusals: Refusals,
    tasks: Mutex<JoinSet<()>>,
    /// Where tasks run: they outlive the connection that a run came on.
    runtime: Handle,
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
    /// Records that the store could not take since the process began.
    pub lost: u64,
}

impl Service {
    /// Opens the store and the vault, and takes over what dead processes left.
    ///
    /// # Errors
    /// When the store or the vault cannot be used.
    pub async fn open(parts: Parts, mode: Mode) -> Result<Arc<Self>, Failure> {
        let folder = parts.home.data().to_owned();
        parts.home.ensure(&folder)?;
        for file in [&parts.vault.store, &parts.vault.key_file] {
            if let Some(folder) = file.parent() {
                parts.home.ensure(folder)?;
            }
        }
        Self::over(open_store(folder).await?, parts, mode).await
    }

    /// The service over a store that is open.
    async fn over(
        (store, instance): (Store, Instance),
        parts: Parts,
        mode: Mode,
    ) -> Result<Arc<Self>, Failure> {
        let Parts { home, config, catalog, vault, program, simulate, environment } = parts;
        let capacity = config.capacity();
        capacity.prepare();
        let queue = Queue::new(capacity.sandboxes as usize, config.max_queued);
        let broker =
            Broker::new(Environment::Fixed(BTreeMap::new()), home, config, catalog, vault.clone(), &program);
        // Clients of a server may come before the first run.
        if mode == Mode::Serve {
            broker.prove().await?;
            broker.telemetry().log_into(broker.home().data())?;
        }
        if let Some(simulate) = simulate {
            broker.simulate(&simulate).await?;
        }
        let catalog = Arc::clone(broker.catalog());
        // A command of this machine's user needs none of what a server lends.
        let lent = match mode {
            Mode::Serve => lent_by_environment(&broker.config().platform, &environment, &catalog)?,
            Mode::Embedded => None,
        };
        let keeper = match mode {
            Mode::Embedded => Keeper::new(vault, catalog),
            Mode::Serve => Keeper::hold(vault, catalog).await?,
        };
        let service = Arc::new(Self {
            mode,
            budgets: Budgets::new(store.clone(), &instance, broker.config()),
            library: Library::new(store.clone(), Arc::clone(broker.catalog())),
            routings: Arc::new(Routings::new(store.clone(), Arc::clone(broker.catalog()))),
            policies: Arc::new(Policies::new(store.clone())),
            lent,
            checks_keys: environment.checks_keys(),
            actives: Actives::new(store.clone()),
            broker,
            store,
            keeper: Arc::new(keeper),
            instance,
            live: Mutex::default(),
            kept_agents: Mutex::default(),
            queue,
            refusals: Refusals::default(),
            tasks: Mutex::default(),
            runtime: Handle::current(),
        });
        service.recover().await?;
        if mode == Mode::Serve {
            service.broker.export()?;
            let housekeeping = Arc::downgrade(&service);
            service.spawn(async move {
                let mut swept: Option<Instant> = None;
                let mut counted = Instant::now();
                loop {
                    tokio::time::sleep(HOUSEKEEPING).await;
                    let Some(service) = housekeeping.upgrade() else { return };
                    service.broker.workers().reap(WORKER_IDLE).await;
                    // What cannot be done now is done the next time.
                    service.forget_bodies().await;
                    let _ = service.store.empty_log().await;
                    if counted.elapsed() >= COUNTS {
                        counted = Instant::now();
                        let _ = service.keeper.record_clients().await;
                    }
                    if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                        swept = Some(Instant::now());
                        let _ = service.store.sweep().await;
                    }
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

    /// What the model calls of each workspace go by.
    pub(crate) fn routings(&self) -> &Arc<Routings> {
        &self.routings
    }

    /// Whose keys the calls of each workspace are made with.
    pub(crate) fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// What the operator lends to the calls of a workspace; none when that is nothing.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub(crate) async fn platform_plan(&self, workspace: &str) -> Result<Option<Arc<Plan>>, Failure> {
        let config = self.config();
        let platform = match byok::platform_ring(&config.platform, workspace) {
            Some(ring) => Some(byok::lent(&self.keeper.keys_of(&ring).await?.plan, &config.platform)),
            None => self.lent.clone(),
        };
        Ok(platform.filter(|plan| plan.has_keys()))
    }

    /// What the operator lends out of the environment.
    pub(crate) fn lent(&self) -> Option<&Arc<Plan>> {
        self.lent.as_ref()
    }

    /// Whether providers are asked about keys before they are stored.
    pub(crate) fn checks_keys(&self) -> bool {
        self.checks_keys
    }

    /// What members think with first.
    pub(crate) fn actives(&self) -> &Actives {
        &self.actives
    }

    /// What the owner of this installation thinks with first from now on, and everybody of their workspace who has chosen
    /// nothing.
    pub fn prefer(&self, preferred: Option<Preference>) {
        self.actives.prefer(preferred);
    }

    /// The providers, the operator's included.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        self.broker.catalog()
    }

    /// The operator's configuration, as it is now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
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

    /// What may be spent.
    pub(crate) fn budgets(&self) -> &Arc<Budgets> {
        &self.budgets
    }

    /// Where bodies of a workspace's calls are kept, where that is wanted.
    pub(crate) fn body_keeper(&self, workspace: &str) -> Option<BodyKeeper> {
        let kept = *self.broker.config().records.bodies.get(workspace)?;
        Some(BodyKeeper { store: self.store.clone(), workspace: workspace.into(), kept })
    }

    /// Removes the bodies that are kept for longer than the configuration says now. What cannot be done is left for the next
    /// time; nobody reads it meanwhile.
    async fn forget_bodies(&self) {
        let config = self.broker.config();
        let wanted = config.records.bodies.iter().map(|(workspace, kept)| (workspace.clone(), kept.keep));
        let _ = self.store.forget_bodies(wanted.collect(), OffsetDateTime::now_utc()).await;
    }

    /// Agents by name.
    #[must_use]
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// How much is going on.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            queued: self.queue.waiting(),
            running: self.queue.running(),
            workers: self.broker.workers().kept(),
            lost: self.store.lost(),
        }
    }

    /// Whether new runs can be accepted.
    ///
    /// # Errors
    /// Why not: `shutting_down`, or that the store or the vault has failed for good.
    pub fn readiness(&self) -> Result<(), Failure> {
        if self.queue.is_closed() {
            return Err(queue::shutting_down());
        }
        self.store.health()?;
        self.keeper.health()
    }

    /// Accepts a run: checks everything that could refuse it, puts it on disk, and lets it take its turn.
    ///
    /// # Errors
    /// Whatever refuses it; then nothing was accepted.
    pub async fn submit(self: &Arc<Self>, caller: &Caller, request: RunRequest) -> Result<RunId, Failure> {
        let place = self.queue.enter(&caller.workspace, request.size())?;
        let live = Arc::new(LiveRun::new(RunId::random(), &caller.workspace).of_member(&caller.name));
        let stored = StoredRequest::of(&live.run, &request, self.mode == Mode::Embedded).to_json()?;
        let agent = Arc::clone(&request.agent);
        let prepared = Box::pin(self.prepare(request, &live)).await?;
        self.keep_agent(&agent).await?;
        let start = match self.queue.try_turn() {
            Some(turn) => {
                self.record_uses(&prepared).await?;
                Start::AtOnce(Box::new(prepared), turn)
            }
            None => Start::Later(agent.manifest.name.clone(), Box::new(prepared.into_request())),
        };
        let (created, who) = (OffsetDateTime::now_utc(), Who::of(caller));
        let row = NewRun {
            run: live.run.clone(),
            workspace: caller.workspace.to_string(),
            agent: agent.manifest.name.clone(),
            version: agent.manifest.version.to_string(),
            digest: agent.digest,
            caller: caller.name.to_string(),
            token: Some(caller.id.to_string()),
            member: who.member.clone(),
            instance: self.instance.id().to_owned(),
            request: stored,
            created,
            started: matches!(start, Start::AtOnce(..)).then_some(created),
        };
        let run = live.run.clone();
        let service = Arc::clone(self);
        let (accepted, answer) = oneshot::channel();
        // A task of its own: what is on disk is executed, whether or not its caller is still there to hear of it.
        self.spawn(async move {
            let stored = service.store.accept(row).await;
            if stored.is_ok() {
                service.begin(live, who, start, place);
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

    /// Owns a task until it ends or the service goes away.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
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

/// Reads the events of a run under way.
pub struct Follower(Arc<LiveRun>);

impl Follower {
    /// Events after this number, as soon as there are any; none when the run has ended and all were told.
    pub async fn next(&mut self, after: u64) -> Vec<RunEvent> {
        self.0.after(after).await
    }
}
