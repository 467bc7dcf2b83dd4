//! What a client needs in its environment, written where only its user reads it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use orch_server::{EgressClient, Failure};
use zeroize::Zeroizing;

use super::url;
use crate::printer::Printer;

/// Writes each client's environment into a file of its own, 0600, in the form that `docker run --env-file` and shells
/// (`set -a; . FILE`) read. Says into which.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(
    clients: &[EgressClient],
    address: SocketAddr,
    file: Option<&Path>,
) -> Result<Vec<Option<PathBuf>>, Failure> {
    let Some(file) = file else { return Ok(vec![None; clients.len()]) };
    let mut files = Vec::new();
    for client in clients {
        let mut path = OsString::from(file);
        if clients.len() > 1 {
            path.push(format!(".{}", client.client.name));
        }
        let path = PathBuf::from(path);
        let mut text = Zeroizing::new(String::new());
        for (name, value) in variables(client, address).iter() {
            text.push_str(&format!("{name}={value}\n"));
        }
        replace(&path, text.as_bytes()).map_err(|e| Failure::file("env_file_failed", "write", &path, &e))?;
        files.push(Some(path));
    }
    Ok(files)
}

/// Prints a client's environment as lines for a shell, on a terminal.
pub(super) fn print(client: &EgressClient, address: SocketAddr, printer: Printer) -> io::Result<()> {
    for (name, value) in variables(client, address).iter() {
        printer.result(&format!("export {name}={value}"))?;
    }
    Ok(())
}

/// Both spellings, because programs disagree on which they read; and no exceptions, because nothing is to go past the
/// proxy. Node reads any of it only when it is told to.
fn variables(client: &EgressClient, address: SocketAddr) -> Zeroizing<Vec<(String, String)>> {
    let url = Zeroizing::new(url(client.client.name.as_str(), client.client.token.reveal(), address));
    let mut all: Vec<(String, String)> = Vec::new();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        all.push((name.to_owned(), url.to_string()));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        all.push((name.to_owned(), String::new()));
    }
    all.push(("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()));
    all.extend(client.placeholders.iter().cloned());
    Zeroizing::new(all)
}

/// Replaces the file whole; a link in its place is replaced, not followed.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = OsString::from(path);
    draft.push(format!(".{}.draft", std::process::id()));
    let draft = PathBuf::from(draft);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    })();
    if written.is_err() {
        // The draft may not exist; what matters is the error that led here.
        let _ = fs::remove_file(&draft);
    }
    written
}
