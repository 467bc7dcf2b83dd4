//! What follows a failure.

use std::time::Duration;

use orch_manifests::{After, OnError};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::Timing;
use crate::ir::Class;

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The request itself is at fault: no other candidate would do better.
    Stop,
    /// The next candidate, which may be the same model with another key.
    NextKey,
    /// The next model: with another key this one would do no better.
    NextModel,
    /// The same candidate once more, after a wait.
    Again(Duration),
}

/// An attempt that failed, and what else there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failing {
    pub(crate) class: Class,
    /// How long the provider asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The number of the attempt at this candidate, from 1.
    pub(crate) tries: u32,
    /// The time to the deadline.
    pub(crate) left: Duration,
    /// Whether the same model can be asked with another key that is fine.
    pub(crate) another_key: bool,
    /// Whether this candidate is the last.
    pub(crate) last: bool,
    /// What the plan says of failures that are the request's own doing.
    pub(crate) on: OnError,
}

/// What follows a failed attempt. `jitter` is 0 to 1.
pub(crate) fn after(failing: &Failing, jitter: f64, timing: &Timing) -> Step {
    let backoff = timing.backoff.mul_f64(0.5 + jitter);
    let planned = |after: After| match after {
        After::Stop => Step::Stop,
        After::Next => Step::NextModel,
    };
    let (wait, otherwise) = match failing.class {
        Class::BadRequest => return Step::Stop,
        Class::ContextTooLong => return planned(failing.on.context_too_long),
        Class::RefusedByFilter => return planned(failing.on.refused_by_filter),
        Class::BadKey | Class::NoAccess | Class::NoModel | Class::OutOfMoney => return Step::NextKey,
        Class::Timeout => return Step::NextModel,
        // Another key has limits of its own, and nobody has to wait.
        Class::RateLimited if failing.another_key => return Step::NextKey,
        Class::RateLimited => (failing.retry_after.unwrap_or(backoff), Step::NextKey),
        Class::Overloaded => (failing.retry_after.unwrap_or(backoff), Step::NextModel),
        Class::Server | Class::Truncated | Class::Network => (backoff, Step::NextModel),
    };
    // Where nobody else is to be asked, any wait is better than none that fits the deadline.
    let short = wait <= timing.short_wait || failing.last;
    if failing.tries == 1 && short && wait < failing.left { Step::Again(wait) } else { otherwise }
}

/// A random number below `bound`, which is not 0.
pub(super) fn dice(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the first is always taken, and nothing worse.
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_le_bytes(bytes) % bound
}

pub(super) fn jitter() -> f64 {
    let mut byte = [128];
    // Without randomness there is no jitter, and nothing worse.
    let _ = SystemRandom::new().fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests;
