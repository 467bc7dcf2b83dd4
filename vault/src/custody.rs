//! Custody: where the keys of slots are, and which slot a new vault gets.
//!
//! A vault may have one slot of each kind. They are tried from the one that costs least to the one that
//! asks somebody: key file, credential, keychain, passphrase. A slot whose key is not at hand is passed
//! over. A key that others could read, or a header that is not what was written, is not: that ends it.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::crypto::Key;
use crate::error::Tampering;
use crate::keychain::{self, Keychain};
use crate::keyfile::KeyFile;
use crate::passphrase::{self, Derivation};
use crate::row::VaultId;
use crate::slots::{Slot, SlotId, SlotKey, SlotKind};
use crate::{Secret, VaultError, credential};

/// The order in which slots are tried.
const ORDER: [SlotKind; 4] =
    [SlotKind::File, SlotKind::SystemdCredential, SlotKind::Keychain, SlotKind::Passphrase];

/// Which slot a new vault gets, and one that begins anew from a backup. A vault that is there keeps the slots that it
/// has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyChoice {
    /// A keychain slot where a keychain keeps what it is given, else a file slot.
    Auto,
    /// A keychain slot.
    Keychain,
    /// A file slot.
    #[default]
    File,
    /// A passphrase slot.
    Passphrase,
    /// A slot for the credential that systemd gave this process.
    SystemdCredential,
}

impl KeyChoice {
    /// The choice that a word in the configuration stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<KeyChoice> {
        Some(match word {
            "auto" => KeyChoice::Auto,
            "keychain" => KeyChoice::Keychain,
            "file" => KeyChoice::File,
            "passphrase" => KeyChoice::Passphrase,
            "systemd-credential" => KeyChoice::SystemdCredential,
            _ => return None,
        })
    }
}

/// What a passphrase is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassphraseFor {
    /// To open a vault.
    Opening,
    /// To make a slot; whoever asks on a terminal asks twice.
    New,
}

/// Gets a passphrase from somewhere, or says why there is none.
pub type AskPassphrase = dyn Fn(PassphraseFor) -> Result<Secret, String> + Send + Sync;

/// Where the keys of slots are, beside the key file. Without anything said, nowhere: a key file it is.
#[derive(Clone, Default)]
pub struct Custody {
    choice: KeyChoice,
    ask: Option<Arc<AskPassphrase>>,
    credential: Option<PathBuf>,
    keychain: Option<Arc<dyn Keychain>>,
    /// What a passphrase became: a command opens its vault more than once, and asks once.
    derived: Arc<Mutex<Option<(SlotId, Derivation, Key)>>>,
}

/// Says nothing about keys.
impl fmt::Debug for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custody")
            .field("choice", &self.choice)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

impl Custody {
    /// New vaults get this slot.
    #[must_use]
    pub fn new(choice: KeyChoice) -> Custody {
        Custody { choice, ..Custody::default() }
    }

    /// Passphrases are asked for in this way.
    #[must_use]
    pub fn with_passphrase(self, ask: Arc<AskPassphrase>) -> Custody {
        Custody { ask: Some(ask), ..self }
    }

    /// systemd's credential is in this file, if there is one.
    #[must_use]
    pub fn with_credential(self, path: PathBuf) -> Custody {
        Custody { credential: Some(path), ..self }
    }

    /// This is the keychain.
    #[must_use]
    pub fn with_keychain(self, keychain: Arc<dyn Keychain>) -> Custody {
        Custody { keychain: Some(keychain), ..self }
    }

    /// The same without anybody to ask. A passphrase that was given already opens its slot all the same.
    #[must_use]
    pub fn without_asking(self) -> Custody {
        Custody { ask: None, ..self }
    }

    /// The keychain.
    pub(crate) fn keychain(&self) -> Result<&dyn Keychain, VaultError> {
        self.keychain
            .as_deref()
            .ok_or_else(|| VaultError::Keychain { problem: "this system has none".to_owned() })
    }

    /// The ring key of a vault, and the slot that gave it.
    pub(crate) fn unlock(
        &self,
        vault: &VaultId,
        slots: &[Slot],
        key_file: &KeyFile<'_>,
    ) -> Result<(Key, SlotId), VaultError> {
        let mut problems = Vec::new();
        for kind in ORDER {
            for slot in slots.iter().filter(|slot| slot.kind == kind) {
                let opened = self.key_of(vault, slot, key_file).and_then(|key| unwrap(vault, slot, &key));
                match opened {
                    Ok(ring_key) => return Ok((ring_key, slot.id)),
                    Err(error @ (VaultError::Place { .. } | VaultError::Tampered(Tampering::Slots))) => {
                        return Err(error);
                    }
                    Err(error) => problems.push(error),
                }
            }
        }
        if problems.len() > 1 {
            let problems = problems.iter().map(ToString::to_string).collect();
            return Err(VaultError::NoSlotOpens { problems });
        }
        Err(problems.pop().unwrap_or_else(|| VaultError::NoKnownSlot {
            kinds: slots.iter().map(|slot| slot.kind.to_string()).collect(),
        }))
    }

