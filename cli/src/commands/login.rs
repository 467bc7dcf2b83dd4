//! `orch login`, `orch logout` and `orch whoami`: who one is at a server.

use std::process::ExitCode;

use orch_server::Failure;
use orch_vault::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{LoginArgs, LogoutArgs};
use crate::client::{Credentials, ServerUrl};
use crate::printer::{Printer, harmless};
use crate::value;
use crate::wire::{Installation, broken_pipe, runtime, with_client};

/// What a server says about who asks.
#[derive(Deserialize)]
struct Who {
    workspace: String,
    name: String,
    scopes: Vec<String>,
    #[serde(default)]
    expires: Option<String>,
}

pub(crate) fn login(args: &LoginArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    // `orch login -`: the only word that is no URL.
    let (said, from_stdin) = match args.url.as_deref() {
        Some("-") => (None, true),
        url => (url, args.stdin.is_some()),
    };
    let url = server(&here, said, "login")?;
    let token = read_token(args, from_stdin, &url, printer)?;
    let client = here.client_of(&url, Some(value::copy(&token)))?;
    let answer: Value = runtime()?.block_on(client.get("/v1/whoami"))?;
    let who: Who = client.typed("GET /v1/whoami", answer.clone())?;
    here.home.ensure(here.home.config_folder())?;
    Credentials::at(&here.home.credentials_file()).store(&url, &token)?;
    if printer.json() {
        let mut answer = answer;
        answer["url"] = Value::String(url.to_string());
        printer.result_json(&answer).or_else(broken_pipe)?;
    } else {
        printer.note(&format!("logged in at {url} as {}", described(&who)));
        if here.configured_server()?.is_none_or(|(configured, _)| configured != url) {
            printer.note(&format!("commands go there with ORCH_SERVER={url}, or server.url in config.yaml"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn logout(args: &LogoutArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let url = server(&here, args.url.as_deref(), "logout")?;
    let had = Credentials::at(&here.home.credentials_file()).forget(&url)?;
    if printer.json() {
        printer.result_json(&json!({ "url": url.to_string(), "removed": had })).or_else(broken_pipe)?;
    } else if had {
        printer.note(&format!("forgot the token of {url}; it stays valid there until it is revoked"));
    } else {
        printer.note(&format!("there was no token of {url}"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn whoami(printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    with_client(&here, async |client| {
        let answer: Value = client.get("/v1/whoami").await?;
        if printer.json() {
            return printer.result_json(&answer).or_else(broken_pipe);
        }
        let who: Who = client.typed("GET /v1/whoami", answer)?;
        printer.result(&harmless(&format!("{} at {}", described(&who), client.name()))).or_else(broken_pipe)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn described(who: &Who) -> String {
    let until = who.expires.as_ref().map(|at| format!(", until {at}")).unwrap_or_default();
    format!("{} in the workspace {} ({}{until})", who.name, who.workspace, who.scopes.join(", "))
}

/// The server that was said, else the one that commands go to.
fn server(here: &Installation, said: Option<&str>, command: &str) -> Result<ServerUrl, Failure> {
    match said {
        Some(url) => url.parse(),
        None => here.configured_server()?.map(|(url, _)| url).ok_or_else(|| {
            Failure::usage("bad_usage", "which server? none is configured")
                .hint(format!("orch {command} https://orch.example.com"))
        }),
    }
}

/// The token, from the one place that was named, else from the terminal without echo.
fn read_token(
    args: &LoginArgs,
    from_stdin: bool,
    url: &ServerUrl,
    printer: Printer,
) -> Result<Secret, Failure> {
    let unreadable = |from: &str, e: &dyn std::fmt::Display| {
        Failure::usage("token_unreadable", format!("cannot read the token from {from}: {e}"))
    };
    if let Some(file) = &args.token_file {
        return value::from_file(file, printer).map_err(|e| unreadable(&file.display().to_string(), &e));
    }
    if from_stdin {
        return value::from_stdin(printer).map_err(|e| unreadable("standard input", &e));
    }
    if printer.interactive() {
        let text = rpassword::prompt_password(format!("Token for {url} (not shown): "))
            .map_err(|e| unreadable("the terminal", &e))?;
        return Ok(Secret::new(text.into_bytes()));
    }
    Err(Failure::usage("bad_usage", "no token, and no terminal to ask on")
        .hint(format!("orch login {url} - < FILE"))
        .hint(format!("orch login {url} --token-file FILE")))
}
