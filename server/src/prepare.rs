//! Everything that could refuse a run, before anything of it is started.
//!
//! A [`Prepared`] run has passed its checks: input, limits, mounts, keys, plan and permissions. On a server this is what
//! is accepted and waits for its turn; on the command line it is run at once.

use std::path::PathBuf;
use std::sync::Arc;

use orch_gateway::{Treasury, Witness};
use orch_manifests::{Catalog, Digest, Manifest, Provider, RunId};
use orch_runner::Scratch;
use orch_vault::AuditEvent;
use serde_json::Value;

use crate::broker::Broker;
use crate::failure::{Failure, Kind};
use crate::keys::{CallerKeys, KeyQuestion, KeySources, Keys, SecretGrant};
use crate::limits::RunLimits;
use crate::mounts;
use crate::permissions::{self, Answer, Capability, Question, Remembered};
use crate::policy::{self, Wants};
use crate::records::BodyKeeper;
use crate::routing::Routing;
use crate::run::{Event, MountRequest, Observer, RunRequest};
use crate::schema::{self, Schema};
use crate::thinking::{Thinking, WantedModels};
use crate::upstream::Upstream;

/// What a run is, once its documents, limits and mounts are known to be in order.
pub(crate) struct Checked {
    pub(crate) run: RunId,
    request: RunRequest,
    upstream: Arc<Upstream>,
    routing: Routing,
    input: String,
    output_schema: Option<Schema>,
    limits: RunLimits,
    mounts: Vec<MountRequest>,
    scratch: Option<Scratch>,
}

/// In whose name a run is permitted, and what that brings.
pub(crate) struct Standing<'a> {
    /// The workspace: whose keys these are, and with whom connections and workers are shared.
    pub(crate) workspace: &'a str,
    /// Whether the run is the user's own on this machine, where providers without a pin may be.
    pub(crate) local: bool,
    /// What was granted before.
    pub(crate) granted: Remembered,
    /// Where an answer that is to be remembered goes; none when no answer is.
    pub(crate) book: Option<Book<'a>>,
}

/// Where answers are remembered.
pub(crate) struct Book<'a> {
    pub(crate) file: PathBuf,
    /// Puts on record what is going to be remembered.
    pub(crate) record: &'a (dyn Fn(AuditEvent) -> Result<(), Failure> + Sync),
}

/// A run that nothing refuses any more.
pub(crate) struct Prepared {
    pub(crate) run: RunId,
    pub(crate) workspace: String,
    /// What was asked, without its input.
    pub(crate) request: RunRequest,
    pub(crate) simulated: bool,
    pub(crate) input: String,
    pub(crate) output_schema: Option<Schema>,
    pub(crate) limits: RunLimits,
    pub(crate) mounts: Vec<MountRequest>,
    pub(crate) scratch: Option<Scratch>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) keys: Keys,
    pub(crate) thinking: Thinking,
    pub(crate) wants: Wants,
    /// Who pays for it beside its own limits.
    pub(crate) treasury: Option<Arc<dyn Treasury>>,
    /// Who hears of uses of keys before they happen that are not planned on record.
    pub(crate) witness: Option<Arc<dyn Witness>>,
    /// Where what its models are asked and answer is kept, if it is.
    pub(crate) bodies: Option<BodyKeeper>,
}

impl Checked {
    /// The run's keys, or the simulation's, so that a simulated run touches neither environment nor vault. Reads the
    /// vault, so it may wait for the disk. `local` as in [`Standing`]; `lends`: whether other keys may come before the vault's.
    ///
    /// # Errors
    /// When a key that is needed is not there or cannot be used, or a provider or model is not known.
    pub(crate) fn open_keys(
        &self,
        sources: &KeySources<'_>,
        (local, lends): (bool, bool),
    ) -> Result<Keys, Failure> {
        let catalog = &self.upstream.catalog;
        let secrets = self.request.secrets.iter().map(|text| SecretGrant::parse(text, catalog));
        let secret_grants = secrets.collect::<Result<Vec<_>, _>>()?;
        let wanted = WantedModels::of(&self.request, catalog, &self.routing.routes)?;
        let searched = searchers(&self.request.agent.manifest, catalog)?;
        let question = KeyQuestion {
            run: &self.run,
            flags: &self.request.keys,
            manifest: &self.request.agent.manifest,
            bare: self.request.agent.bare,
            wanted: wanted.providers(),
            searched: &searched,
            secret_grants: &secret_grants,
            names_prove: local,
            lends,
        };
        match self.upstream.simulation {
            Some(_) => {
                let all: Vec<&Provider> = wanted.providers().iter().chain(&searched).copied().collect();
                question.simulated(&self.upstream.simulated_keys(&all))
            }
            None => question.open(sources),
        }
    }

