//! The simulation as its clients see it: over TLS on loopback, with a client that knows nothing of its insides.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::*;

mod anthropic;
mod bedrock;
mod cohere;
mod gateway;
mod gemini;
mod ollama;
mod openai;
mod responses;
mod scenarios;
mod transport;

const OPENAI: &str = "api.openai.com";
const ANTHROPIC: &str = "api.anthropic.com";
const GOOGLE: &str = "generativelanguage.googleapis.com";
const BEDROCK: &str = "bedrock-runtime.us-east-1.amazonaws.com";
const CONVERSE: &str = "/model/*/converse";
const CONVERSE_STREAM: &str = "/model/*/converse-stream";
const GENERATE: &str = "/v1beta/models/*:generateContent";
const GENERATE_STREAM: &str = "/v1beta/models/*:streamGenerateContent";
/// A host that speaks responses and nothing else, so that tests can name it as they name the others.
const RESPONSES: &str = "responses.example.org";
const RESPOND: &str = "/v1/responses";
const COHERE: &str = "api.cohere.com";
const CHAT_V2: &str = "/v2/chat";
const LLAMA: &str = "llama.example";
const NATIVE: &str = "/api/chat";
const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

fn served(provider: &str, host: &str, key: KeyPlace, path: &str, wire: Wire) -> Served {
    Served {
        provider: provider.to_owned(),
        host: host.to_owned(),
        port: 443,
        https: true,
        key,
        inference: vec![(path.to_owned(), wire)],
        models: vec!["model-a".to_owned(), "model-b".to_owned()],
    }
}

fn providers() -> Vec<Served> {
    let ollama = served("ollama", "localhost", KeyPlace::None, CHAT, Wire::OpenAiChat);
    let key = KeyPlace::Header(http::HeaderName::from_static("x-goog-api-key"));
    let mut gemini = served("gemini", GOOGLE, key, GENERATE, Wire::GeminiGenerateContent);
    gemini.inference.push((GENERATE_STREAM.to_owned(), Wire::GeminiGenerateContent));
    let mut openai = served("openai", OPENAI, KeyPlace::Bearer, CHAT, Wire::OpenAiChat);
    openai.inference.push((RESPOND.to_owned(), Wire::OpenAiResponses));
    let mut bedrock = served("aws", BEDROCK, KeyPlace::Bearer, CONVERSE, Wire::BedrockConverse);
    bedrock.inference.push((CONVERSE_STREAM.to_owned(), Wire::BedrockConverse));
    bedrock.inference.push(("/model/*/invoke".to_owned(), Wire::BedrockEmbeddings));
    vec![
        openai,
        served("responses", RESPONSES, KeyPlace::Bearer, RESPOND, Wire::OpenAiResponses),
        served(
            "anthropic",
            ANTHROPIC,
            KeyPlace::Header(http::HeaderName::from_static("x-api-key")),
            MESSAGES,
            Wire::AnthropicMessages,
        ),
        gemini,
        bedrock,
        served("cohere", COHERE, KeyPlace::Bearer, CHAT_V2, Wire::CohereChat),
        served("llama", LLAMA, KeyPlace::Bearer, NATIVE, Wire::OllamaChat),
        Served { port: 11434, https: false, ..ollama },
    ]
}

async fn start(scenario: Scenario) -> Simulation {
    Simulation::start(scenario, providers()).await.unwrap()
}

async fn named(name: &str) -> Simulation {
    start(Scenario::named(name).unwrap()).await
}

/// One HTTP/1.1 connection, TLS to `host` unless the port is Ollama's.
struct Connection {
    send: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Connection {
    async fn open(simulation: &Simulation, host: &str) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(simulation.addr()).await?;
        let mut driver = JoinSet::new();
        let send = if host == "localhost" {
            let (send, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            driver.spawn(async move { drop(connection.await) });
            send
        } else {
            let name = ServerName::try_from(host.to_owned()).unwrap();
            let stream = TlsConnector::from(trusting(simulation)).connect(name, stream).await?;
            let (send, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            driver.spawn(async move { drop(connection.await) });
            send
        };
        Ok(Connection { send, _driver: driver })
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Got, hyper::Error> {
        let response = self.send.send_request(request).await?;
        let (parts, mut body) = response.into_parts();
        let mut got = Got { status: parts.status, headers: parts.headers, body: Vec::new(), complete: true };
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => got.body.extend_from_slice(frame.data_ref().unwrap()),
                Err(_) => got.complete = false,
            }
        }
        Ok(got)
    }
}

fn trusting(simulation: &Simulation) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(simulation.ca()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// What came back. A body that the connection's end cut short is not `complete`.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    complete: bool,
}

impl Got {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The event names and data of a stream; every event has to end with a blank line.
    fn events(&self) -> Vec<(Option<String>, String)> {
        assert!(self.header("content-type").unwrap().starts_with("text/event-stream"));
        let (whole, rest) = self.text().rsplit_once("\n\n").unwrap();
        assert_eq!(rest, "");
        let event = |block: &str| {
            let name = block.lines().find_map(|line| line.strip_prefix("event: ")).map(str::to_owned);
            (name, block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned())
        };
        whole.split("\n\n").map(event).collect()
    }

