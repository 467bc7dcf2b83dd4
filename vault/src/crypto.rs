//! Every call into ring: hashing, key derivation, sealing, random bytes.
//!
//! ring wipes little of what it computes with, so each function that handles keys or plaintext ends by
//! overwriting the part of the stack that ring's frames lived in. That is best effort: registers and
//! swapped-out pages are out of reach from here.

use std::hint::black_box;
use std::io;

use ring::rand::{SecureRandom, SystemRandom};
use ring::{aead, digest, hkdf, hmac};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::VaultError;

/// The length of a SHA-256 hash, and of an HMAC with it.
pub(crate) const HASH_LEN: usize = 32;
/// The length of the salt in front of a sealed text.
const SALT_LEN: usize = 32;
/// The length of AES-GCM's tag.
const TAG_LEN: usize = 16;
/// What sealing adds to a text: salt, tag, commitment.
pub(crate) const SEAL_OVERHEAD: usize = SALT_LEN + TAG_LEN + HASH_LEN;

/// A SHA-256 hash or HMAC.
pub(crate) type Hash = [u8; HASH_LEN];

/// A 256-bit key, on the heap so that moving it leaves no copy, wiped when dropped.
pub(crate) struct Key(Box<Zeroizing<[u8; 32]>>);

impl Key {
    /// A fresh random key.
    pub(crate) fn random() -> Result<Key, VaultError> {
        let mut key = Key::blank();
        fill_random(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// The key in `bytes`, when there are 32.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Key> {
        let mut key = Key::blank();
        if bytes.len() != key.0.len() {
            return None;
        }
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    /// The bytes, to be sealed or written to the key file.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// A key that `fill` writes.
    pub(crate) fn filled<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Key, E> {
        let mut key = Key::blank();
        fill(key.0.as_mut_slice())?;
        Ok(key)
    }

    fn blank() -> Key {
        Key(Box::new(Zeroizing::new([0; 32])))
    }
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), VaultError> {
    SystemRandom::new().fill(bytes).map_err(|_| {
        VaultError::storage("asking the system for random bytes", io::Error::from(io::ErrorKind::Other))
    })
}

/// SHA-256 over the concatenation of `parts`. Callers separate domains and delimit what varies in length.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    hash_of(context.finish().as_ref())
}

/// HMAC-SHA256 over the concatenation of `parts`.
pub(crate) fn mac(key: &Key, parts: &[&[u8]]) -> Hash {
    let tag = {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.bytes()));
        for part in parts {
            context.update(part);
        }
        hash_of(context.sign().as_ref())
    };
    scrub_stack();
    tag
}

/// Compares in constant time.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The purposes that keys are derived for. A label is part of the format.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Label {
    /// Where a row is kept.
    Index,
    /// The MAC of the head.
    Head,
    /// The MACs of audit records.
    Audit,
    /// Keyed digests of values.
    Fingerprint,
    /// The MACs of the anchor.
    Anchor,
    /// The MAC of the slot header.
    Slots,
    /// The MAC of the key file.
    KeyFile,
}

impl Label {
    fn info(self) -> &'static [u8] {
        match self {
            Label::Index => b"index",
            Label::Head => b"head",
            Label::Audit => b"audit",
            Label::Fingerprint => b"fingerprint",
            Label::Anchor => b"anchor",
            Label::Slots => b"slots",
            Label::KeyFile => b"key-file",
        }
    }
}

/// The key for `label` under `root`: HKDF-SHA256 (RFC 5869) with the salt `orch.vault/1` ‖ `context`.
pub(crate) fn derive(root: &Key, context: &[u8; 16], label: Label) -> Key {
    let mut salt = [0; 28];
    let (schema, id) = salt.split_at_mut(12);
    schema.copy_from_slice(b"orch.vault/1");
    id.copy_from_slice(context);
    let mut key = Key::blank();
    hkdf_sha256(&salt, root.bytes(), &[label.info()], key.0.as_mut_slice());
    key
}

