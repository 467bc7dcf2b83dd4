//! What a collector and Prometheus are told of clients' calls, and what nobody is.

use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::telemetry::collector::{Collector, SpanRead, destination, proxy};

const SOON: Duration = Duration::from_millis(30);
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);
const LONG: Duration = Duration::from_secs(20);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(sampled: bool) -> String {
    format!("00-{TRACE}-{PARENT}-0{}", u8::from(sampled))
}

async fn stage() -> (Stage, Arc<Telemetry>, TempDir) {
    let (stage, _store, telemetry, folder) = Stage::simulated(&Limits::default()).await;
    (stage, telemetry, folder)
}

/// The same over providers of which the first one that is asked fails.
async fn failing(scenario: &str) -> (Stage, Arc<Telemetry>, TempDir) {
    let (mut stage, telemetry, folder) = stage().await;
    let scenario = Scenario::named(scenario).expect("a scenario");
    let upstream = Upstream::simulated(scenario).await.expect("a simulation");
    let second = folder.path().join("second");
    std::fs::create_dir(&second).expect("a folder");
    let store = Store::open(&second).expect("a store");
    let location = VaultLocation {
        store: folder.path().join("vault"),
        key_file: folder.path().join("vault.key"),
        workspace: "default".to_owned(),
        custody: orch_vault::Custody::default(),
    };
    let keeper = Arc::new(Keeper::new(location, Arc::clone(&upstream.catalog)));
    stage.llm = Llm::new(&upstream, keeper, store).telling(Arc::clone(&telemetry));
    std::mem::replace(&mut stage.upstream, upstream).shutdown().await;
    (stage, telemetry, folder)
}

fn told(telemetry: &Telemetry) -> String {
    let mut registry = Registry::default();
    telemetry.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    text
}

/// The span of a call, and those of its attempts in order.
fn parted(spans: Vec<SpanRead>) -> (SpanRead, Vec<SpanRead>) {
    let (attempts, calls): (Vec<_>, Vec<_>) =
        spans.into_iter().partition(|span| span.name.starts_with("attempt "));
    let [call] = calls.try_into().expect("one call");
    for attempt in &attempts {
        assert_eq!((&attempt.trace, attempt.parent.as_ref()), (&call.trace, Some(&call.id)));
        assert!(!attempt.remote && attempt.kind == 3);
        assert!(
            call.times.0 <= attempt.times.0 && attempt.times.1 <= call.times.1,
            "{attempt:?} in {call:?}"
        );
    }
    assert!(attempts.windows(2).all(|pair| pair[0].times.1 <= pair[1].times.0), "one after another");
    (call, attempts)
}

#[tokio::test]
async fn a_call_is_a_span_below_its_clients_with_one_for_each_attempt() {
    let mut collector = Collector::start().await;
    let (stage, telemetry, _folder) = stage().await;
    let exporting = telemetry.export(proxy(), collector.destination(SOON));
    let mut body = ask("gpt-4o-mini");
    body["messages"][0]["content"] = json!("What nobody else may read.");
    body["temperature"] = json!(0.5);
    let answer = stage.send("POST", CHAT, &[("traceparent", &traceparent(true))], &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let receipt = answer.receipt.as_ref().expect("a receipt");

    let received = collector.next_at("/base/v1/traces").await;
    let (call, attempts) = parted(received.spans());
    assert_eq!((call.trace.as_str(), call.parent.as_deref(), call.remote), (TRACE, Some(PARENT), true));
    assert_eq!((call.name.as_str(), call.kind, call.failed), ("chat gpt-4o-mini", 3, false));
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-4o-mini"),
        ("server.address", "api.openai.com"),
        ("orch.caller", "client"),
        ("orch.workspace", "default"),
    ] {
        assert_eq!(call.text(name), Some(value), "{call:?}");
    }
    assert_eq!(call.number("server.port"), Some(443));
    assert_eq!(call.text("orch.request.id"), receipt["request_id"].as_str().filter(|id| !id.is_empty()));
    assert_eq!(call.number("gen_ai.request.max_tokens"), Some(100));
    assert_eq!(call.attributes["gen_ai.request.temperature"], 0.5);
    assert_eq!(call.number("gen_ai.usage.input_tokens"), receipt["input_tokens"].as_u64());
    assert_eq!(call.number("gen_ai.usage.output_tokens"), receipt["output_tokens"].as_u64());
    assert_eq!(call.attributes["gen_ai.response.finish_reasons"], json!(["stop"]));
    assert_eq!(call.text("gen_ai.response.id"), answer.json()["id"].as_str());
    assert_eq!(call.text("gen_ai.response.model"), answer.json()["model"].as_str());
    assert!(!call.attributes.contains_key("error.type"), "{call:?}");
    let [attempt] = attempts.as_slice() else { panic!("{attempts:?}") };
    assert_eq!(
        (attempt.name.as_str(), attempt.number("http.response.status_code")),
        ("attempt openai", Some(200))
    );
    // What was used is said of the call alone, or it would be counted twice.
    assert!(!attempt.attributes.keys().any(|key| key.contains("usage")), "{attempt:?}");

    let metrics = collector.next_at("/base/v1/metrics").await;
    let key =
        stage.upstream.simulation.as_ref().expect("simulated").key_for("openai").expect("a key").to_owned();
    for text in [&received.text, &metrics.text, &told(&telemetry)] {
        assert!(!text.contains("nobody else") && !text.contains(&key), "{text}");
    }
    exporting.end(LONG).await;
    stage.end().await;
}

