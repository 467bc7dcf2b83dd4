//! Bring your own key over HTTP: whose key serves a request, by its words and by the workspace's policy.

use orch_tests::needle::{self, Needle};
use orch_tests::reply::Reply;
use serde_json::{Value, json};

use crate::members::{ALICES, ALL, ASKS, BOBS, CHAT, KEYS, Members, PLATFORMS, TEAMS};

/// A workspace that has a key, and a member of it who has one as well.
fn team_and_alice() -> (Members, String) {
    let members = Members::new();
    members.team_has(members.server.token(), "OPENAI_API_KEY", TEAMS);
    let alice = members.member("alice");
    members.register(&alice, ALICES);
    (members, alice)
}

#[test]
fn a_member_s_own_key_serves_when_the_request_asks_and_only_then() {
    let (members, alice) = team_and_alice();
    members.served(&alice, &[], json!({}), TEAMS, "team");
    members.served(&alice, &[ASKS], json!({}), ALICES, "own");
    members.served(&alice, &[("x-use-byok", "false")], json!({}), TEAMS, "team");
    members.served(&alice, &[("x-byok-provider", "openai")], json!({}), ALICES, "own");
    for byok in [
        json!({ "enabled": true }),
        json!({ "enabled": true, "provider": "openai", "disableFallbacks": true }),
        json!({ "provider": "openai" }),
    ] {
        // The fake refuses fields that OpenAI does not know: what is served had it taken out.
        members.served(&alice, &[], json!({ "byok": byok }), ALICES, "own");
    }
    // Who has none of their own is served with the workspace's, and told so.
    let carol = members.member("carol");
    members.served(&carol, &[ASKS], json!({}), TEAMS, "team");
    // The log has it, without the value.
    let needle = Needle::new(ALICES);
    needle::none(&members.home.search(&needle));
}

#[test]
fn every_path_of_the_gateway_takes_it() {
    let (members, alice) = team_and_alice();
    let chat = json!([{ "role": "user", "content": "Hi" }]);
    let paths = [
        ("/api/v1/chat/completions", json!({ "model": "gpt-4o-mini", "messages": chat })),
        ("/v1/responses", json!({ "model": "openai/gpt-4o-mini", "input": "Hi" })),
        ("/v1/messages", json!({ "model": "gpt-4o-mini", "max_tokens": 50, "messages": chat })),
        ("/v2/chat", json!({ "model": "gpt-4o-mini", "messages": chat })),
        ("/api/chat", json!({ "model": "gpt-4o-mini", "messages": chat, "stream": false })),
        (
            "/v1beta/models/gpt-4o-mini:generateContent",
            json!({ "contents": [{ "role": "user", "parts": [{ "text": "Hi" }] }] }),
        ),
    ];
    for (path, body) in paths {
        for in_body in [false, true] {
            let mut body = body.clone();
            if in_body {
                body["byok"] = json!({ "enabled": true });
            }
            let headers: &[(&str, &str)] = if in_body { &[] } else { &[ASKS] };
            let answer = members.server.ask_with(&alice, ("POST", path), headers, Some(&body));
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.header("x-orch-key-owner"), Some("own"), "{path} {in_body}: {said}");
        }
        // What cannot be is said in the path's own dialect, naming the field.
        let headers = [("x-byok-provider", "nobody")];
        let answer = members.server.ask_with(&alice, ("POST", path), &headers, Some(&body)).expect(400);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(said.contains("x-byok-provider") && said.contains("openai"), "{path}: {said}");
    }
    for request in members.openai.received() {
        assert_eq!(crate::members::key_of(&request), ALICES);
        assert!(!request.carries(b"byok"), "it stays here: {request:?}");
    }
}

