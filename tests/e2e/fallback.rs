//! Each way in which a provider fails, and who is asked next.

use std::iter::repeat_n;

use orch_tests::fakes::Failure;
use orch_tests::upstream::Refused;
use serde_json::Value;

use crate::stage::{
    ANTHROPIC_KEY, ANTHROPIC_SAYS, GEMINI_KEY, GEMINI_SAYS, INPUT, Stage, attempts, fake_anthropic,
    fake_gemini, fake_openai, receipt, summarizer, summary,
};

/// More than any policy retries.
const ALWAYS: usize = 20;
/// Longer than any deadline: not worth waiting for.
const AN_HOUR: u64 = 3600;

/// OpenAI fails in this way for as long as it is asked; Anthropic answers.
#[track_caller]
fn openai_fails(failure: Failure, class: &str) -> Value {
    let stage = Stage::new();
    stage.openai.script(repeat_n(fake_openai().failure(failure), ALWAYS));
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let report = summary(stage.run_with_keys(&agent, INPUT).run(), ANTHROPIC_SAYS);
    falls_back(&report, "openai", class, "anthropic");
    stage.anthropic.took_key(ANTHROPIC_KEY);
    assert_eq!(stage.anthropic.received().len(), 1);
    report
}

/// Anthropic fails in this way for as long as it is asked; Gemini answers.
#[track_caller]
fn anthropic_fails(failure: Failure, class: &str) {
    let stage = Stage::new();
    stage.anthropic.script(repeat_n(fake_anthropic().failure(failure), ALWAYS));
    let agent = summarizer(&["claude-3-haiku", "gemini-2.5-flash"]);
    let report = summary(stage.run_with_keys(&agent, INPUT).run(), GEMINI_SAYS);
    falls_back(&report, "anthropic", class, "gemini");
    stage.gemini.took_key(GEMINI_KEY);
}

#[track_caller]
fn falls_back(report: &Value, from: &str, class: &str, to: &str) {
    let tried = attempts(report);
    let (last, failed) = tried.split_last().expect("at least one attempt");
    assert!(!failed.is_empty() && failed.iter().all(|(p, c)| p == from && c == class), "{tried:?}");
    assert_eq!((last.0.as_str(), last.1.as_str()), (to, "served"), "{tried:?}");
    assert_eq!(receipt(report)["provider_asked"], from, "{report:#}");
    assert_eq!(receipt(report)["provider_served"], to, "{report:#}");
}

#[track_caller]
fn tried(report: &Value, provider: &str) -> usize {
    attempts(report).iter().filter(|(p, _)| p == provider).count()
}

#[test]
fn rate_limited_for_longer_than_the_run_may_take() {
    let report = openai_fails(Failure::RateLimited(AN_HOUR), "rate_limited");
    assert_eq!(tried(&report, "openai"), 1, "a wait that does not fit is not begun: {report:#}");
    anthropic_fails(Failure::RateLimited(AN_HOUR), "rate_limited");
}

#[test]
fn rate_limited_for_a_moment_is_waited_for() {
    let stage = Stage::new();
    stage.openai.script([fake_openai().failure(Failure::RateLimited(1))]);
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let report = summary(stage.run_with_keys(&agent, INPUT).run(), crate::stage::OPENAI_SAYS);
    assert_eq!(tried(&report, "openai"), 2, "{report:#}");
    stage.anthropic.untouched();
}

#[test]
fn server_error() {
    openai_fails(Failure::ServerError, "server");
}

#[test]
fn server_error_at_anthropic() {
    anthropic_fails(Failure::ServerError, "server");
}

#[test]
fn overloaded() {
    openai_fails(Failure::Overloaded, "overloaded");
}

#[test]
fn overloaded_with_anthropics_own_status() {
    anthropic_fails(Failure::Overloaded, "overloaded");
}

#[test]
fn a_timeout_is_never_retried() {
    let report = openai_fails(Failure::TimedOut, "timeout");
    assert_eq!(tried(&report, "openai"), 1, "{report:#}");
    anthropic_fails(Failure::TimedOut, "timeout");
}

#[test]
fn out_of_money_is_never_retried() {
    let report = openai_fails(Failure::OutOfMoney, "out_of_money");
    assert_eq!(tried(&report, "openai"), 1, "{report:#}");
    anthropic_fails(Failure::OutOfMoney, "out_of_money");
}

#[test]
fn a_rejected_key_is_never_retried() {
    let report = openai_fails(Failure::BadKey, "bad_key");
    assert_eq!(tried(&report, "openai"), 1, "{report:#}");
    anthropic_fails(Failure::BadKey, "bad_key");
}

