//! The two rows of a secret: sealed, opened, and looked up.

use super::content::{self, StoredMeta};
use super::state::State;
use crate::error::Tampering;
use crate::row::{self, Place, RowKind};
use crate::{Secret, SecretName, VaultError};

pub(super) fn read_meta(
    state: &State,
    workspace: &str,
    name: &SecretName,
) -> Result<Option<StoredMeta>, VaultError> {
    let key = state.row_key(RowKind::Meta, workspace, name);
    let Some(row) = state.row(&key)? else { return Ok(None) };
    let meta = open_meta(state, workspace, &key, &row)?;
    if meta.name != *name {
        return Err(Tampering::RowContent.into());
    }
    Ok(Some(meta))
}

pub(super) fn open_meta(
    state: &State,
    workspace: &str,
    key: &[u8],
    row: &[u8],
) -> Result<StoredMeta, VaultError> {
    StoredMeta::decode(&row::open(&state.ring, &meta_place(state, workspace, key), row)?)
}

/// The metadata of a secret that is there.
pub(super) fn current_meta(
    state: &State,
    workspace: &str,
    name: &SecretName,
) -> Result<StoredMeta, VaultError> {
    let found = read_meta(state, workspace, name)?.filter(|meta| !meta.removed);
    found.ok_or_else(|| VaultError::Missing { name: name.clone() })
}

/// A row to be written, or removed.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

/// The rows of a secret at its new version.
pub(super) fn sealed(
    state: &State,
    workspace: &str,
    meta: &StoredMeta,
    value: &Secret,
) -> Result<[Change; 2], VaultError> {
    let place = Place::value(&state.vault, workspace, &meta.name, meta.version);
    let row = row::seal(&state.ring, &place, &content::pad_value(value))?;
    let key = state.row_key(RowKind::Value, workspace, &meta.name);
    Ok([seal_meta(state, workspace, meta)?, (key, Some(row))])
}

pub(super) fn seal_meta(state: &State, workspace: &str, meta: &StoredMeta) -> Result<Change, VaultError> {
    let key = state.row_key(RowKind::Meta, workspace, &meta.name);
    let row = row::seal(&state.ring, &meta_place(state, workspace, &key), &meta.encode()?)?;
    Ok((key, Some(row)))
}

fn meta_place<'a>(state: &'a State, workspace: &'a str, key: &'a [u8]) -> Place<'a> {
    Place { vault: &state.vault, workspace, kind: RowKind::Meta, name: key, version: 0 }
}
