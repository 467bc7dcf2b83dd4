//! `/api/user/provider-keys`, over [`crate::provider_keys`]: whose token it is decides whose keys.

use http::Response;
use orch_proxy::Body;

use super::call::{Call, DOCUMENT};
use super::secrets::manner;
use super::{gate, json, query, reply};
use crate::failure::Failure;
use crate::provider_keys;

/// `GET /api/user/provider-keys`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&provider_keys::list(call.service(), &call.caller).await?))
}

/// `POST /api/user/provider-keys[?check=false][&despite_terms=true]`.
pub(super) async fn set(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    let manner = manner(&call, true)?;
    gate::check_private(call.peer, "keys")?;
    json::check_type(&call.parts.headers)?;
    let body = call.bytes(DOCUMENT).await?;
    Ok(reply::ok(&provider_keys::set(call.service(), &call.caller, &body, manner).await?))
}

/// `DELETE /api/user/provider-keys?provider=NAME[&now=true]`.
pub(super) async fn remove(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["provider", "now"])?;
    let now = query.flag("now", false)?;
    let provider = query.text("provider").filter(|name| !name.is_empty());
    let provider = provider.ok_or_else(|| query::wrong("provider", "names the provider whose key goes"))?;
    Ok(reply::ok(&provider_keys::remove(call.service(), &call.caller, provider, now).await?))
}
