//! What providers do by themselves, and paths of their accounts: asked for by the manifest, granted by people, and refused
//! with the words that would have granted it.

use orch_tests::guests::Agent;
use orch_tests::orch::Outcome;
use orch_tests::reply::Reply;
use orch_tests::server::{Server, request};
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{Mode, OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, guest, in_every_mode, refused, with_keys};

/// The `wanderer` with these fields in its `llm` section.
fn wanderer(llm: &Value) -> Agent {
    let mut fields = json!({ "supported_providers": ["openai"], "llm": { "primary": "gpt-4o-mini" } });
    for (name, value) in llm.as_object().expect("an object") {
        fields["llm"][name] = value.clone();
    }
    guest("wanderer", &fields)
}

/// A request with the key that the guest's environment holds.
fn asking(method: &str, url: &str, body: &Value) -> Value {
    let headers = [["authorization", "Bearer ${OPENAI_API_KEY}"], ["content-type", "application/json"]];
    let body = if body.is_null() { Value::Null } else { json!(body.to_string()) };
    let mut request = json!({ "method": method, "url": url, "headers": headers });
    if !body.is_null() {
        request["body"] = body;
    }
    request
}

fn requests(requests: &[Value]) -> String {
    json!({ "requests": requests }).to_string()
}

fn results(outcome: &Outcome) -> Vec<Value> {
    outcome.json()["output"]["results"].as_array().unwrap_or_else(|| panic!("{outcome}")).clone()
}

fn searching() -> Value {
    json!({ "model": "default", "web_search_options": {}, "messages": [{ "role": "user", "content": "Ships?" }] })
}

/// What OpenAI answers: its fake knows no searching.
fn found() -> Reply {
    Reply::json(
        200,
        &json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-4o-mini-2024-07-18",
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": OPENAI_SAYS } }],
            "usage": { "prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27 },
        }),
    )
}

in_every_mode! {
    a_search_by_the_provider_is_asked_for_and_granted
}

fn a_search_by_the_provider_is_asked_for_and_granted(mode: Mode) {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let input = requests(&[asking("POST", "${ORCH_LLM_URL}/chat/completions", &searching())]);
    let run = |agent: &Agent| stage.run_in(mode, agent.path(), &input);

    // Whoever does not ask for it does not get it, and hears what is missing.
    let answer = results(&run(&wanderer(&json!({}))).run().expect(0)).remove(0);
    let body = answer["body"].as_str().unwrap_or_default();
    assert_eq!(answer["status"], 403, "{answer}");
    assert!(body.contains("web_search_options: the provider would"), "{body}");
    assert!(body.contains("--grant llm.server_tools:search grants it"), "{body}");
    let unwanted = run(&wanderer(&json!({}))).args(["--grant", "llm.server_tools:search"]).run().expect(2);
    assert_eq!(unwanted.error()["code"], "grant_not_wanted", "{unwanted}");

    // Whoever asks is not run before somebody grants it.
    let agent = wanderer(&json!({ "server_tools": ["search", "code"] }));
    let refusal = run(&agent).run().expect(4);
    let error = refusal.error();
    assert_eq!(error["code"], "not_granted", "{refusal}");
    let wanted = json!([
        "let model providers search the web (llm.server_tools: search)",
        "let model providers run code and tools of their own (llm.server_tools: code)",
    ]);
    assert_eq!(error["details"]["wanted"], wanted);
    assert!(error["hints"].to_string().contains("--grant llm.server_tools:search"), "{error}");
    stage.openai.untouched();

    stage.openai.script([found()]);
    let granted = run(&agent).args(["--grant", "llm.server_tools:search,code"]).run().expect(0);
    let answer = results(&granted).remove(0);
    assert!(answer["body"].as_str().is_some_and(|body| body.contains(OPENAI_SAYS)), "{answer}");
    assert_eq!(stage.openai.only().json()["web_search_options"], json!({}));
}

#[test]
fn a_word_that_grants_nothing_is_bad_usage() {
    let stage = Stage::new();
    let agent = wanderer(&json!({ "server_tools": ["search"] }));
    for word in ["llm.server_tools:web", "search", "llm.account:"] {
        let outcome = stage.run(&agent, "{}").args(["--grant", word]).run().expect(2);
        assert!(outcome.error()["hints"].to_string().contains("search, fetch, mcp, code"), "{outcome}");
    }
}

