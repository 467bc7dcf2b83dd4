use std::sync::Mutex;

use http::StatusCode;
use http_body_util::BodyExt as _;
use orch_gateway::Receipt;
use orch_gateway::simulate::Scenario;
use orch_manifests::{Catalog, Dialect};
use orch_vault::{AuditEvent, ExpectedVersion, Secret, SecretMeta, VaultLocation};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::failure::Kind;
use crate::store::{UsageBy, UsageQuery};
use crate::upstream::Upstream;

mod telemetry;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// The gateway on simulated providers, with the keys of a vault that they know, or of the simulation itself.
struct Stage {
    upstream: Upstream,
    llm: Llm,
    ceilings: Limits,
    routes: Arc<Routes>,
    policy: ByokPolicy,
    platform: PlatformConfig,
    booked: Arc<Mutex<Vec<(Caller, Receipt)>>>,
    vault: Option<(TempDir, Arc<Keeper>)>,
}

struct Answer {
    status: StatusCode,
    receipt: Option<Value>,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

impl Stage {
    /// A vault that holds the keys of these providers, as the simulation takes them.
    async fn with_vault(providers: &[&str]) -> Self {
        let upstream = simulation().await;
        let folder = tempfile::tempdir().expect("a folder");
        let location = VaultLocation {
            store: folder.path().join("vault"),
            key_file: folder.path().join("vault.key"),
            workspace: "default".to_owned(),
            custody: orch_vault::Custody::default(),
        };
        let keeper = Keeper::hold(location, Arc::clone(&upstream.catalog)).await.expect("a vault");
        let keeper = Arc::new(keeper);
        let booked = Arc::default();
        let keys = Keys::Vault(VaultKeys { keeper: Arc::clone(&keeper), lent: None });
        let llm = with_books(&upstream, keys, &booked);
        let stage = Self {
            upstream,
            llm,
            ceilings: Limits::default(),
            routes: Arc::default(),
            policy: ByokPolicy::default(),
            platform: PlatformConfig::default(),
            booked,
            vault: Some((folder, keeper)),
        };
        for provider in providers {
            let simulation = stage.upstream.simulation.as_ref().expect("simulated");
            let key = simulation.key_for(provider).expect("a key").to_owned();
            stage.store(provider, key).await;
        }
        stage
    }

    /// What `orch serve --simulate` has, with a store in a folder.
    async fn simulated(ceilings: &Limits) -> (Self, Store, Arc<Telemetry>, TempDir) {
        let upstream = simulation().await;
        let folder = tempfile::tempdir().expect("a folder");
        let location = VaultLocation {
            store: folder.path().join("vault"),
            key_file: folder.path().join("vault.key"),
            workspace: "default".to_owned(),
            custody: orch_vault::Custody::default(),
        };
        let store = Store::open(folder.path()).expect("a store");
        let keeper = Arc::new(Keeper::new(location, Arc::clone(&upstream.catalog)));
        let metrics = Arc::default();
        let llm = Llm::new(&upstream, keeper, store.clone()).telling(Arc::clone(&metrics));
        (
            Self {
                upstream,
                llm,
                ceilings: *ceilings,
                routes: Arc::default(),
                policy: ByokPolicy::default(),
                platform: PlatformConfig::default(),
                booked: Arc::default(),
                vault: None,
            },
            store,
            metrics,
            folder,
        )
    }

    fn says(&self) -> Says<'_> {
        let Self { ceilings, routes, policy, platform, .. } = self;
        Says { ceilings, routes, policy: *policy, platform, preferred: None }
    }

    fn keeper(&self) -> &Keeper {
        &self.vault.as_ref().expect("a vault").1
    }

