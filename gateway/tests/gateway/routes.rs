//! Routes, several keys of one provider, and what is remembered of them.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, RETRY_AFTER};
use orch_gateway::ir::Class;
use orch_gateway::{Health, Outcome, Plan, Timing, every_key_was_rejected};
use orch_manifests::{Catalog, Routes};
use serde_json::{Value, json};

use crate::upstream::{Asked, Reply, messages, pieces, says, whole};
use crate::world::{Setup, World, hello, hello_stream, openai_key};

const SMART: &[(&str, &str)] = &[
    ("smart", "{targets: [{model: gpt-4o}, {model: claude-3-haiku}]}"),
    (
        "forgiving",
        "{targets: [{model: gpt-4o}, {model: claude-3-haiku}], on: {context_too_long: next, refused_by_filter: next}}",
    ),
    ("second", "{targets: [{model: gpt-4o, keys: [OPENAI_API_KEY_2]}]}"),
    ("renamed", "{targets: [{model: gpt-4o, rename: my-deployment}]}"),
];

fn setup(openai_keys: usize) -> Setup {
    Setup { models: &["gpt-4o-mini"], openai_keys, version: Some(1), routes: SMART, ..Setup::default() }
}

fn error(status: u16, code: &str) -> Reply {
    whole(status, &json!({"error": {"message": "no", "type": "x", "param": null, "code": code}}))
}

