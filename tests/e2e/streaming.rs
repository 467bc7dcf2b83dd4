//! Streams: words arrive while the provider still writes, and half an answer is never passed off as one.

use orch_tests::fakes::Failure;
use orch_tests::fakes::anthropic::anthropic;
use orch_tests::fakes::gemini::gemini;
use orch_tests::fakes::openai::openai;
use orch_tests::gate::Gate;
use orch_tests::needle::{self, Needle};
use orch_tests::reply::{Piece, Reply};
use serde_json::json;

use crate::stage::{
    ANTHROPIC_KEY, ANTHROPIC_SAYS, GEMINI_KEY, INPUT, OPENAI_KEY, OPENAI_SAYS, Stage, fake_anthropic,
    fake_openai, guest, summarizer, summary,
};

/// The same bytes, cut into chunks of this size.
fn rechunked(pieces: &[Piece], size: usize) -> Vec<Piece> {
    let bytes: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.clone(),
            Piece::Wait(_) | Piece::Open(_) | Piece::Left(_) | Piece::Cut => {
                panic!("only bytes can be cut anew")
            }
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
fn a_stream_that_falls_silent_is_waited_for_as_long_as_the_operator_says() {
    let gate = Gate::closed();
    let mut stage = Stage::new();
    stage.configure(|config| config.section("gateway", json!({ "timeouts": { "idle": "400ms" } })));
    let mut pieces = fake_openai().stream(&asked());
    pieces.insert(3, Piece::Wait(gate.clone()));
    stage.openai.script([Reply::sse(pieces)]);
    // Words were handed out: another provider cannot take over any more.
    let outcome = stage.run_with_keys(&summarizer(&["gpt-4o-mini", "claude-3-haiku"]), INPUT).run();
    gate.open();
    assert!(matches!(outcome.code(), Some(1 | 5)), "{outcome}");
    let outcome = outcome.silent();
    let call = &outcome.error()["details"]["run"]["calls"][0];
    assert_eq!((&call["outcome"], &call["class"]), (&json!("broken"), &json!("timeout")), "{outcome}");
    assert!(outcome.stderr().contains("no event of the stream for 0.4 s"), "{outcome}");
    stage.anthropic.untouched();
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

/// The stream of a fake that says `FIRST SECOND`, with these in their places and nothing between them.
fn torn(pieces: &[Piece], first: &str, second: &str) -> Reply {
    let torn = pieces.iter().map(|piece| match piece {
        Piece::Bytes(bytes) => {
            let text = String::from_utf8(bytes.clone()).expect("events are text");
            let text = text.replace("FIRST ", "FIRST").replace(" SECOND", "SECOND");
            Piece::text(text.replace("FIRST", first).replace("SECOND", second))
        }
        Piece::Wait(_) | Piece::Open(_) | Piece::Left(_) | Piece::Cut => panic!("only bytes hold text"),
    });
    Reply::sse(torn.collect())
}

#[test]
fn a_key_that_its_host_tears_in_two_reaches_no_agent() {
    let says = "Mine is FIRST SECOND here";
    let stage = Stage::new();
    for at in [1, 8, 30] {
        let cut = |key: &'static str| key.split_at(at);
        let (first, second) = cut(OPENAI_KEY);
        stage.openai.script([torn(&openai(OPENAI_KEY, says).stream(&asked()), first, second)]);
        let (first, second) = cut(ANTHROPIC_KEY);
        let pieces = anthropic(ANTHROPIC_KEY, says).stream(&json!({"model": "claude-3-haiku-20240307"}));
        stage.anthropic.script([torn(&pieces, first, second)]);
        let (first, second) = cut(GEMINI_KEY);
        let pieces = gemini(GEMINI_KEY, says).stream(&json!({}));
        stage.gemini.script([torn(&pieces, first, second)]);
        for (model, key) in
            [("gpt-4o-mini", OPENAI_KEY), ("claude-3-haiku", ANTHROPIC_KEY), ("gemini-2.5-flash", GEMINI_KEY)]
        {
            let outcome = stage.run_with_keys(&summarizer(&[model]), INPUT).run();
            // Neither whole nor with a line of the log between its parts.
            assert!(!outcome.stderr().contains(&key[at..]), "{model} at {at}: {outcome}");
            needle::none(&outcome.search(&Needle::new(key)));
            summary(outcome, "Mine is [secret removed by orch] here");
        }
    }
}
