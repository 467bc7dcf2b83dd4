//! How the keys of a workspace fare at their providers: what was learnt from one call spares the next one the failure.
//!
//! Only what a provider said of a key counts, and only for the version of the key that it was said of: a key that is
//! replaced is another one. Keys that a caller brought along have no version and leave no trace, so that nobody's bad key
//! keeps another caller from anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use orch_proxy::Credential;
use serde::{Deserialize, Serialize};

use crate::classify::{Failure, RETRY_AFTER_CAP};
use crate::ir::Class;

/// How long a key is asked last for a model after a rate limit whose end the provider did not say.
const LIMITED: Duration = Duration::from_secs(5);
/// How long it is asked last for a model that it may not use, or that its provider does not have.
const REFUSED: Duration = Duration::from_secs(15 * 60);
/// How long it is asked last, whatever the model, when its account has nothing to spend.
const UNPAID: Duration = Duration::from_secs(5 * 60);
/// How long a key that its provider rejected is left alone before it is tried once more, after all others. Providers have odd
/// moments, and a key that is good again should not have to wait for a person; each further rejection doubles it.
const COOL: Duration = Duration::from_secs(10 * 60);
/// The most that becomes of it.
const LONGEST_COOL: Duration = Duration::from_secs(24 * 60 * 60);
/// Models that are kept of one key. A client can make up names.
const MODELS: usize = 64;
/// How far apart two looks at the clock may be without it having been set back.
const SKEW: Duration = Duration::from_secs(60);
/// The most that stands against a key for a while, its rejection aside. What ends later was noted by a clock that was ahead.
const LONGEST_REST: Duration = RETRY_AFTER_CAP.saturating_add(SKEW);
/// Ends that are closer together than this are the same, so that a storm of failures is not one of writes.
const SAME: Duration = Duration::from_secs(1);

/// What is known of one version of a key. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyHealth {
    /// The version of the secret.
    pub version: u64,
    /// When its provider rejected it last; it is not sent there again before [`KeyHealth::tried_again_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<u64>,
    /// How often in a row it was rejected, each time after it had been left alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rejections: u32,
    /// Until when it is asked last because its account has nothing to spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpaid: Option<u64>,
    /// What is known of it for single models.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Setback>,
}

/// Why a key rests for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// The class of the failure.
    pub class: Class,
    /// When it ends.
    pub until: u64,
    /// Whether the provider said when; before that it is not asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub said: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl KeyHealth {
    /// From when on a key that its provider rejected is tried once more; `None` when it was not rejected.
    #[must_use]
    pub fn tried_again_at(&self) -> Option<u64> {
        let rejected = self.rejected?;
        // Eight doublings are beyond the longest.
        let cool = COOL.saturating_mul(1 << self.rejections.saturating_sub(1).min(8)).min(LONGEST_COOL);
        Some(rejected.saturating_add(u64::try_from(cool.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whether nothing stands against the key any more.
    #[must_use]
    pub fn is_fine(&self, now: SystemTime) -> bool {
        let over = |until: u64| !stands(until, now);
        self.rejected.is_none()
            && self.unpaid.is_none_or(over)
            && self.models.values().all(|back| over(back.until))
    }

    /// Whether a key that its provider rejected may be tried once more.
    fn has_cooled(&self, now: SystemTime) -> bool {
        // By a clock that was set back since, nobody knows how long it was left alone.
        let is_ahead = self.rejected.is_some_and(|rejected| time(rejected) > now + SKEW);
        is_ahead || self.tried_again_at().is_none_or(|at| time(at) <= now)
    }

    fn note(&mut self, model: &str, class: Class, retry_after: Option<Duration>, now: SystemTime) {
        let until = |length: Duration| millis(now + length);
        match class {
            // Calls that were under way together are one rejection.
            Class::BadKey if self.has_cooled(now) => {
                self.rejections = self.rejections.saturating_add(1);
                self.rejected = Some(millis(now));
            }
            Class::BadKey => {}
            Class::OutOfMoney => self.unpaid = Some(until(retry_after.unwrap_or(UNPAID).max(UNPAID))),
            Class::RateLimited => {
                let (length, said) = (retry_after.unwrap_or(LIMITED), retry_after.is_some());
                self.set_back(model, Setback { class, until: until(length), said }, now);
            }
            Class::NoAccess | Class::NoModel => {
                self.set_back(model, Setback { class, until: until(REFUSED), said: false }, now);
            }
            // These are the provider's troubles, or the request's.
            Class::BadRequest
            | Class::Overloaded
            | Class::Server
            | Class::ContextTooLong
            | Class::RefusedByFilter
            | Class::Timeout
            | Class::Truncated
            | Class::Network => {}
        }
    }

    fn set_back(&mut self, model: &str, back: Setback, now: SystemTime) {
        self.models.retain(|_, back| stands(back.until, now));
        if self.models.len() >= MODELS && !self.models.contains_key(model) {
            let soonest =
                self.models.iter().min_by_key(|(_, back)| back.until).map(|(model, _)| model.clone());
            if let Some(soonest) = soonest {
                self.models.remove(&soonest);
            }
        }
        self.models.insert(model.to_owned(), back);
    }

    /// Whether the other says the same, but for ends that lie close together.
    fn is_like(&self, other: &KeyHealth) -> bool {
        let close = |a: u64, b: u64| u128::from(a.abs_diff(b)) < SAME.as_millis();
        let both = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => close(a, b),
            (None, None) => true,
            _ => false,
        };
        self.version == other.version
            && self.rejected.is_some() == other.rejected.is_some()
            && self.rejections == other.rejections
            && both(self.unpaid, other.unpaid)
            && self.models.len() == other.models.len()
            && self.models.iter().zip(&other.models).all(|((name, a), (other, b))| {
                name == other && a.class == b.class && a.said == b.said && close(a.until, b.until)
            })
    }
}

/// How a key stands for a model, at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Fine,
    /// It is asked after those that are fine.
    Rests(Rest),
    /// Its provider rejected it, and it is left alone until then.
    Rejected(SystemTime),
}

/// Why a key is asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) class: Class,
    pub(crate) until: SystemTime,
    /// Whether the provider said so: it is not asked before that.
    pub(crate) said: bool,
}