#[test]
fn streams_say_whose_key_it_is_as_well() {
    let (members, alice) = team_and_alice();
    let body = json!({ "model": "gpt-4o-mini", "stream": true, "byok": { "enabled": true },
                       "messages": [{ "role": "user", "content": "Hi" }] });
    let answer = members.server.ask_with(&alice, ("POST", CHAT), &[], Some(&body)).expect(200);
    assert_eq!(
        (answer.header("x-orch-key-owner"), answer.header("x-orch-byok")),
        (Some("own"), Some("true"))
    );
    assert!(String::from_utf8_lossy(&answer.body).ends_with("data: [DONE]\n\n"));
    // The receipt at the end goes to agents as well, and tells nothing of the value.
    let headers = [("x-orch-receipt", "true")];
    let answer = members.server.ask_with(&alice, ("POST", CHAT), &headers, Some(&body)).expect(200);
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    let (_, receipt) = said.split_once("event: orch.receipt\ndata: ").expect("a receipt");
    let receipt: Value = serde_json::from_str(receipt.lines().next().expect("a line")).expect("JSON");
    assert_eq!(receipt["credential"]["whose"], "own", "{receipt:#}");
    assert!(!said.contains(end_of(ALICES)), "{said}");
}

/// What is shown of a key to whom it belongs.
fn end_of(key: &str) -> &str {
    &key[key.len() - 4..]
}

#[test]
fn a_key_that_fails_is_an_error_unless_another_one_was_asked_for() {
    let (members, alice) = team_and_alice();
    members.accounts.reject(ALICES);
    let failed = members.chat(&alice, &[ASKS], json!({})).expect(401);
    assert_eq!(failed.header("x-orch-key-owner"), Some("own"), "whose key failed is said");
    members.openai.took_key(ALICES);
    // From then on it is left alone, which is no reason to turn to anybody else's.
    members.chat(&alice, &[ASKS], json!({})).expect(401);
    members.openai.took_key(ALICES);
    // It was about her key: the workspace's of the same name is none the worse.
    members.served(&alice, &[], json!({}), TEAMS, "team");
    let falls_back = json!({ "byok": { "enabled": true, "disableFallbacks": false } });
    members.served(&alice, &[], falls_back, TEAMS, "team");
}

#[test]
fn an_account_that_is_not_available_is_followed_by_somebody_else_s_where_that_was_asked_for() {
    let (members, alice) = team_and_alice();
    let down = || Reply::json(500, &json!({ "error": { "message": "down", "type": "server_error" } }));
    // Each is asked twice before it is given up.
    members.openai.script([down(), down()]);
    let falls_back = json!({ "byok": { "enabled": true, "disableFallbacks": false } });
    let answer = members.chat(&alice, &[], falls_back).expect(200);
    assert_eq!(answer.header("x-orch-key-owner"), Some("team"));
    let keys: Vec<String> = members.openai.received().iter().map(crate::members::key_of).collect();
    assert_eq!(keys, [ALICES, ALICES, TEAMS]);
    // Nobody has asked for that here.
    members.openai.script([down(), down()]);
    members.chat(&alice, &[ASKS], json!({})).expect(502);
    assert_eq!(members.openai.received().len(), 5);
}

#[test]
fn what_cannot_be_is_refused_before_any_byte_leaves() {
    let members = Members::new();
    let alice = members.member("alice");
    let none = json!({});
    let error = members.refused(&alice, &[ASKS], none.clone(), (422, "orch_no_key"));
    assert_eq!(error["param"], "x-use-byok", "{error:#}");
    assert!(error["message"].as_str().expect("text").contains("orch byok set openai"), "{error:#}");
    members.register(&alice, ALICES);
    for (headers, more, expected, field) in [
        (
            &[("x-byok-provider", "nobody")][..],
            none.clone(),
            (400, "orch_unknown_provider"),
            "x-byok-provider",
        ),
        (&[("x-byok-provider", "anthropic")], none.clone(), (404, "orch_model_elsewhere"), "x-byok-provider"),
        (&[], json!({ "byok": { "provider": "nobody" } }), (400, "orch_unknown_provider"), "byok.provider"),
        (
            &[("x-byok-provider", "anthropic")],
            json!({ "model": "claude-3-haiku" }),
            (422, "orch_no_key"),
            "x-byok-provider",
        ),
    ] {
        let error = members.refused(&alice, headers, more, expected);
        assert_eq!(error["param"], field, "{error:#}");
    }
    for (headers, more, field) in [
        (&[("x-use-byok", "perhaps")][..], none, "x-use-byok"),
        (&[], json!({ "byok": "yes" }), "byok"),
        (&[], json!({ "byok": { "enabled": 1 } }), "byok.enabled"),
        (&[], json!({ "byok": { "key": "sk-0123456789abcdef" } }), "byok"),
        (&[ASKS], json!({ "byok": { "enabled": false } }), "byok.enabled"),
    ] {
        let answer = members.chat(&alice, headers, more).expect(400).json();
        assert_eq!(answer["error"]["param"], field, "{answer:#}");
        assert!(!answer.to_string().contains("sk-0123"), "{answer:#}");
    }
    members.openai.untouched();
    members.anthropic.untouched();
}

