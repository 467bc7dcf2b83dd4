//! What [`crate::fuzzing`] cannot reach: a backup's parts.

use super::{Header, Rows, decode, encode, open_with, seal_with};
use crate::crypto::Key;
use crate::golden::{self, VAULT};
use crate::passphrase::Derivation;

fn key() -> Key {
    Key::from_slice(&[7; 32]).expect("a key has 32 bytes")
}

/// A file is refused, or is one that was sealed: without the passphrase's key nobody makes one.
pub(crate) fn file(data: &[u8]) {
    if let Ok(header) = Header::read(data) {
        let _ = open_with(&key(), &header);
    }
}

/// What is inside is refused, or there is one way to say it.
pub(crate) fn content(data: &[u8]) {
    if let Ok(content) = decode(data) {
        assert_eq!(encode(&content.vault, &content.ring, &content.rows).as_slice(), data);
    }
}

pub(crate) fn file_seed() -> Vec<u8> {
    let parameters = [&[1][..], &[0, 0, 32, 0, 0, 0, 0, 1, 0, 0, 0, 1], &[9; 16]].concat();
    let derivation = Derivation::decode(&parameters);
    let sealed = derivation.and_then(|derivation| seal_with(&derivation, &key(), &content_seed()));
    sealed.unwrap_or_default()
}

pub(crate) fn content_seed() -> Vec<u8> {
    let rows: Rows = vec![(b"h".to_vec(), golden::hex(golden::HEAD)), (b"k".to_vec(), b"row".to_vec())];
    encode(&VAULT, &golden::ring(), &rows).to_vec()
}
