//! What operators are told: of the egress proxy's decisions a log of lines and counters, of model calls counters and traces.
//! Counters are for Prometheus and, with the traces, for an OpenTelemetry collector.
//!
//! No call and no run ever waits for any of it. What cannot be written or sent in time is lost, and how much is counted.

#[cfg(test)]
pub(crate) mod collector;
mod counters;
mod distribution;
mod export;
mod genai;
mod hearing;
mod log;
mod models;
mod otlp;
mod proxied;
mod queue;
#[cfg(test)]
pub(crate) mod reference;
mod runs;
mod settings;
mod span;
mod trace;

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use orch_gateway::Listener;
use orch_manifests::{Manifest, RunId};
use orch_proxy::{Decision, OnDecision, Proxy, Reason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::failure::Failure;
use crate::redact::Known;
use counters::Counters;
pub(crate) use export::Exporting;
use hearing::Hearing;
use log::DecisionLog;
use models::{Caller, Models};
pub use proxied::ProxyTelemetry;
use queue::Queue;
pub(crate) use runs::RunSpan;
pub(crate) use settings::{Destination, OtelEnvironment, RawTelemetry, TelemetryConfig};
pub use trace::Parent as TraceParent;
use trace::Sampler;
pub(crate) use trace::{Parent, TRACEPARENT};

/// What a process knows of its decisions and model calls.
#[derive(Default)]
pub(crate) struct Telemetry {
    counters: Counters,
    log: OnceLock<DecisionLog>,
    models: Arc<Models>,
    traces: OnceLock<Traces>,
    /// Spans that no collector took.
    lost: Counter,
    exports: Family<Export, Counter>,
}

/// Spans on their way to a collector.
struct Traces {
    sampler: Sampler,
    queue: Queue,
}

/// What was sent to a collector, and whether that took it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Export {
    signal: &'static str,
    outcome: &'static str,
}

impl Telemetry {
    /// From now on decisions are written to `decisions.jsonl` in this folder.
    ///
    /// # Errors
    /// When there is a file of that name that is not the user's own, or it cannot be opened.
    pub(crate) fn log_into(&self, folder: &Path) -> Result<(), Failure> {
        let log = DecisionLog::open(folder, self.counters.lost().clone())?;
        self.log.set(log).map_err(|_| Failure::defect("the log of decisions is open already"))
    }

    /// Returns when all decisions by now are in the log. Blocks for a moment; what is decided from then on is in no log.
    pub(crate) fn finish_log(&self) {
        if let Some(log) = self.log.get() {
            log.finish();
        }
    }

    /// Adds the counters to what is told.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.counters.register(registry);
        registry.register_collector(Box::new(Arc::clone(&self.models)));
        registry.register("telemetry_exports", "Requests to OpenTelemetry collectors", self.exports.clone());
        registry.register("telemetry_spans_lost", "Spans that no collector took", self.lost.clone());
    }

    /// From now on spans are kept for a collector.
    fn trace(&self, sampler: Sampler) {
        let _ = self.traces.set(Traces { sampler, queue: Queue::new(self.lost.clone()) });
    }

    fn traces(&self) -> Option<&Traces> {
        self.traces.get()
    }

    /// Spans that no collector took.
    fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Counts a request to a collector.
    fn exported(&self, signal: &'static str, taken: bool) {
        let outcome = if taken { "taken" } else { "failed" };
        self.exports.get_or_create(&Export { signal, outcome }).inc();
    }

    /// Begins to export, on the runtime that this is called in.
    pub(crate) fn export(self: &Arc<Self>, proxy: Arc<Proxy>, to: Destination) -> Exporting {
        if to.traces.is_some() {
            self.trace(to.sampler);
        }
        Exporting::start(Arc::clone(self), proxy, to)
    }

    /// Who hears of a client's model calls. Their spans belong to what the client says they do.
    pub(crate) fn client(
        self: &Arc<Self>,
        workspace: &Arc<str>,
        parent: Option<Parent>,
    ) -> Arc<dyn Listener> {
        let (telemetry, workspace) = (Arc::clone(self), Arc::clone(workspace));
        Arc::new(Hearing { telemetry, caller: Caller::Client, workspace, parent })
    }

    /// A run begins, below what its caller says it belongs to.
    pub(crate) fn run(
        self: &Arc<Self>,
        run: &RunId,
        workspace: &str,
        manifest: &Manifest,
        parent: Option<Parent>,
    ) -> RunSpan {
        RunSpan::begin(self, run, workspace, manifest, parent)
    }

    /// Counts the bytes of the bodies of a run that is over.
    pub(crate) fn moved(&self, up: u64, down: u64) {
        self.counters.moved(up, down);
    }

    /// What hears of each decision for a workspace. `more` hears of it, too, without what a run holds.
    pub(crate) fn hearing(
        self: &Arc<Self>,
        workspace: &str,
        known: Arc<Known>,
        more: impl Fn(&Decision) + Send + Sync + 'static,
    ) -> OnDecision {
        let (telemetry, workspace) = (Arc::clone(self), Arc::<str>::from(workspace));
        Box::new(move |decision| {
            telemetry.counters.count(decision);
            let clean = cleaned(decision, &known);
            more(&clean);
            if let Some(log) = telemetry.log.get() {
                log.write(&workspace, &clean);
            }
        })
    }
}

