//! What is known about a secret besides its value, and which values are accepted.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::grant::{self, MOST_ENTRIES};
use crate::{Grant, GrantTerms, Secret, SecretName};

/// Values shorter than this, in bytes, cannot be scrubbed from a response: too much of what is innocent
/// would match. They show no mask either.
const SHORTEST_SCRUBBABLE: usize = 16;
/// The largest value, in bytes. A credential is never larger; a key ring or a certificate chain fits.
pub(crate) const LARGEST_VALUE: usize = 64 * 1024;
/// The largest metadata, in bytes as they are sealed: what one row may hold, with room for the counters.
pub(crate) const LARGEST_META: usize = 60 * 1024;
/// How many characters of a value its mask shows.
const MASK_LEN: usize = 4;
/// The longest entry of a list in the metadata, in bytes.
const LONGEST_ENTRY: usize = 300;

/// The version of a secret: 1 when it is first set, one more with each [`set`](crate::Vault::set). A
/// version never comes back, not even after the secret was removed and set again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub(crate) u64);

impl Version {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the caller of [`set`](crate::Vault::set) believes is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Whatever is there is replaced.
    Any,
    /// Nothing is there.
    Absent,
    /// Exactly this version is there.
    Exactly(Version),
}

/// What the owner of a secret says about it when it is set. Sealed like the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMeta {
    /// Where the value may go, and for whom. `None`: as it was said before, if it was.
    pub grants: Option<Vec<GrantTerms>>,
    /// The value never goes into a header (a signing key, a PEM file), so line breaks are fine in it.
    pub never_in_header: bool,
    /// From this moment on [`open_secret`](crate::Vault::open_secret) refuses. Whole seconds are kept. `None`: it lives as
    /// long as the value before did from when it was set, for ever if there was none or that did.
    pub expires: Option<OffsetDateTime>,
    /// `true` refuses values of fewer than 16 bytes, `false` accepts them (`--allow-short`).
    pub scrubbable: bool,
}

impl Default for SecretMeta {
    fn default() -> SecretMeta {
        SecretMeta { grants: None, never_in_header: false, expires: None, scrubbable: true }
    }
}

impl SecretMeta {
    /// Whether [`set`](crate::Vault::set) takes this value with what is said here.
    ///
    /// # Errors
    /// Why not.
    pub fn accepts(&self, value: &Secret) -> Result<(), ValueError> {
        check_value(value, (self.never_in_header, self.scrubbable))
    }
}

/// What is ever shown of a secret: one line of [`list`](crate::Vault::list).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSummary {
    /// The name.
    pub name: SecretName,
    /// The version that is current.
    pub version: Version,
    /// The last four characters, for values of 16 bytes and more that are plain ASCII.
    pub mask: Option<String>,
    /// A keyed digest of the value, the same for the same value in the same vault; it tells a changed
    /// value from an unchanged one, and nothing to anybody without the vault's key.
    pub fingerprint: String,
    /// When the name was first set (again after a removal).
    pub created: OffsetDateTime,
    /// When this version was set.
    pub updated: OffsetDateTime,
    /// The value never goes into a header.
    pub never_in_header: bool,
    /// From this moment on it is not given out.
    pub expires: Option<OffsetDateTime>,
    /// Whether responses can be scrubbed of the value, which its length alone decides.
    pub scrubbable: bool,
    /// Where it may go, and for whom.
    pub grants: Vec<Grant>,
    /// Whether its owner said by grants for whom it is, since it was set first. Then what is not granted is not allowed,
    /// even where nothing else would have to be granted (a provider's key at its provider), and even when none is left.
    pub bound: bool,
    /// How many runs, and clients of the gateway, were let use it.
    pub runs: u64,
    /// When one of them was last let.
    pub last_used: Option<OffsetDateTime>,
}

