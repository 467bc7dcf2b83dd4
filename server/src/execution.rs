//! One guest, from its start to its end: what it writes, what it is refused, how it is stopped.

use std::time::Duration;

use bytes::Bytes;
use orch_gateway::Session;
use orch_manifests::MicroUsd;
use orch_proxy::LiveGrant;
use orch_runner::{Body, RunIo, RunOutcome, RunSpec, Worker};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::failure::{Failure, Kind};
use crate::outcome;
use crate::redact::Known;
use crate::run::{Event, Observer};

/// Pieces of output that may wait for the broker before the guest is held back.
const OUTPUT_BACKLOG: usize = 16;
/// How often a waiting person hears that something goes on, and how long it is first waited in silence.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What a running guest is watched by.
pub(crate) struct Execution<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) grant: &'a LiveGrant,
    pub(crate) session: Option<&'a Session>,
    pub(crate) observer: &'a dyn Observer,
    /// What the run holds, which nobody is told.
    pub(crate) known: &'a Known,
    /// What was decided about its requests, as it is decided.
    pub(crate) decisions: tokio::sync::Mutex<mpsc::Receiver<String>>,
    /// Whether output is passed on as it is written.
    pub(crate) stream: bool,
}

impl Execution<'_> {
    /// Runs the guest and collects what it writes; stops it when the caller wants to stop.
    pub(crate) async fn run(
        &self,
        spec: RunSpec,
        stdin: Option<Body>,
        stop: &mut watch::Receiver<u8>,
    ) -> Result<(RunOutcome, Vec<u8>), Failure> {
        let run = spec.run.clone();
        let (stdout, mut written) = mpsc::channel::<Bytes>(OUTPUT_BACKLOG);
        let (stderr, mut logged) = mpsc::channel::<Bytes>(OUTPUT_BACKLOG);
        let io = RunIo { stdin, stdout: Some(stdout), stderr: Some(stderr) };

        let started = Instant::now();
        let mut ticks = ticks();
        let mut output = Vec::new();
        let mut told = 0;
        let mut unsaid = self.known.stream();
        let mut decided = self.decisions.lock().await;
        let collect = async {
            let (mut out, mut log, mut stopped) = (true, true, false);
            while out || log {
                tokio::select! {
                    piece = written.recv(), if out => match piece {
                        Some(piece) => {
                            if self.stream {
                                self.observer.event(Event::Output(&piece));
                            }
                            output.extend_from_slice(&piece);
                        }
                        None => out = false,
                    },
                    piece = logged.recv(), if log => match piece {
                        Some(piece) => self.log(&unsaid.push(piece)),
                        None => {
                            self.log(&unsaid.finish());
                            log = false;
                        }
                    },
                    Some(decision) = decided.recv() => self.observer.event(Event::Decision(&decision)),
                    () = stopping(stop), if !stopped => {
                        stopped = true;
                        self.worker.cancel(&run);
                    }
                    _ = ticks.tick() => self.observer.event(Event::Progress(&self.progress(started.elapsed()))),
                }
                told = outcome::tell_refusals(self.grant, told, self.known, self.observer);
            }
        };
        let (outcome, ()) = tokio::join!(self.worker.run(spec, io), collect);
        while let Ok(decision) = decided.try_recv() {
            self.observer.event(Event::Decision(&decision));
        }
        outcome::tell_refusals(self.grant, told, self.known, self.observer);
        Ok((outcome?, output))
    }

    fn log(&self, piece: &[u8]) {
        if !piece.is_empty() {
            self.observer.event(Event::Log(piece));
        }
    }

    /// How long it has been, and what was spent so far. A call counts when it has ended.
    fn progress(&self, since: Duration) -> String {
        let mut text = format!("running for {} s", since.as_secs());
        if let Some(session) = self.session {
            let spent = session.budget.spent();
            let calls = session.receipts.all().len();
            let tokens = spent.input_tokens + spent.output_tokens;
            text.push_str(&format!(", {calls} model calls done, {tokens} tokens"));
            if spent.micro_usd > 0 {
                text.push_str(&format!(", ${}", MicroUsd(spent.micro_usd)));
            }
        }
        text
    }
}

/// Does `work` and says from time to time that it is still going on: `what`, of the seconds since its start.
pub(crate) async fn with_progress<T>(
    what: impl Fn(u64) -> String,
    observer: &dyn Observer,
    work: impl Future<Output = T>,
) -> T {
    telling(what, observer, ticks(), work).await
}

async fn telling<T>(
    what: impl Fn(u64) -> String,
    observer: &dyn Observer,
    mut ticks: Interval,
    work: impl Future<Output = T>,
) -> T {
    let started = Instant::now();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => {
                observer.event(Event::Progress(&what(started.elapsed().as_secs())));
            }
        }
    }
}

fn ticks() -> Interval {
    let mut ticks = interval_at(Instant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What is under way before the guest runs is dropped when the caller wants to stop.
pub(crate) async fn unless_stopped<T>(
    stop: &mut watch::Receiver<u8>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        () = stopping(stop) => Err(interrupted("interrupted before the agent was started")),
    }
}

/// Resolves when the caller wants the run to stop; never, when the caller can no longer say so.
async fn stopping(stop: &mut watch::Receiver<u8>) {
    if stop.wait_for(|count| *count > 0).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The failure of a run that its caller stopped.
pub(crate) fn interrupted(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Interrupted, "interrupted", what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::{Answer, Question};

    struct Heard(mpsc::UnboundedSender<String>);

    impl Observer for Heard {
        fn event(&self, event: Event<'_>) {
            if let Event::Progress(text) = event {
                self.0.send(text.to_owned()).expect("somebody listens");
            }
        }

        fn ask(&self, _: &Question) -> Answer {
            Answer::Deny
        }
    }

    #[tokio::test]
    async fn what_goes_on_is_told_until_it_is_done() {
        let (told, mut heard) = mpsc::unbounded_channel();
        let work = async {
            let first = heard.recv().await.expect("told");
            heard.recv().await.expect("told again");
            first
        };
        let ticks = tokio::time::interval(Duration::from_millis(1));
        let what = |seconds| format!("waiting for {seconds} s");
        assert_eq!(telling(what, &Heard(told), ticks, work).await, "waiting for 0 s");
    }

    #[tokio::test]
    async fn what_is_done_at_once_is_not_told() {
        let (told, mut heard) = mpsc::unbounded_channel();
        assert_eq!(with_progress(|_| "waiting".to_owned(), &Heard(told), async { 7 }).await, 7);
        assert!(heard.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_interrupt_ends_what_is_under_way_and_a_gone_caller_does_not() {
        let (stop, mut stopped) = watch::channel(0_u8);
        let pending = std::future::pending::<Result<(), Failure>>();
        let (ended, ()) = tokio::join!(unless_stopped(&mut stopped, pending), async {
            stop.send_replace(1);
        });
        assert_eq!(ended.expect_err("interrupted").kind(), Kind::Interrupted);

        let (stop, mut stopped) = watch::channel(0_u8);
        drop(stop);
        let done = unless_stopped(&mut stopped, async {
            tokio::task::yield_now().await;
            Ok(7)
        });
        assert_eq!(done.await.expect("done"), 7);
    }
}
