//! `--simulate`: the same path with played providers, labelled as such, each scenario.

use std::fs;

use orch_tests::guests::{self, Agent};
use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::Outcome;
use serde_json::{Value, json};

use crate::stage::{INPUT, OPENAI_KEY, Stage, attempts, guest, orch, receipt, refused, summarizer};

fn simulated(home: &Home, scenario: &str) -> Outcome {
    orch(home).args(["run", "--local", "orch/summarizer", scenario, "--json", "--input", INPUT]).run()
}

#[track_caller]
fn labelled(outcome: &Outcome) -> Value {
    assert!(outcome.stderr().contains("simulated"), "stderr does not say so: {outcome}");
    let report = outcome.json();
    assert_eq!(report["simulated"], true, "{outcome}");
    assert_eq!(receipt(&report)["simulated"], true, "{outcome}");
    assert_eq!(receipt(&report)["credential"]["source"], "simulated", "{outcome}");
    report
}

#[test]
fn a_stranger_sees_a_summary_without_key_or_network() {
    let home = Home::new();
    let report = labelled(&simulated(&home, "--simulate").expect(0));
    let summary = report["output"]["summary"].as_str().expect("a text");
    assert!(
        summary.contains("Ships") || summary.contains("Rain") || summary.contains("Everyone"),
        "{report:#}"
    );
    assert_eq!(attempts(&report), [("openai".to_owned(), "served".to_owned())]);
}

