//! The jail around the sandbox, as its users see it: the doctor, the operator's requirement, and what becomes of runs whose
//! worker tried to leave it.

use std::time::{Duration, Instant};

use orch_tests::gate::Gate;
use orch_tests::home::Home;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::stage::{OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, fake_openai, orch, summarizer, summary};

/// What the kernel does to a process that makes a forbidden system call, but from outside: such a call takes native code in
/// a worker, which the runner's own tests have.
fn as_for_a_forbidden_call(worker: u32) {
    let pid = Pid::from_raw(worker.try_into().expect("a process id")).expect("not 0");
    kill_process(pid, Signal::SYS).expect("the worker is there");
}

#[test]
fn the_doctor_names_every_layer() {
    let home = Home::new();
    let outcome = orch(&home).args(["doctor", "--json"]).run().expect(0);
    let report = outcome.json();
    let checks = report["checks"].as_array().expect("a list");
    for layer in
        ["descriptors", "parent-death", "namespaces", "root", "privileges", "rlimits", "landlock", "seccomp"]
    {
        let name = format!("jail.{layer}");
        let check = checks.iter().find(|check| check["name"] == *name);
        let check = check.unwrap_or_else(|| panic!("{name} is missing: {outcome}"));
        let detail = check["detail"].as_str().expect("a text");
        match check["state"].as_str().expect("a text") {
            "ok" => assert!(detail.starts_with("active: "), "{check}"),
            // Not every system grants these to everybody.
            "notice" if ["namespaces", "root", "rlimits"].contains(&layer) => {
                assert!(
                    detail.contains(" in the worker: ") && detail.contains(" in the compiler: "),
                    "{check}"
                );
            }
            state => panic!("{layer} is {state}; this needs Linux 6.12: {check}"),
        }
    }
}

#[test]
fn what_is_required_and_holds_is_no_hindrance() {
    let mut stage = Stage::new();
    stage.configure(|config| config.sandbox(json!({ "require": ["landlock", "seccomp", "privileges"] })));
    let outcome = stage.run_with_keys(&summarizer(&["gpt-4o-mini"]), r#"{"text":"x"}"#).run();
    summary(outcome, OPENAI_SAYS);
    stage.configure(|config| config.sandbox(json!({ "require": ["landlok"] })));
    let outcome = stage.run_with_keys(&summarizer(&["gpt-4o-mini"]), r#"{"text":"x"}"#).run().expect(2);
    let error = outcome.error();
    assert_eq!(error["code"], "config_invalid", "{outcome}");
    let message = error["message"].as_str().expect("a text");
    assert!(message.contains("sandbox.require") && message.contains("landlock, seccomp"), "{outcome}");
}

/// A model's answer that waits for the gate.
fn held(stage: &Stage, gate: &Gate) {
    let reply = Reply::sse(fake_openai().stream(&json!({ "model": "gpt-4o-mini" })));
    stage.openai.script([reply.clone().held(gate), reply.held(gate)]);
}

#[test]
fn a_violation_is_the_runs_end_with_exit_code_1() {
    let (stage, gate) = (Stage::new(), Gate::closed());
    held(&stage, &gate);
    let agent = summarizer(&["gpt-4o-mini"]);
    let running = stage.run_with_keys(&agent, r#"{"text":"x"}"#).start();
    stage.openai.wait_for(1);
    let workers = running.workers();
    let [worker] = workers.as_slice() else { panic!("{workers:?}") };
    as_for_a_forbidden_call(*worker);
    let outcome = running.finish().expect(1);
    let error = outcome.error();
    assert_eq!(error["code"], "sandbox_violation", "{outcome}");
    assert!(error["message"].as_str().expect("a text").starts_with("sandbox violation: "), "{outcome}");
    assert_eq!(stage.openai.received().len(), 1, "it was tried again: {outcome}");
    gate.open();
}

#[test]
fn a_violation_is_on_record() {
    let (stage, gate) = (Stage::new(), Gate::closed());
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    held(&stage, &gate);
    let agent = summarizer(&["gpt-4o-mini"]);
    let running = stage.run(&agent, r#"{"text":"x"}"#).start();
    stage.openai.wait_for(1);
    as_for_a_forbidden_call(running.workers()[0]);
    let outcome = running.finish().expect(1);
    gate.open();
    let log = stage.orch(["vault", "audit", "--json"]).run().expect(0).json();
    let records = log["records"].as_array().expect("a list");
    let denied = records.iter().find(|record| record["reason"] == "sandbox_violation");
    let denied = denied.unwrap_or_else(|| panic!("{log:#}"));
    assert_eq!(denied["event"], "denied", "{outcome}");
}

#[test]
fn every_run_of_the_worker_ends_and_the_next_has_a_new_one() {
    let (stage, gate) = (Stage::new(), Gate::closed());
    held(&stage, &gate);
    let server = Server::start(PROGRAM, &stage.home);
    stage.orch(["publish"]).arg(summarizer(&["gpt-4o-mini"]).path()).run().expect(0);
    let body = json!({
        "agent": "test/summarizer", "input": { "text": "x" }, "env_keys": { "OPENAI_API_KEY": OPENAI_KEY },
    });
    let begin = || server.ask("POST", "/v1/runs", Some(&body)).expect(202).json()["id"].clone();
    let runs = [begin(), begin()];
    stage.openai.wait_for(2);
    let workers = server.process().workers();
    let [worker] = workers.as_slice() else { panic!("both are in one worker: {workers:?}") };
    as_for_a_forbidden_call(*worker);
    for run in &runs {
        let end = end_of(&server, run.as_str().expect("an id"));
        assert_eq!(
            (&end["status"], &end["error"]["code"]),
            (&json!("failed"), &json!("sandbox_violation")),
            "{end}"
        );
        let message = end["error"]["message"].as_str().expect("a text");
        assert!(message.starts_with("sandbox violation: "), "{message}");
    }
    assert_eq!(stage.openai.received().len(), 2, "nothing was tried again");
    gate.open();

    let next = end_of(&server, begin().as_str().expect("an id"));
    assert_eq!(next["status"], "succeeded", "{next}");
    assert_ne!(server.process().workers(), workers);
}

fn end_of(server: &Server, id: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let run = server.ask("GET", &format!("/v1/runs/{id}"), None).expect(200).json();
        if !matches!(run["status"].as_str(), Some("queued" | "running")) {
            return run;
        }
        assert!(Instant::now() < until, "{id} does not end: {run}");
        std::thread::yield_now();
    }
}
