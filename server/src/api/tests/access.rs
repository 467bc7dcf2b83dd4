//! Who gets in, and how far.

use super::*;

#[tokio::test]
async fn without_a_good_token_there_is_nothing_but_health() {
    let stage = Stage::new().await;
    for path in ["/v1/runs", "/v1/agents", "/metrics", "/v1/nothing", "/", "/v1/whoami"] {
        let answer = stage.send(None, LOCAL, request("GET", path, "", None)).await;
        assert_eq!(answer.refused(), (401, "not_authenticated".to_owned()), "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let good = stage.token("default", &[Scope::Admin]).await;
    let flipped = format!("{}{}", &good[..56], if good.ends_with('a') { 'b' } else { 'a' });
    for wrong in [&flipped, &good[..56], &good.to_uppercase(), "orch_", "x"] {
        let answer = stage.ask(wrong, "GET", "/v1/runs", None).await;
        assert_eq!(answer.refused(), (401, "not_authenticated".to_owned()), "{wrong}");
        assert!(!answer.text.contains(wrong) || wrong.len() < 6, "{} repeats the token", answer.text);
    }
    for path in ["/healthz", "/readyz"] {
        let answer = stage.send(None, LOCAL, request("GET", path, "", None)).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "status": "ok" })), "{path}");
    }
    assert_eq!(stage.ask(&good, "GET", "/v1/runs", None).await.status, 200);
}

#[tokio::test]
async fn every_answer_has_a_name_of_its_own_and_is_kept_by_nobody() {
    let stage = Stage::new().await;
    let (one, two) =
        (stage.own("GET", "/v1/whoami", None).await, stage.own("GET", "/v1/nothing", None).await);
    assert_ne!(one.headers["x-request-id"], two.headers["x-request-id"]);
    for answer in [one, two] {
        assert!(answer.headers["x-request-id"].to_str().expect("text").starts_with("req_"));
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")));
    }
}

#[tokio::test]
async fn a_token_ends_when_it_says() {
    let stage = Stage::new().await;
    let now = OffsetDateTime::now_utc();
    for (end, status) in [
        (now - Duration::weeks(5200), 401),
        (now - Duration::SECOND, 401),
        (now + Duration::weeks(52_000), 200),
        (now + Duration::HOUR, 200),
    ] {
        let token = stage.token_until("default", &[Scope::Run], Some(end)).await;
        let answer = stage.ask(&token, "GET", "/v1/whoami", None).await;
        assert_eq!(answer.status, status, "{end}: {}", answer.text);
    }
}

#[tokio::test]
async fn tokens_are_made_shown_and_revoked() {
    let stage = Stage::new().await;
    let body =
        json!({ "name": "ci", "scopes": ["run", "llm", "run"], "expires": "2999-01-31T00:00:00+01:00" });
    let made = stage.own("POST", "/v1/tokens", Some(&body)).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    assert_eq!(made["scopes"], json!(["run", "llm"]));

    let who = stage.ask(token, "GET", "/v1/whoami", None).await.json();
    assert_eq!(
        who,
        json!({ "workspace": "default", "name": "ci", "scopes": ["run", "llm"],
            "expires": "2999-01-30T23:00:00Z", "server": { "version": env!("CARGO_PKG_VERSION") } })
    );
    let listed = stage.own("GET", "/v1/tokens", None).await;
    assert!(listed.text.contains(id) && !listed.text.contains(token), "{}", listed.text);

    assert_eq!(stage.own("DELETE", &format!("/v1/tokens/{id}"), None).await.status, 200);
    assert_eq!(stage.ask(token, "GET", "/v1/whoami", None).await.status, 401, "at once");
    let again = stage.own("DELETE", &format!("/v1/tokens/{id}"), None).await;
    assert_eq!(again.status, 200, "it is revoked: {}", again.text);
    let other = stage.own("DELETE", "/v1/tokens/tok_x", None).await;
    assert_eq!(other.refused(), (404, "token_not_found".to_owned()));

    for (body, field) in [
        (json!({ "name": "", "scopes": ["run"] }), "name"),
        (json!({ "name": "x\u{7}", "scopes": ["run"] }), "name"),
        (json!({ "name": "owner", "scopes": ["run"] }), "name"),
        (json!({ "name": "owner", "scopes": ["run"], "workspace": "default" }), "name"),
        (json!({ "name": "x", "scopes": [] }), "scopes"),
        (json!({ "name": "x", "scopes": ["root"] }), "scopes"),
        (json!({ "name": "x", "scopes": ["run"], "expires": "tomorrow" }), "expires"),
        (json!({ "name": "x", "scopes": ["run"], "expires": "2001-01-01T00:00:00Z" }), "expires"),
        (json!({ "name": "x", "scopes": ["run"], "workspace": "No" }), "workspace"),
        (json!({ "name": "x", "scopes": ["run"], "hash": "00" }), "hash"),
        (json!({ "name": "x" }), "."),
    ] {
        let refused = stage.own("POST", "/v1/tokens", Some(&body)).await;
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.json()["error"]["details"]["field"], field, "{body}: {}", refused.text);
    }
}

