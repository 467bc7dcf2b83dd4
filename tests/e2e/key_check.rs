//! Providers are asked whether they accept a key: when it is stored, when it is replaced, and by `orch doctor`.

use std::time::{Duration, Instant};

use orch_tests::ca::Ca;
use orch_tests::gate::Gate;
use orch_tests::home::{Config, Home};
use orch_tests::orch::{Orch, Outcome};
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use orch_tests::upstream::{Refused, Upstream};
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{ANTHROPIC_KEY, INPUT, OPENAI_KEY, PROGRAM, Stage, orch, summarizer};

const NAME: &str = "OPENAI_API_KEY";
const WRONG: &str = "sk-proj-wrongQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3Gc5J";

/// The list of models of a provider that takes one key, and says no to every other.
fn models(key: &'static str) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    move |request| {
        let shown = request.header("authorization").and_then(|said| said.strip_prefix("Bearer "));
        match shown.or(request.header("x-api-key")) {
            Some(shown) if shown == key => Reply::json(200, &json!({"object": "list", "data": []})),
            shown => refusal(401, "invalid_api_key", &format!("Incorrect API key provided: {shown:?}")),
        }
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"message": message, "type": "x", "code": code, "param": null}}))
}

/// A stage whose OpenAI knows its key.
fn stage() -> (Stage, Upstream) {
    let mut stage = Stage::new();
    let openai = Upstream::https(&stage.ca, &["api.openai.com"], models(OPENAI_KEY));
    let at = openai.address();
    stage.configure(|config: Config| config.connect("api.openai.com:443", at));
    (stage, openai)
}

fn set(stage: &Stage, value: &str, flags: &[&str]) -> Orch {
    stage.orch(["secrets", "set", NAME, "-"]).args(flags).env("ORCH_KEY_CHECK", "on").stdin(value)
}

