//! What a member registers is theirs alone: to use, to see, to replace and to remove.

use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};
use orch_tests::reply::Reply;
use serde_json::{Value, json};

use crate::members::{ALICES, ALICES_NEW, ASKS, BOBS, KEYS, Members, TEAMS};

/// A key as the list has it.
#[track_caller]
fn listed(members: &Members, token: &str) -> Vec<Value> {
    let said = members.server.ask_as(Some(token), "GET", KEYS, None).expect(200).json();
    said["keys"].as_array().unwrap_or_else(|| panic!("no keys in {said:#}")).clone()
}

fn last_four(key: &str) -> &str {
    &key[key.len() - 4..]
}

#[test]
fn a_key_goes_in_is_replaced_and_goes_and_never_comes_out() {
    let members = Members::new();
    let alice = members.member("alice");
    assert!(listed(&members, &alice).is_empty());
    let said = members.register(&alice, ALICES);
    assert_eq!((&said["provider"], &said["version"]), (&json!("openai"), &json!(1)), "{said:#}");
    assert_eq!((&said["last_four"], &said["warnings"]), (&json!(last_four(ALICES)), &json!([])));
    assert_eq!(said["serves"], json!({ "plain": null, "byok": "own" }), "{said:#}");
    members.served(&alice, &[ASKS], json!({}), ALICES, "own");

    let said = members.register(&alice, ALICES_NEW);
    assert_eq!((&said["version"], &said["last_four"]), (&json!(2), &json!(last_four(ALICES_NEW))));
    members.served(&alice, &[ASKS], json!({}), ALICES_NEW, "own");
    let keys = listed(&members, &alice);
    assert_eq!(keys.len(), 1, "{keys:#?}");
    assert!(keys[0]["last_used"].is_string(), "{keys:#?}");

    let path = format!("{KEYS}?provider=openai");
    let gone = members.server.ask_as(Some(&alice), "DELETE", &path, None).expect(200).json();
    assert_eq!(gone["removed"], json!(["OPENAI_API_KEY"]), "{gone:#}");
    assert_eq!(gone["serves"], json!({ "plain": null, "byok": null }), "{gone:#}");
    members.refused(&alice, &[ASKS], json!({}), (422, "orch_no_key"));
    members.server.ask_as(Some(&alice), "DELETE", &path, None).expect(404);
    for key in [ALICES, ALICES_NEW] {
        let needle = Needle::new(key);
        needle::none(&members.home.search(&needle));
    }
}

#[test]
fn removal_reverts_at_once_and_says_to_whom() {
    let members = Members::new();
    members.team_has(members.server.token(), "OPENAI_API_KEY", TEAMS);
    let alice = members.member("alice");
    members.policy(members.server.token(), "prefer_own");
    members.register(&alice, ALICES);
    members.served(&alice, &[], json!({}), ALICES, "own");
    let path = format!("{KEYS}?provider=openai");
    let gone = members.server.ask_as(Some(&alice), "DELETE", &path, None).expect(200).json();
    assert_eq!(gone["serves"], json!({ "plain": "team", "byok": "team" }), "{gone:#}");
    members.served(&alice, &[], json!({}), TEAMS, "team");
}

