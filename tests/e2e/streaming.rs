//! Streams: words arrive while the provider still writes, and half an answer is never passed off as one.

use orch_tests::fakes::Failure;
use orch_tests::fakes::openai::openai;
use orch_tests::gate::Gate;
use orch_tests::reply::{Piece, Reply};
use serde_json::json;

use crate::stage::{
    ANTHROPIC_SAYS, INPUT, OPENAI_KEY, OPENAI_SAYS, Stage, fake_anthropic, fake_openai, guest, summarizer,
    summary,
};

/// The same bytes, cut into chunks of this size.
fn rechunked(pieces: &[Piece], size: usize) -> Vec<Piece> {
    let bytes: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.clone(),
            Piece::Wait(_) | Piece::Open(_) | Piece::Cut => panic!("only bytes can be cut anew"),
        })
        .collect();
    bytes.chunks(size).map(|chunk| Piece::Bytes(chunk.to_vec())).collect()
}

fn asked() -> serde_json::Value {
    json!({"model": "gpt-4o-mini", "stream_options": {"include_usage": true}})
}

#[test]
fn words_arrive_before_the_answer_is_complete() {
    let gate = Gate::closed();
    let answer = openai(OPENAI_KEY, "First line.\nSecond line.");
    let mut pieces = answer.stream(&asked());
    // The role and "First", then "line.\nSecond" ends a line of the agent's log.
    pieces.insert(3, Piece::Wait(gate.clone()));
    let stage = Stage::new();
    stage.openai.script([Reply::sse(pieces)]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let running = stage.run_with_keys(&agent, INPUT).start();
    running.wait_says("First line.");
    gate.open();
    summary(running.finish(), "First line.\nSecond line.");
}

#[test]
fn any_chunking_is_the_same_stream() {
    let stage = Stage::new();
    let whole = fake_openai().stream(&asked());
    stage.openai.script([1, 7, 100_000].map(|size| Reply::sse(rechunked(&whole, size))));
    let agent = summarizer(&["gpt-4o-mini"]);
    for _ in 0..3 {
        summary(stage.run_with_keys(&agent, INPUT).run(), OPENAI_SAYS);
    }
    let whole = fake_anthropic().stream(&json!({"model": "claude-3-haiku-20240307"}));
    stage.anthropic.script([Reply::sse(rechunked(&whole, 3))]);
    summary(stage.run_with_keys(&summarizer(&["claude-3-haiku"]), INPUT).run(), ANTHROPIC_SAYS);
}

#[test]
fn a_stream_cut_inside_its_content_is_an_error_and_not_a_short_answer() {
    for model in ["gpt-4o-mini", "claude-3-haiku"] {
        let stage = Stage::new();
        stage.openai.script([fake_openai().failure(Failure::CutInContent)]);
        stage.anthropic.script([fake_anthropic().failure(Failure::CutInContent)]);
        // Words were handed out: another provider cannot take over any more.
        let agent = summarizer(&[model, "gemini-2.5-flash"]);
        let outcome = stage.run_with_keys(&agent, INPUT).run();
        assert!(matches!(outcome.code(), Some(1 | 5)), "{outcome}");
        let outcome = outcome.silent();
        assert_eq!(outcome.error()["details"]["run"]["calls"][0]["outcome"], "broken", "{outcome}");
        stage.gemini.untouched();
    }
}

#[test]
fn output_is_passed_through_as_it_is_written_on_request() {
    let stage = Stage::new();
    let agent = guest("echo", &json!({}));
    let outcome = stage
        .orch(["run", "--local", "--stream"])
        .arg(agent.path())
        .args(["--input", r#"{"a": 1}"#])
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(0);
    assert_eq!(outcome.json(), json!({"a": 1}), "{outcome}");
}
