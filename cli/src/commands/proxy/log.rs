//! Decisions as they are made, one line each on stderr.
//!
//! Whoever reads stderr may be slow, and requests do not wait for it: a thread writes, and what it has no room for is
//! counted and said.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use orch_proxy::{ClientName, Decision, OnDecision, Outcome, Reason, TunnelEnd, Witness};
use serde_json::{Value, json};

use crate::printer::Printer;

/// Lines that may wait to be written.
const WAITING: usize = 4096;
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
    sender: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

enum Line {
    Json(Value),
    Text(String),
    Last,
}

impl Log {
    /// A log in JSON, or for people.
    pub(super) fn start(json: bool, printer: Printer) -> Self {
        let (sender, receiver) = sync_channel(WAITING);
        let (done, finished) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let lines = Lines { json, sender, lost: Arc::clone(&lost) };
        let writer = std::thread::spawn(move || {
            write(&receiver, &lost, printer);
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
        // A full queue has a reader that stands still: then there is nobody to wait for.
        if self.lines.sender.try_send(Line::Last).is_ok()
            && finished.recv_timeout(LAST) != Err(RecvTimeoutError::Timeout)
        {
            let _ = thread.join();
        }
    }
}

fn write(lines: &Receiver<Line>, lost: &AtomicU64, printer: Printer) {
    while let Ok(line) = lines.recv() {
        match line {
            Line::Json(value) => printer.event(&value),
            Line::Text(text) => printer.note(&text),
            Line::Last => return,
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            printer.warn(&format!("{count} {}: stderr is not read fast enough", super::NOT_LOGGED));
        }
    }
}

impl Lines {
    fn say(&self, line: Line) {
        if self.sender.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn decision(&self, client: &ClientName, decision: &Decision) {
        if self.json {
            let mut value =
                serde_json::to_value(decision).unwrap_or_else(|e| json!({ "error": e.to_string() }));
            if let Value::Object(fields) = &mut value {
                fields.insert("event".to_owned(), "decision".into());
                fields.insert("client".to_owned(), client.as_str().into());
            }
            return self.say(Line::Json(value));
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
        self.say(Line::Text(line));
    }
}

impl Witness for Lines {
    fn refused(&self, peer: SocketAddr, client: Option<&ClientName>, reason: &Reason) {
        let client = client.map(ClientName::as_str);
        self.say(if self.json {
            Line::Json(json!({
                "event": "refused", "peer": peer.to_string(), "client": client, "code": reason.code,
                "message": reason.text,
            }))
        } else {
            Line::Text(format!("{} refused {peer} {}: {}", client.unwrap_or("-"), reason.code, reason.text))
        });
    }

    fn tunnel_ended(&self, client: &ClientName, end: &TunnelEnd) {
        let TunnelEnd { host, port, sent, received, duration_ms, .. } = end;
        if self.json {
            let mut value = serde_json::to_value(end).unwrap_or_else(|e| json!({ "error": e.to_string() }));
            if let Value::Object(fields) = &mut value {
                fields.insert("event".to_owned(), "tunnel_ended".into());
                fields.insert("client".to_owned(), client.as_str().into());
            }
            return self.say(Line::Json(value));
        }
        let line =
            format!("{client} closed {host}:{port} {sent} bytes sent, {received} received, {duration_ms} ms");
        self.say(Line::Text(line));
    }
}
