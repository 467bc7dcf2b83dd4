//! The files of the store: they are this user's own, and nobody else's to read or write.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::failure::{Failure, Kind};

/// How old a leftover of a crashed write must be before it is removed.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Ends the names of files that are being written.
const UNFINISHED: &str = ".tmp";

/// Creates the folder when it is not there, 0700, and checks it; returns its path without links, so that nothing above
/// it can be exchanged later.
pub(super) fn folder(path: &Path) -> Result<PathBuf, Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::file("home_unwritable", "create the folder", path, &error))?;
    let meta = path.symlink_metadata().map_err(|e| Failure::file("home_unreadable", "look at", path, &e))?;
    check(path, &meta, FileKind::Folder)?;
    path.canonicalize().map_err(|e| Failure::file("home_unreadable", "look at", path, &e))
}

/// Makes sure that there is a database file of this user's at `path`, and that neither it nor what SQLite keeps beside
/// it is a link or somebody else's.
///
/// The file is never opened here: closing it again would drop the locks that another handle of this process has on it
/// (fcntl(2)). For the same reason an empty one is made elsewhere and then linked to its name.
pub(super) fn database(path: &Path) -> Result<(), Failure> {
    let unwritable = |e: io::Error| Failure::file("store_unwritable", "create", path, &e);
    if !exists(path)? {
        let (unfinished, file) = unfinished(path.parent().unwrap_or(Path::new("."))).map_err(unwritable)?;
        drop(file);
        let linked = fs::hard_link(&unfinished, path);
        fs::remove_file(&unfinished).map_err(unwritable)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unwritable(error)),
            _ => {}
        }
    }
    for beside in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        let file = PathBuf::from(name);
        match file.symlink_metadata() {
            Ok(meta) => check(&file, &meta, FileKind::File)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::file("home_unreadable", "look at", &file, &error)),
        }
    }
    Ok(())
}

fn exists(path: &Path) -> Result<bool, Failure> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::file("home_unreadable", "look at", path, &error)),
    }
}

/// What is expected at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    File,
    Folder,
}

/// Refuses what someone else could have planted, or could change.
pub(super) fn check(path: &Path, meta: &Metadata, expected: FileKind) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Err(Failure::new(Kind::Usage, "home_unsafe", format!("{} {why}", path.display()))
            .hint("move it away, or set ORCH_HOME to a folder of your own"))
    };
    if meta.file_type().is_symlink() {
        return refuse("is a symbolic link; orch does not follow links to what it stores");
    }
    match expected {
        FileKind::File if !meta.is_file() => return refuse("is not a file"),
        FileKind::Folder if !meta.is_dir() => return refuse("is not a folder"),
        FileKind::File | FileKind::Folder => {}
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return refuse("belongs to another user");
    }
    if meta.permissions().mode() & 0o022 != 0 {
        return refuse("can be written to by other users");
    }
    Ok(())
}

/// A new file in `folder`, 0600 and locked, that nobody looks at until it has its final name. The lock keeps
/// [`remove_leftovers`] away for as long as the file is open.
pub(super) fn unfinished(folder: &Path) -> io::Result<(PathBuf, File)> {
    let path = folder.join(format!("{}{UNFINISHED}", random_name()?));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    file.try_lock()?;
    Ok((path, file))
}

/// Removes what crashed writes left in `folder`. What is locked is being written, and what is young may be about to be
/// locked.
pub(super) fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.as_os_str().as_encoded_bytes().ends_with(UNFINISHED.as_bytes()) {
            continue;
        }
        // It may be gone by now, or be something that cannot be opened: then it is left alone.
        let Ok(file) = open(&path) else { continue };
        let old = file.metadata().is_ok_and(|meta| is_old(&meta));
        if old && file.try_lock().is_ok() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a file is too old to be of a write that goes on.
pub(super) fn is_old(meta: &Metadata) -> bool {
    let age = meta.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age > LEFTOVER_AGE)
}

/// Opens a file for reading; links are not followed, and a pipe does not block.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Makes names in the folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A name that nobody else has: 128 random bits in lower-case base32.
pub(super) fn random_name() -> io::Result<String> {
    let mut bits = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bits)
        .map_err(|_| io::Error::other("the operating system's random source does not answer"))?;
    Ok(data_encoding::BASE32_NOPAD.encode(&bits).to_ascii_lowercase())
}
