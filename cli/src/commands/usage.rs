//! `orch usage`: runs, tokens and costs, added up.

use std::process::ExitCode;

use orch_server::Failure;
use orch_server::records::usage_csv;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use url::form_urlencoded::Serializer;

use super::budgets::Budget;
use crate::args::{By, UsageArgs};
use crate::moment::{ago, written};
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe, with_client};

#[derive(Deserialize)]
struct Usage {
    rows: Vec<Row>,
    #[serde(default)]
    total: Option<Row>,
    #[serde(default)]
    budgets: Vec<Budget>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    name: Option<String>,
    runs: u64,
    calls: u64,
    /// Left out by servers before it was known, as is what the operator's keys paid for.
    #[serde(default)]
    failed: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost_usd: Option<f64>,
    #[serde(default)]
    platform_cost_usd: f64,
}

pub(crate) fn run(args: &UsageArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    if args.csv && printer.json() {
        return Err(Failure::usage(
            "bad_usage",
            "--csv and --json are two forms of the same: say one of them",
        ));
    }
    let path = path(args, OffsetDateTime::now_utc())?;
    with_client(&here, async |client| {
        let answer: Value = client.get(&path).await?;
        if printer.json() {
            return printer.result_json(&answer).or_else(broken_pipe);
        }
        if args.csv {
            let rows = answer["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
            return printer.table(usage_csv(args.by.word(), rows).text()).or_else(broken_pipe);
        }
        let usage: Usage = client.typed("GET /v1/usage", answer)?;
        let budgets = if usage.budgets.is_empty() {
            String::new()
        } else {
            format!("\n{}", budgets(&usage.budgets).text())
        };
        let text = format!("{}{budgets}", table(usage, args.by).text());
        printer.result(&harmless(&text)).or_else(broken_pipe)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn path(args: &UsageArgs, now: OffsetDateTime) -> Result<String, Failure> {
    let mut query = Serializer::new(String::new());
    for (name, said) in [("since", &args.since), ("until", &args.until)] {
        if let Some(text) = said {
            query.append_pair(name, &written(ago(name, text, now)?));
        }
    }
    query.append_pair("by", args.by.word());
    if let Some(workspace) = &args.workspace {
        query.append_pair("workspace", workspace);
    }
    Ok(format!("/v1/usage?{}", query.finish()))
}

fn table(usage: Usage, by: By) -> Table {
    let mut table = Table::new(&[
        (by.word(), Side::Left),
        ("runs", Side::Right),
        ("calls", Side::Right),
        ("failed", Side::Right),
        ("tokens in", Side::Right),
        ("tokens out", Side::Right),
        ("cost in USD", Side::Right),
        ("of it platform", Side::Right),
    ]);
    let rows = usage.rows.into_iter().map(|row| {
        let key = row.key.clone().filter(|key| !key.is_empty()).unwrap_or_else(|| "–".to_owned());
        let named = row.name.as_ref().map(|name| format!("{name} ({key})"));
        (named.unwrap_or(key), row)
    });
    for (key, row) in rows.chain(usage.total.map(|row| ("total".to_owned(), row))) {
        let numbers =
            [row.runs, row.calls, row.failed, row.input_tokens, row.output_tokens].map(|n| n.to_string());
        let cost = row.cost_usd.map_or_else(|| "unknown".to_owned(), |cost| format!("{cost:.4}"));
        let platform = match row.platform_cost_usd {
            cost if cost > 0.0 => format!("{cost:.4}"),
            _ => "–".to_owned(),
        };
        table.row([key].into_iter().chain(numbers).chain([cost, platform]));
    }
    table
}

/// What is spent of each budget, and set aside for calls under way.
fn budgets(all: &[Budget]) -> Table {
    let mut table = Table::new(&[
        ("budget", Side::Left),
        ("of", Side::Left),
        ("window", Side::Left),
        ("tokens", Side::Right),
        ("cost in USD", Side::Right),
        ("renews", Side::Left),
    ]);
    for budget in all {
        let of =
            budget.of.as_ref().map_or_else(|| budget.scope.clone(), |of| format!("{} {of}", budget.scope));
        let tokens = budget.used.tokens.saturating_add(budget.held.tokens);
        let tokens = budget.tokens.map_or_else(|| "–".to_owned(), |limit| format!("{tokens} of {limit}"));
        let cost = budget.used.cost_usd + budget.held.cost_usd;
        let cost = budget.cost_usd.map_or_else(|| "–".to_owned(), |limit| format!("{cost:.4} of {limit:.4}"));
        let renews = budget.renews_at.clone().unwrap_or_else(|| "never".to_owned());
        table.row([budget.name.clone(), of, budget.window.clone(), tokens, cost, renews]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn the_path_says_from_when_on() {
        let now = datetime!(2026-02-08 12:00:00.5 UTC);
        let args = UsageArgs {
            since: Some("2026-01-31T10:00:00+02:00".to_owned()),
            until: None,
            by: By::Model,
            workspace: None,
            csv: false,
        };
        assert_eq!(
            path(&args, now).expect("a path"),
            "/v1/usage?since=2026-01-31T10%3A00%3A00%2B02%3A00&by=model"
        );
    }

    #[test]
    fn usage_is_a_table_with_a_total() {
        let usage: Usage = serde_json::from_value(serde_json::json!({
            "rows": [
                { "key": "gpt-4o-mini", "runs": 12, "calls": 30, "failed": 2, "platform_cost_usd": 0.01, "input_tokens": 12345, "output_tokens": 678, "cost_usd": 0.0123 },
                { "key": null, "runs": 1, "calls": 1, "input_tokens": 1, "output_tokens": 2, "cost_usd": null },
            ],
            "total": { "runs": 13, "calls": 31, "input_tokens": 12346, "output_tokens": 680, "cost_usd": null },
        }))
        .expect("the contract's words");
        insta::assert_snapshot!(table(usage, By::Model).text(), @r"
        model        runs  calls  failed  tokens in  tokens out  cost in USD  of it platform
        gpt-4o-mini    12     30       2      12345         678       0.0123          0.0100
        –               1      1       0          1           2      unknown               –
        total          13     31       0      12346         680      unknown               –
        ");
    }
}
