//! Agents by their content, and the versions under which they were published.

use orch_manifests::{AgentName, Digest};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Store;
use super::columns::{count, count_in, digest_in, micros, parsed, time_in};
use super::problem::Problem;
use super::rows::{AgentRow, AgentSummary, Published, VersionRow, format_of, format_word};
use crate::failure::Failure;

const VERSION_COLUMNS: &str = "name, version, digest, description, size, published, publisher, workspace";

/// Agents.
impl Store {
    /// Stores an agent's content, if it is not here. Its module is stored before ([`Store::blobs`]).
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn put_agent(&self, agent: AgentRow) -> Result<(), Failure> {
        self.inner.writer.write(move |db| put(db, &agent)).await
    }

    /// An agent's content.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn agent(&self, digest: &Digest) -> Result<Option<AgentRow>, Failure> {
        let digest = *digest;
        self.inner.readers.read(move |db| find(db, &digest)).await
    }

    /// Makes this the text of a published agent's manifest: its publisher's, whoever uploaded the same content before in
    /// other words.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn retell_agent(&self, agent: AgentRow) -> Result<(), Failure> {
        self.inner.writer.write(move |db| retell(db, &agent)).await
    }

    /// Publishes a version, unless there is one: of two who publish the same at the same time, one is first.
    ///
    /// # Errors
    /// A defect when its content was not stored before.
    pub async fn publish(&self, version: VersionRow) -> Result<Published, Failure> {
        self.inner.writer.write(move |db| publish(db, &version)).await
    }

    /// The versions of an agent, highest first.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn versions(&self, name: &AgentName) -> Result<Vec<VersionRow>, Failure> {
        let name = name.clone();
        self.inner.readers.read(move |db| versions(db, &name)).await
    }

    /// Every published agent, by name.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub async fn agents(&self) -> Result<Vec<AgentSummary>, Failure> {
        self.inner.readers.read(agents).await
    }
}

/// Stores an agent's content. What is there is the same, its digest says so.
fn put(db: &Connection, agent: &AgentRow) -> Result<(), Problem> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO agents (digest, name, version, manifest, format, module, bare)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        agent.digest.as_bytes(),
        agent.name.as_str(),
        agent.version.to_string(),
        agent.manifest,
        format_word(agent.format),
        agent.module.as_bytes(),
        agent.bare,
    ])?;
    Ok(())
}

/// Replaces the text of a manifest by another one of the same meaning.
fn retell(db: &Connection, agent: &AgentRow) -> Result<(), Problem> {
    db.prepare_cached("UPDATE agents SET manifest = ?2, format = ?3 WHERE digest = ?1")?.execute(params![
        agent.digest.as_bytes(),
        agent.manifest,
        format_word(agent.format),
    ])?;
    Ok(())
}

/// An agent's content.
fn find(db: &Connection, digest: &Digest) -> Result<Option<AgentRow>, Problem> {
    let mut statement = db.prepare_cached(
        "SELECT digest, name, version, manifest, format, module, bare FROM agents WHERE digest = ?1",
    )?;
    let mut rows = statement.query([digest.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(AgentRow {
        digest: digest_in(row, "digest")?,
        name: parsed(row, "name")?,
        version: parsed(row, "version")?,
        manifest: row.get("manifest")?,
        format: format_of(&row.get::<_, String>("format")?)
            .ok_or_else(|| Problem::Row("column `format` holds no known format".to_owned()))?,
        module: digest_in(row, "module")?,
        bare: row.get("bare")?,
    }))
}

/// Publishes a version, unless there is one.
fn publish(db: &Connection, version: &VersionRow) -> Result<Published, Problem> {
    let number = version.version.to_string();
    let there: Option<[u8; 32]> = db
        .prepare_cached("SELECT digest FROM versions WHERE name = ?1 AND version = ?2")?
        .query_row([version.name.as_str(), &number], |row| row.get(0))
        .optional()?;
    if is_anothers(db, version)? {
        return Ok(Published::Foreign);
    }
    if let Some(there) = there.map(Digest::from_bytes) {
        return Ok(if there == version.digest { Published::Same } else { Published::Other(there) });
    }
    db.prepare_cached(&format!(
        "INSERT INTO versions ({VERSION_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
    ))?
    .execute(params![
        version.name.as_str(),
        number,
        version.digest.as_bytes(),
        version.description,
        count(version.size),
        micros(version.published),
        version.publisher,
        version.workspace,
    ])
    .map_err(Problem::from)
    .map_err(|problem| {
        if problem.is_constraint() {
            Failure::defect(format!("{} {number} was published before its content was stored", version.name))
                .into()
        } else {
            problem
        }
    })?;
    Ok(Published::New)
}

/// Whether another workspace has published under the same organisation. No name's organisation holds a `/`, and `0` is
/// the character after it.
fn is_anothers(db: &Connection, version: &VersionRow) -> Result<bool, Problem> {
    let org = version.name.org();
    Ok(db
        .prepare_cached("SELECT 1 FROM versions WHERE name >= ?1 AND name < ?2 AND workspace <> ?3 LIMIT 1")?
        .exists(params![format!("{org}/"), format!("{org}0"), version.workspace])?)
}

/// The versions of an agent, highest first.
fn versions(db: &Connection, name: &AgentName) -> Result<Vec<VersionRow>, Problem> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {VERSION_COLUMNS} FROM versions WHERE name = ?1"))?;
    let mut rows = statement.query([name.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(version(row)?);
    }
    found.sort_by(|a, b| b.version.cmp(&a.version));
    Ok(found)
}

/// Every published agent, by name.
fn agents(db: &Connection) -> Result<Vec<AgentSummary>, Problem> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {VERSION_COLUMNS} FROM versions ORDER BY name"))?;
    let mut rows = statement.query([])?;
    let mut found: Vec<AgentSummary> = Vec::new();
    while let Some(row) = rows.next()? {
        let version = version(row)?;
        match found.last_mut().filter(|agent| agent.name == version.name) {
            Some(agent) => {
                agent.versions += 1;
                if rank(&version.version) > rank(&agent.latest) {
                    agent.latest = version.version;
                    agent.description = version.description;
                }
            }
            None => found.push(AgentSummary {
                name: version.name,
                latest: version.version,
                versions: 1,
                description: version.description,
            }),
        }
    }
    Ok(found)
}

/// What comes later is the better one to offer: a pre-release only when there is nothing else.
fn rank(version: &semver::Version) -> (bool, &semver::Version) {
    (version.pre.is_empty(), version)
}

fn version(row: &Row<'_>) -> Result<VersionRow, Problem> {
    Ok(VersionRow {
        name: parsed(row, "name")?,
        version: parsed(row, "version")?,
        digest: digest_in(row, "digest")?,
        description: row.get("description")?,
        size: count_in(row, "size")?,
        published: time_in(row, "published")?,
        publisher: row.get("publisher")?,
        workspace: row.get("workspace")?,
    })
}