#[test]
fn nobody_else_can_use_list_replace_or_remove_it() {
    let members = Members::new();
    let admin = members.server.token().to_owned();
    let alice = members.member("alice");
    members.register(&alice, ALICES);
    // Names that are made to look like hers, or like the part of the vault that hers lie in.
    let others = [
        ("bob", "default"),
        ("Alice", "default"),
        ("alice ", "default"),
        ("alice/OPENAI_API_KEY", "default"),
        ("../alice", "default"),
        ("default/members/alice", "default"),
        ("alice", "other"),
        ("alice", "members"),
    ];
    let path = format!("{KEYS}?provider=openai");
    for (name, workspace) in others {
        let token = members.token(name, workspace, &["llm", "secrets", "run"]);
        members.refused(&token, &[ASKS], json!({}), (422, "orch_no_key"));
        assert!(listed(&members, &token).is_empty(), "{name:?} in {workspace}");
        members.server.ask_as(Some(&token), "DELETE", &path, None).expect(404);
        // What they register under the same name is another key.
        members.register(&token, BOBS);
        members.served(&token, &[ASKS], json!({}), BOBS, "own");
        members.served(&alice, &[ASKS], json!({}), ALICES, "own");
        members.server.ask_as(Some(&token), "DELETE", &path, None).expect(200);
        members.served(&alice, &[ASKS], json!({}), ALICES, "own");
    }
    // Nor do those who look after the workspace see it among its secrets, or reach it by a name.
    members.refused(&admin, &[ASKS], json!({}), (422, "orch_no_key"));
    let secrets = members.server.ask("GET", "/v1/secrets", None).expect(200).json();
    assert_eq!(secrets["secrets"], json!([]), "{secrets:#}");
    for name in ["OPENAI_API_KEY", "own%2Falice%2FOPENAI_API_KEY", "members%2Falice"] {
        let answer = members.server.ask("GET", &format!("/v1/secrets/{name}"), None);
        assert!(matches!(answer.status, 400 | 404), "{name}: {}", answer.status);
        let answer = members.server.ask("DELETE", &format!("/v1/secrets/{name}"), None);
        assert!(matches!(answer.status, 400 | 404), "{name}: {}", answer.status);
    }
    // A workspace that is called like the part is none that anybody can make.
    for workspace in ["default/members/alice", "default%2Fmembers%2Falice"] {
        let body = json!({ "name": "x", "scopes": ["secrets"], "workspace": workspace });
        members.server.ask("POST", "/v1/tokens", Some(&body)).expect(400);
    }
    // Without a token, and with one that is for something else.
    members.server.ask_as(None, "GET", KEYS, None).expect(401);
    let publisher = members.token("alice", "default", &["publish"]);
    members.server.ask_as(Some(&publisher), "GET", KEYS, None).expect(403);
    // What was done is on record with the workspace, whose admins see who did what and no value.
    let audit = members.server.ask("GET", "/v1/audit?limit=1000", None).expect(200).json();
    let hers: Vec<&Value> = audit["records"]
        .as_array()
        .expect("records")
        .iter()
        .filter(|record| record["workspace"] == "default/members/alice")
        .collect();
    let events: Vec<&str> = hers.iter().filter_map(|record| record["event"].as_str()).collect();
    assert!(events.contains(&"set") && events.contains(&"use_planned"), "{hers:#?}");
    let other = members.token("auditor", "other", &["admin"]);
    let audit = members.server.ask_as(Some(&other), "GET", "/v1/audit?limit=1000", None).expect(200).json();
    assert!(!audit.to_string().contains("default/members"), "{audit:#}");
    // A second token of hers is hers.
    let second = members.member("alice");
    members.served(&second, &[ASKS], json!({}), ALICES, "own");
    assert_eq!(listed(&members, &second).len(), 1);
    assert_eq!(listed(&members, &alice)[0]["version"], 1, "nobody has touched it");
}

#[test]
fn what_is_no_key_is_refused_with_the_field_and_without_the_value() {
    let members = Members::new();
    let alice = members.member("alice");
    let post = |body: Value| members.server.ask_as(Some(&alice), "POST", KEYS, Some(&body));
    for (body, code) in [
        (json!({ "provider": "nobody", "key": ALICES }), "provider_unknown"),
        (json!({ "provider": "ollama", "key": ALICES }), "provider_keyless"),
        (json!({ "provider": "openai" }), "body_invalid"),
        (json!({ "provider": "openai", "key": 7 }), "body_invalid"),
        (json!({ "provider": "openai", "key": ALICES, "value": ALICES }), "body_invalid"),
        (json!([ALICES]), "body_invalid"),
        (json!({ "provider": "openai", "key": format!("{ALICES} {ALICES}") }), "key_unusable"),
        (json!({ "provider": "openai", "key": format!("{ALICES}\n") }), "key_unusable"),
        (json!({ "provider": "openai", "key": "" }), "key_unusable"),
    ] {
        let answer = post(body.clone());
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (400, Some(code)), "{said}");
        assert!(!said.contains(ALICES), "{said}");
    }
    assert!(listed(&members, &alice).is_empty());
    // A JSON credential may come as an object, pretty or not, and as text.
    let aws = json!({ "accessKeyId": "AKIAIOSFODNN7EXAMPLE", "region": "us-east-1",
                      "secretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" });
    for key in [aws.clone(), json!(aws.to_string())] {
        let said = post(json!({ "provider": "aws", "key": key })).expect(200).json();
        assert_eq!(said["provider"], "aws", "{said:#}");
    }
    // Nobody is left to believe that it serves.
    let search = json!({ "provider": "tavily", "key": "tvly-dev-0123456789abcdef0123456789abcdef" });
    let said = post(search).expect(200).json();
    assert!(said["warnings"].to_string().contains("orch secrets set TAVILY_API_KEY"), "{said:#}");
    let mut incomplete = aws;
    incomplete.as_object_mut().expect("an object").remove("region");
    let answer = post(json!({ "provider": "aws", "key": incomplete })).expect(400);
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(said.contains("region") && !said.contains("wJalr"), "{said}");
}

