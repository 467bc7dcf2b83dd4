use orch_manifests::Catalog;

use super::*;

/// What a provider of the catalog is sent for this body, and what was left out.
fn sent(provider: &str, spoken: Dialect, thinks: bool, body: &Value) -> (Value, Vec<String>) {
    let catalog = Catalog::builtin();
    let provider = catalog.provider(provider).unwrap();
    let text = body.to_string();
    let mut document = Document::parse(text.as_bytes()).unwrap();
    let mut dropped = Vec::new();
    let changed = adapt(&mut document, spoken, provider, thinks, &mut dropped).unwrap();
    let written = document.to_bytes().unwrap();
    assert_eq!(changed, written != text, "{provider:?}");
    let listed = dropped.into_iter().map(|dropped| format!("{}: {}", dropped.field, dropped.reason));
    (serde_json::from_slice(&written).unwrap(), listed.collect())
}

fn chat(provider: &str, body: &Value) -> (Value, Vec<String>) {
    sent(provider, Dialect::OpenAiChat, false, body)
}

fn hello(more: &Value) -> Value {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn who_has_no_quirks_is_sent_what_the_client_wrote() {
    let body = hello(&json!({
        "stream_options": { "include_usage": true }, "seed": 7, "logit_bias": {}, "user": "u",
        "messages": [
            { "role": "user", "content": "hi", "name": "ann" },
            { "role": "assistant", "content": "yes", "reasoning_content": "hm" },
            { "role": "system", "content": "late" },
        ],
    }));
    for provider in ["openai", "groq", "xai", "together", "fireworks", "openrouter", "nvidia", "zai"] {
        assert_eq!(chat(provider, &body), (body.clone(), vec![]), "{provider}");
    }
}

#[test]
fn mistral_has_another_name_for_the_seed_and_is_not_asked_for_usage() {
    let body = hello(&json!({
        "seed": 7, "stream": true, "stream_options": { "include_usage": true }, "user": "u", "logit_bias": null,
    }));
    let (body, listed) = chat("mistral", &body);
    assert_eq!(body, hello(&json!({ "random_seed": 7, "stream": true })));
    assert_eq!(listed, ["stream_options: Mistral does not take it", "user: Mistral does not take it"]);
    // The provider's own word for it wins, and the other is not left out in silence.
    let (body, listed) = chat("mistral", &hello(&json!({ "seed": 7, "random_seed": 8 })));
    assert_eq!(body, hello(&json!({ "random_seed": 8 })));
    assert_eq!(listed, ["seed: `random_seed` is there as well, and was sent"]);
    let (body, listed) = chat("mistral", &hello(&json!({ "seed": null, "random_seed": 8 })));
    assert_eq!((body, listed), (hello(&json!({ "random_seed": 8 })), vec![]));
}

#[test]
fn mistral_takes_messages_of_its_own_form_only() {
    let (body, listed) = chat(
        "mistral",
        &json!({ "model": "m", "messages": [
            { "role": "developer", "content": "Be brief." },
            { "role": "user", "name": "ann", "content": [
                { "type": "text", "text": "hi", "cache_control": { "type": "ephemeral" } },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==", "detail": "low" } },
                { "type": "video_url", "video_url": { "url": "data:video/mp4;base64,AA==" } },
            ] },
            { "role": "assistant", "content": null, "refusal": null, "tool_calls": [
                { "id": "a1b2c3d4e", "type": "function", "function": { "name": "f", "arguments": "{}" } },
            ] },
            { "role": "tool", "tool_call_id": "a1b2c3d4e", "name": "f", "content": "1" },
            { "role": "system", "content": [{ "type": "text", "text": "Be kind." }] },
            { "role": "user", "content": "go on" },
        ] }),
    );
    assert_eq!(
        body,
        json!({ "model": "m", "messages": [
            { "role": "system", "content": "Be brief.\n\nBe kind." },
            { "role": "user", "content": [
                { "type": "text", "text": "hi" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==", "detail": "low" } },
            ] },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "a1b2c3d4e", "type": "function", "function": { "name": "f", "arguments": "{}" } },
            ] },
            { "role": "tool", "tool_call_id": "a1b2c3d4e", "name": "f", "content": "1" },
            { "role": "assistant", "content": "OK" },
            { "role": "user", "content": "go on" },
        ] })
    );
    assert_eq!(
        listed,
        [
            "messages[1].name: Mistral does not take it",
            "messages[1].content[0].cache_control: Mistral does not take it",
            "messages[1].content[2]: Mistral does not take parts of this kind",
            "messages[4]: its place: instructions come first, and were joined there",
            "messages: the model speaks between a result and a user here, and an \"OK\" of it was put there",
        ]
    );
    let image = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } });
    let late = json!({ "role": "system", "content": [{ "type": "text", "text": "b" }, image] });
    let (_, listed) = chat("mistral", &json!({ "messages": [{ "role": "user", "content": "a" }, late] }));
    assert_eq!(
        listed,
        [
            "messages[1].content[1]: instructions were joined into one text",
            "messages[1]: its place: instructions come first, and were joined there",
        ]
    );
    let (body, _) = chat(
        "mistral",
        &json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "system", "content": "b" }] }),
    );
    assert_eq!(
        body,
        json!({ "messages": [{ "role": "system", "content": "b" }, { "role": "user", "content": "a" }] })
    );
}

