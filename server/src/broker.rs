//! The life of a run, from what the caller said to what the agent answered.
//!
//! The broker holds the keys, the gateway and the proxy, and never executes agent code. Read [`Broker::run`] from top
//! to bottom: each step is a function, and nothing is started before everything that could refuse the run has spoken.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orch_gateway::Gateway;
use orch_manifests::{Catalog, RunId};
use orch_proxy::{Grants, LiveGrant};
use orch_runner::{
    Artifact, ArtifactCache, CompileError, CompileLimits, Compiler, Input, Mount, Origin, Pool, RunIo,
    RunOutcome, RunSpec, Token, Worker, WorkerCommand, WorkerConfig, WorkerError, protocol::MAX_INLINE_INPUT,
};
use orch_vault::VaultLocation;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::door::Router;
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::home::Home;
use crate::keys::{KeyQuestion, Keys, SecretGrant};
use crate::limits::RunLimits;
use crate::outcome::{self, Finished};
use crate::permissions::{self, Answer, Capability, Question, Remembered};
use crate::policy::{self, Permitted};
use crate::run::{Event, MountRequest, Observer, Report, RunRequest};
use crate::schema::Schema;
use crate::thinking::{Thinking, WantedModels};
use crate::upstream::Upstream;

/// Pieces of output that may wait for the broker before the guest is held back.
const OUTPUT_BACKLOG: usize = 16;
/// How much longer than the run a grant lives: what is under way when the guest ends may still be answered.
const GRANT_SLACK: Duration = Duration::from_secs(1);

/// Everything that runs need and share.
pub struct Broker {
    environment: Environment,
    home: Home,
    config: Config,
    catalog: Arc<Catalog>,
    vault: VaultLocation,
    worker: WorkerCommand,
    compiler: Compiler,
}

impl Broker {
    /// A broker whose workers and compilers are `program`, called with the hidden subcommands of `orch`.
    ///
    /// # Errors
    /// None at present; the signature leaves room for what is checked once and not per run.
    pub fn new(
        environment: Environment,
        home: Home,
        config: Config,
        catalog: Catalog,
        vault: VaultLocation,
        program: &Path,
    ) -> Result<Self, Failure> {
        let command = |name: &str| WorkerCommand { program: program.to_owned(), args: vec![name.into()] };
        Ok(Self {
            environment,
            home,
            config,
            catalog: Arc::new(catalog),
            vault,
            worker: command("__worker"),
            compiler: Compiler::new(command("__compile"), CompileLimits::default()),
        })
    }

