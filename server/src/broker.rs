//! The broker: what runs share, and the life of one.
//!
//! The broker holds the keys, the gateway and the proxy, and never executes agent code. [`Broker::run`] is the story of
//! a run on the command line: everything that could refuse it speaks first (`prepare.rs`), then [`Broker::execute`]
//! opens its door, lets a worker run it, and says how it ended. A server does the same two steps with a queue between.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use orch_manifests::{Catalog, RunId};
use orch_proxy::Decision;
use orch_runner::{Input, JailReport, Mount, RunSpec, Token, protocol::MAX_INLINE_INPUT};
use orch_vault::{AuditEvent, OpenMode, PlannedUse, Vault, VaultLocation};
use tokio::sync::{OnceCell, mpsc, watch};

use crate::afterwards::{self, Spent, Tally};
use crate::agent::Agent;
use crate::config::Config;
use crate::decisions::LocalDecisions;
use crate::door::{Beyond, Router};
use crate::environment::Environment;
use crate::execution::{Execution, interrupted, unless_stopped};
use crate::failure::Failure;
use crate::home::Home;
use crate::keys::KeySources;
use crate::outcome::{self, Finished};
use crate::permissions::Remembered;
use crate::policy;
use crate::prepare::{Book, Prepared, Standing};
use crate::redact::Known;
use crate::reload;
use crate::routing::Routing;
use crate::run::{Event, Observer, Report, RunRequest, Simulate};
use crate::telemetry::{self, Destination, Exporting, Telemetry};
use crate::thinking::Watched;
use crate::upstream::{Upstream, internet, prove};
use crate::workers::{Wanted, Workers};

/// How much longer than the run a grant lives: what is under way when the guest ends may still be answered.
const GRANT_SLACK: Duration = Duration::from_secs(1);

/// Decisions of one run that whoever follows it hears of, and those that may wait until the last were heard.
const DECISIONS_TOLD: usize = 2_000;
const DECISIONS_WAITING: usize = 256;

/// For what a collector has not been told when a process ends.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Everything that runs need and share.
pub struct Broker {
    environment: Environment,
    home: Home,
    /// What holds now; see [`Broker::reload`].
    pub(crate) config: RwLock<Arc<Config>>,
    catalog: Arc<Catalog>,
    vault: VaultLocation,
    pub(crate) router: Arc<Router>,
    workers: Workers,
    /// The way to real providers and hosts, made when it is first needed.
    pub(crate) internet: OnceLock<Arc<Upstream>>,
    /// What is told of decisions.
    telemetry: Arc<Telemetry>,
    /// Who is told of it, once there is something to tell.
    exporting: Mutex<Option<Exporting>>,
    /// Whether the proxy's self-test held.
    proven: OnceCell<()>,
    /// What a test wants to happen in the next execution.
    #[cfg(test)]
    pub(crate) in_next_execution: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// The count of a run's uses, until it is on record. A run that is dropped or panics leaves it open, and that is what goes
/// on record then.
struct Owed<'a> {
    broker: &'a Broker,
    uses: Vec<PlannedUse>,
}

impl Owed<'_> {
    /// The uses, which are counted now.
    fn settled(mut self) -> Vec<PlannedUse> {
        std::mem::take(&mut self.uses)
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.broker.record_if_possible(afterwards::of_lost(&self.uses));
    }
}

/// How a run ended, and what is on record about it.
pub(crate) struct Concluded {
    pub(crate) result: Result<Report, Failure>,
    /// What the egress proxy decided, without any value that the run held.
    pub(crate) decisions: Vec<Decision>,
    /// What it did, those decisions counted that were not kept.
    pub(crate) tally: Arc<Tally>,
    /// What its calls cost, by key of the vault.
    pub(crate) spent: Spent,
}

impl From<Failure> for Concluded {
    fn from(failure: Failure) -> Self {
        Self { result: Err(failure), decisions: Vec::new(), tally: Arc::default(), spent: Spent::new() }
    }
}

