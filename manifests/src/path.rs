//! Request paths in one canonical form, and the globs that match them.
//!
//! Policy, the wire and the upstream must see the same path. So the path is normalised once, the normalised bytes are
//! what travels, and whatever a server could read in two ways is refused rather than repaired.

use std::fmt;
use std::str::FromStr;

use crate::text::{quote, written_as_text};

/// Longest request target: what common servers accept, with room.
const TARGET_MAX: usize = 64 * 1024;
const GLOB_MAX: usize = 1024;

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
        if target.len() > TARGET_MAX {
            return Err(PathError::TooLong);
        }
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
            let segment = canonical_segment(raw)?;
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

/// Why a path pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// The text is no path in the first place.
    #[error("{} is not a path pattern: {reason}", quote(.text))]
    Path {
        /// What was given.
        text: String,
        /// Which rule of paths it breaks.
        reason: PathError,
    },
    /// A rule of patterns is broken.
    #[error("{} is not a path pattern: {reason}", quote(.text))]
    Pattern {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
}

/// A pattern over the segments of a path.
///
/// `*` stands for characters inside one segment (a segment that is just `*` needs at least one), `**` as a whole
/// segment for any number of segments. A pattern that ends in `/**` matches what lies below, `/repos/` among it, but
/// not `/repos` itself. Literal parts are canonicalised as paths are, and matching is case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathGlob {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Segment {
    /// `**`
    Any,
    /// The literal pieces between the `*`s; a single piece is a literal segment.
    Pieces(Vec<String>),
}

impl PathGlob {
    /// Whether the pattern covers a path. The query plays no part.
    pub fn matches(&self, path: &CanonicalPath) -> bool {
        let segments: Vec<&str> = path.path()[1..].split('/').collect();
        match_segments(&self.segments, &segments)
    }

    /// The pattern in its canonical spelling.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for PathGlob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| GlobError::Pattern { text: text.into(), reason };
        let rest = text.strip_prefix('/').ok_or_else(|| refuse("it starts with `/`"))?;
        if text.len() > GLOB_MAX {
            return Err(refuse("it has at most 1024 characters"));
        }
        if text.contains(['?', '#']) {
            return Err(refuse("it is about the path alone, so `?` and `#` have no place"));
        }
        let mut segments = Vec::new();
        let mut raw_segments = rest.split('/').peekable();
        while let Some(raw) = raw_segments.next() {
            if raw.is_empty() && (raw_segments.peek().is_some() || rest.contains("//")) {
                return Err(refuse("there is nothing between two slashes"));
            }
            if raw == "**" {
                if segments.last() != Some(&Segment::Any) {
                    segments.push(Segment::Any);
                }
                continue;
            }
            if raw.contains("**") {
                return Err(refuse("`**` stands alone between two slashes"));
            }
            let pieces = raw
                .split('*')
                .map(canonical_segment)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|reason| GlobError::Path { text: text.into(), reason })?;
            if let [literal] = pieces.as_slice()
                && matches!(literal.as_str(), "." | "..")
            {
                return Err(refuse("it has no `.` or `..` segments"));
            }
            segments.push(Segment::Pieces(pieces));
        }
        let canonical = segments.iter().fold(String::new(), |text, segment| match segment {
            Segment::Any => text + "/**",
            Segment::Pieces(pieces) => text + "/" + &pieces.join("*"),
        });
        Ok(Self { text: canonical, segments })
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

written_as_text!(PathGlob, "PathPattern", {
    "type": "string",
    "description": "A path. `*` matches inside one segment, `**` any number of segments.",
    "pattern": "^/[^?#\\\\]*$",
    "examples": ["/repos/**", "/v1/*"],
});

