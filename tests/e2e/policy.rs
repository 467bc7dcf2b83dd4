//! Policy before, beside and after runs: what is explained, checked, tried and learned.

use std::time::{Duration, Instant};

use orch_tests::guests::Agent;
use orch_tests::orch::Outcome;
use orch_tests::reply::Reply;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::remote::Remote;
use crate::stage::{Mode, Outside, Stage, guest, in_every_mode, refused, text, with_keys};

in_every_mode! {
    a_policy_is_learned_from_what_a_run_asked_for
    a_policy_on_trial_refuses_nothing_and_says_what_it_would
    a_refusal_that_a_guest_can_act_on_arrives_whole
}

/// A host that takes anything, and an agent whose manifest asks for some of it.
struct Place {
    stage: Stage,
    api: Upstream,
    agent: Agent,
}

fn place() -> Place {
    let mut stage = Stage::new();
    let api = Upstream::https(&stage.ca, &["api.github.com"], |request: &Received| Reply::echo(request));
    let address = api.address();
    stage.configure(|config| config.connect("api.github.com:443", address).allow("api.github.com"));
    let wants = json!({ "egress": [{ "host": "api.github.com", "methods": ["GET", "POST"], "paths": ["/repos/**"] }] });
    Place { stage, api, agent: guest("wanderer", &wants) }
}

impl Place {
    #[track_caller]
    fn ask(&self, mode: Mode, requests: &Value, flags: &[&str]) -> (Value, Outcome) {
        let input = json!({ "requests": requests }).to_string();
        let outcome =
            with_keys(self.stage.run_in(mode, self.agent.path(), &input)).args(flags).run().expect(0);
        (outcome.json(), outcome)
    }

    #[track_caller]
    fn learned(&self, run: &str, code: i32) -> Outcome {
        self.stage.orch(["policy", "learn", run]).run().expect(code)
    }
}

fn url(method: &str, url: &str) -> Value {
    json!({ "method": method, "url": url })
}

fn a_policy_is_learned_from_what_a_run_asked_for(mode: Mode) {
    let place = place();
    let (report, _) = place.ask(
        mode,
        &json!([
            url("GET", "https://api.github.com/repos/a/b"),
            url("GET", "https://api.github.com/users/101"),
            url("GET", "https://api.github.com/users/102?page=2"),
            url("GET", "https://api.github.com/users/103"),
            url("DELETE", "https://api.github.com/repos/a/b"),
            url("GET", "http://other.example.org:8080/x"),
            url("GET", "https://localhost/"),
        ]),
        &[],
    );
    let run = report["run_id"].as_str().expect("an id");
    let learned = place.learned(run, 0);
    let section = learned.stdout();
    for part in [
        "  - host: api.github.com\n    methods: [GET]\n    paths: [\"/users/*\"]\n",
        "  - host: api.github.com\n    methods: [DELETE, GET]\n    paths: [\"/repos/a/b\"]\n",
        "  # /users/* stands for 3 paths that were seen: /users/101, /users/102, /users/103\n",
        "  - host: other.example.org\n    scheme: http\n    port: 8080\n    methods: [GET]\n    paths: [\"/x\"]\n",
        "#   GET https://localhost/ (name_refused: ",
    ] {
        assert!(section.contains(part), "{part:?} is missing in\n{section}");
    }
    assert!(!learned.stderr().contains("not complete"), "{learned}");
    // What was learned is a policy, and allows it.
    let policy = place.stage.home.file("learned.yaml", section);
    let urls = "\"https://api.github.com/users/104\"\n\"https://api.github.com/user\"\n\"http://other.example.org:8080/x\"\n";
    let urls = place.stage.home.file("urls", urls);
    let checked = place
        .stage
        .orch(["policy", "check", "--manifest", &text(policy), "--urls", &text(urls)])
        .run()
        .expect(0);
    let decisions: Vec<String> =
        answers(&checked).iter().map(|answer| answer["decision"].to_string()).collect();
    assert_eq!(decisions, ["\"allow\"", "\"deny\"", "\"allow\""], "{checked}");

    let json = place.stage.orch(["policy", "learn", run, "--json"]).run().expect(0).json();
    assert_eq!((&json["requests"], &json["complete"]), (&json!(7), &json!(true)), "{json:#}");
    assert_eq!(json["egress"].as_array().map(Vec::len), Some(3), "{json:#}");
}

