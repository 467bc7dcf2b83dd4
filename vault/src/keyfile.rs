//! The key file: the slot key of the kind "file", 0600, outside of the store's folder. Credentials and
//! keychain entries hold the same bytes.
//!
//! ```text
//! "ORCHKEYF" ‖ version 1 ‖ vault id 16 ‖ slot id 16 ‖ key 32 ‖ mac 32
//! ```
//!
//! The MAC, under a key derived from the key itself, tells a damaged file from another vault's.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::VaultError;
use crate::crypto::{self, HASH_LEN, Hash, Key, Label};
use crate::place::{self, Access, Folder};
use crate::row::unknown;
use crate::slots::{SlotId, SlotKey};

const MAGIC: &[u8; 8] = b"ORCHKEYF";
const VERSION: u8 = 1;
const LEN: usize = 8 + 1 + 16 + 16 + 32 + HASH_LEN;

/// What is beside the key file while it is replaced.
const NEXT: &str = ".next";
/// What is beside it while it is written.
const UNFINISHED: &str = ".new";

/// Where a key file is: its folder, checked, and its name there.
pub(crate) struct KeyFile<'a> {
    path: &'a Path,
    name: &'a Path,
    /// `None` when there is no such folder.
    folder: Option<Folder>,
}

impl<'a> KeyFile<'a> {
    /// The key file at `path`; with `create` its folder is made. It must be outside of `store`.
    pub(crate) fn at(path: &'a Path, store: &Folder, create: bool) -> Result<KeyFile<'a>, VaultError> {
        let Some(name) = path.file_name().map(Path::new) else {
            return Err(VaultError::place(path, "is not the name of a file"));
        };
        if !create && !place::exists(path)? {
            return Ok(KeyFile { path, name, folder: None });
        }
        let folder = Folder::parent_of(path, create)?;
        let resolved = |folder: &Folder| {
            let path = folder.path();
            path.canonicalize()
                .map_err(|error| VaultError::place(path, format!("cannot be resolved: {error}")))
        };
        if resolved(&folder)?.starts_with(resolved(store)?) {
            return Err(VaultError::place(
                path,
                "is inside the vault's own folder; a copy of the store would carry its key",
            ));
        }
        Ok(KeyFile { path, name, folder: Some(folder) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.path
    }

    /// Reads the key. `None` when there is no file.
    pub(crate) fn read(&self) -> Result<Option<SlotKey>, VaultError> {
        self.read_from(self.name)
    }

    /// Reads what [`KeyFile::write_next`] wrote.
    pub(crate) fn read_next(&self) -> Result<Option<SlotKey>, VaultError> {
        self.read_from(&self.beside(NEXT))
    }

    fn read_from(&self, name: &Path) -> Result<Option<SlotKey>, VaultError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let Some(file) = folder.private_file(name, Access::Read)? else { return Ok(None) };
        let content = read_bounded(&file)
            .map_err(|error| VaultError::place(self.path, format!("cannot be read: {error}")))?;
        decode(&content).map(Some).map_err(|error| match error {
            DecodeError::Damaged(problem) => VaultError::KeyDamaged { path: self.path.to_owned(), problem },
            DecodeError::Version(found) => unknown_version(found),
        })
    }

    /// Writes a key, durably. Never replaces a file.
    pub(crate) fn create(&self, slot: &SlotKey) -> Result<(), VaultError> {
        self.write(self.name, slot)?;
        self.folder()?.sync_with_parents().map_err(cannot_write)
    }

    /// Writes the key that will replace this one, durably, beside it.
    pub(crate) fn write_next(&self, slot: &SlotKey) -> Result<(), VaultError> {
        let next = self.beside(NEXT);
        // What is there was left by a replacement that never took place.
        self.folder()?.remove(&next).map_err(cannot_write)?;
        self.write(&next, slot)
    }

    /// By one name that is ours, so that no key of a write that was cut off stays for good. Whoever holds the
    /// vault's lock is alone here.
    fn write(&self, name: &Path, slot: &SlotKey) -> Result<(), VaultError> {
        let (folder, unfinished) = (self.folder()?, self.beside(UNFINISHED));
        folder
            .remove(&unfinished)
            .and_then(|()| folder.write_new_through(&unfinished, name, &encode(slot)))
            .map_err(cannot_write)
    }

    /// Puts what [`KeyFile::write_next`] wrote in this one's place, durably.
    pub(crate) fn take_next(&self) -> Result<(), VaultError> {
        self.folder()?.replace(&self.beside(NEXT), self.name).map_err(cannot_write)
    }

    /// Removes the file, durably. Without one, there is nothing to do.
    pub(crate) fn remove(&self) -> Result<(), VaultError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        folder.remove(self.name).and_then(|()| folder.sync()).map_err(cannot_write)
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.name.as_os_str().to_owned();
        name.push(extension);
        name.into()
    }

    fn folder(&self) -> Result<&Folder, VaultError> {
        self.folder.as_ref().ok_or_else(|| VaultError::KeyMissing { path: self.path.to_owned() })
    }
}

fn cannot_write(source: std::io::Error) -> VaultError {
    VaultError::storage("writing the vault's key file", source)
}

/// The error for a key of a later version.
pub(crate) fn unknown_version(found: u8) -> VaultError {
    unknown("the vault's key", found, VERSION)
}

/// Reads what should be a key; what is longer than one is cut off behind its first excess byte.
pub(crate) fn read_bounded(file: &File) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // One byte more than a key file has, so that a longer one is seen; never grown, so never copied.
    let mut content = Zeroizing::new(vec![0; LEN + 1]);
    let mut length = 0;
    while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match { file }.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(length);
    Ok(content)
}