#[test]
fn a_token_needs_its_own_scope_for_what_providers_do() {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let server = Server::start(PROGRAM, &stage.home);
    let token = |scopes: &[&str]| {
        let flags = scopes.iter().flat_map(|scope| ["--scope", scope]);
        let made = stage.orch(["tokens", "create", "x", "--json"]).args(flags).run().expect(0).json();
        made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    };
    let ask = |token: &str| {
        let mut body = searching();
        body["model"] = json!("gpt-4o-mini");
        let body = body.to_string();
        request(server.address(), Some(token), "POST", "/v1/chat/completions", body.as_bytes())
            .expect("an answer")
    };
    let refusal = ask(&token(&["llm"]));
    let error = refusal.json()["error"].clone();
    assert_eq!((refusal.status, &error["code"]), (403, &json!("orch_server_tools")), "{error}");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("the scope llm:tools")), "{error}");
    stage.openai.untouched();
    stage.openai.script([found()]);
    assert_eq!(ask(&token(&["llm", "llm:tools"])).status, 200);
    assert_eq!(stage.openai.only().json()["web_search_options"], json!({}));
}

/// A stage on which OpenAI's host answers whatever it is asked with the key that came.
fn with_account() -> (Stage, Upstream) {
    let mut stage = Stage::new();
    let api = Upstream::https(&stage.ca, &["api.openai.com"], |request: &Received| {
        Reply::json(200, &json!({ "path": request.path, "key": request.header("authorization") }))
    });
    let address = api.address();
    stage.configure(|config| config.connect("api.openai.com:443", address));
    (stage, api)
}

fn files() -> Agent {
    let account = json!({ "provider": "openai", "methods": ["GET"], "paths": ["/v1/files", "/v1/files/*"] });
    wanderer(&json!({ "account": [account] }))
}

/// What grants what [`files`] asks for.
const FILES_GRANT: &str = "llm.account:openai:GET:/v1/files,GET:/v1/files/*";
const FILES: &str = "https://api.openai.com/v1/files";

#[test]
fn a_path_of_the_account_is_carried_with_the_key_once_it_is_granted() {
    let (stage, api) = with_account();
    let input = requests(&[
        asking("GET", FILES, &Value::Null),
        asking("GET", &format!("{FILES}/file-1"), &Value::Null),
        asking("DELETE", &format!("{FILES}/file-1"), &Value::Null),
        asking("GET", "https://api.openai.com/v1/usage", &Value::Null),
    ]);
    let agent = files();
    let run = || with_keys(stage.run(&agent, &input));
    let refusal = run().run().expect(4).error();
    let wanted = json!(["use the account of the openai key, uncounted (GET; /v1/files /v1/files/*)"]);
    assert_eq!(refusal["details"]["wanted"], wanted, "{refusal}");
    api.untouched();

    assert_eq!(refusal["hints"], json!([format!("--grant '{FILES_GRANT}'")]), "{refusal}");
    // A grant is for what was shown: not for whatever this provider has, and not for a part of what is asked.
    for (word, exit) in [("llm.account:openai", 2), ("llm.account:openai:GET:/v1/files", 4)] {
        run().args(["--grant", word]).run().expect(exit);
    }
    // Nor for what the agent asks for in another version.
    let more = json!({ "provider": "openai", "methods": ["GET"], "paths": ["/v1/files", "/v1/files/*", "/v1/usage"] });
    let grown = wanderer(&json!({ "account": [more] }));
    let refusal = with_keys(stage.run(&grown, &input)).args(["--grant", FILES_GRANT]).run().expect(4).error();
    assert_eq!(refusal["code"], "not_granted", "{refusal}");
    api.untouched();

    let outcome = run().args(["--grant", FILES_GRANT]).run().expect(0);
    let results = results(&outcome);
    for (result, path) in results.iter().zip(["/v1/files", "/v1/files/file-1"]) {
        assert_eq!(result["status"], 200, "{result}");
        let body = result["body"].as_str().expect("a body");
        assert!(body.contains(path) && !body.contains(OPENAI_KEY), "the echoed key is taken out: {body}");
    }
    assert!(results[2..].iter().all(refused), "{results:?}");
    let steps = results[3]["body"].as_str().expect("a body");
    assert!(steps.contains("`llm.account` in orch.yaml"), "{steps}");
    assert!(steps.contains("grants add OPENAI_API_KEY --account 'GET:/v1/usage'"), "{steps}");
    let keys: Vec<_> =
        api.received().iter().map(|r| r.header("authorization").unwrap_or_default().to_owned()).collect();
    assert_eq!(keys, [format!("Bearer {OPENAI_KEY}"), format!("Bearer {OPENAI_KEY}")]);
    api.never_saw(b"orch_ph_");

    // On record: what was let through, by which rule, with which key.
    let run = outcome.json()["run_id"].as_str().expect("an id").to_owned();
    let kept = stage.home.orch().join("data/decisions").join(format!("{run}.json"));
    let kept = std::fs::read_to_string(&kept).unwrap_or_else(|e| panic!("{}: {e}", kept.display()));
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    let decisions = kept["decisions"].as_array().expect("a list");
    let allowed = decisions
        .iter()
        .find(|decision| decision["path"] == "/v1/files/file-1" && decision["method"] == "GET");
    let allowed = allowed.unwrap_or_else(|| panic!("{kept:#}"));
    assert_eq!(
        (&allowed["rule"], &allowed["injected"]),
        (&json!("account"), &json!(["OPENAI_API_KEY"])),
        "{allowed:#}"
    );
}

