//! Credential files of other tools: read at each use, never written, and no more of them than a token.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use orch_tests::fakes::anthropic::anthropic;
use orch_tests::fakes::openai::openai;
use orch_tests::guests::{self, Agent};
use orch_tests::home::Config;
use orch_tests::orch::Outcome;
use orch_tests::reply::{Piece, Reply};
use orch_tests::server::Server;
use orch_tests::upstream::{Host as _, Upstream};
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{INPUT, Mode, PROGRAM, Stage, receipt, summary};

const NAME: &str = "QWEN_CODE_OAUTH";
const FIRST: &str = "qwen-access-e2eFq7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm";
const SECOND: &str = "qwen-access-e2eSq7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm";
const REFRESH: &str = "qwen-refresh-e2eRq7ZpLx4Vn8Rt2Ys6Hd1Kf9";
const SAYS: &str = "Qwen says that ships wait for rain.";

fn in_ms(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    (i64::try_from(now).expect("a time") + seconds) * 1000
}

fn credentials(token: &str, seconds: i64) -> Value {
    json!({
        "access_token": token, "refresh_token": REFRESH, "token_type": "Bearer",
        "resource_url": "portal.qwen.ai", "expiry_date": in_ms(seconds),
    })
}

/// Writes what a tool keeps, below the user's home folder.
fn keep(stage: &Stage, file: &str, credentials: &Value) -> PathBuf {
    let path = stage.home.user().join(file);
    let folder = path.parent().expect("a folder");
    if !folder.exists() {
        fs::DirBuilder::new().mode(0o700).create(folder).expect("a folder");
    }
    fs::write(&path, serde_json::to_string_pretty(credentials).expect("JSON")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    path
}

/// A stage whose Qwen takes both tokens.
fn stage() -> (Stage, Upstream) {
    let mut stage = Stage::new();
    let knows = |key| openai(key, SAYS).with_model("qwen3-coder-plus");
    let (first, second) = (knows(FIRST), knows(SECOND));
    let answer = move |request: &Received| match request.carries(SECOND.as_bytes()) {
        true => second.answer(request),
        false => first.answer(request),
    };
    let qwen = Upstream::https(&stage.ca, &["portal.qwen.ai"], answer);
    let at = qwen.address();
    stage.configure(|config: Config| config.connect("portal.qwen.ai:443", at));
    (stage, qwen)
}

fn agent(model: &str) -> Agent {
    let provider = model.split('/').next().expect("a provider");
    let fields = json!({ "supported_providers": [provider], "llm": { "primary": model } });
    Agent::new("summarizer", &guests::example("summarizer"), &fields)
}

fn qwen_agent() -> Agent {
    agent("qwen-code/qwen3-coder-plus")
}

fn refer(stage: &Stage, flags: &[&str]) -> Outcome {
    stage.orch(["secrets", "set", NAME, "--credential-file"]).args(flags).run()
}

#[test]
fn a_file_at_its_usual_place_is_read_at_each_use_and_never_written() {
    let (stage, qwen) = stage();
    let path = keep(&stage, ".qwen/oauth_creds.json", &credentials(FIRST, 3600));
    refer(&stage, &[]).expect(0);
    let before = fs::read(&path).expect("there");
    let report = summary(stage.run(&qwen_agent(), INPUT).run(), SAYS);
    let asked = qwen.only();
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {FIRST}").as_str()));
    assert_eq!(receipt(&report)["credential"]["id"], NAME, "{report:#}");
    assert_eq!(fs::read(&path).expect("there"), before, "it is the tool's to write");

    keep(&stage, ".qwen/oauth_creds.json", &credentials(SECOND, 3600));
    summary(stage.run(&qwen_agent(), INPUT).run(), SAYS);
    assert!(qwen.received()[1].carries(SECOND.as_bytes()), "the renewal is seen");
    qwen.never_saw(REFRESH.as_bytes());
}

#[test]
fn a_server_sees_the_renewal_as_well() {
    let (stage, qwen) = stage();
    keep(&stage, ".qwen/oauth_creds.json", &credentials(FIRST, 3600));
    let server = Server::start(PROGRAM, &stage.home);
    refer(&stage, &[]).expect(0);
    let ask = || {
        let body = json!({"model": "qwen-code/qwen3-coder-plus", "messages": [{"role": "user", "content": "Hello"}]});
        server.ask("POST", "/v1/chat/completions", Some(&body))
    };
    ask().expect(200);
    keep(&stage, ".qwen/oauth_creds.json", &credentials(SECOND, 3600));
    ask().expect(200);
    assert!(qwen.received()[0].carries(FIRST.as_bytes()) && qwen.received()[1].carries(SECOND.as_bytes()));
    keep(&stage, ".qwen/oauth_creds.json", &credentials(SECOND, -5));
    let refused = ask();
    assert!(!(200..300).contains(&refused.status), "{refused:?}");
    let said = refused.json().to_string();
    assert!(said.contains("expired at") && said.contains("qwen"), "{said}");
    assert!(!said.contains(SECOND), "{said}");
    assert!(!said.contains(".qwen/"), "where the file lies is not for clients: {said}");
    keep(&stage, ".qwen/oauth_creds.json", &credentials(SECOND, 3600));
    ask().expect(200);
    assert_eq!(qwen.received().len(), 3);
}

#[test]
fn an_expired_token_names_the_tool_before_any_byte_leaves() {
    let (stage, qwen) = stage();
    keep(&stage, ".qwen/oauth_creds.json", &credentials(FIRST, 3600));
    refer(&stage, &[]).expect(0);
    keep(&stage, ".qwen/oauth_creds.json", &credentials(FIRST, 20));
    let outcome = stage.run(&qwen_agent(), INPUT).run().expect(3);
    let error = outcome.error();
    assert_eq!(error["code"], "key_unusable", "{outcome}");
    assert!(error["message"].as_str().is_some_and(|said| said.contains("expired at")), "{outcome}");
    assert!(error["hints"].to_string().contains("start Qwen Code once"), "{outcome}");
    assert!(!outcome.to_string().contains(FIRST), "{outcome}");
    qwen.untouched();
}

#[test]
fn what_others_can_get_at_is_refused_and_what_is_not_there_is_said() {
    let (stage, _qwen) = stage();
    refer(&stage, &[]).expect(3).says("there is no").says("sign in with Qwen Code: qwen");
    let path = keep(&stage, ".qwen/oauth_creds.json", &credentials(FIRST, 3600));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    refer(&stage, &[]).expect(2).says("chmod 600");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    let link = stage.home.work().join("link.json");
    symlink(&path, &link).expect("a link");
    refer(&stage, &[&link.display().to_string()]).expect(2).says("symbolic link");
    refer(&stage, &[&path.display().to_string()]).expect(0);
    // It is checked at each use, not only when it is stored.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    let outcome = stage.run(&qwen_agent(), INPUT).run().expect(3);
    assert!(outcome.error()["message"].to_string().contains("chmod 600"), "{outcome}");
}

#[test]
fn what_is_pasted_is_kept_without_what_makes_new_tokens() {
    let (stage, qwen) = stage();
    let pasted = serde_json::to_string_pretty(&credentials(FIRST, 3600)).expect("JSON");
    stage.orch(["secrets", "set", NAME, "-"]).stdin(pasted).run().expect(0);
    summary(stage.run(&qwen_agent(), INPUT).run(), SAYS);
    qwen.took_key(FIRST);
    let broken = json!({"refresh_token": REFRESH}).to_string();
    let outcome = stage.orch(["secrets", "set", NAME, "-"]).stdin(broken).run().expect(2);
    assert!(
        outcome.to_string().contains("have no `access_token`") && !outcome.to_string().contains(REFRESH),
        "{outcome}"
    );
}

#[test]
fn a_file_cannot_choose_another_host() {
    let (stage, qwen) = stage();
    let mut evil = credentials(FIRST, 3600);
    evil["resource_url"] = json!("evil.example");
    keep(&stage, ".qwen/oauth_creds.json", &evil);
    refer(&stage, &[]).expect(2).says("another host than portal.qwen.ai");
    evil["resource_url"] = json!(["portal.qwen.ai"]);
    keep(&stage, ".qwen/oauth_creds.json", &evil);
    refer(&stage, &[]).expect(2).says("a list in the field `resource_url`");
    refer(&stage, &["--project", "my-project"]).expect(2).says("--project is for Gemini CLI");
    // One that was good when it was stored, too.
    keep(&stage, ".qwen/oauth_creds.json", &credentials(FIRST, 3600));
    refer(&stage, &[]).expect(0);
    evil["resource_url"] = json!("127.0.0.1");
    keep(&stage, ".qwen/oauth_creds.json", &evil);
    stage.run(&qwen_agent(), INPUT).run().expect(3).says("another host than portal.qwen.ai");
    qwen.untouched();
}

#[test]
fn what_is_no_file_of_one_s_own_is_not_read() {
    let (stage, qwen) = stage();
    let path = keep(&stage, ".qwen/oauth_creds.json", &credentials(FIRST, 3600));
    // A pipe would block the reader, and a device would never end.
    fs::remove_file(&path).expect("removed");
    let made = std::process::Command::new("mkfifo").arg("-m").arg("600").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    for (place, why) in [
        (path.display().to_string(), "is not a file"),
        ("/dev/zero".to_owned(), "is not a file"),
        (stage.home.user().display().to_string(), "is not a file"),
    ] {
        refer(&stage, &[&place]).expect(2).says(why);
    }
    fs::remove_file(&path).expect("removed");
    fs::File::create(&path).and_then(|file| file.set_len(1 << 30)).expect("a large file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    refer(&stage, &[]).expect(2).says("is larger than 64 KiB");
    qwen.untouched();
}

#[test]
fn nobody_elsewhere_makes_a_server_read_a_file() {
    let (stage, qwen) = stage();
    let path = keep(&stage, ".qwen/oauth_creds.json", &credentials(FIRST, 3600));
    let server = Server::start(PROGRAM, &stage.home);
    let row = json!({"orchCredentialFile": 1, "path": path.display().to_string()}).to_string();
    let put =
        |value: &str| server.ask("PUT", &format!("/v1/secrets/{NAME}"), Some(&json!({ "value": value })));
    let refused = put(&row);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.json().to_string().contains("names a credential file"), "{refused:?}");
    put(&credentials(FIRST, 3600).to_string()).expect(200);
    // Its home is the stage's own server's from here on.
    server.terminate();
    // Nor does a key that comes along with a run.
    let flag = format!("qwen-code={row}");
    let outcome =
        stage.run_in(Mode::Served, qwen_agent().path(), INPUT).args(["--key", &flag]).run().expect(3);
    assert!(outcome.to_string().contains("names a file"), "{outcome}");
    qwen.untouched();
}

#[test]
fn a_token_that_is_echoed_is_taken_out() {
    let (stage, qwen) = stage();
    keep(&stage, ".qwen/oauth_creds.json", &credentials(FIRST, 3600));
    refer(&stage, &[]).expect(0);
    let echo = |_: &str| {
        Reply::json(
            401,
            &json!({"error": {"message": format!("bad token {FIRST}"), "code": "invalid_api_key"}}),
        )
    };
    qwen.script([echo(""), echo("")]);
    let outcome = stage.run(&qwen_agent(), INPUT).run();
    assert_ne!(outcome.code(), Some(0), "{outcome}");
    assert!(!outcome.to_string().contains(FIRST), "{outcome}");
}

const CLAUDE: &str = "sk-ant-oat01-e2eTb5Nw8Rq2Mz7Kx4Lp9Vd1Hs6Fj3Gc0Ya";
const CLAUDE_SAYS: &str = "Claude says that rain waits for no ship.";

fn claude() -> Value {
    json!({"claudeAiOauth": {
        "accessToken": CLAUDE, "refreshToken": REFRESH, "expiresAt": in_ms(3600),
        "scopes": ["user:inference"], "subscriptionType": "max",
    }})
}

/// Anthropic, for whoever shows this token as a bearer and says by which sign-in.
fn oauth_only(request: &Received) -> Reply {
    let bearer = format!("Bearer {CLAUDE}");
    let beta = request.header("anthropic-beta").is_some_and(|beta| beta.contains("oauth-2025-04-20"));
    if request.header("authorization") != Some(&bearer) || request.header("x-api-key").is_some() || !beta {
        return Reply::json(
            401,
            &json!({"type": "error", "error": {"type": "authentication_error", "message": "no"}}),
        );
    }
    // The fake knows keys in their usual place.
    let mut as_key = request.clone();
    as_key.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
    as_key.headers.push(("x-api-key".to_owned(), CLAUDE.to_owned()));
    anthropic(CLAUDE, CLAUDE_SAYS).with_model("claude-sonnet-4-5").answer(&as_key)
}

#[test]
fn what_a_provider_s_terms_forbid_is_refused_until_it_is_meant() {
    let mut stage = Stage::new();
    let there = Upstream::https(&stage.ca, &["api.anthropic.com"], oauth_only);
    let at = there.address();
    stage.configure(|config: Config| config.connect("api.anthropic.com:443", at));
    keep(&stage, ".claude/.credentials.json", &claude());
    let set = |flags: &[&str]| {
        stage.orch(["secrets", "set", "CLAUDE_CODE_OAUTH_TOKEN", "--credential-file"]).args(flags).run()
    };
    let outcome = set(&["--json"]).expect(4);
    assert_eq!(outcome.error()["code"], "terms_forbid", "{outcome}");
    assert!(outcome.error()["hints"].to_string().contains("ANTHROPIC_API_KEY"), "{outcome}");
    set(&["--despite-terms"]).expect(0);
    summary(stage.run(&agent("claude-code/claude-sonnet-4-5"), INPUT).run(), CLAUDE_SAYS);
    there.only();
    there.never_saw(REFRESH.as_bytes());
}

#[test]
fn an_import_of_what_terms_forbid_has_to_be_meant_too() {
    let stage = Stage::new();
    let file = format!("CLAUDE_CODE_OAUTH_TOKEN={CLAUDE}\n");
    let import = |flags: &[&str]| {
        stage.orch(["secrets", "import", "-", "--json"]).args(flags).stdin(file.as_bytes()).run()
    };
    let listed = || stage.orch(["secrets", "list", "--json"]).run().expect(0).json()["secrets"].clone();
    let planned = import(&["--dry-run"]).expect(0).json();
    assert_eq!((&planned["works"], &planned["plan"][0]["action"]), (&json!(false), &json!("refuse")));
    assert!(planned["warnings"].to_string().contains("does not permit"), "{planned:#}");
    let outcome = import(&[]).expect(4);
    assert_eq!(outcome.error()["code"], "terms_forbid", "{outcome}");
    assert!(outcome.error()["hints"].to_string().contains("--despite-terms"), "{outcome}");
    assert!(!outcome.to_string().contains(CLAUDE), "{outcome}");
    assert_eq!(listed(), json!([]), "nothing was stored");
    let stored = import(&["--despite-terms"]).expect(0).json();
    assert!(stored["warnings"].to_string().contains("does not permit"), "{stored:#}");
    assert_eq!(listed()[0]["name"], "CLAUDE_CODE_OAUTH_TOKEN");

    // A server takes it no sooner, whoever asks: over the socket of this machine, and over HTTP.
    stage.orch(["secrets", "rm", "CLAUDE_CODE_OAUTH_TOKEN", "--yes"]).run().expect(0);
    let server = Server::start(PROGRAM, &stage.home);
    import(&[]).expect(4);
    let one = json!({ "name": "CLAUDE_CODE_OAUTH_TOKEN", "value": CLAUDE });
    let (all, key) = (json!({ "secrets": [one] }), json!({ "value": CLAUDE }));
    let own = json!({ "provider": "claude-code", "key": CLAUDE });
    let doors = [
        ("POST", "/v1/secrets/import?check=false", &all),
        ("PUT", "/v1/secrets/CLAUDE_CODE_OAUTH_TOKEN?", &key),
        ("POST", "/api/user/provider-keys?check=false", &own),
    ];
    for (method, path, body) in doors {
        let refused = server.ask(method, path, Some(body)).expect(403).json();
        assert_eq!(refused["error"]["code"], "terms_forbid", "{path}: {refused:#}");
    }
    assert_eq!(server.ask("GET", "/v1/secrets", None).expect(200).json()["secrets"], json!([]));
    let keys = server.ask("GET", "/api/user/provider-keys", None).expect(200).json();
    assert_eq!(keys["keys"], json!([]), "{keys:#}");
    for (method, path, body) in doors {
        let path = format!("{path}&despite_terms=true");
        let stored = server.ask(method, &path, Some(body)).expect(200).json();
        assert!(stored["warnings"].to_string().contains("does not permit"), "{path}: {stored:#}");
    }
    let stored = import(&["--overwrite", "--despite-terms"]).expect(0).json();
    assert!(stored["warnings"].to_string().contains("does not permit"), "{stored:#}");
}

#[test]
fn the_older_name_of_claude_code_s_file_is_found_too() {
    let stage = Stage::new();
    keep(&stage, ".claude/oauth_creds.json", &claude());
    stage
        .orch(["secrets", "set", "CLAUDE_CODE_OAUTH_TOKEN", "--credential-file", "--despite-terms"])
        .run()
        .expect(0);
}

const GEMINI: &str = "ya29.e2eWq8Rn3Tz6Lx1Vp5Kd9Hb2Mf7Gj4Cs0Y";
const GEMINI_SAYS: &str = "Gemini says that both arrive.";

/// Code Assist: Gemini inside of an envelope, for whoever shows the token and names the project.
fn code_assist(request: &Received) -> Reply {
    let body = request.json();
    let stream =
        request.path == "/v1internal:streamGenerateContent" && request.query.as_deref() == Some("alt=sse");
    let known = request.header("authorization") == Some(format!("Bearer {GEMINI}").as_str())
        && request.header("x-goog-api-key").is_none();
    if !known {
        return Reply::json(
            401,
            &json!({"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "no"}}),
        );
    }
    let fields: Vec<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
    if (!stream && request.path != "/v1internal:generateContent")
        || fields != ["model", "project", "request"]
        || body["model"] != "gemini-2.5-pro"
        || body["project"] != "my-project"
        || !body["request"]["contents"].is_array()
    {
        return Reply::json(
            400,
            &json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no such field"}}),
        );
    }
    let answer = |text: &str, finish: Value| {
        json!({"response": {
            "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}],
            "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12},
            "modelVersion": "gemini-2.5-pro", "responseId": "r1",
        }, "traceId": "t1"})
    };
    if !stream {
        return Reply::json(200, &answer(GEMINI_SAYS, json!("STOP")));
    }
    let (first, rest) = GEMINI_SAYS.split_at(12);
    let pieces = [answer(first, Value::Null), answer(rest, json!("STOP"))];
    Reply::sse(pieces.map(|piece| Piece::text(format!("data: {piece}\n\n"))).into())
}

#[test]
fn gemini_cli_s_sign_in_is_spoken_to_in_its_envelope() {
    let mut stage = Stage::new();
    let there = Upstream::https(&stage.ca, &["cloudcode-pa.googleapis.com"], code_assist);
    let at = there.address();
    stage.configure(|config: Config| config.connect("cloudcode-pa.googleapis.com:443", at));
    let file = json!({
        "access_token": GEMINI, "refresh_token": REFRESH, "token_type": "Bearer", "expiry_date": in_ms(3600),
        "scope": "https://www.googleapis.com/auth/cloud-platform", "id_token": "x",
    });
    keep(&stage, ".gemini/oauth_creds.json", &file);
    stage
        .orch(["secrets", "set", "GEMINI_CLI_OAUTH", "--credential-file", "--project", "my-project"])
        .run()
        .expect(0);
    let report = summary(stage.run(&agent("gemini-cli/gemini-2.5-pro"), INPUT).run(), GEMINI_SAYS);
    assert_eq!(receipt(&report)["provider_served"], "gemini-cli", "{report:#}");
    there.never_saw(REFRESH.as_bytes());

    // Of a file that names the project itself, and for clients of Gemini's own dialect.
    let mut named = file;
    named["projectId"] = json!("my-project");
    stage.orch(["secrets", "set", "GEMINI_CLI_OAUTH", "-"]).stdin(named.to_string()).run().expect(0);
    let server = Server::start(PROGRAM, &stage.home);
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    let path = "/v1beta/models/gemini-cli/gemini-2.5-pro:generateContent";
    let answer = server.ask("POST", path, Some(&body)).expect(200).json();
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], GEMINI_SAYS, "{answer}");
}
