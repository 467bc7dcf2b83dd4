use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use orch_gateway::ir::Usage;
use orch_gateway::{Ask, Granted, Held, Outcome, Timing, Treasury, Unreserved};
use serde_json::json;
use tokio::task::JoinSet;

use crate::upstream::{Reply, Then, pieces, says, whole};
use crate::world::{Setup, World, hello, hello_stream};

#[tokio::test]
async fn rule_5_the_answer_is_bounded_by_what_is_left() {
    let world = World::new(Setup { max_tokens: Some(500), ..Setup::default() }).await;
    world.openai.script([says("hi")]);
    assert_eq!(world.chat(&hello()).await.status, 200);
    let bound = world.openai.asked()[0].body["max_completion_tokens"].as_u64().unwrap();
    assert!((200..500).contains(&bound), "{bound}");
    let spent = world.session.budget.spent();
    assert_eq!((spent.input_tokens, spent.output_tokens), (20, 7));
}

/// A treasury whose disk is full.
struct Full;

impl Treasury for Full {
    fn reserve<'a>(&'a self, _: Option<&'a str>, _: Ask) -> BoxFuture<'a, Result<Granted, Unreserved>> {
        async { Err(Unreserved::Unavailable("the disk is full".to_owned())) }.boxed()
    }
}

#[tokio::test]
async fn what_cannot_be_counted_is_not_sent_and_no_bound_is_blamed() {
    let mut world = World::new(Setup::default()).await;
    world.session.treasury = Some(Arc::new(Full));
    let answer = world.chat(&hello()).await;
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status.as_u16(), &error["code"]),
        (503, &json!("orch_budgets_unavailable")),
        "{error}"
    );
    assert!(error["message"].as_str().is_some_and(|text| text.contains("the disk is full")), "{error}");
    assert!(world.openai.asked().is_empty() && world.anthropic.asked().is_empty());
    assert_eq!(world.session.budget.hit(), None);
    assert_eq!(world.session.budget.unavailable().as_deref(), Some("the disk is full"));
}

/// A treasury whose disk is full once it has been asked.
#[derive(Default)]
struct Filling(AtomicBool);

impl Treasury for Filling {
    fn reserve<'a>(&'a self, _: Option<&'a str>, _: Ask) -> BoxFuture<'a, Result<Granted, Unreserved>> {
        let full = self.0.swap(true, Ordering::Relaxed);
        async move {
            match full {
                true => Err(Unreserved::Unavailable("the disk is full".to_owned())),
                false => Ok(Granted { output: Some(20), bounded: true, held: Box::new(Nothing) }),
            }
        }
        .boxed()
    }
}

struct Nothing;

impl Held for Nothing {
    fn spend(&self, _: &Usage, _: u64) {}
}

#[tokio::test]
async fn a_stream_that_cannot_be_counted_any_more_ends_with_its_receipt() {
    let mut world = World::new(Setup::default()).await;
    world.session.treasury = Some(Arc::new(Filling::default()));
    // The role, then the same word for ever.
    let beginning = pieces(include_str!("../../src/dialect/fixtures/openai_text.sse"))[1..3].to_vec();
    world.openai.script([Reply::Stream { pieces: beginning, then: Then::Forever }]);
    let wanted = [("x-orch-receipt", "true")];
    let answer = world.post_with("/v1/chat/completions", &wanted, &hello_stream()).await;
    let (stream, receipt) = answer.text().split_once("event: orch.receipt\ndata: ").expect("it has one");
    assert!(stream.contains("orch_budgets_unavailable") && !stream.contains("[DONE]"), "{stream}");
    let receipt: serde_json::Value = serde_json::from_str(receipt.trim()).unwrap();
    assert_eq!((&receipt["outcome"], &receipt["class"]), (&json!("broken"), &json!("server")));
}

#[tokio::test]
async fn a_bound_is_one_that_the_model_takes() {
    // Far more is left than any model can say at once: a provider would refuse a bound of that size.
    let models = &["openai/my-finetune", "gpt-4o-mini", "claude-3-haiku"];
    let world = World::new(Setup { models, max_tokens: Some(500_000), ..Setup::default() }).await;
    world.openai.script([says("hi"), says("hi")]);
    world.chat(&hello()).await;
    let mut known = hello();
    known["model"] = json!("gpt-4o-mini");
    world.chat(&known).await;
    let asked = world.openai.asked();
    assert_eq!(asked[0].body["max_completion_tokens"], 4096);
    assert_eq!(asked[1].body["max_completion_tokens"], 16_384);
}

