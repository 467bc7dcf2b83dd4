//! Following a run on a server until it has ended: events become lines, a broken stream is taken up where it broke,
//! ctrl-c cancels.

use std::time::Duration;

use orch_manifests::RunId;
use orch_server::{Event, Failure, Kind, Observer as _};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::interrupted_more_than;
use super::terminal::Terminal;
use crate::client::{Broken, Client, Events, Told};
use crate::printer::Printer;

/// How long is waited before each further try to take the stream up again; when all are used up, nobody is there.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// A run, as a server tells of it; further fields are passed over.
#[derive(Debug, Deserialize)]
pub(crate) struct RunResource {
    /// The run.
    pub(crate) id: RunId,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled` or `interrupted`.
    pub(crate) status: String,
    /// Once it has ended.
    #[serde(default)]
    pub(crate) exit_code: Option<u8>,
    /// Why it did not succeed.
    #[serde(default)]
    pub(crate) error: Option<Told>,
    /// What it answered.
    #[serde(default)]
    pub(crate) report: Option<Value>,
}

/// One thing that a run told.
#[derive(Debug, Deserialize)]
pub(crate) struct RunEvent {
    /// Where it stands among the run's events.
    pub(crate) seq: u64,
    /// `log`, `note` and so on.
    pub(crate) kind: String,
    /// What it says.
    pub(crate) text: String,
}

/// Why a server stopped telling.
#[derive(Deserialize)]
struct Refused {
    error: Told,
}

/// What a stream of events has next.
pub(crate) enum Next {
    /// Something that the run told.
    Event(RunEvent),
    /// The run has ended.
    End(Box<RunResource>),
    /// The stream broke off, and why.
    Broken(String),
}

/// The next thing in a stream. What was read stays when the future is dropped.
///
/// # Errors
/// When an event is not of the contract.
pub(crate) async fn next_events(events: &mut Events, server: &Client) -> Result<Next, Failure> {
    let event = match events.next().await {
        Ok(Some(event)) => event,
        Ok(None) => return Ok(Next::Broken("the stream of events ended before the run".to_owned())),
        Err(Broken::Off(why)) => return Ok(Next::Broken(why)),
        Err(Broken::Wrong(what)) => return Err(server.unexpected("for the events of a run", &what)),
    };
    let parsed = match event.kind.as_str() {
        "end" => serde_json::from_str(&event.data).map(|run| Next::End(Box::new(run))),
        "error" => match serde_json::from_str::<Refused>(&event.data) {
            Ok(refused) => return Err(refused.error.failure(Kind::Server.exit_code())),
            Err(error) => Err(error),
        },
        _ => serde_json::from_str(&event.data).map(Next::Event),
    };
    parsed.map_err(|e| server.unexpected("for the events of a run", &format!("an event that is none: {e}")))
}

/// Follows one run.
pub(super) struct Following<'a> {
    pub(super) client: &'a Client,
    pub(super) run: &'a RunId,
    pub(super) terminal: &'a Terminal,
    pub(super) printer: Printer,
    pub(super) stop: watch::Receiver<u8>,
}

impl Following<'_> {
    /// The run at its end.
    ///
    /// # Errors
    /// When the server refuses, is gone for good, or ctrl-c was pressed twice: then the run may go on without us.
    pub(super) async fn to_end(&self) -> Result<RunResource, Failure> {
        let (mut after, mut tries, mut cancelled) = (0_u64, 0, false);
        let mut why = String::new();
        loop {
            match PAUSES.get(tries) {
                None => return Err(self.lost(&why)),
                Some(pause) => tokio::select! {
                    () = tokio::time::sleep(*pause) => {}
                    () = interrupted_more_than(1, &self.stop) => return Err(self.left()),
                },
            }
            tries += 1;
            let from = (after > 0).then(|| after.to_string());
            let path = format!("/v1/runs/{}/events", self.run);
            let opened = tokio::select! {
                opened = self.client.events(&path, from.as_deref()) => opened,
                () = interrupted_more_than(1, &self.stop) => return Err(self.left()),
            };
            let mut events = match opened {
                Ok(events) => events,
                // The server may be on its way down or up; whatever else it says, it will say again.
                Err(failure) if passes(&failure) => {
                    failure.message().clone_into(&mut why);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            loop {
                let next = tokio::select! {
                    next = next_events(&mut events, self.client) => next?,
                    () = interrupted_more_than(0, &self.stop), if !cancelled => {
                        cancelled = true;
                        self.cancel().await?;
                        continue;
                    }
                    () = interrupted_more_than(1, &self.stop) => return Err(self.left()),
                };
                match next {
                    Next::End(run) => return Ok(*run),
                    Next::Broken(reason) => {
                        why = reason;
                        break;
                    }
                    Next::Event(event) if event.seq > after => {
                        (after, tries) = (event.seq, 0);
                        self.show(&event);
                    }
                    // Told before the stream broke.
                    Next::Event(_) => {}
                }
            }
        }
    }

    fn show(&self, event: &RunEvent) {
        let text = event.text.as_str();
        self.terminal.event(match event.kind.as_str() {
            "status" | "progress" => Event::Progress(text),
            "note" => Event::Note(text),
            "warning" => Event::Warning(text),
            "log" => Event::Log(text.as_bytes()),
            "output" => Event::Output(text.as_bytes()),
            "refused" => Event::Refused(text),
            // A newer server tells more than this client knows how to show.
            _ => return,
        });
    }

    /// Asks the server to stop the run; its end is still waited for.
    async fn cancel(&self) -> Result<(), Failure> {
        self.printer.note("stopping the run; ctrl-c again leaves at once");
        let path = format!("/v1/runs/{}", self.run);
        tokio::select! {
            done = self.client.delete_run::<Value>(&path) => {
                if let Err(failure) = done {
                    self.printer.warn(&format!("the run could not be cancelled: {}", failure.message()));
                }
                Ok(())
            }
            () = interrupted_more_than(1, &self.stop) => Err(self.left()),
        }
    }

    /// Ctrl-C twice: nobody waits for the end.
    fn left(&self) -> Failure {
        if self.client.in_process() {
            return Failure::new(Kind::Interrupted, "interrupted", "interrupted; the agent was killed");
        }
        Failure::new(
            Kind::Interrupted,
            "interrupted",
            format!("left without waiting for the end of {} on {}", self.run, self.client.name()),
        )
        .hint(format!("orch logs {} --follow", self.run))
        .detail("run_id", self.run.as_str())
    }

    fn lost(&self, why: &str) -> Failure {
        Failure::new(
            Kind::Server,
            "server_unreachable",
            format!("lost {}, where {} may still go on: {why}", self.client.name(), self.run),
        )
        .hint(format!("orch logs {} --follow", self.run))
        .detail("run_id", self.run.as_str())
    }
}

/// Whether a failure to open the stream may be gone at the next try.
fn passes(failure: &Failure) -> bool {
    matches!(failure.code(), "server_unreachable" | "shutting_down" | "rate_limited" | "queue_full")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Served, answer, json};
    use bytes::Bytes;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    use orch_proxy::BodyError;
    use orch_server::Environment;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    const END: &str = "event: end\ndata: {\"id\":\"run_aaaaaaaaaaaaaaaaaaaaaaaaaa\",\"status\":\"succeeded\",\"exit_code\":0,\
        \"report\":{\"output\":1}}\n\n";

    fn event(seq: u64) -> String {
        format!(
            "id: {seq}\nevent: note\ndata: {{\"seq\":{seq},\"time\":\"x\",\"kind\":\"note\",\"text\":\"n\"}}\n\n"
        )
    }

    fn run() -> RunId {
        "run_aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().expect("an id")
    }

    async fn followed(server: &Served, stop: &watch::Receiver<u8>) -> Result<RunResource, Failure> {
        let printer = Printer::new(true, &Environment::Fixed([("CI".to_owned(), "1".to_owned())].into()));
        let terminal = Terminal::new(printer, stop.clone());
        let (client, run) = (server.client(None), run());
        Following { client: &client, run: &run, terminal: &terminal, printer, stop: stop.clone() }
            .to_end()
            .await
    }

    #[tokio::test]
    async fn a_stream_that_breaks_is_taken_up_behind_the_last_event() {
        let times = AtomicUsize::new(0);
        let server = Served::tcp(None, move |_| {
            let text = match times.fetch_add(1, Ordering::Relaxed) {
                0 => event(1) + &event(2),
                1 => return json(503, r#"{"error":{"code":"shutting_down","message":"x"},"exit_code":8}"#),
                _ => event(2) + &event(3) + END,
            };
            answer(200, "text/event-stream", &text)
        })
        .await;
        let (_keep, stop) = watch::channel(0);
        let ended = followed(&server, &stop).await.expect("the end");
        assert_eq!(
            (ended.status.as_str(), ended.report),
            ("succeeded", Some(serde_json::json!({ "output": 1 })))
        );
        let from = server.asked(|asked| asked.header("last-event-id").map(str::to_owned));
        assert_eq!(from, [None, Some("2".to_owned()), Some("2".to_owned())]);
    }

    #[tokio::test]
    async fn what_no_further_try_changes_ends_at_once() {
        let body = r#"{"error":{"code":"run_not_found","message":"there is no such run"},"exit_code":2}"#;
        let server = Served::tcp(None, move |_| json(404, body)).await;
        let (_keep, stop) = watch::channel(0);
        assert_eq!(followed(&server, &stop).await.expect_err("refused").code(), "run_not_found");
        assert_eq!(server.asked(|_| ()).len(), 1);

        let body = "event: error\ndata: {\"error\":{\"code\":\"store_unusable\",\"message\":\"gone\"}}\n\n";
        let server = Served::tcp(None, move |_| answer(200, "text/event-stream", body)).await;
        let failure = followed(&server, &stop).await.expect_err("told so");
        assert_eq!((failure.kind(), failure.code()), (Kind::Server, "store_unusable"));
    }

    /// Tells nothing until the run is cancelled, then its end.
    async fn stubborn() -> Served {
        let cancelled = Arc::new(Notify::new());
        Served::tcp(None, move |asked| {
            if asked.method == "DELETE" {
                cancelled.notify_one();
                return json(200, "{}");
            }
            let cancelled = Arc::clone(&cancelled);
            let end = stream::once(async move {
                cancelled.notified().await;
                Ok::<_, BodyError>(Frame::data(Bytes::from(END)))
            });
            answer(200, "text/event-stream", "").map(|_| StreamBody::new(end).boxed_unsync())
        })
        .await
    }

    #[tokio::test]
    async fn one_interrupt_cancels_and_waits_and_two_leave() {
        let server = stubborn().await;
        let (stop, stopped) = watch::channel(1);
        followed(&server, &stopped).await.expect("its end is waited for");
        assert_eq!(server.asked(|asked| asked.method.clone()), ["GET", "DELETE"]);

        stop.send_replace(2);
        let failure = followed(&stubborn().await, &stopped).await.expect_err("left");
        assert_eq!((failure.kind(), failure.code()), (Kind::Interrupted, "interrupted"));
        assert!(failure.message().contains(run().as_str()), "{failure}");
        assert!(failure.hints()[0].contains("orch logs"), "{failure:?}");
    }
}
