//! The HTTP API: every request that a server gets, over TCP, over its socket, or from the command line of its own
//! process.
//!
//! [`Api::call`] is the story of a request: find what is asked for (`table.rs`), find out who asks and whether they may
//! (`gate.rs`), only then look at its body, do it, and say how it went. Nothing here decides about runs, secrets or
//! agents; that is for the [`Service`](crate::service::Service).

use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use orch_gateway::{ClientOf, RequestId};
use orch_manifests::Dialect;
use orch_proxy::{Body, full};
use serde_json::Value;

use crate::caller::{Caller, Peer};
use crate::failure::{Failure, Kind};
use crate::http::{Answer, Known};
use crate::llm;
use crate::redact::{Said, redact};
use crate::service::Service;

mod agents;
mod blobs;
mod body;
mod budgets;
mod byok;
mod call;
mod error;
mod gate;
mod gateway;
mod grants;
mod json;
mod logs;
mod metrics;
mod operations;
mod path;
mod provider_keys;
mod providers;
mod query;
mod reply;
mod routes;
mod runs;
mod secrets;
mod table;
#[cfg(test)]
mod tests;
mod tokens;
mod usage;
mod vault;

use body::Buffers;
use call::Call;
use gate::Gate;
use gateway::ClientGateway;
use metrics::Metrics;
use path::Path;
use table::{Access, Action, Endpoint};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest error of the gateway that is looked into, in bytes.
const LONGEST_ERROR: u64 = 64 << 10;
/// Where Anthropic's clients look for it.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The API over one service.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    service: Arc<Service>,
    gate: Gate,
    gateway: ClientGateway,
    buffers: Buffers,
    metrics: Arc<Metrics>,
}

impl Api {
    /// The API of this service.
    #[must_use]
    pub fn new(service: Arc<Service>) -> Self {
        let gate = Gate::new(service.store().clone());
        let metrics = Arc::new(Metrics::new(service.broker().telemetry()));
        Self(Arc::new(Inner {
            service,
            gate,
            gateway: ClientGateway::default(),
            buffers: Buffers::default(),
            metrics,
        }))
    }

    /// Answers a request. With a caller, the transport says who asks: this process itself, or the unix socket. Without
    /// one, the request has to carry a token.
    pub async fn call(&self, caller: Option<Caller>, peer: Peer, request: Request<Body>) -> Response<Body> {
        let api = &*self.0;
        let begun = Instant::now();
        let _under_way = api.metrics.begin();
        let (mut parts, body) = request.into_parts();
        let client = ClientOf::headers(&parts.headers);
        let refusal = Refusal::of(&parts, client);
        parts.extensions.insert(client);
        parts.extensions.insert(refusal.id.clone());
        let head = parts.method == Method::HEAD;
        let path = Path::of(parts.uri.path());
        let found = table::find(&parts.method, &path);
        let route = found.as_ref().map_or("none", |endpoint| endpoint.path);
        let open = found.as_ref().is_ok_and(|endpoint| endpoint.access == Access::Open);

        let admitted = api.gate.admit(caller, peer, &parts.headers, open).await;
        let known = matches!(admitted, Ok(Some(_)));
        // Nothing behind this line has any use for the caller's token.
        for name in gate::TOKEN_HEADERS {
            parts.headers.remove(name);
        }
        let done = match (admitted, found) {
            (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
            (Ok(None), Ok(endpoint)) => Ok(operations::open(api, endpoint.action)),
            (Ok(Some(caller)), Ok(endpoint)) => {
                act(endpoint, Call { api, caller, peer, path, parts, body: Mutex::new(body) }).await
            }
        };
        let response = done.unwrap_or_else(|failure| refusal.response(&failure));
        let mut response = refusal.named(response).await;
        if known {
            response.extensions_mut().insert(Known);
        }
        // No transport may be there that would leave it out.
        if head {
            *response.body_mut() = orch_proxy::empty();
        }
        refusal.seal(&mut response);
        api.metrics.answered(route, response.status(), begun.elapsed());
        response
    }
}

/// Does what was asked for, if its caller may.
async fn act(endpoint: &Endpoint, call: Call<'_>) -> Result<Response<Body>, Failure> {
    gate::permit(&call.caller, endpoint.access)?;
    // On the heap: they differ in size, and every connection would have to hold the largest.
    match endpoint.action {
        Action::Llm => {
            let (api, caller) = (call.api, call.caller.clone());
            let request = call.into_request();
            Box::pin(api.gateway.answer(&api.service, &caller, request)).await
        }
        Action::SubmitRun => Box::pin(runs::submit(call)).await,
        Action::ListRuns => Box::pin(runs::list(call)).await,
        Action::GetRun => Box::pin(runs::get(call)).await,
        Action::CancelRun => Box::pin(runs::cancel(call)).await,
        Action::RunDecisions => Box::pin(runs::decisions(call)).await,
        Action::RunEvents => Box::pin(runs::events(call)).await,
        Action::Logs => Box::pin(logs::read(call)).await,
        Action::LogOfRequest => Box::pin(logs::request(call)).await,
        Action::Usage => Box::pin(usage::read(call)).await,
        Action::ListBudgets => Box::pin(budgets::list(call)).await,
        Action::PutBudget => Box::pin(budgets::put(call)).await,
        Action::ReleaseBudget => Box::pin(budgets::release(call)).await,
        Action::RemoveBudget => Box::pin(budgets::remove(call)).await,
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
        Action::ListRoutes => Box::pin(routes::list(call)).await,
        Action::GetRoute => Box::pin(routes::get(call)).await,
        Action::PutRoute => Box::pin(routes::put(call)).await,
        Action::RemoveRoute => Box::pin(routes::remove(call)).await,
        Action::GetPolicy => Box::pin(byok::get(call)).await,
        Action::PutPolicy => Box::pin(byok::put(call)).await,
        Action::RemovePolicy => Box::pin(byok::remove(call)).await,
        Action::GetActive => Box::pin(byok::active(call)).await,
        Action::PutActive => Box::pin(byok::put_active(call)).await,
        Action::RemoveActive => Box::pin(byok::remove_active(call)).await,
        Action::ListProviderKeys => Box::pin(provider_keys::list(call)).await,
        Action::SetProviderKey => Box::pin(provider_keys::set(call)).await,
        Action::RemoveProviderKey => Box::pin(provider_keys::remove(call)).await,
        Action::ListProviders => Box::pin(providers::list(call)).await,
        Action::ResetProvider => Box::pin(providers::reset(call)).await,
        Action::ListSecrets => Box::pin(secrets::list(call)).await,
        Action::PutSecret => Box::pin(secrets::put(call)).await,
        Action::RemoveSecret => Box::pin(secrets::remove(call)).await,
        Action::GetSecret => Box::pin(secrets::get(call)).await,
        Action::SecretUses => Box::pin(secrets::uses(call)).await,
        Action::CheckSecret => Box::pin(secrets::check(call)).await,
        Action::RotateSecret => Box::pin(secrets::rotate(call)).await,
        Action::ImportSecrets => Box::pin(secrets::import(call)).await,
        Action::GrantSecret => Box::pin(secrets::grant(call)).await,
        Action::UngrantSecret => Box::pin(secrets::remove_grant(call)).await,
        Action::VaultStatus => Box::pin(vault::status(call)).await,
        Action::VerifyVault => Box::pin(vault::verify(call)).await,
        Action::BackUpVault => Box::pin(vault::backup(call)).await,
        Action::CompactVault => Box::pin(vault::compact(call)).await,
        Action::Audit => Box::pin(vault::audit(call)).await,
        Action::MakeToken => Box::pin(tokens::make(call)).await,
        Action::ListTokens => Box::pin(tokens::list(call)).await,
        Action::RevokeToken => Box::pin(tokens::revoke(call)).await,
        Action::WhoAmI => operations::who_am_i(&call),
        Action::Metrics => operations::metrics(&call),
        Action::Reload => operations::reload(&call),
        Action::Health | Action::Ready => Ok(operations::open(call.api, endpoint.action)),
    }
}

/// How a request is told that it failed: in the words of the path that it asked for.
struct Refusal {
    id: RequestId,
    spoken: Option<Dialect>,
}

impl Refusal {
    fn of(request: &Parts, client: ClientOf) -> Self {
        Self { id: RequestId::random(), spoken: llm::family_at(request.uri.path(), client) }
    }