/// Hears of each change: the key's name, and what is known of it now.
type Sink = Box<dyn Fn(&str, &KeyHealth) + Send + Sync>;

/// The health of the keys of one workspace.
#[derive(Default)]
pub struct Health {
    keys: RwLock<HashMap<String, KeyHealth>>,
    sink: Option<Sink>,
}

impl Health {
    /// Nothing is known, and what is learnt is told nobody.
    #[must_use]
    pub fn unknown() -> Health {
        Health::default()
    }

    /// Goes on from what was known. `sink` hears of every change and must not block.
    #[must_use]
    pub fn kept(
        known: impl IntoIterator<Item = (String, KeyHealth)>,
        sink: impl Fn(&str, &KeyHealth) + Send + Sync + 'static,
    ) -> Health {
        Health { keys: RwLock::new(known.into_iter().collect()), sink: Some(Box::new(sink)) }
    }

    /// What is known of each key, by name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, KeyHealth> {
        self.read().iter().map(|(name, health)| (name.clone(), health.clone())).collect()
    }

    /// Forgets what is known of the key of this name; false when nothing was.
    pub fn reset(&self, name: &str) -> bool {
        let known = self.read().get(name).is_some_and(|health| *health != fresh(health.version));
        if known {
            self.change(name, |health| *health = fresh(health.version));
        }
        known
    }

    pub(crate) fn state(&self, credential: &dyn Credential, model: &str, now: SystemTime) -> State {
        let Some(version) = credential.version() else { return State::Fine };
        let keys = self.read();
        let Some(health) = keys.get(credential.id()).filter(|health| health.version == version) else {
            return State::Fine;
        };
        if let Some(at) = health.tried_again_at().map(time) {
            return match health.has_cooled(now) {
                false => State::Rejected(at),
                true => State::Rests(Rest { class: Class::BadKey, until: at, said: false }),
            };
        }
        let unpaid = health.unpaid.map(|until| Setback { class: Class::OutOfMoney, until, said: false });
        let backs = [health.models.get(model).copied(), unpaid];
        let standing = backs.into_iter().flatten().filter(|back| stands(back.until, now));
        let worst = standing.max_by_key(|back| (back.said, back.until));
        match worst {
            None => State::Fine,
            Some(back) => State::Rests(Rest { class: back.class, until: time(back.until), said: back.said }),
        }
    }

    /// A call with this key failed; `status` is what the provider answered with. What never reached it says nothing of the
    /// key. Nor does a rejection that only the words of a refused request tell: those may be the client's own, repeated.
    pub(crate) fn failed(
        &self,
        credential: &dyn Credential,
        model: &str,
        failure: &Failure,
        status: Option<StatusCode>,
        now: SystemTime,
    ) {
        let (Some(version), Some(status)) = (credential.version(), status) else { return };
        if failure.class == Class::BadKey && !failure.rejects_the_key(status) {
            return;
        }
        let before = self.read().get(credential.id()).cloned();
        // What is said of a version that was replaced meanwhile is about nothing any more.
        if before.as_ref().is_some_and(|health| health.version > version) {
            return;
        }
        let before = before.filter(|health| health.version == version).unwrap_or_else(|| fresh(version));
        let mut after = before.clone();
        after.note(model, failure.class, failure.retry_after, now);
        if after.is_like(&before) {
            return;
        }
        self.change(credential.id(), |health| {
            if health.version < version {
                *health = fresh(version);
            }
            health.note(model, failure.class, failure.retry_after, now);
        });
    }

    /// A call with this key was answered.
    pub(crate) fn served(&self, credential: &dyn Credential, model: &str) {
        let Some(version) = credential.version() else { return };
        let stands = |health: &KeyHealth| {
            health.version == version
                && (health.rejected.is_some() || health.unpaid.is_some() || health.models.contains_key(model))
        };
        if !self.read().get(credential.id()).is_some_and(stands) {
            return;
        }
        self.change(credential.id(), |health| {
            (health.rejected, health.rejections, health.unpaid) = (None, 0, None);
            health.models.remove(model);
        });
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut KeyHealth)) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let health = keys.entry(name.to_owned()).or_default();
        change(health);
        // Under the lock, so that what is told last is what holds.
        if let Some(sink) = &self.sink {
            sink(name, health);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, KeyHealth>> {
        // Every change of it is whole.
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh(version: u64) -> KeyHealth {
    KeyHealth { version, ..KeyHealth::default() }
}

/// Whether something that ends then has not ended.
fn stands(until: u64, now: SystemTime) -> bool {
    time(until).duration_since(now).is_ok_and(|left| !left.is_zero() && left <= LONGEST_REST)
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    // A file may have been edited: what no clock can show is long past every deadline.
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
