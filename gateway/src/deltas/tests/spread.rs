//! One text at a time.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::ways::{Way, all, event, stream, texts, way};
use super::*;

/// The text in these pieces, and what came of it.
fn run(secret: &[u8], way: &Way, pieces: &[&str]) -> (String, Vec<Item>) {
    let mut events = vec![way.open()];
    events.extend(pieces.iter().map(|piece| way.delta(piece)));
    events.push(way.close());
    let sent = stream(way.dialect, &events);
    let items = items(secret, way.dialect, &sent);
    (sent, items)
}

#[track_caller]
fn check(secret: &[u8], way: &Way, pieces: &[&str]) -> Vec<Item> {
    let (_, items) = run(secret, way, pieces);
    let said = texts(way.dialect, &raw(&items));
    let wanted = BTreeMap::from([(way.key(), cleaned(secret, &pieces.concat()))]);
    assert_eq!(said, wanted, "{} of {pieces:?}", way.name);
    assert!(complete(&items), "{} of {pieces:?}", way.name);
    items
}

#[test]
fn clients_of_other_dialects_hear_the_same() {
    let text = format!("see {SECRET} is");
    // Of the others the first choice alone is heard, and no free-form input.
    let heard = |way: &Way| {
        let blocks = matches!(way.dialect, Dialect::AnthropicMessages | Dialect::CohereChat);
        (way.of == 0 || blocks) && !way.name.starts_with("input")
    };
    for way in all().iter().filter(|way| heard(way)) {
        for pieces in cuts(&text, false) {
            let items = check(SECRET.as_bytes(), way, &pieces);
            for client in [Dialect::OpenAiChat, Dialect::AnthropicMessages] {
                let other = translated(&items, client);
                assert!(
                    other.values().all(|said| *said == format!("see {SCRUBBED} is")),
                    "{other:?} of {pieces:?}"
                );
            }
        }
    }
}

#[test]
fn in_every_text_the_secret_is_found_over_two_and_three_deltas() {
    let text = format!("see {SECRET}, ok");
    for way in all() {
        for pieces in cuts(&text, true) {
            check(SECRET.as_bytes(), &way, &pieces);
        }
    }
}

#[test]
fn in_every_spelling_it_is_found_over_two_deltas_anywhere_and_over_three_in_each_dialect() {
    let three = [
        way(Dialect::OpenAiChat, "content", 0),
        way(Dialect::OpenAiChat, "arguments 1", 0),
        way(Dialect::AnthropicMessages, "partial_json", 2),
        way(Dialect::GeminiGenerateContent, "text", 1),
        way(Dialect::CohereChat, "thinking", 2),
        way(Dialect::OllamaChat, "content", 0),
    ];
    for form in forms(SECRET) {
        let text = format!("<{form}>");
        assert!(cleaned(SECRET.as_bytes(), &text).contains(SCRUBBED), "{form}");
        for way in all() {
            for pieces in cuts(&text, false) {
                check(SECRET.as_bytes(), &way, &pieces);
            }
        }
        for (at, pieces) in cuts(&text, true).iter().enumerate() {
            check(SECRET.as_bytes(), &three[at % three.len()], pieces);
        }
    }
}

#[test]
fn byte_by_byte_it_is_found_as_well() {
    for way in all() {
        for form in forms(SECRET) {
            let text = format!("{form} and {form}");
            let pieces: Vec<&str> = text.split_inclusive(|_: char| true).collect();
            check(SECRET.as_bytes(), &way, &pieces);
        }
    }
}

#[test]
fn beyond_ascii_it_is_cut_between_characters() {
    let secret = "schlüssel-für-Tür-🔑-42";
    let escaped = "schl\\u00fcssel-f\\u00FCr-T\\u00fcr-\\ud83d\\udd11-42";
    for text in [format!("ü{secret}ü"), format!("x{escaped}x")] {
        for pieces in cuts(&text, true) {
            check(secret.as_bytes(), &way(Dialect::OpenAiChat, "content", 0), &pieces);
        }
    }
}

