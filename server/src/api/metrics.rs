//! What the server counts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::failure::Failure;
use crate::routing::SetBack;
use crate::service::Gauges;
use crate::telemetry::Telemetry;

/// Upper bounds of the histogram's buckets, in seconds: from a lookup to a run that was waited for.
const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0];

/// What a request was for, and how it was answered. Both have few values, whatever clients send.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

/// How a run ended, or that it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunOutcome {
    status: &'static str,
}

/// Whose keys, and what stands against them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyState {
    provider: String,
    state: &'static str,
}

/// The counters of one server.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    latency: Family<Route, Histogram>,
    under_way: Gauge,
    runs: Family<RunOutcome, Counter>,
    queued: Gauge,
    running: Gauge,
    workers: Gauge,
    lost: Counter,
    keys: Family<KeyState, Gauge>,
    /// One text after another: gauges are set for it.
    telling: Mutex<()>,
}

/// A request that is counted as under way until this is dropped.
pub(super) struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("orch"),
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            under_way: Gauge::default(),
            runs: Family::default(),
            queued: Gauge::default(),
            running: Gauge::default(),
            workers: Gauge::default(),
            lost: Counter::default(),
            keys: Family::default(),
            telling: Mutex::default(),
        };
        let mut metrics = metrics.registered();
        telemetry.register(&mut metrics.registry);
        metrics
    }

    fn registered(mut self) -> Self {
        let all = &mut self.registry;
        all.register("http_requests", "Requests that were answered", self.requests.clone());
        all.register(
            "http_request_duration_seconds",
            "Time from a request's head to its answer's",
            self.latency.clone(),
        );
        all.register("http_requests_under_way", "Requests that are not answered yet", self.under_way.clone());
        all.register("runs", "Runs that were accepted or refused", self.runs.clone());
        all.register("runs_queued", "Accepted runs that wait for their turn", self.queued.clone());
        all.register("runs_running", "Runs that are executed", self.running.clone());
        all.register("workers", "Sandbox processes that are kept", self.workers.clone());
        all.register("records_lost", "Records that the store could not take", self.lost.clone());
        all.register(
            "llm_keys_set_back",
            "Keys of providers that something stands against",
            self.keys.clone(),
        );
        self
    }

    /// A request has come.
    pub(super) fn begin(&self) -> UnderWay {
        self.under_way.inc();
        UnderWay(self.under_way.clone())
    }

    /// A request was answered.
    pub(super) fn answered(&self, route: &'static str, status: StatusCode, after: Duration) {
        self.requests.get_or_create(&Request { route, status: status.as_u16() }).inc();
        self.latency.get_or_create(&Route { route }).observe(after.as_secs_f64());
    }

    /// A run was accepted, or not.
    pub(super) fn submitted(&self, accepted: bool) {
        let status = if accepted { "accepted" } else { "refused" };
        self.runs.get_or_create(&RunOutcome { status }).inc();
    }

    /// All of it, as Prometheus reads it.
    pub(super) fn text(&self, now: Gauges, keys: &SetBack) -> Result<String, Failure> {
        let _one = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.clear();
        for ((provider, state), count) in keys {
            let key = KeyState { provider: provider.clone(), state };
            self.keys.get_or_create(&key).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.queued.set(count(now.queued));
        self.running.set(count(now.running));
        self.workers.set(count(now.workers));
        self.lost.inc_by(now.lost.saturating_sub(self.lost.get()));
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|e| Failure::defect(format!("the metrics cannot be written: {e}")))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::reference;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new(&Telemetry::default());
        let busy = metrics.begin();
        metrics.answered("/v1/runs", StatusCode::ACCEPTED, Duration::from_millis(3));
        metrics.answered("none", StatusCode::UNAUTHORIZED, Duration::from_micros(3));
        metrics.submitted(true);
        let text = metrics
            .text(
                Gauges { queued: 2, running: 3, workers: 4, lost: 5 },
                &SetBack::from([(("openai".to_owned(), "rejected"), 2)]),
            )
            .expect("text");
        for line in [
            "orch_http_requests_total{route=\"/v1/runs\",status=\"202\"} 1",
            "orch_http_requests_total{route=\"none\",status=\"401\"} 1",
            "orch_http_request_duration_seconds_bucket{le=\"0.005\",route=\"/v1/runs\"} 1",
            "orch_http_requests_under_way 1",
            "orch_runs_total{status=\"accepted\"} 1",
            "orch_runs_queued 2",
            "orch_runs_running 3",
            "orch_workers 4",
            "orch_records_lost_total 5",
            "orch_llm_keys_set_back{provider=\"openai\",state=\"rejected\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        drop(busy);
        let text = metrics
            .text(Gauges { queued: 0, running: 0, workers: 0, lost: 5 }, &SetBack::new())
            .expect("text");
        assert!(text.contains("orch_records_lost_total 5\n"), "told twice and lost once: {text}");
        assert!(text.contains("orch_http_requests_under_way 0\n"));
        assert!(!text.contains("set_back{"), "{text}");
    }
    #[test]
    fn the_documentation_says_what_is_told() {
        let telemetry = reference::filled();
        let metrics = Metrics::new(&telemetry);
        let busy = metrics.begin();
        metrics.answered("/v1/runs", StatusCode::ACCEPTED, Duration::from_millis(3));
        metrics.submitted(true);
        let keys = SetBack::from([(("openai".to_owned(), "rejected"), 1)]);
        let text = metrics.text(Gauges { queued: 1, running: 1, workers: 1, lost: 0 }, &keys).expect("text");
        drop(busy);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let mut document = std::fs::read_to_string(path).expect("docs/metrics.md");
        let before = document.clone();
        for (mark, table) in
            [("prometheus", reference::of_prometheus(&text)), ("otlp", reference::of_otlp(&telemetry))]
        {
            let (begin, end) = (format!("<!-- {mark}: generated -->\n"), format!("<!-- /{mark} -->"));
            let (head, rest) = document.split_once(&begin).expect("where the table begins");
            let (_, tail) = rest.split_once(&end).expect("where it ends");
            document = format!("{head}{begin}{table}{end}{tail}");
        }
        if std::env::var_os("ORCH_UPDATE_DOCS").is_some() {
            std::fs::write(path, &document).expect("written");
        } else {
            assert_eq!(
                before, document,
                "docs/metrics.md is not what is told: ORCH_UPDATE_DOCS=1 cargo test -p orch-server"
            );
        }
    }
}