/// Whoever asks for a bound that no model has would otherwise set everything aside, and spend it by hanging up.
#[tokio::test]
async fn no_more_is_set_aside_than_the_model_gives() {
    let world = World::new(Setup { max_tokens: Some(500_000), ..Setup::default() }).await;
    world.openai.script([says("hi")]);
    let mut greedy = hello();
    greedy["max_completion_tokens"] = json!(1_000_000_000);
    assert_eq!(world.chat(&greedy).await.status, 200);
    assert_eq!(world.openai.asked()[0].body["max_completion_tokens"], 16_384);
    let dropped = world.receipt().dropped;
    assert!(dropped.len() == 1 && dropped[0].field == "max_tokens", "{dropped:?}");
}

#[tokio::test]
async fn rule_5_an_empty_budget_is_a_limit_error_before_any_byte_leaves() {
    let world = World::new(Setup { max_tokens: Some(10), ..Setup::default() }).await;
    let answer = world.chat(&hello()).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status.as_u16(), &error["code"]), (429, &json!("orch_limit_reached")));
    assert_eq!(error["orch"]["limit"]["name"], "tokens");
    let hit = world.session.budget.hit().unwrap();
    assert_eq!((hit.name, hit.limit), ("tokens", 10));
    assert_eq!(world.receipt().outcome, Outcome::Limit);
    assert!(world.openai.asked().is_empty() && world.anthropic.asked().is_empty());

    // An answer needs to be paid for as well.
    let world = World::new(Setup { max_micro_usd: Some(1), ..Setup::default() }).await;
    assert_eq!(world.chat(&hello()).await.json()["error"]["orch"]["limit"]["name"], "cost_usd");
}

#[tokio::test]
async fn rule_5_an_unknown_price_under_a_cost_limit_is_passed_over() {
    let models = &["openai/my-finetune", "gpt-4o-mini"];
    let world = World::new(Setup { models, max_micro_usd: Some(10_000), ..Setup::default() }).await;
    world.openai.script([says("hi")]);
    assert_eq!(world.chat(&hello()).await.status, 200);
    assert_eq!(world.openai.asked()[0].body["model"], "gpt-4o-mini");
    assert!(world.receipt().skipped[0].reason.contains("price"));

    let models = &["openai/my-finetune"];
    let world = World::new(Setup { models, max_micro_usd: Some(10_000), ..Setup::default() }).await;
    let answer = world.chat(&hello()).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status.as_u16(), &error["code"]), (400, &json!("orch_price_unknown")), "{error}");
    assert!(error["message"].as_str().unwrap().starts_with("openai/my-finetune: "), "{error}");
    assert!(world.openai.asked().is_empty());
    // It is the limit that was in the way, and no provider.
    assert_eq!(world.receipt().outcome, Outcome::Limit);
    let hit = world.session.budget.hit().unwrap();
    assert_eq!((hit.name, hit.limit, hit.needed), ("cost_usd", 10_000, None));
}

#[tokio::test]
async fn a_tier_with_a_price_of_its_own_is_refused_under_a_cost_limit() {
    let world = World::new(Setup { max_micro_usd: Some(10_000), ..Setup::default() }).await;
    let mut body = hello();
    body["service_tier"] = json!("priority");
    let answer = world.chat(&body).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("service_tier"), "{}", answer.text());
    assert!(world.openai.asked().is_empty());
}

#[tokio::test]
async fn rule_5_a_stream_that_ignores_its_bound_is_cut() {
    let world = World::new(Setup { max_tokens: Some(400), ..Setup::default() }).await;
    let text = include_str!("../../src/dialect/fixtures/openai_text.sse");
    // The role, then the same word for ever.
    let beginning = pieces(text)[1..3].to_vec();
    world.openai.script([Reply::Stream { pieces: beginning, then: Then::Forever }]);
    let answer = world.chat(&hello_stream()).await;
    let text = answer.text();
    assert!(text.contains("orch_limit_reached") && !text.contains("[DONE]"), "{text}");
    assert_eq!(world.session.budget.hit().unwrap().name, "tokens");
    assert_eq!(world.receipt().outcome, Outcome::Limit);
}

#[tokio::test]
async fn rule_5_callers_at_the_same_time_never_go_over_one_budget() {
    let world = Arc::new(World::new(Setup { max_tokens: Some(2_000), ..Setup::default() }).await);
    // The scripted provider counts 27 for each; each caller reserves far more.
    world.openai.script((0..50).map(|_| says("hi")));
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let world = Arc::clone(&world);
        callers.spawn(async move {
            let mut body = hello();
            body["max_tokens"] = json!(100);
            world.chat(&body).await.status.as_u16()
        });
    }
    let statuses = callers.join_all().await;
    let served = statuses.iter().filter(|status| **status == 200).count() as u64;
    let refused = statuses.iter().filter(|status| **status == 429).count() as u64;
    assert_eq!(served + refused, 50, "{statuses:?}");
    assert!(served > 0 && refused > 0, "{statuses:?}");
    let spent = world.session.budget.spent();
    assert_eq!((spent.input_tokens, spent.output_tokens), (served * 20, served * 7));
    assert!(spent.input_tokens + spent.output_tokens <= 2_000);
}

