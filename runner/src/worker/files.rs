//! A guest's files: what `wasi:filesystem` does with the folders that its run was given.
//!
//! The folders are descriptors that were opened before the jail closed, so no path of the host is looked up for a guest,
//! and whoever moves a folder or puts a link in its place moves nothing of what the guest has. Paths below them are
//! resolved by the kernel, beneath the folder or not at all (`openat2`). What is added here:
//!
//! - Only files and folders are opened. A pipe would hold the guest's thread until somebody else opens it, where no
//!   interruption reaches, and a device does whatever its driver does when it is opened. They are looked at first, and
//!   [opened](opening) so that one that was put there since holds nobody.
//! - A link that a guest makes leads down from where it is, and one that does not stays in its folder. The guest itself could
//!   not follow it, but a program outside of the sandbox would, and it is the user's. (A folder may be moved with all that is in
//!   it.)
//! - A folder is [listed](listing) as the guest reads the list, and [files as streams](streams) are read and written when it
//!   asks: nothing that the account does not know is held for it, and no thread but its own works for it.
//! - A guest that finds its scratch folders full is told so as on any disk. Many programs can go on without, and those that
//!   fail have failed for that.

mod listing;
mod opening;
mod streams;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Dir, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};
use wasmtime_wasi::{FsPerms, OpenMode};

use types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};

use self::listing::{LISTING, Listing};
use self::opening::Wanted;
use self::streams::{FileInput, FileOutput};
use super::guest::Guest;
use super::meter::Meter;
use crate::jail::Quota;

/// The folders of one run, each with the path that the guest knows it by.
#[derive(Default)]
pub(super) struct Preopens(Vec<(Dir, String)>);

impl Preopens {
    /// Adds a folder.
    pub(super) fn add(&mut self, folder: impl AsFd, guest: &str, writable: bool) -> std::io::Result<()> {
        // A description of its own: what a run reads of a folder moves nothing for another.
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder: File = openat(folder, c".", how, Mode::empty())?.into();
        let (perms, mode) = match writable {
            true => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
            false => (FsPerms::ReadOnly, OpenMode::READ),
        };
        // The guest's own thread does what it asks for, so that its account has what that takes.
        self.0.push((Dir::new(folder, perms, mode, true), guest.to_owned()));
        Ok(())
    }
}

/// Puts `wasi:filesystem` into a linker, in the place of what is there of it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<Guest, HasFiles>(linker, Guest::files)?;
    preopens::add_to_linker::<Guest, HasFiles>(linker, Guest::files)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

/// What a call of the guest acts on.
pub(super) struct Files<'a> {
    pub(super) wasi: WasiFilesystemCtxView<'a>,
    pub(super) preopens: &'a Preopens,
    pub(super) quota: Option<&'a Quota>,
    pub(super) meter: &'a Arc<Meter>,
}

type Fd = Resource<Descriptor>;

impl Files<'_> {
    /// Remembers that the scratch folders were full, if that is what the guest is told.
    fn note(&self, told: Option<&ErrorCode>) {
        if matches!(told, Some(ErrorCode::InsufficientSpace))
            && let Some(full) = self.quota.and_then(Quota::full)
        {
            self.meter.was_full(full);
        }
    }

    /// Refuses what is neither a file nor a folder. That there is nothing, or that it may not be looked at, is for the
    /// call itself to find out.
    async fn only_files(&mut self, fd: &Fd, flags: PathFlags, path: &str) -> FsResult<()> {
        let found = types::HostDescriptor::stat_at(&mut self.wasi, again(fd), flags, path.to_owned()).await;
        match found.map(|found| found.type_) {
            Ok(DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink)
            | Err(_) => Ok(()),
            Ok(_) => Err(ErrorCode::NotPermitted.into()),
        }
    }
}

impl Files<'_> {
    /// Refuses to move a link that leads elsewhere than down to where it would lead further.
    async fn stays(&mut self, (fd, path): (&Fd, &str), (new_fd, new_path): (&Fd, &str)) -> FsResult<()> {
        let link = types::HostDescriptor::readlink_at(&mut self.wasi, again(fd), path.to_owned()).await;
        let same = fd.rep() == new_fd.rep() && Path::new(path).parent() == Path::new(new_path).parent();
        match link {
            Ok(target) if !same && !leads_down(&target) => Err(ErrorCode::NotPermitted.into()),
            _ => Ok(()),
        }
    }
}

impl Files<'_> {
    /// Opens it; none where that is left to wasmtime.
    fn opened(&self, fd: &Fd, wanted: Wanted<'_>) -> FsResult<Option<Descriptor>> {
        match self.wasi.table.get(fd)? {
            Descriptor::Dir(folder) => Ok(opening::open(folder, wanted)?),
            Descriptor::File(_) => Ok(None),
        }
    }

    /// The same for what is not read or written to: with any right that there is.
    fn opened_somehow(&self, fd: &Fd, path: &str) -> FsResult<Option<Descriptor>> {
        let wanted = |flags| Wanted { path, follow: true, open: OpenFlags::empty(), flags };
        let to_write = self.opened(fd, wanted(DescriptorFlags::WRITE));
        match to_write.as_ref().err().and_then(FsError::downcast_ref) {
            Some(ErrorCode::Access | ErrorCode::IsDirectory) => {
                self.opened(fd, wanted(DescriptorFlags::READ))
            }
            _ => to_write,
        }
    }

    fn file(&self, fd: &Fd) -> FsResult<&wasmtime_wasi::filesystem::File> {
        match self.wasi.table.get(fd)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Dir(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }

    fn writable(&self, fd: &Fd) -> FsResult<&wasmtime_wasi::filesystem::File> {
        let Descriptor::File(file) = self.wasi.table.get(fd)? else {
            return Err(ErrorCode::BadDescriptor.into());
        };
        if file.perms.write_not_permitted() { Err(ErrorCode::NotPermitted.into()) } else { Ok(file) }
    }
}