impl Broker {
    /// A broker whose workers and compilers are `program`, called with the hidden subcommands of `orch`.
    #[must_use]
    pub fn new(
        environment: Environment,
        home: Home,
        config: Config,
        catalog: Catalog,
        vault: VaultLocation,
        program: &Path,
    ) -> Self {
        let router = Arc::new(Router::new());
        Self {
            environment,
            workers: Workers::new(home.clone(), program, Arc::clone(&router), config.capacity()),
            config: RwLock::new(Arc::new(config)),
            catalog: Arc::new(catalog),
            vault,
            home,
            router,
            internet: OnceLock::new(),
            telemetry: Arc::default(),
            exporting: Mutex::default(),
            proven: OnceCell::new(),
            #[cfg(test)]
            in_next_execution: Mutex::default(),
        }
    }

    /// The operator's configuration, as it is now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The folders of this installation.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The providers, the operator's included.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// What is told of decisions.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Begins to tell a collector of what goes on, where there is one and none is told yet.
    ///
    /// # Errors
    /// When the way to it cannot be made.
    pub(crate) fn export(&self) -> Result<(), Failure> {
        let config = self.config();
        let Some(to) = Destination::of(&config.telemetry, &config.otel) else { return Ok(()) };
        let mut exporting = self.exporting.lock().unwrap_or_else(PoisonError::into_inner);
        if exporting.is_none() {
            // Not the way out of runs, behind which there may be a simulation.
            *exporting = Some(self.telemetry.export(internet(&config)?, to));
        }
        Ok(())
    }

    /// Tells the collector what it has not been told yet, and waits no longer for it than a moment. What happens after that
    /// is told nobody.
    pub async fn end_export(&self) {
        let exporting = self.exporting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(exporting) = exporting {
            exporting.end(LAST_EXPORT).await;
        }
    }

    /// The workers.
    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Ends the exchanges under way that carry the credential of this id in a run of this workspace. Says how many.
    pub(crate) fn cut(&self, workspace: &str, id: &str) -> usize {
        self.router.grants().cut_carrying(workspace, id)
    }

    /// The same in the runs of all workspaces.
    pub(crate) fn cut_everywhere(&self, id: &str) -> usize {
        self.router.grants().cut_carrying_everywhere(id)
    }

    /// Runs an agent once, for the user of this machine, who is asked for what nobody has granted. When `stop` counts
    /// an interrupt the agent is stopped and the run ends as interrupted; dropping the future stops the agent as well,
    /// without waiting until its worker is gone.
    ///
    /// # Errors
    /// Whatever kept the run from ending with an answer; see [`Kind`](crate::Kind). Its details hold what the report
    /// would.
    pub async fn run(
        &self,
        request: RunRequest,
        observer: &dyn Observer,
        stop: watch::Receiver<u8>,
    ) -> Result<Report, Failure> {
        let started = Instant::now();
        self.home.check_vault()?;
        self.export()?;
        let config = self.config();
        for warning in config.otel.warnings(&config.telemetry) {
            observer.event(Event::Warning(&warning));
        }
        let upstream = self.upstream(request.simulate.as_ref()).await?;
        let routing = Routing::local(&self.config().routes);
        let checked = self.check(RunId::random(), request, upstream, routing, observer)?;
        let run = checked.run.clone();
        // The vault is closed again when this is done, and only then can a refusal be put on record.
        let keys =
            checked.open_keys(&KeySources::new(&self.environment, &self.catalog, &self.vault), (true, false));
        let keys = keys.inspect_err(|failure| self.refused(&run, failure))?;
        let file = self.home.grants_file();
        let record = |event| self.record_ahead(event);
        let standing = Standing {
            workspace: &self.vault.workspace,
            local: true,
            granted: Remembered::load(&file)?,
            book: Some(Book { file, record: &record }),
        };
        let prepared = self.admit(checked, keys, &standing, observer);
        if *stop.borrow() > 0 {
            return Err(interrupted("interrupted before the agent was started"));
        }
        let prepared = prepared.inspect_err(|failure| self.refused(&run, failure))?;
        prepared.keys.record_uses(&self.vault)?;
        let simulated = prepared.simulated;
        let agent = prepared.request.agent.manifest.name.to_string();
        let owed = Owed { broker: self, uses: prepared.keys.uses.clone() };
        let concluded = self.execute(prepared, false, started, observer, stop).await;
        let uses = owed.settled();
        if let Err(failure) = LocalDecisions::keep(&self.home, &run, &agent, &concluded.decisions) {
            let text = format!("what the egress proxy decided could not be put on record: {failure}");
            observer.event(Event::Warning(&text));
        }
        let mut events = afterwards::of_run(&run, &uses, &concluded.tally, &concluded.spent);
        events.extend(afterwards::of_violation(&run, &concluded.result));
        match uses.is_empty() {
            false => self.record(events, observer),
            // A simulation leaves the vault alone; what else never used it is refused on record where one is at hand.
            true if !simulated => self.record_if_possible(events),
            true => {}
        }
        concluded.result
    }

