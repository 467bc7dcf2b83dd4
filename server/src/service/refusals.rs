//! How many refusals of runs go on record.
//!
//! A client decides how often it asks for a run that is refused, and each record makes the vault's log longer for good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use orch_vault::AuditEvent;
use tokio::time::Instant;

use crate::afterwards::more_refused;

/// Refusals of a workspace's runs that go on record within this time; of the next one that there are more.
const MOST: u32 = 32;
const WITHIN: Duration = Duration::from_secs(60);

/// Counts the refusals of each workspace.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Counted>>);

struct Counted {
    since: Instant,
    refusals: u32,
}

impl Refusals {
    /// What goes on record of this one: itself, that there are more, or nothing.
    pub(super) fn admitted(&self, workspace: &str, event: AuditEvent) -> Option<AuditEvent> {
        let now = Instant::now();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counts.entry(workspace.to_owned()).or_insert(Counted { since: now, refusals: 0 });
        if now.duration_since(counted.since) >= WITHIN {
            *counted = Counted { since: now, refusals: 0 };
        }
        counted.refusals = counted.refusals.saturating_add(1);
        match counted.refusals.checked_sub(MOST) {
            None | Some(0) => Some(event),
            Some(1) => Some(more_refused(run_of(event))),
            Some(_) => None,
        }
    }
}

fn run_of(event: AuditEvent) -> String {
    match event {
        AuditEvent::Denied { run, .. } | AuditEvent::OpenFailed { run, .. } => run,
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_without_end_does_not_fill_the_log() {
        let refusals = Refusals::default();
        let event = |n: u32| AuditEvent::OpenFailed { run: format!("run_{n}"), reason: "r".to_owned() };
        let all = |workspace: &str| -> Vec<AuditEvent> {
            (0..1000).filter_map(|n| refusals.admitted(workspace, event(n))).collect()
        };
        let first = all("a");
        assert_eq!(first.len() as u32, MOST + 1);
        assert_eq!((&first[31], &first[32]), (&event(31), &more_refused("run_32".to_owned())));
        assert_eq!(all("b").len() as u32, MOST + 1, "another workspace has room of its own");
        assert!(all("a").is_empty());
        tokio::time::advance(WITHIN).await;
        assert_eq!(all("a").len() as u32, MOST + 1);
    }
}
