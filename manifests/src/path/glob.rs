//! Patterns over paths.

use std::fmt;
use std::str::FromStr;

use super::{CanonicalPath, PathError, Slashes, canonical_segment};
use crate::text::{quote, written_as_text};

const GLOB_MAX: usize = 1024;

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
        // Whole segments before the first `*` stand in the path as they are. Under many rules most end here.
        let literal = self.text.split_once('*').map_or(self.text.as_str(), |(before, _)| before);
        let whole = literal.rsplit_once('/').map_or("", |(before, _)| before);
        if !path.path().starts_with(whole) {
            return false;
        }
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
                .map(|piece| canonical_segment(piece, Slashes::Refused))
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
        // Escaped it is longer, and what is kept has to be readable again.
        if canonical.len() > GLOB_MAX {
            return Err(refuse("it has at most 1024 characters, escaped as they travel"));
        }
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
