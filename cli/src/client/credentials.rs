//! Tokens of servers, as `orch login` stored them: `credentials.json` in the configuration folder, 0600.

use std::collections::BTreeMap;
use std::path::Path;

use orch_server::{Failure, private};
use orch_vault::Secret;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::address::ServerUrl;

/// The format this version writes and reads.
const VERSION: u32 = 1;
/// Largest file, in bytes.
const SIZE_LIMIT: u64 = 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    servers: BTreeMap<String, Row>,
}

/// Wiped when dropped; it has no Debug, so that nothing can print it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    token: String,
}

impl Drop for Row {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// The file of tokens, one per server.
pub(crate) struct Credentials<'a> {
    path: &'a Path,
}

impl<'a> Credentials<'a> {
    /// Reads nothing yet.
    pub(crate) fn at(path: &'a Path) -> Self {
        Self { path }
    }

    /// The token for exactly this server.
    ///
    /// # Errors
    /// When the file is not the user's own, is malformed, or of a version that this `orch` does not know.
    pub(crate) fn token(&self, server: &ServerUrl) -> Result<Option<Secret>, Failure> {
        let stored = self.load()?;
        Ok(stored.servers.get(&server.to_string()).map(|row| Secret::new(row.token.as_bytes().to_vec())))
    }

    /// Stores the token of a server, in place of an older one.
    ///
    /// # Errors
    /// As [`Credentials::token`], and when the file cannot be written.
    pub(crate) fn store(&self, server: &ServerUrl, token: &Secret) -> Result<(), Failure> {
        let token = token.expose(|bytes| String::from_utf8_lossy(bytes).into_owned());
        self.change(|stored| {
            stored.servers.insert(server.to_string(), Row { token });
        })
    }

    /// Forgets the token of a server; whether there was one.
    ///
    /// # Errors
    /// As [`Credentials::store`].
    pub(crate) fn forget(&self, server: &ServerUrl) -> Result<bool, Failure> {
        if !self.load()?.servers.contains_key(&server.to_string()) {
            return Ok(false);
        }
        let mut had = false;
        self.change(|stored| had = stored.servers.remove(&server.to_string()).is_some())?;
        Ok(had)
    }

    fn change(&self, change: impl FnOnce(&mut Stored)) -> Result<(), Failure> {
        private::change(self.path, "credentials_unwritable", || {
            let mut stored = self.load()?;
            change(&mut stored);
            serde_json::to_string(&stored)
                .map_err(|e| Failure::defect(format!("the tokens cannot be written as JSON: {e}")))
        })
    }

    fn load(&self) -> Result<Stored, Failure> {
        let Some(text) = private::read(self.path, SIZE_LIMIT, "the tokens")? else {
            return Ok(Stored { version: VERSION, servers: BTreeMap::new() });
        };
        let text = Zeroizing::new(text);
        let unusable = |why: &str| {
            Failure::usage("credentials_invalid", format!("{}: {why}", self.path.display()))
                .hint("move the file away and log in again: orch login")
        };
        #[derive(Deserialize)]
        struct Head {
            version: Option<u32>,
        }
        // What the parser says may repeat what it read, which may be a token.
        let broken = |e: serde_json::Error| {
            unusable(&format!("it is not what orch wrote (line {}, column {})", e.line(), e.column()))
        };
        match serde_json::from_str::<Head>(&text).map_err(broken)?.version {
            Some(VERSION) => serde_json::from_str(&text).map_err(broken),
            Some(other) => Err(unusable(&format!(
                "format version {other} is not known to this orch (it knows {VERSION})"
            ))),
            None => Err(unusable("it says no format version")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn url(text: &str) -> ServerUrl {
        text.parse().expect("a URL")
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn a_token_belongs_to_its_server_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("credentials.json");
        let credentials = Credentials::at(&path);
        let (one, two) = (url("https://one.example"), url("https://one.example:8443"));
        assert!(credentials.token(&one).expect("no file").is_none());
        credentials.store(&one, &secret("orch_one")).expect("stored");
        credentials.store(&two, &secret("orch_two")).expect("stored");
        credentials.store(&one, &secret("orch_newer")).expect("stored");
        let read =
            |server: &ServerUrl| credentials.token(server).expect("reads").map(|t| t.expose(<[u8]>::to_vec));
        assert_eq!(read(&one).as_deref(), Some(&b"orch_newer"[..]));
        assert_eq!(read(&two).as_deref(), Some(&b"orch_two"[..]));
        assert!(read(&url("http://127.0.0.1:1")).is_none());
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        assert!(credentials.forget(&one).expect("forgotten"));
        assert!(!credentials.forget(&one).expect("nothing left"));
        assert!(read(&one).is_none() && read(&two).is_some());
        assert!(!fs::read_to_string(&path).expect("there").contains("orch_newer"));
    }

    #[test]
    fn other_versions_and_garbage_are_errors_that_repeat_no_token() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("credentials.json");
        for (text, says) in [
            (r#"{"version":2,"servers":{}}"#, "version 2"),
            (r#"{"servers":{}}"#, "no format version"),
            (r#"{"version":1,"servers":{"https://a":"orch_SECRET"}}"#, "not what orch wrote"),
            (r#"{"version":1,"orch_SECRET":1}"#, "not what orch wrote"),
            ("orch_SECRET", "not what orch wrote"),
        ] {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
            let Err(failure) = Credentials::at(&path).token(&url("https://a")) else {
                panic!("{text} is read")
            };
            assert_eq!(failure.code(), "credentials_invalid");
            assert!(failure.message().contains(says), "{failure}");
            assert!(!failure.message().contains("SECRET"), "{failure}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("opened");
        let Err(failure) = Credentials::at(&path).token(&url("https://a")) else { panic!("open to all") };
        assert_eq!(failure.code(), "file_unsafe");
    }
}
