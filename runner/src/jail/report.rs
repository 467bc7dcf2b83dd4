//! Which layers of the jail hold, for the broker, the run's log and `orch doctor`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::printable;

/// Longest reason that is taken over from a jailed process, in bytes.
const MAX_REASON: usize = 512;

/// A layer of the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerName {
    /// Nothing is inherited but three descriptors; the environment is empty.
    Descriptors,
    /// The kernel ends the process with its broker.
    ParentDeath,
    /// User, network, mount, IPC and host-name namespaces of its own, all empty.
    Namespaces,
    /// A file system that has nothing in it but the mounts.
    Root,
    /// No capabilities, none to be had by executing anything, and no other process may look into it.
    Privileges,
    /// Limits of the kernel on core dumps, files, descriptors and processes.
    Rlimits,
    /// File rights below the mounts only; no TCP, no signals to others.
    Landlock,
    /// A filter of system calls.
    Seccomp,
}

impl LayerName {
    /// All of them, in the order in which they are applied.
    pub const ALL: [LayerName; 8] = [
        LayerName::Descriptors,
        LayerName::ParentDeath,
        LayerName::Namespaces,
        LayerName::Root,
        LayerName::Privileges,
        LayerName::Rlimits,
        LayerName::Landlock,
        LayerName::Seccomp,
    ];

    /// The name in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            LayerName::Descriptors => "descriptors",
            LayerName::ParentDeath => "parent-death",
            LayerName::Namespaces => "namespaces",
            LayerName::Root => "root",
            LayerName::Privileges => "privileges",
            LayerName::Rlimits => "rlimits",
            LayerName::Landlock => "landlock",
            LayerName::Seccomp => "seccomp",
        }
    }
}

impl LayerName {
    /// What it takes away from the process, for a person.
    pub fn purpose(self) -> &'static str {
        match self {
            LayerName::Descriptors => "nothing is inherited but its socket, its artifact and a pipe",
            LayerName::ParentDeath => "it cannot outlive its broker",
            LayerName::Namespaces => "it has no network, and no user, host name or shared memory but its own",
            LayerName::Root => "its file system has nothing in it but the run's mounts",
            LayerName::Privileges => {
                "it has no capabilities, can gain none, and no other process may look into it"
            }
            LayerName::Rlimits => "core dumps, files, descriptors and threads are bounded",
            LayerName::Landlock => {
                "it has no rights to files but the run's mounts, none to TCP or to signal others"
            }
            LayerName::Seccomp => "a system call that running a guest does not need ends it",
        }
    }
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No layer has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a layer of the sandbox; they are {names}", names = names())]
pub struct UnknownLayer(String);

fn names() -> String {
    LayerName::ALL.map(LayerName::as_str).join(", ")
}

impl FromStr for LayerName {
    type Err = UnknownLayer;

    fn from_str(word: &str) -> Result<Self, UnknownLayer> {
        let found = LayerName::ALL.into_iter().find(|name| name.as_str() == word);
        found.ok_or_else(|| UnknownLayer(word.to_owned()))
    }
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Layer {
    /// It holds.
    Active,
    /// It holds in part.
    Partial {
        /// What it does not cover, and why.
        reason: String,
    },
    /// It does not hold.
    Missing {
        /// Why.
        reason: String,
    },
}

impl Layer {
    pub(super) fn missing(reason: impl Into<String>) -> Self {
        Layer::Missing { reason: reason.into() }
    }

    #[cfg(target_os = "linux")]
    pub(super) fn partial(reason: impl Into<String>) -> Self {
        Layer::Partial { reason: reason.into() }
    }

    /// Why it is not all there; none when it is.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Layer::Active => None,
            Layer::Partial { reason } | Layer::Missing { reason } => Some(reason),
        }
    }
}

/// One layer of a jail, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Which.
    pub layer: LayerName,
    /// Whether it holds.
    #[serde(flatten)]
    pub outcome: Layer,
}

/// What became of each layer of a jail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Report(Vec<Applied>);

