//! A server that is killed: what it accepted is finished, run again, or reported. Nothing is lost, nothing runs twice,
//! and what was spent is on the bill.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use orch_tests::gate::Gate;
use orch_tests::guests;
use orch_tests::home::Home;
use orch_tests::reply::Reply;
use orch_tests::server::{Server, request};
use serde_json::{Value, json};

use crate::stage::{OPENAI_KEY, PROGRAM, Stage, fake_openai, guest, orch};

/// How often the server is killed.
const KILLS: u64 = 30;
/// How many clients ask for runs meanwhile.
const CLIENTS: usize = 8;
/// How long the runs of a restarted server may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for one run after another until told to stop; what was accepted is written down.
fn load(address: SocketAddr, token: &str, body: &str, stop: &AtomicBool, accepted: &Mutex<Vec<String>>) {
    while !stop.load(Ordering::Relaxed) {
        // A server that was killed refuses, or breaks off in the middle: then nothing was accepted, as far as a client
        // can tell.
        let Ok(answer) = request(address, Some(token), "POST", "/v1/runs", body.as_bytes()) else { continue };
        if answer.status == 202 {
            let id = answer.json()["id"].as_str().expect("an id").to_owned();
            accepted.lock().expect("no client panics").push(id);
        }
    }
}

/// A run that thinks once, and stands at its second call until the gate opens.
fn stopped_in_its_second_call(stage: &Stage, gate: &Gate) -> (Server, String) {
    let reply = Reply::sse(fake_openai().stream(&json!({ "model": "gpt-4o-mini" })));
    stage.openai.script([reply.clone(), reply.held(gate)]);
    let server = Server::start(PROGRAM, &stage.home);
    let plan = json!({ "supported_providers": ["openai"], "llm": { "primary": "gpt-4o-mini" } });
    stage.orch(["publish"]).arg(guest("wanderer", &plan).path()).run().expect(0);
    let question = json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "Rain?" }], "stream": true });
    let call = json!({
        "method": "POST", "url": "http://llm.orch.internal/v1/chat/completions",
        "headers": [["content-type", "application/json"]], "body": question.to_string(),
    });
    let body = json!({
        "agent": "test/wanderer", "input": { "requests": [call, call] },
        "env_keys": { "OPENAI_API_KEY": OPENAI_KEY },
    });
    let run = server.ask("POST", "/v1/runs", Some(&body)).expect(202).json();
    stage.openai.wait_for(2);
    (server, run["id"].as_str().expect("an id").to_owned())
}

fn calls_on_the_bill(server: &Server) -> u64 {
    let usage = server.ask("GET", "/v1/usage?by=agent", None).expect(200).json();
    usage["total"]["calls"].as_u64().expect("a number")
}

#[test]
fn what_a_killed_run_has_spent_is_on_record() {
    let (stage, gate) = (Stage::new(), Gate::closed());
    let (server, run) = stopped_in_its_second_call(&stage, &gate);
    let until = Instant::now() + PATIENCE;
    while calls_on_the_bill(&server) == 0 {
        assert!(Instant::now() < until, "the first call is not stored while the run goes on");
        thread::yield_now();
    }
    server.kill();

    let server = Server::start(PROGRAM, &stage.home);
    let end = end_of(&server, &run);
    assert_eq!((&end["status"], &end["error"]["code"]), (&json!("interrupted"), &json!("server_stopped")));
    let report = &end["report"];
    assert_eq!(report["calls"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(report["calls"][0]["provider_served"], "openai", "{report}");
    assert_eq!(report["usage"]["input_tokens"], report["calls"][0]["input_tokens"], "{report}");
    assert!(report["usage"]["output_tokens"].as_u64() > Some(0), "{report}");
    assert_eq!(calls_on_the_bill(&server), 1, "and counted once");
}

#[test]
fn a_run_that_ends_is_billed_once_although_its_calls_were_stored_before() {
    let (stage, gate) = (Stage::new(), Gate::closed());
    let (server, run) = stopped_in_its_second_call(&stage, &gate);
    let until = Instant::now() + PATIENCE;
    while calls_on_the_bill(&server) == 0 {
        assert!(Instant::now() < until, "the first call is not stored while the run goes on");
        thread::yield_now();
    }
    gate.open();
    let end = end_of(&server, &run);
    assert_eq!(
        (&end["status"], end["report"]["calls"].as_array().map(Vec::len)),
        (&json!("succeeded"), Some(2))
    );
    assert_eq!(calls_on_the_bill(&server), 2);
}

fn end_of(server: &Server, id: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let run = server.ask("GET", &format!("/v1/runs/{id}"), None).expect(200).json();
        if !matches!(run["status"].as_str(), Some("queued" | "running")) {
            return run;
        }
        assert!(Instant::now() < until, "{id} does not end: {run}");
        thread::yield_now();
    }
}

#[test]
fn a_killed_server_loses_no_accepted_run() {
    let home = Home::new();
    let mut accepted: Vec<String> = Vec::new();
    let mut moment: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..KILLS {
        let server = Server::simulated(PROGRAM, &home);
        let body = json!({ "agent": "guests/noop", "input": {} });
        if accepted.is_empty() {
            orch(&home).arg("publish").arg(guests::repository().join("tests/guests/noop")).run().expect(0);
            // Compiled once: however busy the machine is, runs then end between kills.
            let first = server.ask("POST", "/v1/runs?wait", Some(&body)).expect(200).json();
            assert_eq!(first["status"], "succeeded", "{first}");
        }
        let body = body.to_string();
        let (address, token) = (server.address(), server.token().to_owned());
        let (stop, fresh) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        // Somewhere in the first 600 ms under load: at a start, in the middle of a batch, between a commit and its answer.
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = Duration::from_millis((moment >> 33) % 600);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| load(address, &token, &body, &stop, &fresh));
            }
            thread::sleep(after);
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        accepted.extend(fresh.into_inner().expect("no client panics"));
    }

    // The last one is left alone: what waited is run again, what had been started is reported.
    let server = Server::simulated(PROGRAM, &home);
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for id in &accepted {
        let run = end_of(&server, id);
        let status = run["status"].as_str().expect("a status").to_owned();
        match status.as_str() {
            "succeeded" => assert_eq!(run["exit_code"], 0, "{run}"),
            "interrupted" => assert_eq!(run["error"]["code"], "server_stopped", "{run}"),
            _ => panic!("{run}"),
        }
        *ends.entry(status).or_default() += 1;
    }
    assert!(accepted.len() > 100, "{} runs are no load", accepted.len());
    assert_eq!(ends.values().sum::<usize>(), accepted.len(), "{ends:?}");
    assert!(ends.contains_key("succeeded") && ends.contains_key("interrupted"), "{ends:?}");
}
