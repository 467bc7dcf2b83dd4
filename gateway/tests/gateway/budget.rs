use std::sync::Arc;

use orch_gateway::Outcome;
use serde_json::json;
use tokio::task::JoinSet;

use crate::upstream::{Reply, Then, pieces, says};
use crate::world::{Setup, World, hello, hello_stream};

#[tokio::test]
async fn the_answer_is_bounded_by_what_is_left() {
    let world = World::new(Setup { max_tokens: Some(500), ..Setup::default() }).await;
    world.openai.script([says("hi")]);
    assert_eq!(world.chat(&hello()).await.status, 200);
    let bound = world.openai.asked()[0].body["max_completion_tokens"].as_u64().unwrap();
    assert!((200..500).contains(&bound), "{bound}");
    let spent = world.session.budget.spent();
    assert_eq!((spent.input_tokens, spent.output_tokens), (20, 7));
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

#[tokio::test]
async fn an_empty_budget_is_a_limit_error_before_any_byte_leaves() {
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
async fn an_unknown_price_under_a_cost_limit_is_passed_over() {
    let models = &["openai/my-finetune", "gpt-4o-mini"];
    let world = World::new(Setup { models, max_micro_usd: Some(10_000), ..Setup::default() }).await;
    world.openai.script([says("hi")]);
    assert_eq!(world.chat(&hello()).await.status, 200);
    assert_eq!(world.openai.asked()[0].body["model"], "gpt-4o-mini");
    assert!(world.receipt().skipped[0].reason.contains("price"));

    let models = &["openai/my-finetune"];
    let world = World::new(Setup { models, max_micro_usd: Some(10_000), ..Setup::default() }).await;
    let answer = world.chat(&hello()).await;
    assert!(answer.status.is_client_error() && answer.text().contains("price"), "{}", answer.text());
    assert!(world.openai.asked().is_empty());
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
async fn a_stream_that_ignores_its_bound_is_cut() {
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
async fn callers_at_the_same_time_never_go_over_one_budget() {
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