/// The bytes of a key.
pub(crate) fn encode(slot: &SlotKey) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(LEN));
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&slot.vault);
    out.extend_from_slice(&slot.slot.0);
    out.extend_from_slice(slot.key.bytes());
    let mac = file_mac(slot, &out);
    out.extend_from_slice(&mac);
    out
}

/// Why bytes are no key.
pub(crate) enum DecodeError {
    /// They are not one, or not any more.
    Damaged(&'static str),
    /// They may be one to a later version.
    Version(u8),
}

/// The key in `content`.
pub(crate) fn decode(content: &[u8]) -> Result<SlotKey, DecodeError> {
    let damaged = DecodeError::Damaged;
    let rest = content.strip_prefix(MAGIC).ok_or(damaged("it does not begin like one"))?;
    let (&version, _) = rest.split_first().ok_or(damaged("it is too short"))?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let content: &[u8; LEN] = content.try_into().map_err(|_| damaged("its length is wrong"))?;
    let (body, mac) = content.split_last_chunk::<HASH_LEN>().ok_or(damaged("it is too short"))?;
    let mut fields = body.get(MAGIC.len() + 1..).ok_or(damaged("it is too short"))?;
    let mut id = || {
        let (id, rest) = fields.split_first_chunk::<16>().ok_or(damaged("it is too short"))?;
        fields = rest;
        Ok(*id)
    };
    let (vault, slot) = (id()?, SlotId(id()?));
    let key = Key::from_slice(fields).ok_or(damaged("its length is wrong"))?;
    let slot = SlotKey { vault, slot, key };
    if !crypto::same(mac, &file_mac(&slot, body)) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(slot)
}

fn file_mac(slot: &SlotKey, body: &[u8]) -> Hash {
    crypto::mac(&crypto::derive(&slot.key, &slot.vault, Label::KeyFile), &[body])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn what_is_written_is_read() {
        let slot = SlotKey::random().unwrap();
        let content = encode(&slot);
        assert_eq!(content.len(), LEN);
        let read = decode(&content).ok().unwrap();
        assert_eq!((read.vault, read.slot, read.key.bytes()), (slot.vault, slot.slot, slot.key.bytes()));
    }

    #[test]
    fn the_format_stands_still() {
        let content = golden::hex(golden::KEY_FILE);
        let read = decode(&content).ok().unwrap();
        let expected = golden::slot();
        assert_eq!(
            (read.vault, read.slot, read.key.bytes()),
            (expected.vault, expected.slot, expected.key.bytes())
        );
        assert_eq!(encode(&expected).as_slice(), content);
    }

    #[test]
    fn every_byte_and_every_length_counts() {
        let content = encode(&SlotKey::random().unwrap());
        for position in 0..content.len() {
            let mut altered = content.to_vec();
            altered[position] ^= 0x10;
            match decode(&altered) {
                Err(DecodeError::Version(found)) => assert_eq!((position, found), (8, VERSION ^ 0x10)),
                Err(DecodeError::Damaged(_)) => assert_ne!(position, 8),
                Ok(_) => panic!("byte {position} does not count"),
            }
        }
        for length in 0..content.len() {
            assert!(matches!(decode(&content[..length]), Err(DecodeError::Damaged(_))), "length {length}");
        }
        assert!(decode(&[content.as_slice(), b"\n"].concat()).is_err());
    }
}
