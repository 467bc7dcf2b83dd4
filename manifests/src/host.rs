//! Host names and the patterns that match them.
//!
//! Every name that policy compares is a [`HostName`], made by one parser: two spellings of a name are one value, and
//! nothing that any URL parser would take for an address is ever a name.

use std::fmt;
use std::str::FromStr;

use crate::text::{quote, written_as_text};

/// Longest name in the DNS without the trailing dot (RFC 1035 §2.3.4 less the root label).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// Why a host or a host pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("a host name is empty")]
    Empty,
    /// A whole URL, or a host with a port, path or user, stands where only a name belongs.
    #[error("{} is more than a host name: leave out {extra}", quote(.text))]
    NotOnlyAName {
        /// What was given.
        text: String,
        /// What has to go.
        extra: &'static str,
    },
    /// An address in any spelling: dotted, decimal, octal, hexadecimal, short, IPv6, with a zone.
    #[error("{} is an IP address, and only names can be granted", quote(.0))]
    Address(String),
    /// Longer than the DNS allows, or a label of it is.
    #[error("{} is longer than a host name can be (253 characters, 63 between dots)", quote(.0))]
    TooLong(String),
    /// Characters, or an order of them, that no host name has.
    #[error("{} is not a host name: {reason}", quote(.text))]
    Malformed {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// `*` somewhere else than as the whole first label.
    #[error("{} is not a host pattern: `*` stands only at the start, as in `*.example.com`", quote(.0))]
    Wildcard(String),
    /// A wildcard that would cover hosts of unrelated owners.
    #[error("{} covers hosts of unrelated owners: `{suffix}` is a public suffix", quote(.text))]
    PublicSuffix {
        /// What was given.
        text: String,
        /// The suffix under which anyone can register.
        suffix: String,
    },
}

/// A DNS host name in its one canonical spelling.
///
/// Lower-case A-labels by UTS 46 processing, one to many labels of `[a-z0-9_-]`, at most 253 characters. One trailing
/// dot is dropped: `example.com.` is the same name, and keeping it would give policy two spellings of it. Never an IP
/// address: what the WHATWG URL parser reads as IPv4 (`127.1`, `0x7f.1`, `2130706433`, `１２７.0.0.1`) is refused, and
/// so is everything whose last label looks like a number.
///
/// Single-label and local names (`localhost`, `db.internal`) are valid names, because operators have such hosts.
/// [`HostName::local_reason`] tells them from public ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// Suffixes that never name a public host, each with the reason that a person is told.
const LOCAL_SUFFIXES: &[(&str, &str)] = &[
    ("localhost", "names under `localhost` are this machine (RFC 6761)"),
    ("localdomain", "names under `localdomain` are this machine"),
    ("local", "names under `local` belong to the local network (RFC 6762)"),
    ("internal", "names under `internal` are private, cloud metadata services among them"),
    ("home.arpa", "names under `home.arpa` belong to the home network (RFC 8375)"),
    ("onion", "names under `onion` are not resolved by the DNS (RFC 7686)"),
];

impl HostName {
    /// The canonical name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Why no untrusted party may be granted this name, or `None` for an ordinary public name.
    ///
    /// The reason is a clause for people. Public names may still resolve to private addresses: that is for the guard
    /// at dial time.
    pub fn local_reason(&self) -> Option<&'static str> {
        let under = |suffix: &str| {
            self.0.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        LOCAL_SUFFIXES.iter().find(|(suffix, _)| under(suffix)).map(|(_, reason)| *reason).or_else(|| {
            (!self.0.contains('.')).then_some("a name without a dot is resolved inside the local network")
        })
    }