    /// The data of all events but `[DONE]`, as JSON.
    fn chunks(&self) -> Vec<Value> {
        let events = self.events().into_iter();
        events
            .filter(|(_, data)| data != "[DONE]")
            .map(|(_, data)| serde_json::from_str(&data).unwrap())
            .collect()
    }
}

/// A request to a provider with its key of this simulation.
fn request(simulation: &Simulation, host: &str, body: &Value) -> Request<Full<Bytes>> {
    // What stands in Gemini's and Bedrock's paths: tests have it in the body, where the others have it.
    let mut body = body.clone();
    let mut path_with_model = String::new();
    if let Some((whole, streams)) = in_path(host) {
        let fields = body.as_object_mut().unwrap();
        let model = fields.remove("model").unwrap_or_else(|| "model-a".into());
        let stream = fields.remove("stream").is_some_and(|stream| stream == true);
        path_with_model = if stream { streams } else { whole }.replace('*', model.as_str().unwrap());
    }
    let (provider, path) = match host {
        OPENAI => ("openai", CHAT),
        RESPONSES => ("responses", RESPOND),
        ANTHROPIC => ("anthropic", MESSAGES),
        GOOGLE => ("gemini", path_with_model.as_str()),
        BEDROCK => ("aws", path_with_model.as_str()),
        COHERE => ("cohere", CHAT_V2),
        LLAMA => ("llama", NATIVE),
        "localhost" => ("ollama", CHAT),
        other => panic!("{other} is no provider"),
    };
    let mut builder = Request::builder().method(Method::POST).uri(path);
    builder = match (host, simulation.key_for(provider)) {
        (ANTHROPIC, Some(key)) => builder.header("x-api-key", key).header("anthropic-version", "2023-06-01"),
        (GOOGLE, Some(key)) => builder.header("x-goog-api-key", key),
        (_, Some(key)) => builder.header("authorization", format!("Bearer {key}")),
        (_, None) => builder,
    };
    let authority = if host == "localhost" { "localhost:11434" } else { host };
    let body = Full::new(Bytes::from(body.to_string()));
    builder.header("host", authority).header("content-type", "application/json").body(body).unwrap()
}

/// The paths that name the model, for whole answers and for streams.
fn in_path(host: &str) -> Option<(&'static str, &'static str)> {
    match host {
        GOOGLE => Some((GENERATE, "/v1beta/models/*:streamGenerateContent?alt=sse")),
        BEDROCK => Some((CONVERSE, CONVERSE_STREAM)),
        _ => None,
    }
}

/// One request on a connection of its own.
async fn post(simulation: &Simulation, host: &str, body: &Value) -> Got {
    let mut connection = Connection::open(simulation, host).await.unwrap();
    connection.exchange(request(simulation, host, body)).await.unwrap()
}

/// A minimal request in the dialect of `host`.
fn hello(host: &str) -> Value {
    with_text(
        host,
        "Summarise in two sentences: Boats carry fish to town. The town eats fish. Rain falls on boats.",
    )
}

fn with_text(host: &str, text: &str) -> Value {
    if host == GOOGLE {
        return serde_json::json!({"model": "model-a", "contents": [{"role": "user", "parts": [{"text": text}]}]});
    }
    if host == RESPONSES {
        return serde_json::json!({"model": "model-a", "input": text});
    }
    if host == BEDROCK {
        return serde_json::json!({"model": "model-a", "messages": [{"role": "user", "content": [{"text": text}]}]});
    }
    let mut body = serde_json::json!({"model": "model-a", "messages": [{"role": "user", "content": text}]});
    if host == ANTHROPIC {
        body["max_tokens"] = 500.into();
    }
    if host == LLAMA {
        body["stream"] = false.into();
    }
    body
}

fn set(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}