#[test]
fn a_policy_decides_whose_keys_serve() {
    let (members, alice) = team_and_alice();
    let (admin, none) = (members.server.token(), json!({}));
    // A member cannot change it, and an unknown word is none.
    members
        .server
        .ask_as(Some(&alice), "PUT", "/v1/byok", Some(&json!({ "policy": "disabled" })))
        .expect(403);
    let bad =
        members.server.ask("PUT", "/v1/byok", Some(&json!({ "policy": "sometimes" }))).expect(400).json();
    assert_eq!(bad["error"]["details"]["field"], "policy", "{bad:#}");

    members.policy(admin, "prefer_own");
    members.served(&alice, &[], none.clone(), ALICES, "own");
    members.served(&members.member("carol"), &[], none.clone(), TEAMS, "team");
    members.served(&alice, &[("x-use-byok", "false")], none.clone(), TEAMS, "team");

    members.policy(admin, "require_team");
    members.served(&alice, &[ASKS], none.clone(), TEAMS, "team");
    let error = members.refused(&alice, &[], json!({ "model": "claude-3-haiku" }), (422, "orch_no_key"));
    assert!(error["message"].as_str().expect("text").contains("require_team"), "{error:#}");

    members.policy(admin, "disabled");
    let error = members.refused(&alice, &[ASKS], none.clone(), (403, "orch_byok_policy"));
    assert_eq!(error["param"], "x-use-byok", "{error:#}");
    let error = members.refused(&alice, &[], none.clone(), (422, "orch_no_key"));
    assert!(error["message"].as_str().expect("text").contains("disabled"), "{error:#}");

    let back = members.server.ask("DELETE", "/v1/byok", None).expect(200).json();
    assert_eq!((&back["policy"], &back["decided_by"]), (&json!("prefer_team"), &json!("default")));
    members.served(&alice, &[], none, TEAMS, "team");
}

#[test]
fn what_the_configuration_decides_is_nobody_else_s_to_change() {
    let byok = json!({ "policy": "prefer_own", "workspaces": { "default": "require_team" } });
    let members = Members::with(|config| config.section("byok", byok), &[]);
    let said = members.server.ask("GET", "/v1/byok", None).expect(200).json();
    assert_eq!((&said["policy"], &said["decided_by"]), (&json!("require_team"), &json!("server")));
    let refused = members.server.ask("PUT", "/v1/byok", Some(&json!({ "policy": "disabled" }))).expect(400);
    assert_eq!(refused.json()["error"]["code"], "policy_of_operator");
    let other = members.token("admin", "other", &["admin"]);
    let said = members.server.ask_as(Some(&other), "GET", "/v1/byok", None).expect(200).json();
    assert_eq!((&said["policy"], &said["decided_by"]), (&json!("prefer_own"), &json!("default")));
}

