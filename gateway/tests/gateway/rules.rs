//! The gateway's rules where no other test is about them; the names say which.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use orch_gateway::ir::Class;
use orch_gateway::{Outcome, Timing};
use orch_manifests::Dialect;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::hostile::speech;
use crate::upstream::{Reply, Then, messages, pieces, says, stream_of, whole};
use crate::world::{ANTHROPIC_KEY, OPENAI_KEY, Setup, World, hello, hello_stream, world};

const OPENAI_TEXT: &str = include_str!("../../src/dialect/fixtures/openai_text.sse");

fn nobody_was_asked(world: &World) {
    for upstream in [&world.openai, &world.anthropic, &world.gemini, &world.cohere, &world.ollama] {
        assert!(upstream.asked().is_empty());
    }
}

#[tokio::test]
async fn rule_1_without_a_key_of_its_own_a_model_is_an_error_before_any_byte_leaves() {
    let world = world().await;
    for model in ["gemini-2.5-flash", "command-r7b-12-2024", "aws/amazon.nova-lite-v1:0"] {
        for client in Dialect::ALL {
            let (path, body) = speech::ask(client, model, false);
            let answer = world.post(&path, &body).await;
            assert!(answer.status.is_client_error(), "{model} {client}: {} {}", answer.status, answer.text());
            assert!(answer.text().contains("key"), "{model} {client}: {}", answer.text());
            nobody_was_asked(&world);
        }
    }
}

#[tokio::test]
async fn rule_1_a_provider_gets_its_own_key_and_no_other() {
    let world = world().await;
    let refused = || whole(401, &json!({"error": {"message": "no", "code": "invalid_api_key"}}));
    world.openai.script([refused()]);
    world.anthropic.script([messages("hi")]);
    let mut body = hello();
    body["max_tokens"] = json!(50);
    let own =
        [("authorization", "Bearer the-callers-own"), ("x-api-key", "the-callers-own"), ("cookie", "a=b")];
    assert_eq!(world.post_with("/v1/chat/completions", &own, &body).await.said(), "hi");
    let seen = |headers: &http::HeaderMap| format!("{headers:?}");
    let (openai, anthropic) = (world.openai.asked().remove(0), world.anthropic.asked().remove(0));
    let (openai, anthropic) = (seen(&openai.headers), seen(&anthropic.headers));
    assert!(openai.contains(OPENAI_KEY) && !openai.contains(ANTHROPIC_KEY), "{openai}");
    assert!(anthropic.contains(ANTHROPIC_KEY) && !anthropic.contains(OPENAI_KEY), "{anthropic}");
    assert!(!(openai + &anthropic).contains("the-callers-own"), "what the caller sent as a key stays here");
}

