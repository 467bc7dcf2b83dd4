//! `orch budgets`: what may be spent on models, and what of it is spent or held.

use std::process::ExitCode;

use bytes::Bytes;
use orch_server::Failure;
use serde::Deserialize;
use serde_json::Value;

use crate::args::{BudgetsCommand, ReleaseArgs};
use crate::client::Client;
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe, with_client};

#[derive(Deserialize)]
struct Budgets {
    budgets: Vec<Budget>,
}

/// A budget, and what it has come to.
#[derive(Deserialize)]
pub(super) struct Budget {
    pub(super) name: String,
    pub(super) scope: String,
    pub(super) of: Option<String>,
    pub(super) window: String,
    pub(super) renews_at: Option<String>,
    pub(super) tokens: Option<u64>,
    pub(super) cost_usd: Option<f64>,
    pub(super) used: Amount,
    pub(super) held: Amount,
}

#[derive(Deserialize)]
pub(super) struct Amount {
    pub(super) tokens: u64,
    pub(super) cost_usd: f64,
}

#[derive(Deserialize)]
struct Released {
    released: Amount,
}

pub(crate) fn run(command: &BudgetsCommand, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    with_client(&here, async |client| match command {
        BudgetsCommand::List => list(client, printer).await,
        BudgetsCommand::Release(args) => release(client, args, printer).await,
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, printer: Printer) -> Result<(), Failure> {
    let answer: Value = client.get("/v1/budgets").await?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let Budgets { budgets } = client.typed("GET /v1/budgets", answer)?;
    printer.result(&harmless(&table(&budgets).text())).or_else(broken_pipe)
}

async fn release(client: &Client, args: &ReleaseArgs, printer: Printer) -> Result<(), Failure> {
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if !plain(&args.name) || !args.workspace.as_deref().is_none_or(plain) {
        return Err(
            Failure::usage("bad_usage", "that is no name of a budget or workspace").hint("orch budgets list")
        );
    }
    let query = args.workspace.as_ref().map(|name| format!("?workspace={name}")).unwrap_or_default();
    let answer: Value =
        client.post(&format!("/v1/budgets/{}/release{query}", args.name), Bytes::new()).await?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let Released { released } = client.typed("POST /v1/budgets/{name}/release", answer)?;
    printer.note(&format!("released of {}: {}", args.name, amount(&released, false)));
    Ok(())
}

fn table(budgets: &[Budget]) -> Table {
    let columns = ["budget", "of", "window", "limit", "used", "held", "renews"];
    let mut table = Table::new(&columns.map(|name| (name, Side::Left)));
    for budget in budgets {
        let of = budget.of.as_ref().map(|of| format!(" {of}")).unwrap_or_default();
        let (tokens, cost) =
            (budget.tokens.map(|n| format!("{n} tokens")), budget.cost_usd.map(|n| format!("{n} USD")));
        let limit: Vec<String> = tokens.into_iter().chain(cost).collect();
        let money = budget.cost_usd.is_some() && budget.tokens.is_none();
        table.row([
            budget.name.clone(),
            format!("{}{of}", budget.scope),
            budget.window.clone(),
            limit.join(", "),
            amount(&budget.used, money),
            amount(&budget.held, money),
            budget.renews_at.clone().unwrap_or_else(|| "never".to_owned()),
        ]);
    }
    table
}

/// An amount in the units of its budget.
fn amount(amount: &Amount, money: bool) -> String {
    match money {
        true => format!("{} USD", amount.cost_usd),
        false => format!("{} tokens, {} USD", amount.tokens, amount.cost_usd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_budget_says_what_is_used_and_held() {
        let read: Budgets = serde_json::from_value(serde_json::json!({ "budgets": [
            { "name": "team", "scope": "workspace", "of": null, "window": "day", "renews_at": "2026-12-01T00:00:00Z",
              "set_by": "config", "tokens": 1000, "cost_usd": null, "used": { "tokens": 150, "cost_usd": 0.01 },
              "held": { "tokens": 20, "cost_usd": 0.0 } },
            { "name": "cents", "scope": "agent", "of": "acme/a", "window": "total", "renews_at": null, "set_by": "api",
              "tokens": null, "cost_usd": 0.5, "used": { "tokens": 1, "cost_usd": 0.25 },
              "held": { "tokens": 0, "cost_usd": 0.05 } },
        ]}))
        .expect("the contract's words");
        insta::assert_snapshot!(table(&read.budgets).text(), @r"
        budget  of            window  limit        used                  held              renews
        team    workspace     day     1000 tokens  150 tokens, 0.01 USD  20 tokens, 0 USD  2026-12-01T00:00:00Z
        cents   agent acme/a  total   0.5 USD      0.25 USD              0.05 USD          never
        ");
    }
}
