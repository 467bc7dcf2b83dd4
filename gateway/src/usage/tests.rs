use futures_util::FutureExt as _;
use orch_manifests::{Catalog, MicroUsd, Price};

use super::*;
use crate::purse::CacheWrites;

/// 1 micro-dollar per input token and 2 per output token.
fn price() -> Price {
    Price { input_per_mtok: MicroUsd(1_000_000), output_per_mtok: MicroUsd(2_000_000), ..Price::FREE }
}

fn ask(input: u64, max_output: Option<u64>) -> Ask {
    Ask {
        input,
        max_output,
        answers: 1,
        price: Some(price()),
        cache_writes: CacheWrites::None,
        already: None,
    }
}

/// What the budget alone gives for it.
fn limit(why: Unreserved) -> LimitHit {
    match why {
        Unreserved::Limit(hit) => hit,
        Unreserved::Unavailable(why) => panic!("{why}"),
    }
}

fn reserve(budget: &Arc<Budget>, ask: &Ask) -> Result<Reservation, LimitHit> {
    Payers::of(budget, None, None).reserve(*ask).now_or_never().expect("nothing is waited for").map_err(limit)
}

/// Whether so much output can be paid for.
fn cover(reservation: &mut Reservation, output: u64) -> Result<(), LimitHit> {
    reservation.cover(output).now_or_never().expect("nothing is waited for").map_err(limit)
}