/// Matches segment by segment; a `**` that turns out too short is retried one segment longer. Only the last `**` needs
/// retrying, so this takes at most pattern × path steps.
fn match_segments(pattern: &[Segment], path: &[&str]) -> bool {
    let (mut p, mut s) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while s < path.len() {
        match pattern.get(p) {
            // A final `**` takes the rest, and there is a rest: `/a/**` needs at least the slash after `a`.
            Some(Segment::Any) if p + 1 == pattern.len() => return true,
            Some(Segment::Any) => {
                p += 1;
                retry = Some((p, s));
            }
            Some(Segment::Pieces(pieces)) if match_pieces(pieces, path[s]) => {
                p += 1;
                s += 1;
            }
            _ => match retry.as_mut() {
                Some((after, from)) => {
                    *from += 1;
                    (p, s) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    p == pattern.len()
}

fn match_pieces(pieces: &[String], segment: &str) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return segment.is_empty() };
    let Some((last, middle)) = rest.split_last() else { return first == segment };
    if pieces.iter().all(String::is_empty) {
        return !segment.is_empty();
    }
    let Some(mut segment) =
        segment.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()))
    else {
        return false;
    };
    for piece in middle {
        match segment.find(piece.as_str()) {
            Some(at) => segment = &segment[at + piece.len()..],
            None => return false,
        }
    }
    true
}

