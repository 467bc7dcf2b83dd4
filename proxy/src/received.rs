//! What each origin got under a grant: a host may say later, and in answer to anything, what it was told once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use orch_manifests::{Host, Scheme};

use crate::Scrubber;
use crate::pool::Key;

/// How many values are remembered for one origin: a run has a few credentials, of which each is replaced now and then.
const MOST: usize = 64;

/// Scrubbers for every value that was put into a request, by the origin that it went to. Nothing is there, and nothing
/// is locked, as long as there is none.
#[derive(Default)]
pub(crate) struct Received(OnceLock<Mutex<HashMap<Host, Vec<Origin>>>>);

/// A host at one port.
struct Origin {
    scheme: Scheme,
    port: u16,
    /// The value that was used last comes last.
    scrubbers: Vec<Arc<Scrubber>>,
}

impl Received {
    /// Notes that the origin is about to get these.
    pub(crate) fn note(&self, key: &Key, scrubbers: &[Arc<Scrubber>]) {
        if scrubbers.is_empty() {
            return;
        }
        let hosts = self.0.get_or_init(Mutex::default);
        let mut hosts = hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let origins = match hosts.get_mut(&key.host) {
            Some(origins) => origins,
            None => hosts.entry(key.host.clone()).or_default(),
        };
        let at = origins.iter().position(|origin| origin.is(key)).unwrap_or_else(|| {
            origins.push(Origin { scheme: key.scheme, port: key.port, scrubbers: Vec::new() });
            origins.len() - 1
        });
        let known = &mut origins[at].scrubbers;
        for scrubber in scrubbers {
            match known.iter().position(|other| same(other, scrubber)) {
                Some(before) => known[before..].rotate_left(1),
                None => known.push(Arc::clone(scrubber)),
            }
        }
        // The one that was not used for the longest time goes, and only when there is no more room.
        let surplus = known.len().saturating_sub(MOST);
        known.drain(..surplus);
    }

    /// What finds every value that the origin got.
    pub(crate) fn by(&self, key: &Key) -> Vec<Arc<Scrubber>> {
        let Some(hosts) = self.0.get() else { return Vec::new() };
        let hosts = hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = hosts.get(&key.host).and_then(|origins| origins.iter().find(|origin| origin.is(key)));
        origin.map(|origin| origin.scrubbers.clone()).unwrap_or_default()
    }
}

impl Origin {
    fn is(&self, key: &Key) -> bool {
        self.scheme == key.scheme && self.port == key.port
    }
}

fn same(one: &Arc<Scrubber>, other: &Arc<Scrubber>) -> bool {
    Arc::ptr_eq(one, other) || one.finds_the_same(other)
}

#[cfg(test)]
mod tests {
    use orch_manifests::RunId;
    use tokio::time::Instant;

    use super::*;
    use crate::dial::{Route, Via};
    use crate::tenancy::Tenancy;
    use crate::{Grant, Maker};

    fn key(scheme: Scheme, host: &str, port: u16) -> Key {
        let grant = Grant {
            run: RunId::random(),
            workspace: "default".to_owned(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            limits: crate::Limits::default(),
            expires: Instant::now(),
        };
        let route = Route { scheme, host: Host::Name(host.parse().unwrap()), port, via: Via::Name };
        Key::new(Tenancy::of(&grant, &[]), Maker::Guest, &route)
    }

    fn scrubber(number: usize) -> Arc<Scrubber> {
        Arc::new(Scrubber::new(format!("a value with number {number:03}").as_bytes()).unwrap())
    }

    /// The numbers of the values that are found.
    fn found(received: &Received, key: &Key) -> Vec<usize> {
        let known = received.by(key);
        let finds = |number: &usize| {
            known.iter().any(|one| one.clean(format!("a value with number {number:03}").as_bytes()).is_some())
        };
        (0..200).filter(finds).collect()
    }

    #[test]
    fn each_origin_has_its_own_and_each_value_once() {
        let received = Received::default();
        let here = key(Scheme::Https, "a.example.com", 443);
        assert!(received.by(&here).is_empty());
        received.note(&here, &[]);
        assert!(received.0.get().is_none());
        received.note(&here, &[scrubber(1), scrubber(2)]);
        received.note(&here, &[scrubber(1)]);
        assert_eq!((found(&received, &here), received.by(&here).len()), (vec![1, 2], 2));
        for other in [
            key(Scheme::Http, "a.example.com", 443),
            key(Scheme::Https, "a.example.com", 8443),
            key(Scheme::Https, "b.example.com", 443),
        ] {
            assert!(received.by(&other).is_empty());
            received.note(&other, &[scrubber(3)]);
            assert_eq!(found(&received, &other), [3]);
        }
        assert_eq!(found(&received, &here), [1, 2]);
    }

    #[test]
    fn there_is_a_bound_and_what_was_used_last_stays() {
        let received = Received::default();
        let here = key(Scheme::Https, "a.example.com", 443);
        for number in 0..MOST {
            received.note(&here, &[scrubber(number)]);
        }
        received.note(&here, &[scrubber(0)]);
        received.note(&here, &[scrubber(MOST)]);
        let left: Vec<usize> = std::iter::once(0).chain(2..=MOST).collect();
        assert_eq!(found(&received, &here), left);
    }
}
