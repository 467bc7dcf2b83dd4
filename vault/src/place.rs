//! Where the vault's files may be: owner, modes, symlinks, kinds of files, the file system, the lock.
//!
//! The store's folder is 0700 and its parent is writable by its owner alone, so once these were checked
//! through open descriptors nobody else can put another file in their place before sled opens by path.
//! What runs as the same user, or as root, can: that is not defended against.

use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags, RawMode};
use rustix::io::Errno;

use crate::VaultError;

mod new_file;

pub use new_file::BackupFile;

/// How long another process is waited for. Commands hold the vault for milliseconds; a server holds it for
/// good, and waiting longer would not help.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const PRIVATE_FOLDER: Mode = Mode::RWXU;

/// A folder that was checked, held open.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    file: File,
}

/// What a private file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To be read.
    Read,
    /// To be read and written.
    Write,
    /// To be read and written, and created when it is not there.
    Create,
}

/// How private a folder has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privacy {
    /// Others may look, and not write.
    NotWritable,
    /// Others may do nothing.
    Closed,
}

impl Folder {
    /// The folder that holds `path`, created (0700) if `create`. It may be reached through symlinks: the
    /// system's own lead to many homes. It has to be ours, and writable by nobody else.
    pub(crate) fn parent_of(path: &Path, create: bool) -> Result<Folder, VaultError> {
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Err(VaultError::place(path, "is not a place for a vault's files")),
        };
        if create {
            DirBuilder::new()
                .recursive(true)
                .mode(PRIVATE_FOLDER.bits().into_mode())
                .create(parent)
                .map_err(|source| VaultError::storage("creating the vault's folder", source))?;
        }
        Folder::open(parent, OFlags::empty(), Privacy::NotWritable)
    }

    /// The store's folder: ours, 0700, not a symlink, on a file system that keeps locks and writes.
    pub(crate) fn store(path: &Path, create: bool) -> Result<Folder, VaultError> {
        if create {
            match DirBuilder::new().mode(PRIVATE_FOLDER.bits().into_mode()).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(VaultError::storage("creating the vault's folder", error));
                }
                _ => {}
            }
        }
        let folder = Folder::open(path, OFlags::NOFOLLOW, Privacy::Closed)?;
        check_file_system(&folder)?;
        Ok(folder)
    }

    /// The folder that holds `path`, whoever owns it: for files that keep their own secrets.
    pub(crate) fn any_parent_of(path: &Path) -> Result<Folder, VaultError> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(parent, flags, Mode::empty());
        let file = opened.map_err(|errno| cannot_open(parent, errno))?;
        Ok(Folder { path: parent.to_owned(), file: File::from(file) })
    }

    fn open(path: &Path, flags: OFlags, privacy: Privacy) -> Result<Folder, VaultError> {
        let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = File::from(
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| cannot_open(path, errno))?,
        );
        let facts = Facts::of(&metadata(path, &file)?);
        if let Some(problem) = facts.problem_as_folder(our_user(), privacy) {
            return Err(VaultError::place(path, problem));
        }
        Ok(Folder { path: path.to_owned(), file })
    }

    /// The path it was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode.
    pub(crate) fn identity(&self) -> Result<(u64, u64), VaultError> {
        let metadata = metadata(&self.path, &self.file)?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Makes the names in the folder durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Makes the names in the folder durable, and its own name, and those of the folders around it that are ours:
    /// whoever created them may not have, and what is in a folder that is lost with the power is lost with it.
    pub(crate) fn sync_with_parents(&self) -> io::Result<()> {
        self.sync()?;
        for parent in self.path.canonicalize()?.ancestors().skip(1) {
            let Ok(parent) = File::open(parent) else { break };
            if parent.metadata()?.uid() != our_user() {
                break;
            }
            parent.sync_all()?;
        }
        Ok(())
    }

    /// Opens a file in the folder that is ours, private, and nothing but a file. `None` when it is not there
    /// and is not to be created.
    pub(crate) fn private_file(&self, name: &Path, access: Access) -> Result<Option<File>, VaultError> {
        let path = self.path.join(name);
        let access_flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
            Access::Create => OFlags::RDWR | OFlags::CREATE,
        };
        // Non-blocking, or opening a FIFO would wait for its other end.
        let flags = access_flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.file, name, flags, PRIVATE_FILE) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) if access != Access::Create => return Ok(None),
            Err(errno) => return Err(cannot_open(&path, errno)),
        };
        let facts = Facts::of(&metadata(&path, &file)?);
        match facts.problem_as_file(our_user()) {
            Some(problem) => Err(VaultError::place(path, problem)),
            None => Ok(Some(file)),
        }
    }

    /// Writes a new private file: under a random name first, made durable, then renamed. No file that is
    /// there is replaced or removed, not even one that was made meanwhile.
    pub(crate) fn write_new(&self, name: &Path, content: &[u8]) -> io::Result<()> {
        let mut random = [0; 16];
        crate::crypto::fill_random(&mut random).map_err(io::Error::other)?;
        let temporary = format!(".orch-{}.new", HEXLOWER.encode(&random));
        self.write_new_through(Path::new(&temporary), name, content)
    }

    /// [`Folder::write_new`] with a name for the time until then, where no file is.
    pub(crate) fn write_new_through(&self, temporary: &Path, name: &Path, content: &[u8]) -> io::Result<()> {
        self.write_here(temporary, content)?;
        let no_replace = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.file, temporary, &self.file, name, no_replace) {
            Ok(()) => self.file.sync_all(),
            Err(errno) => {
                self.remove(temporary)?;
                match errno {
                    // Not every file system can refuse to replace. All can refuse to create.
                    Errno::INVAL | Errno::NOSYS | Errno::NOTSUP => self.write_here(name, content),
                    other => Err(other.into()),
                }
            }
        }
    }

    /// Writes a new private file under its own name, durably. Nothing of it stays if that fails.
    fn write_here(&self, name: &Path, content: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.file, name, flags, PRIVATE_FILE)?);
        let written = io::Write::write_all(&mut file, content)
            .and_then(|()| file.sync_all())
            .and_then(|()| self.file.sync_all());
        if written.is_err() {
            // Ours: it was not there before. Why it was not written is what counts.
            let _ = self.remove(name);
        }
        written
    }
}

