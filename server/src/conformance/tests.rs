use super::*;

fn heard(status: u16, text: &str) -> Heard {
    Heard { status, text: text.to_owned(), ..Heard::default() }
}

fn verdict(finding: &Finding) -> (Verdict, &str) {
    (finding.result, finding.detail.as_str())
}

#[test]
fn an_answer_has_words_and_an_end() {
    let whole = |message: &str, finish: &str| {
        heard(200, &format!(r#"{{"choices":[{{"message":{message},"finish_reason":{finish}}}]}}"#))
    };
    for (heard, expected) in [
        (whole(r#"{"content":"ready"}"#, r#""stop""#), (Verdict::Passed, "5 characters")),
        (
            whole(r#"{"content":null,"reasoning_content":"hm"}"#, r#""length""#),
            (Verdict::Passed, "2 characters of thoughts"),
        ),
        (whole(r#"{"content":""}"#, r#""stop""#), (Verdict::Failed, "an answer without text")),
        (whole(r#"{"content":"x"}"#, "null"), (Verdict::Failed, "it does not say why it ended")),
        (heard(200, "data: {}"), (Verdict::Failed, "no answer in one piece")),
        (heard(500, "{}"), (Verdict::Failed, "HTTP 500")),
    ] {
        assert_eq!(verdict(&judged::whole(&heard)), expected);
    }
    let refused = Heard { class: Some(Class::BadKey), said: "Invalid key".to_owned(), ..heard(401, "{}") };
    assert_eq!(verdict(&judged::whole(&refused)), (Verdict::Failed, "bad_key: Invalid key"));
}

#[test]
fn a_stream_has_pieces_and_its_terminator() {
    let piece = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let done = "data: [DONE]\n\n";
    for (text, expected) in [
        (format!("{}{}{done}", piece("a"), piece("b")), (Verdict::Passed, "2 pieces")),
        (piece("a"), (Verdict::Failed, "the stream has no end")),
        (done.to_owned(), (Verdict::Failed, "a stream without text")),
        (
            format!("{}data: {{\"error\":{{\"message\":\"cut\"}}}}\n\n{done}", piece("a")),
            (Verdict::Failed, "cut"),
        ),
    ] {
        assert_eq!(verdict(&judged::stream(&heard(200, &text))), expected);
    }
}

#[test]
fn a_tool_is_called_by_its_name_with_an_object() {
    let called = |name: &str, arguments: &str| {
        let call = serde_json::json!({ "function": { "name": name, "arguments": arguments } });
        let answer = serde_json::json!({ "choices": [{
            "message": { "content": null, "tool_calls": [call] }, "finish_reason": "tool_calls",
        }] });
        judged::tools(&heard(200, &answer.to_string())).result
    };
    assert_eq!(called(asked::TOOL, r#"{"degrees":21}"#), Verdict::Passed);
    assert_eq!(called(asked::TOOL, "21"), Verdict::Failed);
    assert_eq!(called("other", "{}"), Verdict::Failed);
}

#[test]
fn a_model_that_is_not_there_is_no_other_failure() {
    let unknown = |class, status| judged::unknown(&Heard { class, ..heard(status, "{}") }).result;
    assert_eq!(unknown(Some(Class::NoModel), 404), Verdict::Passed);
    assert_eq!(unknown(Some(Class::Server), 502), Verdict::Failed);
    assert_eq!(unknown(None, 200), Verdict::Failed);
}

#[test]
fn the_model_is_a_cheap_one_unless_one_is_named() {
    let catalog = Catalog::builtin();
    let of = |called: &str, named| model(catalog.provider(called).expect("known"), called, named);
    assert_eq!(of("groq", None).expect("a model"), "groq/llama-3.1-8b-instant");
    assert_eq!(of("azure-responses", Some("mine")).expect("named"), "azure-responses/mine");
    assert_eq!(of("groq", Some("groq/x")).expect("named"), "groq/x");
    assert_eq!(of("openrouter", Some("openai/gpt-4o")).expect("named"), "openrouter/openai/gpt-4o");
    assert_eq!(of("sambanova", None).expect_err("none is listed").code(), "model_missing");
    let searcher = known(&catalog, "tavily").expect_err("no models");
    assert_eq!(searcher.code(), "provider_without_models");
    assert!(searcher.hints()[0].contains("orch doctor"), "{:?}", searcher.hints());
    let unknown = known(&catalog, "opnai").expect_err("unknown");
    assert_eq!((unknown.code(), unknown.hints()[0].as_str()), ("provider_unknown", "did you mean openai?"));
    // Somebody may have written their key there.
    let key = known(&catalog, "sk-proj-0123456789abcdef0123456789abcdef").expect_err("unknown");
    assert!(!format!("{} {:?}", key.message(), key.hints()).contains("0123456789"), "{key:?}");
}
