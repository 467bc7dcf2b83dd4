//! A folder that a guest lists.
//!
//! It is read a few entries at a time, as the guest asks for them: neither how large the folder is nor how many listings are
//! open decides how much memory that takes, and no call of the guest takes long.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use super::super::meter::memory::Charge;

/// How much of a folder is read at once, in bytes. A name has 255 at most.
#[cfg(target_os = "linux")]
const PIECE: usize = 4 << 10;

/// What a listing may hold, in bytes: the entries of a piece, with what each takes beside its name.
pub(super) const LISTING: u64 = 16 << 10;

/// A folder, and how much of it was told.
pub(super) struct Listing {
    folder: Folder,
    read: VecDeque<Entry>,
    over: bool,
    _held: Charge,
}

#[cfg(target_os = "linux")]
type Folder = OwnedFd;
#[cfg(not(target_os = "linux"))]
type Folder = rustix::fs::Dir;

type Entry = Result<DirectoryEntry, ErrorCode>;

impl Listing {
    /// Begins with the folder's first entry, however many others list it; `held` is for [`LISTING`] bytes.
    pub(super) fn of(folder: &File, held: Charge) -> Result<Self, ErrorCode> {
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(folder, c".", how, Mode::empty()).map_err(code)?;
        #[cfg(not(target_os = "linux"))]
        let folder = Folder::new(folder).map_err(code)?;
        Ok(Listing { folder, read: VecDeque::new(), over: false, _held: held })
    }

    /// The next entry; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<DirectoryEntry>, ErrorCode> {
        // A piece may hold nothing but entries that a guest is not told of.
        while self.read.is_empty() && !self.over {
            self.read_on()?;
        }
        self.read.pop_front().transpose()
    }

    /// Reads a piece.
    #[cfg(target_os = "linux")]
    fn read_on(&mut self) -> Result<(), ErrorCode> {
        let mut piece = [std::mem::MaybeUninit::uninit(); PIECE];
        let mut raw = rustix::fs::RawDir::new(&self.folder, &mut piece);
        loop {
            match raw.next() {
                None => self.over = true,
                Some(Ok(entry)) => {
                    self.read.extend(told(&self.folder, entry.file_name(), entry.file_type()).transpose());
                }
                Some(Err(error)) => {
                    self.over = true;
                    return Err(code(error));
                }
            }
            if raw.is_buffer_empty() {
                return Ok(());
            }
        }
    }

    /// Reads an entry: the system's library has the pieces, and they do not grow.
    #[cfg(not(target_os = "linux"))]
    fn read_on(&mut self) -> Result<(), ErrorCode> {
        match self.folder.read() {
            None => self.over = true,
            Some(Ok(entry)) => {
                let folder = self.folder.fd().map_err(code)?;
                self.read.extend(told(folder, entry.file_name(), entry.file_type()).transpose());
            }
            Some(Err(error)) => {
                self.over = true;
                return Err(code(error));
            }
        }
        Ok(())
    }
}

/// What a guest is told of an entry; nothing of the folder itself and what it is in, and of one that went away meanwhile.
fn told(folder: impl AsFd, name: &CStr, kind: FileType) -> Result<Option<DirectoryEntry>, ErrorCode> {
    if name == c"." || name == c".." {
        return Ok(None);
    }
    let kind = match kind {
        // Not every file system says it in its folders.
        FileType::Unknown => match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => FileType::from_raw_mode(found.st_mode),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(code(error)),
        },
        known => known,
    };
    let name = name.to_str().map_err(|_| ErrorCode::IllegalByteSequence)?.to_owned();
    let type_ = match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo | FileType::Socket | FileType::Unknown => DescriptorType::Unknown,
    };
    Ok(Some(DirectoryEntry { type_, name }))
}

fn code(error: Errno) -> ErrorCode {
    std::io::Error::from(error).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::protocol::RunLimits;
    use crate::worker::meter::Meter;

    fn listing(folder: &std::path::Path) -> Listing {
        let meter = Meter::start(RunLimits::default(), Default::default());
        Listing::of(&File::open(folder).unwrap(), meter.charge(LISTING).unwrap()).unwrap()
    }

    #[test]
    fn a_large_folder_is_told_once_and_whole_and_never_held() {
        let temp = tempfile::tempdir().unwrap();
        let mut expected = BTreeMap::new();
        for number in 0..2_000 {
            let name = format!("{number}{}", "x".repeat(number % 240));
            match number % 3 {
                0 => fs::create_dir(temp.path().join(&name)).unwrap(),
                1 => std::os::unix::fs::symlink("nowhere", temp.path().join(&name)).unwrap(),
                _ => fs::write(temp.path().join(&name), "").unwrap(),
            }
            expected.insert(name, number % 3);
        }
        let mut listing = listing(temp.path());
        let mut most = 0;
        while let Some(DirectoryEntry { type_, name }) = listing.next().unwrap() {
            let kind = match type_ {
                DescriptorType::Directory => 0,
                DescriptorType::SymbolicLink => 1,
                DescriptorType::RegularFile => 2,
                other => panic!("{name} is {other:?}"),
            };
            assert_eq!(expected.remove(&name), Some(kind), "{name}");
            let entries = listing.read.iter().flatten();
            most = most.max(entries.map(|entry| size_of::<Entry>() + entry.name.capacity()).sum());
        }
        assert!(expected.is_empty(), "{expected:?}");
        assert!(most as u64 <= LISTING, "{most}");
        assert!(listing.next().unwrap().is_none(), "and that stays so");
    }

    #[test]
    fn the_shortest_names_fit_as_well() {
        let temp = tempfile::tempdir().unwrap();
        for number in 0..1_000 {
            fs::write(temp.path().join(format!("{number:x}")), "").unwrap();
        }
        let mut listing = listing(temp.path());
        let mut most = 0;
        while listing.next().unwrap().is_some() {
            let entries = listing.read.iter().flatten();
            most = most.max(entries.map(|entry| entry.name.capacity()).sum::<usize>());
            most = most.max(listing.read.capacity() * size_of::<Entry>());
        }
        assert!(2 * most as u64 <= LISTING, "{most}");
    }

    #[test]
    fn what_is_removed_meanwhile_does_no_harm_and_a_bad_name_is_only_its_own() {
        let temp = tempfile::tempdir().unwrap();
        for number in 0..500 {
            fs::write(temp.path().join(format!("{number}-{}", "y".repeat(100))), "").unwrap();
        }
        let mut removing = listing(temp.path());
        let mut removed = 0;
        while let Some(entry) = removing.next().unwrap() {
            fs::remove_file(temp.path().join(entry.name)).unwrap();
            removed += 1;
        }
        assert_eq!(removed, 500);
        fs::write(temp.path().join(OsStr::from_bytes(b"\xff")), "").unwrap();
        fs::write(temp.path().join("good"), "").unwrap();
        let mut listing = listing(temp.path());
        let told = [listing.next(), listing.next(), listing.next()];
        assert_eq!(told.iter().filter(|told| matches!(told, Err(ErrorCode::IllegalByteSequence))).count(), 1);
        assert_eq!(told.iter().flatten().flatten().map(|entry| &*entry.name).collect::<Vec<_>>(), ["good"]);
    }

    #[test]
    fn a_file_has_no_list() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        let meter = Meter::start(RunLimits::default(), Default::default());
        let error = Listing::of(temp.as_file(), meter.charge(LISTING).unwrap()).err();
        assert!(matches!(error, Some(ErrorCode::NotDirectory)), "{error:?}");
    }
}
