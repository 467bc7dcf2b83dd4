//! Request paths in one canonical form, and the globs that match them.
//!
//! Policy, the wire and the upstream must see the same path. So the path is normalised once, the normalised bytes are
//! what travels, and whatever a server could read in two ways is refused rather than repaired.

mod glob;

use std::fmt;
use std::str::FromStr;

pub use self::glob::{GlobError, PathGlob};

/// Longest request target: what common servers accept, with room.
const TARGET_MAX: usize = 64 * 1024;

/// Why a request target was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not in origin form: it does not start with a slash.
    #[error("a path starts with `/`")]
    NotAbsolute,
    /// More than 64 KiB.
    #[error("the path and query are longer than 64 KiB")]
    TooLong,
    /// Holds `#`.
    #[error("a request has no fragment (`#`)")]
    Fragment,
    /// A space or control character, raw or percent-encoded.
    #[error("the path or query holds a space or control character")]
    Control,
    /// `%` without two hexadecimal digits.
    #[error("a `%` is not followed by two hexadecimal digits")]
    BadEscape,
    /// `\`, `%5c` or `%2f`: servers disagree on whether these separate segments.
    #[error("the path holds a backslash or an encoded slash, which servers read in different ways")]
    HiddenSeparator,
    /// `%252e` and its like, which turn into dots or slashes when something decodes twice.
    #[error("the path holds a dot or slash that is encoded twice")]
    DoubleEncoding,
    /// `..` above the root.
    #[error("the path climbs above `/`")]
    AboveRoot,
    /// `..;x`, which some servers read as `..`.
    #[error("the path holds a dot segment with parameters (`..;`)")]
    DotParameters,
}

/// The path and query of a request, canonical: these bytes are judged, and these bytes go upstream.
///
/// Percent-encoded unreserved characters are decoded and other escapes upper-cased (RFC 3986 §6.2.2), characters that
/// need escaping are escaped, dot segments are resolved, and empty segments are dropped (a trailing slash stays). The
/// query is kept as it is, except that bytes outside of ASCII are escaped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanonicalPath {
    target: String,
    path_len: usize,
}

impl CanonicalPath {
    /// Canonicalises a request target in origin form (`/path?query`).
    ///
    /// # Errors
    /// Anything that two servers could read as two different paths; see [`PathError`].
    pub fn parse(target: &str) -> Result<Self, PathError> {
        Self::canonical(target, Slashes::Refused)
    }

    /// The same, for a request of our own to a server that is known to read an encoded slash as part of a segment.
    ///
    /// # Errors
    /// As [`CanonicalPath::parse`], but for encoded slashes, which stay as they are.
    pub fn parse_own(target: &str) -> Result<Self, PathError> {
        Self::canonical(target, Slashes::Kept)
    }

    fn canonical(target: &str, slashes: Slashes) -> Result<Self, PathError> {
        if target.len() > TARGET_MAX {
            return Err(PathError::TooLong);
        }
        if is_canonical(target) {
            return Ok(Self { target: target.to_owned(), path_len: target.len() });
        }
        Self::canonicalised(target, slashes)
    }

    fn canonicalised(target: &str, slashes: Slashes) -> Result<Self, PathError> {
        if target.contains('#') {
            return Err(PathError::Fragment);
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let rest = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;

        let mut segments: Vec<String> = Vec::new();
        let mut open = true; // whether the path ends in a slash so far
        for raw in rest.split('/') {
            let segment = canonical_segment(raw, slashes)?;
            match segment.as_str() {
                "" | "." => open = true,
                ".." => {
                    segments.pop().ok_or(PathError::AboveRoot)?;
                    open = true;
                }
                _ => {
                    segments.push(segment);
                    open = false;
                }
            }
        }

        let mut target = String::with_capacity(target.len() + 1);
        for segment in &segments {
            target.push('/');
            target.push_str(segment);
        }
        if open {
            target.push('/');
        }
        let path_len = target.len();
        if let Some(query) = query {
            target.push('?');
            escape_query(query, &mut target)?;
        }
        if target.len() > TARGET_MAX {
            return Err(PathError::TooLong);
        }
        Ok(Self { target, path_len })
    }

    /// The whole target, `path?query`: the bytes that go upstream.
    pub fn as_str(&self) -> &str {
        &self.target
    }

    /// The path alone, which policy matches.
    pub fn path(&self) -> &str {
        &self.target[..self.path_len]
    }

    /// The query without its `?`, if there is one (it may be empty).
    pub fn query(&self) -> Option<&str> {
        self.target.get(self.path_len + 1..)
    }
}

impl FromStr for CanonicalPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target)
    }
}

