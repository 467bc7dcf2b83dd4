//! Every limit of a run: exit code 6, the limit's name, how much was used of how much, and the flag or the field of the
//! manifest that sets it. To a person and to a program.

use orch_tests::gate::Gate;
use orch_tests::guests::Agent;
use orch_tests::reply::{Piece, Reply};
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{INPUT, Mode, Stage, guest, in_every_mode, with_keys};

in_every_mode! {
    every_limit_of_the_sandbox_is_named_with_what_sets_it
    every_limit_of_the_network_and_the_providers_is_named_with_what_sets_it
    every_limit_that_leaves_room_again_is_named_with_what_sets_it
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

/// Carries it out once for a program and once for a person. Returns the program's error.
#[track_caller]
fn reached(stage: &Stage, mode: Mode, case: &Case) -> Value {
    let Case { name, agent, input, flags, limit, setting } = case;
    let outcome = with_keys(stage.run_in(mode, agent.path(), input)).args(*flags).run().expect(6).silent();
    let told = outcome.error();
    let error = &told;
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
    told
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

/// These turn a request away, and a later one may pass: what ends the run is that its agent does not go on without.
fn every_limit_that_leaves_room_again_is_named_with_what_sets_it(mode: Mode) {
    let mut stage = Stage::new();
    let event = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "delta": { "content": "It goes on." }, "finish_reason": null }],
    });
    // A reply begins and does not end while the next is asked for.
    let pieces = vec![Piece::text(format!("data: {event}\n\n")), Piece::Wait(Gate::closed())];
    let model =
        Upstream::https(&stage.ca, &["api.openai.com"], move |_: &Received| Reply::sse(pieces.clone()));
    let address = model.address();
    stage.configure(|config| config.connect("api.openai.com:443", address));
    let dripping = |limits: Value| {
        let fields = json!({ "llm": { "primary": "gpt-4o-mini" }, "limits": limits });
        guest("drip", &fields)
    };
    let (two, three) = (r#"{"streams":2}"#, r#"{"streams":3}"#);
    for case in [
        case("concurrent", dripping(json!({ "concurrent": 2 })), three, 2, "limits.concurrent"),
        case(
            "per_host.concurrent",
            dripping(json!({ "per_host": { "concurrent": 1 } })),
            two,
            1,
            "limits.per_host.concurrent",
        ),
        case("rate", dripping(json!({ "rate": "2/h" })), three, 2, "limits.rate"),
        case(
            "per_host.rate",
            dripping(json!({ "per_host": { "rate": "1/h" } })),
            two,
            1,
            "limits.per_host.rate",
        ),
    ] {
        let before = model.received().len();
        let error = reached(&stage, mode, &case);
        let refused = &error["details"]["run"]["egress"]["denied"][0];
        assert_eq!(
            (&refused["host"], &refused["port"]),
            (&json!("api.openai.com"), &json!(443)),
            "{error:#}"
        );
        let sent = u64::try_from(model.received().len() - before).expect("few");
        assert_eq!(
            sent,
            2 * case.limit,
            "{}: in each of two runs as many as may be, and not one more",
            case.name
        );
    }
}