/// Why a value is refused. Never a byte of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// No bytes.
    #[error("the value is empty")]
    Empty,
    /// A NUL byte.
    #[error("the value contains a NUL byte")]
    Nul,
    /// White space at its beginning or end: nearly always a copying mistake.
    #[error("the value begins or ends with white space")]
    Wrapped,
    /// A line break in a value that may go into a header.
    #[error("the value contains a line break, which a header cannot carry")]
    LineBreak,
    /// Too short to be scrubbed from responses.
    #[error("the value has {0} bytes; fewer than {SHORTEST_SCRUBBABLE} cannot be scrubbed from responses")]
    Short(usize),
    /// Too large for a row.
    #[error("the value has {0} bytes; the most is {LARGEST_VALUE}")]
    Large(usize),
}

/// Why metadata is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// Too many entries in one list.
    #[error("{field}: {count} entries; the most is {MOST_ENTRIES}")]
    TooMany {
        /// Which list.
        field: &'static str,
        /// How many entries it has.
        count: usize,
    },
    /// An entry that is empty, too long, or holds white space or control characters.
    #[error("{field}: entry {position} is empty, too long or not plain text")]
    Entry {
        /// Which list.
        field: &'static str,
        /// Which entry, counted from 1.
        position: usize,
    },
    /// The header's name is not an HTTP token (RFC 9110, section 5.6.2).
    #[error("the header's name is not an HTTP field name")]
    Header,
    /// The end of its life is in the past.
    #[error("it would expire at once: {} is in the past", written(*.0))]
    Expired(OffsetDateTime),
    /// A header is named and at the same time the value must never go into one.
    #[error("a header is named for a value that never goes into a header")]
    HeaderAndNever,
    /// A bound of zero: what allows nothing is better removed.
    #[error("a grant for no run or no money allows nothing")]
    Nothing,
    /// All grants together do not fit into a row.
    #[error("the grants take {0} bytes; the most is {LARGEST_META}")]
    Large(usize),
}

/// Whether `secret` may be stored: with line breaks when it never goes into a header, short when it need not be
/// scrubbable.
pub(crate) fn check_value(
    secret: &Secret,
    (never_in_header, scrubbable): (bool, bool),
) -> Result<(), ValueError> {
    secret.expose(|value| {
        let (Some(first), Some(last)) = (value.first(), value.last()) else {
            return Err(ValueError::Empty);
        };
        if value.len() > LARGEST_VALUE {
            return Err(ValueError::Large(value.len()));
        }
        if value.contains(&0) {
            return Err(ValueError::Nul);
        }
        if is_space(*first) || is_space(*last) {
            return Err(ValueError::Wrapped);
        }
        if !never_in_header && value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(ValueError::LineBreak);
        }
        if scrubbable && !is_scrubbable(value) {
            return Err(ValueError::Short(value.len()));
        }
        Ok(())
    })
}

/// Whether `meta` is worth storing.
pub(crate) fn check_meta(meta: &SecretMeta, now: OffsetDateTime) -> Result<(), MetaError> {
    check_expiry(meta.expires, now)?;
    let grants = meta.grants.as_deref().unwrap_or_default();
    if grants.len() > MOST_ENTRIES {
        return Err(MetaError::TooMany { field: "grants", count: grants.len() });
    }
    grants.iter().try_for_each(|terms| grant::check(terms, meta.never_in_header, now))
}

