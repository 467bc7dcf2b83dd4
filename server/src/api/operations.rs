//! Who asks, and how the server is.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use orch_proxy::{Body, full};
use serde_json::json;

use super::call::Call;
use super::table::Action;
use super::{Inner, reply};
use crate::failure::Failure;

/// `GET /healthz` and `GET /readyz`, which anybody may ask: the reason is a code, and no more.
pub(super) fn open(api: &Inner, action: Action) -> Response<Body> {
    let unready = match action {
        Action::Ready => api.service.readiness().err(),
        _ => None,
    };
    let Some(failure) = unready else { return reply::ok(&json!({ "status": "ok" })) };
    let status = if failure.code() == "shutting_down" { "draining" } else { "failed" };
    reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": status, "code": failure.code() }))
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

/// `POST /v1/reload`: the configuration is read again, as on SIGHUP.
pub(super) fn reload(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let reloaded = call.service().reload()?;
    Ok(reply::ok(&json!({
        "changed": reloaded.changed,
        "on_restart": reloaded.on_restart,
        "rules_taken_back": reloaded.rules_taken_back,
    })))
}

/// `GET /metrics`.
pub(super) fn metrics(call: &Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let keys = call.service().routings().set_back(std::time::SystemTime::now());
    let text = call.api.metrics.text(call.service().gauges(), &keys)?;
    let mut response = Response::new(full(text));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