#[tokio::test]
async fn what_a_provider_may_charge_for_is_spent_when_nobody_hears_the_answer() {
    let setup = || Setup {
        deadline: Duration::from_millis(400),
        timing: Timing { attempt: Duration::from_millis(100), ..Timing::default() },
        ..Setup::default()
    };
    // Two candidates that do not answer in time: both were at work, and each may have said all that it may.
    let world = World::new(setup()).await;
    world.openai.script([Reply::Silence]);
    world.anthropic.script([Reply::Silence]);
    let mut body = hello();
    body["max_tokens"] = json!(50);
    assert_eq!(world.chat(&body).await.status, 504);
    let (spent, receipt) = (world.session.budget.spent(), world.receipt());
    assert_eq!(spent.output_tokens, 100);
    assert!(spent.input_tokens > 0 && spent.micro_usd > 0, "{spent:?}");
    assert_eq!((receipt.output_tokens, receipt.cost_micro_usd), (100, Some(spent.micro_usd)));
    assert!(receipt.estimated);

    // The next call has so much less, and the one after the budget's end is not begun.
    let world = World::new(Setup { max_tokens: Some(700), ..setup() }).await;
    world.openai.script([Reply::Silence, Reply::Silence]);
    world.anthropic.script([Reply::Silence, Reply::Silence]);
    for _ in 0..4 {
        world.chat(&body).await;
    }
    let spent = world.session.budget.spent();
    assert!(spent.input_tokens + spent.output_tokens <= 700, "{spent:?}");
    assert_eq!(world.chat(&body).await.json()["error"]["code"], "orch_limit_reached");

    // A provider that counts, and gives up, is paid what it counted.
    let world = World::new(Setup { models: &["claude-3-haiku"], ..Setup::default() }).await;
    let gave_up = whole(
        200,
        &json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-haiku-20240307",
            "content": [{"type": "text", "text": "x"}], "stop_reason": "pause_turn", "stop_sequence": null,
            "usage": {"input_tokens": 20, "output_tokens": 7},
        }),
    );
    world.anthropic.script([gave_up.clone(), gave_up]);
    assert_ne!(world.chat(&hello()).await.status, 200);
    let spent = world.session.budget.spent();
    assert_eq!((spent.input_tokens, spent.output_tokens), (40, 14));
}

#[tokio::test]
async fn a_client_s_own_bound_cuts_nothing_that_the_budget_pays_for() {
    // Sixty-four signs are one token, so that the second piece is far within ten of them.
    let world = World::new(Setup { max_tokens: Some(100_000), ..Setup::default() }).await;
    let chunk = |text: &str| {
        let event = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
        format!("data: {event}\n\n")
    };
    let end = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 10, "total_tokens": 15}});
    let signs = "=".repeat(640);
    let sent = vec![chunk(&signs), format!("data: {end}\n\n"), "data: [DONE]\n\n".to_owned()];
    world.openai.script([Reply::Stream { pieces: sent, then: Then::End }]);
    let mut body = hello_stream();
    body["max_tokens"] = json!(10);
    let answer = world.chat(&body).await;
    assert!(answer.text().contains("[DONE]"), "{}", answer.text());
    assert_eq!(world.session.budget.hit(), None);

    // A provider that says more than it may is heard as long as the budget pays for it.
    let words = (0..40).map(|n| chunk(&format!("word{n} and another "))).collect::<Vec<_>>();
    let sent = words.into_iter().chain([format!("data: {end}\n\n"), "data: [DONE]\n\n".to_owned()]).collect();
    world.openai.script([Reply::Stream { pieces: sent, then: Then::End }]);
    assert!(world.chat(&body).await.text().contains("[DONE]"));
}

