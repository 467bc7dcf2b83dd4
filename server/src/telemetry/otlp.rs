//! OTLP in its JSON form: what a collector is sent over HTTP.
//!
//! Metrics are sums since the start, so that an export that is lost loses nothing once the next arrives. 64-bit integers
//! are texts, ids are in hex.

use orch_gateway::Operation;
use serde_json::{Value as Json, json};
use time::OffsetDateTime;

use super::Telemetry;
use super::counters::SECONDS;
use super::distribution::Distribution;
use super::genai;
use super::models::{Key, Series};
use super::settings::Destination;
use super::span::{Span, Value, attributes};

/// Sums that go on from a fixed start (`AGGREGATION_TEMPORALITY_CUMULATIVE`).
const CUMULATIVE: u8 = 2;
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What the names of spans, metrics and attributes follow.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.41.1";

/// An `ExportTraceServiceRequest`.
pub(super) fn traces(to: &Destination, spans: &[Span]) -> Json {
    let spans: Vec<Json> = spans.iter().map(Span::document).collect();
    json!({
        "resourceSpans": [{
            "resource": resource(to),
            "scopeSpans": [{ "scope": scope(), "spans": spans, "schemaUrl": SCHEMA }],
            "schemaUrl": SCHEMA,
        }],
    })
}

/// An `ExportMetricsServiceRequest`.
pub(super) fn metrics(
    to: &Destination,
    telemetry: &Telemetry,
    since: OffsetDateTime,
    now: OffsetDateTime,
) -> Json {
    let nanos = |time: OffsetDateTime| time.unix_timestamp_nanos().to_string();
    let times = Times { since: nanos(since), now: nanos(now) };
    let mut metrics = egress(telemetry, &times);
    metrics.extend(models(&telemetry.models.all(), &times));
    metrics.push(times.sum(
        "orch.telemetry.spans.lost",
        "Spans that no collector took",
        "{span}",
        vec![times.count(&[], telemetry.lost())],
    ));
    json!({
        "resourceMetrics": [{
            "resource": resource(to),
            "scopeMetrics": [{ "scope": scope(), "metrics": metrics, "schemaUrl": SCHEMA }],
            "schemaUrl": SCHEMA,
        }],
    })
}

fn resource(to: &Destination) -> Json {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut all = vec![
        ("service.name", text(&to.service_name)),
        ("service.version", Value::Word(VERSION)),
        ("telemetry.sdk.name", Value::Word("orch")),
        ("telemetry.sdk.language", Value::Word("rust")),
        ("telemetry.sdk.version", Value::Word(VERSION)),
    ];
    let ours = |key: &str| key.starts_with("telemetry.sdk.") || key == "service.name";
    let further = to.resource.iter().filter(|(key, _)| !ours(key));
    for (key, value) in further {
        all.retain(|(known, _)| known != key);
        all.push((key, text(value)));
    }
    json!({ "attributes": attributes(&all) })
}

fn scope() -> Json {
    json!({ "name": "orch", "version": VERSION })
}

/// From when to when a metric counts.
struct Times {
    since: String,
    now: String,
}

impl Times {
    fn of(&self, pairs: &[(&str, Value)], mut point: Json) -> Json {
        point["attributes"] = json!(attributes(pairs));
        point["startTimeUnixNano"] = json!(self.since);
        point["timeUnixNano"] = json!(self.now);
        point
    }

    fn count(&self, pairs: &[(&str, Value)], value: u64) -> Json {
        self.of(pairs, json!({ "asInt": value.to_string() }))
    }

    fn sum(&self, name: &str, about: &str, unit: &str, points: Vec<Json>) -> Json {
        let mut sum = json!({ "aggregationTemporality": CUMULATIVE, "isMonotonic": true });
        sum["dataPoints"] = Json::Array(points);
        json!({ "name": name, "description": about, "unit": unit, "sum": sum })
    }

    fn histogram(&self, name: &str, about: &str, unit: &str, points: Vec<Json>) -> Json {
        let mut histogram = json!({ "aggregationTemporality": CUMULATIVE });
        histogram["dataPoints"] = Json::Array(points);
        json!({ "name": name, "description": about, "unit": unit, "histogram": histogram })
    }
}

