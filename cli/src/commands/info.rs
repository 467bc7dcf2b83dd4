//! `orch info`: what an agent is, what it wants, and what it was granted.

use std::process::ExitCode;

use orch_server::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use super::publish::Versions;
use crate::agent_ref;
use crate::args::InfoArgs;
use crate::printer::{Printer, harmless};
use crate::upload::size;
use crate::wire::{Installation, broken_pipe, with_client};

#[derive(Deserialize)]
struct Info {
    name: String,
    version: String,
    digest: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    published_at: Option<String>,
    #[serde(default)]
    publisher: Option<String>,
    capabilities: Vec<String>,
    granted: Vec<String>,
    combined_risk: String,
}

pub(crate) fn run(args: &InfoArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let reference = agent_ref::parse(&args.agent)?;
    with_client(&here, async |client| {
        let path = agent_ref::version_path(&reference);
        let answer: Value = client.get(&path).await?;
        let all: Value = client.get(&agent_ref::path(&reference.name)).await?;
        if printer.json() {
            let mut answer = answer;
            answer["versions"] = all.get("versions").cloned().unwrap_or(Value::Null);
            answer["description"] = all.get("description").cloned().unwrap_or(Value::Null);
            return printer.result_json(&answer).or_else(broken_pipe);
        }
        let info: Info = client.typed(&format!("GET {path}"), answer)?;
        let description = all.get("description").and_then(Value::as_str).map(str::to_owned);
        let versions: Versions =
            client.typed("GET of the versions", json!({ "versions": all["versions"] }))?;
        let mut others: Vec<_> = versions.versions.into_iter().map(|line| line.version).collect();
        others.sort_by(|a, b| b.cmp(a));
        let others: Vec<String> =
            others.iter().map(ToString::to_string).filter(|v| *v != info.version).collect();
        printer
            .result(&harmless(&lines(&info, description.as_deref(), &others).join("\n")))
            .or_else(broken_pipe)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn lines(info: &Info, description: Option<&str>, others: &[String]) -> Vec<String> {
    let mut lines = vec![format!("{} {}", info.name, info.version)];
    lines.extend(description.map(|text| text.replace('\n', " ")));
    lines.push(String::new());
    lines.push(format!("digest     {}", info.digest));
    lines.extend(info.size.map(|bytes| format!("module     {}", size(bytes))));
    match (&info.published_at, &info.publisher) {
        (Some(at), Some(by)) => lines.push(format!("published  {at} by {by}")),
        (Some(at), None) => lines.push(format!("published  {at}")),
        _ => {}
    }
    if !others.is_empty() {
        lines.push(format!("versions   {}", others.join(", ")));
    }
    lines.push(String::new());
    if info.capabilities.is_empty() {
        lines.push("It asks for nothing beyond models.".to_owned());
        return lines;
    }
    lines.push("It asks for permission to:".to_owned());
    for capability in &info.capabilities {
        let granted = if info.granted.contains(capability) { " (granted)" } else { "" };
        lines.push(format!("  - {capability}{granted}"));
    }
    lines.push(info.combined_risk.clone());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_is_marked() {
        let info: Info = serde_json::from_value(serde_json::json!({
            "name": "acme/x", "version": "1.1.0", "digest": "sha256:00", "module": "sha256:11", "size": 4096,
            "published_at": "2026-01-31T10:00:00Z", "publisher": "ci", "manifest": "", "format": "yaml",
            "capabilities": ["talk to https://a (any method)", "talk to https://b (any method)"],
            "granted": ["talk to https://a (any method)"],
            "combined_risk": "Together: acme/x reads its input and can send what it reads to a, b.",
        }))
        .expect("the contract's words");
        insta::assert_snapshot!(lines(&info, Some("Does x."), &["1.0.0".to_owned()]).join("\n"), @r"
        acme/x 1.1.0
        Does x.

        digest     sha256:00
        module     4 KiB
        published  2026-01-31T10:00:00Z by ci
        versions   1.0.0

        It asks for permission to:
          - talk to https://a (any method) (granted)
          - talk to https://b (any method)
        Together: acme/x reads its input and can send what it reads to a, b.
        ");
    }
}
