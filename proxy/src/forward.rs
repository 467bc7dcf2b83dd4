//! A guest's own request: parsed, judged, cleaned, its placeholders swapped where their owners said, and sent.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, request};
use http_body_util::{BodyExt as _, Limited};
use orch_manifests::Host;
use ring::digest::{SHA256, digest};
use tokio::time::timeout;

use crate::exchange::{Head, Outgoing, ended, settle_length};
use crate::grant::Admission;
use crate::limits::Patience;
use crate::policy::{allowed_as_a_whole, covered_as_a_whole};
use crate::proxy::Setup;
use crate::record::Record;
use crate::target::{RequestTarget, host_field, origin_form};
use crate::{
    Asked, AuthorizeError, Binding, Body, BodyError, Credential, EgressError, LiveGrant, Maker, Proxy,
    Reason, Scrubber, TimeoutKind, Trial, Use, Verdict, body, hygiene,
};

/// A guest's request as it came in.
pub(crate) struct Inbound {
    pub(crate) parts: request::Parts,
    pub(crate) body: Body,
    /// Where it wants to go, as [`RequestTarget::parse`] reads it.
    pub(crate) target: Result<RequestTarget, Reason>,
    /// Under which name it passed a proxy (RFC 9110, section 7.6.3): the listener's, which sees it again when it goes
    /// round in a circle.
    pub(crate) via: Option<HeaderValue>,
}

impl Proxy {
    /// Forwards a guest's request, whose URI is absolute (`https://host[:port]/path?query`).
    ///
    /// Redirects come back as they are; following one is a new request, judged anew. The response's body streams, and
    /// holds the grant's concurrency slot until it ends or is dropped.
    ///
    /// # Errors
    /// Everything in [`EgressError`]; on a refusal nothing was sent and no name was looked up. The decision is in the
    /// grant's ledger either way.
    pub async fn forward(
        &self,
        grant: &Arc<LiveGrant>,
        request: Request<Body>,
    ) -> Result<Response<Body>, EgressError> {
        let (parts, body) = request.into_parts();
        let target = RequestTarget::parse(&parts);
        self.forward_inbound(grant, Inbound { parts, body, target, via: None }).await
    }

    /// The same for a request whose target was read already.
    pub(crate) async fn forward_inbound(
        &self,
        grant: &Arc<LiveGrant>,
        inbound: Inbound,
    ) -> Result<Response<Body>, EgressError> {
        let mut record = Record::begin(grant, &inbound.parts, Maker::Guest);
        let setup = self.setup();
        let result = Box::pin(setup.forward_recorded(grant, inbound, &mut record)).await;
        record.finish(&result);
        result
    }
}

impl Setup {
    async fn forward_recorded(
        &self,
        live: &Arc<LiveGrant>,
        inbound: Inbound,
        record: &mut Record,
    ) -> Result<Response<Body>, EgressError> {
        let Inbound { parts, mut body, target, via } = inbound;
        // First, so that a request that is over a limit is on record with where it was to go.
        if let Ok(RequestTarget { scheme, host, port, path }) = &target {
            record.target(*scheme, host.as_str(), *port, path.path());
        }
        let mut admission = live.admit()?;
        let target = target.map_err(EgressError::Refused)?;
        let RequestTarget { scheme, host, port, path } = &target;
        hygiene::check_request(&parts, &self.caps).map_err(EgressError::Refused)?;
        let length = hygiene::announced_length(&parts.headers).map_err(EgressError::Refused)?;

        // Taken once: what the request was judged by is also what its connection is shared by.
        let policy = live.standing();
        let rules = &policy.rules;
        match policy.decide(&target.asked(&parts.method)) {
            Verdict::Deny(reason) => return Err(EgressError::Refused(reason)),
            Verdict::Allow { rule } => record.rule(rules[rule].origin),
        }
        admission.at(host.as_str())?;
        record.trial(on_trial(live, &target.asked(&parts.method)));

        let host_value = host_field(*scheme, host.as_str(), *port).map_err(EgressError::Refused)?;
        let uri = origin_form(path).map_err(EgressError::Refused)?;
        let mut head = Head { method: parts.method, uri, headers: parts.headers };
        hygiene::strip_request(&mut head.headers);
        if let Some(via) = via {
            head.headers.insert(header::VIA, via);
        }
        if let Err(reason) = hygiene::check_overrides(&head.headers, "the egress rule")
            && !allowed_as_a_whole(rules, &target.asked(&head.method))
        {
            return Err(EgressError::Refused(reason));
        }
        head.headers.insert(header::HOST, host_value);
        let length = settle_length(&mut head, &body, length)?;

        let standing = live.placeholders().count(&head.headers, path.as_str());
        let swapped = if standing == 0 {
            Injected::default()
        } else {
            self.swap(&mut admission, &target, &mut head, &mut body, record).await?
        };
        record.inert(standing.saturating_sub(swapped.count));

        let route = self.route(target.scheme, Host::Name(target.host), target.port, false);
        let out = Outgoing {
            maker: Maker::Guest,
            tenancy: policy.tenancy,
            route,
            head,
            body,
            length,
            injected: swapped.count > 0,
            scrubbers: swapped.scrubbers,
        };
        self.exchange(admission, out, record).await
    }

