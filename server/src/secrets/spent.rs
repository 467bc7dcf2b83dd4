//! What each key has come to: the last call with it, and what it spent.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::config::{Config, PlatformConfig, PlatformKeys};
use crate::failure::Failure;
use crate::home::Home;
use crate::keeper::platform_id;
use crate::run::dollars;
use crate::store::{KeyUse, Store};

/// Adds to secrets as they are listed when a model was last called with each, and what its calls cost: `last_call` and
/// `spent`. Of the keys that are lent to all workspaces, the calls of all of them count.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn add(
    store: &Store,
    workspace: &str,
    platform: &PlatformConfig,
    listed: &mut [Value],
) -> Result<(), Failure> {
    let names: Vec<String> =
        listed.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect();
    let now = OffsetDateTime::now_utc();
    let lends = platform.keys == Some(PlatformKeys::Vault) && platform.workspace == workspace;
    let lent = match lends {
        true => store.lent_uses(names.iter().map(|name| platform_id(name)).collect(), now).await?,
        false => Vec::new(),
    };
    let mut uses = store.key_uses(workspace, names, now).await?;
    uses.iter_mut().zip(&lent).for_each(|(used, lent)| used.add(lent));
    tell(listed, &uses);
    Ok(())
}

/// The same of keys that are on record under other names than they are listed by: `ids` has those.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn add_by_id(
    store: &Store,
    workspace: &str,
    ids: Vec<String>,
    listed: &mut [Value],
) -> Result<(), Failure> {
    let uses = store.key_uses(workspace, ids, OffsetDateTime::now_utc()).await?;
    tell(listed, &uses);
    Ok(())
}

fn tell(listed: &mut [Value], uses: &[KeyUse]) {
    for (row, used) in listed.iter_mut().zip(uses) {
        let [today, month, total] = used.micro_usd.map(dollars);
        row["last_call"] = json!(used.last_call.map(super::listed::date));
        row["spent"] = json!({
            "today_usd": today, "month_usd": month, "total_usd": total, "tokens": used.tokens,
        });
    }
}

/// The same for a home whose vault no server holds. Makes nothing that is not there.
///
/// # Errors
/// When the store cannot be read.
pub async fn add_spent_here(home: &Home, workspace: &str, listed: &mut [Value]) -> Result<(), Failure> {
    let folder = home.data().to_owned();
    if !Store::is_in(&folder) {
        return Ok(());
    }
    let opened = tokio::task::spawn_blocking(move || Store::open(&folder)).await;
    let store = opened.map_err(|e| Failure::defect(format!("opening the store ended early: {e}")))??;
    add(&store, workspace, &Config::load(home)?.platform, listed).await
}
