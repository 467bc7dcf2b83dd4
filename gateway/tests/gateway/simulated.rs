//! The gateway against the simulated provider: over TLS, by the providers' own names, and judged by a server that
//! was written from the documentation and not from this crate's dialects.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Request;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use orch_gateway::simulate::{Scenario, Served, Simulation};
use orch_gateway::{Budget, Gateway, Outcome, Session, Timing, Wishes, plan};
use orch_manifests::{Catalog, HostName, Llm, RunId, Slug, Supported};
use orch_proxy::{
    AuthorizeError, Credential, DnsError, Grant, Grants, Proxy, ProxyConfig, Resolve, Scrubber, Use, full,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::world::Answer;

struct SimulatedKey(String, String);

impl Credential for SimulatedKey {
    fn id(&self) -> &str {
        &self.0
    }
    fn source(&self) -> &'static str {
        "simulated"
    }
    fn authorize(
        &self,
        parts: &mut http::request::Parts,
        _: Option<&[u8; 32]>,
        _: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        let (name, value) = match self.0.as_str() {
            "anthropic" => (HeaderName::from_static("x-api-key"), self.1.clone()),
            "gemini" => (HeaderName::from_static("x-goog-api-key"), self.1.clone()),
            _ => (AUTHORIZATION, format!("Bearer {}", self.1)),
        };
        parts.headers.insert(name, HeaderValue::from_str(&value).unwrap());
        Ok(self.scrubber())
    }
    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        Scrubber::new(self.1.as_bytes()).map(Arc::new)
    }
}

struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<std::net::IpAddr>, DnsError>> {
        async { Err(DnsError::NotFound) }.boxed()
    }
}

struct Simulated {
    gateway: Gateway,
    session: Session,
    _simulation: Simulation,
    _grants: Grants,
}

impl Simulated {
    async fn start(scenario: Scenario, models: &[&str]) -> Simulated {
        Self::with(scenario, models, Budget::new(Some(1_000_000), Some(1_000_000))).await
    }

    async fn with(scenario: Scenario, models: &[&str], budget: Arc<Budget>) -> Simulated {
        let catalog = Catalog::builtin();
        let served = catalog.providers().filter(|p| !p.local_only).map(Served::from).collect();
        let simulation = Simulation::start(scenario, served).await.unwrap();
        let config = ProxyConfig {
            connect_to: simulation.connect_to(),
            extra_roots: vec![simulation.ca()],
            ..ProxyConfig::default()
        };
        let proxy = Proxy::new(config, Arc::new(NoNames)).unwrap();
        let keys = |slug: &Slug| {
            let key = simulation.key_for(slug.as_str()).into_iter();
            key.map(|key| Arc::new(SimulatedKey(slug.to_string(), key.to_owned())) as Arc<dyn Credential>)
                .collect()
        };
        let mut names = models.iter().map(|name| name.parse().unwrap());
        let llm = Llm::new(names.next().unwrap(), names.collect());
        let wishes = Wishes {
            llm: Some(&llm),
            supported: &Supported::Any,
            catalog: &catalog,
            keys: &keys,
            routes: &orch_manifests::Routes::none(),
            provider: None,
            model: None,
            prefer: None,
            local: false,
        };
        let plan = Arc::new(plan(&wishes).unwrap());
        let grants = Grants::new();
        let expires = Instant::now() + Duration::from_secs(60);
        let (_, grant) = grants.mint(Grant {
            run: RunId::random(),
            workspace: "default".into(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            limits: orch_proxy::Limits::of(100, 10),
            expires,
        });
        let session = Session::new(grant, plan, expires, budget);
        let timing = Timing { backoff: Duration::from_millis(1), ..Timing::default() };
        let gateway = Gateway::with_timing(proxy, Arc::new(catalog), timing);
        Simulated { gateway, session, _simulation: simulation, _grants: grants }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).body(full(body.to_string())).unwrap();
        Answer::read(self.gateway.serve(&self.session, request).await).await
    }
}

const MODELS: &[&str] =
    &["gpt-4o-mini", "openai-responses/gpt-4o-mini", "claude-3-haiku", "gemini-2.5-flash"];

/// The sign-ins of other tools: at a host of its own, at Anthropic's beside its keys, and in an envelope. Their prices are
/// not known, so that a cap on money refuses them.
const SIGN_INS: &[&str] =
    &["qwen-code/qwen3-coder-plus", "claude-code/claude-sonnet-4-5", "gemini-cli/gemini-2.5-pro"];

const TEXT: &str = "Rivers carry water to the sea. They are fed by rain. Rain falls on the mountains.";

fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "temperature": 0, "messages": [
        {"role": "system", "content": "Summarise the text in one sentence."}, {"role": "user", "content": TEXT}]})
}

fn message(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "max_tokens": 200, "system": "Summarise the text in one sentence.",
        "messages": [{"role": "user", "content": TEXT}]})
}

fn generate(model: &str, stream: bool) -> (String, Value) {
    let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    let body = json!({"systemInstruction": {"parts": [{"text": "Summarise the text in one sentence."}]},
        "contents": [{"role": "user", "parts": [{"text": TEXT}]}], "generationConfig": {"maxOutputTokens": 200}});
    (format!("/v1beta/models/{model}:{method}"), body)
}

fn respond(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "max_output_tokens": 200, "input": TEXT,
        "instructions": "Summarise the text in one sentence."})
}

#[tokio::test]
async fn every_model_answers_clients_of_every_dialect() {
    let world = Simulated::start(Scenario::ok(), MODELS).await;
    answers_in_every_dialect(&world, MODELS).await;
}

