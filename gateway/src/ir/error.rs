//! Failures, as classes and as what a dialect writes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What kind of failure a call ended with; each has its own action in `route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The request itself is wrong: no other candidate would take it either.
    BadRequest,
    /// The key is unknown, revoked or malformed.
    BadKey,
    /// The key is good but may not use this model or endpoint.
    NoAccess,
    /// The provider does not have this model.
    NoModel,
    /// Too many requests or tokens per minute: passes with time.
    RateLimited,
    /// Quota, credit or spend limit: does not pass with time.
    OutOfMoney,
    /// The provider is overloaded.
    Overloaded,
    /// The provider failed.
    Server,
    /// The input does not fit the model's context.
    ContextTooLong,
    /// The provider's filter refused the request or the answer.
    RefusedByFilter,
    /// No answer, or no next piece of it, in time.
    Timeout,
    /// The answer ended without its terminator.
    Truncated,
    /// No connection, or it broke.
    Network,
}

impl Class {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Class; 13] = [
        Class::BadRequest,
        Class::BadKey,
        Class::NoAccess,
        Class::NoModel,
        Class::RateLimited,
        Class::OutOfMoney,
        Class::Overloaded,
        Class::Server,
        Class::ContextTooLong,
        Class::RefusedByFilter,
        Class::Timeout,
        Class::Truncated,
        Class::Network,
    ];

    /// The name used in receipts and error codes.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::BadRequest => "bad_request",
            Class::BadKey => "bad_key",
            Class::NoAccess => "no_access",
            Class::NoModel => "no_model",
            Class::RateLimited => "rate_limited",
            Class::OutOfMoney => "out_of_money",
            Class::Overloaded => "overloaded",
            Class::Server => "server",
            Class::ContextTooLong => "context_too_long",
            Class::RefusedByFilter => "refused_by_filter",
            Class::Timeout => "timeout",
            Class::Truncated => "truncated",
            Class::Network => "network",
        }
    }
}

/// An error as a dialect carries it: read from a provider, or to be written to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// Decides the dialect's `type`, and the status unless `status` is set.
    pub class: Class,
    /// HTTP status; `None` takes the one that the dialect uses for the class.
    pub status: Option<u16>,
    /// For people. Untrusted when it came from a provider.
    pub message: String,
    /// A machine-readable code: the provider's, or the gateway's own.
    pub code: Option<String>,
    /// The request field that is at fault.
    pub param: Option<String>,
    /// More for machines (attempts, limits), written under `orch` in the error object.
    pub details: Option<Box<Value>>,
}

impl ApiError {
    /// An error of this class with nothing but a message.
    pub fn new(class: Class, message: impl Into<String>) -> ApiError {
        ApiError { class, status: None, message: message.into(), code: None, param: None, details: None }
    }

    /// The code that a client is told, where its dialect has `own` for the class. Of input that does not fit clients look for
    /// their dialect's own and no other: they shorten the conversation then.
    pub(crate) fn told_code<'e>(&'e self, own: Option<&'e str>) -> Option<&'e str> {
        match self.class {
            Class::ContextTooLong => own.or(self.code.as_deref()),
            _ => self.code.as_deref().or(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_classes_are_all_of_them() {
        assert_eq!(Class::Network as usize + 1, Class::ALL.len(), "the last one is at the end");
        for (place, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, place, "{}", class.as_str());
        }
    }
}
