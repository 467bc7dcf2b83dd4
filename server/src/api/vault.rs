//! `/v1/vault` and `/v1/audit`, over [`crate::vault`].

use http::Response;
use orch_proxy::Body;

use super::call::{Call, DOCUMENT};
use super::reply;
use crate::failure::{Failure, Kind};
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

/// `POST /v1/vault/backup`. The passphrase comes along, and everything that is kept goes back.
pub(super) async fn backup(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    if !call.peer.is_private() {
        return Err(Failure::new(
            Kind::Server,
            "keys_need_tls",
            "no passphrase is taken over a connection that others can read",
        )
        .hint("serve with --tls-cert and --tls-key"));
    }
    let wanted = call.json(DOCUMENT).await?;
    Ok(reply::ok(&vault::backup(call.service().keeper(), call.workspace(), wanted).await?))
}

/// `POST /v1/vault/compact`.
pub(super) async fn compact(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&vault::compact(call.service().keeper(), call.workspace()).await?))
}

/// `GET /v1/audit?since=`.
pub(super) async fn audit(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let since = call.query(&["since"])?.time("since")?;
    Ok(reply::ok(&vault::audit(call.service().keeper(), call.workspace(), since).await?))
}
