use std::sync::Arc;

use http::request::Parts;
use orch_manifests::{OperatorProvider, Routes, RunId, Slug};
use orch_proxy::{AuthorizeError, Credential, Grant, Grants, Scrubber, Use};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::*;
use crate::byok::{ByokPolicy, Keyrings};
use crate::plan::Plan;
use crate::usage::Budget;

struct Key(&'static str, &'static str);

impl Credential for Key {
    fn id(&self) -> &str {
        self.0
    }
    fn source(&self) -> &str {
        self.1
    }
    fn whose(&self) -> Whose {
        match self.1 {
            "env" => Whose::Platform,
            "own" => Whose::Own,
            _ => Whose::Team,
        }
    }
    fn authorize(
        &self,
        _: &mut Parts,
        _: Option<&[u8; 32]>,
        _: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        Ok(None)
    }
    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        None
    }
}

/// Clients with a key of their own for OpenAI, one of the operator's environment for Anthropic, an expired one for
/// Gemini, and a model server of the operator's.
fn clients() -> (Session, Catalog) {
    let lan = OperatorProvider {
        slug: "lan".parse().unwrap(),
        dialect: Some(Dialect::OpenAiChat),
        base_url: Some("http://10.0.0.5:8000/v1".parse().unwrap()),
        env: Vec::new(),
        models: vec!["llama-*".to_owned(), "house-model".to_owned()],
        free: true,
        prices: std::collections::BTreeMap::new(),
    };
    let catalog = Catalog::builtin().with_operator(vec![lan]).unwrap();
    let plan = Plan::for_clients(&catalog, &|slug: &Slug| match slug.as_str() {
        "openai" => Some(Ok(vec![Arc::new(Key("OPENAI_API_KEY", "vault"))])),
        "anthropic" => Some(Ok(vec![Arc::new(Key("ANTHROPIC_API_KEY", "env"))])),
        "gemini" => Some(Err("GEMINI_API_KEY: it has expired".to_owned())),
        _ => None,
    });
    let mut routes = Routes::none();
    for (name, models) in [("smart", "gemini-2.5-flash gpt-4o"), ("lost", "gemini-2.5-flash")] {
        let targets: Vec<Value> = models.split(' ').map(|model| json!({ "model": model })).collect();
        let route = serde_json::from_value(json!({ "targets": targets })).unwrap();
        routes.add(name.parse().unwrap(), route, &catalog).unwrap();
    }
    let expires = Instant::now() + Duration::from_secs(60);
    let (_, grant) = Grants::new().mint(Grant {
        run: RunId::random(),
        workspace: "default".into(),
        rules: Vec::new(),
        trials: Vec::new(),
        bindings: Vec::new(),
        limits: orch_proxy::Limits::of(100, 10),
        expires,
    });
    let session = Session::new(grant, Arc::new(plan), expires, Budget::new(None, None));
    (session.with_routes(Arc::new(routes)), catalog)
}

#[tokio::test]
async fn each_model_says_whose_key_there_is_for_it_or_why_there_is_none() {
    let (session, catalog) = clients();
    let listed = forms::list(Dialect::OpenAiChat, &all(&session, &catalog));
    let entry = |id: &str| {
        let mut entries = listed["data"].as_array().unwrap().iter();
        entries.find(|entry| entry["id"] == id).unwrap_or_else(|| panic!("no {id}"))
    };
    for (id, key, provider) in [
        ("openai/gpt-4o", "present", "openai"),
        ("anthropic/claude-sonnet-4-6", "platform", "anthropic"),
        ("gemini/gemini-2.5-flash", "missing", "gemini"),
        ("lan/house-model", "platform", "lan"),
        ("lan/llama-*", "platform", "lan"),
        ("smart", "present", "orch"),
        ("lost", "missing", "orch"),
    ] {
        assert_eq!((&entry(id)["key"], &entry(id)["provider"]), (&json!(key), &json!(provider)), "{id}");
        assert_eq!(entry(id).get("key_missing").is_some(), key == "missing", "{id}");
    }
    assert_eq!(entry("gemini/gemini-2.5-flash")["key_missing"], "GEMINI_API_KEY: it has expired");
    let lost = entry("lost")["key_missing"].as_str().unwrap();
    assert!(lost.contains("gemini-2.5-flash: GEMINI_API_KEY: it has expired"), "{lost}");
    assert_eq!(entry("lan/llama-*")["orch"]["kind"], "pattern");
    assert_eq!(entry("lan/house-model")["orch"]["kind"], "model");
    assert_eq!(entry("lan/house-model")["orch"]["price"]["input"], 0.0);
    assert_eq!(entry("smart")["orch"]["targets"], json!(["gemini-2.5-flash", "gpt-4o"]));
}

