//! All that a vault shows, so that two of its states can be told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use orch_vault::{OpenMode, Vault, VaultLocation};

/// What a vault and the folder of its copies hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Each with its version, and digests of its value and of its grants with what was counted.
    pub(crate) secrets: BTreeMap<String, (u64, u64, u64)>,
    /// What the audit log's records are about, in their order.
    pub(crate) events: Vec<String>,
    /// Kinds of slots. While a key file is exchanged there are two of its kind.
    pub(crate) slots: BTreeSet<String>,
    /// Digests of the backups that were written.
    pub(crate) copies: BTreeMap<String, u64>,
}

impl Shown {
    /// What an open vault shows.
    pub(crate) fn of(vault: &Vault, copies: &Path) -> Result<Shown, String> {
        let said = |error: orch_vault::VaultError| error.to_string();
        let report = vault.verify().map_err(said)?;
        if !report.is_sound() {
            return Err(format!("{:?}", report.findings));
        }
        let mut secrets = BTreeMap::new();
        for summary in vault.list().map_err(said)? {
            let (value, found) = vault.open_secret(&summary.name).map_err(said)?.ok_or("gone")?;
            let grants = digest(format!("{:?} in {} runs", found.grants, found.runs).as_bytes());
            secrets.insert(summary.name.to_string(), (found.version.get(), value.expose(digest), grants));
        }
        let records = vault.audit().map_err(said)?;
        let word = |text: String| text.split([' ', '{', '(']).next().unwrap_or_default().to_owned();
        Ok(Shown {
            secrets,
            events: records.iter().map(|record| word(format!("{:?}", record.event))).collect(),
            slots: vault.slots().map_err(said)?.iter().map(|slot| slot.kind.to_string()).collect(),
            copies: copies_in(copies),
        })
    }

    /// What the vault at `location` shows to somebody who comes along.
    pub(crate) fn at(location: &VaultLocation, copies: &Path) -> Result<Shown, String> {
        let vault = Vault::open(location, OpenMode::WriteIfExists).map_err(|error| error.to_string())?;
        Shown::of(&vault, copies)
    }
}

/// What has its final name counts.
fn copies_in(folder: &Path) -> BTreeMap<String, u64> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let written = names.filter(|name| !name.ends_with(".new"));
    written.map(|name| (name.clone(), digest(&fs::read(folder.join(name)).unwrap()))).collect()
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
