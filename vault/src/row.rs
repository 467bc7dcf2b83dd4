//! A row: one sealed text and the place it belongs to.
//!
//! ```text
//! version 1 ‖ alg 1 ‖ term 4 (big-endian) ‖ salt 32 ‖ ciphertext ‖ tag 16 ‖ commitment 32
//! ```
//!
//! The place is the associated data. Each of its fields is preceded by its length as four big-endian
//! bytes, so that no two places share an encoding.

use zeroize::Zeroizing;

use crate::crypto;
use crate::error::Tampering;
use crate::slots::Ring;
use crate::{SecretName, VaultError};

/// The version of the layout above.
const VERSION: u8 = 1;
/// AES-256-GCM with the key of [`crypto::seal`].
const AES_256_GCM: u8 = 1;
const HEADER_LEN: usize = 6;
const SCHEMA: &[u8] = b"orch.vault.row/1";

/// Identifies a vault: 16 random bytes from its creation.
pub(crate) type VaultId = [u8; 16];

/// What a row holds. The tag is part of the associated data and of the key that the row is kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowKind {
    /// A secret's metadata.
    Meta,
    /// A secret's value.
    Value,
    /// The sealed part of an audit record.
    Audit,
}

impl RowKind {
    pub(crate) fn tag(self) -> &'static [u8] {
        match self {
            RowKind::Meta => b"meta",
            RowKind::Value => b"value",
            RowKind::Audit => b"audit",
        }
    }
}

/// The place of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The vault.
    pub(crate) vault: &'a VaultId,
    /// The workspace; empty for what belongs to the whole store.
    pub(crate) workspace: &'a str,
    /// What the row holds.
    pub(crate) kind: RowKind,
    /// The secret's name. Metadata has the key it is kept under instead: it must open before the name is
    /// known, and that key is a MAC of the name.
    pub(crate) name: &'a [u8],
    /// The secret's version (zero for metadata, which holds it), or the audit record's sequence number.
    pub(crate) version: u64,
}

impl<'a> Place<'a> {
    /// The place of the value of `name` at `version`.
    pub(crate) fn value(
        vault: &'a VaultId,
        workspace: &'a str,
        name: &'a SecretName,
        version: u64,
    ) -> Place<'a> {
        Place { vault, workspace, kind: RowKind::Value, name: name.as_str().as_bytes(), version }
    }

    fn associated_data(&self, alg: u8, term: u32) -> Vec<u8> {
        length_prefixed(&[
            SCHEMA,
            self.vault,
            self.workspace.as_bytes(),
            self.kind.tag(),
            self.name,
            &self.version.to_be_bytes(),
            &[alg],
            &term.to_be_bytes(),
        ])
    }
}

/// Seals `plaintext` for `place` under the newest term.
pub(crate) fn seal(ring: &Ring, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
    let (term, root) = ring.newest();
    let mut row = Vec::with_capacity(HEADER_LEN + plaintext.len() + crypto::SEAL_OVERHEAD);
    row.push(VERSION);
    row.push(AES_256_GCM);
    row.extend_from_slice(&term.to_be_bytes());
    row.extend(crypto::seal(root, &place.associated_data(AES_256_GCM, term), plaintext)?);
    Ok(row)
}

/// Opens a row that was sealed for `place`.
pub(crate) fn open(ring: &Ring, place: &Place<'_>, row: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let (header, sealed) = row.split_first_chunk::<HEADER_LEN>().ok_or(Tampering::Row)?;
    let [version, alg, term @ ..] = *header;
    if version != VERSION {
        return Err(unknown("a row", version, VERSION));
    }
    if alg != AES_256_GCM {
        return Err(unknown("a row's cipher", alg, AES_256_GCM));
    }
    let term = u32::from_be_bytes(term);
    let root = ring.root(term).ok_or(Tampering::Row)?;
    crypto::open(root, &place.associated_data(alg, term), sealed).map_err(|_| Tampering::Row.into())
}

/// Each field preceded by its length as four big-endian bytes.
pub(crate) fn length_prefixed(fields: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(fields.iter().map(|field| field.len() + 4).sum());
    for field in fields {
        let length =
            u32::try_from(field.len()).expect("fields are names and identifiers, bounded when parsed");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

/// The error for a format that this version does not know.
pub(crate) fn unknown(what: &'static str, found: impl Into<u32>, known: impl Into<u32>) -> VaultError {
    VaultError::UnknownFormat { what, found: found.into(), known: known.into() }
}

#[cfg(test)]
mod tests;
