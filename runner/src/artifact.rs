//! Compiled agents on disk: found by what they were compiled from and with, and trusted only with their MAC.
//!
//! wasmtime believes the compiled code that it loads, so a cache entry is as good as its origin. Each file ends in
//! a footer with a BLAKE3 MAC over the payload, the key and the format, under a key that lives in a 0600
//! file outside of the cache. The broker verifies a file through one open descriptor and hands that same
//! descriptor to the worker: there is no second opening in which the file could differ. Entries are written
//! elsewhere, synced and renamed into place, so a reader sees a whole entry or none. Of processes that want the same agent
//! one compiles it.
//!
//! A file that does not verify is never loaded: it is compiled again and replaced, and the caller is told.

mod footer;
mod key;
mod store;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::compile::{CompileError, Compiler};

pub use footer::FORMAT_VERSION;
pub(crate) use footer::payload_length;
pub use key::ArtifactKey;

/// A verified artifact, open for reading, ready to be inherited by a worker.
#[derive(Debug)]
pub struct Artifact {
    file: File,
}

impl Artifact {
    /// An artifact without a file, for code that was just compiled and will not be kept.
    ///
    /// # Errors
    /// When the host has no memory or temporary file to give.
    pub fn anonymous(compiled: &[u8]) -> io::Result<Self> {
        let mut file = store::anonymous_file()?;
        file.write_all(compiled)?;
        file.write_all(&footer::Footer::unauthenticated(compiled.len() as u64).encode())?;
        file.rewind()?;
        Ok(Artifact { file: store::read_only(&file)? })
    }

    /// Another handle to the same artifact, so that several workers can have it.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Artifact { file: self.file.try_clone()? })
    }

    /// The descriptor that the worker inherits.
    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.file.into()
    }
}

/// Where an artifact came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The cache had it.
    Cached,
    /// It was not there and was compiled.
    Compiled,
    /// An entry was there but did not verify; it was compiled and the entry replaced. Worth a warning: nothing but
    /// `orch` writes there.
    Replaced {
        /// What was wrong with the entry.
        reason: String,
    },
}

/// An artifact, and where it came from.
#[derive(Debug)]
pub struct Obtained {
    /// The artifact.
    pub artifact: Artifact,
    /// Where it came from.
    pub origin: Origin,
    /// What identifies it.
    pub key: ArtifactKey,
}

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The module does not compile, or is not an agent.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The cache cannot be read or written.
    #[error("the cache of compiled agents at {path} cannot be used: {source}")]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// The folder of compiled agents, with the key that makes its entries trustworthy.
pub struct ArtifactCache {
    folder: PathBuf,
    mac_key: [u8; 32],
    compiling: store::InProgress,
}

impl ArtifactCache {
    /// Opens the cache in `folder`, creating it (0700) and the key file (0600, 32 random bytes) where they are
    /// missing. The key file should not be inside the folder.
    ///
    /// # Errors
    /// [`ArtifactError::Cache`] when either cannot be created or read, or the key file has the wrong size.
    pub fn open(folder: &Path, key_file: &Path) -> Result<Self, ArtifactError> {
        store::create_private_folder(folder).map_err(|source| at(folder, source))?;
        let mac_key = store::load_or_create_key(key_file).map_err(|source| at(key_file, source))?;
        Ok(ArtifactCache { folder: folder.to_owned(), mac_key, compiling: store::InProgress::default() })
    }

    /// The compiled form of `module`, from the cache or from `compiler`.
    ///
    /// Callers that want the same agent at the same time wait for one compilation, also across processes.
    ///
    /// # Errors
    /// [`ArtifactError::Compile`] says what is wrong with the module; [`ArtifactError::Cache`] what is wrong with
    /// the folder.
    pub async fn obtain(&self, module: Bytes, compiler: &Compiler) -> Result<Obtained, ArtifactError> {
        self.obtain_telling(module, compiler, || ()).await
    }

    /// The same; `compiling` is called when the cache does not have it, before the compilation, which may take seconds.
    ///
    /// # Errors
    /// Those of [`ArtifactCache::obtain`].
    pub async fn obtain_telling(
        &self,
        module: Bytes,
        compiler: &Compiler,
        compiling: impl FnOnce() + Send,
    ) -> Result<Obtained, ArtifactError> {
        let (module, key) = blocking(move || {
            let key = ArtifactKey::of(&module);
            (module, key)
        })
        .await;
        let path = self.path(&key);
        let _turn = self.compiling.turn(&key).await;
        if let Entry::Good(artifact) = self.verified(&path, key).await? {
            return Ok(Obtained { artifact, origin: Origin::Cached, key });
        }
        // Looked at again: another process may have compiled it meanwhile.
        let _alone = store::Alone::turn(&path).await;
        let origin = match self.verified(&path, key).await? {
            Entry::Good(artifact) => return Ok(Obtained { artifact, origin: Origin::Cached, key }),
            Entry::Missing => Origin::Compiled,
            Entry::Bad(reason) => Origin::Replaced { reason },
        };
        compiling();
        let compiled = compiler.compile(module).await?;
        let (mac_key, target) = (self.mac_key, path.clone());
        let write = move || {
            let footer = footer::Footer::seal(&mac_key, &key, &compiled);
            store::write_atomically(&target, &[&compiled, &footer.encode()])
        };
        blocking(write).await.map_err(|source| at(&path, source))?;
        // Through the same check as any other entry: what a worker gets has been read back and verified.
        match self.verified(&path, key).await? {
            Entry::Good(artifact) => Ok(Obtained { artifact, origin, key }),
            Entry::Missing | Entry::Bad(_) => {
                Err(at(&path, io::Error::other("the entry changed while it was being written")))
            }
        }
    }

    /// The file of an entry.
    pub fn path(&self, key: &ArtifactKey) -> PathBuf {
        self.folder.join(format!("{key}.artifact"))
    }

    async fn verified(&self, path: &Path, key: ArtifactKey) -> Result<Entry, ArtifactError> {
        let (mac_key, target) = (self.mac_key, path.to_owned());
        blocking(move || verify(&target, &mac_key, &key)).await.map_err(|source| at(path, source))
    }
}

enum Entry {
    Good(Artifact),
    Missing,
    Bad(String),
}

fn verify(path: &Path, mac_key: &[u8; 32], key: &ArtifactKey) -> io::Result<Entry> {
    let mut file = match store::open_entry(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entry::Missing),
        Err(error) => return Err(error),
    };
    match footer::verify(&mut file, mac_key, key) {
        Ok(()) => {
            file.rewind()?;
            Ok(Entry::Good(Artifact { file }))
        }
        // Written by another release of orch: not damage, just not usable here.
        Err(footer::Unverified::OtherVersion(_)) => Ok(Entry::Missing),
        Err(footer::Unverified::Io(error)) => Err(error),
        Err(bad) => Ok(Entry::Bad(bad.to_string())),
    }
}

fn at(path: &Path, source: io::Error) -> ArtifactError {
    ArtifactError::Cache { path: path.to_owned(), source }
}

/// Hashing and syncing megabytes takes longer than an async thread should be away.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("blocking tasks are not aborted"),
        },
    }
}

/// Reads at most `limit` bytes of a file, for those who load a module to pass to [`ArtifactCache::obtain`].
///
/// # Errors
/// When the file cannot be read, or ([`io::ErrorKind::FileTooLarge`]) is longer than `limit`.
pub fn read_module(path: &Path, limit: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests;
