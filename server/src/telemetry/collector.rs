//! A collector on loopback for tests: it reads what OTLP's JSON says, and nothing else passes for it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use orch_manifests::Endpoint;
use orch_proxy::{Body, Proxy, ProxyConfig, SystemResolver};
use serde_json::Value as Json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::settings::{Destination, OtelEnvironment, TelemetryConfig};

/// What a collector answers with, in order; 200 when there is no more.
#[derive(Default)]
pub(crate) struct Script(Vec<(u16, Option<&'static str>)>);

impl Script {
    pub(crate) fn of(answers: &[(u16, Option<&'static str>)]) -> Self {
        Self(answers.to_vec())
    }
}

pub(crate) struct Collector {
    pub(crate) endpoint: Endpoint,
    received: mpsc::UnboundedReceiver<Received>,
    _tasks: JoinSet<()>,
}

pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Received {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.text).expect("JSON")
    }

    /// The spans in it.
    pub(crate) fn spans(&self) -> Vec<SpanRead> {
        let json = self.json();
        assert_eq!(self.path, "/base/v1/traces");
        let [resource] = json["resourceSpans"].as_array().expect("resources").as_slice() else {
            panic!("{json}")
        };
        let attributes = read_attributes(&resource["resource"]["attributes"]);
        assert_eq!(attributes["service.name"], "orch", "{json}");
        let [scope] = resource["scopeSpans"].as_array().expect("scopes").as_slice() else { panic!("{json}") };
        assert_eq!(scope["scope"]["name"], "orch");
        scope["spans"].as_array().expect("spans").iter().map(SpanRead::of).collect()
    }

    /// The points of a metric in it, each with its attributes.
    pub(crate) fn points(&self, name: &str) -> Vec<(BTreeMap<String, Json>, Json)> {
        assert_eq!(self.path, "/base/v1/metrics");
        let json = self.json();
        let metrics = json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().expect("metrics");
        let metric = metrics.iter().find(|metric| metric["name"] == name).expect("a metric");
        let data = if metric["sum"].is_object() { &metric["sum"] } else { &metric["histogram"] };
        assert_eq!(data["aggregationTemporality"], 2, "{metric}");
        let points = data["dataPoints"].as_array().expect("points");
        let check = |point: &Json| {
            assert!(nanos(&point["startTimeUnixNano"]) <= nanos(&point["timeUnixNano"]), "{point}");
            if metric["histogram"].is_object() {
                let counts = point["bucketCounts"].as_array().expect("counts");
                let bounds = point["explicitBounds"].as_array().expect("bounds");
                assert_eq!(counts.len(), bounds.len() + 1, "{point}");
                let all: u64 = counts.iter().map(nanos).sum();
                assert_eq!(all, nanos(&point["count"]), "{point}");
            }
            (read_attributes(&point["attributes"]), point.clone())
        };
        points.iter().map(check).collect()
    }
}

/// A span as a collector reads it.
#[derive(Debug, Clone)]
pub(crate) struct SpanRead {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) remote: bool,
    pub(crate) name: String,
    pub(crate) kind: u64,
    pub(crate) times: (u64, u64),
    pub(crate) failed: bool,
    pub(crate) attributes: BTreeMap<String, Json>,
}

impl SpanRead {
    fn of(span: &Json) -> Self {
        let id = |field: &str, length: usize| {
            let text = span[field].as_str().unwrap_or_else(|| panic!("{field}: {span}")).to_owned();
            let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            assert!(hex && text.len() == length && text.bytes().any(|b| b != b'0'), "{field}: {span}");
            text
        };
        let times = (nanos(&span["startTimeUnixNano"]), nanos(&span["endTimeUnixNano"]));
        assert!(times.0 > 1_600_000_000_000_000_000 && times.0 <= times.1, "{span}");
        let flags = span["flags"].as_u64().expect("flags");
        assert_eq!(flags & 0x101, 0x101, "kept, and it is said whose the parent is: {span}");
        Self {
            trace: id("traceId", 32),
            id: id("spanId", 16),
            parent: span.get("parentSpanId").map(|_| id("parentSpanId", 16)),
            remote: flags & 0x200 != 0,
            name: span["name"].as_str().expect("a name").to_owned(),
            kind: span["kind"].as_u64().expect("a kind"),
            times,
            failed: span["status"].get("code").is_some_and(|code| *code == 2),
            attributes: read_attributes(&span["attributes"]),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(|value| value.as_str().unwrap_or_else(|| panic!("{name}: {value}")))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.attributes.get(name).map(|value| value.as_u64().unwrap_or_else(|| panic!("{name}: {value}")))
    }
}

fn nanos(value: &Json) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("64-bit integers are texts: {value}")).parse().expect("a number")
}