#[tokio::test]
async fn a_member_s_own_key_counts_and_it_is_said_when_it_serves() {
    let (session, catalog) = clients();
    let own = |slug: &Slug| {
        let key = || Arc::new(Key("own/alice/GEMINI_API_KEY", "own")) as Arc<dyn Credential>;
        (slug.as_str() == "gemini").then(|| Ok(vec![key()]))
    };
    let own = Some(Arc::new(Plan::of_keys(&catalog, &own)));
    let mut routes = Routes::none();
    for (name, whose) in [("mine", "own"), ("teams", "team"), ("lent", "platform")] {
        let route = json!({ "targets": [{ "model": "gemini-2.5-flash", "whose": whose }] });
        routes.add(name.parse().unwrap(), serde_json::from_value(route).unwrap(), &catalog).unwrap();
    }
    let session = session.with_routes(Arc::new(routes));
    for (policy, key, teams) in
        [(ByokPolicy::PreferTeam, "on_request", "missing"), (ByokPolicy::PreferOwn, "present", "missing")]
    {
        let keyrings = Keyrings { policy, own: own.clone(), platform: None };
        let session = session.clone().with_keyrings(keyrings);
        let listed = forms::list(Dialect::OpenAiChat, &all(&session, &catalog));
        let entry = |id: &str| {
            let mut entries = listed["data"].as_array().unwrap().iter();
            entries.find(|entry| entry["id"] == id).unwrap_or_else(|| panic!("no {id}")).clone()
        };
        for id in ["gemini/gemini-2.5-flash", "mine"] {
            let entry = entry(id);
            assert_eq!(
                (&entry["key"], &entry["key_owner"]),
                (&json!(key), &json!("own")),
                "{policy} {entry}"
            );
            let asked_by = entry.get("key_asked_by");
            assert_eq!(asked_by, (key == "on_request").then_some(&json!("x-use-byok: true")), "{entry}");
        }
        for id in ["teams", "lent"] {
            assert_eq!(entry(id)["key"], teams, "{policy}: a route's keys are those that it names");
        }
        assert_eq!(
            (&entry("openai/gpt-4o")["key"], &entry("openai/gpt-4o")["key_owner"]),
            (&json!("present"), &json!("team"))
        );
        let platform = entry("anthropic/claude-sonnet-4-6");
        assert_eq!((&platform["key"], &platform["key_owner"]), (&json!("platform"), &json!("platform")));
    }
}

#[tokio::test]
async fn a_model_is_found_by_any_of_its_names_and_called_by_that_one() {
    let (session, catalog) = clients();
    for (asked, id) in [
        ("gpt-4o", Some("openai/gpt-4o")),
        ("openai/gpt-4o", Some("openai/gpt-4o")),
        ("claude-3-haiku", Some("anthropic/claude-3-haiku-20240307")),
        ("smart", Some("smart")),
        ("llama-3-70b", Some("lan/llama-3-70b")),
        ("nobody-knows-it", None),
        // On the caller's own machine, and nobody pinned it.
        ("ollama/llama3.2", None),
        ("", None),
    ] {
        let found = find(&session, &catalog, asked);
        assert_eq!(
            found.as_ref().ok().map(|found| found.id.as_str()),
            id,
            "{asked}: {:?}",
            found.as_ref().err()
        );
        if let Ok(found) = found {
            let one = |spoken| forms::one(spoken, &found, asked);
            assert_eq!(one(Dialect::OpenAiChat)["id"], asked);
            assert_eq!(one(Dialect::AnthropicMessages)["id"], asked);
            assert_eq!(one(Dialect::GeminiGenerateContent)["name"], format!("models/{asked}"));
        }
    }
}

#[test]
fn the_path_says_which_model() {
    for (path, model) in [
        ("/v1/models/gpt-4o", Some("gpt-4o")),
        ("/v1/models/openai%2Fgpt-4o", Some("openai/gpt-4o")),
        ("/v1/models/a/b/c:d", Some("a/b/c:d")),
        ("/v1beta/models/gemini-2.5-flash", Some("gemini-2.5-flash")),
        ("/v1beta/models/models/x", Some("x")),
        ("/v1/models", None),
        ("/v1/models/", None),
        ("/v1/models/%ff", None),
    ] {
        assert_eq!(asked_about(path).as_deref(), model, "{path}");
    }
}