    /// Keys of the caller's environment.
    pub(crate) fn env_keys(&self) -> &CallerKeys {
        &self.request.env_keys
    }

    /// Lets the keys of the caller's environment go. Says whether there were any.
    pub(crate) fn leave_env_keys(&mut self) -> bool {
        !std::mem::take(&mut self.request.env_keys).is_empty()
    }

    /// Whether keys were given for this run.
    pub(crate) fn brings_keys(&self) -> bool {
        !self.request.keys.is_empty()
    }

    /// What is asked of whose key serves.
    pub(crate) fn byok(&self) -> Option<bool> {
        self.request.byok
    }

    /// Whether no real provider is asked.
    pub(crate) fn is_simulated(&self) -> bool {
        self.upstream.simulation.is_some()
    }
}

/// The providers that an agent searches the web with.
///
/// # Errors
/// One of them is where an operator moved it: requests of agents themselves do not go there, and none would be let through.
fn searchers<'c>(manifest: &Manifest, catalog: &'c Catalog) -> Result<Vec<&'c Provider>, Failure> {
    let all: Vec<&Provider> =
        manifest.search.iter().filter_map(|slug| catalog.searcher(slug.as_str())).collect();
    if let Some(moved) = all.iter().find(|provider| provider.public_host().is_none()) {
        return Err(search_moved(manifest, moved));
    }
    Ok(all)
}

fn search_moved(manifest: &Manifest, moved: &Provider) -> Failure {
    let (slug, at) = (&moved.slug, moved.endpoint.authority());
    let text = format!(
        "{} searches the web with {}, which `providers` of config.yaml moves to {at}: agents search at the provider's own \
         address alone",
        manifest.name, moved.name
    );
    Failure::usage("search_moved", text)
        .detail("provider", slug.as_str())
        .hint(format!("take `{slug}` out of `providers`, or search with another provider"))
}

impl Prepared {
    /// What was asked, to be prepared again later. All that was opened for it is closed by this, and its agent is let go:
    /// many may wait, and a module is large.
    pub(crate) fn into_request(self) -> RunRequest<Digest> {
        let digest = self.request.agent.digest;
        RunRequest { input: Some(self.input), ..self.request.with_agent(digest) }
    }
}

impl Broker {
    /// Checks input, schemas, limits and mounts. What is to be said about them goes to the observer.
    ///
    /// # Errors
    /// Whatever refuses the run.
    pub(crate) fn check(
        &self,
        run: RunId,
        mut request: RunRequest,
        upstream: Arc<Upstream>,
        routing: Routing,
        observer: &dyn Observer,
    ) -> Result<Checked, Failure> {
        let (input, output_schema) = check_documents(&mut request)?;
        let config = self.config();
        let limits = RunLimits::of(
            request.limits,
            &request.agent.manifest.limits,
            &config.default_limits,
            &config.limit_ceilings,
        );
        for note in RunLimits::cut(&request.limits, &config.limit_ceilings) {
            observer.event(Event::Note(&note));
        }
        let mounts = mounts::judge(
            self.home(),
            permissions::check_mounts(&request.agent.manifest, request.agent.bare, &request.mounts)?,
        )?;
        let scratch = permissions::scratch(&request.agent.manifest, &limits)?;
        check_calls(&request)?;
        if let Some(simulation) = &upstream.simulation {
            observer.event(Event::Note(&format!(
                "simulated providers (scenario {}): no real key is used, nothing leaves this machine",
                simulation.scenario().name()
            )));
        }
        Ok(Checked { run, request, upstream, routing, input, output_schema, limits, mounts, scratch })
    }

