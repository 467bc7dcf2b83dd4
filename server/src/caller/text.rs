//! The text of a token.
//!
//! `orch_` and 52 characters that spell 256 random bits. It is shown once and stored nowhere; what is stored is its
//! SHA-256. Nobody can guess a text, and a lookup by digest tells nobody who measures it how near a guess came.

use data_encoding::BASE32_NOPAD;
use orch_vault::Secret;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::failure::Failure;

const PREFIX: &str = "orch_";
const LETTERS: usize = 52;

/// A token that was just made.
pub(crate) struct NewToken {
    /// Its public name, `tok_` and 26 characters.
    pub(crate) id: String,
    /// Its text.
    pub(crate) text: Secret,
    /// What is stored of it.
    pub(crate) hash: [u8; 32],
}

impl NewToken {
    /// A token that nobody has had before.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub(crate) fn random() -> Result<Self, Failure> {
        let mut id = [0; 16];
        let mut bits = zeroize::Zeroizing::new([0; 32]);
        let random = SystemRandom::new();
        random
            .fill(&mut id)
            .and_then(|()| random.fill(bits.as_mut()))
            .map_err(|_| Failure::defect("the operating system gives no randomness"))?;
        let mut text = Vec::with_capacity(PREFIX.len() + LETTERS);
        text.extend_from_slice(PREFIX.as_bytes());
        text.resize(PREFIX.len() + LETTERS, 0);
        BASE32_NOPAD.encode_mut(bits.as_ref(), &mut text[PREFIX.len()..]);
        text.make_ascii_lowercase();
        Ok(Self {
            id: format!("tok_{}", BASE32_NOPAD.encode(&id).to_ascii_lowercase()),
            hash: sha256(&text),
            text: Secret::new(text),
        })
    }
}

/// What is stored of a token with this text; none when no token has such a text.
pub(crate) fn digest_of(text: &[u8]) -> Option<[u8; 32]> {
    let letters = text.strip_prefix(PREFIX.as_bytes())?;
    let known = letters.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    (letters.len() == LETTERS && known).then(|| sha256(text))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_recognised_by_its_text() {
        let token = NewToken::random().expect("a token");
        token.text.expose(|text| {
            assert_eq!((text.len(), &text[..5]), (57, b"orch_".as_slice()));
            assert_eq!(digest_of(text), Some(token.hash));
            let mut other = text.to_vec();
            other[56] = if other[56] == b'a' { b'b' } else { b'a' };
            assert_ne!(digest_of(&other), Some(token.hash));
        });
        assert_eq!((token.id.len(), &token.id[..4]), (30, "tok_"));
        assert_ne!(NewToken::random().expect("another").hash, token.hash);
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let letters = "a".repeat(52);
        for text in [
            String::new(),
            "orch_".to_owned(),
            letters.clone(),
            format!("orch_{}", &letters[1..]),
            format!("orch_{letters}a"),
            format!("ORCH_{letters}"),
            format!("orch_{}A", &letters[1..]),
            format!("orch_{}1", &letters[1..]),
            format!("orch_{} ", &letters[1..]),
            format!(" orch_{letters}"),
            "x".repeat(100_000),
        ] {
            assert_eq!(digest_of(text.as_bytes()), None, "{text:.80}");
        }
        assert!(digest_of(format!("orch_{letters}").as_bytes()).is_some());
    }
}
