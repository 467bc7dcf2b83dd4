//! The end of an artifact file.
//!
//! ```text
//! payload … | magic 8 | format version u32 BE | payload length u64 BE | key 32 | MAC 32
//! ```
//!
//! It stands behind the payload so that the payload can be mapped at offset 0. The MAC is BLAKE3 keyed with a key
//! derived for this purpose from the cache's key file, over the rest of the footer and then the payload.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::key::ArtifactKey;

/// Version of the file format. Files of another version are misses, never errors.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"orchart\n";
const VERSION_AT: usize = MAGIC.len();
const LENGTH_AT: usize = VERSION_AT + size_of::<u32>();
const KEY_AT: usize = LENGTH_AT + size_of::<u64>();
const MAC_AT: usize = KEY_AT + 32;

/// Length of a footer in bytes.
const LENGTH: usize = MAC_AT + 32;

/// Context string of the key derivation: one purpose, one key.
const MAC_CONTEXT: &str = "orch 2026 artifact cache file MAC v1";

/// Why a file is not a verified artifact.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unverified {
    #[error("it is truncated or not an artifact")]
    NotAnArtifact,
    #[error("it has format version {0}")]
    OtherVersion(u32),
    #[error("it belongs to another agent or another release")]
    OtherKey,
    #[error("its contents do not match its MAC")]
    BadMac,
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(super) struct Footer([u8; LENGTH]);

impl Footer {
    /// The footer for `payload` as the entry of `key`.
    pub(super) fn seal(mac_key: &[u8; 32], key: &ArtifactKey, payload: &[u8]) -> Self {
        let mut footer = Footer::new(payload.len() as u64, key.bytes());
        let mut hasher = hasher(mac_key, &footer.0);
        hasher.update(payload);
        footer.0[MAC_AT..].copy_from_slice(hasher.finalize().as_bytes());
        footer
    }

    /// A footer that only says where the payload ends, for artifacts that never touch a disk.
    pub(super) fn unauthenticated(payload_length: u64) -> Self {
        Footer::new(payload_length, [0; 32])
    }

    fn new(payload_length: u64, key: [u8; 32]) -> Self {
        let mut bytes = [0; LENGTH];
        bytes[..VERSION_AT].copy_from_slice(&MAGIC);
        bytes[VERSION_AT..LENGTH_AT].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes[LENGTH_AT..KEY_AT].copy_from_slice(&payload_length.to_be_bytes());
        bytes[KEY_AT..MAC_AT].copy_from_slice(&key);
        Footer(bytes)
    }

    pub(super) fn encode(&self) -> [u8; LENGTH] {
        self.0
    }

    /// The footer at the end of `file` and the length of the payload before it. Nothing is authenticated yet.
    fn read(file: &mut File) -> Result<(Self, u64), Unverified> {
        let end = file.metadata()?.len();
        let payload_length = end.checked_sub(LENGTH as u64).ok_or(Unverified::NotAnArtifact)?;
        file.seek(SeekFrom::Start(payload_length))?;
        let mut footer = Footer([0; LENGTH]);
        file.read_exact(&mut footer.0)?;
        if footer.0[..VERSION_AT] != MAGIC {
            return Err(Unverified::NotAnArtifact);
        }
        let version = u32::from_be_bytes(*footer.field(VERSION_AT));
        if version != FORMAT_VERSION {
            return Err(Unverified::OtherVersion(version));
        }
        if u64::from_be_bytes(*footer.field(LENGTH_AT)) != payload_length {
            return Err(Unverified::NotAnArtifact);
        }
        Ok((footer, payload_length))
    }

    fn field<const N: usize>(&self, at: usize) -> &[u8; N] {
        self.0[at..].first_chunk().expect("fields lie within the footer")
    }
}

/// Checks that `file` is the entry of `key`, written under `mac_key`.
pub(super) fn verify(file: &mut File, mac_key: &[u8; 32], key: &ArtifactKey) -> Result<(), Unverified> {
    let (footer, payload_length) = Footer::read(file)?;
    if *footer.field(KEY_AT) != key.bytes() {
        return Err(Unverified::OtherKey);
    }
    file.rewind()?;
    let mut hasher = hasher(mac_key, &footer.0);
    hasher.update_reader(file.take(payload_length))?;
    // BLAKE3's hashes compare in constant time.
    if hasher.finalize() != blake3::Hash::from_bytes(*footer.field(MAC_AT)) {
        return Err(Unverified::BadMac);
    }
    Ok(())
}

/// For the worker, which was given an artifact that the broker verified: how long its payload is.
pub(crate) fn payload_length(file: &mut File) -> io::Result<usize> {
    let (_, length) = Footer::read(file).map_err(io::Error::other)?;
    usize::try_from(length).map_err(io::Error::other)
}

fn hasher(mac_key: &[u8; 32], footer: &[u8; LENGTH]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key(MAC_CONTEXT, mac_key));
    hasher.update(&footer[..MAC_AT]);
    hasher
}
