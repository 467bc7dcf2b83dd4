//! Where keys come from, in which order, and that provider and key are one.

use crate::stage::{
    ANTHROPIC_KEY, ANTHROPIC_SAYS, GEMINI_KEY, INPUT, OPENAI_KEY, OPENAI_SAYS, Outside, Stage, guest,
    receipt, summarizer, summary, text,
};
use serde_json::json;

/// Accepted by no fake: whoever sends it gets a 401.
const WRONG: &str = "sk-proj-wrongWrongWrongWrongWrongWrongWrongWrong";

fn source(report: &serde_json::Value) -> (&str, &str) {
    let credential = &receipt(report)["credential"];
    (credential["id"].as_str().unwrap_or_default(), credential["source"].as_str().unwrap_or_default())
}

#[test]
fn a_key_on_the_command_line_is_used_and_warned_about() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini"]);
    let outcome = stage.run(&agent, INPUT).args(["--key", OPENAI_KEY]).run().says("warning:");
    let report = summary(outcome, OPENAI_SAYS);
    assert_eq!(source(&report).1, "flag");
    stage.openai.took_key(OPENAI_KEY);
}

#[test]
fn a_key_may_name_its_provider() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let key = format!("anthropic={ANTHROPIC_KEY}");
    let report = summary(stage.run(&agent, INPUT).args(["--key", &key]).run(), ANTHROPIC_SAYS);
    assert_eq!(source(&report).1, "flag");
    stage.anthropic.took_key(ANTHROPIC_KEY);
    stage.openai.untouched();
}

#[test]
fn keys_of_two_providers_may_be_given_at_once() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let keys = [format!("openai={WRONG}"), format!("anthropic={ANTHROPIC_KEY}")];
    let run = stage.run(&agent, INPUT).args(["--key", &keys[0], "--key", &keys[1]]).run();
    summary(run, ANTHROPIC_SAYS);
    stage.openai.took_key(WRONG);
    stage.anthropic.took_key(ANTHROPIC_KEY);
}

#[test]
fn a_key_comes_from_a_file_or_from_standard_input_without_its_newline() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini"]);
    let outside = Outside::new();
    let file = outside.file("key", &format!("{OPENAI_KEY}\n"));
    let report = summary(stage.run(&agent, INPUT).args(["--key-file", &text(file)]).run(), OPENAI_SAYS);
    assert_eq!(source(&report).1, "flag");
    let run = stage.run(&agent, INPUT).arg("--key-stdin").stdin(format!("{OPENAI_KEY}\n")).run();
    summary(run, OPENAI_SAYS);
    stage.openai.took_key(OPENAI_KEY);
}

#[test]
fn a_key_comes_from_the_environment() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini"]);
    let report = summary(stage.run(&agent, INPUT).env("OPENAI_API_KEY", OPENAI_KEY).run(), OPENAI_SAYS);
    assert_eq!(source(&report), ("OPENAI_API_KEY", "env"));
    stage.openai.took_key(OPENAI_KEY);
}

#[test]
fn a_key_comes_from_the_vault() {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let report = summary(stage.run(&agent, INPUT).run(), OPENAI_SAYS);
    assert_eq!(source(&report), ("OPENAI_API_KEY", "vault"));
    stage.openai.took_key(OPENAI_KEY);
}

#[test]
fn the_flag_goes_before_the_environment() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini"]);
    let run = stage.run(&agent, INPUT).args(["--key", OPENAI_KEY]).env("OPENAI_API_KEY", WRONG).run();
    assert_eq!(source(&summary(run, OPENAI_SAYS)).1, "flag");
    stage.openai.took_key(OPENAI_KEY);
}

#[test]
fn the_environment_goes_before_the_vault() {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", WRONG, &[]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let run = stage.run(&agent, INPUT).env("OPENAI_API_KEY", OPENAI_KEY).run();
    assert_eq!(source(&summary(run, OPENAI_SAYS)).1, "env");
    stage.openai.took_key(OPENAI_KEY);
}

#[test]
fn an_empty_variable_is_no_key() {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let run = stage.run(&agent, INPUT).env("OPENAI_API_KEY", "").run();
    assert_eq!(source(&summary(run, OPENAI_SAYS)).1, "vault");
}

#[test]
fn another_name_of_the_same_key_is_known() {
    let stage = Stage::new();
    let agent = summarizer(&["gemini-2.5-flash"]);
    let report =
        summary(stage.run(&agent, INPUT).env("GOOGLE_API_KEY", GEMINI_KEY).run(), crate::stage::GEMINI_SAYS);
    assert_eq!(source(&report).1, "env");
    stage.gemini.took_key(GEMINI_KEY);
}

#[test]
fn a_key_never_goes_to_another_provider() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini"]);
    // The plan has no candidate at Anthropic: its key is not this run's business.
    let run = stage.run(&agent, INPUT).env("ANTHROPIC_API_KEY", ANTHROPIC_KEY).run();
    let outcome = run.expect(3).silent();
    assert_eq!(outcome.error()["code"], "no_key");
    assert!(outcome.stderr().contains("OPENAI_API_KEY"), "{outcome}");
    stage.openai.untouched();
    stage.anthropic.untouched();
}

#[test]
fn a_candidate_without_a_key_is_skipped_aloud() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let run = stage.run(&agent, INPUT).env("ANTHROPIC_API_KEY", ANTHROPIC_KEY).run().says("gpt-4o-mini");
    summary(run, ANTHROPIC_SAYS);
    stage.openai.untouched();
}

#[test]
fn base_urls_in_the_environment_redirect_nothing() {
    let stage = Stage::new();
    let thief = orch_tests::upstream::Upstream::http(|_: &orch_tests::wire::Received| {
        orch_tests::reply::Reply::text(200, "thanks")
    });
    let url = format!("http://{}/v1", thief.address());
    let agent = summarizer(&["gpt-4o-mini"]);
    let mut run = stage.run(&agent, INPUT).env("OPENAI_API_KEY", OPENAI_KEY);
    for name in
        ["OPENAI_BASE_URL", "OPENAI_API_BASE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "ORCH_LLM_URL"]
    {
        run = run.env(name, &url);
    }
    // Nor does a configuration that lies in the working directory.
    stage.home.file("config.yaml", &format!("providers: {{ openai: {{ base_url: \"{url}\" }} }}"));
    summary(run.run(), OPENAI_SAYS);
    thief.untouched();
}

#[test]
fn a_key_that_is_too_short_to_be_cleaned_out_of_answers_is_warned_about() {
    let stage = Stage::new();
    let run =
        |key: &str| stage.run(&guest("noop", &json!({})), "{}").env("OPENAI_API_KEY", key).run().expect(0);
    run("short-key-12345").says("warning: OPENAI_API_KEY is shorter than 16 bytes");
    let long = run(OPENAI_KEY);
    assert_eq!(long.stderr(), "", "{long}");
}

#[test]
fn a_key_for_a_mistyped_provider_goes_nowhere() {
    let stage = Stage::new();
    let run = stage.run(&summarizer(&["claude-3-haiku"]), INPUT);
    let outcome = run.args(["--key", &format!("opneai={OPENAI_KEY}")]).run().expect(2).silent();
    assert_eq!(outcome.error()["code"], "provider_unknown", "{outcome}");
    assert!(!outcome.stderr().contains(OPENAI_KEY), "{outcome}");
    stage.anthropic.untouched();
}
