//! `orch tokens`: who else may use a server, and for what.

use std::process::ExitCode;

use orch_server::{Failure, Kind};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{NewTokenArgs, RevokeArgs, TokensCommand};
use crate::client::{Client, json};
use crate::moment;
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe, with_client};

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<Token>,
}

/// A token without its text.
#[derive(Deserialize)]
struct Token {
    id: String,
    name: String,
    #[serde(default)]
    workspace: Option<String>,
    scopes: Vec<String>,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    revoked_at: Option<String>,
    #[serde(default)]
    last_used_at: Option<String>,
}

#[derive(Deserialize)]
struct Made {
    id: String,
    token: String,
}

pub(crate) fn run(command: &TokensCommand, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    with_client(&here, async |client| match command {
        TokensCommand::Create(args) => create(client, args, printer).await,
        TokensCommand::List => list(client, printer).await,
        TokensCommand::Revoke(args) => revoke(client, args, printer).await,
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn create(client: &Client, args: &NewTokenArgs, printer: Printer) -> Result<(), Failure> {
    let expires = args.expires.as_deref().map(moment::from_now).transpose()?;
    let scopes: Vec<&str> = args.scope.iter().map(|scope| scope.word()).collect();
    let body = json!({
        "name": args.name, "scopes": scopes, "expires": expires.map(moment::written), "workspace": args.workspace,
    });
    let answer: Value = client.post("/v1/tokens", json(&body)?).await?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let made: Made = client.typed("POST /v1/tokens", answer)?;
    printer.note(&format!("made {} ({}); this is the only time that it is shown", made.id, args.name));
    printer.result(&harmless(&made.token)).or_else(broken_pipe)
}

async fn list(client: &Client, printer: Printer) -> Result<(), Failure> {
    let answer: Value = client.get("/v1/tokens").await?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let tokens: Tokens = client.typed("GET /v1/tokens", answer)?;
    printer.result(&harmless(&table(tokens.tokens).text())).or_else(broken_pipe)
}

fn table(tokens: Vec<Token>) -> Table {
    let mut table = Table::new(
        &["id", "name", "workspace", "scopes", "last used", "expires"].map(|name| (name, Side::Left)),
    );
    for token in tokens {
        table.row([
            token.id,
            token.name,
            token.workspace.unwrap_or_default(),
            token.scopes.join(","),
            token.last_used_at.unwrap_or_else(|| "never".to_owned()),
            match (token.revoked_at, token.expires) {
                (Some(at), _) => format!("revoked {at}"),
                (None, Some(at)) => at,
                (None, None) => "never".to_owned(),
            },
        ]);
    }
    table
}

async fn revoke(client: &Client, args: &RevokeArgs, printer: Printer) -> Result<(), Failure> {
    let id = &args.id;
    if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') || !id.starts_with("tok_") {
        // What was typed is not repeated: it may be the token itself.
        return Err(Failure::usage("bad_usage", "that is not the id of a token, which begins with tok_")
            .hint("orch tokens list"));
    }
    if !args.yes {
        if !printer.interactive() {
            return Err(Failure::usage(
                "bad_usage",
                format!("revoking {id} cannot be undone; nobody is here to ask"),
            )
            .hint(format!("orch tokens revoke {id} --yes")));
        }
        if !printer.confirmed(&format!("Revoke {id}? Whoever uses it is refused from then on. [y/N] "))? {
            return Err(Failure::new(Kind::Interrupted, "not_confirmed", "nothing was revoked"));
        }
    }
    let answer: Value = client.delete(&format!("/v1/tokens/{id}")).await?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    printer.note(&format!("revoked {id}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_a_table_without_any_token() {
        let tokens: Tokens = serde_json::from_value(json!({ "tokens": [
            { "id": "tok_1", "name": "admin", "workspace": "default", "scopes": ["admin"], "expires": null },
            { "id": "tok_22", "name": "ci", "workspace": "default", "scopes": ["run", "publish"],
              "expires": "2026-03-01T00:00:00Z", "last_used_at": "2026-02-01T00:00:00Z" },
            { "id": "tok_3", "name": "old", "workspace": "default", "scopes": ["llm"], "expires": null,
              "revoked_at": "2026-01-01T00:00:00Z" },
        ]}))
        .expect("the contract's words");
        insta::assert_snapshot!(table(tokens.tokens).text(), @r"
        id      name   workspace  scopes       last used             expires
        tok_1   admin  default    admin        never                 never
        tok_22  ci     default    run,publish  2026-02-01T00:00:00Z  2026-03-01T00:00:00Z
        tok_3   old    default    llm          never                 revoked 2026-01-01T00:00:00Z
        ");
    }
}
