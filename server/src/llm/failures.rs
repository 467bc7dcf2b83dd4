//! Failures of the server in the dialect of the client.

use http::{Response, StatusCode};
use orch_gateway::error_reply;
use orch_gateway::ir::{ApiError, Class};
use orch_manifests::Dialect;
use orch_proxy::Body;

use crate::failure::{Failure, Kind};

/// Answers a request to one of the gateway's paths with a failure of the server, of authentication for example, and
/// the status that it has elsewhere.
#[must_use]
pub(crate) fn refuse(spoken: Dialect, status: StatusCode, failure: &Failure) -> Response<Body> {
    let class = class(status, failure.kind());
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

fn class(status: StatusCode, kind: Kind) -> Class {
    match status {
        StatusCode::UNAUTHORIZED => Class::BadKey,
        StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY => Class::NoAccess,
        StatusCode::TOO_MANY_REQUESTS => Class::RateLimited,
        StatusCode::REQUEST_TIMEOUT => Class::Timeout,
        StatusCode::SERVICE_UNAVAILABLE if kind == Kind::Server => Class::Overloaded,
        status if status.is_client_error() => Class::BadRequest,
        _ => Class::Server,
    }
}
