//! `orch secrets`: what the vault holds, never what it says.

use std::process::ExitCode;
use std::time::Duration;

use orch_manifests::{AgentName, HostPattern, parse_duration};
use orch_server::{Failure, Kind};
use orch_vault::{
    Depth, ExpectedVersion, OpenMode, Secret, SecretMeta, SecretName, SecretSummary, Vault, Wanted,
    resolve_keys,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::{RmArgs, SecretArg, SecretsCommand, SetArgs, WhichArgs};
use crate::printer::Printer;
use crate::value;
use crate::wire::{Installation, broken_pipe};

pub(crate) fn run(command: SecretsCommand, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    match command {
        SecretsCommand::Set(args) => set(&here, *args, printer),
        SecretsCommand::List => list(&here, printer),
        SecretsCommand::Rm(args) => rm(&here, &args, printer),
        SecretsCommand::Which(args) => which(&here, &args, printer),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn set(here: &Installation, args: SetArgs, printer: Printer) -> Result<(), Failure> {
    let name = parse_name(here, &args.name)?;
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
    let expires = args.expires.as_deref().map(expiry).transpose()?;
    let secret = read_value(here, &name, &args, printer)?;

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
    let mut vault = Vault::open(&here.vault, OpenMode::Create)?;
    let version = vault.set(&name, secret, meta, ExpectedVersion::Any)?;
    let short = vault.list()?.iter().any(|secret| secret.name == name && !secret.meta.scrubbable);

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
    let secrets = Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)?.list()?;
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
    let name = parse_name(here, &args.name)?;
    let missing =
        || Failure::usage("secret_missing", format!("the vault holds no {name}")).hint("orch secrets list");
    // The vault is closed again before anybody is asked: nobody else could use it in the meantime.
    if !Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)?.contains(&name)? {
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
    let mut vault = Vault::open(&here.vault, OpenMode::WriteIfExists)?;
    let version = vault.remove(&name)?.ok_or_else(missing)?;
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
        None => vec![parse_name(here, &args.name)?.to_string()],
    };
    let wanted = [Wanted { provider: &args.name, names: &names }];
    let resolution = resolve_keys(&wanted, &[], &here.key_sources(), Depth::All)?;

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
        return value::from_file(file, printer).map_err(|e| unreadable(&file.display().to_string(), &e));
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
            Ok(value::copy(secret))
        }
        Some(SecretArg::Stdin) => value::from_stdin(printer).map_err(|e| unreadable("standard input", &e)),
        None if printer.interactive() => {
            let text = rpassword::prompt_password(format!("Value of {name} (not shown): "))
                .map_err(|e| unreadable("the terminal", &e))?;
            Ok(Secret::new(text.into_bytes()))
        }
        None => Err(Failure::usage("bad_usage", format!("no value for {name}, and no terminal to ask on"))
            .hint(format!("orch secrets set {name} - < FILE"))
            .hint(format!("orch secrets set {name} --from-env"))),
    }
}

/// The name of a secret. What was typed is not repeated: it may be a value in the wrong place.
fn parse_name(here: &Installation, text: &str) -> Result<SecretName, Failure> {
    text.parse().map_err(|e| {
        let failure = Failure::usage("secret_name_invalid", format!("that is not a secret's name: {e}"));
        let before = text.split_once('=').and_then(|(name, _)| name.parse::<SecretName>().ok());
        match (before, here.catalog.provider(text).and_then(|provider| provider.key_name())) {
            (Some(name), _) => {
                failure.hint(format!("the value does not follow an =: orch secrets set {name} -"))
            }
            (None, Some(name)) => failure.hint(format!("the key of {text} is {name}")),
            (None, None) => failure.hint("a name is like OPENAI_API_KEY"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_header() {
        assert_eq!(parse_place("header:X-Api-Key").expect("a header"), "x-api-key");
        for bad in ["", "authorization", "header:", "header:a b", "query:key", "header:a\r\nb"] {
            assert_eq!(parse_place(bad).expect_err(bad).code(), "bad_usage");
        }
    }

    #[test]
    fn a_host_is_a_name_or_a_pattern_that_its_owner_can_own() {
        assert_eq!(parse_host("API.Example.com").expect("a host"), "api.example.com");
        assert_eq!(parse_host("*.example.com").expect("a pattern"), "*.example.com");
        for bad in ["*", "*.com", "10.0.0.1", "https://a.example", ""] {
            assert_eq!(parse_host(bad).expect_err(bad).code(), "bad_usage");
        }
    }

    #[test]
    fn a_life_is_counted_from_now() {
        let in_a_day = expiry("1d").expect("a life") - OffsetDateTime::now_utc();
        assert!((23..=24).contains(&in_a_day.whole_hours()), "{in_a_day}");
        for bad in ["", "soon", "30"] {
            assert_eq!(expiry(bad).expect_err(bad).code(), "bad_usage");
        }
    }
}
