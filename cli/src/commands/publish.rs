//! `orch publish`: a version of an agent becomes one that can be run by name.

use std::process::ExitCode;

use orch_manifests::{AgentName, Format};
use orch_server::{Agent, Failure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent_ref;
use crate::args::PublishArgs;
use crate::client::{Client, json};
use crate::printer::{Printer, harmless};
use crate::upload::{self, size};
use crate::wire::{Installation, broken_pipe, with_client};

/// The versions of an agent, newest first or not.
#[derive(Deserialize)]
pub(super) struct Versions {
    pub(super) versions: Vec<VersionLine>,
}

#[derive(Deserialize)]
pub(super) struct VersionLine {
    pub(super) version: semver::Version,
}

/// What a version asks for in comparison with another.
#[derive(Serialize, Deserialize)]
struct Difference {
    from: String,
    to: String,
    added: Vec<String>,
    removed: Vec<String>,
    kept: Vec<String>,
}

#[derive(Deserialize)]
struct Published {
    digest: String,
    capabilities: Vec<String>,
}

pub(crate) fn run(args: &PublishArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let agent = load(args)?;
    with_client(&here, async |client| publish(client, &agent, printer).await)?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that can be wrong with the folder is said before anything is sent.
fn load(args: &PublishArgs) -> Result<Agent, Failure> {
    if !args.path.exists() {
        return Err(Failure::usage("agent_not_found", format!("there is no {}", args.path.display()))
            .hint("orch publish PATH, with the folder of the agent"));
    }
    let agent = Agent::at(&args.path)?;
    if agent.bare {
        return Err(Failure::usage(
            "manifest_missing",
            "a module alone has no name and no version; what is published has a manifest",
        )
        .hint("write orch.yaml beside it, with `module` naming it"));
    }
    Ok(agent)
}

async fn publish(client: &Client, agent: &Agent, printer: Printer) -> Result<(), Failure> {
    let (name, version) = (&agent.manifest.name, &agent.manifest.version);
    let before = versions(client, name).await?;
    let again = before.contains(version);
    let module = upload::module(client, &agent.module, printer).await?;
    let path = format!("{}/{version}", agent_ref::path(name));
    let format = match agent.format {
        Format::Yaml => "yaml",
        Format::Json => "json",
    };
    let body = json!({ "manifest": &*agent.text, "format": format, "module": module.to_string() });
    client.put::<Value>(&path, json(&body)?).await.map_err(|failure| match failure.code() {
        "version_exists" => {
            failure.hint(format!("raise `version` in the manifest: {version} is taken for good"))
        }
        _ => failure,
    })?;
    let published: Published = client.get(&path).await?;
    // The one that people have until now: the newest before this one.
    let last = before.iter().filter(|other| *other < version).max();
    let difference: Option<Difference> = match last {
        Some(last) => Some(client.get(&format!("{path}/diff?from={last}")).await?),
        None => None,
    };

    if printer.json() {
        return printer
            .result_json(&json!({
                "name": name.as_str(), "version": version.to_string(), "digest": published.digest,
                "module": module.to_string(), "new": !again, "capabilities": published.capabilities,
                "difference": difference,
            }))
            .or_else(broken_pipe);
    }
    let mut lines = vec![if again {
        format!("{name} {version} was there already, with this same content")
    } else {
        format!("published {name} {version} at {} ({})", client.name(), size(agent.module.len() as u64))
    }];
    lines.push(format!("digest {}", published.digest));
    lines.extend(wants(&published.capabilities));
    lines.extend(difference.iter().flat_map(changes));
    printer.result(&harmless(&lines.join("\n"))).or_else(broken_pipe)
}

/// The versions that are there; none for an agent that nobody has published yet.
async fn versions(client: &Client, name: &AgentName) -> Result<Vec<semver::Version>, Failure> {
    match client.get::<Versions>(&agent_ref::path(name)).await {
        Ok(found) => Ok(found.versions.into_iter().map(|line| line.version).collect()),
        Err(failure) if matches!(failure.code(), "agent_not_found" | "not_found") => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

fn wants(capabilities: &[String]) -> Vec<String> {
    if capabilities.is_empty() {
        return vec!["it asks for nothing beyond models".to_owned()];
    }
    let wants = capabilities.iter().map(|capability| format!("  - {capability}"));
    ["it asks for permission to:".to_owned()].into_iter().chain(wants).collect()
}

fn changes(difference: &Difference) -> Vec<String> {
    let Difference { from, added, removed, .. } = difference;
    if added.is_empty() && removed.is_empty() {
        return vec![format!("the same as {from}")];
    }
    let mut lines = vec![format!("since {from}:")];
    lines.extend(added.iter().map(|capability| format!("  + {capability}")));
    lines.extend(removed.iter().map(|capability| format!("  - {capability}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_says_what_came_and_what_went() {
        let difference = |added: &[&str], removed: &[&str]| Difference {
            from: "1.0.0".to_owned(),
            to: "1.1.0".to_owned(),
            added: added.iter().map(ToString::to_string).collect(),
            removed: removed.iter().map(ToString::to_string).collect(),
            kept: Vec::new(),
        };
        assert_eq!(changes(&difference(&["a"], &["b"])), ["since 1.0.0:", "  + a", "  - b"]);
        assert_eq!(changes(&difference(&[], &[])), ["the same as 1.0.0"]);
        assert_eq!(wants(&[]), ["it asks for nothing beyond models"]);
    }
}
