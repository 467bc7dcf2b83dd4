//! `/v1/vault` and `/v1/audit`, over [`crate::vault`].

use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use orch_proxy::{Body, full};

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

/// Records of a page of the log, unless it is said, and at most.
const RECORDS: (u32, u32) = (500, 1000);

/// `POST /v1/vault/backup`. The passphrase comes along, and everything that is kept goes back, as the bytes of the file.
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
    let backup = vault::backup(call.service().keeper(), call.workspace(), wanted).await?;
    let length = backup.len();
    let mut response = Response::new(full(backup));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    Ok(response)
}

/// `POST /v1/vault/compact`.
pub(super) async fn compact(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    Ok(reply::ok(&vault::compact(call.service().keeper(), call.workspace()).await?))
}

/// `GET /v1/audit?since=&after=&limit=`.
pub(super) async fn audit(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["since", "after", "limit"])?;
    let (usual, most) = RECORDS;
    let limit = query.limit(usual, most)? as usize;
    let part = vault::Part { since: query.time("since")?, after: query.value("after")?, limit };
    Ok(reply::ok(&vault::audit(call.service().keeper(), call.workspace(), part).await?))
}
