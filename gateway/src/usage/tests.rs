use orch_manifests::{Catalog, MicroUsd};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::dialect::Wire;
use crate::dialect::openai_chat::OpenAiChat;

/// 1 micro-dollar per input token and 2 per output token.
fn price() -> Price {
    Price { input_per_mtok: MicroUsd(1_000_000), output_per_mtok: MicroUsd(2_000_000), ..Price::FREE }
}

fn ask(input: u64, max_output: Option<u64>) -> Ask {
    Ask { input, max_output, answers: 1, price: Some(price()), cache_writes: false, owners_micro_usd: None }
}

fn counted(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

#[test]
fn nothing_is_bounded_without_limits() {
    let budget = Budget::new(None, None);
    let reservation = budget.reserve(&ask(1_000_000_000, Some(5))).unwrap();
    assert_eq!(reservation.max_output(), None);
    assert_eq!(reservation.broken_by(u64::MAX), None);
    assert_eq!(reservation.settle(&counted(10, 5)), Some(20));
    let spent = Spent { input_tokens: 10, output_tokens: 5, micro_usd: 20 };
    assert_eq!(budget.spent(), spent);
    assert_eq!(budget.hit(), None);
}

#[test]
fn an_answer_is_clamped_to_what_is_left() {
    let budget = Budget::new(Some(100), None);
    assert_eq!(budget.reserve(&ask(40, Some(50))).unwrap().max_output(), Some(50));
    assert_eq!(budget.reserve(&ask(40, Some(500))).unwrap().max_output(), Some(60));
    assert_eq!(budget.reserve(&ask(40, None)).unwrap().max_output(), Some(60));
    let two = Ask { answers: 2, ..ask(40, None) };
    assert_eq!(budget.reserve(&two).unwrap().max_output(), Some(30));
    let hit = LimitHit { name: "tokens", used: 0, limit: 100, needed: 101 };
    assert_eq!(budget.reserve(&ask(100, None)).unwrap_err(), ReserveError::Limit(hit));

    let budget = Budget::new(None, Some(100));
    assert_eq!(budget.reserve(&ask(40, None)).unwrap().max_output(), Some(30));
    let hit = LimitHit { name: "cost_usd", used: 0, limit: 100, needed: 101 };
    assert_eq!(budget.reserve(&ask(99, None)).unwrap_err(), ReserveError::Limit(hit));
}

#[test]
fn what_is_reserved_is_not_there_for_others_until_it_is_settled() {
    let budget = Budget::new(Some(100), None);
    let first = budget.reserve(&ask(10, Some(50))).unwrap();
    assert_eq!(budget.reserve(&ask(10, None)).unwrap().max_output(), Some(30));
    let hit = LimitHit { name: "tokens", used: 60, limit: 100, needed: 51 };
    assert_eq!(budget.reserve(&ask(50, None)).unwrap_err(), ReserveError::Limit(hit));
    first.settle(&counted(5, 5));
    assert_eq!(budget.reserve(&ask(10, None)).unwrap().max_output(), Some(80));
    drop(budget.reserve(&ask(10, None)).unwrap());
    assert_eq!(budget.reserve(&ask(10, None)).unwrap().max_output(), Some(80));
}

#[test]
fn a_cost_limit_needs_a_price() {
    let budget = Budget::new(None, Some(100));
    let unknown = Ask { price: None, ..ask(1, Some(1)) };
    assert_eq!(budget.reserve(&unknown).unwrap_err(), ReserveError::UnknownPrice);
    assert!(Budget::new(Some(100), None).reserve(&unknown).is_ok());
    let free = Ask { price: Some(Price::FREE), ..ask(1, None) };
    assert_eq!(budget.reserve(&free).unwrap().max_output(), None);
}

#[test]
fn a_stream_over_its_bound_is_told() {
    let budget = Budget::new(Some(100), None);
    let reservation = budget.reserve(&ask(10, Some(20))).unwrap();
    assert_eq!(reservation.broken_by(20), None);
    assert_eq!(reservation.broken_by(21).unwrap().name, "tokens");
    let budget = Budget::new(None, Some(100));
    let reservation = budget.reserve(&ask(10, Some(20))).unwrap();
    let hit = LimitHit { name: "cost_usd", used: 50, limit: 100, needed: 10 };
    assert_eq!(reservation.broken_by(25), Some(hit));
}

#[test]
fn estimates_stay_within_what_was_set_aside() {
    let budget = Budget::new(Some(100), None);
    let reservation = budget.reserve(&ask(10, Some(20))).unwrap();
    assert_eq!(reservation.estimate(None, Some(7)), counted(10, 7));
    assert_eq!(reservation.estimate(None, Some(700)), counted(10, 20));
    assert_eq!(reservation.estimate(None, None), counted(10, 20));
    assert_eq!(reservation.estimate(Some(counted(4, 1)), Some(7)), counted(4, 7));
}

#[test]
fn cache_writes_are_reserved_at_their_own_price() {
    let price = Catalog::builtin().provider("anthropic").unwrap().price("claude-3-haiku").unwrap();
    let plain = Ask { price: Some(price), ..ask(1_000_000, Some(1)) };
    let writes = Ask { cache_writes: true, ..plain };
    let budget = Budget::new(None, Some(290_000));
    assert!(budget.reserve(&plain).is_ok());
    assert!(budget.reserve(&writes).is_err());
}

#[test]
fn the_worst_input_counts_text_by_bytes_and_images_by_number() {
    let text = json!({"messages": [{"role": "user", "content": "x".repeat(1000)}]}).to_string();
    let parse = |body: &str| OpenAiChat.parse_request(body.as_bytes()).unwrap();
    let worst = worst_input(&parse(&text), text.len(), None);
    assert!((1000..1200).contains(&worst), "{worst}");
    assert_eq!(worst_input(&parse(&text), text.len(), Some(500)), 500);
    let url = format!("data:image/png;base64,{}", "A".repeat(1_000_000));
    let image = json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]});
    let image = image.to_string();
    let worst = worst_input(&parse(&image), image.len(), None);
    assert!((IMAGE_TOKENS..IMAGE_TOKENS + 1000).contains(&worst), "{worst}");
}

