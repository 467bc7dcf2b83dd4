//! A provider's host that says the key that it got, cut in two by its events.

use http_body_util::BodyExt as _;
use orch_gateway::Outcome;
use orch_proxy::SCRUBBED;
use serde_json::{Value, json};

use crate::upstream::{Reply, Then, Upstream, pieces, stream_of};
use crate::world::{ANTHROPIC_KEY, Answer, GEMINI_KEY, OPENAI_KEY, Setup, World, hello_stream};

/// A provider: its model here, its key, and what of the world plays it.
#[derive(Clone, Copy)]
struct Provider {
    model: &'static str,
    key: &'static str,
    upstream: fn(&World) -> &Upstream,
    /// The stream that says these pieces.
    says: fn(&[&str]) -> String,
}

const PROVIDERS: [Provider; 3] = [
    Provider { model: "gpt-4o-mini", key: OPENAI_KEY, upstream: |world| &world.openai, says: openai },
    Provider {
        model: "claude-3-haiku",
        key: ANTHROPIC_KEY,
        upstream: |world| &world.anthropic,
        says: anthropic,
    },
    Provider { model: "gemini-2.5-flash", key: GEMINI_KEY, upstream: |world| &world.gemini, says: gemini },
];

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn openai(said: &[&str]) -> String {
    let chunk = |delta: Value, finish: Option<&str>| {
        event(&json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt-4o-mini",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }))
    };
    let deltas: String = said.iter().map(|text| chunk(json!({"content": text}), None)).collect();
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 7}});
    format!("{deltas}{}{}data: [DONE]\n\n", chunk(json!({}), Some("stop")), event(&usage))
}

fn anthropic(said: &[&str]) -> String {
    let start = json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-3-haiku", "usage": {"input_tokens": 20}}});
    let block =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let delta = |text: &&str| {
        event(
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        )
    };
    let ends = [
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}),
        json!({"type": "message_stop"}),
    ];
    let deltas: String = said.iter().map(delta).collect();
    format!("{}{}{deltas}{}", event(&start), event(&block), ends.iter().map(event).collect::<String>())
}

fn gemini(said: &[&str]) -> String {
    let counts = json!({"promptTokenCount": 20, "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 27});
    let chunk = |text: &&str| {
        event(&json!({
            "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}],
            "usageMetadata": counts, "modelVersion": "gemini-2.5-flash", "responseId": "r",
        }))
    };
    let end = json!({"candidates": [{"finishReason": "STOP", "index": 0}], "usageMetadata": counts});
    format!("{}{}", said.iter().map(chunk).collect::<String>(), event(&end))
}

/// How clients ask for a stream.
fn clients() -> [(&'static str, Value); 3] {
    let asking = json!([{"role": "user", "content": "hello"}]);
    [
        (
            "/v1/chat/completions",
            json!({"stream": true, "stream_options": {"include_usage": true}, "messages": asking}),
        ),
        ("/v1/messages", json!({"stream": true, "max_tokens": 50, "messages": asking})),
        (
            "/v1beta/models/default:streamGenerateContent?alt=sse",
            json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}),
        ),
    ]
}

/// All text of a stream, in whatever dialect.
fn said(stream: &str) -> String {
    fn gather(value: &Value, out: &mut String) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        ("content" | "text", Value::String(text)) => out.push_str(text),
                        _ => gather(value, out),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| gather(item, out)),
            _ => {}
        }
    }
    let mut out = String::new();
    for data in stream.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if let Ok(value) = serde_json::from_str(data) {
            gather(&value, &mut out);
        }
    }
    out
}

async fn world_of(provider: &Provider) -> World {
    // The plan and its placeholder are of this provider alone.
    let models: &'static [&'static str] = match provider.model {
        "gpt-4o-mini" => &["gpt-4o-mini"],
        "claude-3-haiku" => &["claude-3-haiku"],
        _ => &["gemini-2.5-flash"],
    };
    World::new(Setup { models, ..Setup::default() }).await
}

