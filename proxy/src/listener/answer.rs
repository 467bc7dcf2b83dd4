//! What a client reads when its request was not carried out.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::{Body, EgressError, Reason, Refusal};

/// The client did not show who it is.
pub(crate) fn not_authenticated() -> Response<Body> {
    let next = ["send `Proxy-Authorization: Basic base64(CLIENT:TOKEN)`, as clients do for HTTP_PROXY=http://CLIENT:TOKEN@ADDRESS".to_owned()];
    let refusal = Refusal {
        kind: "bad_request",
        code: "proxy_authentication_required",
        host: "",
        message: "the proxy wants to know who asks",
        rule_missing: None,
        next_steps: &next,
    };
    let mut response = refusal.response(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    let challenge = HeaderValue::from_static("Basic realm=\"orch\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::PROXY_AUTHENTICATE, challenge);
    response
}

/// The client has as many connections as it may have.
pub(crate) fn too_many_connections() -> Response<Body> {
    let refusal = Refusal {
        kind: "egress_denied",
        code: "too_many_connections",
        host: "",
        message: "this client has as many connections as it may have",
        rule_missing: None,
        next_steps: &["close connections that are idle, or try again later".to_owned()],
    };
    closing(refusal.response(StatusCode::SERVICE_UNAVAILABLE))
}

/// The request makes no sense, or was refused before policy looked at it.
pub(crate) fn refused(reason: &Reason, host: &str) -> Response<Body> {
    let status = match reason.code {
        "headers_too_large" => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "url_too_long" => StatusCode::URI_TOO_LONG,
        "version_refused" => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "loop_detected" => StatusCode::LOOP_DETECTED,
        "malformed_request" | "framing_refused" | "authority_conflict" | "target_refused" => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::FORBIDDEN,
    };
    let kind = if status == StatusCode::FORBIDDEN { "egress_denied" } else { "bad_request" };
    let next = to_allow(reason);
    let rule_missing = reason.rule_missing.as_deref().map(|missing| json!(missing));
    Refusal { kind, code: reason.code, host, message: &reason.text, rule_missing, next_steps: &next }
        .response(status)
}

/// Who would have to say what.
fn to_allow(reason: &Reason) -> Vec<String> {
    let step = |line: &String| format!("whoever runs the proxy adds to `egress` in its manifest: {line}");
    reason.next.iter().map(step).collect()
}

/// The request got no response, or its tunnel was not opened.
pub(crate) fn failed(error: &EgressError, host: &str) -> Response<Body> {
    let (kind, status) = match error {
        EgressError::Refused(reason) => return refused(reason, host),
        EgressError::Address { .. } | EgressError::Ended(_) | EgressError::Withdrawn { .. } => {
            ("egress_denied", StatusCode::FORBIDDEN)
        }
        EgressError::Limit { .. } => ("egress_denied", StatusCode::TOO_MANY_REQUESTS),
        EgressError::Timeout(_) => ("egress_failed", StatusCode::GATEWAY_TIMEOUT),
        EgressError::Body(_) => ("bad_request", StatusCode::BAD_REQUEST),
        EgressError::Dns { .. }
        | EgressError::Connect { .. }
        | EgressError::UpstreamProxy { .. }
        | EgressError::Tls { .. }
        | EgressError::Protocol { .. }
        | EgressError::Authorize { .. } => ("egress_failed", StatusCode::BAD_GATEWAY),
    };
    let message = error.to_string();
    Refusal { kind, code: error.code(), host, message: &message, rule_missing: None, next_steps: &[] }
        .response(status)
}

/// The same response, and nothing after it on this connection.
pub(crate) fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