#[test]
fn a_secret_that_is_no_text_breaks_no_character() {
    // Begins with what is the second half of an ü.
    let secret = [&[0xbc][..], b"0123456789abcdefg"].concat();
    let way = way(Dialect::AnthropicMessages, "text", 2);
    for pieces in [&["für", "ü", "", "ü"][..], &["ü", "0123", "4x"], &["ü", "0", "ü", "1"]] {
        check(&secret, &way, pieces);
    }
}

#[test]
fn what_only_begins_like_a_secret_arrives_whole() {
    for way in all() {
        for form in forms(SECRET) {
            // Of base64 the whole is more than what is looked for.
            for length in 1..form.len().min(SECRET.len()) {
                if !form.is_char_boundary(length) {
                    continue;
                }
                let begun = &form[..length];
                check(SECRET.as_bytes(), &way, &["it is ", begun]);
                check(SECRET.as_bytes(), &way, &[begun, "\u{1}", begun, begun, "? no"]);
            }
        }
    }
}

#[test]
fn what_is_held_at_the_end_of_a_block_is_a_delta_of_its_own() {
    let content = way(Dialect::OpenAiChat, "content", 0);
    let (sent, items) = run(SECRET.as_bytes(), &content, &["it is ", "a sk-"]);
    let events: Vec<&str> = sent.split_inclusive("\n\n").collect();
    let out: Vec<&str> = items.iter().map(|item| std::str::from_utf8(&item.frame.raw).unwrap()).collect();
    assert_eq!(out[0], events[0]);
    assert_eq!(out[1], events[1].replace("a sk-", "a "));
    let own: Value = serde_json::from_str(out[2].strip_prefix("data: ").unwrap()).unwrap();
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "m",
        "choices": [{"index": 0, "delta": {"content": "sk-"}, "logprobs": null, "finish_reason": null}],
    });
    assert_eq!(own, chunk);
    assert_eq!(out[3..], events[2..]);

    let block = way(Dialect::AnthropicMessages, "partial_json", 2);
    let (_, items) = run(SECRET.as_bytes(), &block, &["{\"a\": \"s"]);
    let own = &items[items.len() - 4].frame;
    assert_eq!(own.name, "content_block_delta");
    let delta = json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "s"}});
    assert_eq!(own.data.as_deref().map(serde_json::from_str::<Value>).unwrap().unwrap(), delta);

    // With the last event of a candidate, which has a place for it.
    let text = way(Dialect::GeminiGenerateContent, "text", 0);
    let (_, items) = run(SECRET.as_bytes(), &text, &["a sk"]);
    let data: Value = serde_json::from_str(items[1].frame.data.as_deref().unwrap()).unwrap();
    assert_eq!(data["candidates"][0]["content"]["parts"][0]["text"], "sk");
}

#[test]
fn what_has_nothing_to_do_with_a_secret_passes_as_it_came() {
    let fixtures = [
        (Dialect::OpenAiChat, include_str!("../../dialect/fixtures/openai_text.sse")),
        (Dialect::OpenAiChat, include_str!("../../dialect/fixtures/openai_tools.sse")),
        (Dialect::AnthropicMessages, include_str!("../../dialect/fixtures/anthropic_text.sse")),
        (Dialect::AnthropicMessages, include_str!("../../dialect/fixtures/anthropic_tools.sse")),
        (Dialect::GeminiGenerateContent, include_str!("../../dialect/fixtures/gemini_text.sse")),
        (Dialect::GeminiGenerateContent, include_str!("../../dialect/fixtures/gemini_tools.sse")),
        (Dialect::CohereChat, include_str!("../../dialect/fixtures/cohere_text.sse")),
        (Dialect::CohereChat, include_str!("../../dialect/fixtures/cohere_tools.sse")),
        (Dialect::OllamaChat, include_str!("../../dialect/fixtures/ollama_text.ndjson")),
        (Dialect::OllamaChat, include_str!("../../dialect/fixtures/ollama_tools.ndjson")),
    ];
    for (dialect, text) in fixtures {
        assert_eq!(raw(&items(b"~~~~~~~~~~~~~~~~~~", dialect, text)), text);
        // With a secret that many words end in a letter of, the texts are the same.
        for secret in [&b"e0123456789abcdefg"[..], b".0123456789abcdefg", b"\"}123456789abcdefg"] {
            let out = raw(&items(secret, dialect, text));
            assert_eq!(texts(dialect, &out), texts(dialect, text), "{}", String::from_utf8_lossy(secret));
        }
    }
}