#[tokio::test]
async fn vectors_are_told_as_no_tokens() {
    let mut collector = Collector::start().await;
    let (stage, telemetry, _folder) = stage().await;
    let exporting = telemetry.export(proxy(), collector.destination(NEVER));
    let body = json!({ "model": "text-embedding-3-small", "input": "one", "dimensions": 4 });
    assert_eq!(stage.post("/v1/embeddings", &body).await.status, StatusCode::OK);
    assert_eq!(stage.post(CHAT, &ask("gpt-4o-mini")).await.status, StatusCode::OK);
    exporting.end(LONG).await;

    let all = collector.so_far();
    let at = |path: &str| all.iter().rfind(|received| received.path == path).expect("an export");
    let tokens = at("/base/v1/metrics").points("gen_ai.client.token.usage");
    let mut kinds: Vec<_> = tokens
        .iter()
        .map(|(attributes, _)| {
            let of = |name: &str| attributes[name].as_str().unwrap_or_default().to_owned();
            (of("gen_ai.operation.name"), of("gen_ai.token.type"))
        })
        .collect();
    kinds.sort();
    let told = [("chat", "input"), ("chat", "output"), ("embeddings", "input")];
    assert_eq!(kinds, told.map(|(operation, kind)| (operation.to_owned(), kind.to_owned())));

    let spans = at("/base/v1/traces").spans();
    let call = spans.iter().find(|span| span.name.starts_with("embeddings ")).expect("a call");
    assert!(call.number("gen_ai.usage.input_tokens").is_some_and(|tokens| tokens > 0), "{call:?}");
    assert_eq!(call.number("gen_ai.usage.output_tokens"), None, "{call:?}");
    stage.end().await;
}

