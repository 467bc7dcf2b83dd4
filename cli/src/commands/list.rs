//! `orch list`: the agents that can be run by name.

use std::process::ExitCode;

use orch_server::Failure;
use serde::Deserialize;
use serde_json::Value;

use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe, with_client};

#[derive(Deserialize)]
struct Agents {
    agents: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    name: String,
    latest: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    builtin: bool,
}

pub(crate) fn run(printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    with_client(&here, async |client| {
        let answer: Value = client.get("/v1/agents").await?;
        if printer.json() {
            return printer.result_json(&answer).or_else(broken_pipe);
        }
        let agents: Agents = client.typed("GET /v1/agents", answer)?;
        printer.result(&harmless(&table(agents.agents).text())).or_else(broken_pipe)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn table(agents: Vec<Line>) -> Table {
    let mut table = Table::new(&[
        ("agent", Side::Left),
        ("latest", Side::Left),
        ("from", Side::Left),
        ("description", Side::Left),
    ]);
    for line in agents {
        let from = if line.builtin { "orch" } else { "published" };
        table.row([line.name, line.latest, from.to_owned(), line.description.unwrap_or_default()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_a_table() {
        let agents: Agents = serde_json::from_value(serde_json::json!({ "agents": [
            { "name": "acme/mail-sorter", "latest": "1.10.0", "versions": 3, "description": "Sorts\nmail.", "builtin": false },
            { "name": "orch/summarizer", "latest": "0.1.0", "versions": 1, "description": null, "builtin": true },
        ]}))
        .expect("the contract's words");
        insta::assert_snapshot!(table(agents.agents).text(), @r"
        agent             latest  from       description
        acme/mail-sorter  1.10.0  published  Sorts mail.
        orch/summarizer   0.1.0   orch
        ");
    }
}