#[test]
fn a_block_may_begin_with_text() {
    let text = way(Dialect::AnthropicMessages, "text", 2);
    for (first, rest) in (1..SECRET.len()).map(|at| SECRET.split_at(at)) {
        let block = json!({"type": "text", "text": first});
        let open = event(&json!({"type": "content_block_start", "index": 2, "content_block": block}));
        let sent = stream(text.dialect, &[open, text.delta(rest), text.close()]);
        let said = texts(text.dialect, &raw(&items(SECRET.as_bytes(), text.dialect, &sent)));
        assert_eq!(said, BTreeMap::from([(text.key(), SCRUBBED.to_owned())]));
    }
}

#[test]
fn an_event_that_the_proxy_took_a_secret_out_of_is_not_written_anew() {
    let delta = json!({"choices": [{"index": 0, "delta": {"content": SCRUBBED}, "finish_reason": "stop"}]});
    let sent = format!(": a comment\r\ndata:{delta}\r\n\r\ndata:[DONE]\r\n\r\n");
    assert_eq!(raw(&items(SECRET.as_bytes(), Dialect::OpenAiChat, &sent)), sent);
}

#[test]
fn the_rest_of_an_event_stays_as_it_is_when_its_text_changes() {
    let (first, second) = SECRET.split_at(5);
    let chunk = |text: &str| {
        format!(
            ": hello\nid: 7\ndata: {{\"x\": 1.0, \"choices\":\ndata:  [{{\"delta\": {{\"y\": 1e3, \"content\" : \"{text}\"}}, \
             \"index\":0}}]}}\n\n"
        )
    };
    let sent = format!("{}{}", chunk(first), chunk(second));
    let mut deltas = deltas(SECRET.as_bytes(), Dialect::OpenAiChat);
    let mut parser = crate::frames::sse::Parser::new(1 << 20);
    parser.push(sent.as_bytes());
    let mut out = String::new();
    while let Some(mut event) = parser.next_event().unwrap() {
        let mut tree = crate::bounded::event(event.data.as_deref().unwrap()).unwrap();
        assert_eq!(deltas.pass(&mut event, &mut tree), []);
        let reparsed: Value = serde_json::from_str(event.data.as_deref().unwrap()).unwrap();
        assert_eq!(reparsed, tree);
        out.push_str(std::str::from_utf8(&event.raw).unwrap());
    }
    let data = |text: &str| chunk(text).replace("data:  [", "data: [");
    assert_eq!(out.replace("data:  [", "data: ["), format!("{}{}", data(""), data(SCRUBBED)));
}

