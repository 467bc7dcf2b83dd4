//! Where rows are kept: a sorted map whose batches are atomic, and durable once acknowledged.

use crate::VaultError;

mod sled_store;

pub(crate) use sled_store::SledStore;
#[cfg(any(test, fuzzing))]
pub(crate) use sled_store::last;

/// The largest row. A value of 64 KiB with its padding and its sealing fits.
pub(crate) const LARGEST_ROW: usize = 68 * 1024;

/// Changes that take effect together or not at all.
#[derive(Default)]
pub(crate) struct Batch {
    /// Keys, each with its new row, or with `None` to take it away. Each key occurs once.
    pub(crate) changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Puts `row` at `key`.
    pub(crate) fn put(&mut self, key: Vec<u8>, row: Vec<u8>) {
        self.changes.push((key, Some(row)));
    }

    /// Takes the row at `key` away.
    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }
}

/// What visits rows: key and row.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), VaultError> + 'a;

/// A sorted map of rows.
pub(crate) trait Store: Send + Sync {
    /// The row at `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, VaultError>;

    /// Visits the rows with `from` ≤ key < `below`, in order; without `below`, to the end.
    fn scan(&self, from: &[u8], below: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), VaultError>;

    /// Makes all changes of `batch` and returns when they are durable. After an error nothing is known
    /// about what is on disk, and the store must not be used again.
    fn commit(&self, batch: Batch) -> Result<(), VaultError>;

    /// Makes durable what can be read: a batch of a process that was killed before it was acknowledged may
    /// be there without being on disk.
    fn sync(&self) -> Result<(), VaultError>;

    /// How many bytes the store takes on disk.
    fn bytes_on_disk(&self) -> Result<u64, VaultError>;
}

/// In the place of a store that was closed.
pub(crate) struct Closed;

impl Store for Closed {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        Err(VaultError::Sealed)
    }

    fn scan(&self, _: &[u8], _: Option<&[u8]>, _: &mut Visit<'_>) -> Result<(), VaultError> {
        Err(VaultError::Sealed)
    }

    fn commit(&self, _: Batch) -> Result<(), VaultError> {
        Err(VaultError::Sealed)
    }

    fn sync(&self) -> Result<(), VaultError> {
        Err(VaultError::Sealed)
    }

    fn bytes_on_disk(&self) -> Result<u64, VaultError> {
        Err(VaultError::Sealed)
    }
}
