//! `orch secrets grants`: where secrets may go, and for whom.

use orch_manifests::MicroUsd;
use orch_server::Failure;
use orch_server::secrets::{GrantSaid, grant_id, secret_name};
use serde_json::{Value, json};

use super::Keeping;
use super::row::{GrantRow, Row};
use super::said::grants;
use crate::args::{AddGrantArgs, GrantsArgs, GrantsCommand, RmGrantArgs};
use crate::moment;
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe};

pub(super) fn run<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: GrantsArgs,
    printer: Printer,
) -> Result<(), Failure> {
    match args.command {
        None => list(here, find, args.name.as_deref(), printer),
        Some(GrantsCommand::Add(args)) => add(here, find, &args, printer),
        Some(GrantsCommand::Rm(args)) => rm(here, find, &args, printer),
    }
}

fn list<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    name: Option<&str>,
    printer: Printer,
) -> Result<(), Failure> {
    let name = name.map(|name| secret_name(name, &here.catalog)).transpose()?;
    let keeping = find()?;
    let mut listing = keeping.listing()?;
    let wanted = |row: &Value| name.as_ref().is_none_or(|name| row["name"] == name.as_str());
    if let Some(rows) = listing["secrets"].as_array_mut() {
        rows.retain(wanted);
    }
    let rows: Vec<Row> = keeping.typed("GET /v1/secrets", listing["secrets"].clone())?;
    if let (Some(name), []) = (&name, rows.as_slice()) {
        return Err(super::rm::missing(name));
    }
    if printer.json() {
        let mut all: Vec<Value> = Vec::new();
        for secret in listing["secrets"].as_array_mut().into_iter().flatten() {
            let name = secret["name"].clone();
            for grant in secret["grants"].as_array_mut().into_iter().flatten() {
                grant["name"] = name.clone();
                all.push(grant.take());
            }
        }
        return printer.result_json(&json!({ "grants": all })).or_else(broken_pipe);
    }
    if rows.iter().all(|row| row.grants.is_empty()) {
        for row in &rows {
            printer.note(&match &row.provider {
                Some(provider) => {
                    format!("{} goes to {} for every run; no grant bounds it", row.name, provider.host)
                }
                None => format!(
                    "{} may go nowhere yet: orch secrets grants add {} --host HOST",
                    row.name, row.name
                ),
            });
        }
        if rows.is_empty() {
            printer.note("the vault holds nothing; store a key with: orch secrets set OPENAI_API_KEY");
        }
        return Ok(());
    }
    printer.result(&harmless(&table(&rows).text())).or_else(broken_pipe)
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        ("secret", Side::Left),
        ("id", Side::Right),
        ("where", Side::Left),
        ("in", Side::Left),
        ("for", Side::Left),
        ("used", Side::Left),
        ("until", Side::Left),
    ]);
    for row in rows {
        for grant in &row.grants {
            let host = grant.host.as_deref().or(row.provider.as_ref().map(|provider| provider.host.as_str()));
            let mut place = host.unwrap_or_default().to_owned();
            if !grant.methods.is_empty() {
                place = format!("{} {place}", grant.methods.join(","));
            }
            if !grant.paths.is_empty() {
                place = format!("{place} {}", grant.paths.join(" "));
            }
            if !grant.account.is_empty() {
                place = format!("{place} and {}", grant.account.join(" "));
            }
            let agents = if grant.agents.is_empty() { "any".to_owned() } else { grant.agents.join(", ") };
            table.row([
                row.name.clone(),
                grant.id.to_string(),
                place,
                grant.place_text(),
                agents,
                used(grant),
                until(grant),
            ]);
        }
    }
    table
}

/// What a new grant means, in words.
fn meaning(grant: &GrantRow) -> String {
    let mut words = Vec::new();
    if let Some(host) = &grant.host {
        let place = grant.place.as_ref().map(|place| format!(", in {place}")).unwrap_or_default();
        words.push(format!("it may go to {host}{place}"));
    }
    if !grant.methods.is_empty() {
        words.push(format!("with {}", grant.methods.join(", ")));
    }
    if !grant.paths.is_empty() {
        words.push(format!("to {}", grant.paths.join(", ")));
    }
    if !grant.account.is_empty() {
        words.push(format!("beside model calls it may go with {}", grant.account.join(", ")));
    }
    if !grant.agents.is_empty() {
        words.push(format!("for {}", grant.agents.join(", ")));
    }
    match grant.runs {
        Some(1) => words.push("for 1 run".to_owned()),
        Some(most) => words.push(format!("for {most} runs")),
        None => {}
    }
    if let Some(most) = grant.max_cost_usd {
        words.push(format!("for up to {} USD", usd(most)));
    }
    if let Some(at) = &grant.expires {
        words.push(format!("until {at}"));
    }
    words.join(", ")
}

/// What of a grant was used, of how much.
fn used(grant: &GrantRow) -> String {
    let mut text = match grant.runs {
        Some(most) => format!("{} of {most} runs", grant.used.runs),
        None if grant.used.runs == 1 => "1 run".to_owned(),
        None => format!("{} runs", grant.used.runs),
    };
    match grant.max_cost_usd {
        Some(most) => text.push_str(&format!(", {} of {} USD", usd(grant.used.cost_usd), usd(most))),
        None if grant.used.cost_usd > 0.0 => text.push_str(&format!(", {} USD", usd(grant.used.cost_usd))),
        None => {}
    }
    text
}

/// Dollars as everything here writes them: with two to six decimals.
fn usd(dollars: f64) -> String {
    let exact = dollars.to_string().parse::<MicroUsd>();
    exact.map_or_else(|_| format!("{dollars:.6}"), |exact| exact.to_string())
}