fn a_policy_on_trial_refuses_nothing_and_says_what_it_would(mode: Mode) {
    let mut place = place();
    // The operator's, beside the caller's: each would have to allow it.
    place.stage.configure(|config| config.trial(json!([{ "host": "api.github.com", "methods": ["GET"] }])));
    let trial =
        place.stage.home.file("narrow.yaml", "egress: [{ host: api.github.com, paths: ['/repos/a/**'] }]\n");
    let (report, outcome) = place.ask(
        mode,
        &json!([
            url("GET", "https://api.github.com/repos/a/x"),
            url("POST", "https://api.github.com/repos/a/x"),
            url("GET", "https://api.github.com/repos/b/x"),
            url("GET", "https://api.github.com/user"),
        ]),
        &["--trial-policy", &text(trial)],
    );
    assert_eq!(place.api.received().len(), 3, "nothing more is refused: {outcome}");
    let egress = &report["egress"];
    assert_eq!((&egress["allowed"], &egress["trial"]["denied"]), (&json!(3), &json!(2)), "{outcome}");
    let would: Vec<String> = egress["trial"]["would_deny"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|decision| {
            assert_eq!((&decision["trial"], &decision["verdict"]), (&json!("deny"), &json!("allowed")));
            format!("{} {}", decision["method"], decision["path"])
        })
        .collect();
    assert_eq!(would, ["\"POST\" \"/repos/a/x\"", "\"GET\" \"/repos/b/x\""], "{outcome}");
    // What the real policy refuses is refused, and none of the trial's.
    assert_eq!(egress["denied"].as_array().map(Vec::len), Some(1), "{outcome}");
    assert!(egress["denied"][0].get("trial").is_none(), "{outcome}");
    assert!(
        outcome
            .stderr()
            .contains("the policy on trial would have refused 2 of the 3 requests that were allowed"),
        "{outcome}"
    );
    let learned = place.learned(report["run_id"].as_str().expect("an id"), 0);
    assert!(
        learned.stdout().contains(
            "# The policy on trial would have refused:\n#   GET https://api.github.com/repos/b/x\n#   POST"
        ),
        "{learned}"
    );
}

fn a_refusal_that_a_guest_can_act_on_arrives_whole(mode: Mode) {
    let place = place();
    let (report, outcome) = place.ask(
        mode,
        &json!([
            url("PUT", "https://api.github.com/user/keys?x=1"),
            url("GET", "http://other.example.org:8080/x"),
            url("GET", "https://127.0.0.1/"),
        ]),
        &[],
    );
    place.api.untouched();
    let said = |at: usize| -> Value {
        let result = &report["output"]["results"][at];
        assert!(refused(result) && result["status"] == 403, "{outcome}");
        let body = result["body"].as_str().expect("a body");
        serde_json::from_str::<Value>(body).expect("JSON")["error"].take()
    };
    let error = said(0);
    assert_eq!((&error["type"], &error["code"]), (&json!("egress_denied"), &json!("method_not_allowed")));
    assert_eq!(
        error["rule_missing"],
        json!({ "scheme": "https", "host": "api.github.com", "port": 443, "method": "PUT", "path": "/user/keys" })
    );
    let steps = error["next_steps"].to_string();
    for part in [
        "orch.yaml: - { host: api.github.com, methods: [PUT], paths: [\\\"/user/keys\\\"] }",
        "--allow api.github.com",
        "egress: { allow:",
    ] {
        assert!(steps.contains(part), "{part:?} is missing in {steps}");
    }
    let error = said(1);
    assert_eq!((&error["code"], &error["rule_missing"]["port"]), (&json!("host_not_allowed"), &json!(8080)));
    let error = said(2);
    assert_eq!((&error["code"], error.get("rule_missing")), (&json!("ip_literal_refused"), None));
    assert!(error["next_steps"][0].is_string(), "{error}");
}

