use std::time::Duration;

use orch_gateway::ir::Class;
use orch_gateway::{Outcome, Timing, every_key_was_rejected};
use serde_json::{Value, json};

use crate::upstream::{Reply, messages, says, whole};
use crate::world::{OPENAI_KEY, Setup, World, hello, world};

fn error(status: u16, kind: &str, code: impl Into<Value>, message: &str) -> Reply {
    whole(status, &json!({"error": {"message": message, "type": kind, "param": null, "code": code.into()}}))
}

/// What a class of failure leads to: how often the primary is asked, and whether the fallback answers.
struct Row(&'static str, Vec<Reply>, Class, usize, bool);

fn rows() -> Vec<Row> {
    let bad_key = || error(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided");
    let quota = || error(429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota");
    let server = || error(500, "server_error", Value::Null, "Sorry about that");
    let rate = |after: &str| Reply::Whole {
        status: 429,
        headers: vec![("retry-after", after.to_owned())],
        body: json!({"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}})
            .to_string(),
    };
    let inside = || whole(200, &json!({"error": {"message": "Upstream is overloaded", "code": 503}}));
    let context = error(400, "invalid_request_error", "context_length_exceeded", "maximum context length");
    let cut = || Reply::Whole { status: 200, headers: Vec::new(), body: "{\"id\":\"x\",\"choi".into() };
    let page = || Reply::Whole { status: 502, headers: Vec::new(), body: "<html>bad gateway</html>".into() };
    vec![
        Row(
            "bad request",
            vec![error(400, "invalid_request_error", Value::Null, "bad")],
            Class::BadRequest,
            1,
            false,
        ),
        Row("context", vec![context], Class::ContextTooLong, 1, false),
        Row("filter", vec![error(400, "x", "content_filter", "no")], Class::RefusedByFilter, 1, false),
        Row("bad key", vec![bad_key()], Class::BadKey, 1, true),
        Row("no access", vec![error(403, "x", Value::Null, "not yours")], Class::NoAccess, 1, true),
        Row("no model", vec![error(404, "x", "model_not_found", "gone")], Class::NoModel, 1, true),
        Row("money", vec![quota()], Class::OutOfMoney, 1, true),
        Row("short rate limit", vec![rate("0.01"), rate("0.01")], Class::RateLimited, 2, true),
        Row("long rate limit", vec![rate("3000")], Class::RateLimited, 1, true),
        Row("server", vec![server(), server()], Class::Server, 2, true),
        Row("error in a 200", vec![inside(), inside()], Class::Overloaded, 2, true),
        Row("half an answer", vec![cut(), cut()], Class::Truncated, 2, true),
        Row("a page", vec![page(), page()], Class::Server, 2, true),
    ]
}

#[tokio::test]
async fn each_class_of_failure_leads_to_its_action() {
    for Row(name, replies, class, times, falls_back) in rows() {
        let world = world().await;
        world.openai.script(replies);
        world.anthropic.script([messages("fallback")]);
        let answer = world.chat(&hello()).await;
        assert_eq!(world.openai.asked().len(), times, "{name}: requests to the primary");
        let receipt = world.receipt();
        let failed: Vec<_> = receipt.attempts.iter().filter_map(|a| a.class).collect();
        assert_eq!(failed, vec![class; times], "{name}");
        if falls_back {
            assert_eq!((answer.status.as_u16(), answer.said().as_str()), (200, "fallback"), "{name}");
            assert_eq!(receipt.outcome, Outcome::Served, "{name}");
            assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"), "{name}");
            assert_eq!(world.session.receipts.all_candidates_failed(), None);
        } else {
            assert_eq!(answer.status, 400, "{name}");
            assert!(world.anthropic.asked().is_empty(), "{name}: nobody else is asked");
            assert_eq!(receipt.outcome, Outcome::Rejected, "{name}");
        }
        // Whoever began an answer has charged for it, for all that is known; whoever refused has not.
        let charged = if name == "half an answer" { 2 * 16_384 } else { 0 };
        let spent = world.session.budget.spent().output_tokens;
        assert_eq!(spent, charged + if falls_back { 7 } else { 0 }, "{name}");
        assert_eq!((receipt.output_tokens, receipt.estimated), (spent, charged > 0), "{name}");
        // And it is said which attempt it was for: whoever answers in the end has another key.
        let of_attempts: Vec<_> =
            receipt.attempts.iter().filter_map(|a| a.charged.as_ref()).map(|c| c.output_tokens).collect();
        let expected = if charged > 0 { vec![16_384; 2] } else { Vec::new() };
        assert_eq!(of_attempts, expected, "{name}");
    }
}

#[tokio::test]
async fn a_retry_can_succeed_at_the_same_candidate() {
    let world = world().await;
    world.openai.script([error(503, "server_error", Value::Null, "overloaded"), says("hi")]);
    assert_eq!(world.chat(&hello()).await.said(), "hi");
    let receipt = world.receipt();
    assert_eq!(receipt.attempts.len(), 2);
    assert_eq!((receipt.attempts[0].class, receipt.attempts[0].status), (Some(Class::Overloaded), Some(503)));
    assert_eq!((receipt.attempts[1].class, receipt.attempts[1].status), (None, Some(200)));
    assert!(world.anthropic.asked().is_empty());
}

#[tokio::test]
async fn when_every_key_is_rejected_the_run_can_say_so() {
    let world = world().await;
    let echo = format!("Incorrect API key provided: {OPENAI_KEY}\u{1b}[2J");
    world.openai.script([error(401, "invalid_request_error", "invalid_api_key", &echo)]);
    let rejected =
        json!({"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}});
    world.anthropic.script([whole(401, &rejected)]);
    let answer = world.chat(&hello()).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.headers["x-should-retry"], "false");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "orch_all_candidates_failed");
    assert_eq!(error["orch"]["attempts"].as_array().unwrap().len(), 2);
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("openai/gpt-4o-mini: bad_key") && said.contains("anthropic/"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
    let counts = world.session.receipts.all_candidates_failed().unwrap();
    assert!(every_key_was_rejected(&counts));
    assert_eq!(world.receipt().outcome, Outcome::AllFailed);
}

#[tokio::test]
async fn a_mixture_of_failures_is_a_bad_gateway() {
    let world = world().await;
    world.openai.script([error(401, "x", "invalid_api_key", "no")]);
    let busy = json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}});
    world.anthropic.script(vec![whole(529, &busy); 2]);
    let body = json!({"max_tokens": 5, "messages": [{"role": "user", "content": "x"}]});
    let answer = world.post("/v1/messages", &body).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["type"].clone()), (502, json!("api_error")));
    let counts = world.session.receipts.all_candidates_failed().unwrap();
    assert_eq!((counts[&Class::BadKey], counts[&Class::Overloaded]), (1, 2));
    assert!(!every_key_was_rejected(&counts));
}

#[tokio::test]
async fn an_unreachable_provider_is_a_network_failure() {
    let world = world().await;
    let address = world.openai.address;
    let World { openai, anthropic, gateway, session, .. } = world;
    drop(openai);
    // The listener is closed when its task is, which is not before it is polled again.
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    anthropic.script([messages("fallback")]);
    let request =
        http::Request::post("/v1/chat/completions").body(orch_proxy::full(hello().to_string())).unwrap();
    assert_eq!(gateway.serve(&session, request).await.status(), 200);
    let receipt = session.receipts.all().pop().unwrap();
    assert_eq!(receipt.attempts[0].class, Some(Class::Network));
}

#[tokio::test]
async fn rule_3_one_deadline_for_the_whole_chain() {
    let setup = Setup {
        deadline: Duration::from_millis(300),
        timing: Timing { attempt: Duration::from_millis(100), ..Timing::default() },
        ..Setup::default()
    };
    let world = World::new(setup).await;
    world.openai.script([Reply::Silence]);
    world.anthropic.script([Reply::Silence]);
    let began = std::time::Instant::now();
    let answer = world.chat(&hello()).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(answer.status, 504);
    let receipt = world.receipt();
    assert_eq!(receipt.attempts.iter().map(|a| a.class).collect::<Vec<_>>(), [Some(Class::Timeout); 2]);
    let first = receipt.attempts[0].latency_ms;
    assert!((100..250).contains(&first), "the first candidate leaves time for the second: {first} ms");
}

#[tokio::test]
async fn rule_3_a_wait_that_does_not_fit_the_deadline_is_not_begun() {
    let world = World::new(Setup { deadline: Duration::from_secs(3), ..Setup::default() }).await;
    let busy = Reply::Whole {
        status: 429,
        headers: vec![("retry-after", "5".to_owned())],
        body: json!({"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}).to_string(),
    };
    world.openai.script([busy.clone()]);
    world.anthropic.script([busy]);
    let began = std::time::Instant::now();
    assert_eq!(world.chat(&hello()).await.status, 429);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn rule_7_a_fallback_that_lacks_what_the_request_needs_is_skipped_and_said() {
    let world = world().await;
    world.openai.script([
        error(500, "server_error", Value::Null, "no"),
        error(500, "server_error", Value::Null, "no"),
    ]);
    let mut body = hello();
    body["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
    let answer = world.chat(&body).await;
    assert_eq!(answer.status, 502);
    assert!(world.anthropic.asked().is_empty());
    let skipped = world.receipt().skipped;
    assert_eq!(skipped[0].model, "anthropic/claude-3-haiku-20240307");
    assert!(skipped[0].reason.contains("JSON Schema"));
    assert!(answer.text().contains("JSON Schema"), "{}", answer.text());
}

#[tokio::test]
async fn a_run_out_of_requests_hits_its_limit() {
    let world = World::new(Setup { requests: 1, ..Setup::default() }).await;
    world.openai.script([error(401, "x", "invalid_api_key", "no")]);
    let answer = world.chat(&hello()).await;
    assert_eq!(answer.json()["error"]["code"], "orch_limit_reached");
    let hit = world.session.budget.hit().unwrap();
    assert_eq!((hit.name, hit.used, hit.limit), ("requests", 1, 1));
    assert_eq!(world.receipt().outcome, Outcome::Limit);
}

#[tokio::test]
async fn a_revoked_run_is_over() {
    let world = world().await;
    world.live.revoke();
    let answer = world.chat(&hello()).await;
    assert_eq!(answer.json()["error"]["code"], "orch_run_ended");
    assert!(world.openai.asked().is_empty() && world.anthropic.asked().is_empty());
}
