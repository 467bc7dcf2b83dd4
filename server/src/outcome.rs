//! How a run ended: an answer with its report, or the failure that explains why there is none.

use std::time::Duration;

use orch_gateway::ir::Class;
use orch_gateway::{Blamed, BoundOf, ClassCounts, Session, Spent, advice, every_key_was_rejected};
use orch_manifests::RunId;
use orch_proxy::{Decision, LimitHit, LiveGrant, Outcome as Verdict};
use orch_runner::{Exit, LimitName, RunOutcome};
use serde_json::Value;

use crate::execution::interrupted;
use crate::failure::{Failure, Kind};
use crate::limits::RunLimits;
use crate::redact::Known;
use crate::run::{
    EgressReport, Event, LimitUse, LimitsReport, Observer, Report, TrialReport, UsageReport, dollars,
};
use crate::schema::Schema;

#[cfg(test)]
mod tests;

/// Refused requests that a report lists; the rest are counted by the ledger.
const DENIED_LISTED: usize = 100;
/// How much of a trap's text a message repeats, in characters.
const TRAP_SHOWN: usize = 2_000;

/// Everything that is known when the guest is gone.
pub(crate) struct Finished<'a> {
    pub(crate) run: RunId,
    pub(crate) agent: String,
    pub(crate) outcome: RunOutcome,
    pub(crate) output: Vec<u8>,
    pub(crate) output_schema: Option<&'a Schema>,
    pub(crate) grant: &'a LiveGrant,
    /// What of its ledger was kept, without any value that the run held.
    pub(crate) decisions: &'a [Decision],
    pub(crate) session: Option<&'a Session>,
    pub(crate) limits: &'a RunLimits,
    pub(crate) duration: Duration,
    pub(crate) simulated: bool,
}

/// Turns the end of a run into its report, or into a failure whose details hold the same facts.
pub(crate) fn conclude(finished: &Finished<'_>) -> Result<Report, Failure> {
    let mut report = finished.report();
    match finished.verdict() {
        Ok(output) => {
            report.output = output;
            Ok(report)
        }
        Err(failure) => {
            report.status = failure.code().to_owned();
            match serde_json::to_value(&report) {
                Ok(value) => Err(failure.detail("run", value)),
                Err(error) => Err(Failure::defect(format!("the report cannot be written as JSON: {error}"))),
            }
        }
    }
}

/// A decision in one line for a person.
pub(crate) fn line(decision: &Decision) -> String {
    let reason = decision.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let Decision { method, host, port, path, .. } = decision;
    match decision.scheme {
        Some(scheme) => format!("{method} {}://{host}:{port}{path}{reason}", scheme.as_str()),
        // What was asked for was not even a host that a rule could name.
        None => format!("{method} {host}{reason}"),
    }
}

/// What a policy on trial would have refused, in one line for a person; none without one.
pub(crate) fn trial_note(grant: &LiveGrant) -> Option<String> {
    if grant.grant().trials.is_empty() {
        return None;
    }
    let totals = grant.ledger().totals();
    let asked = totals.allowed + totals.failed;
    let note = match totals.trial_denied {
        0 => format!("the policy on trial would have refused none of the {asked} requests that were allowed"),
        denied => {
            let first = grant.ledger().decisions().into_iter().find(|decision| decision.trial.is_some());
            let first = first.map(|decision| format!(", first {}", line(&decision))).unwrap_or_default();
            format!(
                "the policy on trial would have refused {denied} of the {asked} requests that were allowed{first}"
            )
        }
    };
    Some(note)
}

/// Tells the observer of refusals beyond the first `told`; returns how many were told by now.
pub(crate) fn tell_refusals(grant: &LiveGrant, told: usize, known: &Known, observer: &dyn Observer) -> usize {
    let denied = usize::try_from(grant.ledger().totals().denied).unwrap_or(usize::MAX);
    if denied <= told {
        return told;
    }
    let decisions = grant.ledger().decisions();
    let fresh = decisions.iter().filter(|d| d.verdict == Verdict::Denied).skip(told);
    for decision in fresh {
        observer.event(Event::Refused(&known.cleaned(&line(decision))));
    }
    denied
}

