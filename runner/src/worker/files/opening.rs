//! Opening what a guest names.

use std::fs::File;
use std::io::{self, ErrorKind};

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File as GuestFile};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags};
use wasmtime_wasi::{FsPerms, OpenMode};

/// What a guest wants to open.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) path: &'a str,
    /// A link at the end of the path is followed.
    pub(super) follow: bool,
    pub(super) open: OpenFlags,
    pub(super) flags: DescriptorFlags,
}

/// Opens it below `folder`. None where this system cannot be asked for that in one call.
///
/// Somebody outside may put a pipe in the place of what was a file a moment ago, and who opens a pipe waits for its other end:
/// so nothing is waited for, and what turns out to be neither file nor folder is closed again.
pub(super) fn open(folder: &Dir, wanted: Wanted<'_>) -> Result<Option<Descriptor>, ErrorCode> {
    let (mode, how) = wanted.how(folder.perms)?;
    let Some(opened) = open_beneath(&folder.dir, wanted.path, how)? else { return Ok(None) };
    let kind = opened.metadata()?.file_type();
    if kind.is_dir() {
        return Ok(Some(Descriptor::Dir(Dir::new(opened, folder.perms, mode, true))));
    }
    if !kind.is_file() {
        return Err(ErrorCode::NotPermitted);
    }
    if wanted.open.contains(OpenFlags::DIRECTORY) {
        return Err(ErrorCode::NotDirectory);
    }
    let waits = fcntl_getfl(&opened).map_err(io::Error::from)? - OFlags::NONBLOCK;
    fcntl_setfl(&opened, waits).map_err(io::Error::from)?;
    Ok(Some(Descriptor::File(GuestFile::new(opened, folder.perms, mode, true))))
}

impl Wanted<'_> {
    /// How it is opened, if it may be: as wasmtime would do it.
    fn how(&self, perms: FsPerms) -> Result<(OpenMode, OFlags), ErrorCode> {
        use DescriptorFlags as Flags;
        let sync = Flags::FILE_INTEGRITY_SYNC | Flags::DATA_INTEGRITY_SYNC | Flags::REQUESTED_WRITE_SYNC;
        if self.flags.intersects(sync) {
            return Err(ErrorCode::Unsupported);
        }
        let makes = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
        if self.open.contains(OpenFlags::DIRECTORY) && self.open.intersects(makes) {
            return Err(ErrorCode::Invalid);
        }
        let changes = self.open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE);
        let write = self.flags.contains(Flags::WRITE) || changes;
        // Somehow it has to be opened, and what was not asked for is refused later.
        let read = self.flags.contains(Flags::READ) || !self.flags.contains(Flags::WRITE);
        if write && perms.write_not_permitted() {
            return Err(ErrorCode::NotPermitted);
        }
        let (mut mode, mut how) = (OpenMode::empty(), OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY);
        mode.set(OpenMode::READ, read);
        mode.set(OpenMode::WRITE, write);
        how |= match (read, write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        how.set(OFlags::NOFOLLOW, !self.follow);
        how.set(OFlags::CREATE, self.open.contains(OpenFlags::CREATE));
        how.set(OFlags::EXCL, self.open.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE));
        how.set(OFlags::TRUNC, self.open.contains(OpenFlags::TRUNCATE));
        Ok((mode, how))
    }
}

/// Times that a path is looked up again because something on the machine was renamed meanwhile.
#[cfg(target_os = "linux")]
const TRIES: usize = 16;

