//! `/v1/byok`: whose keys the calls of a workspace's members are made with.

use http::Response;
use orch_gateway::ByokPolicy;
use orch_proxy::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, DOCUMENT};
use super::reply;
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

async fn document(call: &Call<'_>) -> Result<Value, Failure> {
    let config = call.service().config();
    let (policy, decided) = call.service().policies().of(call.workspace(), &config.byok).await?;
    Ok(json!({
        "workspace": call.workspace(), "policy": policy.as_str(), "decided_by": decided.as_str(),
        "platform": config.platform.providers,
    }))
}