impl Finished<'_> {
    fn verdict(&self) -> Result<Value, Failure> {
        match &self.outcome.exit {
            Exit::Status(0) => self.answer(),
            Exit::Status(status) => {
                Err(self.explain(format!("{} exited with status {status}", self.agent), "agent_failed"))
            }
            Exit::Trap { message } => {
                let shown: String = message.chars().take(TRAP_SHOWN).collect();
                Err(self.explain(format!("{} trapped: {shown}", self.agent), "agent_trapped"))
            }
            Exit::Limit { name, used, limit } => Err(sandbox_limit(&self.agent, *name, *used, *limit)),
            Exit::Cancelled => Err(interrupted(format!("interrupted; {} was stopped", self.agent))),
        }
    }

    /// The output as JSON that fits the schema; nothing written is null.
    fn answer(&self) -> Result<Value, Failure> {
        let bytes = self.output.trim_ascii();
        let value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(bytes).map_err(|error| {
                Failure::new(
                    Kind::Agent,
                    "output_invalid",
                    format!("{} succeeded, but its output is not JSON: {error}", self.agent),
                )
                .hint("--stream shows the output as it is written; logs belong on standard error")
            })?
        };
        let violations = self.output_schema.map(|schema| schema.violations(&value)).unwrap_or_default();
        if violations.is_empty() {
            return Ok(value);
        }
        Err(Failure::new(
            Kind::Agent,
            "output_mismatch",
            format!("{}'s output is not what its manifest promises: {}", self.agent, violations.join("; ")),
        )
        .detail("violations", violations))
    }

    /// Why the agent failed, as far as its surroundings know: a limit, no provider, a refusal, or itself.
    fn explain(&self, what: String, code: &'static str) -> Failure {
        let network = self.grant.limit_hit();
        let spent = self.session.and_then(|session| session.budget.hit());
        // What the proxy counts it says itself.
        if let Some(hit) = spent.filter(|hit| network.is_none_or(|network| network.name != hit.name)) {
            let code =
                if matches!(hit.of, BoundOf::Budget { .. }) { "budget_reached" } else { "limit_reached" };
            return Failure::new(Kind::Limit, code, format!("{what}: {hit}"))
                .detail("limit", serde_json::json!(hit))
                .hint(match (&hit.of, hit.name) {
                    (BoundOf::Run, "cost_usd") => {
                        "--max-cost raises it, or `limits.cost_usd` in the manifest".to_owned()
                    }
                    (BoundOf::Run, name) => format!("`limits.{name}` in the manifest sets it"),
                    (BoundOf::Key { key }, _) => format!("its owner grants more: orch secrets grants {key}"),
                    (BoundOf::Budget { set_by, .. }, _) => format!("{set_by} sets it"),
                });
        }
        if let Some(why) = self.session.and_then(|session| session.budget.unavailable()) {
            return Failure::new(
                Kind::Server,
                "budgets_unavailable",
                format!("{what}: its calls could not be counted: {why}"),
            )
            .hint("orch doctor looks at the store");
        }
        let refused: Vec<Decision> = self.denied().into_iter().filter(|d| !by_limit(d)).collect();
        // A limit that leaves room again is what stopped the agent only where nothing was refused for good.
        if let Some(hit) = network.filter(|hit| hit.is_lasting() || refused.is_empty()) {
            return network_limit(&what, hit);
        }
        if let Some(counts) = self.session.and_then(|session| session.receipts.all_candidates_failed()) {
            return self.providers_failed(&what, &counts);
        }
        if let Some(first) = refused.first() {
            let more =
                if refused.len() > 1 { format!(" (and {} more)", refused.len() - 1) } else { String::new() };
            let failure = Failure::new(
                Kind::Denied,
                "denied",
                format!("{what}, after a request was refused: {}{more}", line(first)),
            );
            return match first.reason.as_ref().and_then(|reason| reason.next.as_deref()) {
                Some(next) => {
                    failure.hint(next).hint(format!("all that it asked for: orch policy learn {}", self.run))
                }
                None => failure,
            };
        }
        let failure = Failure::new(Kind::Agent, code, what);
        match &self.outcome.message {
            Some(message) => failure.hint(message.clone()),
            None => failure,
        }
    }

    fn providers_failed(&self, what: &str, counts: &ClassCounts) -> Failure {
        let last = self.session.and_then(|session| session.receipts.all().pop());
        let attempts = last.map(|receipt| receipt.attempts).unwrap_or_default();
        let mut advised: Vec<String> = Vec::new();
        for attempt in &attempts {
            let (provider, model, credential) =
                (&attempt.provider, &attempt.model, attempt.credential.as_deref());
            let source = credential.and_then(|id| self.source_of(id));
            let hint = attempt
                .class
                .and_then(|class| advice(&Blamed { provider, model, credential, source }, class));
            advised.extend(hint.filter(|hint| !advised.contains(hint)));
        }
        let attempts: Vec<String> = attempts
            .iter()
            .filter_map(|attempt| {
                let class = attempt.class?;
                let said =
                    if attempt.message.is_empty() { String::new() } else { format!(": {}", attempt.message) };
                Some(format!("{}/{} ({}{said})", attempt.provider, attempt.model, class.as_str()))
            })
            .collect();
        let tried = attempts.join("; ");
        if every_key_was_rejected(counts) {
            let failure = Failure::new(
                Kind::NoKey,
                "keys_rejected",
                format!("{what}: every key was rejected: {tried}"),
            );
            let failure = advised.into_iter().fold(failure, Failure::hint);
            self.key_names().iter().fold(failure, |failure, name| {
                failure.hint(format!("orch secrets which {name}")).hint(format!("orch secrets set {name}"))
            })
        } else {
            let failure = Failure::new(
                Kind::Providers,
                "providers_failed",
                format!("{what}: every candidate failed: {tried}"),
            );
            let failure = match counts.contains_key(&Class::OutOfMoney) {
                true => failure.hint("a provider says that its account is out of money"),
                false => failure,
            };
            advised.into_iter().fold(failure, Failure::hint)
        }
    }

    /// Where a key of the plan came from.
    fn source_of(&self, id: &str) -> Option<&str> {
        let planned = self.session.iter().flat_map(|session| &session.plan.at_hand);
        let mut keys = planned.flat_map(|at_hand| &at_hand.keys);
        keys.find(|key| key.id() == id).map(|key| key.source())
    }

    /// The names of the plan's keys, each once.
    fn key_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let planned = self.session.iter().flat_map(|session| &session.plan.candidates);
        for key in planned.flat_map(|planned| &planned.keys) {
            let name = key.credential.id();
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    fn denied(&self) -> Vec<Decision> {
        self.decisions.iter().filter(|decision| decision.verdict == Verdict::Denied).cloned().collect()
    }

    fn report(&self) -> Report {
        let calls = self.session.map(|session| session.receipts.all()).unwrap_or_default();
        let spent = self.session.map(|session| session.budget.spent()).unwrap_or_default();
        let priced = calls.iter().all(|receipt| receipt.cost_micro_usd.is_some());
        let mut denied = self.denied();
        denied.truncate(DENIED_LISTED);
        Report {
            run_id: self.run.clone(),
            status: "ok".to_owned(),
            output: Value::Null,
            usage: UsageReport {
                input_tokens: spent.input_tokens,
                output_tokens: spent.output_tokens,
                cost_usd: priced.then(|| dollars(spent.micro_usd)),
            },
            calls,
            egress: EgressReport {
                allowed: self.grant.ledger().totals().allowed,
                denied,
                trial: self.trial_report(),
            },
            limits: self.limits_report(spent),
            duration_ms: millis(self.duration),
            simulated: self.simulated,
        }
    }

    fn trial_report(&self) -> Option<TrialReport> {
        if self.grant.grant().trials.is_empty() {
            return None;
        }
        let tried = self.decisions.iter().filter(|decision| decision.trial.is_some());
        let would_deny = tried.take(DENIED_LISTED).cloned().collect();
        Some(TrialReport { denied: self.grant.ledger().totals().trial_denied, would_deny })
    }

    fn limits_report(&self, spent: Spent) -> LimitsReport {
        let (usage, network) = (&self.outcome.usage, &self.limits.network.run);
        let bound = |limit: u64, used: u64| LimitUse { limit: Some(limit), used };
        LimitsReport {
            memory_bytes: bound(self.limits.memory, usage.memory_peak),
            time_ms: bound(millis(self.limits.time), usage.wall_us / 1_000),
            cpu_ms: bound(millis(self.limits.cpu), usage.cpu_us / 1_000),
            output_bytes: bound(self.limits.output, usage.stdout_bytes),
            log_bytes: bound(self.limits.log, usage.stderr_bytes),
            scratch_bytes: usage.scratch.map(|scratch| bound(self.limits.scratch, scratch.bytes)),
            scratch_files: usage.scratch.map(|scratch| bound(self.limits.scratch_files, scratch.files)),
            requests: bound(network.requests, self.grant.requests_used()),
            upload_bytes: bound(network.upload, self.grant.uploaded()),
            download_bytes: bound(network.download, self.grant.downloaded()),
            tokens: bound(self.limits.tokens, spent.input_tokens + spent.output_tokens),
            cost_micro_usd: LimitUse {
                limit: self.limits.cost.map(|cost| cost.micros()),
                used: spent.micro_usd,
            },
        }
    }
}

