//! Routes, and what is known of keys.

use super::*;

#[tokio::test]
async fn a_route_is_put_listed_and_removed() {
    let stage = Stage::new().await;
    let route = json!({ "targets": [
        { "model": "gpt-4o", "priority": 1, "weight": 3, "keys": ["OPENAI_API_KEY_2"] },
        { "model": "claude-3-haiku", "priority": 1, "rename": "haiku" },
    ], "on": { "refused_by_filter": "next" } });
    let put = stage.own("PUT", "/v1/routes/smart", Some(&route)).await;
    assert_eq!(put.status, StatusCode::OK);
    let listed = stage.own("GET", "/v1/routes", None).await.json();
    let smart = &listed["routes"][0];
    assert_eq!((&smart["name"], &smart["owner"]), (&json!("smart"), &json!("workspace")));
    assert_eq!(smart["targets"][0]["keys"], json!({ "OPENAI_API_KEY_2": 1 }));
    assert_eq!(smart["on"], json!({ "context_too_long": "stop", "refused_by_filter": "next" }));
    assert_eq!(stage.own("GET", "/v1/routes/smart", None).await.json(), *smart);
    // What is read can be put again.
    let again = json!({ "targets": smart["targets"], "on": smart["on"] });
    assert_eq!(stage.own("PUT", "/v1/routes/smart", Some(&again)).await.json(), *smart);
    assert_eq!(stage.own("DELETE", "/v1/routes/smart", None).await.status, StatusCode::OK);
    for method in ["GET", "DELETE"] {
        assert_eq!(
            stage.own(method, "/v1/routes/smart", None).await.refused(),
            (404, "not_found".to_owned())
        );
    }
}

#[tokio::test]
async fn a_wrong_route_says_what_is_wrong_with_it() {
    let stage = Stage::new().await;
    let put = async |name: &str, route: Value| {
        stage.own("PUT", &format!("/v1/routes/{name}"), Some(&route)).await.refused()
    };
    let any = json!({ "targets": [{ "model": "gpt-4o" }] });
    for (name, route, code) in [
        ("gpt-4o-mini", any.clone(), "route_invalid"),
        ("A", any, "route_invalid"),
        ("a", json!({ "targets": [] }), "route_invalid"),
        ("a", json!({ "targets": [{ "model": "nobody-knows-it" }] }), "route_invalid"),
        ("a", json!({ "targets": [{ "model": "gpt-4o", "wait": 1 }] }), "bad_json"),
        ("a", json!({}), "bad_json"),
    ] {
        assert_eq!(put(name, route.clone()).await, (400, code.to_owned()), "{name}: {route}");
    }
    assert_eq!(stage.own("GET", "/v1/routes", None).await.json(), json!({ "routes": [] }));
}

#[tokio::test]
async fn providers_say_how_their_keys_fare_and_forget_it() {
    let stage = Stage::new().await;
    for name in ["OPENAI_API_KEY", "OPENAI_API_KEY_2"] {
        let value = json!({ "value": format!("sk-proj-0123456789abcdefghij-{name}") });
        let put = stage.own("PUT", &format!("/v1/secrets/{name}"), Some(&value)).await;
        assert!(put.status.is_success(), "{name}: {}", put.status);
    }
    let rejected = json!({ "version": 1, "rejected": 1_700_000_000_000_u64 }).to_string();
    stage.service.store().note_health("default", "OPENAI_API_KEY_2", rejected);
    stage.service.store().flush().await.expect("stored");
    let of = async |provider: &str| {
        let listed = stage.own("GET", "/v1/providers", None).await.json();
        let all = listed["providers"].as_array().expect("a list").clone();
        all.into_iter().find(|one| one["provider"] == provider).expect("listed")
    };
    let states = async || {
        let keys = of("openai").await["keys"].as_array().expect("a list").clone();
        keys.iter()
            .map(|key| format!("{}: {}", key["key"], key["state"]).replace('"', ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(states().await, ["OPENAI_API_KEY: fine", "OPENAI_API_KEY_2: rejected"]);
    assert_eq!(of("openai").await["keys"][1]["since"], "2023-11-14T22:13:20Z");
    let missing = of("anthropic").await;
    assert!(missing["missing"].as_str().is_some_and(|why| why.contains("no key")), "{missing}");

    let nobody = stage.own("POST", "/v1/providers/nobody/reset", None).await;
    assert_eq!(nobody.refused(), (404, "not_found".to_owned()));
    let other = stage.own("POST", "/v1/providers/anthropic/reset", None).await.json();
    assert_eq!(other, json!({ "reset": [] }));
    let reset = stage.own("POST", "/v1/providers/openai/reset", None).await.json();
    assert_eq!(reset, json!({ "reset": ["OPENAI_API_KEY_2"] }));
    assert_eq!(states().await, ["OPENAI_API_KEY: fine", "OPENAI_API_KEY_2: fine"]);
}
