//! What the server counts.

use std::sync::Arc;
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
use crate::llm;
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

/// The counters of one server.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    latency: Family<Route, Histogram>,
    under_way: Gauge,
    runs: Family<RunOutcome, Counter>,
    llm: Arc<llm::Metrics>,
    queued: Gauge,
    running: Gauge,
    workers: Gauge,
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
            llm: Arc::default(),
            queued: Gauge::default(),
            running: Gauge::default(),
            workers: Gauge::default(),
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
        self.llm.register(all);
        all.register("runs_queued", "Accepted runs that wait for their turn", self.queued.clone());
        all.register("runs_running", "Runs that are executed", self.running.clone());
        all.register("workers", "Sandbox processes that are kept", self.workers.clone());
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

    /// What counts the model calls of clients.
    pub(super) fn llm(&self) -> &Arc<llm::Metrics> {
        &self.llm
    }

    /// All of it, as Prometheus reads it.
    pub(super) fn text(&self, now: Gauges) -> Result<String, Failure> {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.queued.set(count(now.queued));
        self.running.set(count(now.running));
        self.workers.set(count(now.workers));
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|e| Failure::defect(format!("the metrics cannot be written: {e}")))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new(&Telemetry::default());
        let busy = metrics.begin();
        metrics.answered("/v1/runs", StatusCode::ACCEPTED, Duration::from_millis(3));
        metrics.answered("none", StatusCode::UNAUTHORIZED, Duration::from_micros(3));
        metrics.submitted(true);
        let text = metrics.text(Gauges { queued: 2, running: 3, workers: 4 }).expect("text");
        for line in [
            "orch_http_requests_total{route=\"/v1/runs\",status=\"202\"} 1",
            "orch_http_requests_total{route=\"none\",status=\"401\"} 1",
            "orch_http_request_duration_seconds_bucket{le=\"0.005\",route=\"/v1/runs\"} 1",
            "orch_http_requests_under_way 1",
            "orch_runs_total{status=\"accepted\"} 1",
            "orch_runs_queued 2",
            "orch_runs_running 3",
            "orch_workers 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        drop(busy);
        let text = metrics.text(Gauges { queued: 0, running: 0, workers: 0 }).expect("text");
        assert!(text.contains("orch_http_requests_under_way 0\n"));
    }
}
