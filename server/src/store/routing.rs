//! Routes of workspaces, and what is known of how their keys fare.

use orch_manifests::RouteName;
use rusqlite::{Connection, params};

use super::Store;
use super::columns::parsed;
use super::problem::Problem;
use super::rows::RouteRow;
use crate::failure::Failure;

/// Routes.
impl Store {
    /// Puts a route in the place of the workspace's route of the same name.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn put_route(&self, route: RouteRow) -> Result<(), Failure> {
        self.inner.writer.write(move |db| put(db, &route)).await
    }

    /// A workspace's routes, by name.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn routes(&self, workspace: &str) -> Result<Vec<RouteRow>, Failure> {
        let workspace = workspace.to_owned();
        self.inner.readers.read(move |db| all(db, &workspace)).await
    }

    /// Takes a route away; false when there is none.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn remove_route(&self, workspace: &str, name: &RouteName) -> Result<bool, Failure> {
        let (workspace, name) = (workspace.to_owned(), name.clone());
        self.inner.writer.write(move |db| remove(db, &workspace, &name)).await
    }
}

/// The health of keys, by the key's name.
impl Store {
    /// Queues what is known of a key of a workspace, as JSON; what was known before goes.
    pub fn note_health(&self, workspace: &str, key: &str, health: String) {
        let (workspace, key) = (workspace.to_owned(), key.to_owned());
        let weight = workspace.len() + key.len() + health.len();
        self.inner.writer.queue_statement(weight, move |db| note(db, &workspace, &key, &health));
    }

    /// What is known of each key of a workspace.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn health_of_keys(&self, workspace: &str) -> Result<Vec<(String, String)>, Failure> {
        let workspace = workspace.to_owned();
        self.inner.readers.read(move |db| known(db, &workspace)).await
    }
}

fn put(db: &Connection, RouteRow { workspace, name, route }: &RouteRow) -> Result<(), Problem> {
    db.prepare_cached("INSERT OR REPLACE INTO routes (workspace, name, route) VALUES (?1, ?2, ?3)")?
        .execute(params![workspace, name.as_str(), route])?;
    Ok(())
}

fn all(db: &Connection, workspace: &str) -> Result<Vec<RouteRow>, Problem> {
    let mut statement =
        db.prepare_cached("SELECT workspace, name, route FROM routes WHERE workspace = ?1 ORDER BY name")?;
    let mut rows = statement.query([workspace])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name = parsed(row, "name")?;
        found.push(RouteRow { workspace: row.get("workspace")?, name, route: row.get("route")? });
    }
    Ok(found)
}

fn remove(db: &Connection, workspace: &str, name: &RouteName) -> Result<bool, Problem> {
    let changed = db
        .prepare_cached("DELETE FROM routes WHERE workspace = ?1 AND name = ?2")?
        .execute(params![workspace, name.as_str()])?;
    Ok(changed == 1)
}

fn note(db: &Connection, workspace: &str, key: &str, health: &str) -> Result<(), Problem> {
    db.prepare_cached("INSERT OR REPLACE INTO health (workspace, key, health) VALUES (?1, ?2, ?3)")?
        .execute(params![workspace, key, health])?;
    Ok(())
}

fn known(db: &Connection, workspace: &str) -> Result<Vec<(String, String)>, Problem> {
    let mut statement = db.prepare_cached("SELECT key, health FROM health WHERE workspace = ?1")?;
    let rows = statement.query_map([workspace], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