/// The operator lends one provider's key out of a workspace of their own.
pub(crate) fn lending() -> (Members, String) {
    let platform = json!({ "keys": "vault", "workspace": "ops", "providers": ["openai"] });
    let members = Members::with(|config| config.section("platform", platform), &[]);
    let ops = members.token("operator", "ops", &["secrets", "llm"]);
    members.team_has(&ops, "OPENAI_API_KEY", PLATFORMS);
    members.team_has(&ops, "ANTHROPIC_API_KEY", crate::stage::ANTHROPIC_KEY);
    (members, ops)
}

#[test]
fn what_the_operator_lends_serves_where_nobody_has_brought_a_key_and_it_is_said() {
    let (members, ops) = lending();
    let (alice, none) = (members.member("alice"), json!({}));
    members.served(&alice, &[], none.clone(), PLATFORMS, "platform");
    // It is never a brought key, and never instead of one.
    let error = members.refused(&alice, &[ASKS], none.clone(), (422, "orch_no_key"));
    assert_eq!(error["param"], "x-use-byok");
    members.register(&alice, ALICES);
    members.served(&alice, &[ASKS], none.clone(), ALICES, "own");
    members.served(&alice, &[], none.clone(), PLATFORMS, "platform");
    // What is not named is not lent.
    members.refused(&alice, &[], json!({ "model": "claude-3-haiku" }), (422, "orch_no_key"));
    // In the workspace that lends, it is the team's.
    members.served(&ops, &[], none.clone(), PLATFORMS, "team");
    // And where the policy leaves nothing else, it is all there is.
    members.policy(members.server.token(), "disabled");
    members.served(&alice, &[], none.clone(), PLATFORMS, "platform");
    members.policy(members.server.token(), "require_team");
    members.refused(&alice, &[], none, (422, "orch_no_key"));
}

#[test]
fn a_brought_key_comes_first_and_the_platform_s_second_in_a_route() {
    let (members, _) = lending();
    let (alice, none) = (members.member("alice"), json!({}));
    members.register(&alice, ALICES);
    let route = json!({ "targets": [
        { "model": "gpt-4o-mini", "whose": "own" }, { "model": "gpt-4o-mini", "whose": "platform" },
    ] });
    members.server.ask("PUT", "/v1/routes/mine-first", Some(&route)).expect(200);
    let by_route = json!({ "model": "mine-first" });
    // Without being asked, nobody's own key serves where the policy wants that asked.
    members.served(&alice, &[], by_route.clone(), PLATFORMS, "platform");
    members.served(&alice, &[ASKS], by_route.clone(), ALICES, "own");
    members.policy(members.server.token(), "prefer_own");
    members.served(&alice, &[], by_route.clone(), ALICES, "own");
    members.accounts.reject(ALICES);
    let answer = members.chat(&alice, &[], by_route).expect(200);
    assert_eq!(answer.header("x-orch-key-owner"), Some("platform"));
    let receipt: Value =
        serde_json::from_str(answer.header("x-orch-receipt").expect("a receipt")).expect("JSON");
    assert_eq!(receipt["failed"], json!([["openai", "bad_key"]]), "{receipt:#}");
    // Without the route, her key that fails is an error.
    members.chat(&alice, &[], none).expect(401);
    // Her own and nothing else: the route's second target is left out.
    let strict = json!({ "model": "mine-first", "byok": { "enabled": true, "disableFallbacks": true } });
    members.chat(&alice, &[], strict).expect(401);
}

#[test]
fn whoever_wants_one_key_and_nothing_else_gets_one_request_also_where_models_share_the_calls() {
    let members = Members::new();
    let alice = members.member("alice");
    members.register(&alice, ALICES);
    let other = json!({ "provider": "anthropic", "key": crate::stage::ANTHROPIC_KEY });
    members.server.ask_as(Some(&alice), "POST", KEYS, Some(&other)).expect(200);
    let route = json!({ "targets": [
        { "model": "gpt-4o-mini", "priority": 1, "weight": 1000 }, { "model": "claude-3-haiku", "priority": 1, "weight": 1 },
    ] });
    members.server.ask("PUT", "/v1/routes/shared", Some(&route)).expect(200);
    members.accounts.reject(ALICES);
    // Saying so is enough, whether or not the request asks for a key of its own.
    members.policy(members.server.token(), "prefer_own");
    let strict = json!({ "model": "shared", "byok": { "disableFallbacks": true } });
    members.chat(&alice, &[], strict);
    assert_eq!(
        members.openai.received().len() + members.anthropic.received().len(),
        1,
        "one request and no more"
    );
}

