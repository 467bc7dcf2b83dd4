//! `orch routes`: logical model names.

use std::process::ExitCode;

use orch_server::Failure;
use serde::Deserialize;
use serde_json::Value;

use crate::args::RoutesCommand;
use crate::client::Client;
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe, with_client};

#[derive(Deserialize)]
struct Routes {
    routes: Vec<Route>,
}

#[derive(Deserialize)]
struct Route {
    name: String,
    owner: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    model: String,
    #[serde(default)]
    priority: Option<u16>,
    #[serde(default)]
    weight: Option<u16>,
    /// Whose keys serve it.
    #[serde(default)]
    whose: Option<String>,
}

pub(crate) fn run(command: &RoutesCommand, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    with_client(&here, async |client| match command {
        RoutesCommand::List => list(client, printer).await,
        RoutesCommand::Set(args) => {
            let body = serde_json::from_str::<Value>(&args.route).map_err(|e| {
                Failure::usage("bad_usage", format!("the route is not JSON: {e}")).hint(format!(
                    "orch routes set {} '{{\"targets\": [{{\"model\": \"gpt-4o\"}}]}}'",
                    args.name
                ))
            })?;
            let path = path(&args.name)?;
            let answer: Value = client.put(&path, body.to_string().into()).await?;
            done(&answer, &format!("{} leads there from the next call on", args.name), printer)
        }
        RoutesCommand::Rm(args) => {
            let answer: Value = client.delete(&path(&args.name)?).await?;
            done(&answer, &format!("removed {}", args.name), printer)
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The path of a route. What is no name of one would be another path.
fn path(name: &str) -> Result<String, Failure> {
    let name: orch_manifests::RouteName =
        name.parse().map_err(|e| Failure::usage("route_invalid", format!("{e}")))?;
    Ok(format!("/v1/routes/{name}"))
}

async fn list(client: &Client, printer: Printer) -> Result<(), Failure> {
    let answer: Value = client.get("/v1/routes").await?;
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let routes: Routes = client.typed("GET /v1/routes", answer)?;
    printer.result(&harmless(&table(&routes.routes).text())).or_else(broken_pipe)
}

fn done(answer: &Value, said: &str, printer: Printer) -> Result<(), Failure> {
    if printer.json() {
        return printer.result_json(answer).or_else(broken_pipe);
    }
    printer.note(said);
    Ok(())
}

fn table(routes: &[Route]) -> Table {
    let mut table = Table::new(&["route", "of", "leads to"].map(|name| (name, Side::Left)));
    for route in routes {
        let targets: Vec<String> = route.targets.iter().map(target).collect();
        table.row([route.name.clone(), route.owner.clone(), targets.join(", ")]);
    }
    table
}

fn target(target: &Target) -> String {
    let split = [("priority", target.priority), ("weight", target.weight)];
    let split = split.into_iter().filter_map(|(name, number)| Some(format!("{name} {}", number?)));
    let split: Vec<String> = split.chain(target.whose.iter().map(|whose| format!("{whose} key"))).collect();
    match split.is_empty() {
        true => target.model.clone(),
        false => format!("{} ({})", target.model, split.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_a_line_with_its_targets() {
        let routes: Routes = serde_json::from_value(serde_json::json!({ "routes": [
            { "name": "fast", "owner": "server", "targets": [{ "model": "gpt-4o-mini" }, { "model": "claude-3-haiku" }],
              "on": { "context_too_long": "stop", "refused_by_filter": "stop" } },
            { "name": "smart", "owner": "workspace", "targets": [
                { "model": "gpt-4o", "priority": 1, "weight": 3 },
                { "model": "gemini-2.5-flash", "priority": 2, "whose": "platform" }] },
        ]}))
        .expect("the contract's words");
        insta::assert_snapshot!(table(&routes.routes).text(), @r"
        route  of         leads to
        fast   server     gpt-4o-mini, claude-3-haiku
        smart  workspace  gpt-4o (priority 1, weight 3), gemini-2.5-flash (priority 2, platform key)
        ");
        assert!(path("../tokens").is_err() && path("smart").is_ok());
    }
}