impl Folder {
    /// Removes a file, if it is there. [`Folder::sync`] makes that durable.
    pub(crate) fn remove(&self, name: &Path) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.file, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Puts a file in the place of another one, durably.
    pub(crate) fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        rustix::fs::renameat(&self.file, from, &self.file, to)?;
        self.file.sync_all()
    }
}

/// The store's lock, held until dropped (or until the process ends, however it does).
pub(crate) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock in the file `name`, waiting for [`LOCK_WAIT`] at most.
    pub(crate) fn acquire(folder: &Folder, name: &Path) -> Result<StoreLock, VaultError> {
        let path = folder.path.join(name);
        let file = folder
            .private_file(name, Access::Create)?
            .ok_or_else(|| VaultError::place(path.as_path(), "vanished while it was opened"))?;
        let started = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(StoreLock { _file: file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if started.elapsed() < LOCK_WAIT => sleep(LOCK_PAUSE),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(VaultError::Locked { lock: path, waited: started.elapsed() });
                }
                Err(errno) => return Err(VaultError::storage("taking the vault's lock", errno)),
            }
        }
    }
}

/// Whether anything is at `path`, a dangling symlink included.
pub(crate) fn exists(path: &Path) -> Result<bool, VaultError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(VaultError::storage("looking for the vault", error)),
    }
}

/// What is judged of a file or folder.
#[derive(Debug, Clone, Copy)]
struct Facts {
    kind: FileType,
    mode: u32,
    owner: u32,
    links: u64,
}

impl Facts {
    fn of(metadata: &Metadata) -> Facts {
        Facts {
            kind: FileType::from_raw_mode(metadata.mode().into_raw()),
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            links: metadata.nlink(),
        }
    }

    fn problem_as_file(&self, user: u32) -> Option<String> {
        if self.kind != FileType::RegularFile {
            return Some("is not a regular file".to_owned());
        }
        if self.owner != user {
            return Some(format!("belongs to user {}, not to user {user}, who runs this", self.owner));
        }
        if self.mode & 0o077 != 0 {
            return Some(format!("has mode {:04o}; others must have no access (chmod 600)", self.mode));
        }
        (self.links != 1).then(|| "has a second hard link".to_owned())
    }