#[tokio::test]
async fn a_key_that_is_cut_anywhere_reaches_no_client_of_any_dialect() {
    for provider in PROVIDERS {
        let world = world_of(&provider).await;
        let (key, upstream) = (provider.key, (provider.upstream)(&world));
        for at in 1..key.len() {
            // One client for each cut, in turns.
            let (path, body) = &clients()[at % 3];
            let first = format!("It is {}", &key[..at]);
            let rest = format!("{} indeed", &key[at..]);
            upstream.script([stream_of(&(provider.says)(&["Well. ", &first, &rest]))]);
            let answer = world.post(path, body).await;
            let wanted = format!("Well. It is {SCRUBBED} indeed");
            assert_eq!(said(answer.text()), wanted, "{} at {at}: {}", provider.model, answer.text());
            let receipt = world.receipt();
            assert_eq!((receipt.outcome, receipt.output_tokens), (Outcome::Served, 7), "{}", provider.model);
        }
    }
}

#[tokio::test]
async fn a_key_in_many_pieces_and_in_other_spellings_does_not_either() {
    for provider in PROVIDERS {
        let world = world_of(&provider).await;
        let upstream = (provider.upstream)(&world);
        let bytes = provider.key.as_bytes();
        let percent: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
        let escaped: String = bytes.iter().map(|byte| format!("\\u{byte:04x}")).collect();
        for form in [
            provider.key.to_owned(),
            data_encoding::HEXUPPER.encode(bytes),
            data_encoding::BASE64.encode(bytes),
            percent,
            escaped,
        ] {
            for (path, body) in clients() {
                let pieces: Vec<&str> = form.split_inclusive(|_: char| true).collect();
                upstream.script([stream_of(&(provider.says)(&pieces))]);
                let said = said(world.post(path, &body).await.text());
                assert!(said.starts_with(SCRUBBED), "{said}");
                // Of base64 the last digit may hold other bits too.
                assert!(said.len() <= SCRUBBED.len() + 4, "{said}");
            }
        }
    }
}

#[tokio::test]
async fn what_only_begins_like_a_key_arrives_whole_in_every_dialect() {
    for provider in PROVIDERS {
        let world = world_of(&provider).await;
        let upstream = (provider.upstream)(&world);
        for length in 1..provider.key.len() {
            let (path, body) = &clients()[length % 3];
            let begun = &provider.key[..length];
            upstream.script([stream_of(&(provider.says)(&["a ", begun, "? ", begun]))]);
            let answer = world.post(path, body).await;
            assert_eq!(said(answer.text()), format!("a {begun}? {begun}"), "{}", provider.model);
        }
    }
}

#[tokio::test]
async fn an_event_that_could_hold_no_part_of_a_key_is_the_providers_own() {
    for (provider, (path, body)) in PROVIDERS.iter().zip(clients()) {
        let world = world_of(provider).await;
        let sent = (provider.says)(&["Hi ", "there! ", &provider.key[..9], "!"]);
        (provider.upstream)(&world).script([stream_of(&sent)]);
        let answer = world.post(path, &body).await;
        let (sent, came) = (pieces(&sent), pieces(answer.text()));
        assert_eq!(sent.len(), came.len());
        let changed: Vec<usize> = (0..sent.len()).filter(|at| sent[*at] != came[*at]).collect();
        let first = sent.iter().position(|event| event.contains(&provider.key[..9])).unwrap();
        assert_eq!(changed, [first, first + 1], "{}", answer.text());
    }
}

#[tokio::test]
async fn nothing_but_the_beginning_of_a_key_waits() {
    let world = world_of(&PROVIDERS[0]).await;
    let sent = openai(&["The first words", " are sk-", "never sent"]);
    world.openai.script([Reply::Stream { pieces: pieces(&sent)[..2].to_vec(), then: Then::Silence }]);
    let mut response = world.open("/v1/chat/completions", &[], &hello_stream()).await;
    let mut heard = String::new();
    while !said(&heard).ends_with(" are ") {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        heard.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    assert_eq!(said(&heard), "The first words are ");
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_what_was_held_before_its_error() {
    let world = world_of(&PROVIDERS[0]).await;
    let sent = openai(&["The first words", " are sk-"]);
    world.openai.script([Reply::Stream { pieces: pieces(&sent)[..2].to_vec(), then: Then::Cut }]);
    let answer = Answer::read(world.open("/v1/chat/completions", &[], &hello_stream()).await).await;
    assert_eq!(said(answer.text()), "The first words are sk-");
    assert!(pieces(answer.text()).last().unwrap().contains("\"error\""), "{}", answer.text());
    assert_eq!(world.receipt().outcome, Outcome::Broken);
}