    /// Puts on record that a run was refused. The refusal is what is reported.
    fn refused(&self, run: &RunId, failure: &Failure) {
        self.record_if_possible(afterwards::of_refusal(run, failure).into_iter().collect());
    }

    /// Puts on record what is about to hold, where there is a vault to hold that.
    fn record_ahead(&self, event: AuditEvent) -> Result<(), Failure> {
        let mut vault = Vault::open(&self.vault, OpenMode::ReadOnlyIfExists)?;
        if vault.exists() { Ok(vault.record(vec![event])?) } else { Ok(()) }
    }

    /// Puts on record what has happened, where there is a vault that can hold it. What happened is what is reported.
    fn record_if_possible(&self, events: Vec<AuditEvent>) {
        if events.is_empty() {
            return;
        }
        // Nobody is asked for a passphrase on account of it, and least of all again.
        let custody = self.vault.custody.clone().without_asking();
        let quiet = VaultLocation { custody, ..self.vault.clone() };
        let opened = Vault::open(&quiet, OpenMode::ReadOnlyIfExists);
        let _ = opened.and_then(|mut vault| vault.record(events));
    }

    /// Puts on record what has happened already. That it could not be is said, and changes nothing any more.
    fn record(&self, events: Vec<AuditEvent>, observer: &dyn Observer) {
        let recorded =
            Vault::open(&self.vault, OpenMode::ReadOnlyIfExists).and_then(|mut vault| vault.record(events));
        if let Err(error) = recorded {
            observer
                .event(Event::Warning(&format!("the vault's record of this run is not complete: {error}")));
        }
    }

