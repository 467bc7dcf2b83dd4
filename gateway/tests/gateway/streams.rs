use std::time::Duration;

use http_body_util::BodyExt;
use orch_gateway::ir::Class;
use orch_gateway::{Outcome, Timing};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::upstream::{Reply, Then, pieces, stream_of};
use crate::world::{Answer, Setup, World, hello_stream, world};

const OPENAI_TEXT: &str = include_str!("../../src/dialect/fixtures/openai_text.sse");
const OPENAI_TOOLS: &str = include_str!("../../src/dialect/fixtures/openai_tools.sse");
const OPENAI_ERROR: &str = include_str!("../../src/dialect/fixtures/openai_error.sse");
const ANTHROPIC_TEXT: &str = include_str!("../../src/dialect/fixtures/anthropic_text.sse");

fn with_usage() -> Value {
    let mut body = hello_stream();
    body["stream_options"] = json!({"include_usage": true});
    body
}

fn anthropic_client() -> Value {
    json!({"stream": true, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]})
}

#[tokio::test]
async fn a_stream_of_the_same_dialect_passes_byte_for_byte() {
    for text in [OPENAI_TEXT, OPENAI_TOOLS] {
        let world = world().await;
        world.openai.script([stream_of(text)]);
        let answer = world.chat(&with_usage()).await;
        assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(answer.text(), text);
        let receipt = world.receipt();
        assert_eq!((receipt.outcome, receipt.input_tokens, receipt.output_tokens), (Outcome::Served, 20, 7));
        assert!(!receipt.estimated);
    }
}

/// Some cut what a model says by its tokens, which are in the middle of a sign at times.
#[tokio::test]
async fn half_of_a_sign_ends_no_answer() {
    let chunk = |choices: &str, usage: &str| {
        format!(
            r#"data: {{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{choices}],"usage":{usage}}}"#
        ) + "\n\n"
    };
    let sent = [
        chunk(r#"{"index":0,"delta":{"role":"assistant","content":"a\ud83d"},"finish_reason":null}"#, "null"),
        chunk(r#"{"index":0,"delta":{"content":"\ude00."},"finish_reason":"stop"}"#, "null"),
        chunk("", r#"{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27}"#),
        "data: [DONE]\n\n".to_owned(),
    ];
    let world = world().await;
    world.openai.script([stream_of(&sent.concat())]);
    let answer = world.chat(&with_usage()).await;
    assert_eq!(answer.text(), sent.concat(), "what passes, passes as it is");
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.input_tokens, receipt.output_tokens), (Outcome::Served, 20, 7));

    world.openai.script([stream_of(&sent.concat())]);
    let answer = world.post("/v1/messages", &anthropic_client()).await;
    assert!(answer.text().contains("\"a\u{fffd}\""), "{}", answer.text());
    assert!(answer.text().contains("\"\u{fffd}.\""), "{}", answer.text());
    assert_eq!(world.receipt().outcome, Outcome::Served);

    let message = r#"{"role":"assistant","content":"a\ud83d"}"#;
    let body = format!(
        r#"{{"id":"c","model":"m","choices":[{{"index":0,"message":{message},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":7}}}}"#
    );
    world.openai.script([Reply::Whole { status: 200, headers: Vec::new(), body: body.clone() }]);
    let answer = world.chat(&json!({"messages": [{"role": "user", "content": "hello"}]})).await;
    assert_eq!(answer.text(), body);
    assert_eq!(world.receipt().output_tokens, 7);
}

#[tokio::test]
async fn usage_is_asked_for_and_kept_from_a_client_that_did_not_ask() {
    let world = world().await;
    world.openai.script([stream_of(OPENAI_TEXT)]);
    let answer = world.chat(&hello_stream()).await;
    assert_eq!(world.openai.asked()[0].body["stream_options"], json!({"include_usage": true}));
    let wanted: String = pieces(OPENAI_TEXT).into_iter().filter(|p| !p.contains("\"choices\": []")).collect();
    assert!(wanted.len() < OPENAI_TEXT.len());
    assert_eq!(answer.text(), wanted);
    assert_eq!(world.receipt().output_tokens, 7);
}

#[tokio::test]
async fn a_stream_is_translated_as_it_comes() {
    let world = world().await;
    world.openai.script([stream_of(OPENAI_TOOLS)]);
    let answer = world.post("/v1/messages", &anthropic_client()).await;
    let text = answer.text();
    assert!(text.starts_with("event: message_start\n"), "{text}");
    assert!(text.contains("\"stop_reason\":\"tool_use\"") && text.trim_end().ends_with("}"), "{text}");
    assert!(text.contains("event: message_stop\n"), "{text}");
}

#[tokio::test]
async fn the_first_content_is_not_held_back() {
    let world = world().await;
    let beginning = pieces(OPENAI_TEXT)[..3].to_vec();
    world.openai.script([Reply::Stream { pieces: beginning, then: Then::Silence }]);
    let mut response = world.open("/v1/chat/completions", &[], &hello_stream()).await;
    let mut heard = String::new();
    while !heard.contains("Grüße") {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        heard.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    drop(response);
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.estimated), (Outcome::Cancelled, true));
    assert!(
        receipt.input_tokens > 0 && world.session.budget.spent().input_tokens > 0,
        "hanging up is not free"
    );
}

