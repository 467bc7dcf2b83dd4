//! A host that is no model provider, and a secret that only its owner lets go there.

use orch_tests::fakes::api::api;
use orch_tests::guests::Agent;
use orch_tests::needle::{self, Needle};
use orch_tests::reply::Reply;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{OPENAI_KEY, Stage, guest, refused};

const TOKEN: &str = "ghp_e2eR4w9Kx7Zq2Lm5Tn8Vp3Hd6Bs1Gj0Cf";

/// An agent that asks what its input lists, and whose manifest asks for the host and the token.
fn caller() -> Agent {
    let fields = json!({
        "egress": [{ "host": "api.github.com", "methods": ["GET", "POST"], "paths": ["/repos/**", "/echo", "/redirect/**"] }],
        "secrets": [{ "name": "GITHUB_TOKEN", "hosts": ["api.github.com"] }],
    });
    guest("wanderer", &fields)
}

struct Hosts {
    stage: Stage,
    api: Upstream,
    other: Upstream,
}

/// `api.github.com` wants the token and `other.example.org` takes anything; both are on loopback.
fn hosts() -> Hosts {
    let mut stage = Stage::new();
    let wanted = Upstream::https(&stage.ca, &["api.github.com"], api(TOKEN));
    let other = Upstream::https(&stage.ca, &["other.example.org"], |request: &Received| Reply::echo(request));
    let (a, o) = (wanted.address(), other.address());
    stage.configure(|config| config.connect("api.github.com:443", a).connect("other.example.org:443", o));
    Hosts { stage, api: wanted, other }
}

impl Hosts {
    /// Runs requests of the agent, with the host and the secret granted.
    #[track_caller]
    fn ask(&self, requests: &Value) -> (Value, orch_tests::orch::Outcome) {
        let input = json!({ "requests": requests }).to_string();
        let outcome = self
            .stage
            .run(&caller(), &input)
            .env("OPENAI_API_KEY", OPENAI_KEY)
            .args(["--allow", "api.github.com", "--secret", "GITHUB_TOKEN@api.github.com"])
            .run();
        (outcome.json(), outcome)
    }

    fn store(&self) {
        self.stage.store("GITHUB_TOKEN", TOKEN, &["--host", "api.github.com"]);
    }
}

fn bearer(url: &str) -> Value {
    json!({ "url": url, "headers": [["authorization", "Bearer ${GITHUB_TOKEN}"]] })
}

#[test]
fn the_secret_is_put_in_where_its_owner_said() {
    let hosts = hosts();
    hosts.store();
    let (report, outcome) = hosts.ask(&json!([bearer("https://api.github.com/repos/a/b?page=2")]));
    let outcome = outcome.expect(0);
    let result = &report["output"]["results"][0];
    assert_eq!(result["status"], 200, "{outcome}");
    let body: Value = serde_json::from_str(result["body"].as_str().expect("text")).expect("JSON");
    assert_eq!(body, json!({ "path": "/repos/a/b", "query": "page=2" }), "{outcome}");
    hosts.api.took_key(TOKEN);
    assert_eq!(report["egress"]["allowed"], 1, "{outcome}");
    needle::none(&outcome.search(&Needle::new(TOKEN)));
}

#[test]
fn a_host_that_echoes_the_secret_does_not_hand_it_to_the_agent() {
    let hosts = hosts();
    hosts.store();
    let (report, outcome) = hosts.ask(&json!([bearer("https://api.github.com/echo")]));
    let outcome = outcome.expect(0);
    assert_eq!(report["output"]["results"][0]["status"], 200, "{outcome}");
    hosts.api.took_key(TOKEN);
    needle::none(&outcome.search(&Needle::new(TOKEN)));
}

#[test]
fn a_placeholder_is_inert_anywhere_but_in_its_header() {
    let hosts = hosts();
    hosts.store();
    let (_, outcome) = hosts.ask(&json!([
        { "url": "https://api.github.com/repos/${GITHUB_TOKEN}", "headers": [["authorization", "Bearer x"]] },
        { "url": "https://api.github.com/repos/a?token=${GITHUB_TOKEN}", "headers": [["x-token", "${GITHUB_TOKEN}"]] },
        { "method": "POST", "url": "https://api.github.com/repos/a", "body": "${GITHUB_TOKEN}" },
    ]));
    assert_eq!(outcome.code(), Some(0), "{outcome}");
    assert_eq!(hosts.api.received().len(), 3, "{outcome}");
    hosts.api.never_saw(TOKEN.as_bytes());
}

#[test]
fn the_secret_follows_no_redirect_and_no_other_host() {
    let hosts = hosts();
    hosts.store();
    let mut redirected = bearer("https://api.github.com/redirect/302?https://other.example.org/loot");
    redirected["follow_redirects"] = json!(true);
    let (report, outcome) = hosts.ask(&json!([redirected, bearer("https://other.example.org/loot")]));
    assert_eq!(outcome.code(), Some(0), "the agent itself succeeded: {outcome}");
    for result in report["output"]["results"].as_array().expect("results") {
        assert!(refused(result), "{outcome}");
    }
    hosts.other.untouched();
    let denied = report["egress"]["denied"].as_array().expect("a list");
    assert!(denied.len() >= 2 && denied.iter().all(|d| d["host"] == "other.example.org"), "{outcome}");
}

