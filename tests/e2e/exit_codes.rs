//! The exit codes of the contract: each of them by a run on this machine, by one on the embedded server, and by one on
//! the server of this home, and always with a JSON error and nothing on stdout. Code 8 has no local run: there is no
//! server in it.

use std::fs;
use std::io::Write;
use std::iter::repeat_n;

use orch_tests::fakes::Failure;
use orch_tests::gate::Gate;
use orch_tests::home::Home;
use orch_tests::orch::{Orch, Outcome};
use orch_tests::reply::Reply;
use serde_json::json;

use crate::remote::Remote;
use crate::stage::{
    INPUT, Mode, OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, fake_openai, guest, in_every_mode, orch,
    summarizer, summary, with_keys,
};

in_every_mode! {
    zero_is_done
    one_is_the_agents_own_failure
    one_is_output_that_does_not_match_its_schema
    two_is_bad_usage
    three_is_no_key
    three_is_every_key_rejected
    four_is_what_nobody_granted
    four_is_a_failure_after_a_refused_request
    five_is_every_provider_failed
    six_is_a_limit
    seven_is_the_vault
    seventy_is_a_defect
    one_hundred_and_thirty_is_an_interrupt
}

#[track_caller]
fn fails(run: Orch, code: i32) -> Outcome {
    let outcome = run.run().expect(code).silent();
    assert!(outcome.error()["code"].is_string(), "{outcome}");
    outcome
}

fn zero_is_done(mode: Mode) {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini"]);
    summary(with_keys(stage.run_in(mode, agent.path(), INPUT)).run(), OPENAI_SAYS);
    stage.orch(["--version"]).run().expect(0);
    stage.orch(["--help"]).run().expect(0);
}

fn one_is_the_agents_own_failure(mode: Mode) {
    let stage = Stage::new();
    for (name, says) in [("exit7", "7"), ("trap", "this guest traps on purpose"), ("badjson", "JSON")] {
        let agent = guest(name, &json!({}));
        let outcome = fails(with_keys(stage.run_in(mode, agent.path(), "{}")), 1);
        assert!(outcome.stderr().contains(says), "{outcome}");
    }
}

