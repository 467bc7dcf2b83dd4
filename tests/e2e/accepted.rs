//! What a server has accepted, it keeps: whoever asked for it goes away, and whoever else asks meanwhile.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use orch_tests::gate::Gate;
use orch_tests::guests;
use orch_tests::home::Home;
use orch_tests::reply::Reply;
use orch_tests::server::{Answer, Server};
use serde_json::{Value, json};

use crate::stage::{INPUT, OPENAI_KEY, PROGRAM, Stage, fake_openai, orch};

/// How long runs may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

fn summary() -> Value {
    json!({ "agent": "orch/summarizer", "model": "gpt-4o-mini", "input": { "text": "Ships came." } })
}

/// A server that runs one agent at a time and lets two wait, while the first of them waits for its model.
fn busy(gate: &Gate) -> (Stage, Server) {
    let mut stage = Stage::new();
    // One workspace holds half of the places.
    stage.configure(|config| config.server(json!({ "max_running": 1, "max_queued": 4 })));
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(gate)]);
    let server = Server::start(PROGRAM, &stage.home);
    (stage, server)
}

/// Asks for a run and does not wait for the answer.
fn ask_for(server: &Server, query: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let mut stream = TcpStream::connect(server.address()).expect("it listens");
    let head = format!(
        "POST /v1/runs{query} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        server.address(),
        server.token(),
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).expect("sent");
    stream
}

/// Looks at something until it is as it should be.
#[track_caller]
fn until<T>(mut look: impl FnMut() -> T, fine: impl Fn(&T) -> bool) -> T
where
    T: std::fmt::Debug,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if fine(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "it stays {seen:?}");
        thread::yield_now();
    }
}

fn runs(server: &Server) -> Vec<Value> {
    let list = server.ask("GET", "/v1/runs?limit=100", None).expect(200).json();
    list["runs"].as_array().expect("a list").clone()
}

fn statuses(server: &Server) -> Vec<String> {
    runs(server).iter().map(|run| run["status"].as_str().expect("a status").to_owned()).collect()
}

fn over(statuses: &[String]) -> bool {
    statuses.iter().all(|status| !matches!(status.as_str(), "queued" | "running"))
}

/// No place is taken by what has ended.
#[track_caller]
fn idle(server: &Server) {
    let metrics =
        || String::from_utf8_lossy(&server.ask("GET", "/metrics", None).expect(200).body).into_owned();
    until(metrics, |said| said.contains("orch_runs_queued 0\n") && said.contains("orch_runs_running 0\n"));
}

#[track_caller]
fn refused(answer: &Answer, code: &str) -> Value {
    let said = answer.json();
    assert_eq!(said["error"]["code"], code, "{said:#}");
    assert_eq!(said["request_id"], answer.header("x-request-id").expect("a request id"), "{said:#}");
    said
}

#[test]
fn a_client_that_goes_away_leaves_runs_that_end() {
    let gate = Gate::closed();
    let (stage, server) = busy(&gate);
    let executed = ask_for(&server, "?wait", &summary());
    stage.openai.wait_for(1);
    let waiting = ask_for(&server, "?wait", &summary());
    until(|| statuses(&server), |all| all.len() == 2);
    drop((executed, waiting));
    gate.open();
    assert_eq!(until(|| statuses(&server), |all| over(all)), ["succeeded", "succeeded"]);
    idle(&server);
    // One run at a time: a place that had leaked would be missed here.
    let next = server.ask("POST", "/v1/runs?wait", Some(&summary())).expect(200).json();
    assert_eq!(next["status"], "succeeded", "{next:#}");
}

