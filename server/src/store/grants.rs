//! What workspaces granted, by the agent's content.

use orch_manifests::{AgentName, Digest};
use rusqlite::{Connection, Params, params};

use super::Store;
use super::columns::{digest_in, micros, parsed, time_in, words, words_in};
use super::problem::Problem;
use super::rows::GrantRow;
use crate::failure::Failure;

const COLUMNS: &str = "workspace, agent, digest, capabilities, granted_at, granted_by";

/// Grants.
impl Store {
    /// Puts a grant in the place of the workspace's grant for the same content.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn put_grant(&self, grant: GrantRow) -> Result<(), Failure> {
        self.inner.writer.write(move |db| put(db, &grant)).await
    }

    /// A workspace's grants, newest first.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn grants(&self, workspace: &str) -> Result<Vec<GrantRow>, Failure> {
        let workspace = workspace.to_owned();
        self.inner.readers.read(move |db| all(db, &workspace)).await
    }

    /// A workspace's grants for any content of an agent, newest first.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn grants_of(&self, workspace: &str, agent: &AgentName) -> Result<Vec<GrantRow>, Failure> {
        let (workspace, agent) = (workspace.to_owned(), agent.clone());
        self.inner.readers.read(move |db| of(db, &workspace, &agent)).await
    }

    /// Whether a workspace has granted anything to this content.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn has_grant(&self, workspace: &str, digest: &Digest) -> Result<bool, Failure> {
        let (workspace, digest) = (workspace.to_owned(), *digest);
        self.inner.readers.read(move |db| has(db, &workspace, &digest)).await
    }

    /// Takes a grant away; false when there is none.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn remove_grant(&self, workspace: &str, digest: &Digest) -> Result<bool, Failure> {
        let (workspace, digest) = (workspace.to_owned(), *digest);
        self.inner.writer.write(move |db| remove(db, &workspace, &digest)).await
    }
}

/// Puts a grant in the place of the one for the same content, as the newest.
fn put(db: &Connection, grant: &GrantRow) -> Result<(), Problem> {
    remove(db, &grant.workspace, &grant.digest)?;
    db.prepare_cached(&format!("INSERT INTO grants ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"))?.execute(
        params![
            grant.workspace,
            grant.agent.as_str(),
            grant.digest.as_bytes(),
            words(&grant.capabilities),
            micros(grant.granted_at),
            grant.granted_by,
        ],
    )?;
    Ok(())
}

/// All of a workspace, newest first.
fn all(db: &Connection, workspace: &str) -> Result<Vec<GrantRow>, Problem> {
    select(db, "workspace = ?1", [workspace])
}

/// Those for any content of an agent, newest first.
fn of(db: &Connection, workspace: &str, agent: &AgentName) -> Result<Vec<GrantRow>, Problem> {
    select(db, "workspace = ?1 AND agent = ?2", [workspace, agent.as_str()])
}

/// Takes a grant away; false when there is none.
fn remove(db: &Connection, workspace: &str, digest: &Digest) -> Result<bool, Problem> {
    let changed = db
        .prepare_cached("DELETE FROM grants WHERE workspace = ?1 AND digest = ?2")?
        .execute(params![workspace, digest.as_bytes()])?;
    Ok(changed == 1)
}

fn has(db: &Connection, workspace: &str, digest: &Digest) -> Result<bool, Problem> {
    let mut statement = db.prepare_cached("SELECT 1 FROM grants WHERE workspace = ?1 AND digest = ?2")?;
    Ok(statement.exists(params![workspace, digest.as_bytes()])?)
}

fn select(db: &Connection, which: &str, values: impl Params) -> Result<Vec<GrantRow>, Problem> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM grants WHERE {which} ORDER BY seq DESC"))?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(GrantRow {
            workspace: row.get("workspace")?,
            agent: parsed(row, "agent")?,
            digest: digest_in(row, "digest")?,
            capabilities: words_in(row, "capabilities")?,
            granted_at: time_in(row, "granted_at")?,
            granted_by: row.get("granted_by")?,
        });
    }
    Ok(found)
}