fn read_attributes(list: &Json) -> BTreeMap<String, Json> {
    let mut all = BTreeMap::new();
    for pair in list.as_array().expect("attributes") {
        let key = pair["key"].as_str().expect("a key").to_owned();
        let value = pair["value"].as_object().expect("a value");
        let (kind, value) = value.iter().next().expect("one value");
        let read = match kind.as_str() {
            "stringValue" | "boolValue" | "doubleValue" => value.clone(),
            "intValue" => Json::from(nanos(value)),
            "arrayValue" => {
                let values = value["values"].as_array().expect("values");
                values.iter().map(|value| value["stringValue"].clone()).collect()
            }
            other => panic!("{other}: {pair}"),
        };
        assert!(all.insert(key, read).is_none(), "twice: {pair}");
    }
    all
}

impl Collector {
    /// One that takes everything.
    pub(crate) async fn start() -> Self {
        Self::scripted(Script::default()).await
    }

    pub(crate) async fn scripted(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}/base", listener.local_addr().expect("an address"));
        let (sent, received) = mpsc::unbounded_channel();
        let script = Arc::new(Mutex::new(script.0.into_iter()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (sent, script) = (sent.clone(), Arc::clone(&script));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (sent, script) = (sent.clone(), Arc::clone(&script));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.expect("a body").to_bytes();
                        let text = String::from_utf8(body.to_vec()).expect("text");
                        assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
                        let path = parts.uri.path().to_owned();
                        let (status, after) = script.lock().expect("whole").next().unwrap_or((200, None));
                        let _ = sent.send(Received { path, headers: parts.headers, text });
                        Ok::<_, Infallible>(answer(status, after))
                    }
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(io, service).await;
                });
            }
        });
        Self { endpoint: endpoint.parse().expect("an endpoint"), received, _tasks: tasks }
    }

    /// What it gets next.
    pub(crate) async fn next(&mut self) -> Received {
        let next = timeout(Duration::from_secs(20), self.received.recv()).await;
        next.expect("an export in time").expect("an export")
    }

    /// What it gets next at this path.
    pub(crate) async fn next_at(&mut self, path: &str) -> Received {
        loop {
            let received = self.next().await;
            if received.path == path {
                return received;
            }
        }
    }

    /// What it has got by now.
    pub(crate) fn so_far(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.received.try_recv().ok()).collect()
    }

    /// The way to it, with its exports so far apart.
    pub(crate) fn destination(&self, every: Duration) -> Destination {
        destination(&self.endpoint, every)
    }
}

/// The way to a collector, with exports so far apart.
pub(crate) fn destination(endpoint: &Endpoint, every: Duration) -> Destination {
    let config = TelemetryConfig { endpoint: Some(endpoint.clone()), ..TelemetryConfig::default() };
    let to = Destination::of(&config, &OtelEnvironment::default()).expect("somewhere");
    Destination { spans_every: every, metrics_every: every, ..to }
}

/// A way out.
pub(crate) fn proxy() -> Arc<Proxy> {
    let resolver = Arc::new(SystemResolver::new().expect("a resolver"));
    Proxy::new(ProxyConfig::default(), resolver).expect("a proxy")
}

fn answer(status: u16, after: Option<&'static str>) -> Response<Body> {
    let mut response = Response::new(orch_proxy::full("{}"));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    if let Some(after) = after {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(after));
    }
    response
}