#[tokio::test]
async fn the_sign_ins_of_other_tools_answer_as_well() {
    let world = Simulated::with(Scenario::ok(), SIGN_INS, Budget::new(Some(1_000_000), None)).await;
    answers_in_every_dialect(&world, SIGN_INS).await;
    let served: Vec<String> =
        world.session.receipts.all().iter().filter_map(|receipt| receipt.model_served.clone()).collect();
    assert!(served.iter().any(|model| model == "gemini-2.5-pro"), "{served:?}");
}

async fn answers_in_every_dialect(world: &Simulated, models: &[&str]) {
    for model in models {
        let said = world.post("/v1/chat/completions", &chat(model, false)).await.said();
        assert!(
            TEXT.split(". ").any(|sentence| said.contains(sentence.trim_end_matches('.'))),
            "{model}: {said}"
        );
        let answer = world.post("/v1/messages", &message(model, false)).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(answer.json()["stop_reason"], "end_turn");
        let answer = world.post("/v1/chat/completions", &chat(model, true)).await;
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{model}: {}", answer.text());
        let answer = world.post("/v1/messages", &message(model, true)).await;
        assert!(answer.text().contains("event: message_stop\n"), "{model}: {}", answer.text());
        let answer = world.post("/v1/responses", &respond(model, false)).await;
        assert_eq!(
            answer.json().pointer("/output/0/content/0/text"),
            Some(&json!(said)),
            "{}",
            answer.text()
        );
        let answer = world.post("/v1/responses", &respond(model, true)).await;
        let last = answer.text().trim_end().rsplit("data: ").next().unwrap();
        let last: Value = serde_json::from_str(last).unwrap();
        assert_eq!(last["type"], "response.completed", "{model}: {}", answer.text());
        assert_eq!(last.pointer("/response/output/0/content/0/text"), Some(&json!(said)), "{last}");
        let (path, body) = generate(model, false);
        let answer = world.post(&path, &body).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(answer.json().pointer("/candidates/0/content/parts/0/text").unwrap(), &json!(said));
        let (path, body) = generate(model, true);
        let answer = world.post(&path, &body).await;
        assert!(answer.text().contains("\"finishReason\":\"STOP\""), "{model}: {}", answer.text());
    }
    let receipts = world.session.receipts.all();
    assert_eq!(receipts.len(), 8 * models.len());
    for receipt in receipts {
        assert!(receipt.outcome == Outcome::Served && receipt.simulated && !receipt.estimated, "{receipt:?}");
        assert!(receipt.input_tokens > 0 && receipt.output_tokens > 0, "{receipt:?}");
    }
}

#[tokio::test]
async fn a_tool_turn_goes_there_and_back_in_both_dialects() {
    let world = Simulated::start(Scenario::ok(), MODELS).await;
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let ask = "What is the weather in Bern?";
    for model in MODELS {
        let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]);
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": ask}],
            "tools": tools, "tool_choice": "required"});
        let answer = world.post("/v1/chat/completions", &body).await.json();
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{model}: {answer}");
        let call = &choice["message"]["tool_calls"][0];
        let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["city"].is_string(), "{model}: {answer}");
        body["messages"] = json!([{"role": "user", "content": ask}, choice["message"],
            {"role": "tool", "tool_call_id": call["id"], "content": "rain"}]);
        body["tool_choice"] = json!("auto");
        let answer = world.post("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());

        let tools = json!([{"name": "weather", "input_schema": schema}]);
        let mut body = json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": ask}],
            "tools": tools, "tool_choice": {"type": "any"}});
        let answer = world.post("/v1/messages", &body).await.json();
        assert_eq!(answer["stop_reason"], "tool_use", "{model}: {answer}");
        let blocks = answer["content"].as_array().unwrap();
        let call = blocks.iter().find(|block| block["type"] == "tool_use").unwrap();
        body["messages"] = json!([{"role": "user", "content": ask}, {"role": "assistant", "content": blocks},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "rain"}]}]);
        body["tool_choice"] = json!({"type": "auto"});
        let answer = world.post("/v1/messages", &body).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());

        let tools = json!([{"type": "function", "name": "weather", "parameters": schema}]);
        let mut body = json!({"model": model, "input": [{"role": "user", "content": ask}], "tools": tools,
            "tool_choice": {"type": "function", "name": "weather"}});
        let answer = world.post("/v1/responses", &body).await.json();
        let output = answer["output"].as_array().unwrap();
        let call = output.iter().find(|item| item["type"] == "function_call");
        let call = call.unwrap_or_else(|| panic!("{model}: {answer}"));
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["city"].is_string(), "{model}: {answer}");
        let mut input = vec![json!({"role": "user", "content": ask})];
        input.extend(output.iter().cloned());
        input.push(json!({"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}));
        body["input"] = json!(input);
        body["tool_choice"] = json!("auto");
        let answer = world.post("/v1/responses", &body).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
    }
}

#[tokio::test]
async fn every_scenario_leads_to_another_model_or_to_a_clear_end() {
    for name in ["rate-limit", "server-error", "out-of-money", "bad-key", "cut"] {
        let scenario = Scenario::named(name).unwrap_or_else(|| panic!("no scenario {name}"));
        let world = Simulated::start(scenario, MODELS).await;
        for stream in [false, true] {
            let answer = world.post("/v1/chat/completions", &chat("", stream)).await;
            let receipt = world.session.receipts.all().pop().unwrap();
            let complete = match stream {
                true => answer.text().ends_with("data: [DONE]\n\n"),
                false => answer.status == 200,
            };
            assert_eq!(complete, receipt.outcome == Outcome::Served, "{name}, stream {stream}: {receipt:?}");
            let told = answer.text().contains("\"error\"");
            assert!(complete || told, "{name}, stream {stream}: {}", answer.text());
        }
    }
}