/// Streams and whole answers, some heard to the end, some hung up on, some cut by the provider, and some that never come:
/// what the provider charges for is never more than the budget, and nothing stays set aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rule_5_fifty_callers_of_one_budget_never_go_over_and_none_is_stuck() {
    const TOKENS: u64 = 4_000;
    let timing = Timing {
        backoff: Duration::from_millis(1),
        attempt: Duration::from_millis(300),
        idle: Duration::from_millis(200),
        ..Timing::default()
    };
    let setup = Setup {
        models: &["gpt-4o-mini"],
        max_tokens: Some(TOKENS),
        deadline: Duration::from_secs(3),
        timing,
        ..Setup::default()
    };
    let world = Arc::new(World::new(setup).await);
    let begun = pieces(OPENAI_TEXT)[..3].to_vec();
    let of = |n: usize| match n % 5 {
        0 => says("hi"),
        1 | 2 => stream_of(OPENAI_TEXT),
        3 => Reply::Stream { pieces: begun.clone(), then: Then::Cut },
        _ => Reply::Stream { pieces: begun.clone(), then: Then::Silence },
    };
    // Whatever is asked for, so that whole answers meet streams as well.
    world.openai.script((0..200).map(of));
    let mut callers = JoinSet::new();
    for n in 0..50_u64 {
        let world = Arc::clone(&world);
        callers.spawn(async move {
            let mut body = if n % 2 == 0 { hello_stream() } else { hello() };
            body["max_tokens"] = json!(60);
            let response = world.open("/v1/chat/completions", &[], &body);
            let hang_up = n % 7 == 3;
            if hang_up {
                // While it is under way, or after its head.
                if let Ok(mut response) = tokio::time::timeout(Duration::from_millis(n), response).await {
                    let _ = response.body_mut().frame().await;
                }
                return 0;
            }
            let response = tokio::time::timeout(Duration::from_secs(20), response).await.expect("not stuck");
            let (parts, body) = response.into_parts();
            let body =
                tokio::time::timeout(Duration::from_secs(20), body.collect()).await.expect("not stuck");
            body.expect("whole");
            parts.status.as_u16()
        });
    }
    let statuses = callers.join_all().await;
    let with = |status: u16| statuses.iter().filter(|other| **other == status).count();
    assert!(with(200) > 0 && with(429) > 0, "some are served, and then the budget is used: {statuses:?}");
    assert_eq!(with(500), 0, "{statuses:?}");
    let spent = world.session.budget.spent();
    let used = spent.input_tokens + spent.output_tokens;
    assert!(used <= TOKENS, "{used}");
    // Whatever was set aside for calls that are over is there again: the receipts add up to what is spent.
    let receipts = world.session.receipts.all();
    let booked: u64 = receipts.iter().map(|receipt| receipt.input_tokens + receipt.output_tokens).sum();
    assert_eq!(booked, used, "{receipts:?}");
    let by = |outcome: Outcome| receipts.iter().filter(|receipt| receipt.outcome == outcome).count();
    assert!(by(Outcome::Served) > 0 && by(Outcome::Broken) > 0 && by(Outcome::Cancelled) > 0, "{receipts:?}");
}

#[tokio::test]
async fn rule_6_every_call_leaves_a_receipt_however_it_ends() {
    let world = World::new(Setup { models: &["gpt-4o-mini"], ..Setup::default() }).await;
    let no = |status: u16, code: &str| {
        whole(status, &json!({"error": {"message": format!("no, {OPENAI_KEY}"), "code": code}}))
    };
    let cut = Reply::Stream { pieces: pieces(OPENAI_TEXT)[..3].to_vec(), then: Then::Cut };
    let rows = [
        (says("hi"), false, Outcome::Served, None),
        (stream_of(OPENAI_TEXT), true, Outcome::Served, None),
        (cut, true, Outcome::Broken, None),
        (no(400, "invalid_prompt"), false, Outcome::Rejected, Some(Class::BadRequest)),
        (no(401, "invalid_api_key"), false, Outcome::AllFailed, Some(Class::BadKey)),
    ];
    for (reply, stream, outcome, class) in rows {
        world.openai.script([reply]);
        let body = if stream { hello_stream() } else { hello() };
        let answer = world.post_with("/v1/chat/completions", &[("x-orch-receipt", "true")], &body).await;
        // Whoever reads it finds no key in it: `receipt` looks.
        let receipt = world.receipt();
        assert_eq!(receipt.outcome, outcome, "{receipt:?}");
        let asked = (receipt.provider_asked.as_str(), receipt.model_asked.as_str());
        assert_eq!(asked, ("openai", "gpt-4o-mini"), "{receipt:?}");
        let last = receipt.attempts.last().unwrap();
        assert_eq!((last.provider.as_str(), last.class), ("openai", class), "{receipt:?}");
        assert_eq!(receipt.provider_served.is_some(), class.is_none(), "{receipt:?}");
        assert_eq!(receipt.cost_micro_usd.is_some_and(|cost| cost > 0), class.is_none(), "{receipt:?}");
        assert_eq!(answer.headers.contains_key("x-orch-receipt"), !stream, "{outcome:?}");
        assert!(!answer.text().contains(OPENAI_KEY));
    }
    assert_eq!(world.session.receipts.all().len(), 5);
}

