use orch_proxy::Outcome;
use tokio::net::TcpListener;

use super::super::collector::{Collector, Script, destination, proxy};
use super::super::counters::SECONDS;
use super::super::settings::OtelEnvironment;
use super::super::span::{Kind, Span};
use super::super::tests::decision;
use super::super::trace::Sampler;
use super::*;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(20);

fn spans(telemetry: &Telemetry, count: usize) {
    let traces = telemetry.traces().expect("kept");
    for number in 0..count {
        traces.queue.push(vec![Span {
            begun: Sampler::default().begin(None).expect("kept"),
            name: format!("chat {number}"),
            kind: Kind::Client,
            start: 1_700_000_000_000_000_000,
            end: 1_700_000_000_000_000_001,
            attributes: Vec::new(),
            failed: false,
        }]);
    }
}

#[tokio::test]
async fn a_collector_gets_what_was_counted() {
    let mut collector = Collector::start().await;
    let telemetry = Arc::<Telemetry>::default();
    for (verdict, count) in [(Outcome::Allowed, 3), (Outcome::Denied, 1)] {
        for _ in 0..count {
            telemetry.counters.count(&decision(verdict, "/secret-path"));
        }
    }
    let exporting = telemetry.export(proxy(), collector.destination(SOON));
    let received = collector.next_at("/base/v1/metrics").await;
    assert!(!received.text.contains("secret-path"), "{}", received.text);
    let decisions = received.points("orch.egress.decisions");
    let allowed =
        decisions.iter().find(|(attributes, _)| attributes["verdict"] == "allowed").expect("a point");
    assert_eq!(allowed.1["asInt"], "3");
    let durations = &received.points("orch.egress.decision.duration")[0].1;
    assert_eq!((&durations["count"], &durations["bucketCounts"][2]), (&"3".into(), &"3".into()));
    assert_eq!(durations["bucketCounts"].as_array().map(Vec::len), Some(SECONDS.len() + 1));
    // Sums go on, and the last of them are sent at the end.
    telemetry.counters.count(&decision(Outcome::Allowed, "/"));
    exporting.end(Duration::from_secs(10)).await;
    let last = collector.so_far().pop().expect("the last export");
    assert!(last.text.contains("\"asInt\":\"4\""), "{}", last.text);
}

#[tokio::test]
async fn spans_go_in_batches_and_what_is_left_goes_at_the_end() {
    let mut collector = Collector::start().await;
    let telemetry = Arc::<Telemetry>::default();
    let mut to = collector.destination(NEVER);
    to.resource = vec![("team".to_owned(), "a".to_owned()), ("service.name".to_owned(), "no".to_owned())];
    let exporting = telemetry.export(proxy(), to);
    // A batch waits for no time to pass.
    spans(&telemetry, 600);
    let first = collector.next_at("/base/v1/traces").await;
    assert!(first.text.contains("\"team\""));
    assert_eq!(first.spans().len(), 512);
    exporting.end(Duration::from_secs(10)).await;
    let rest = collector.so_far();
    let of = |path: &str| rest.iter().filter(|received| received.path == path).collect::<Vec<_>>();
    let names: usize = of("/base/v1/traces").iter().map(|received| received.spans().len()).sum();
    assert_eq!((names, of("/base/v1/metrics").len(), telemetry.lost()), (88, 1, 0));
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again_when_it_says() {
    let script = Script::of(&[(503, Some("0")), (429, Some("1")), (200, None), (400, None)]);
    let mut collector = Collector::scripted(script).await;
    let telemetry = Arc::<Telemetry>::default();
    let to = Destination { metrics: None, ..collector.destination(SOON) };
    let exporting = telemetry.export(proxy(), to);
    spans(&telemetry, 3);
    let began = std::time::Instant::now();
    let (first, second, third) = (collector.next().await, collector.next().await, collector.next().await);
    assert!(first.text == second.text && second.text == third.text, "the same batch");
    assert!(began.elapsed() >= Duration::from_secs(1), "it asked for a second");
    // What it finds wrong it is not sent again.
    spans(&telemetry, 2);
    collector.next().await;
    exporting.end(Duration::from_secs(10)).await;
    assert_eq!((telemetry.lost(), collector.so_far().len()), (2, 0));
}

#[tokio::test]
async fn a_collector_that_is_gone_loses_spans_and_nothing_else() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let telemetry = Arc::<Telemetry>::default();
    let endpoint = format!("http://{gone}").parse().expect("an endpoint");
    let exporting = telemetry.export(proxy(), destination(&endpoint, NEVER));
    spans(&telemetry, 5000);
    // There is room for so many.
    assert_eq!(telemetry.lost(), 5000 - 4096);
    exporting.end(Duration::from_secs(10)).await;
    assert_eq!(telemetry.lost(), 5000);
}