/// Why a sealed text does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Shorter than any sealed text.
    Short,
    /// Sealed under another key or for another place.
    Commitment,
    /// Altered.
    Tag,
}

/// Seals `plaintext` under `root` for the place that `aad` describes, as
/// salt ‖ ciphertext ‖ tag ‖ commitment.
///
/// The salt is 32 random bytes. HKDF-SHA256(root, salt, `row` ‖ SHA-256(aad)) yields the key and the
/// commitment. So every key seals one text, which is why AES-256-GCM's nonce can be zero; and a text opens
/// under one key only, which AES-GCM alone does not promise.
pub(crate) fn seal(root: &Key, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
    let mut salt = [0; SALT_LEN];
    fill_random(&mut salt)?;
    let mut out = Vec::with_capacity(plaintext.len() + SEAL_OVERHEAD);
    out.extend_from_slice(&salt);
    {
        let (key, commitment) = text_keys(root, &salt, aad);
        let mut text = Zeroizing::new(plaintext.to_vec());
        let tag = aes_256_gcm(&key)
            .seal_in_place_separate_tag(zero_nonce(), aead::Aad::from(aad), text.as_mut_slice())
            .map_err(|_| VaultError::storage("sealing", io::Error::from(io::ErrorKind::InvalidInput)))?;
        out.extend_from_slice(&text);
        out.extend_from_slice(tag.as_ref());
        out.extend_from_slice(&commitment);
    }
    scrub_stack();
    Ok(out)
}

/// Opens what [`seal`] sealed for the same place. The commitment is compared first, in constant time; no
/// byte is decrypted when it differs.
pub(crate) fn open(root: &Key, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let opened = open_sealed(root, aad, sealed);
    scrub_stack();
    opened
}

fn open_sealed(root: &Key, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (salt, rest) = sealed.split_first_chunk::<SALT_LEN>().ok_or(OpenError::Short)?;
    let (text, stored) = rest.split_last_chunk::<HASH_LEN>().ok_or(OpenError::Short)?;
    if text.len() < TAG_LEN {
        return Err(OpenError::Short);
    }
    let (key, commitment) = text_keys(root, salt, aad);
    if !same(stored, &commitment) {
        return Err(OpenError::Commitment);
    }
    let mut text = Zeroizing::new(text.to_vec());
    let length = aes_256_gcm(&key)
        .open_in_place(zero_nonce(), aead::Aad::from(aad), text.as_mut_slice())
        .map_err(|_| OpenError::Tag)?
        .len();
    text.truncate(length);
    Ok(text)
}

/// The key of one sealed text, and its commitment.
fn text_keys(root: &Key, salt: &[u8; SALT_LEN], aad: &[u8]) -> (Key, Hash) {
    let mut both = Zeroizing::new([0; 64]);
    hkdf_sha256(salt, root.bytes(), &[b"row", &sha256(&[aad])], both.as_mut_slice());
    let (key_bytes, commitment) = both.split_at(32);
    let mut key = Key::blank();
    key.0.copy_from_slice(key_bytes);
    (key, hash_of(commitment))
}

fn aes_256_gcm(key: &Key) -> aead::LessSafeKey {
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, key.bytes()).expect("a Key has AES-256's 32 bytes");
    aead::LessSafeKey::new(key)
}

fn zero_nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

/// The length of an HKDF output, as ring wants to hear it.
struct OutputLen(usize);

impl hkdf::KeyType for OutputLen {
    fn len(&self) -> usize {
        self.0
    }
}

fn hkdf_sha256(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8]) {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, OutputLen(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("outputs here are far below 255 hashes, RFC 5869's limit");
    scrub_stack();
}

fn hash_of(bytes: &[u8]) -> Hash {
    Hash::try_from(bytes).expect("SHA-256 has 32 bytes")
}

/// Overwrites the stack below the caller's frame, where the callee's frames were.
#[inline(never)]
fn scrub_stack() {
    // Filling the array is the scrubbing; being looked at keeps it from being optimised away.
    black_box(&[0u8; 8 * 1024]);
}

#[cfg(test)]
mod tests;
