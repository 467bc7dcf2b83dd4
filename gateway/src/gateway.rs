//! The gateway itself.

use std::sync::Arc;

use http::header::UPGRADE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use orch_manifests::{Catalog, Dialect, Provider};
use orch_proxy::{Body, Proxy};

use crate::dialect::{self, RequestError, bedrock, gemini};
use crate::ir::{ApiError, Class};
use crate::listener::Heard;
use crate::receipt::{Outcome, Receipt, Refused};
use crate::request_id::RequestId;
use crate::route::{RECEIPT_HEADER, Timing, json_reply};
use crate::session::Session;
use crate::shown::shown;

/// Answers LLM calls of runs. It opens no connection: everything goes through the proxy, with a credential
/// reference that the proxy turns into a header.
pub struct Gateway {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) timing: Timing,
}

impl Gateway {
    /// A gateway with the default timing.
    pub fn new(proxy: Arc<Proxy>, catalog: Arc<Catalog>) -> Gateway {
        Gateway::with_timing(proxy, catalog, Timing::default())
    }

    /// A gateway with another timing.
    pub fn with_timing(proxy: Arc<Proxy>, catalog: Arc<Catalog>, timing: Timing) -> Gateway {
        Gateway { proxy, catalog, timing }
    }

    /// The provider whose public host this is, where guests may address it.
    #[must_use]
    pub fn provider_at(&self, host: &str) -> Option<&Provider> {
        self.catalog.providers().find(|provider| {
            provider.public_host().is_some_and(|public| public.as_str().eq_ignore_ascii_case(host))
        })
    }
}

/// Refuses a WebSocket, which OpenAI offers for its responses: clients that try it first ask over HTTP when they hear 426.
pub(crate) fn check_upgrade(spoken: Dialect, headers: &HeaderMap) -> Result<(), Box<Response<Body>>> {
    // An offer of another version of HTTP may be passed over.
    let wanted = headers.get(UPGRADE).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !wanted {
        return Ok(());
    }
    let error = ApiError {
        status: Some(StatusCode::UPGRADE_REQUIRED.as_u16()),
        ..ApiError::new(
            Class::BadRequest,
            "WebSockets are not offered here; ask by POST, with \"stream\": true for a stream",
        )
    };
    let mut response = error_reply(spoken, &error);
    // RFC 9110, section 15.5.22: what is spoken here.
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
    Err(Box::new(response))
}

/// Refuses every method but `wanted`.
pub(crate) fn check_method(
    spoken: Dialect,
    method: &Method,
    wanted: &Method,
) -> Result<(), Box<Response<Body>>> {
    if method == wanted {
        return Ok(());
    }
    let error = ApiError {
        status: Some(StatusCode::METHOD_NOT_ALLOWED.as_u16()),
        ..ApiError::new(Class::BadRequest, format!("{method} is not allowed here; use {wanted}"))
    };
    Err(Box::new(error_reply(spoken, &error)))
}

/// The path of a field as far as it is kept: some of it is the client's own words.
fn named(mut field: String) -> String {
    const KEPT: usize = 128;
    if let Some((end, _)) = field.char_indices().nth(KEPT) {
        field.truncate(end);
    }
    shown(&field, None)
}

/// A request that cannot be understood, in the client's words.
pub(crate) fn bad_request(spoken: Dialect, error: &RequestError) -> Response<Body> {
    let param = Some(error.path.clone()).filter(|path| !path.is_empty());
    error_reply(spoken, &ApiError { param, ..ApiError::new(Class::BadRequest, error.to_string()) })
}

/// Whose client a request is from, in the extensions of a request whose headers no longer say so: a server takes the
/// token out, which Google's clients are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOf(pub Dialect);

impl ClientOf {
    /// The client of these headers. Anthropic's always send their version, Google's their key in a header of its own,
    /// Cohere's the name of their library; everyone else expects OpenAI's form.
    #[must_use]
    pub fn headers(headers: &HeaderMap) -> ClientOf {
        ClientOf(if headers.contains_key("anthropic-version") {
            Dialect::AnthropicMessages
        } else if headers.contains_key("x-goog-api-key") {
            Dialect::GeminiGenerateContent
        } else if headers.get("x-fern-sdk-name").is_some_and(|name| name.as_bytes().starts_with(b"cohere")) {
            Dialect::CohereChat
        } else {
            Dialect::OpenAiChat
        })
    }

    /// The client of a request: as its extensions say, or its headers.
    pub(crate) fn request(parts: &Parts) -> ClientOf {
        parts.extensions.get().copied().unwrap_or_else(|| ClientOf::headers(&parts.headers))
    }
}