#[tokio::test]
async fn a_scope_opens_its_own_paths_only() {
    let stage = Stage::new().await;
    let run = stage.token("default", &[Scope::Run]).await;
    let publish = stage.token("default", &[Scope::Publish]).await;
    let secrets = stage.token("default", &[Scope::Secrets]).await;
    let none = stage.token("default", &[]).await;
    for (token, path, status) in [
        (&run, "/v1/runs", 200),
        (&run, "/v1/agents", 200),
        (&run, "/v1/secrets", 403),
        (&run, "/v1/grants", 403),
        (&run, "/v1/tokens", 403),
        (&run, "/metrics", 403),
        (&run, "/v1/models", 403),
        (&publish, "/v1/agents", 200),
        (&publish, "/v1/runs", 403),
        (&publish, "/v1/usage", 403),
        (&publish, "/v1/logs", 403),
        (&secrets, "/v1/logs", 403),
        (&secrets, "/v1/logs/req_x", 403),
        (&run, "/v1/logs", 200),
        (&run, "/v1/logs/req_x", 404),
        (&secrets, "/v1/secrets", 200),
        (&secrets, "/v1/agents", 403),
        (&none, "/v1/whoami", 200),
        (&none, "/v1/agents", 403),
    ] {
        let answer = stage.ask(token, "GET", path, None).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        if status == 403 && path != "/v1/models" {
            assert_eq!(answer.refused().1, "forbidden");
        }
    }
}

#[tokio::test]
async fn a_workspace_s_admin_is_no_operator() {
    let stage = Stage::new().await;
    let theirs = stage.token("other", &[Scope::Admin]).await;
    let ours = stage.token("default", &[Scope::Admin]).await;
    assert_eq!(stage.ask(&theirs, "GET", "/metrics", None).await.refused(), (403, "forbidden".to_owned()));
    let metrics = stage.ask(&ours, "GET", "/metrics", None).await;
    assert!(metrics.text.contains("orch_http_requests_total") && metrics.text.ends_with("# EOF\n"));

    let listed = stage.ask(&theirs, "GET", "/v1/tokens", None).await.json();
    let workspaces: Vec<&Value> =
        listed["tokens"].as_array().expect("a list").iter().map(|row| &row["workspace"]).collect();
    assert_eq!(workspaces, ["other"]);
    let all = stage.ask(&ours, "GET", "/v1/tokens", None).await.json();
    let all = all["tokens"].as_array().expect("a list").clone();
    assert_eq!(all.len(), 2);

    let body = json!({ "name": "x", "scopes": ["admin"], "workspace": "default" });
    assert_eq!(stage.ask(&theirs, "POST", "/v1/tokens", Some(&body)).await.refused().1, "forbidden");
    let body = json!({ "name": "x", "scopes": ["run"] });
    let made = stage.ask(&theirs, "POST", "/v1/tokens", Some(&body)).await.json();
    assert_eq!(made["workspace"], "other");
    let ours_id = all.iter().find(|row| row["workspace"] == "default").expect("one")["id"].clone();
    let path = format!("/v1/tokens/{}", ours_id.as_str().expect("text"));
    assert_eq!(stage.ask(&theirs, "DELETE", &path, None).await.refused().1, "token_not_found");
    assert_eq!(stage.ask(&ours, "GET", "/v1/whoami", None).await.status, 200);
}

