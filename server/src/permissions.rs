//! What an agent wants beyond thinking, and who has granted it.
//!
//! Defaults deny: a want is granted by the operator's configuration, by the command line, by a remembered answer for
//! exactly this agent digest, or by a person asked on the terminal; else the run does not start.

use std::collections::BTreeSet;
use std::fmt;

use orch_manifests::{Access, EgressWant, HostName, Manifest, Scheme};

use crate::failure::{Failure, Kind};
use crate::run::MountRequest;

mod remembered;

pub(crate) use remembered::Remembered;

/// One thing that an agent wants and that somebody has to grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// To reach a host.
    Egress(EgressWant),
    /// To have a secret of the vault sent to a host.
    Secret {
        /// The secret's name.
        name: String,
        /// Where the manifest asks to send it.
        host: String,
    },
}

impl fmt::Display for Capability {
    /// The canonical text: what is remembered, compared and shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Egress(want) => {
                let methods = match want.methods.as_slice() {
                    [] => "any method".to_owned(),
                    some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
                };
                write!(f, "talk to {}", origin(want))?;
                write!(f, " ({methods}")?;
                if !want.paths.is_empty() {
                    let paths: Vec<_> = want.paths.iter().map(ToString::to_string).collect();
                    write!(f, "; {}", paths.join(" "))?;
                }
                f.write_str(")")
            }
            Self::Secret { name, host } => write!(f, "use the secret {name} toward {host}"),
        }
    }
}

/// `https://host:port`, without the port when it is the scheme's own.
fn origin(want: &EgressWant) -> String {
    match want.port {
        Some(port) if port != want.scheme.default_port() => format!("{}://{}:{port}", want.scheme, want.host),
        _ => format!("{}://{}", want.scheme, want.host),
    }
}

/// A question to the person at the terminal: everything that is not granted yet, at once.
#[derive(Debug)]
pub struct Question {
    /// `org/name version`.
    pub agent: String,
    /// What is new to the user.
    pub wanted: Vec<Capability>,
    /// What an earlier version of this agent was already granted.
    pub had: BTreeSet<String>,
    /// What the capabilities amount to together, in one sentence.
    pub combined: String,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// For this run.
    Once,
    /// For this agent digest, until it changes.
    Remember,
    /// Not.
    Deny,
}

/// Where a host may be reached because somebody said so: `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    host: String,
    port: Option<u16>,
}

impl AllowedHost {
    /// Parses `HOST[:PORT]`; `*.HOST` stands for the pattern of the same text.
    ///
    /// # Errors
    /// When the host is not a name, or the port not a number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                (host, Some(port.parse::<u16>().map_err(|_| format!("{text:?}: {port:?} is not a port"))?))
            }
            None => (text, None),
        };
        let bare = host.strip_prefix("*.").unwrap_or(host);
        let name: HostName = bare.parse().map_err(|e| format!("{text:?} is not HOST or HOST:PORT: {e}"))?;
        let host = if host.starts_with("*.") { format!("*.{name}") } else { name.to_string() };
        Ok(Self { host, port })
    }

    /// Whether this allows what the manifest wants: the same pattern, and the same port.
    #[must_use]
    pub fn covers(&self, want: &EgressWant) -> bool {
        let wanted = want.effective_port();
        self.host == want.host.to_string() && self.port.unwrap_or(Scheme::Https.default_port()) == wanted
            || self.host == want.host.to_string() && self.port.is_none() && want.port.is_none()
    }

    /// The host pattern's text.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, when one was named.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// What the capabilities and mounts of a run amount to together.
#[must_use]
pub(crate) fn combined_risk(agent: &str, wanted: &[Capability], mounts: &[MountRequest]) -> String {
    let hosts: BTreeSet<String> = wanted
        .iter()
        .map(|capability| match capability {
            Capability::Egress(want) => want.host.to_string(),
            Capability::Secret { host, .. } => host.clone(),
        })
        .collect();
    let talks = match hosts.len() {
        0 => "talks to model providers only".to_owned(),
        _ => format!("can send what it reads to {}", hosts.into_iter().collect::<Vec<_>>().join(", ")),
    };
    match mounts {
        [] => format!("Together: {agent} reads its input and {talks}."),
        some => {
            let folders: Vec<&str> = some.iter().map(|m| m.guest.as_str()).collect();
            format!("Together: {agent} reads its input and {} and {talks}.", folders.join(", "))
        }
    }
}

/// Checks the caller's mounts against the manifest's wants; the narrower access wins.
///
/// # Errors
/// When a folder that the agent wants is not mounted, or one is mounted that it does not ask for.
pub(crate) fn check_mounts(
    manifest: &Manifest,
    bare: bool,
    mounts: &[MountRequest],
) -> Result<Vec<MountRequest>, Failure> {
    if let Some(twice) = mounts
        .iter()
        .enumerate()
        .find(|(at, mount)| mounts[..*at].iter().any(|other| other.guest == mount.guest))
    {
        return Err(Failure::usage("mount_twice", format!("two folders are mounted at {}", twice.1.guest)));
    }
    for want in &manifest.files {
        if !mounts.iter().any(|mount| mount.guest == want.path) {
            let mode = if want.access == Access::Write { "rw" } else { "ro" };
            return Err(Failure::new(
                Kind::Denied,
                "mount_missing",
                format!("{} wants the folder {}, and none was mounted there", manifest.name, want.path),
            )
            .hint(format!("--mount /path/on/this/machine::{}:{mode}", want.path)));
        }
    }
    mounts
        .iter()
        .map(|mount| match manifest.files.iter().find(|want| want.path == mount.guest) {
            Some(want) => {
                Ok(MountRequest { writable: mount.writable && want.access == Access::Write, ..mount.clone() })
            }
            None if bare => Ok(mount.clone()),
            None => Err(Failure::usage(
                "mount_not_wanted",
                format!("{} does not ask for a folder at {}", manifest.name, mount.guest),
            )
            .hint("an agent gets only what its manifest asks for under `files`")),
        })
        .collect()
}
