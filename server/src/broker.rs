//! The life of a run, from what the caller said to what the agent answered.
//!
//! The broker holds the keys, the gateway and the proxy, and never executes agent code. Read [`Broker::run`] from top
//! to bottom: each step is a function, and nothing is started before everything that could refuse the run has spoken.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orch_gateway::Gateway;
use orch_manifests::{Catalog, RunId};
use orch_proxy::Grants;
use orch_runner::{
    Artifact, ArtifactCache, CompileLimits, Compiler, Input, Mount, Origin, Pool, RunSpec, Token, Worker,
    WorkerCommand, WorkerConfig, protocol::MAX_INLINE_INPUT,
};
use orch_vault::VaultLocation;
use serde_json::Value;
use tokio::sync::watch;

use crate::config::Config;
use crate::door::Router;
use crate::environment::Environment;
use crate::execution::{Execution, interrupted, unless_stopped, with_progress};
use crate::failure::{Failure, Kind};
use crate::home::Home;
use crate::keys::{KeyQuestion, KeySources, Keys, SecretGrant};
use crate::limits::RunLimits;
use crate::outcome::{self, Finished};
use crate::permissions::{self, Answer, Capability, Question, Remembered};
use crate::policy::{self, Wants};
use crate::run::{Event, MountRequest, Observer, Report, RunRequest};
use crate::schema::{self, Schema};
use crate::thinking::{Thinking, WantedModels};
use crate::upstream::Upstream;

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
    #[must_use]
    pub fn new(
        environment: Environment,
        home: Home,
        config: Config,
        catalog: Catalog,
        vault: VaultLocation,
        program: &Path,
    ) -> Self {
        let command = |name: &str| WorkerCommand { program: program.to_owned(), args: vec![name.into()] };
        Self {
            environment,
            home,
            config,
            catalog: Arc::new(catalog),
            vault,
            worker: command("__worker"),
            compiler: Compiler::new(command("__compile"), CompileLimits::default()),
        }
    }

    /// Runs an agent once. When `stop` counts an interrupt the agent is stopped and the run ends as interrupted; dropping the
    /// future stops the agent as well, without waiting until its worker is gone.
    ///
    /// # Errors
    /// Whatever kept the run from ending with an answer; see [`Kind`]. Its details hold what the report would.
    pub async fn run(
        &self,
        mut request: RunRequest,
        observer: &dyn Observer,
        mut stop: watch::Receiver<u8>,
    ) -> Result<Report, Failure> {
        let started = Instant::now();
        let run = RunId::random();

        let (input, output_schema) = check_documents(&mut request)?;
        let limits = RunLimits::of(
            request.limits,
            &request.agent.manifest.limits,
            &self.config.default_limits,
            &self.config.limit_ceilings,
        );
        for note in RunLimits::cut(&request.limits, &self.config.limit_ceilings) {
            observer.event(Event::Note(&note));
        }
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
        let keys = self.open_keys(&mut request, &run, &wanted, &upstream)?;
        for warning in keys.warnings() {
            observer.event(Event::Warning(&warning));
        }
        let thinking = Thinking::plan(&request.agent.manifest, &wanted, &keys, request.simulate.is_some())?;
        for note in thinking.notes() {
            observer.event(Event::Note(&note));
        }
        let permitted = self.permit(&request, &keys, &mounts, observer);
        if *stop.borrow() > 0 {
            return Err(interrupted("interrupted before the agent was started"));
        }
        let rules = permitted?.granted(&upstream);
        keys.record_uses(&self.vault)?;

        let issued = policy::issue(&keys, &catalog);
        let env = policy::guest_environment(&run, &request, &issued, thinking.has_models())?;
        let grants = Arc::new(Grants::new());
        let gateway = Arc::new(Gateway::new(Arc::clone(&upstream.proxy), Arc::clone(&catalog)));
        let router = Arc::new(Router::new(Arc::clone(&grants), Arc::clone(&upstream.proxy), gateway));
        let module = std::mem::take(&mut request.agent.module);
        let worker = unless_stopped(&mut stop, async {
            let artifact =
                with_progress("preparing the agent", observer, self.obtain(module, observer)).await?;
            let pool = Pool { runs: 1, memory: limits.memory };
            let config = WorkerConfig { pool, ..WorkerConfig::default() };
            let door: Arc<Router> = Arc::clone(&router);
            Ok(Worker::start(&self.worker, artifact, config, door).await?)
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
        let (token, grant) = grants.mint(policy::grant(&terms, rules));
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
        let execution = Execution {
            worker: &worker,
            grant: &grant,
            session: session.as_deref(),
            observer,
            stream: request.stream,
        };
        let ran = execution.run(spec, input, &mut stop).await;
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
        request: &mut RunRequest,
        run: &RunId,
        wanted: &WantedModels<'_>,
        upstream: &Upstream,
    ) -> Result<Keys, Failure> {
        let secret_grants = request
            .secrets
            .iter()
            .map(|text| SecretGrant::parse(text, &self.catalog))
            .collect::<Result<Vec<_>, _>>()?;
        let question = KeyQuestion {
            run,
            flags: std::mem::take(&mut request.keys),
            manifest: &request.agent.manifest,
            bare: request.agent.bare,
            wanted: wanted.providers(),
            secret_grants: &secret_grants,
        };
        if upstream.simulation.is_some() {
            question.simulated(upstream.simulated_keys(wanted.providers()))
        } else {
            question.open(&KeySources::new(&self.environment, &self.catalog, &self.vault))
        }
    }

    /// Asks for what nobody has granted, and refuses the run when it stays ungranted.
    fn permit(
        &self,
        request: &RunRequest,
        keys: &Keys,
        mounts: &[MountRequest],
        observer: &dyn Observer,
    ) -> Result<Wants, Failure> {
        let agent = &request.agent;
        let name = &agent.manifest.name;
        let wants = Wants::of(agent, &policy::allowed_hosts(&request.allow, &self.config.allow)?)?;
        let file = self.home.grants_file();
        let remembered = Remembered::load(&file)?;
        let missing: Vec<Capability> = wants
            .open()
            .chain(keys.ungranted.iter().cloned())
            .filter(|capability| !remembered.holds(&agent.digest, capability))
            .collect();
        if missing.is_empty() {
            return Ok(wants);
        }
        let all: Vec<Capability> = wants.all().chain(keys.ungranted.iter().cloned()).collect();
        let question = Question {
            agent: format!("{name} {}", agent.manifest.version),
            had: remembered.of_agent(name),
            combined: permissions::combined_risk(&name.to_string(), &all, mounts),
            wanted: missing,
        };
        match observer.ask(&question) {
            Answer::Once => {}
            Answer::Remember => {
                if let Some(folder) = file.parent() {
                    self.home.ensure(folder)?;
                }
                Remembered::remember(&file, name, agent.digest, &question.wanted)?;
            }
            Answer::Deny => return Err(permissions::not_granted(&question)),
        }
        Ok(wants)
    }

    /// The folders that the guest gets, with every link on the way followed.
    fn check_mounts(&self, request: &RunRequest) -> Result<Vec<MountRequest>, Failure> {
        let mut mounts =
            permissions::check_mounts(&request.agent.manifest, request.agent.bare, &request.mounts)?;
        for mount in &mut mounts {
            let said = mount.host.display();
            let refuse = |why: String| Failure::usage("mount_refused", format!("{said} {why}"));
            let real = mount.host.canonicalize().map_err(|e| refuse(format!("cannot be mounted: {e}")))?;
            if !real.is_dir() {
                return Err(refuse("is not a folder".to_owned()));
            }
            if real.starts_with("/proc") {
                return Err(refuse("shows the environment of processes, and with it keys".to_owned())
                    .hint("copy what the agent needs into a folder of its own"));
            }
            if self.home.overlaps(&real) {
                return Err(refuse("holds orch's own files, which no agent may see".to_owned())
                    .hint("mount a folder beside it"));
            }
            mount.host = real;
        }
        Ok(mounts)
    }

    /// The compiled agent, from the cache or from a compiler process.
    async fn obtain(&self, module: Vec<u8>, observer: &dyn Observer) -> Result<Artifact, Failure> {
        for folder in
            [Some(self.home.artifacts().as_path()), self.home.artifact_key().parent()].into_iter().flatten()
        {
            self.home.ensure(folder)?;
        }
        let cache = ArtifactCache::open(&self.home.artifacts(), &self.home.artifact_key())?;
        let obtained = cache.obtain(Bytes::from(module), &self.compiler).await?;
        if let Origin::Replaced { reason } = &obtained.origin {
            observer.event(Event::Warning(&format!(
                "a compiled artifact in the cache was not used ({reason}) and was made again"
            )));
        }
        Ok(obtained.artifact)
    }
}

/// Input and schemas, checked before anything else is touched.
fn check_documents(request: &mut RunRequest) -> Result<(String, Option<Schema>), Failure> {
    let manifest = &request.agent.manifest;
    let said = request.input.take();
    let missing = said.is_none();
    let input = said.unwrap_or_else(|| "{}".to_owned());
    let value: Value = serde_json::from_str(&input).map_err(|e| {
        Failure::usage("input_invalid", format!("the input is not JSON: {e}"))
            .hint("--input takes JSON, @FILE, or - for standard input")
    })?;
    if let Some(schema) = &manifest.input {
        let violations = Schema::compile(schema, "input")?.violations(&value);
        if !violations.is_empty() {
            let all = violations.join("; ");
            let failure = if missing {
                Failure::usage(
                    "input_missing",
                    format!("{} needs an input, and there is none: {all}", manifest.name),
                )
            } else {
                Failure::usage(
                    "input_mismatch",
                    format!("the input is not what {} takes: {all}", manifest.name),
                )
            };
            let failure = failure.detail("violations", violations);
            return Err(match schema::sketch(schema) {
                Some(sketch) => {
                    failure.hint(format!("--input '{}'", sketch.to_string().replace('\'', "'\\''")))
                }
                None => failure,
            });
        }
    }
    let output = manifest.output.as_ref().map(|schema| Schema::compile(schema, "output")).transpose()?;
    Ok((input, output))
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
