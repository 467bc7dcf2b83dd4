//! Decisions as they are made, one line each on stderr.
//!
//! Whoever reads stderr may be slow, and requests do not wait for it: they leave their lines in a spool, of which a
//! thread writes whatever has gathered there. What the spool has no room for is counted and said.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use orch_proxy::{ClientName, Decision, OnDecision, Outcome, Reason, TunnelEnd, Witness};
use serde_json::json;

use crate::printer::{Printer, harmless};

/// Bytes of lines that may wait to be written.
const ROOM: usize = 2 << 20;
/// How long the first line waits for others that go with it: a write for each line would cost more than the line.
const GATHER: Duration = Duration::from_millis(5);
/// How long the last lines may take.
const LAST: Duration = Duration::from_secs(1);

/// The log.
pub(super) struct Log {
    lines: Lines,
    writer: Mutex<Option<(JoinHandle<()>, Receiver<()>)>>,
}

/// Where lines go.
#[derive(Clone)]
struct Lines {
    json: bool,
    printer: Printer,
    spool: Arc<Spool>,
}

/// What waits to be written.
#[derive(Default)]
struct Spool {
    waiting: Mutex<Waiting>,
    /// Told when there is something after there was nothing.
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines for which there was no room.
    lost: u64,
    over: bool,
}

impl Log {
    /// A log in JSON, or for people.
    pub(super) fn start(json: bool, printer: Printer) -> Self {
        let spool = Arc::new(Spool::default());
        let (done, finished) = sync_channel(1);
        let lines = Lines { json, printer, spool: Arc::clone(&spool) };
        let writer = std::thread::spawn(move || {
            spool.write(printer);
            let _ = done.send(());
        });
        Self { lines, writer: Mutex::new(Some((writer, finished))) }
    }

    /// What hears of the decisions of this client.
    pub(super) fn decisions(&self, client: &ClientName) -> OnDecision {
        let (lines, client) = (self.lines.clone(), client.clone());
        Box::new(move |decision| lines.decision(&client, decision))
    }

    /// What hears of everything else.
    pub(super) fn witness(&self) -> Arc<dyn Witness> {
        Arc::new(self.lines.clone())
    }

    /// Waits until what there is has been written, if that does not take long.
    pub(super) fn finish(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((thread, finished)) = writer else { return };
        self.lines.spool.lock().over = true;
        self.lines.spool.more.notify_one();
        // Somebody who does not read is not waited for.
        if finished.recv_timeout(LAST) != Err(RecvTimeoutError::Timeout) {
            let _ = thread.join();
        }
    }
}

