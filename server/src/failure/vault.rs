//! The vault's errors, with their exit codes and what to do about them.

use orch_vault::{ErrorKind, MetaError, ResolutionError, SlotKind, Tampering, ValueError, VaultError};

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
        // What is wrong with a copy says nothing of the vault.
        if let VaultError::Tampered(what @ Tampering::Backup) = &error {
            return backup_damaged(what.to_string());
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
            ErrorKind::Tampered if matches!(error, VaultError::Unsound { .. }) => (
                Kind::Vault,
                "vault_unsound",
                Some(
                    "nothing was changed: orch vault verify names the rows; restore a backup, or the vault's folder and the .head file beside it together",
                ),
            ),
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
            ErrorKind::Storage => (Kind::Vault, "vault_storage", Some(storage_hint(&error))),
            ErrorKind::Place => (
                Kind::Vault,
                "vault_place",
                Some(
                    "it has to be your own and closed to others (chown; chmod 700 a folder, chmod 600 a file), or move it away",
                ),
            ),
            ErrorKind::Conflict => {
                (Kind::Usage, "vault_conflict", Some("look at it again with: orch secrets list"))
            }
            ErrorKind::Expired => {
                (Kind::NoKey, "secret_expired", Some("set a new value with: orch secrets set NAME"))
            }
            ErrorKind::Missing => return missing(&error, message),
            ErrorKind::UsedUp => (Kind::Denied, "secret_used_up", Some("orch secrets grants")),
            _ => (Kind::Usage, "secret_refused", refusal_hint(&error)),
        };
        let failure = Self::new(kind, code, message);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Failure {
    /// What kept a backup from being restored. Nothing takes the place of the vault that is here before it was verified, so
    /// what is not authentic then is the backup.
    #[must_use]
    pub fn of_restoration(error: VaultError) -> Self {
        match error {
            VaultError::Unsound { findings } => {
                backup_damaged(format!("the vault in the backup is not sound: {}", findings.join("; ")))
            }
            VaultError::Tampered(what) if what != Tampering::Backup => {
                backup_damaged(format!("the vault in the backup is damaged: {what}"))
            }
            VaultError::KdfBounds { what, found, least, most } => backup_damaged(format!(
                "opening the backup would take {what} {found}; between {least} and {most} is accepted"
            )),
            other => other.into(),
        }
    }
}

fn backup_damaged(why: String) -> Failure {
    Failure::new(Kind::Vault, "vault_backup_damaged", why)
        .hint("take another copy of the backup; the vault here is unchanged")
}

/// What to do about a disk that does not do what it should.
fn storage_hint(error: &VaultError) -> &'static str {
    match error {
        VaultError::Sealed => "start orch again: it then reads what is on the disk",
        _ => "look for free space, and whether the disk can be written to, and try again",
    }
}

/// There is no such secret, or no such grant of it.
fn missing(error: &VaultError, message: String) -> Failure {
    match error {
        VaultError::GrantMissing { name, .. } => {
            Failure::usage("grant_missing", message).hint(format!("orch secrets grants {name}"))
        }
        VaultError::Missing { name } => {
            Failure::usage("secret_missing", message).hint(format!("orch secrets set {name}"))
        }
        _ => Failure::usage("secret_missing", message),
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
        VaultError::Value(ValueError::LineBreak) => {
            Some("--multiline stores it all the same; it then never goes into a header")
        }
        VaultError::Value(ValueError::Empty) => {
            Some("give the value, or remove the secret: orch secrets rm NAME")
        }
        VaultError::Value(ValueError::Wrapped | ValueError::Nul) => {
            Some("take them off: a value is exactly the bytes that the host wants to see")
        }
        VaultError::Meta(MetaError::HeaderAndNever) => {
            Some("a value with line breaks goes into a query: --host HOST --in query:NAME")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_a_vault_says_what_to_do_about_it() {
        let storage = || VaultError::Storage { doing: "writing", source: std::io::Error::other("full") };
        let place = || VaultError::Place { path: "/x".into(), problem: "is a symbolic link".to_owned() };
        let unsound = || VaultError::Unsound { findings: vec!["a row is not authentic".to_owned()] };
        let mut said = Vec::new();
        for (failure, code, part) in [
            (Failure::from(VaultError::Tampered(Tampering::Backup)), "vault_backup_damaged", "unchanged"),
            (Failure::from(VaultError::Tampered(Tampering::Row)), "vault_tampered", "move both away"),
            (Failure::from(unsound()), "vault_unsound", "orch vault verify"),
            (Failure::from(place()), "vault_place", "chmod 700"),
            (Failure::from(storage()), "vault_storage", "free space"),
            (Failure::from(VaultError::Sealed), "vault_storage", "start orch again"),
        ] {
            assert_eq!((failure.kind(), failure.code()), (Kind::Vault, code), "{failure}");
            assert!(failure.hints()[0].contains(part), "{:?}", failure.hints());
            said.push(failure.hints()[0].clone());
        }
        said.sort();
        said.dedup();
        assert_eq!(said.len(), 6, "each its own");
        for error in
            [VaultError::Tampered(Tampering::Backup), VaultError::Tampered(Tampering::Root), unsound()]
        {
            let failure = Failure::of_restoration(error);
            assert_eq!(failure.code(), "vault_backup_damaged", "{failure}");
            assert!(!failure.message().contains("was tampered with"), "{failure}");
        }
        assert_eq!(Failure::of_restoration(storage()).code(), "vault_storage");
    }
}
