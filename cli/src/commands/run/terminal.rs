//! The person at the terminal: what a run tells becomes lines, what it asks becomes a question.

use std::sync::{Mutex, PoisonError};

use orch_server::{Answer, Event, Observer, Question};
use tokio::sync::watch;

use super::question::Asked;
use crate::printer::{Printer, Utf8Pieces};

/// What a run tells, as lines. The agent's log is cut into lines; its output, when streamed, into whole characters.
pub(super) struct Terminal {
    printer: Printer,
    stop: watch::Receiver<u8>,
    log: Mutex<(Utf8Pieces, String)>,
    output: Mutex<Utf8Pieces>,
}

impl Terminal {
    pub(super) fn new(printer: Printer, stop: watch::Receiver<u8>) -> Self {
        Self { printer, stop, log: Mutex::default(), output: Mutex::default() }
    }

    /// Shows a question and waits for its answer; nobody there is a no.
    pub(super) fn answer(&self, asked: &Asked) -> Answer {
        if !self.printer.interactive() {
            return Answer::Deny;
        }
        asked.show(self.printer);
        match self.read_answer().as_deref().map(str::trim) {
            Some("y" | "Y" | "yes") => Answer::Once,
            Some("a" | "A" | "always") => Answer::Remember,
            Some("v" | "V" | "never") => Answer::Never,
            _ => Answer::Deny,
        }
    }

    /// A line from the terminal; none when there is none to come, or ctrl-c came instead.
    fn read_answer(&self) -> Option<String> {
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            if *self.stop.borrow() > 0 {
                return None;
            }
            let stdin = std::io::stdin();
            let mut ready = [rustix::event::PollFd::new(&stdin, rustix::event::PollFlags::IN)];
            match rustix::event::poll(&mut ready, Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    let mut answer = String::new();
                    return stdin.read_line(&mut answer).ok().map(|_| answer);
                }
                Err(_) => return None,
            }
        }
    }

    /// Prints what is left of an unfinished line, and takes the status off the screen.
    pub(super) fn finish(&self) {
        self.printer.erase_status();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = log.0.finish();
        log.1.push_str(&rest);
        if !log.1.is_empty() {
            self.printer.agent_log(&log.1);
            log.1.clear();
        }
        let rest = self.output.lock().unwrap_or_else(PoisonError::into_inner).finish();
        if !rest.is_empty() {
            // The run is over; a reader that is gone misses nothing that it could still get.
            let _ = self.printer.stream(&rest);
        }
    }
}

impl Observer for Terminal {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Progress(text) => self.printer.status(text),
            Event::Note(text) => self.printer.note(text),
            Event::Warning(text) => self.printer.warn(text),
            Event::Refused(text) => self.printer.warn(&format!("refused: {text}")),
            // Refusals are told in words; the rest is for who asks.
            Event::Decision(_) => {}
            Event::Log(bytes) => {
                let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                let text = log.0.push(bytes);
                log.1.push_str(&text);
                while let Some(at) = log.1.find('\n') {
                    let line: String = log.1.drain(..=at).collect();
                    self.printer.agent_log(line.trim_end_matches(['\n', '\r']));
                }
            }
            Event::Output(bytes) => {
                let text = self.output.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
                // A reader that is gone does not stop the agent: its answer is still checked and recorded.
                let _ = self.printer.stream(&text);
            }
        }
    }

    fn ask(&self, question: &Question) -> Answer {
        self.answer(&Asked::of(question))
    }
}
