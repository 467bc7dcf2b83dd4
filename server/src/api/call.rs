//! One request of somebody who is known and may.

use std::sync::{Arc, Mutex, PoisonError};

use http::Request;
use http::request::Parts;
use orch_proxy::Body;
use serde::de::DeserializeOwned;

use super::Inner;
use super::body::Buffered;
use super::gate;
use super::json;
use super::path::Path;
use super::query::Query;
use super::table::Access;
use crate::caller::{Caller, Peer};
use crate::failure::Failure;
use crate::service::Service;

/// Bytes of a JSON document that is no run: names, capabilities, a manifest.
pub(super) const DOCUMENT: u64 = 1 << 20;

/// A request, and who asks.
pub(super) struct Call<'a> {
    pub(super) api: &'a Inner,
    pub(super) caller: Caller,
    pub(super) peer: Peer,
    pub(super) path: Path,
    pub(super) parts: Parts,
    /// Read by one thread at a time; the lock says so to the compiler, and is never waited for.
    pub(super) body: Mutex<Body>,
}

impl Call<'_> {
    pub(super) fn service(&self) -> &Arc<Service> {
        &self.api.service
    }

    pub(super) fn workspace(&self) -> &str {
        &self.caller.workspace
    }

    /// The workspace that is asked about: the caller's own, or another one that the operator names.
    ///
    /// # Errors
    /// `forbidden` for anybody else's.
    pub(super) fn workspace_of(&self, said: Option<&str>) -> Result<String, Failure> {
        match said.filter(|said| !said.is_empty() && *said != self.workspace()) {
            None => Ok(self.workspace().to_owned()),
            Some(other) => {
                gate::permit(&self.caller, Access::Operator)?;
                Ok(other.to_owned())
            }
        }
    }

    /// A segment of the path, counted from 0; the table has made sure that it is there.
    pub(super) fn segment(&self, at: usize) -> &str {
        self.path.segments().get(at).map(String::as_str).unwrap_or_default()
    }

    /// The query, in which only these names may stand.
    pub(super) fn query(&self, names: &[&str]) -> Result<Query, Failure> {
        Query::parse(self.parts.uri.query().unwrap_or_default(), names)
    }

    /// Whether the answer should be JSON where an event stream is usual.
    pub(super) fn wants_json(&self) -> bool {
        let accept = self.parts.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
        accept.is_some_and(|accept| accept.split(',').any(|kind| kind.trim().starts_with("application/json")))
    }

    /// The whole body, at most `limit` bytes of it.
    pub(super) async fn bytes(&mut self, limit: u64) -> Result<Buffered, Failure> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let body = std::mem::replace(body, orch_proxy::empty());
        self.api.buffers.read(&self.parts.headers, body, limit).await
    }

    /// The body as a document.
    pub(super) async fn json<T: DeserializeOwned>(&mut self, limit: u64) -> Result<T, Failure> {
        json::check_type(&self.parts.headers)?;
        let body = self.bytes(limit).await?;
        json::parse(&body)
    }

    /// The request as it came, but for its token.
    pub(super) fn into_request(self) -> Request<Body> {
        Request::from_parts(self.parts, self.body.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}
