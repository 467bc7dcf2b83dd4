//! Direct calls to a provider's own host: same dialect, same provider, the same reservation and receipt.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use orch_manifests::{Catalog, Dialect, Host, Provider, Scheme, Slug, Task};
use orch_proxy::Body;

use crate::byok::narrowed;
use crate::gateway::{Begun, Gateway, check_method, error_reply};
use crate::intake::receive;
use crate::ir::{ApiError, Class};
use crate::plan::{AtHand, Planned};
use crate::request_id::RequestId;
use crate::route::{self, Call};
use crate::serve::called;
use crate::session::Session;

/// A provider's inference path, as a guest's request named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Whose path it is.
    pub provider: Slug,
    /// What is spoken there.
    pub dialect: Dialect,
    /// What is asked for there.
    pub task: Task,
    /// The region of the host, where the provider has one for each.
    pub region: Option<String>,
}

impl Gateway {
    /// Whether a guest's request is a call to the inference path of a provider of the catalog: then
    /// [`Gateway::passthrough`] carries it, and the proxy never sees it as the guest's. `path` is canonical and
    /// without its query.
    pub fn inference(
        &self,
        scheme: Scheme,
        host: &str,
        port: u16,
        method: &Method,
        path: &str,
    ) -> Option<Direct> {
        // An operator may have pinned a provider elsewhere; its public host goes on meaning that provider.
        let builtin = Catalog::builtin();
        self.catalog.providers().find_map(|provider| {
            let public = builtin.provider(provider.slug.as_str());
            [Some(provider), public].into_iter().flatten().find_map(|provider| {
                // A pin serves requests that the gateway builds; no guest addresses it.
                if provider.pinned || provider.local_only {
                    return None;
                }
                direct(provider, scheme, host, port, method, path)
            })
        })
    }

    /// The same, where this session's keys say first whose path it is: the host of a customer's resource is in no catalog,
    /// and two providers may share one.
    pub fn inference_of(
        &self,
        session: &Session,
        scheme: Scheme,
        host: &str,
        port: u16,
        method: &Method,
        path: &str,
    ) -> Option<Direct> {
        let named = session.plan.at_hand.iter().filter(|at| !at.provider.pinned && !at.provider.local_only);
        let by_key = || named.clone().find_map(|at| direct(&at.provider, scheme, host, port, method, path));
        by_key().or_else(|| self.inference(scheme, host, port, method, path))
    }

    /// Carries a direct call. The guest shows the provider's placeholder where the key would be; other providers are
    /// never asked.
    pub async fn passthrough(
        &self,
        session: &Session,
        direct: &Direct,
        request: Request<Body>,
    ) -> Response<Body> {
        let provider = direct.provider.to_string();
        let (id, mut begun) = (RequestId::of(&request), Begun { provider, ..Begun::default() });
        let answered = self.carry(session, direct, &id, &mut begun, request).await;
        Gateway::named(session, &id, begun, answered)
    }

    async fn carry(
        &self,
        session: &Session,
        direct: &Direct,
        id: &RequestId,
        begun: &mut Begun,
        request: Request<Body>,
    ) -> Result<Response<Body>, Box<Response<Body>>> {
        let spoken = direct.dialect;
        let (parts, body) = request.into_parts();
        check_method(spoken, &parts.method, &Method::POST)?;
        begun.is_call = true;
        let Some(at_hand) = session.plan.provider(&direct.provider) else {
            let reason =
                format!("this run has no key for {}, or the agent does not support it", direct.provider);
            return Err(Box::new(error_reply(spoken, &ApiError::new(Class::NoAccess, reason))));
        };
        if let Err(reason) = check_placeholder(session, at_hand, spoken, &parts.headers) {
            return Err(Box::new(error_reply(spoken, &ApiError::new(Class::BadKey, reason))));
        }
        let spoken_there = match direct.task {
            Task::Chat => at_hand.provider.speaks(spoken),
            Task::Embeddings => at_hand.provider.embeddings_path(spoken, true).is_some(),
        };
        if !spoken_there {
            let reason = format!("{} is reached in another dialect here", direct.provider);
            let error = ApiError {
                status: Some(StatusCode::NOT_FOUND.as_u16()),
                ..ApiError::new(Class::BadRequest, reason)
            };
            return Err(Box::new(error_reply(spoken, &error)));
        }
        if !at_hand.provider.pinned && direct.region != at_hand.provider.region {
            let here = at_hand.provider.region.as_deref().unwrap_or("no region");
            let reason =
                format!("this run's key for {} is for {here}, and that is another host", direct.provider);
            return Err(Box::new(error_reply(spoken, &ApiError::new(Class::NoAccess, reason))));
        }
        let called = called(spoken, &parts.uri)?;
        let client = receive(session, spoken, direct.task, called, parts.headers, body).await?;
        begun.model = client.model().to_owned();
        if client.model().is_empty() {
            let error = ApiError {
                param: Some("model".to_owned()),
                ..ApiError::new(Class::BadRequest, "model: is missing")
            };
            return Err(Box::new(error_reply(spoken, &error)));
        }
        let planned = Planned { dialect: Some(spoken), ..at_hand.planned(client.model()) };
        let planned = narrowed(&client.byok, &self.catalog, vec![planned])
            .map_err(|error| Box::new(error_reply(spoken, &error)))?;
        let asked = (direct.provider.to_string(), client.model().to_owned());
        let call = Call::new(client, session, planned.into(), asked, id.clone());
        Ok(Box::pin(route::answer(&self.proxy, &self.timing, session, call)).await)
    }
}

