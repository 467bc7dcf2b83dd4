//! What a request through the proxy can fail with.

use std::net::IpAddr;

use crate::{AuthorizeError, BadAddress, DnsError, Reason, TunnelError, limits};

/// Why a request did not get a response. `Display` is for people and holds no secret; [`EgressError::code`] is for
/// programs and stable.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// Policy or hygiene said no; nothing left the machine.
    #[error("{0}")]
    Refused(Reason),
    /// The host is granted, but leads to an address that nobody may reach.
    #[error("{host} leads to {address}, which is refused: {cause}")]
    Address {
        /// The name or pinned address that was asked for.
        host: String,
        /// The address that was refused.
        address: IpAddr,
        /// The row of the table that refuses it.
        cause: BadAddress,
    },
    /// The name could not be turned into addresses.
    #[error("cannot resolve {host}: {cause}")]
    Dns {
        /// The name that was asked for.
        host: String,
        /// What the resolver said.
        cause: DnsError,
    },
    /// None of the checked addresses accepted a connection.
    #[error("cannot connect to {host}:{port}: {cause}")]
    Connect {
        /// The name or pinned address that was asked for.
        host: String,
        /// TCP port.
        port: u16,
        /// The last failure, as the operating system names it.
        cause: std::io::ErrorKind,
    },
    /// The proxy that the operator put on the way did not lead there.
    #[error("the upstream proxy {proxy} does not lead to {host}:{port}: {cause}")]
    UpstreamProxy {
        /// Where the proxy is.
        proxy: String,
        /// The name that was asked for.
        host: String,
        /// TCP port.
        port: u16,
        /// What the proxy did.
        cause: TunnelError,
    },
    /// The TLS handshake failed: a certificate that does not fit, or no common version.
    #[error("TLS with {host} failed: {cause}")]
    Tls {
        /// The name or pinned address that was asked for.
        host: String,
        /// What rustls said.
        cause: String,
    },
    /// Something took longer than allowed.
    #[error("timed out: {0}")]
    Timeout(TimeoutKind),
    /// The upstream's answer, or the connection to it, broke HTTP.
    #[error("{host} broke the protocol: {what}")]
    Protocol {
        /// The name or pinned address that was asked for.
        host: String,
        /// What went wrong.
        what: String,
    },
    /// A limit of the run is used up.
    #[error("limit reached: {name} ({used} of {limit})")]
    Limit {
        /// Name of the limit as the manifest spells it, below `limits`.
        name: &'static str,
        /// What is in use, this request not counted: requests, bytes, or milliseconds.
        used: u64,
        /// What the grant allows.
        limit: u64,
    },
    /// A credential could not be put in. One that may not be used, or not in a guest's request as it
    /// is, is [`EgressError::Refused`].
    #[error("credential {credential}: {cause}")]
    Authorize {
        /// The credential's name.
        credential: String,
        /// What went wrong.
        cause: AuthorizeError,
    },
    /// The grant is over.
    #[error("{0}")]
    Ended(Ended),
    /// A credential that the request carries was taken back or replaced before an answer came. The host may have seen the
    /// request, or parts of it.
    #[error("the credential {credential} was withdrawn while the exchange was under way")]
    Withdrawn {
        /// The credential's name.
        credential: String,
    },
    /// The request's own body failed before it was sent.
    #[error("request body: {0}")]
    Body(crate::BodyError),
}

impl EgressError {
    /// A stable word for programs: the code of the [`Reason`] for a refusal, else the kind of failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(reason) => reason.code,
            Self::Address { .. } => "address_refused",
            Self::Dns { .. } => "dns_failed",
            Self::Connect { .. } => "connect_failed",
            Self::UpstreamProxy { .. } => "upstream_proxy_failed",
            Self::Tls { .. } => "tls_failed",
            Self::Timeout(_) => "timeout",
            Self::Protocol { .. } => "protocol_error",
            Self::Limit { .. } => "limit_reached",
            Self::Authorize { .. } => "credential_failed",
            Self::Ended(Ended::Revoked) => "grant_revoked",
            Self::Ended(Ended::Expired) => "grant_expired",
            Self::Withdrawn { .. } => "credential_withdrawn",
            Self::Body(_) => "request_body_failed",
        }
    }

    /// Whether policy said no, as opposed to a failure on the way: nothing was sent, and trying again is pointless.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Address { .. } | Self::Ended(_) => true,
            // Bytes and times are used up under way.
            Self::Limit { name, .. } => limits::is_asked_first(name),
            _ => false,
        }
    }

    /// A step that can be pasted, where there is one.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        match self {
            Self::Refused(reason) => reason.next.as_deref(),
            _ => None,
        }
    }
}

/// Which clock ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutKind {
    /// Name resolution.
    Dns,
    /// TCP connect, all addresses together.
    Connect,
    /// TLS handshake.
    Tls,
    /// Between the last byte of the request that was taken and the head of the response.
    FirstByte,
    /// Between two pieces of a body.
    Idle,
    /// The whole exchange.
    Total,
    /// A body that never stood still, and came slower than it may.
    Pace,
}

impl std::fmt::Display for TimeoutKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dns => "name resolution",
            Self::Connect => "connect",
            Self::Tls => "TLS handshake",
            Self::FirstByte => "no response head",
            Self::Idle => "no data",
            Self::Total => "the exchange as a whole",
            Self::Pace => "a body that crawls",
        })
    }
}

/// How a grant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The run is over, or its grant was taken back.
    #[error("the run's grant was revoked")]
    Revoked,
    /// The run's deadline passed.
    #[error("the run's deadline passed")]
    Expired,
}