/// Decisions whose texts hold nothing of what the run holds; see [`cleaned`].
pub(crate) fn all_cleaned(decisions: &[Decision], known: &Known) -> Vec<Decision> {
    decisions.iter().map(|decision| cleaned(decision, known).into_owned()).collect()
}

/// A decision whose texts hold nothing of what the run holds: a guest may have got that elsewhere and ask for it.
pub(crate) fn cleaned<'a>(decision: &'a Decision, known: &Known) -> Cow<'a, Decision> {
    let Decision { host, path, method, reason, .. } = decision;
    let whole = |text: &str| matches!(known.cleaned(text), Cow::Borrowed(_));
    let says_nothing = |reason: &Reason| {
        whole(&reason.text) && reason.next.as_deref().is_none_or(whole) && is_whole(reason, whole)
    };
    if [host, path, method].into_iter().all(|text| whole(text)) && reason.as_ref().is_none_or(says_nothing) {
        return Cow::Borrowed(decision);
    }
    let mut clean = decision.clone();
    for text in [&mut clean.host, &mut clean.path, &mut clean.method] {
        *text = known.cleaned(text).into_owned();
    }
    if let Some(reason) = &mut clean.reason {
        reason.text = known.cleaned(&reason.text).into_owned();
        // It says them again, and more of a long path. A rule of what is left would allow something else.
        if !is_whole(reason, whole) {
            reason.rule_missing = None;
        }
        reason.next = reason.next.take().map(|next| known.cleaned(&next).into_owned());
    }
    Cow::Owned(clean)
}

/// Whether the rule that is missing holds nothing of it.
fn is_whole(reason: &Reason, whole: impl Fn(&str) -> bool) -> bool {
    let texts = reason.rule_missing.iter().flat_map(|rule| std::iter::once(&rule.host).chain(&rule.path));
    texts.into_iter().all(|text| whole(text))
}

/// A decision as one line of JSON in ASCII: nothing in it draws on a terminal or ends the line.
pub(crate) fn line(value: &impl serde::Serialize) -> Option<String> {
    let text = serde_json::to_string(value).ok()?;
    // JSON holds no control character but this one as itself.
    if text.is_ascii() && !text.as_bytes().contains(&0x7f) {
        return Some(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    let mut units = [0; 2];
    for c in text.chars() {
        if (' '..='~').contains(&c) {
            line.push(c);
        } else {
            // Beyond ASCII there is nothing but the insides of strings.
            line.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use orch_manifests::RunId;
    use orch_proxy::{Maker, Outcome};
    use time::OffsetDateTime;

    use super::*;

    pub(super) fn decision(verdict: Outcome, path: &str) -> Decision {
        Decision {
            time: OffsetDateTime::UNIX_EPOCH,
            run: RunId::random(),
            method: "GET".to_owned(),
            scheme: None,
            host: "a.example".to_owned(),
            port: 443,
            path: path.to_owned(),
            maker: Maker::Guest,
            request_id: None,
            verdict,
            rule: None,
            trial: None,
            reason: None,
            address: None,
            injected: Vec::new(),
            inert_placeholders: 0,
            status: None,
            duration_us: 1500,
        }
    }

    #[test]
    fn a_line_is_one_line_of_harmless_json() {
        let nasty = "/a\n{\"verdict\":\"allowed\"}\r\u{1b}[2J\u{202e}\u{9b}\u{7f}\u{2028}\u{1f511}";
        let text = line(&decision(Outcome::Denied, nasty)).expect("a line");
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&read["path"], &read["verdict"]), (&nasty.into(), &"denied".into()));
    }

    #[test]
    fn what_a_run_holds_is_in_no_decision() {
        let value = "a value that some run holds";
        let known = Known::finding(&[value]);
        let telemetry = Arc::new(Telemetry::default());
        let (tell, told) = std::sync::mpsc::channel();
        let hear = telemetry.hearing("default", Arc::new(known), move |decision| {
            tell.send(line(decision).expect("a line")).expect("somebody listens");
        });
        hear(&decision(Outcome::Denied, &format!("/{value}/{}", value.replace(' ', "%20"))));
        let text = told.recv().expect("told");
        assert!(!text.contains("that some run"), "{text}");
        assert_eq!(text.matches("secret removed").count(), 2, "{text}");
    }
}