#[test]
fn who_names_no_model_gets_the_one_that_is_active() {
    let members = Members::new();
    let admin = members.server.token().to_owned();
    members.team_has(&admin, "OPENAI_API_KEY", TEAMS);
    let alice = members.token("alice", "default", &["llm", "run"]);
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    let unnamed = |token: &str| members.server.ask_with(token, ("POST", CHAT), &[], Some(&body));
    let model = |token: &str| {
        let before = members.openai.received().len();
        unnamed(token).expect(200);
        members.openai.received()[before].json()["model"].as_str().expect("a model").to_owned()
    };
    let error = unnamed(&alice).expect(400).json();
    assert!(error["error"]["message"].as_str().expect("text").contains("orch byok model"), "{error:#}");

    // What a member chooses at a server is theirs alone.
    let client = orch_tests::home::Home::cold();
    members.elsewhere(&client, &alice, ["byok", "use", "openai"]).run().expect(0);
    unnamed(&alice).expect(400);
    members.elsewhere(&client, &alice, ["byok", "model", "gpt-4o-mini"]).run().expect(0);
    assert_eq!(model(&alice), "gpt-4o-mini");
    let said = members.server.ask_as(Some(&alice), "GET", "/v1/byok/active", None).expect(200).json();
    let chosen =
        json!({ "member": "alice", "provider": "openai", "model": "gpt-4o-mini", "chosen_by": "member" });
    assert_eq!(said, chosen);
    let bob = members.member("bob");
    unnamed(&bob).expect(400);
    let said = members.server.ask_as(Some(&bob), "GET", "/v1/byok/active", None).expect(200).json();
    assert_eq!(said["provider"], Value::Null, "{said:#}");
    // A model that is named is the one, and a provider that is insisted on as well.
    let answer =
        members.chat(&alice, &[("x-byok-provider", "anthropic")], json!({ "model": "" })).expect(400);
    assert!(String::from_utf8_lossy(&answer.body).contains("name a model"));
    for (bad, field) in [
        (json!({ "provider": "nobody" }), "provider"),
        (json!({ "provider": "openai", "model": "claude-3-haiku" }), "model"),
    ] {
        let refused =
            members.server.ask_as(Some(&alice), "PUT", "/v1/byok/active", Some(&bad)).expect(400).json();
        assert_eq!(refused["error"]["details"]["field"], field, "{refused:#}");
    }

    // What is chosen on the server's own machine is for all of the workspace who have chosen nothing, and for no other one.
    let here = |args: &[&str]| crate::stage::orch(&members.home).args(["byok"]).args(args).run().expect(0);
    here(&["use", "openai"]);
    here(&["model", "gpt-4o"]);
    assert_eq!((model(&bob), model(&alice)), ("gpt-4o".to_owned(), "gpt-4o-mini".to_owned()));
    let elsewhere = members.token("bob", "other", &["llm"]);
    unnamed(&elsewhere).expect(400);
    let gone = members.server.ask_as(Some(&alice), "DELETE", "/v1/byok/active", None).expect(200).json();
    assert_eq!((&gone["model"], &gone["chosen_by"]), (&json!("gpt-4o"), &json!("workspace")));

    // Both outlive the server.
    members.elsewhere(&client, &alice, ["byok", "model", "gpt-4o-mini"]).run().expect(0);
    let Members { home, server, openai, anthropic, accounts } = members;
    server.terminate().expect(0);
    let server = orch_tests::server::Server::start(crate::stage::PROGRAM, &home);
    let members = Members { home, server, openai, anthropic, accounts };
    let asked = |token: &str| {
        let before = members.openai.received().len();
        members.server.ask_with(token, ("POST", CHAT), &[], Some(&body)).expect(200);
        members.openai.received()[before].json()["model"].clone()
    };
    assert_eq!((asked(&bob), asked(&alice)), (json!("gpt-4o"), json!("gpt-4o-mini")));
}