/// Lines of JSON.
#[track_caller]
fn answers(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

const POLICY: &str = "egress:\n  - { host: api.example.com, methods: [GET], paths: ['/v1/**'] }\n";

#[test]
fn a_list_of_urls_is_judged_line_by_line() {
    let stage = Stage::new();
    let outside = Outside::new();
    let manifest = format!("name: acme/x\nversion: 1.0.0\nmodule: nowhere.wasm\n{POLICY}");
    let manifest = text(outside.file("orch.yaml", &manifest));
    let list = [
        (r#""https://api.example.com/v1/x""#, "allow"),
        (r#""HTTPS://API.example.com.:443/v1/%41?q=<é>#top""#, "allow"),
        (r#""https://api.example.com/v2""#, "deny"),
        (r#""https://api.example.com\u0000.evil.test/v1/x""#, "deny"),
        (r#""https://api.example.com\\@evil.test/v1/x""#, "deny"),
        (r#""https://\ud800/""#, "deny"),
        (r#""""#, "deny"),
    ];
    let lines: Vec<&str> = list.iter().map(|(line, _)| *line).collect();
    let urls = text(outside.file("urls.jsonl", &(lines.join("\n") + "\n")));
    for flags in [&[][..], &["--json"]] {
        let checked = stage
            .orch(["policy", "check", "--manifest", &manifest, "--urls", &urls])
            .args(flags)
            .run()
            .expect(0);
        for ((line, decision), answer) in list.iter().zip(checked.stdout().lines()) {
            assert!(answer.starts_with("{\"url\":\""), "{answer}");
            let answer: Value = match serde_json::from_str(answer) {
                Ok(answer) => answer,
                // Half of a surrogate pair is JSON, and no text of this program's.
                Err(_) => json!({ "decision": "deny", "reason": "x" }),
            };
            assert_eq!(answer["decision"], *decision, "{line}: {answer}");
            assert!(answer["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{answer}");
        }
        assert_eq!(checked.stdout().lines().count(), list.len(), "{checked}");
        assert_eq!(checked.stderr(), "", "{checked}");
    }

    let broken = text(outside.file("broken", "\"https://api.example.com/\"\nhttps://api.example.com/\n"));
    let failed =
        stage.orch(["policy", "check", "--manifest", &manifest, "--urls", &broken]).run().expect(2).silent();
    assert!(failed.stderr().contains("broken:2: is not a JSON string"), "{failed}");
    let failed =
        stage.orch(["policy", "check", "--manifest", &broken, "--urls", &urls]).run().expect(2).silent();
    assert!(failed.stderr().contains("broken"), "{failed}");
    let failed =
        stage.orch(["policy", "check", "--manifest", "/nowhere", "--urls", &urls, "--json"]).run().expect(2);
    assert_eq!(failed.silent().error()["code"], "policy_invalid");
}

#[test]
fn ten_thousand_urls_are_judged_in_a_moment() {
    let stage = Stage::new();
    let outside = Outside::new();
    let manifest = text(outside.file("policy.yaml", POLICY));
    let lines: String =
        (0..10_000).map(|n| format!("\"https://api.example.com/v{}/{n}\"\n", n % 2 + 1)).collect();
    let urls = text(outside.file("urls", &lines));
    let begun = Instant::now();
    let checked = stage.orch(["policy", "check", "--manifest", &manifest, "--urls", &urls]).run().expect(0);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let allowed = answers(&checked).iter().filter(|answer| answer["decision"] == "allow").count();
    assert_eq!(allowed, 5000);
}

#[test]
fn expectations_pass_or_say_what_happened() {
    let stage = Stage::new();
    let outside = Outside::new();
    outside.file("orch.yaml", &format!("name: acme/x\nversion: 1.0.0\nmodule: x.wasm\n{POLICY}"));
    let good =
        "manifest: orch.yaml\ntests:\n  - { url: 'https://api.example.com/v1/x', expect: allow, rule: 1 }\n";
    let good = text(outside.file("good.yaml", good));
    let passed = stage.orch(["policy", "test", &good]).run().expect(0);
    assert_eq!(passed.stdout(), "1 passed, 0 failed\n");
    let bad = format!("{POLICY}tests:\n  - {{ url: 'https://api.example.com/v1/x', expect: deny }}\n");
    let bad = text(outside.file("bad.yaml", &bad));
    let failed = stage.orch(["policy", "test", &bad]).run().expect(1);
    assert!(failed.stdout().contains("FAIL tests[0]: GET https://api.example.com/v1/x"), "{failed}");
    let failed = stage.orch(["policy", "test", &bad, "--json"]).run().expect(1).json();
    assert_eq!((&failed["failed"], &failed["tests"][0]["passed"]), (&json!(1), &json!(false)));
    let broken = text(outside.file("broken.yaml", &format!("{POLICY}tets: []\n")));
    let failed = stage.orch(["policy", "test", &broken]).run().expect(2).silent();
    assert!(failed.stderr().contains("broken.yaml:3:1: unknown field `tets`"), "{failed}");
}

#[test]
fn a_url_is_explained_by_the_rule_that_decides() {
    let stage = Stage::new();
    let outside = Outside::new();
    let manifest = text(outside.file("policy.yaml", POLICY));
    let explain = |args: &[&str]| stage.orch(["policy", "explain"]).args(args).run();
    let said =
        explain(&["https://api.example.com/v1/x", "--manifest", &manifest, "--method", "PUT"]).expect(0);
    for part in [
        "PUT https://api.example.com/v1/x\n  denied (method_not_allowed): ",
        "nearest is rule 1 (manifest), whose `methods` does not fit",
        "add to `egress` in orch.yaml: - { host: api.example.com, methods: [PUT], paths: [\"/v1/x\"] }",
    ] {
        assert!(said.stdout().contains(part), "{part:?} is missing in {said}");
    }
    let json = explain(&["https://api.example.com/v1/x", "--manifest", &manifest, "--json"]).expect(0).json();
    let rule = &json["urls"][0]["rule"];
    assert_eq!((&rule["number"], &rule["origin"]), (&json!(1), &json!("manifest")), "{json:#}");
    // An agent by its name, whose models' hosts are the gateway's.
    let json = explain(&[
        "https://api.openai.com/v1/chat/completions",
        "-m",
        "POST",
        "--agent",
        "orch/summarizer",
        "--json",
    ]);
    assert_eq!(json.expect(0).json()["urls"][0]["rule"]["origin"], "catalog");
    explain(&["https://x.example.com", "--method", "get"]).expect(2).silent();
    explain(&["https://api.example.com", "--manifest", &manifest, "--allow", "b.example.com"])
        .expect(2)
        .silent();
}

#[test]
fn a_policy_is_learned_from_a_run_on_another_machine() {
    let remote = Remote::new();
    let agent = guest("wanderer", &json!({}));
    let input = json!({ "requests": [url("PUT", "https://api.github.com/user/keys")] }).to_string();
    let trial = remote.client.file("narrow.yaml", "egress: []\n");
    let run = remote
        .orch(["run", "--json", "--input", &input, "--trial-policy", &text(trial)])
        .arg(agent.path())
        .run()
        .expect(0)
        .json();
    assert_eq!(run["egress"]["trial"], json!({ "denied": 0, "would_deny": [] }), "{run:#}");
    let run = run["run_id"].as_str().expect("an id");
    let learned = remote.orch(["policy", "learn", run, "--json"]).run().expect(0).json();
    assert_eq!(
        learned["egress"],
        json!([{ "host": "api.github.com", "methods": ["PUT"], "paths": ["/user/keys"] }]),
        "{learned:#}"
    );
    // Whoever has no token learns nothing, and neither does another workspace.
    remote.anybody(["policy", "learn", run]).run().expect(8).silent();
    let theirs = json!({ "name": "theirs", "scopes": ["run"], "workspace": "other" });
    let theirs = remote.server.ask("POST", "/v1/tokens", Some(&theirs)).expect(201).json();
    let token = theirs["token"].as_str().expect("a token");
    remote.anybody(["policy", "learn", run]).env("ORCH_TOKEN", token).run().expect(2).silent();
}

#[test]
fn a_run_that_is_not_on_record_is_an_error_that_says_where_it_could_be() {
    let stage = Stage::new();
    let unknown = stage.orch(["policy", "learn", "run_aaaaaaaaaaaaaaaaaaaaaaaaaa"]).run().expect(2).silent();
    assert!(unknown.stderr().contains("of runs with --local"), "{unknown}");
    stage.orch(["policy", "learn", "x"]).run().expect(2).silent();
    // What a failed run printed is a record as well.
    let agent = guest("exit7", &json!({}));
    let failed = with_keys(stage.run_in(Mode::Local, agent.path(), "{}")).run();
    let file = stage.home.file("error.json", failed.stderr().lines().last().unwrap_or_default());
    let learned = stage.orch(["policy", "learn", &format!("@{}", text(file))]).run().expect(0);
    assert!(learned.stdout().ends_with("egress: []\n"), "{learned}");
}