    /// The key of one slot, from where it is kept.
    pub(crate) fn key_of(
        &self,
        vault: &VaultId,
        slot: &Slot,
        key_file: &KeyFile<'_>,
    ) -> Result<Key, VaultError> {
        match slot.kind {
            SlotKind::File => {
                let path = || key_file.path().to_owned();
                let key = key_file.read()?.ok_or_else(|| VaultError::KeyMissing { path: path() })?;
                match (key.vault, key.slot) == (*vault, slot.id) {
                    true => Ok(key.key),
                    false => Err(VaultError::WrongKey { path: path() }),
                }
            }
            SlotKind::SystemdCredential => checked(self.credential_key()?, vault, slot),
            SlotKind::Keychain => {
                let missing = |error: VaultError| VaultError::key_missing(slot.kind, error.to_string());
                let keychain = self.keychain().map_err(missing)?;
                checked(keychain::load(keychain, vault, &slot.id)?, vault, slot)
            }
            SlotKind::Passphrase => self.passphrase_key(vault, slot),
            SlotKind::Unknown(_) => {
                Err(VaultError::key_missing(slot.kind, "this version does not know its kind"))
            }
        }
    }

    fn credential_key(&self) -> Result<SlotKey, VaultError> {
        let missing = |problem: String| VaultError::key_missing(SlotKind::SystemdCredential, problem);
        let path = self
            .credential
            .as_deref()
            .ok_or_else(|| missing("systemd gave this process no credentials".to_owned()))?;
        credential::read(path)?.ok_or_else(|| missing(format!("there is no {}", path.display())))
    }

    fn passphrase_key(&self, vault: &VaultId, slot: &Slot) -> Result<Key, VaultError> {
        let derivation = Derivation::decode(&slot.parameters)?;
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, with, key)) = &*derived
            && (*id, *with) == (slot.id, derivation)
        {
            return Ok(key.copied());
        }
        let key = derivation.key(&self.ask(PassphraseFor::Opening)?)?;
        // A wrong one is not kept: whoever mistyped may try again.
        if slot.unwrap(vault, &key).is_some() {
            *derived = Some((slot.id, derivation, key.copied()));
        }
        Ok(key)
    }

    fn ask(&self, what_for: PassphraseFor) -> Result<Secret, VaultError> {
        let missing = |problem: String| VaultError::key_missing(SlotKind::Passphrase, problem);
        let ask = self.ask.as_ref().ok_or_else(|| missing("there is nobody to ask for it".to_owned()))?;
        ask(what_for).map_err(missing)
    }

    /// The first slot of a new vault, or of `vault` where it begins anew from a backup, which wraps `ring_key`.
    pub(crate) fn first_slot(
        &self,
        vault: Option<VaultId>,
        key_file: &KeyFile<'_>,
        ring_key: &Key,
    ) -> Result<(VaultId, Slot), VaultError> {
        match self.choice {
            KeyChoice::Auto => {
                // A key file that is there was made for a vault that was removed, or not finished. It stays in use.
                let probed = || self.keychain().is_ok_and(|keychain| keychain::probe(keychain).is_ok());
                match key_file.read()? {
                    None if probed() => self.first_in_keychain(vault, ring_key),
                    _ => first_in_file(vault, key_file, ring_key),
                }
            }
            KeyChoice::File => first_in_file(vault, key_file, ring_key),
            KeyChoice::Keychain => {
                keychain::probe(self.keychain()?)?;
                self.first_in_keychain(vault, ring_key)
            }
            KeyChoice::Passphrase => {
                let passphrase = self.ask(PassphraseFor::New)?;
                let vault = fresh_key(vault)?.vault;
                Ok((vault, passphrase_slot(&vault, &passphrase, ring_key)?))
            }
            KeyChoice::SystemdCredential => {
                let key = self.credential_key()?;
                if vault.is_some_and(|vault| vault != key.vault) {
                    return Err(wrong_vault(SlotKind::SystemdCredential));
                }
                Ok((key.vault, key_slot(SlotKind::SystemdCredential, &key, ring_key)?))
            }
        }
    }

    fn first_in_keychain(
        &self,
        vault: Option<VaultId>,
        ring_key: &Key,
    ) -> Result<(VaultId, Slot), VaultError> {
        let key = fresh_key(vault)?;
        let slot = key_slot(SlotKind::Keychain, &key, ring_key)?;
        keychain::store(self.keychain()?, &key)?;
        Ok((key.vault, slot))
    }
}