fn counted(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

#[test]
fn nothing_is_bounded_without_limits() {
    let budget = Budget::new(None, None);
    let mut reservation = reserve(&budget, &ask(1_000_000_000, Some(5))).unwrap();
    assert_eq!(reservation.max_output(), None);
    assert_eq!(cover(&mut reservation, u64::MAX), Ok(()));
    assert_eq!(reservation.settle(&counted(10, 5)), Some(20));
    let spent = Spent { input_tokens: 10, output_tokens: 5, micro_usd: 20 };
    assert_eq!(budget.spent(), spent);
    assert_eq!(budget.hit(), None);
}

#[test]
fn an_answer_is_clamped_to_what_is_left() {
    let budget = Budget::new(Some(100), None);
    assert_eq!(reserve(&budget, &ask(40, Some(50))).unwrap().max_output(), Some(50));
    assert_eq!(reserve(&budget, &ask(40, Some(500))).unwrap().max_output(), Some(60));
    assert_eq!(reserve(&budget, &ask(40, None)).unwrap().max_output(), Some(60));
    let two = Ask { answers: 2, ..ask(40, None) };
    assert_eq!(reserve(&budget, &two).unwrap().max_output(), Some(30));
    let hit = LimitHit::of_run("tokens", 0, 100, Some(101));
    assert_eq!(reserve(&budget, &ask(100, None)).err(), Some(hit));

    let budget = Budget::new(None, Some(100));
    assert_eq!(reserve(&budget, &ask(40, None)).unwrap().max_output(), Some(30));
    let hit = LimitHit::of_run("cost_usd", 0, 100, Some(101));
    assert_eq!(reserve(&budget, &ask(99, None)).err(), Some(hit));
}

#[test]
fn what_is_reserved_is_not_there_for_others_until_it_is_settled() {
    let budget = Budget::new(Some(100), None);
    let first = reserve(&budget, &ask(10, Some(50))).unwrap();
    assert_eq!(reserve(&budget, &ask(10, None)).unwrap().max_output(), Some(30));
    let hit = LimitHit::of_run("tokens", 60, 100, Some(51));
    assert_eq!(reserve(&budget, &ask(50, None)).err(), Some(hit));
    first.settle(&counted(5, 5));
    assert_eq!(reserve(&budget, &ask(10, None)).unwrap().max_output(), Some(80));
    drop(reserve(&budget, &ask(10, None)).unwrap());
    assert_eq!(reserve(&budget, &ask(10, None)).unwrap().max_output(), Some(80));
}

#[test]
fn a_cost_limit_needs_a_price() {
    let budget = Budget::new(None, Some(100));
    let unknown = Ask { price: None, ..ask(1, Some(1)) };
    assert_eq!(reserve(&budget, &unknown).err(), Some(LimitHit::of_run("cost_usd", 0, 100, None)));
    assert!(reserve(&Budget::new(Some(100), None), &unknown).is_ok());
    let free = Ask { price: Some(Price::FREE), ..ask(1, None) };
    assert_eq!(reserve(&budget, &free).unwrap().max_output(), None);
}

#[test]
fn an_answer_that_goes_on_is_paid_for_as_long_as_there_is_anything() {
    // Whoever sent a bound of 20 may be given 90, as far as the budget goes; nobody may be given 91.
    let budget = Budget::new(Some(100), None);
    let mut reservation = reserve(&budget, &ask(10, Some(20))).unwrap();
    for output in [20, 21, 90] {
        assert_eq!(cover(&mut reservation, output), Ok(()), "{output}");
    }
    assert_eq!(budget.lock().reserved, Amount { tokens: 100, micro_usd: 190 });
    assert_eq!(cover(&mut reservation, 91), Err(LimitHit::of_run("tokens", 100, 100, Some(1))));
    reservation.settle(&counted(10, 50));
    assert_eq!(budget.lock().used(), Amount { tokens: 60, micro_usd: 110 });

    let budget = Budget::new(None, Some(100));
    let mut reservation = reserve(&budget, &ask(10, Some(20))).unwrap();
    let other = reserve(&budget, &ask(10, Some(5))).unwrap();
    assert_eq!(cover(&mut reservation, 35), Ok(()));
    assert_eq!(cover(&mut reservation, 36), Err(LimitHit::of_run("cost_usd", 100, 100, Some(2))));
    drop(other);
    assert_eq!(cover(&mut reservation, 36), Ok(()), "what others let go of is there");
}

#[test]
fn estimates_stay_within_what_was_set_aside() {
    let budget = Budget::new(Some(100), None);
    let reservation = reserve(&budget, &ask(10, Some(20))).unwrap();
    assert_eq!(reservation.estimate(None, Some(7)), counted(10, 7));
    assert_eq!(reservation.estimate(None, Some(700)), counted(10, 20));
    assert_eq!(reservation.estimate(None, None), counted(10, 20));
    assert_eq!(reservation.estimate(Some(counted(4, 1)), Some(7)), counted(4, 7));
}

#[test]
fn cache_writes_are_reserved_at_their_own_price() {
    let price = Catalog::builtin().provider("anthropic").unwrap().price("claude-3-haiku").unwrap();
    let plain = Ask { price: Some(price), ..ask(1_000_000, Some(1)) };
    let writes = Ask { cache_writes: CacheWrites::Short, ..plain };
    let budget = Budget::new(None, Some(290_000));
    assert!(reserve(&budget, &plain).is_ok());
    assert!(reserve(&budget, &writes).is_err());
}

#[test]
fn fifty_callers_never_go_over_together() {
    let budget = Budget::new(Some(10_000), Some(15_000));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                while let Ok(mut reservation) = reserve(&budget, &ask(37, Some(80))) {
                    let output = reservation.max_output().unwrap();
                    assert_eq!(cover(&mut reservation, output), Ok(()));
                    // The provider counts as much as it was allowed to.
                    reservation.settle(&counted(37, output));
                }
            });
        }
    });
    let spent = budget.spent();
    assert!(spent.input_tokens + spent.output_tokens <= 10_000 && spent.micro_usd <= 15_000, "{spent:?}");
    assert!(
        reserve(&budget, &ask(37, Some(1))).is_err(),
        "what is left does not pay for one more: {spent:?}"
    );
}

/// A key whose owner bounds what it may cost.
struct Lent(Arc<Mutex<i64>>);

