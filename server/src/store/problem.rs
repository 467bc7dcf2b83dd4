//! What can go wrong in here, and what a person is told about it.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::failure::{Failure, Kind};

/// Why a statement, or a group of them, did nothing.
#[derive(Debug)]
pub(super) enum Problem {
    /// SQLite says so.
    Sqlite(rusqlite::Error),
    /// A row holds what this program would not have written.
    Row(String),
    /// The operation itself refuses, for a reason that its caller knows.
    Refused(Failure),
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl Problem {
    /// Whether only the statement failed, so that others of the same transaction may stay. A full disk or a damaged
    /// page is not one caller's own trouble.
    pub(super) fn is_own(&self) -> bool {
        match self {
            Self::Sqlite(error) => !matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::OutOfMemory
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::ReadOnly
                        | ErrorCode::CannotOpen
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                )
            ),
            Self::Row(_) | Self::Refused(_) => true,
        }
    }

    /// Whether a row was not accepted because one like it is there, or one that it needs is not.
    pub(super) fn is_constraint(&self) -> bool {
        matches!(self, Self::Sqlite(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation))
    }

    /// The failure to tell, of the database at `path`.
    pub(super) fn told(self, path: &Path) -> Failure {
        let shown = path.display();
        match self {
            Self::Refused(failure) => failure,
            Self::Row(why) => damaged(path, &why),
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failure::new(
                    Kind::Server,
                    "store_busy",
                    format!("{shown} is being written to by another process for too long"),
                )
                .hint("try again; when it stays so, another orch hangs: see who has the file open, and stop it"),
                Some(ErrorCode::DiskFull) => Failure::new(
                    Kind::Server,
                    "store_full",
                    format!("nothing was stored: there is no space left for {shown}"),
                )
                .hint("free space on that disk, or set ORCH_HOME to a folder on a larger one"),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, &error.to_string()),
                Some(
                    ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::PermissionDenied
                    | ErrorCode::OutOfMemory,
                ) => Failure::new(Kind::Server, "store_unusable", format!("cannot use {shown}: {error}"))
                    .hint("check the disk, and that the file and its folder belong to you and can be written to"),
                _ if unreadable_row(&error) => damaged(path, &error.to_string()),
                _ => Failure::defect(format!("a statement failed in {shown}: {error}")),
            },
        }
    }
}

/// The failure of a database that is not what this program wrote.
pub(super) fn damaged(path: &Path, why: &str) -> Failure {
    let shown = path.display();
    Failure::new(Kind::Server, "store_unusable", format!("{shown} is damaged: {why}")).hint(format!(
        "restore {shown} from a backup, or move it away together with {shown}-wal and {shown}-shm: orch then starts \
         with an empty one"
    ))
}

fn unreadable_row(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
    )
}
