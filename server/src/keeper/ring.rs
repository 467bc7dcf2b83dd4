//! Whose keys, and in which part of the vault they lie.
//!
//! Every workspace has a part of its own, which its vault's rows are bound to. What members register for themselves lies in
//! a part for each of them: a row of it opens nowhere else, and no call about the workspace's secrets ever enters it. The
//! name of such a part has slashes, which no workspace's has.

use std::fmt::Write as _;
use std::sync::Arc;

use orch_manifests::Whose;

/// The longest name of a member that stands in the name of a part as it is, in bytes.
const LONGEST: usize = 128;

/// Somebody's keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ring {
    pub(crate) whose: Whose,
    /// The part of the vault.
    pub(crate) part: Arc<str>,
}

impl Ring {
    /// The secrets of a workspace.
    pub(crate) fn team(workspace: &Arc<str>) -> Self {
        Self { whose: Whose::Team, part: Arc::clone(workspace) }
    }

    /// What a member of a workspace has registered.
    pub(crate) fn own(workspace: &str, member: &str) -> Self {
        Self { whose: Whose::Own, part: format!("{workspace}/members/{}", plain(member)).into() }
    }

    /// What the operator lends: the secrets of a workspace that is kept for that.
    pub(crate) fn platform(workspace: &str) -> Self {
        Self { whose: Whose::Platform, part: workspace.into() }
    }

    /// What a key of this name is called among all that a workspace's calls are made with.
    pub(crate) fn id(&self, name: &str) -> String {
        match self.whose {
            Whose::Team => name.to_owned(),
            Whose::Own => {
                let (_, member) = self.part.rsplit_once('/').unwrap_or_default();
                format!("own/{member}/{name}")
            }
            Whose::Platform => platform_id(name),
        }
    }
}

/// What a key of the platform is called.
pub(crate) fn platform_id(name: &str) -> String {
    format!("platform/{name}")
}

/// The catalog's name of the key that is called `id`.
pub(crate) fn name_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(_, name)| name)
}

/// A member's name without blanks, slashes and whatever else no part of the vault is called by; no two have the same.
fn plain(member: &str) -> String {
    let mut plain = String::with_capacity(member.len());
    for byte in member.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => plain.push(char::from(byte)),
            // Writing to a string cannot fail.
            other => _ = write!(plain, "%{other:02x}"),
        }
    }
    if plain.len() <= LONGEST {
        return plain;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, member.as_bytes());
    format!("={}", data_encoding::HEXLOWER.encode(digest.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_members_share_a_part_and_none_is_a_workspace_s() {
        let long = "é".repeat(64);
        let names = [
            "alice",
            "Alice",
            "a lice",
            "a%20lice",
            "alice/members/bob",
            "../bob",
            "bob",
            "",
            "%",
            "=",
            &long,
            "members",
            "alice%",
            "\u{202e}ecila",
        ];
        let mut parts: Vec<Arc<str>> = names.iter().map(|name| Ring::own("acme", name).part).collect();
        parts.push(Ring::own("acme-members", "alice").part);
        for part in &parts {
            assert!(part.contains('/') && part.len() <= 300, "{part}");
            assert!(!part.chars().any(|c| c.is_whitespace() || c.is_control()), "{part}");
            assert_eq!(part.matches('/').count(), 2, "{part}: nothing of a name adds a level");
        }
        let all = parts.len();
        parts.sort();
        parts.dedup();
        assert_eq!(parts.len(), all);
    }

    #[test]
    fn a_key_is_called_by_whose_it_is_and_its_name_is_found_again() {
        let name = "OPENAI_API_KEY_2";
        let rings = [
            (Ring::team(&"acme".into()), "OPENAI_API_KEY_2"),
            (Ring::own("acme", "a b/c"), "own/a%20b%2fc/OPENAI_API_KEY_2"),
            (Ring::platform("ops"), "platform/OPENAI_API_KEY_2"),
        ];
        for (ring, id) in rings {
            assert_eq!(ring.id(name), id);
            assert_eq!(name_of(&ring.id(name)), name);
        }
    }
}
