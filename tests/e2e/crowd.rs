//! More runs at once than one worker holds.

use orch_tests::gate::Gate;
use orch_tests::orch::Orch;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use serde_json::{Value, json};

use crate::stage::{OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, fake_openai};

/// With this much address space, in KiB, a worker has room for two runs: 17 GiB each, and 64 for itself.
const SPACE: u64 = 100 << 20;

fn question() -> Value {
    json!({ "agent": "orch/summarizer", "model": "gpt-4o-mini", "input": { "text": "Ships came." } })
}

#[test]
fn runs_that_one_worker_cannot_hold_get_another() {
    let (stage, gate) = (Stage::new(), Gate::closed());
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    let held = || Reply::sse(fake_openai().stream(&asked)).held(&gate);
    stage.openai.script([held(), held(), held(), held(), held()]);
    let limited = format!("ulimit -v {SPACE} && exec \"$0\" \"$@\"");
    let shell = Orch::new("/bin/sh", &stage.home).args(["-c", &limited, PROGRAM]);
    let server = Server::begin(shell, &stage.home, &[]);

    let body =
        json!({ "agent": "orch/summarizer", "model": "gpt-4o-mini", "input": { "text": "Ships came." } });
    let runs: Vec<String> = (0..5)
        .map(|_| {
            let run = server.ask("POST", "/v1/runs", Some(&body)).expect(202).json();
            run["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    // All of them wait for the model, in the same moment.
    stage.openai.wait_for(5);
    assert_eq!(server.process().workers().len(), 3);
    gate.open();
    for run in runs {
        let path = format!("/v1/runs/{run}");
        let ended = loop {
            let run = server.ask("GET", &path, None).expect(200).json();
            if run["status"] != "running" {
                break run;
            }
            std::thread::yield_now();
        };
        assert_eq!(ended["report"]["output"]["summary"], OPENAI_SAYS, "{ended:#}");
    }
    server.terminate().expect(0);
}

/// All that one worker may hold is reserved when it starts, however few come.
#[test]
fn the_largest_server_runs_an_agent() {
    let mut stage = Stage::new();
    stage.configure(|config| config.server(json!({ "max_running": 50_000 })));
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let server = Server::start(PROGRAM, &stage.home);
    let run = server.ask("POST", "/v1/runs?wait", Some(&question())).expect(200).json();
    assert_eq!(run["report"]["output"]["summary"], OPENAI_SAYS, "{run:#}");
    server.terminate().expect(0);
}
