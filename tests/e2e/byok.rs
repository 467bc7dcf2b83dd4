//! `orch byok` on one's own machine: the provider that is thought with first, and its key.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use orch_tests::needle::{self, Needle};
use orch_tests::orch::{Orch, Outcome};
use orch_tests::pty;
use serde_json::{Value, json};

use crate::stage::{
    ANTHROPIC_KEY, ANTHROPIC_SAYS, GEMINI_KEY, GEMINI_SAYS, INPUT, OPENAI_KEY, OPENAI_SAYS, Outside, PROGRAM,
    Stage, attempts, receipt, summarizer, summary, text,
};

const MODELS: &[&str] = &["gemini-2.5-flash", "gpt-4o-mini", "claude-3-haiku"];

fn byok(stage: &Stage, args: &[&str]) -> Orch {
    stage.orch(["byok", "--json"]).args(args)
}

#[track_caller]
fn set(stage: &Stage, provider: &str, key: &str) -> Value {
    byok(stage, &["set", provider, "-"]).stdin(key).run().expect(0).json()
}

#[track_caller]
fn status(stage: &Stage) -> Value {
    byok(stage, &["status"]).run().expect(0).json()
}

#[track_caller]
fn failed(outcome: Outcome, code: i32, word: &str) -> Value {
    let error = outcome.expect(code).silent().error();
    assert_eq!(error["code"], word, "{error:#}");
    error
}

fn last_four(key: &str) -> &str {
    &key[key.len() - 4..]
}

