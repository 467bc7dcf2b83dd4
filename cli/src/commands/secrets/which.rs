//! `orch secrets which`: where a run would take a key from, and what that hides.

use orch_server::secrets::secret_name;
use orch_server::{Failure, KeySources, Kind};
use orch_vault::{Depth, Lookup, VaultError, Wanted, resolve_keys};
use serde_json::{Value, json};

use super::Keeping;
use super::row::Row;
use crate::args::WhichArgs;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

pub(super) fn run<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &WhichArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let names: Vec<String> = match here.catalog.anybody(&args.name) {
        Some(provider) => provider.env.clone(),
        None => vec![secret_name(&args.name, &here.catalog)?.to_string()],
    };
    let keeping = find()?;
    let rows = keeping.rows()?;
    let layers = layers_of(here, &keeping, &rows);
    let asides = Asides::of(here, &keeping, &names);
    let wanted = [Wanted { provider: &args.name, names: &names }];
    let resolution = resolve_keys(&wanted, &[], &layers, Depth::All)?;
    let Some(found) = resolution.found.first() else {
        let failure = Failure::new(Kind::NoKey, "no_key", format!("there is no {}", names.join(" or ")));
        let failure = asides.lines().into_iter().fold(failure, Failure::hint);
        return Err(failure.hint(format!("orch secrets set {}", names[0])));
    };
    let stored = |name: &str, source: &str| rows.iter().find(|row| source == "vault" && row.name == name);
    let described = |name: &str, source: &str, version: Option<u64>| {
        let row = stored(name, source);
        json!({
            "name": name, "source": source, "version": version,
            "mask": row.and_then(|row| row.mask.clone()), "expires": row.and_then(|row| row.expires.clone()),
            "expired": row.is_some_and(|row| row.expired),
        })
    };
    let source = found.source.as_str();
    let shadows: Vec<Value> =
        found.shadows.iter().map(|s| described(&s.name, s.source.as_str(), s.version)).collect();
    let winner = stored(&found.name, source);
    if printer.json() {
        let mut value = described(&found.name, source, found.version);
        value["shadows"] = json!(shadows);
        value["stays_here"] = json!(asides.stays_here);
        value["ignored_in_env"] = json!(asides.ignored);
        return printer.result_json(&value).or_else(broken_pipe);
    }
    let elsewhere = if source == "vault" { keeping.elsewhere() } else { String::new() };
    let mut text = format!("{} from {}{elsewhere}", found.name, place(source));
    if let Some(version) = found.version {
        text.push_str(&format!(", version {version}"));
    }
    if let Some(row) = winner {
        if let Some(mask) = &row.mask {
            text.push_str(&format!(", ends in …{mask}"));
        }
        if let Some(at) = &row.expires {
            text.push_str(&format!(", {} {at}", if row.expired { "expired" } else { "expires" }));
        }
    }
    printer.result(&text).or_else(broken_pipe)?;
    if winner.is_some_and(|row| row.expired) {
        printer.warn(&format!("it has expired and is not given out: orch secrets rotate {}", found.name));
    }
    for shadow in &found.shadows {
        printer.warn(&format!(
            "it hides {} in {}, which is not used while this one is there",
            shadow.name,
            place(shadow.source.as_str())
        ));
    }
    for line in asides.lines() {
        printer.warn(&line);
    }
    if here.catalog.provider_of_key(&found.name).is_some() {
        printer.note("a --key at a run goes before it");
    }
    Ok(())
}

/// Variables of this environment that look as if they were used, and are not.
struct Asides {
    /// Keys that are not sent to a server elsewhere.
    stays_here: Vec<String>,
    /// Of no provider: the environment has no owner who said where a value may go.
    ignored: Vec<String>,
}

impl Asides {
    fn of(here: &Installation, keeping: &Keeping<'_>, names: &[String]) -> Self {
        let set = names.iter().filter(|name| here.environment.key(name).is_some());
        let (keys, ignored): (Vec<String>, Vec<String>) =
            set.cloned().partition(|name| here.catalog.provider_of_key(name).is_some());
        Self { stays_here: if keeping.on_network() { keys } else { Vec::new() }, ignored }
    }

    fn lines(&self) -> Vec<String> {
        let stays = self.stays_here.iter().map(|name| {
            format!("{name} in this environment stays here; --send-env-keys sends it along for one run")
        });
        let ignored = self.ignored.iter().map(|name| {
            format!("{name} in this environment is not used: it is no provider's key; orch secrets set {name} --from-env --host HOST stores it")
        });
        stays.chain(ignored).collect()
    }
}

/// Where a run takes keys from, below the command line, when this is who keeps the secrets.
///
/// # Errors
/// As the server's that keeps them.
pub(crate) fn layers<'a>(
    here: &'a Installation,
    keeping: &Keeping<'_>,
) -> Result<Box<dyn Lookup + 'a>, Failure> {
    let own = here.key_sources();
    Ok(match keeping {
        Keeping::Here(_) => Box::new(own),
        Keeping::Server(..) => Box::new(Layers::new(own, keeping, &keeping.rows()?)),
    })
}

/// The same, when what is kept is known already.
pub(super) fn layers_of<'a>(here: &'a Installation, keeping: &Keeping<'_>, rows: &[Row]) -> Layers<'a> {
    Layers::new(here.key_sources(), keeping, rows)
}

/// The layers of a run: this environment where it is looked at or sent along, and what is kept.
pub(super) struct Layers<'a> {
    versions: Vec<(String, u64)>,
    own: KeySources<'a>,
    sends_env: bool,
}

impl<'a> Layers<'a> {
    fn new(own: KeySources<'a>, keeping: &Keeping<'_>, rows: &[Row]) -> Self {
        let versions = rows.iter().map(|row| (row.name.clone(), row.version)).collect();
        Self { versions, own, sends_env: !keeping.on_network() }
    }
}

impl Lookup for Layers<'_> {
    fn env(&self, name: &str) -> bool {
        self.sends_env && self.own.env(name)
    }

    fn vault(&self, name: &str) -> Result<Option<u64>, VaultError> {
        Ok(self.versions.iter().find(|(known, _)| known == name).map(|(_, version)| *version))
    }
}

fn place(source: &str) -> &str {
    match source {
        "env" => "the environment",
        "vault" => "the vault",
        other => other,
    }
}
