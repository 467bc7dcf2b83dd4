//! A backup: one file with everything in it, sealed under a passphrase, so that it opens on another machine.
//!
//! ```text
//! "ORCHBKUP" ‖ version 1 ‖ length 2 ‖ derivation of the key ‖ chunk…
//! chunk: sealed text of 64 KiB; the last one has less
//! inside: version 1 ‖ vault id 16 ‖ length 4 ‖ key ring ‖ (length 2 ‖ key ‖ length 4 ‖ row)…
//! ```
//!
//! Integers are big-endian. Each chunk is sealed for its place: the SHA-256 of everything before the first
//! chunk, its number, and whether it is the last. So chunks cannot be moved, left out, or taken from another
//! backup, and a file that was cut off has no last chunk. The key ring goes along because the rows stay as
//! they are: sealed, chained and MACed under the vault's own keys. The slots go along as a row and open
//! nothing elsewhere; a restored vault gets slots of its own.

use zeroize::Zeroizing;

use crate::crypto::{self, Key, SEAL_OVERHEAD};
use crate::error::Tampering;
use crate::passphrase::{self, Derivation};
use crate::row::{VaultId, length_prefixed, unknown};
use crate::slots::Ring;
use crate::{Secret, VaultError};

const MAGIC: &[u8; 8] = b"ORCHBKUP";
const VERSION: u8 = 1;
const CONTENT_VERSION: u8 = 1;
const SCHEMA: &[u8] = b"orch.vault.backup/1";
const CHUNK_LEN: usize = 64 * 1024;
/// The largest backup that is made or read, in bytes.
pub const LARGEST: u64 = 1 << 30;

/// Key and row, as the store has them.
pub(crate) type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// What a backup holds.
pub(crate) struct Content {
    pub(crate) vault: VaultId,
    pub(crate) ring: Ring,
    pub(crate) rows: Rows,
}

/// Seals a backup under a passphrase.
pub(crate) fn seal(
    passphrase: &Secret,
    vault: &VaultId,
    ring: &Ring,
    rows: &Rows,
) -> Result<Vec<u8>, VaultError> {
    passphrase::check_new(passphrase)?;
    let plain = encode(vault, ring, rows);
    check_size(plain.len() as u64)?;
    let derivation = Derivation::fresh()?;
    seal_with(&derivation, &derivation.key(passphrase)?, &plain)
}

/// Whether a backup of so many bytes can be read again, once it is sealed.
pub(crate) fn check_size(plain: u64) -> Result<(), VaultError> {
    // More than a header takes.
    let header = 1024;
    let sealed = header + plain + (plain / CHUNK_LEN as u64 + 1) * SEAL_OVERHEAD as u64;
    if sealed <= LARGEST {
        return Ok(());
    }
    Err(VaultError::BackupTooLarge { bytes: sealed, most: LARGEST })
}

fn seal_with(derivation: &Derivation, key: &Key, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    let parameters = derivation.encode();
    out.extend_from_slice(&u16::try_from(parameters.len()).expect("a few numbers and a salt").to_be_bytes());
    out.extend_from_slice(&parameters);
    let header = crypto::sha256(&[&out]);
    // The last chunk is the one that is not full: an empty one, if need be.
    let (full, rest) = plain.as_chunks::<CHUNK_LEN>();
    let mut number = 0_u64;
    for chunk in full {
        out.extend(crypto::seal(key, &chunk_place(&header, number, false), chunk)?);
        number += 1;
    }
    out.extend(crypto::seal(key, &chunk_place(&header, number, true), rest)?);
    Ok(out)
}

/// Opens a backup.
pub(crate) fn open(passphrase: &Secret, backup: &[u8]) -> Result<Content, VaultError> {
    let header = Header::read(backup)?;
    open_with(&header.derivation.key(passphrase)?, &header)
}

