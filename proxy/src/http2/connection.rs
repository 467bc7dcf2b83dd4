//! A connection that several exchanges share, and the places on it.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Status;

/// A connection that several exchanges share. It is closed when the pool and all exchanges on it have let go.
pub(crate) struct Shared {
    /// Counts the connections of a pool in the order in which they were opened.
    pub(crate) id: u64,
    pub(crate) address: IpAddr,
    sender: SendRequest<Bytes>,
    status: Arc<Status>,
    /// Streams at once, as this side wants it.
    cap: usize,
    idle_since: Mutex<Instant>,
    /// Ends the task that drives it.
    task: AbortHandle,
}

impl Shared {
    pub(crate) fn new(
        (id, address): (u64, IpAddr),
        sender: SendRequest<Bytes>,
        status: Arc<Status>,
        cap: usize,
        task: AbortHandle,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            address,
            sender,
            status,
            cap: cap.max(1),
            idle_since: Mutex::new(Instant::now()),
            task,
        })
    }

    /// A place for one more stream, if there is one.
    pub(crate) fn slot(self: &Arc<Self>) -> Option<Slot> {
        let room = self.room().unwrap_or(1);
        self.take(|open| open < room)
    }

    /// A place whatever the peer allows; the stream waits for it. Who dialled gets this, so that each dial serves
    /// somebody.
    pub(crate) fn first_slot(self: &Arc<Self>) -> Option<Slot> {
        self.take(|_| true)
    }

    fn take(self: &Arc<Self>, fits: impl Fn(usize) -> bool) -> Option<Slot> {
        if self.is_over() {
            return None;
        }
        let next = |open| fits(open).then_some(open + 1);
        self.status.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()?;
        let mut slot = Slot { sender: self.sender.clone(), shared: Arc::clone(self) };
        // A sender without a stream of its own is ready, or its connection is no good any more.
        match slot.sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Some(slot),
            Poll::Ready(Err(_)) | Poll::Pending => {
                self.status.retire();
                None
            }
        }
    }

    /// How many streams it takes in all; `None` until the peer has said what it allows. Until then it takes one.
    pub(crate) fn room(&self) -> Option<usize> {
        self.status.limit().map(|limit| limit.min(self.cap))
    }

    /// Whether new streams have to go elsewhere.
    pub(crate) fn is_over(&self) -> bool {
        self.status.is_over()
    }

    /// Since when nothing is under way on it; `None` while something is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        (self.status.open.load(Ordering::Acquire) == 0).then_some(since)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One exchange's place on a connection, free again when dropped.
pub(crate) struct Slot {
    pub(super) sender: SendRequest<Bytes>,
    pub(crate) shared: Arc<Shared>,
}

impl Slot {
    /// New streams go elsewhere from here on.
    pub(crate) fn retire(&self) {
        self.shared.status.retire();
    }

    /// Whether the connection was given up because the peer gave no sign of life.
    pub(super) fn is_silent(&self) -> bool {
        self.shared.status.is_silent()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Shared { status, idle_since, .. } = &*self.shared;
        *idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        status.open.fetch_sub(1, Ordering::AcqRel);
        status.changed.notify_waiters();
    }
}
