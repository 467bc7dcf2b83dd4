//! Names of things: agents, digests, runs, providers, models and secrets.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};

use crate::text::{quote, written_as_text};

/// Longest half of an agent name; both halves become folder names.
const NAME_PART_MAX: usize = 64;
const MODEL_MAX: usize = 256;
const SECRET_NAME_MAX: usize = 128;

/// Why a name was refused. The text says what was wrong and what the right form is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not `org/name` of lower-case letters, digits and hyphens.
    #[error("{} is not an agent name: {reason}", quote(.name))]
    AgentName {
        /// What was given.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Not `org/name@requirement`.
    #[error("{} is not an agent reference: {reason}", quote(.name))]
    AgentRef {
        /// What was given.
        name: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// Not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("{} is not a digest: write `sha256:` and 64 lower-case hexadecimal digits", quote(.0))]
    Digest(String),
    /// Not a run id.
    #[error("{} is not a run id: it is `run_` and 26 characters of a-z and 2-7", quote(.0))]
    RunId(String),
    /// Not a provider slug.
    #[error("{} is not a provider name: use a-z, 0-9 and `-`, at most 64 characters", quote(.0))]
    Slug(String),
    /// Not a model name.
    #[error("{} is not a model name: {reason}", quote(.name))]
    Model {
        /// What was given.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Not a secret or environment variable name.
    #[error(
        "{} is not a secret's name: use letters, digits and `_`, not starting with a digit, at most 128 characters",
        quote(.0)
    )]
    SecretName(String),
}

/// `org/name` of an agent: each half 1 to 64 of `[a-z0-9-]`, neither starting nor ending with a hyphen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentName {
    text: String,
    slash: usize,
}

impl AgentName {
    /// The part before the slash.
    pub fn org(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// The whole `org/name`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for AgentName {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| IdentityError::AgentName { name: text.into(), reason };
        let (org, name) = text
            .split_once('/')
            .ok_or_else(|| refuse("write it as `org/name`, such as `acme/summarizer`"))?;
        for part in [org, name] {
            if part.is_empty() || part.len() > NAME_PART_MAX {
                return Err(refuse("each half has 1 to 64 characters"));
            }
            if !is_slug_text(part) {
                return Err(refuse("each half is made of a-z, 0-9 and `-`"));
            }
            if part.starts_with('-') || part.ends_with('-') {
                return Err(refuse("neither half starts or ends with `-`"));
            }
        }
        Ok(Self { text: text.into(), slash: org.len() })
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

written_as_text!(AgentName, "AgentName", {
    "type": "string",
    "description": "`org/name` in lower-case letters, digits and hyphens.",
    "pattern": "^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$",
    "examples": ["acme/summarizer"],
});

/// The versions of an agent that a caller accepts, with semver's requirement syntax.
pub type AgentVersionReq = semver::VersionReq;

/// Another agent, as `calls` and the command line name it: `org/name` or `org/name@requirement`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentRef {
    /// Which agent.
    pub name: AgentName,
    /// Which versions of it; `*` when the reference names none.
    pub versions: AgentVersionReq,
}

impl FromStr for AgentRef {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, versions) = match text.split_once('@') {
            None => (text, AgentVersionReq::STAR),
            Some((name, versions)) => {
                let versions = versions.parse().map_err(|error| IdentityError::AgentRef {
                    name: text.into(),
                    reason: format!("what follows `@` is a version requirement such as `^2`: {error}"),
                })?;
                (name, versions)
            }
        };
        Ok(Self { name: name.parse()?, versions })
    }
}

impl fmt::Display for AgentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.versions == AgentVersionReq::STAR {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}@{}", self.name, self.versions)
        }
    }
}

written_as_text!(AgentRef, "AgentRef", {
    "type": "string",
    "description": "Another agent: `org/name`, or `org/name@` and a semver requirement.",
    "pattern": "^[a-z0-9-]+/[a-z0-9-]+(@.+)?$",
    "examples": ["acme/translator@^2"],
});

/// A SHA-256 digest, written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digesting = Digesting::new();
        digesting.update(bytes);
        digesting.finish()
    }

    /// A digest that was computed elsewhere, such as while streaming.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without the prefix, for file names.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// The digest of bytes that come in pieces.
