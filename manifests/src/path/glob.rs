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

    /// Whether there is a path that both patterns cover.
    pub fn meets(&self, other: &PathGlob) -> bool {
        segments_meet(&self.segments, &other.segments)
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

/// Whether some list of segments fits both patterns. From the end on, so that it takes pattern × pattern steps.
fn segments_meet(one: &[Segment], other: &[Segment]) -> bool {
    let is_fixed = |segments: &[Segment]| !segments.contains(&Segment::Any);
    if is_fixed(one) && is_fixed(other) && one.len() != other.len() {
        return false;
    }
    // Most differ in the words that they begin with.
    if let ([Segment::Pieces(a), ..], [Segment::Pieces(b), ..]) = (one, other)
        && !pieces_meet(a, b)
    {
        return false;
    }
    // Row by row: whether what is left of `one` and what is left of `other` meet.
    let mut below = vec![false; other.len() + 1];
    for left in (0..=one.len()).rev() {
        let mut row = vec![false; other.len() + 1];
        for right in (0..=other.len()).rev() {
            row[right] = match (one.get(left), other.get(right)) {
                (None, None) => true,
                (None, Some(_)) | (Some(_), None) => false,
                // A final `**` takes the rest, and there is a rest.
                (Some(Segment::Any), _) if left + 1 == one.len() => true,
                (_, Some(Segment::Any)) if right + 1 == other.len() => true,
                // It stands for nothing more, or for one segment of the other.
                (Some(Segment::Any), _) | (_, Some(Segment::Any)) => below[right] || row[right + 1],
                (Some(Segment::Pieces(a)), Some(Segment::Pieces(b))) => below[right + 1] && pieces_meet(a, b),
            };
        }
        below = row;
    }
    below[0]
}

/// Whether some segment fits both. A colon is the same percent-encoded.
fn pieces_meet(one: &[String], other: &[String]) -> bool {
    if let ([one], [other]) = (one, other)
        && !one.contains("%3A")
        && !other.contains("%3A")
    {
        return one == other;
    }
    let [one, other] = [one, other].map(|pieces| pieces.join("*").replace("%3A", ":").into_bytes());
    let mut below = vec![false; other.len() + 1];
    for left in (0..=one.len()).rev() {
        let mut row = vec![false; other.len() + 1];
        for right in (0..=other.len()).rev() {
            row[right] = match (one.get(left), other.get(right)) {
                (None, None) => true,
                (Some(b'*'), None) => below[right],
                (None, Some(b'*')) => row[right + 1],
                (Some(b'*'), _) | (_, Some(b'*')) => below[right] || row[right + 1],
                (Some(a), Some(b)) => a == b && below[right + 1],
                (None, Some(_)) | (Some(_), None) => false,
            };
        }
        below = row;
    }
    below[0]
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