    /// What becomes of each layer around a worker, and around a compiler, on this machine. Both are started for it, the
    /// worker with `agent`.
    ///
    /// # Errors
    /// When the agent cannot be compiled or a process cannot be started.
    pub async fn probe_jail(&self, agent: &Agent) -> Result<[(&'static str, JailReport); 2], Failure> {
        self.workers.probe(agent).await
    }

    /// Proves, once, that the proxy puts secrets where they belong and takes them out of answers.
    ///
    /// # Errors
    /// It does not: nothing may be started.
    pub async fn prove(&self) -> Result<(), Failure> {
        self.proven.get_or_try_init(prove).await.copied()
    }

    /// What stands behind the proxy: the simulated providers of a scenario, or the internet.
    pub(crate) async fn upstream(&self, scenario: Option<&Simulate>) -> Result<Arc<Upstream>, Failure> {
        self.prove().await?;
        match scenario {
            Some(simulate) => Ok(Arc::new(Upstream::simulated(simulate.scenario()?).await?)),
            None => self.internet(),
        }
    }

    /// From now on simulated providers stand in the place of the internet, for everybody.
    pub(crate) async fn simulate(&self, simulate: &Simulate) -> Result<(), Failure> {
        let upstream = Arc::new(Upstream::simulated(simulate.scenario()?).await?);
        self.internet.set(upstream).map_err(|_| Failure::defect("the way out is in use already"))
    }

    /// The way to real providers and hosts.
    pub(crate) fn internet(&self) -> Result<Arc<Upstream>, Failure> {
        if let Some(internet) = self.internet.get() {
            return Ok(Arc::clone(internet));
        }
        // Held until it is there for whoever changes the configuration.
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        let made = Arc::new(Upstream::real(&config, &self.catalog)?);
        Ok(Arc::clone(self.internet.get_or_init(|| made)))
    }

    /// Runs what was prepared. `keep` says whether its worker is kept for the agent's next runs; `since` is when the
    /// run began for its caller.
    pub(crate) async fn execute(
        &self,
        prepared: Prepared,
        keep: bool,
        since: Instant,
        observer: &dyn Observer,
        mut stop: watch::Receiver<u8>,
    ) -> Concluded {
        let upstream = Arc::clone(&prepared.upstream);
        let concluded = match self.carry_out(prepared, keep, since, observer, &mut stop).await {
            Ok(concluded) => concluded,
            Err(failure) => failure.into(),
        };
        // A simulation is this run's own.
        if let Some(upstream) = Arc::into_inner(upstream) {
            upstream.shutdown().await;
        }
        concluded
    }

    async fn carry_out(
        &self,
        prepared: Prepared,
        keep: bool,
        since: Instant,
        observer: &dyn Observer,
        stop: &mut watch::Receiver<u8>,
    ) -> Result<Concluded, Failure> {
        let Prepared { run, workspace, request, input, limits, mounts, scratch, upstream, .. } = prepared;
        let Prepared { keys, thinking, wants, output_schema, simulated, treasury, witness, bodies, .. } =
            prepared;
        let RunRequest { agent, env, stream, trial, keys: given, env_keys, trace, .. } = request;
        // What of these is of use is among the keys.
        drop((given, env_keys));
        #[cfg(test)]
        {
            let act = self.in_next_execution.lock().unwrap_or_else(PoisonError::into_inner).take();
            act.into_iter().for_each(|act| act());
        }
        let known = Arc::new(Known::of(&keys));
        let issued = policy::issue(&keys, &upstream.catalog);
        let env = policy::guest_environment(&run, &agent.manifest, &env, &issued, thinking.has_models())?;
        let mounts: Vec<Mount> = mounts
            .into_iter()
            .map(|m| Mount { host: m.host, guest: m.guest, writable: m.writable })
            .collect();
        let wanted = Wanted {
            workspace: &workspace,
            agent: &agent,
            memory: limits.memory,
            shared: keep && mounts.is_empty() && scratch.is_none(),
            mounts: &mounts,
            scratch: scratch.as_ref(),
            required: &self.config().sandbox_required,
            neighbours: keep,
        };
        let leased = unless_stopped(stop, self.workers.lease(&wanted, observer)).await?;

        // Only now, so that the time that preparing took is not the agent's.
        let expires = tokio::time::Instant::now() + limits.time + GRANT_SLACK;
        let config = self.config();
        let (server_tools, account) = (wants.server_tools(), wants.account().to_vec());
        let terms = policy::Terms {
            run: &run,
            workspace: &workspace,
            keys: &keys,
            account: &account,
            issued: &issued,
            catalog: &upstream.catalog,
            limits: &limits,
            trials: [config.egress.trial.as_deref(), trial.as_deref()],
            expires,
        };
        let (told, decisions) = mpsc::channel(DECISIONS_WAITING);
        let left = AtomicUsize::new(DECISIONS_TOLD);
        let tally = Arc::new(Tally::of(&keys.uses));
        let counting = Arc::clone(&tally);
        let hearing = self.telemetry.hearing(&workspace, Arc::clone(&known), move |decision| {
            counting.count(decision);
            let more =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            if more && let Some(line) = telemetry::line(decision) {
                // Who follows hears of what there is room for; the ledger has it all the same.
                let _ = told.try_send(line);
            }
        });
        let grant = policy::grant(&terms, wants.granted(&upstream));
        let (token, grant) = self.router.grants().mint_telling(grant, hearing);
        // Whoever changed the configuration since the run was admitted did not find the grant.
        let config = self.config();
        grant.retain_rules(|rule| reload::still_allowed(rule, &config.egress.allow));
        let traced = self.telemetry.run(&run, &workspace, &agent.manifest, trace);
        let listener = Some(traced.listener());
        let watched = Watched { treasury, witness, listener };
        let session = thinking.session(&grant, &limits, expires, server_tools, watched);
        if let Some(session) = &session {
            observer.calls(&session.receipts);
        }
        let beyond = Beyond {
            proxy: Arc::clone(&upstream.proxy),
            gateway: Arc::clone(&upstream.gateway),
            session: session.clone(),
            recorder: bodies.map(|bodies| bodies.without(Arc::clone(&known))),
        };
        let admission = self.router.admit(run.clone(), beyond);
        let inline = input.len() <= MAX_INLINE_INPUT;
        let (input, streamed) = match inline {
            true => (Input::Inline(input), None),
            false => (Input::Stream, Some(orch_runner::full(input))),
        };
        let spec = RunSpec {
            run: run.clone(),
            token: Token::new(token.reveal()),
            args: Vec::new(),
            env,
            input,
            limits: limits.for_worker(),
            mounts,
        };
        let execution = Execution {
            worker: leased.worker(),
            grant: &grant,
            session: session.as_deref(),
            observer,
            known: &known,
            decisions: decisions.into(),
            stream,
        };
        let ran = execution.run(spec, streamed, stop).await;
        self.router.grants().revoke(&run);
        drop(admission);
        leased.end().await;

        if let Some(note) = outcome::trial_note(&grant) {
            observer.event(Event::Note(&known.cleaned(&note)));
        }
        self.telemetry.moved(grant.uploaded(), grant.downloaded());
        // What stays is written from these, and the answers' details are, too.
        let decisions = telemetry::all_cleaned(&grant.ledger().decisions(), &known);
        let result = match ran {
            // A worker that died of the same interrupt is no news of its own.
            Err(_) if *stop.borrow() > 0 => {
                Err(interrupted(format!("interrupted; {} was stopped", agent.manifest.name)))
            }
            Err(failure) => Err(failure),
            Ok((outcome, output)) => off_the_async_threads(output.len(), || {
                outcome::conclude(&Finished {
                    run,
                    agent: agent.manifest.name.to_string(),
                    outcome,
                    output,
                    output_schema: output_schema.as_ref(),
                    grant: &grant,
                    decisions: &decisions,
                    session: session.as_deref(),
                    limits: &limits,
                    duration: since.elapsed(),
                    simulated,
                })
            }),
        };
        let result = result.map_err(|failure| known.cleaned_failure(failure));
        traced.end(result.as_ref().err().map(Failure::code));
        let spent = session.as_ref().map(|session| afterwards::spent(&session.receipts)).unwrap_or_default();
        Ok(Concluded { result, decisions, tally, spent })
    }
}

/// Output of this many bytes is checked without further ado.
const SMALL: usize = 16 << 10;

/// Does what may take a while with so many bytes where it holds up nobody else.
fn off_the_async_threads<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let flavor = tokio::runtime::Handle::current().runtime_flavor();
    if bytes > SMALL && flavor == tokio::runtime::RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

#[cfg(test)]
mod tests;
