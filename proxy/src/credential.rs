//! The seam to whatever keeps secrets: a credential authorises a request, and its value stays on its side.

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use orch_manifests::{Endpoint, Site, Whose};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::{Asked, Place, Scrubber};

/// A secret that can be put into a request. The proxy never sees the value, only the request afterwards.
///
/// Implementations must not have the value in `id`, `source`, or any error.
pub trait Credential: Send + Sync {
    /// Name for receipts, decisions and the audit log, such as `OPENAI_API_KEY`. Never derived from the value.
    /// [`crate::Grants::cut_carrying`] finds exchanges by it.
    fn id(&self) -> &str;

    /// Where the value came from: `flag`, `env`, `vault` or `simulated`.
    fn source(&self) -> &str;

    /// Whose it is; the caller's own where nothing else is known.
    fn whose(&self) -> Whose {
        Whose::Own
    }

    /// The last four characters of the value as it is at this moment, for records that tell keys apart; `None` where so much
    /// would say too much of it.
    fn mask(&self) -> Option<String> {
        None
    }

    /// Which version of the vault's secret it is at this moment; `None` for a value that its caller brought along.
    fn version(&self) -> Option<u64> {
        None
    }

    /// Whether [`Credential::authorize`] signs the body. The proxy then buffers the body (up to
    /// [`crate::Caps::signed_body`]) and passes its SHA-256.
    fn needs_body_digest(&self) -> bool {
        false
    }

    /// Decides whether the credential may be used for this request, now, and changes the request's head so that it
    /// carries the value. Gives back what finds that value in the answer; `None` when it is marked as not scrubbable.
    ///
    /// The proxy calls this for each use, and nothing before it: permission, value and scrubber are of one moment because
    /// there is one call. An implementation whose value can be replaced or taken back takes one snapshot of it, and
    /// judges, injects and answers from that. Whoever takes a value back does so first and calls
    /// [`crate::Grants::cut_carrying`] afterwards: each use then either is refused here or is cut there.
    ///
    /// What may change is the header fields and the query. `parts.uri` is in origin form.
    ///
    /// # Errors
    /// [`AuthorizeError::NotThere`] when `how` is a swap and the placeholder does not stand in a shape that is
    /// swapped: the request then travels with the placeholder as it is. Any other error refuses the request;
    /// [`AuthorizeError::NotPermitted`], and for a swap [`AuthorizeError::Repeated`] and [`AuthorizeError::BadValue`], as
    /// policy does, with a reason that the guest can read.
    fn authorize(
        &self,
        parts: &mut Parts,
        body: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError>;

    /// The place that it is for, where its provider has a host for each region or customer and the value names one.
    fn site(&self) -> Option<Site> {
        None
    }

    /// How much a call with it may still cost, in millionths of a US dollar, what is held set aside; `None` when its owner
    /// bounds no money.
    fn money_left(&self) -> Option<u64> {
        None
    }

    /// Holds so much of its owner's money for a call that is about to be made. `None`: not so much is left any more.
    fn hold(&self, micro_usd: u64) -> Option<Box<dyn Hold>> {
        let _ = micro_usd;
        Some(Box::new(()))
    }

    /// Finds the value as it is at this moment, for warnings and for texts that are no answer. Answers are searched with
    /// what [`Credential::authorize`] gave back. `None` when the value is marked as not scrubbable.
    fn scrubber(&self) -> Option<Arc<Scrubber>>;
}

/// Money that is held for a call. What is held is let go when this is dropped.
pub trait Hold: Send + Sync {
    /// Hears what the call cost, in millionths of a US dollar.
    fn spend(&self, cost_micro_usd: u64);
}

impl Hold for () {
    fn spend(&self, _cost_micro_usd: u64) {}
}

/// How a credential is to be used, and towards whom.
#[derive(Clone, Copy)]
pub enum Use<'a> {
    /// The gateway built the request: add what the provider's scheme wants.
    Own {
        /// Where it goes, which the plan decided.
        endpoint: &'a Endpoint,
        /// Whether an operator pinned that.
        pinned: bool,
    },
    /// A guest built the request: turn the placeholder into the value, as [`Place::swap`] does.
    Swap {
        /// What the guest asked for: policy allowed it, and the binding covers it.
        asked: Asked<'a>,
        /// Where the owner said that the secret may stand.
        place: &'a Place,
        /// What stands there for the value.
        placeholder: &'a Placeholder,
    },
}

/// Why a credential could not be used. Holds no part of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// The placeholder does not stand in a shape that is swapped in its place.
    #[error("the placeholder is not where it could be swapped")]
    NotThere,
    /// The bound header or parameter occurs more than once, so what the host will read is anybody's guess.
    #[error("the header or parameter occurs more than once")]
    Repeated,
    /// The value is empty, too long for the place, or has CR, LF, NUL or another byte that no header may carry.
    #[error("the value is empty, too long, or has bytes that a header cannot carry")]
    BadValue,
    /// The value is for another host than the one that was asked for, or cannot be read as what it has to be.
    #[error("the value does not fit: {0}")]
    Unfit(Cow<'static, str>),
    /// The value is not at hand, because its store is sealed for example.
    #[error("the value is not available: {0}")]
    Unavailable(String),
    /// The value is there and may not be used, or no longer: it was removed, it expired, or the grant of it was taken
    /// back. Says which.
    #[error("not permitted: {0}")]
    NotPermitted(String),
}

/// What a guest holds in place of a secret: random, of one run, worthless outside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Placeholder(String);

impl Placeholder {
    const PREFIX: &str = "orch_ph_";

    /// A new one, `orch_ph_` and 32 letters or digits from 160 random bits.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    #[must_use]
    pub fn random() -> Self {
        let mut bits = [0u8; 20];
        SystemRandom::new().fill(&mut bits).expect("the operating system provides randomness");
        Self(format!("{}{}", Self::PREFIX, data_encoding::BASE32_NOPAD.encode(&bits).to_ascii_lowercase()))
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text that the guest sees.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Placeholder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_random_and_fit_anywhere() {
        let (one, two) = (Placeholder::random(), Placeholder::random());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 40);
        assert!(one.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    }
}
