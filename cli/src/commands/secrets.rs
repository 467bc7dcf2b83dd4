//! `orch secrets`: what the vault holds, never what it says.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use orch_manifests::{AgentName, HostPattern, parse_duration};
use orch_server::{Failure, Kind, vault_failure};
use orch_vault::{
    Depth, ExpectedVersion, FlagName, Lookup, OpenMode, Secret, SecretMeta, SecretName, SecretSummary, Vault,
    VaultError, Wanted, resolve_keys,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::args::{RmArgs, SecretArg, SecretsCommand, SetArgs, WhichArgs};
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

/// The largest value that is read, one byte above what the vault takes, so that the vault says it is too large.
const READ_LIMIT: u64 = 64 * 1024;

pub(crate) fn run(command: SecretsCommand, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    match command {
        SecretsCommand::Set(args) => set(&here, *args, printer),
        SecretsCommand::List(_) => list(&here, printer),
        SecretsCommand::Rm(args) => rm(&here, &args, printer),
        SecretsCommand::Which(args) => which(&here, &args, printer),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn set(here: &Installation, args: SetArgs, printer: Printer) -> Result<(), Failure> {
    let name = parse_name(&args.name)?;
    let bound = here.catalog.provider_of_key(name.as_str());
    let hosts = args.host.iter().map(|host| parse_host(host)).collect::<Result<Vec<_>, _>>()?;
    if let Some(provider) = bound
        && !hosts.is_empty()
    {
        return Err(Failure::usage(
            "bad_usage",
            format!(
                "{name} is {}'s key and goes to {} only; --host does not apply",
                provider.name, provider.endpoint.host
            ),
        ));
    }
    for agent in &args.agent {
        agent
            .parse::<AgentName>()
            .map_err(|e| Failure::usage("bad_usage", format!("--agent {agent:?}: {e}")))?;
    }
    let header = parse_place(&args.place)?;
    let expires = args.expires.as_deref().map(expiry).transpose()?;
    let secret = read_value(here, &name, &args, printer)?;

    let short = secret.len() < 16;
    let meta = SecretMeta {
        hosts,
        header: bound.is_none().then_some(header),
        never_in_header: false,
        agents: args.agent,
        expires,
        scrubbable: !args.allow_short,
    };
    let unbound = bound.is_none() && meta.hosts.is_empty();
    here.prepare_vault()?;
    let mut vault = Vault::open(&here.vault, OpenMode::Create).map_err(|e| vault_failure(&e))?;
    let version = vault.set(&name, secret, meta, ExpectedVersion::Any).map_err(|e| refused(&e))?;

    if printer.json() {
        return printer
            .result_json(&json!({ "name": name.as_str(), "version": version.get() }))
            .or_else(broken_pipe);
    }
    printer.note(&format!("stored {name}, version {version}"));
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

fn list(here: &Installation, printer: Printer) -> Result<(), Failure> {
    let vault = Vault::open(&here.vault, OpenMode::ReadOnlyIfExists).map_err(|e| vault_failure(&e))?;
    let secrets = vault.list().map_err(|e| vault_failure(&e))?;
    if printer.json() {
        let rows: Vec<Value> = secrets.iter().map(|secret| row(here, secret)).collect();
        return printer.result_json(&json!({ "secrets": rows })).or_else(broken_pipe);
    }
    if secrets.is_empty() {
        printer.note("the vault holds nothing; store a key with: orch secrets set OPENAI_API_KEY");
        return Ok(());
    }
    let width = secrets.iter().map(|s| s.name.as_str().len()).max().unwrap_or(0);
    let lines: Vec<String> = secrets
        .iter()
        .map(|secret| {
            let mask = secret.mask.as_deref().map_or_else(|| "…".to_owned(), |mask| format!("…{mask}"));
            format!(
                "{:width$}  v{:<3} {mask:6} {}  {}",
                secret.name.as_str(),
                secret.version.get(),
                date(secret.updated),
                where_to(here, secret)
            )
        })
        .collect();
    printer.result(&lines.join("\n")).or_else(broken_pipe)
}

fn rm(here: &Installation, args: &RmArgs, printer: Printer) -> Result<(), Failure> {
    let name = parse_name(&args.name)?;
    let mut vault = Vault::open(&here.vault, OpenMode::WriteIfExists).map_err(|e| vault_failure(&e))?;
    let missing =
        || Failure::usage("secret_missing", format!("the vault holds no {name}")).hint("orch secrets list");
    if !vault.contains(&name).map_err(|e| vault_failure(&e))? {
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
        printer.ask(&format!("Remove {name}? It cannot be read back or restored. [y/N] "));
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(|e| Failure::usage("bad_usage", format!("cannot read the answer: {e}")))?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::new(Kind::Interrupted, "not_confirmed", "nothing was removed"));
        }
    }
    let version = vault.remove(&name).map_err(|e| refused(&e))?.ok_or_else(missing)?;
    if printer.json() {
        return printer
            .result_json(&json!({ "name": name.as_str(), "removed": version.get() }))
            .or_else(broken_pipe);
    }
    printer.note(&format!("removed {name}"));
    Ok(())
}

/// Where a run would take a key from, and what that hides.
fn which(here: &Installation, args: &WhichArgs, printer: Printer) -> Result<(), Failure> {
    let provider = here.catalog.provider(&args.name);
    let names: Vec<String> = match provider {
        Some(provider) => provider.env.clone(),
        None => vec![parse_name(&args.name)?.to_string()],
    };
    // Only names of the catalog are looked for in the environment: a planted variable must not become a secret.
    let in_catalog = provider.is_some() || here.catalog.provider_of_key(&args.name).is_some();
    let vault = Vault::open(&here.vault, OpenMode::ReadOnlyIfExists).map_err(|e| vault_failure(&e))?;
    let lookup = Which { here, vault: &vault, environment: in_catalog };
    let wanted = [Wanted { provider: &args.name, names: &names }];
    let flags: [FlagName<'_>; 0] = [];
    let resolution = resolve_keys(&wanted, &flags, &lookup, Depth::All)
        .map_err(|e| Failure::new(Kind::Vault, "vault_storage", e.to_string()))?;

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

fn described(source: &str) -> &str {
    match source {
        "env" => "the environment",
        "vault" => "the vault",
        other => other,
    }
}

struct Which<'a> {
    here: &'a Installation,
    vault: &'a Vault,
    environment: bool,
}

impl Lookup for Which<'_> {
    fn env(&self, name: &str) -> bool {
        self.environment && self.here.environment.has_key(name)
    }

    fn vault(&self, name: &str) -> Result<Option<u64>, VaultError> {
        let Ok(name) = name.parse() else { return Ok(None) };
        Ok(self.vault.version(&name)?.map(orch_vault::Version::get))
    }
}

fn row(here: &Installation, secret: &SecretSummary) -> Value {
    json!({
        "name": secret.name.as_str(),
        "version": secret.version.get(),
        "mask": secret.mask,
        "fingerprint": secret.fingerprint,
        "created": date(secret.created),
        "updated": date(secret.updated),
        "expires": secret.meta.expires.map(date),
        "hosts": hosts_of(here, secret),
        "header": secret.meta.header,
        "agents": secret.meta.agents,
        "scrubbable": secret.meta.scrubbable,
    })
}

/// Where a value may go: its provider's host for names of the catalog, else what its owner said.
fn hosts_of(here: &Installation, secret: &SecretSummary) -> Vec<String> {
    let of_catalog = here.catalog.provider_of_key(secret.name.as_str());
    match of_catalog {
        Some(provider) => vec![provider.endpoint.host.to_string()],
        None => secret.meta.hosts.clone(),
    }
}

fn where_to(here: &Installation, secret: &SecretSummary) -> String {
    let hosts = hosts_of(here, secret);
    let mut text =
        if hosts.is_empty() { "goes nowhere yet".to_owned() } else { format!("→ {}", hosts.join(", ")) };
    if let Some(at) = secret.meta.expires {
        text.push_str(&format!(" (until {})", date(at)));
    }
    text
}

/// The value, from the one place that was named, else from the terminal without echo.
fn read_value(
    here: &Installation,
    name: &SecretName,
    args: &SetArgs,
    printer: Printer,
) -> Result<Secret, Failure> {
    let unreadable = |from: &str, e: &dyn std::fmt::Display| {
        Failure::usage("value_unreadable", format!("cannot read the value of {name} from {from}: {e}"))
    };
    if let Some(file) = &args.from_file {
        let bytes = read_file(file).map_err(|e| unreadable(&file.display().to_string(), &e))?;
        return Ok(without_newline(bytes, printer));
    }
    if args.from_env {
        return here.environment.key(name.as_str()).ok_or_else(|| {
            Failure::new(
                Kind::NoKey,
                "no_key",
                format!("the environment variable {name} is not set, or empty"),
            )
        });
    }
    match args.value.as_deref() {
        Some(SecretArg::Value(secret)) => {
            printer.warn(
                "a value on the command line stays in the shell's history and shows in the process list",
            );
            Ok(secret.expose(|bytes| Secret::new(bytes.to_vec())))
        }
        Some(SecretArg::Stdin) => {
            let bytes =
                read_limited(std::io::stdin().lock()).map_err(|e| unreadable("standard input", &e))?;
            Ok(without_newline(bytes, printer))
        }
        None if std::io::stdin().is_terminal() && printer.interactive() => {
            let text = rpassword::prompt_password(format!("Value of {name} (not shown): "))
                .map_err(|e| unreadable("the terminal", &e))?;
            Ok(Secret::new(text.into_bytes()))
        }
        None => Err(Failure::usage("bad_usage", format!("no value for {name}, and no terminal to ask on"))
            .hint(format!("orch secrets set {name} - < FILE"))
            .hint(format!("orch secrets set {name} --from-env"))),
    }
}

/// Reads a key from a file (`--key-file`) the way `secrets set --from-file` does.
pub(crate) fn read_file(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    read_limited(std::fs::File::open(path)?)
}

/// Reads at most [`READ_LIMIT`] bytes, into memory that is cleared again.
pub(crate) fn read_limited(from: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // All of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(READ_LIMIT as usize + 1));
    from.take(READ_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One newline at the end is the file's, not the value's; that it was taken off is said.
pub(crate) fn without_newline(mut bytes: Zeroizing<Vec<u8>>, printer: Printer) -> Secret {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        printer.note("one newline at the end was taken off");
    }
    Secret::new(bytes.to_vec())
}

fn refused(error: &VaultError) -> Failure {
    let failure = vault_failure(error);
    match error {
        VaultError::Value(orch_vault::ValueError::Short(_)) => {
            failure.hint("--allow-short stores it all the same; it then cannot be cleaned out of responses")
        }
        _ => failure,
    }
}

fn parse_name(text: &str) -> Result<SecretName, Failure> {
    // What stands in the name's place by mistake is often a value: it is not repeated.
    text.parse().map_err(|e| {
        let failure = Failure::usage("secret_name_invalid", format!("that is not a secret's name: {e}"));
        match text.split_once('=').and_then(|(name, _)| name.parse::<SecretName>().ok()) {
            Some(name) => failure.hint(format!("the value does not follow an =: orch secrets set {name} -")),
            None => failure.hint("orch secrets set OPENAI_API_KEY"),
        }
    })
}

fn parse_host(text: &str) -> Result<String, Failure> {
    let pattern: HostPattern =
        text.parse().map_err(|e| Failure::usage("bad_usage", format!("--host {text:?}: {e}")))?;
    Ok(pattern.to_string())
}

fn parse_place(text: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::usage("bad_usage", format!("--in {text:?} is not header:NAME")).hint("--in header:x-api-key")
    };
    let name = text.strip_prefix("header:").ok_or_else(wrong)?;
    let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if valid { Ok(name.to_ascii_lowercase()) } else { Err(wrong()) }
}

fn expiry(text: &str) -> Result<OffsetDateTime, Failure> {
    let life: Duration =
        parse_duration(text).map_err(|e| Failure::usage("bad_usage", format!("--expires {text:?}: {e}")))?;
    OffsetDateTime::now_utc()
        .checked_add(life.try_into().unwrap_or(time::Duration::MAX))
        .ok_or_else(|| Failure::usage("bad_usage", format!("--expires {text:?} is too far away")))
}

fn date(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// Shared with `run`: a key argument's value may not be used twice, so it is copied into a [`Secret`] of its own.
pub(crate) fn copy(secret: &Arc<crate::args::KeyArg>) -> Secret {
    secret.0.expose(|bytes| Secret::new(bytes.to_vec()))
}