#[test]
fn the_vault_s_key_goes_to_its_account_as_far_as_its_owner_says() {
    let (stage, api) = with_account();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let input = requests(&[
        asking("GET", FILES, &Value::Null),
        asking("GET", &format!("{FILES}/file-1"), &Value::Null),
    ]);
    let agent = files();
    let run = || stage.run(&agent, &input).args(["--grant", FILES_GRANT]);
    let refusal = run().run().expect(4).error();
    assert_eq!(refusal["code"], "account_not_granted", "{refusal}");
    assert!(
        refusal["hints"][0].as_str().is_some_and(|hint| hint.contains("--account 'GET:/v1/files'")),
        "{refusal}"
    );
    api.untouched();

    let grant = [
        "secrets",
        "grants",
        "add",
        "OPENAI_API_KEY",
        "--agent",
        "test/wanderer",
        "--account",
        "GET:/v1/files",
    ];
    stage.orch(grant).run().expect(0);
    let outcome = run().run().expect(0);
    let results = results(&outcome);
    assert_eq!(results[0]["status"], 200, "{outcome}");
    let body = results[1]["body"].as_str().unwrap_or_default();
    assert!(body.contains("credential_not_permitted"), "{outcome}");
    assert_eq!(api.received().len(), 1);
    let log = stage.orch(["vault", "audit", "--json"]).run().expect(0).json();
    assert!(log.to_string().contains("use_planned"), "{log}");
}

/// A grant of an account that is for so many runs counts each run that may use it, whether or not it does.
#[test]
fn a_grant_of_an_account_is_for_so_many_runs() {
    let (stage, api) = with_account();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let input = requests(&[asking("GET", FILES, &Value::Null)]);
    let agent = files();
    let run = || stage.run(&agent, &input).args(["--grant", FILES_GRANT]);
    let grant = ["secrets", "grants", "add", "OPENAI_API_KEY", "--agent", "test/wanderer"];
    let to = ["--account", "GET:/v1/files", "--runs", "2"];
    stage.orch(grant).args(to).run().expect(0);
    for _ in 0..2 {
        let outcome = run().run().expect(0);
        assert_eq!(results(&outcome)[0]["status"], 200, "{outcome}");
    }
    let listed = stage.orch(["secrets", "grants", "OPENAI_API_KEY", "--json"]).run().expect(0).json();
    let used = listed["grants"].as_array().into_iter().flatten().find(|grant| grant["runs"] == 2);
    assert_eq!(used.map(|grant| &grant["used"]["runs"]), Some(&json!(2)), "{listed:#}");
    let refused = run().run().expect(4);
    assert!(
        ["secret_used_up", "account_not_granted"].iter().any(|code| refused.error()["code"] == *code),
        "{refused}"
    );
    assert_eq!(api.received().len(), 2, "the account was asked no more");
}

#[test]
fn a_policy_explains_paths_of_an_account() {
    let stage = Stage::new();
    let agent = files();
    let explain = |url: &str, method: &str| {
        let args = ["policy", "explain", url, "--method", method, "--json", "--agent"];
        stage.orch(args).arg(agent.path()).run().expect(0).json()["urls"][0].clone()
    };
    let allowed = explain(&format!("{FILES}/file-1"), "GET");
    assert_eq!(
        (&allowed["decision"], &allowed["rule"]["origin"]),
        (&json!("allow"), &json!("account")),
        "{allowed}"
    );
    assert!(
        allowed["rule"]["note"].to_string().contains("--grant 'llm.account:openai:METHOD:PATH'"),
        "{allowed}"
    );
    assert_eq!(explain(FILES, "DELETE")["decision"], "deny");
}
