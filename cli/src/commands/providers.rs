//! `orch providers`: who can be asked, with which keys, and how those fare; and whether one does what is said of it.

use std::process::ExitCode;

use bytes::Bytes;
use orch_server::Failure;
use serde::Deserialize;
use serde_json::Value;

use crate::args::ProvidersCommand;
use crate::client::Client;
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe, with_client};

mod check;

#[derive(Deserialize)]
struct Providers {
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
struct Provider {
    provider: String,
    keys: Vec<Key>,
    #[serde(default)]
    missing: Option<String>,
    #[serde(default)]
    unusable: Vec<String>,
}

#[derive(Deserialize)]
struct Key {
    key: String,
    state: String,
    since: Option<String>,
    #[serde(default)]
    tried_again: Option<String>,
    until: Option<String>,
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    model: String,
    class: String,
    until: String,
}

#[derive(Deserialize)]
struct Reset {
    reset: Vec<String>,
}

pub(crate) fn run(command: &ProvidersCommand, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    match command {
        ProvidersCommand::List => with_client(&here, async |client| list(client, printer).await)?,
        ProvidersCommand::Reset(args) => {
            with_client(&here, async |client| reset(client, &args.name, printer).await)?;
        }
        ProvidersCommand::Check(args) => return check::run(args, &here, printer),
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, printer: Printer) -> Result<(), Failure> {
    let answer: Value = client.get("/v1/providers").await?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let Providers { providers } = client.typed("GET /v1/providers", answer)?;
    printer.result(&harmless(&table(&providers).text())).or_else(broken_pipe)
}

async fn reset(client: &Client, name: &str, printer: Printer) -> Result<(), Failure> {
    // What was typed is not repeated: it may be a key itself.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        return Err(Failure::usage("bad_usage", "that is neither a provider nor the name of a key")
            .hint("orch providers list"));
    }
    let answer: Value = client.post(&format!("/v1/providers/{name}/reset"), Bytes::new()).await?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let Reset { reset } = client.typed("POST /v1/providers/{name}/reset", answer)?;
    printer.note(&match reset.is_empty() {
        true => "nothing stood against its keys".to_owned(),
        false => format!("asked again from the next call on: {}", reset.join(", ")),
    });
    Ok(())
}

fn table(providers: &[Provider]) -> Table {
    let mut table = Table::new(&["provider", "key", "state", "why"].map(|name| (name, Side::Left)));
    for provider in providers {
        let name = || provider.provider.clone();
        for key in &provider.keys {
            table.row([name(), key.key.clone(), key.state.clone(), why(key, &provider.provider)]);
        }
        for why in &provider.unusable {
            table.row([name(), String::new(), "unusable".to_owned(), why.clone()]);
        }
        if provider.keys.is_empty() {
            let (state, why) = match &provider.missing {
                Some(missing) => ("missing", missing.clone()),
                None => ("needs none", String::new()),
            };
            table.row([name(), String::new(), state.to_owned(), why]);
        }
    }
    table
}

fn why(key: &Key, provider: &str) -> String {
    // What others have lent goes by no name that a command takes.
    let named = if key.key.contains('/') { provider } else { &key.key };
    let again = key.tried_again.iter().map(|at| format!("; tried again after {at}")).collect::<String>();
    let since = key.since.iter().map(|at| format!("since {at}{again}, or now: orch providers reset {named}"));
    let until = key.until.iter().map(|at| format!("asked last until {at}"));
    let models = key.models.iter().map(|m| format!("{}: {} until {}", m.model, m.class, m.until));
    since.chain(until).chain(models).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_says_how_it_fares() {
        let read: Providers = serde_json::from_value(serde_json::json!({ "providers": [
            { "provider": "openai", "name": "OpenAI", "keys": [
                { "key": "OPENAI_API_KEY", "source": "vault", "version": 1, "state": "fine", "since": null,
                  "until": null, "models": [] },
                { "key": "OPENAI_API_KEY_2", "source": "vault", "version": 2, "state": "rejected",
                  "since": "2026-02-01T00:00:00Z", "tried_again": "2026-02-01T00:10:00Z", "until": null, "models": [] },
                { "key": "OPENAI_API_KEY_3", "source": "vault", "version": 1, "state": "limited", "since": null,
                  "until": null, "models": [{ "model": "gpt-4o", "class": "rate_limited", "until": "2026-02-01T00:00:20Z" }] },
            ] },
            { "provider": "ollama", "name": "Ollama", "keys": [] },
            { "provider": "gemini", "name": "Gemini", "keys": [], "missing": "this workspace has no key for gemini" },
        ]}))
        .expect("the contract's words");
        insta::assert_snapshot!(table(&read.providers).text(), @r"
        provider  key               state       why
        openai    OPENAI_API_KEY    fine
        openai    OPENAI_API_KEY_2  rejected    since 2026-02-01T00:00:00Z; tried again after 2026-02-01T00:10:00Z, or now: orch providers reset OPENAI_API_KEY_2
        openai    OPENAI_API_KEY_3  limited     gpt-4o: rate_limited until 2026-02-01T00:00:20Z
        ollama                      needs none
        gemini                      missing     this workspace has no key for gemini
        ");
    }
}