#[test]
fn a_key_goes_into_the_vault_and_its_provider_is_active() {
    let stage = Stage::cold();
    assert_eq!(status(&stage)["active"], Value::Null);
    let said = set(&stage, "openai", OPENAI_KEY);
    assert_eq!(
        said,
        json!({ "provider": "openai", "name": "OPENAI_API_KEY", "version": 1, "last_four": last_four(OPENAI_KEY),
                "active": true, "warnings": [], "check": null })
    );
    // It is an ordinary secret of the vault.
    let rows = stage.orch(["secrets", "list", "--json"]).run().expect(0).json();
    assert_eq!(rows["secrets"][0]["name"], "OPENAI_API_KEY", "{rows:#}");
    let active = &status(&stage)["active"];
    assert_eq!(
        (&active["provider"], &active["model"], &active["chosen_by"]),
        (&json!("openai"), &Value::Null, &json!("byok"))
    );
    assert_eq!(
        active["key"],
        json!({ "source": "vault", "name": "OPENAI_API_KEY", "version": 1, "last_four": last_four(OPENAI_KEY) })
    );
    assert!(active["billed"].as_str().expect("text").contains("your account at OpenAI"), "{active:#}");
    let shown = stage.orch(["byok", "status"]).run().expect(0);
    for part in [
        "Active provider: openai (OpenAI)",
        "OPENAI_API_KEY from the vault, version 1, ends in …",
        "Billed: your account",
    ] {
        assert!(shown.stdout().contains(part), "{part:?}: {shown}");
    }
    let needle = Needle::new(OPENAI_KEY);
    needle::none(&shown.search(&needle));
    needle::none(&stage.home.search(&needle));
    let mode = fs::metadata(stage.home.orch().join("data/byok.json")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_key_is_read_from_wherever_it_is_given() {
    let stage = Stage::cold();
    let outside = Outside::new();
    let file = outside.file("key", &format!("{OPENAI_KEY}\n"));
    byok(&stage, &["set", "openai", "--key-file"]).arg(text(&file)).run().expect(0);
    summary(stage.run(&summarizer(&["gpt-4o-mini"]), INPUT).run(), OPENAI_SAYS);
    let warned = stage.orch(["byok", "set", "gemini", "--key", GEMINI_KEY]).run().expect(0);
    assert!(warned.stderr().contains("history"), "{warned}");
    needle::none(&warned.search(&Needle::new(GEMINI_KEY)));
    assert_eq!(status(&stage)["active"]["provider"], "gemini");
    // Nobody is there to ask, and a key where none belongs is not repeated.
    let nobody = failed(byok(&stage, &["set", "anthropic"]).run(), 2, "bad_usage");
    assert!(nobody["hints"].to_string().contains("orch byok set anthropic - < FILE"), "{nobody:#}");
    let misplaced = byok(&stage, &["set", "anthropic", ANTHROPIC_KEY]).run();
    needle::none(&misplaced.search(&Needle::new(ANTHROPIC_KEY)));
    failed(misplaced, 2, "bad_usage");
    let misplaced = byok(&stage, &["set", ANTHROPIC_KEY]).run();
    needle::none(&misplaced.search(&Needle::new(ANTHROPIC_KEY)));
    failed(misplaced, 2, "provider_unknown");
    failed(byok(&stage, &["set", "openai", "-"]).stdin("sk with a blank in it").run(), 2, "key_unusable");
    failed(byok(&stage, &["set", "ollama", "-"]).stdin(OPENAI_KEY).run(), 2, "provider_keyless");
}

#[test]
fn a_person_is_asked_without_echo() {
    let stage = Stage::cold();
    let (terminal, mut keyboard) = pty::open();
    let asked = stage.orch(["byok", "set", "openai"]).env("TERM", "dumb").start_at(terminal);
    asked.wait_says("Key of OpenAI (not shown):");
    keyboard.answers_unseen(OPENAI_KEY);
    let shown = asked.finish().expect(0);
    needle::none(&shown.search(&Needle::new(OPENAI_KEY)));
    assert_eq!(status(&stage)["active"]["key"]["last_four"], last_four(OPENAI_KEY));
}

#[test]
fn a_provider_without_a_key_is_not_used_and_the_way_to_one_is_said() {
    let stage = Stage::cold();
    let error = failed(byok(&stage, &["use", "openai"]).run(), 3, "no_key");
    let hints = error["hints"].to_string();
    assert!(hints.contains("orch byok set openai") && hints.contains("export OPENAI_API_KEY=…"), "{error:#}");
    assert_eq!(status(&stage)["active"], Value::Null);
    let unknown = failed(byok(&stage, &["use", "opnai"]).run(), 2, "provider_unknown");
    assert!(unknown["hints"].to_string().contains("openai"), "{unknown:#}");
    // A key in the environment is one.
    byok(&stage, &["use", "openai"]).env("OPENAI_API_KEY", OPENAI_KEY).run().expect(0);
    let with_key = byok(&stage, &["status"]).env("OPENAI_API_KEY", OPENAI_KEY).run().expect(0).json();
    assert_eq!(with_key["active"]["key"]["source"], "env", "{with_key:#}");
    assert_eq!(status(&stage)["active"]["key"], Value::Null, "and without it there is none");
    byok(&stage, &["use", "none"]).run().expect(0);
    assert_eq!(status(&stage)["active"], Value::Null);
}

#[test]
fn the_active_provider_is_thought_with_first_and_no_fallback_is_lost() {
    let stage = Stage::cold();
    let agent = summarizer(MODELS);
    for (provider, key) in [("gemini", GEMINI_KEY), ("openai", OPENAI_KEY), ("anthropic", ANTHROPIC_KEY)] {
        set(&stage, provider, key);
    }
    summary(stage.run(&agent, INPUT).run(), ANTHROPIC_SAYS);
    byok(&stage, &["use", "openai"]).run().expect(0);
    summary(stage.run(&agent, INPUT).run(), OPENAI_SAYS);
    byok(&stage, &["use", "none"]).run().expect(0);
    summary(stage.run(&agent, INPUT).run(), GEMINI_SAYS);
    // What the manifest names stays behind it.
    byok(&stage, &["use", "openai"]).run().expect(0);
    let fails = crate::stage::fake_openai().failure(orch_tests::fakes::Failure::OutOfMoney);
    stage.openai.script(std::iter::repeat_n(fails, 5));
    let report = summary(stage.run(&agent, INPUT).run(), GEMINI_SAYS);
    assert_eq!(attempts(&report)[0], ("openai".to_owned(), "out_of_money".to_owned()), "{report:#}");
    // In a server of one's own it is the same.
    let embedded = stage.run_in(crate::stage::Mode::Embedded, agent.path(), INPUT);
    summary(embedded.run(), GEMINI_SAYS);
}

#[test]
fn flags_go_before_what_is_active() {
    let stage = Stage::cold();
    let agent = summarizer(MODELS);
    set(&stage, "openai", OPENAI_KEY);
    set(&stage, "anthropic", ANTHROPIC_KEY);
    summary(stage.run(&agent, INPUT).run(), ANTHROPIC_SAYS);
    summary(stage.run(&agent, INPUT).args(["--provider", "openai"]).run(), OPENAI_SAYS);
    summary(stage.run(&agent, INPUT).args(["--model", "gpt-4o-mini"]).run(), OPENAI_SAYS);
    // A key without a name is for the agent's own first choice.
    summary(stage.run(&agent, INPUT).arg("--key-stdin").stdin(GEMINI_KEY).run(), GEMINI_SAYS);
    stage.gemini.took_key(GEMINI_KEY);
}

#[test]
fn an_agent_that_does_not_support_it_goes_on_as_before_and_that_is_said() {
    let stage = Stage::cold();
    set(&stage, "gemini", GEMINI_KEY);
    set(&stage, "anthropic", ANTHROPIC_KEY);
    let fields = json!({ "supported_providers": ["gemini"], "llm": { "primary": "gemini-2.5-flash" } });
    let example = orch_tests::guests::example("summarizer");
    let agent = orch_tests::guests::Agent::new("summarizer", &example, &fields);
    let outcome = stage.run(&agent, INPUT).run();
    assert!(outcome.stderr().contains("anthropic is not used: the agent's supported_providers"), "{outcome}");
    summary(outcome, GEMINI_SAYS);
    stage.anthropic.untouched();
}

#[test]
fn a_model_of_the_active_provider_comes_first_of_all() {
    let stage = Stage::cold();
    failed(byok(&stage, &["model", "gpt-4o"]).run(), 2, "no_active_provider");
    set(&stage, "openai", OPENAI_KEY);
    let chosen = byok(&stage, &["model", "gpt-4o"]).run().expect(0).json();
    assert_eq!(chosen, json!({ "provider": "openai", "model": "gpt-4o" }));
    let report = summary(stage.run(&summarizer(MODELS), INPUT).run(), OPENAI_SAYS);
    assert_eq!(receipt(&report)["model_served"], "gpt-4o", "{report:#}");
    // Another provider's, and one that nobody knows.
    for (model, candidate) in [("claude-3-haiku", "anthropic/"), ("gpt-4o-mnii", "openai/gpt-4o-mini")] {
        let error = failed(byok(&stage, &["model", model]).run(), 2, "model_unknown");
        assert!(error["details"]["candidates"].to_string().contains(candidate), "{error:#}");
    }
    assert_eq!(status(&stage)["active"]["model"], "gpt-4o", "nothing has changed");
    byok(&stage, &["model", "house-model-1", "--unlisted"]).run().expect(0);
    assert_eq!(status(&stage)["active"]["model"], "house-model-1");
    byok(&stage, &["model", "default"]).run().expect(0);
    assert_eq!(status(&stage)["active"]["model"], Value::Null);
    // The model of one provider is none of another.
    byok(&stage, &["model", "gpt-4o"]).run().expect(0);
    set(&stage, "anthropic", ANTHROPIC_KEY);
    assert_eq!(status(&stage)["active"]["model"], Value::Null);
}

#[test]
fn what_is_cleared_goes_and_the_next_one_that_has_a_key_comes() {
    let stage = Stage::cold();
    for (provider, key) in [("openai", OPENAI_KEY), ("anthropic", ANTHROPIC_KEY)] {
        set(&stage, provider, key);
    }
    let cleared = stage.orch(["byok", "clear", "anthropic"]).run().expect(0);
    assert!(cleared.stderr().contains("removed ANTHROPIC_API_KEY"), "{cleared}");
    assert!(cleared.stderr().contains("openai is active now"), "{cleared}");
    assert_eq!(status(&stage)["active"]["provider"], "openai");
    // What the environment has as well goes on serving.
    let cleared = byok(&stage, &["clear", "openai"]).env("OPENAI_API_KEY", OPENAI_KEY).run().expect(0).json();
    assert_eq!((&cleared["active"], &cleared["serves_now"]["source"]), (&json!("openai"), &json!("env")));
    // Where its variable is gone as well, there is nothing to remove, and it is left.
    let cleared = byok(&stage, &["clear", "openai"]).run().expect(0).json();
    assert_eq!((&cleared["removed"], &cleared["active"]), (&json!([]), &Value::Null), "{cleared:#}");
    failed(byok(&stage, &["clear", "openai"]).run(), 2, "secret_missing");
    set(&stage, "gemini", GEMINI_KEY);
    let cleared = byok(&stage, &["clear", "gemini"]).run().expect(0).json();
    assert_eq!(
        (&cleared["removed"], &cleared["active"]),
        (&json!(["GEMINI_API_KEY"]), &Value::Null),
        "{cleared:#}"
    );
    let rows = stage.orch(["secrets", "list", "--json"]).run().expect(0).json();
    assert_eq!(rows["secrets"], json!([]), "{rows:#}");
}

#[test]
fn in_continuous_integration_the_environment_is_enough() {
    let stage = Stage::cold();
    let agent = summarizer(MODELS);
    let ci =
        |orch: Orch| orch.env("CI", "1").env("ORCH_BYOK_PROVIDER", "openai").env("ORCH_BYOK_MODEL", "gpt-4o");
    let report = summary(ci(stage.run(&agent, INPUT)).env("OPENAI_API_KEY", OPENAI_KEY).run(), OPENAI_SAYS);
    assert_eq!(receipt(&report)["model_served"], "gpt-4o");
    assert_eq!(receipt(&report)["credential"]["source"], "env");
    let said = ci(byok(&stage, &["status"])).env("OPENAI_API_KEY", OPENAI_KEY).run().expect(0).json();
    assert_eq!(
        (&said["active"]["chosen_by"], &said["active"]["key"]["source"]),
        (&json!("env"), &json!("env"))
    );
    // Nothing was written for it.
    assert!(!stage.home.orch().join("data/byok.json").exists());

    // Provider and key are of one place: a provider of the environment does not take a key of the vault.
    set(&stage, "openai", OPENAI_KEY);
    set(&stage, "anthropic", ANTHROPIC_KEY);
    let outcome = ci(stage.run(&agent, INPUT)).run();
    assert!(outcome.stderr().contains("ORCH_BYOK_PROVIDER is not used"), "{outcome}");
    summary(outcome, ANTHROPIC_SAYS);
    let unknown = byok(&stage, &["status"]).env("ORCH_BYOK_PROVIDER", "nobody").run();
    failed(unknown, 2, "provider_unknown");
}

#[test]
fn a_key_in_parts_is_a_key_of_the_environment() {
    let stage = Stage::cold();
    let status = |parts: &[(&str, &str)]| {
        let asked = byok(&stage, &["status"]).env("ORCH_BYOK_PROVIDER", " AWS ");
        let asked = parts.iter().fold(asked, |asked, (name, value)| asked.env(name, value));
        asked.run().expect(0).json()
    };
    let parts = [
        ("AWS_ACCESS_KEY_ID", "AKIAE2ETESTEXAMPLE00"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENGbPxRfie2eKEY"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let said = status(&parts);
    assert_eq!(
        (&said["active"]["provider"], &said["active"]["key"]["source"], &said["warnings"]),
        (&json!("aws"), &json!("env"), &json!([])),
        "{said:#}"
    );
    let said = status(&parts[..2]);
    assert_eq!(said["active"], Value::Null, "{said:#}");
    assert!(said["warnings"].to_string().contains("ORCH_BYOK_PROVIDER is not used"), "{said:#}");
}

/// Provider and key are of one place: the server's key is not asked in the environment's name.
#[test]
fn what_stays_in_the_environment_chooses_nothing_at_a_server_elsewhere() {
    let stage = Stage::cold();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let server = orch_tests::server::Server::start(PROGRAM, &stage.home);
    let elsewhere = orch_tests::home::Home::cold();
    let asked = crate::stage::orch(&elsewhere)
        .args(["byok", "status", "--json"])
        .env("ORCH_SERVER", server.url())
        .env("ORCH_TOKEN", server.token())
        .env("ORCH_BYOK_PROVIDER", "openai")
        .env("OPENAI_API_KEY", OPENAI_KEY);
    let said = asked.run().expect(0).json();
    assert_eq!(said["active"], Value::Null, "{said:#}");
    assert!(said["warnings"].to_string().contains("--send-env-keys"), "{said:#}");
}

#[test]
fn a_variant_is_active_by_its_own_name_and_spoken_to_in_its_dialect() {
    let stage = Stage::cold();
    let said = set(&stage, "openai-responses", OPENAI_KEY);
    assert_eq!((&said["provider"], &said["name"]), (&json!("openai-responses"), &json!("OPENAI_API_KEY")));
    assert_eq!(status(&stage)["active"]["provider"], "openai-responses");
    // The fake answers chat alone, so that this run ends badly: what was asked is what counts.
    let outcome = stage.run(&summarizer(&["gpt-4o-mini"]), INPUT).run();
    assert_eq!(stage.openai.received()[0].path, "/v1/responses", "{outcome}");
    let chosen = byok(&stage, &["model", "gpt-4o"]).run().expect(0).json();
    assert_eq!(chosen, json!({ "provider": "openai-responses", "model": "gpt-4o" }));
    byok(&stage, &["use", "openai"]).run().expect(0);
    assert_eq!(status(&stage)["active"]["provider"], "openai");
    let chosen = byok(&stage, &["model", "openai-responses/gpt-4o"]).run().expect(0).json();
    assert_eq!(chosen, json!({ "provider": "openai-responses", "model": "gpt-4o" }));
    let cleared = byok(&stage, &["clear", "openai"]).run().expect(0).json();
    assert_eq!(cleared["active"], Value::Null, "{cleared:#}");
}

#[test]
fn what_a_provider_s_terms_forbid_has_a_way_that_is_said_whole() {
    let stage = Stage::cold();
    let error = failed(byok(&stage, &["set", "claude-code", "-"]).stdin("x").run(), 4, "terms_forbid");
    let hints = error["hints"].to_string();
    assert!(
        hints.contains("orch secrets set CLAUDE_CODE_OAUTH_TOKEN --credential-file --despite-terms"),
        "{error:#}"
    );
    let error = failed(byok(&stage, &["set", "qwen-code"]).run(), 2, "bad_usage");
    assert!(
        error["hints"].to_string().contains("orch secrets set QWEN_CODE_OAUTH --credential-file"),
        "{error:#}"
    );
    failed(byok(&stage, &["set", "openai", "-"]).stdin(format!("\"{OPENAI_KEY}\"")).run(), 2, "key_unusable");
}

#[test]
fn the_doctor_says_who_is_active_and_whether_there_is_a_key() {
    let stage = Stage::cold();
    let check = |orch: Orch| {
        let doctor = orch.run().expect(0).json();
        let checks = doctor["checks"].as_array().expect("checks").clone();
        checks.into_iter().find(|check| check["name"] == "byok").expect("a check")
    };
    let doctor = || stage.orch(["doctor", "--json"]);
    assert_eq!(check(doctor())["state"], "ok");
    byok(&stage, &["use", "openai"]).env("OPENAI_API_KEY", OPENAI_KEY).run().expect(0);
    let missing = check(doctor());
    assert_eq!(missing["state"], "notice", "{missing:#}");
    assert!(missing["hints"].to_string().contains("orch byok set openai"), "{missing:#}");
    let there = check(doctor().env("OPENAI_API_KEY", OPENAI_KEY));
    assert!(
        there["detail"].as_str().expect("text").contains("OPENAI_API_KEY from this environment"),
        "{there:#}"
    );
}

#[test]
fn the_server_of_this_home_keeps_it_as_the_vault_does() {
    let stage = Stage::cold();
    let server = orch_tests::server::Server::start(PROGRAM, &stage.home);
    let said = set(&stage, "openai", OPENAI_KEY);
    assert_eq!(
        (&said["version"], &said["last_four"]),
        (&json!(1), &json!(last_four(OPENAI_KEY))),
        "{said:#}"
    );
    assert_eq!(status(&stage)["active"]["key"]["source"], "vault");
    let agent = summarizer(MODELS);
    let run = stage.orch(["run", "--json", "--input", INPUT]).arg(agent.path());
    let report = summary(run.run(), OPENAI_SAYS);
    assert_eq!(receipt(&report)["credential"]["whose"], "team");
    byok(&stage, &["clear", "openai", "--now"]).run().expect(0);
    assert_eq!(status(&stage)["active"], Value::Null);
    server.terminate().expect(0);
}

#[test]
fn a_file_of_another_version_or_another_s_to_write_is_refused() {
    let stage = Stage::cold();
    set(&stage, "openai", OPENAI_KEY);
    let file = stage.home.orch().join("data/byok.json");
    let text = fs::read_to_string(&file).expect("there");
    for (broken, part) in
        [(text.replace("\"version\": 1", "\"version\": 2"), "version 2"), ("{".to_owned(), "EOF")]
    {
        fs::write(&file, broken).expect("written");
        let error = failed(byok(&stage, &["status"]).run(), 2, "byok_unreadable");
        assert!(error["message"].as_str().expect("text").contains(part), "{error:#}");
    }
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("opened");
    failed(byok(&stage, &["status"]).run(), 2, "file_unsafe");
}
