//! Whose key a model call is made with.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose key a model call is made with, and so who is billed by the provider. Kept in receipts and logs: the words stay
/// what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The caller's own: given with the run, or registered by the member who asks.
    Own,
    /// The workspace's: a secret of its vault.
    Team,
    /// The operator's, who lends it to workspaces; a simulation's as well.
    Platform,
}

impl Whose {
    /// All of them, the caller's own first.
    pub const ALL: [Whose; 3] = [Whose::Own, Whose::Team, Whose::Platform];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Whose::Own => "own",
            Whose::Team => "team",
            Whose::Platform => "platform",
        }
    }

    /// Whether whoever asks has brought it: everybody's but the platform's.
    #[must_use]
    pub fn is_byok(self) -> bool {
        self != Whose::Platform
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not whose a key is: own, team or platform")]
pub struct UnknownWhose;

impl FromStr for Whose {
    type Err = UnknownWhose;

    fn from_str(word: &str) -> Result<Self, UnknownWhose> {
        Self::ALL.into_iter().find(|whose| whose.as_str() == word).ok_or(UnknownWhose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_receipts() {
        for whose in Whose::ALL {
            assert_eq!(serde_json::to_value(whose).expect("JSON"), whose.as_str());
            assert_eq!(whose.as_str().parse(), Ok(whose));
        }
        assert_eq!("mine".parse::<Whose>(), Err(UnknownWhose));
        assert!(Whose::Own.is_byok() && Whose::Team.is_byok() && !Whose::Platform.is_byok());
    }
}
