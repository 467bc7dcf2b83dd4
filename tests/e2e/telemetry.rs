//! Traces and metrics for an OpenTelemetry collector: of runs on this machine, of a server, and of the forward proxy.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use orch_tests::home::Home;
use orch_tests::orch::Orch;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{INPUT, orch};

/// Much longer than any export that is waited for, and much shorter than one that hangs would take.
const BOUND: Duration = Duration::from_secs(30);

/// A collector on loopback.
fn collector() -> Upstream {
    Upstream::http(|_: &Received| Reply::json(200, &json!({})))
}

fn environment(orch: Orch, collector: &Upstream) -> Orch {
    orch.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address()))
        .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=the%20collector%27s")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "100")
}

/// What came to this path, as JSON.
fn sent(received: &[Received], path: &str) -> Vec<Value> {
    let at = received.iter().filter(|received| received.path == path);
    let read = |received: &Received| {
        assert_eq!(received.header("api-key"), Some("the collector's"));
        serde_json::from_slice(&received.body).expect("JSON")
    };
    at.map(read).collect()
}

fn spans(received: &[Received]) -> Vec<Value> {
    let exports = sent(received, "/v1/traces");
    let all = exports.iter().flat_map(|export| {
        let resource = export["resourceSpans"][0]["resource"].to_string();
        assert!(resource.contains("deployment.environment.name"), "{resource}");
        export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans")
    });
    all.cloned().collect()
}

/// The one span whose name begins so.
#[track_caller]
fn span<'s>(spans: &'s [Value], name: &str) -> &'s Value {
    let named = |span: &&Value| span["name"].as_str().is_some_and(|known| known.starts_with(name));
    let found: Vec<&Value> = spans.iter().filter(named).collect();
    let [one] = found.as_slice() else { panic!("{} spans {name} in {spans:#?}", found.len()) };
    one
}

fn attribute(span: &Value, name: &str) -> Option<String> {
    let all = span["attributes"].as_array().expect("attributes");
    let found = all.iter().find(|attribute| attribute["key"] == name)?;
    Some(found["value"]["stringValue"].as_str().expect("a text").to_owned())
}

/// A run, its call and that one's attempt, each below the one before.
#[track_caller]
fn of_a_run(spans: &[Value]) -> &Value {
    let run = span(spans, "invoke_agent orch/summarizer");
    let call = span(spans, "chat ");
    let attempt = span(spans, "attempt ");
    assert_eq!(call["parentSpanId"], run["spanId"], "{spans:#?}");
    assert_eq!(attempt["parentSpanId"], call["spanId"], "{spans:#?}");
    assert!(spans.iter().all(|span| span["traceId"] == run["traceId"]), "{spans:#?}");
    assert_eq!(attribute(call, "orch.caller").as_deref(), Some("run"));
    let text = json!(spans).to_string();
    assert!(!text.contains("Ships") && !text.contains("Rain"), "what was said is in a span: {text}");
    run
}

#[test]
fn a_run_on_this_machine_is_exported_when_it_ends() {
    let home = Home::new();
    let collector = collector();
    let run =
        orch(&home).args(["run", "--local", "orch/summarizer", "--simulate", "--json", "--input", INPUT]);
    let report = environment(run, &collector).run().expect(0).json();
    let received = collector.received();
    let spans = spans(&received);
    let run = of_a_run(&spans);
    assert_eq!(attribute(run, "orch.run.id").as_deref(), report["run_id"].as_str());
    assert_eq!(attribute(run, "error.type"), None);
    let metrics = sent(&received, "/v1/metrics");
    assert!(metrics.last().expect("metrics").to_string().contains("gen_ai.client.operation.duration"));
}

#[test]
fn a_collector_that_hangs_or_is_none_keeps_nobody() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hangs = format!("http://{}", listener.local_addr().expect("an address"));
    let run = |endpoint: &str, more: &[(&str, &str)]| {
        let run = orch(&home)
            .args(["run", "--local", "orch/summarizer", "--simulate", "--json", "--input", INPUT])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        let run = more.iter().fold(run, |run, (name, value)| run.env(name, value));
        let began = Instant::now();
        let outcome = run.run().expect(0);
        (outcome, began.elapsed())
    };
    let (_, took) = run(&hangs, &[]);
    assert!(took < BOUND, "{took:?}");
    // What another program's variables say is a warning, and no more than that.
    let (outcome, _) = run(&hangs, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    outcome.says("OTEL_EXPORTER_OTLP_PROTOCOL");
    let (outcome, _) = run("here", &[]);
    outcome.says("OTEL_EXPORTER_OTLP_ENDPOINT");
}

#[test]
fn a_server_tells_of_runs_and_clients_and_says_the_rest_when_it_stops() {
    let home = Home::new();
    let collector = collector();
    let server = Server::begin(environment(orch(&home), &collector), &home, &["--simulate"]);
    let body = json!({ "agent": "orch/summarizer", "input": { "text": "Ships came. Rain fell." } });
    server.ask("POST", "/v1/runs?wait=60", Some(&body)).expect(200);
    let chat = json!({ "model": "claude-3-haiku", "max_tokens": 50, "messages": [{ "role": "user", "content": "Hi." }] });
    server.ask("POST", "/v1/messages", Some(&chat)).expect(200);
    let metrics = String::from_utf8(server.ask("GET", "/metrics", None).expect(200).body).expect("text");
    for labels in [
        r#"caller="run",provider="openai",operation="chat""#,
        r#"caller="client",provider="anthropic",operation="chat",model="claude-3-haiku-20240307""#,
    ] {
        assert!(metrics.contains(&format!("orch_llm_calls_total{{{labels}")), "{labels} in\n{metrics}");
    }
    server.terminate().expect(0);
    let spans = spans(&collector.received());
    let trace = span(&spans, "invoke_agent")["traceId"].clone();
    let (of_run, of_client): (Vec<Value>, Vec<Value>) =
        spans.into_iter().partition(|span| span["traceId"] == trace);
    of_a_run(&of_run);
    let call = span(&of_client, "chat claude-3-haiku");
    assert_eq!(attribute(call, "orch.caller").as_deref(), Some("client"));
}

#[test]
fn the_forward_proxy_tells_what_it_decided() {
    let home = Home::new();
    let collector = collector();
    let env_file = home.work().join("client.env");
    let proxy = orch(&home).args(["proxy", "--listen", "127.0.0.1:0", "--allow", "a.example", "--env-file"]);
    let running = environment(proxy.arg(&env_file), &collector).start();
    collector.wait_for(2);
    running.terminate();
    running.finish().expect(0);
    let metrics = sent(&collector.received(), "/v1/metrics");
    assert!(metrics.last().expect("metrics").to_string().contains("orch.egress.decisions"));
}