/// The dialect of a path that [`Gateway::serve`] answers at; `None` for every other path. Where several dialects share
/// a path, the client tells. All of `/v1beta` is Gemini's and every operation of a model
/// below `/model` Bedrock's, also what is not offered there.
#[must_use]
pub fn spoken_at(path: &str, client: ClientOf) -> Option<Dialect> {
    match path {
        "/v1/chat/completions" | "/v1/embeddings" => Some(Dialect::OpenAiChat),
        "/v1/responses" => Some(Dialect::OpenAiResponses),
        "/v1/messages" => Some(Dialect::AnthropicMessages),
        "/v2/chat" | "/v2/embed" => Some(Dialect::CohereChat),
        "/api/chat" | "/api/embed" | "/api/tags" => Some(Dialect::OllamaChat),
        "/v1/models" => Some(client.0),
        path if path.starts_with("/v1beta/") => Some(Dialect::GeminiGenerateContent),
        path if bedrock::path::operation(path).is_some() => Some(Dialect::BedrockConverse),
        // Below /v1, a colon may as well be part of a model's name.
        path => match gemini::path::method(path).and_then(|method| method.manner()) {
            Some(_) => Some(Dialect::GeminiGenerateContent),
            None => path.starts_with("/v1/models/").then_some(client.0),
        },
    }
}

/// The dialect in which whoever asks at a path expects errors: that of [`spoken_at`], or of the provider that has such
/// paths, whether or not anything answers there. `None` for paths of no provider.
#[must_use]
pub fn family_at(path: &str, client: ClientOf) -> Option<Dialect> {
    let below =
        |root: &&str| path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let family = || FAMILIES.iter().find(|(_, roots)| roots.iter().any(below));
    spoken_at(path, client).or_else(|| family().map(|(dialect, _)| *dialect))
}

/// Paths of providers' APIs, and all that is below them.
const FAMILIES: &[(Dialect, &[&str])] = &[
    (
        Dialect::OpenAiChat,
        &[
            "/v1/assistants",
            "/v1/audio",
            "/v1/batches",
            "/v1/chat",
            "/v1/completions",
            "/v1/conversations",
            "/v1/embeddings",
            "/v1/files",
            "/v1/fine_tuning",
            "/v1/images",
            "/v1/models",
            "/v1/moderations",
            "/v1/realtime",
            "/v1/threads",
            "/v1/uploads",
            "/v1/vector_stores",
            "/v1/videos",
        ],
    ),
    (Dialect::OpenAiResponses, &["/v1/responses"]),
    (Dialect::AnthropicMessages, &["/v1/messages", "/v1/complete"]),
    (
        Dialect::GeminiGenerateContent,
        &[
            "/v1beta",
            "/v1alpha",
            "/v1/cachedContents",
            "/v1/interactions",
            "/v1/operations",
            "/v1/tunedModels",
        ],
    ),
    (
        Dialect::CohereChat,
        &["/v2/chat", "/v2/embed", "/v2/rerank", "/v1/rerank", "/v1/tokenize", "/v1/detokenize"],
    ),
    (Dialect::BedrockConverse, &["/model"]),
    (Dialect::OllamaChat, OLLAMA_PATHS),
];

/// Ollama's own paths, which begin as others do that were moved below `/api`.
pub const OLLAMA_PATHS: &[&str] = &[
    "/api/blobs",
    "/api/chat",
    "/api/copy",
    "/api/create",
    "/api/delete",
    "/api/embed",
    "/api/embeddings",
    "/api/generate",
    "/api/ps",
    "/api/pull",
    "/api/push",
    "/api/show",
    "/api/tags",
    "/api/version",
];

/// An error in a dialect.
pub fn error_reply(spoken: Dialect, error: &ApiError) -> Response<Body> {
    let (status, body) = dialect::wire(spoken).write_error(error);
    let mut response = json_reply(status, body.into(), None);
    // For the receipt, where it ends a call.
    response.extensions_mut().insert(error.clone());
    response
}

/// What is known of a call before any candidate is looked for.
#[derive(Default)]
pub(crate) struct Begun {
    /// Whether it is a call of a model at all.
    pub(crate) is_call: bool,
    pub(crate) provider: String,
    pub(crate) model: String,
}

impl Gateway {
    /// The answer to a request, with the request's name; what was refused before any candidate was looked for leaves a
    /// receipt, too.
    pub(crate) fn named(
        session: &Session,
        id: &RequestId,
        begun: Begun,
        answered: Result<Response<Body>, Box<Response<Body>>>,
    ) -> Response<Body> {
        let mut response = answered.unwrap_or_else(|refused| {
            let mut response = *refused;
            let error = response.extensions_mut().remove::<ApiError>().filter(|_| begun.is_call);
            if let Some(error) = error {
                let Begun { provider, model, .. } = begun;
                let receipt = Receipt {
                    request_id: id.as_str().to_owned(),
                    provider_asked: provider,
                    model_asked: shown(&model, None),
                    outcome: Outcome::Rejected,
                    class: Some(error.class),
                    refused: Some(Refused {
                        class: error.class,
                        code: error.code,
                        field: error.param.map(named),
                    }),
                    ..Receipt::default()
                };
                if let Ok(value) = HeaderValue::from_str(&receipt.compact()) {
                    response.headers_mut().insert(RECEIPT_HEADER, value);
                }
                if let Some(listener) = session.listener.as_deref() {
                    Heard::by(listener).refused(&receipt);
                }
                session.receipts.record_refused(receipt);
            }
            response
        });
        id.seal(response.headers_mut());
        response
    }
}