    fn response(&self, failure: &Failure) -> Response<Body> {
        // Whoever asked wrongly gets back what they wrote, and may have written a key where a name belongs.
        let said = if failure.kind() == Kind::Usage { Said::Names } else { Said::Anything };
        let failure = failure.reworded(|text| redact(text, said).into_owned());
        match self.spoken {
            None => error::response(&failure, &self.id),
            Some(dialect) => {
                let mut response = llm::refuse(dialect, error::status(&failure), &failure);
                error::advise(&failure, response.headers_mut());
                response
            }
        }
    }

    /// An error in a provider's words with the request's name in it, as our own have it.
    async fn named(&self, response: Response<Body>) -> Response<Body> {
        let failed = response.status().is_client_error() || response.status().is_server_error();
        let whole = response.body().size_hint().exact().is_some_and(|length| length <= LONGEST_ERROR);
        if self.spoken.is_none() || !failed || !whole {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        // A body that breaks off has nothing to be named in.
        let Ok(body) = body.collect().await else { return Response::from_parts(parts, orch_proxy::empty()) };
        let mut body = body.to_bytes();
        if let Ok(Value::Object(mut fields)) = serde_json::from_slice(&body) {
            fields.insert("request_id".to_owned(), self.id.as_str().into());
            body = Value::Object(fields).to_string().into();
            parts.headers.remove(CONTENT_LENGTH);
        }
        Response::from_parts(parts, full(body))
    }

    /// What every response has.
    fn seal(&self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, self.id.header());
        if self.spoken == Some(Dialect::AnthropicMessages) {
            headers.insert(ANTHROPIC_REQUEST_ID, self.id.header());
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Answers are about runs and secrets, and no cache on the way knows who may read them.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}

impl Answer for Api {
    async fn answer(&self, caller: Option<Caller>, peer: Peer, request: Request<Body>) -> Response<Body> {
        self.call(caller, peer, request).await
    }

    fn refuse(&self, peer: Peer, request: &Parts, failure: &Failure) -> Response<Body> {
        let refusal = Refusal::of(request, ClientOf::headers(&request.headers));
        let too_often = self.0.gate.count_stranger(peer).err();
        let response = refusal.response(too_often.as_ref().unwrap_or(failure));
        // There is nothing to wait for: it was made here, whole.
        let named = refusal.named(response).now_or_never();
        let mut response = named.unwrap_or_else(|| error::response(failure, &refusal.id));
        refusal.seal(&mut response);
        self.0.metrics.answered("none", response.status(), std::time::Duration::ZERO);
        response
    }
}
