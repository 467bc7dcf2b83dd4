//! `orch providers check`: a provider is asked for real, through the gateway and the proxy that serve runs.

use std::process::ExitCode;

use orch_server::conformance::{Asked, Conformance, Conformed, Finding, Verdict};
use orch_server::{Failure, flag_key};
use orch_vault::FlagKey;

use crate::args::ConformArgs;
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::value;
use crate::wire::{Installation, broken_pipe, runtime};

mod all;

pub(super) fn run(args: &ConformArgs, here: &Installation, printer: Printer) -> Result<ExitCode, Failure> {
    let Some(provider) = &args.provider else { return all::run(here, printer) };
    let keys = keys(args, here, printer)?;
    let asked = Asked { provider, model: args.model.as_deref(), keys: &keys };
    let conformed = runtime()?.block_on(async {
        let conformance = Conformance::prepare(&here.config, &here.catalog, &here.key_sources(), &asked)?;
        // The vault is closed by now.
        conformance.record_use(&here.vault)?;
        printer.note(&announced(&conformance));
        Ok::<_, Failure>(done(conformance, printer).await)
    })?;
    let failure = conformed.failure();
    if printer.json() {
        // An error is all that is said then: it has the findings.
        if let Some(failure) = failure {
            return Err(failure);
        }
        let value = serde_json::to_value(&conformed)
            .map_err(|e| Failure::defect(format!("the findings cannot be written as JSON: {e}")))?;
        printer.result_json(&value).or_else(broken_pipe)?;
    } else {
        printer.result(&harmless(&table(&conformed).text())).or_else(broken_pipe)?;
        if let Some(cost) = conformed.cost_usd {
            printer.note(&format!("it cost ${cost:.6}"));
        }
    }
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// What came of it, while the terminal shows where it is.
async fn done(conformance: Conformance, printer: Printer) -> Conformed {
    let provider = conformance.provider().to_owned();
    let mut found =
        |finding: &Finding| printer.status(&format!("{provider}: {} …", finding.check.in_words()));
    let conformed = conformance.run(&mut found).await;
    printer.erase_status();
    conformed
}

/// What is about to be done, and what it costs at most.
fn announced(conformance: &Conformance) -> String {
    let (requests, most) = conformance.most();
    let cost = match most.map(|most| most.micros()) {
        None => format!(
            "each with {} tokens of answer at most, at a price that the catalog does not know",
            conformance.bound()
        ),
        Some(0) => "which cost nothing".to_owned(),
        Some(micros) => format!("which cost {} at most", dollars(micros)),
    };
    format!("asking {} as {}: {requests} requests, {cost}", conformance.provider(), conformance.model())
}

/// Millionths of a dollar, to the last of them.
fn dollars(micros: u64) -> String {
    format!("${}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn keys(args: &ConformArgs, here: &Installation, printer: Printer) -> Result<Vec<FlagKey>, Failure> {
    if let Some(file) = &args.key_file {
        let secret = value::from_file(file, printer)
            .map_err(|e| Failure::file("key_unreadable", "read the key in", file, &e))?;
        return Ok(vec![FlagKey { provider: None, secret }]);
    }
    if args.key_stdin {
        let secret = value::from_stdin(printer).map_err(|e| {
            Failure::usage("key_unreadable", format!("cannot read the key from standard input: {e}"))
        })?;
        return Ok(vec![FlagKey { provider: None, secret }]);
    }
    let Some(key) = &args.key else { return Ok(Vec::new()) };
    printer.warn("a key on the command line stays in the shell's history and shows in the process list");
    Ok(vec![flag_key(key.secret(), &here.catalog)?])
}

fn table(conformed: &Conformed) -> Table {
    let columns =
        [("check", Side::Left), ("result", Side::Left), ("ms", Side::Right), ("detail", Side::Left)];
    let mut table = Table::new(&columns);
    for finding in &conformed.checks {
        let ms = if finding.latency_ms == 0 { String::new() } else { finding.latency_ms.to_string() };
        let check = finding.check.in_words().to_owned();
        table.row([check, word(finding.result).to_owned(), ms, finding.detail.clone()]);
    }
    table
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
        Verdict::Skipped => "skipped",
    }
}
