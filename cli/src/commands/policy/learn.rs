//! `orch policy learn`: the egress section that would have allowed what a run, or a client of `orch proxy`, asked for.

use std::path::Path;
use std::process::ExitCode;

use orch_manifests::RunId;
use orch_server::{Failure, LocalDecisions};
use serde::Deserialize;
use serde_json::{Value, json};

use super::read_text;
use crate::args::LearnArgs;
use crate::client::Client;
use crate::printer::{Printer, harmless};
use crate::wire::{Installation, broken_pipe, with_client};

mod asked;
mod cover;
mod log;
mod section;

use asked::Record;
use section::Section;

/// Decisions that are asked for at once.
const PAGE: u64 = 1000;
/// The most that any server keeps of a run, and some more.
const MOST_DECISIONS: usize = 10_000;
/// Largest result of a run that is read, in bytes.
const RESULT_LIMIT: u64 = 256 << 20;

pub(super) fn run(args: &LearnArgs, printer: Printer) -> Result<ExitCode, Failure> {
    match (&args.log, &args.run) {
        (Some(log), run) => of_log(log, run.as_deref(), printer),
        (None, Some(run)) => of_source(&source(run)?, printer),
        (None, None) => Err(Failure::usage("bad_usage", "a run is wanted, or --log FILE")),
    }
}

fn run_id(text: &str) -> Result<RunId, Failure> {
    text.parse().map_err(|e: orch_manifests::IdentityError| {
        Failure::usage("bad_usage", e.to_string())
            .hint("the run's id is `run_id` in what `orch run --json` prints")
    })
}

fn source(run: &str) -> Result<Source, Failure> {
    match run.strip_prefix('@') {
        Some(file) => of_result(&read_text(Path::new(file), RESULT_LIMIT, "the result of the run")?, file),
        None => of_run(&run_id(run)?),
    }
}

fn of_source(source: &Source, printer: Printer) -> Result<ExitCode, Failure> {
    let section = Section::learned(&Record::of(&source.decisions));
    say(&section, &source.name, json!({ "run": source.name, "complete": source.complete }), printer)?;
    if !source.complete {
        printer
            .warn("the record of this run is not complete: it may have asked for more than what is listed");
    }
    Ok(ExitCode::SUCCESS)
}

