//! Words that look like keys, taken out of what is printed when something fails.
//!
//! A key belongs in a prompt, a file or the environment, and people paste it elsewhere all the same: in place of an
//! agent, a file or a flag's value. An error repeats what it did not understand, and errors end up in logs.

use std::borrow::Cow;

/// How the keys of known issuers begin.
const PREFIXES: &[&str] = &[
    "sk-",
    "sk_",
    "AIza",
    "gsk_",
    "xai-",
    "pplx-",
    "nvapi-",
    "csk-",
    "cpk_",
    "vck_",
    "tgp_v1_",
    "tvly-",
    "akml-",
    "ABSK",
    "hf_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "orch_",
];
/// Shorter words are names and paths far more often than keys.
const SHORTEST: usize = 20;
/// What stands in place of a key.
const MARK: &str = "[key removed]";

/// `text` without the words that look like keys.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut copied = 0;
    for (start, word) in words(text) {
        if word.len() >= SHORTEST && PREFIXES.iter().any(|prefix| word.starts_with(prefix)) {
            clean.push_str(&text[copied..start]);
            clean.push_str(MARK);
            copied = start + word.len();
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    clean.push_str(&text[copied..]);
    Cow::Owned(clean)
}

/// Maximal runs of the characters that keys are made of, with the place where each begins.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(move |c: char| !part(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_out_wherever_they_stand() {
        for (text, clean) in [
            ("no agent sk-proj-0123456789abcdef0123: gone", "no agent [key removed]: gone"),
            ("--key-file=AIzaSy0123456789abcdefghijklmnopqrstuv", "--key-file=[key removed]"),
            ("orch_0123456789abcdefghijklmnop is no URL", "[key removed] is no URL"),
            ("{\"a\":\"gsk_0123456789012345678901\"}", "{\"a\":\"[key removed]\"}"),
            (
                "/home/u/sk-ant-api03-0123456789/x and sk-ant-api03-0123456789",
                "/home/u/[key removed]/x and [key removed]",
            ),
        ] {
            assert_eq!(redact(text), clean);
        }
    }

    #[test]
    fn what_is_no_key_is_borrowed() {
        for text in
            ["", "sk-short", "a-sk-0123456789abcdef0123456789", "Grüße", "task-0123456789abcdefghijkl"]
        {
            assert!(matches!(redact(text), Cow::Borrowed(_)), "{text}");
        }
    }
}