    async fn store(&self, provider: &str, key: String) {
        let name =
            self.upstream.catalog.provider(provider).and_then(|p| p.key_name()).expect("a name").parse();
        let store = move |vault: &mut orch_vault::Vault| {
            let secret = Secret::new(key.into_bytes());
            Ok(vault.set(&name.expect("a name"), secret, SecretMeta::default(), ExpectedVersion::Any)?)
        };
        self.keeper().with_new("default", store).await.expect("stored");
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], body).await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let client = caller("default", "tok_1");
        let mut request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if method == "GET" { orch_proxy::empty() } else { orch_proxy::full(body.to_string()) };
        let response = self
            .llm
            .answer(&client, &self.says(), None, request.body(body).expect("a request"))
            .await
            .expect("answered");
        let receipt = response.headers().get("x-orch-receipt");
        let receipt = receipt.map(|value| serde_json::from_slice(value.as_bytes()).expect("JSON"));
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
        Answer { status, receipt, text: String::from_utf8(bytes.to_vec()).expect("text") }
    }

    fn booked(&self) -> Vec<(Caller, Receipt)> {
        std::mem::take(&mut *self.booked.lock().expect("whole"))
    }

    async fn audited(&self) -> Vec<String> {
        let records = self.keeper().with("default", |vault| Ok(vault.audit()?)).await.expect("a log");
        let uses = records.into_iter().filter_map(|record| match record.event {
            AuditEvent::UsePlanned { run, secret, host, .. } => Some(format!("{run} {secret} {host}")),
            _ => None,
        });
        uses.collect()
    }

    async fn end(self) {
        self.upstream.shutdown().await;
    }
}

async fn simulation() -> Upstream {
    Upstream::simulated(Scenario::named("ok").expect("a scenario")).await.expect("a simulation")
}

fn caller(workspace: &str, token: &str) -> Caller {
    Caller { id: token.into(), workspace: workspace.into(), ..Caller::owner() }
}

fn with_books(upstream: &Upstream, keys: Keys, booked: &Arc<Mutex<Vec<(Caller, Receipt)>>>) -> Llm {
    let booked = Arc::clone(booked);
    let books: Books =
        Arc::new(move |client, receipt| booked.lock().expect("whole").push((client.clone(), receipt)));
    Llm::with_books(Arc::clone(&upstream.gateway), keys, books)
}

fn ask(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 100, "messages": [{ "role": "user", "content": "Say hello." }] })
}