#[test]
fn a_client_that_does_not_wait_for_its_answer_leaves_runs_that_end() {
    let home = Home::new();
    home.write("config.yaml", "server: { max_running: 1, max_queued: 100 }\n");
    let server = Server::simulated(PROGRAM, &home);
    orch(&home).arg("publish").arg(guests::repository().join("tests/guests/noop")).run().expect(0);
    let noop = json!({ "agent": "guests/noop", "input": {} });
    // Some are gone before their request was read, some in the middle, some after.
    for (at, query) in ["", "?wait", "?wait=60"].into_iter().cycle().take(30).enumerate() {
        let stream = ask_for(&server, query, &noop);
        until(|| runs(&server).len(), |count| at % 3 != 0 || *count > at / 3);
        drop(stream);
    }
    let ended = until(|| statuses(&server), |all| over(all));
    assert!(ended.len() >= 10 && ended.iter().all(|status| status == "succeeded"), "{ended:?}");
    idle(&server);
    let next = server.ask("POST", "/v1/runs?wait", Some(&noop)).expect(200).json();
    assert_eq!(next["status"], "succeeded", "{next:#}");
}

#[test]
fn a_full_queue_refuses_and_loses_nothing_of_what_it_took() {
    let gate = Gate::closed();
    let (stage, server) = busy(&gate);
    let submit = || server.ask("POST", "/v1/runs", Some(&summary())).expect(202).json()["id"].clone();
    let first = submit();
    stage.openai.wait_for(1);
    let accepted = [first, submit(), submit()];
    let answer = server.ask("POST", "/v1/runs", Some(&summary())).expect(503);
    let said = refused(&answer, "queue_full");
    assert_eq!((&said["exit_code"], answer.header("retry-after")), (&json!(8), Some("1")), "{said:#}");
    let client = Home::new();
    let outcome = orch(&client)
        .args(["run", "--json", "orch/summarizer", "--model", "gpt-4o-mini", "--input", INPUT])
        .env("ORCH_SERVER", server.url())
        .env("ORCH_TOKEN", server.token())
        .run()
        .expect(8)
        .silent();
    let error = outcome.error();
    assert_eq!(error["code"], "queue_full", "{outcome}");
    assert!(error["details"]["request_id"].as_str().is_some_and(|id| id.starts_with("req_")), "{outcome}");

    gate.open();
    assert_eq!(until(|| statuses(&server), |all| over(all)), ["succeeded"; 3]);
    for id in accepted {
        assert!(runs(&server).iter().any(|run| run["id"] == id), "{id} is gone");
    }
    idle(&server);
    let next = server.ask("POST", "/v1/runs?wait", Some(&summary())).expect(200).json();
    assert_eq!(next["status"], "succeeded", "{next:#}");
}

#[test]
fn a_workspace_with_many_runs_delays_another_by_one() {
    let gate = Gate::closed();
    let mut stage = Stage::new();
    stage.configure(|config| config.server(json!({ "max_running": 1, "max_queued": 20 })));
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(&gate)]);
    let server = Server::start(PROGRAM, &stage.home);
    let made = json!({ "name": "theirs", "scopes": ["admin"], "workspace": "other" });
    let theirs = server.ask("POST", "/v1/tokens", Some(&made)).expect(201).json();
    let theirs = theirs["token"].as_str();
    let key = json!({ "value": OPENAI_KEY });
    server.ask_as(theirs, "PUT", "/v1/secrets/OPENAI_API_KEY", Some(&key)).expect(200);

    for _ in 0..6 {
        server.ask("POST", "/v1/runs", Some(&summary())).expect(202);
    }
    stage.openai.wait_for(1);
    let asked = server.ask_as(theirs, "POST", "/v1/runs", Some(&summary())).expect(202).json();
    gate.open();
    let of_theirs = || {
        let path = format!("/v1/runs/{}", asked["id"].as_str().expect("an id"));
        server.ask_as(theirs, "GET", &path, None).expect(200).json()
    };
    let last = until(of_theirs, |run| over(&[run["status"].as_str().expect("a status").to_owned()]));
    assert_eq!(last["status"], "succeeded", "{last:#}");
    assert_eq!(until(|| statuses(&server), |all| over(all)), ["succeeded"; 6]);
    // The one under way, and one that was there before: the others come after it.
    let started = |run: &Value| run["started_at"].as_str().expect("a time").to_owned();
    let before = runs(&server).iter().filter(|run| started(run) < started(&last)).count();
    assert!((1..=2).contains(&before), "{before} runs were started before it");
}