fn open_with(key: &Key, header: &Header<'_>) -> Result<Content, VaultError> {
    // Never grown: a copy of the key ring would stay behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(header.chunks.len()));
    let (full, rest) = header.chunks.as_chunks::<{ CHUNK_LEN + SEAL_OVERHEAD }>();
    let chunks = full.iter().map(|chunk| (chunk.as_slice(), false)).chain([(rest, true)]);
    for (number, (chunk, last)) in (0_u64..).zip(chunks) {
        let opened = crypto::open(key, &chunk_place(&header.hash, number, last), chunk);
        // Under a wrong key the first chunk does not open, whichever it is.
        let opened = opened.map_err(|_| match number {
            0 => VaultError::WrongBackupPassphrase,
            _ => Tampering::Backup.into(),
        })?;
        plain.extend_from_slice(&opened);
    }
    decode(&plain)
}

/// What is before the chunks, and the chunks.
struct Header<'a> {
    derivation: Derivation,
    hash: crypto::Hash,
    chunks: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(backup: &'a [u8]) -> Result<Header<'a>, VaultError> {
        let rest = backup.strip_prefix(MAGIC).ok_or(Tampering::Backup)?;
        let (&version, rest) = rest.split_first().ok_or(Tampering::Backup)?;
        if version != VERSION {
            return Err(unknown("the backup", version, VERSION));
        }
        let (length, rest) = rest.split_first_chunk().ok_or(Tampering::Backup)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (parameters, chunks) = rest.split_at_checked(length).ok_or(Tampering::Backup)?;
        let derivation = Derivation::decode(parameters).map_err(|error| match error {
            VaultError::Tampered(_) => Tampering::Backup.into(),
            other => other,
        })?;
        let before = backup.len() - chunks.len();
        let hash = crypto::sha256(&[backup.get(..before).ok_or(Tampering::Backup)?]);
        Ok(Header { derivation, hash, chunks })
    }
}

fn chunk_place(header: &crypto::Hash, number: u64, last: bool) -> Vec<u8> {
    length_prefixed(&[SCHEMA, header, &number.to_be_bytes(), &[u8::from(last)]])
}

fn encode(vault: &VaultId, ring: &Ring, rows: &Rows) -> Zeroizing<Vec<u8>> {
    let ring = ring.encode();
    let rows_len: usize = rows.iter().map(|(key, row)| 2 + key.len() + 4 + row.len()).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(1 + vault.len() + 4 + ring.len() + rows_len));
    out.push(CONTENT_VERSION);
    out.extend_from_slice(vault);
    out.extend_from_slice(&u32::try_from(ring.len()).expect("a ring has few keys").to_be_bytes());
    out.extend_from_slice(&ring);
    for (key, row) in rows {
        out.extend_from_slice(&u16::try_from(key.len()).expect("keys are MACs").to_be_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&u32::try_from(row.len()).expect("the store bounds a row").to_be_bytes());
        out.extend_from_slice(row);
    }
    out
}

fn decode(plain: &[u8]) -> Result<Content, VaultError> {
    let mut rest = plain;
    let [version] = *take::<1>(&mut rest)?;
    if version != CONTENT_VERSION {
        return Err(unknown("the backup's content", version, CONTENT_VERSION));
    }
    let vault = *take(&mut rest)?;
    let length = u32::from_be_bytes(*take(&mut rest)?);
    let ring = Ring::decode(take_some(&mut rest, length)?)?;
    let mut rows = Rows::new();
    while !rest.is_empty() {
        let length = u16::from_be_bytes(*take(&mut rest)?);
        let key = take_some(&mut rest, length.into())?.to_vec();
        let length = u32::from_be_bytes(*take(&mut rest)?);
        let row = take_some(&mut rest, length)?.to_vec();
        // Each key once, in the store's order: one way to say it, and no row that another one hides.
        if rows.last().is_some_and(|(last, _)| *last >= key) {
            return Err(Tampering::Backup.into());
        }
        rows.push((key, row));
    }
    Ok(Content { vault, ring, rows })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], VaultError> {
    let (field, after) = rest.split_first_chunk().ok_or(Tampering::Backup)?;
    *rest = after;
    Ok(field)
}

fn take_some<'a>(rest: &mut &'a [u8], length: u32) -> Result<&'a [u8], VaultError> {
    let length = usize::try_from(length).map_err(|_| Tampering::Backup)?;
    let (field, after) = rest.split_at_checked(length).ok_or(Tampering::Backup)?;
    *rest = after;
    Ok(field)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