    /// Runs an agent once. When `stop` counts an interrupt the agent is stopped and the run ends as interrupted; dropping the
    /// future stops the agent as well, without waiting until its worker is gone.
    ///
    /// # Errors
    /// Whatever kept the run from ending with an answer; see [`Kind`]. Its details hold what the report would.
    pub async fn run(
        &self,
        request: RunRequest,
        observer: &dyn Observer,
        mut stop: watch::Receiver<u8>,
    ) -> Result<Report, Failure> {
        let started = Instant::now();
        let run = RunId::random();

        let (input, output_schema) = check_documents(&request)?;
        let limits = RunLimits::of(
            request.limits,
            &request.agent.manifest.limits,
            &self.config.default_limits,
            &self.config.limit_ceilings,
        );
        let mounts = self.check_mounts(&request)?;
        check_calls(&request)?;

        let (upstream, catalog) = match &request.simulate {
            // The operator's pins and providers are real places: a simulation knows the built-in ones only.
            Some(scenario) => {
                let catalog = Arc::new(Catalog::builtin());
                (Upstream::simulated(scenario, &catalog).await?, catalog)
            }
            None => (Upstream::real(&self.config)?, Arc::clone(&self.catalog)),
        };
        if let Some(simulation) = &upstream.simulation {
            observer.event(Event::Note(&format!(
                "simulated providers (scenario {}): no real key is used, nothing leaves this machine",
                simulation.scenario().name()
            )));
        }
        let wanted = WantedModels::of(&request, &catalog)?;
        let (mut request, keys) = self.open_keys(request, &run, &wanted, &upstream)?;
        for name in keys.not_scrubbable() {
            observer.event(Event::Warning(&format!(
                "{name} is shorter than 16 bytes and cannot be cleaned out of responses: whoever it is sent to can tell it to the agent"
            )));
        }
        let thinking = Thinking::plan(&request.agent.manifest, &wanted, &keys, request.simulate.is_some())?;
        for note in thinking.notes() {
            observer.event(Event::Note(&note));
        }
        let permitted = self.permit(&request, &keys, &mounts, &upstream, observer);
        if *stop.borrow() > 0 {
            return Err(interrupted("interrupted before the agent was started"));
        }
        let permitted = permitted?;

        let issued = policy::issue(&keys, &catalog);
        let env = policy::guest_environment(&run, &request, &issued, thinking.has_models())?;
        let grants = Arc::new(Grants::new());
        let gateway = Arc::new(Gateway::new(Arc::clone(&upstream.proxy), Arc::clone(&catalog)));
        let router = Arc::new(Router::new(Arc::clone(&grants), Arc::clone(&upstream.proxy), gateway));
        let module = std::mem::take(&mut request.agent.module);
        let worker = unless_stopped(&mut stop, async {
            let artifact = self.obtain(module, observer).await?;
            let pool = Pool { runs: 1, memory: limits.memory };
            let config = WorkerConfig { pool, ..WorkerConfig::default() };
            let door: Arc<Router> = Arc::clone(&router);
            Worker::start(&self.worker, artifact, config, door).await.map_err(worker_failure)
        })
        .await?;

        // Only now, so that the time that preparing took is not the agent's.
        let expires = tokio::time::Instant::now() + limits.time + GRANT_SLACK;
        let terms = policy::Terms {
            run: &run,
            workspace: &self.vault.workspace,
            keys: &keys,
            issued: &issued,
            catalog: &catalog,
            limits: &limits,
            expires,
        };
        let (token, grant) = grants.mint(policy::grant(&terms, permitted));
        let session = thinking.session(&grant, &limits, expires);
        let admission = session.as_ref().map(|session| router.admit(run.clone(), Arc::clone(session)));
        let inline = input.len() <= MAX_INLINE_INPUT;
        let spec = RunSpec {
            run: run.clone(),
            token: Token::new(token.reveal()),
            args: Vec::new(),
            env,
            input: if inline { Input::Inline(input.clone()) } else { Input::Stream },
            limits: limits.for_worker(),
            mounts: mounts
                .iter()
                .map(|m| Mount { host: m.host.clone(), guest: m.guest.clone(), writable: m.writable })
                .collect(),
        };
        let input = (!inline).then(|| orch_runner::full(input));
        let ran = execute(&worker, spec, input, &grant, request.stream, observer, &mut stop).await;
        grants.revoke(&run);
        drop(admission);
        worker.shutdown().await;
        upstream.shutdown().await;

        // A worker that died of the same interrupt is no news of its own.
        if ran.is_err() && *stop.borrow() > 0 {
            return Err(interrupted(format!("interrupted; {} was stopped", request.agent.manifest.name)));
        }
        let (outcome, output) = ran?;
        outcome::conclude(&Finished {
            run,
            agent: request.agent.manifest.name.to_string(),
            outcome,
            output,
            output_schema: output_schema.as_ref(),
            grant: &grant,
            session: session.as_deref(),
            limits: &limits,
            duration: started.elapsed(),
            simulated: request.simulate.is_some(),
        })
    }

