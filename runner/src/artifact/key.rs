//! What an artifact was made from and with.

use std::fmt;

use orch_manifests::Digest;
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;

use super::footer::FORMAT_VERSION;
use crate::engine::{WASMTIME_VERSION, fingerprint};

/// Identifies a compiled artifact: the SHA-256 of everything that decides its bytes, which are the module (as its BLAKE3,
/// since an interpreter's 19 MB are hashed at every start), the wasip1 adapter, wasmtime's version, the engine's settings
/// and target, and the format of the cache's files.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArtifactKey(Digest);

impl ArtifactKey {
    /// The key of this module, for this release of orch on this processor.
    pub fn of(module: &[u8]) -> Self {
        let adapter = Digest::of(WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER);
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        let module = blake3::hash(module);
        let adapter = adapter.to_string();
        let version = FORMAT_VERSION.to_be_bytes();
        let settings = fingerprint();
        let parts: [&[u8]; 6] = [
            module.as_bytes(),
            adapter.as_bytes(),
            WASMTIME_VERSION.as_bytes(),
            &settings,
            target.as_bytes(),
            &version,
        ];
        let mut encoded = b"orch artifact key v2".to_vec();
        for part in parts {
            // Lengths first, so that no two lists of parts encode alike.
            encoded.extend_from_slice(&(part.len() as u64).to_be_bytes());
            encoded.extend_from_slice(part);
        }
        ArtifactKey(Digest::of(&encoded))
    }

    /// The key's 32 bytes, as they stand in a footer.
    pub(super) fn bytes(&self) -> [u8; 32] {
        *self.0.as_bytes()
    }
}

impl fmt::Display for ArtifactKey {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for ArtifactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArtifactKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable_and_differ_by_module() {
        let (one, two) = (ArtifactKey::of(b"one"), ArtifactKey::of(b"two"));
        assert_eq!(one, ArtifactKey::of(b"one"));
        assert_ne!(one, two);
        assert_eq!(one.to_string().len(), 64);
    }
}
