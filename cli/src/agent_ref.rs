//! Published agents, as the command line names them: `org/name`, or `org/name@version`.

use orch_manifests::{AgentName, AgentRef};
use orch_server::Failure;
use semver::{Version, VersionReq};
use url::Url;

/// Reads a name. A whole version means exactly that one, as it does for every package manager; less than a whole one,
/// such as `1` or `^1.2`, is a requirement.
///
/// # Errors
/// When the text is no agent's name.
pub(crate) fn parse(text: &str) -> Result<AgentRef, Failure> {
    let exact = text.split_once('@').and_then(|(name, version)| {
        let version: Version = version.parse().ok()?;
        Some((name.parse::<AgentName>().ok()?, VersionReq::parse(&format!("={version}")).ok()?))
    });
    match exact {
        Some((name, versions)) => Ok(AgentRef { name, versions }),
        None => text.parse().map_err(|e| {
            Failure::usage("bad_usage", format!("{e}")).hint("agents that can be named: orch list")
        }),
    }
}

/// The path of an agent's versions.
pub(crate) fn path(name: &AgentName) -> String {
    format!("/v1/agents/{}/{}", name.org(), name.name())
}

/// The path of the newest version that is meant.
pub(crate) fn version_path(reference: &AgentRef) -> String {
    let version = match reference.versions.to_string() {
        any if any == "*" => "latest".to_owned(),
        some => match some.strip_prefix('=') {
            // A requirement of one exact version is that version.
            Some(exact) if exact.parse::<Version>().is_ok() => exact.to_owned(),
            _ => some,
        },
    };
    format!("{}/{}", path(&reference.name), segment(&version))
}

/// Text as one segment of a path.
fn segment(text: &str) -> String {
    let Ok(mut url) = Url::parse("http://x/") else { return String::new() };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().push(text);
    }
    url.path().trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_version_is_meant_exactly() {
        for (text, path) in [
            ("acme/x", "/v1/agents/acme/x/latest"),
            ("acme/x@1.2.3", "/v1/agents/acme/x/1.2.3"),
            ("acme/x@1.2.3-rc.1", "/v1/agents/acme/x/1.2.3-rc.1"),
            ("acme/x@^1", "/v1/agents/acme/x/^1"),
            ("acme/x@1", "/v1/agents/acme/x/^1"),
            ("acme/x@>=1, <2", "/v1/agents/acme/x/%3E=1,%20%3C2"),
        ] {
            assert_eq!(version_path(&parse(text).expect(text)), path, "{text}");
        }
        assert_eq!(parse("acme/x@1.2.3").expect("a name").to_string(), "acme/x@=1.2.3");
        for bad in ["", "acme", "acme/x@", "acme/x@/../..", "../x", "acme/x/y"] {
            assert_eq!(parse(bad).expect_err(bad).code(), "bad_usage");
        }
    }
}