fn one_is_output_that_does_not_match_its_schema(mode: Mode) {
    let stage = Stage::new();
    let agent = guest("echo", &json!({ "output": { "type": "object", "required": ["summary"] } }));
    let outcome = fails(with_keys(stage.run_in(mode, agent.path(), r#"{"text":"x"}"#)), 1);
    assert!(outcome.error().to_string().contains("summary"), "{outcome}");
    with_keys(stage.run_in(mode, agent.path(), r#"{"summary":"x"}"#)).run().expect(0);
}

fn two_is_bad_usage(mode: Mode) {
    let stage = Stage::new();
    stage.orch(["run"]).run().expect(2).silent();
    stage.orch(["no-such-command"]).run().expect(2).silent();
    stage.orch(["secrets", "rm", "NO_SUCH_SECRET", "--yes"]).run().expect(2).silent();
    let agent = summarizer(&["gpt-4o-mini"]);
    for (agent, input, code) in [
        (agent.path().as_os_str(), "{", "input_invalid"),
        (agent.path().as_os_str(), r#"{"text":7}"#, "input_mismatch"),
        ("acme/absent".as_ref(), "{}", "agent_not_found"),
        ("./absent".as_ref(), "{}", "agent_not_found"),
    ] {
        let outcome = fails(with_keys(stage.run_in(mode, agent, input)), 2);
        assert_eq!(outcome.error()["code"], code, "{outcome}");
    }
    stage.openai.untouched();
}

fn three_is_no_key(mode: Mode) {
    let stage = Stage::new();
    let outcome = fails(stage.run_in(mode, summarizer(&["gpt-4o-mini"]).path(), INPUT), 3);
    let hints = outcome.error()["hints"].to_string();
    assert!(hints.contains("orch secrets set OPENAI_API_KEY"), "a hint can be pasted: {outcome}");
    assert!(hints.contains("--simulate"), "and there is a way without any key: {outcome}");
    stage.openai.untouched();
}

fn three_is_every_key_rejected(mode: Mode) {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini"]);
    let outcome = fails(
        stage
            .run_in(mode, agent.path(), INPUT)
            .env("OPENAI_API_KEY", "sk-proj-not-the-key-of-anybody-000000"),
        3,
    );
    assert_eq!(outcome.error()["code"], "keys_rejected", "{outcome}");
}

fn four_is_what_nobody_granted(mode: Mode) {
    let stage = Stage::new();
    let wants = json!({ "egress": [{ "host": "api.example.com" }] });
    let outcome = fails(with_keys(stage.run_in(mode, guest("echo", &wants).path(), "{}")), 4);
    let error = outcome.error();
    assert_eq!(error["code"], "not_granted", "{outcome}");
    assert!(error["details"]["combined_risk"].as_str().is_some_and(|risk| risk.contains("api.example.com")));
}

fn four_is_a_failure_after_a_refused_request(mode: Mode) {
    let stage = Stage::new();
    // The first request is refused; at the second the guest traps: that much padding is more than its address space.
    let input = json!({ "requests": [
        { "url": "https://api.example.com/" },
        { "url": "https://api.example.com/", "pad": u32::MAX },
    ] });
    let agent = guest("wanderer", &json!({}));
    let outcome = fails(with_keys(stage.run_in(mode, agent.path(), &input.to_string())), 4);
    assert!(outcome.error().to_string().contains("api.example.com"), "{outcome}");
}

fn five_is_every_provider_failed(mode: Mode) {
    let stage = Stage::new();
    stage.openai.script(repeat_n(fake_openai().failure(Failure::ServerError), 4));
    let agent = summarizer(&["gpt-4o-mini"]);
    let outcome = fails(stage.run_in(mode, agent.path(), INPUT).env("OPENAI_API_KEY", OPENAI_KEY), 5);
    assert_eq!(outcome.error()["code"], "providers_failed", "{outcome}");
}

fn six_is_a_limit(mode: Mode) {
    let stage = Stage::new();
    let agent = guest("spinner", &json!({}));
    let outcome = fails(with_keys(stage.run_in(mode, agent.path(), "{}")).args(["--time", "1s"]), 6);
    let error = outcome.error();
    assert!(error["details"].is_object() && error.to_string().contains("time"), "{outcome}");
}

fn seven_is_the_vault(mode: Mode) {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let key = stage.home.orch().join("data/keys/vault.key");
    let mut bytes = fs::read(&key).expect("the key is a file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&key, &bytes).expect("our own file");
    for args in [&["secrets", "list", "--json"][..], &["secrets", "which", "OPENAI_API_KEY", "--json"]] {
        fails(stage.orch(args), 7);
    }
    match mode {
        // A server does not begin with a vault that it cannot trust.
        Mode::Served => fails(stage.orch(["serve", "--json", "--listen", "127.0.0.1:0"]), 7),
        // A run does not pass over one.
        Mode::Local | Mode::Embedded => {
            fails(stage.run_in(mode, summarizer(&["gpt-4o-mini"]).path(), INPUT), 7)
        }
    };
    stage.openai.untouched();
}

/// The program goes away while it runs, so that no worker can be started from it: what its author holds to be
/// impossible is a defect.
fn seventy_is_a_defect(mode: Mode) {
    let stage = Stage::new();
    let copy = stage.home.work().join("orch");
    fs::copy(PROGRAM, &copy).expect("a copy of the program");
    let run = |program: &std::path::Path, input: &str| {
        Orch::new(program, &stage.home).args(["run", "--json"]).args(mode.flags()).args([
            "orch/summarizer",
            "--simulate",
            "--input",
            input,
        ])
    };
    let outcome = if let Mode::Served = mode {
        let orch = Orch::new(&copy, &stage.home);
        let server = orch_tests::server::Server::begin(orch, &stage.home, &[]);
        fs::remove_file(&copy).expect("removed");
        let outcome = run(PROGRAM.as_ref(), INPUT).run();
        drop(server);
        outcome
    } else {
        // It has begun when it opens its input, and has not started anything before that.
        let input = stage.home.work().join("input");
        rustix::fs::mkfifoat(rustix::fs::CWD, &input, rustix::fs::Mode::RWXU).expect("a pipe");
        let running = run(&copy, &format!("@{}", input.display())).start();
        let mut writer = fs::OpenOptions::new().write(true).open(&input).expect("opened");
        fs::remove_file(&copy).expect("removed");
        writer.write_all(INPUT.as_bytes()).expect("written");
        drop(writer);
        running.finish()
    };
    let outcome = outcome.expect(70).silent();
    assert_eq!(outcome.error()["code"], "defect", "{outcome}");
}

fn one_hundred_and_thirty_is_an_interrupt(mode: Mode) {
    let stage = Stage::new();
    let gate = Gate::closed();
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(&gate)]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let running = with_keys(stage.run_in(mode, agent.path(), INPUT)).start();
    stage.openai.wait_for(1);
    running.interrupt();
    let outcome = running.finish().expect(130).silent();
    assert_eq!(outcome.error()["code"], "interrupted", "{outcome}");
    stage.openai.wait_closed();
}

#[test]
fn eight_is_a_store_that_cannot_be_used() {
    let home = Home::new();
    let run = || orch(&home).args(["run", "--json", "orch/summarizer", "--simulate", "--input", INPUT]);
    run().run().expect(0);
    fs::write(home.orch().join("data/orch.db"), b"not a database, however long it is looked at")
        .expect("ours");
    for suffix in ["-wal", "-shm"] {
        let _absent = fs::remove_file(home.orch().join(format!("data/orch.db{suffix}")));
    }
    fails(run(), 8);
}

#[test]
fn eight_is_a_server_that_is_not_there_or_refuses() {
    let home = Home::new();
    let outcome = fails(
        orch(&home).args(["run", "--json", "orch/summarizer"]).env("ORCH_SERVER", "http://127.0.0.1:1"),
        8,
    );
    assert_eq!(outcome.error()["code"], "server_unreachable", "{outcome}");
    let remote = Remote::without_keys();
    let outcome = fails(remote.anybody(["run", "--json", "orch/summarizer", "--input", INPUT]), 8);
    assert_eq!(outcome.error()["code"], "not_authenticated", "{outcome}");
}