/// One segment, canonical. Refuses what could hide a separator or a dot segment.
fn canonical_segment(raw: &str) -> Result<String, PathError> {
    let bytes = raw.as_bytes();
    let mut out = String::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let decoded = match byte {
            b'%' => {
                let byte = escaped_byte(bytes, at).ok_or(PathError::BadEscape)?;
                at += 3;
                match byte {
                    b'/' | b'\\' => return Err(PathError::HiddenSeparator),
                    0..=0x1f | 0x7f => return Err(PathError::Control),
                    b'%' if hides_twice(&bytes[at..]) => return Err(PathError::DoubleEncoding),
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
mod tests {
    use super::*;

    fn path(text: &str) -> CanonicalPath {
        CanonicalPath::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    #[test]
    fn one_path_has_one_spelling() {
        for (text, canonical) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b//", "/a/b/"),
            ("/./a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/%2e/a", "/a"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/%61bc", "/abc"),
            ("/%7euser", "/~user"),
            ("/a%2cb", "/a%2Cb"),
            ("/a,b", "/a,b"),
            ("/é", "/%C3%A9"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/{id}", "/%7Bid%7D"),
            ("/a;v=1", "/a;v=1"),
            ("/a%25b", "/a%25b"),
            ("/100%2541", "/100%2541"),
            ("/..a/b..", "/..a/b.."),
            ("/...", "/..."),
            ("/v1beta/models/x:generate", "/v1beta/models/x:generate"),
            ("/a?", "/a?"),
            ("/a?b=/../c//%2e", "/a?b=/../c//%2e"),
            ("/a?é", "/a?%C3%A9"),
            ("/a/..?x", "/?x"),
            ("/a//../b", "/b"),
        ] {
            assert_eq!(path(text).as_str(), canonical, "{text:?}");
        }
        let both = path("/a/b?x=1?y");
        assert_eq!((both.path(), both.query()), ("/a/b", Some("x=1?y")));
        assert_eq!((path("/a?").query(), path("/a").query()), (Some(""), None));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        use PathError as E;
        for (text, error) in [
            ("", E::NotAbsolute),
            ("a", E::NotAbsolute),
            ("*", E::NotAbsolute),
            ("https://x/", E::NotAbsolute),
            ("?a", E::NotAbsolute),
            ("\\a", E::NotAbsolute),
            ("/a#b", E::Fragment),
            ("/..", E::AboveRoot),
            ("/a/../../b", E::AboveRoot),
            ("/%2e%2e/b", E::AboveRoot),
            ("/a%2fb", E::HiddenSeparator),
            ("/a%2F..%2fb", E::HiddenSeparator),
            ("/a\\b", E::HiddenSeparator),
            ("/a%5cb", E::HiddenSeparator),
            ("/..%5c", E::HiddenSeparator),
            ("/a b", E::Control),
            ("/a\0", E::Control),
            ("/a%00", E::Control),
            ("/a\r\nb", E::Control),
            ("/a%0d%0a", E::Control),
            ("/a\u{7f}", E::Control),
            ("/a?b c", E::Control),
            ("/a?b\n", E::Control),
            ("/%", E::BadEscape),
            ("/%2", E::BadEscape),
            ("/%zz", E::BadEscape),
            ("/%+1", E::BadEscape),
            ("/%252e%252e/a", E::DoubleEncoding),
            ("/%252f", E::DoubleEncoding),
            ("/%255c", E::DoubleEncoding),
            ("/%25252e", E::DoubleEncoding),
            ("/%2500", E::DoubleEncoding),
            ("/a/..;/b", E::DotParameters),
            ("/a/..;x=1/b", E::DotParameters),
            ("/a/.;/b", E::DotParameters),
            ("/a/%2e%2e%3b/b", E::DotParameters),
            ("/a/..%3Bx/b", E::DotParameters),
        ] {
            assert_eq!(CanonicalPath::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(CanonicalPath::parse(&format!("/{}", "a".repeat(TARGET_MAX))), Err(E::TooLong));
    }

    #[test]
    fn globs_match_segments() {
        for (glob, text, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a/", "/a/", true),
            ("/a", "/A", false),
            ("/a", "/a?x=/b", true),
            ("/repos/**", "/repos/a", true),
            ("/repos/**", "/repos/a/b", true),
            ("/repos/**", "/repos/", true),
            ("/repos/**", "/repos", false),
            ("/repos/**", "/reposx/a", false),
            ("/repos/**", "/repos/../user", false),
            ("/repos/**", "/x/%2e%2e/repos/a", true),
            ("/v1/*", "/v1/a", true),
            ("/v1/*", "/v1/a/b", false),
            ("/v1/*", "/v1/", false),
            ("/v1/*", "/v1", false),
            ("/v*/x", "/v1/x", true),
            ("/v*/x", "/v/x", true),
            ("/v*/x", "/w/x", false),
            ("/a*b*c", "/aXbYc", true),
            ("/a*b*c", "/abc", true),
            ("/a*b*c", "/ac", false),
            ("/a*a", "/a", false),
            ("/a*a", "/aa", true),
            ("/a/**/z", "/a/z", true),
            ("/a/**/z", "/a/b/c/z", true),
            ("/a/**/z", "/a/z/y", false),
            ("/a/**/z", "/a/z/z", true),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/**/b/**/d", "/a/b/c/b/d", true),
            ("/**/b/**/d", "/a/c/d", false),
            ("/%61", "/a", true),
            ("/a b", "/a", false),
            ("/a%20b", "/a%20b", true),
            ("/models/*:generateContent", "/models/g-1:generateContent", true),
            ("/models/*:generateContent", "/models/g-1:countTokens", false),
        ] {
            let Ok(glob) = glob.parse::<PathGlob>() else {
                assert!(!expected, "{glob} does not parse");
                continue;
            };
            assert_eq!(glob.matches(&path(text)), expected, "{glob} on {text}");
        }
    }

    #[test]
    fn broken_globs_are_refused() {
        for glob in [
            "",
            "a",
            "repos/**",
            "*",
            "/a**",
            "/**a",
            "/***",
            "/a//b",
            "/a//",
            "//",
            "/../a",
            "/a/./b",
            "/a/%2e%2e/b",
            "/a?b",
            "/a#b",
            "/a b",
            "/a%2fb",
            "/a\\b",
            "/%zz",
            "/a\0",
            &format!("/{}", "a".repeat(1024)),
        ] {
            assert!(glob.parse::<PathGlob>().is_err(), "{glob:?}");
        }
        assert_eq!("/a/**/**/b%2cc".parse::<PathGlob>().unwrap().to_string(), "/a/**/b%2Cc");
    }

    #[test]
    fn matching_takes_bounded_time() {
        let glob: PathGlob = format!("/{}x", "**/a*a*a*a/".repeat(80)).parse().unwrap();
        assert!(!glob.matches(&path(&"/aaaaaaaaaaaaaaaa".repeat(2000))));
    }
}
