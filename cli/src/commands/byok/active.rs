//! Which provider is thought with first.
//!
//! `byok.json` in the data folder, 0600, replaced atomically: one choice for this machine, and one for each server that
//! commands were sent to. It holds names, never a key. In an environment that says so itself (`ORCH_BYOK_PROVIDER`, with that
//! provider's key beside it) the file is not looked at: provider and key are of one place.

use std::collections::BTreeMap;

use orch_gateway::Preference;
use orch_manifests::{Auth, Catalog, Provider};
use orch_server::{Failure, private};
use serde::{Deserialize, Serialize};

use crate::client::json;
use crate::commands::secrets::Keeping;
use crate::printer::Printer;
use crate::wire::Installation;

/// The format that this version reads and writes.
const VERSION: u32 = 1;
/// Largest file, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;
/// The word for a file that cannot be written.
const UNWRITABLE: &str = "byok_unwritable";
/// What this machine goes by in the file.
const HERE: &str = "here";

const PROVIDER: &str = "ORCH_BYOK_PROVIDER";
const MODEL: &str = "ORCH_BYOK_MODEL";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// By `here`, or the URL of a server.
    active: BTreeMap<String, Choice>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    /// Its slug, or the name of a variant.
    provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
}

/// Where a choice holds.
pub(crate) struct Place {
    name: String,
    /// Whether the vault of this machine was asked for.
    local: bool,
}

impl Place {
    /// This machine, or the server that commands are sent to.
    ///
    /// # Errors
    /// When what was named is no server's URL.
    pub(crate) fn of(here: &Installation, local: bool) -> Result<Self, Failure> {
        let server = if local { None } else { here.configured_server()? };
        Ok(Self { name: server.map_or_else(|| HERE.to_owned(), |(url, _)| url.to_string()), local })
    }

    fn is_here(&self) -> bool {
        self.name == HERE
    }
}

/// Who chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The environment, which has the key as well.
    Environment,
    /// `orch byok`.
    Command,
}

impl By {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "env",
            Self::Command => "byok",
        }
    }
}

/// The provider that is thought with first.
pub(crate) struct Active {
    pub(crate) provider: Provider,
    /// Its slug, or the name of the variant in whose dialect it is spoken to.
    pub(crate) named: String,
    pub(crate) model: Option<String>,
    pub(crate) by: By,
}

/// What is active, and what about it deserves to be said.
pub(crate) struct Chosen {
    pub(crate) active: Option<Active>,
    pub(crate) warnings: Vec<String>,
}

/// What is active at a place: what the environment says where it says all of it, else what was chosen. `sends_keys`: whether
/// the environment's keys go to a server elsewhere; where they stay here, so does what is said beside them.
///
/// # Errors
/// A file that cannot be trusted or read, or an environment that names no provider.
pub(crate) fn chosen(here: &Installation, place: &Place, sends_keys: bool) -> Result<Chosen, Failure> {
    let mut warnings = Vec::new();
    match of_environment(here, &mut warnings)? {
        Some(active) if place.is_here() || sends_keys => {
            return Ok(Chosen { active: Some(active), warnings });
        }
        Some(Active { provider, .. }) => warnings.push(format!(
            "{PROVIDER} is not used: the key of {} in this environment stays here, unless a run sends it along with \
             --send-env-keys",
            provider.slug
        )),
        None => {}
    }
    let Some(choice) = read(here)?.active.remove(&place.name) else {
        return Ok(Chosen { active: None, warnings });
    };
    let Some(provider) = here.catalog.provider(&choice.provider) else {
        let text = format!(
            "the active provider {} is in the catalog no more: orch byok use PROVIDER",
            choice.provider
        );
        warnings.push(text);
        return Ok(Chosen { active: None, warnings });
    };
    let Choice { provider: named, model } = choice;
    let active = Active { provider: provider.clone(), named, model, by: By::Command };
    Ok(Chosen { active: Some(active), warnings })
}

fn of_environment(here: &Installation, warnings: &mut Vec<String>) -> Result<Option<Active>, Failure> {
    let text = |name| here.environment.get(name).map(|value| value.to_string_lossy().into_owned());
    let Some(name) = text(PROVIDER) else {
        if text(MODEL).is_some() {
            warnings.push(format!("{MODEL} is not used: {PROVIDER} names no provider"));
        }
        return Ok(None);
    };
    let provider = named_by_environment(&here.catalog, &name)?;
    // A key may be in parts here.
    let in_environment = |name: &String| here.environment.provider_key(name, &here.catalog).is_some();
    let has_key = provider.auth == Auth::None || provider.env.iter().any(in_environment);
    if !has_key {
        warnings.push(format!(
            "{PROVIDER} is not used: it names {}, and this environment has no {}",
            provider.slug,
            provider.env.join(" or ")
        ));
        return Ok(None);
    }
    let named = super::named(provider, name.trim());
    // As in `orch byok model`: what stands before the model may name the provider again.
    let model = text(MODEL).map(|model| match model.split_once('/') {
        Some((before, bare)) if provider.goes_by(before) => bare.to_owned(),
        _ => model,
    });
    Ok(Some(Active { provider: provider.clone(), named, model, by: By::Environment }))
}

