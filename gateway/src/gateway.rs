//! The gateway itself.

use std::sync::Arc;

use http::{HeaderMap, Method, Response, StatusCode};
use orch_manifests::{Catalog, Dialect, Provider};
use orch_proxy::{Body, Proxy};

use crate::dialect::{self, RequestError, bedrock, gemini};
use crate::ir::{ApiError, Class};
use crate::route::{Timing, json_reply};
use crate::serve::spoken_by;

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

/// A request that cannot be understood, in the client's words.
pub(crate) fn bad_request(spoken: Dialect, error: &RequestError) -> Response<Body> {
    let param = Some(error.path.clone()).filter(|path| !path.is_empty());
    error_reply(spoken, &ApiError { param, ..ApiError::new(Class::BadRequest, error.to_string()) })
}

/// The dialect of a path that [`Gateway::serve`] answers at; `None` for every other path. Where several dialects share
/// a path, the client's headers tell. All of `/v1beta` is Gemini's and every operation of a model
/// below `/model` Bedrock's, also what is not offered there.
#[must_use]
pub fn spoken_at(path: &str, headers: &HeaderMap) -> Option<Dialect> {
    match path {
        "/v1/chat/completions" => Some(Dialect::OpenAiChat),
        "/v1/responses" => Some(Dialect::OpenAiResponses),
        "/v1/messages" => Some(Dialect::AnthropicMessages),
        "/v2/chat" => Some(Dialect::CohereChat),
        "/api/chat" | "/api/tags" => Some(Dialect::OllamaChat),
        "/v1/models" => Some(spoken_by(headers)),
        path if path.starts_with("/v1beta/") => Some(Dialect::GeminiGenerateContent),
        path if bedrock::path::operation(path).is_some() => Some(Dialect::BedrockConverse),
        // Below /v1, a colon may as well be part of a model's name.
        path => {
            let called = gemini::path::method(path).and_then(|method| method.stream());
            called.map(|_| Dialect::GeminiGenerateContent)
        }
    }
}

/// An error in a dialect.
pub fn error_reply(spoken: Dialect, error: &ApiError) -> Response<Body> {
    let (status, body) = dialect::wire(spoken).write_error(error);
    json_reply(status, body.into(), None)
}
