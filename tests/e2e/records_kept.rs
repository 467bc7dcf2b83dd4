//! Records that must not get lost, and those that must: at the end of a server, when bodies are turned off, and of money that
//! is somebody else's.

use std::fs;

use orch_tests::fakes::Failure;
use orch_tests::fakes::openai::openai;
use orch_tests::needle::{self, Needle};
use orch_tests::server::{Answer, Server};
use serde_json::{Value, json};

use crate::members::{ALICES, KEYS, Members, PLATFORMS, key_of};
use crate::stage::{OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, orch};

/// What only the bodies of these tests say.
const SAID: &str = "What the lighthouse keeper wrote down";

fn asking() -> Value {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": SAID }] })
}

fn id_of(answer: &Answer) -> String {
    answer.header("x-request-id").expect("a name").to_owned()
}

fn chat(server: &Server) -> String {
    id_of(&server.ask("POST", "/v1/chat/completions", Some(&asking())).expect(200))
}

/// A home with OpenAI's key in its vault, where bodies are kept or not.
fn stage(bodies: bool) -> Stage {
    let mut stage = Stage::cold();
    if bodies {
        stage.configure(|config| config.records(json!({ "bodies": { "default": { "keep": "1h" } } })));
    }
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    stage
}

/// The configuration of a stage, which keeps no bodies any more.
fn turn_off(stage: &Stage) {
    let path = stage.home.orch().join("config.yaml");
    let text = fs::read_to_string(&path).expect("a configuration");
    let mut config: Value = serde_json::from_str(&text).expect("the harness writes JSON");
    config["records"] = json!({ "bodies": {} });
    fs::write(&path, config.to_string()).expect("written");
}

#[test]
fn what_is_answered_just_before_a_stop_is_on_record() {
    let stage = stage(true);
    // Each time: what is lost is what came last.
    for round in 1..=3 {
        let server = Server::start(PROGRAM, &stage.home);
        if round == 1 {
            let budget = json!({ "window": "total", "cost_usd": 5 });
            server.ask("PUT", "/v1/budgets/all", Some(&budget)).expect(200);
        }
        let id = chat(&server);
        server.terminate().expect(0);
        let one = stage.orch(["logs", &id, "--json"]).run().expect(0).json();
        assert_eq!(
            (&one["status"], &one["credential"]["id"]),
            (&json!("served"), &json!("OPENAI_API_KEY")),
            "{one:#}"
        );
        assert!(one["bodies"]["request"]["text"].as_str().is_some_and(|text| text.contains(SAID)), "{one:#}");
        // What it came to, by calls and by what budgets go by.
        let usage = stage.orch(["usage", "--by", "key", "--json"]).run().expect(0).json();
        assert_eq!(usage["rows"][0]["calls"], round, "{usage:#}");
        let budget = &usage["budgets"][0];
        assert_eq!(budget["used"]["cost_usd"], usage["rows"][0]["cost_usd"], "{usage:#}");
        assert_eq!(budget["held"]["cost_usd"], 0.0, "nothing is set aside for what is over: {usage:#}");
        let listed = stage.orch(["secrets", "list", "--json"]).run().expect(0).json();
        assert_eq!(
            listed["secrets"][0]["spent"]["total_usd"], usage["rows"][0]["cost_usd"],
            "{listed:#} {usage:#}"
        );
        let decisions = fs::read_to_string(stage.home.orch().join("data/decisions.jsonl")).expect("a log");
        assert!(decisions.contains(&id), "{decisions}");
    }
}