/// Whether it was refused for a limit, and not for where it went.
fn by_limit(decision: &Decision) -> bool {
    decision.reason.as_ref().is_some_and(|reason| reason.code == "limit_reached")
}

/// A limit that the egress proxy enforces, and what sets it.
fn network_limit(what: &str, hit: LimitHit) -> Failure {
    let LimitHit { name, used, limit } = hit;
    let where_ = if name.starts_with("per_host.") { " to one host" } else { "" };
    let said = match name.trim_start_matches("per_host.") {
        "requests" => format!("all of its {limit} requests{where_} are used"),
        "concurrent" => format!("{used} of {limit} requests{where_} that it may make at once were under way"),
        "rate" => format!("requests{where_} came faster than they may"),
        "upload" => format!("all of the {} that it may send{where_} are used", bytes(limit)),
        "download" => format!(
            "all of the {} that it may receive{} are used",
            bytes(limit),
            where_.replace("to", "from")
        ),
        "first_byte" => format!("no answer began within {limit} ms"),
        "idle" => format!("nothing moved for {limit} ms"),
        _ => format!("an exchange took longer than {limit} ms"),
    };
    Failure::new(Kind::Limit, "limit_reached", format!("{what}: {said}"))
        .detail("limit", serde_json::json!({ "name": name, "used": used, "limit": limit }))
        .hint(format!("`limits.{name}` in the manifest sets it, within `limits.ceilings` of config.yaml"))
}

