//! The HTTP API: every request that a server gets, over TCP, over its socket, or from the command line of its own
//! process.
//!
//! [`Api::call`] is the story of a request: find what is asked for (`table.rs`), find out who asks and whether they may
//! (`gate.rs`), only then look at its body, do it, and say how it went. Nothing here decides about runs, secrets or
//! agents; that is for the [`Service`](crate::service::Service).

use std::sync::Arc;
use std::time::Instant;

use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Request, Response};
use orch_manifests::Dialect;
use orch_proxy::Body;

use crate::caller::{Caller, Peer};
use crate::failure::Failure;
use crate::http::{Answer, Known};
use crate::llm;
use crate::service::Service;

mod agents;
mod blobs;
mod body;
mod call;
mod error;
mod gate;
mod grants;
mod json;
mod logs;
mod metrics;
mod operations;
mod path;
mod query;
mod reply;
mod runs;
mod table;
#[cfg(test)]
mod tests;
mod tokens;
mod usage;

use body::Buffers;
use call::Call;
use error::RequestId;
use gate::Gate;
use metrics::Metrics;
use path::Path;
use table::{Access, Action, Endpoint};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The API over one service.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    service: Arc<Service>,
    gate: Gate,
    buffers: Buffers,
    metrics: Metrics,
}

impl Api {
    /// The API of this service.
    #[must_use]
    pub fn new(service: Arc<Service>) -> Self {
        let gate = Gate::new(service.store().clone());
        Self(Arc::new(Inner { service, gate, buffers: Buffers::default(), metrics: Metrics::new() }))
    }

    /// Answers a request. With a caller, the transport says who asks: this process itself, or the unix socket. Without
    /// one, the request has to carry a token.
    pub async fn call(&self, caller: Option<Caller>, peer: Peer, request: Request<Body>) -> Response<Body> {
        let begun = Instant::now();
        let (mut parts, body) = request.into_parts();
        let spoken = llm::spoken_at(parts.uri.path(), &parts.headers);
        let path = Path::of(parts.uri.path());
        let found = table::find(&parts.method, &path);
        let _busy = self.0.metrics.begin();

        let endpoint = found.as_ref().ok().copied();
        let open = endpoint.is_some_and(|endpoint| endpoint.access == Access::Open);
        let admitted = self.0.gate.admit(caller, peer, &parts.headers, open).await;
        let known = matches!(admitted, Ok(Some(_)));
        // Nothing behind this line has any use for the caller's token.
        for name in gate::TOKEN_HEADERS {
            parts.headers.remove(name);
        }
        let response = match admitted.and_then(|caller| Ok((found?, caller))) {
            Ok((endpoint, caller)) => self.act(endpoint, caller, peer, path, parts, body).await,
            Err(failure) => Err(failure),
        };
        let mut response = response.unwrap_or_else(|failure| refusal(spoken, &failure));
        if known {
            response.extensions_mut().insert(Known);
        }
        seal(&mut response);
        let route = endpoint.map_or("none", |endpoint| endpoint.path);
        self.0.metrics.answered(route, response.status(), begun.elapsed());
        response
    }

    async fn act(
        &self,
        endpoint: &'static Endpoint,
        caller: Option<Caller>,
        peer: Peer,
        path: Path,
        parts: Parts,
        body: Body,
    ) -> Result<Response<Body>, Failure> {
        let api = &*self.0;
        let Some(caller) = caller else { return operations::open(api, endpoint.action) };
        gate::permit(&caller, endpoint.access)?;
        let call = Call { api, caller, peer, path, parts, body };
        // On the heap: they differ in size, and every connection would have to hold the largest.
        match endpoint.action {
            Action::Llm => Box::pin(llm::answer(&api.service, &call.caller, call.request())).await,
            Action::Health | Action::Ready => operations::open(api, endpoint.action),
            Action::Metrics => operations::metrics(&call),
            Action::WhoAmI => operations::who_am_i(&call),
            Action::SubmitRun => Box::pin(runs::submit(call)).await,
            Action::ListRuns => Box::pin(runs::list(call)).await,
            Action::GetRun => Box::pin(runs::get(call)).await,
            Action::CancelRun => Box::pin(runs::cancel(call)).await,
            Action::RunEvents => Box::pin(runs::events(call)).await,
            Action::Logs => Box::pin(logs::read(call)).await,
            Action::Usage => Box::pin(usage::read(call)).await,
            Action::HasBlob => Box::pin(blobs::has(call)).await,
            Action::GetBlob => Box::pin(blobs::get(call)).await,
            Action::PutBlob => Box::pin(blobs::put(call)).await,
            Action::ListAgents => Box::pin(agents::list(call)).await,
            Action::GetAgent => Box::pin(agents::versions(call)).await,
            Action::GetVersion => Box::pin(agents::version(call)).await,
            Action::DiffVersions => Box::pin(agents::diff(call)).await,
            Action::Publish => Box::pin(agents::publish(call)).await,
            Action::ListGrants => Box::pin(grants::list(call)).await,
            Action::PutGrant => Box::pin(grants::put(call)).await,
            Action::RemoveGrant => Box::pin(grants::remove(call)).await,
            Action::ListSecrets | Action::PutSecret | Action::RemoveSecret => {
                Box::pin(call.secrets(endpoint.action)).await
            }
            Action::MakeToken => Box::pin(tokens::make(call)).await,
            Action::ListTokens => Box::pin(tokens::list(call)).await,
            Action::RevokeToken => Box::pin(tokens::revoke(call)).await,
        }
    }
}

impl Answer for Api {
    async fn answer(&self, caller: Option<Caller>, peer: Peer, request: Request<Body>) -> Response<Body> {
        self.call(caller, peer, request).await
    }

    fn refuse(&self, peer: Peer, request: &Parts, failure: &Failure) -> Response<Body> {
        let failure = self.0.gate.strange(peer).err();
        todo!()
    }
}
