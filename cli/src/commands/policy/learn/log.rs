//! A log of decisions: what `orch proxy` writes on stderr, or a server into `decisions.jsonl`; a JSON object on each line.
//!
//! Other lines stand between them and are passed over. A log may be of any length: it is read a line at a time, and what
//! is kept are different requests, of which there are only so many.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use orch_manifests::RunId;
use orch_server::Failure;
use serde_json::Value;

use super::asked::Record;
use crate::commands::proxy::NOT_LOGGED;

/// Longest line that is read as a decision, in bytes. They have a few kilobytes.
const LINE: u64 = 64 << 10;
/// Different requests and tunnels that are learned from.
const MOST_REQUESTS: usize = 10_000;

/// What a log says.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) record: Record,
    /// Lines that are no decisions, or another run's.
    pub(super) skipped: u64,
    /// Whether everything that was decided is in it, as far as it says, and was learned from.
    pub(super) complete: bool,
}

/// What a line is.
enum Line {
    Decision(Value),
    Other,
    /// Something that was decided is not in the log.
    Lost,
}

/// Reads a log; `-` is standard input. With a run, what was decided for it alone.
///
/// # Errors
/// When it cannot be read, or holds no decision of any kind: then it is another file.
pub(super) fn read(path: &Path, run: Option<&RunId>) -> Result<Log, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::file("file_unreadable", "read the log in", path, &error);
    let log = if path == Path::new("-") {
        lines(std::io::stdin().lock(), run)
    } else {
        lines(BufReader::new(File::open(path).map_err(unreadable)?), run)
    };
    let (log, decisions) = log.map_err(unreadable)?;
    if decisions > 0 {
        return Ok(log);
    }
    let text = format!("there is no decision in any of the {} lines of {}", log.skipped, path.display());
    Err(Failure::usage("log_without_decisions", text)
        .hint("orch proxy --log-decisions … 2> proxy.log; orch policy learn --log proxy.log")
        .hint("a server's log is decisions.jsonl in the data folder of its home"))
}

/// What the lines say, and how many of them are decisions of whomever.
fn lines(mut from: impl BufRead, run: Option<&RunId>) -> std::io::Result<(Log, u64)> {
    let mut log = Log { record: Record::default(), skipped: 0, complete: true };
    let (mut line, mut decisions) = (Vec::new(), 0);
    loop {
        line.clear();
        if from.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok((log, decisions));
        }
        let whole = line.ends_with(b"\n");
        if !whole && line.len() as u64 == LINE {
            from.skip_until(b'\n')?;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read_line(&line) {
            Line::Decision(decision) => {
                decisions += 1;
                let theirs = run.is_none_or(|run| decision["run"] == run.as_str());
                if !theirs {
                    log.skipped += 1;
                } else if log.record.size() < MOST_REQUESTS {
                    log.record.take(&decision);
                } else {
                    log.complete = false;
                }
            }
            Line::Other => log.skipped += 1,
            Line::Lost => {
                log.skipped += 1;
                log.complete = false;
            }
        }
    }
}

fn read_line(line: &[u8]) -> Line {
    let line = line.trim_ascii();
    match serde_json::from_slice::<Value>(line) {
        Ok(value) if is_decision(&value) => Line::Decision(value),
        Ok(_) => Line::Other,
        // The last line of a log that goes on, or of a disk that was full.
        Err(_) if line.starts_with(b"{") => Line::Lost,
        Err(_) if String::from_utf8_lossy(line).contains(NOT_LOGGED) => Line::Lost,
        Err(_) => Line::Other,
    }
}