impl Report {
    pub(crate) fn new<const N: usize>(layers: [(LayerName, Layer); N]) -> Self {
        Report(layers.into_iter().map(|(layer, outcome)| Applied { layer, outcome }).collect())
    }

    pub(super) fn add(&mut self, layer: LayerName, outcome: Layer) {
        self.0.push(Applied { layer, outcome });
    }

    /// The layers, in the order in which they were applied.
    pub fn layers(&self) -> &[Applied] {
        &self.0
    }

    /// What became of one layer; none when nothing was said of it.
    pub fn get(&self, name: LayerName) -> Option<&Layer> {
        self.0.iter().find(|applied| applied.layer == name).map(|applied| &applied.outcome)
    }

    /// What does not hold, or only in part, each as `layer: reason`.
    pub fn gaps(&self) -> Vec<String> {
        let told = |name| match self.get(name) {
            None => Some("nothing is known of it"),
            Some(outcome) => outcome.reason(),
        };
        LayerName::ALL
            .into_iter()
            .filter_map(|name| told(name).map(|reason| format!("{name}: {reason}")))
            .collect()
    }

    /// What of `required` does not hold in full, each as `layer: reason`.
    pub fn unmet(&self, required: &Requirement) -> Vec<String> {
        let short = |name: &LayerName| match self.get(*name) {
            Some(Layer::Active) => None,
            Some(outcome) => Some(format!("{name}: {}", outcome.reason().unwrap_or_default())),
            None => Some(format!("{name}: nothing is known of it")),
        };
        required.0.iter().filter_map(short).collect()
    }

    /// Why a run of this process has no scratch folders; none when it can have some. They are in a file system of the process's
    /// own, which nobody else sees and whose bounds the kernel keeps, and nowhere else.
    pub fn lacks_scratch(&self) -> Option<&str> {
        self.get(LayerName::Root).map_or(Some("nothing is known of it"), Layer::reason)
    }

    /// The same with reasons that can be shown.
    pub(crate) fn harmless(self) -> Self {
        let clean = |mut applied: Applied| {
            if let Layer::Partial { reason } | Layer::Missing { reason } = &mut applied.outcome {
                *reason = printable(reason, MAX_REASON);
            }
            applied
        };
        Report(self.0.into_iter().take(LayerName::ALL.len()).map(clean).collect())
    }
}

/// Layers without which nothing is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement(BTreeSet<LayerName>);

impl Requirement {
    /// Every layer.
    pub fn all() -> Self {
        Requirement(LayerName::ALL.into())
    }

    /// These layers.
    pub fn of(layers: impl IntoIterator<Item = LayerName>) -> Self {
        Requirement(layers.into_iter().collect())
    }

    /// Whether nothing is required.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in LayerName::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
            assert_eq!(serde_json::to_string(&name).unwrap(), format!("\"{name}\""));
        }
        let error = "landlok".parse::<LayerName>().unwrap_err().to_string();
        assert!(error.contains("landlok") && error.contains("seccomp"), "{error}");
    }

    #[test]
    fn what_is_required_has_to_hold_in_full() {
        let mut report = Report::new([
            (LayerName::Seccomp, Layer::Active),
            (LayerName::Landlock, Layer::Partial { reason: "no network".to_owned() }),
        ]);
        assert!(report.unmet(&Requirement::default()).is_empty());
        assert!(report.unmet(&Requirement::of([LayerName::Seccomp])).is_empty());
        assert_eq!(report.unmet(&Requirement::of([LayerName::Landlock])), ["landlock: no network"]);
        assert_eq!(report.unmet(&Requirement::all()).len(), 7, "what is not reported does not hold");
        assert!(report.lacks_scratch().is_some());
        report.add(LayerName::Root, Layer::missing("no\u{1b}[2J namespace"));
        let shown = report.harmless();
        assert!(!shown.gaps().concat().contains('\u{1b}'));
        assert!(shown.gaps().iter().any(|gap| gap.starts_with("root: no")), "{:?}", shown.gaps());
    }
}