/// A conversation that another provider began goes on.
#[test]
fn calls_of_other_providers_get_ids_that_mistral_takes() {
    let talk = |ids: [&str; 4]| {
        let [one, two, three, four] = ids;
        let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{}" } });
        let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "1" });
        json!({ "model": "m", "messages": [
            { "role": "user", "content": "hi" },
            { "role": "assistant", "content": null, "tool_calls": [call(one), call(two)] },
            result(three), result(four),
        ] })
    };
    let given = talk(["toolu_01AbCdEf", "call00000", "call00000", "toolu_01AbCdEf"]);
    let wanted = talk(["call00001", "call00000", "call00000", "call00001"]);
    assert_eq!(chat("mistral", &given), (wanted, vec![]));
}

#[test]
fn thoughts_go_back_where_the_provider_reads_them() {
    let said = |field: Option<(&str, &str)>| {
        let mut message = json!({ "role": "assistant", "content": "yes" });
        if let Some((field, text)) = field {
            message[field] = json!(text);
        }
        json!({ "messages": [{ "role": "user", "content": "hi" }, message] })
    };
    let send = |provider: &str, thinks: bool, field| {
        let (body, listed) = sent(provider, Dialect::OpenAiChat, thinks, &said(field));
        assert!(listed.is_empty());
        body
    };
    for field in ["reasoning", "reasoning_content"] {
        let at = Some((field, "hm"));
        assert_eq!(send("deepseek", true, at), said(Some(("reasoning_content", "hm"))));
        assert_eq!(send("cerebras", true, at), said(Some(("reasoning", "hm"))));
        assert_eq!(send("groq", true, at), said(at));
    }
    // What is no text, or is a second one, is left out, and that is said.
    let both = json!({ "messages": [{
        "role": "assistant", "content": "yes", "reasoning": "other", "reasoning_content": "hm",
    }] });
    let (body, listed) = sent("deepseek", Dialect::OpenAiChat, true, &both);
    assert_eq!(
        body["messages"][0],
        json!({ "role": "assistant", "content": "yes", "reasoning_content": "hm" })
    );
    assert_eq!(
        listed,
        ["messages[0].reasoning: DeepSeek takes one text of thoughts, in `reasoning_content`"]
    );
    let odd =
        json!({ "messages": [{ "role": "assistant", "content": "yes", "reasoning": { "effort": "low" } }] });
    let (body, listed) = sent("cerebras", Dialect::OpenAiChat, false, &odd);
    assert_eq!(body["messages"][0], json!({ "role": "assistant", "content": "yes" }));
    assert_eq!(listed, ["messages[0].reasoning: Cerebras takes one text of thoughts, in `reasoning`"]);
    let same = json!({ "messages": [{ "role": "assistant", "reasoning": "hm", "reasoning_content": "hm" }] });
    assert!(sent("cerebras", Dialect::OpenAiChat, false, &same).1.is_empty());
    // Who thinks wants them with each message, and a client of OpenAI's dialect has no place to keep them.
    assert_eq!(send("deepseek", true, None), said(Some(("reasoning_content", ""))));
    assert_eq!(send("deepseek", false, None), said(None));
    assert_eq!(send("cerebras", true, None), said(None));
}

#[test]
fn perplexity_and_groq_are_not_told_what_they_refuse() {
    let body = hello(&json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let (body, listed) = chat("perplexity", &body);
    assert_eq!((body, listed.len()), (hello(&json!({ "stream": true })), 1));

    let asked = json!({ "model": "m", "input": "hi", "include": ["reasoning.encrypted_content"] });
    let (body, listed) = sent("groq", Dialect::OpenAiResponses, true, &asked);
    assert_eq!(body, json!({ "model": "m", "input": "hi" }));
    assert_eq!(listed, ["include: Groq does not take it"]);
    assert_eq!(sent("xai", Dialect::OpenAiResponses, true, &asked), (asked, vec![]));
}

#[test]
fn instructions_are_the_first_message_where_they_have_no_field() {
    let instructed = |input: &Value| json!({ "model": "m", "instructions": "Be brief.", "input": input });
    let system = json!({ "type": "message", "role": "system", "content": "Be brief." });
    let user = json!({ "type": "message", "role": "user", "content": "hi" });
    let responses = Dialect::OpenAiResponses;
    for input in [json!("hi"), json!([user])] {
        let (body, listed) = sent("openrouter", responses, false, &instructed(&input));
        assert_eq!((body, listed), (json!({ "model": "m", "input": [system, user] }), vec![]));
    }
    let body = instructed(&json!("hi"));
    assert_eq!(sent("openai", responses, false, &body), (body, vec![]));
}