/// A key that no account has.
const WRONG: &str = "sk-proj-wrongQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3Gc5J";

#[test]
fn a_provider_is_asked_about_a_key_before_it_is_kept() {
    let members = Members::with(|config| config, &[("ORCH_KEY_CHECK", "on")]);
    let alice = members.token("alice", "default", &["llm", "run"]);
    let said = members.register(&alice, ALICES);
    assert_eq!((&said["check"]["verdict"], &said["warnings"]), (&json!("valid"), &json!([])), "{said:#}");
    let asked = members.openai.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/models"));

    // One that the provider rejects is not stored, and the one before goes on serving.
    let wrong = json!({ "provider": "openai", "key": WRONG });
    let post =
        |query: &str| members.server.ask_as(Some(&alice), "POST", &format!("{KEYS}{query}"), Some(&wrong));
    let refused = post("").expect(422).json();
    assert_eq!(refused["error"]["code"], "key_rejected", "{refused:#}");
    assert_eq!(refused["error"]["details"]["verdict"], "invalid", "{refused:#}");
    let hints = refused["error"]["hints"].to_string();
    assert!(hints.contains("orch byok set openai") && hints.contains("check=false"), "{hints}");
    assert!(!refused.to_string().contains("wrongQw7"), "{refused:#}");
    assert_eq!(listed(&members, &alice)[0]["last_four"], last_four(ALICES));
    members.served(&alice, &[ASKS], json!({}), ALICES, "own");

    // The same from the command line, which leaves the asking to the server.
    let client = Home::cold();
    let set = |more: &[&'static str]| {
        let args = ["byok", "set", "openai", "-", "--json"].into_iter().chain(more.iter().copied());
        members.elsewhere(&client, &alice, args).env("ORCH_KEY_CHECK", "on").stdin(WRONG)
    };
    let outcome = set(&[]).run().expect(3).silent();
    assert_eq!(outcome.error()["code"], "key_rejected", "{outcome}");
    assert!(!outcome.to_string().contains("wrongQw7"), "{outcome}");
    let status = members.elsewhere(&client, &alice, ["byok", "status", "--json"]).run().expect(0).json();
    assert_eq!(status["active"], Value::Null, "{status:#}");
    let good = members.elsewhere(&client, &alice, ["byok", "set", "openai", "-", "--json"]);
    let good = good.env("ORCH_KEY_CHECK", "on").stdin(ALICES_NEW).run().expect(0).json();
    assert_eq!(good["check"]["verdict"], "valid", "{good:#}");

    // Where that is said nobody is asked: by flag, by this environment, by the request.
    let before = members.openai.received().len();
    set(&["--no-check"]).run().expect(0);
    set(&[]).env("ORCH_KEY_CHECK", "off").run().expect(0);
    assert_eq!(post("?check=false").expect(200).json()["check"], Value::Null);
    post("?check=perhaps").expect(400);
    assert_eq!(members.openai.received().len(), before, "nobody was asked");
    // What could not be found out holds nothing up, and is said.
    members.openai.script((0..4).map(|_| Reply::text(200, "<html>Welcome to the hotel</html>")));
    let said = members.register(&alice, ALICES);
    assert_eq!(said["check"]["verdict"], "unchecked", "{said:#}");
    assert!(said["warnings"].to_string().contains("could not be checked"), "{said:#}");
}