#[test]
fn providers_are_listed_with_the_keys_of_all_who_have_one_and_whose_they_are() {
    let (members, _) = lending();
    let (alice, bob) = (members.member("alice"), members.member("bob"));
    members.register(&alice, ALICES);
    let keys = |token: &str| -> Vec<(String, String)> {
        let listed = members.server.ask_as(Some(token), "GET", "/v1/providers", None).expect(200).json();
        let all = listed["providers"].as_array().expect("a list").clone();
        let openai = all.into_iter().find(|entry| entry["provider"] == "openai").expect("openai");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let keys = openai["keys"].as_array().expect("keys").iter();
        keys.map(|key| (text(&key["key"]), text(&key["whose"]))).collect()
    };
    let pair = |key: &str, whose: &str| (key.to_owned(), whose.to_owned());
    let platforms = pair("platform/OPENAI_API_KEY", "platform");
    assert_eq!(keys(&alice), [pair("own/alice/OPENAI_API_KEY", "own"), platforms.clone()]);
    assert_eq!(keys(&bob), std::slice::from_ref(&platforms), "hers are nobody else's to see");
    members.team_has(members.server.token(), "OPENAI_API_KEY", TEAMS);
    assert_eq!(keys(&bob), [pair("OPENAI_API_KEY", "team"), platforms]);
    // What stands against her key is hers to know of and to take away.
    members.accounts.reject(ALICES);
    members.chat(&alice, &[ASKS], json!({})).expect(401);
    let keeper = members.token("bob", "default", &["secrets"]);
    let reset = |token: &str| {
        members.server.ask_as(Some(token), "POST", "/v1/providers/openai/reset", None).expect(200).json()
    };
    assert_eq!(reset(&keeper), json!({ "reset": [] }));
    let hers = members.token("alice", "default", &["secrets"]);
    assert_eq!(reset(&hers), json!({ "reset": ["own/alice/OPENAI_API_KEY"] }));
    // Models say the same.
    let model = |token: &str| {
        let one =
            members.server.ask_as(Some(token), "GET", "/v1/models/gpt-4o-mini", None).expect(200).json();
        (one["key"].clone(), one["key_owner"].clone())
    };
    assert_eq!(model(&bob), (json!("present"), json!("team")));
    members.server.ask("DELETE", "/v1/secrets/OPENAI_API_KEY", None).expect(200);
    assert_eq!(model(&bob), (json!("platform"), json!("platform")));
    members.policy(members.server.token(), "prefer_own");
    assert_eq!(model(&alice), (json!("present"), json!("own")));
}

#[test]
fn the_environment_of_the_server_is_lent_where_the_configuration_says_so_and_nowhere_else() {
    let platform = json!({ "keys": "env", "providers": ["openai"] });
    let env = [("OPENAI_API_KEY", PLATFORMS), ("ANTHROPIC_API_KEY", crate::stage::ANTHROPIC_KEY)];
    let members = Members::with(|config| config.section("platform", platform), &env);
    let alice = members.member("alice");
    members.served(&alice, &[], json!({}), PLATFORMS, "platform");
    members.refused(&alice, &[], json!({ "model": "claude-3-haiku" }), (422, "orch_no_key"));
    drop(members);
    // Nothing is taken that is not named.
    let members = Members::with(|config| config, &env);
    let alice = members.member("alice");
    members.refused(&alice, &[], json!({}), (422, "orch_no_key"));
}

