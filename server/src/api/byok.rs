//! `/v1/byok`: whose keys the calls of a workspace's members are made with, and what those think with that name no model.

use http::Response;
use orch_gateway::{ByokPolicy, Preference};
use orch_proxy::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, DOCUMENT};
use super::reply;
use crate::active;
use crate::failure::Failure;

/// The body of `PUT /v1/byok`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyDocument {
    policy: String,
}

/// `GET /v1/byok`.
pub(super) async fn get(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&document(&call).await?))
}

/// `PUT /v1/byok`: the next call goes by it.
pub(super) async fn put(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let PolicyDocument { policy } = call.json(DOCUMENT).await?;
    let policy: ByokPolicy = policy.parse().map_err(|e| {
        Failure::usage("bad_policy", format!("`policy` {policy:?} {e}")).detail("field", "policy")
    })?;
    call.service().policies().set(call.workspace(), &call.service().config().byok, Some(policy)).await?;
    Ok(reply::ok(&document(&call).await?))
}

/// `DELETE /v1/byok`: what the server's configuration says holds again.
pub(super) async fn remove(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    call.service().policies().set(call.workspace(), &call.service().config().byok, None).await?;
    Ok(reply::ok(&document(&call).await?))
}

/// The body of `PUT /v1/byok/active`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActiveDocument {
    provider: String,
    #[serde(default)]
    model: Option<String>,
}

/// `GET /v1/byok/active`: what the caller's requests get that name no model.
pub(super) async fn active(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&active_document(&call).await?))
}

/// `PUT /v1/byok/active`: from the next request on.
pub(super) async fn put_active(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let ActiveDocument { provider, model } = call.json(DOCUMENT).await?;
    let active = active::checked(call.service().catalog(), &Preference { provider, model })?;
    call.service().actives().set(&call.caller, Some(active)).await?;
    Ok(reply::ok(&active_document(&call).await?))
}

/// `DELETE /v1/byok/active`: no model of one's own any more.
pub(super) async fn remove_active(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    call.service().actives().set(&call.caller, None).await?;
    Ok(reply::ok(&active_document(&call).await?))
}

async fn active_document(call: &Call<'_>) -> Result<Value, Failure> {
    let found = call.service().actives().of(&call.caller).await?;
    let (active, by) = found.map_or((None, None), |(active, by)| (Some(active), Some(by.as_str())));
    let (provider, model) = active.map_or((None, None), |active| (Some(active.provider), active.model));
    Ok(json!({ "member": &*call.caller.name, "provider": provider, "model": model, "chosen_by": by }))
}

async fn document(call: &Call<'_>) -> Result<Value, Failure> {
    let config = call.service().config();
    let (policy, decided) = call.service().policies().of(call.workspace(), &config.byok).await?;
    Ok(json!({
        "workspace": call.workspace(), "policy": policy.as_str(), "decided_by": decided.as_str(),
        "platform": config.platform.providers,
    }))
}