#[test]
fn wishes_for_cache_writes_are_found_wherever_they_are() {
    let mark = json!({"type": "ephemeral"});
    let found = |body: serde_json::Value| {
        let request =
            crate::dialect::anthropic::Anthropic.parse_request(body.to_string().as_bytes()).unwrap();
        asks_for_cache_writes(&request)
    };
    let said =
        |part: serde_json::Value| json!({"max_tokens": 1, "messages": [{"role": "user", "content": [part]}]});
    assert!(!found(said(json!({"type": "text", "text": "x"}))));
    assert!(found(said(json!({"type": "text", "text": "x", "cache_control": mark}))));
    assert!(found(said(json!({"type": "document", "cache_control": mark}))));
    assert!(found(said(json!({"type": "tool_result", "tool_use_id": "a",
        "content": [{"type": "text", "text": "x", "cache_control": mark}]}))));
    let mut tools = said(json!({"type": "text", "text": "x"}));
    tools["tools"] = json!([{"name": "f", "input_schema": {}, "cache_control": mark}]);
    assert!(found(tools));
}

#[test]
fn fifty_callers_never_go_over_together() {
    let budget = Budget::new(Some(10_000), Some(15_000));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                while let Ok(reservation) = budget.reserve(&ask(37, Some(80))) {
                    let output = reservation.max_output().unwrap();
                    assert_eq!(reservation.broken_by(output), None);
                    // The provider counts as much as it was allowed to.
                    reservation.settle(&counted(37, output));
                }
            });
        }
    });
    let spent = budget.spent();
    assert!(spent.input_tokens + spent.output_tokens <= 10_000 && spent.micro_usd <= 15_000, "{spent:?}");
    assert!(budget.reserve(&ask(37, Some(1))).is_err(), "what is left does not pay for one more: {spent:?}");
}

proptest! {
    #[test]
    fn the_largest_payable_answer_is_payable_and_one_more_is_not(left in 0u64..1 << 40, rate in 1u64..1 << 20, base in 0u64..1 << 20) {
        let cost = |output: u64| base.saturating_add(rate.saturating_mul(output));
        let can = payable_output(left, cost);
        prop_assert!(can == 0 || cost(can) <= left);
        prop_assert!(can == NO_BOUND || cost(can + 1) > left);
    }
}

#[test]
fn the_owner_of_the_key_bounds_the_call_without_a_limit_of_the_run() {
    let budget = Budget::new(None, None);
    let plain = ask(1_000, Some(1_000_000));
    assert_eq!(budget.reserve(&plain).expect("unbounded").max_output(), None);
    let needed = plain.cost(&price(), 1);
    let bounded = |owners_micro_usd| Ask { owners_micro_usd: Some(owners_micro_usd), ..plain };
    let reserved = budget.reserve(&bounded(2 * needed)).expect("it pays");
    assert!(reserved.max_output().is_some_and(|output| output < 1_000_000));
    assert!(reserved.micro_usd() <= 2 * needed);
    assert_eq!(budget.reserve(&bounded(needed - 1)).unwrap_err(), ReserveError::Owner);
    let unknown = Ask { price: None, ..bounded(u64::MAX) };
    assert_eq!(budget.reserve(&unknown).unwrap_err(), ReserveError::UnknownPrice);
}