fn of_log(file: &Path, run: Option<&str>, printer: Printer) -> Result<ExitCode, Failure> {
    let run = run.map(run_id).transpose()?;
    let log = log::read(file, run.as_ref())?;
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let name = run.as_ref().map_or_else(|| name.clone(), |run| format!("{run} in {name}"));
    let more = json!({ "log": file, "run": run, "skipped": log.skipped, "complete": log.complete });
    say(&Section::learned(&log.record), &name, more, printer)?;
    if log.skipped > 0 {
        let lines = if log.skipped == 1 { "line" } else { "lines" };
        printer.note(&format!("{} other {lines} of the log were passed over", log.skipped));
    }
    if !log.complete {
        printer.warn("this log is not complete: more may have been asked for than what is listed");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what was learned `from` somewhere; `more` are fields beside it for a program.
fn say(section: &Section, from: &str, more: Value, printer: Printer) -> Result<(), Failure> {
    if printer.json() {
        let mut answer = section.json();
        if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
            answer.extend(more);
        }
        printer.result_json(&answer).or_else(broken_pipe)
    } else {
        printer.result(&harmless(&section.text(from))).or_else(broken_pipe)
    }
}

/// What is on record of a run.
struct Source {
    name: String,
    decisions: Vec<Value>,
    /// Whether that is all that the run asked for.
    complete: bool,
}

/// A page of a run's decisions.
#[derive(Deserialize)]
struct Page {
    status: String,
    decisions: Vec<Value>,
    #[serde(default)]
    next: Option<u64>,
}

/// A run of this home without a server, else one of the server that commands go to.
fn of_run(run: &RunId) -> Result<Source, Failure> {
    let here = Installation::open()?;
    if let Some(kept) = LocalDecisions::load(&here.home, run)? {
        let complete = complete(&kept.decisions);
        return Ok(Source { name: format!("{run} ({})", kept.agent), decisions: kept.decisions, complete });
    }
    with_client(&here, async |client| of_server(client, run).await)
}

async fn of_server(client: &Client, run: &RunId) -> Result<Source, Failure> {
    let mut decisions = Vec::new();
    let mut after = 0;
    loop {
        let path = format!("/v1/runs/{run}/decisions?after={after}&limit={PAGE}");
        let page: Page = client.get(&path).await.map_err(|failure| match failure.code() {
            "run_not_found" => failure.hint(
                "of runs with --local the newest 50 that made requests are on record, in the home where they ran",
            ),
            _ => failure,
        })?;
        if matches!(page.status.as_str(), "queued" | "running") {
            return Err(Failure::usage(
                "run_not_ended",
                format!("{run} is {}: what was decided is on record when it has ended", page.status),
            )
            .hint(format!("orch logs {run} --follow")));
        }
        decisions.extend(page.decisions);
        match page.next {
            None => break,
            Some(next) if next > after && decisions.len() <= MOST_DECISIONS => after = next,
            Some(_) => {
                return Err(
                    client.unexpected("GET /v1/runs/…/decisions", "pages of decisions without an end")
                );
            }
        }
    }
    let complete = complete(&decisions);
    Ok(Source { name: run.to_string(), decisions, complete })
}

/// What a run printed: its report, or the error that holds it.
fn of_result(text: &str, label: &str) -> Result<Source, Failure> {
    let wrong = |why: &str| {
        Failure::usage("result_invalid", format!("{label}: {why}"))
            .hint("orch run --json … > result.json 2> error.json; orch policy learn @result.json")
    };
    let value: Value = serde_json::from_str(text.trim()).map_err(|e| wrong(&format!("is not JSON: {e}")))?;
    let report = if value["egress"].is_object() { &value } else { &value["error"]["details"]["run"] };
    let egress = report["egress"].as_object().ok_or_else(|| wrong("is not the result of a run"))?;
    let list = |of: Option<&Value>| of.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut decisions = list(egress.get("denied"));
    let allowed = egress.get("allowed").and_then(Value::as_u64).unwrap_or_default();
    let trial = list(egress.get("trial").and_then(|trial| trial.get("would_deny")));
    // A result lists what was refused, a hundred at most, and of what was allowed only what a trial would refuse.
    let complete = allowed == trial.len() as u64 && decisions.len() < 100;
    decisions.extend(trial);
    Ok(Source { name: report["run_id"].as_str().unwrap_or(label).to_owned(), decisions, complete })
}

/// Whether a record can be all of a run: a ledger keeps the first 512 of each outcome, a store the first 1000 in all.
fn complete(decisions: &[Value]) -> bool {
    let of = |verdict: &str| decisions.iter().filter(|decision| decision["verdict"] == verdict).count();
    decisions.len() < 1000 && ["allowed", "denied", "failed"].into_iter().all(|verdict| of(verdict) < 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_a_report_or_the_error_that_holds_one() {
        let denied = json!({ "host": "a.example.com", "verdict": "denied" });
        let report = json!({ "run_id": "run_x", "egress": { "allowed": 0, "denied": [denied] } });
        for value in [report.clone(), json!({ "error": { "code": "denied", "details": { "run": report } } })]
        {
            let source = of_result(&value.to_string(), "x.json").expect("a result");
            assert_eq!((source.name.as_str(), source.decisions.len(), source.complete), ("run_x", 1, true));
        }
        let more = json!({ "run_id": "run_x", "egress": { "allowed": 3, "denied": [] } });
        assert!(!of_result(&more.to_string(), "x").expect("a result").complete);
        for bad in ["", "x", "{}", "[]", "{\"egress\":[]}", "{\"error\":{}}"] {
            assert_eq!(of_result(bad, "x.json").err().expect(bad).code(), "result_invalid");
        }
    }

    #[test]
    fn a_full_record_is_not_taken_for_all_of_a_run() {
        let of = |count: usize, verdict: &str| vec![json!({ "verdict": verdict }); count];
        assert!(complete(&of(511, "denied")));
        assert!(!complete(&of(512, "denied")));
        let mixed: Vec<Value> = of(500, "denied").into_iter().chain(of(500, "allowed")).collect();
        assert!(!complete(&mixed));
    }
}
