//! The counters to an OpenTelemetry collector: OTLP over HTTP in its JSON form, metrics only, sums since the start.
//!
//! They go through the egress proxy like everything else, to the one place that the operator named
//! (`telemetry.otlp_endpoint`), and never to one that the environment or an agent names. Each export holds all there is, so
//! one that is lost loses nothing once the next arrives; none is repeated, and none waits for another.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use orch_manifests::{Endpoint, RunId};
use orch_proxy::{Grant, Limits, LiveGrant, ProviderCall, Proxy};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::Telemetry;
use super::counters::{SECONDS, Sums};
use crate::failure::{Failure, Kind};

/// Between two exports.
const EVERY: Duration = Duration::from_secs(15);
/// For one export.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sums that go on from a fixed start (`AGGREGATION_TEMPORALITY_CUMULATIVE`).
const CUMULATIVE: u8 = 2;

/// Sends what was counted.
pub(crate) struct Exporter {
    telemetry: Arc<Telemetry>,
    proxy: Arc<Proxy>,
    endpoint: Endpoint,
    /// When counting began, UTC.
    since: OffsetDateTime,
}

impl Exporter {
    pub(crate) fn new(telemetry: Arc<Telemetry>, proxy: Arc<Proxy>, endpoint: Endpoint) -> Self {
        Self { telemetry, proxy, endpoint, since: OffsetDateTime::now_utc() }
    }

