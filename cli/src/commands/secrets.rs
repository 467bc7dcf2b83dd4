//! `orch secrets`: what the vault holds, never what it says.

use std::process::ExitCode;

use orch_manifests::AgentName;
use orch_server::secrets::{new_secret_name, secret_name};
use orch_server::{Failure, KeySources, Kind};
use orch_vault::{
    Depth, GrantTerms, Lookup, OpenMode, SecretMeta, ValuePlace, Vault, VaultError, Wanted, resolve_keys,
};
use serde_json::{Value, json};

use crate::args::{RmArgs, SecretsArgs, SecretsCommand, SetArgs, WhichArgs};
use crate::custody;
use crate::moment;
use crate::printer::{Printer, harmless};
use crate::wire::{Installation, broken_pipe};

mod keeping;
mod said;

pub(crate) use keeping::Keeping;
use keeping::Row;
use said::{parse_host, parse_place, read_value};

pub(crate) fn run(args: SecretsArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let find = || Keeping::find(&here, args.local);
    match args.command {
        SecretsCommand::Set(args) => set(&here, find, *args, printer),
        SecretsCommand::List => list(&find()?, printer),
        SecretsCommand::Rm(args) => rm(&here, find, &args, printer),
        SecretsCommand::Which(args) => which(&here, find, &args, printer),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// What is said is checked before any server is looked for.
fn set<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: SetArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let name = new_secret_name(&args.name, &here.catalog)?;
    let bound = here.catalog.provider_of_key(name.as_str());
    if let Some(provider) = bound
        && (!args.host.is_empty() || !args.agent.is_empty() || args.place.is_some())
    {
        return Err(Failure::usage(
            "bad_usage",
            format!(
                "{name} is {}'s key and goes to {} only; --host, --in and --agent do not apply",
                provider.name, provider.endpoint.host
            ),
        ));
    }
    let hosts = args.host.iter().map(|host| parse_host(host)).collect::<Result<Vec<_>, _>>()?;
    for agent in &args.agent {
        agent
            .parse::<AgentName>()
            .map_err(|e| Failure::usage("bad_usage", format!("--agent {agent:?}: {e}")))?;
    }
    let header = parse_place(args.place.as_deref().unwrap_or("header:authorization"))?;
    let expires = args.expires.as_deref().map(moment::from_now).transpose()?;
    let secret = read_value(here, &name, &args, printer)?;

    let unbound = bound.is_none() && hosts.is_empty();
    let grant = |host| GrantTerms {
        host: Some(host),
        place: Some(ValuePlace::Header(header.clone())),
        agents: args.agent.clone(),
        ..GrantTerms::default()
    };
    let meta = SecretMeta {
        grants: bound.is_none().then(|| hosts.into_iter().map(grant).collect()),
        never_in_header: false,
        expires,
        scrubbable: !args.allow_short,
    };
    let keeping = find()?;
    let first = matches!(keeping, Keeping::Here(_)) && !here.vault.store.exists();
    let version = keeping.set(&name, secret, meta)?;
    if printer.json() {
        return printer
            .result_json(&json!({ "name": name.as_str(), "version": version }))
            .or_else(broken_pipe);
    }
    if first {
        // Where the key of the vault is was chosen just now, and nothing chooses it again.
        let slots = Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)?.slots()?;
        for slot in slots {
            printer
                .note(&format!("made the vault; it is opened by {}", custody::described(&slot, &here.vault)));
        }
    }
    let short = keeping.rows()?.iter().any(|row| row.name == name.as_str() && !row.scrubbable);
    printer.note(&match &keeping {
        Keeping::Server(client, _) if client.on_network() => {
            format!("stored {name}, version {version}, at {}", client.name())
        }
        _ => format!("stored {name}, version {version}"),
    });
    if unbound {
        printer.warn(&format!(
            "{name} may go nowhere yet: say where with --host, or at a run with --secret {name}@HOST"
        ));
    }
    if short {
        printer.warn(&format!("{name} is too short to be cleaned out of responses"));
    }
    Ok(())
}