#[test]
fn a_run_goes_by_the_same_policy_and_its_receipt_says_whose_key_it_was() {
    let (members, _) = lending();
    let agent = crate::stage::summarizer(&["gpt-4o-mini"]);
    let client = orch_tests::home::Home::cold();
    let token = members.token("alice", "default", &["run", "llm"]);
    let run = || {
        let input = ["run", "--json", "--input", crate::stage::INPUT];
        members.elsewhere(&client, &token, input).arg(agent.path())
    };
    let whose = |report: &Value| report["calls"][0]["credential"]["whose"].clone();
    let report = run().run().expect(0).json();
    assert_eq!(
        (whose(&report), &report["calls"][0]["byok"]),
        (json!("platform"), &json!(false)),
        "{report:#}"
    );
    members.register(&token, ALICES);
    let report = run().run().expect(0).json();
    assert_eq!(whose(&report), "platform", "nobody asked for hers: {report:#}");
    // Making it active asks for it.
    members.elsewhere(&client, &token, ["byok", "use", "openai"]).run().expect(0);
    let report = run().run().expect(0).json();
    assert_eq!((whose(&report), &report["calls"][0]["byok"]), (json!("own"), &json!(true)), "{report:#}");
    assert_eq!(report["calls"][0]["credential"]["mask"], ALICES[ALICES.len() - 4..], "{report:#}");
    // Others of the workspace see the run, and of her key no more than whose it is; she and its admins see how it ends.
    let bob = members.token("bob", "default", &["run"]);
    let runs = members.server.ask_as(Some(&bob), "GET", "/v1/runs", None).expect(200).json();
    let path = format!("/v1/runs/{}", runs["runs"][0]["id"].as_str().expect("an id"));
    for (reader, sees) in [(&bob, false), (&token, true), (&members.server.token().to_owned(), true)] {
        let said = |path: &str| {
            let answer = members.server.ask_as(Some(reader), "GET", path, None).expect(200);
            String::from_utf8_lossy(&answer.body).into_owned()
        };
        let run = said(&path);
        assert!(run.contains("\"whose\":\"own\""), "{run}");
        assert_eq!(run.contains(end_of(ALICES)), sees, "{run}");
        let events = said(&format!("{path}/events"));
        assert!(events.contains("own/alice/OPENAI_API_KEY"), "{events}");
        assert!(sees || !events.contains(end_of(ALICES)), "{events}");
    }
    members.elsewhere(&client, &token, ["byok", "use", "none"]).run().expect(0);
    members.policy(members.server.token(), "prefer_own");
    assert_eq!(whose(&run().run().expect(0).json()), "own");
    members.policy(members.server.token(), "require_team");
    let refused = run().run().expect(3).silent();
    assert_eq!(refused.error()["code"], "no_key", "{refused}");
    let brought = run().arg("--key-stdin").stdin(BOBS).run().expect(4).silent();
    assert_eq!(brought.error()["code"], "byok_policy", "{brought}");
    for key in ALL {
        let needle = Needle::new(key);
        needle::none(&members.home.search(&needle));
        needle::none(&client.search(&needle));
    }
}

#[test]
fn a_team_s_key_that_cannot_be_used_does_not_stand_in_the_way_of_one_s_own() {
    let members = Members::new();
    let admin = members.server.token().to_owned();
    let agent = crate::stage::summarizer(&["gpt-4o-mini"]);
    let client = orch_tests::home::Home::cold();
    let token = members.token("alice", "default", &["run", "llm"]);
    members.register(&token, ALICES);
    // The team's is for another agent alone.
    let body = json!({ "value": TEAMS, "grants": [{ "agents": ["acme/other"] }] });
    members.server.ask_as(Some(&admin), "PUT", "/v1/secrets/OPENAI_API_KEY", Some(&body)).expect(200);
    let run = || {
        let input = ["run", "--json", "--input", crate::stage::INPUT];
        members.elsewhere(&client, &token, input).arg(agent.path()).run()
    };
    // Where it comes first, nobody else's is taken in its place.
    let refused = run().expect(4).silent();
    assert_eq!(refused.error()["code"], "secret_not_for_agent", "{refused}");
    assert!(members.openai.received().is_empty());
    members.policy(&admin, "prefer_own");
    let outcome = run().expect(0);
    assert_eq!(outcome.json()["calls"][0]["credential"]["whose"], "own", "{outcome}");
    members.openai.took_key(ALICES);
    members.openai.never_saw(TEAMS.as_bytes());
    assert!(outcome.stderr().contains("OPENAI_API_KEY is for acme/other"), "{outcome}");
    let audit = members.server.ask("GET", "/v1/audit?limit=1000", None).expect(200).json();
    let why: Vec<&Value> = audit["records"].as_array().expect("records").iter().collect();
    assert!(why.iter().any(|record| record.to_string().contains("secret_not_for_agent")), "{why:#?}");
}

