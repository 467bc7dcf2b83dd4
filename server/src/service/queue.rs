//! Runs that wait for their checks or their turn: how many there may be.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Service;
use crate::failure::{Failure, Kind};

/// Bytes of input that runs may hold while they wait for their turn.
const WAITING_INPUT: usize = 512 << 20;

/// A place among the runs that wait for their checks or their turn, until it is dropped.
pub(super) struct Waiting {
    service: Arc<Service>,
    input: usize,
}

impl Waiting {
    /// Takes a place for a new run with so many bytes of input, if there is one.
    pub(super) fn enter(service: &Arc<Service>, input: usize) -> Result<Self, Failure> {
        let place = Self::again(service, input);
        let limit = service.config().max_queued + service.turns.available_permits();
        let (runs, held) =
            (service.waiting.load(Ordering::Relaxed), service.waiting_input.load(Ordering::Relaxed));
        // Who waits alone may be large.
        if runs > limit || (runs > 1 && held > WAITING_INPUT) {
            return Err(Failure::new(
                Kind::Server,
                "queue_full",
                format!("{} runs wait already, which is all that this server accepts", runs - 1),
            )
            .hint("try again later, or raise `server.max_queued`"));
        }
        Ok(place)
    }

    /// A place for a run that was accepted before; there always is one.
    pub(super) fn again(service: &Arc<Service>, input: usize) -> Self {
        service.waiting.fetch_add(1, Ordering::Relaxed);
        service.waiting_input.fetch_add(input, Ordering::Relaxed);
        Self { service: Arc::clone(service), input }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.service.waiting.fetch_sub(1, Ordering::Relaxed);
        self.service.waiting_input.fetch_sub(self.input, Ordering::Relaxed);
    }
}
