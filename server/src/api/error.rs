//! A failure as a response.

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use orch_gateway::RequestId;
use orch_proxy::{Body, full};
use serde_json::{Value, json};

use crate::failure::{Failure, Kind};

/// The detail of a failure that says, in seconds, when to try again.
pub(super) const RETRY_AFTER_DETAIL: &str = "retry_after";

/// The status of a response that says this.
pub(super) fn status(failure: &Failure) -> StatusCode {
    match (failure.kind(), failure.code()) {
        (
            Kind::Usage,
            "agent_not_found" | "run_not_found" | "version_not_found" | "secret_missing" | "grant_missing"
            | "token_not_found" | "request_not_found" | "not_found",
        ) => StatusCode::NOT_FOUND,
        (Kind::Usage, "version_exists" | "secret_exists" | "vault_conflict" | "conflict") => {
            StatusCode::CONFLICT
        }
        (Kind::Usage, "body_too_large" | "field_too_large" | "module_too_large") => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        (Kind::Usage, "media_type") => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        (Kind::Usage, "method_not_allowed") => StatusCode::METHOD_NOT_ALLOWED,
        (Kind::Usage, _) => StatusCode::BAD_REQUEST,
        (Kind::NoKey, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (Kind::Denied, _) => StatusCode::FORBIDDEN,
        (Kind::Server, "not_authenticated") => StatusCode::UNAUTHORIZED,
        (Kind::Server, "forbidden" | "keys_need_tls") => StatusCode::FORBIDDEN,
        (Kind::Server, "host_unknown") => StatusCode::MISDIRECTED_REQUEST,
        (Kind::Server, "rate_limited") => StatusCode::TOO_MANY_REQUESTS,
        (Kind::Server, "request_timeout") => StatusCode::REQUEST_TIMEOUT,
        (Kind::Server, "head_too_large") => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        (Kind::Server | Kind::Vault, _) => StatusCode::SERVICE_UNAVAILABLE,
        // These belong to the end of a run, and are no answer to a request.
        (Kind::Agent | Kind::Providers | Kind::Limit | Kind::Interrupted | Kind::Defect, _) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The response that says this, in the API's own words.
pub(super) fn response(failure: &Failure, request: &RequestId) -> Response<Body> {
    let mut json = failure.to_json();
    json["exit_code"] = json!(failure.kind().exit_code());
    json["request_id"] = json!(request.as_str());
    let mut response = Response::new(full(json.to_string()));
    *response.status_mut() = status(failure);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    advise(failure, response.headers_mut());
    response
}

/// What HTTP has fields for: when to try again, how to say who one is, what a path takes.
pub(super) fn advise(failure: &Failure, headers: &mut HeaderMap) {
    let said = failure.details().get(RETRY_AFTER_DETAIL).and_then(Value::as_u64);
    let later = match failure.code() {
        "shutting_down" => Some(5),
        "queue_full" | "busy" | "store_busy" => Some(1),
        _ => None,
    };
    if let Some(seconds) = said.or(later) {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if failure.code() == "not_authenticated" {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(allowed) = failure.details().get("allowed").and_then(Value::as_array)
        && failure.code() == "method_not_allowed"
    {
        let methods: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
            headers.insert(ALLOW, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_the_status_of_the_contract() {
        for (kind, code, expected) in [
            (Kind::Usage, "input_mismatch", 400),
            (Kind::Usage, "agent_not_found", 404),
            (Kind::Usage, "run_not_found", 404),
            (Kind::Usage, "version_not_found", 404),
            (Kind::Usage, "secret_missing", 404),
            (Kind::Usage, "grant_missing", 404),
            (Kind::Usage, "token_not_found", 404),
            (Kind::Usage, "request_not_found", 404),
            (Kind::Usage, "not_found", 404),
            (Kind::Usage, "version_exists", 409),
            (Kind::Usage, "secret_exists", 409),
            (Kind::Usage, "conflict", 409),
            (Kind::Usage, "body_too_large", 413),
            (Kind::Usage, "field_too_large", 413),
            (Kind::Usage, "module_too_large", 413),
            (Kind::Usage, "media_type", 415),
            (Kind::Usage, "method_not_allowed", 405),
            (Kind::NoKey, "no_key", 422),
            (Kind::NoKey, "secret_missing", 422),
            (Kind::Denied, "not_granted", 403),
            (Kind::Vault, "vault_locked", 503),
            (Kind::Server, "not_authenticated", 401),
            (Kind::Server, "forbidden", 403),
            (Kind::Server, "host_unknown", 421),
            (Kind::Server, "rate_limited", 429),
            (Kind::Server, "queue_full", 503),
            (Kind::Server, "shutting_down", 503),
            (Kind::Server, "request_timeout", 408),
            (Kind::Server, "head_too_large", 431),
            (Kind::Server, "store_unusable", 503),
            (Kind::Defect, "defect", 500),
        ] {
            assert_eq!(status(&Failure::new(kind, code, "")).as_u16(), expected, "{kind:?} {code}");
        }
    }

    #[test]
    fn advice_is_in_the_head_as_well() {
        let headers = |failure: &Failure| response(failure, &RequestId::random()).headers().clone();
        let limited = Failure::new(Kind::Server, "rate_limited", "").detail(RETRY_AFTER_DETAIL, 7);
        assert_eq!(headers(&limited)[RETRY_AFTER], "7");
        assert_eq!(headers(&Failure::new(Kind::Server, "queue_full", ""))[RETRY_AFTER], "1");
        assert!(!headers(&Failure::usage("bad_json", "")).contains_key(RETRY_AFTER));
        assert_eq!(headers(&Failure::new(Kind::Server, "not_authenticated", ""))[WWW_AUTHENTICATE], "Bearer");
        let method = Failure::usage("method_not_allowed", "").detail("allowed", vec!["GET", "PUT"]);
        assert_eq!(headers(&method)[ALLOW], "GET, PUT");
    }
}
