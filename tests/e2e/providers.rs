//! Each provider, reached as it wants to be reached.

use orch_tests::fakes::openai::ollama;
use orch_tests::fakes::{input_tokens, words};
use orch_tests::guests::{self, Agent};
use orch_tests::upstream::Upstream;
use serde_json::{Value, json};

use crate::stage::{
    ANTHROPIC_KEY, ANTHROPIC_SAYS, GEMINI_KEY, GEMINI_SAYS, INPUT, OPENAI_KEY, OPENAI_SAYS, Stage, attempts,
    receipt, summarizer, summary,
};

#[track_caller]
fn served(report: &Value, provider: &str, model: &str, sent: &Value, says: &str) {
    let receipt = receipt(report);
    assert_eq!(receipt["provider_served"], provider, "{report:#}");
    assert_eq!(receipt["model_served"], model, "{report:#}");
    assert_eq!(receipt["input_tokens"], input_tokens(sent), "{report:#}");
    assert_eq!(receipt["output_tokens"], words(says), "{report:#}");
    assert_eq!(report["usage"]["input_tokens"], receipt["input_tokens"], "{report:#}");
    assert_eq!(report["usage"]["output_tokens"], receipt["output_tokens"], "{report:#}");
    assert_eq!(attempts(report).len(), 1, "{report:#}");
}

#[test]
fn openai() {
    let stage = Stage::new();
    let report = summary(stage.run_with_keys(&summarizer(&["gpt-4o-mini"]), INPUT).run(), OPENAI_SAYS);
    let request = stage.openai.only();
    assert_eq!(request.header("host"), Some("api.openai.com"));
    stage.openai.took_key(OPENAI_KEY);
    served(&report, "openai", "gpt-4o-mini", &request.json(), OPENAI_SAYS);
    assert!(receipt(&report)["cost_usd"].as_f64().is_some_and(|usd| usd > 0.0), "{report:#}");
    assert_eq!(stage.openai.faults(), Vec::<String>::new());
}

#[test]
fn anthropic_in_translation() {
    let stage = Stage::new();
    let report = summary(stage.run_with_keys(&summarizer(&["claude-3-haiku"]), INPUT).run(), ANTHROPIC_SAYS);
    let request = stage.anthropic.only();
    assert_eq!(request.header("host"), Some("api.anthropic.com"));
    stage.anthropic.took_key(ANTHROPIC_KEY);
    // What the agent wrote as a system message stands where this dialect has it.
    let body = request.json();
    assert!(body["system"].to_string().contains("Summarise the text"), "{body:#}");
    assert_eq!(body["max_tokens"], 1024);
    served(&report, "anthropic", "claude-3-haiku-20240307", &body, ANTHROPIC_SAYS);
}

#[test]
fn gemini_in_translation() {
    let stage = Stage::new();
    let report = summary(stage.run_with_keys(&summarizer(&["gemini-2.5-flash"]), INPUT).run(), GEMINI_SAYS);
    let request = stage.gemini.only();
    assert_eq!(request.header("host"), Some("generativelanguage.googleapis.com"));
    stage.gemini.took_key(GEMINI_KEY);
    let body = request.json();
    assert!(body["systemInstruction"].to_string().contains("Summarise the text"), "{body:#}");
    assert_eq!(body["generationConfig"]["maxOutputTokens"], 1024);
    served(&report, "gemini", "gemini-2.5-flash", &body, GEMINI_SAYS);
    assert_eq!(stage.gemini.faults(), Vec::<String>::new());
}

#[test]
fn ollama_where_the_operator_pinned_it() {
    let mut stage = Stage::new();
    let says = "Llamas prefer the rain.";
    let server = Upstream::http(ollama("llama3.2", says));
    let url = format!("http://{}/v1", server.address());
    stage.configure(|config| config.pin("ollama", &url));
    let report = summary(stage.run_with_keys(&summarizer(&["ollama/llama3.2"]), INPUT).run(), says);
    let request = server.only();
    assert_eq!(request.header("host"), Some(server.address().to_string().as_str()));
    served(&report, "ollama", "llama3.2", &request.json(), says);
    for key in [OPENAI_KEY, ANTHROPIC_KEY, GEMINI_KEY] {
        server.never_saw(key.as_bytes());
    }
}

#[test]
fn a_pin_of_a_catalog_provider_gets_its_key() {
    let mut stage = Stage::new();
    let pinned = Upstream::https(&stage.ca, &["llm.example.com"], crate::stage::fake_openai());
    let address = pinned.address();
    stage.configure(|config| {
        config.pin("openai", "https://llm.example.com:8443/v1").connect("llm.example.com:8443", address)
    });
    summary(stage.run_with_keys(&summarizer(&["gpt-4o-mini"]), INPUT).run(), OPENAI_SAYS);
    pinned.took_key(OPENAI_KEY);
    stage.openai.untouched();
}

/// The translator speaks Anthropic's own dialect to Anthropic's own host, with a placeholder for the key.
#[test]
fn a_direct_call_to_a_provider_is_carried_by_the_gateway() {
    let stage = Stage::new();
    let fields = json!({ "supported_providers": ["anthropic"], "llm": { "primary": "claude-3-haiku" } });
    let agent = Agent::new("translator", &guests::example("translator"), &fields);
    let outcome = stage.run_with_keys(&agent, r#"{"text":"Rain waits.","to":"French"}"#).run().expect(0);
    let report = outcome.json();
    assert_eq!(report["output"]["translation"], ANTHROPIC_SAYS, "{outcome}");
    stage.anthropic.took_key(ANTHROPIC_KEY);
    let request = stage.anthropic.only();
    served(&report, "anthropic", "claude-3-haiku-20240307", &request.json(), ANTHROPIC_SAYS);
    assert!(!request.carries(b"orch_ph_"), "a placeholder left the machine:\n{request:?}");
}

#[test]
fn a_provider_or_model_can_be_chosen_on_the_command_line() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    summary(stage.run_with_keys(&agent, INPUT).args(["--provider", "anthropic"]).run(), ANTHROPIC_SAYS);
    summary(
        stage.run_with_keys(&agent, INPUT).args(["--model", "gemini/gemini-2.5-flash"]).run(),
        GEMINI_SAYS,
    );
    stage.openai.untouched();
}
