//! Failures of the server in the dialect of the client.

use http::{Response, StatusCode};
use orch_gateway::error_reply;
use orch_gateway::ir::{ApiError, Class};
use orch_manifests::Dialect;
use orch_proxy::Body;

use crate::failure::{Failure, Kind};

/// Answers a request to one of the gateway's paths with a failure: of authentication, for example, before the gateway
/// ever saw it.
#[must_use]
pub fn refuse(spoken: Dialect, failure: &Failure) -> Response<Body> {
    let (class, status) = meaning(failure);
    let mut message = failure.message().to_owned();
    for hint in failure.hints() {
        message.push_str("; ");
        message.push_str(hint);
    }
    // Clients look for their provider's own word when a key is refused.
    let code = (class != Class::BadKey).then(|| format!("orch_{}", failure.code()));
    let error = ApiError { status: Some(status.as_u16()), code, ..ApiError::new(class, message) };
    error_reply(spoken, &error)
}

fn meaning(failure: &Failure) -> (Class, StatusCode) {
    match (failure.kind(), failure.code()) {
        (_, "not_authenticated") => (Class::BadKey, StatusCode::UNAUTHORIZED),
        (_, "rate_limited") => (Class::RateLimited, StatusCode::TOO_MANY_REQUESTS),
        (_, "queue_full" | "shutting_down") => (Class::Overloaded, StatusCode::SERVICE_UNAVAILABLE),
        (_, "request_timeout") => (Class::Timeout, StatusCode::REQUEST_TIMEOUT),
        (_, "body_too_large") => (Class::BadRequest, StatusCode::PAYLOAD_TOO_LARGE),
        (_, "media_type") => (Class::BadRequest, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (_, "method_not_allowed") => (Class::BadRequest, StatusCode::METHOD_NOT_ALLOWED),
        (_, "host_unknown") => (Class::BadRequest, StatusCode::MISDIRECTED_REQUEST),
        (Kind::Usage, _) => (Class::BadRequest, StatusCode::BAD_REQUEST),
        (Kind::NoKey, _) => (Class::NoAccess, StatusCode::UNPROCESSABLE_ENTITY),
        (Kind::Denied | Kind::Server, _) => (Class::NoAccess, StatusCode::FORBIDDEN),
        (Kind::Vault, _) => (Class::Server, StatusCode::SERVICE_UNAVAILABLE),
        _ => (Class::Server, StatusCode::INTERNAL_SERVER_ERROR),
    }
}
