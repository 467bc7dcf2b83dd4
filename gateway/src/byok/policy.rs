//! A workspace's policy, and what follows from it for a request.

use std::fmt;
use std::str::FromStr;

use orch_manifests::Whose;
use serde::{Deserialize, Serialize};

/// Whose keys the calls of a workspace's members are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ByokPolicy {
    /// The platform's alone.
    Disabled,
    /// The team's where it has one, else the platform's. A member's own where the request asks for that.
    #[default]
    PreferTeam,
    /// The team's alone.
    RequireTeam,
    /// A member's own where there is one, without being asked; else as [`ByokPolicy::PreferTeam`].
    PreferOwn,
}

/// The order in which keys are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The first of them who has a key for the provider serves.
    pub whose: &'static [Whose],
    /// Whether those behind it are turned to when a call with it fails.
    pub falls_back: bool,
}

impl ByokPolicy {
    /// All of them.
    pub const ALL: [ByokPolicy; 4] =
        [ByokPolicy::Disabled, ByokPolicy::PreferTeam, ByokPolicy::RequireTeam, ByokPolicy::PreferOwn];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ByokPolicy::Disabled => "disabled",
            ByokPolicy::PreferTeam => "prefer_team",
            ByokPolicy::RequireTeam => "require_team",
            ByokPolicy::PreferOwn => "prefer_own",
        }
    }

    /// Whose keys are looked for, in which order. `asked`: whether the request asks for a key of one's own, or says that it
    /// wants none; `falls_back`: whether it wants another key to be tried after one that failed. `None`: the policy forbids
    /// what is asked.
    #[must_use]
    pub fn order(self, asked: Option<bool>, falls_back: bool) -> Option<Order> {
        use Whose::{Own, Platform, Team};
        let whose: &'static [Whose] = match (self, asked, falls_back) {
            (ByokPolicy::Disabled, Some(true), _) => return None,
            (ByokPolicy::Disabled, ..) => &[Platform],
            (ByokPolicy::RequireTeam, ..) => &[Team],
            // Whoever asks for a key of their own is not served with the platform's unless they say so.
            (ByokPolicy::PreferTeam | ByokPolicy::PreferOwn, Some(true), false) => &[Own, Team],
            (ByokPolicy::PreferTeam | ByokPolicy::PreferOwn, Some(true), true) => &[Own, Team, Platform],
            (ByokPolicy::PreferOwn, None, _) => &[Own, Team, Platform],
            (ByokPolicy::PreferTeam, ..) | (ByokPolicy::PreferOwn, Some(false), _) => &[Team, Platform],
        };
        Some(Order { whose, falls_back })
    }

    /// Why a route's target may not be served with somebody's keys, though it names them; `None` where it may.
    #[must_use]
    pub(crate) fn bars(self, whose: Whose, asked: Option<bool>) -> Option<&'static str> {
        match (self, whose) {
            (ByokPolicy::Disabled, Whose::Own | Whose::Team) => {
                Some("the workspace's policy is disabled: the platform's keys alone serve")
            }
            (ByokPolicy::RequireTeam, Whose::Own | Whose::Platform) => {
                Some("the workspace's policy is require_team: the team's keys alone serve")
            }
            (ByokPolicy::PreferTeam, Whose::Own) if asked != Some(true) => {
                Some("a member's own key serves where the request asks for it: x-use-byok: true")
            }
            (ByokPolicy::PreferOwn, Whose::Own) if asked == Some(false) => {
                Some("the request wants no key of its member's own")
            }
            _ => None,
        }
    }
}

impl fmt::Display for ByokPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a policy: they are disabled, prefer_team, require_team and prefer_own")]
pub struct UnknownPolicy;

impl FromStr for ByokPolicy {
    type Err = UnknownPolicy;

    fn from_str(word: &str) -> Result<Self, UnknownPolicy> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == word).ok_or(UnknownPolicy)
    }
}
