//! What follows a failure.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::Timing;
use crate::ir::Class;

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The request itself is at fault: no other candidate would do better.
    Stop,
    /// The next candidate.
    Next,
    /// The same candidate once more, after a wait.
    Again(Duration),
}

/// What follows the failure of the attempt number `tries` (from 1) at one candidate. `left` is the time to the
/// deadline, `jitter` is 0 to 1.
pub(super) fn after(
    failure: Class,
    retry_after: Option<Duration>,
    tries: u32,
    left: Duration,
    jitter: f64,
    timing: &Timing,
) -> Step {
    let backoff = timing.backoff.mul_f64(0.5 + jitter);
    let wait = match failure {
        Class::BadRequest | Class::ContextTooLong | Class::RefusedByFilter => return Step::Stop,
        Class::BadKey | Class::NoAccess | Class::NoModel | Class::OutOfMoney | Class::Timeout => {
            return Step::Next;
        }
        Class::RateLimited | Class::Overloaded => retry_after.unwrap_or(backoff),
        Class::Server | Class::Truncated | Class::Network => backoff,
    };
    if tries > 1 || wait > timing.short_wait || wait >= left { Step::Next } else { Step::Again(wait) }
}

pub(super) fn jitter() -> f64 {
    let mut byte = [128];
    // Without randomness there is no jitter, and nothing worse.
    let _ = SystemRandom::new().fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests;
