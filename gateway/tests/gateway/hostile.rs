//! Providers that misbehave, in every dialect, whole and streamed, through the real gateway and proxy over TLS.
//!
//! A row is what such a provider does, and what has to come of it: the answer as the provider meant it, a failure of exactly
//! one class, or a stream that ends with an error of one. Never a status of 500, never an answer that lacks a part of the
//! text, never the key anywhere else, and all of it in bounded time; what it may cost in memory is in `tests/memory.rs`.

#[path = "hostile/content.rs"]
mod content;
#[path = "hostile/http2.rs"]
mod http2;
#[path = "hostile/server.rs"]
mod server;
#[path = "hostile/speech.rs"]
pub(crate) mod speech;
#[path = "hostile/transport.rs"]
mod transport;
#[path = "hostile/usage.rs"]
mod usage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, future::BoxFuture};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use orch_gateway::dialect::wire;
use orch_gateway::ir::{Class, Part, StreamEvent};
use orch_gateway::{Budget, Gateway, Outcome, Receipt, Session, Timing, Wishes, plan};
use orch_manifests::{
    Catalog, Dialect, HostName, Llm, OperatorProvider, Routes, RunId, ServerTools, Slug, Supported,
};
use orch_proxy::{
    AuthorizeError, Credential, DnsError, Grant, Grants, Proxy, ProxyConfig, Resolve, Scrubber, Use, full,
};
use tokio::time::Instant;

use server::{OLLAMA, Play, Server};
use speech::Speech;

pub(crate) const KEY: &str = "sk-hostile-0123456789abcdefghijklmnopqrstuvwxyz";

/// How long things may take.
#[derive(Clone, Copy)]
struct Patience {
    /// Until an event has to come.
    idle: Duration,
    /// Until it has to say something.
    silent: Duration,
    /// Until all has to be over.
    deadline: Duration,
}

/// Where time is what runs out.
const LITTLE: Patience = Patience {
    idle: Duration::from_millis(250),
    silent: Duration::from_millis(600),
    deadline: Duration::from_millis(1500),
};

/// Where it must not, on however slow a machine.
const MUCH: Patience = Patience {
    idle: Duration::from_secs(60),
    silent: Duration::from_secs(60),
    deadline: Duration::from_secs(90),
};

/// What has to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The answer, with all of its text and one end.
    Right,
    /// No answer, because of failures of this class.
    Failed(Class),
    /// Part of a stream, and an error of this class.
    Broken(Class),
}

/// Something that a provider does.
struct Row {
    name: &'static str,
    /// `None` where it cannot be done.
    play: fn(&Speech, bool) -> Option<Play>,
    then: fn(Dialect, bool) -> Then,
}

struct Key;

impl Credential for Key {
    fn id(&self) -> &'static str {
        "HOSTILE_KEY"
    }
    fn source(&self) -> &'static str {
        "env"
    }
    fn authorize(
        &self,
        parts: &mut http::request::Parts,
        _: Option<&[u8; 32]>,
        _: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        let host = parts.uri.host().unwrap_or_default();
        let (name, value) = match host {
            "api.anthropic.com" => (HeaderName::from_static("x-api-key"), KEY.to_owned()),
            "generativelanguage.googleapis.com" => {
                (HeaderName::from_static("x-goog-api-key"), KEY.to_owned())
            }
            _ => (AUTHORIZATION, format!("Bearer {KEY}")),
        };
        parts.headers.insert(name, HeaderValue::from_str(&value).unwrap());
        Ok(self.scrubber())
    }
    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        Scrubber::new(KEY.as_bytes()).map(Arc::new)
    }
}

struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<std::net::IpAddr>, DnsError>> {
        async { Err(DnsError::NotFound) }.boxed()
    }
}

/// A run with one model, whose provider speaks this dialect and is that server.
pub(crate) struct Victim {
    gateway: Gateway,
    pub(crate) session: Session,
    _grants: Grants,
}

impl Victim {
    fn new(spoken: Dialect, server: &Server, patience: Patience) -> Victim {
        let host: HostName = speech::host(spoken).parse().unwrap();
        let config = ProxyConfig {
            connect_to: vec![((host, 443), server.address)],
            extra_roots: vec![Server::ca()],
            ..ProxyConfig::default()
        };
        let ollama = pinned("ollama", Some(Dialect::OllamaChat), &format!("https://{OLLAMA}"));
        Victim::of(speech::model(spoken), config, ollama, patience)
    }

