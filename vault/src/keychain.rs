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

/// The name of the entry that a probe writes. One for all: what a probe that was killed left is replaced by
/// the next one, and goes with it.
const PROBE: &str = "probe";
/// How often a probe is tried, in case another process's comes in between.
const PROBES: usize = 3;

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
    let mut outcome = Ok(false);
    for _ in 0..PROBES {
        let mut random = [0; 16];
        crypto::fill_random(&mut random)?;
        let text = BASE64.encode(&random);
        let found = keychain.set(PROBE, text.as_bytes()).and_then(|()| keychain.get(PROBE));
        // Whatever came of it, nothing of it stays behind where that can be helped.
        let removed = keychain.remove(PROBE);
        let kept = |found: Option<Zeroizing<Vec<u8>>>| {
            found.is_some_and(|found| crypto::same(&found, text.as_bytes()))
        };
        outcome = found.and_then(|found| removed.map(|()| kept(found)));
        if !matches!(outcome, Ok(false)) {
            break;
        }
    }
    match outcome? {
        true => Ok(()),
        false => Err(VaultError::Keychain { problem: "it did not keep what it was given".to_owned() }),
    }
}

/// Keeps a key, and reads it back. An entry that is not the key does not stay.
pub(crate) fn store(keychain: &dyn Keychain, key: &SlotKey) -> Result<(), VaultError> {
    let name = entry(&key.vault, &key.slot);
    let text = Zeroizing::new(BASE64.encode(&keyfile::encode(key)));
    let found = keychain.set(&name, text.as_bytes()).and_then(|()| keychain.get(&name));
    let problem = match found {
        Ok(Some(found)) if crypto::same(&found, text.as_bytes()) => return Ok(()),
        Ok(_) => "it did not keep the vault's key".to_owned(),
        Err(error) => error.0,
    };
    // Why it was not kept is what counts.
    let _ = keychain.remove(&name);
    Err(VaultError::Keychain { problem })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    /// A keychain whose next entries read as these, whatever was set.
    struct Confused {
        entries: Mutex<BTreeMap<String, Vec<u8>>>,
        answers: Mutex<Vec<Result<Option<Vec<u8>>, KeychainError>>>,
    }

    impl Confused {
        fn with(answers: Vec<Result<Option<Vec<u8>>, KeychainError>>) -> Confused {
            Confused { entries: Mutex::default(), answers: Mutex::new(answers) }
        }

        fn is_empty(&self) -> bool {
            self.entries.lock().unwrap().is_empty()
        }
    }

    impl Keychain for Confused {
        fn set(&self, name: &str, text: &[u8]) -> Result<(), KeychainError> {
            self.entries.lock().unwrap().insert(name.to_owned(), text.to_vec());
            Ok(())
        }

        fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeychainError> {
            let kept = || Ok(self.entries.lock().unwrap().get(name).cloned());
            let answer = self.answers.lock().unwrap().pop().unwrap_or_else(kept)?;
            Ok(answer.map(Zeroizing::new))
        }

        fn remove(&self, name: &str) -> Result<(), KeychainError> {
            self.entries.lock().unwrap().remove(name);
            Ok(())
        }
    }

    fn locked() -> Result<Option<Vec<u8>>, KeychainError> {
        Err(KeychainError("it is locked".to_owned()))
    }

    #[test]
    fn a_key_that_is_not_kept_leaves_nothing() {
        for answer in [Ok(None), Ok(Some(b"another's".to_vec())), locked()] {
            let keychain = Confused::with(vec![answer]);
            assert!(store(&keychain, &SlotKey::random().unwrap()).is_err());
            assert!(keychain.is_empty());
        }
    }

    #[test]
    fn a_probe_takes_what_an_earlier_one_left_with_it() {
        let keychain = Confused::with(vec![]);
        keychain.set(PROBE, b"left by a kill").unwrap();
        probe(&keychain).unwrap();
        assert!(keychain.is_empty());
    }

    #[test]
    fn another_process_in_between_is_no_reason_to_do_without_a_keychain() {
        let others = || Ok(Some(b"another's".to_vec()));
        probe(&Confused::with(vec![Ok(None), others()])).unwrap();
        let error = probe(&Confused::with(vec![Ok(None), Ok(None), others()])).unwrap_err();
        assert!(error.to_string().contains("did not keep"), "{error}");
        let refused = Confused::with(vec![Ok(None), locked()]);
        assert!(probe(&refused).unwrap_err().to_string().contains("it is locked"));
        assert_eq!(refused.answers.lock().unwrap().len(), 1, "who is locked is not asked again");
    }
}
