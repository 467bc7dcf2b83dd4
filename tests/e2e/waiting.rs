//! Runs that wait for their turn on a server: what changes meanwhile reaches them.

use orch_tests::gate::Gate;
use orch_tests::needle::{self, Needle};
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, fake_openai};

const ROTATED: &str = "sk-proj-rotatedRw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3Gc5Jv0";

/// A server that executes one run at a time; the first asks its model and waits until the gate opens.
fn busy(stage: &mut Stage, gate: &Gate) -> (Server, String) {
    stage.configure(|config| config.server(json!({ "max_running": 1 })));
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(gate)]);
    let server = Server::start(PROGRAM, &stage.home);
    let first = submit(&server);
    stage.openai.wait_for(1);
    (server, first)
}

fn submit(server: &Server) -> String {
    submit_with(server, &json!({}))
}

fn submit_with(server: &Server, env: &Value) -> String {
    let body = json!({
        "agent": "orch/summarizer", "model": "gpt-4o-mini", "input": { "text": "Ships came." }, "env": env,
    });
    let run = server.ask("POST", "/v1/runs", Some(&body)).expect(202).json();
    run["id"].as_str().expect("an id").to_owned()
}

fn end_of(server: &Server, run: &str) -> Value {
    loop {
        let run = server.ask("GET", &format!("/v1/runs/{run}"), None).expect(200).json();
        if !matches!(run["status"].as_str(), Some("queued" | "running")) {
            return run;
        }
        std::thread::yield_now();
    }
}

fn bearer(request: &Received) -> String {
    request.header("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned()
}

#[test]
fn a_key_that_was_rotated_is_used_in_its_new_version() {
    let (mut stage, gate) = (Stage::cold(), Gate::closed());
    let (server, first) = busy(&mut stage, &gate);
    let waited = submit(&server);
    let rotated = json!({ "value": ROTATED });
    assert!(server.ask("PUT", "/v1/secrets/OPENAI_API_KEY", Some(&rotated)).status < 300);
    // The provider knows one of them only, so it says which one it was sent.
    gate.open();
    assert_eq!(end_of(&server, &first)["report"]["output"]["summary"], OPENAI_SAYS);
    let end = end_of(&server, &waited);
    assert_eq!((&end["exit_code"], &end["error"]["code"]), (&json!(3), &json!("keys_rejected")), "{end}");
    let sent: Vec<String> = stage.openai.received().iter().map(bearer).collect();
    assert_eq!(sent, [OPENAI_KEY, ROTATED]);
}

#[test]
fn what_a_run_was_given_lies_on_disk_while_it_waits_and_not_after_its_end() {
    const CANARY: &str = "canary-Zq7Lx2Vn9Rt4Ys8Hd3Kf1Bm5Gc6Jv0X";
    let (mut stage, gate) = (Stage::cold(), Gate::closed());
    let (server, _) = busy(&mut stage, &gate);
    let waited = submit_with(&server, &json!({ "TOKEN": CANARY }));
    let needle = Needle::new(CANARY);
    assert!(!stage.home.search(&needle).is_empty(), "a server that dies now has to run it again");
    gate.open();
    let end = end_of(&server, &waited);
    assert_eq!(end["status"], "succeeded", "{end}");
    server.terminate().expect(0);
    needle::none(&stage.home.search(&needle));
}