    /// systemd leaves a credential to root and grants the service's user access by a list, whose mask shows
    /// as the group's rights; where it cannot, the file is the user's.
    fn problem_as_credential(&self, user: u32) -> Option<String> {
        let handed_over = self.owner == 0 && user != 0;
        let allowed = if handed_over { 0o440 } else { 0o400 };
        if handed_over && self.kind == FileType::RegularFile && self.mode & !allowed == 0 {
            return None;
        }
        self.problem_as_file(user).or_else(|| {
            (self.mode & !allowed != 0)
                .then(|| format!("has mode {:04o}; a credential is read-only (chmod 400)", self.mode))
        })
    }

    fn problem_as_folder(&self, user: u32, privacy: Privacy) -> Option<String> {
        if self.owner != user {
            return Some(format!("belongs to user {}, not to user {user}, who runs this", self.owner));
        }
        let (forbidden, advice) = match privacy {
            Privacy::NotWritable => (0o022, "others must not be able to write to it (chmod go-w)"),
            Privacy::Closed => (0o077, "others must have no access (chmod 700)"),
        };
        (self.mode & forbidden != 0).then(|| format!("has mode {:04o}; {advice}", self.mode))
    }
}

fn our_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn metadata(path: &Path, file: &File) -> Result<Metadata, VaultError> {
    file.metadata().map_err(|error| VaultError::place(path, format!("cannot be examined: {error}")))
}

/// Why a file is not a credential that systemd gave this process, if it is not.
pub(crate) fn problem_as_credential(path: &Path, file: &File) -> Result<Option<String>, VaultError> {
    Ok(Facts::of(&metadata(path, file)?).problem_as_credential(our_user()))
}

/// Why something at `path` could not be opened.
pub(crate) fn cannot_open(path: &Path, errno: Errno) -> VaultError {
    let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
    match errno {
        Errno::LOOP | Errno::NOTDIR if is_link => VaultError::place(path, "is a symbolic link"),
        Errno::NOTDIR => VaultError::place(path, "is not a folder, or leads through something that is not"),
        // Nothing is wrong with the place.
        Errno::IO | Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            VaultError::storage("opening one of its files", errno)
        }
        _ => VaultError::place(path, format!("cannot be opened: {}", io::Error::from(errno))),
    }
}

/// Modes are 32 bits wide on some systems and 16 on others; `std` always says 32.
trait IntoMode {
    fn into_mode(self) -> u32;
}

impl IntoMode for RawMode {
    #[allow(clippy::useless_conversion, reason = "16 bits wide on Apple's systems")]
    fn into_mode(self) -> u32 {
        self.into()
    }
}

trait IntoRaw {
    fn into_raw(self) -> RawMode;
}

impl IntoRaw for u32 {
    #[allow(
        clippy::unnecessary_cast,
        reason = "16 bits wide on Apple's systems, where the upper half is empty"
    )]
    fn into_raw(self) -> RawMode {
        self as RawMode
    }
}

/// Network file systems: their locks do not always reach other machines, and what they call durable is
/// another machine's word. Numbers from Linux's `magic.h` and the file systems' sources.
#[cfg(target_os = "linux")]
const REFUSED_FILE_SYSTEMS: [(u32, &str); 8] = [
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "SMB"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0000_564c, "NCP"),
];

#[cfg(target_os = "linux")]
fn check_file_system(folder: &Folder) -> Result<(), VaultError> {
    let stat = rustix::fs::fstatfs(&folder.file)
        .map_err(|errno| VaultError::storage("asking for the file system's type", errno))?;
    match refused_file_system(stat.f_type) {
        None => Ok(()),
        Some(name) => Err(VaultError::place(
            folder.path(),
            format!("is on {name}, where locks and durable writes cannot be relied on; use a local disk"),
        )),
    }
}

#[cfg(target_os = "linux")]
fn refused_file_system(kind: impl TryInto<i64>) -> Option<&'static str> {
    // The field's width and sign differ between architectures; the number has 32 bits.
    let kind = kind.try_into().ok()?.to_le_bytes();
    let [a, b, c, d, ..] = kind;
    let kind = u32::from_le_bytes([a, b, c, d]);
    REFUSED_FILE_SYSTEMS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

#[cfg(not(target_os = "linux"))]
fn check_file_system(_: &Folder) -> Result<(), VaultError> {
    Ok(())
}

#[cfg(test)]
mod tests;
