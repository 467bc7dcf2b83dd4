//! What a run, or a client of `orch proxy`, did: counted while decisions are made, because a ledger keeps the first of them
//! only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orch_proxy::{Decision, Outcome};
use orch_vault::{PlannedUse, SecretName};

/// The most refused hosts that go on record: an agent decides how many there are.
pub(super) const MOST_REFUSALS: usize = 32;
/// Places that uses are counted for, each; what an agent does beyond that is counted together.
pub(super) const MOST_PLACES: usize = 64;
/// Stands for the hosts that are counted together.
pub(super) const ELSEWHERE: &str = "*";

/// Exact counts, in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

/// The counts.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    /// How often each secret went to which host.
    pub(super) uses: Vec<(SecretName, BTreeMap<String, u64>)>,
    /// The hosts that were refused first, each once, in the order in which they were asked for: an agent decides how
    /// many there are, and not which of them are seen.
    pub(super) refused: Vec<String>,
    /// Whether there were others.
    pub(super) more_refused: bool,
    places: usize,
}

impl Tally {
    /// Nothing yet. Uses of these secrets will be counted, and of no others.
    pub(crate) fn of(planned: &[PlannedUse]) -> Self {
        let mut counts = Counts::default();
        for one in planned {
            if counts.uses.iter().all(|(known, _)| *known != one.secret) {
                counts.uses.push((one.secret.clone(), BTreeMap::new()));
            }
        }
        Self(Mutex::new(counts))
    }

    /// Counts a decision, whose texts hold nothing that the run holds.
    pub(crate) fn count(&self, decision: &Decision) {
        match decision.verdict {
            Outcome::Denied => self.lock().refuse(&decision.host),
            // Most requests carry nothing, and wait for nobody.
            Outcome::Allowed | Outcome::Failed if decision.injected.is_empty() => {}
            Outcome::Allowed | Outcome::Failed => {
                let mut counts = self.lock();
                decision.injected.iter().for_each(|name| counts.add(name, &decision.host));
            }
        }
    }

    /// What was counted so far.
    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing is half counted when somebody panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, name: &str, host: &str) {
        let Some((_, places)) = self.uses.iter_mut().find(|(secret, _)| secret.as_str() == name) else {
            return;
        };
        if let Some(count) = places.get_mut(host) {
            *count += 1;
        } else if self.places < MOST_PLACES {
            self.places += 1;
            places.insert(host.to_owned(), 1);
        } else {
            *places.entry(ELSEWHERE.to_owned()).or_default() += 1;
        }
    }

    fn refuse(&mut self, host: &str) {
        if self.refused.iter().any(|known| known == host) {
            return;
        }
        match self.refused.len() < MOST_REFUSALS {
            true => self.refused.push(host.to_owned()),
            false => self.more_refused = true,
        }
    }
}
