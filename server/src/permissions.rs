//! What an agent wants beyond thinking, and who has granted it.
//!
//! Defaults deny: a want is granted by the operator's configuration, by the command line, by a remembered answer for
//! exactly this agent digest, or by a person asked on the terminal; else the run does not start.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use orch_manifests::{
    Access, AccountWant, AgentName, Digest, EgressWant, HostPattern, Manifest, Scheme, ServerTool, Slug,
};
use orch_proxy::Rule;
use orch_runner::Scratch;

use crate::failure::{Failure, Kind};
use crate::limits::RunLimits;
use crate::run::MountRequest;

mod remembered;
mod said;
#[cfg(test)]
mod tests;

pub use said::grant_words;
pub(crate) use said::{check_wanted, is_said, tools_said};

pub use remembered::{Lasting, Remembered, RememberedAnswer, Whose};

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
    /// To have model providers do something by themselves.
    ServerTool(ServerTool),
    /// To call paths of a provider's account with its key.
    Account(AccountWant),
    /// To search the web with a provider's key.
    Search(Slug),
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
            Self::ServerTool(kind) => {
                write!(f, "let model providers {} (llm.server_tools: {kind})", kind.in_words())
            }
            Self::Account(AccountWant { provider, methods, paths }) => {
                let methods: Vec<_> = methods.iter().map(ToString::to_string).collect();
                let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
                let (methods, paths) = (methods.join(","), paths.join(" "));
                write!(f, "use the account of the {provider} key, uncounted ({methods}; {paths})")
            }
            Self::Search(provider) => write!(f, "search the web with the {provider} key, uncounted"),
        }
    }
}

impl Capability {
    /// The host in the text of a capability to use this secret; none in that of any other.
    pub(crate) fn host_of_secret<'t>(text: &'t str, name: &str) -> Option<&'t str> {
        text.strip_prefix("use the secret ")?.strip_prefix(name)?.strip_prefix(" toward ")
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
    /// Whose wish it is.
    pub agent: AgentName,
    /// In this version.
    pub version: String,
    /// Exactly this one: what an answer that is remembered holds for.
    pub digest: Digest,
    /// What is new to the user.
    pub wanted: Vec<Capability>,
    /// What the newest version of this agent that was granted anything was granted.
    pub had: BTreeSet<String>,
    /// What that one had and this one asks no more.
    pub dropped: Vec<String>,
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
    /// Not, and for this agent digest it is not asked again.
    Never,
}

/// A host that somebody said may be reached: `HOST[:PORT]`, where the port is HTTPS's when none is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    pub(crate) host: HostPattern,
    pub(crate) port: u16,
}

impl AllowedHost {
    /// What has to be said for a want.
    #[must_use]
    pub(crate) fn for_want(want: &EgressWant) -> Self {
        Self { host: want.host.clone(), port: want.effective_port() }
    }

    /// Whether this is what a rule came from.
    #[must_use]
    pub(crate) fn is_of(&self, rule: &Rule) -> bool {
        self.host == rule.host && self.port == rule.port
    }

    /// Whether this allows what the manifest wants: the same pattern, and the same port.
    #[must_use]
    pub(crate) fn covers(&self, want: &EgressWant) -> bool {
        *self == Self::for_want(want)
    }
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                let number = port.parse().ok().filter(|port| *port != 0);
                (host, number.ok_or_else(|| format!("{text:?}: {port:?} is not a port"))?)
            }
            None => (text, Scheme::Https.default_port()),
        };
        let host = host.parse().map_err(|e| format!("{text:?} is not HOST or HOST:PORT: {e}"))?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        if self.port == Scheme::Https.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// The failure of a run that wants what nobody granted; its hints are the flags that would grant it.
pub(crate) fn not_granted(question: &Question) -> Failure {
    let wanted: Vec<String> = question.wanted.iter().map(ToString::to_string).collect();
    let failure = Failure::new(
        Kind::Denied,
        "not_granted",
        format!(
            "{} {} wants to {}, and nobody has granted it",
            question.agent,
            question.version,
            wanted.join("; to ")
        ),
    )
    .detail("agent", format!("{} {}", question.agent, question.version))
    .detail("name", question.agent.to_string())
    .detail("digest", question.digest.to_string())
    .detail("had", question.had.iter().cloned().collect::<Vec<_>>())
    .detail("dropped", question.dropped.clone())
    .detail("wanted", wanted)
    .detail("combined_risk", question.combined.as_str());
    question.wanted.iter().fold(failure, |failure, capability| match capability {
        Capability::Egress(want) => failure.hint(format!("--allow {}", AllowedHost::for_want(want))),
        Capability::Secret { name, host } => failure.hint(format!("--secret {name}@{host}")),
        Capability::ServerTool(_) | Capability::Account(_) | Capability::Search(_) => {
            said::flag_for(capability).into_iter().fold(failure, Failure::hint)
        }
    })
}

