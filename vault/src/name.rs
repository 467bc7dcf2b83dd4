//! Names of secrets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
const MAX_LEN: usize = 128;

/// The name of a secret: `[A-Z_][A-Z0-9_]{0,127}`, the shape of an environment variable, because that
/// is how an agent meets its placeholder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

/// Why a name is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No characters.
    #[error("a secret's name is empty")]
    Empty,
    /// More than 128 bytes.
    #[error("a secret's name has {0} bytes; the most is {MAX_LEN}")]
    TooLong(usize),
    /// A character outside the alphabet, or a digit in front. The position counts characters from 1; the
    /// text itself is left out: a value pasted where the name belongs must not end up in a message.
    #[error(
        "character {position} of a secret's name is not allowed: names are A-Z, 0-9 and _, and do not begin with a digit"
    )]
    Character {
        /// Which character, counted from 1.
        position: usize,
    },
}

impl SecretName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<SecretName, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_LEN {
            return Err(NameError::TooLong(text.len()));
        }
        let allowed = |(index, c): (usize, char)| {
            c.is_ascii_uppercase() || c == '_' || (index > 0 && c.is_ascii_digit())
        };
        match text.chars().enumerate().position(|at| !allowed(at)) {
            Some(index) => Err(NameError::Character { position: index + 1 }),
            None => Ok(SecretName(text.to_owned())),
        }
    }
}

impl TryFrom<String> for SecretName {
    type Error = NameError;

    fn try_from(text: String) -> Result<SecretName, NameError> {
        text.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> String {
        name.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_and_the_lengths() {
        let longest = "A".repeat(MAX_LEN);
        for good in ["A", "_", "OPENAI_API_KEY", "_0", "A9", longest.as_str()] {
            assert_eq!(good.parse::<SecretName>().map(String::from), Ok(good.to_owned()));
        }
        let too_long = "A".repeat(MAX_LEN + 1);
        for (bad, why) in [
            ("", NameError::Empty),
            (too_long.as_str(), NameError::TooLong(129)),
            ("0A", NameError::Character { position: 1 }),
            ("openai", NameError::Character { position: 1 }),
            ("A B", NameError::Character { position: 2 }),
            ("A\0", NameError::Character { position: 2 }),
            ("AÉ", NameError::Character { position: 2 }),
            ("A-B", NameError::Character { position: 2 }),
            ("A/../B", NameError::Character { position: 2 }),
        ] {
            assert_eq!(bad.parse::<SecretName>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_value_in_place_of_a_name_is_not_repeated() {
        let error = "sk-live-0123456789".parse::<SecretName>().unwrap_err();
        assert!(!error.to_string().contains("sk-live"));
    }
}