#[test]
fn the_same_input_has_the_same_answer() {
    let home = Home::new();
    let once = simulated(&home, "--simulate").expect(0).json()["output"].clone();
    assert_eq!(simulated(&home, "--simulate").expect(0).json()["output"], once);
    let other = orch(&home)
        .args(["run", "--local", "orch/summarizer", "--simulate", "--json"])
        .args(["--input", r#"{"text":"Bread is baked at night. The street smells of it."}"#])
        .run()
        .expect(0);
    assert_ne!(other.json()["output"]["summary"], once["summary"]);
}

#[test]
fn every_example_runs_simulated() {
    let home = Home::new();
    let outcome = orch(&home)
        .args(["run", "--local", "orch/translator", "--simulate", "--json"])
        .args(["--input", r#"{"text":"Ships wait for rain.","to":"French"}"#])
        .run()
        .expect(0);
    let report = labelled(&outcome);
    assert!(report["output"]["translation"].is_string(), "{outcome}");
    assert_eq!(receipt(&report)["provider_served"], "anthropic");
}

/// They are played with made-up tokens: no file is read, even where there is one that could not be used.
#[test]
fn the_sign_ins_of_other_tools_are_played_without_their_files() {
    let home = Home::new();
    let folder = home.user().join(".qwen");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("oauth_creds.json"), "{").expect("written");
    for model in ["qwen-code/qwen3-coder-plus", "claude-code/claude-sonnet-4-5", "gemini-cli/gemini-2.5-pro"]
    {
        let (provider, served) = model.split_once('/').expect("a provider and a model");
        let fields = json!({ "supported_providers": [provider], "llm": { "primary": model } });
        let agent = Agent::new("summarizer", &guests::example("summarizer"), &fields);
        let outcome = orch(&home)
            .args(["run", "--local", "--simulate", "--json", "--input", INPUT])
            .arg(agent.path())
            .run()
            .expect(0);
        let report = labelled(&outcome);
        assert!(report["output"]["summary"].as_str().is_some_and(|said| !said.is_empty()), "{outcome}");
        assert_eq!(attempts(&report), [(provider.to_owned(), "served".to_owned())], "{outcome}");
        assert_eq!(receipt(&report)["model_served"], served, "{outcome}");
    }
}

#[track_caller]
fn scenario_falls_back(name: &str, class: &str) {
    let home = Home::new();
    let outcome = simulated(&home, &format!("--simulate={name}")).expect(0);
    let report = labelled(&outcome);
    let tried = attempts(&report);
    let (last, failed) = tried.split_last().expect("an attempt");
    assert!(!failed.is_empty() && failed.iter().all(|(p, c)| p == "openai" && c == class), "{tried:?}");
    assert_eq!((last.0.as_str(), last.1.as_str()), ("anthropic", "served"));
}

#[test]
fn rate_limit() {
    scenario_falls_back("rate-limit", "rate_limited");
}

#[test]
fn server_error() {
    scenario_falls_back("server-error", "server");
}

#[test]
fn out_of_money() {
    scenario_falls_back("out-of-money", "out_of_money");
}

#[test]
fn bad_key() {
    scenario_falls_back("bad-key", "bad_key");
}

#[test]
fn slow_is_slow_and_complete() {
    let home = Home::new();
    let outcome = simulated(&home, "--simulate=slow").expect(0);
    let report = labelled(&outcome);
    assert!(report["duration_ms"].as_u64().is_some_and(|ms| ms >= 1500), "{outcome}");
    assert_eq!(attempts(&report), [("openai".to_owned(), "served".to_owned())]);
}

#[test]
fn cut_is_an_error_and_not_a_short_answer() {
    let home = Home::new();
    let outcome = simulated(&home, "--simulate=cut").silent();
    assert!(matches!(outcome.code(), Some(1 | 5)), "{outcome}");
    assert!(outcome.stderr().contains("simulated"), "{outcome}");
    assert_eq!(outcome.error()["details"]["run"]["calls"][0]["outcome"], "broken", "{outcome}");
}

#[test]
fn a_scenario_file_scripts_hosts_and_failures() {
    let home = Home::new();
    let scenario = home.file(
        "scenario.yaml",
        "rules:\n  - provider: openai\n    answer: overloaded\n\
         hosts:\n  - host: api.github.com\n    path: /repos/acme/widget\n    body: { stars: 3 }\n",
    );
    let flag = format!("--simulate={}", scenario.display());
    let report = labelled(&simulated(&home, &flag).expect(0));
    assert_eq!(receipt(&report)["provider_served"], "anthropic");

    let agent =
        guest("wanderer", &json!({ "egress": [{ "host": "api.github.com" }, { "host": "example.com" }] }));
    let input = json!({ "requests": [
        { "url": "https://api.github.com/repos/acme/widget" }, { "url": "https://example.com/" },
    ] });
    let outcome = orch(&home)
        .args(["run", "--local", "--json"])
        .arg(agent.path())
        .args(["--input", &input.to_string(), &flag, "--allow", "api.github.com", "--allow", "example.com"])
        .run();
    let report = outcome.json();
    assert_eq!(report["output"]["results"][0]["body"], r#"{"stars":3}"#, "{outcome}");
    assert!(refused(&report["output"]["results"][1]), "an unscripted host was reached: {outcome}");
}

#[test]
fn no_real_key_and_no_real_provider_takes_part() {
    let stage = Stage::new();
    stage.store("ANTHROPIC_API_KEY", crate::stage::ANTHROPIC_KEY, &[]);
    let outcome = stage
        .orch(["run", "--local", "--json", "--simulate", "--input", INPUT])
        .arg(summarizer(&["gpt-4o-mini", "claude-3-haiku"]).path())
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(0);
    labelled(&outcome);
    for upstream in [&stage.openai, &stage.anthropic, &stage.gemini] {
        upstream.untouched();
    }
    needle::none(&outcome.search(&Needle::new(OPENAI_KEY)));
    // It needs no vault either: one that cannot be opened is not even looked at.
    fs::write(stage.home.orch().join("data/keys/vault.key"), "broken").expect("our own file");
    simulated(&stage.home, "--simulate").expect(0);
}

#[test]
fn doctor_tries_the_whole_path() {
    let home = Home::new();
    let outcome = orch(&home).args(["doctor", "--json"]).run().expect(0);
    let report = outcome.json();
    assert_eq!(report["ok"], true, "{outcome}");
    let checks = report["checks"].as_array().expect("a list");
    assert!(checks.iter().any(|c| c["name"] == "sandbox" && c["state"] == "ok"), "{outcome}");
}
