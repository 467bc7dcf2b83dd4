//! `orch byok policy`: whose keys serve the members of a workspace.

use orch_server::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::PolicyOfTeamArgs;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe, with_client};

const PATH: &str = "/v1/byok";

#[derive(Deserialize)]
struct Policy {
    workspace: String,
    policy: String,
    decided_by: String,
    platform: Vec<String>,
}

pub(super) fn run(here: &Installation, args: &PolicyOfTeamArgs, printer: Printer) -> Result<(), Failure> {
    let (answer, policy) = with_client(here, async |client| {
        let answer: Value = match (&args.policy, args.reset) {
            (Some(policy), _) => client.put(PATH, json!({ "policy": policy }).to_string().into()).await?,
            (None, true) => client.delete(PATH).await?,
            (None, false) => client.get(PATH).await?,
        };
        let policy: Policy = client.typed("GET /v1/byok", answer.clone())?;
        Ok((answer, policy))
    })?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let Policy { workspace, policy, decided_by, platform } = policy;
    let by = match decided_by.as_str() {
        "server" => "the server's configuration says so of it",
        "workspace" => "the workspace says so",
        _ => "neither it nor anybody for it has said otherwise",
    };
    let mut lines = vec![format!("{workspace}: {policy} ({by})"), meaning(&policy).to_owned()];
    lines.push(match platform.as_slice() {
        [] => "The server's operator lends no keys.".to_owned(),
        lent => format!("The server's operator lends keys for {}.", lent.join(", ")),
    });
    printer.result(&lines.join("\n")).or_else(broken_pipe)
}

fn meaning(policy: &str) -> &'static str {
    match policy {
        "disabled" => "The platform's keys alone serve.",
        "prefer_team" => {
            "The team's keys serve, else the platform's; a member's own where the request asks for that."
        }
        "require_team" => "The team's keys alone serve.",
        "prefer_own" => {
            "A member's own keys serve where there are any, else the team's, else the platform's."
        }
        _ => "This orch does not know that policy.",
    }
}
