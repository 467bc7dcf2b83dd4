//! `/v1/vault` and `/v1/audit`, over [`crate::vault`].

use http::Response;
use orch_proxy::Body;

use super::call::Call;
use super::reply;
use crate::failure::Failure;
use crate::vault;

/// `GET /v1/vault`.
pub(super) async fn status(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&vault::status(call.service().keeper(), call.workspace()).await?))
}

/// `GET /v1/vault/verify`. What is found is an answer, not a failure.
pub(super) async fn verify(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&vault::verify(call.service().keeper(), call.workspace()).await?))
}

/// `GET /v1/audit?since=`.
pub(super) async fn audit(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let since = call.query(&["since"])?.time("since")?;
    Ok(reply::ok(&vault::audit(call.service().keeper(), call.workspace(), since).await?))
}
