//! Runs beside each other, runs that are interrupted, and what is left behind.

use orch_tests::gate::Gate;
use orch_tests::orch::Running;
use orch_tests::process;
use orch_tests::reply::Reply;
use serde_json::json;

use crate::stage::{INPUT, OPENAI_SAYS, Stage, fake_openai, guest, summarizer, summary};

/// The right answer, once the gate opens.
fn held(gate: &Gate) -> Reply {
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    Reply::sse(fake_openai().stream(&asked)).held(gate)
}

/// A run whose agent waits for the model until the gate opens.
fn waiting(stage: &Stage, gate: &Gate) -> Running {
    stage.openai.script([held(gate)]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let running = stage.run_with_keys(&agent, INPUT).start();
    // By then the agent was read: its folder may go.
    stage.openai.wait_for(1);
    running
}

#[test]
fn two_runs_of_one_home_go_on_at_once() {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", crate::stage::OPENAI_KEY, &[]);
    let gate = Gate::closed();
    stage.openai.script([held(&gate), held(&gate)]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let first = stage.run(&agent, INPUT).start();
    let second = stage.run(&agent, INPUT).start();
    // Both stand before the model now: neither waits for the other's end.
    stage.openai.wait_for(2);
    let (a, b) = (first.workers(), second.workers());
    assert!(!a.is_empty() && !b.is_empty() && a.iter().all(|pid| !b.contains(pid)), "{a:?} {b:?}");
    gate.open();
    let (first, second) = (summary(first.finish(), OPENAI_SAYS), summary(second.finish(), OPENAI_SAYS));
    assert_ne!(first["run_id"], second["run_id"]);
    stage.openai.took_key(crate::stage::OPENAI_KEY);
}

#[test]
fn ctrl_c_ends_the_run_its_worker_and_its_requests() {
    let stage = Stage::new();
    let gate = Gate::closed();
    let running = waiting(&stage, &gate);
    let workers = running.workers();
    assert!(!workers.is_empty());
    running.interrupt();
    let outcome = running.finish().expect(130).silent();
    assert_eq!(outcome.error()["code"], "interrupted", "{outcome}");
    stage.openai.wait_closed();
    for worker in workers {
        assert!(!process::alive(worker), "worker {worker} outlives its run");
    }
}

#[test]
fn an_interrupt_of_the_command_alone_takes_its_worker_with_it() {
    let stage = Stage::new();
    let gate = Gate::closed();
    let running = waiting(&stage, &gate);
    let workers = running.workers();
    running.interrupt_alone();
    running.finish().expect(130).silent();
    stage.openai.wait_closed();
    for worker in workers {
        assert!(!process::alive(worker), "worker {worker} outlives its run");
    }
}

#[test]
fn a_guest_that_never_yields_is_interrupted_as_well() {
    let stage = Stage::new();
    let agent = guest("spinner", &json!({}));
    let running = stage.run_with_keys(&agent, "{}").start();
    running.wait_says("spinning");
    running.interrupt();
    running.finish().expect(130).silent();
}

#[test]
fn the_deadline_ends_a_wait_for_the_model() {
    let stage = Stage::new();
    let gate = Gate::closed();
    stage.openai.script([held(&gate)]);
    let outcome =
        stage.run_with_keys(&summarizer(&["gpt-4o-mini"]), INPUT).args(["--time", "3s"]).run().silent();
    // Either clock may be the first to see it: the run's, or the chain's.
    assert!(matches!(outcome.code(), Some(5 | 6)), "{outcome}");
    stage.openai.wait_closed();
}

#[test]
fn a_run_leaves_nothing_outside_of_its_home() {
    let stage = Stage::new();
    summary(stage.run_with_keys(&summarizer(&["gpt-4o-mini"]), INPUT).run(), OPENAI_SAYS);
    for folder in [stage.home.temporary(), stage.home.user(), stage.home.work()] {
        let left: Vec<_> =
            std::fs::read_dir(folder).expect("listed").map(|e| e.expect("an entry").path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_core_module_is_adapted_when_it_is_first_run() {
    let stage = Stage::new();
    let agent = guest("echo-core", &json!({}));
    for _ in 0..2 {
        let outcome = stage.run_with_keys(&agent, r#"{"same":[1,2,3]}"#).run().expect(0);
        assert_eq!(outcome.json()["output"], json!({ "same": [1, 2, 3] }), "{outcome}");
    }
}

#[test]
fn a_planted_artifact_is_not_run() {
    let stage = Stage::new();
    let agent = guest("echo", &json!({}));
    stage.run_with_keys(&agent, r#"{"n":1}"#).run().expect(0);
    let cache = stage.home.orch().join("cache/artifacts");
    let mut changed = 0;
    for entry in std::fs::read_dir(&cache).expect("compiled artifacts are kept") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let mut bytes = std::fs::read(&path).expect("readable");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            // In another file's place: this one is lent.
            std::fs::remove_file(&path).expect("removable");
            std::fs::write(&path, bytes).expect("writable");
            changed += 1;
        }
    }
    assert!(changed > 0, "nothing in {}", cache.display());
    let outcome = stage.run_with_keys(&agent, r#"{"n":2}"#).run().expect(0);
    assert_eq!(outcome.json()["output"], json!({ "n": 2 }), "{outcome}");
}