#[tokio::test]
async fn metrics_have_the_names_and_buckets_of_the_conventions() {
    let mut collector = Collector::start().await;
    let (stage, telemetry, _folder) = stage().await;
    let exporting = telemetry.export(proxy(), collector.destination(NEVER));
    let mut body = ask("claude-sonnet-4-6");
    assert_eq!(stage.post(MESSAGES, &body).await.status, StatusCode::OK);
    body["stream"] = json!(true);
    assert_eq!(stage.post(MESSAGES, &body).await.status, StatusCode::OK);
    exporting.end(LONG).await;

    let all = collector.so_far();
    let metrics = all.iter().rfind(|received| received.path == "/base/v1/metrics").expect("metrics");
    let tokens = metrics.points("gen_ai.client.token.usage");
    let kinds: Vec<_> =
        tokens.iter().map(|(attributes, _)| attributes["gen_ai.token.type"].clone()).collect();
    assert_eq!(kinds, ["input", "output"]);
    for (name, buckets, count, unit) in [
        ("gen_ai.client.token.usage", 15, "2", "{token}"),
        ("gen_ai.client.operation.duration", 15, "2", "s"),
        ("gen_ai.client.operation.time_to_first_chunk", 15, "1", "s"),
        ("gen_ai.server.time_to_first_token", 17, "1", "s"),
        ("gen_ai.server.time_per_output_token", 14, "1", "s"),
    ] {
        let (attributes, point) = &metrics.points(name)[0];
        assert_eq!(point["bucketCounts"].as_array().map(Vec::len), Some(buckets), "{name}");
        assert_eq!(point["count"], count, "{name}: {point}");
        for (key, value) in [
            ("gen_ai.operation.name", json!("chat")),
            ("gen_ai.provider.name", json!("anthropic")),
            ("gen_ai.request.model", json!("claude-sonnet-4-6")),
            ("server.address", json!("api.anthropic.com")),
            ("server.port", json!(443)),
        ] {
            assert_eq!(attributes[key], value, "{name}");
        }
        assert!(!attributes.contains_key("error.type"), "{name}");
        let units = metrics.json()["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].clone();
        let units =
            units.as_array().expect("metrics").iter().find(|m| m["name"] == name).expect("it")["unit"]
                .clone();
        assert_eq!(units, unit, "{name}");
    }
    // The stream's span says when it began to speak.
    let spans: Vec<_> =
        all.iter().filter(|received| received.path == "/base/v1/traces").flat_map(|r| r.spans()).collect();
    let streamed = spans.iter().find(|span| span.attributes.contains_key("gen_ai.request.stream"));
    let waited = &streamed.expect("a stream").attributes["gen_ai.response.time_to_first_chunk"];
    assert!(waited.as_f64().is_some_and(|seconds| seconds > 0.0), "{waited}");
    let text = told(&telemetry);
    let labels = r#"caller="client",provider="anthropic",operation="chat",model="claude-sonnet-4-6""#;
    for line in [
        format!("llm_calls_total{{{labels},outcome=\"served\"}} 2"),
        format!("llm_first_token_seconds_count{{{labels}}} 1"),
        format!("llm_call_seconds_count{{{labels}}} 2"),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    stage.end().await;
}

#[tokio::test]
async fn failures_are_classes_and_each_attempt_says_its_own() {
    let mut collector = Collector::start().await;
    let (stage, telemetry, _folder) = failing("server-error").await;
    let exporting = telemetry.export(proxy(), collector.destination(NEVER));
    let answer = stage.post(CHAT, &ask("gpt-4o-mini")).await;
    assert!(answer.status.is_server_error(), "{}", answer.text);
    exporting.end(LONG).await;
    let all = collector.so_far();
    let at = |path: &str| all.iter().rfind(|received| received.path == path).expect("an export");
    let (call, attempts) = parted(at("/base/v1/traces").spans());
    assert!(call.failed && call.text("error.type") == Some("server"), "{call:?}");
    assert!(!call.attributes.contains_key("gen_ai.response.model"), "{call:?}");
    assert!(attempts.len() > 1, "it is asked again: {attempts:?}");
    for (number, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt.number("orch.attempt.number"), Some(number as u64 + 1));
        assert!(attempt.failed && attempt.text("error.type") == Some("server"), "{attempt:?}");
        assert!(attempt.number("http.response.status_code").is_some_and(|status| status >= 500));
    }
    let durations = at("/base/v1/metrics").points("gen_ai.client.operation.duration");
    assert_eq!(durations[0].0["error.type"], "server");
    assert!(at("/base/v1/metrics").points("gen_ai.client.token.usage").is_empty(), "nothing was counted");
    let text = told(&telemetry);
    let labels = r#"caller="client",provider="openai",operation="chat",model="gpt-4o-mini""#;
    for line in [
        format!("llm_calls_total{{{labels},outcome=\"failed\"}} 1"),
        format!("llm_failures_total{{{labels},class=\"server\"}} {}", attempts.len()),
        format!("llm_retries_total{{{labels}}} {}", attempts.len() - 1),
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_bound_that_refuses_is_counted_with_whose_it_is() {
    let ceilings = Limits { tokens: Some(60), ..Limits::default() };
    let (stage, _store, telemetry, _folder) = Stage::simulated(&ceilings).await;
    assert_eq!(stage.post(CHAT, &ask("gpt-4o-mini")).await.status, StatusCode::TOO_MANY_REQUESTS);
    let text = told(&telemetry);
    let refused = r#"llm_budget_refusals_total{caller="client",bound="run"} 1"#;
    assert!(text.lines().any(|line| line == refused), "{text}");
    stage.end().await;
}

/// Names that a client makes up: none of them is a label, and none is in a span before a provider has answered for it.
#[tokio::test]
async fn made_up_models_are_others() {
    let mut collector = Collector::start().await;
    let (stage, telemetry, _folder) = failing("bad-key").await;
    let exporting = telemetry.export(proxy(), collector.destination(NEVER));
    let secret = "sk-proj-what-somebody-pasted-here";
    let nasty = ["openai/a\"} 1\norch_x 2", "openai/\u{1b}[2J", "openai/two words"].map(str::to_owned);
    let flood = (0..600).map(|number| format!("openai/made-up-{number}"));
    let pasted = [format!("openai/{secret}"), secret.to_owned()];
    for model in nasty.into_iter().chain(pasted).chain(flood) {
        stage.post(CHAT, &ask(&model)).await;
    }
    let text = told(&telemetry);
    exporting.end(LONG).await;
    let models: std::collections::BTreeSet<&str> =
        text.lines().filter_map(|line| line.split("model=\"").nth(1)?.split('"').next()).collect();
    // What leads to no provider at all has none.
    assert_eq!(models, ["none", "other"].into(), "{text}");
    let refused = r#"llm_calls_total{caller="client",provider="none",operation="chat",model="none",outcome="rejected"}"#;
    assert!(text.lines().any(|line| line.starts_with(refused)), "{text}");
    assert!(text.lines().count() < 100, "{text}");
    let sent = collector.so_far();
    let spans: Vec<SpanRead> =
        sent.iter().filter(|received| received.path.ends_with("traces")).flat_map(|r| r.spans()).collect();
    assert!(spans.len() > 600, "{} spans", spans.len());
    for span in &spans {
        assert!(span.name == "chat" || span.name == "attempt openai", "{span:?}");
        assert!(!span.attributes.contains_key("gen_ai.request.model"), "{span:?}");
    }
    for text in sent.iter().map(|received| &received.text).chain([&text]) {
        assert!(!text.contains("sk-proj") && !text.contains("made-up"), "{text}");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_client_that_keeps_no_trace_has_none_and_a_broken_one_begins_another() {
    let mut collector = Collector::start().await;
    let (stage, telemetry, _folder) = stage().await;
    let exporting = telemetry.export(proxy(), collector.destination(NEVER));
    let body = ask("gpt-4o-mini");
    let dropped = traceparent(false);
    let broken = format!("{}-and-more", traceparent(true));
    for header in [&dropped, &broken] {
        stage.send("POST", CHAT, &[("traceparent", header)], &body).await;
    }
    stage.post(CHAT, &body).await;
    exporting.end(LONG).await;
    let sent = collector.so_far();
    let spans: Vec<_> = sent.iter().filter(|r| r.path.ends_with("traces")).flat_map(|r| r.spans()).collect();
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_none()).collect();
    assert_eq!((spans.len(), roots.len()), (4, 2), "{spans:?}");
    assert!(roots[0].trace != roots[1].trace && spans.iter().all(|span| span.trace != TRACE && !span.remote));
    // They are counted all the same.
    assert!(told(&telemetry).contains("outcome=\"served\"} 3\n"));
    stage.end().await;
}

/// A collector that takes connections and says nothing costs a call nothing.
#[tokio::test]
async fn a_collector_that_hangs_delays_no_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address")).parse().expect("one");
    let (stage, telemetry, _folder) = stage().await;
    let exporting = telemetry.export(proxy(), destination(&endpoint, Duration::from_millis(5)));
    stage.post(CHAT, &ask("gpt-4o-mini")).await;
    let held = listener.accept().await.expect("it is asked");
    let began = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(stage.post(CHAT, &ask("gpt-4o-mini")).await.status, StatusCode::OK);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}, and one export alone may take 10 s");
    let ending = std::time::Instant::now();
    exporting.end(Duration::from_millis(200)).await;
    assert!(ending.elapsed() < Duration::from_secs(3), "{:?}", ending.elapsed());
    drop(held);
    stage.end().await;
}