#[tokio::test]
async fn what_costs_more_than_listed_is_refused_under_a_cost_limit_and_not_booked_as_known() {
    let with = |field: &str, value: serde_json::Value| {
        let mut body = hello();
        body[field] = value;
        body
    };
    let search = json!([{"type": "web_search_preview"}]);
    let said_with_tools = json!([{"role": "system", "tools": [{"type": "builtin_function"}]},
        {"role": "user", "content": "hi"}]);
    for (field, body) in [
        ("messages[0].tools", with("messages", said_with_tools)),
        ("fallbacks", with("fallbacks", json!(["gpt-4o"]))),
        ("providerOptions", with("providerOptions", json!({"gateway": {"models": ["openai/gpt-4o"]}}))),
        ("provider", with("provider", json!({"only": ["a"]}))),
        ("context_management", with("context_management", json!({"edits": [{"type": "compact_20260112"}]}))),
        ("service_tier", with("Service_Tier", json!("priority"))),
        ("tools[0]", with("tools", search)),
        ("web_search_options", with("web_search_options", json!({}))),
        ("service_tier", with("service_tier", json!("priority"))),
    ] {
        let models = &["gpt-4o-mini"];
        let bounded =
            Setup { models, max_micro_usd: Some(10_000_000), server_tools: true, ..Setup::default() };
        let world = World::new(bounded).await;
        let answer = world.chat(&body).await;
        assert_eq!(answer.json()["error"]["code"], "orch_price_unknown", "{field}");
        assert!(answer.text().contains(field) && world.openai.asked().is_empty(), "{}", answer.text());

        let world = World::new(Setup { models, server_tools: true, ..Setup::default() }).await;
        world.openai.script([says("hi")]);
        assert_eq!(world.chat(&body).await.status, 200, "{field}");
        assert_eq!(world.receipt().cost_micro_usd, None, "{field}");
    }
    // A context that is wider than the catalog knows costs twice as much beyond the usual one.
    let long = json!({"max_tokens": 10, "messages": [{"role": "user", "content": "x".repeat(300_000)}]});
    let beta = [("anthropic-beta", "context-1m-2025-08-07")];
    let models = &["claude-sonnet-4-5"];
    let world = World::new(Setup { models, max_micro_usd: Some(100_000_000), ..Setup::default() }).await;
    let answer = world.post_with("/v1/messages", &beta, &long).await;
    assert!(
        answer.text().contains("anthropic-beta") && world.anthropic.asked().is_empty(),
        "{}",
        answer.text()
    );
}

/// A provider whose counts are no counts has said something all the same: what was set aside for it is spent, and not nothing.
#[tokio::test]
async fn an_answer_whose_counts_are_none_is_not_free() {
    let long = "word ".repeat(40);
    let bounded = |mut body: serde_json::Value| {
        body["max_tokens"] = json!(50);
        body
    };
    for usage in [
        json!({"prompt_tokens": 20, "completion_tokens": "5000"}),
        json!({"prompt_tokens": 20, "completion_tokens": null}),
        json!({"prompt_tokens": 20, "completion_tokens": 0}),
        json!({"prompt_tokens": 20}),
        json!({"prompt_tokens": 20, "completion_tokens": 1_000_000_000_000_000_000_u64}),
    ] {
        let world = World::new(Setup { models: &["gpt-4o-mini"], ..Setup::default() }).await;
        world.openai.script([whole(
            200,
            &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": long}, "finish_reason": "stop"}]}),
        )]);
        assert_eq!(world.chat(&bounded(hello())).await.status, 200, "{usage}");
        let (spent, receipt) = (world.session.budget.spent(), world.receipt());
        assert_eq!((spent.output_tokens, receipt.estimated), (50, true), "{usage}: {receipt:?}");
        assert!(spent.input_tokens > 0, "{usage}: {spent:?}");
    }
    // The counts of a stream's beginning are not those of its end.
    let endings = [
        json!({}),
        json!({"input_tokens": 20}),
        json!({"output_tokens": -1}),
        json!({"output_tokens": "900"}),
    ];
    for ending in endings {
        let event = |value: serde_json::Value| {
            format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap())
        };
        let sent = vec![
            event(
                json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
                "model": "claude-3-haiku-20240307", "content": [], "usage": {"input_tokens": 20, "output_tokens": 1}}}),
            ),
            event(
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ),
            event(
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": long}}),
            ),
            event(json!({"type": "content_block_stop", "index": 0})),
            match ending.as_object().is_some_and(serde_json::Map::is_empty) {
                true => event(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})),
                false => event(
                    json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ending}),
                ),
            },
            event(json!({"type": "message_stop"})),
        ];
        let world = World::new(Setup { models: &["claude-3-haiku"], ..Setup::default() }).await;
        world.anthropic.script([Reply::Stream { pieces: sent, then: Then::End }]);
        let answer = world.chat(&bounded(hello_stream())).await;
        assert!(answer.text().contains("[DONE]"), "{ending}: {}", answer.text());
        let (spent, receipt) = (world.session.budget.spent(), world.receipt());
        assert_eq!((spent.input_tokens, spent.output_tokens), (20, 50), "{ending}: {receipt:?}");
        assert!(receipt.estimated, "{ending}");
    }
}
