//! `orch doctor`: looks at this installation and says what works, what is missing and what to do.

use std::borrow::Cow;
use std::process::ExitCode;

use orch_runner::advisories::Advisories;
use orch_runner::{Capacity, JailReport, Layer, LayerName};
use orch_server::{Agent, Answer, Broker, Event, Failure, Kind, Observer, Question, RunRequest, Simulate};
use orch_vault::{OpenMode, SlotInfo, Vault, memory_protection};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::byok::Status;
use super::secrets::Keeping;
use crate::args::DoctorArgs;
use crate::custody;
use crate::printer::{Printer, harmless};
use crate::wire::{Installation, broken_pipe, runtime};

mod keys;

/// What the self-test summarises.
const SAMPLE: &str =
    r#"{"text":"A broker holds the keys. A worker runs the agent. Nothing else crosses between them."}"#;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fine,
    /// Works, with less than there could be.
    Notice,
    Broken,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Notice => "notice",
            Self::Broken => "broken",
        }
    }
}

struct Check {
    name: Cow<'static, str>,
    state: State,
    detail: String,
    hints: Vec<String>,
    /// The same in numbers, for programs.
    facts: Option<Value>,
    /// What is broken, for the exit code.
    kind: Option<Kind>,
}

impl Check {
    fn fine(name: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let name = name.into();
        Self { name, state: State::Fine, detail: detail.into(), hints: Vec::new(), facts: None, kind: None }
    }

    fn notice(name: impl Into<Cow<'static, str>>, detail: impl Into<String>, hint: Option<&str>) -> Self {
        let name = name.into();
        let hints = hint.map(str::to_owned).into_iter().collect();
        Self { name, state: State::Notice, detail: detail.into(), hints, facts: None, kind: None }
    }

    fn broken(name: &'static str, failure: &Failure) -> Self {
        Self {
            name: name.into(),
            state: State::Broken,
            detail: failure.message().to_owned(),
            hints: failure.hints().to_vec(),
            facts: None,
            kind: Some(failure.kind()),
        }
    }
}

impl Check {
    fn to_json(&self) -> Value {
        let mut row = json!({
            "name": self.name, "state": self.state.word(), "detail": self.detail, "hints": self.hints,
        });
        if let Some(facts) = &self.facts {
            row["facts"] = facts.clone();
        }
        row
    }
}

pub(crate) fn run(args: &DoctorArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let mut checks = vec![version()];
    match Installation::open() {
        Err(failure) => checks.push(Check::broken("configuration", &failure)),
        Ok(here) => {
            checks.push(folders(&here));
            checks.push(configuration(&here));
            checks.push(server(&here));
            let warnings = here.config.warnings();
            checks.extend(warnings.into_iter().map(|warning| Check::notice("egress", warning, None)));
            checks.push(capacity(&here));
            checks.push(vault(&here));
            checks.extend(keys::checks(&here, args.offline));
            checks.push(byok(&here));
            checks.extend(sandbox(here));
        }
    }
    checks.push(proxy());
    checks.push(memory());

    let broken = checks.iter().find_map(|check| check.kind);
    if printer.json() {
        let rows: Vec<Value> = checks.iter().map(Check::to_json).collect();
        printer.result_json(&json!({ "ok": broken.is_none(), "checks": rows })).or_else(broken_pipe)?;
    } else {
        let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let mut lines = Vec::new();
        for check in &checks {
            lines.push(format!("{:6}  {:width$}  {}", check.state.word(), check.name, check.detail));
            lines.extend(check.hints.iter().map(|hint| format!("{:6}  {:width$}  hint: {hint}", "", "")));
        }
        printer.result(&harmless(&lines.join("\n"))).or_else(broken_pipe)?;
    }
    Ok(broken.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.exit_code())))
}

/// What this is, and whether it is known to be vulnerable.
fn version() -> Check {
    let known = Advisories::known();
    let versions =
        format!("orch {}, wasmtime {}", env!("CARGO_PKG_VERSION"), orch_runner::engine::WASMTIME_VERSION);
    match known.of_this_build().as_slice() {
        [] => Check::fine("version", format!("{versions}, without advisories known on {}", known.as_of())),
        some => {
            let list: Vec<String> =
                some.iter().map(|known| format!("{} ({})", known.id, known.title)).collect();
            let hint = "a newer orch has a wasmtime without them";
            Check::notice("version", format!("{versions}, which has {}", list.join("; ")), Some(hint))
        }
    }
}

