//! Azure: a key that names its resource, and what of it travels.

use orch_tests::fakes::openai::openai;
use orch_tests::fakes::provider::{Mood, Provider, Spoken};
use orch_tests::guests::{self, Agent};
use orch_tests::home::Config;
use orch_tests::orch::Outcome;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use orch_tests::upstream::{Host as _, Upstream};
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{INPUT, Mode, PROGRAM, Stage, in_every_mode, receipt, summary};

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
        (key(&json!({"deploymentName": ".."})), "`deploymentName` is no name of a deployment"),
        (key(&json!({"endpoint": "https://me:pw@acme.openai.azure.com"})), "`endpoint` is no base URL"),
        (
            key(&json!({"endpoint": "https://acme.openai.azure.com.evil.example"})),
            "`endpoint` is no host of azure",
        ),
        (
            key(&json!({"endpoint": {"url": "https://acme.openai.azure.com"}})),
            "its field `endpoint` is an object",
        ),
        (key(&json!({"apiKey": format!("{KEY}\r\nx: y")})), "its field `apiKey` holds blanks"),
        (format!("{{\"apiKey\":\"{KEY}\",\"apiKey\":\"{KEY}\"}}"), "it has a field twice"),
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

const FOUNDRY_HOST: &str = "acme.services.ai.azure.com";

/// One of Azure's services, at this target alone, for whoever shows the key in its header and asks for this model.
fn service(spoken: Spoken, target: &str, model: &str) -> Provider {
    Provider {
        spoken,
        paths: [target.to_owned(), target.to_owned()],
        auth: ("api-key".to_owned(), KEY.to_owned()),
        model: model.to_owned(),
        says: SAYS.to_owned(),
        tool: String::new(),
        mood: Mood::Good,
    }
}

/// Stores a key as `orch byok set SLUG` does, and asks for `SLUG/MODEL`: whole, as a stream and in the service's own dialect.
#[track_caller]
fn asked(slug: &str, model: &str, key: &str, host: &str, service: Provider) -> Vec<Received> {
    let mut stage = Stage::new();
    let spoken = service.spoken;
    let there = Upstream::https(&stage.ca, &[host], service);
    let at = there.address();
    stage.configure(|config: Config| config.connect(&format!("{host}:443"), at));
    let set = stage.orch(["byok", "set", slug, "-", "--json"]).stdin(key).run().expect(0);
    assert_eq!(set.json()["provider"], slug, "{set}");
    assert!(!set.to_string().contains(KEY), "{set}");
    let server = Server::start(PROGRAM, &stage.home);
    let model = format!("{slug}/{model}");
    let messages = json!([{"role": "user", "content": "Do ships wait?"}]);
    let own = match spoken {
        Spoken::Responses => ("/v1/responses", json!({"model": model, "input": "Do ships wait?"})),
        _ => ("/v1/messages", json!({"model": model, "max_tokens": 50, "messages": messages})),
    };
    let chat = ("/v1/chat/completions", json!({"model": model, "messages": messages, "max_tokens": 50}));
    for (path, body) in [chat, own] {
        let whole = server.ask("POST", path, Some(&body)).expect(200);
        assert!(whole.json().to_string().contains(SAYS), "{path}: {whole:?}");
        let mut streamed = body;
        streamed["stream"] = json!(true);
        let answer = server.ask("POST", path, Some(&streamed)).expect(200);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let ends = ["data: [DONE]", "response.completed", "message_stop"];
        assert!(text.contains(SAYS) && ends.iter().any(|end| text.contains(end)), "{path}: {text}");
    }
    for part in ["apiKey", "endpoint", "deploymentName"] {
        there.never_saw(part.as_bytes());
    }
    assert_eq!(there.received().len(), 4);
    there.received()
}

#[test]
fn responses_are_asked_at_the_resource_of_the_key_in_its_version() {
    for (more, target, model) in [
        (json!({}), "/openai/v1/responses", "gpt-4o-mini"),
        (json!({"deploymentName": "my-codex"}), "/openai/v1/responses", "my-codex"),
        (json!({"apiVersion": "preview"}), "/openai/v1/responses?api-version=preview", "gpt-4o-mini"),
        (
            json!({"deploymentName": "my-codex", "apiVersion": "2025-04-01-preview"}),
            "/openai/responses?api-version=2025-04-01-preview",
            "my-codex",
        ),
    ] {
        let there = service(Spoken::Responses, target, model);
        for request in asked("azure-responses", "gpt-4o-mini", &key(&more), HOST, there) {
            assert_eq!(request.json()["model"], model, "{target}");
            assert!(request.header("authorization").is_none(), "{target}");
        }
    }
}

