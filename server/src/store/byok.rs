//! What workspaces say about whose keys their members' calls are made with, and what members think with.

use orch_gateway::{ByokPolicy, Preference};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::Store;
use super::problem::Problem;
use crate::failure::{Failure, Kind};

/// Policies of workspaces.
impl Store {
    /// Puts a workspace's policy in the place of the one before.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn put_byok_policy(&self, workspace: &str, policy: ByokPolicy) -> Result<(), Failure> {
        let workspace = workspace.to_owned();
        self.inner.writer.write(move |db| put(db, &workspace, policy)).await
    }

    /// A workspace's policy, if it has one of its own.
    ///
    /// # Errors
    /// Those of [`Store`], and `store_unusable` when a later version wrote a policy that is not known here: whose keys serve
    /// is not guessed.
    pub async fn byok_policy(&self, workspace: &str) -> Result<Option<ByokPolicy>, Failure> {
        let workspace = workspace.to_owned();
        let word: Option<String> = self.inner.readers.read(move |db| get(db, &workspace)).await?;
        let Some(word) = word else { return Ok(None) };
        word.parse().map(Some).map_err(|e| {
            Failure::new(Kind::Server, "store_unusable", format!("the policy {word:?} of a workspace {e}"))
                .hint("use the orch that wrote it, or set the policy again: orch byok policy prefer_team")
        })
    }

    /// Takes a workspace's policy away; false when it has none of its own.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn remove_byok_policy(&self, workspace: &str) -> Result<bool, Failure> {
        let workspace = workspace.to_owned();
        self.inner.writer.write(move |db| remove(db, &workspace)).await
    }
}

/// What members think with.
impl Store {
    /// Puts what a member of a workspace thinks with in the place of what it was; `None` leaves nothing.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn put_active(
        &self,
        workspace: &str,
        member: &str,
        active: Option<Preference>,
    ) -> Result<(), Failure> {
        let (workspace, member) = (workspace.to_owned(), member.to_owned());
        self.inner.writer.write(move |db| put_active(db, &workspace, &member, active.as_ref())).await
    }

    /// What a member of a workspace thinks with, if they have chosen.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn active(&self, workspace: &str, member: &str) -> Result<Option<Preference>, Failure> {
        let (workspace, member) = (workspace.to_owned(), member.to_owned());
        self.inner.readers.read(move |db| active(db, &workspace, &member)).await
    }
}

fn put_active(
    db: &Connection,
    workspace: &str,
    member: &str,
    active: Option<&Preference>,
) -> Result<(), Problem> {
    match active {
        Some(Preference { provider, model }) => db
            .prepare_cached(
                "INSERT OR REPLACE INTO active_providers (workspace, member, provider, model) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![workspace, member, provider, model])?,
        None => db
            .prepare_cached("DELETE FROM active_providers WHERE workspace = ?1 AND member = ?2")?
            .execute([workspace, member])?,
    };
    Ok(())
}

fn active(db: &Connection, workspace: &str, member: &str) -> Result<Option<Preference>, Problem> {
    let mut statement = db.prepare_cached(
        "SELECT provider, model FROM active_providers WHERE workspace = ?1 AND member = ?2",
    )?;
    let read = |row: &rusqlite::Row<'_>| Ok(Preference { provider: row.get(0)?, model: row.get(1)? });
    Ok(statement.query_row([workspace, member], read).optional()?)
}

fn put(db: &Connection, workspace: &str, policy: ByokPolicy) -> Result<(), Problem> {
    db.prepare_cached("INSERT OR REPLACE INTO byok (workspace, policy) VALUES (?1, ?2)")?
        .execute(params![workspace, policy.as_str()])?;
    Ok(())
}

fn get(db: &Connection, workspace: &str) -> Result<Option<String>, Problem> {
    let mut statement = db.prepare_cached("SELECT policy FROM byok WHERE workspace = ?1")?;
    Ok(statement.query_row([workspace], |row| row.get(0)).optional()?)
}

fn remove(db: &Connection, workspace: &str) -> Result<bool, Problem> {
    let changed = db.prepare_cached("DELETE FROM byok WHERE workspace = ?1")?.execute([workspace])?;
    Ok(changed == 1)
}