#[tokio::test]
async fn both_dialects_are_answered_under_both_prefixes_and_booked() {
    let stage = Stage::with_vault(&["openai", "anthropic"]).await;
    for (path, model, served) in [
        (CHAT, "gpt-4o-mini", "openai"),
        ("/api/v1/chat/completions", "openai/gpt-4o-mini", "openai"),
        (MESSAGES, "claude-sonnet-4-6", "anthropic"),
        ("/api/v1/messages", "gpt-4o-mini", "openai"),
        (CHAT, "anthropic/claude-sonnet-4-6", "anthropic"),
    ] {
        let answer = stage.post(path, &ask(model)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {model}: {}", answer.text);
        let body = answer.json();
        let said = if path.ends_with("messages") {
            &body["content"][0]["text"]
        } else {
            &body["choices"][0]["message"]["content"]
        };
        assert!(said.as_str().is_some_and(|text| !text.is_empty()), "{body}");
        let receipt = answer.receipt.expect("a receipt");
        assert_eq!(
            (&receipt["provider"], &receipt["credential"]["source"]),
            (&json!(served), &json!("vault"))
        );

        let booked = stage.booked();
        let [(client, receipt)] = booked.as_slice() else { panic!("{booked:?}") };
        assert_eq!((&*client.workspace, &*client.id), ("default", "tok_1"));
        assert_eq!(receipt.provider_served.as_deref(), Some(served));
        assert!(receipt.input_tokens > 0 && receipt.output_tokens > 0, "{receipt:?}");
    }
    let mut uses = stage.audited().await;
    uses.sort();
    let expected = ["ANTHROPIC_API_KEY api.anthropic.com", "OPENAI_API_KEY api.openai.com"];
    assert_eq!(uses, expected.map(|used| format!("gateway:tok_1 {used}")), "once each, however often");
    stage.end().await;
}

#[tokio::test]
async fn a_stream_ends_with_a_receipt_only_where_one_was_asked_for_and_is_booked_always() {
    let stage = Stage::with_vault(&["openai"]).await;
    let mut body = ask("gpt-4o-mini");
    body["stream"] = json!(true);
    for (headers, wanted) in [(&[][..], false), (&[("x-orch-receipt", "true")][..], true)] {
        let answer = stage.send("POST", CHAT, headers, &body).await;
        assert_eq!((answer.status, answer.receipt), (StatusCode::OK, None));
        assert!(answer.text.contains("data: [DONE]"), "{}", answer.text);
        assert_eq!(answer.text.contains("event: orch.receipt"), wanted, "{}", answer.text);
        let booked = stage.booked();
        assert_eq!(booked.len(), 1);
        assert!(booked[0].1.output_tokens > 0, "{booked:?}");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_model_has_to_be_named_known_and_at_hand() {
    let stage = Stage::with_vault(&["openai"]).await;
    for (model, status, says) in [
        ("default", 400, "name a model"),
        ("", 400, "name a model"),
        ("claud-sonnet-4-6", 404, "anthropic/claude-sonnet-4-6"),
        ("llama3.2", 404, "no provider is known"),
        ("ollama/llama3.2", 404, "pins it"),
        ("claude-sonnet-4-6", 422, "no key for anthropic: orch secrets set ANTHROPIC_API_KEY"),
    ] {
        for path in [CHAT, MESSAGES] {
            let answer = stage.post(path, &ask(model)).await;
            let error = answer.json();
            assert_eq!(answer.status.as_u16(), status, "{model}: {error}");
            assert_eq!(error["type"] == json!("error"), path == MESSAGES, "{error}");
            let message = error["error"]["message"].as_str().expect("a message");
            assert!(message.contains(says), "{model}: {message}");
        }
    }
    assert!(stage.booked().iter().all(|(_, receipt)| receipt.attempts.is_empty()), "nobody was asked");
    assert!(stage.audited().await.is_empty());
    stage.end().await;
}

#[tokio::test]
async fn a_key_is_used_from_the_next_request_on_and_gone_with_the_next() {
    let stage = Stage::with_vault(&[]).await;
    assert_eq!(stage.post(CHAT, &ask("gpt-4o-mini")).await.status.as_u16(), 422);
    let key = stage.upstream.simulation.as_ref().and_then(|s| s.key_for("openai")).expect("a key").to_owned();
    stage.store("openai", "sk-0123456789abcdef0123456789abcdef".to_owned()).await;
    let wrong = stage.post(CHAT, &ask("gpt-4o-mini")).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "{}", wrong.text);
    stage.store("openai", key).await;
    assert_eq!(stage.post(CHAT, &ask("gpt-4o-mini")).await.status, StatusCode::OK);
    let name = "OPENAI_API_KEY".parse().expect("a name");
    stage.keeper().with("default", move |vault| Ok(vault.remove(&name)?)).await.expect("removed");
    assert_eq!(stage.post(CHAT, &ask("gpt-4o-mini")).await.status.as_u16(), 422);
    stage.end().await;
}

#[tokio::test]
async fn models_are_listed_with_whether_they_can_be_asked() {
    let stage = Stage::with_vault(&["anthropic"]).await;
    let openai = stage.send("GET", "/v1/models", &[], &Value::Null).await.json();
    let entries = openai["data"].as_array().expect("entries");
    let entry =
        |id: &str| entries.iter().find(|m| m["id"] == id).unwrap_or_else(|| panic!("no {id}: {openai}"));
    let there = entry("anthropic/claude-sonnet-4-6");
    assert_eq!((&there["provider"], &there["key"]), (&json!("anthropic"), &json!("present")));
    assert_eq!(there["object"], "model");
    assert_eq!(entry("openai/gpt-4o-mini")["key"], "missing");
    assert_eq!(entries[0]["key"], "present", "what can be asked comes first");

    let headers = [("anthropic-version", "2023-06-01")];
    let anthropic = stage.send("GET", "/api/v1/models", &headers, &Value::Null).await.json();
    assert_eq!((&anthropic["data"][0]["type"], &anthropic["has_more"]), (&json!("model"), &json!(false)));
    stage.end().await;
}

#[tokio::test]
async fn a_client_of_gemini_is_answered_by_every_provider() {
    let (stage, _store, _metrics, _folder) = Stage::simulated(&Limits::default()).await;
    let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": "Say hello." }] }] });
    for prefix in ["", "/api"] {
        for model in ["gemini-2.5-flash", "openai/gpt-4o-mini", "claude-3-haiku"] {
            let at = |method: &str| format!("{prefix}/v1beta/models/{model}:{method}");
            let answer = stage.post(&at("generateContent"), &body).await;
            assert_eq!(answer.status, 200, "{model}: {}", answer.text);
            assert_eq!(answer.json()["candidates"][0]["finishReason"], "STOP", "{model}");
            let streamed = stage.post(&at("streamGenerateContent?alt=sse"), &body).await;
            assert!(streamed.text.contains("\"finishReason\":\"STOP\""), "{model}: {}", streamed.text);
        }
    }
    let listed = stage.send("GET", "/v1beta/models", &[], &Value::Null).await.json();
    let first = &listed["models"][0];
    assert!(first["name"].as_str().is_some_and(|name| name.starts_with("models/openai/")), "{first}");
    assert_eq!(first["key"], "platform", "the simulation's");
    let counted = stage.post("/v1beta/models/gemini-2.5-flash:countTokens", &body).await;
    assert_eq!(
        (counted.status, counted.json()["error"]["code"].clone()),
        (StatusCode::NOT_FOUND, json!(404))
    );
    stage.end().await;
}

#[tokio::test]
async fn embeddings_are_served_at_every_path_and_booked() {
    let (stage, store, _metrics, _folder) = Stage::simulated(&Limits::default()).await;
    let openai = |model: &str| json!({ "model": model, "input": ["one", "two"], "dimensions": 8 });
    for path in ["/v1/embeddings", "/api/v1/embeddings"] {
        for model in ["text-embedding-3-small", "gemini-embedding-001", "embed-v4.0"] {
            let answer = stage.post(path, &openai(model)).await;
            assert_eq!(answer.status, 200, "{path} {model}: {}", answer.text);
            let data = answer.json()["data"].clone();
            assert_eq!(data[1]["embedding"].as_array().map(Vec::len), Some(8), "{path} {model}");
            assert_ne!(data[0]["embedding"], data[1]["embedding"]);
            assert!(answer.receipt.is_some());
        }
    }
    let text =
        |text: &str| json!({ "model": "models/embed-v4.0", "content": { "parts": [{ "text": text }] } });
    for prefix in ["", "/api"] {
        let at = format!("{prefix}/v1beta/models/embed-v4.0:batchEmbedContents");
        let answer = stage.post(&at, &json!({ "requests": [text("one"), text("two")] })).await;
        assert_eq!(answer.json()["embeddings"].as_array().map(Vec::len), Some(2), "{}", answer.text);
        let cohere =
            json!({ "model": "text-embedding-3-large", "texts": ["one"], "input_type": "search_query" });
        let answer = stage.post(&format!("{prefix}/v2/embed"), &cohere).await;
        assert_eq!(
            answer.json()["embeddings"]["float"][0].as_array().map(Vec::len),
            Some(1536),
            "{}",
            answer.text
        );
    }
    let answer =
        stage.post("/api/embed", &json!({ "model": "text-embedding-3-small", "input": "one" })).await;
    assert_eq!(answer.json()["embeddings"][0].as_array().map(Vec::len), Some(1536), "{}", answer.text);

    store.flush().await.expect("stored");
    let query = UsageQuery { only_of: None, since: None, until: None, by: UsageBy::Total };
    let usage = store.usage("default", &query).await.expect("usage");
    assert_eq!(usage[0].calls, 11);
    assert!(usage[0].input_tokens > 0 && usage[0].output_tokens == 0 && usage[0].cost_micro_usd > Some(0));
    let wrong = stage.post("/v1/embeddings", &json!({ "model": "text-embedding-3-small" })).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("input")));
    stage.end().await;
}

