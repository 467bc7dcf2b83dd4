//! Who is asked, in which order, and who is passed over and why: a pure function of the plan, of what is known of the
//! keys, and of dice.

use std::time::SystemTime;

use super::{Candidate, Keyed, Planned};
use crate::health::{Health, State};
use crate::ir::Class;
use crate::receipt::Skipped;

/// Gives a number below the one that it is asked for, which is not 0.
pub(crate) type Dice<'d> = &'d mut dyn FnMut(u64) -> u64;

/// The candidates of one call, and what was left out.
#[derive(Default)]
pub(crate) struct Picked {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) skipped: Vec<Skipped>,
}

/// Makes candidates of the plan's models.
///
/// Steps follow one another; within a step the order of the models, and within a model that of its keys, is drawn by
/// weight. Keys that rest come after all others, those first that may be asked at once, then those that rest the
/// shortest. Keys that their provider rejected are left out.
pub(crate) fn pick(planned: &[Planned], health: &Health, now: SystemTime, dice: Dice<'_>) -> Picked {
    let mut picked = Picked::default();
    let mut resting = Vec::new();
    let mut steps: Vec<u32> = planned.iter().map(|planned| planned.step).collect();
    steps.sort_unstable();
    steps.dedup();
    for step in steps {
        let (of_step, out): (Vec<&Planned>, Vec<&Planned>) =
            planned.iter().filter(|planned| planned.step == step).partition(|planned| planned.weight > 0);
        for planned in out {
            picked.skipped.push(Skipped::new(&planned.name(), "its weight is 0"));
        }
        for planned in drawn(of_step, |planned| planned.weight, dice) {
            if planned.keys.is_empty() {
                picked.candidates.push(candidate(planned, None));
            }
            for key in drawn(planned.keys.iter().collect(), |key| key.weight, dice) {
                let mut candidate = candidate(planned, Some(key));
                match health.state(&*key.credential, candidate.sent(), now) {
                    State::Fine => picked.candidates.push(candidate),
                    State::Rests(rest) => {
                        candidate.rest = Some(rest);
                        resting.push(candidate);
                    }
                    State::Rejected(until) => {
                        let minutes = until.duration_since(now).unwrap_or_default().as_secs() / 60 + 1;
                        // What others have lent goes by no name that a command takes.
                        let id = key.credential.id();
                        let named = if id.contains('/') { candidate.provider.slug.as_str() } else { id };
                        let reason = format!(
                            "{} rejected this key before, and it is tried again in {minutes} min; replace it, or `orch \
                             providers reset {named}`",
                            candidate.provider.slug,
                        );
                        picked.skipped.push(Skipped::of(&candidate, reason).sparing(Class::BadKey));
                    }
                }
            }
        }
    }
    resting.sort_by_key(|candidate| candidate.rest.map(|rest| (rest.said, rest.until)));
    picked.candidates.extend(resting);
    picked
}

fn candidate(planned: &Planned, key: Option<&Keyed>) -> Candidate {
    Candidate {
        provider: planned.provider.clone(),
        model: planned.model.clone(),
        sent: planned.sent.clone(),
        priced_as_model: planned.priced_as_model,
        credential: key.map(|key| key.credential.clone()),
        dialect: planned.dialect,
        on: planned.on,
        rest: None,
    }
}

/// All of them, in an order in which each comes first as often as its weight says.
fn drawn<T>(mut all: Vec<T>, weight: impl Fn(&T) -> u16, dice: Dice<'_>) -> Vec<T> {
    let mut order = Vec::with_capacity(all.len());
    while all.len() > 1 {
        let total: u64 = all.iter().map(|one| u64::from(weight(one))).sum();
        if total == 0 {
            break;
        }
        let mut left = dice(total);
        let place = all.iter().position(|one| {
            let share = u64::from(weight(one));
            let hit = left < share;
            left = left.saturating_sub(share);
            hit
        });
        order.push(all.remove(place.unwrap_or(0)));
    }
    order.append(&mut all);
    order
}

#[cfg(test)]
mod tests;