#[test]
fn model_not_found_is_never_retried() {
    let report = openai_fails(Failure::NoModel, "no_model");
    assert_eq!(tried(&report, "openai"), 1, "{report:#}");
    anthropic_fails(Failure::NoModel, "no_model");
}

#[test]
fn a_stream_cut_before_its_content() {
    openai_fails(Failure::CutBeforeContent, "truncated");
    anthropic_fails(Failure::CutBeforeContent, "truncated");
}

#[test]
fn an_error_inside_a_good_stream() {
    openai_fails(Failure::ErrorInStream, "server");
    anthropic_fails(Failure::ErrorInStream, "overloaded");
}

#[test]
fn an_upstream_that_hangs_up() {
    openai_fails(Failure::HangUp, "network");
}

#[test]
fn an_upstream_that_does_not_speak_http() {
    openai_fails(Failure::Garbage, "network");
}

#[test]
fn a_refused_connection() {
    let mut stage = Stage::new();
    let refused = Refused::new();
    stage.configure(|config| config.connect("api.openai.com:443", refused.address()));
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let report = summary(stage.run_with_keys(&agent, INPUT).run(), ANTHROPIC_SAYS);
    falls_back(&report, "openai", "network", "anthropic");
    stage.openai.untouched();
}

#[test]
fn a_certificate_of_somebody_else() {
    let mut stage = Stage::new();
    let elsewhere = stage.gemini.address();
    stage.configure(|config| config.connect("api.openai.com:443", elsewhere));
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let report = summary(stage.run_with_keys(&agent, INPUT).run(), ANTHROPIC_SAYS);
    falls_back(&report, "openai", "network", "anthropic");
    assert_eq!(stage.gemini.received().len(), 0, "a request went to a host with another name");
}

#[test]
fn no_access_is_never_retried() {
    let report = openai_fails(Failure::NoAccess, "no_access");
    assert_eq!(tried(&report, "openai"), 1, "{report:#}");
    anthropic_fails(Failure::NoAccess, "no_access");
}

/// The request is at fault: one attempt, no other provider, and the receipt has the class.
#[track_caller]
fn stops_the_chain(failure: Failure, class: &str) {
    let stage = Stage::new();
    stage.openai.script(repeat_n(fake_openai().failure(failure), ALWAYS));
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let outcome = stage.run_with_keys(&agent, INPUT).run().silent();
    assert_ne!(outcome.code(), Some(0), "{outcome}");
    let tried = attempts(&outcome.error()["details"]["run"]);
    assert_eq!(tried, [("openai".to_owned(), class.to_owned())], "{outcome}");
    stage.anthropic.untouched();
}

#[test]
fn a_request_that_is_too_long_stops_the_chain() {
    stops_the_chain(Failure::TooLong, "context_too_long");
}

#[test]
fn a_filtered_answer_stops_the_chain() {
    stops_the_chain(Failure::Filtered, "refused_by_filter");
}

#[test]
fn a_bad_request_stops_the_chain() {
    stops_the_chain(Failure::BadRequest, "bad_request");
}

#[test]
fn when_every_candidate_failed_the_error_lists_them() {
    let stage = Stage::new();
    stage.openai.script(repeat_n(fake_openai().failure(Failure::ServerError), ALWAYS));
    stage.anthropic.script(repeat_n(fake_anthropic().failure(Failure::Overloaded), ALWAYS));
    stage.gemini.script(repeat_n(fake_gemini().failure(Failure::OutOfMoney), ALWAYS));
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku", "gemini-2.5-flash"]);
    let outcome = stage.run_with_keys(&agent, INPUT).run().expect(5).silent();
    let error = outcome.error();
    for provider in ["openai", "anthropic", "gemini"] {
        assert!(error.to_string().contains(provider), "{outcome}");
    }
}

#[test]
fn when_every_key_was_rejected_the_exit_code_says_so() {
    let stage = Stage::new();
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    let outcome = stage
        .run(&agent, INPUT)
        .env("OPENAI_API_KEY", "sk-proj-revokedRevokedRevokedRevokedRevoked")
        .env("ANTHROPIC_API_KEY", "sk-ant-api03-revokedRevokedRevokedRevoked")
        .run()
        .expect(3)
        .silent();
    let error = outcome.error().to_string();
    assert!(error.contains("openai") && error.contains("anthropic"), "it names whose keys: {outcome}");
    assert_eq!(stage.openai.received().len(), 1);
    assert_eq!(stage.anthropic.received().len(), 1);
}
