//! Azure: a key that names its resource, and what of it travels.

use orch_tests::fakes::openai::openai;
use orch_tests::guests::{self, Agent};
use orch_tests::home::Config;
use orch_tests::orch::Outcome;
use orch_tests::reply::Reply;
use orch_tests::upstream::{Host as _, Upstream};
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{INPUT, Mode, Stage, in_every_mode, receipt, summary};

const NAME: &str = "AZURE_API_KEY";
const HOST: &str = "acme.openai.azure.com";
const KEY: &str = "e2e0q7zplx4vn8rt2ys6hd1kf9bm3gc5";
const SAYS: &str = "Azure says that ships wait for rain.";

/// OpenAI's model behind Azure's door: the key in its header, at these paths.
fn azure(request: &Received) -> Reply {
    let versioned = request.path == "/openai/v1/chat/completions" && request.query.is_none();
    let dated = request.path == "/openai/deployments/my-gpt/chat/completions"
        && request.query.as_deref() == Some("api-version=2024-10-21");
    if !versioned && !dated {
        return Reply::json(404, &json!({"error": {"code": "404", "message": "Resource not found"}}));
    }
    if request.header("api-key") != Some(KEY) || request.header("authorization").is_some() {
        return Reply::json(
            401,
            &json!({"error": {"code": "401", "message": "Access denied due to invalid subscription key"}}),
        );
    }
    let mut plain = request.clone();
    plain.path = "/v1/chat/completions".to_owned();
    plain.query = None;
    plain.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("api-key"));
    plain.headers.push(("authorization".to_owned(), format!("Bearer {KEY}")));
    openai(KEY, SAYS).with_model("my-gpt").answer(&plain)
}

fn stage() -> (Stage, Upstream) {
    let mut stage = Stage::new();
    let there = Upstream::https(&stage.ca, &[HOST], azure);
    let at = there.address();
    stage.configure(|config: Config| config.connect(&format!("{HOST}:443"), at));
    (stage, there)
}

fn agent() -> Agent {
    let fields = json!({ "supported_providers": ["azure"], "llm": { "primary": "azure/gpt-4o-mini" } });
    Agent::new("summarizer", &guests::example("summarizer"), &fields)
}

fn key(more: &Value) -> String {
    let mut key = json!({"endpoint": format!("https://{HOST}/"), "apiKey": KEY});
    for (name, value) in more.as_object().into_iter().flatten() {
        key[name.as_str()] = value.clone();
    }
    key.to_string()
}

in_every_mode! {
    the_key_alone_travels_to_the_resource_that_it_names
}

fn the_key_alone_travels_to_the_resource_that_it_names(mode: Mode) {
    let (stage, there) = stage();
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<Value>(&key(&json!({}))).expect("JSON"));
    stage.store(NAME, &pretty.expect("JSON"), &[]);
    let report = summary(stage.run_in(mode, agent().path(), INPUT).run(), SAYS);
    let request = there.only();
    assert_eq!(request.path, "/openai/v1/chat/completions");
    assert_eq!(request.json()["model"], "gpt-4o-mini");
    there.never_saw(b"apiKey");
    there.never_saw(b"endpoint");
    assert_eq!(receipt(&report)["provider_served"], "azure", "{report:#}");
    assert!(!report.to_string().contains(KEY));
}

fn given(stage: &Stage, key: &str) -> Outcome {
    stage.run(&agent(), INPUT).env(NAME, key).run()
}

#[test]
fn a_deployment_stands_in_the_model_s_place_and_a_dated_version_in_the_path() {
    let (stage, there) = stage();
    summary(given(&stage, &key(&json!({"deploymentName": "my-gpt"}))), SAYS);
    assert_eq!(there.received()[0].json()["model"], "my-gpt");
    assert_eq!(there.received()[0].path, "/openai/v1/chat/completions");
    summary(given(&stage, &key(&json!({"deploymentName": "my-gpt", "apiVersion": "2024-10-21"}))), SAYS);
    assert_eq!(there.received()[1].path, "/openai/deployments/my-gpt/chat/completions");
}

#[test]
fn a_key_and_a_resource_of_one_environment_are_one_key() {
    let (stage, there) = stage();
    let agent = agent();
    let run = stage.run(&agent, INPUT).env(NAME, KEY).env("AZURE_RESOURCE_NAME", "acme");
    summary(run.run(), SAYS);
    assert_eq!(there.received().len(), 1);
    let endpoint = stage.run(&agent, INPUT).env("AZURE_OPENAI_API_KEY", KEY);
    summary(endpoint.env("AZURE_OPENAI_ENDPOINT", format!("https://{HOST}")).run(), SAYS);
    // The vault's key does not go where an environment says.
    stage.store(NAME, &key(&json!({})), &[]);
    summary(stage.run(&agent, INPUT).env("AZURE_RESOURCE_NAME", "another").run(), SAYS);
    assert_eq!(there.received().len(), 3);
}

#[test]
fn what_is_wrong_is_said_by_its_field_before_any_byte_leaves() {
    let (stage, there) = stage();
    let without = json!({"endpoint": format!("https://{HOST}")}).to_string();
    for (broken, why) in [
        (without, "its field `apiKey` is missing"),
        (key(&json!({"api_version": "2024-10-21"})), "which is called `apiVersion`"),
        (key(&json!({"apiKey": 7})), "its field `apiKey` is a number"),
        (key(&json!({"endpoint": "https://evil.example"})), "`endpoint` is no host of azure"),
        (key(&json!({"endpoint": "https://10.0.0.5"})), "`endpoint` is no host of azure"),
        (key(&json!({"endpoint": "http://acme.openai.azure.com"})), "`endpoint` is not https://"),
        (key(&json!({"apiVersion": "latest&x=y"})), "`apiVersion` is no version"),
        (key(&json!({"deploymentName": "a/../b"})), "`deploymentName` is no name of a deployment"),
        (KEY.to_owned(), "does not say which resource"),
    ] {
        let outcome = given(&stage, &broken);
        assert_eq!(outcome.code(), Some(3), "{outcome}");
        assert!(
            outcome.error()["message"].as_str().is_some_and(|said| said.contains(why)),
            "{why}: {outcome}"
        );
        assert!(!outcome.to_string().contains(KEY), "{outcome}");
        let set = stage.orch(["secrets", "set", NAME, "-"]).stdin(broken).run();
        assert_eq!(set.code(), Some(2), "{set}");
        assert!(set.to_string().contains(why) && !set.to_string().contains(KEY), "{set}");
    }
    there.untouched();
}
