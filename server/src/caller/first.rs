//! The token that a server is administered with before it has any.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use orch_vault::Secret;
use time::OffsetDateTime;

use super::{DEFAULT_WORKSPACE, NewToken, Scope};
use crate::failure::Failure;
use crate::home::Home;
use crate::store::{Store, TokenRow};

/// The first admin token, made just now, and the file that holds it.
pub struct AdminToken {
    /// The file, which is this user's alone.
    pub file: PathBuf,
    /// Its text.
    pub text: Secret,
}

/// Makes the first admin token, of the workspace `default`, when the store has no token. Its text is written to
/// `admin-token` in the data folder.
///
/// # Errors
/// When the store cannot be read or written, or the file cannot be.
pub async fn ensure_admin_token(store: &Store, home: &Home) -> Result<Option<AdminToken>, Failure> {
    if !store.tokens().await?.is_empty() {
        return Ok(None);
    }
    home.ensure(home.data())?;
    let file = home.data().join("admin-token");
    let NewToken { id, text, hash } = NewToken::random()?;
    // The file first: a token whose text nobody has would be there for good.
    text.expose(|text| write(&file, text))
        .map_err(|e| Failure::file("token_unwritable", "write the admin token to", &file, &e))?;
    store
        .add_token(TokenRow {
            id,
            workspace: DEFAULT_WORKSPACE.to_owned(),
            name: "admin".to_owned(),
            hash,
            scopes: vec![Scope::Admin.to_string()],
            created: OffsetDateTime::now_utc(),
            expires: None,
            revoked: None,
            last_used: None,
        })
        .await?;
    Ok(Some(AdminToken { file, text }))
}

/// Replaces the file whole; nobody else can read it at any time, and it is on disk when this returns.
fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