fn folders(here: &Installation) -> Check {
    let [config, data, cache] = here.home.roots();
    for folder in [config, data, cache] {
        if let Err(failure) = here.home.ensure(folder) {
            return Check::broken("folders", &failure);
        }
    }
    Check::fine(
        "folders",
        format!("configuration {}, data {}, cache {}", config.display(), data.display(), cache.display()),
    )
}

fn configuration(here: &Installation) -> Check {
    let file = here.home.config_file();
    if file.exists() {
        Check::fine("configuration", file.display().to_string())
    } else {
        Check::fine("configuration", format!("none at {}: the defaults hold", file.display()))
    }
}

/// Where commands go that do not say `--local`, and who one is there.
fn server(here: &Installation) -> Check {
    let asked = runtime().and_then(|runtime| {
        runtime.block_on(async {
            let Some(client) = here.server().await? else { return Ok(None) };
            let who: Value = client.get("/v1/whoami").await?;
            Ok(Some((client.name().to_owned(), who)))
        })
    });
    match asked {
        Err(failure) => Check::broken("server", &failure),
        Ok(None) => Check::fine("server", "none: runs are carried out by the command itself"),
        Ok(Some((name, who))) => {
            let word = |field: &str| who.get(field).and_then(Value::as_str).unwrap_or("?").to_owned();
            Check::fine(
                "server",
                format!("{name}, as {} in the workspace {}", word("name"), word("workspace")),
            )
        }
    }
}

/// How many runs are executed at once, and what the machine has room for.
fn capacity(here: &Installation) -> Check {
    let capacity = here.config.capacity();
    let Capacity { sandboxes, bound_by, in_one_worker, machine, .. } = capacity;
    let detail = format!(
        "{sandboxes} sandboxes at once, {in_one_worker} in one worker, more wait; vm.max_map_count is {}, open files {}",
        machine.mappings, machine.descriptors
    );
    let check = match capacity.advice() {
        None => Check::fine("capacity", detail),
        Some(advice) => Check::notice("capacity", detail, Some(&advice)),
    };
    let facts = json!({
        "sandboxes": sandboxes, "wanted": here.config.max_running, "bound_by": bound_by,
        "in_one_worker": in_one_worker,
        "max_map_count": machine.mappings, "open_files": machine.descriptors,
    });
    Check { facts: Some(facts), ..check }
}

/// This home's own vault, which its server holds while it runs.
fn vault(here: &Installation) -> Check {
    let held = Keeping::find(here, true).and_then(|keeping| Ok((keeping.rows()?.len(), keeping)));
    match held {
        Err(failure) => Check::broken("vault", &failure),
        Ok(_) if !here.vault.store.exists() => {
            Check::fine("vault", "none yet; the first `orch secrets set` makes it")
        }
        Ok((secrets, keeping)) => {
            let key = slots(here, &keeping);
            let holder = match keeping {
                Keeping::Here(_) => "",
                Keeping::Server(..) => ", held by the server of this home",
            };
            Check::fine("vault", format!("{secrets} secrets{key}{holder}"))
        }
    }
}

/// What opens the vault. Its server does not say, and needs no asking: it has opened it.
fn slots(here: &Installation, keeping: &Keeping<'_>) -> String {
    if matches!(keeping, Keeping::Server(..)) {
        return String::new();
    }
    let opened = Vault::open(&here.vault, OpenMode::ReadOnlyIfExists).and_then(|vault| vault.slots());
    let Ok(slots) = opened else { return String::new() };
    let name = |slot: &SlotInfo| custody::described(slot, &here.vault);
    let used = slots.iter().find(|slot| slot.in_use).map(name).unwrap_or_default();
    let others: Vec<String> = slots.iter().filter(|slot| !slot.in_use).map(name).collect();
    match others.as_slice() {
        [] => format!(", opened by {used}"),
        others => format!(", opened by {used}; also by {}", others.join(", ")),
    }
}

/// Which provider is thought with first, and whether there is a key for it.
fn byok(here: &Installation) -> Check {
    match Status::look(here, false) {
        Err(failure) => Check::broken("byok", &failure),
        Ok(status) => match status.short() {
            (true, detail) => Check::fine("byok", detail),
            (false, detail) => Check::notice("byok", detail, status.hint().as_deref()),
        },
    }
}

