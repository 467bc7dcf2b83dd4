//! A run with a gateway, a real proxy, and two providers pinned to loopback.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use orch_gateway::{Budget, Gateway, Plan, Receipt, Session, Timing, Wishes, plan};
use orch_manifests::{
    Catalog, Dialect, HostName, Llm, OperatorProvider, Route, Routes, RunId, ServerTools, Slug, Supported,
};
use orch_proxy::{
    AuthorizeError, Binding, Body, Credential, DnsError, Grant, Grants, LiveGrant, Place, Placeholder, Proxy,
    ProxyConfig, Resolve, Scrubber, Use, full,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::upstream::Upstream;

pub(crate) const OPENAI_KEY: &str = "sk-openai-0123456789abcdefghijklmnop";
pub(crate) const GEMINI_KEY: &str = "AIza0123456789abcdefghijklmnopqrstuvwxy";
pub(crate) const ANTHROPIC_KEY: &str = "sk-ant-0123456789abcdefghijklmnopqrst";

pub(crate) const COHERE_KEY: &str = "c0here0123456789abcdefghijklmnopqrstuvwx";
pub(crate) const AWS_KEY: &str = "ABSK0123456789abcdefghijklmnopqrstuvwxyz";
const KEYS: [&str; 5] = [OPENAI_KEY, ANTHROPIC_KEY, GEMINI_KEY, COHERE_KEY, AWS_KEY];

struct Key {
    id: String,
    header: HeaderName,
    value: String,
    secret: String,
    /// Where it is the vault's.
    version: Option<u64>,
}

impl Key {
    /// The key of OpenAI with this number, the first of which is 1.
    fn openai(number: usize, version: Option<u64>) -> Arc<dyn Credential> {
        let id = if number == 1 { "OPENAI_API_KEY".to_owned() } else { format!("OPENAI_API_KEY_{number}") };
        let secret = openai_key(number);
        Arc::new(Key { id, header: AUTHORIZATION, value: format!("Bearer {secret}"), secret, version })
    }
}

/// The value of the key of OpenAI with this number.
pub(crate) fn openai_key(number: usize) -> String {
    if number == 1 { OPENAI_KEY.to_owned() } else { format!("{OPENAI_KEY}-{number}") }
}

impl Credential for Key {
    fn id(&self) -> &str {
        &self.id
    }
    fn source(&self) -> &str {
        if self.version.is_some() { "vault" } else { "env" }
    }
    fn version(&self) -> Option<u64> {
        self.version
    }
    fn authorize(
        &self,
        parts: &mut http::request::Parts,
        _: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        assert!(matches!(how, Use::Own { .. }), "the gateway builds its requests itself");
        parts.headers.insert(self.header.clone(), HeaderValue::from_str(&self.value).unwrap());
        Ok(self.scrubber())
    }
    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        Scrubber::new(self.secret.as_bytes()).map(Arc::new)
    }
}

struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<std::net::IpAddr>, DnsError>> {
        async { Err(DnsError::NotFound) }.boxed()
    }
}

/// How a world differs from the usual one.
pub(crate) struct Setup {
    pub(crate) models: &'static [&'static str],
    pub(crate) timing: Timing,
    pub(crate) deadline: Duration,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) max_micro_usd: Option<u64>,
    pub(crate) requests: u64,
    pub(crate) server_tools: bool,
    /// How many keys of OpenAI there are.
    pub(crate) openai_keys: usize,
    /// Of the vault's keys.
    pub(crate) version: Option<u64>,
    /// Names of routes, and each as YAML.
    pub(crate) routes: &'static [(&'static str, &'static str)],
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            models: &["gpt-4o-mini", "claude-3-haiku"],
            timing: Timing { backoff: Duration::from_millis(1), ..Timing::default() },
            deadline: Duration::from_secs(60),
            max_tokens: None,
            max_micro_usd: None,
            requests: 1000,
            server_tools: false,
            openai_keys: 1,
            version: None,
            routes: &[],
        }
    }
}

pub(crate) struct World {
    pub(crate) openai: Upstream,
    pub(crate) anthropic: Upstream,
    pub(crate) gemini: Upstream,
    pub(crate) cohere: Upstream,
    pub(crate) aws: Upstream,
    /// Spoken to in its own dialect.
    pub(crate) ollama: Upstream,
    pub(crate) gateway: Gateway,
    pub(crate) session: Session,
    pub(crate) live: Arc<LiveGrant>,
    pub(crate) placeholder: Placeholder,
    /// What stands for Anthropic's key.
    pub(crate) anthropic_placeholder: Placeholder,
    _grants: Grants,
}

pub(crate) async fn world() -> World {
    World::new(Setup::default()).await
}