/// What a guest's handle of a listing stands for.
fn listing(stream: &Resource<DirectoryEntryStream>) -> Resource<Listing> {
    Resource::new_borrow(stream.rep())
}

/// The same handle once more.
fn again<T: 'static>(handle: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(handle.rep())
}

/// Whether a link with this target leads down from wherever it is, or is moved to.
fn leads_down(target: &str) -> bool {
    Path::new(target).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

impl preopens::Host for Files<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let folders = self.preopens.0.iter();
        folders
            .map(|(folder, guest)| {
                Ok((self.wasi.table.push(Descriptor::Dir(folder.clone()))?, guest.clone()))
            })
            .collect()
    }
}

impl types::Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        let code = self.wasi.convert_error_code(error)?;
        self.note(Some(&code));
        Ok(code)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let code = self.wasi.filesystem_error_code(error)?;
        self.note(code.as_ref());
        Ok(code)
    }
}

impl types::HostDescriptor for Files<'_> {
    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        self.only_files(&fd, path_flags, &path).await?;
        let follow = path_flags.contains(PathFlags::SYMLINK_FOLLOW);
        match self.opened(&fd, Wanted { path: &path, follow, open: open_flags, flags })? {
            Some(opened) => Ok(self.wasi.table.push(opened)?),
            None => self.wasi.open_at(fd, path_flags, path, open_flags, flags).await,
        }
    }

    /// It is opened for that.
    async fn set_times_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.only_files(&fd, flags, &path).await?;
        if flags.contains(PathFlags::SYMLINK_FOLLOW)
            && let Some(opened) = self.opened_somehow(&fd, &path)?
        {
            let opened = self.wasi.table.push(opened)?;
            let set = self.wasi.set_times(again(&opened), accessed, modified).await;
            self.wasi.table.delete(opened)?;
            return set;
        }
        self.wasi.set_times_at(fd, flags, path, accessed, modified).await
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        let Descriptor::Dir(folder) = self.wasi.table.get(&fd)? else {
            return Err(ErrorCode::NotDirectory.into());
        };
        let held = self.meter.charge(LISTING).map_err(FsError::trap)?;
        let listing = self.wasi.table.push(Listing::of(&folder.dir, held)?)?;
        // The guest has a listing, whoever made it.
        Ok(Resource::new_own(listing.rep()))
    }

    async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> {
        if !leads_down(&target) {
            return Err(ErrorCode::NotPermitted.into());
        }
        self.wasi.symlink_at(fd, target, path).await
    }

    // All else is as it is.

    async fn advise(&mut self, fd: Fd, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()> {
        self.wasi.advise(fd, offset, length, advice).await
    }

    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        self.wasi.sync_data(fd).await
    }

    async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> {
        self.wasi.get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> {
        self.wasi.get_type(fd).await
    }

    async fn set_size(&mut self, fd: Fd, size: Filesize) -> FsResult<()> {
        self.wasi.set_size(fd, size).await
    }

    async fn set_times(&mut self, fd: Fd, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> {
        self.wasi.set_times(fd, accessed, modified).await
    }

    async fn read(&mut self, fd: Fd, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.wasi.read(fd, length, offset).await
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        self.wasi.write(fd, bytes, offset).await
    }

    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        self.wasi.sync(fd).await
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.wasi.create_directory_at(fd, path).await
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        self.wasi.stat(fd).await
    }

    async fn stat_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.wasi.stat_at(fd, flags, path).await
    }

    async fn link_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        self.stays((&fd, &path), (&new_fd, &new_path)).await?;
        self.wasi.link_at(fd, flags, path, new_fd, new_path).await
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        self.wasi.readlink_at(fd, path).await
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.wasi.remove_directory_at(fd, path).await
    }

    async fn rename_at(&mut self, fd: Fd, path: String, new_fd: Fd, new_path: String) -> FsResult<()> {
        self.stays((&fd, &path), (&new_fd, &new_path)).await?;
        self.wasi.rename_at(fd, path, new_fd, new_path).await
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        self.wasi.unlink_file_at(fd, path).await
    }

    fn read_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let input: DynInputStream = Box::new(FileInput::new(&self.file(&fd)?.file, offset));
        Ok(self.wasi.table.push(input)?)
    }

    fn write_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let output: DynOutputStream = Box::new(FileOutput::from(&self.writable(&fd)?.file, offset));
        Ok(self.wasi.table.push(output)?)
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        let output: DynOutputStream = Box::new(FileOutput::at_the_end(&self.writable(&fd)?.file));
        Ok(self.wasi.table.push(output)?)
    }

    async fn is_same_object(&mut self, one: Fd, other: Fd) -> wasmtime::Result<bool> {
        self.wasi.is_same_object(one, other).await
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        self.wasi.metadata_hash(fd).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.wasi.metadata_hash_at(fd, flags, path).await
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        types::HostDescriptor::drop(&mut self.wasi, fd)
    }
}

impl types::HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        Ok(self.wasi.table.get_mut(&listing(&stream))?.next()?)
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.wasi.table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::leads_down;

    #[test]
    fn a_link_that_leads_up_or_out_is_known() {
        for target in ["file", "a/b/c", "./a", "a//b", "..a", "a..", "a/.../b"] {
            assert!(leads_down(target), "{target}");
        }
        for target in ["/", "/etc/passwd", "..", "../a", "a/..", "a/../../b", "./..", "//a"] {
            assert!(!leads_down(target), "{target}");
        }
    }
}
