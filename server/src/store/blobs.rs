//! Files that are named by what they hold.
//!
//! `ab/abcdef…` below one folder, 0600 in folders of 0700. A file gets its name when all of it is on disk, so a name
//! stands for whole content through any crash; what is read is hashed again, so it also does through a bad disk.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use orch_manifests::Digest;
use ring::digest::{Context, SHA256};
use tokio::task::spawn_blocking;

use super::place::{self, FileKind};
use crate::failure::{Failure, Kind};

/// Where files are written before they have their name.
const INCOMING: &str = "incoming";

/// The code of failures that say that content is lost, and not only out of reach.
pub(super) const DAMAGED: &str = "blob_damaged";

/// How much is read at once.
const PIECE: usize = 256 * 1024;

/// A folder of such files.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: Arc<Path>,
}

impl Blobs {
    /// Opens the folder, makes it when it is not there, and removes what crashed writes left.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let folder = place::folder(folder)?;
        let incoming = place::folder(&folder.join(INCOMING))?;
        place::remove_leftovers(&incoming)
            .map_err(|e| Failure::file("store_unwritable", "clean up", &incoming, &e))?;
        Ok(Self { folder: folder.into() })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stores `bytes`; durable when it returns. A damaged file with this content is replaced.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, Failure> {
        self.blocking(move |blobs| {
            let mut incoming = Incoming::start(blobs)?;
            incoming.write(blobs, &bytes)?;
            incoming.finish(blobs, None)
        })
        .await
    }