#[test]
fn bodies_that_are_turned_off_are_read_by_nobody_from_then_on() {
    let stage = stage(true);
    let server = Server::start(PROGRAM, &stage.home);
    let id = chat(&server);
    let path = format!("/v1/logs/{id}");
    let shown = || {
        let answer = server.ask("GET", &path, None);
        (answer.status == 200).then(|| answer.json()["bodies"].clone())
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while shown().is_none_or(|bodies| bodies.is_null()) {
        assert!(std::time::Instant::now() < deadline, "never kept");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    turn_off(&stage);
    server.ask("POST", "/v1/reload", None).expect(200);
    assert_eq!(shown(), Some(Value::Null));
    server.terminate().expect(0);
    needle::none(&stage.home.search(&Needle::new(SAID)));
}

#[test]
fn bodies_that_are_turned_off_go_where_there_is_no_server() {
    let stage = stage(true);
    let server = Server::start(PROGRAM, &stage.home);
    let id = chat(&server);
    // Whoever is killed cleans nothing up.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while stage.home.search(&Needle::new(SAID)).is_empty() {
        assert!(std::time::Instant::now() < deadline, "never kept");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    server.kill();
    turn_off(&stage);
    let one = stage.orch(["logs", &id, "--json"]).run().expect(0).json();
    assert_eq!(one["bodies"], Value::Null, "{one:#}");
    needle::none(&stage.home.search(&Needle::new(SAID)));
}

/// Alice's account breaks off twice, and may charge for that; the operator's answers.
#[test]
fn what_fails_with_one_key_is_not_billed_to_another() {
    let platform = json!({ "keys": "vault", "workspace": "ops", "providers": ["openai"] });
    let members = Members::with(|config| config.section("platform", platform), &[]);
    let ops = members.token("operator", "ops", &["secrets"]);
    members.team_has(&ops, "OPENAI_API_KEY", PLATFORMS);
    let alice = members.member("alice");
    members.register(&alice, ALICES);
    let route = json!({ "targets": [
        { "model": "gpt-4o-mini", "whose": "own" }, { "model": "gpt-4o-mini", "whose": "platform" },
    ] });
    members.server.ask("PUT", "/v1/routes/mine-first", Some(&route)).expect(200);
    let cut = || openai(ALICES, OPENAI_SAYS).failure(Failure::CutBeforeContent);
    members.openai.script([cut(), cut()]);
    let streaming = json!({ "model": "mine-first", "max_tokens": 1000, "stream": true });
    members.policy(members.server.token(), "prefer_own");
    let answer = members.chat(&alice, &[], streaming).expect(200);
    assert!(String::from_utf8_lossy(&answer.body).contains("[DONE]"), "{answer:?}");
    let with: Vec<String> = members.openai.received().iter().map(key_of).collect();
    assert_eq!(with, [ALICES, ALICES, PLATFORMS]);

    let usage = |by: &str| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let said = members.server.ask("GET", &format!("/v1/usage?by={by}"), None).expect(200).json();
            if said["total"]["calls"] == 1 {
                return said;
            }
            assert!(std::time::Instant::now() < deadline, "{said:#}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let cost = |row: &Value| row["cost_usd"].as_f64().expect("a cost");
    let billed = usage("billing");
    let row = |key: &str| {
        let rows = billed["rows"].as_array().expect("rows");
        rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key}: {billed:#}")).clone()
    };
    let (own, platform) = (row("own"), row("platform"));
    assert_eq!((&own["calls"], &platform["calls"]), (&json!(0), &json!(1)), "{billed:#}");
    assert_eq!(own["output_tokens"], 2 * 1000, "all that was asked for, each time: {billed:#}");
    assert!(cost(&platform) < cost(&own), "{billed:#}");
    let total = &billed["total"];
    assert!((cost(total) - cost(&own) - cost(&platform)).abs() < 1e-9, "{billed:#}");
    assert_eq!(total["platform_cost_usd"], platform["cost_usd"], "{billed:#}");
    let keys = usage("key");
    let keys: Vec<&Value> = keys["rows"].as_array().expect("rows").iter().map(|row| &row["key"]).collect();
    assert_eq!(keys, ["own/alice/OPENAI_API_KEY", "platform/OPENAI_API_KEY"]);
    // The operator sees what the key that is lent came to, which is what the records of those who borrow it say.
    let listed = members.server.ask_as(Some(&ops), "GET", "/v1/secrets", None).expect(200).json();
    let lent = &listed["secrets"][0];
    assert_eq!(lent["spent"]["total_usd"], platform["cost_usd"], "{listed:#}");
    assert!(lent["last_call"].is_string(), "{listed:#}");
    // And she what hers came to, which answered nothing.
    let hers = members.server.ask_as(Some(&alice), "GET", KEYS, None).expect(200).json();
    assert_eq!(hers["keys"][0]["spent"]["total_usd"], own["cost_usd"], "{hers:#}");
    let elsewhere = orch(&members.home).args(["usage", "--by", "billing", "--csv"]).run().expect(0);
    assert!(elsewhere.stdout().contains("\r\nown,,0,0,0,"), "{elsewhere}");
}