/// A provider may send much at once. The first word does not wait for the rest to be looked at, and the rest goes out together.
#[tokio::test]
async fn the_first_content_goes_out_by_itself_and_a_burst_behind_it_as_one() {
    let world = world().await;
    let all = pieces(OPENAI_TEXT);
    let first = all.iter().position(|piece| piece.contains("Grüße")).unwrap();
    let more = vec![all[first].replace("Grüße", "mehr"); 200];
    let sent: Vec<String> = [&all[..=first], &more, &all[first + 1..]].concat();
    world.openai.script([Reply::Stream { pieces: sent.clone(), then: Then::End }]);
    let mut body = world.open("/v1/chat/completions", &[], &with_usage()).await.into_body();
    let mut heard = Vec::new();
    while let Some(frame) = body.frame().await {
        heard.push(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap());
    }
    assert_eq!(heard[0], sent[..=first].concat());
    assert_eq!(heard.concat(), sent.concat());
    assert!(heard.len() < sent.len() / 2, "{} frames for {} events", heard.len(), sent.len());
}

/// The provider goes on while a client that has begun to hear it reads nothing, and charges for that when it hangs up.
#[tokio::test]
async fn hanging_up_on_what_nobody_reads_is_paid_for() {
    for (reads_on, all) in [(false, true), (true, false)] {
        let world = world().await;
        let beginning = pieces(OPENAI_TEXT)[..3].to_vec();
        world.openai.script([Reply::Stream { pieces: beginning, then: Then::Silence }]);
        let mut body = hello_stream();
        body["max_tokens"] = json!(300);
        let mut response = world.open("/v1/chat/completions", &[], &body).await;
        let mut heard = String::new();
        while !heard.contains("Grüße") {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            heard.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        let while_passes = Duration::from_millis(200);
        match reads_on {
            true => {
                assert!(timeout(while_passes, response.body_mut().frame()).await.is_err(), "it is silent");
            }
            false => tokio::time::sleep(while_passes).await,
        }
        drop(response);
        let receipt = world.receipt();
        assert_eq!((receipt.outcome, receipt.estimated), (Outcome::Cancelled, true));
        assert_eq!(receipt.output_tokens == 300, all, "{reads_on}: {receipt:?}");
    }
}

/// Client libraries hang up once they know why an answer ended, and do not wait for its last event.
#[tokio::test]
async fn hanging_up_on_an_answer_that_has_ended_costs_what_was_counted() {
    let world = World::new(Setup { models: &["claude-3-haiku"], ..Setup::default() }).await;
    let all = pieces(ANTHROPIC_TEXT);
    let ended = all.iter().position(|piece| piece.contains("\"stop_reason\": \"")).unwrap();
    world.anthropic.script([Reply::Stream { pieces: all[..=ended].to_vec(), then: Then::Silence }]);
    let body = json!({"model": "claude-3-haiku", "max_tokens": 300, "stream": true,
        "messages": [{"role": "user", "content": "x"}]});
    let mut response = world.open("/v1/messages", &[], &body).await;
    let mut heard = String::new();
    while !heard.contains("stop_sequence\": \"END") {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        heard.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    drop(response);
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.output_tokens), (Outcome::Cancelled, 7), "{receipt:?}");
    assert!(!receipt.estimated && world.session.budget.spent().output_tokens == 7);
}