#[test]
fn a_path_or_method_that_was_not_asked_for_is_refused() {
    let hosts = hosts();
    hosts.store();
    let mut delete = bearer("https://api.github.com/repos/a/b");
    delete["method"] = json!("DELETE");
    let requests = json!([
        bearer("https://api.github.com/user"),
        bearer("https://api.github.com/repos/../user"),
        bearer("https://api.github.com/repos/%2e%2e/user"),
        bearer("http://api.github.com/repos/a"),
        bearer("https://api.github.com:8443/repos/a"),
        delete,
    ]);
    let (report, outcome) = hosts.ask(&requests);
    for result in report["output"]["results"].as_array().expect("results") {
        assert!(refused(result), "{outcome}");
    }
    hosts.api.untouched();
}

#[test]
fn without_a_grant_the_run_does_not_start() {
    let hosts = hosts();
    hosts.store();
    let input = json!({ "requests": [bearer("https://api.github.com/repos/a")] }).to_string();
    let agent = caller();
    let run = || hosts.stage.run(&agent, &input).env("OPENAI_API_KEY", OPENAI_KEY);
    let outcome = run().run().expect(4).silent();
    assert!(outcome.stderr().contains("--allow api.github.com"), "the hint can be pasted: {outcome}");
    // The host alone is not the secret.
    run().args(["--allow", "api.github.com"]).run().expect(4).silent();
    hosts.api.untouched();
}

#[test]
fn a_host_that_the_operator_allows_needs_no_flag() {
    let mut hosts = hosts();
    hosts.store();
    hosts.stage.configure(|config| config.allow("api.github.com"));
    let input = json!({ "requests": [bearer("https://api.github.com/repos/a")] }).to_string();
    let outcome = hosts
        .stage
        .run(&caller(), &input)
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .args(["--secret", "GITHUB_TOKEN@api.github.com"])
        .run()
        .expect(0);
    assert_eq!(outcome.json()["output"]["results"][0]["status"], 200, "{outcome}");
    hosts.api.took_key(TOKEN);
}

#[test]
fn a_manifest_cannot_send_a_secret_where_its_owner_did_not() {
    let hosts = hosts();
    // The owner said another host, and nobody on the command line says more.
    hosts.stage.store("GITHUB_TOKEN", TOKEN, &["--host", "other.example.org"]);
    let input = json!({ "requests": [bearer("https://api.github.com/repos/a")] }).to_string();
    let outcome = hosts
        .stage
        .run(&caller(), &input)
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .args(["--allow", "api.github.com"])
        .run()
        .expect(4)
        .silent();
    hosts.api.untouched();
    hosts.other.untouched();
    needle::none(&outcome.search(&Needle::new(TOKEN)));
}

#[test]
fn a_secret_that_is_no_provider_key_is_never_taken_from_the_environment() {
    let hosts = hosts();
    let input = json!({ "requests": [bearer("https://api.github.com/repos/a")] }).to_string();
    let outcome = hosts
        .stage
        .run(&caller(), &input)
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .env("GITHUB_TOKEN", TOKEN)
        .args(["--allow", "api.github.com", "--secret", "GITHUB_TOKEN@api.github.com"])
        .run()
        .expect(3)
        .silent();
    assert!(outcome.stderr().contains("orch secrets set GITHUB_TOKEN"), "{outcome}");
    hosts.api.untouched();
}

#[test]
fn a_flag_grants_a_secret_for_the_host_that_it_names_and_no_other() {
    let hosts = hosts();
    hosts.store();
    let fields = json!({
        "egress": [{ "host": "api.github.com" }, { "host": "other.example.org" }],
        "secrets": [{ "name": "GITHUB_TOKEN" }],
    });
    let input =
        json!({ "requests": [bearer("https://api.github.com/echo"), bearer("https://other.example.org/")] });
    let agent = guest("wanderer", &fields);
    let run = || {
        let run = hosts.stage.run(&agent, &input.to_string()).env("OPENAI_API_KEY", OPENAI_KEY);
        run.args(["--allow", "api.github.com", "--allow", "other.example.org"])
            .args(["--secret", "GITHUB_TOKEN@other.example.org"])
    };
    let outcome = run().run().expect(4).silent();
    let wanted = json!(["use the secret GITHUB_TOKEN toward api.github.com"]);
    assert_eq!(outcome.error()["details"]["wanted"], wanted, "{outcome}");
    hosts.api.untouched();
    hosts.other.untouched();

    run().args(["--secret", "GITHUB_TOKEN@api.github.com"]).run().expect(0);
    hosts.api.took_key(TOKEN);
    hosts.other.took_key(TOKEN);
}

#[test]
fn a_pinned_providers_key_does_not_go_with_an_agents_own_requests() {
    let mut stage = Stage::new();
    let pinned = Upstream::https(&stage.ca, &["llm.example.org"], |request: &Received| Reply::echo(request));
    let address = pinned.address();
    stage.configure(|config| {
        config.pin("openai", "https://llm.example.org/v1").connect("llm.example.org:443", address)
    });
    let agent = guest(
        "wanderer",
        &json!({ "llm": { "primary": "gpt-4o-mini" }, "egress": [{ "host": "llm.example.org" }] }),
    );
    let input = json!({ "requests": [{
        "method": "POST", "url": "https://llm.example.org/v1/chat/completions",
        "headers": [["authorization", "Bearer ${OPENAI_API_KEY}"]], "body": "{\"model\":\"gpt-4o-mini\",\"messages\":[]}",
    }] });
    let outcome = stage
        .run(&agent, &input.to_string())
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .args(["--allow", "llm.example.org"])
        .run()
        .expect(0);
    let authorization = pinned.only().header("authorization").expect("sent as it was").to_owned();
    assert!(authorization.starts_with("Bearer orch_ph_"), "{authorization}: {outcome}");
    pinned.never_saw(OPENAI_KEY.as_bytes());
}