    /// Swaps every placeholder that stands where its secret may go, for a destination where it may go.
    async fn swap(
        &self,
        admission: &mut Admission,
        target: &RequestTarget,
        head: &mut Head,
        body: &mut Body,
        record: &mut Record,
    ) -> Result<Injected, EgressError> {
        let live = Arc::clone(admission.grant());
        let method = head.method.clone();
        let asked = target.asked(&method);
        let mut injected = Injected::default();
        for binding in &live.grant().bindings {
            let Binding { placeholder, credential, targets, place } = binding;
            if !targets.iter().any(|target| target.covers(&asked))
                || !place.holds(&head.headers, &head.uri, placeholder)
            {
                continue;
            }
            if !covered_as_a_whole(targets, &asked) {
                let who = format!("the binding of {}", credential.id());
                hygiene::check_overrides(&head.headers, &who).map_err(EgressError::Refused)?;
            }
            let how = Use::Swap { asked, place, placeholder };
            match self.authorize(admission, credential, head, body, how).await {
                Ok(scrubber) => injected.add(scrubber),
                Err(EgressError::Authorize { cause: AuthorizeError::NotThere, .. }) => continue,
                Err(error) => return Err(error),
            }
            record.injected(credential.id());
        }
        if injected.count > 0 {
            hygiene::make_scrubbable(&mut head.headers);
        }
        Ok(injected)
    }

    /// Lets a credential change the head; signs over the body where it wants to.
    pub(crate) async fn authorize(
        &self,
        admission: &mut Admission,
        credential: &Arc<dyn Credential>,
        head: &mut Head,
        body: &mut Body,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, EgressError> {
        let sum = if credential.needs_body_digest() {
            let limit = self.caps.signed_body;
            let whole = buffered(std::mem::replace(body, body::empty()), limit);
            let patience = Patience::new(self.timeouts, admission.grant());
            let whole = timeout(patience.idle, whole)
                .await
                .map_err(|_| ended(patience.ran_out(TimeoutKind::Idle)))??;
            let mut sum = [0; 32];
            sum.copy_from_slice(digest(&SHA256, &whole).as_ref());
            *body = body::full(whole);
            Some(sum)
        } else {
            None
        };
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = head.method.clone();
        parts.uri = head.uri.clone();
        parts.headers = std::mem::take(&mut head.headers);
        let before = framing(&parts.headers);
        // Noted before, so that whoever takes the credential back finds it here, or is found out by the credential.
        admission.take_up(credential);
        let result = credential.authorize(&mut parts, sum.as_ref(), how);
        // A credential adds itself. Where the request goes and how it is framed was settled before it was asked.
        let settled = framing(&parts.headers) == before;
        (head.method, head.uri, head.headers) = restored(parts, head);
        let scrubber = result.map_err(|cause| {
            admission.put_down();
            not_authorized(credential.id(), cause, matches!(how, Use::Swap { .. }))
        })?;
        if !settled {
            let text = format!("credential {} changed the request's framing", credential.id());
            return Err(EgressError::Refused(Reason::new("framing_refused", text)));
        }
        Ok(scrubber)
    }
}

/// What the policies on trial say about what the rules in force allow: each of them would have to allow it too.
fn on_trial(live: &LiveGrant, asked: &Asked<'_>) -> Option<Trial> {
    live.trials().any(|(rules, index)| !index.allows(rules, asked)).then_some(Trial::Deny)
}

/// What may not be used is refused like all else that nobody allowed, and so is a guest's request that leaves no place
/// for the value; the rest are failures.
fn not_authorized(credential: &str, cause: AuthorizeError, by_guest: bool) -> EgressError {
    match cause {
        AuthorizeError::NotPermitted(why) => {
            let text = format!("{credential} may not be used: {why}");
            EgressError::Refused(Reason::new("credential_not_permitted", text))
        }
        AuthorizeError::Repeated | AuthorizeError::BadValue if by_guest => {
            let text = format!("{credential} cannot be put into this request: {cause}");
            EgressError::Refused(Reason::new("credential_not_usable", text))
        }
        cause => EgressError::Authorize { credential: credential.to_owned(), cause },
    }
}

/// What was put into one request.
#[derive(Default)]
pub(crate) struct Injected {
    pub(crate) count: u32,
    pub(crate) scrubbers: Vec<Arc<Scrubber>>,
}

impl Injected {
    pub(crate) fn add(&mut self, scrubber: Option<Arc<Scrubber>>) {
        self.count += 1;
        self.scrubbers.extend(scrubber);
    }
}

/// The fields that a credential has no business with.
fn framing(headers: &HeaderMap) -> [Option<HeaderValue>; 3] {
    [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].map(|name| headers.get(name).cloned())
}

/// The method stays; a credential may add to the query, not change the path.
fn restored(parts: request::Parts, head: &Head) -> (Method, Uri, HeaderMap) {
    let uri = match parts.uri.path_and_query() {
        Some(target) if target.path() == head.uri.path() => Uri::from(target.clone()),
        _ => head.uri.clone(),
    };
    (head.method.clone(), uri, parts.headers)
}

async fn buffered(body: Body, limit: usize) -> Result<Bytes, EgressError> {
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) => Err(EgressError::Body(match error.downcast::<BodyError>() {
            Ok(error) => *error,
            Err(_) => BodyError::TooLarge { limit: limit as u64 },
        })),
    }
}