    /// Reads keys, or takes the simulation's, so that a simulated run touches neither environment nor vault.
    fn open_keys(
        &self,
        mut request: RunRequest,
        run: &RunId,
        wanted: &WantedModels<'_>,
        upstream: &Upstream,
    ) -> Result<(RunRequest, Keys), Failure> {
        let secret_grants =
            request.secrets.iter().map(|text| SecretGrant::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let flags = std::mem::take(&mut request.keys);
        let question = KeyQuestion {
            run,
            manifest: &request.agent.manifest,
            bare: request.agent.bare,
            wanted: wanted.providers(),
            flags,
            environment: &self.environment,
            vault: &self.vault,
            secret_grants: &secret_grants,
        };
        let keys = if upstream.simulation.is_some() {
            question.simulated(upstream.simulated_keys(wanted.providers()))?
        } else {
            question.open()?
        };
        Ok((request, keys))
    }

    /// Asks for what nobody has granted, and refuses the run when it stays ungranted.
    fn permit(
        &self,
        request: &RunRequest,
        keys: &Keys,
        mounts: &[MountRequest],
        upstream: &Upstream,
        observer: &dyn Observer,
    ) -> Result<Permitted, Failure> {
        let agent = &request.agent;
        let allowed = policy::allowed_hosts(&request.allow, &self.config.allow)?;
        let permitted = Permitted::of(agent, &allowed, upstream)?;
        let mut remembered = Remembered::load(&self.home.grants_file())?;
        let missing: Vec<Capability> = permitted
            .ungranted()
            .chain(keys.ungranted.iter().cloned())
            .filter(|capability| !remembered.holds(&agent.digest, capability))
            .collect();
        if missing.is_empty() {
            return Ok(permitted.granted());
        }
        let name = &agent.manifest.name;
        let all: Vec<Capability> =
            permitted.wanted().cloned().chain(keys.ungranted.iter().cloned()).collect();
        let question = Question {
            agent: format!("{name} {}", agent.manifest.version),
            had: remembered.of_agent(name),
            combined: permissions::combined_risk(&name.to_string(), &all, mounts),
            wanted: missing,
        };
        match observer.ask(&question) {
            Answer::Once => {}
            Answer::Remember => {
                if let Some(folder) = self.home.grants_file().parent() {
                    self.home.ensure(folder)?;
                }
                remembered.remember(name, agent.digest, &question.wanted)?;
            }
            Answer::Deny => return Err(not_granted(&question)),
        }
        Ok(permitted.granted())
    }

    fn check_mounts(&self, request: &RunRequest) -> Result<Vec<MountRequest>, Failure> {
        // Mounts are real paths by now; a root that is reached through a link is compared as what it is.
        let roots: Vec<PathBuf> = self.home.roots().into_iter().map(real_path).collect();
        for mount in &request.mounts {
            if mount.host.starts_with("/proc") {
                return Err(Failure::usage(
                    "mount_refused",
                    format!("{} shows the environment of processes, and with it keys", mount.host.display()),
                )
                .hint("copy what the agent needs into a folder of its own"));
            }
            if roots.iter().any(|root| root.starts_with(&mount.host) || mount.host.starts_with(root)) {
                return Err(Failure::usage(
                    "mount_refused",
                    format!("{} holds orch's own files, which no agent may see", mount.host.display()),
                )
                .hint("mount a folder beside it"));
            }
        }
        permissions::check_mounts(&request.agent.manifest, request.agent.bare, &request.mounts)
    }

    /// The compiled agent, from the cache or from a compiler process.
    async fn obtain(&self, module: Vec<u8>, observer: &dyn Observer) -> Result<Artifact, Failure> {
        for folder in
            [Some(self.home.artifacts().as_path()), self.home.artifact_key().parent()].into_iter().flatten()
        {
            self.home.ensure(folder)?;
        }
        let cache = ArtifactCache::open(&self.home.artifacts(), &self.home.artifact_key()).map_err(|e| {
            Failure::usage("cache_unusable", format!("the artifact cache cannot be used: {e}"))
        })?;
        let size = module.len();
        if size > 4 << 20 {
            observer.event(Event::Progress(&format!("preparing a module of {} MiB", size >> 20)));
        }
        let obtained = cache.obtain(Bytes::from(module), &self.compiler).await.map_err(artifact_failure)?;
        if let Origin::Replaced { reason } = &obtained.origin {
            observer.event(Event::Warning(&format!(
                "a compiled artifact in the cache was not used ({reason}) and was made again"
            )));
        }
        Ok(obtained.artifact)
    }
}

/// `path` without links, as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    let exists = path.ancestors().find_map(|known| Some((known, known.canonicalize().ok()?)));
    match exists {
        Some((known, real)) => path.strip_prefix(known).map_or(real.clone(), |rest| real.join(rest)),
        None => path.to_owned(),
    }
}

