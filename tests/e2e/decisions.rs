//! What the egress proxy decides, as operators of a server see it: the log, the metrics, and the events of a run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use orch_tests::gate::Gate;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{OPENAI_KEY, PROGRAM, Stage, guest};

const HOST: &str = "api.github.com";
/// Stands in a query, and must be nowhere.
const QUERY: &str = "e2e-query-Zq9Wx7Lm5Tn8";

/// The lines of the log, once there are so many: a thread writes them.
fn lines(log: &Path, count: usize) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if text.lines().count() >= count && text.ends_with('\n') {
            return text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the log does not come to {count} lines:\n{text}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Method, path, verdict and the code of the reason.
fn essence(decision: &Value) -> [&str; 4] {
    let text = |value: &'static str| decision[value].as_str().unwrap_or_default();
    [text("method"), text("path"), text("verdict"), decision["reason"]["code"].as_str().unwrap_or_default()]
}

#[test]
fn decisions_are_in_the_log_the_metrics_and_the_events_of_the_run() {
    let mut stage = Stage::new();
    let api = Upstream::https(&stage.ca, &[HOST], |_: &Received| Reply::json(200, &json!({ "ok": true })));
    let address = api.address();
    stage.configure(|config| config.connect("api.github.com:443", address).allow(HOST));
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let server = Server::start(PROGRAM, &stage.home);
    let agent = guest("wanderer", &json!({ "egress": [{ "host": HOST, "methods": ["GET"] }] }));
    let gate = Gate::closed();
    api.script([Reply::json(200, &json!({ "first": "x".repeat(64) })).held(&gate)]);
    let input = json!({ "requests": [
        { "url": format!("https://{HOST}/first?{QUERY}") },
        { "url": format!("https://{HOST}/second?{QUERY}"), "method": "DELETE" },
        { "url": "https://other.example.org/third" },
    ] });
    let detached = ["run", "--detach", "--input", &input.to_string()];
    let run = stage.orch(detached).arg(agent.path()).run().expect(0).stdout().trim().to_owned();
    api.wait_for(1);
    // Both follow while it goes on.
    let (people, programs) = (
        stage.orch(["logs", &run, "--follow"]).start(),
        stage.orch(["logs", &run, "--follow", "--json"]).start(),
    );
    gate.open();
    let followed = people.finish().expect(0);
    for part in [
        "allowed: GET https://api.github.com/first answered 200",
        "denied: DELETE https://api.github.com/second (DELETE to api.github.com is not allowed)",
        "denied: GET https://other.example.org/third (",
    ] {
        assert!(followed.stderr().contains(part), "{part:?} is missing in {followed}");
    }
    let events = programs.finish().expect(0);
    let told: Vec<Value> = events
        .stdout()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .filter(|event| event["kind"] == "decision")
        .map(|event| serde_json::from_str(event["text"].as_str().expect("a text")).expect("JSON in it"))
        .collect();
    let expected = [
        ["GET", "/first", "allowed", ""],
        ["DELETE", "/second", "denied", "method_not_allowed"],
        ["GET", "/third", "denied", "host_not_allowed"],
    ];
    assert_eq!(told.iter().map(essence).collect::<Vec<_>>(), expected, "{events}");

    let log = stage.home.orch().join("data/decisions.jsonl");
    let logged = lines(&log, 3);
    assert_eq!(logged.iter().map(essence).collect::<Vec<_>>(), expected);
    for line in &logged {
        assert_eq!(
            (&line["workspace"], &line["run"], &line["maker"]),
            (&json!("default"), &json!(run), &json!("guest"))
        );
    }
    assert_eq!(fs::metadata(&log).expect("a log").permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&log).expect("a log");
    assert!(!text.contains(QUERY), "a query is in the log: {text}");

    let metrics = String::from_utf8(server.ask("GET", "/metrics", None).expect(200).body).expect("text");
    for line in [
        "orch_egress_decisions_total{verdict=\"allowed\",code=\"ok\"} 1",
        "orch_egress_decisions_total{verdict=\"denied\",code=\"method_not_allowed\"} 1",
        "orch_egress_decisions_total{verdict=\"denied\",code=\"host_not_allowed\"} 1",
        "orch_egress_decisions_lost_total 0",
        "orch_egress_decision_duration_seconds_count{verdict=\"denied\"} 2",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} is missing in\n{metrics}");
    }
    let down =
        metrics.lines().find_map(|line| line.strip_prefix("orch_egress_bytes_total{direction=\"down\"} "));
    assert!(down.and_then(|bytes| bytes.parse::<u64>().ok()).is_some_and(|bytes| bytes > 64), "{metrics}");

    // And a policy is learned from it: of all runs, of this one, of another one.
    let file = log.display().to_string();
    let all = stage.orch(["policy", "learn", "--log", &file, "--json"]).run().expect(0).json();
    let hosts: Vec<&Value> =
        all["egress"].as_array().expect("items").iter().map(|item| &item["host"]).collect();
    assert_eq!(hosts, [HOST, HOST, "other.example.org"], "{all:#}");
    assert_eq!((&all["requests"], &all["skipped"]), (&json!(3), &json!(0)), "{all:#}");
    let one = stage.orch(["policy", "learn", &run, "--log", &file, "--json"]).run().expect(0).json();
    assert_eq!((&one["egress"], &one["run"]), (&all["egress"], &json!(run)), "{one:#}");
    let other = "run_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    let none = stage.orch(["policy", "learn", other, "--log", &file, "--json"]).run().expect(0).json();
    assert_eq!((&none["egress"], &none["skipped"]), (&json!([]), &json!(3)), "{none:#}");
    server.terminate().expect(0);
}
