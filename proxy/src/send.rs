//! A request that the gateway built for a provider. Same guard, same pool, same ledger; no guest wrote any of it.

use std::sync::Arc;

use http::{Request, Response, header, request};
use orch_manifests::{Endpoint, Host};

use crate::exchange::{Head, Outgoing, settle_length};
use crate::forward::Injected;
use crate::policy::refused_name;
use crate::proxy::Setup;
use crate::record::Record;
use crate::target::{host_field, origin_form, parse_own_path};
use crate::{Body, Credential, EgressError, LiveGrant, Maker, Proxy, Reason, Use, hygiene};

/// A request for a provider's endpoint.
pub struct ProviderCall<'a> {
    /// Where it goes: from the catalog, or from the operator.
    pub endpoint: &'a Endpoint,
    /// Whether an operator pinned the endpoint. It may then be an address, or a name that leads to a private one; it is
    /// reached at exactly its host and port.
    pub pinned: bool,
    /// Method, path with query (the whole path on the host, base path included), headers and body. Scheme and authority
    /// of the URI, if any, are ignored.
    pub request: Request<Body>,
    /// What authorises it.
    pub credential: Option<&'a Arc<dyn Credential>>,
}

impl Proxy {
    /// Sends a request that the gateway built to a provider.
    ///
    /// The grant's rules do not apply, because the plan decides which providers a run may use; its budgets, deadline
    /// and revocation do.
    ///
    /// # Errors
    /// Everything in [`EgressError`]. The decision is in the grant's ledger either way.
    pub async fn send(
        &self,
        grant: &Arc<LiveGrant>,
        call: ProviderCall<'_>,
    ) -> Result<Response<Body>, EgressError> {
        let ProviderCall { endpoint, pinned, request, credential } = call;
        let (parts, body) = request.into_parts();
        let mut record = Record::begin(grant, &parts, Maker::Gateway);
        let setup = self.setup();
        let sending = setup.send_recorded(grant, endpoint, pinned, credential, parts, body, &mut record);
        let result = Box::pin(sending).await;
        record.finish(&result);
        result
    }
}

impl Setup {
    #[expect(clippy::too_many_arguments, reason = "the parts of a ProviderCall, taken apart")]
    async fn send_recorded(
        &self,
        live: &Arc<LiveGrant>,
        endpoint: &Endpoint,
        pinned: bool,
        credential: Option<&Arc<dyn Credential>>,
        parts: request::Parts,
        mut body: Body,
        record: &mut Record,
    ) -> Result<Response<Body>, EgressError> {
        let Endpoint { scheme, host, port, .. } = endpoint;
        let host_text = host.to_string();
        // First, so that a request that is over a limit is on record with where it was to go.
        record.target(*scheme, &host_text, *port, parts.uri.path());
        let mut admission = live.admit()?;
        hygiene::check_request(&parts, &self.caps).map_err(EgressError::Refused)?;
        let length = hygiene::announced_length(&parts.headers).map_err(EgressError::Refused)?;
        if !pinned {
            let refusal = match host {
                Host::Name(name) => refused_name(name),
                Host::Ip(_) => {
                    Some(Reason::new("ip_literal_refused", "only a pinned endpoint may be an IP address"))
                }
            };
            if let Some(reason) = refusal {
                return Err(EgressError::Refused(reason));
            }
        }
        admission.at(&host_text)?;
        let path = parse_own_path(&parts.uri).map_err(EgressError::Refused)?;
        let uri = origin_form(&path).map_err(EgressError::Refused)?;
        let mut head = Head { method: parts.method, uri, headers: parts.headers };
        hygiene::strip_request(&mut head.headers);
        let host_value = host_field(*scheme, &host_text, *port).map_err(EgressError::Refused)?;
        head.headers.insert(header::HOST, host_value);
        let length = settle_length(&mut head, &body, length)?;

        let tenancy = live.standing().tenancy;
        let mut injected = Injected::default();
        if let Some(credential) = credential {
            let how = Use::Own { endpoint, pinned };
            let scrubber = self.authorize(&mut admission, credential, &mut head, &mut body, how).await?;
            injected.add(scrubber);
            hygiene::make_scrubbable(&mut head.headers);
            record.injected(credential.id());
        }
        let out = Outgoing {
            maker: Maker::Gateway,
            tenancy: credential.map_or(tenancy, |credential| tenancy.using(&**credential)),
            route: self.route(*scheme, host.clone(), *port, pinned),
            head,
            body,
            length,
            injected: injected.count > 0,
            scrubbers: injected.scrubbers,
        };
        self.exchange(admission, out, record).await
    }
}