#[tokio::test]
async fn rule_8_an_unknown_model_is_an_error_that_names_candidates_and_nobody_is_asked() {
    let world = world().await;
    for (model, candidate) in [
        ("claud-3-haiku", "anthropic/claude-3-haiku"),
        ("llama3.2:3b", "ollama/llama3.2:3b"),
        ("flan-t5", "provider/model"),
    ] {
        for client in Dialect::ALL {
            let (path, body) = speech::ask(client, model, false);
            let answer = world.post(&path, &body).await;
            assert!(answer.status.is_client_error(), "{model} {client}: {}", answer.text());
            assert!(answer.text().contains(candidate), "{model} {client}: {}", answer.text());
            nobody_was_asked(&world);
        }
    }
}

#[tokio::test]
async fn rule_8_names_belong_to_who_made_the_model() {
    let world = World::new(Setup { models: &["gemini-2.5-flash"], ..Setup::default() }).await;
    world.gemini.script([crate::upstream::generates("hi")]);
    let mut body = hello();
    body["model"] = json!("gemini-2.5-flash");
    assert_eq!(world.chat(&body).await.said(), "hi");
    let world = crate::world::world().await;
    world.anthropic.script([messages("hi")]);
    body["model"] = json!("claude-3-haiku");
    body["max_tokens"] = json!(50);
    assert_eq!(world.chat(&body).await.said(), "hi");
    assert_eq!(world.anthropic.asked()[0].body["model"], "claude-3-haiku-20240307");
}

/// In each dialect a conversation whose last message answers a call that nobody made, and the field at fault.
fn results_without_calls() -> Vec<(Dialect, Value, &'static str)> {
    let user = json!({"role": "user", "content": "hello"});
    vec![
        (
            Dialect::OpenAiChat,
            json!({"messages": [user, {"role": "tool", "tool_call_id": "call_x", "content": "rain"}]}),
            "messages[1].tool_call_id",
        ),
        (
            Dialect::OpenAiResponses,
            json!({"input": [user, {"type": "function_call_output", "call_id": "call_x", "output": "rain"}]}),
            "input[1].call_id",
        ),
        (
            Dialect::AnthropicMessages,
            json!({"max_tokens": 50, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"},
                {"type": "tool_result", "tool_use_id": "call_x", "content": "rain"}]}]}),
            "messages[0].content[1].tool_use_id",
        ),
        (
            Dialect::GeminiGenerateContent,
            json!({"contents": [{"role": "user", "parts": [{"text": "a"}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {}}}]}]}),
            "contents[1].parts[0].functionResponse",
        ),
        (
            Dialect::BedrockConverse,
            json!({"messages": [{"role": "user", "content": [{"text": "a"}, {"cachePoint": {"type": "default"}},
                {"toolResult": {"toolUseId": "call_x", "content": [{"text": "rain"}]}}]}]}),
            "messages[0].content[2].toolResult.toolUseId",
        ),
        (
            Dialect::CohereChat,
            json!({"messages": [user, {"role": "tool", "tool_call_id": "call_x", "content": "rain"}]}),
            "messages[1].tool_call_id",
        ),
        (
            Dialect::OllamaChat,
            json!({"messages": [user, {"role": "tool", "tool_name": "weather", "content": "rain"}]}),
            "messages[1].role",
        ),
    ]
}

#[tokio::test]
async fn a_tool_result_without_a_call_is_an_error_that_names_the_field() {
    let world = world().await;
    for (client, mut body, field) in results_without_calls() {
        let (path, usual) = speech::ask(client, "gpt-4o-mini", false);
        if usual.get("model").is_some() {
            body["model"] = json!("gpt-4o-mini");
        }
        let answer = world.post(&path, &body).await;
        assert_eq!(answer.status.as_u16(), 400, "{client}: {}", answer.text());
        assert!(answer.text().contains(field), "{client}: {}", answer.text());
        nobody_was_asked(&world);
    }
}