/// The failure of a run of an agent, `org/name version`, that wants what its user refused for good. `instead` is the one
/// that it would be without that answer: its hints still grant it.
#[must_use]
pub fn refused_for_good(agent: &str, digest: &Digest, refused: &[String], instead: &Failure) -> Failure {
    let text = format!(
        "{agent} wants to {}: that was refused for good, and is not asked again for this version",
        refused.join("; to ")
    );
    let failure = Failure::new(Kind::Denied, "refused_by_user", text)
        .hint(format!("orch grants rm {digest} forgets that answer, and the next run asks again"));
    let failure = instead
        .hints()
        .iter()
        .fold(failure, |failure, hint| failure.hint(format!("{hint} grants it all the same, for one run")));
    let details = instead.details().iter();
    details
        .fold(failure, |failure, (name, value)| failure.detail(name, value.clone()))
        .detail("refused", refused)
}

/// What the capabilities and mounts of a run amount to together.
#[must_use]
pub(crate) fn combined_risk(agent: &str, wanted: &[Capability], mounts: &[MountRequest]) -> String {
    let hosts: BTreeSet<String> = wanted
        .iter()
        .filter_map(|capability| match capability {
            Capability::Egress(want) => Some(want.host.to_string()),
            Capability::Secret { host, .. } => Some(host.clone()),
            // Who answers a search learns what is searched for.
            Capability::Search(provider) => Some(provider.to_string()),
            Capability::ServerTool(_) | Capability::Account(_) => None,
        })
        .collect();
    let reaching = wanted.iter().any(|capability| match capability {
        // Code runs in there, and what is stored stays.
        Capability::ServerTool(kind) => !matches!(kind, ServerTool::Code | ServerTool::Stored),
        _ => false,
    });
    let kept = wanted.iter().any(|capability| {
        matches!(capability, Capability::ServerTool(ServerTool::Stored) | Capability::Account(_))
    });
    let talks = match hosts.len() {
        0 => "talks to model providers only".to_owned(),
        _ => format!("can send what it reads to {}", hosts.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let talks = match (reaching, kept) {
        (false, false) => talks,
        (true, false) => format!("{talks}, which can pass it on to anybody"),
        (false, true) => format!("{talks}, in whose accounts it can leave and find things"),
        (true, true) => {
            format!(
                "{talks}, which can pass it on to anybody, and in whose accounts it can leave and find things"
            )
        }
    };
    match mounts {
        [] => format!("Together: {agent} reads its input and {talks}."),
        some => {
            let folders: Vec<&str> = some.iter().map(|m| m.guest.as_str()).collect();
            format!("Together: {agent} reads its input and {} and {talks}.", folders.join(", "))
        }
    }
}

/// The scratch folders that a manifest asks for, within the run's limits; none when it asks for none. They take nothing of
/// anybody's but memory, so nobody is asked.
///
/// # Errors
/// When the operator allows none.
pub(crate) fn scratch(manifest: &Manifest, limits: &RunLimits) -> Result<Option<Scratch>, Failure> {
    let wanted = manifest.files.iter().filter(|want| want.access == Access::Scratch);
    let guests: Vec<String> = wanted.map(|want| want.path.clone()).collect();
    let Some(first) = guests.first() else { return Ok(None) };
    if limits.scratch == 0 || limits.scratch_files == 0 {
        return Err(Failure::new(
            Kind::Denied,
            "scratch_unavailable",
            format!("{} wants a scratch folder at {first}, and this installation gives none", manifest.name),
        )
        .hint("`limits.ceilings.scratch` and `limits.ceilings.scratch_files` in config.yaml allow them"));
    }
    Ok(Some(Scratch { guests, bytes: limits.scratch, files: limits.scratch_files }))
}

/// Checks the caller's mounts against the manifest's wants; the narrower access wins.
///
/// # Errors
/// When a folder that the agent wants is not mounted, one is mounted that it does not ask for, or two at one place.
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
    for want in manifest.files.iter().filter(|want| want.access != Access::Scratch) {
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
            Some(want) if want.access == Access::Scratch => Err(Failure::usage(
                "mount_not_wanted",
                format!(
                    "{} has a scratch folder at {}, and nothing is mounted there",
                    manifest.name, want.path
                ),
            )
            .hint("an agent gets only what its manifest asks for under `files`")),
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
