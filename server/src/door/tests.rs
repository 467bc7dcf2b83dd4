use orch_proxy::Ended;
use serde_json::json;

use super::*;
use crate::stage::{ONE_MODEL, Stage, question};

#[tokio::test]
async fn the_gateway_s_name_leads_to_the_gateway_in_any_case_and_scheme() {
    let stage = Stage::new("ok", ONE_MODEL).await;
    for uri in ["http://llm.orch.internal/v1/models", "https://LLM.Orch.internal:8080/v1/models"] {
        let answer = stage.send("GET", uri, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.body);
        assert!(answer.body["data"].is_array(), "{uri}: {}", answer.body);
    }
    let answer = stage.think().await;
    assert_eq!((answer.status, answer.refusal), (StatusCode::OK, None), "{}", answer.body);
    assert_eq!(stage.session.as_ref().expect("a session").receipts.all().len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_provider_s_inference_path_leads_to_the_passthrough_and_leaves_a_receipt() {
    let stage = Stage::new("ok", ONE_MODEL).await;
    let answer = stage.send("POST", "https://api.openai.com/v1/chat/completions", &question()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let receipts = stage.session.as_ref().expect("a session").receipts.all();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].provider_served.as_deref(), Some("openai"));
    stage.end().await;
}

#[tokio::test]
async fn all_else_leads_to_the_proxy_whose_refusal_can_be_acted_on() {
    let stage = Stage::new("ok", ONE_MODEL).await;
    for (method, uri, host) in [
        // The provider's host, but not an inference path.
        ("GET", "https://api.openai.com/v1/files", "api.openai.com"),
        // An inference path of a provider that the run may not use.
        ("POST", "https://api.anthropic.com/v1/messages", "api.anthropic.com"),
        // The right path in the wrong scheme, or at the wrong port.
        ("POST", "http://api.openai.com/v1/chat/completions", "api.openai.com"),
        ("POST", "https://api.openai.com:8443/v1/chat/completions", "api.openai.com"),
        ("GET", "https://example.com/", "example.com"),
        // A name that only looks like the gateway's.
        ("GET", "http://llm.orch.internal.example.com/v1/models", "llm.orch.internal.example.com"),
        ("GET", "http://x.llm.orch.internal/v1/models", "x.llm.orch.internal"),
    ] {
        let answer = stage.send(method, uri, &question()).await;
        assert_eq!((answer.status, answer.refusal), (StatusCode::FORBIDDEN, None), "{uri}");
        let error = &answer.body["error"];
        assert_eq!((&error["type"], &error["host"]), (&json!("egress_denied"), &json!(host)), "{uri}");
        assert!(error["code"].is_string() && error["message"].is_string(), "{uri}: {error}");
        assert!(error["next_steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{uri}: {error}");
        // No rule leads to a name of the inside.
        assert_eq!(error["rule_missing"]["host"].as_str(), (host != "x.llm.orch.internal").then_some(host));
    }
    assert_eq!(stage.grant.ledger().totals().denied, 7);
    assert!(stage.session.as_ref().expect("a session").receipts.all().is_empty());
    stage.end().await;
}

#[tokio::test]
async fn an_unknown_or_revoked_token_opens_nothing() {
    let stage = Stage::new("ok", ONE_MODEL).await;
    for uri in ["http://llm.orch.internal/v1/models", "https://example.com/"] {
        let answer = stage.send_with("00", "GET", uri, "").await;
        assert_eq!(answer.refusal, Some(RefusalCode::Denied), "{uri}");
    }
    assert!(stage.router.grants.revoke(&stage.run));
    assert_eq!(stage.think().await.refusal, Some(RefusalCode::Denied));
    assert_eq!(stage.grant.requests_used(), 0);
    stage.end().await;
}

#[tokio::test]
async fn the_door_is_open_only_while_a_run_is_admitted() {
    let mut stage = Stage::new("ok", ONE_MODEL).await;
    stage.admission = None;
    assert_eq!(stage.think().await.refusal, Some(RefusalCode::Denied));
    let direct = stage.send("POST", "https://api.openai.com/v1/chat/completions", &question()).await;
    assert_eq!(direct.refusal, Some(RefusalCode::Denied));
    stage.end().await;
}

#[tokio::test]
async fn a_run_without_models_has_no_gateway() {
    let none = Stage::new("ok", "supported_providers: []\n").await;
    assert!(none.session.is_none());
    let answer = none.think().await;
    assert_eq!(
        (answer.status, &answer.body["error"]["code"]),
        (StatusCode::FORBIDDEN, &json!("no_model_access"))
    );
    // A direct call is then an ordinary request, which no rule allows.
    let direct = none.send("POST", "https://api.openai.com/v1/chat/completions", &question()).await;
    assert_eq!((direct.status, direct.refusal), (StatusCode::FORBIDDEN, None));
    none.end().await;
}

#[test]
fn every_failure_on_the_way_has_the_error_of_its_kind() {
    for (error, code) in [
        (EgressError::Ended(Ended::Expired), RefusalCode::Denied),
        (EgressError::Withdrawn { credential: "TOKEN".into() }, RefusalCode::Denied),
        (EgressError::Timeout(TimeoutKind::Dns), RefusalCode::DnsTimeout),
        (EgressError::Timeout(TimeoutKind::Connect), RefusalCode::ConnectionTimeout),
        (EgressError::Timeout(TimeoutKind::Tls), RefusalCode::ConnectionTimeout),
        (EgressError::Limit { name: "requests", used: 1, limit: 1 }, RefusalCode::LimitReached),
    ] {
        assert_eq!(refusal_code(&error), code, "{error:?}");
    }
}
