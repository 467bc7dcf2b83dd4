//! A policy file: the `egress` and the `limits` of a manifest, without the agent. Whole manifests are policies, too.

use std::path::Path;

use super::error::{ManifestError, Problem};
use super::locate::{Place, Step};
use super::read::{Cursor, Draft, Position, Sink};
use super::tree::{self, Node};
use super::{EgressWant, Format, MANIFEST_MAX, Manifest, decode, read_file};
use crate::limits::Limits;
use crate::text::quote;

/// Limits of a run that are nothing to a policy, which is about traffic.
const OF_RUNS: [&str; 6] = ["memory", "time", "cpu", "output", "tokens", "cost_usd"];

/// What may be reached, and how much of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// The hosts.
    pub egress: Vec<EgressWant>,
    /// How much; of a whole manifest all of its limits, of a policy file those of traffic.
    pub limits: Limits,
}

impl Policy {
    /// The policy in a text: of a manifest, or of a file that holds `egress` and perhaps `limits`.
    ///
    /// # Errors
    /// As [`Manifest::parse`](super::Manifest::parse); also when there is no `egress` at all, or a limit that only a run
    /// has.
    pub fn parse(text: &str, format: Format, label: &str) -> Result<Self, ManifestError> {
        let stripped = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = match text.len() <= MANIFEST_MAX {
            true => tree::parse(stripped, format).ok(),
            false => None,
        };
        let Some(Node::Map(entries)) = root else {
            // The reason why it is none is the parser's to say, or the list's.
            let egress = egress(text, format, label)?;
            return Ok(Self { egress, limits: Limits::default() });
        };
        if entries.iter().any(|(key, _)| key == "name" || key == "module") {
            let Manifest { egress, limits, .. } = Manifest::parse(text, format, label)?;
            return Ok(Self { egress, limits });
        }
        if let Some((key, _)) = entries.iter().find(|(key, _)| key != "egress" && key != "limits") {
            let draft = Draft {
                path: vec![Step::Key(key.clone())],
                place: Place::Key,
                message: format!("unknown field {}", quote(key)),
                hint: Some("a policy file holds `egress` and `limits` alone, or is a whole manifest".into()),
                position: Position::LookUp,
            };
            return Err(ManifestError::locate(label, stripped, format, vec![draft]));
        }
        let egress = egress(text, format, label)?;
        let limits = match entries.iter().find(|(key, _)| key == "limits") {
            Some((_, node)) => {
                limits(node).map_err(|drafts| ManifestError::locate(label, stripped, format, drafts))?
            }
            None => Limits::default(),
        };
        Ok(Self { egress, limits })
    }

    /// Reads a policy: a `.yaml`, `.yml` or `.json` file, or the manifest in a folder.
    ///
    /// # Errors
    /// As [`Policy::parse`], and when there is no such file, or it is no regular file or not text.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let (text, format, label) = read_file(path, "a policy")?;
        Self::parse(&text, format, &label)
    }
}

fn egress(text: &str, format: Format, label: &str) -> Result<Vec<EgressWant>, ManifestError> {
    let list = EgressWant::list_in(text, format, label, &["egress"])?;
    list.ok_or_else(|| ManifestError::whole(label, no_egress()))
}

/// The limits of traffic.
fn limits(node: &Node) -> Result<Limits, Vec<Draft>> {
    let sink = Sink::default();
    let at = Cursor::inside(node, &["limits"], &sink);
    for (name, field) in at.entries().into_iter().flatten() {
        if OF_RUNS.contains(&name) {
            field.problem_hint(
                "is a limit of a run, and a policy file is about traffic",
                "leave it out; requests, concurrent, upload, download, rate and per_host bound traffic",
            );
        }
    }
    // What is no mapping has been said already.
    let limits = if matches!(node, Node::Map(_)) { decode::limits(&at) } else { None };
    match limits {
        Some(limits) if sink.is_empty() => Ok(limits),
        _ => Err(sink.into_drafts()),
    }
}

fn no_egress() -> Problem {
    let mut problem = Problem::whole("has no `egress` list".into());
    problem.hint = Some("write `egress: [{ host: api.example.com }]`, or `egress: []` for nothing".into());
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<Policy, ManifestError> {
        Policy::parse(text, Format::Yaml, "p.yaml")
    }

    #[test]
    fn a_policy_file_is_a_list_with_limits_or_a_manifest() {
        assert_eq!(policy("egress: []").expect("nothing"), Policy::default());
        assert_eq!(policy("egress: [{ host: a.example.com }]").expect("one").egress.len(), 1);
        let bounded = "egress: []\nlimits: { requests: 10, download: 1MiB, per_host: { requests: 2 } }\n";
        let limits = policy(bounded).expect("bounded").limits;
        assert_eq!((limits.requests, limits.per_host.requests), (Some(10), Some(2)));
        let whole = "name: acme/x\nversion: 1.0.0\nmodule: a.wasm\negress: [{ host: a.example.com }]\nlimits: { memory: \
                     64MiB, requests: 3 }\n";
        let whole = policy(whole).expect("one");
        assert_eq!((whole.egress.len(), whole.limits.requests), (1, Some(3)));
        assert!(whole.limits.memory.is_some());
    }

    #[test]
    fn anything_else_is_named_with_its_place() {
        for (text, says) in [
            ("", "no `egress`"),
            ("egres: []", "p.yaml:1:1: egres: unknown field"),
            ("egress: []\nallow: []\n", "p.yaml:2:1: allow: unknown field"),
            ("limits: { requests: 1 }", "no `egress`"),
            ("[]", "no `egress`"),
            ("egress: []\nlimits: { memory: 1MiB }\n", "p.yaml:2:19: limits.memory: is a limit of a run"),
            ("egress: []\nlimits: { request: 1 }\n", "limits.request: unknown field"),
            ("egress: []\nlimits: []\n", "limits: expected a mapping"),
            ("egress: []\nlimits:\n", "limits: expected a mapping"),
            ("egress: [{ host: 10.0.0.1 }]\n", "IP address"),
            ("name: acme/x\negress: []\n", "`version` is missing"),
            ("egress: [\n", "not valid YAML"),
        ] {
            let error = policy(text).expect_err(text);
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}
