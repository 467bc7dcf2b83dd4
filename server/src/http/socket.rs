//! The unix socket, which is its owner's alone.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::failure::{Failure, Kind};

/// The longest path of a socket, in bytes: `sockaddr_un` has no room for more.
const LONGEST_PATH: usize = 107;

/// The file of a socket that is listened on; it is removed when this is dropped.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever took the place meanwhile keeps it.
        if self.path.symlink_metadata().is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens on a socket that only this user can reach. What an earlier server left behind is removed, unless somebody
/// listens there.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), Failure> {
    let failed = |error: std::io::Error| Failure::file("listen_failed", "listen on the socket", path, &error);
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(Failure::usage(
            "listen_failed",
            format!(
                "{} is longer than the {LONGEST_PATH} bytes that a socket's path may have",
                path.display()
            ),
        )
        .hint("set ORCH_HOME to a folder with a shorter path"));
    }
    remove_stale(path)?;
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let inode = path.symlink_metadata().map_err(failed)?.ino();
    let file = SocketFile { path: path.to_owned(), inode };
    Ok((UnixListener::from_std(listener).map_err(failed)?, file))
}

fn remove_stale(path: &Path) -> Result<(), Failure> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(Failure::usage(
            "listen_failed",
            format!("{} is there already and is no socket", path.display()),
        )
        .hint("move it away"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|e| Failure::file("listen_failed", "remove the old socket", path, &e)),
        Err(error) => Err(Failure::file("listen_failed", "listen on the socket", path, &error)),
        // It holds the vault, which is why there is one server to a home.
        Ok(_) => Err(Failure::new(
            Kind::Vault,
            "vault_locked",
            format!("another server holds this home's vault: it listens on {} already", path.display()),
        )
        .hint("stop it, or give this one an ORCH_HOME of its own")),
    }
}

/// Whether the other end was opened by this very user.
pub(super) fn is_ours(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("server.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "left behind");
        let (listener, file) = bind(&path).expect("nobody listens");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        let failure = bind(&path).err().expect("somebody listens");
        assert!(failure.message().contains("another server"), "{failure}");

        let client = UnixStream::connect(&path).await.expect("connected");
        let (accepted, _) = listener.accept().await.expect("accepted");
        assert!(is_ours(&accepted) && is_ours(&client));
        drop(file);
        assert!(!path.exists(), "removed at the end");
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("server.sock");
        std::fs::write(&path, "mine").expect("written");
        assert_eq!(bind(&path).err().expect("refused").code(), "listen_failed");
        assert_eq!(std::fs::read(&path).expect("read"), b"mine");
        let long = dir.path().join("x".repeat(100));
        assert!(bind(&long).err().expect("too long").message().contains("107"));
    }

    #[tokio::test]
    async fn a_file_that_took_the_place_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("server.sock");
        let (_listener, file) = bind(&path).expect("bound");
        // Beside it first, so that the new one cannot get the old one's inode.
        std::fs::write(dir.path().join("other"), "").expect("written");
        std::fs::rename(dir.path().join("other"), &path).expect("moved");
        drop(file);
        assert!(path.exists());
    }
}