fn limited(after: &str) -> Reply {
    Reply::Whole {
        status: 429,
        headers: vec![("retry-after", after.to_owned())],
        body: json!({"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}).to_string(),
    }
}

fn named(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

/// The number of the key that each request came with.
fn keys(asked: &[Asked]) -> Vec<usize> {
    let number = |asked: &Asked| {
        let shown = asked.headers[AUTHORIZATION].to_str().unwrap();
        (1..=9).find(|number| shown == format!("Bearer {}", openai_key(*number))).expect("one of the keys")
    };
    asked.iter().map(number).collect()
}

#[tokio::test]
async fn a_route_gives_guests_and_clients_its_fallbacks() {
    for clients in [false, true] {
        let mut world = World::new(setup(1)).await;
        if clients {
            let at_hand = world.session.plan.at_hand.clone();
            let keys = |slug: &orch_manifests::Slug| {
                at_hand.iter().find(|at| at.provider.slug == *slug).map(|at| Ok(at.keys.clone()))
            };
            let mut plan = Plan::for_clients(&Catalog::builtin(), &keys);
            // Where the test's providers are.
            plan.at_hand = at_hand.clone();
            world.session.plan = Arc::new(plan);
        }
        world.openai.script([error(401, "invalid_api_key")]);
        world.anthropic.script([messages("fallback")]);
        let answer = world.chat(&named("smart")).await;
        assert_eq!(answer.said(), "fallback", "{clients}: {}", answer.text());
        let receipt = world.receipt();
        assert_eq!((receipt.model_asked.as_str(), receipt.provider_asked.as_str()), ("smart", "openai"));
        assert_eq!(receipt.attempts[0].credential.as_deref(), Some("OPENAI_API_KEY"));
        assert_eq!(world.openai.asked()[0].body["model"], "gpt-4o");
    }
}

#[tokio::test]
async fn a_target_may_be_renamed_and_bound_to_a_key() {
    let world = World::new(setup(2)).await;
    world.openai.script([says("hi"), says("hi"), says("hi"), says("hi"), says("hi")]);
    assert_eq!(world.chat(&named("renamed")).await.said(), "hi");
    assert_eq!(world.openai.asked()[0].body["model"], "my-deployment");
    let receipt = world.receipt();
    assert_eq!(receipt.attempts[0].model, "my-deployment");
    assert!(
        receipt.cost_micro_usd.is_some_and(|cost| cost > 0),
        "it costs what the model costs: {receipt:?}"
    );
    for _ in 0..4 {
        world.chat(&named("second")).await;
    }
    assert_eq!(keys(&world.openai.asked()), [2; 4]);
}

#[tokio::test]
async fn only_the_operator_says_that_another_name_costs_what_the_model_does() {
    let limited = || Setup { max_micro_usd: Some(1_000_000), ..setup(1) };
    let world = World::new(limited()).await;
    world.openai.script([says("hi")]);
    assert_eq!(world.chat(&named("renamed")).await.said(), "hi");

    // The same route of a workspace's own, by a name of which nobody knows what it costs, and by one that is known.
    let of_workspace = |rename: &str| {
        let route = format!("{{targets: [{{model: gpt-4o, rename: {rename}}}]}}");
        let mut routes = Routes::none();
        routes.restore("renamed".parse().unwrap(), serde_yaml::from_str(&route).unwrap());
        Arc::new(routes)
    };
    let mut world = World::new(limited()).await;
    world.session.routes = of_workspace("my-deployment");
    let answer = world.chat(&named("renamed")).await;
    assert_eq!(answer.json()["error"]["code"], "orch_price_unknown", "{}", answer.text());
    assert!(world.openai.asked().is_empty());
    world.session.routes = of_workspace("gpt-4o-mini");
    world.openai.script([says("hi")]);
    assert_eq!(world.chat(&named("renamed")).await.said(), "hi");
    assert!(world.receipt().cost_micro_usd.is_some(), "it costs what that one costs");
}

#[tokio::test]
async fn rule_2_a_plan_may_say_that_the_next_model_is_asked_for_what_is_the_requests_own_doing() {
    for (code, class) in
        [("context_length_exceeded", Class::ContextTooLong), ("content_filter", Class::RefusedByFilter)]
    {
        let world = World::new(setup(2)).await;
        world.openai.script([error(400, code), error(400, code)]);
        world.anthropic.script([messages("fallback")]);
        let stopped = world.chat(&named("smart")).await;
        assert_eq!((stopped.status.as_u16(), world.receipt().outcome), (400, Outcome::Rejected));
        assert!(world.anthropic.asked().is_empty(), "{code}");
        let answer = world.chat(&named("forgiving")).await;
        assert_eq!(answer.said(), "fallback", "{code}");
        let receipt = world.receipt();
        assert_eq!(receipt.attempts[0].class, Some(class));
        assert_eq!(world.openai.asked().len(), 2, "no other key is tried for it");
        assert!(receipt.skipped[0].reason.contains("not for want of one"), "{receipt:?}");
    }
}

#[tokio::test]
async fn rule_2_a_limited_key_gives_way_to_another_at_once_and_is_asked_last_until_its_time() {
    let world = World::new(setup(2)).await;
    world.openai.script([limited("30"), says("one"), says("two"), says("three")]);
    let began = std::time::Instant::now();
    for said in ["one", "two", "three"] {
        assert_eq!(world.chat(&hello()).await.said(), said);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waits");
    let asked = keys(&world.openai.asked());
    let (limited, fine) = (asked[0], asked[1]);
    assert_ne!(limited, fine);
    assert_eq!(asked[2..], [fine, fine]);
    let health = world.session.health.all();
    let name = if limited == 1 { "OPENAI_API_KEY" } else { "OPENAI_API_KEY_2" };
    assert_eq!(health[name].models["gpt-4o-mini"].class, Class::RateLimited);
    assert_eq!(health.len(), 1, "only what failed is remembered");
}

#[tokio::test]
async fn rule_2_a_rejected_key_is_not_sent_again_and_cools_no_other() {
    let world = World::new(setup(2)).await;
    world.openai.script([error(401, "invalid_api_key"), says("one"), says("two")]);
    assert_eq!(world.chat(&hello()).await.said(), "one");
    assert_eq!(world.chat(&hello()).await.said(), "two");
    let asked = keys(&world.openai.asked());
    assert_eq!(asked.len(), 3);
    assert!(asked[1..].iter().all(|number| *number != asked[0]), "{asked:?}");
    let receipt = world.receipt();
    let skipped = &receipt.skipped[0];
    assert_eq!(skipped.class, Some(Class::BadKey));
    assert_eq!(
        skipped.credential.as_deref(),
        Some(if asked[0] == 1 { "OPENAI_API_KEY" } else { "OPENAI_API_KEY_2" })
    );
    assert!(skipped.reason.contains("orch providers reset"), "{skipped:?}");
}

#[tokio::test]
async fn rule_2_where_every_key_was_rejected_before_nothing_is_sent() {
    let world = World::new(setup(2)).await;
    world.openai.script([error(401, "invalid_api_key"), error(401, "invalid_api_key")]);
    assert_eq!(world.chat(&hello()).await.status, 401);
    assert_eq!(world.openai.asked().len(), 2);
    let answer = world.chat(&hello()).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(world.openai.asked().is_empty());
    assert!(answer.text().contains("OPENAI_API_KEY_2"), "{}", answer.text());
    let counts = world.session.receipts.all_candidates_failed().unwrap();
    assert!(every_key_was_rejected(&counts), "{counts:?}");
    // Its owner says that it is good again.
    assert!(world.session.health.reset("OPENAI_API_KEY"));
    world.openai.script([says("hi")]);
    assert_eq!(world.chat(&hello()).await.said(), "hi");
}

#[tokio::test]
async fn rule_2_a_callers_own_bad_key_cools_nobodys() {
    let health = Arc::new(Health::unknown());
    let mut brought = World::new(Setup { version: None, ..setup(1) }).await;
    brought.session.health = Arc::clone(&health);
    brought.openai.script([error(401, "invalid_api_key"), error(401, "invalid_api_key")]);
    assert_eq!(brought.chat(&hello()).await.status, 401);
    assert_eq!(brought.chat(&hello()).await.status, 401);
    assert_eq!(brought.openai.asked().len(), 2, "not even its own");
    let mut kept = World::new(setup(1)).await;
    kept.session.health = health;
    kept.openai.script([says("hi")]);
    assert_eq!(kept.chat(&hello()).await.said(), "hi");
}

#[tokio::test]
async fn rule_2_a_key_without_access_to_a_model_is_asked_for_others() {
    let world = World::new(setup(2)).await;
    world.openai.script([error(403, "permission_denied"), says("one"), says("two")]);
    assert_eq!(world.chat(&hello()).await.said(), "one");
    assert_eq!(world.chat(&hello()).await.said(), "two");
    let asked = keys(&world.openai.asked());
    assert_eq!(asked[1], asked[2], "the other key serves this model");
    let health = world.session.health.all();
    assert_eq!(health.len(), 1);
    let of_key = health.values().next().unwrap();
    assert_eq!(of_key.models.keys().collect::<Vec<_>>(), ["gpt-4o-mini"]);
    // Both keys may be drawn for another model.
    for _ in 0..40 {
        world.openai.script([says("x")]);
        world.chat(&named("gpt-4o")).await;
    }
    let mut drawn = keys(&world.openai.asked());
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn, [1, 2]);
}

#[tokio::test]
async fn another_key_is_no_cure_for_a_failing_provider() {
    let world = World::new(setup(3)).await;
    world.openai.script(vec![error(500, "server_error"); 2]);
    world.anthropic.script([messages("fallback")]);
    assert_eq!(world.chat(&named("smart")).await.said(), "fallback");
    let asked = keys(&world.openai.asked());
    assert_eq!(asked, [asked[0]; 2]);
    assert_eq!(world.receipt().skipped.len(), 2);
    assert!(world.session.health.all().is_empty());
}

#[tokio::test]
async fn rule_3_the_last_candidate_is_waited_for_where_that_fits() {
    let timing = Timing { short_wait: Duration::from_millis(10), ..Timing::default() };
    let world = World::new(Setup { timing, ..setup(1) }).await;
    world.openai.script([limited("1"), says("hi")]);
    let began = std::time::Instant::now();
    assert_eq!(world.chat(&hello()).await.said(), "hi");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());

    // A call that comes meanwhile waits as well, and is not sent before its time.
    world.openai.script([limited("1"), limited("1"), says("hi")]);
    assert_eq!(world.chat(&hello()).await.status, 429);
    world.openai.asked();
    assert_eq!(world.chat(&hello()).await.said(), "hi");
    assert_eq!(world.openai.asked().len(), 1, "{:?}", world.receipt());
    assert!(world.session.health.all()["OPENAI_API_KEY"].models.is_empty(), "an answer clears it");
}

#[tokio::test]
async fn rule_3_the_client_hears_when_to_come_back() {
    let world = World::new(Setup { deadline: Duration::from_secs(5), ..setup(1) }).await;
    world.openai.script([limited("40")]);
    let answer = world.chat(&hello()).await;
    assert_eq!((answer.status.as_u16(), &answer.headers[RETRY_AFTER]), (429, &"40".parse().unwrap()));
    // The next call is not sent at all, and hears the same.
    let answer = world.chat(&hello()).await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    let wait: u64 = answer.headers[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((38..=40).contains(&wait), "{wait}");
    assert_eq!(world.openai.asked().len(), 1);
    let receipt = world.receipt();
    assert_eq!(receipt.skipped[0].class, Some(Class::RateLimited));
    assert!(receipt.skipped[0].reason.contains("does not fit the deadline"), "{receipt:?}");
}

#[tokio::test]
async fn what_a_candidate_cannot_take_is_skipped_and_said() {
    // A dearer tier with a limit on money: nobody knows what it costs.
    let world = World::new(Setup { max_micro_usd: Some(1_000_000), ..setup(1) }).await;
    let mut body = named("smart");
    body["service_tier"] = json!("priority");
    let answer = world.chat(&body).await;
    assert!(answer.text().contains("service_tier"), "{}", answer.text());
    assert_eq!((world.receipt().outcome, world.receipt().skipped.len()), (Outcome::Limit, 2));

    // Gemini has the model in its path, where not every name fits; the one before it has failed.
    const ODD: &[(&str, &str)] =
        &[("odd", "{targets: [{model: gpt-4o}, {model: \"gemini/a:b\"}, {model: gemini-2.5-flash}]}")];
    let world = World::new(Setup { models: &["gemini-2.5-flash"], routes: ODD, ..setup(1) }).await;
    world.openai.script([error(401, "invalid_api_key")]);
    world.gemini.script([crate::upstream::generates("fallback")]);
    let answer = world.chat(&named("odd")).await;
    assert_eq!(answer.said(), "fallback", "{}", answer.text());
    let receipt = world.receipt();
    assert_eq!(receipt.attempts[0].class, Some(Class::BadKey), "what failed before is still told");
    assert_eq!(receipt.skipped[0].model, "gemini/a:b");
}

#[tokio::test]
async fn rule_7_when_every_model_lacks_what_the_request_needs_that_is_said_and_nothing_is_sent() {
    let world = World::new(Setup { models: &["claude-3-haiku"], routes: SMART, ..Setup::default() }).await;
    let mut body = hello();
    body["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
    let answer = world.chat(&body).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status.as_u16(), &error["code"]), (400, &json!("orch_no_model_fits")));
    assert_eq!(error["orch"]["skipped"][0]["model"], "anthropic/claude-3-haiku-20240307");
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("JSON Schema") && said.contains("response_format"), "{said}");
    assert!(world.anthropic.asked().is_empty());
    assert_eq!(world.receipt().outcome, Outcome::Rejected);

    let mut long = hello();
    long["messages"][0]["content"] = json!("word ".repeat(600_000));
    let answer = world.chat(&long).await;
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "context_length_exceeded", "what clients look for");
    assert_eq!(error["orch"]["code"], "orch_no_model_fits");
    assert!(answer.text().contains("tokens long"), "{}", answer.text());
}

