//! The secrets of a workspace, and what is said about them.

use orch_manifests::{AgentName, Digest};

use super::*;
use crate::store::GrantRow;

const KEY: &str = "ghp_0123456789abcdefghij";
const NEW: &str = "ghp_zyxwvutsrqponm987654";

impl Stage {
    async fn set(&self, name: &str, more: Value) -> Value {
        let mut body = json!({ "value": KEY });
        for (field, value) in more.as_object().expect("fields") {
            body[field] = value.clone();
        }
        let answer = self.own("PUT", &format!("/v1/secrets/{name}"), Some(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    async fn got(&self, path: &str) -> Value {
        let answer = self.own("GET", path, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.text.contains(KEY) && !answer.text.contains(NEW), "{}", answer.text);
        answer.json()
    }
}

#[tokio::test]
async fn a_rotation_changes_the_value_and_nothing_else() {
    let stage = Stage::new().await;
    let rotation = json!({ "value": NEW });
    let rotate = || stage.own("POST", "/v1/secrets/TOKEN/rotate", Some(&rotation));
    let missing = rotate().await;
    assert_eq!(missing.refused(), (404, "secret_missing".to_owned()));
    assert!(missing.text.contains("orch secrets set TOKEN"), "{}", missing.text);
    let before = stage.set("TOKEN", json!({ "grants": [{ "host": "a.example", "runs": 3 }] })).await;
    let after = rotate().await.json();
    assert_eq!((&after["version"], &after["under_way"]), (&json!(2), &json!([])), "{after}");
    assert_eq!(after["grants"], before["grants"]);
    assert_ne!(after["fingerprint"], before["fingerprint"]);
    // What a value is set with again stays as well.
    let again = stage.set("TOKEN", json!({})).await;
    assert_eq!((&again["kept_grants"], &again["grants"]), (&json!(1), &before["grants"]), "{again}");
    let none = stage.set("TOKEN", json!({ "grants": [] })).await;
    assert_eq!((&none["kept_grants"], &none["grants"]), (&json!(0), &json!([])), "{none}");
    for (body, code) in [
        (json!({ "value": "short" }), "secret_refused"),
        (json!({ "value": NEW, "grants": [] }), "body_invalid"),
        (json!({ "value": NEW, "expires": "2001-01-01T00:00:00Z" }), "secret_refused"),
        (json!({}), "body_invalid"),
    ] {
        let answer = stage.own("POST", "/v1/secrets/TOKEN/rotate", Some(&body)).await;
        assert_eq!(answer.refused(), (400, code.to_owned()), "{body}");
        assert!(!answer.text.contains(NEW));
    }
}

#[tokio::test]
async fn grants_are_given_shown_and_taken_back() {
    let stage = Stage::new().await;
    let grant = |name: &str, body: Value| {
        let path = format!("/v1/secrets/{name}/grants");
        let stage = &stage;
        async move { stage.own("POST", &path, Some(&body)).await }
    };
    assert_eq!(grant("TOKEN", json!({ "host": "a.example" })).await.refused().1, "secret_missing");
    stage.set("TOKEN", json!({})).await;
    stage.set("OPENAI_API_KEY", json!({})).await;
    let given =
        grant("TOKEN", json!({ "host": "A.example", "methods": ["get"], "place": { "query": "key" } })).await;
    let id = given.json()["grant"]["id"].as_u64().expect("an id");
    let second = grant("TOKEN", json!({ "host": "b.example", "agents": ["acme/x"] })).await.json();
    assert_ne!(second["grant"]["id"], json!(id));
    let bounded = grant("OPENAI_API_KEY", json!({ "agents": ["acme/x"], "max_cost_usd": 2.5 })).await.json();
    assert_eq!((&bounded["grant"]["max_cost_usd"], &bounded["grant"]["host"]), (&json!(2.5), &Value::Null));
    for (name, body, code) in [
        ("TOKEN", json!({ "host": "a.example", "max_cost_usd": 1 }), "bad_usage"),
        ("TOKEN", json!({ "agents": ["acme/x"] }), "bad_usage"),
        ("OPENAI_API_KEY", json!({ "host": "a.example" }), "bad_usage"),
        ("TOKEN", json!({ "host": "a.example", "weekdays": [] }), "bad_json"),
    ] {
        assert_eq!(grant(name, body.clone()).await.refused(), (400, code.to_owned()), "{body}");
    }
    let shown = stage.got("/v1/secrets/TOKEN").await;
    assert_eq!(
        (&shown["grants"][0]["host"], &shown["grants"][0]["methods"]),
        (&json!("a.example"), &json!(["GET"]))
    );
    let take = |id: u64| {
        let path = format!("/v1/secrets/TOKEN/grants/{id}");
        let stage = &stage;
        async move { stage.own("DELETE", &path, None).await }
    };
    assert_eq!(take(id).await.json(), json!({ "name": "TOKEN", "removed_grant": id }));
    assert_eq!(take(id).await.refused(), (404, "grant_missing".to_owned()));
    assert_eq!(stage.got("/v1/secrets/TOKEN").await["grants"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_value_with_line_breaks_never_goes_into_a_header() {
    let stage = Stage::new().await;
    let pem = "-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END KEY-----";
    let put = |more: Value| {
        let mut body = json!({ "value": pem });
        for (field, value) in more.as_object().expect("fields") {
            body[field] = value.clone();
        }
        let stage = &stage;
        async move { stage.own("PUT", "/v1/secrets/PEM", Some(&body)).await }
    };
    let refused = put(json!({})).await;
    assert_eq!(refused.refused(), (400, "secret_refused".to_owned()));
    assert!(refused.text.contains("--multiline"), "{}", refused.text);
    let refused = put(json!({ "multiline": true, "grants": [{ "host": "a.example" }] })).await;
    assert!(refused.text.contains("query:NAME"), "{}", refused.text);
    let kept =
        put(json!({ "multiline": true, "grants": [{ "host": "a.example", "place": { "query": "k" } }] }))
            .await;
    assert_eq!(kept.json()["never_in_header"], true, "{}", kept.text);
    let header = json!({ "host": "b.example" });
    let refused = stage.own("POST", "/v1/secrets/PEM/grants", Some(&header)).await;
    assert_eq!(refused.refused().1, "secret_refused", "{}", refused.text);
}

#[tokio::test]
async fn an_import_is_all_or_nothing() {
    let stage = Stage::new().await;
    let import = |body: Value| {
        let stage = &stage;
        async move { stage.own("POST", "/v1/secrets/import", Some(&body)).await }
    };
    let one = |name: &str, value: &str| json!({ "name": name, "value": value });
    let bad = import(json!({ "secrets": [one("A", KEY), one("B", "short")] })).await;
    assert_eq!(bad.refused(), (400, "secret_refused".to_owned()));
    assert_eq!(bad.json()["error"]["details"]["name"], "B");
    assert_eq!(
        import(json!({ "secrets": [one("A", KEY), one("A", NEW)] })).await.refused().1,
        "body_invalid"
    );
    assert_eq!(import(json!({ "secrets": [] })).await.refused().1, "body_invalid");
    assert_eq!(stage.got("/v1/secrets").await, json!({ "secrets": [] }));
    stage.set("A", json!({ "grants": [{ "host": "a.example" }] })).await;
    let both = json!([one("A", NEW), one("OPENAI_API_KEY", KEY)]);
    let refused = import(json!({ "secrets": both })).await;
    assert_eq!(refused.refused(), (409, "secret_exists".to_owned()));
    assert_eq!(refused.json()["error"]["details"]["names"], json!(["A"]));
    assert_eq!(stage.got("/v1/secrets").await["secrets"].as_array().map(Vec::len), Some(1));
    let done = import(json!({ "secrets": both, "overwrite": true })).await.json();
    let rows = done["secrets"].as_array().expect("rows");
    assert_eq!((&rows[0]["version"], &rows[0]["replaced"]), (&json!(2), &json!(true)), "{done}");
    assert_eq!((&rows[1]["version"], &rows[1]["replaced"]), (&json!(1), &json!(false)), "{done}");
    assert_eq!(rows[0]["grants"][0]["host"], "a.example", "what was said about it stays");
}

#[tokio::test]
async fn who_would_miss_a_secret_is_said() {
    let stage = Stage::new().await;
    assert_eq!(stage.own("GET", "/v1/secrets/TOKEN/uses", None).await.refused().1, "secret_missing");
    stage.set("TOKEN", json!({ "grants": [{ "host": "a.example", "agents": ["acme/x"] }] })).await;
    stage.set("OPENAI_API_KEY", json!({})).await;
    let digest = Digest::of(b"y");
    let row = GrantRow {
        workspace: "default".to_owned(),
        agent: "acme/y".parse::<AgentName>().expect("a name"),
        digest,
        capabilities: vec![
            "use the secret TOKEN toward b.example".to_owned(),
            "use the secret TOKENS toward c".to_owned(),
        ],
        granted_at: OffsetDateTime::now_utc(),
        granted_by: "owner".to_owned(),
    };
    stage.service.store().put_grant(row).await.expect("kept");
    let uses = stage.got("/v1/secrets/TOKEN/uses").await;
    assert_eq!(
        uses["granted"],
        json!([
            { "agent": "acme/x", "by": "secret", "grant": 1, "host": "a.example", "digest": null },
            { "agent": "acme/y", "by": "workspace", "grant": null, "host": "b.example", "digest": digest.to_string() },
        ])
    );
    assert_eq!((&uses["agents"], &uses["under_way"]), (&json!([]), &json!([])));
    let key = stage.got("/v1/secrets/OPENAI_API_KEY/uses").await;
    let agents = key["agents"].to_string();
    assert!(agents.contains("orch/summarizer") && agents.contains("\"asks_for\":\"provider\""), "{agents}");
    let theirs = stage.token("other", &[Scope::Secrets]).await;
    for path in ["/v1/secrets/TOKEN", "/v1/secrets/TOKEN/uses"] {
        assert_eq!(stage.ask(&theirs, "GET", path, None).await.refused(), (404, "secret_missing".to_owned()));
    }
}

#[tokio::test]
async fn a_secret_is_removed_and_its_exchanges_cut_when_that_is_said() {
    let stage = Stage::new().await;
    for (query, cut) in
        [("", Value::Null), ("?now=false", Value::Null), ("?now=true", json!(0)), ("?now", json!(0))]
    {
        stage.set("TOKEN", json!({})).await;
        let gone = stage.own("DELETE", &format!("/v1/secrets/TOKEN{query}"), None).await.json();
        assert_eq!((&gone["name"], &gone["cut"]), (&json!("TOKEN"), &cut), "{query}: {gone}");
        assert!(gone["removed"].is_u64());
        assert_eq!(stage.own("DELETE", "/v1/secrets/TOKEN", None).await.refused().1, "secret_missing");
    }
    assert_eq!(stage.own("DELETE", "/v1/secrets/TOKEN?now=1", None).await.refused().1, "bad_query");
}
