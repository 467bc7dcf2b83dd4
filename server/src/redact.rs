//! Words that look like keys, taken out of what is said when something fails.
//!
//! A key belongs in a prompt, a file or the environment, and people paste it elsewhere all the same: in place of a
//! secret's name, an agent, a file or a flag's value. An error repeats what it did not understand, and errors end up in
//! logs.
//!
//! What a run is known to hold is found by its value instead, in any spelling, by the code that searches answers
//! (`redact/known.rs`).

mod known;

use std::borrow::Cow;

pub(crate) use known::Known;

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
    "ghr_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxa-",
    "xoxb-",
    "xoxe",
    "xoxp-",
    "fw_",
    "r8_",
    "orch_",
];
/// How keys begin that are recognised in the middle of a word as well: no name has these letters by chance. A key that
/// is pasted behind something is one.
const TELLING_PREFIXES: &[&str] = &[
    "sk-proj-",
    "sk-ant-api",
    "sk-svcacct-",
    "sk-or-v1-",
    "AIza",
    "github_pat_",
    "glpat-",
    "nvapi-",
    "xoxb-",
    "xoxp-",
];
/// What the ids of AWS keys begin with; so many capitals and digits are one.
const AWS_PREFIXES: &[&str] = &["AKIA", "ASIA"];
const AWS_LENGTH: usize = 20;
/// What stands before the rest of a key, where a key has a dot in it.
const DOTTED_PREFIXES: &[&str] = &["AQ."];
/// Shorter words are names and paths far more often than keys.
const SHORTEST: usize = 20;
/// The shortest word that is taken for a key by its characters alone. A key of 128 bits has 32 as hexadecimal digits.
const RANDOM: usize = 28;
/// Fewest digits of a key that does not begin its word: `test_orch_server_configuration` is no key.
const DIGITS: usize = 3;
/// How the ids begin that providers give to requests and what they answer: as random as keys, and no secret.
const IDS: &[&str] = &["req_", "msg_", "resp_", "chatcmpl-"];
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
        if let Some(at) = key_in(&text[..start], word, said) {
            clean.push_str(&text[copied..start + at]);
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
    words(text).filter_map(|(start, word)| key_in(&text[..start], word, Said::Names).map(|at| &word[at..]))
}

/// Where in a word something begins that looks like a key, and goes on to the word's end.
fn key_in(before: &str, word: &str, said: Said) -> Option<usize> {
    if word.len() >= SHORTEST && DOTTED_PREFIXES.iter().any(|prefix| before.ends_with(prefix)) {
        return Some(0);
    }
    // A flag and a file's name may begin with what also divides them.
    let trimmed = word.trim_start_matches(['-', '_']);
    let first = word.len() - trimmed.len();
    let issued = trimmed.len() >= SHORTEST && PREFIXES.iter().any(|prefix| trimmed.starts_with(prefix));
    let random = Looks::of(trimmed);
    let digest = before.ends_with("sha256:") && is_digest(word);
    let found = issued
        || match said {
            Said::Names => !digest && (random.like_a_token() || random.like_digits()),
            Said::Anything => random.like_a_token() && !IDS.iter().any(|id| word.starts_with(id)),
        };
    if found { Some(first) } else { issued_within(word, random.digits) }
}

/// Where a key of a known issuer begins within a word that holds so many digits. Each place is looked at once, for as long
/// as a prefix is: whoever writes the word chooses how many prefixes are in it.
fn issued_within(word: &str, mut digits: usize) -> Option<usize> {
    let bytes = word.as_bytes();
    // How many capitals and digits there are in a row up to here.
    let mut row = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let rest = &bytes[at..];
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| rest.starts_with(prefix.as_bytes()));
        let divided = at == 0 || matches!(bytes[at - 1], b'-' | b'_');
        let long = rest.len() >= SHORTEST && digits >= DIGITS;
        if long && ((divided && begins(PREFIXES)) || begins(TELLING_PREFIXES)) {
            return Some(at);
        }
        digits -= usize::from(byte.is_ascii_digit());
        row = if byte.is_ascii_uppercase() || byte.is_ascii_digit() { row + 1 } else { 0 };
        let ends = bytes.get(at + 1).is_none_or(|next| matches!(next, b'-' | b'_'));
        if row == AWS_LENGTH && ends {
            let start = at + 1 - AWS_LENGTH;
            let alone = start == 0 || matches!(bytes[start - 1], b'-' | b'_');
            if alone && AWS_PREFIXES.iter().any(|prefix| bytes[start..].starts_with(prefix.as_bytes())) {
                return Some(start);
            }
        }
    }
    None
}