impl Spool {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Lines are added whole, so a panic elsewhere leaves nothing half written.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, which ends with a newline.
    fn add(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > ROOM {
            waiting.lost += 1;
            return;
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if first {
            self.more.notify_one();
        }
    }

    /// Writes what is added, until it is over.
    fn write(&self, printer: Printer) {
        let mut taken = Vec::new();
        loop {
            let nothing = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.over;
            let waited = self.more.wait_while(self.lock(), nothing);
            if !waited.unwrap_or_else(PoisonError::into_inner).over {
                std::thread::sleep(GATHER);
            }
            taken.clear();
            let mut waiting = self.lock();
            std::mem::swap(&mut taken, &mut waiting.lines);
            let (lost, over) = (std::mem::take(&mut waiting.lost), waiting.over);
            drop(waiting);
            printer.lines(&taken);
            if lost > 0 {
                printer.warn(&format!("{lost} {}: stderr is not read fast enough", super::NOT_LOGGED));
            }
            if over {
                return;
            }
        }
    }
}

thread_local! {
    /// Where a line is put together, so that nobody waits for it.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Lines {
    /// A line for people.
    fn say(&self, text: &str) {
        self.spool.add(format!("{}\n", self.printer.noted(text)).as_bytes());
    }

    /// A JSON object whose first fields are the event's name and its client, with those of a value that is one, too.
    fn say_json(&self, event: &'static str, client: Option<&ClientName>, more: &impl serde::Serialize) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            // Writing to a vector does not fail.
            let _ = write!(line, "{{\"event\":\"{event}\",\"client\":");
            // A name has nothing in it that JSON would escape.
            let _ = match client {
                Some(client) => write!(line, "\"{client}\","),
                None => write!(line, "null,"),
            };
            let start = line.len();
            if let Err(error) = serde_json::to_writer(&mut *line, more) {
                line.truncate(start);
                let _ = write!(line, "{}", json!({ "error": error.to_string() }));
            }
            // The brace that opens the value: its fields go on where those above end.
            line.remove(start);
            if !line.is_ascii() || line.contains(&0x7f) {
                // What serde_json wrote is text.
                let text = harmless(&String::from_utf8_lossy(line)).into_owned();
                *line = text.into_bytes();
            }
            line.push(b'\n');
            self.spool.add(line);
        });
    }

    fn decision(&self, client: &ClientName, decision: &Decision) {
        if self.json {
            return self.say_json("decision", Some(client), decision);
        }
        let word = match decision.verdict {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Failed => "failed",
        };
        let Decision { method, host, port, path, .. } = decision;
        let scheme = decision.scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
        let mut line = format!("{client} {word} {method} {scheme}{host}:{port}{path}");
        if let Some(status) = decision.status {
            line.push_str(&format!(" {status}"));
        }
        if !decision.injected.is_empty() {
            line.push_str(&format!(" with {}", decision.injected.join(", ")));
        }
        if let Some(reason) = &decision.reason {
            line.push_str(&format!(" {}: {}", reason.code, reason.text));
        }
        self.say(&line);
    }
}

impl Witness for Lines {
    fn refused(&self, peer: SocketAddr, client: Option<&ClientName>, reason: &Reason) {
        if self.json {
            let refused = json!({ "peer": peer.to_string(), "code": reason.code, "message": reason.text });
            return self.say_json("refused", client, &refused);
        }
        let client = client.map_or("-", ClientName::as_str);
        self.say(&format!("{client} refused {peer} {}: {}", reason.code, reason.text));
    }

    fn tunnel_ended(&self, client: &ClientName, end: &TunnelEnd) {
        if self.json {
            return self.say_json("tunnel_ended", Some(client), end);
        }
        let TunnelEnd { host, port, sent, received, duration_ms, .. } = end;
        self.say(&format!(
            "{client} closed {host}:{port} {sent} bytes sent, {received} received, {duration_ms} ms"
        ));
    }
}

#[cfg(test)]
mod tests {
    use orch_server::Environment;
    use serde_json::Value;

    use super::*;

    fn lines() -> Lines {
        let printer = Printer::new(true, &Environment::Fixed(Default::default()));
        Lines { json: true, printer, spool: Arc::default() }
    }

    fn written(lines: &Lines) -> Vec<Value> {
        let waiting = lines.spool.lock();
        let text = std::str::from_utf8(&waiting.lines).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[test]
    fn a_line_is_one_object_and_draws_nothing() {
        let lines = lines();
        let client: ClientName = "one".parse().expect("a name");
        lines.say_json("decision", Some(&client), &json!({ "path": "/\u{9b}31m\u{202e}", "port": 1 }));
        lines.say_json("refused", None, &json!({ "code": "x" }));
        let expected = [
            json!({ "event": "decision", "client": "one", "path": "/\u{9b}31m\u{202e}", "port": 1 }),
            json!({ "event": "refused", "client": null, "code": "x" }),
        ];
        assert_eq!(written(&lines), expected);
        assert!(!lines.spool.lock().lines.iter().any(|byte| !byte.is_ascii()));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_rest_stays_whole() {
        let lines = lines();
        let text = "x".repeat(1000);
        for _ in 0..ROOM / 1000 + 10 {
            lines.say_json("decision", None, &json!({ "text": text }));
        }
        let count = written(&lines).len() as u64;
        let waiting = lines.spool.lock();
        assert!(waiting.lines.len() <= ROOM && waiting.lost >= 10, "{}", waiting.lost);
        assert_eq!(count + waiting.lost, (ROOM / 1000 + 10) as u64);
    }
}
