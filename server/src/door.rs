//! The one door out of the sandbox: every request of a guest arrives here with its run's token.
//!
//! Three ways lead on: the gateway for `llm.orch.internal`, the gateway's passthrough for a provider's own inference
//! path, and the egress proxy for everything else.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use orch_gateway::{Direct, Gateway, Session};
use orch_manifests::{CanonicalPath, HostName, RunId, Scheme};
use orch_proxy::{Body, EgressError, Grants, LiveGrant, Proxy, TimeoutKind};
use orch_runner::{Door, Refusal, RefusalCode};

use crate::records::{Recorder, recorded};

mod denial;
#[cfg(test)]
mod tests;

/// The name of the gateway inside the sandbox. It exists on no network.
pub(crate) const GATEWAY_HOST: &str = "llm.orch.internal";

/// What lies behind the door for one run.
#[derive(Clone)]
pub(crate) struct Beyond {
    /// The way out: the internet's proxy, or a simulation's.
    pub(crate) proxy: Arc<Proxy>,
    /// The gateway over that proxy.
    pub(crate) gateway: Arc<Gateway>,
    /// Within which the gateway answers; none when the run cannot think.
    pub(crate) session: Option<Arc<Session>>,
    /// What keeps what the gateway is asked and answers; none where nobody wants that.
    pub(crate) recorder: Option<Arc<Recorder>>,
}

/// Routes the requests of all live runs.
#[derive(Default)]
pub(crate) struct Router {
    grants: Grants,
    runs: RwLock<HashMap<RunId, Beyond>>,
}

impl Router {
    /// A router with no run yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The grants of the live runs.
    pub(crate) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Opens the door for a run, until the returned guard is dropped.
    #[must_use]
    pub(crate) fn admit(self: &Arc<Self>, run: RunId, beyond: Beyond) -> Admission {
        self.runs.write().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), beyond);
        Admission { router: Arc::clone(self), run }
    }

    fn beyond(&self, run: &RunId) -> Option<Beyond> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
    }

    async fn route(&self, token: &str, request: Request<Body>) -> Response<Body> {
        let Some(grant) = self.grants.find(token) else { return refused(RefusalCode::Denied) };
        let Some(Beyond { proxy, gateway, session, recorder }) = self.beyond(&grant.grant().run) else {
            return refused(RefusalCode::Denied);
        };
        let to_gateway = request.uri().host().is_some_and(|host| host.eq_ignore_ascii_case(GATEWAY_HOST));
        match session {
            Some(session) if to_gateway => {
                recorded(recorder.as_ref(), request, async |request| gateway.serve(&session, request).await)
                    .await
            }
            None if to_gateway => denial::because(
                "no_model_access",
                GATEWAY_HOST,
                "this agent's manifest names no model, so it has no gateway",
                &["add `llm: { primary: MODEL }` to orch.yaml, or run it with --model MODEL".to_owned()],
            ),
            Some(session) => match direct_call(&gateway, &session, &request) {
                Some(call) => {
                    recorded(recorder.as_ref(), request, async |request| {
                        gateway.passthrough(&session, &call, request).await
                    })
                    .await
                }
                None => forward(&proxy, &gateway, &grant, request).await,
            },
            None => forward(&proxy, &gateway, &grant, request).await,
        }
    }
}

/// Whether this is a call to the inference path of a provider that the run may use. Any other provider is a host like
/// all others: what no rule allows is refused, and on record.
fn direct_call(gateway: &Gateway, session: &Session, request: &Request<Body>) -> Option<Direct> {
    let uri = request.uri();
    let scheme: Scheme = uri.scheme_str()?.parse().ok()?;
    let host: HostName = uri.host()?.parse().ok()?;
    // A port that is no number is the proxy's to refuse.
    let port = match uri.port() {
        Some(_) => uri.port_u16()?,
        None => scheme.default_port(),
    };
    let path = CanonicalPath::parse(uri.path_and_query()?.as_str()).ok()?;
    let direct = gateway.inference_of(session, scheme, host.as_str(), port, request.method(), path.path())?;
    session.plan.provider(&direct.provider).is_some().then_some(direct)
}

async fn forward(
    proxy: &Proxy,
    gateway: &Gateway,
    grant: &Arc<LiveGrant>,
    request: Request<Body>,
) -> Response<Body> {
    let host = request.uri().host().unwrap_or_default().to_owned();
    match proxy.forward(grant, request).await {
        Ok(response) => response,
        Err(EgressError::Refused(reason)) => denial::of_policy(&host, &reason, gateway.provider_at(&host)),
        Err(error @ EgressError::Withdrawn { .. }) => {
            denial::because(error.code(), &host, &error.to_string(), &[])
        }
        Err(error) => refused(refusal_code(&error)),
    }
}

impl Door for Router {
    fn request<'a>(
        &'a self,
        token: &'a str,
        request: Request<orch_runner::Body>,
    ) -> BoxFuture<'a, Response<orch_runner::Body>> {
        Box::pin(async move {
            let request = request.map(|body| body.map_err(orch_proxy::BodyError::Other).boxed_unsync());
            self.route(token, request).await.map(|body| body.map_err(Into::into).boxed_unsync())
        })
    }
}

/// A run's open door, until it is dropped.
pub(crate) struct Admission {
    router: Arc<Router>,
    run: RunId,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.router.runs.write().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}

/// A failure on the way, which the guest sees as an error of its HTTP library.
fn refused(code: RefusalCode) -> Response<Body> {
    let mut response = Response::new(orch_proxy::empty());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.extensions_mut().insert(Refusal(code));
    response
}

fn refusal_code(error: &EgressError) -> RefusalCode {
    match error {
        EgressError::Refused(_)
        | EgressError::Ended(_)
        | EgressError::Authorize { .. }
        | EgressError::Withdrawn { .. } => RefusalCode::Denied,
        EgressError::Address { .. } => RefusalCode::AddressProhibited,
        EgressError::Dns { .. } => RefusalCode::DnsError,
        EgressError::Connect { .. } | EgressError::UpstreamProxy { .. } => RefusalCode::ConnectionRefused,
        EgressError::Tls { .. } => RefusalCode::TlsError,
        EgressError::Timeout(TimeoutKind::Dns) => RefusalCode::DnsTimeout,
        EgressError::Timeout(TimeoutKind::Connect | TimeoutKind::Tls) => RefusalCode::ConnectionTimeout,
        EgressError::Timeout(_) => RefusalCode::ResponseTimeout,
        EgressError::Protocol { .. } => RefusalCode::ProtocolError,
        EgressError::Limit { .. } => RefusalCode::LimitReached,
        EgressError::Body(_) => RefusalCode::BadRequest,
    }
}