impl Credential for Lent {
    fn id(&self) -> &str {
        "LENT"
    }
    fn source(&self) -> &str {
        "vault"
    }
    fn authorize(
        &self,
        _: &mut http::request::Parts,
        _: Option<&[u8; 32]>,
        _: orch_proxy::Use<'_>,
    ) -> Result<Option<Arc<orch_proxy::Scrubber>>, orch_proxy::AuthorizeError> {
        Ok(None)
    }
    fn scrubber(&self) -> Option<Arc<orch_proxy::Scrubber>> {
        None
    }
    fn money_left(&self) -> Option<u64> {
        u64::try_from(*self.0.lock().unwrap()).ok()
    }
    fn hold(&self, micro_usd: u64) -> Option<Box<dyn orch_proxy::Hold>> {
        struct Part(Arc<Mutex<i64>>, i64);
        impl orch_proxy::Hold for Part {
            fn spend(&self, cost: u64) {
                *self.0.lock().unwrap() -= cost.cast_signed();
            }
        }
        impl Drop for Part {
            fn drop(&mut self) {
                *self.0.lock().unwrap() += self.1;
            }
        }
        let mut left = self.0.lock().unwrap();
        let part = micro_usd.cast_signed();
        if part > *left {
            return None;
        }
        *left -= part;
        drop(left);
        Some(Box::new(Part(Arc::clone(&self.0), part)))
    }
}

#[test]
fn the_owner_of_the_key_bounds_the_call_and_the_stream_without_a_limit_of_the_run() {
    let left = Arc::new(Mutex::new(100));
    let key: Arc<dyn Credential> = Arc::new(Lent(Arc::clone(&left)));
    let budget = Budget::new(None, None);
    let reserve = |ask: &Ask| {
        let reserved = Payers::of(&budget, Some(&key), None).reserve(*ask).now_or_never();
        reserved.expect("nothing is waited for").map_err(limit)
    };
    let mut reservation = reserve(&ask(10, Some(20))).unwrap();
    assert_eq!((reservation.max_output(), *left.lock().unwrap()), (Some(20), 50));
    // A provider that ignores its bound is cut when the owner's money is gone, and not before.
    assert_eq!(cover(&mut reservation, 45), Ok(()));
    let hit = cover(&mut reservation, 46).expect_err("the owner pays for no more");
    assert_eq!((hit.of, hit.needed), (BoundOf::Key { key: "LENT".to_owned() }, Some(2)));
    assert_eq!(reservation.settle(&counted(10, 45)), Some(100));
    assert_eq!(*left.lock().unwrap(), 0);
    let hit = reserve(&ask(10, Some(20))).err().expect("nothing is left");
    assert_eq!(hit.of, BoundOf::Key { key: "LENT".to_owned() });
    let unknown = reserve(&Ask { price: None, ..ask(1, Some(1)) }).err().expect("refused");
    assert_eq!(unknown.needed, None);
}

#[test]
fn a_cache_write_of_an_hour_is_booked_at_its_own_price() {
    use crate::dialect::Wire as _;
    let answer = serde_json::json!({
        "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 1_000_000,
            "cache_creation": { "ephemeral_5m_input_tokens": 400_000, "ephemeral_1h_input_tokens": 600_000 },
        },
    });
    let usage = crate::dialect::anthropic::Anthropic.read_response(answer).unwrap().usage.unwrap();
    assert_eq!((usage.cache_write, usage.cache_write_1h), (1_000_000, 600_000));
    let price = Catalog::builtin().provider("anthropic").unwrap().price("claude-3-haiku").unwrap();
    let budget = Budget::new(None, None);
    let reservation = reserve(&budget, &Ask { price: Some(price), ..ask(1, Some(1)) }).unwrap();
    assert_eq!(reservation.settle(&usage), Some(400_000 * 3 / 10 + 600_000 / 2));
}
