//! Shared plumbing of the newtypes: one definition of how a type that is written as text is read, written and
//! described, and how untrusted text is quoted in messages.

/// Serde and JSON Schema for a type whose only written form is text with `Display` and `FromStr`.
///
/// Serde goes through the same parser as everything else, so that no value enters unchecked.
macro_rules! written_as_text {
    ($type:ty, $name:literal, $schema:tt) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

pub(crate) use written_as_text;

/// Longest stretch of somebody else's text that a message repeats.
const QUOTED_CHARS: usize = 80;

/// Quotes untrusted text for a message: control, escape and bidirectional characters come out as escapes, and long
/// text is cut, because manifests are written by agent authors and messages are read on terminals.
pub(crate) fn quote(text: &str) -> String {
    format!("`{}`", escape(text, QUOTED_CHARS))
}

/// Escapes and cuts as [`quote`] does, without the quotes.
pub(crate) fn escape(text: &str, max_chars: usize) -> String {
    let mut escaped = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == max_chars {
            escaped.push('…');
            break;
        }
        match c {
            '\'' | '"' | '\\' => escaped.push(c),
            other => escaped.extend(other.escape_debug()),
        }
    }
    escaped
}

/// The candidate that a misspelt word most likely meant, or `None` when nothing is close.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(QUOTED_CHARS).flat_map(char::to_lowercase).collect();
    let allowed = (word.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|&(distance, candidate)| distance <= allowed && distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_cannot_drive_a_terminal() {
        assert_eq!(quote("a\u{1b}[2J\u{202e}b\u{9b}c\n"), "`a\\u{1b}[2J\\u{202e}b\\u{9b}c\\n`");
        assert_eq!(quote(&"x".repeat(500)), format!("`{}…`", "x".repeat(80)));
    }

    #[test]
    fn nearest_is_close_or_nothing() {
        assert_eq!(nearest("egres", ["egress", "secrets"]), Some("egress"));
        assert_eq!(
            nearest("Suported_provider", ["supported_providers", "secrets"]),
            Some("supported_providers")
        );
        assert_eq!(nearest("zzzzzz", ["egress", "secrets"]), None);
        assert_eq!(nearest("ab", ["cd"]), None, "a wholly different short word is not near");
    }
}
