//! `/v1/secrets`, over [`crate::secrets`].

use http::Response;
use orch_proxy::Body;

use super::call::{Call, DOCUMENT};
use super::{gate, json, reply};
use crate::failure::Failure;
use crate::secrets;

/// `GET /v1/secrets`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let service = call.service();
    Ok(reply::ok(&secrets::list(service.keeper(), call.workspace(), service.catalog()).await?))
}

/// `PUT /v1/secrets/{name}`.
pub(super) async fn put(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    gate::check_private(call.peer, "secrets")?;
    json::check_type(&call.parts.headers)?;
    let body = call.bytes(DOCUMENT).await?;
    let service = call.service();
    let (keeper, catalog) = (service.keeper(), service.catalog());
    Ok(reply::ok(&secrets::put(keeper, call.workspace(), catalog, call.segment(2), &body).await?))
}

/// `DELETE /v1/secrets/{name}`.
pub(super) async fn remove(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let service = call.service();
    let (keeper, catalog) = (service.keeper(), service.catalog());
    Ok(reply::ok(&secrets::delete(keeper, call.workspace(), catalog, call.segment(2)).await?))
}
