//! What an agent asks for and nobody has granted, shown to the person at the terminal.

use orch_manifests::{AgentName, Digest};
use orch_server::{Failure, Question};
use serde::Deserialize;
use serde_json::Value;

use crate::printer::Printer;

/// The question, as it is shown: the same for a run here and one on a server.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// `org/name version`.
    pub(super) agent: String,
    /// What is not granted yet.
    pub(super) wanted: Vec<String>,
    /// What the newest version that was granted anything was granted.
    #[serde(default)]
    had: Vec<String>,
    /// What that one had and this one asks no more.
    #[serde(default)]
    dropped: Vec<String>,
    /// What it all amounts to, in one sentence.
    #[serde(rename = "combined_risk")]
    combined: String,
}

/// Whose wish a server told, for an answer that it is to remember.
#[derive(Debug, Deserialize)]
pub(super) struct Asking {
    pub(super) name: AgentName,
    pub(super) digest: Digest,
}

impl Asked {
    /// The question in a server's refusal; none when it refused something else.
    pub(super) fn in_refusal(failure: &Failure) -> Option<(Self, Asking)> {
        if failure.code() != "not_granted" {
            return None;
        }
        let details = Value::Object(failure.details().clone());
        Some((serde_json::from_value(details.clone()).ok()?, serde_json::from_value(details).ok()?))
    }

    /// The broker's question.
    pub(super) fn of(question: &Question) -> Self {
        Self {
            agent: format!("{} {}", question.agent, question.version),
            wanted: question.wanted.iter().map(ToString::to_string).collect(),
            had: question.had.iter().cloned().collect(),
            dropped: question.dropped.clone(),
            combined: question.combined.clone(),
        }
    }

    /// Shows what is asked, what is new and what is not asked any more.
    pub(super) fn show(&self, printer: Printer) {
        for line in self.lines() {
            printer.note(&line);
        }
        printer.ask("Allow? [y]es for this run, [a]lways or ne[v]er for exactly this version, [N]o: ");
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} asks for permission to:", self.agent)];
        for capability in &self.wanted {
            let new = !self.had.is_empty() && !self.had.contains(capability);
            lines.push(format!("  - {capability}{}", if new { " (new in this version)" } else { "" }));
        }
        let kept = self.had.iter().filter(|had| !self.wanted.contains(had) && !self.dropped.contains(had));
        lines.extend(kept.map(|had| format!("  - as before: {had}")));
        lines.extend(self.dropped.iter().map(|dropped| format!("  - no longer: {dropped}")));
        lines.push(self.combined.clone());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orch_server::Kind;
    use serde_json::json;

    fn refusal(code: &'static str, details: &Value) -> Failure {
        let fields = details.as_object().expect("an object").clone();
        let failure = Failure::new(Kind::Denied, code, "no");
        fields.into_iter().fold(failure, |failure, (name, value)| failure.detail(&name, value))
    }

    #[test]
    fn the_difference_to_the_version_before_is_shown() {
        let details = json!({
            "agent": "acme/x 2.0.0", "name": "acme/x", "digest": Digest::of(b"x").to_string(),
            "wanted": ["talk to https://b (any method)", "talk to https://a (any method)"],
            "had": ["talk to https://a (any method)", "talk to https://c (any method)"],
            "dropped": ["talk to https://c (any method)"],
            "combined_risk": "Together: it can send what it reads to a, b.",
        });
        let (asked, asking) = Asked::in_refusal(&refusal("not_granted", &details)).expect("a question");
        assert_eq!((asking.name.as_str(), asking.digest), ("acme/x", Digest::of(b"x")));
        insta::assert_snapshot!(asked.lines().join("\n"), @r"
        acme/x 2.0.0 asks for permission to:
          - talk to https://b (any method) (new in this version)
          - talk to https://a (any method)
          - no longer: talk to https://c (any method)
        Together: it can send what it reads to a, b.
        ");
    }

    #[test]
    fn only_a_whole_question_is_asked() {
        let whole = json!({ "agent": "a/b 1", "name": "a/b", "digest": Digest::of(b"").to_string(), "wanted": [],
            "combined_risk": "" });
        assert!(Asked::in_refusal(&refusal("not_granted", &whole)).is_some());
        assert!(Asked::in_refusal(&refusal("forbidden", &whole)).is_none());
        for (field, wrong) in
            [("digest", json!("sha256:../x")), ("name", json!("a/../b")), ("wanted", json!(1))]
        {
            let mut broken = whole.clone();
            broken[field] = wrong;
            assert!(Asked::in_refusal(&refusal("not_granted", &broken)).is_none(), "{field}");
        }
    }
}