#[tokio::test]
async fn a_collector_that_hangs_keeps_no_end_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address")).parse().expect("one");
    let telemetry = Arc::<Telemetry>::default();
    let exporting = telemetry.export(proxy(), destination(&endpoint, SOON));
    spans(&telemetry, 10);
    // It takes the connection and says nothing.
    let held = listener.accept().await.expect("a connection");
    let began = std::time::Instant::now();
    exporting.end(Duration::from_millis(300)).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(held);
}

#[tokio::test]
async fn keys_of_a_collector_go_to_it_alone() {
    let mut collector = Collector::start().await;
    let (authority, path) = (collector.endpoint.authority(), &collector.endpoint.base_path);
    let set = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{authority}{path}")),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=of%20the%20collector".to_owned()),
    ];
    let set = set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let environment = OtelEnvironment::read(&crate::environment::Environment::Fixed(set));
    let exported = async |config: &crate::telemetry::TelemetryConfig| {
        let to = Destination::of(config, &environment).expect("somewhere");
        let telemetry = Arc::<Telemetry>::default();
        telemetry.export(proxy(), to).end(Duration::from_secs(10)).await;
    };
    exported(&crate::telemetry::TelemetryConfig::default()).await;
    let received = collector.next().await;
    assert_eq!(received.headers["api-key"], "of the collector");
    assert!(!received.text.contains("of the collector"));
    // Whoever names another in the configuration does not get what the environment has for its own.
    let mut other = Collector::start().await;
    let config = crate::telemetry::TelemetryConfig {
        endpoint: Some(other.endpoint.clone()),
        ..crate::telemetry::TelemetryConfig::default()
    };
    exported(&config).await;
    let received = other.next().await;
    assert!(!received.headers.contains_key("api-key"), "{:?}", received.headers);
    assert_eq!(collector.so_far().len(), 0, "the configuration's goes first");
}

#[tokio::test]
async fn it_leads_to_no_metadata_service() {
    let endpoint = "http://169.254.169.254".parse().expect("an endpoint");
    let telemetry = Arc::<Telemetry>::default();
    let exporting = telemetry.export(proxy(), destination(&endpoint, NEVER));
    spans(&telemetry, 1);
    let began = std::time::Instant::now();
    exporting.end(Duration::from_secs(10)).await;
    assert_eq!(telemetry.lost(), 1);
    assert!(began.elapsed() < Duration::from_secs(5), "refused, and not tried");
}

#[test]
fn what_a_collector_says_of_time_and_of_parts_is_read() {
    let after = |text: &'static str| {
        let value = http::HeaderValue::from_static(text);
        retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, value)]))
    };
    assert_eq!(after("7"), Some(Duration::from_secs(7)));
    assert_eq!(after("99999999"), Some(PERSISTENCE));
    assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
    assert_eq!((after("soon"), after("-1")), (None, None));
    assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":"3"}}"#), Some(3));
    assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":2}}"#), Some(2));
    assert_eq!((rejected(b"{}"), rejected(b"<html>")), (None, None));
}