pub struct Digesting(ring::digest::Context);

impl Digesting {
    /// Of no bytes yet.
    #[must_use]
    pub fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Takes in the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        Digest(out)
    }
}

impl Default for Digesting {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for Digest {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("sha256:")
            .and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok())
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| IdentityError::Digest(text.into()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

written_as_text!(Digest, "Digest", {
    "type": "string",
    "pattern": "^sha256:[0-9a-f]{64}$",
});

const RUN_PREFIX: &str = "run_";

/// One run: `run_` and 26 characters that spell 128 random bits in lower-case base32 (RFC 4648, unpadded).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(String);

impl RunId {
    /// A new id from the operating system's random source.
    ///
    /// # Panics
    /// When the operating system has no random source to give: nothing that follows would be safe.
    pub fn random() -> Self {
        let mut bits = [0; 16];
        #[expect(clippy::expect_used, reason = "without a random source no capability is unguessable")]
        getrandom::fill(&mut bits).expect("the operating system's random source answers");
        Self(format!("{RUN_PREFIX}{}", BASE32_NOPAD.encode(&bits).to_ascii_lowercase()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Upper case would be a second spelling of the same run, so only the lower-case form is read.
        text.strip_prefix(RUN_PREFIX)
            .filter(|bits| !bits.bytes().any(|b| b.is_ascii_uppercase()))
            .and_then(|bits| BASE32_NOPAD.decode(bits.to_ascii_uppercase().as_bytes()).ok())
            .filter(|bits| bits.len() == 16)
            .map(|_| Self(text.into()))
            .ok_or_else(|| IdentityError::RunId(text.into()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(RunId, "RunId", {
    "type": "string",
    "pattern": "^run_[a-z2-7]{26}$",
});

/// A provider's name in the catalog: 1 to 64 of `[a-z0-9-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(String);

impl Slug {
    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slug {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ok = !text.is_empty() && text.len() <= NAME_PART_MAX && is_slug_text(text);
        if ok { Ok(Self(text.into())) } else { Err(IdentityError::Slug(text.into())) }
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(Slug, "ProviderSlug", {
    "type": "string",
    "description": "A provider of the catalog, or one that the operator defined.",
    "pattern": "^[a-z0-9-]{1,64}$",
    "examples": ["openai", "anthropic", "gemini", "ollama"],
});

/// A model as a person names it: `model` or `provider/model`.
///
/// Up to 256 of `[A-Za-z0-9._:/@+~-]` without empty, `.` or `..` segments: some dialects put the name into a URL path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);

impl ModelName {
    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first slash and what follows it. The first part is a provider only if the catalog
    /// knows it as one.
    pub fn split(&self) -> (Option<&str>, &str) {
        match self.0.split_once('/') {
            Some((first, rest)) => (Some(first), rest),
            None => (None, &self.0),
        }
    }
}

impl FromStr for ModelName {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| Err(IdentityError::Model { name: text.into(), reason });
        if text.is_empty() || text.len() > MODEL_MAX {
            return refuse("it has 1 to 256 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+~-".contains(&b)) {
            return refuse("it is made of letters, digits and `.`, `_`, `:`, `/`, `@`, `+`, `~`, `-`");
        }
        if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return refuse("nothing between two slashes may be empty, `.` or `..`");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(ModelName, "ModelName", {
    "type": "string",
    "description": "A model, or `provider/model`.",
    "pattern": "^[A-Za-z0-9._:/@+~-]{1,256}$",
    "examples": ["gpt-4o-mini", "anthropic/claude-3-haiku"],
});

/// A secret's name, which is also the name of its environment variable: `[A-Za-z_][A-Za-z0-9_]*`, at most 128.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_variable_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(IdentityError::SecretName(text.into()))
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(SecretName, "SecretName", {
    "type": "string",
    "description": "The secret's name, which is also its environment variable inside the sandbox.",
    "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$",
    "examples": ["GITHUB_TOKEN"],
});

/// Whether text can name an environment variable on every system.
pub(crate) fn is_variable_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= SECRET_NAME_MAX
        && bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn is_slug_text(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests;