/// A key for a fresh slot of `vault`, or of a fresh one.
fn fresh_key(vault: Option<VaultId>) -> Result<SlotKey, VaultError> {
    vault.map_or_else(SlotKey::random, SlotKey::for_vault)
}

/// The key file may be there already, from a creation that was cut short or because the store was removed
/// with all that belongs to it; it is kept, whatever else it may open.
fn first_in_file(
    vault: Option<VaultId>,
    key_file: &KeyFile<'_>,
    ring_key: &Key,
) -> Result<(VaultId, Slot), VaultError> {
    let key = match key_file.read()? {
        Some(key) if vault.is_none_or(|vault| vault == key.vault) => key,
        Some(_) => return Err(VaultError::AnotherVault { key_file: key_file.path().to_owned() }),
        None => {
            let key = fresh_key(vault)?;
            key_file.create(&key)?;
            key
        }
    };
    Ok((key.vault, key_slot(SlotKind::File, &key, ring_key)?))
}

/// A slot that a random key opens.
pub(crate) fn key_slot(kind: SlotKind, key: &SlotKey, ring_key: &Key) -> Result<Slot, VaultError> {
    Slot::wrap(&key.vault, (kind, key.slot), Vec::new(), &key.key, ring_key)
}

/// A slot that a passphrase opens.
pub(crate) fn passphrase_slot(
    vault: &VaultId,
    passphrase: &Secret,
    ring_key: &Key,
) -> Result<Slot, VaultError> {
    passphrase::check_new(passphrase)?;
    let derivation = Derivation::fresh()?;
    let key = derivation.key(passphrase)?;
    Slot::wrap(vault, (SlotKind::Passphrase, SlotId::random()?), derivation.encode(), &key, ring_key)
}

/// The ring key in a slot. Keys that carry the names of their vault and slot, and are sound, open it or the header is
/// not what was written; a passphrase may simply be wrong.
pub(crate) fn unwrap(vault: &VaultId, slot: &Slot, key: &Key) -> Result<Key, VaultError> {
    slot.unwrap(vault, key).ok_or(match slot.kind {
        SlotKind::Passphrase => VaultError::WrongPassphrase,
        _ => Tampering::Slots.into(),
    })
}

fn checked(key: SlotKey, vault: &VaultId, slot: &Slot) -> Result<Key, VaultError> {
    if (key.vault, key.slot) == (*vault, slot.id) {
        return Ok(key.key);
    }
    if key.vault != *vault {
        return Err(wrong_vault(slot.kind));
    }
    Err(VaultError::SlotKeyWrong { kind: slot.kind, problem: "the key is for another slot" })
}

fn wrong_vault(kind: SlotKind) -> VaultError {
    VaultError::SlotKeyWrong { kind, problem: "the key is another vault's" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::place::Folder;
    use crate::slots::{self, Header};

    /// What unlocking says to a header with these slots, where no key file is.
    fn unlocked(vault: &VaultId, slots: &[Slot], ring_key: &Key, custody: &Custody) -> Option<VaultError> {
        let ring = slots::Ring::first_term().unwrap();
        let header = Header::parse(&slots::encode(vault, slots, ring_key, &ring).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Folder::store(&folder.path().join("store"), true).unwrap();
        let path = folder.path().join("vault.key");
        custody.unlock(&header.vault, &header.slots, &KeyFile::at(&path, &store, false).unwrap()).err()
    }

    #[test]
    fn a_hostile_passphrase_slot_asks_nobody_and_costs_nothing() {
        let (key, ring_key) = (SlotKey::random().unwrap(), Key::random().unwrap());
        let mut parameters = Derivation::fresh().unwrap().encode();
        // 4 TiB of memory.
        parameters[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
        let slot = Slot::wrap(&key.vault, (SlotKind::Passphrase, key.slot), parameters, &key.key, &ring_key);
        let custody = Custody::default().with_passphrase(Arc::new(|_| panic!("nobody is to be asked")));
        let error = unlocked(&key.vault, &[slot.unwrap()], &ring_key, &custody).unwrap();
        assert!(matches!(error, VaultError::KdfBounds { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Tampered);
    }

    #[test]
    fn a_vault_from_a_later_version_says_so() {
        let (key, ring_key) = (SlotKey::random().unwrap(), Key::random().unwrap());
        let later = (SlotKind::Unknown(9), key.slot);
        let slot = Slot::wrap(&key.vault, later, Vec::new(), &key.key, &ring_key).unwrap();
        let error = unlocked(&key.vault, &[slot], &ring_key, &Custody::default()).unwrap();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().contains("unknown (9)"), "{error}");
    }

    #[test]
    fn nothing_about_keys_is_printed() {
        let custody = Custody::new(KeyChoice::Auto).with_credential("/run/credentials/x".into());
        let said = format!("{custody:?}");
        assert_eq!(said, "Custody { choice: Auto, credential: Some(\"/run/credentials/x\"), .. }");
    }
}