fn named_by_environment<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Provider, Failure> {
    catalog.provider(&name.trim().to_ascii_lowercase()).ok_or_else(|| {
        let known: Vec<&str> = catalog.providers().map(|provider| provider.slug.as_str()).collect();
        Failure::usage("provider_unknown", format!("{PROVIDER} names no provider"))
            .hint(format!("known providers: {}", known.join(", ")))
    })
}

/// Chooses a provider, by its slug or the name of a variant, and, of it, a model; or none. The server that it is for is told,
/// whose clients may name no model.
///
/// # Errors
/// When the file cannot be trusted, read or written.
pub(super) fn choose(
    here: &Installation,
    place: &Place,
    choice: Option<(&str, Option<String>)>,
    printer: Printer,
) -> Result<(), Failure> {
    let choice = choice.map(|(provider, model)| Choice { provider: provider.to_owned(), model });
    store(here, place, choice.clone())?;
    if let Err(failure) = tell(here, place, choice.as_ref()) {
        printer.warn(&format!(
            "the server was not told, and its clients that name no model go on as before: {failure}"
        ));
    }
    Ok(())
}

/// Tells the server that the choice is for, where there is one.
fn tell(here: &Installation, place: &Place, choice: Option<&Choice>) -> Result<(), Failure> {
    const PATH: &str = "/v1/byok/active";
    let Keeping::Server(client, runtime) = Keeping::find(here, place.local)? else { return Ok(()) };
    let _: serde_json::Value = match choice {
        Some(choice) => runtime.block_on(client.put(PATH, json(choice)?)),
        None => runtime.block_on(client.delete(PATH)),
    }?;
    Ok(())
}

fn store(here: &Installation, place: &Place, choice: Option<Choice>) -> Result<(), Failure> {
    let file = here.home.byok_file();
    if let Some(folder) = file.parent() {
        here.home.ensure(folder)?;
    }
    private::change(&file, UNWRITABLE, || {
        let mut stored = read(here)?;
        match choice {
            Some(choice) => {
                stored.active.insert(place.name.clone(), choice);
            }
            None => drop(stored.active.remove(&place.name)),
        }
        serde_json::to_string_pretty(&stored).map_err(|e| Failure::defect(format!("byok.json: {e}")))
    })
}

/// What was chosen on this machine for itself: a server that starts here goes by it.
///
/// # Errors
/// When the file cannot be trusted or read.
pub(crate) fn chosen_here(here: &Installation) -> Result<Option<Preference>, Failure> {
    let choice = read(here)?.active.remove(HERE);
    Ok(choice.map(|Choice { provider, model }| Preference { provider, model }))
}

/// What was chosen at a place, whatever the environment says.
pub(super) fn stored(
    here: &Installation,
    place: &Place,
) -> Result<Option<(String, Option<String>)>, Failure> {
    Ok(read(here)?.active.remove(&place.name).map(|choice| (choice.provider, choice.model)))
}

fn read(here: &Installation) -> Result<Stored, Failure> {
    let file = here.home.byok_file();
    // Where the folder itself is at fault, that is the vault's to say.
    let found = private::read(&file, SIZE_LIMIT, "the active providers")
        .or_else(|failure| here.home.check_vault().and(Err(failure)))?;
    let Some(text) = found else {
        return Ok(Stored { version: VERSION, active: BTreeMap::new() });
    };
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let unreadable = |why: String| {
        Failure::usage("byok_unreadable", format!("{}: {why}", file.display()))
            .hint("remove it, and choose again: orch byok use PROVIDER")
    };
    let Versioned { version } = serde_json::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
    if version != VERSION {
        return Err(unreadable(format!("version {version} is unknown; this orch knows {VERSION}")));
    }
    serde_json::from_str(&text).map_err(|e| unreadable(e.to_string()))
}

impl Chosen {
    /// What is active, once the warnings were said.
    pub(crate) fn said(self, printer: Printer) -> Option<Active> {
        for warning in &self.warnings {
            printer.warn(warning);
        }
        self.active
    }
}
