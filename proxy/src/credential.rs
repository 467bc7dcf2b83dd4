//! The seam to whatever keeps secrets: a credential authorises a request, and its value stays on its side.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, request::Parts};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::Scrubber;

/// A secret that can be put into a request. The proxy never sees the value, only the request afterwards.
///
/// Implementations must not have the value in `id`, `source`, or any error.
pub trait Credential: Send + Sync {
    /// Name for receipts, decisions and the audit log, such as `OPENAI_API_KEY`. Never derived from the value.
    fn id(&self) -> &str;

    /// Where the value came from: `flag`, `env`, `vault` or `simulated`.
    fn source(&self) -> &str;

    /// Whether [`Credential::authorize`] signs the body. The proxy then buffers the body (up to
    /// [`crate::Caps::signed_body`]) and passes its SHA-256.
    fn needs_body_digest(&self) -> bool {
        false
    }

    /// Changes the head of a request so that it carries the credential.
    ///
    /// # Errors
    /// [`AuthorizeError::NotThere`] when `how` is a swap and the placeholder does not stand in a shape that is
    /// swapped: the request then travels with the placeholder as it is. Any other error refuses the request.
    fn authorize(
        &self,
        parts: &mut Parts,
        body: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<(), AuthorizeError>;

    /// Finds the value in what the host answers. `None` when the value is marked as not scrubbable.
    fn scrubber(&self) -> Option<Arc<Scrubber>>;
}

/// How a credential is to be used.
#[derive(Clone, Copy)]
pub enum Use<'a> {
    /// The gateway built the request: add what the provider's scheme wants.
    Own,
    /// A guest built the request: turn the placeholder in this header into the value.
    Swap {
        /// The header that the owner bound the secret to.
        header: &'a HeaderName,
        /// What stands there for the value.
        placeholder: &'a Placeholder,
    },
}

/// Why a credential could not be used. Holds no part of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// The placeholder does not stand alone, after one scheme word, or in Basic credentials.
    #[error("the placeholder is not where it could be swapped")]
    NotThere,
    /// The bound header occurs more than once, so what the host will read is anybody's guess.
    #[error("the header occurs more than once")]
    Repeated,
    /// The value has CR, LF, NUL or another byte that no header may carry.
    #[error("the value has bytes that a header cannot carry")]
    BadValue,
    /// The value is gone: removed, expired, or its store is sealed.
    #[error("the value is not available: {0}")]
    Unavailable(String),
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

/// Puts `value` where `placeholder` stands in `header` and marks the header as sensitive.
///
/// Three shapes are swapped: the placeholder alone; after one scheme word and a space (`Bearer x`, `token x`); and
/// inside Basic credentials as the user, the password, or the whole (RFC 7617), which are decoded and encoded again.
///
/// # Errors
/// [`AuthorizeError::NotThere`], [`AuthorizeError::Repeated`], or [`AuthorizeError::BadValue`]; the parts are then
/// unchanged.
pub fn swap_in_header(
    parts: &mut Parts,
    header: &HeaderName,
    placeholder: &Placeholder,
    value: &[u8],
) -> Result<(), AuthorizeError> {
    let mut lines = parts.headers.get_all(header).iter();
    let line = lines.next().ok_or(AuthorizeError::NotThere)?;
    if lines.next().is_some() {
        return Err(AuthorizeError::Repeated);
    }
    let new = swapped(line.as_bytes(), placeholder.0.as_bytes(), value)?;
    let mut new = HeaderValue::from_bytes(&new).map_err(|_| AuthorizeError::BadValue)?;
    new.set_sensitive(true);
    parts.headers.insert(header, new);
    Ok(())
}

/// Whether `line` holds `placeholder` in a shape that [`swap_in_header`] swaps.
pub(crate) fn holds(line: &[u8], placeholder: &Placeholder) -> bool {
    swapped(line, placeholder.0.as_bytes(), b"x").is_ok()
}

