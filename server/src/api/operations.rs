//! Who asks, and how the server is.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use orch_proxy::{Body, full};
use serde_json::json;

use super::call::Call;
use super::table::Action;
use super::{Inner, reply};
use crate::failure::Failure;

/// `GET /healthz` and `GET /readyz`, which anybody may ask.
pub(super) fn open(api: &Inner, action: Action) -> Response<Body> {
    if action == Action::Ready && api.service.is_draining() {
        return reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "draining" }));
    }
    reply::ok(&json!({ "status": "ok" }))
}

/// `GET /v1/whoami`.
pub(super) fn who_am_i(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&json!({
        "workspace": *call.caller.workspace,
        "name": *call.caller.name,
        "scopes": call.caller.scopes.words().collect::<Vec<_>>(),
        "expires": reply::time_or_null(call.caller.expires),
        "server": { "version": env!("CARGO_PKG_VERSION") },
    })))
}

/// `GET /metrics`.
pub(super) fn metrics(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let text = call.api.metrics.text(call.service().gauges())?;
    let mut response = Response::new(full(text));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
