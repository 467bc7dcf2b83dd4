//! `orch logs RUN`: what the agent of a run has logged, harmless to a terminal.

use orch_manifests::RunId;
use orch_server::{Failure, Kind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Client, REPORT_LIMIT};
use crate::commands::run::{Next, RunEvent, RunResource, next_events};
use crate::printer::Printer;
use crate::wire::broken_pipe;

/// How many times a stream that broke is taken up again in a row.
const TRIES: u32 = 5;
/// Events that are asked for at once: as many as a server gives.
const PAGE: u64 = 1000;
/// Pages in a row without a word of the log: a run tells other things as well, and no run tells a hundred thousand.
const SILENT_PAGES: u32 = 100;

#[derive(Deserialize)]
struct Runs {
    runs: Vec<RunResource>,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Logged>,
    #[serde(default)]
    next: Option<u64>,
}

/// An event with what a log has of it. What else a server sends is dropped as it is read, or it could send anything.
#[derive(Deserialize, Serialize)]
struct Logged {
    seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    kind: String,
    text: String,
}

impl Logged {
    /// What it takes of this process's memory.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.time.as_ref().map_or(0, String::len) + self.kind.len() + self.text.len()
    }
}

/// Shows the log of a run, or of the newest one.
///
/// # Errors
/// When there is no such run, or the server says what it should not.
pub(super) async fn show(
    client: &Client,
    run: Option<RunId>,
    goes_on: bool,
    printer: Printer,
) -> Result<(), Failure> {
    let run = match run {
        Some(run) => run,
        None => newest(client).await?,
    };
    let mut lines = Lines { printer, open: false };
    let shown =
        if goes_on { follow(client, &run, &mut lines).await } else { all(client, &run, &mut lines).await };
    lines.end()?;
    shown
}

async fn newest(client: &Client) -> Result<RunId, Failure> {
    let runs: Runs = client.get("/v1/runs?limit=1").await?;
    runs.runs.into_iter().next().map(|run| run.id).ok_or_else(|| {
        Failure::usage("run_not_found", format!("there is no run at {} yet", client.name()))
            .hint("runs with --local are not kept")
    })
}

/// What has been logged by now.
async fn all(client: &Client, run: &RunId, lines: &mut Lines) -> Result<(), Failure> {
    let mut after = 0;
    let (mut events, mut bytes, mut silent) = (Vec::new(), 0, 0);
    let wrong = |what: &str| client.unexpected("GET /v1/logs", what);
    loop {
        let page: Page = client.get(&format!("/v1/logs?run={run}&after={after}&limit={PAGE}")).await?;
        let empty = page.events.is_empty();
        silent = if page.events.iter().all(|event| event.text.is_empty()) { silent + 1 } else { 0 };
        for event in page.events {
            if lines.printer.json() {
                bytes += event.bytes();
                if bytes > REPORT_LIMIT {
                    return Err(wrong(&format!("a log of more than {} MiB", REPORT_LIMIT >> 20)));
                }
                events.push(event);
            } else {
                lines.piece(&event.text)?;
            }
        }
        let Some(next) = page.next else { break };
        let step = next.checked_sub(after).filter(|step| empty || *step > 0);
        match step {
            None => return Err(wrong("pages of a log that lead back to where they were")),
            // Of a run that goes on there is always a next page; this was all that there is by now.
            Some(step) if empty && step < PAGE => break,
            Some(_) if silent >= SILENT_PAGES => {
                return Err(wrong("page after page without a word of a log"));
            }
            Some(_) => after = next,
        }
    }
    if lines.printer.json() {
        lines.printer.result_json(&json!({ "run": run.as_str(), "events": events })).or_else(broken_pipe)?;
    }
    Ok(())
}

/// What is logged until the run has ended; with `--json` a line for each event.
async fn follow(client: &Client, run: &RunId, lines: &mut Lines) -> Result<(), Failure> {
    let (mut after, mut tries) = (0, 0);
    loop {
        let from = (after > 0).then(|| after.to_string());
        let mut events = client.events(&format!("/v1/runs/{run}/events"), from.as_deref()).await?;
        let why = loop {
            match next_events(&mut events, client).await? {
                Next::End(_) => return Ok(()),
                Next::Broken(why) => break why,
                Next::Event(event) if event.seq > after => {
                    (after, tries) = (event.seq, 0);
                    match event.kind.as_str() {
                        "log" => lines.event(&event)?,
                        "decision" => lines.decision(&event)?,
                        _ => {}
                    }
                }
                Next::Event(_) => {}
            }
        };
        tries += 1;
        if tries > TRIES {
            return Err(Failure::new(
                Kind::Server,
                "server_unreachable",
                format!("lost {}: {why}", client.name()),
            ));
        }
    }
}

/// A decision for a person; none when it is not one.
fn in_words(decision: &str) -> Option<String> {
    let decision: Value = serde_json::from_str(decision).ok()?;
    let text = |field: &str| decision.get(field).and_then(Value::as_str);
    let mut words = format!("{}: {} ", text("verdict")?, text("method")?);
    if let Some(scheme) = text("scheme") {
        words.push_str(&format!("{scheme}://"));
    }
    words.push_str(text("host")?);
    words.push_str(text("path").unwrap_or_default());
    if let Some(status) = decision.get("status").and_then(Value::as_u64) {
        words.push_str(&format!(" answered {status}"));
    }
    if let Some(reason) = decision.get("reason").and_then(|reason| reason.get("text")).and_then(Value::as_str)
    {
        words.push_str(&format!(" ({reason})"));
    }
    Some(words)
}

/// The log on standard output: it is this command's result.
struct Lines {
    printer: Printer,
    /// Whether the last piece did not end its line.
    open: bool,
}

impl Lines {
    fn event(&mut self, event: &RunEvent) -> Result<(), Failure> {
        if self.printer.json() {
            let RunEvent { seq, kind, text } = event;
            return self
                .printer
                .result_json(&json!({ "seq": seq, "kind": kind, "text": text }))
                .or_else(broken_pipe);
        }
        self.piece(&event.text)
    }

    /// What the proxy decided, beside the log: on standard error, or as a line of JSON.
    fn decision(&mut self, event: &RunEvent) -> Result<(), Failure> {
        if self.printer.json() {
            return self.event(event);
        }
        if let Some(words) = in_words(&event.text) {
            self.printer.note(&words);
        }
        Ok(())
    }

    fn piece(&mut self, text: &str) -> Result<(), Failure> {
        if let Some(last) = text.chars().next_back() {
            self.open = last != '\n';
        }
        self.printer.stream(text).or_else(broken_pipe)
    }

    /// Ends a line that the agent left open.
    fn end(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.open) { self.printer.stream("\n").or_else(broken_pipe) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
