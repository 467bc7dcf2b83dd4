//! What local runs leave in the vault's log beside the uses of its secrets.

use std::thread;
use std::time::Duration;

use orch_tests::gate::Gate;
use orch_tests::pty;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use serde_json::{Value, json};

use crate::stage::{INPUT, Mode, OPENAI_KEY, PROGRAM, Stage, fake_openai, guest, summarizer, with_keys};

fn log(stage: &Stage) -> Vec<Value> {
    let log = stage.orch(["vault", "audit", "--json"]).run().expect(0).json();
    log["records"].as_array().expect("records").clone()
}

fn of<'l>(log: &'l [Value], event: &str) -> Vec<&'l Value> {
    log.iter().filter(|record| record["event"] == event).collect()
}

/// A vault that the run itself has no use for.
fn with_a_vault() -> Stage {
    let stage = Stage::new();
    stage.store("OTHER", "0123456789abcdef", &[]);
    stage
}

#[test]
fn a_remembered_answer_is_on_record() {
    let stage = with_a_vault();
    let egress = json!({ "egress": [{ "host": "api.github.com", "methods": ["GET"] }] });
    let agent = guest("wanderer", &egress);
    let answered = |answer: &str| {
        let (terminal, mut keyboard) = pty::open();
        let run = stage.shown_in(Mode::Local, agent.path(), r#"{"requests":[]}"#);
        let running = with_keys(run).env("TERM", "dumb").start_on(terminal);
        running.wait_says("Allow?");
        keyboard.answers(answer);
        running.finish().expect(0)
    };
    answered("y");
    assert!(of(&log(&stage), "granted").is_empty(), "for one run is not remembered");
    answered("a");
    let log = log(&stage);
    let granted = of(&log, "granted");
    assert_eq!(granted.len(), 1, "{log:#?}");
    assert_eq!((&granted[0]["agent"], &granted[0]["capabilities"]), (&json!("test/wanderer"), &json!(1)));
}

#[test]
fn refused_requests_are_on_record_though_no_secret_of_the_vault_was_used() {
    let stage = with_a_vault();
    let agent = guest("wanderer", &json!({}));
    let hosts: Vec<String> = (0..40).rev().map(|n| format!("h{n:02}.example.org")).collect();
    let requests: Vec<Value> =
        hosts.iter().map(|host| json!({ "url": format!("https://{host}/") })).collect();
    stage.run_with_keys(&agent, &json!({ "requests": requests }).to_string()).run();
    let log = log(&stage);
    let denied = of(&log, "denied");
    let said: Vec<&str> = denied.iter().filter_map(|record| record["host"].as_str()).collect();
    // In the order in which it asked, and then that there were more.
    assert_eq!(said.len(), 33, "{log:#?}");
    assert!(said.iter().zip(&hosts).take(32).all(|(said, host)| said == host), "{said:?}");
    assert_eq!((said[32], &denied[32]["reason"]), ("", &json!("more_refused")));
}

#[test]
fn an_expired_key_that_the_run_went_without_is_on_record() {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    stage.store("ANTHROPIC_API_KEY", "sk-ant-0123456789abcdef", &["--expires", "1s"]);
    thread::sleep(Duration::from_millis(1200));
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    stage.run(&agent, INPUT).run().expect(0);
    let log = log(&stage);
    let failed = of(&log, "open_failed");
    assert_eq!((failed.len(), &failed[0]["reason"]), (1, &json!("secret_expired")), "{log:#?}");
}

/// It is on record that its key was going to be used; how often it was died with the server.
#[test]
fn a_run_whose_server_died_is_counted_as_not_complete() {
    let stage = Stage::new();
    let server = Server::start(PROGRAM, &stage.home);
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let gate = Gate::closed();
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(&gate)]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let running = stage.run_in(Mode::Embedded, agent.path(), INPUT).start();
    stage.openai.wait_for(1);
    server.kill();
    running.finish().expect(8);
    for _ in 0..2 {
        // The next one takes it over, and the one after that has nothing to add.
        Server::start(PROGRAM, &stage.home).terminate().expect(0);
    }
    let log = log(&stage);
    let counted = of(&log, "use_counted");
    assert_eq!(counted.len(), 1, "{log:#?}");
    assert_eq!((&counted[0]["uses"], &counted[0]["complete"]), (&json!(0), &json!(false)));
    assert_eq!(counted[0]["run"], of(&log, "use_planned")[0]["run"]);
}