    /// The same in the clear and with time, for what is not about connections.
    pub(crate) fn in_the_clear(spoken: Dialect, address: SocketAddr) -> Victim {
        let slug = match spoken {
            Dialect::OpenAiChat | Dialect::OpenAiResponses => "openai",
            Dialect::AnthropicMessages => "anthropic",
            Dialect::GeminiGenerateContent => "gemini",
            Dialect::BedrockConverse => "aws",
            Dialect::CohereChat => "cohere",
            Dialect::OllamaChat => "ollama",
        };
        let named = (spoken == Dialect::OllamaChat).then_some(spoken);
        Victim::of_provider(slug, named, speech::model(spoken), address)
    }

    /// The same of any provider.
    pub(crate) fn of_provider(
        slug: &str,
        named: Option<Dialect>,
        model: &str,
        address: SocketAddr,
    ) -> Victim {
        let pinned = pinned(slug, named, &format!("http://{address}"));
        Victim::of(model, ProxyConfig::default(), pinned, MUCH)
    }

    fn of(model: &str, config: ProxyConfig, pinned: OperatorProvider, patience: Patience) -> Victim {
        let Patience { idle, silent, deadline } = patience;
        let catalog = Catalog::builtin().with_operator(vec![pinned]).unwrap();
        let proxy = Proxy::new(config, Arc::new(NoNames)).unwrap();
        let llm = Llm::new(model.parse().unwrap(), Vec::new());
        let keys = |_: &Slug| vec![Arc::new(Key) as Arc<dyn Credential>];
        let routes = Routes::none();
        let wishes = Wishes {
            llm: Some(&llm),
            supported: &Supported::Any,
            catalog: &catalog,
            keys: &keys,
            routes: &routes,
            provider: None,
            model: None,
            prefer: None,
            local: false,
        };
        let plan = Arc::new(plan(&wishes).unwrap());
        let grants = Grants::new();
        let (_, grant) = grants.mint(Grant {
            run: RunId::random(),
            workspace: "default".into(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            limits: orch_proxy::Limits::of(1 << 30, 100),
            expires: Instant::now() + Duration::from_secs(600),
        });
        // Some providers search by themselves.
        let session = Session::new(grant, plan, Instant::now() + deadline, Budget::new(None, None))
            .with_server_tools(ServerTools::ALL);
        let timing = Timing {
            attempt: deadline,
            idle,
            silent,
            backoff: Duration::from_millis(1),
            ..Timing::default()
        };
        let gateway = Gateway::with_timing(proxy, Arc::new(catalog), timing);
        Victim { gateway, session, _grants: grants }
    }

    /// What a client of a dialect hears: status, body, and the receipt.
    pub(crate) async fn hears(
        &self,
        client: Dialect,
        model: &str,
        stream: bool,
    ) -> (StatusCode, Vec<u8>, Receipt) {
        let (path, body) = speech::ask(client, model, stream);
        let request = Request::post(path).body(full(body.to_string())).unwrap();
        let response = self.gateway.serve(&self.session, request).await;
        let status = response.status();
        let body = response.into_body().collect().await.expect("the gateway's bodies do not break");
        let receipt = self.session.receipts.all().pop().expect("a receipt");
        (status, body.to_bytes().to_vec(), receipt)
    }
}

fn pinned(slug: &str, dialect: Option<Dialect>, base_url: &str) -> OperatorProvider {
    OperatorProvider {
        slug: slug.parse().unwrap(),
        dialect,
        base_url: Some(base_url.parse().unwrap()),
        env: Vec::new(),
        models: Vec::new(),
        free: false,
        prices: std::collections::BTreeMap::new(),
    }
}

/// What came of it, as the client and the receipt have it; `Err` says what is wrong whatever was expected.
fn judged(
    speech: &Speech,
    client: Dialect,
    stream: bool,
    (status, body, receipt): (StatusCode, Vec<u8>, Receipt),
) -> Result<Then, String> {
    let text = String::from_utf8_lossy(&body);
    if text.contains(KEY) {
        return Err("the key came through".to_owned());
    }
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        return Err(format!("a status of 500: {text}"));
    }
    let classes: Vec<Class> = receipt.attempts.iter().filter_map(|attempt| attempt.class).collect();
    if !status.is_success() {
        let class = *classes.first().ok_or_else(|| format!("{status} without an attempt: {text}"))?;
        let failed = matches!(receipt.outcome, Outcome::AllFailed | Outcome::Rejected);
        if !failed || classes.iter().any(|other| *other != class) {
            return Err(format!("{status}, {:?}, {classes:?}: {text}", receipt.outcome));
        }
        // An error in the client's dialect.
        serde_json::from_slice::<serde_json::Value>(&body).map_err(|e| format!("{e}: {text}"))?;
        return Ok(Then::Failed(class));
    }
    if !stream {
        let answer = wire(client).parse_response(&body).map_err(|e| format!("{e}: {text}"))?;
        let said: String = answer
            .content
            .iter()
            .filter_map(|part| match part {
                Part::Text { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let whole = said == speech.text && receipt.outcome == Outcome::Served;
        return if whole { Ok(Then::Right) } else { Err(format!("{:?}: {said:?}: {text}", receipt.outcome)) };
    }
    let frames = speech::frames(wire(client).framing(), &body);
    let (said, ends) = speech::said(client, &frames);
    match (receipt.outcome, ends.as_slice()) {
        (Outcome::Served, [StreamEvent::End]) if said == speech.streamed => Ok(Then::Right),
        (Outcome::Broken, [StreamEvent::Error(error)]) => {
            Ok(Then::Broken(told(&body).unwrap_or(error.class)))
        }
        (outcome, ends) => Err(format!("{outcome:?}, {ends:?}, {said:?}: {text}")),
    }
}

/// The class that an error tells beside the dialect's own words, which are fewer in some.
pub(crate) fn told(body: &[u8]) -> Option<Class> {
    let text = String::from_utf8_lossy(body);
    let name = text.rsplit("\"class\":").next().filter(|rest| rest.len() < text.len())?;
    serde_json::from_str(&format!("\"{}\"", name.split('"').nth(1)?)).ok()
}

/// A dialect that clients of this provider may have beside its own, and that has to be translated.
fn another(spoken: Dialect) -> Dialect {
    let at = Dialect::ALL.iter().position(|dialect| *dialect == spoken).unwrap();
    // OpenAI itself speaks both of its dialects.
    let next = if spoken == Dialect::OpenAiChat { at + 2 } else { at + 1 };
    Dialect::ALL[next % Dialect::ALL.len()]
}

/// Every row in every dialect, whole and streamed, for a client of the same dialect and one of another.
async fn every(patience: Patience, rows: &[Row]) {
    let mut cases = Vec::new();
    for row in rows {
        for spoken in Dialect::ALL {
            for stream in [false, true] {
                for client in [spoken, another(spoken)] {
                    cases.push((row, spoken, stream, client));
                }
            }
        }
    }
    let count = cases.len();
    let wrong: Vec<String> = stream::iter(cases)
        .map(|(row, spoken, stream, client)| async move {
            let speech = Speech::new(spoken);
            let play = (row.play)(&speech, stream)?;
            let server = Server::start(play).await;
            let victim = Victim::new(spoken, &server, patience);
            let began = Instant::now();
            let heard = victim.hears(client, speech::model(spoken), stream);
            let bound = patience.deadline + Duration::from_secs(30);
            let judged = match tokio::time::timeout(bound, heard).await {
                Err(_) => Err(format!("still not over after {bound:?}")),
                Ok(heard) => judged(&speech, client, stream, heard),
            };
            let wanted = (row.then)(spoken, stream);
            let kind = if stream { "streamed" } else { "whole" };
            (judged != Ok(wanted)).then(|| {
                format!(
                    "{}, {spoken} {kind} to {client}: {judged:?} and not {wanted:?} ({:?})",
                    row.name,
                    began.elapsed()
                )
            })
        })
        .buffer_unordered(8)
        .filter_map(|wrong| async move { wrong })
        .collect()
        .await;
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