    /// Decides the plan, and asks for what nobody has granted yet: the last step in which a run can be refused.
    ///
    /// # Errors
    /// Whatever refuses it.
    pub(crate) fn admit(
        &self,
        checked: Checked,
        keys: Keys,
        standing: &Standing<'_>,
        observer: &dyn Observer,
    ) -> Result<Prepared, Failure> {
        let Checked { run, request, upstream, routing, input, output_schema, limits, mounts, scratch } =
            checked;
        let simulated = upstream.simulation.is_some();
        for warning in keys.warnings() {
            observer.event(Event::Warning(&warning));
        }
        let wanted = WantedModels::of(&request, &upstream.catalog, &routing.routes)?;
        let local = standing.local && !simulated;
        let thinking = Thinking::plan(&request.agent.manifest, &wanted, &keys, local, routing.clone())?;
        drop(wanted);
        for note in thinking.notes() {
            observer.event(Event::Note(&note));
        }
        let wants = self.permit(&request, &keys, &mounts, standing, observer)?;
        Ok(Prepared {
            run,
            workspace: standing.workspace.to_owned(),
            request,
            simulated,
            input,
            output_schema,
            limits,
            mounts,
            scratch,
            upstream,
            keys,
            thinking,
            wants,
            treasury: None,
            witness: None,
            bodies: None,
        })
    }

    /// Asks for what nobody has granted, and refuses the run when it stays ungranted.
    fn permit(
        &self,
        request: &RunRequest,
        keys: &Keys,
        mounts: &[MountRequest],
        standing: &Standing<'_>,
        observer: &dyn Observer,
    ) -> Result<Wants, Failure> {
        let agent = &request.agent;
        let name = &agent.manifest.name;
        let allowed = policy::allowed_hosts(&request.allow, &self.config().egress.allow)?;
        let wants = Wants::of(agent, &allowed, &request.granted)?;
        let missing: Vec<Capability> = wants
            .open()
            .chain(keys.ungranted.iter().cloned())
            .filter(|capability| !standing.granted.holds(&agent.digest, capability))
            .filter(|capability| !permissions::is_said(capability, &request.granted))
            .collect();
        if missing.is_empty() {
            return Ok(wants);
        }
        let all: Vec<Capability> = wants.all().chain(keys.ungranted.iter().cloned()).collect();
        let had = standing.granted.newest_of(name);
        let asked: Vec<String> = all.iter().map(ToString::to_string).collect();
        let question = Question {
            agent: name.clone(),
            version: agent.manifest.version.to_string(),
            digest: agent.digest,
            dropped: had.iter().filter(|text| !asked.contains(text)).cloned().collect(),
            had,
            combined: permissions::combined_risk(&name.to_string(), &all, mounts),
            wanted: missing,
        };
        let texts: Vec<String> = question.wanted.iter().map(ToString::to_string).collect();
        let refused_for_good = |refused: &[String]| {
            let asking = format!("{} {}", question.agent, question.version);
            permissions::refused_for_good(
                &asking,
                &question.digest,
                refused,
                &permissions::not_granted(&question),
            )
        };
        let refused = standing.granted.refused(&agent.digest, &texts);
        if !refused.is_empty() {
            return Err(refused_for_good(&refused));
        }
        match (observer.ask(&question), &standing.book) {
            (Answer::Deny, _) | (Answer::Never, None) => return Err(permissions::not_granted(&question)),
            (Answer::Never, Some(_)) => {
                if let Err(failure) = Remembered::refuse(self.home(), name, agent.digest, &texts) {
                    let why = format!("not remembered, so that it will be asked again: {failure}");
                    observer.event(Event::Warning(&why));
                    return Err(permissions::not_granted(&question));
                }
                return Err(refused_for_good(&texts));
            }
            (Answer::Remember, Some(Book { file, record })) => {
                let granted = AuditEvent::Granted {
                    agent: name.to_string(),
                    digest: agent.digest.to_string(),
                    capabilities: question.wanted.len() as u64,
                };
                // On record first: what is not, holds for this run alone.
                if let Err(failure) = record(granted) {
                    let why = format!("not remembered, because it could not be put on record: {failure}");
                    observer.event(Event::Warning(&why));
                    return Ok(wants);
                }
                if let Some(folder) = file.parent() {
                    self.home().ensure(folder)?;
                }
                Remembered::remember(file, name, agent.digest, &question.wanted)?;
            }
            (Answer::Once | Answer::Remember, _) => {}
        }
        Ok(wants)
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
