//! The vault's errors, with their exit codes and what to do about them.

use orch_vault::{ErrorKind, ResolutionError, SlotKind, ValueError, VaultError};

use super::{Failure, Kind};

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        let (kind, code, hint) = match error.kind() {
            ErrorKind::Locked => (
                Kind::Vault,
                "vault_locked",
                Some("another orch is using the vault: try again when it is done"),
            ),
            ErrorKind::Key => (Kind::Vault, "vault_key", Some(key_hint(&error))),
            // A passphrase may be that of a backup, and says itself what a good one is.
            ErrorKind::Slots if matches!(error, VaultError::WeakPassphrase { .. }) => {
                (Kind::Vault, "vault_slots", None)
            }
            ErrorKind::Slots => (Kind::Vault, "vault_slots", Some("orch vault slots list")),
            ErrorKind::Tampered if matches!(error, VaultError::StoreGone { .. }) => (
                Kind::Vault,
                "vault_tampered",
                Some(
                    "restore the vault's folder and the .head file beside it together, or a backup with orch vault restore; to begin anew, move the key file away",
                ),
            ),
            ErrorKind::Tampered => (
                Kind::Vault,
                "vault_tampered",
                Some(
                    "nothing was changed: restore the vault's folder and the .head file beside it together, or move both away and set the secrets again",
                ),
            ),
            ErrorKind::Format => {
                (Kind::Vault, "vault_format", Some("use the orch that wrote it, or a newer one"))
            }
            ErrorKind::Storage => (Kind::Vault, "vault_storage", None),
            ErrorKind::Place => (Kind::Vault, "vault_place", None),
            ErrorKind::Conflict => {
                (Kind::Usage, "vault_conflict", Some("look at it again with: orch secrets list"))
            }
            ErrorKind::Expired => {
                (Kind::NoKey, "secret_expired", Some("set a new value with: orch secrets set NAME"))
            }
            _ => (Kind::Usage, "secret_refused", refusal_hint(&error)),
        };
        let failure = Self::new(kind, code, message);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What to do when a key is missing or wrong.
fn key_hint(error: &VaultError) -> &'static str {
    match error {
        VaultError::WrongPassphrase => "try again; after ORCH_PASSPHRASE_FILE, look at what is in that file",
        VaultError::SlotKeyMissing { kind: SlotKind::Passphrase, .. } => {
            "run it on a terminal, or set ORCH_PASSPHRASE_FILE to a file (0600) that holds the passphrase"
        }
        VaultError::SlotKeyMissing { kind: SlotKind::SystemdCredential, .. }
        | VaultError::SlotKeyWrong { kind: SlotKind::SystemdCredential, .. } => {
            "add LoadCredentialEncrypted=orch-vault-key:… to the unit, or open the vault by another slot"
        }
        VaultError::SlotKeyMissing { kind: SlotKind::Keychain, .. }
        | VaultError::SlotKeyWrong { kind: SlotKind::Keychain, .. }
        | VaultError::Keychain { .. } => {
            "unlock the keychain and run it in that session, or choose another slot with vault.key in config.yaml"
        }
        VaultError::KdfMemory { .. } => "let the process have more memory, or open the vault by another slot",
        VaultError::NoSlotOpens { .. } => {
            "bring one of these keys back; without any nothing in the vault can be read"
        }
        VaultError::WrongBackupPassphrase => "try again with the passphrase that the backup was made with",
        VaultError::AnotherVault { .. } => {
            "move the vault that is here away, its .head file and its key file as well, and restore again"
        }
        _ => "put the vault's own key file back; without it nothing in the vault can be read",
    }
}

fn refusal_hint(error: &VaultError) -> Option<&'static str> {
    match error {
        VaultError::Value(ValueError::Short(_)) => {
            Some("--allow-short stores it all the same; it then cannot be cleaned out of responses")
        }
        _ => None,
    }
}

impl From<ResolutionError> for Failure {
    fn from(error: ResolutionError) -> Self {
        match error {
            ResolutionError::Vault(error) => error.into(),
            other => Self::usage("bad_usage", other.to_string()),
        }
    }
}
