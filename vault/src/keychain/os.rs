//! The keychain of this operating system: the Secret Service (GNOME Keyring, KWallet) on Linux, the login
//! keychain on macOS.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};
use zeroize::Zeroizing;

use super::{Keychain, KeychainError};

#[cfg(target_os = "macos")]
use apple_native_keyring_store::keychain::Store;
#[cfg(target_os = "linux")]
use dbus_secret_service_keyring_store::Store;

/// What all entries are found by.
const SERVICE: &str = "orch vault";
/// How long the keychain is waited for. It may be asking somebody for a password.
const WAIT: Duration = Duration::from_secs(60);

/// The keychain of this operating system.
#[derive(Debug, Clone, Copy)]
pub struct OsKeychain {
    reachable: Result<(), &'static str>,
}

impl OsKeychain {
    /// The keychain of this session; `Err` says why there is none to be looked for. Without a session bus
    /// the library underneath would start another program to find one, so whoever calls has looked first.
    #[must_use]
    pub fn new(reachable: Result<(), &'static str>) -> OsKeychain {
        OsKeychain { reachable }
    }

    /// Does something with an entry, on a thread of its own: a keychain that does not answer must not hold
    /// everything else up. The thread ends with the process at the latest.
    fn with_entry<T: Send + 'static>(
        self,
        name: &str,
        act: impl FnOnce(&Entry) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, KeychainError> {
        self.reachable.map_err(|why| KeychainError(why.to_owned()))?;
        let (answer, heard) = mpsc::channel();
        let name = name.to_owned();
        thread::Builder::new()
            .name("keychain".to_owned())
            .spawn(move || {
                let label = HashMap::from([("label", "Key of the orch vault")]);
                let modifiers = cfg!(target_os = "linux").then_some(&label);
                let done = Store::new()
                    .and_then(|store| store.build(SERVICE, &name, modifiers))
                    .and_then(|entry| act(&entry));
                // Who stopped waiting is not told.
                let _ = answer.send(done.map_err(described));
            })
            .map_err(|error| KeychainError(format!("cannot start a thread: {error}")))?;
        match heard.recv_timeout(WAIT) {
            Ok(done) => done,
            Err(_) => Err(KeychainError(format!("it gave no answer in {} s", WAIT.as_secs()))),
        }
    }
}

impl Keychain for OsKeychain {
    fn set(&self, name: &str, text: &[u8]) -> Result<(), KeychainError> {
        let text = Zeroizing::new(text.to_vec());
        self.with_entry(name, move |entry| entry.set_secret(&text))
    }

    fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeychainError> {
        self.with_entry(name, |entry| match entry.get_secret() {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn remove(&self, name: &str) -> Result<(), KeychainError> {
        self.with_entry(name, |entry| match entry.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(error),
        })
    }
}

/// The reason without what the entry holds, which some of the library's errors carry.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`; the content that it may hold goes with it")]
fn described(error: Error) -> KeychainError {
    KeychainError(match error {
        Error::PlatformFailure(cause) => format!("it does not answer: {cause}"),
        Error::NoStorageAccess(cause) => format!("it is locked: {cause}"),
        Error::BadEncoding(_) | Error::BadDataFormat(..) | Error::BadStoreFormat(_) => {
            "an entry in it is damaged".to_owned()
        }
        Error::TooLong(what, most) => format!("it takes no {what} of more than {most} bytes"),
        Error::Ambiguous(_) => "it has several entries of the same name".to_owned(),
        _ => "it refuses".to_owned(),
    })
}