/// Runs the guest and collects what it writes.
async fn execute(
    worker: &Worker,
    spec: RunSpec,
    stdin: Option<orch_runner::Body>,
    grant: &LiveGrant,
    stream: bool,
    observer: &dyn Observer,
    stop: &mut watch::Receiver<u8>,
) -> Result<(RunOutcome, Vec<u8>), Failure> {
    let run = spec.run.clone();
    let (stdout, mut written) = mpsc::channel::<Bytes>(OUTPUT_BACKLOG);
    let (stderr, mut logged) = mpsc::channel::<Bytes>(OUTPUT_BACKLOG);
    let io = RunIo { stdin, stdout: Some(stdout), stderr: Some(stderr) };

    let mut output = Vec::new();
    let mut told = 0;
    let collect = async {
        let (mut out, mut log, mut stopped) = (true, true, false);
        while out || log {
            tokio::select! {
                piece = written.recv(), if out => match piece {
                    Some(piece) => {
                        if stream {
                            observer.event(Event::Output(&piece));
                        }
                        output.extend_from_slice(&piece);
                    }
                    None => out = false,
                },
                piece = logged.recv(), if log => match piece {
                    Some(piece) => observer.event(Event::Log(&piece)),
                    None => log = false,
                },
                () = stopping(stop), if !stopped => {
                    stopped = true;
                    worker.cancel(&run);
                }
            }
            told = outcome::tell_refusals(grant, told, observer);
        }
    };
    let (outcome, ()) = tokio::join!(worker.run(spec, io), collect);
    outcome::tell_refusals(grant, told, observer);
    Ok((outcome.map_err(worker_failure)?, output))
}

/// Resolves when the caller wants the run to stop; never, when the caller can no longer say so.
async fn stopping(stop: &mut watch::Receiver<u8>) {
    if stop.wait_for(|count| *count > 0).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What is under way before the guest runs is dropped when the caller wants to stop.
async fn unless_stopped<T>(
    stop: &mut watch::Receiver<u8>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        () = stopping(stop) => Err(interrupted("interrupted before the agent was started")),
    }
}

/// The failure of a run that its caller stopped.
pub(crate) fn interrupted(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Interrupted, "interrupted", what)
}

/// Input and schemas, checked before anything else is touched.
fn check_documents(request: &RunRequest) -> Result<(String, Option<Schema>), Failure> {
    let manifest = &request.agent.manifest;
    let value: Value = serde_json::from_str(&request.input).map_err(|e| {
        Failure::usage("input_invalid", format!("the input is not JSON: {e}"))
            .hint("--input takes JSON, @FILE, or - for standard input")
    })?;
    if let Some(schema) = &manifest.input {
        let violations = Schema::compile(schema, "input")?.violations(&value);
        if !violations.is_empty() {
            return Err(Failure::usage(
                "input_mismatch",
                format!("the input is not what {} takes: {}", manifest.name, violations.join("; ")),
            )
            .detail("violations", violations));
        }
    }
    let output = manifest.output.as_ref().map(|schema| Schema::compile(schema, "output")).transpose()?;
    Ok((request.input.clone(), output))
}

fn check_calls(request: &RunRequest) -> Result<(), Failure> {
    if request.agent.manifest.calls.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Denied,
        "calls_unavailable",
        format!(
            "{} wants to call other agents, which this version of orch does not carry out",
            request.agent.manifest.name
        ),
    ))
}

fn not_granted(question: &Question) -> Failure {
    let wanted: Vec<String> = question.wanted.iter().map(ToString::to_string).collect();
    let failure = Failure::new(
        Kind::Denied,
        "not_granted",
        format!("{} wants to {}, and nobody has granted it", question.agent, wanted.join("; to ")),
    )
    .detail("wanted", wanted);
    question.wanted.iter().fold(failure, |failure, capability| match capability {
        Capability::Egress(want) => failure.hint(match want.port {
            Some(port) => format!("--allow {}:{port}", want.host),
            None => format!("--allow {}", want.host),
        }),
        Capability::Secret { name, host } => failure.hint(format!("--secret {name}@{host}")),
    })
}

fn artifact_failure(error: orch_runner::ArtifactError) -> Failure {
    match error {
        orch_runner::ArtifactError::Compile(CompileError::Module(why)) => {
            Failure::usage("module_invalid", format!("the agent's module cannot be used: {why}"))
        }
        orch_runner::ArtifactError::Compile(other) => Failure::new(
            Kind::Agent,
            "compile_failed",
            format!("the agent's module cannot be compiled: {other}"),
        ),
        other => Failure::usage("cache_unusable", format!("the artifact cache cannot be used: {other}")),
    }
}

fn worker_failure(error: WorkerError) -> Failure {
    match error {
        WorkerError::Rejected { message } => {
            Failure::usage("run_rejected", format!("the run cannot be set up: {message}"))
        }
        WorkerError::Died { .. } => Failure::new(Kind::Agent, "sandbox_died", error.to_string()),
        other => Failure::defect(other.to_string()),
    }
}
