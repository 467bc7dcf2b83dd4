//! Tokens, by the hash of their text.

use rusqlite::{Connection, Row, params};
use time::OffsetDateTime;

use super::Store;
use super::columns::{micros, time_if, time_in, words, words_in};
use super::problem::Problem;
use super::rows::TokenRow;
use crate::failure::Failure;

const COLUMNS: &str = "id, workspace, name, hash, scopes, created, expires, revoked, last_used";

/// Tokens.
impl Store {
    /// Adds a token.
    ///
    /// # Errors
    /// `conflict` when there is one with this id or hash.
    pub async fn add_token(&self, token: TokenRow) -> Result<(), Failure> {
        self.inner.writer.write(move |db| add(db, &token)).await
    }

    /// Every token of every workspace, oldest first; revoked and expired ones as well.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, Failure> {
        self.inner.readers.read(all).await
    }

    /// The token whose text has this SHA-256, valid or not.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn token(&self, hash: [u8; 32]) -> Result<Option<TokenRow>, Failure> {
        self.inner.readers.read(move |db| find(db, &hash)).await
    }

    /// Revokes a workspace's token; false when it has none of this id that was not revoked before.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn revoke_token(&self, workspace: &str, id: &str, at: OffsetDateTime) -> Result<bool, Failure> {
        let (workspace, id) = (workspace.to_owned(), id.to_owned());
        self.inner.writer.write(move |db| revoke(db, &workspace, &id, at)).await
    }

    /// Queues a note that a token was used.
    pub fn token_used(&self, id: &str, at: OffsetDateTime) {
        let id = id.to_owned();
        self.inner.writer.queue(id.len(), move |db| used(db, &id, at));
    }
}

/// Adds a token.
fn add(db: &Connection, token: &TokenRow) -> Result<(), Problem> {
    db.prepare_cached(&format!(
        "INSERT INTO tokens ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
    ))?
    .execute(params![
        token.id,
        token.workspace,
        token.name,
        token.hash,
        words(&token.scopes),
        micros(token.created),
        token.expires.map(micros),
        token.revoked.map(micros),
        token.last_used.map(micros),
    ])
    .map_err(Problem::from)
    .map_err(|problem| {
        if problem.is_constraint() {
            Failure::usage("conflict", format!("there is a token {} already", token.id)).into()
        } else {
            problem
        }
    })?;
    Ok(())
}

/// Every token, oldest first.
fn all(db: &Connection) -> Result<Vec<TokenRow>, Problem> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens ORDER BY seq"))?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(token(row)?);
    }
    Ok(found)
}

/// The token whose text has this hash.
fn find(db: &Connection, hash: &[u8; 32]) -> Result<Option<TokenRow>, Problem> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1"))?;
    let mut rows = statement.query([hash])?;
    rows.next()?.map(token).transpose()
}

/// Revokes a token; false when there is none that is valid. A second time changes nothing.
fn revoke(db: &Connection, workspace: &str, id: &str, at: OffsetDateTime) -> Result<bool, Problem> {
    let changed = db
        .prepare_cached(
            "UPDATE tokens SET revoked = ?3 WHERE workspace = ?1 AND id = ?2 AND revoked IS NULL",
        )?
        .execute(params![workspace, id, micros(at)])?;
    Ok(changed == 1)
}

/// Notes that a token was used. A clock that went backwards does not take that back.
fn used(db: &Connection, id: &str, at: OffsetDateTime) -> Result<(), Problem> {
    db.prepare_cached("UPDATE tokens SET last_used = max(ifnull(last_used, ?2), ?2) WHERE id = ?1")?
        .execute(params![id, micros(at)])?;
    Ok(())
}

fn token(row: &Row<'_>) -> Result<TokenRow, Problem> {
    Ok(TokenRow {
        id: row.get("id")?,
        workspace: row.get("workspace")?,
        name: row.get("name")?,
        hash: row.get("hash")?,
        scopes: words_in(row, "scopes")?,
        created: time_in(row, "created")?,
        expires: time_if(row, "expires")?,
        revoked: time_if(row, "revoked")?,
        last_used: time_if(row, "last_used")?,
    })
}
