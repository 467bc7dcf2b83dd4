//! Opening a tunnel: judged like a request, and dialled like one, but without TLS of our own.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, request};
use orch_manifests::{Host, HostName, HostPattern, Scheme};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dial::Stream;
use crate::grant::Admission;
use crate::proxy::Setup;
use crate::record::Record;
use crate::target::parse_connect;
use crate::{EgressError, LiveGrant, Maker, Proxy, TimeoutKind, Trial, Verdict};

/// How long a CONNECT may wait for its turn to be dialled, beyond what looking up and connecting may take.
const TURN: Duration = Duration::from_secs(30);

/// A connection to the host of a CONNECT request, to which nothing was sent yet.
pub(crate) struct Opened {
    /// Its place in the grant's budgets.
    pub(crate) admission: Admission,
    record: Record,
    pub(crate) upstream: TcpStream,
    pub(crate) host: HostName,
    pub(crate) port: u16,
    /// Whether anything may go through, TLS or not, whatever server it names.
    pub(crate) opaque: bool,
}

impl Proxy {
    /// Judges a CONNECT request and connects to where it leads. The decision is in the grant's ledger when this fails,
    /// and else with [`Opened::allowed`] or [`Opened::refused`].
    ///
    /// # Errors
    /// As [`Proxy::forward`]; no name is looked up for a refused one.
    pub(crate) async fn open(
        &self,
        live: &Arc<LiveGrant>,
        parts: &request::Parts,
        opaque: &[HostPattern],
    ) -> Result<Opened, EgressError> {
        let mut record = Record::begin(live, parts, Maker::Guest);
        let setup = self.setup();
        match setup.open_recorded(live, parts, &mut record).await {
            Ok((admission, upstream, host, port)) => {
                let opaque = opaque.iter().any(|pattern| pattern.matches(&host));
                Ok(Opened { admission, record, upstream, host, port, opaque })
            }
            Err(error) => {
                record.fail(&error);
                Err(error)
            }
        }
    }
}

impl Setup {
    async fn open_recorded(
        &self,
        live: &Arc<LiveGrant>,
        parts: &request::Parts,
        record: &mut Record,
    ) -> Result<(Admission, TcpStream, HostName, u16), EgressError> {
        let asked = parse_connect(parts);
        // First, so that a tunnel that is over a limit is on record with where it was to go.
        if let Ok((host, port)) = &asked {
            record.target(Scheme::Https, host.as_str(), *port, "");
        }
        let mut admission = live.admit()?;
        let (host, port) = asked.map_err(EgressError::Refused)?;
        let policy = live.standing();
        let rules = &policy.rules;
        match policy.index.decide_connect(rules, &host, port) {
            Verdict::Deny(reason) => return Err(EgressError::Refused(reason)),
            Verdict::Allow { rule } => record.rule(rules[rule].origin),
        }
        admission.at(host.as_str())?;
        let refused = live
            .trials()
            .any(|(rules, index)| matches!(index.decide_connect(rules, &host, port), Verdict::Deny(_)));
        record.trial(refused.then_some(Trial::Deny));
        // The client does TLS with the host itself: to the proxy the connection is a plain one.
        let route = self.route(Scheme::Http, Host::Name(host.clone()), port, false);
        let times = &self.timeouts;
        let patience = (times.dns + times.connect + TURN).min(times.first_byte);
        let dialled = tokio::select! {
            biased;
            ended = live.ended() => return Err(EgressError::Ended(ended)),
            dialled = timeout(patience, self.dialler.dial(&route, policy.tenancy, &live.grant().run)) => {
                dialled.map_err(|_| EgressError::Timeout(TimeoutKind::Connect))??
            }
        };
        record.address(dialled.address);
        match dialled.stream {
            Stream::Plain(upstream) => Ok((admission, upstream, host, port)),
            Stream::Tls(_) => Err(EgressError::Protocol {
                host: host.to_string(),
                what: "a tunnel's connection came with TLS".to_owned(),
            }),
        }
    }
}

impl Opened {
    /// Enters into the ledger that it was let through.
    pub(crate) fn allowed(self) -> (Admission, TcpStream) {
        let Self { admission, mut record, upstream, .. } = self;
        record.pass(StatusCode::OK);
        (admission, upstream)
    }

    /// Enters into the ledger why it was not.
    pub(crate) fn refused(self, error: &EgressError) {
        let mut record = self.record;
        record.fail(error);
    }
}
