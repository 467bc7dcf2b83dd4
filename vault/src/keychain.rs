//! The key of a keychain slot: an entry in the keychain of the operating system.
//!
//! What is kept there is what a key file holds, in base64: some keychains take text only.

use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::VaultError;
use crate::crypto;
use crate::keyfile::{self, DecodeError};
use crate::row::VaultId;
use crate::slots::{SlotId, SlotKey, SlotKind};

#[cfg(any(target_os = "linux", target_os = "macos"))]
mod os;

#[cfg(any(target_os = "linux", target_os = "macos"))]
pub use os::OsKeychain;

/// The name of the entry that a probe writes, in front of its random end.
const PROBE: &str = "probe-";

/// Why a keychain does not do what it was asked. Never holds what is kept there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct KeychainError(pub String);

/// A keychain: small texts by name, kept for this user.
pub trait Keychain: Send + Sync {
    /// Keeps `text` under `name`, in place of what was there.
    ///
    /// # Errors
    /// When there is no keychain, it is locked, or it refuses.
    fn set(&self, name: &str, text: &[u8]) -> Result<(), KeychainError>;

    /// What is kept under `name`.
    ///
    /// # Errors
    /// As [`Keychain::set`]; that nothing is there is no error.
    fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeychainError>;

    /// Forgets what is kept under `name`, if anything is.
    ///
    /// # Errors
    /// As [`Keychain::set`].
    fn remove(&self, name: &str) -> Result<(), KeychainError>;
}

/// Whether the keychain keeps what it is given: writes an entry, reads it back and removes it.
pub(crate) fn probe(keychain: &dyn Keychain) -> Result<(), VaultError> {
    let mut random = [0; 16];
    crypto::fill_random(&mut random)?;
    let text = BASE64.encode(&random);
    let name = format!("{PROBE}{}", SlotId(random));
    let found = keychain.set(&name, text.as_bytes()).and_then(|()| keychain.get(&name));
    // Whatever came of it, nothing of it stays behind where that can be helped.
    let removed = keychain.remove(&name);
    match found.and_then(|found| removed.map(|()| found)) {
        Ok(Some(found)) if crypto::same(&found, text.as_bytes()) => Ok(()),
        Ok(_) => Err(VaultError::Keychain { problem: "it did not keep what it was given".to_owned() }),
        Err(error) => Err(error.into()),
    }
}

/// Keeps a key, and reads it back.
pub(crate) fn store(keychain: &dyn Keychain, key: &SlotKey) -> Result<(), VaultError> {
    let name = entry(&key.vault, &key.slot);
    let text = Zeroizing::new(BASE64.encode(&keyfile::encode(key)));
    keychain.set(&name, text.as_bytes())?;
    match keychain.get(&name)? {
        Some(found) if crypto::same(&found, text.as_bytes()) => Ok(()),
        _ => Err(VaultError::Keychain { problem: "it did not keep the vault's key".to_owned() }),
    }
}

/// The key of a slot.
pub(crate) fn load(keychain: &dyn Keychain, vault: &VaultId, slot: &SlotId) -> Result<SlotKey, VaultError> {
    let found = keychain
        .get(&entry(vault, slot))
        .map_err(|error| VaultError::key_missing(SlotKind::Keychain, error.0))?
        .ok_or_else(|| VaultError::key_missing(SlotKind::Keychain, "the keychain has no such entry"))?;
    let wrong = |problem| VaultError::SlotKeyWrong { kind: SlotKind::Keychain, problem };
    let content = Zeroizing::new(BASE64.decode(&found).map_err(|_| wrong("the entry is not base64"))?);
    keyfile::decode(&content).map_err(|error| match error {
        DecodeError::Damaged(problem) => wrong(problem),
        DecodeError::Version(found) => keyfile::unknown_version(found),
    })
}

/// Forgets a key; else, what to say of the entry that stays. It opens nothing any more, so that is no failure.
pub(crate) fn forget(
    keychain: Result<&dyn Keychain, VaultError>,
    vault: &VaultId,
    slot: &SlotId,
) -> Option<String> {
    let name = entry(vault, slot);
    let problem = match keychain.map(|keychain| keychain.remove(&name)) {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error.0,
        Err(error) => error.to_string(),
    };
    Some(format!("the keychain keeps the old key, which opens nothing any more, as {name}: {problem}"))
}

fn entry(vault: &VaultId, slot: &SlotId) -> String {
    format!("{}/{slot}", SlotId(*vault))
}

impl From<KeychainError> for VaultError {
    fn from(error: KeychainError) -> VaultError {
        VaultError::Keychain { problem: error.0 }
    }
}