impl World {
    pub(crate) async fn new(setup: Setup) -> World {
        let (openai, anthropic) = (Upstream::start().await, Upstream::start().await);
        let (gemini, cohere) = (Upstream::start().await, Upstream::start().await);
        let (ollama, aws) = (Upstream::start().await, Upstream::start().await);
        let pin = |slug: &str, upstream: &Upstream| OperatorProvider {
            slug: slug.parse().unwrap(),
            dialect: None,
            base_url: Some(format!("http://{}", upstream.address).parse().unwrap()),
            env: Vec::new(),
            models: Vec::new(),
            free: false,
            prices: std::collections::BTreeMap::new(),
        };
        let catalog = Catalog::builtin()
            .with_operator(vec![
                pin("openai", &openai),
                pin("anthropic", &anthropic),
                pin("gemini", &gemini),
                pin("cohere", &cohere),
                pin("aws", &aws),
                OperatorProvider { dialect: Some(Dialect::OllamaChat), ..pin("ollama", &ollama) },
            ])
            .unwrap();
        let proxy = Proxy::new(ProxyConfig::default(), Arc::new(NoNames)).unwrap();
        let openai_keys: Vec<_> =
            (1..=setup.openai_keys).map(|number| Key::openai(number, setup.version)).collect();
        let key = |id: &str, header, secret: &str| -> Arc<dyn Credential> {
            let (header, value) = (HeaderName::from_static(header), secret.to_owned());
            Arc::new(Key { id: id.into(), header, secret: value.clone(), value, version: setup.version })
        };
        let bearer = |id: &str, secret: &str| -> Arc<dyn Credential> {
            let (value, secret) = (format!("Bearer {secret}"), secret.to_owned());
            Arc::new(Key { id: id.into(), header: AUTHORIZATION, value, secret, version: setup.version })
        };
        let anthropic_key = key("ANTHROPIC_API_KEY", "x-api-key", ANTHROPIC_KEY);
        let gemini_key = key("GEMINI_API_KEY", "x-goog-api-key", GEMINI_KEY);
        let cohere_key = bearer("COHERE_API_KEY", COHERE_KEY);
        let aws_key = bearer("AWS_BEARER_TOKEN_BEDROCK", AWS_KEY);
        let about_aws = setup.models.iter().any(|model| model.starts_with("aws/"));
        let about_cohere = setup.models.iter().any(|model| model.starts_with("command"));
        let mut routes = Routes::none();
        for (name, route) in setup.routes {
            let route: Route = serde_yaml::from_str(route).unwrap_or_else(|e| panic!("{e}: {route}"));
            let route = Route { by_operator: true, ..route };
            routes.add(name.parse().unwrap(), route, &catalog).unwrap();
        }
        // Only runs that are about it have a key of this provider.
        let about_gemini = setup.models.iter().any(|model| model.starts_with("gemini"));
        let (main_key, main_place) = match about_gemini {
            true => (&gemini_key, HeaderName::from_static("x-goog-api-key")),
            false => (&openai_keys[0], AUTHORIZATION),
        };
        let (placeholder, anthropic_placeholder) = (Placeholder::random(), Placeholder::random());
        let binding = |placeholder: &Placeholder, credential: &Arc<dyn Credential>, header| Binding {
            placeholder: placeholder.clone(),
            credential: Arc::clone(credential),
            targets: Vec::new(),
            place: Place::Header(header),
        };
        let grants = Grants::new();
        let (_, live) = grants.mint(Grant {
            run: RunId::random(),
            workspace: "default".into(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: vec![
                binding(&placeholder, main_key, main_place),
                binding(&anthropic_placeholder, &anthropic_key, HeaderName::from_static("x-api-key")),
            ],
            limits: orch_proxy::Limits::of(setup.requests, 200),
            expires: Instant::now() + Duration::from_secs(3600),
        });
        let mut names = setup.models.iter().map(|name| name.parse().unwrap());
        let llm = Llm::new(names.next().unwrap(), names.collect());
        let keys = |slug: &Slug| match slug.as_str() {
            "openai" => openai_keys.clone(),
            "anthropic" => vec![Arc::clone(&anthropic_key)],
            "gemini" if about_gemini => vec![Arc::clone(&gemini_key)],
            "cohere" if about_cohere => vec![Arc::clone(&cohere_key)],
            "aws" if about_aws => vec![Arc::clone(&aws_key)],
            _ => Vec::new(),
        };
        let plan: Plan = plan(&Wishes {
            llm: Some(&llm),
            supported: &Supported::Any,
            catalog: &catalog,
            keys: &keys,
            routes: &routes,
            provider: None,
            model: None,
            prefer: None,
            local: false,
        })
        .unwrap();
        let budget = Budget::new(setup.max_tokens, setup.max_micro_usd);
        let deadline = Instant::now() + setup.deadline;
        let session = Session::new(Arc::clone(&live), Arc::new(plan), deadline, budget)
            .with_server_tools(if setup.server_tools { ServerTools::ALL } else { ServerTools::NONE })
            .with_routes(Arc::new(routes));
        let gateway = Gateway::with_timing(proxy, Arc::new(catalog), setup.timing);
        World {
            openai,
            anthropic,
            gemini,
            cohere,
            aws,
            ollama,
            gateway,
            session,
            live,
            placeholder,
            anthropic_placeholder,
            _grants: grants,
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body).await
    }

    pub(crate) async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        Answer::read(self.open(path, headers, body).await).await
    }

    /// The response with its body unread.
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response<Body> {
        let mut request = Request::post(path).body(full(body.to_string())).unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        self.gateway.serve(&self.session, request).await
    }

    pub(crate) async fn chat(&self, body: &Value) -> Answer {
        self.post("/v1/chat/completions", body).await
    }

    /// The receipt of the last call, as JSON that must hold no key.
    pub(crate) fn receipt(&self) -> Receipt {
        let receipt = self.session.receipts.all().pop().expect("the call left a receipt");
        let json = serde_json::to_string(&receipt).unwrap();
        assert!(!KEYS.iter().any(|key| json.contains(key)), "{json}");
        receipt
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn read(response: Response<Body>) -> Answer {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("the gateway's bodies do not break").to_bytes();
        for key in KEYS {
            assert!(!body.windows(key.len()).any(|window| window == key.as_bytes()), "a key came through");
        }
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// What a completion says.
    pub(crate) fn said(&self) -> String {
        self.json()
            .pointer("/choices/0/message/content")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }
}

pub(crate) fn hello() -> Value {
    json!({"model": "", "messages": [{"role": "user", "content": "hello"}]})
}

pub(crate) fn hello_stream() -> Value {
    json!({"stream": true, "messages": [{"role": "user", "content": "hello"}]})
}
