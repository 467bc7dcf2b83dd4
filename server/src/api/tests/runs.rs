//! Runs: what refuses them, what is told of them, and to whom.

use super::*;

fn summary() -> Value {
    json!({ "agent": "orch/summarizer", "input": { "text": "one two" }, "simulate": { "scenario": "ok" } })
}

/// Events of a stream: id, name and data.
fn events(stream: &str) -> Vec<(Option<u64>, String, Value)> {
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    let event = |block: &str| {
        let id = field(block, "id").map(|id| id.parse().expect("a number"));
        let data = field(block, "data").expect("data");
        (id, field(block, "event").expect("a name"), serde_json::from_str(&data).expect("JSON"))
    };
    stream.split_terminator("\n\n").filter(|block| !block.starts_with(':')).map(event).collect()
}

#[tokio::test]
async fn a_run_is_accepted_followed_and_found_again() {
    let stage = Stage::new().await;
    let before = OffsetDateTime::now_utc();
    let accepted = stage.own("POST", "/v1/runs", Some(&summary())).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let run = accepted.json();
    let id = run["id"].as_str().expect("an id");
    let path = format!("/v1/runs/{id}");
    assert_eq!(accepted.headers["location"], path.as_str());
    assert_eq!((&run["agent"], &run["caller"]), (&json!("orch/summarizer"), &json!("owner")));
    let created = run["created_at"].as_str().expect("a time");
    let created =
        OffsetDateTime::parse(created, &time::format_description::well_known::Rfc3339).expect("RFC 3339");
    assert!(created >= before - Duration::SECOND && created <= OffsetDateTime::now_utc());

    // The stream ends with the run, which has no program to be executed by.
    let stream = stage.own("GET", &format!("{path}/events"), None).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    let told = events(&stream.text);
    let (last, rest) = told.split_last().expect("events");
    assert_eq!((last.0, last.1.as_str(), &last.2["status"]), (None, "end", &json!("failed")));
    assert!(rest.iter().all(|(id, kind, data)| data["seq"] == json!(id) && data["kind"] == json!(kind)));
    assert!(rest.iter().any(|(_, kind, data)| kind == "status" && data["text"] == "failed"), "{rest:?}");

    let ended = stage.own("GET", &path, None).await.json();
    assert_eq!(ended, last.2);
    assert!(
        ended["error"]["code"].is_string() && ended["exit_code"].is_u64() && ended["finished_at"].is_string()
    );

    // From where a client was cut off.
    let seen = rest[0].0.expect("an id");
    let mut resumed = request("GET", &format!("{path}/events"), "", None);
    resumed.headers_mut().insert("last-event-id", seen.into());
    let resumed = stage.send(Some(Caller::owner()), Peer::Unix, resumed).await;
    let kept = |(id, ..): &&(Option<u64>, String, Value)| id.is_none_or(|id| id > seen);
    assert_eq!(events(&resumed.text), told.iter().filter(kept).cloned().collect::<Vec<_>>());

    let mut page = request("GET", &format!("{path}/events?after={seen}&limit=1"), "", None);
    page.headers_mut().insert("accept", "application/json".parse().expect("a value"));
    let page = stage.send(Some(Caller::owner()), Peer::Unix, page).await.json();
    assert_eq!(page["events"].as_array().expect("a list").len(), 1);
    assert_eq!(page["next"], page["events"][0]["seq"]);

    let listed = stage.own("GET", "/v1/runs?status=failed&agent=orch/summarizer", None).await.json();
    assert_eq!((&listed["runs"][0]["id"], &listed["next"]), (&json!(id), &Value::Null));
    assert!(listed["runs"][0].get("report").is_none());
    assert_eq!(stage.own("GET", "/v1/runs?status=succeeded", None).await.json()["runs"], json!([]));
    assert_eq!(stage.own("DELETE", &path, None).await.json(), ended, "nothing is left to cancel");
    let decided = stage.own("GET", &format!("{path}/decisions?limit=1"), None).await.json();
    assert_eq!(decided, json!({ "run": id, "status": "failed", "decisions": [], "next": null }));
    assert_eq!(stage.own("GET", "/v1/runs/run_x/decisions", None).await.status, 404);
    assert_eq!(stage.own("GET", &format!("{path}/decisions?from=1"), None).await.status, 400);
    let logs = stage.own("GET", "/v1/logs?run=latest", None).await.json();
    assert_eq!((&logs["run"], &logs["events"]), (&json!(id), &json!([])));
}

