//! What the tests of this crate stand on: a run's surroundings, on simulated providers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use orch_gateway::Session;
use orch_gateway::simulate::Scenario;
use orch_manifests::{Digest, Format, Limits, Manifest, Routes, RunId};
use orch_proxy::LiveGrant;
use orch_runner::{Door, Refusal, RefusalCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::door::{Admission, Beyond, Router};
use crate::keys::KeyQuestion;
use crate::limits::RunLimits;
use crate::policy::{self, Terms, Wants};
use crate::routing::Routing;
use crate::run::{LimitRequest, RunRequest};
use crate::thinking::{Thinking, WantedModels};
use crate::upstream::Upstream;

/// An agent with one model, which may ask one provider only.
pub(crate) const ONE_MODEL: &str = "supported_providers: [openai]\nllm: { primary: gpt-4o-mini }\n";

/// An agent whose manifest goes on like this.
pub(crate) fn agent(rest: &str) -> Agent {
    let text = format!("name: acme/x\nversion: 1.2.3\nmodule: x.wasm\n{rest}");
    let manifest = Manifest::parse(&text, Format::Yaml, "orch.yaml").expect("a manifest");
    let (text, format) = (text.into(), Format::Yaml);
    Agent { manifest, text, format, module: Bytes::new(), digest: Digest::of(b"x"), bare: false }
}

/// One admitted run, before its guest does anything.
pub(crate) struct Stage {
    pub(crate) run: RunId,
    pub(crate) router: Arc<Router>,
    pub(crate) grant: Arc<LiveGrant>,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) limits: RunLimits,
    /// What stands in the guest's `OPENAI_API_KEY`.
    pub(crate) placeholder: String,
    pub(crate) admission: Option<Admission>,
    token: String,
    upstream: Upstream,
}

/// What the guest's HTTP library gets.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Set when it is an error of the library and no response.
    pub(crate) refusal: Option<RefusalCode>,
    pub(crate) body: Value,
}

impl Stage {
    pub(crate) async fn new(scenario: &str, manifest: &str) -> Self {
        let upstream =
            Upstream::simulated(Scenario::named(scenario).expect("a scenario")).await.expect("a simulation");
        let catalog = Arc::clone(&upstream.catalog);
        let request = RunRequest::new(agent(manifest));
        let manifest = &request.agent.manifest;
        let run = RunId::random();
        let wanted = WantedModels::of(&request, &catalog, &Routes::none()).expect("models");
        let question = KeyQuestion {
            run: &run,
            manifest,
            bare: false,
            wanted: wanted.providers(),
            searched: &[],
            flags: &[],
            secret_grants: &[],
            names_prove: true,
            lends: false,
        };
        let keys = question.simulated(&upstream.simulated_keys(wanted.providers())).expect("keys");
        let thinking = Thinking::plan(manifest, &wanted, &keys, false, Routing::default()).expect("a plan");
        let limits =
            RunLimits::of(LimitRequest::default(), &manifest.limits, &Limits::default(), &Limits::default());
        let issued = policy::issue(&keys, &catalog);
        let expires = Instant::now() + Duration::from_secs(60);
        let terms = Terms {
            run: &run,
            workspace: "default",
            keys: &keys,
            account: &[],
            issued: &issued,
            catalog: &catalog,
            limits: &limits,
            trials: [None, None],
            expires,
        };
        let wants = Wants::of(&request.agent, &[], &request.granted).expect("wants");
        let server_tools = wants.server_tools();
        let rules = wants.granted(&upstream);
        let router = Arc::new(Router::new());
        let (token, grant) = router.grants().mint(policy::grant(&terms, rules));
        let session =
            thinking.session(&grant, &limits, expires, server_tools, crate::thinking::Watched::default());
        let beyond = Beyond {
            proxy: Arc::clone(&upstream.proxy),
            gateway: Arc::clone(&upstream.gateway),
            session: session.clone(),
            recorder: None,
        };
        let admission = Some(router.admit(run.clone(), beyond));
        let placeholder = issued.iter().find(|issued| issued.name == "OPENAI_API_KEY");
        let placeholder = placeholder.map(|issued| issued.placeholder.to_string()).unwrap_or_default();
        let token = token.reveal();
        Self { run, router, grant, session, limits, placeholder, admission, token, upstream }
    }

    /// A request of the guest.
    pub(crate) async fn send(&self, method: &str, uri: &str, body: &str) -> Answer {
        self.send_with(&self.token, method, uri, body).await
    }

    pub(crate) async fn send_with(&self, token: &str, method: &str, uri: &str, body: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.placeholder))
            .body(orch_runner::full(Bytes::from(body.to_owned())))
            .expect("a request");
        let response = self.router.request(token, request).await;
        let refusal = response.extensions().get::<Refusal>().map(|refusal| refusal.0);
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
        Answer { status, refusal, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    /// A model call through the gateway.
    pub(crate) async fn think(&self) -> Answer {
        self.send("POST", "http://llm.orch.internal/v1/chat/completions", &question()).await
    }

    pub(crate) async fn end(self) {
        drop(self.admission);
        self.upstream.shutdown().await;
    }
}

/// A model call's body, in the OpenAI dialect.
pub(crate) fn question() -> String {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "Agents want keys. Keys stay out." }] })
        .to_string()
}