/// A moment as people read it: RFC 3339, to the second.
pub(crate) fn written(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// Whether it would not be over at once.
pub(crate) fn check_expiry(expires: Option<OffsetDateTime>, now: OffsetDateTime) -> Result<(), MetaError> {
    match expires.filter(|expires| *expires <= now) {
        Some(expires) => Err(MetaError::Expired(expires)),
        None => Ok(()),
    }
}

/// Whether `text` is short enough for a row, and without white space and control characters.
pub(crate) fn is_plain(text: &str) -> bool {
    (1..=LONGEST_ENTRY).contains(&text.len()) && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Whether responses can be scrubbed of `value`.
pub(crate) fn is_scrubbable(value: &[u8]) -> bool {
    value.len() >= SHORTEST_SCRUBBABLE
}

/// The mask of `value`, if it has one. A JSON credential has none: its end says nothing of its key.
pub(crate) fn mask_of(value: &[u8]) -> Option<String> {
    let tail = value.len().checked_sub(MASK_LEN).and_then(|start| value.get(start..))?;
    let shown = is_scrubbable(value) && !value.starts_with(b"{") && tail.iter().all(u8::is_ascii_graphic);
    shown.then(|| tail.iter().copied().map(char::from).collect())
}

fn is_space(byte: u8) -> bool {
    // 0x0b, a vertical tab, is white space to people and to Unicode, and not to `is_ascii_whitespace`.
    byte.is_ascii_whitespace() || byte == 0x0b
}

pub(crate) fn is_field_name(name: &str) -> bool {
    (1..=LONGEST_ENTRY).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ValuePlace;

    fn secret(value: &[u8]) -> Secret {
        Secret::new(value.to_vec())
    }

    #[test]
    fn value_rules_row_by_row() {
        // Whether it never goes into a header, and whether it has to be scrubbable.
        let (strict, short, file) = ((false, true), (false, false), (true, true));
        let largest = vec![b'x'; LARGEST_VALUE];
        let larger = vec![b'x'; LARGEST_VALUE + 1];
        for (value, rules, expected) in [
            (&b"0123456789abcdef"[..], strict, Ok(())),
            (b"", short, Err(ValueError::Empty)),
            (b"0123456789abcde", strict, Err(ValueError::Short(15))),
            (b"0123456789abcde", short, Ok(())),
            (b"a", short, Ok(())),
            (b"0123456789abcde\0f", strict, Err(ValueError::Nul)),
            (b"\x000123456789abcdef", file, Err(ValueError::Nul)),
            (b" 0123456789abcdef", strict, Err(ValueError::Wrapped)),
            (b"0123456789abcdef\t", strict, Err(ValueError::Wrapped)),
            (b"0123456789abcdef\n", file, Err(ValueError::Wrapped)),
            (b"0123456789abcdef\x0b", strict, Err(ValueError::Wrapped)),
            (b"0123456\n89abcdef", strict, Err(ValueError::LineBreak)),
            (b"0123456\r89abcdef", strict, Err(ValueError::LineBreak)),
            (b"0123456\r\n9abcdef", file, Ok(())),
            ("schlüssel-mit-ümlaut".as_bytes(), strict, Ok(())),
            (&largest, strict, Ok(())),
            (&larger, strict, Err(ValueError::Large(LARGEST_VALUE + 1))),
        ] {
            assert_eq!(
                check_value(&secret(value), rules),
                expected,
                "{:?}",
                value.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn metadata_rules_row_by_row() {
        let base = SecretMeta::default;
        let now = OffsetDateTime::UNIX_EPOCH;
        let until = |seconds| SecretMeta { expires: Some(now + time::Duration::seconds(seconds)), ..base() };
        let grants = |count| SecretMeta { grants: Some(vec![GrantTerms::default(); count]), ..base() };
        let place = |place| SecretMeta {
            grants: Some(vec![GrantTerms { place: Some(place), ..GrantTerms::default() }]),
            never_in_header: true,
            ..base()
        };
        for (meta, expected) in [
            (base(), Ok(())),
            (until(1), Ok(())),
            (until(0), Err(MetaError::Expired(now))),
            (grants(MOST_ENTRIES), Ok(())),
            (grants(MOST_ENTRIES + 1), Err(MetaError::TooMany { field: "grants", count: 65 })),
            (place(ValuePlace::Query("key".into())), Ok(())),
            (place(ValuePlace::Header("a".into())), Err(MetaError::HeaderAndNever)),
        ] {
            assert_eq!(check_meta(&meta, now), expected, "{meta:?}");
        }
    }

    #[test]
    fn the_mask_is_the_last_four_of_sixteen_or_more() {
        assert_eq!(mask_of(b"0123456789abcdef").as_deref(), Some("cdef"));
        for none in
            [&b"0123456789abcde"[..], b"", b"abc", b"0123456789abc\ndef", "0123456789abcdé".as_bytes()]
        {
            assert_eq!(mask_of(none), None);
        }
    }
}