    /// Whether this name lies below `parent`, at a label boundary and not at the apex.
    pub fn is_below(&self, parent: &HostName) -> bool {
        self.0
            .strip_suffix(parent.0.as_str())
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|rest| !rest.is_empty())
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        refuse_url_parts(text)?;
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        // Bounds the IDNA pass: no name needs more characters than its A-label form has.
        if name.chars().count() > NAME_MAX {
            return Err(HostError::TooLong(text.into()));
        }
        let canonical = match url::Host::parse(name) {
            Ok(url::Host::Domain(domain)) => domain,
            Ok(_) => return Err(HostError::Address(text.into())),
            Err(url::ParseError::InvalidIpv4Address | url::ParseError::InvalidIpv6Address) => {
                return Err(HostError::Address(text.into()));
            }
            Err(_) => {
                return Err(HostError::Malformed {
                    text: text.into(),
                    reason: "it is not valid as an internationalised name",
                });
            }
        };
        // UTS 46 maps the ideographic full stops to dots, so the one trailing dot can appear only now.
        let trailing = if name.len() == text.len() { canonical.strip_suffix('.') } else { None };
        let canonical = trailing.map(str::to_owned).unwrap_or(canonical);
        if canonical.len() > NAME_MAX {
            return Err(HostError::TooLong(text.into()));
        }
        for label in canonical.split('.') {
            check_label(label, text)?;
        }
        // The WHATWG parser has judged the last label before mapping; judge again what will be compared and dialled.
        if canonical.rsplit('.').next().is_some_and(looks_numeric) {
            return Err(HostError::Address(text.into()));
        }
        Ok(Self(canonical))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(HostName, "HostName", {
    "type": "string",
    "description": "A DNS host name.",
    "minLength": 1,
    "examples": ["api.github.com"],
});

/// Which hosts a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name and no other.
    Exact(HostName),
    /// Every name below this one, at any depth, but not the name itself. Written `*.example.com`.
    Subdomains(HostName),
}

impl HostPattern {
    /// Whether the pattern covers a name.
    pub fn matches(&self, host: &HostName) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Subdomains(parent) => host.is_below(parent),
        }
    }

    /// The name that the pattern is built on: itself, or the parent of what it covers.
    pub fn base(&self) -> &HostName {
        match self {
            Self::Exact(name) | Self::Subdomains(name) => name,
        }
    }

    /// Whether everything that `other` matches is matched by this pattern too.
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Subdomains(wide), Self::Subdomains(narrow)) => wide == narrow || narrow.is_below(wide),
            (Self::Exact(_), Self::Subdomains(_)) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(parent) = text.strip_prefix("*.") else {
            if text.contains('*') {
                return Err(HostError::Wildcard(text.into()));
            }
            return text.parse().map(Self::Exact);
        };
        if parent.contains('*') {
            return Err(HostError::Wildcard(text.into()));
        }
        let parent: HostName = parent.parse()?;
        if psl::suffix_str(parent.as_str()) == Some(parent.as_str()) {
            return Err(HostError::PublicSuffix { text: text.into(), suffix: parent.0 });
        }
        Ok(Self::Subdomains(parent))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Subdomains(parent) => write!(f, "*.{parent}"),
        }
    }
}

written_as_text!(HostPattern, "HostPattern", {
    "type": "string",
    "description": "A host name, or `*.` and a host name for its subdomains but not itself.",
    "minLength": 1,
    "examples": ["api.github.com", "*.example.com"],
});

/// Refuses what would make a URL parser see something other than a host, with a message that names it.
fn refuse_url_parts(text: &str) -> Result<(), HostError> {
    let extra = |extra| Err(HostError::NotOnlyAName { text: text.into(), extra });
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    if text.contains("://") {
        return extra("the scheme and everything after the name");
    }
    if text.starts_with('[') || text.matches(':').count() > 1 {
        return Err(HostError::Address(text.into()));
    }
    for c in text.chars() {
        match c {
            '/' | '?' | '#' => return extra("the path, query and fragment"),
            '@' => return extra("the user information before `@`"),
            ':' => return extra("the port"),
            '\\' => return extra("the backslash"),
            '%' => {
                return Err(HostError::Malformed {
                    text: text.into(),
                    reason: "percent-encoding has no place in a host name",
                });
            }
            c if c.is_control() || c.is_whitespace() => {
                return Err(HostError::Malformed {
                    text: text.into(),
                    reason: "it holds a space or a control character",
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_label(label: &str, text: &str) -> Result<(), HostError> {
    let malformed = |reason| Err(HostError::Malformed { text: text.into(), reason });
    if label.is_empty() {
        return malformed("there is nothing between two dots");
    }
    if label.len() > LABEL_MAX {
        return Err(HostError::TooLong(text.into()));
    }
    if !label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_') {
        return malformed("it is made of letters, digits, `-`, `_` and dots");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return malformed("no part of it starts or ends with `-`");
    }
    Ok(())
}

/// Whether a last label makes the whole an IPv4 address for some resolver (WHATWG "ends in a number").
fn looks_numeric(label: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    digits(label) || label.strip_prefix("0x").is_some_and(hex)
}

#[cfg(test)]
mod tests;