/// Whether a target is one that canonicalising leaves as it is, as most are: nothing but letters, digits and what needs no
/// escaping anywhere, in segments that begin with something else than a dot.
fn is_canonical(target: &str) -> bool {
    let mut before = None;
    for byte in target.bytes() {
        let fits = match (before, byte) {
            (None, byte) => byte == b'/',
            (Some(b'/'), b'/' | b'.') => false,
            (Some(_), byte) => byte == b'/' || is_unreserved(byte),
        };
        if !fits {
            return false;
        }
        before = Some(byte);
    }
    before.is_some()
}

/// What becomes of encoded slashes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slashes {
    Refused,
    Kept,
}

/// One segment, canonical. Refuses what could hide a separator or a dot segment.
fn canonical_segment(raw: &str, slashes: Slashes) -> Result<String, PathError> {
    let bytes = raw.as_bytes();
    let mut out = String::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let decoded = match byte {
            b'%' => {
                let byte = escaped_byte(bytes, at).ok_or(PathError::BadEscape)?;
                at += 3;
                match byte {
                    b'/' if slashes == Slashes::Kept => Decoded::Escaped(byte),
                    b'/' | b'\\' => return Err(PathError::HiddenSeparator),
                    0..=0x1f | 0x7f => return Err(PathError::Control),
                    other => Decoded::Escaped(other),
                }
            }
            b'\\' => return Err(PathError::HiddenSeparator),
            0..=0x20 | 0x7f => return Err(PathError::Control),
            other => {
                at += 1;
                Decoded::Raw(other)
            }
        };
        match decoded {
            Decoded::Raw(b) | Decoded::Escaped(b) if is_unreserved(b) => out.push(char::from(b)),
            Decoded::Raw(b) if b"!$&'()*+,;=:@".contains(&b) => out.push(char::from(b)),
            Decoded::Raw(b) | Decoded::Escaped(b) => push_escape(b, &mut out),
        }
    }
    // Looked for in what goes out: the digits behind an encoded `%` may have been escapes themselves.
    if out.match_indices("%25").any(|(at, _)| hides_twice(&out.as_bytes()[at + 3..])) {
        return Err(PathError::DoubleEncoding);
    }
    // Tomcat and others drop `;parameters` before they resolve dots; an escaped `;` counts, for they may decode first.
    let name = out.split(';').next().unwrap_or_default();
    let name = name.split("%3B").next().unwrap_or_default();
    if name.len() < out.len() && matches!(name, "." | "..") {
        return Err(PathError::DotParameters);
    }
    Ok(out)
}

enum Decoded {
    Raw(u8),
    Escaped(u8),
}

/// The byte that `%XX` at `at` stands for.
fn escaped_byte(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(bytes.get(at + 1)?)? << 4 | digit(bytes.get(at + 2)?)?)
}

/// Whether what follows an encoded `%` makes it `.`, `/`, `\`, a control character or another `%` on a second decoding.
fn hides_twice(rest: &[u8]) -> bool {
    // `escaped_byte` looks behind the `%`, which is the encoded one here.
    let second = rest.get(..2).and_then(|two| escaped_byte(&[b'%', two[0], two[1]], 0));
    matches!(second, Some(b'.' | b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f))
}

fn escape_query(query: &str, out: &mut String) -> Result<(), PathError> {
    for byte in query.bytes() {
        match byte {
            0..=0x20 | 0x7f => return Err(PathError::Control),
            0x80.. => push_escape(byte, out),
            ascii => out.push(char::from(ascii)),
        }
    }
    Ok(())
}

fn push_escape(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests;
