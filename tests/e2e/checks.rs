//! `orch providers check`: a provider that does what is said of it, and some that do not.

use orch_tests::ca::Ca;
use orch_tests::fakes::provider::{Mood, Provider, Spoken};
use orch_tests::home::{Config, Home};
use orch_tests::orch::Orch;
use orch_tests::reply::Reply;
use orch_tests::upstream::{Refused, Upstream};
use serde_json::Value;

use crate::stage::orch;

const KEY: &str = "gsk_e2eQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3Gc5Jv0XaQw7ZpLx4Vn8Rt2Ys";

struct Checked {
    home: Home,
    upstream: Upstream,
    _ca: Ca,
}

impl Checked {
    fn new(mood: Mood) -> Self {
        let (home, ca) = (Home::new(), Ca::new());
        let groq = Provider {
            spoken: Spoken::Chat,
            paths: ["/openai/v1/chat/completions", "/openai/v1/chat/completions"].map(str::to_owned),
            auth: ("authorization".to_owned(), format!("Bearer {KEY}")),
            model: "llama-3.1-8b-instant".to_owned(),
            says: "ready".to_owned(),
            tool: "report_temperature".to_owned(),
            mood,
        };
        let upstream = Upstream::https(&ca, &["api.groq.com"], groq);
        home.configure(&Config::trusting(&ca, &home).connect("api.groq.com:443", upstream.address()));
        Self { home, upstream, _ca: ca }
    }

    fn check(&self) -> Orch {
        orch(&self.home).args(["providers", "check", "groq"])
    }
}

/// Each check with what came of it.
fn results(found: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = found["checks"].as_array().expect("checks");
    checks.iter().map(|check| (text(&check["check"]), text(&check["result"]))).collect()
}

fn pairs(expected: [(&str, &str); 5]) -> Vec<(String, String)> {
    expected.map(|(check, result)| (check.to_owned(), result.to_owned())).to_vec()
}

