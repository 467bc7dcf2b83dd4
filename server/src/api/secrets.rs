//! `/v1/secrets`, over [`crate::secrets`].

use http::Response;
use orch_proxy::Body;

use super::body::Buffered;
use super::call::{Call, DOCUMENT};
use super::{gate, json, reply};
use crate::caller::Peer;
use crate::failure::Failure;
use crate::secrets;

/// `GET /v1/secrets`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let service = call.service();
    let (workspace, catalog) = (call.workspace(), service.catalog());
    let mut all = secrets::list(service.keeper(), workspace, catalog).await?;
    if let Some(listed) = all["secrets"].as_array_mut() {
        secrets::add_spent(service.store(), workspace, &service.config().platform, listed).await?;
    }
    Ok(reply::ok(&all))
}

/// `GET /v1/secrets/{name}`.
pub(super) async fn get(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let service = call.service();
    let (workspace, catalog) = (call.workspace(), service.catalog());
    let mut found = secrets::get(service.keeper(), workspace, catalog, call.segment(2)).await?;
    let listed = std::slice::from_mut(&mut found);
    secrets::add_spent(service.store(), workspace, &service.config().platform, listed).await?;
    Ok(reply::ok(&found))
}

/// `GET /v1/secrets/{name}/uses`.
pub(super) async fn uses(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&secrets::uses(call.service(), call.workspace(), call.segment(2)).await?))
}

/// `PUT /v1/secrets/{name}[?check=true][&despite_terms=true]`. Whoever brings many back asks about none of them.
pub(super) async fn put(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    let secrets::Manner { check, despite_terms } = manner(&call, false)?;
    let body = private(&mut call).await?;
    let service = call.service();
    let (keeper, catalog) = (service.keeper(), service.catalog());
    let sent = (&*body, sender(&call));
    let (name, asks) = ((call.segment(2), despite_terms), check.then(|| &**service));
    Ok(reply::ok(&secrets::put(keeper, call.workspace(), catalog, name, asks, sent).await?))
}

/// `POST /v1/secrets/{name}/rotate[?check=true]`.
pub(super) async fn rotate(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    let check = call.query(&["check"])?.flag("check", false)?;
    let body = private(&mut call).await?;
    let sent = (&*body, sender(&call));
    let done =
        secrets::post_rotation(call.service(), call.workspace(), (call.segment(2), check), sent).await?;
    Ok(reply::ok(&done))
}

/// `POST /v1/secrets/{name}/check`.
pub(super) async fn check(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&secrets::post_check(call.service(), call.workspace(), call.segment(2)).await?))
}

/// `POST /v1/secrets/import[?check=false][&despite_terms=true]`.
pub(super) async fn import(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    let manner = manner(&call, true)?;
    let body = private(&mut call).await?;
    Ok(reply::ok(&secrets::post_import(call.service(), call.workspace(), &body, manner).await?))
}

/// `POST /v1/secrets/{name}/grants`.
pub(super) async fn grant(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let said = call.json(DOCUMENT).await?;
    let service = call.service();
    let (keeper, catalog) = (service.keeper(), service.catalog());
    let done = secrets::post_grant(keeper, call.workspace(), catalog, call.segment(2), said).await?;
    Ok(reply::ok(&done))
}

/// `DELETE /v1/secrets/{name}/grants/{id}`.
pub(super) async fn remove_grant(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let service = call.service();
    let (keeper, catalog, id) = (service.keeper(), service.catalog(), call.segment(4));
    let done = secrets::delete_grant(keeper, call.workspace(), catalog, call.segment(2), id).await?;
    Ok(reply::ok(&done))
}

/// `DELETE /v1/secrets/{name}?now=true`.
pub(super) async fn remove(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["now"])?;
    let now = query.flag("now", false)?;
    Ok(reply::ok(&secrets::delete(call.service(), call.workspace(), call.segment(2), now).await?))
}

/// Whose files a value may name: those of whoever is on this machine, as the user that the server runs as.
fn sender(call: &Call<'_>) -> secrets::Sender {
    match call.peer {
        Peer::Unix | Peer::InProcess => secrets::Sender::Owner,
        Peer::Tcp { .. } | Peer::Proxied { .. } => secrets::Sender::Other,
    }
}

/// How values are to be stored, as the query says; whether providers are asked where it says nothing of that.
///
/// # Errors
/// Something else stands in it.
pub(super) fn manner(call: &Call<'_>, asks: bool) -> Result<secrets::Manner, Failure> {
    let query = call.query(&["check", "despite_terms"])?;
    Ok(secrets::Manner {
        check: query.flag("check", asks)?,
        despite_terms: query.flag("despite_terms", false)?,
    })
}

/// A body with values in it, over a connection that nobody reads.
async fn private(call: &mut Call<'_>) -> Result<Buffered, Failure> {
    gate::check_private(call.peer, "secrets")?;
    json::check_type(&call.parts.headers)?;
    call.bytes(DOCUMENT).await
}
