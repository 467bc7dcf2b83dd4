use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use orch_manifests::{Catalog, OnError};
use orch_proxy::{AuthorizeError, Credential, Scrubber, Use};
use proptest::prelude::*;

use super::*;
use crate::classify::Failure;
use crate::ir::Class;

struct Key(String);

impl Credential for Key {
    fn id(&self) -> &str {
        &self.0
    }
    fn source(&self) -> &str {
        "vault"
    }
    fn version(&self) -> Option<u64> {
        Some(1)
    }
    fn authorize(
        &self,
        _: &mut http::request::Parts,
        _: Option<&[u8; 32]>,
        _: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        Ok(None)
    }
    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        None
    }
}

fn planned(model: &str, step: u32, weight: u16, keys: &[(&str, u16)]) -> Planned {
    let provider = Catalog::builtin().provider("openai").cloned().map(Arc::new);
    let keyed = |(name, weight): &(&str, u16)| Keyed {
        credential: Arc::new(Key((*name).to_owned())) as Arc<dyn Credential>,
        weight: *weight,
    };
    Planned {
        provider: provider.expect("built in"),
        model: model.into(),
        sent: None,
        priced_as_model: false,
        keys: keys.iter().map(keyed).collect(),
        dialect: None,
        route: None,
        step,
        weight,
        on: OnError::default(),
    }
}

/// `model+key` of each candidate, in order.
fn order(picked: &Picked) -> Vec<String> {
    let name = |candidate: &Candidate| {
        let key = candidate.credential.as_ref().map(|key| format!("+{}", key.id()));
        format!("{}{}", candidate.model, key.unwrap_or_default())
    };
    picked.candidates.iter().map(name).collect()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000)
}

fn always(number: u64) -> impl FnMut(u64) -> u64 {
    move |below| number.min(below - 1)
}

#[test]
fn steps_follow_one_another_and_each_model_has_all_its_keys() {
    let plan = [planned("b", 2, 1, &[]), planned("a", 1, 1, &[("K", 1), ("L", 1)])];
    let picked = pick(&plan, &Health::unknown(), now(), &mut always(0));
    assert_eq!(order(&picked), ["a+K", "a+L", "b"]);
    assert!(picked.skipped.is_empty());
    assert_eq!(order(&pick(&plan, &Health::unknown(), now(), &mut always(u64::MAX))), ["a+L", "a+K", "b"]);
}

#[test]
fn a_weight_of_nothing_takes_a_model_out_and_that_is_said() {
    let plan = [planned("a", 1, 0, &[("K", 1)]), planned("b", 1, 1, &[("K", 1)])];
    let picked = pick(&plan, &Health::unknown(), now(), &mut always(0));
    assert_eq!(order(&picked), ["b+K"]);
    assert_eq!((picked.skipped.len(), picked.skipped[0].model.as_str()), (1, "openai/a"));
}

#[test]
fn calls_are_split_by_weight() {
    let plan = [planned("a", 1, 3, &[("K", 1), ("L", 4)]), planned("b", 1, 1, &[])];
    let mut first: BTreeMap<String, u32> = BTreeMap::new();
    // Each number below the total comes up equally often.
    let mut seed = 0_u64;
    for _ in 0..4_000 {
        let mut dice = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let picked = pick(&plan, &Health::unknown(), now(), &mut dice);
        *first.entry(order(&picked)[0].clone()).or_default() += 1;
    }
    for (name, share) in [("a+K", 600), ("a+L", 2_400), ("b", 1_000)] {
        let got = first[name];
        assert!(got.abs_diff(share) < 150, "{name} came first {got} times of 4000, and not about {share}");
    }
}

#[test]
fn keys_that_rest_come_last_and_rejected_ones_not_at_all() {
    let plan = [
        planned("a", 1, 1, &[("LIMITED", 1), ("REJECTED", 1), ("FINE", 1), ("UNPAID", 1)]),
        planned("b", 2, 1, &[]),
    ];
    let health = Health::unknown();
    let failed = |key: &str, class, seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        let failure = Failure { retry_after, ..Failure::new(class, "no") };
        health.failed(&Key(key.to_owned()), "a", &failure, Some(http::StatusCode::UNAUTHORIZED), now());
    };
    failed("LIMITED", Class::RateLimited, 9);
    failed("REJECTED", Class::BadKey, 0);
    failed("UNPAID", Class::OutOfMoney, 0);
    let picked = pick(&plan, &health, now(), &mut always(0));
    // Who may be asked at once comes before who said when to come back.
    assert_eq!(order(&picked), ["a+FINE", "b", "a+UNPAID", "a+LIMITED"]);
    let rest = picked.candidates[3].rest.expect("it rests");
    assert_eq!(
        (rest.class, rest.said, rest.until),
        (Class::RateLimited, true, now() + Duration::from_secs(9))
    );
    let skipped = &picked.skipped[0];
    assert_eq!((skipped.credential.as_deref(), skipped.class), (Some("REJECTED"), Some(Class::BadKey)));
    assert!(skipped.reason.contains("orch providers reset REJECTED"), "{}", skipped.reason);

    let later = pick(&plan, &health, now() + Duration::from_secs(10), &mut always(0));
    assert_eq!(order(&later)[0], "a+LIMITED", "its time is over");
}

proptest! {
    /// Whatever the weights and dice: every model with a weight is there once with each key, and no step comes before
    /// the one that precedes it.
    #[test]
    fn nobody_is_lost_or_asked_twice(
        shape in proptest::collection::vec((0_u32..4, 0_u16..5, 0_usize..4), 0..8),
        rolls in proptest::collection::vec(any::<u64>(), 64),
    ) {
        let names = ["K", "L", "M"];
        let plan: Vec<Planned> = shape.iter().enumerate().map(|(n, (step, weight, keys))| {
            let keys: Vec<(&str, u16)> = names[..*keys].iter().map(|name| (*name, 1)).collect();
            planned(&format!("m{n}"), *step, *weight, &keys)
        }).collect();
        let mut rolls = rolls.into_iter().cycle();
        let picked = pick(&plan, &Health::unknown(), now(), &mut |below| rolls.next().unwrap_or(0) % below);
        let mut got = order(&picked);
        let steps: Vec<u32> = picked.candidates.iter().map(|c| {
            plan.iter().find(|p| p.model == c.model).map_or(0, |p| p.step)
        }).collect();
        prop_assert!(steps.is_sorted());
        let mut wanted: Vec<String> = plan.iter().filter(|p| p.weight > 0).flat_map(|p| match p.keys.is_empty() {
            true => vec![p.model.clone()],
            false => p.keys.iter().map(|k| format!("{}+{}", p.model, k.credential.id())).collect(),
        }).collect();
        got.sort();
        wanted.sort();
        prop_assert_eq!(got, wanted);
        prop_assert_eq!(picked.skipped.len(), plan.iter().filter(|p| p.weight == 0).count());
    }
}