/// What the egress proxy counted.
fn egress(telemetry: &Telemetry, times: &Times) -> Vec<Json> {
    let sums = telemetry.counters.sums();
    let decisions = sums.decisions.iter().map(|((verdict, code), count)| {
        times.count(&[("verdict", Value::Word(verdict)), ("code", Value::Word(code))], *count)
    });
    let bytes = ["up", "down"].into_iter().zip(sums.bytes);
    let bytes = bytes.map(|(direction, bytes)| times.count(&[("direction", Value::Word(direction))], bytes));
    let durations = sums.seconds.iter().map(|(verdict, durations)| {
        let point = json!({
            "count": durations.counts.iter().sum::<u64>().to_string(),
            "sum": durations.sum,
            "bucketCounts": durations.counts.iter().map(u64::to_string).collect::<Vec<_>>(),
            "explicitBounds": SECONDS,
        });
        times.of(&[("verdict", Value::Word(verdict))], point)
    });
    vec![
        times.sum(
            "orch.egress.decisions",
            "Requests that the egress proxy judged",
            "{request}",
            decisions.collect(),
        ),
        times.sum("orch.egress.bytes", "Bytes of bodies of runs that are over", "By", bytes.collect()),
        times.sum(
            "orch.egress.injected",
            "Secrets that were put into requests",
            "{secret}",
            vec![times.count(&[], sums.injected)],
        ),
        times.sum(
            "orch.egress.inert_placeholders",
            "Placeholders that travelled as they were",
            "{placeholder}",
            vec![times.count(&[], sums.inert)],
        ),
        times.histogram(
            "orch.egress.decision.duration",
            "From a request's arrival to the head of its answer, or to its refusal",
            "s",
            durations.collect(),
        ),
    ]
}

/// A metric of the conventions that each series has once.
type OfSeries = (&'static str, &'static str, fn(&Series) -> &Distribution);

const OF_SERIES: [OfSeries; 3] = [
    (
        "gen_ai.client.operation.time_to_first_chunk",
        "Time to receive the first chunk of a streamed answer",
        |series| &series.first_chunk,
    ),
    (
        "gen_ai.server.time_to_first_token",
        "Time to generate the first token of a streamed answer",
        |series| &series.first_token,
    ),
    (
        "gen_ai.server.time_per_output_token",
        "Time for each output token after the first of a streamed answer",
        |series| &series.per_token,
    ),
];

/// What model calls came to, by the conventions.
fn models(all: &[(Key, std::sync::Arc<Series>)], times: &Times) -> Vec<Json> {
    let point = |key: &Key, series: &Series, further: Option<(&'static str, Value)>, of: &Distribution| {
        let mut pairs = pairs(key, series);
        pairs.extend(further);
        (!of.is_empty()).then(|| times.of(&pairs, of.point()))
    };
    let sizes = all.iter().flat_map(|(key, series)| {
        let of = [("input", &series.input_sizes), ("output", &series.output_sizes)];
        // Vectors are no tokens: there would be a zero for each of their calls.
        let kinds = if key.operation == Operation::Embeddings { 1 } else { of.len() };
        of.into_iter()
            .take(kinds)
            .filter_map(|(kind, of)| point(key, series, Some(("gen_ai.token.type", Value::Word(kind))), of))
            .collect::<Vec<_>>()
    });
    let durations = all.iter().flat_map(|(key, series)| {
        let of = series.durations();
        of.filter_map(|(error, of)| point(key, series, error.map(|e| ("error.type", Value::Word(e))), of))
            .collect::<Vec<_>>()
    });
    let mut metrics = vec![
        times.histogram(
            "gen_ai.client.token.usage",
            "Number of input and output tokens used",
            "{token}",
            sizes.collect(),
        ),
        times.histogram(
            "gen_ai.client.operation.duration",
            "GenAI operation duration",
            "s",
            durations.collect(),
        ),
    ];
    for (name, about, of) in OF_SERIES {
        let points = all.iter().filter_map(|(key, series)| point(key, series, None, of(series)));
        metrics.push(times.histogram(name, about, "s", points.collect()));
    }
    metrics
}

fn pairs(key: &Key, series: &Series) -> Vec<(&'static str, Value)> {
    let mut pairs = vec![
        ("gen_ai.operation.name", Value::Word(genai::operation(key.operation))),
        ("gen_ai.provider.name", Value::Text(genai::provider(&key.provider).to_owned())),
        ("gen_ai.request.model", Value::Text(key.model.clone())),
        ("orch.caller", Value::Word(key.caller.word())),
    ];
    if let Some((address, port)) = &series.server {
        pairs.push(("server.address", Value::Text(address.clone())));
        pairs.push(("server.port", Value::Int((*port).into())));
    }
    pairs
}
