//! Words that look like keys, taken out of what is said when something fails.
//!
//! A key belongs in a prompt, a file or the environment, and people paste it elsewhere all the same: in place of a
//! secret's name, an agent, a file or a flag's value. An error repeats what it did not understand, and errors end up in
//! logs.

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
/// What stands before the rest of a key, where a key has a dot in it.
const DOTTED_PREFIXES: &[&str] = &["AQ."];
/// Shorter words are names and paths far more often than keys.
const SHORTEST: usize = 20;
/// The shortest word that is taken for a key by its characters alone. A key of 128 bits has 32 as hexadecimal digits.
const RANDOM: usize = 28;
/// What stands in place of a key.
pub const MARK: &str = "[key removed]";

/// Where a text comes from, which says what else than keys looks random in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Names that somebody gave: nothing of it is random but keys, and the digests and ids that say what they are.
    Names,
    /// Anything: a provider's request id and a symbol of a module are no keys, and are worth reading.
    Anything,
}

/// `text` without the words that look like keys.
#[must_use]
pub fn redact(text: &str, said: Said) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut copied = 0;
    for (start, word) in words(text) {
        if is_key(&text[..start], word, said) {
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

/// The words of a text that look like keys where a name belongs.
pub fn keys(text: &str) -> impl Iterator<Item = &str> {
    words(text).filter(|(start, word)| is_key(&text[..*start], word, Said::Names)).map(|(_, word)| word)
}

fn is_key(before: &str, word: &str, said: Said) -> bool {
    let issued = PREFIXES.iter().any(|prefix| word.starts_with(prefix))
        || DOTTED_PREFIXES.iter().any(|prefix| before.ends_with(prefix));
    if issued && word.len() >= SHORTEST {
        return true;
    }
    let random = Looks::of(word);
    match said {
        Said::Names => !before.ends_with("sha256:") && (random.like_a_token() || random.like_digits()),
        Said::Anything => random.like_a_token(),
    }
}

/// What a word is made of.
struct Looks {
    length: usize,
    lower: usize,
    upper: usize,
    digits: usize,
    /// How often a character is of another kind than the one before it.
    changes: usize,
}

impl Looks {
    fn of(word: &str) -> Self {
        let kind = |byte: u8| (byte.is_ascii_lowercase(), byte.is_ascii_uppercase(), byte.is_ascii_digit());
        let count = |of: fn(&u8) -> bool| word.bytes().filter(of).count();
        Self {
            length: word.len(),
            lower: count(u8::is_ascii_lowercase),
            upper: count(u8::is_ascii_uppercase),
            digits: count(u8::is_ascii_digit),
            changes: word.as_bytes().windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count(),
        }
    }

    /// Small and capital letters and digits in no order. Of random ones, six in ten neighbours differ in kind; of words
    /// that are written together, two in five at most.
    fn like_a_token(&self) -> bool {
        self.length >= RANDOM
            && self.lower > 0
            && self.upper > 0
            && self.digits > 2
            && self.changes * 100 >= self.length * 42
    }

    /// Letters of one case and digits in no order, and nothing between them that a name would be divided by.
    fn like_digits(&self) -> bool {
        self.length >= RANDOM
            && self.lower.max(self.upper) + self.digits == self.length
            && self.digits > 3
            && self.changes * 100 >= self.length * 25
    }
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
            ("AQ.Ab8RN6Kk0123456789abcdef", "AQ.[key removed]"),
            (
                "/home/u/sk-ant-api03-0123456789/x and sk-ant-api03-0123456789",
                "/home/u/[key removed]/x and [key removed]",
            ),
            ("`Zk3v9QpL7xTn2WcR8mYb4HdS6gJf1KaE`: no name", "`[key removed]`: no name"),
        ] {
            assert_eq!(redact(text, Said::Anything), clean);
            assert_eq!(redact(text, Said::Names), clean);
        }
    }

    #[test]
    fn where_names_belong_more_looks_like_a_key() {
        for text in [
            "3f9a1c7e5b2d48606f8e0a9b1c3d5e7f",
            "0A1B2C3D4E5F60718293A4B5C6D7E8F9",
            "k3v9qpl7xtn2wcr8myb4hds6gjf1kae5",
        ] {
            assert_eq!(redact(text, Said::Names), MARK, "{text}");
            assert_eq!(keys(&format!("X={text}")).collect::<Vec<_>>(), [text]);
            assert_eq!(redact(text, Said::Anything), text, "it may be the id of a provider's request");
        }
    }

    #[test]
    fn the_catalog_s_shapes_are_among_them() {
        let filler = "Ab1-Cd2_Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv1";
        for (slug, shape) in [("openai", "sk-"), ("anthropic", "sk-ant-"), ("gemini", "AIza")] {
            let catalog = orch_manifests::Catalog::builtin();
            let pattern = catalog.provider(slug).and_then(|p| p.key_pattern.clone()).expect("a shape");
            assert!(pattern.contains(shape), "{slug} has keys of another shape: {pattern}");
            let key = format!("{shape}{filler}");
            assert!(!redact(&key, Said::Anything).contains(filler), "{key}");
        }
        let shapes =
            orch_manifests::Catalog::builtin().providers().filter(|p| p.key_pattern.is_some()).count();
        assert_eq!(shapes, 3, "a new shape belongs into this test");
    }

    #[test]
    fn what_is_no_key_is_borrowed() {
        for text in [
            "",
            "sk-short",
            "a-sk-0123456789abcdef0123456789",
            "Grüße",
            "task-0123456789abcdefghijkl",
            "run_3kq7xw2m5n6p4r3s2t7v6w5x4y",
            "tok_3kq7xw2m5n6p4r3s2t7v6w5x4y",
            "sha256:3f9a1c7e5b2d48606f8e0a9b1c3d5e7f3f9a1c7e5b2d48606f8e0a9b1c3d5e7f",
            "GOOGLE_GENERATIVE_AI_API_KEY_2",
            "claude-3-5-sonnet-20241022-v2-extended",
            "550e8400-e29b-41d4-a716-446655440000",
            "sha256OfTheCanonicalManifestAndTheModule",
            "internationalization20260101000000",
        ] {
            for said in [Said::Names, Said::Anything] {
                assert!(matches!(redact(text, said), Cow::Borrowed(_)), "{text}");
            }
        }
    }
}