#[test]
fn a_good_provider_passes_and_it_is_said_what_it_costs() {
    let checked = Checked::new(Mood::Good);
    let outcome = checked.check().arg("--json").env("GROQ_API_KEY", KEY).run().expect(0);
    let found = outcome.json();
    let all = ["plain", "stream", "tools", "usage", "unknown_model"].map(|check| (check, "passed"));
    assert_eq!(results(&found), pairs(all), "{outcome}");
    assert_eq!(found["model"], "groq/llama-3.1-8b-instant");
    assert_eq!(found["key"], "GROQ_API_KEY (env)");
    assert!(found["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0 && cost < 0.001), "{found}");
    assert!(outcome.stderr().contains("4 requests, which cost $0.0000"), "{outcome}");
    assert_eq!(checked.upstream.received().len(), 4);
    checked.upstream.took_key(KEY);
    assert!(!outcome.stderr().contains(KEY) && !outcome.stdout().contains(KEY));
    for request in checked.upstream.received() {
        assert!(
            request.json()["max_completion_tokens"].as_u64().is_some_and(|bound| bound <= 64),
            "{request:?}"
        );
    }

    // With a key of the vault, and one on standard input; as a table.
    orch(&checked.home).args(["secrets", "set", "GROQ_API_KEY", "-"]).stdin(KEY).run().expect(0);
    let table = checked.check().run().expect(0);
    assert!(table.stdout().contains("tool call") && !table.stdout().contains("FAILED"), "{table}");
    checked.check().arg("--key-stdin").stdin(KEY).run().expect(0);
}

/// The vault's audit says whose key went where, before it went.
#[test]
fn the_vault_s_key_is_on_record_and_a_key_of_the_environment_is_not() {
    let checked = Checked::new(Mood::Good);
    let audit = || orch(&checked.home).args(["vault", "audit", "--json"]).run().expect(0).stdout().to_owned();
    orch(&checked.home).args(["secrets", "set", "GROQ_API_KEY", "-"]).stdin(KEY).run().expect(0);
    checked.check().env("GROQ_API_KEY", KEY).run().expect(0);
    assert!(!audit().contains("conformance"), "{}", audit());
    checked.check().run().expect(0);
    let after = audit();
    assert!(after.contains("conformance") && after.contains("api.groq.com"), "{after}");
    assert!(!after.contains(KEY), "{after}");
}

#[test]
fn all_providers_with_a_key_are_checked_and_those_without_are_not_asked() {
    let checked = Checked::new(Mood::Good);
    let all = || orch(&checked.home).args(["providers", "check", "--all", "--json"]);
    let nobody = all().run().expect(3).silent();
    assert_eq!(nobody.error()["code"], "key_missing", "{nobody}");
    checked.upstream.untouched();

    let key_of_no_list = "sambanova-0123456789abcdef0123";
    let outcome = all().env("GROQ_API_KEY", KEY).env("SAMBANOVA_API_KEY", key_of_no_list).run().expect(0);
    let found = outcome.json();
    let providers = found["providers"].as_array().expect("providers");
    assert_eq!(providers.len(), 1, "{outcome}");
    assert_eq!(providers[0]["provider"], "groq", "{outcome}");
    assert_eq!(results(&providers[0]).len(), 5, "{outcome}");
    let left_out = found["left_out"].as_array().expect("those left out");
    assert_eq!(left_out.len(), 1, "{outcome}");
    assert_eq!(left_out[0]["provider"], "sambanova", "{outcome}");
    assert_eq!(left_out[0]["code"], "model_missing", "{outcome}");
    assert!(outcome.stderr().contains("1 providers, 4 requests, which cost $0.0000"), "{outcome}");
    for key in [KEY, key_of_no_list] {
        assert!(!outcome.stdout().contains(key) && !outcome.stderr().contains(key), "{outcome}");
    }

    let rejected = all().env("GROQ_API_KEY", "gsk_another-key-0123456789").run().expect(3).silent();
    assert_eq!(rejected.error()["code"], "key_rejected", "{rejected}");
    orch(&checked.home).args(["providers", "check", "--all", "groq"]).run().expect(2);
    orch(&checked.home).args(["providers", "check"]).run().expect(2);
}

#[test]
fn a_deployment_stands_for_every_model_so_that_none_is_unknown() {
    const HOST: &str = "acme.openai.azure.com";
    const AZURE_KEY: &str = "e2e0q7zplx4vn8rt2ys6hd1kf9bm3gc5";
    let (home, ca) = (Home::new(), Ca::new());
    let azure = Provider {
        spoken: Spoken::Chat,
        paths: ["/openai/v1/chat/completions", "/openai/v1/chat/completions"].map(str::to_owned),
        auth: ("api-key".to_owned(), AZURE_KEY.to_owned()),
        model: "my-gpt".to_owned(),
        says: "ready".to_owned(),
        tool: "report_temperature".to_owned(),
        mood: Mood::Good,
    };
    let upstream = Upstream::https(&ca, &[HOST], azure);
    home.configure(&Config::trusting(&ca, &home).connect(&format!("{HOST}:443"), upstream.address()));
    let key = serde_json::json!({
        "endpoint": format!("https://{HOST}"), "apiKey": AZURE_KEY, "deploymentName": "my-gpt",
    });
    let check = orch(&home).args(["providers", "check", "azure", "--model", "gpt-4o-mini", "--json"]);
    let outcome = check.env("AZURE_API_KEY", key.to_string()).run().expect(0);
    let expected = [
        ("plain", "passed"),
        ("stream", "passed"),
        ("tools", "passed"),
        ("usage", "passed"),
        ("unknown_model", "skipped"),
    ];
    assert_eq!(results(&outcome.json()), pairs(expected), "{outcome}");
    assert_eq!(upstream.received().len(), 3, "what is said before holds: {outcome}");
    assert!(outcome.stderr().contains("3 requests, which cost"), "{outcome}");
}

#[test]
fn what_a_provider_does_wrong_is_told_apart() {
    for (mood, check) in [
        (Mood::Uncounted, "usage"),
        (Mood::AnyModel, "unknown_model"),
        (Mood::Whole, "stream"),
        (Mood::NoTools, "tools"),
    ] {
        let checked = Checked::new(mood);
        let outcome = checked.check().arg("--json").env("GROQ_API_KEY", KEY).run().expect(5).silent();
        let error = outcome.error();
        assert_eq!(error["code"], "provider_nonconforming", "{outcome}");
        let failed: Vec<(String, String)> = results(&error["details"]["found"])
            .into_iter()
            .filter(|(_, result)| result == "failed")
            .collect();
        assert!(failed.iter().any(|(name, _)| name == check), "{mood:?}: {outcome}");
    }
}

#[test]
fn a_key_that_is_not_taken_ends_it_at_once() {
    let checked = Checked::new(Mood::Good);
    let outcome =
        checked.check().args(["--json", "--key", "gsk_another-key-0123456789"]).run().expect(3).silent();
    let error = outcome.error();
    assert_eq!(error["code"], "key_rejected", "{outcome}");
    let skipped = ["stream", "tools", "usage", "unknown_model"].map(|check| (check, "skipped"));
    let mut expected = vec![("plain".to_owned(), "failed".to_owned())];
    expected.extend(skipped.map(|(check, result)| (check.to_owned(), result.to_owned())));
    assert_eq!(results(&error["details"]["found"]), expected);
    assert_eq!(checked.upstream.received().len(), 1);
    assert!(!outcome.stderr().contains("another-key"), "{outcome}");
}

/// What is wrong with the key, the account or the network is no fault of the provider's.
#[test]
fn money_limits_access_and_models_are_told_apart() {
    let error =
        |code: &str, message: &str| serde_json::json!({ "error": { "message": message, "code": code } });
    for (status, body, code) in [
        (429, error("insufficient_quota", "check your plan and billing details"), "out_of_money"),
        (403, error("model_access_denied", "no access to this model"), "no_access"),
        (404, error("model_not_found", "there is no such model"), "model_unknown"),
    ] {
        let checked = Checked::new(Mood::Good);
        checked.upstream.script([Reply::json(status, &body)]);
        let outcome = checked.check().arg("--json").env("GROQ_API_KEY", KEY).run().expect(5).silent();
        assert_eq!(outcome.error()["code"], code, "{outcome}");
        let message = outcome.error()["message"].as_str().unwrap_or_default().to_owned();
        assert!(!message.contains("does not conform"), "{outcome}");
        assert_eq!(checked.upstream.received().len(), 1, "nothing more is asked: {outcome}");
    }
    let nobody = Refused::new();
    let checked = Checked::new(Mood::Good);
    let lan =
        serde_json::json!({ "dialect": "openai", "base_url": format!("http://{}/v1", nobody.address()) });
    checked.home.configure(&Config::default().provider("lan-llm", lan));
    let args = ["providers", "check", "lan-llm", "--model", "m", "--json"];
    let outcome = orch(&checked.home).args(args).run().expect(5).silent();
    assert_eq!(outcome.error()["code"], "provider_unavailable", "{outcome}");
}

#[test]
fn what_cannot_be_checked_says_why_and_sends_nothing() {
    let checked = Checked::new(Mood::Good);
    let hint =
        orch(&checked.home).args(["providers", "check", "grok-llm", "--json"]).run().expect(2).silent();
    assert!(!hint.stderr().contains("grok-llm"), "what was typed may be a key: {hint}");
    let near = orch(&checked.home).args(["providers", "check", "cerebra", "--json"]).run().expect(2).silent();
    assert_eq!(near.error()["hints"][0], "did you mean cerebras?", "{near}");
    for (args, exit, code) in [
        (&["groq"][..], 3, "key_missing"),
        (&["nobody"], 2, "provider_unknown"),
        (&["tavily"], 2, "provider_without_models"),
        (&["sambanova"], 2, "model_missing"),
        (&["ollama", "--model", "llama3.2"], 2, "provider_local"),
    ] {
        let outcome =
            orch(&checked.home).args(["providers", "check", "--json"]).args(args).run().expect(exit).silent();
        assert_eq!(outcome.error()["code"], code, "{outcome}");
    }
    checked.upstream.untouched();
}