/// Whether this is a SHA-256 digest, to the letter.
fn is_digest(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
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
            ("--sk-proj-AbC0123456789abcdefGHIJ is no flag", "--[key removed] is no flag"),
            ("/v1/runs?status=--sk-proj-AbC0123456789abcdefGHIJ", "/v1/runs?status=--[key removed]"),
            ("x/_sk-proj-AbC0123456789abcdefGHIJ", "x/_[key removed]"),
            ("lan/--sk-proj-AbC0123456789abcdefGHIJ", "lan/--[key removed]"),
            ("-_-Zk3v9QpL7xTn2WcR8mYb4HdS6gJf1KaE", "-_-[key removed]"),
            ("a-sk-0123456789abcdef0123456789", "a-[key removed]"),
            ("my_gsk_0123456789012345678901.txt", "my_[key removed].txt"),
            ("xxsk-proj-AbC0123456789abcdefGHIJ", "xx[key removed]"),
            ("keyAIzaSy0123456789abcdefghijklmnopqrstuv", "key[key removed]"),
            ("AKIAIOSFODNN7EXAMPLE is here", "[key removed] is here"),
            ("aws_ASIAIOSFODNN7EXAMPLE-1", "aws_[key removed]"),
            ("ghu_0123456789abcdefghijklmnopqrstuvwxyz", "[key removed]"),
            ("ghr_0123456789abcdefghijklmnopqrstuvwxyz", "[key removed]"),
            ("r8_0123456789abcdefghijklmnopqrstuvwxyz", "[key removed]"),
            ("fw_0123456789abcdefghijklmn", "[key removed]"),
            ("xoxa-2-0123456789-0123456789", "[key removed]"),
            ("xoxe-1-0123456789abcdefghij", "[key removed]"),
            ("xoxe.xoxp-1-0123456789abcdefghij", "xoxe.[key removed]"),
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
    fn the_ids_of_providers_stay_readable() {
        for text in [
            "req_011CSHoEeqs5C35K2UUqR7Fy",
            "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "msg_01XFDUDYJgAACzvnptvVoYEL",
        ] {
            assert_eq!(redact(text, Said::Anything), text);
        }
        let key = "req_sk-proj-AbC0123456789abcdefGHIJ";
        assert_eq!(redact(key, Said::Anything), format!("req_{MARK}"));
    }

    #[test]
    fn only_a_digest_is_a_digest() {
        let hex = "3f9a1c7e5b2d48606f8e0a9b1c3d5e7f";
        for (text, clean) in [
            (format!("sha256:{hex}"), format!("sha256:{MARK}")),
            (format!("sha256:{hex}{hex}0"), format!("sha256:{MARK}")),
            (format!("sha256:sk-proj-{hex}"), format!("sha256:{MARK}")),
            (format!("sha256:{hex}{hex}"), format!("sha256:{hex}{hex}")),
        ] {
            assert_eq!(redact(&text, Said::Names), clean);
        }
    }

    #[test]
    fn a_long_word_of_prefixes_takes_no_longer_than_it_is() {
        for word in ["sk-", "-_", "AKIA", "sk-proj", "AKIAIOSFODNN7EXAMPLE"] {
            let text = word.repeat((4 << 20) / word.len());
            let begun = std::time::Instant::now();
            let _ = redact(&text, Said::Names);
            assert!(begun.elapsed().as_secs() < 20, "{word}");
        }
    }

    #[test]
    fn the_catalog_s_shapes_are_among_them() {
        let filler = "Ab1-Cd2_Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv1";
        for (slug, shape) in [
            ("openai", "sk-"),
            ("anthropic", "sk-ant-"),
            ("gemini", "AIza"),
            ("aws", "ABSK"),
            ("perplexity", "pplx-"),
            ("openrouter", "sk-or-v1-"),
            ("deepseek", "sk-"),
            ("moonshot", "sk-"),
            ("novita", "sk_"),
            ("chutes", "cpk_"),
            ("groq", "gsk_"),
            ("nvidia", "nvapi-"),
            ("vercel", "vck_"),
            ("cerebras", "csk-"),
            ("together", "tgp_v1_"),
            ("xai", "xai-"),
            ("tavily", "tvly-"),
            ("siliconflow", "sk-"),
            ("akash", "sk-"),
            ("nano-gpt", "sk-nano-"),
        ] {
            let catalog = orch_manifests::Catalog::builtin();
            let pattern = catalog.anybody(slug).and_then(|p| p.key_pattern.clone()).expect("a shape");
            assert!(pattern.contains(shape), "{slug} has keys of another shape: {pattern}");
            let key = format!("{shape}{filler}");
            assert!(!redact(&key, Said::Anything).contains(filler), "{key}");
        }
        // Without a prefix, in two parts: each is found by its characters, where names belong.
        for key in ["3f9a1c7e5b2d48606f8e0a9b1c3d5e7f.AbCd12", "x.k3v9qpl7xtn2wcr8myb4hds6gjf1kae5"] {
            assert!(redact(key, Said::Names).contains(MARK), "{key}");
        }
        let shapes =
            orch_manifests::Catalog::builtin().everybody().filter(|p| p.key_pattern.is_some()).count();
        assert_eq!(shapes, 20 + 2, "a new shape belongs into this test");
    }

    #[test]
    fn what_is_no_key_is_borrowed() {
        for text in [
            "",
            "sk-short",
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
            // Long, but named by people.
            "test_orch_server_configuration",
            "--output-file-of-the-summarizer",
            "AKIAIOSFODNN7EXAMPLES",
            "ASIAN-MARKETS-OF-2024",
        ] {
            for said in [Said::Names, Said::Anything] {
                assert!(matches!(redact(text, said), Cow::Borrowed(_)), "{text}");
            }
        }
    }
}