/// The last counts are those of the answer. Where they are none, the ones before are of its beginning.
#[tokio::test]
async fn counts_before_those_that_cannot_be_believed_are_of_the_beginning() {
    let world = world().await;
    let chunk = |delta: Value, finish: Value, output: i64| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let usage = json!({"prompt_tokens": 20, "completion_tokens": output});
        let chunk = json!({"id": "x", "model": "m", "created": 1, "choices": [choice], "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let sent = [
        chunk(json!({"content": "hello there"}), Value::Null, 1),
        chunk(json!({}), json!("stop"), -5),
        "data: [DONE]\n\n".to_owned(),
    ];
    world.openai.script([stream_of(&sent.concat())]);
    assert!(world.chat(&hello_stream()).await.text().contains("[DONE]"));
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.estimated), (Outcome::Served, true));
    assert_eq!(receipt.output_tokens, "hello there".len() as u64);
}

/// Of several answers the first one is followed, and the others are charged for as well.
#[tokio::test]
async fn hanging_up_on_several_answers_costs_as_much_as_all_of_them() {
    let mut spent = Vec::new();
    for answers in [1, 3] {
        let world = world().await;
        let beginning = pieces(OPENAI_TEXT)[..3].to_vec();
        world.openai.script([Reply::Stream { pieces: beginning, then: Then::Silence }]);
        let mut body = hello_stream();
        body["n"] = json!(answers);
        let mut response = world.open("/v1/chat/completions", &[], &body).await;
        let mut heard = String::new();
        while !heard.contains("Grüße") {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            heard.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        // Whoever has waited has read all that there was.
        let waited = timeout(Duration::from_millis(50), response.body_mut().frame()).await;
        assert!(waited.is_err(), "it is silent");
        drop(response);
        assert_eq!(world.receipt().outcome, Outcome::Cancelled);
        spent.push(world.session.budget.spent().output_tokens);
    }
    assert_eq!(spent, ["Grüße".len() as u64, 3 * "Grüße".len() as u64]);
}

#[tokio::test]
async fn rule_6_the_receipt_is_the_last_event_when_it_is_asked_for() {
    let world = world().await;
    world.openai.script([stream_of(OPENAI_TEXT)]);
    let asked = [("x-orch-receipt", "true")];
    let answer = world.post_with("/v1/chat/completions", &asked, &with_usage()).await;
    let (stream, receipt) = answer.text().split_once("event: orch.receipt\ndata: ").unwrap();
    assert_eq!(stream, OPENAI_TEXT);
    let receipt: Value = serde_json::from_str(receipt.trim()).unwrap();
    assert_eq!((&receipt["provider_served"], &receipt["output_tokens"]), (&json!("openai"), &json!(7)));
}

/// A stream that is cut after any event: before content another candidate answers, after it the client gets an
/// error, and never an end.
#[tokio::test]
async fn rule_4_every_cut_is_told_apart_by_the_commit_point() {
    let all = pieces(OPENAI_TEXT);
    // A comment, then the chunk with the role: nothing is said before the third piece.
    let committed = 3;
    for then in [Then::End, Then::Cut] {
        for cut in 0..all.len() {
            let world = world().await;
            let broken = Reply::Stream { pieces: all[..cut].to_vec(), then };
            world.openai.script([broken.clone(), broken]);
            world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
            let answer = world.chat(&with_usage()).await;
            let text = answer.text();
            let receipt = world.receipt();
            if cut < committed {
                assert_eq!(receipt.provider_served.as_deref(), Some("anthropic"), "cut after {cut}");
                assert!(text.ends_with("data: [DONE]\n\n"), "cut after {cut}: {text}");
                assert_eq!(text.matches("Grüße").count(), 1);
                assert!(
                    receipt.attempts.iter().take(2).all(|a| a.class == Some(Class::Truncated)),
                    "{receipt:?}"
                );
            } else {
                assert!(!text.contains("[DONE]"), "cut after {cut}: {text}");
                let last: Value =
                    serde_json::from_str(text.trim_end().rsplit("data: ").next().unwrap()).unwrap();
                assert_eq!(last["error"]["code"], "stream_truncated", "cut after {cut}: {text}");
                assert_eq!(receipt.outcome, Outcome::Broken);
                assert!(world.anthropic.asked().is_empty(), "cut after {cut}: no second answer");
            }
        }
    }
}

#[tokio::test]
async fn rule_4_an_error_inside_a_stream_is_an_error() {
    // After content: the client is told, in its own dialect.
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let world = world().await;
        world.openai.script([stream_of(OPENAI_ERROR)]);
        let answer = world.post(path, &anthropic_client()).await;
        let text = answer.text();
        assert!(text.contains("Once") && text.contains("The server had an error"), "{text}");
        assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
        assert_eq!(text.contains("event: error"), path == "/v1/messages", "{text}");
        assert_eq!(world.receipt().outcome, Outcome::Broken);
    }
    // Before content: the next candidate.
    let world = world().await;
    let early: String = pieces(OPENAI_ERROR).into_iter().filter(|piece| !piece.contains("Once")).collect();
    world.openai.script([stream_of(&early), stream_of(&early)]);
    world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
    assert!(world.chat(&hello_stream()).await.text().contains("Grüße"));
    assert_eq!(world.receipt().attempts[0].class, Some(Class::Server));
}