#[test]
fn a_server_elsewhere_asks_about_a_secret_before_it_is_kept() {
    let members = Members::with(|config| config, &[("ORCH_KEY_CHECK", "on")]);
    let admin = members.server.token().to_owned();
    let client = Home::cold();
    let keep = |command: &'static str, more: &'static [&str]| {
        let args =
            ["secrets", command, "OPENAI_API_KEY", "-", "--json"].into_iter().chain(more.iter().copied());
        members.elsewhere(&client, &admin, args).env("ORCH_KEY_CHECK", "on")
    };
    let asked = || members.openai.received().len();
    let refused = |command: &'static str| {
        let outcome = keep(command, &[]).stdin(WRONG).run().expect(3).silent();
        assert_eq!(outcome.error()["code"], "key_rejected", "{outcome}");
        assert!(outcome.error()["hints"].to_string().contains("--no-check"), "{outcome}");
        assert!(!outcome.to_string().contains("wrongQw7"), "{outcome}");
    };
    refused("set");
    members.server.ask("GET", "/v1/secrets/OPENAI_API_KEY", None).expect(404);
    // What takes nothing's place is shown to nobody.
    keep("rotate", &[]).stdin(WRONG).run().expect(2);
    assert_eq!(asked(), 1);
    let set = keep("set", &[]).stdin(TEAMS).run().expect(0).json();
    assert_eq!((&set["version"], &set["check"]["verdict"]), (&json!(1), &json!("valid")), "{set:#}");
    refused("rotate");
    let rotated = keep("rotate", &[]).stdin(BOBS).run().expect(0).json();
    assert_eq!(
        (&rotated["version"], &rotated["check"]["verdict"]),
        (&json!(2), &json!("valid")),
        "{rotated:#}"
    );
    let before = asked();
    for command in ["set", "rotate"] {
        keep(command, &["--no-check"]).stdin(WRONG).run().expect(0);
    }
    // Over HTTP whoever wants it says so.
    let body = json!({ "value": WRONG });
    let put =
        |query: &str| members.server.ask("PUT", &format!("/v1/secrets/OPENAI_API_KEY{query}"), Some(&body));
    assert_eq!(put("").expect(200).json().get("check"), None);
    assert_eq!(asked(), before, "nobody was asked");
    assert_eq!(put("?check=true").expect(422).json()["error"]["code"], "key_rejected");
    put("?check=perhaps").expect(400);
}

#[test]
fn an_import_asks_about_its_keys_and_is_all_or_nothing() {
    let members = Members::with(|config| config, &[("ORCH_KEY_CHECK", "on")]);
    let names = |members: &Members| -> Vec<String> {
        let all = members.server.ask("GET", "/v1/secrets", None).expect(200).json();
        let all = all["secrets"].as_array().expect("a list").iter();
        all.map(|secret| secret["name"].as_str().expect("a name").to_owned()).collect()
    };
    let file = format!("OPENAI_API_KEY={WRONG}\nOTHER_TOKEN=0123456789abcdef0123\n");
    let client = Home::cold();
    let admin = members.server.token().to_owned();
    let elsewhere = || members.elsewhere(&client, &admin, ["secrets", "import", "-", "--json"]);
    let here = || crate::stage::orch(&members.home).args(["secrets", "import", "-", "--json"]);
    for (place, import) in [("elsewhere", elsewhere()), ("here", here())] {
        let outcome = import.env("ORCH_KEY_CHECK", "on").stdin(file.as_bytes()).run().expect(3).silent();
        assert_eq!(outcome.error()["code"], "key_rejected", "{place}: {outcome}");
        assert_eq!(outcome.error()["details"]["rejected"], json!(["OPENAI_API_KEY"]), "{place}: {outcome}");
        assert!(!outcome.to_string().contains("wrongQw7"), "{place}: {outcome}");
        assert!(names(&members).is_empty(), "{place}: all of it or nothing");
    }
    assert_eq!(members.openai.received().len(), 2, "each was asked about once");
    let good = file.replace(WRONG, TEAMS);
    let outcome = elsewhere().env("ORCH_KEY_CHECK", "on").stdin(good.as_bytes()).run().expect(0).json();
    assert_eq!(outcome["checks"][0]["verdict"], "valid", "{outcome:#}");
    assert_eq!(names(&members), ["OPENAI_API_KEY", "OTHER_TOKEN"]);
    // One that is there already is not shown to its provider for nothing.
    let before = members.openai.received().len();
    let body = json!({ "secrets": [{ "name": "OPENAI_API_KEY", "value": WRONG }] });
    members.server.ask("POST", "/v1/secrets/import", Some(&body)).expect(409);
    assert_eq!(members.openai.received().len(), before);
    // And whoever means it gets it.
    for import in [elsewhere(), here()] {
        let import =
            import.args(["--overwrite", "--no-check"]).env("ORCH_KEY_CHECK", "on").stdin(file.as_bytes());
        let outcome = import.run().expect(0).json();
        assert!(outcome["checks"].as_array().is_none_or(Vec::is_empty), "{outcome:#}");
    }
    assert_eq!(members.openai.received().len(), before);
}