fn list(keeping: &Keeping<'_>, printer: Printer) -> Result<(), Failure> {
    let rows = keeping.rows()?;
    if printer.json() {
        return printer.result_json(&json!({ "secrets": rows })).or_else(broken_pipe);
    }
    if rows.is_empty() {
        printer.note("the vault holds nothing; store a key with: orch secrets set OPENAI_API_KEY");
        return Ok(());
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let mask = row.mask.as_deref().map_or_else(|| "…".to_owned(), |mask| format!("…{mask}"));
            format!("{:width$}  v{:<3} {mask:6} {}  {}", row.name, row.version, row.updated, where_to(row))
        })
        .collect();
    printer.result(&harmless(&lines.join("\n"))).or_else(broken_pipe)
}

fn rm<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &RmArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let name = secret_name(&args.name, &here.catalog)?;
    let missing =
        || Failure::usage("secret_missing", format!("the vault holds no {name}")).hint("orch secrets list");
    let keeping = find()?;
    // The vault is closed again before anybody is asked: nobody else could use it in the meantime.
    if !keeping.rows()?.iter().any(|row| row.name == name.as_str()) {
        return Err(missing());
    }
    if !args.yes {
        if !printer.interactive() {
            return Err(Failure::usage(
                "bad_usage",
                format!("removing {name} cannot be undone; nobody is here to ask"),
            )
            .hint(format!("orch secrets rm {name} --yes")));
        }
        if !printer.confirmed(&format!("Remove {name}? It cannot be read back or restored. [y/N] "))? {
            return Err(Failure::new(Kind::Interrupted, "not_confirmed", "nothing was removed"));
        }
    }
    let version = keeping.remove(&name)?.ok_or_else(missing)?;
    if printer.json() {
        return printer
            .result_json(&json!({ "name": name.as_str(), "removed": version }))
            .or_else(broken_pipe);
    }
    printer.note(&format!("removed {name}"));
    Ok(())
}

/// Where a run would take a key from, and what that hides.
fn which<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &WhichArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let provider = here.catalog.provider(&args.name);
    let names: Vec<String> = match provider {
        Some(provider) => provider.env.clone(),
        None => vec![secret_name(&args.name, &here.catalog)?.to_string()],
    };
    let wanted = [Wanted { provider: &args.name, names: &names }];
    let layers = layers(here, &find()?)?;
    let resolution = resolve_keys(&wanted, &[], &*layers, Depth::All)?;

    let Some(found) = resolution.found.first() else {
        return Err(Failure::new(Kind::NoKey, "no_key", format!("there is no {}", names.join(" or ")))
            .hint(format!("orch secrets set {}", names[0])));
    };
    let shadows: Vec<Value> = found
        .shadows
        .iter()
        .map(|s| json!({ "name": s.name, "source": s.source.as_str(), "version": s.version }))
        .collect();
    if printer.json() {
        let value = json!({
            "name": found.name, "source": found.source.as_str(), "version": found.version, "shadows": shadows,
        });
        return printer.result_json(&value).or_else(broken_pipe);
    }
    let version = found.version.map(|v| format!(", version {v}")).unwrap_or_default();
    printer
        .result(&format!("{} from {}{version}", found.name, described(found.source.as_str())))
        .or_else(broken_pipe)?;
    for shadow in &found.shadows {
        printer.warn(&format!(
            "it hides {} in {}, which is not used while this one is there",
            shadow.name,
            described(shadow.source.as_str())
        ));
    }
    Ok(())
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
        Keeping::Server(..) => {
            Box::new(There { rows: keeping.rows()?, own, sends_env: !keeping.on_network() })
        }
    })
}

/// The layers of a run on a server: this environment where it is sent along, and what the server's vault holds.
struct There<'a> {
    rows: Vec<Row>,
    own: KeySources<'a>,
    sends_env: bool,
}

impl Lookup for There<'_> {
    fn env(&self, name: &str) -> bool {
        self.sends_env && self.own.env(name)
    }

    fn vault(&self, name: &str) -> Result<Option<u64>, VaultError> {
        Ok(self.rows.iter().find(|row| row.name == name).map(|row| row.version))
    }
}

fn described(source: &str) -> &str {
    match source {
        "env" => "the environment",
        "vault" => "the vault",
        other => other,
    }
}

fn where_to(row: &Row) -> String {
    let mut text = if row.hosts.is_empty() {
        "goes nowhere yet".to_owned()
    } else {
        format!("→ {}", row.hosts.join(", "))
    };
    if let Some(at) = &row.expires {
        text.push_str(&format!(" (until {at})"));
    }
    text
}