#[tokio::test]
async fn a_client_of_responses_is_answered_by_every_provider() {
    let (stage, _store, _metrics, _folder) = Stage::simulated(&Limits::default()).await;
    for path in ["/v1/responses", "/api/v1/responses"] {
        for model in ["gpt-4o-mini", "openai-responses/gpt-4o-mini", "gemini-2.5-flash", "claude-3-haiku"] {
            let mut body = json!({ "model": model, "input": "Say hello.", "store": true });
            let answer = stage.post(path, &body).await;
            assert_eq!(answer.status, 200, "{model}: {}", answer.text);
            assert_eq!(answer.json()["output"][0]["type"], "message", "{model}");
            // Who speaks the dialect may store what it answers; with the others that is lost, and said.
            let dropped = answer.receipt.expect("a receipt")["dropped"].as_u64().unwrap_or_default();
            assert_eq!(dropped > 0, !model.contains("gpt"), "{model}");
            body["stream"] = json!(true);
            let streamed = stage.post(path, &body).await;
            assert!(streamed.text.contains("event: response.completed\n"), "{model}: {}", streamed.text);
        }
        let body = json!({ "model": "claude-3-haiku", "input": "And?", "previous_response_id": "resp_1" });
        let refused = stage.post(path, &body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        assert_eq!(refused.json()["error"]["param"], "previous_response_id");
    }
    stage.end().await;
}

#[tokio::test]
async fn clients_of_cohere_and_ollama_are_answered_by_every_provider() {
    let (stage, _store, _metrics, _folder) = Stage::simulated(&Limits::default()).await;
    for path in ["/v2/chat", "/api/v2/chat", "/api/chat"] {
        for model in ["command-a-03-2025", "openai/gpt-4o-mini", "claude-3-haiku", "gemini-2.5-flash"] {
            let mut body = ask(model);
            body["stream"] = json!(false);
            let answer = stage.post(path, &body).await;
            assert_eq!(answer.status, 200, "{path} {model}: {}", answer.text);
            let said = answer.json();
            match path {
                "/api/chat" => assert_eq!(said["done_reason"], "stop", "{model}: {said}"),
                _ => assert_eq!(said["finish_reason"], "COMPLETE", "{model}: {said}"),
            }
            body["stream"] = json!(true);
            let streamed = stage.post(path, &body).await;
            let end = if path == "/api/chat" { "\"done\":true" } else { "event: message-end\n" };
            assert!(streamed.text.contains(end), "{path} {model}: {}", streamed.text);
        }
    }
    let listed = stage.send("GET", "/api/tags", &[], &Value::Null).await.json();
    let first = &listed["models"][0];
    assert!(first["model"].as_str().is_some_and(|model| model.starts_with("openai/")), "{first}");
    stage.end().await;
}

#[tokio::test]
async fn a_simulated_server_says_so_and_keeps_the_operator_s_ceilings() {
    let ceilings = Limits { tokens: Some(60), ..Limits::default() };
    let (stage, _store, _metrics, _folder) = Stage::simulated(&ceilings).await;
    let answer = stage.post(CHAT, &ask("gpt-4o-mini")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.text);
    assert_eq!(answer.json()["error"]["code"], "orch_limit_reached");
    stage.end().await;

    let (stage, store, metrics, _folder) = Stage::simulated(&Limits::default()).await;
    let answer = stage.post(MESSAGES, &ask("claude-sonnet-4-6")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let receipt = answer.receipt.expect("a receipt");
    assert_eq!(
        (&receipt["simulated"], &receipt["credential"]["source"]),
        (&json!(true), &json!("simulated"))
    );

    store.flush().await.expect("written");
    let query = UsageQuery { only_of: None, since: None, until: None, by: UsageBy::Model };
    let usage = store.usage("default", &query).await.expect("readable");
    let [row] = usage.as_slice() else { panic!("{usage:?}") };
    assert_eq!((row.key.as_str(), row.calls, row.runs), ("anthropic/claude-sonnet-4-6", 1, 0));
    assert_eq!(json!(row.output_tokens), receipt["output_tokens"]);
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    for line in [
        r#"llm_calls_total{caller="client",provider="anthropic",operation="chat",model="claude-sonnet-4-6",outcome="served"} 1"#,
        r#"llm_call_seconds_count{caller="client",provider="anthropic",operation="chat",model="claude-sonnet-4-6"} 1"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
    stage.end().await;
}

#[tokio::test]
async fn failures_before_the_gateway_speak_the_client_s_dialect() {
    let said = |spoken, status: u16, failure: &Failure| {
        let response = refuse(spoken, StatusCode::from_u16(status).expect("a status"), failure);
        assert_eq!(response.status().as_u16(), status);
        async move {
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            serde_json::from_slice::<Value>(&body).expect("JSON")
        }
    };
    let nobody = Failure::new(Kind::Server, "not_authenticated", "there is no such token").hint("orch login");
    let openai = said(Dialect::OpenAiChat, 401, &nobody).await;
    assert_eq!(openai["error"]["code"], "invalid_api_key");
    assert_eq!(openai["error"]["message"], "there is no such token; orch login");
    let anthropic = said(Dialect::AnthropicMessages, 401, &nobody).await;
    assert_eq!(anthropic["error"]["type"], "authentication_error");

    for (kind, code, status, anthropic) in [
        (Kind::Server, "forbidden", 403, "permission_error"),
        (Kind::Server, "rate_limited", 429, "rate_limit_error"),
        (Kind::Server, "shutting_down", 503, "overloaded_error"),
        (Kind::Vault, "vault_tampered", 503, "api_error"),
        (Kind::Usage, "method_not_allowed", 405, "invalid_request_error"),
        (Kind::Defect, "defect", 500, "api_error"),
    ] {
        let failure = Failure::new(kind, code, "why");
        let body = said(Dialect::OpenAiChat, status, &failure).await;
        assert_eq!(body["error"]["code"], json!(format!("orch_{code}")));
        let body = said(Dialect::AnthropicMessages, status, &failure).await;
        assert_eq!(body["error"]["type"], anthropic);
    }
}

#[tokio::test]
async fn without_its_vault_only_what_is_open_and_on_record_goes_on() {
    let stage = Stage::with_vault(&["openai"]).await;
    assert_eq!(stage.post(CHAT, &ask("gpt-4o-mini")).await.status, StatusCode::OK);
    let broken = stage.keeper().with("default", |_| -> Result<(), Failure> { panic!("a defect") }).await;
    assert!(broken.is_err());
    assert_eq!(stage.post(CHAT, &ask("gpt-4o-mini")).await.status, StatusCode::OK);
    assert_eq!(stage.booked().len(), 2);

    let as_client = |workspace: &str, token: &str| {
        let client = caller(workspace, token);
        let body = orch_proxy::full(ask("gpt-4o-mini").to_string());
        (client, Request::post(CHAT).body(body).expect("a request"))
    };
    let (other, request) = as_client("default", "tok_2");
    let answer = stage.llm.answer(&other, &stage.says(), None, request).await.expect("answered");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "its use is not on record");
    let booked = stage.booked();
    assert!(booked.iter().all(|(_, receipt)| receipt.attempts.is_empty()), "nobody was asked: {booked:?}");

    let (other, request) = as_client("other", "tok_1");
    let failure =
        stage.llm.answer(&other, &stage.says(), None, request).await.map(|_| ()).expect_err("not readable");
    assert_eq!(failure.kind(), Kind::Vault);
    stage.end().await;
}

#[test]
fn the_catalog_s_models_of_these_tests_exist() {
    let catalog = Catalog::builtin();
    for model in ["gpt-4o-mini", "claude-sonnet-4-6"] {
        assert!(catalog.providers().any(|provider| provider.model(model).is_some()), "{model}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_clients_on_one_budget_never_go_over_and_none_is_stuck() {
    let (mut stage, store, _metrics, folder) = Stage::simulated(&Limits::default()).await;
    let config = "budgets: { team: { window: day, tokens: 3000, cost_usd: 0.01 } }";
    let config = crate::config::Config::parse(config, "config.yaml", folder.path()).expect("a configuration");
    let instance = crate::store::Instance::claim(folder.path()).expect("an instance");
    let budgets = Budgets::new(store.clone(), &instance, Arc::new(config));
    stage.llm = stage.llm.paid_from(&budgets);
    let stage = Arc::new(stage);
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..50_u64 {
        let stage = Arc::clone(&stage);
        clients.spawn(async move {
            let mut body = ask("gpt-4o-mini");
            body["max_tokens"] = json!(100);
            body["stream"] = json!(n % 2 == 0);
            let call = stage.post(CHAT, &body);
            // Every fifth hangs up on the way.
            match n % 5 {
                0 => drop(tokio::time::timeout(Duration::from_millis(n), call).await),
                _ => {
                    let answer =
                        tokio::time::timeout(Duration::from_secs(60), call).await.expect("an answer");
                    let refused = answer.status == StatusCode::TOO_MANY_REQUESTS;
                    if refused {
                        let error = &answer.json()["error"];
                        assert_eq!(error["code"], "orch_budget_reached", "{error}");
                        let limit = &error["orch"]["limit"];
                        assert_eq!(
                            (&limit["budget"], limit["renews_at"].is_string()),
                            (&json!("team"), true)
                        );
                    }
                    assert!(refused || answer.status == StatusCode::OK, "{}", answer.text);
                }
            }
        });
    }
    clients.join_all().await;
    store.flush().await.expect("stored");
    let team = &budgets.shown("default").await.expect("readable")[0];
    let used = team["used"]["tokens"].as_u64().expect("a number");
    assert!(0 < used && used <= 3_000, "{team}");
    assert_eq!(team["held"]["tokens"], 0, "nothing stays held: {team}");
    Arc::into_inner(stage).expect("everybody is done").end().await;
}
