use orch_manifests::{Catalog, MicroUsd};
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn the_longest_payable_answer_is_payable_and_one_more_is_not(left in 0u64..1 << 40, rate in 1u64..1 << 20, base in 0u64..1 << 20) {
        let cost = |output: u64| base.saturating_add(rate.saturating_mul(output));
        match longest(1, &|output| cost(output) <= left) {
            None => prop_assert!(cost(1) > left),
            Some(can) => {
                prop_assert!(cost(can) <= left);
                prop_assert!(can == NO_BOUND || cost(can + 1) > left);
            }
        }
    }

    #[test]
    fn what_comes_on_top_adds_up_to_the_whole(input in 0u64..1 << 20, first in 0u64..1 << 20, more in 0u64..1 << 20, answers in 1u64..5) {
        let price = Price { input_per_mtok: MicroUsd(1_234_567), output_per_mtok: MicroUsd(7_654_321), ..Price::FREE };
        let ask = Ask { input, max_output: None, answers, price: Some(price), cache_writes: CacheWrites::None, already: None };
        let (had, top) = (ask.amount(first), Ask { already: Some(first), ..ask }.amount(first + more));
        let whole = ask.amount(first + more);
        prop_assert_eq!((had.tokens + top.tokens, had.micro_usd + top.micro_usd), (whole.tokens, whole.micro_usd));
    }
}

#[test]
fn a_cache_write_of_an_hour_is_reserved_at_twice_the_price_of_input() {
    let price = Catalog::builtin().provider("anthropic").unwrap().price("claude-3-haiku").unwrap();
    let cost = |cache_writes| {
        let ask = Ask {
            input: 1_000_000,
            max_output: None,
            answers: 1,
            price: Some(price),
            cache_writes,
            already: None,
        };
        ask.amount(0).micro_usd
    };
    let [none, short, long] = [CacheWrites::None, CacheWrites::Short, CacheWrites::Long].map(cost);
    assert_eq!((none, short, long), (250_000, 300_000, 500_000));
}

#[test]
fn a_bound_says_whose_it_is_and_when_it_renews() {
    let used = Amount { tokens: 90, micro_usd: 0 };
    let limit = Amount { tokens: 100, micro_usd: 0 };
    let of = BoundOf::Budget {
        budget: "team".to_owned(),
        renews_at: Some(time::macros::datetime!(2026-12-01 0:00 UTC)),
        set_by: "`budgets.team` in config.yaml".to_owned(),
    };
    let hit = LimitHit::short(of, Short::Tokens(20), used, limit);
    assert_eq!(
        hit.to_string(),
        "the budget `team` (tokens) is reached: 90 of 100 tokens are spent or reserved, and 20 more are needed; \
         it renews at 2026-12-01T00:00:00Z"
    );
    assert_eq!(
        serde_json::to_value(&hit).unwrap(),
        serde_json::json!({
            "name": "tokens", "used": 90, "limit": 100, "needed": 20, "of": "budget", "budget": "team",
            "renews_at": "2026-12-01T00:00:00Z", "set_by": "`budgets.team` in config.yaml",
        })
    );
}
