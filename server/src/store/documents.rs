//! JSON that may be large: short ones lie in their row, long ones in a file of their own.
//!
//! The files have a folder of their own. They are what a workspace asked and was answered, and must not be reachable
//! through anything that serves modules by digest to all.

use orch_manifests::Digest;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde_json::Value;

use super::blobs::{Blobs, DAMAGED};
use super::columns;
use crate::failure::{Failure, Kind};

/// The longest document that lies in its row, in bytes.
pub(super) const INLINE: usize = 16 * 1024;

/// What a row holds of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    /// All of it.
    Text(String),
    /// Where it is.
    File(Digest),
}

impl Document {
    /// Of this value; a long one is a durable file by the time this returns.
    pub(super) async fn keep(files: &Blobs, value: &Value) -> Result<Self, Failure> {
        let text = value.to_string();
        if text.len() <= INLINE {
            return Ok(Self::Text(text));
        }
        files.put(text.into()).await.map(Self::File)
    }

    /// The file of a long one.
    pub(super) fn file(&self) -> Option<Digest> {
        match self {
            Self::Text(_) => None,
            Self::File(digest) => Some(*digest),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// With the code [`DAMAGED`] when it is lost.
    pub(super) async fn value(self, files: &Blobs) -> Result<Value, Failure> {
        match self {
            Self::Text(text) => {
                columns::json(&text, "document").map_err(|problem| problem.told(files.folder()))
            }
            Self::File(digest) => {
                let bytes = files.get(&digest).await?.ok_or_else(|| lost(files, &digest, "is missing"))?;
                serde_json::from_slice(&bytes).map_err(|_| lost(files, &digest, "holds no JSON"))
            }
        }
    }
}

fn lost(files: &Blobs, digest: &Digest, why: &str) -> Failure {
    let message = format!("the document {digest} below {} {why}", files.folder().display());
    Failure::new(Kind::Server, DAMAGED, message)
        .hint("restore the folder from a backup; the run cannot be shown without it")
}

impl ToSql for Document {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Text(text) => ToSqlOutput::from(text.as_str()),
            Self::File(digest) => ToSqlOutput::Borrowed(ValueRef::Blob(digest.as_bytes())),
        })
    }
}

impl FromSql for Document {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(_) => value.as_str().map(|text| Self::Text(text.to_owned())),
            ValueRef::Blob(bytes) => bytes
                .try_into()
                .map(|bytes| Self::File(Digest::from_bytes(bytes)))
                .map_err(|_| FromSqlError::InvalidType),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}
