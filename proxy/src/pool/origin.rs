//! What is known about one origin, for those who share connections to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http1;
use crate::http2::{Shared, Slot};

/// An HTTP/1.1 connection that nobody uses.
pub(super) struct Idle {
    pub(super) connection: http1::Connection,
    pub(super) since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What is known about one origin.
pub(super) struct Origin {
    pub(super) idle: Vec<Idle>,
    pub(super) shared: Vec<Arc<Shared>>,
    /// What it chose last.
    pub(super) speaks: Option<Protocol>,
    /// Connections that are being opened.
    pub(super) dialling: usize,
    /// Requests that wait for one of those, or for room.
    pub(super) waiting: usize,
    /// Streams that a new connection is expected to take.
    room: usize,
    /// Told whenever those who wait should look again.
    pub(super) changed: Arc<Notify>,
    pub(super) touched: Instant,
}

/// What a request can do.
pub(super) enum Step {
    Http1(Idle),
    Http2(Slot),
    Dial,
    Wait,
}

impl Origin {
    pub(super) fn new(room: usize) -> Self {
        Self {
            idle: Vec::new(),
            shared: Vec::new(),
            speaks: None,
            dialling: 0,
            waiting: 0,
            room: room.max(1),
            changed: Arc::default(),
            touched: Instant::now(),
        }
    }

    /// The next step of a request that wants a connection opened no earlier than `oldest`.
    pub(super) fn step(&mut self, oldest: u64) -> Step {
        // The most recently used one is the least likely to have been closed by the other side.
        if let Some(newest) = self.idle.pop_if(|idle| idle.connection.id >= oldest) {
            return Step::Http1(newest);
        }
        self.shared.retain(|shared| !shared.is_over());
        let mut unsettled = 0;
        for shared in self.shared.iter().filter(|shared| shared.id >= oldest) {
            if let Some(slot) = shared.slot() {
                return Step::Http2(slot);
            }
            match shared.room() {
                Some(room) => self.room = room.max(1),
                None => unsettled += 1,
            }
        }
        // Where HTTP/2 may be spoken, a connection that is on its way may serve all who wait.
        let expected = (self.dialling + unsettled) * self.room;
        if self.speaks == Some(Protocol::Http1) || self.waiting >= expected { Step::Dial } else { Step::Wait }
    }

    /// Lets go of what was idle for longer than `limit` or is closed. Says whether anything is left to remember.
    pub(super) fn tidy(&mut self, limit: Duration) -> bool {
        self.idle.retain(|idle| idle.since.elapsed() <= limit && idle.connection.is_open());
        self.shared.retain(|shared| {
            !shared.is_over() && shared.idle_since().is_none_or(|since| since.elapsed() <= limit)
        });
        !self.is_unused() || self.touched.elapsed() <= limit
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_blank(&self) -> bool {
        self.is_unused() && self.speaks.is_none()
    }

    fn is_unused(&self) -> bool {
        self.idle.is_empty() && self.shared.is_empty() && self.dialling == 0 && self.waiting == 0
    }
}
