//! Every limit of a run, but for those that only hold a request back (concurrent, rate): exit code 6, the limit's name, how
//! much was used of how much, and the flag or the field of the manifest that sets it. To a person and to a program.

use orch_tests::guests::Agent;
use serde_json::{Value, json};

use crate::stage::{INPUT, Mode, Stage, guest, in_every_mode, with_keys};

in_every_mode! {
    every_limit_of_the_sandbox_is_named_with_what_sets_it
    every_limit_of_the_network_and_the_providers_is_named_with_what_sets_it
}

/// A run that reaches one limit.
struct Case {
    name: &'static str,
    agent: Agent,
    input: String,
    flags: &'static [&'static str],
    /// The bound, in the unit of the limit.
    limit: u64,
    /// What sets it.
    setting: &'static str,
}

fn case(name: &'static str, agent: Agent, input: &str, limit: u64, setting: &'static str) -> Case {
    Case { name, agent, input: input.to_owned(), flags: &[], limit, setting }
}

/// Carries it out once for a program and once for a person.
#[track_caller]
fn reached(stage: &Stage, mode: Mode, case: &Case) {
    let Case { name, agent, input, flags, limit, setting } = case;
    let outcome = with_keys(stage.run_in(mode, agent.path(), input)).args(*flags).run().expect(6).silent();
    let error = outcome.error();
    assert_eq!(error["code"], "limit_reached", "{name}: {outcome}");
    let detail = &error["details"]["limit"];
    assert_eq!((&detail["name"], &detail["limit"]), (&json!(name), &json!(limit)), "{outcome}");
    // A body of announced length that would be too long is refused before any of it is sent.
    // What is reserved beforehand is refused before any of it is used.
    let reserved = ["upload", "tokens", "cost_usd"].contains(name);
    let least = if reserved { 0 } else { *limit };
    assert!(detail["used"].as_u64().is_some_and(|used| used >= least), "{name}: {outcome}");
    assert!(error["hints"].as_array().is_some_and(|hints| mentions(hints, setting)), "{name}: {outcome}");

    let outcome = with_keys(stage.shown_in(mode, agent.path(), input)).args(*flags).run().expect(6);
    assert!(outcome.stderr().contains(setting), "{name}: {outcome}");
}

fn mentions(hints: &[Value], setting: &str) -> bool {
    hints.iter().any(|hint| hint.as_str().is_some_and(|hint| hint.contains(setting)))
}

fn every_limit_of_the_sandbox_is_named_with_what_sets_it(mode: Mode) {
    let stage = Stage::new();
    let limited = |name: &str, limits: Value| guest(name, &json!({ "limits": limits }));
    let memory = Case {
        flags: &["--memory", "32MiB"],
        ..case("memory", limited("hog", json!({})), "{}", 32 << 20, "--memory")
    };
    let time = Case {
        flags: &["--time", "1s"],
        ..case("time", limited("slow", json!({})), r#"{"ms":600000}"#, 1_000_000, "--time")
    };
    let requests = r#"{"requests":[{"url":"https://api.example.com/"}]}"#;
    for case in [
        memory,
        time,
        case("cpu", limited("spinner", json!({ "cpu": "200ms" })), "{}", 200_000, "limits.cpu"),
        case("output", limited("flood", json!({ "output": "10kB" })), "{}", 10_000, "limits.output"),
        case("log", limited("flood", json!({ "log": "10kB" })), r#"{"stderr":true}"#, 10_000, "limits.log"),
        case("resources", limited("wanderer", json!({ "resources": 3 })), requests, 3, "limits.resources"),
    ] {
        reached(&stage, mode, &case);
    }
}

fn every_limit_of_the_network_and_the_providers_is_named_with_what_sets_it(mode: Mode) {
    let stage = Stage::new();
    let summarizer = |limits: Value| {
        let fields = json!({ "llm": { "primary": "gpt-4o-mini" }, "limits": limits });
        Agent::new("summarizer", &orch_tests::guests::example("summarizer"), &fields)
    };
    let cost = Case {
        flags: &["--max-cost", "0.000001"],
        ..case("cost_usd", summarizer(json!({})), INPUT, 1, "--max-cost")
    };
    for case in [
        case("requests", summarizer(json!({ "requests": 0 })), INPUT, 0, "limits.requests"),
        case("upload", summarizer(json!({ "upload": "5B" })), INPUT, 5, "limits.upload"),
        case("download", summarizer(json!({ "download": "10B" })), INPUT, 10, "limits.download"),
        case("tokens", summarizer(json!({ "tokens": 5 })), INPUT, 5, "limits.tokens"),
        cost,
    ] {
        reached(&stage, mode, &case);
    }
}
