//! The exit codes of the contract, one cause of each that the other files do not show.

use std::fs;

use serde_json::json;

use crate::stage::{INPUT, OPENAI_KEY, OPENAI_SAYS, Stage, guest, summarizer, summary};

#[test]
fn zero_is_done() {
    let stage = Stage::new();
    summary(stage.run_with_keys(&summarizer(&["gpt-4o-mini"]), INPUT).run(), OPENAI_SAYS);
    stage.orch(["--version"]).run().expect(0);
    stage.orch(["--help"]).run().expect(0);
}

#[test]
fn one_is_the_agents_own_failure() {
    let stage = Stage::new();
    for (name, says) in [("exit7", "7"), ("trap", "this guest traps on purpose"), ("badjson", "JSON")] {
        let outcome = stage.run_with_keys(&guest(name, &json!({})), "{}").run().expect(1).silent();
        assert!(outcome.stderr().contains(says), "{outcome}");
        assert!(outcome.error()["code"].is_string(), "{outcome}");
    }
}

#[test]
fn one_is_output_that_does_not_match_its_schema() {
    let stage = Stage::new();
    let agent = guest("echo", &json!({ "output": { "type": "object", "required": ["summary"] } }));
    let outcome = stage.run_with_keys(&agent, r#"{"text":"x"}"#).run().expect(1).silent();
    assert!(outcome.error().to_string().contains("summary"), "{outcome}");
    stage.run_with_keys(&agent, r#"{"summary":"x"}"#).run().expect(0);
}

#[test]
fn two_is_bad_usage() {
    let stage = Stage::new();
    stage.orch(["run"]).run().expect(2).silent();
    stage.orch(["no-such-command"]).run().expect(2).silent();
    stage.orch(["secrets", "rm", "NO_SUCH_SECRET", "--yes"]).run().expect(2).silent();
}

#[test]
fn three_is_no_key() {
    let stage = Stage::new();
    let outcome = stage.run(&summarizer(&["gpt-4o-mini"]), INPUT).run().expect(3).silent();
    let hints = outcome.error()["hints"].to_string();
    assert!(hints.contains("orch secrets set OPENAI_API_KEY"), "a hint can be pasted: {outcome}");
    assert!(hints.contains("--simulate"), "and there is a way without any key: {outcome}");
    stage.openai.untouched();
}

#[test]
fn four_is_a_failure_after_a_refused_request() {
    let stage = Stage::new();
    // The first request is refused; at the second the guest traps: that much padding is more than its address space.
    let input = json!({ "requests": [
        { "url": "https://api.example.com/" },
        { "url": "https://api.example.com/", "pad": u32::MAX },
    ] });
    let outcome =
        stage.run_with_keys(&guest("wanderer", &json!({})), &input.to_string()).run().expect(4).silent();
    assert!(outcome.error().to_string().contains("api.example.com"), "{outcome}");
}

#[test]
fn six_is_a_limit() {
    let stage = Stage::new();
    let outcome = stage
        .run_with_keys(&guest("spinner", &json!({})), "{}")
        .args(["--time", "1s"])
        .run()
        .expect(6)
        .silent();
    let error = outcome.error();
    assert!(error["details"].is_object() && error.to_string().contains("time"), "{outcome}");
}

#[test]
fn eight_is_the_server() {
    let stage = Stage::new();
    for args in [&["run", "orch/summarizer"][..], &["list"], &["tokens", "list"], &["logs"]] {
        let outcome =
            stage.orch(args).arg("--json").env("ORCH_SERVER", "http://127.0.0.1:1").run().expect(8).silent();
        assert_eq!(outcome.error()["code"], "server_unreachable", "{outcome}");
    }
}

#[test]
fn seven_is_the_vault() {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let key = stage.home.orch().join("data/keys/vault.key");
    let mut bytes = fs::read(&key).expect("the key is a file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&key, &bytes).expect("our own file");
    for args in [&["secrets", "list", "--json"][..], &["secrets", "which", "OPENAI_API_KEY", "--json"]] {
        let outcome = stage.orch(args).run().expect(7).silent();
        assert!(outcome.error()["code"].is_string(), "{outcome}");
    }
    // A run does not pass over a vault that it cannot trust.
    stage.run(&summarizer(&["gpt-4o-mini"]), INPUT).run().expect(7).silent();
    stage.openai.untouched();
}