    /// Stores what a stream brings, at most `limit` bytes, and only if it is what `expected` says; durable when it
    /// returns.
    ///
    /// # Errors
    /// `module_too_large`, `digest_mismatch`, what the stream fails with, and when the disk is full or fails. Nothing
    /// is kept then.
    pub async fn put_stream(
        &self,
        mut stream: impl Stream<Item = Result<Bytes, Failure>> + Unpin,
        limit: u64,
        expected: Option<Digest>,
    ) -> Result<Digest, Failure> {
        let mut incoming = self.blocking(Incoming::start).await?;
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            if incoming.length + piece.len() as u64 > limit {
                return Err(Failure::usage(
                    "module_too_large",
                    format!("what was sent is larger than {} MiB", limit >> 20),
                ));
            }
            incoming = self
                .blocking(move |blobs| {
                    incoming.write(blobs, &piece)?;
                    Ok(incoming)
                })
                .await?;
        }
        self.blocking(move |blobs| incoming.finish(blobs, expected)).await
    }

    /// The content with this digest; none when it is not here.
    ///
    /// # Errors
    /// `blob_damaged` when the file holds something else, and when it cannot be read.
    pub async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, Failure> {
        let digest = *digest;
        self.blocking(move |blobs| {
            let Some((mut file, length)) = blobs.verified(&digest)? else { return Ok(None) };
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            file.read_to_end(&mut bytes).map_err(|e| blobs.unreadable(&digest, &e))?;
            // It was hashed on its way through the disk once; what counts is what is handed out.
            if Digest::of(&bytes) != digest {
                return Err(blobs.damaged(&digest));
            }
            Ok(Some(bytes.into()))
        })
        .await
    }

    /// Whether there is such content. It is not read for this.
    ///
    /// # Errors
    /// When the folder cannot be looked at.
    pub async fn has(&self, digest: &Digest) -> Result<bool, Failure> {
        let digest = *digest;
        self.blocking(move |blobs| Ok(blobs.file(&digest)?.is_some())).await
    }

    /// The content as a file at its beginning, and its length; hashed before it is handed out.
    ///
    /// # Errors
    /// As [`Blobs::get`].
    pub async fn open_file(&self, digest: &Digest) -> Result<Option<(File, u64)>, Failure> {
        let digest = *digest;
        self.blocking(move |blobs| blobs.verified(&digest)).await
    }

    /// Removes the content with this digest, if it is here. It is for the caller to know that nobody else needs it.
    pub(super) fn remove(&self, digest: &Digest) -> Result<(), Failure> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.unwritable(&error)),
            _ => Ok(()),
        }
    }

    /// The files that no write that goes on has brought, nor told that it counts on.
    pub(super) async fn old(&self) -> Result<HashSet<Digest>, Failure> {
        self.blocking(|blobs| {
            let listed = |folder: &Path| {
                let entries = fs::read_dir(folder).map_err(|e| blobs.unwritable(&e))?;
                // What goes away meanwhile is not there.
                Ok::<_, Failure>(entries.filter_map(Result::ok))
            };
            let mut found = HashSet::new();
            for shard in listed(&blobs.folder)? {
                if shard.file_name().len() != 2 || !shard.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                for file in listed(&shard.path())? {
                    let named =
                        file.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
                    if let Some(digest) = named
                        && file.metadata().is_ok_and(|meta| place::is_old(&meta))
                    {
                        found.insert(digest);
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    /// Removes those of these files that are still [old](Blobs::old), and says how many. It is for the caller to know
    /// that nobody needs them.
    pub(super) async fn remove_old(&self, digests: HashSet<Digest>) -> Result<usize, Failure> {
        self.blocking(move |blobs| {
            let mut removed = 0;
            for digest in &digests {
                if fs::symlink_metadata(blobs.path(digest)).is_ok_and(|meta| place::is_old(&meta)) {
                    blobs.remove(digest)?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let blobs = self.clone();
        spawn_blocking(move || work(&blobs))
            .await
            .unwrap_or_else(|error| Err(Failure::defect(format!("working on a blob: {error}"))))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.folder.join(&hex[..2]).join(hex)
    }

    /// The file of a digest, unread.
    fn file(&self, digest: &Digest) -> Result<Option<(File, u64)>, Failure> {
        let path = self.path(digest);
        let file = match place::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unreadable(digest, &error)),
        };
        let meta = file.metadata().map_err(|e| self.unreadable(digest, &e))?;
        place::check(&path, &meta, FileKind::File)?;
        Ok(Some((file, meta.len())))
    }

    fn verified(&self, digest: &Digest) -> Result<Option<(File, u64)>, Failure> {
        let Some((mut file, length)) = self.file(digest)? else { return Ok(None) };
        let found = hash(&mut file).map_err(|e| self.unreadable(digest, &e))?;
        if found != *digest {
            return Err(self.damaged(digest));
        }
        Ok(Some((file, length)))
    }

    /// Whether the content is here and whole.
    fn is_whole(&self, digest: &Digest) -> bool {
        matches!(self.verified(digest), Ok(Some(_)))
    }

    fn damaged(&self, digest: &Digest) -> Failure {
        let path = self.path(digest);
        Failure::new(Kind::Server, DAMAGED, format!("{} does not hold what its name says", path.display()))
            .hint(format!("check the disk, and store the content again; or remove it: rm {}", path.display()))
    }

    fn unreadable(&self, digest: &Digest, error: &io::Error) -> Failure {
        let path = self.path(digest);
        Failure::new(Kind::Server, "store_unusable", format!("cannot read {}: {error}", path.display()))
            .hint("check the disk, and that the file belongs to you")
    }

    fn unwritable(&self, error: &io::Error) -> Failure {
        let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        let code = if full { "store_full" } else { "store_unusable" };
        Failure::new(Kind::Server, code, format!("cannot write below {}: {error}", self.folder.display()))
            .hint("check that there is space on that disk, and that the folder belongs to you")
    }
}

/// Hashes a file, and goes back to its beginning.
fn hash(file: &mut File) -> io::Result<Digest> {
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => context.update(&piece[..length]),
        }
    }
    file.rewind()?;
    Ok(digest_of(context))
}

fn digest_of(context: Context) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Digest::from_bytes(bytes)
}

/// A file that has no name yet. Dropping it removes it.
struct Incoming {
    path: PathBuf,
    file: File,
    context: Context,
    length: u64,
}

impl Incoming {
    fn start(blobs: &Blobs) -> Result<Self, Failure> {
        let (path, file) =
            place::unfinished(&blobs.folder.join(INCOMING)).map_err(|e| blobs.unwritable(&e))?;
        Ok(Self { path, file, context: Context::new(&SHA256), length: 0 })
    }

    fn write(&mut self, blobs: &Blobs, bytes: &[u8]) -> Result<(), Failure> {
        self.context.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| blobs.unwritable(&e))
    }

    fn finish(self, blobs: &Blobs, expected: Option<Digest>) -> Result<Digest, Failure> {
        let digest = digest_of(self.context.clone());
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Failure::usage(
                "digest_mismatch",
                format!("what was sent has the digest {digest}, not {expected}"),
            )
            .hint("send it again; it may have been changed on its way"));
        }
        self.name(blobs, &digest).map_err(|e| blobs.unwritable(&e))?;
        Ok(digest)
    }

    /// Gives the file its name, durably.
    fn name(&self, blobs: &Blobs, digest: &Digest) -> io::Result<()> {
        let path = blobs.path(digest);
        let shard = path.parent().unwrap_or(&blobs.folder);
        // One that is here is as young as if it had been written now: it is not removed as a leftover.
        let here = blobs.is_whole(digest)
            && place::open(&path).and_then(|file| file.set_modified(SystemTime::now())).is_ok();
        if !here {
            self.file.sync_all()?;
            match DirBuilder::new().mode(0o700).create(shard) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            fs::rename(&self.path, &path)?;
        }
        // Also when it was here: whoever brought it may not have come to this yet.
        place::sync_folder(shard)?;
        place::sync_folder(&blobs.folder)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After it got its name there is nothing left; after a failure, what stays is removed at some later start.
        let _ = fs::remove_file(&self.path);
    }
}
