//! `/v1/blobs`: modules by their digest.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use orch_manifests::Digest;
use orch_proxy::{Body, empty, full};
use serde_json::json;

use super::call::Call;
use super::reply;
use crate::agent::{Agent, MODULE_LIMIT, check_module};
use crate::failure::Failure;
use crate::service::Service;

/// `HEAD /v1/blobs/{digest}`.
pub(super) async fn has(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let digest = asked_for(&call)?;
    if builtin(&digest).is_none() && !call.service().store().blobs().has(&digest).await? {
        return Err(not_found(&digest));
    }
    Ok(Response::new(empty()))
}

/// `GET /v1/blobs/{digest}`. Other things than modules are kept in the same place, and are nobody's to ask for.
pub(super) async fn get(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let digest = asked_for(&call)?;
    let bytes = match builtin(&digest) {
        Some(bytes) => Some(bytes),
        None => call.service().store().blobs().get(&digest).await?,
    };
    let bytes = bytes.filter(|bytes| check_module(bytes, "").is_ok()).ok_or_else(|| not_found(&digest))?;
    let length = bytes.len();
    let mut response = Response::new(full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/wasm"));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    Ok(response)
}

/// `PUT /v1/blobs/{digest}`.
pub(super) async fn put(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    let digest = asked_for(&call)?;
    let body = call.bytes(MODULE_LIMIT).await?;
    let found = Digest::of(&body);
    if found != digest {
        return Err(Failure::usage("digest_mismatch", format!("what was sent is {found}, not {digest}"))
            .detail("digest", found.to_string()));
    }
    check_module(&body, "what was sent")?;
    let size = body.len();
    let blobs = call.service().store().blobs();
    let status = if blobs.has(&digest).await? { StatusCode::OK } else { StatusCode::CREATED };
    if status == StatusCode::CREATED {
        blobs.put(body.into_vec().into()).await?;
    }
    Ok(reply::json(status, &json!({ "digest": digest.to_string(), "size": size })))
}

/// A module that a document names, stored.
pub(super) async fn module(service: &Service, digest: &Digest) -> Result<Bytes, Failure> {
    let blobs = service.store().blobs();
    if let Some(bytes) = blobs.get(digest).await? {
        return Ok(bytes);
    }
    let bytes = builtin(digest)
        .ok_or_else(|| not_found(digest).hint(format!("upload it first: PUT /v1/blobs/{digest}")))?;
    blobs.put(bytes.clone()).await?;
    Ok(bytes)
}

/// The module of an agent that comes with `orch`.
fn builtin(digest: &Digest) -> Option<Bytes> {
    static MODULES: LazyLock<BTreeMap<Digest, Bytes>> = LazyLock::new(|| {
        let modules = Agent::builtins().filter_map(Result::ok).map(|agent| agent.module);
        modules.map(|module| (Digest::of(&module), module)).collect()
    });
    MODULES.get(digest).cloned()
}

fn asked_for(call: &Call<'_>) -> Result<Digest, Failure> {
    call.query(&[])?;
    call.segment(2).parse().map_err(|e| Failure::usage("bad_digest", format!("{e}")))
}

fn not_found(digest: &Digest) -> Failure {
    Failure::usage("not_found", format!("the module {digest} is not here"))
}