/// What keeps secrets in this process's memory from being read elsewhere.
fn memory() -> Check {
    let protection = memory_protection();
    let missing: Vec<&str> = [
        (protection.locked, "keys are not locked and could be swapped out"),
        (protection.undumped, "keys are not left out of dumps"),
        (protection.closed, "other processes of this user can look into this one"),
        (protection.no_core, "core dumps are possible"),
    ]
    .into_iter()
    .filter_map(|(holds, otherwise)| (!holds).then_some(otherwise))
    .collect();
    match missing.as_slice() {
        [] => Check::fine(
            "memory",
            "keys are locked and left out of dumps; the process is closed to others of this user",
        ),
        missing => Check::notice(
            "memory",
            missing.join("; "),
            (!protection.locked).then_some("ulimit -l 8192, or LimitMEMLOCK=8M in the unit"),
        ),
    }
}

/// Proves that the proxy puts secrets where they belong and takes them out of answers, as every start does.
fn proxy() -> Check {
    let tested = runtime().and_then(|runtime| {
        let started = std::time::Instant::now();
        let tested = runtime.block_on(orch_proxy::self_test());
        tested.map(|()| started.elapsed()).map_err(|error| Failure::defect(error.to_string()))
    });
    match tested {
        Ok(took) => {
            let took = took.as_secs_f64() * 1e3;
            Check::fine(
                "proxy",
                format!(
                    "placeholders become secrets in their place alone, and answers are cleaned ({took:.1} ms)"
                ),
            )
        }
        Err(failure) => Check::broken("proxy", &failure),
    }
}

/// Runs an agent for real, on simulated providers, and has a worker and a compiler say how they are jailed.
fn sandbox(here: Installation) -> Vec<Check> {
    let prepared = (|| {
        let agent = Agent::load("orch/summarizer", &here.catalog)?;
        Ok((agent, here.broker()?, runtime()?))
    })();
    let (agent, broker, runtime) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return vec![Check::broken("sandbox", &failure)],
    };
    let mut checks = vec![self_test(&broker, &runtime, agent.clone())];
    match runtime.block_on(broker.probe_jail(&agent)) {
        Ok(reports) => {
            checks.extend(LayerName::ALL.map(|name| layer(name, &reports)));
            // Those of the worker, which come first.
            checks.extend(reports.first().map(|(_, worker)| scratch(worker)));
        }
        Err(failure) => checks.push(Check::broken("jail", &failure)),
    }
    checks
}

/// Whether agents can have files of their own.
fn scratch(worker: &JailReport) -> Check {
    match worker.lacks_scratch() {
        None => Check::fine(
            "scratch",
            "agents that ask for scratch folders have them, in memory, within `limits.scratch`",
        ),
        Some(reason) => Check::notice(
            "scratch",
            format!("not on this machine, where a worker has no file system of its own: {reason}"),
            Some("agents that ask for scratch folders are refused; all others run"),
        ),
    }
}

/// One layer around the processes that untrusted code is run and compiled in.
fn layer(name: LayerName, reports: &[(&'static str, JailReport)]) -> Check {
    let title = format!("jail.{name}");
    let outcomes = reports.iter().map(|(process, report)| (process, report.get(name)));
    let gaps: Vec<String> = outcomes
        .filter_map(|(process, outcome)| match outcome {
            Some(Layer::Active) => None,
            Some(Layer::Partial { reason }) => Some(format!("partly, in the {process}: {reason}")),
            Some(Layer::Missing { reason }) => Some(format!("missing in the {process}: {reason}")),
            None => Some(format!("missing in the {process}, which says nothing of it")),
        })
        .collect();
    match gaps.as_slice() {
        [] => Check::fine(title, format!("active: {}", name.purpose())),
        gaps => Check::notice(
            title,
            gaps.join("; "),
            Some("the other layers hold; `sandbox.require` in config.yaml refuses runs without it"),
        ),
    }
}

/// Compiler, worker, broker, proxy, TLS and injection all work.
fn self_test(broker: &Broker, runtime: &Runtime, agent: Agent) -> Check {
    let started = std::time::Instant::now();
    let request = RunRequest {
        input: Some(SAMPLE.to_owned()),
        simulate: Some(Simulate::Scenario("ok".to_owned())),
        ..RunRequest::new(agent)
    };
    let (_keep, stop) = tokio::sync::watch::channel(0);
    match runtime.block_on(broker.run(request, &Silent, stop)) {
        Ok(report) => Check::fine(
            "sandbox",
            format!(
                "orch/summarizer ran on simulated providers in {} ms: {} model call, keys injected by the proxy",
                started.elapsed().as_millis(),
                report.calls.len()
            ),
        ),
        Err(failure) => Check::broken("sandbox", &failure),
    }
}

struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}

    fn ask(&self, _: &Question) -> Answer {
        Answer::Deny
    }
}