#[test]
fn log_probabilities_go_where_they_would_tell() {
    let chunk = |text: &str| {
        let tokens = json!({"content": [{"token": text, "logprob": -0.1, "top_logprobs": []}]});
        event(&json!({"choices": [{"index": 0, "delta": {"content": text}, "logprobs": tokens}]}))
    };
    let pieces = ["Keys ", &SECRET[..4], &SECRET[4..9], &SECRET[9..], " it is"];
    let events: Vec<String> = pieces.iter().map(|piece| chunk(piece)).collect();
    let close = way(Dialect::OpenAiChat, "content", 0).close();
    let sent = stream(Dialect::OpenAiChat, &[events.concat(), close]);
    let out = raw(&items(SECRET.as_bytes(), Dialect::OpenAiChat, &sent));
    let told: Vec<Value> = out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .map(|chunk| chunk["choices"][0]["logprobs"]["content"][0]["token"].clone())
        .collect();
    let null = Value::Null;
    // The last of these begins like a secret, so that a delta of its own follows, and the finish.
    let wanted = [&json!(pieces[0]), &json!(pieces[1]), &null, &null, &json!(pieces[4]), &null, &null];
    assert_eq!(told.iter().collect::<Vec<_>>(), wanted);
    // A secret that was whole in one event has been taken out of its text by the proxy.
    let sent = chunk(SCRUBBED).replace(&format!("\"token\":\"{SCRUBBED}\""), "\"token\":\"split\"");
    assert!(!raw(&items(SECRET.as_bytes(), Dialect::OpenAiChat, &sent)).contains("split"), "{sent}");
}

#[test]
fn a_stream_that_breaks_off_says_first_what_was_held() {
    for way in all() {
        let sent = [way.open(), way.delta("a sk-A")].concat();
        let sent = match way.dialect {
            Dialect::AnthropicMessages | Dialect::CohereChat => stream(way.dialect, &[sent]),
            _ => sent,
        };
        // Neither finished nor ended.
        let sent = sent.split("event: message_delta").next().unwrap();
        let sent = sent.split("event: message-end").next().unwrap();
        let items = items(SECRET.as_bytes(), way.dialect, sent);
        assert_eq!(texts(way.dialect, &raw(&items))[&way.key()], "a sk-A");
        assert!(!complete(&items));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_deltas_together_are_the_text_without_the_secret(
        secret in prop_oneof![
            proptest::collection::vec(0x20u8..0x7f, 16..40),
            proptest::collection::vec(proptest::sample::select(b"ab%\\\"/+ u0".to_vec()), 16..24),
        ],
        which in 0usize..64,
        of in 0usize..64,
        noise in "[ -~ü]{0,12}",
        sizes in proptest::collection::vec(1usize..9, 1..40),
    ) {
        // What ends in an escape's first character may be read as shorter than it was written.
        let secret = format!("{}.", String::from_utf8(secret).unwrap());
        let forms = forms(&secret);
        let form = &forms[which % forms.len()];
        let text = format!("{noise}{form}{noise}{form}");
        let ways = all();
        let way = &ways[of % ways.len()];
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        for size in sizes.iter().cycle() {
            let Some((at, _)) = rest.char_indices().nth(*size) else { break };
            pieces.push(&rest[..at]);
            rest = &rest[at..];
        }
        pieces.push(rest);
        let (_, items) = run(secret.as_bytes(), way, &pieces);
        let said = texts(way.dialect, &raw(&items));
        prop_assert_eq!(&said[&way.key()], &cleaned(secret.as_bytes(), &text), "{:?}", pieces);
    }
}

#[test]
fn log_probabilities_of_cohere_go_as_well() {
    let chunk = |text: &str| {
        let delta = json!({"message": {"content": {"text": text}}});
        let tokens = json!({"text": text, "token_ids": [1], "logprobs": [-0.1]});
        event(&json!({"type": "content-delta", "index": 2, "delta": delta, "logprobs": tokens}))
    };
    let text = way(Dialect::CohereChat, "text", 2);
    let pieces = ["Keys ", &SECRET[..9], &SECRET[9..], " it is"];
    let mut events = vec![text.open()];
    events.extend(pieces.iter().map(|piece| chunk(piece)));
    events.push(text.close());
    let out = raw(&items(SECRET.as_bytes(), text.dialect, &stream(text.dialect, &events)));
    let told: Vec<Value> = out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter(|event| event["type"] == "content-delta")
        .map(|event| event["logprobs"]["text"].clone())
        .collect();
    // The last begins like a secret, so that a delta of its own follows.
    assert_eq!(told, [json!("Keys "), Value::Null, Value::Null, json!(" it is"), Value::Null]);
}