#[test]
fn claude_on_foundry_is_asked_at_the_resource_of_the_key() {
    let key = |more: &Value| {
        let mut key = json!({"endpoint": format!("https://{FOUNDRY_HOST}/anthropic"), "apiKey": KEY});
        for (name, value) in more.as_object().into_iter().flatten() {
            key[name.as_str()] = value.clone();
        }
        key.to_string()
    };
    for (more, model) in
        [(json!({}), "claude-sonnet-4-5"), (json!({"deploymentName": "my-claude"}), "my-claude")]
    {
        let there = service(Spoken::Messages, "/anthropic/v1/messages", model);
        let slug = "azure-anthropic-foundry";
        for request in asked(slug, "claude-sonnet-4-5", &key(&more), FOUNDRY_HOST, there) {
            assert_eq!(request.json()["model"], model);
            assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
            assert!(request.header("x-api-key").is_none() && request.header("authorization").is_none());
        }
    }
}

#[test]
fn what_the_other_services_keys_lack_is_said_by_its_field() {
    let stage = Stage::new();
    let foundry = format!("https://{FOUNDRY_HOST}");
    for (slug, broken, why) in [
        ("azure-responses", json!({"apiKey": KEY}), "its field `endpoint` is missing"),
        ("azure-responses", json!({"endpoint": format!("https://{HOST}")}), "its field `apiKey` is missing"),
        (
            "azure-responses",
            json!({"endpoint": format!("https://{HOST}"), "apiKey": KEY, "deployment": "x"}),
            "it has a field `deployment`",
        ),
        ("azure-anthropic-foundry", json!({"apiKey": KEY}), "its field `endpoint` is missing"),
        ("azure-anthropic-foundry", json!({"endpoint": foundry}), "its field `apiKey` is missing"),
        (
            "azure-anthropic-foundry",
            json!({"endpoint": foundry, "apiKey": " "}),
            "its field `apiKey` is empty",
        ),
        (
            "azure-anthropic-foundry",
            json!({"endpoint": foundry, "apiKey": KEY, "apiVersion": "2024-10-21"}),
            "it has a field `apiVersion`",
        ),
        (
            "azure-anthropic-foundry",
            json!({"endpoint": format!("https://{HOST}"), "apiKey": KEY}),
            "`endpoint` is no host of azure-anthropic-foundry",
        ),
        ("azure-anthropic-foundry", json!(KEY), "does not say which resource"),
    ] {
        let text = broken.as_str().map_or_else(|| broken.to_string(), str::to_owned);
        let outcome = stage.orch(["byok", "set", slug, "-", "--json"]).stdin(text).run().expect(2);
        let error = outcome.error();
        assert_eq!((&error["code"], &error["details"]["field"]), (&json!("key_unusable"), &json!("key")));
        assert!(error["message"].as_str().is_some_and(|said| said.contains(why)), "{why}: {outcome}");
        assert!(error["hints"].to_string().contains("endpoint"), "{outcome}");
        assert!(!outcome.to_string().contains(KEY), "{outcome}");
    }
    let rows = stage.orch(["secrets", "list", "--json"]).run().expect(0).json();
    assert_eq!(rows["secrets"], json!([]), "{rows:#}");
}

#[test]
fn the_record_of_a_check_names_the_resource() {
    let (stage, there) = stage();
    stage.store(NAME, &key(&json!({})), &[]);
    stage.orch(["doctor", "--json"]).env("ORCH_KEY_CHECK", "on").run();
    there.wait_for(1);
    assert_eq!(there.received()[0].path, "/openai/v1/models");
    let audit = stage.orch(["vault", "audit", "--json"]).run().expect(0);
    assert!(audit.stdout().contains("key-check") && audit.stdout().contains(HOST), "{audit}");
}