#[tokio::test]
async fn strangers_are_answered_so_often() {
    let stage = Stage::new().await;
    let token = stage.token("default", &[Scope::Run]).await;
    let mut limited = None;
    for _ in 0..1000 {
        let answer = stage.send(None, LOCAL, request("GET", "/v1/runs", "", None)).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let limited = limited.expect("an end");
    assert_eq!(limited.refused().1, "rate_limited");
    assert!(limited.headers["retry-after"].to_str().expect("text").parse::<u32>().expect("seconds") >= 1);
    // Somebody else is not held up, and neither is who is known already.
    let other = Peer::Tcp { address: ([192, 0, 2, 1], 9).into(), tls: true };
    assert_eq!(stage.send(None, other, request("GET", "/healthz", "", None)).await.status, 200);
    assert_eq!(stage.send(None, other, request("GET", "/v1/runs", &token, None)).await.status, 200);
    assert_eq!(stage.ask(&token, "GET", "/v1/runs", None).await.status, 200);
}

fn proxied(client: Client) -> Peer {
    Peer::Proxied { client, private: true }
}

#[tokio::test]
async fn a_proxy_s_health_checks_are_not_held_up_by_its_clients() {
    let stage = Stage::new().await;
    let proxy = [10, 0, 0, 1].into();
    let (unclear, own) = (proxied(Client::Unclear(proxy)), proxied(Client::Unsaid(proxy)));
    let ask = async |peer, path| stage.send(None, peer, request("GET", path, "", None)).await.status.as_u16();
    let flood = async |peer, path| {
        for _ in 0..1000 {
            if ask(peer, path).await == 429 {
                return true;
            }
        }
        false
    };
    assert!(flood(unclear, "/healthz").await, "an end");
    assert_eq!(ask(own, "/v1/runs").await, 401, "the proxy itself is counted apart");
    // A proxy that says nothing of its clients asks as they do.
    assert!(flood(own, "/v1/runs").await, "an end");
    assert_eq!([ask(own, "/readyz").await, ask(own, "/healthz").await], [200, 200]);
}

#[tokio::test]
async fn strangers_behind_a_proxy_are_told_apart() {
    let stage = Stage::new().await;
    let through = |client: [u16; 8]| proxied(Client::At(std::net::Ipv6Addr::from(client).into()));
    let ask = async |peer| stage.send(None, peer, request("GET", "/v1/runs", "", None)).await.status;
    let noisy = through([0x2001, 0xdb8, 0, 1, 0, 0, 0, 1]);
    let mut limited = false;
    for _ in 0..1000 {
        limited = ask(noisy).await == 429;
        if limited {
            break;
        }
    }
    assert!(limited, "an end");
    assert_eq!(ask(through([0x2001, 0xdb8, 0, 1, 9, 9, 9, 9])).await, 429, "the same network");
    assert_eq!(ask(through([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])).await, 401, "another one");
    assert_eq!(ask(LOCAL).await, 401, "the proxy itself");
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_told_apart() {
    let stage = Stage::new().await;
    let answer = stage.own("PATCH", "/v1/runs", None).await;
    assert_eq!(answer.refused(), (405, "method_not_allowed".to_owned()));
    assert_eq!(answer.headers["allow"], "POST, GET");
    assert_eq!(stage.own("GET", "/v1/nothing", None).await.refused(), (404, "not_found".to_owned()));
    assert_eq!(stage.own("GET", "/v1/runs?limt=5", None).await.refused(), (400, "bad_query".to_owned()));
    let mut untyped = request("POST", "/v1/runs", "", Some(&json!({})));
    untyped.headers_mut().remove("content-type");
    let answer = stage.send(Some(Caller::owner()), Peer::Unix, untyped).await;
    assert_eq!(answer.refused(), (415, "media_type".to_owned()));
}

#[tokio::test]
async fn the_gateway_s_paths_refuse_in_their_own_words() {
    let stage = Stage::new().await;
    let anthropic = stage.send(None, LOCAL, request("POST", "/v1/messages", "", None)).await;
    assert_eq!((anthropic.status.as_u16(), &anthropic.json()["type"]), (401, &json!("error")));
    let openai = stage.send(None, LOCAL, request("POST", "/api/v1/chat/completions", "", None)).await;
    assert_eq!(openai.status, 401);
    assert!(openai.json()["error"]["message"].is_string() && openai.json().get("exit_code").is_none());
    assert!(openai.headers.contains_key("x-request-id"));

    // A token is also where the clients of others put their keys.
    let token = stage.token("default", &[Scope::Llm]).await;
    for name in ["x-api-key", "x-goog-api-key"] {
        let mut request = request("GET", "/v1/models", "", None);
        request.headers_mut().insert(name, token.parse().expect("a value"));
        assert_eq!(stage.send(None, LOCAL, request).await.status, 200, "{name}");
    }
}