#[tokio::test]
async fn rule_7_claude_is_asked_for_the_schemas_that_it_takes_and_skipped_for_others() {
    let world = World::new(Setup { models: &["claude-sonnet-4-5"], ..Setup::default() }).await;
    world.anthropic.script([messages("{\"age\":7}")]);
    let asking = |schema: Value| {
        let mut body = hello();
        body["model"] = json!("claude-sonnet-4-5");
        body["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}});
        body
    };
    let age = json!({"type": "integer", "maximum": 150});
    let answer = world.chat(&asking(json!({"type": "object", "properties": {"age": age}}))).await;
    assert_eq!(answer.said(), "{\"age\":7}", "{}", answer.text());
    let asked = world.anthropic.asked();
    let told = json!({"type": "integer", "description": "{maximum: 150}"});
    assert_eq!(
        asked[0].body["output_config"]["format"],
        json!({"type": "json_schema",
            "schema": {"type": "object", "properties": {"age": told}, "additionalProperties": false}})
    );
    let dropped = world.receipt().dropped;
    assert!(
        dropped.iter().any(|d| d.field == "response_format" && d.reason.contains("maximum")),
        "{dropped:?}"
    );

    let node = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}});
    for (schema, why) in [
        (json!({"$ref": "#/$defs/node", "$defs": {"node": node}}), "that refers to itself"),
        (json!({"type": "object", "additionalProperties": {"type": "string"}}), "with an object of any keys"),
        (json!({"type": "object", "properties": {"a": {}}}), "with a value of any type"),
    ] {
        let answer = world.chat(&asking(schema)).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status.as_u16(), &error["code"]), (400, &json!("orch_no_model_fits")));
        assert!(error["message"].as_str().unwrap().contains(why), "{}", answer.text());
    }
    assert!(world.anthropic.asked().is_empty());

    // In its own dialect what the client says is passed on as it is, for the provider to judge.
    world.anthropic.script([messages("{}")]);
    let own = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}],
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}});
    assert_eq!(world.post("/v1/messages", &own).await.status, 200);
    assert_eq!(world.anthropic.asked()[0].body["output_config"], own["output_config"]);
}

#[tokio::test]
async fn rule_4_keep_alives_do_not_keep_a_stream_open() {
    let timing = Timing { silent: Duration::from_millis(200), ..Timing::default() };
    for beginning in [0, 3] {
        let world = World::new(Setup { timing, ..setup(1) }).await;
        let text = include_str!("../../src/dialect/fixtures/openai_text.sse");
        let mut sent = pieces(text)[..beginning].to_vec();
        sent.push(": still there\n\n".to_owned());
        world.openai.script([Reply::Stream { pieces: sent, then: crate::upstream::Then::Pinging }]);
        let began = std::time::Instant::now();
        let answer = world.chat(&hello_stream()).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(answer.text().contains("timeout_error"), "{beginning}: {}", answer.text());
        assert!(answer.text().contains("nothing but keep-alives"), "{beginning}: {}", answer.text());
    }
}
