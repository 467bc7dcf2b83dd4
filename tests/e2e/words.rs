//! The words that people read, as they stand: help, and the errors that a newcomer meets first.

mod help;
mod help_of_keys;

use insta::assert_snapshot;
use orch_tests::home::Home;
use serde_json::json;

use crate::stage::{INPUT, OPENAI_KEY, Stage, guest, orch};

#[track_caller]
fn help(args: &[&str]) -> String {
    orch(&Home::new()).args(args).run().expect(0).stdout().to_owned()
}

/// What a failing command says.
#[track_caller]
fn said(args: &[&str], code: i32) -> String {
    orch(&Home::new()).args(args).run().expect(code).silent().stderr().to_owned()
}

#[test]
fn no_command_is_answered_with_help_on_stderr() {
    let said = said(&[], 2);
    assert_eq!(said, help(&["--help"]));
}

#[test]
fn an_input_that_is_missing() {
    assert_snapshot!(said(&["run", "--local", "orch/summarizer", "--simulate"], 2), @r#"
    error: orch/summarizer needs an input, and there is none: the whole value: "text" is a required property
    hint: --input '{"text":"…"}'
    "#);
}

#[test]
fn a_mistyped_word() {
    assert_snapshot!(said(&["secrets", "lst"], 2), @r"
    error: unrecognized subcommand 'lst'
    hint: a similar subcommand exists: 'list'
    hint: orch secrets --help
    ");
}

#[test]
fn no_key() {
    assert_snapshot!(said(&["run", "--local", "orch/summarizer", "--input", INPUT], 3), @r"
    error: no key for openai (set OPENAI_API_KEY), anthropic (set ANTHROPIC_API_KEY), gemini (set GEMINI_API_KEY or GOOGLE_API_KEY or GOOGLE_GENERATIVE_AI_API_KEY)
    hint: orch secrets set OPENAI_API_KEY
    hint: orch secrets set ANTHROPIC_API_KEY
    hint: orch secrets set GEMINI_API_KEY
    hint: export OPENAI_API_KEY=…
    hint: try it without a key: add --simulate
    ");
}

#[test]
fn a_server_that_is_not_there() {
    let outcome =
        orch(&Home::new()).args(["list"]).env("ORCH_SERVER", "http://127.0.0.1:1").run().expect(8).silent();
    assert_snapshot!(outcome.stderr(), @r"
    error: cannot reach http://127.0.0.1:1: Connection refused (os error 111)
    hint: ORCH_SERVER names this server; is it running?
    ");
}

#[test]
fn a_server_without_tls_on_another_machine() {
    let outcome = orch(&Home::new())
        .args(["list"])
        .env("ORCH_SERVER", "http://orch.example.com")
        .run()
        .expect(2)
        .silent();
    assert_snapshot!(outcome.stderr(), @r"
    error: http://orch.example.com is another machine, and without TLS tokens and keys could be read on the way
    hint: https://orch.example.com
    hint: ORCH_SERVER says so
    ");
}

#[test]
fn nobody_to_ask_for_a_token() {
    assert_snapshot!(said(&["login", "https://orch.example.com"], 2), @r"
    error: no token, and no terminal to ask on
    hint: orch login https://orch.example.com - < FILE
    hint: orch login https://orch.example.com --token-file FILE
    ");
    assert_snapshot!(said(&["login"], 2), @r"
    error: which server? none is configured
    hint: orch login https://orch.example.com
    ");
}

#[test]
fn a_misspelled_agent() {
    assert_snapshot!(said(&["run", "--local", "orch/summarizr"], 2), @r"
    error: no agent orch/summarizr: there is no such file or folder
    hint: agents that come with orch: orch/repo-digest, orch/summarizer, orch/tool-loop, orch/translator
    ");
}

#[test]
fn input_that_does_not_match() {
    assert_snapshot!(said(&["run", "--local", "orch/summarizer", "--simulate", "--input", "{}"], 2), @r#"
    error: the input is not what orch/summarizer takes: the whole value: "text" is a required property
    hint: --input '{"text":"…"}'
    "#);
}

#[test]
fn nobody_to_ask_for_a_value() {
    assert_snapshot!(said(&["secrets", "set", "OPENAI_API_KEY"], 2), @r"
    error: no value for OPENAI_API_KEY, and no terminal to ask on
    hint: orch secrets set OPENAI_API_KEY - < FILE
    hint: orch secrets set OPENAI_API_KEY --from-env
    ");
}

#[test]
fn nothing_was_granted() {
    let stage = Stage::new();
    stage.store("GITHUB_TOKEN", "ghp_0123456789012345", &["--host", "api.github.com"]);
    let fields = json!({
        "egress": [{ "host": "api.github.com", "methods": ["GET"], "paths": ["/repos/**"] }],
        "secrets": [{ "name": "GITHUB_TOKEN", "hosts": ["api.github.com"] }],
    });
    let agent = guest("wanderer", &fields);
    let outcome =
        stage.orch(["run", "--local"]).arg(agent.path()).env("OPENAI_API_KEY", OPENAI_KEY).run().expect(4);
    assert_snapshot!(outcome.stderr(), @r"
    error: test/wanderer 1.0.0 wants to talk to https://api.github.com (GET; /repos/**); to use the secret GITHUB_TOKEN toward api.github.com, and nobody has granted it
    hint: --allow api.github.com
    hint: --secret GITHUB_TOKEN@api.github.com
    ");
}