#[test]
fn a_search_goes_by_the_policy_as_well() {
    let members = Members::new();
    let admin = members.server.token().to_owned();
    let agent = crate::stage::guest("wanderer", &json!({ "search": ["tavily"], "supported_providers": [] }));
    let client = orch_tests::home::Home::cold();
    let token = members.token("alice", "default", &["run", "llm", "grants"]);
    let run = || {
        let input = ["run", "--json", "--input", r#"{"requests":[]}"#, "--grant", "search:tavily"];
        members.elsewhere(&client, &token, input).arg(agent.path()).run()
    };
    assert_eq!(run().expect(3).silent().error()["code"], "key_missing");
    members.team_has(&admin, "TAVILY_API_KEY", "tvly-dev-0123456789abcdef0123456789abcdef");
    run().expect(0);
    for policy in ["require_team", "prefer_own"] {
        members.policy(&admin, policy);
        run().expect(0);
    }
    // A member's own comes first where the policy says so, and is on record where it lies.
    let planned = || {
        let audit = members.server.ask("GET", "/v1/audit?limit=1000", None).expect(200).json();
        let of = |record: &&Value| {
            record["event"] == "use_planned" && record.to_string().contains("TAVILY_API_KEY")
        };
        let records = audit["records"].as_array().expect("records").iter().filter(of);
        records.map(|record| record["workspace"].as_str().expect("a part").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(planned(), ["default", "default", "default"]);
    let own = json!({ "provider": "tavily", "key": "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" });
    members.server.ask_as(Some(&token), "POST", KEYS, Some(&own)).expect(200);
    run().expect(0);
    members.server.ask("DELETE", "/v1/secrets/TAVILY_API_KEY", None).expect(200);
    run().expect(0);
    assert_eq!(planned().iter().filter(|part| *part == "default/members/alice").count(), 2);
    assert_eq!(planned().len(), 5);
    members.policy(&admin, "prefer_team");
    assert_eq!(run().expect(3).silent().error()["code"], "key_missing", "nobody asked for hers");
    // The platform's keys alone serve, and it lends none to search with.
    members.policy(&admin, "disabled");
    let refused = run().expect(4).silent();
    assert_eq!(refused.error()["code"], "byok_policy", "{refused}");
    assert!(refused.error()["message"].to_string().contains("tavily"), "{refused}");
}

#[test]
fn development_and_production_have_keys_of_their_own_under_the_same_name() {
    let members = Members::new();
    let dev = members.token("ci", "dev", &["llm", "secrets"]);
    let prod = members.token("ci", "prod", &["llm", "secrets"]);
    members.team_has(&dev, "OPENAI_API_KEY", BOBS);
    members.team_has(&prod, "OPENAI_API_KEY", TEAMS);
    members.served(&dev, &[], json!({}), BOBS, "team");
    members.served(&prod, &[], json!({}), TEAMS, "team");
    // The same goes for what members of the same name register.
    members.register(&dev, ALICES);
    members.served(&dev, &[ASKS], json!({}), ALICES, "own");
    members.served(&prod, &[ASKS], json!({}), TEAMS, "team");
    let listed = members.server.ask_as(Some(&prod), "GET", KEYS, None).expect(200).json();
    assert_eq!(listed["keys"], json!([]), "{listed:#}");
}
