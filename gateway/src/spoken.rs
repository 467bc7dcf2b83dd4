//! How much an answer has said, in bounds on tokens: what comes in between knows no tokenizer.

/// Characters that one token stands for at most in anything that goes on for a while. Single words of more are tokens as
/// well, answers made of nothing else are not.
const CHARS: u64 = 8;

/// Repetitions of one character that a token stands for at most: runs of spaces, dashes and the like.
const REPEATS: u64 = 128;

/// The text of an answer so far.
#[derive(Debug, Default)]
pub(crate) struct Spoken {
    bytes: u64,
    /// In parts of a token, [`REPEATS`] to one.
    parts: u64,
    last: Option<char>,
}

impl Spoken {
    /// A piece more.
    pub(crate) fn hear(&mut self, text: &str) {
        self.bytes += text.len() as u64;
        for char in text.chars() {
            self.parts += if self.last == Some(char) { 1 } else { REPEATS / CHARS };
            self.last = Some(char);
        }
    }

    /// So many bytes more, of which nothing else is known.
    pub(crate) fn hear_bytes(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Tokens at most: each stands for a byte at least.
    pub(crate) fn most(&self) -> u64 {
        self.bytes
    }

    /// Tokens at least, so that an answer is only cut when it is over its bound for certain.
    pub(crate) fn least(&self) -> u64 {
        self.parts / REPEATS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(text: &str) -> u64 {
        let mut spoken = Spoken::default();
        // However it is cut.
        text.chars().for_each(|char| spoken.hear(char.encode_utf8(&mut [0; 4])));
        assert_eq!(spoken.most(), text.len() as u64);
        spoken.least()
    }

    #[test]
    fn nothing_counts_for_more_tokens_than_it_has() {
        // Tokens as the public tokenizers of OpenAI's models (o200k_base) count them.
        for (text, tokens) in [
            ("=".repeat(64), 1),
            (" ".repeat(128), 2),
            ("-".repeat(640), 10),
            ("Hello, how are you?".to_owned(), 6),
            ("นี่คือประโยคตัวอย่าง".to_owned(), 8),
        ] {
            assert!(least(&text) <= tokens, "{text:?}: {}", least(&text));
        }
    }

    #[test]
    fn ordinary_text_is_bounded_from_below() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(100);
        assert!((400..700).contains(&least(&text)), "{}", least(&text));
    }
}