fn until(grant: &GrantRow) -> String {
    match (&grant.spent, &grant.expires) {
        (Some(_), _) => "used up".to_owned(),
        // The day is enough; `--json` has the second.
        (None, Some(at)) => at.get(..10).unwrap_or(at).to_owned(),
        (None, None) => String::new(),
    }
}

fn add<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &AddGrantArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let name = secret_name(&args.name, &here.catalog)?;
    let expires = args.expires.as_deref().map(moment::from_now).transpose()?;
    let said = grants(&args.grants)?.unwrap_or_else(|| vec![GrantSaid::default()]);
    let checked = said.into_iter().map(|mut said| {
        said.expires = expires;
        said.check(&name, &here.catalog)
    });
    // All of them make sense before the first is given.
    let checked = checked.collect::<Result<Vec<_>, _>>()?;
    let keeping = find()?;
    let mut given = Vec::new();
    for terms in checked {
        given.push(keeping.grant(&name, terms)?["grant"].take());
    }
    if printer.json() {
        return printer.result_json(&json!({ "name": name.as_str(), "grants": given })).or_else(broken_pipe);
    }
    let given: Vec<GrantRow> = keeping.typed("POST /v1/secrets/{name}/grants", Value::Array(given))?;
    for grant in given {
        printer.note(&format!("grant {} of {name}: {}", grant.id, harmless(&meaning(&grant))));
    }
    Ok(())
}

fn rm<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &RmGrantArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let name = secret_name(&args.name, &here.catalog)?;
    let id = grant_id(&args.id)?;
    let keeping = find()?;
    let answer = keeping.remove_grant(&name, id)?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    printer.note(&format!("took back grant {id} of {name}"));
    if matches!(keeping, Keeping::Here(_)) {
        printer.note("runs under way on this machine keep what they were let");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_money_is_not_nothing() {
        for (dollars, text) in
            [(0.0, "0.00"), (0.5, "0.50"), (0.000_001, "0.000001"), (0.001, "0.001"), (12.0, "12.00")]
        {
            assert_eq!(usd(dollars), text);
        }
    }

    #[test]
    fn a_new_grant_says_what_it_means() {
        let grant = |text: &str| serde_json::from_str::<GrantRow>(text).expect("a grant");
        let key = grant(
            r#"{"id":1,"host":null,"methods":[],"paths":[],"place":null,"agents":["acme/x"],"runs":1,
                "max_cost_usd":0.001,"expires":"2090-01-31T12:00:00Z","used":{"runs":0,"cost_usd":0.0},"spent":null}"#,
        );
        assert_eq!(meaning(&key), "for acme/x, for 1 run, for up to 0.001 USD, until 2090-01-31T12:00:00Z");
        let token = grant(
            r#"{"id":2,"host":"a.example","methods":["GET"],"paths":["/v1/**"],"place":{"query":"key"},"agents":[],
                "runs":null,"max_cost_usd":null,"expires":null,"used":{"runs":0,"cost_usd":0.0},"spent":null}"#,
        );
        assert_eq!(meaning(&token), "it may go to a.example, in query:key, with GET, to /v1/**");
    }
    use crate::commands::secrets::row::Used;
    use orch_vault::ValuePlace;

    #[test]
    fn grants_are_a_table() {
        let rows: Vec<Row> = serde_json::from_value(json!([
            { "name": "GITHUB_TOKEN", "version": 1, "mask": null, "updated": "", "expires": null, "expired": false,
              "last_used": null, "provider": null, "scrubbable": true, "never_in_header": false, "grants": [
                { "id": 1, "host": "api.github.com", "methods": ["GET"], "paths": ["/repos/**"],
                  "place": { "header": "authorization" }, "agents": ["acme/x", "acme/y"], "runs": 10,
                  "max_cost_usd": null, "expires": null, "used": { "runs": 2, "cost_usd": 0.0 }, "spent": null },
                { "id": 3, "host": "*.github.io", "methods": [], "paths": [], "place": { "query": "key" },
                  "agents": [], "runs": null, "max_cost_usd": null, "expires": "2027-01-31T12:00:00Z",
                  "used": { "runs": 1, "cost_usd": 0.0 }, "spent": null }] },
            { "name": "OPENAI_API_KEY", "version": 1, "mask": null, "updated": "", "expires": null, "expired": false,
              "last_used": null, "provider": { "name": "openai", "host": "api.openai.com" }, "scrubbable": true,
              "never_in_header": false, "grants": [
                { "id": 1, "host": null, "methods": [], "paths": [], "place": null, "agents": ["acme/x"], "runs": null,
                  "max_cost_usd": 5.0, "expires": null, "used": { "runs": 7, "cost_usd": 5.01 }, "spent": "so" }] },
        ]))
        .expect("the contract's words");
        insta::assert_snapshot!(table(&rows).text(), @r"
        secret          id  where                         in                    for             used                      until
        GITHUB_TOKEN     1  GET api.github.com /repos/**  header:authorization  acme/x, acme/y  2 of 10 runs
        GITHUB_TOKEN     3  *.github.io                   query:key             any             1 run                     2027-01-31
        OPENAI_API_KEY   1  api.openai.com                                      acme/x          7 runs, 5.01 of 5.00 USD  used up
        ");
        let bounded = GrantRow {
            place: Some(ValuePlace::Query("key".to_owned())),
            used: Used { runs: 1, cost_usd: 0.5 },
            ..rows.into_iter().next().expect("a row").grants.remove(1)
        };
        assert_eq!(
            (used(&bounded).as_str(), bounded.place_text().as_str()),
            ("1 run, 0.50 USD", "query:key")
        );
    }
}