#[test]
fn a_key_outlives_the_server_and_is_sealed_meanwhile() {
    let members = Members::new();
    let alice = members.member("alice");
    members.register(&alice, ALICES);
    let Members { home, server, openai, anthropic, accounts } = members;
    server.terminate().expect(0);
    let needle = Needle::new(ALICES);
    needle::none(&home.search(&needle));
    let server = orch_tests::server::Server::start(crate::stage::PROGRAM, &home);
    let members = Members { home, server, openai, anthropic, accounts };
    members.served(&alice, &[ASKS], json!({}), ALICES, "own");
}

#[test]
fn the_commands_are_about_one_s_own_key_at_the_server() {
    let members = Members::new();
    let client = Home::cold();
    let alice = members.token("alice", "default", &["llm", "run"]);
    let byok = |args: &[&'static str]| {
        members.elsewhere(&client, &alice, ["byok", "--json"].into_iter().chain(args.iter().copied()))
    };
    let refused = byok(&["use", "openai"]).run().expect(3).silent();
    assert!(refused.error()["hints"].to_string().contains("orch byok set openai"), "{refused}");
    let set = byok(&["set", "openai", "-"]).stdin(ALICES).run().expect(0);
    assert_eq!(set.json()["last_four"], last_four(ALICES), "{set}");
    let status = byok(&["status"]).run().expect(0).json();
    assert_eq!(status["active"]["key"]["source"], "own", "{status:#}");
    assert_eq!(status["active"]["key"]["last_four"], last_four(ALICES), "{status:#}");
    assert!(status["active"]["billed"].as_str().expect("text").contains("your account"), "{status:#}");
    assert_eq!(status["policy"], "prefer_team");
    members.served(&alice, &[ASKS], json!({}), ALICES, "own");

    // What is active there says nothing of this machine.
    let here = crate::stage::orch(&client).args(["byok", "status", "--json"]).run().expect(0).json();
    assert_eq!(here["active"], Value::Null, "{here:#}");

    members.team_has(members.server.token(), "OPENAI_API_KEY", TEAMS);
    let gone = byok(&["clear", "openai"]).run().expect(0).json();
    assert_eq!(gone["serves_now"]["source"], "team", "{gone:#}");
    let status = byok(&["status"]).run().expect(0).json();
    assert_eq!(status["active"]["key"]["source"], "team", "{status:#}");
    assert!(status["active"]["billed"].as_str().expect("text").contains("workspace"), "{status:#}");
    let needle = Needle::new(ALICES);
    needle::none(&client.search(&needle));

    let policy =
        members.elsewhere(&client, members.server.token(), ["byok", "policy", "require_team", "--json"]);
    assert_eq!(policy.run().expect(0).json()["policy"], "require_team");
    let forbidden = byok(&["policy", "disabled"]).run().expect(8).silent();
    assert_eq!(forbidden.error()["code"], "forbidden", "{forbidden}");
    let shown = members.elsewhere(&client, &alice, ["byok", "policy"]).run().expect(0);
    assert!(shown.stdout().contains("default: require_team"), "{shown}");
}
