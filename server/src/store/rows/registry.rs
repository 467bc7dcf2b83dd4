//! Agents, their versions, what was granted to them, and tokens.

use orch_manifests::{AgentName, Digest, Format, RouteName};
use semver::Version;
use time::OffsetDateTime;

/// An agent's content, published or only uploaded for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// Its identity: SHA-256(canonical manifest ‖ module).
    pub digest: Digest,
    /// Its name.
    pub name: AgentName,
    /// Its version.
    pub version: Version,
    /// The manifest as its author wrote it.
    pub manifest: String,
    /// What that is written in.
    pub format: Format,
    /// The module, a blob.
    pub module: Digest,
    /// Whether it came without a manifest, so that the request alone says what it may do.
    pub bare: bool,
}

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// The agent.
    pub name: AgentName,
    /// The version.
    pub version: Version,
    /// Its content, which is stored already ([`Store::put_agent`](crate::store::Store::put_agent)).
    pub digest: Digest,
    /// What its manifest says that it does.
    pub description: Option<String>,
    /// Length of its module in bytes.
    pub size: u64,
    /// When.
    pub published: OffsetDateTime,
    /// Who.
    pub publisher: String,
    /// For which workspace, to which the organisation belongs.
    pub workspace: String,
}

/// What came of publishing a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is there now.
    New,
    /// It was there with the same content.
    Same,
    /// It is there with other content, which stays.
    Other(Digest),
    /// The organisation belongs to another workspace, which published in it first. Nothing was published.
    Foreign,
}

/// A published agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSummary {
    /// Its name.
    pub name: AgentName,
    /// Its highest version that is no pre-release, or its highest when all are.
    pub latest: Version,
    /// How many there are.
    pub versions: u32,
    /// The description of the latest.
    pub description: Option<String>,
}

/// What a workspace granted to exactly one content of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// Whose grant.
    pub workspace: String,
    /// The agent's name.
    pub agent: AgentName,
    /// Its content.
    pub digest: Digest,
    /// Each capability in its exact text.
    pub capabilities: Vec<String>,
    /// When.
    pub granted_at: OffsetDateTime,
    /// Who.
    pub granted_by: String,
}

/// A route of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRow {
    /// Whose route.
    pub workspace: String,
    /// Its name.
    pub name: RouteName,
    /// Where it leads, as JSON.
    pub route: String,
}

/// A token. Its text is nowhere: whoever holds it can be recognised, and nobody can be imitated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its public name, `tok_…`.
    pub id: String,
    /// The workspace that it opens.
    pub workspace: String,
    /// What its maker calls it.
    pub name: String,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created: OffsetDateTime,
    /// When it ends.
    pub expires: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked: Option<OffsetDateTime>,
    /// When it was last used, as far as it was noted.
    pub last_used: Option<OffsetDateTime>,
}
