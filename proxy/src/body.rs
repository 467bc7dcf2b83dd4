//! The one body type that crosses the crate's boundary, in both directions.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};

/// A streamed body: frames are pulled, so a slow reader slows the other side down.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body stopped before its end. The text never holds a byte of the body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream closed the connection, or broke the framing it announced.
    #[error("the upstream ended the body early: {0}")]
    Upstream(String),
    /// The side that sends the request stopped, or broke the framing it announced.
    #[error("the request body ended early: {0}")]
    Guest(String),
    /// No byte moved for the configured time, or the exchange took too long as a whole.
    #[error("timed out: {0}")]
    Timeout(crate::TimeoutKind),
    /// More bytes than were announced or allowed.
    #[error("body larger than {limit} bytes")]
    TooLarge {
        /// The number of bytes that was allowed.
        limit: u64,
    },
    /// A limit of the run was hit while the body was under way; what fits within the limit came through.
    #[error("{0}")]
    Limit(crate::LimitHit),
    /// The grant was revoked or reached its deadline while the body was under way.
    #[error("{0}")]
    Ended(crate::Ended),
    /// A credential that the request carried was taken back or replaced while the body was under way.
    #[error("the credential {credential} was withdrawn while the exchange was under way")]
    Withdrawn {
        /// The credential's name.
        credential: String,
    },
    /// The body may not be passed on.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// Whoever made the body reported this.
    #[error("{0}")]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// A body of no bytes.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of these bytes, with its length known.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