#[tokio::test]
async fn an_answer_may_wait_for_the_end() {
    let stage = Stage::new().await;
    let waited = stage.own("POST", "/v1/runs?wait", Some(&summary())).await;
    assert_eq!((waited.status.as_u16(), &waited.json()["status"]), (200, &json!("failed")));
    let at_once = stage.own("POST", "/v1/runs?wait=0", Some(&summary())).await;
    assert!(matches!(at_once.status.as_u16(), 200 | 202), "{}", at_once.text);
    let forever = stage.own("POST", "/v1/runs?wait=soon", Some(&summary())).await;
    assert_eq!(forever.refused(), (400, "bad_query".to_owned()));
}

#[tokio::test]
async fn what_refuses_a_run_is_the_answer() {
    let stage = Stage::new().await;
    let with = |name: &str, value: Value| {
        let mut body = summary();
        body[name] = value;
        body
    };
    for (body, status, code) in [
        (with("agent", json!("acme/absent")), 404, "agent_not_found"),
        (with("agent", json!("orch/summarizer@^99")), 404, "version_not_found"),
        (with("agent", json!("no name")), 400, "bad_agent"),
        (
            with("agent", json!({ "module": format!("sha256:{}", "0".repeat(64)), "name": "x" })),
            404,
            "not_found",
        ),
        (with("input", json!(7)), 400, "input_mismatch"),
        (with("input", Value::Null), 400, "input_mismatch"),
        (with("simulate", json!({ "scenario": "none" })), 400, "scenario_invalid"),
        (with("simulate", Value::Null), 422, "no_key"),
        (with("created_at", json!("2001-01-01T00:00:00Z")), 400, "bad_json"),
        (with("limits", json!({ "time_ms": "5" })), 400, "bad_json"),
        (with("mounts", json!([{ "host": "/etc", "guest": "/data" }])), 400, "mount_refused"),
        (with("keys", json!([{ "provider": "nobody", "key": "k" }])), 400, "provider_unknown"),
        (with("env_keys", json!({ "GITHUB_TOKEN": "k" })), 400, "env_key_unknown"),
        (with("allow", json!(["a.example"])), 400, "allow_not_wanted"),
    ] {
        let answer = stage.own("POST", "/v1/runs", Some(&body)).await;
        assert_eq!(answer.refused(), (status, code.to_owned()), "{body}: {}", answer.text);
    }
    assert_eq!(stage.own("GET", "/v1/runs", None).await.json()["runs"], json!([]), "nothing was accepted");
    for text in ["", "{", "[]", "{\"agent\":\"orch/summarizer\"}}", "\u{feff}{}"] {
        let mut broken = request("POST", "/v1/runs", "", Some(&json!({})));
        *broken.body_mut() = full(text.to_owned());
        let answer = stage.send(Some(Caller::owner()), Peer::Unix, broken).await;
        assert_eq!(answer.refused(), (400, "bad_json".to_owned()), "{text}");
    }
}

#[tokio::test]
async fn what_is_granted_with_a_run_takes_a_scope_and_keys_take_a_private_line() {
    let stage = Stage::new().await;
    let token = stage.token("default", &[Scope::Run]).await;
    for name in ["allow", "secrets", "grant"] {
        let mut body = summary();
        body[name] = json!(["x"]);
        assert_eq!(
            stage.ask(&token, "POST", "/v1/runs", Some(&body)).await.refused(),
            (403, "forbidden".to_owned())
        );
        body[name] = json!([]);
        assert_eq!(stage.ask(&token, "POST", "/v1/runs?wait", Some(&body)).await.status, 200);
    }
    let far = Peer::Tcp { address: ([192, 0, 2, 1], 9).into(), tls: false };
    let proxied = |private| Peer::Proxied { client: Client::At([192, 0, 2, 1].into()), private };
    for (name, value) in
        [("keys", json!([{ "key": "sk-secret" }])), ("env_keys", json!({ "OPENAI_API_KEY": "sk-secret" }))]
    {
        let mut body = summary();
        body[name] = value;
        for (peer, hint) in [(far, "--tls-cert"), (proxied(false), "X-Forwarded-Proto")] {
            let answer = stage.send(None, peer, request("POST", "/v1/runs", &token, Some(&body))).await;
            assert_eq!(answer.refused(), (403, "keys_need_tls".to_owned()));
            assert!(answer.text.contains(hint) && !answer.text.contains("sk-secret"), "{}", answer.text);
        }
        let taken = stage.send(None, proxied(true), request("POST", "/v1/runs", &token, Some(&body))).await;
        assert!(!taken.text.contains("keys_need_tls"), "{}", taken.text);
    }
    let secret = json!({ "value": "sk-secret-sk-secret" });
    let admin = stage.token("default", &[Scope::Secrets]).await;
    let all = json!({ "secrets": [{ "name": "X", "value": "sk-secret-sk-secret" }] });
    for (method, path, body) in [
        ("PUT", "/v1/secrets/X", &secret),
        ("POST", "/v1/secrets/X/rotate", &secret),
        ("POST", "/v1/secrets/import", &all),
    ] {
        let sent = request(method, path, &admin, Some(body));
        assert_eq!(stage.send(None, far, sent).await.refused().1, "keys_need_tls", "{path}");
    }
}