#[cfg(target_os = "linux")]
fn open_beneath(folder: &File, path: &str, how: OFlags) -> Result<Option<File>, ErrorCode> {
    use rustix::fs::{ResolveFlags, openat2};
    let mode = if how.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        return match openat2(folder, path, how, mode, beneath) {
            Ok(opened) => Ok(Some(opened.into())),
            Err(Errno::AGAIN) => continue,
            // Some filters of system calls say this where they do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => Ok(None),
            Err(Errno::XDEV) => Err(io::Error::from(ErrorKind::PermissionDenied).into()),
            // A pipe that nobody reads from.
            Err(Errno::NXIO) => Err(ErrorCode::NotPermitted),
            Err(error) => Err(io::Error::from(error).into()),
        };
    }
    Ok(None)
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(_: &File, _: &str, _: OFlags) -> Result<Option<File>, ErrorCode> {
    Ok(None)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    const READ: DescriptorFlags = DescriptorFlags::READ;
    const WRITE: DescriptorFlags = DescriptorFlags::WRITE;

    /// A folder with a file, a folder, a pipe and links.
    fn folder(perms: FsPerms) -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), "text").unwrap();
        fs::create_dir(temp.path().join("inner")).unwrap();
        mknodat(CWD, temp.path().join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        symlink("inner/../file", temp.path().join("link")).unwrap();
        symlink("/", temp.path().join("root")).unwrap();
        let folder = File::open(temp.path()).unwrap();
        (temp, Dir::new(folder, perms, OpenMode::READ | OpenMode::WRITE, true))
    }

    fn wanted(path: &str, open: OpenFlags, flags: DescriptorFlags) -> Wanted<'_> {
        Wanted { path, follow: true, open, flags }
    }

    #[test]
    fn a_pipe_holds_nobody_and_a_file_is_as_any_other() {
        let (_temp, folder) = folder(FsPerms::ReadWrite);
        for flags in [READ, WRITE, READ | WRITE] {
            let pipe = open(&folder, wanted("pipe", OpenFlags::empty(), flags));
            assert!(matches!(pipe, Err(ErrorCode::NotPermitted)), "{flags:?}");
            let Some(Descriptor::File(file)) =
                open(&folder, wanted("link", OpenFlags::empty(), flags)).unwrap()
            else {
                panic!("it is a file")
            };
            assert!(!fcntl_getfl(&file.file).unwrap().contains(OFlags::NONBLOCK));
            assert_eq!(file.open_mode.contains(OpenMode::WRITE), flags.contains(WRITE));
        }
    }

    #[test]
    fn what_may_not_be_opened_is_refused_as_it_is_elsewhere() {
        let (temp, folder) = folder(FsPerms::ReadWrite);
        let none = OpenFlags::empty();
        for (wanted, expected) in [
            (wanted("none", none, READ), ErrorCode::NoEntry),
            (wanted("file", OpenFlags::CREATE | OpenFlags::EXCLUSIVE, WRITE), ErrorCode::Exist),
            (wanted("file", OpenFlags::DIRECTORY, READ), ErrorCode::NotDirectory),
            (wanted("inner", OpenFlags::DIRECTORY | OpenFlags::CREATE, READ), ErrorCode::Invalid),
            (wanted("inner", none, WRITE), ErrorCode::IsDirectory),
            (wanted("file", none, READ | DescriptorFlags::DATA_INTEGRITY_SYNC), ErrorCode::Unsupported),
            (wanted("../file", none, READ), ErrorCode::NotPermitted),
            (wanted("/etc/passwd", none, READ), ErrorCode::NotPermitted),
            (wanted("root/etc/passwd", none, READ), ErrorCode::NotPermitted),
            (Wanted { follow: false, ..wanted("link", none, READ) }, ErrorCode::Loop),
        ] {
            let refused = open(&folder, wanted).map(|opened| opened.is_some());
            assert_eq!(refused.map_err(|code| code as u8), Err(expected as u8), "{}", wanted.path);
        }
        let opened = open(&folder, wanted("inner", OpenFlags::DIRECTORY, READ)).unwrap();
        assert!(matches!(opened, Some(Descriptor::Dir(_))));
        open(&folder, wanted("new", OpenFlags::CREATE, READ)).unwrap();
        assert!(temp.path().join("new").is_file());
        open(&folder, wanted("file", OpenFlags::TRUNCATE, WRITE)).unwrap();
        assert_eq!(fs::read(temp.path().join("file")).unwrap(), b"");
    }

    #[test]
    fn a_read_only_folder_is_opened_to_be_read() {
        let (temp, folder) = folder(FsPerms::ReadOnly);
        for (path, flags, rights) in [
            ("file", OpenFlags::empty(), WRITE),
            ("file", OpenFlags::TRUNCATE, READ),
            ("new", OpenFlags::CREATE, READ),
        ] {
            let refused = open(&folder, wanted(path, flags, rights));
            assert!(matches!(refused, Err(ErrorCode::NotPermitted)), "{path} {flags:?}");
        }
        assert!(open(&folder, wanted("file", OpenFlags::empty(), READ)).unwrap().is_some());
        assert_eq!(fs::read(temp.path().join("file")).unwrap(), b"text");
        assert!(!temp.path().join("new").exists());
    }
}