/// A limit that the sandbox enforces: its name, how much was used, and what sets it.
fn sandbox_limit(agent: &str, name: LimitName, used: u64, limit: u64) -> Failure {
    let shown = |value: u64| match name {
        LimitName::Memory | LimitName::Output | LimitName::Log | LimitName::Scratch => bytes(value),
        LimitName::Cpu | LimitName::Time => format!("{:.1} s", Duration::from_micros(value).as_secs_f64()),
        LimitName::Resources | LimitName::ScratchFiles => value.to_string(),
    };
    let failure = Failure::new(
        Kind::Limit,
        "limit_reached",
        format!("{agent} reached its {name} limit: {} of {}", shown(used), shown(limit)),
    )
    .detail("limit", serde_json::json!({ "name": name.as_str(), "used": used, "limit": limit }));
    match name {
        LimitName::Memory => failure.hint("--memory SIZE raises it, or `limits.memory` in the manifest"),
        LimitName::Time => failure.hint("--time DURATION raises it, or `limits.time` in the manifest"),
        LimitName::Cpu
        | LimitName::Output
        | LimitName::Log
        | LimitName::Resources
        | LimitName::Scratch
        | LimitName::ScratchFiles => failure.hint(format!("`limits.{name}` in the manifest sets it")),
    }
}

fn bytes(value: u64) -> String {
    match value {
        0..=1023 => format!("{value} bytes"),
        1024..=1_048_575 => format!("{} KiB", value / 1024),
        _ => format!("{}.{} MiB", value >> 20, ((value & 0xf_ffff) * 10) >> 20),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
