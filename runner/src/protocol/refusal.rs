//! Why a guest's request was not carried out, in words that both sides know.

use std::fmt;
use std::str::FromStr;

/// A refusal, as the value of the [`REFUSAL`](super::REFUSAL) header. The worker turns each into the `error-code`
/// of `wasi:http/types` that is closest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// Policy: the run has no grant for this request.
    Denied,
    /// The destination resolves to an address that is never dialled.
    AddressProhibited,
    /// The name does not exist or has no usable address.
    DnsError,
    /// The name could not be resolved in time.
    DnsTimeout,
    /// The destination refused the connection or is not reachable.
    ConnectionRefused,
    /// The connection was not made in time.
    ConnectionTimeout,
    /// The connection broke before the response began.
    ConnectionTerminated,
    /// The run has too many requests under way, or none left.
    LimitReached,
    /// TLS failed, other than by the certificate.
    TlsError,
    /// The destination's certificate is not acceptable.
    TlsCertificate,
    /// The request's target or framing is not acceptable.
    BadRequest,
    /// The request's body is longer than allowed.
    RequestTooLarge,
    /// The response is longer than allowed.
    ResponseTooLarge,
    /// The destination's response is not HTTP.
    ProtocolError,
    /// The response did not begin in time.
    ResponseTimeout,
    /// Something else went wrong on the broker's side.
    Internal,
}

impl RefusalCode {
    /// Every code.
    pub const ALL: [RefusalCode; 16] = [
        RefusalCode::Denied,
        RefusalCode::AddressProhibited,
        RefusalCode::DnsError,
        RefusalCode::DnsTimeout,
        RefusalCode::ConnectionRefused,
        RefusalCode::ConnectionTimeout,
        RefusalCode::ConnectionTerminated,
        RefusalCode::LimitReached,
        RefusalCode::TlsError,
        RefusalCode::TlsCertificate,
        RefusalCode::BadRequest,
        RefusalCode::RequestTooLarge,
        RefusalCode::ResponseTooLarge,
        RefusalCode::ProtocolError,
        RefusalCode::ResponseTimeout,
        RefusalCode::Internal,
    ];

    /// The code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalCode::Denied => "denied",
            RefusalCode::AddressProhibited => "address-prohibited",
            RefusalCode::DnsError => "dns-error",
            RefusalCode::DnsTimeout => "dns-timeout",
            RefusalCode::ConnectionRefused => "connection-refused",
            RefusalCode::ConnectionTimeout => "connection-timeout",
            RefusalCode::ConnectionTerminated => "connection-terminated",
            RefusalCode::LimitReached => "limit-reached",
            RefusalCode::TlsError => "tls-error",
            RefusalCode::TlsCertificate => "tls-certificate",
            RefusalCode::BadRequest => "bad-request",
            RefusalCode::RequestTooLarge => "request-too-large",
            RefusalCode::ResponseTooLarge => "response-too-large",
            RefusalCode::ProtocolError => "protocol-error",
            RefusalCode::ResponseTimeout => "response-timeout",
            RefusalCode::Internal => "internal",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a [`RefusalCode`].
#[derive(Debug, thiserror::Error)]
#[error("unknown refusal code")]
pub struct UnknownRefusal;

impl FromStr for RefusalCode {
    type Err = UnknownRefusal;

    fn from_str(text: &str) -> Result<Self, UnknownRefusal> {
        RefusalCode::ALL.into_iter().find(|code| code.as_str() == text).ok_or(UnknownRefusal)
    }
}

/// Put into a response's extensions by a [`Door`](crate::Door) to refuse a request. Only an extension counts:
/// headers of an upstream's response can never be taken for a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(pub RefusalCode);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_distinct_names_that_parse() {
        for code in RefusalCode::ALL {
            assert_eq!(code.as_str().parse::<RefusalCode>().unwrap(), code);
        }
        assert!("denied ".parse::<RefusalCode>().is_err());
    }
}