#[tokio::test]
async fn rule_4_silence_in_the_middle_ends_the_stream_with_a_timeout() {
    let timing = Timing { idle: Duration::from_millis(50), ..Timing::default() };
    let world = World::new(Setup { timing, ..Setup::default() }).await;
    let beginning = pieces(OPENAI_TEXT)[..3].to_vec();
    world.openai.script([Reply::Stream { pieces: beginning, then: Then::Silence }]);
    let answer = world.chat(&hello_stream()).await;
    assert!(answer.text().contains("timeout_error"), "{}", answer.text());
    assert_eq!(world.receipt().outcome, Outcome::Broken);
}

#[tokio::test]
async fn the_runs_deadline_ends_a_stream() {
    let world = World::new(Setup { deadline: Duration::from_millis(200), ..Setup::default() }).await;
    let beginning = pieces(OPENAI_TEXT)[..3].to_vec();
    world.openai.script([Reply::Stream { pieces: beginning, then: Then::Silence }]);
    let answer = world.chat(&hello_stream()).await;
    assert!(answer.text().contains("deadline"), "{}", answer.text());
}

#[tokio::test]
async fn what_is_no_stream_is_not_passed_as_one() {
    let world = world().await;
    let page = || Reply::Whole { status: 200, headers: Vec::new(), body: "{\"choices\":[]}".into() };
    world.openai.script([page(), page()]);
    world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
    assert!(world.chat(&hello_stream()).await.text().contains("Grüße"));
}

/// A call is one piece there, and nothing is sent before it is whole: nobody slows its provider down.
#[tokio::test]
async fn a_call_without_end_is_not_kept_for_ever() {
    let chunk = |call: Value| {
        let choice = json!({"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null});
        format!("data: {}\n\n", json!({"id": "x", "model": "m", "created": 1, "choices": [choice]}))
    };
    let begins = chunk(json!({"index": 0, "id": "c", "function": {"name": "f", "arguments": "[\""}}));
    let goes_on = chunk(json!({"index": 0, "function": {"arguments": "x y ".repeat(1 << 16)}}));
    let world = world().await;
    world.openai.script([Reply::Stream { pieces: vec![begins, goes_on], then: Then::Forever }]);
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
    let answer = world.post("/v1beta/models/default:streamGenerateContent?alt=sse", &body).await;
    assert!(answer.text().contains("larger than 16777216 bytes"), "{}", answer.text());
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.class), (Outcome::Broken, Some(Class::Server)));
}

#[tokio::test]
async fn an_event_without_end_is_refused() {
    let world = world().await;
    let long = vec!["data: ".to_owned(), "x".repeat(1 << 20)];
    world.openai.script(vec![Reply::Stream { pieces: long, then: Then::Forever }; 2]);
    world.anthropic.script([stream_of(ANTHROPIC_TEXT)]);
    let answer: Answer = world.chat(&hello_stream()).await;
    assert!(answer.text().contains("Grüße"));
    assert!(world.receipt().attempts[0].message.contains("larger than"), "{:?}", world.receipt());
}