/// Whether this is a decision as the proxy has it. A server's log holds nothing else, and says no `event`.
fn is_decision(value: &Value) -> bool {
    let named = value.get("event").is_none_or(|event| event == "decision");
    named && ["maker", "verdict", "method", "host", "run"].into_iter().all(|field| value[field].is_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::asked::tests::decided;
    use super::*;

    fn entry(run: &RunId, method: &str, url: &str, code: Option<&str>) -> Value {
        let mut decision = decided(method, url, code);
        decision["run"] = json!(run);
        decision
    }

    fn read(text: &str, run: Option<&RunId>) -> (Log, u64) {
        lines(text.as_bytes(), run).expect("bytes")
    }

    #[test]
    fn decisions_are_found_among_other_lines() {
        let run = RunId::random();
        let mut ours = entry(&run, "GET", "https://a.example.com/x", Some("host_not_allowed"));
        ours["event"] = json!("decision");
        let servers = entry(&run, "GET", "https://b.example.com/y", None);
        let refused = json!({ "event": "refused", "peer": "127.0.0.1:1", "code": "malformed_request" });
        let ended = json!({ "event": "tunnel_ended", "host": "c.example.com", "port": 443 });
        let mut imitated = ours.clone();
        imitated["event"] = json!("tunnel_ended");
        let text = format!(
            "orch: listening on http://127.0.0.1:3128\n\n{ours}\r\n{refused}\n{servers}\n{ended}\n{imitated}\n[1]\n\u{fffd}"
        );
        let (log, decisions) = read(&text, None);
        assert_eq!((decisions, log.skipped, log.complete), (2, 6, true), "{log:#?}");
        assert_eq!((log.record.requests, log.record.asked.len()), (2, 2));
    }

    #[test]
    fn only_one_runs_decisions_are_learned_from_when_it_is_named() {
        let (one, other) = (RunId::random(), RunId::random());
        let text = format!(
            "{}\n{}\n",
            entry(&one, "GET", "https://a.example.com/x", None),
            entry(&other, "GET", "https://b.example.com/x", None)
        );
        let (log, decisions) = read(&text, Some(&one));
        assert_eq!((decisions, log.skipped, log.record.requests), (2, 1, 1));
        assert_eq!(log.record.asked.keys().next().expect("an origin").host.as_str(), "a.example.com");
    }

    #[test]
    fn what_is_missing_from_a_log_is_noticed() {
        let whole = entry(&RunId::random(), "GET", "https://a.example.com/x", None).to_string();
        for (more, complete) in [
            (String::new(), true),
            (format!("warning: 3 {NOT_LOGGED}: stderr is not read fast enough\n"), false),
            (whole[..whole.len() - 1].to_owned(), false),
            // Longer than any decision, and no JSON.
            ("x".repeat(3 * LINE as usize) + "\n", true),
            (format!("{{\"event\":\"decision\",\"x\":\"{}\"}}\n", "x".repeat(2 * LINE as usize)), false),
        ] {
            let (log, decisions) = read(&format!("{whole}\n{more}{whole}\n"), None);
            let shown: String = more.chars().take(60).collect();
            assert_eq!(log.complete, complete, "{shown}");
            // The line after an over-long one is read again.
            assert_eq!(decisions, if more.ends_with('\n') || more.is_empty() { 2 } else { 1 }, "{shown}");
        }
    }

    #[test]
    fn there_are_only_so_many_different_requests() {
        let run = RunId::random();
        let entries =
            (0..=MOST_REQUESTS).map(|n| entry(&run, "GET", &format!("https://a.example.com/{n}"), None));
        let text: String = entries.map(|entry| format!("{entry}\n")).collect();
        let (log, _) = read(&text, None);
        assert_eq!((log.record.size(), log.complete), (MOST_REQUESTS, false));
        // As often as anybody likes is not too often.
        let again =
            format!("{}\n", entry(&run, "GET", "https://a.example.com/", None)).repeat(MOST_REQUESTS + 5);
        let (log, _) = read(&again, None);
        assert_eq!((log.record.size(), log.record.requests, log.complete), (1, MOST_REQUESTS + 5, true));
    }

    #[test]
    fn a_file_without_decisions_is_another_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        std::fs::write(&file, "{\"event\":\"refused\"}\nx\n").expect("written");
        let failure = super::read(&file, None).expect_err("no decisions");
        assert_eq!(failure.code(), "log_without_decisions");
        assert!(failure.message().contains("any of the 2 lines"), "{failure}");
        assert_eq!(
            super::read(&folder.path().join("none"), None).expect_err("no file").code(),
            "file_unreadable"
        );
    }
}