fn direct(
    provider: &Provider,
    scheme: Scheme,
    host: &str,
    port: u16,
    method: &Method,
    path: &str,
) -> Option<Direct> {
    let endpoint = &provider.endpoint;
    let region = region_at(provider, host)?;
    if endpoint.scheme != scheme || endpoint.port != port {
        return None;
    }
    // As a server may read it: a colon is the same percent-encoded, and many forgive a slash at the end. What is sent is
    // the catalog's spelling. The key is bound to these paths whatever stands in the model's place, so that all of them are
    // carried here, and a name that no model has is refused here.
    let decoded = path.replace("%3A", ":");
    let plain = decoded.strip_suffix('/').unwrap_or(&decoded);
    let fits = |spelling: &str| provider.inference.iter().find(|i| i.method == *method && i.is_at(spelling));
    let inference = fits(path).or_else(|| fits(plain))?;
    let (dialect, task) = (inference.dialect, inference.task);
    Some(Direct { provider: provider.slug.clone(), dialect, task, region })
}

/// The region of a host of this provider; `None` when it is none of them.
fn region_at(provider: &Provider, host: &str) -> Option<Option<String>> {
    let is_at =
        |provider: &Provider| matches!(&provider.endpoint.host, Host::Name(name) if name.as_str() == host);
    if is_at(provider) {
        return Some(provider.region.clone());
    }
    // A region's name is a label of the host's.
    provider.region.as_ref()?;
    let region =
        host.split('.').find(|label| provider.in_region(label).is_some_and(|there| is_at(&there)))?;
    Some(Some(region.to_owned()))
}

/// The guest has to show what it was given: a request without it was not meant to use the run's key. Anthropic takes a key in
/// either of two headers, of which its client libraries send the one or the other; its own counts where both are there.
fn check_placeholder(
    session: &Session,
    at_hand: &AtHand,
    spoken: Dialect,
    headers: &HeaderMap,
) -> Result<(), String> {
    let Some(credential) = at_hand.credential() else { return Ok(()) };
    let Some((header, scheme)) = at_hand.provider.auth.header() else { return Ok(()) };
    let as_bearer = spoken == Dialect::AnthropicMessages && !headers.contains_key(&header);
    let shown = match as_bearer {
        true => shown(headers, &AUTHORIZATION, "Bearer "),
        false => shown(headers, &header, scheme),
    };
    let id = credential.id();
    match shown {
        None => Err(format!("{header} is missing: send {scheme}followed by the run's placeholder for {id}")),
        Some(shown) => {
            let mut bindings = session.grant.grant().bindings.iter();
            match bindings.any(|b| b.credential.id() == id && b.placeholder.as_str() == shown) {
                true => Ok(()),
                false => Err(format!(
                    "{header} does not hold this run's placeholder for {id}, see the environment"
                )),
            }
        }
    }
}

/// What stands in a header behind a scheme.
fn shown<'h>(headers: &'h HeaderMap, header: &HeaderName, scheme: &str) -> Option<&'h str> {
    let value = headers.get(header)?.to_str().ok()?;
    let start = value.get(..scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then(|| value[scheme.len()..].trim())
}