fn swapped(line: &[u8], placeholder: &[u8], value: &[u8]) -> Result<Zeroizing<Vec<u8>>, AuthorizeError> {
    // HeaderValue refuses these too, but only in the raw shapes: inside Basic they would be hidden by base64.
    if value.is_empty() || value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(AuthorizeError::BadValue);
    }
    let mut new = Zeroizing::new(Vec::with_capacity(line.len() + 2 * value.len()));
    if line == placeholder {
        new.extend_from_slice(value);
        return Ok(new);
    }
    let space = line.iter().position(|b| *b == b' ').ok_or(AuthorizeError::NotThere)?;
    let (scheme, rest) = (&line[..space], &line[space + 1..]);
    if !is_token(scheme) {
        return Err(AuthorizeError::NotThere);
    }
    new.extend_from_slice(scheme);
    new.push(b' ');
    if rest == placeholder {
        new.extend_from_slice(value);
        return Ok(new);
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err(AuthorizeError::NotThere);
    }
    let decoded = Zeroizing::new(data_encoding::BASE64.decode(rest).map_err(|_| AuthorizeError::NotThere)?);
    let mut pair = Zeroizing::new(Vec::with_capacity(decoded.len() + value.len()));
    match decoded.iter().position(|b| *b == b':') {
        Some(colon) if &decoded[colon + 1..] == placeholder => {
            pair.extend_from_slice(&decoded[..=colon]);
            pair.extend_from_slice(value);
        }
        Some(colon) if &decoded[..colon] == placeholder => {
            pair.extend_from_slice(value);
            pair.extend_from_slice(&decoded[colon..]);
        }
        None if decoded[..] == *placeholder => pair.extend_from_slice(value),
        _ => return Err(AuthorizeError::NotThere),
    }
    new.extend_from_slice(Zeroizing::new(data_encoding::BASE64.encode(&pair)).as_bytes());
    Ok(new)
}

/// RFC 9110, section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

#[cfg(test)]
mod tests {
    use http::{Request, header::AUTHORIZATION};

    use super::*;

    fn swap(line: &str, value: &[u8]) -> Result<Parts, AuthorizeError> {
        let placeholder = Placeholder("orch_ph_x".to_owned());
        let (mut parts, ()) = Request::builder().header(AUTHORIZATION, line).body(()).unwrap().into_parts();
        swap_in_header(&mut parts, &AUTHORIZATION, &placeholder, value).map(|()| parts)
    }

    #[test]
    fn the_value_stands_where_the_placeholder_stood_and_is_sensitive() {
        for (line, expected) in [
            ("orch_ph_x", "secret"),
            ("Bearer orch_ph_x", "Bearer secret"),
            ("token orch_ph_x", "token secret"),
            ("Basic b3JjaF9waF94Og==", "Basic c2VjcmV0Og=="),
            ("basic dTpvcmNoX3BoX3g=", "basic dTpzZWNyZXQ="),
        ] {
            let parts = swap(line, b"secret").unwrap();
            assert_eq!(parts.headers[AUTHORIZATION], expected);
            assert!(parts.headers[AUTHORIZATION].is_sensitive());
            assert!(!format!("{:?}", parts.headers).contains("secret"));
        }
    }

    #[test]
    fn a_value_cannot_break_out_of_its_header() {
        for value in [&b"a\r\nx: y"[..], b"a\nb", b"a\rb", b"a\0b", b""] {
            for line in ["orch_ph_x", "Bearer orch_ph_x", "Basic dTpvcmNoX3BoX3g="] {
                assert_eq!(swap(line, value).err(), Some(AuthorizeError::BadValue), "{line}");
            }
        }
        assert_eq!(swap("orch_ph_x", b"a\x01b").err(), Some(AuthorizeError::BadValue));
    }

    #[test]
    fn other_shapes_are_left_alone() {
        for line in [
            "",
            "x",
            "orch_ph_xx",
            "Bearer orch_ph_x ",
            "Be(rer orch_ph_x",
            " orch_ph_x",
            "Basic !",
            "Basic dTpvcmNoX3Bo",
        ] {
            assert_eq!(swap(line, b"secret").err(), Some(AuthorizeError::NotThere), "{line}");
        }
    }

    #[test]
    fn placeholders_are_random_and_fit_anywhere() {
        let (one, two) = (Placeholder::random(), Placeholder::random());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 40);
        assert!(one.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    }
}