#[tokio::test]
async fn a_run_of_another_workspace_is_not_there() {
    let stage = Stage::new().await;
    let ours = stage.own("POST", "/v1/runs?wait", Some(&summary())).await.json();
    let id = ours["id"].as_str().expect("an id");
    let theirs = stage.token("other", &[Scope::Admin]).await;
    for (method, path) in [
        ("GET", format!("/v1/runs/{id}")),
        ("GET", format!("/v1/runs/{id}/events")),
        ("DELETE", format!("/v1/runs/{id}")),
        ("GET", format!("/v1/logs?run={id}")),
        ("GET", "/v1/logs?run=latest".to_owned()),
        ("GET", "/v1/runs/run_x".to_owned()),
    ] {
        let answer = stage.ask(&theirs, method, &path, None).await;
        assert_eq!(answer.refused(), (404, "run_not_found".to_owned()), "{method} {path}");
    }
    assert_eq!(stage.ask(&theirs, "GET", "/v1/runs", None).await.json()["runs"], json!([]));
    let usage = stage.ask(&theirs, "GET", "/v1/usage?by=agent", None).await.json();
    assert_eq!((&usage["rows"], &usage["total"]["calls"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn who_drains_takes_no_runs_and_says_so() {
    let stage = Stage::new().await;
    stage.service.drain(std::time::Duration::ZERO).await;
    let refused = stage.own("POST", "/v1/runs", Some(&summary())).await;
    assert_eq!(refused.refused(), (503, "shutting_down".to_owned()));
    assert!(refused.headers.contains_key("retry-after"));
    let ready = stage.send(None, LOCAL, request("GET", "/readyz", "", None)).await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json(), json!({ "status": "draining", "code": "shutting_down" }));
    assert_eq!(stage.send(None, LOCAL, request("GET", "/healthz", "", None)).await.status, 200);
}

#[tokio::test]
async fn a_field_that_is_too_large_is_named() {
    let stage = Stage::new().await;
    let large = "x".repeat(600 << 10);
    let many: Vec<String> = (0..1001).map(|n| format!("n{n}")).collect();
    let named: BTreeMap<&str, &str> = many.iter().map(|name| (name.as_str(), "")).collect();
    for (field, value) in [
        ("env", json!({ "A": large, "B": large })),
        ("env", json!(named)),
        ("env_keys", json!(named)),
        ("keys", json!([{ "key": large }, { "key": large }])),
        ("allow", json!(many)),
        ("secrets", json!([large, large])),
        ("grant", json!(many)),
        ("model", json!(large.repeat(2))),
        ("simulate", json!({ "file": large.repeat(2) })),
    ] {
        let mut asked = summary();
        asked[field] = value;
        let answer = stage.own("POST", "/v1/runs", Some(&asked)).await;
        assert_eq!(answer.refused(), (413, "field_too_large".to_owned()), "{field}");
        assert_eq!(answer.json()["error"]["details"]["field"], field);
    }
    let mut asked = summary();
    asked["env"] = json!({ "A": large });
    assert_eq!(stage.own("POST", "/v1/runs", Some(&asked)).await.status, 202, "what is not is fine");
}