    /// Exports from time to time, for as long as it is polled.
    pub(crate) async fn run(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            // The next one says the same and more.
            let _ = self.export().await;
        }
    }

    /// Exports once.
    ///
    /// # Errors
    /// When the collector cannot be reached or does not take it.
    pub(crate) async fn export(&self) -> Result<(), Failure> {
        let failed = |why: String| Failure::new(Kind::Server, "telemetry_failed", why);
        let body = document(&self.telemetry.counters.sums(), self.since, OffsetDateTime::now_utc());
        let request = Request::post(self.endpoint.path("/v1/metrics"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(orch_proxy::full(body.to_string()))
            .map_err(|e| failed(e.to_string()))?;
        let grant = LiveGrant::without_token(Grant {
            run: RunId::random(),
            workspace: "orch telemetry".to_owned(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            limits: Limits::of(1, 1),
            expires: Instant::now() + PATIENCE,
        });
        let call = ProviderCall { endpoint: &self.endpoint, pinned: true, request, credential: None };
        let response = self.proxy.send(&grant, call).await.map_err(|e| failed(e.to_string()))?;
        // What it says is of no use, and not waited for.
        if response.status().is_success() {
            Ok(())
        } else {
            Err(failed(format!("the collector answered {}", response.status())))
        }
    }
}

/// An `ExportMetricsServiceRequest`.
fn document(sums: &Sums, since: OffsetDateTime, now: OffsetDateTime) -> Value {
    // In OTLP's JSON 64-bit integers are texts.
    let nanos = |time: OffsetDateTime| time.unix_timestamp_nanos().to_string();
    let (since, now) = (nanos(since), nanos(now));
    let attributes = |pairs: &[(&str, &str)]| -> Vec<Value> {
        pairs.iter().map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } })).collect()
    };
    let point = |pairs: &[(&str, &str)], value: u64| {
        json!({
            "attributes": attributes(pairs),
            "startTimeUnixNano": since,
            "timeUnixNano": now,
            "asInt": value.to_string(),
        })
    };
    let sum = |name: &str, about: &str, unit: &str, points: Vec<Value>| {
        let sum = json!({ "aggregationTemporality": CUMULATIVE, "isMonotonic": true, "dataPoints": points });
        json!({ "name": name, "description": about, "unit": unit, "sum": sum })
    };
    let decisions = sums
        .decisions
        .iter()
        .map(|((verdict, code), count)| point(&[("verdict", verdict), ("code", code)], *count));
    let bytes =
        vec![point(&[("direction", "up")], sums.bytes[0]), point(&[("direction", "down")], sums.bytes[1])];
    let durations: Vec<Value> = sums
        .seconds
        .iter()
        .map(|(verdict, durations)| {
            json!({
                "attributes": attributes(&[("verdict", verdict)]),
                "startTimeUnixNano": since,
                "timeUnixNano": now,
                "count": durations.counts.iter().sum::<u64>().to_string(),
                "sum": durations.sum,
                "bucketCounts": durations.counts.iter().map(u64::to_string).collect::<Vec<_>>(),
                "explicitBounds": SECONDS,
            })
        })
        .collect();
    let metrics = json!([
        sum("orch.egress.decisions", "Requests that the egress proxy judged", "{request}", decisions.collect()),
        sum("orch.egress.bytes", "Bytes of bodies of runs that are over", "By", bytes),
        sum("orch.egress.injected", "Secrets that were put into requests", "{secret}", vec![point(&[], sums.injected)]),
        sum(
            "orch.egress.inert_placeholders",
            "Placeholders that travelled as they were",
            "{placeholder}",
            vec![point(&[], sums.inert)],
        ),
        {
            "name": "orch.egress.decision.duration",
            "description": "From a request's arrival to the head of its answer, or to its refusal",
            "unit": "s",
            "histogram": { "aggregationTemporality": CUMULATIVE, "dataPoints": durations },
        },
    ]);
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "resourceMetrics": [{
            "resource": { "attributes": attributes(&[("service.name", "orch"), ("service.version", version)]) },
            "scopeMetrics": [{ "scope": { "name": "orch", "version": version }, "metrics": metrics }],
        }],
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use orch_proxy::{Outcome, ProxyConfig, SystemResolver};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::*;
    use crate::telemetry::tests::decision;

    /// A collector on loopback that answers everything with this status, and what it was sent.
    struct Collector {
        endpoint: Endpoint,
        received: mpsc::UnboundedReceiver<(String, String, Value)>,
        _tasks: JoinSet<()>,
    }

    async fn collector(status: u16) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}/base", listener.local_addr().expect("an address"));
        let (sent, received) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let sent = sent.clone();
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let sent = sent.clone();
                    async move {
                        let path = request.uri().path().to_owned();
                        let kind = request.headers()[header::CONTENT_TYPE].to_str().expect("text").to_owned();
                        let body = request.into_body().collect().await.expect("a body").to_bytes();
                        let value = serde_json::from_slice(&body).expect("JSON");
                        let _ = sent.send((path, kind, value));
                        let mut response = http::Response::new(orch_proxy::full("{}"));
                        *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
                        Ok::<_, std::convert::Infallible>(response)
                    }
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        Collector { endpoint: endpoint.parse().expect("an endpoint"), received, _tasks: tasks }
    }

    fn exporter(endpoint: Endpoint) -> Exporter {
        let resolver = Arc::new(SystemResolver::new().expect("a resolver"));
        let proxy = Proxy::new(ProxyConfig::default(), resolver).expect("a proxy");
        Exporter::new(Arc::default(), proxy, endpoint)
    }

    #[tokio::test]
    async fn a_collector_gets_what_was_counted() {
        let mut collector = collector(200).await;
        let exporter = exporter(collector.endpoint.clone());
        for (verdict, count) in [(Outcome::Allowed, 3), (Outcome::Denied, 1)] {
            for _ in 0..count {
                exporter.telemetry.counters.count(&decision(verdict, "/secret-path"));
            }
        }
        exporter.export().await.expect("taken");
        let (path, kind, value) = collector.received.recv().await.expect("an export");
        assert_eq!((path.as_str(), kind.as_str()), ("/base/v1/metrics", "application/json"));
        assert!(!value.to_string().contains("secret-path"), "{value}");
        let resource = &value["resourceMetrics"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "orch");
        let metrics = resource["scopeMetrics"][0]["metrics"].as_array().expect("metrics");
        let of = |name: &str| metrics.iter().find(|metric| metric["name"] == name).expect("a metric");
        let decisions = &of("orch.egress.decisions")["sum"];
        assert_eq!(
            (&decisions["aggregationTemporality"], &decisions["isMonotonic"]),
            (&2.into(), &true.into())
        );
        let point = &decisions["dataPoints"][0];
        assert_eq!(
            (&point["attributes"][0]["value"]["stringValue"], &point["asInt"]),
            (&"allowed".into(), &"3".into())
        );
        let durations = &of("orch.egress.decision.duration")["histogram"]["dataPoints"][0];
        assert_eq!((&durations["count"], &durations["bucketCounts"][2]), (&"3".into(), &"3".into()));
        assert_eq!(durations["bucketCounts"].as_array().map(Vec::len), Some(SECONDS.len() + 1));
        // Sums go on.
        exporter.telemetry.counters.count(&decision(Outcome::Allowed, "/"));
        exporter.export().await.expect("taken");
        let again = collector.received.recv().await.expect("an export").2.to_string();
        assert!(again.contains("\"asInt\":\"4\""), "{again}");
    }

    #[tokio::test]
    async fn a_collector_that_refuses_or_is_gone_is_an_error_and_nothing_else() {
        let collector = collector(503).await;
        let error = exporter(collector.endpoint.clone()).export().await.expect_err("refused");
        assert!(error.message().contains("503"), "{error}");
        let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let endpoint = format!("http://{gone}").parse().expect("an endpoint");
        assert_eq!(exporter(endpoint).export().await.expect_err("gone").code(), "telemetry_failed");
    }

    #[tokio::test]
    async fn it_leads_to_no_metadata_service() {
        let endpoint = "http://169.254.169.254".parse().expect("an endpoint");
        let error = exporter(endpoint).export().await.expect_err("refused");
        assert!(error.message().contains("refused"), "{error}");
    }
}