fn stored(stage: &Stage) -> Vec<String> {
    let listed = stage.orch(["secrets", "list", "--json"]).run().expect(0).json();
    let names = listed["secrets"].as_array().expect("a list").iter();
    names.map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_good_key_is_asked_about_once_in_the_catalog_s_way_and_stored() {
    let (stage, openai) = stage();
    let outcome = set(&stage, OPENAI_KEY, &["--json"]).run().expect(0);
    assert_eq!(outcome.json()["check"]["verdict"], "valid", "{outcome}");
    let asked = openai.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/models"));
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {OPENAI_KEY}").as_str()));
    assert_eq!(asked.header("host"), Some("api.openai.com"));
    assert!(asked.body.is_empty());
    assert!(!outcome.to_string().contains(OPENAI_KEY), "{outcome}");
    assert_eq!(stored(&stage), [NAME]);
    set(&stage, OPENAI_KEY, &[]).run().expect(0).says("OpenAI accepts OPENAI_API_KEY");
}

/// A key's name, the host, method and path that it is asked about at, the header that it is in with what stands before it, and
/// the body.
type Documented =
    (&'static str, &'static str, &'static str, &'static str, (&'static str, &'static str), &'static str);

/// How a check arrives: written down from the providers' own documentation, and not from the catalog.
const DOCUMENTED: [Documented; 11] = [
    (
        "GEMINI_API_KEY",
        "generativelanguage.googleapis.com",
        "GET",
        "/v1beta/models?pageSize=1",
        ("x-goog-api-key", ""),
        "",
    ),
    ("COHERE_API_KEY", "api.cohere.com", "GET", "/v1/models?page_size=1", BEARER, ""),
    ("XAI_API_KEY", "api.x.ai", "GET", "/v1/api-key", BEARER, ""),
    ("DEEPSEEK_API_KEY", "api.deepseek.com", "GET", "/user/balance", BEARER, ""),
    ("DEEPINFRA_API_KEY", "api.deepinfra.com", "GET", "/v1/me", BEARER, ""),
    ("SILICONFLOW_API_KEY", "api.siliconflow.com", "GET", "/v1/user/info", BEARER, ""),
    ("OPENROUTER_API_KEY", "openrouter.ai", "GET", "/api/v1/key", BEARER, ""),
    ("AI_GATEWAY_API_KEY", "ai-gateway.vercel.sh", "GET", "/v1/credits", BEARER, ""),
    ("NANO_GPT_API_KEY", "nano-gpt.com", "POST", "/api/check-balance", BEARER, "{}"),
    ("TAVILY_API_KEY", "api.tavily.com", "GET", "/usage", BEARER, ""),
    ("VALYU_API_KEY", "api.valyu.ai", "GET", "/v1/datasources", ("x-api-key", ""), ""),
];
const BEARER: (&str, &str) = ("authorization", "Bearer ");

#[test]
fn each_check_arrives_as_its_provider_documents_it() {
    const KEY: &str = "key-e2e-0123456789abcdef0123456789abcdef";
    for (name, host, method, target, (header, scheme), body) in DOCUMENTED {
        let (home, ca) = (Home::new(), Ca::new());
        let provider = move |request: &Received| {
            let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
            if request.method != method || format!("{}{query}", request.path) != target {
                return refusal(404, "not_found", "no such path");
            }
            match request.header(header) == Some(format!("{scheme}{KEY}").as_str()) {
                true => Reply::json(200, &json!({ "data": [] })),
                false => refusal(401, "invalid_api_key", "no such key"),
            }
        };
        let upstream = Upstream::https(&ca, &[host], provider);
        home.configure(&Config::trusting(&ca, &home).connect(&format!("{host}:443"), upstream.address()));
        let set = |value: &str| {
            let set = orch(&home).args(["secrets", "set", name, "-", "--json"]);
            set.env("ORCH_KEY_CHECK", "on").stdin(value).run()
        };
        let good = set(KEY).expect(0);
        assert_eq!(good.json()["check"]["verdict"], "valid", "{name}: {good}");
        let asked = &upstream.received()[0];
        assert_eq!(String::from_utf8_lossy(&asked.body), body, "{name}");
        let known =
            ["host", "accept", "accept-encoding", "content-type", "content-length", "user-agent", header];
        let stray =
            asked.headers.iter().find(|(sent, _)| !known.iter().any(|k| k.eq_ignore_ascii_case(sent)));
        assert!(stray.is_none(), "{name}: {stray:?}");
        let wrong = set("key-e2e-wrong-0123456789abcdef0123456789").expect(3);
        assert_eq!(wrong.error()["details"]["verdict"], "invalid", "{name}: {wrong}");
    }
}

#[test]
fn a_key_that_its_provider_rejects_is_not_stored_unless_that_is_said() {
    let (stage, openai) = stage();
    let outcome = set(&stage, WRONG, &["--json"]).run().expect(3);
    let error = outcome.error();
    assert_eq!(error["code"], "key_rejected", "{outcome}");
    assert_eq!(error["details"]["verdict"], "invalid", "{outcome}");
    let hints = error["hints"].to_string();
    for hint in ["orch secrets set OPENAI_API_KEY", "https://platform.openai.com/api-keys", "--no-check"] {
        assert!(hints.contains(hint), "{hint} in {outcome}");
    }
    // It came back in the provider's words, and was taken out of them.
    assert!(!outcome.to_string().contains("wrongQw7"), "{outcome}");
    assert_eq!(stored(&stage), Vec::<String>::new());
    openai.wait_for(1);

    set(&stage, WRONG, &["--no-check"]).run().expect(0);
    assert_eq!(openai.received().len(), 1, "nobody was asked");
    assert_eq!(stored(&stage), [NAME]);
}

#[test]
fn a_rotation_to_a_bad_key_leaves_the_good_one() {
    let (stage, _openai) = stage();
    set(&stage, OPENAI_KEY, &[]).run().expect(0);
    let rotate =
        |value: &str| stage.orch(["secrets", "rotate", NAME, "-"]).env("ORCH_KEY_CHECK", "on").stdin(value);
    rotate(WRONG).run().expect(3);
    let which = stage.orch(["secrets", "which", NAME, "--json"]).run().expect(0).json();
    assert_eq!(which["version"], 1, "{which}");
    rotate(OPENAI_KEY).run().expect(0);
}

#[test]
fn a_key_that_is_good_for_something_is_stored_and_what_it_lacks_is_said() {
    let (stage, openai) = stage();
    for (reply, verdict, said) in [
        (
            refusal(403, "missing_scope", "Missing scopes: api.model.read"),
            "restricted",
            "may still serve models",
        ),
        (
            refusal(429, "insufficient_quota", "You exceeded your current quota"),
            "out_of_money",
            "https://platform.openai.com/settings/organization/billing",
        ),
        (refusal(429, "rate_limit_exceeded", "slow down"), "rate_limited", "limits its rate just now"),
        (refusal(500, "server_error", "oops"), "unchecked", "could not be checked"),
        (Reply::redirect(302, "https://evil.example/"), "unchecked", "could not be checked"),
        (Reply::text(200, "<html>Welcome to the hotel</html>"), "unchecked", "not its provider's API"),
        (Reply::hang_up(), "offline", "could not be reached"),
    ] {
        openai.script([reply.clone(), reply]);
        let outcome = set(&stage, OPENAI_KEY, &["--json"]).run().expect(0);
        assert_eq!(outcome.json()["check"]["verdict"], verdict, "{outcome}");
        let outcome = set(&stage, OPENAI_KEY, &[]).run();
        let said_in = outcome.to_string();
        // A retry of a connection that was cut may have used up the second step.
        assert!(verdict == "offline" || said_in.contains(said), "{said} in {outcome}");
        assert_eq!(outcome.code(), Some(0));
    }
}

#[test]
fn offline_never_blocks() {
    let mut stage = Stage::new();
    let refused = Refused::new();
    let at = refused.address();
    stage.configure(|config: Config| config.connect("api.openai.com:443", at));
    let outcome = set(&stage, OPENAI_KEY, &[]).run().expect(0).says("was not checked");
    assert_eq!(stored(&stage), [NAME], "{outcome}");
}

#[test]
fn a_provider_that_says_nothing_holds_nobody_up() {
    let (stage, openai) = stage();
    openai.script([Reply::text(200, "{}").held(&Gate::closed())]);
    let began = Instant::now();
    let outcome = set(&stage, OPENAI_KEY, &["--json"]).run().expect(0);
    assert!(began.elapsed() < Duration::from_secs(20), "{outcome}");
    assert_eq!(outcome.json()["check"]["verdict"], "offline", "{outcome}");
    assert_eq!(stored(&stage), [NAME]);
}

#[test]
fn nobody_is_asked_where_that_is_said() {
    let (stage, openai) = stage();
    stage.store(NAME, WRONG, &[]);
    let doctor = stage.orch(["doctor", "--json", "--offline"]).env("ORCH_KEY_CHECK", "on").run();
    assert!(!doctor.stdout().contains("key.openai"), "{doctor}");
    let doctor = stage.orch(["doctor", "--json"]).run();
    assert!(!doctor.stdout().contains("key.openai"), "{doctor}");
    // A secret of no provider is nobody's to judge.
    stage
        .orch(["secrets", "set", "OTHER_TOKEN", "-", "--host", "api.example.com"])
        .env("ORCH_KEY_CHECK", "on")
        .stdin("0123456789abcdef0123")
        .run()
        .expect(0);
    openai.untouched();
}

#[test]
fn doctor_says_whose_key_would_go_in_clear_text() {
    let mut stage = Stage::new();
    let of = |url: &str| json!({ "base_url": url, "dialect": "openai", "env": "LAN_LLM_KEY" });
    let keyless = json!({ "base_url": "http://open.example.com/v1", "dialect": "openai" });
    let names = |stage: &Stage| {
        let doctor = stage.orch(["doctor", "--json", "--offline"]).run();
        let checks = doctor.json()["checks"].as_array().expect("checks").clone();
        let names = checks.iter().filter_map(|row| row["name"].as_str()?.strip_prefix("provider."));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    for (url, said) in [
        ("http://models.example.com/v1", true),
        ("http://203.0.113.9/v1", true),
        ("https://models.example.com/v1", false),
        ("http://10.0.0.5:8000/v1", false),
        ("http://[fd00::5]:8000/v1", false),
        ("http://127.0.0.1:8000/v1", false),
    ] {
        let (entry, open) = (of(url), keyless.clone());
        stage.configure(|config: Config| config.provider("lan-llm", entry).provider("open-llm", open));
        assert_eq!(names(&stage) == ["lan-llm"], said, "{url}: {:?}", names(&stage));
    }
}

fn rows(outcome: &Outcome) -> Vec<(String, String, String)> {
    let checks = outcome.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = checks["checks"].as_array().expect("checks").iter();
    all.filter(|row| row["name"].as_str().is_some_and(|name| name.starts_with("key.")))
        .map(|row| (text(&row["name"]), text(&row["state"]), text(&row["facts"]["verdict"])))
        .collect()
}

/// Keys in both layers: OpenAI's in the vault, Anthropic's in the environment and wrong.
fn two_keys() -> (Stage, Upstream, Upstream) {
    let (mut stage, openai) = stage();
    let anthropic = Upstream::https(&stage.ca, &["api.anthropic.com"], models("another"));
    let at = anthropic.address();
    stage.configure(|config: Config| config.connect("api.anthropic.com:443", at));
    stage.store(NAME, OPENAI_KEY, &[]);
    (stage, openai, anthropic)
}

fn doctor(stage: &Stage) -> Outcome {
    let doctor = stage.orch(["doctor", "--json"]).env("ORCH_KEY_CHECK", "on");
    doctor.env("ANTHROPIC_API_KEY", ANTHROPIC_KEY).run()
}

#[test]
fn doctor_asks_about_every_key() {
    let (stage, openai, anthropic) = two_keys();
    let outcome = doctor(&stage);
    let expected = [("key.openai", "ok", "valid"), ("key.anthropic", "broken", "invalid")];
    let expected =
        expected.map(|(name, state, verdict)| (name.to_owned(), state.to_owned(), verdict.to_owned()));
    assert_eq!(rows(&outcome), expected, "{outcome}");
    assert_eq!(outcome.code(), Some(3), "{outcome}");
    let asked = anthropic.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/models"));
    assert_eq!(asked.query.as_deref(), Some("limit=1"));
    assert_eq!(asked.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(openai.only().path, "/v1/models");
    for key in [OPENAI_KEY, ANTHROPIC_KEY] {
        assert!(!outcome.to_string().contains(key), "{outcome}");
    }
    let audit = stage.orch(["vault", "audit", "--json"]).run().expect(0);
    assert!(audit.stdout().contains("key-check"), "{audit}");
}

#[test]
fn the_server_that_holds_the_vault_asks_about_its_keys() {
    let (stage, openai, _anthropic) = two_keys();
    let server = Server::start(PROGRAM, &stage.home);
    let outcome = doctor(&stage);
    assert_eq!(
        rows(&outcome)[0],
        ("key.openai".to_owned(), "ok".to_owned(), "valid".to_owned()),
        "{outcome}"
    );
    assert_eq!(openai.received().len(), 1);
    let said = server.ask("POST", "/v1/secrets/OPENAI_API_KEY/check", None).expect(200).json();
    assert_eq!((&said["verdict"], &said["provider"]), (&json!("valid"), &json!("openai")));
    server.ask("POST", "/v1/secrets/ANTHROPIC_API_KEY/check", None).expect(404);
    server.ask_as(None, "POST", "/v1/secrets/OPENAI_API_KEY/check", None).expect(401);
}

#[test]
fn a_list_that_anybody_gets_proves_nothing() {
    let mut stage = Stage::new();
    let open = Upstream::https(&stage.ca, &["models.lan.example"], |_: &Received| {
        Reply::json(200, &json!({"object": "list", "data": []}))
    });
    let at = open.address();
    stage.configure(|config: Config| {
        let entry = json!({
            "base_url": "https://models.lan.example/v1", "dialect": "openai", "env": "LAN_LLM_KEY",
        });
        config.provider("lan-llm", entry).connect("models.lan.example:443", at)
    });
    let key = "lan-0123456789abcdef0123456789";
    let set =
        stage.orch(["secrets", "set", "LAN_LLM_KEY", "-", "--json"]).env("ORCH_KEY_CHECK", "on").stdin(key);
    let outcome = set.run().expect(0);
    assert_eq!(outcome.json()["check"]["verdict"], "unchecked", "{outcome}");
    let asked = open.received();
    assert_eq!(asked.len(), 2, "the key, and one that nobody has");
    assert!(asked[0].carries(key.as_bytes()) && !asked[1].carries(key.as_bytes()));
}

#[test]
fn a_key_of_another_provider_is_told_and_a_broken_json_credential_is_refused() {
    let (stage, openai) = stage();
    stage
        .orch(["secrets", "set", NAME, "-"])
        .stdin(ANTHROPIC_KEY)
        .run()
        .expect(0)
        .says("looks like a key of Anthropic");
    let broken = r#"{"accessKeyId":"AKIAE2ETESTEXAMPLE00","secretAccessKey":"wJalrXUtnFEMIK7MDENGbPxRfi"}"#;
    let outcome = stage
        .orch(["secrets", "set", "AWS_BEARER_TOKEN_BEDROCK", "-", "--json"])
        .stdin(broken)
        .run()
        .expect(2);
    assert!(
        outcome.error()["message"].as_str().is_some_and(|said| said.contains("`region` is missing")),
        "{outcome}"
    );
    assert!(!outcome.to_string().contains("wJalr"), "{outcome}");
    openai.untouched();
}

#[test]
fn a_key_of_another_provider_is_shown_to_nobody() {
    let (stage, openai) = stage();
    let outcome = set(&stage, ANTHROPIC_KEY, &["--json"]).run().expect(0);
    let check = &outcome.json()["check"];
    assert_eq!(check["verdict"], "unchecked", "{outcome}");
    assert!(check["why"].to_string().contains("is not shown to OpenAI"), "{outcome}");
    // No run sends it either, wherever it comes from, and no server.
    let agent = summarizer(&["gpt-4o-mini"]);
    let flag = format!("openai={ANTHROPIC_KEY}");
    for (run, hint) in [
        (stage.run(&agent, INPUT), "orch byok set anthropic"),
        (stage.run(&agent, INPUT).env(NAME, ANTHROPIC_KEY), "ANTHROPIC_API_KEY"),
        (stage.run(&agent, INPUT).args(["--key", &flag]), "--key anthropic="),
    ] {
        let outcome = run.run().expect(3);
        let error = outcome.error();
        assert_eq!(error["code"], "key_unusable", "{outcome}");
        let said = error["message"].to_string();
        assert!(said.contains(NAME) && said.contains("is a key of Anthropic, and is not sent"), "{outcome}");
        assert!(error["hints"].to_string().contains(hint), "{hint} in {outcome}");
        assert!(!outcome.stderr().contains(ANTHROPIC_KEY) && !outcome.stdout().contains(ANTHROPIC_KEY));
    }
    let server = Server::start(PROGRAM, &stage.home);
    let body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]});
    let refused = server.ask("POST", "/v1/chat/completions", Some(&body));
    assert!(!(200..300).contains(&refused.status), "{refused:?}");
    assert!(refused.json().to_string().contains("is a key of Anthropic"), "{refused:?}");
    openai.untouched();
}

#[test]
fn what_a_provider_says_of_a_key_draws_nothing_on_the_terminal() {
    let (stage, openai) = stage();
    let drawn = format!("\u{1b}]0;evil\u{7}\u{1b}[2J\u{202e}Enter your key {WRONG} {}", "x".repeat(50_000));
    openai.script([refusal(401, "invalid_api_key", &drawn), refusal(401, "invalid_api_key", &drawn)]);
    for flags in [&[][..], &["--json"]] {
        let outcome = set(&stage, WRONG, flags).run().expect(3);
        let said = format!("{}{}", outcome.stdout(), outcome.stderr());
        assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{said:?}");
        assert!(!said.contains(WRONG) && said.len() < 8_000, "{} bytes", said.len());
    }
}
