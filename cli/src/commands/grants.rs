//! `orch grants`: answers that last. Those of runs with `--local` are in a file of this home, and so is every "never"; what
//! was granted to runs of a server is in its store.

use std::process::ExitCode;

use orch_manifests::{AgentName, Digest};
use orch_server::{Failure, Lasting, Remembered, RememberedAnswer, Whose};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::args::{ForgetArgs, LastingCommand, ListAnswersArgs};
use crate::client::Client;
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe, with_client};

/// Characters of a digest that are shown to a person, who can paste them.
const SHOWN: usize = "sha256:".len() + 16;

/// An answer, and where it is kept.
#[derive(Serialize)]
struct Kept {
    #[serde(flatten)]
    answer: RememberedAnswer,
    kept: &'static str,
}

/// What a workspace's owner granted.
#[derive(Deserialize)]
struct Grants {
    grants: Vec<Grant>,
}

#[derive(Deserialize)]
struct Grant {
    agent: AgentName,
    digest: Digest,
    capabilities: Vec<String>,
}

pub(crate) fn run(command: &LastingCommand, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    match command {
        LastingCommand::List(args) => list(args, &here, printer),
        LastingCommand::Rm(args) => forget(args, &here, printer),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListAnswersArgs, here: &Installation, printer: Printer) -> Result<(), Failure> {
    let mut all = kept_here(Remembered::load(&here.home.grants_file())?.answers());
    if !args.local {
        all.extend(with_client(here, of_server).map_err(only_here)?);
    }
    say("grants", &all, printer)
}

fn forget(args: &ForgetArgs, here: &Installation, printer: Printer) -> Result<(), Failure> {
    let whose: Whose = args.whose.parse()?;
    let mut all = Vec::new();
    if !args.local {
        let removed = with_client(here, async |client| {
            let mut removed = of_server(client).await?;
            removed.retain(|kept| whose.means(&kept.answer.agent, &kept.answer.digest));
            for kept in &removed {
                client.delete::<Value>(&format!("/v1/grants/{}", kept.answer.digest)).await?;
            }
            Ok(removed)
        });
        all.extend(removed.map_err(only_here)?);
    }
    all.extend(kept_here(Remembered::forget(&here.home, &here.vault, &whose)?));
    if all.is_empty() {
        let text = format!("nothing was granted or refused to {whose} for good");
        return Err(Failure::usage("grant_not_found", text).hint("orch grants list"));
    }
    say("removed", &all, printer)
}

fn kept_here(answers: Vec<RememberedAnswer>) -> Vec<Kept> {
    answers.into_iter().map(|answer| Kept { answer, kept: "here" }).collect()
}

/// What was granted at the server, or in the store of this home.
async fn of_server(client: &Client) -> Result<Vec<Kept>, Failure> {
    let Grants { grants } = client.get("/v1/grants").await?;
    let answer = |Grant { agent, digest, capabilities }| RememberedAnswer {
        agent,
        digest,
        answer: Lasting::Always,
        capabilities: capabilities.into_iter().collect(),
    };
    Ok(grants.into_iter().map(|grant| Kept { answer: answer(grant), kept: "server" }).collect())
}

fn only_here(failure: Failure) -> Failure {
    failure.hint("--local: only what is kept in this home, without the server")
}

fn say(what: &str, all: &[Kept], printer: Printer) -> Result<(), Failure> {
    if printer.json() {
        return printer.result_json(&json!({ what: all })).or_else(broken_pipe);
    }
    printer.result(&harmless(&table(all).text())).or_else(broken_pipe)
}

fn table(all: &[Kept]) -> Table {
    let columns = ["agent", "digest", "answer", "kept", "what it asked for"];
    let mut table = Table::new(&columns.map(|name| (name, Side::Left)));
    for Kept { answer, kept } in all {
        let digest: String = answer.digest.to_string().chars().take(SHOWN).collect();
        let word = match answer.answer {
            Lasting::Always => "always",
            Lasting::Never => "never",
        };
        let asked: Vec<&str> = answer.capabilities.iter().map(String::as_str).collect();
        table.row([answer.agent.to_string(), digest, word.to_owned(), (*kept).to_owned(), asked.join("; ")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_digest_says_which_is_meant() {
        let digest = Digest::of(b"x");
        let answer = RememberedAnswer {
            agent: "acme/x".parse().expect("a name"),
            digest,
            answer: Lasting::Never,
            capabilities: [String::from("talk to https://b (GET)"), String::from("talk to https://a (GET)")]
                .into(),
        };
        let text = table(&kept_here(vec![answer.clone()])).text();
        let shown: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!((shown[0], shown[2], shown[3]), ("acme/x", "never", "here"));
        assert!(shown[1].parse::<Whose>().expect("whose").means(&answer.agent, &digest));
        assert!(text.ends_with("talk to https://a (GET); talk to https://b (GET)"), "{text}");
    }
}
