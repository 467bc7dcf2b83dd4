//! Files that decide where keys go: they must be the user's own, and nobody else's to write.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::failure::Failure;

/// The file's text; none when there is no such file. `what` names it in messages, such as "the configuration".
///
/// The checks are made on the open file, so what was checked is what is read.
///
/// # Errors
/// When it is a link, not a file, another user's, writable by others, larger than `limit` bytes, or not UTF-8.
pub fn read(path: &Path, limit: u64, what: &str) -> Result<Option<String>, Failure> {
    let refuse = |why: &str| Failure::usage("file_unsafe", format!("{} {why}", path.display()));
    let unreadable =
        |error: std::io::Error| Failure::file("file_unreadable", &format!("read {what} in"), path, &error);
    // A pipe in this place must not block the reader.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::LOOP) => {
            return Err(refuse(
                "is a symbolic link; orch does not follow links to what decides where keys go",
            ));
        }
        Err(error) => return Err(unreadable(error)),
    };
    let meta = file.metadata().map_err(unreadable)?;
    if let Err(why) = check(&meta, &[rustix::process::geteuid().as_raw()]) {
        let failure = refuse(why);
        let hint = format!("chmod 600 {}", path.display());
        return Err(if why == WRITABLE { failure.hint(hint) } else { failure });
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(limit + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limit {
        return Err(refuse(&format!("is larger than {} MiB", limit >> 20)));
    }
    Ok(Some(text))
}

/// Changes a file of the user's own, 0600: `change` gets what it holds by now and says what it is to hold. Whoever
/// changes it at the same time waits; whoever reads it sees the old text or the new one, whole.
///
/// # Errors
/// As `change`, and when the file cannot be written; the old one is then still whole. `code` is the failure's then.
pub fn change(
    path: &Path,
    code: &'static str,
    change: impl FnOnce() -> Result<String, Failure>,
) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::file(code, "write", path, &e);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.with_extension("lock"))
        .map_err(failed)?;
    lock.lock().map_err(failed)?;
    replace(path, change()?.as_bytes()).map_err(failed)
}

/// Replaces the file whole. The caller holds the lock, so the draft is nobody else's.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("draft");
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    })();
    if written.is_err() {
        // The draft may not exist; what matters is the error that led here.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Checks a file of trusted certificates, which the system may provide, and link to.
///
/// # Errors
/// When it is not there, not a file, another user's than root's, or writable by others: whoever writes it reads keys.
pub(crate) fn check_provided(path: &Path) -> Result<(), String> {
    let meta = fs::metadata(path).map_err(|e| e.to_string())?;
    check(&meta, &[rustix::process::geteuid().as_raw(), 0]).map_err(str::to_owned)
}

const WRITABLE: &str = "can be written to by other users";

fn check(meta: &Metadata, owners: &[u32]) -> Result<(), &'static str> {
    if !meta.is_file() {
        return Err("is not a file");
    }
    if !owners.contains(&meta.uid()) {
        return Err("belongs to another user");
    }
    if meta.permissions().mode() & 0o022 != 0 {
        return Err(WRITABLE);
    }
    Ok(())
}
