//! What widely used clients send, and providers of other dialects refuse in that form.

use serde_json::{Value, json};

use super::{anthropic, bedrock, gemini, openai, responses};
use crate::dialect::{Style, Wire};
use crate::ir::ChatRequest;

/// What is sent, and the fields that were left out or changed.
fn sent(client: &dyn Wire, body: &Value, to: &dyn Wire, model: &str, style: Style) -> (Value, Vec<String>) {
    let read = client.parse_request(body.to_string().as_bytes()).unwrap();
    let request = ChatRequest { model: model.into(), ..read };
    let written = to.write_request(&request, &style);
    let left_out = written.dropped.into_iter().map(|dropped| dropped.field);
    (serde_json::from_slice(&written.body).unwrap(), left_out.collect())
}

fn plainly(client: &dyn Wire, body: &Value, to: &dyn Wire, model: &str) -> (Value, Vec<String>) {
    sent(client, body, to, model, Style::default())
}

/// A request of an Anthropic client, with more fields.
fn asks(more: &Value) -> Value {
    let mut body = json!({ "max_tokens": 32_000, "messages": [{ "role": "user", "content": "x" }] });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// Claude Code names its user by JSON of about 150 characters. OpenAI takes 64.
#[test]
fn a_long_name_of_a_user_is_sent_as_its_hash() {
    let body = asks(&json!({ "metadata": { "user_id": "u".repeat(65) } }));
    for to in [openai(), responses()] {
        let (sent, left_out) = plainly(anthropic(), &body, to, "gpt-4o");
        assert_eq!(sent["user"], "f20e249d15fa4b9f44ba21d154f62e1efa76ddfdce5d25139a33a4787cee5a8b");
        assert_eq!(left_out, ["user"]);
    }
    let body = asks(&json!({ "metadata": { "user_id": "u".repeat(64) } }));
    assert_eq!(plainly(anthropic(), &body, openai(), "gpt-4o").0["user"], "u".repeat(64));
}

/// Gemini CLI sends a temperature, `topP` and `topK` with all that it asks.
#[test]
fn a_model_of_openai_s_that_thinks_is_sent_no_bounds_on_sampling() {
    let body = json!({
        "generationConfig": { "temperature": 0, "topP": 0.95, "stopSequences": ["END"], "frequencyPenalty": 0.5 },
        "contents": [{ "role": "user", "parts": [{ "text": "x" }] }],
    });
    let (sent, mut left_out) = plainly(gemini(), &body, openai(), "gpt-5-mini");
    assert_eq!(sent, json!({ "model": "gpt-5-mini", "messages": [{ "role": "user", "content": "x" }] }));
    left_out.sort();
    assert_eq!(left_out, ["frequency_penalty", "stop", "temperature", "top_p"]);
    let (sent, _) = plainly(gemini(), &body, responses(), "openai/o3");
    assert!(sent.get("temperature").or(sent.get("top_p")).is_none(), "{sent}");
    // What it does anyway is nothing that was lost.
    let usual = json!({ "generationConfig": { "temperature": 1, "topP": 1 }, "contents": body["contents"] });
    assert_eq!(plainly(gemini(), &usual, openai(), "gpt-5").1, [""; 0]);
    // Others take them, and so do those that are told not to think.
    for model in ["gpt-4o", "gpt-5-chat-latest"] {
        assert_eq!(plainly(gemini(), &body, openai(), model).0["top_p"], 0.95, "{model}");
    }
    let resting = json!({ "model": "m", "reasoning_effort": "none", "temperature": 0.5, "messages": [{ "role": "user", "content": "x" }] });
    let (sent, _) = plainly(openai(), &resting, responses(), "gpt-5.1");
    assert_eq!((&sent["temperature"], &sent["reasoning"]["effort"]), (&json!(0.5), &json!("none")));
}

#[test]
fn how_hard_to_think_crosses_between_claude_s_words_and_openai_s() {
    let adaptive = json!({ "type": "adaptive" });
    let effort = |word: &str| asks(&json!({ "thinking": adaptive, "output_config": { "effort": word } }));
    for (model, said, told) in [
        ("gpt-5.4", "max", "xhigh"),
        ("gpt-5", "xhigh", "high"),
        ("gpt-5", "medium", "medium"),
        ("deepseek-reasoner", "max", "high"),
    ] {
        assert_eq!(
            plainly(anthropic(), &effort(said), openai(), model).0["reasoning_effort"],
            told,
            "{model}"
        );
        assert_eq!(plainly(anthropic(), &effort(said), responses(), model).0["reasoning"]["effort"], told);
    }
    let budget = asks(&json!({ "thinking": { "type": "enabled", "budget_tokens": 31_999 } }));
    let (sent_on, left_out) = plainly(anthropic(), &budget, openai(), "gpt-5");
    assert_eq!(
        (&sent_on["reasoning_effort"], left_out),
        (&json!("high"), vec!["thinking.budget_tokens".to_owned()])
    );
    let off = asks(&json!({ "thinking": { "type": "disabled" } }));
    assert_eq!(plainly(anthropic(), &off, openai(), "gpt-5.1").0["reasoning_effort"], "none");
    assert_eq!(plainly(anthropic(), &off, openai(), "gpt-5.1-codex").0.get("reasoning_effort"), None);
    // A model that is known not to think refuses to be told.
    let not = Style { thinks: Some(false), ..Style::default() };
    let (sent_on, left_out) = sent(anthropic(), &effort("low"), openai(), "gpt-4o", not);
    assert_eq!((sent_on.get("reasoning_effort"), left_out), (None, vec!["reasoning_effort".to_owned()]));
    assert_eq!(
        plainly(anthropic(), &effort("max"), gemini(), "gemini-3-pro-preview").0["generationConfig"]["thinkingConfig"],
        json!({ "thinkingLevel": "high" })
    );

    let words = |word: &str, more: &Value| {
        let mut body = json!({ "model": "m", "reasoning_effort": word, "messages": [{ "role": "user", "content": "x" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let more = json!({ "max_completion_tokens": 32_000 });
    for (model, said, thinking, effort) in [
        ("claude-sonnet-4-5", "high", json!({ "type": "enabled", "budget_tokens": 24_576 }), Value::Null),
        ("claude-sonnet-4-5", "minimal", Value::Null, Value::Null),
        ("claude-sonnet-4-5", "none", Value::Null, Value::Null),
        ("claude-sonnet-4-6", "minimal", adaptive.clone(), json!("low")),
        ("claude-sonnet-4-6", "xhigh", adaptive.clone(), json!("high")),
        ("claude-opus-4-8", "xhigh", adaptive.clone(), json!("xhigh")),
        ("claude-opus-5", "none", json!({ "type": "disabled" }), Value::Null),
        ("claude-3-haiku-20240307", "high", Value::Null, Value::Null),
        ("my-deployment", "high", Value::Null, Value::Null),
    ] {
        let (body, _) = plainly(openai(), &words(said, &more), anthropic(), model);
        assert_eq!(
            (&body["thinking"], &body["output_config"]["effort"]),
            (&thinking, &effort),
            "{model} {said}"
        );
    }
    // A form of the answer stays beside it, and a tool that is forced is called without thinking.
    let more = json!({
        "response_format": { "type": "json_schema", "json_schema": { "name": "a", "schema": { "type": "object" } } },
        "tools": [{ "type": "function", "function": { "name": "f" } }], "tool_choice": "required",
    });
    let (body, _) = plainly(openai(), &words("low", &more), anthropic(), "claude-opus-4-8");
    assert_eq!(body["output_config"]["effort"], "low");
    assert_eq!(body["output_config"]["format"]["type"], "json_schema");
    assert_eq!(body.get("thinking"), None);
}

/// An MCP server's tool without arguments says no more than that they are an object.
#[test]
fn a_tool_without_arguments_says_so_in_a_form_that_all_take() {
    let body = asks(&json!({ "tools": [{ "name": "f", "input_schema": { "type": "object" } }] }));
    let empty = json!({ "type": "object", "properties": {} });
    assert_eq!(plainly(anthropic(), &body, openai(), "m").0["tools"][0]["function"]["parameters"], empty);
    assert_eq!(plainly(anthropic(), &body, responses(), "m").0["tools"][0]["parameters"], empty);
    let untyped = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }],
        "tools": [{ "type": "function", "function": { "name": "f", "parameters": { "properties": {} } } }] });
    assert_eq!(plainly(openai(), &untyped, anthropic(), "m").0["tools"][0]["input_schema"]["type"], "object");
}

/// Claude Code sends its instructions in several blocks, and many compatible providers take a text alone.
#[test]
fn texts_in_a_row_are_one_text_in_chat_completions() {
    let texts = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);
    let body = json!({ "max_tokens": 9, "system": texts, "messages": [
        { "role": "user", "content": texts },
        { "role": "assistant", "content": [texts[0], { "type": "tool_use", "id": "a", "name": "f", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": texts }] },
    ] });
    let (sent, _) = plainly(anthropic(), &body, openai(), "m");
    for at in [0, 1, 3] {
        assert_eq!(sent["messages"][at]["content"], "a\n\nb", "{at}");
    }
}

#[test]
fn instructions_alone_are_asked_by_the_user_where_somebody_has_to() {
    let body = json!({ "model": "m", "messages": [{ "role": "system", "content": "Say hi." }] });
    for (to, place) in [(anthropic(), "/messages/0"), (bedrock(), "/messages/0"), (gemini(), "/contents/0")] {
        let (sent, left_out) = plainly(openai(), &body, to, "m");
        let said = sent.pointer(place).unwrap();
        assert!(said["role"] == "user" && said.to_string().contains("Say hi."), "{sent}");
        assert!(sent.get("system").or(sent.get("systemInstruction")).is_none(), "{sent}");
        assert_eq!(left_out, ["messages"]);
    }
}

#[test]
fn what_claude_is_to_go_on_from_ends_in_a_word() {
    let body = json!({ "model": "m", "messages": [
        { "role": "user", "content": "x" }, { "role": "assistant", "content": "The answer: \n" },
    ] });
    for to in [anthropic(), bedrock()] {
        let (sent, _) = plainly(openai(), &body, to, "m");
        assert_eq!(sent.pointer("/messages/1/content/0/text"), Some(&json!("The answer:")), "{sent}");
    }
    let first = json!({ "model": "m", "messages": [
        { "role": "assistant", "content": "Hello. " }, { "role": "user", "content": "x" },
    ] });
    let (sent, left_out) = plainly(openai(), &first, bedrock(), "m");
    let roles: Vec<_> =
        sent["messages"].as_array().unwrap().iter().map(|said| said["role"].clone()).collect();
    assert_eq!(
        (roles, left_out),
        (vec![json!("user"), json!("assistant"), json!("user")], vec!["messages".to_owned()])
    );
}

/// Before its third generation Gemini refuses to be told both.
#[test]
fn gemini_is_told_of_json_where_it_takes_that_beside_tools() {
    let body = json!({ "model": "m", "response_format": { "type": "json_object" },
        "tools": [{ "type": "function", "function": { "name": "f" } }], "messages": [{ "role": "user", "content": "x" }] });
    for (model, told) in
        [("gemini-2.5-pro", false), ("gemini-3-flash-preview", true), ("gemini-flash-latest", true)]
    {
        let (sent, left_out) = plainly(openai(), &body, gemini(), model);
        assert_eq!(sent["generationConfig"].get("responseMimeType").is_some(), told, "{model}");
        assert_eq!(left_out.is_empty(), told, "{model}");
    }
}

/// Clients of Mistral's and of Perplexity's, which speak OpenAI's dialect in their own way.
#[test]
fn forms_that_other_providers_have_of_the_dialect_are_read() {
    let body = json!({ "model": "m", "tool_choice": "any", "tools": [{ "type": "function", "function": { "name": "f" } }],
        "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "object" } } },
        "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": "data:image/png;base64,AAAA" }] }] });
    let (sent, _) = plainly(openai(), &body, anthropic(), "m");
    assert_eq!(sent["tool_choice"]["type"], "any");
    assert_eq!(sent["output_config"]["format"]["type"], "json_schema");
    assert_eq!(sent["messages"][0]["content"][0]["source"]["data"], "AAAA");
    let own = json!({ "model": "m", "response_format": { "type": "regex", "regex": "a" }, "messages": [{ "role": "user", "content": "x" }] });
    assert_eq!(plainly(openai(), &own, anthropic(), "m").1, ["response_format"]);
}

#[test]
fn what_means_the_same_at_openai_s_two_doors_crosses() {
    let body = json!({ "model": "m", "input": "x", "prompt_cache_key": "k", "text": { "verbosity": "low" } });
    let (sent, left_out) = plainly(responses(), &body, openai(), "gpt-5");
    assert_eq!(
        (&sent["verbosity"], &sent["prompt_cache_key"], left_out),
        (&json!("low"), &json!("k"), vec![])
    );
    let (sent, mut left_out) = plainly(responses(), &body, openai(), "mistral-large");
    left_out.sort();
    assert_eq!(
        (sent.get("verbosity"), left_out),
        (None, vec!["prompt_cache_key".to_owned(), "text.verbosity".to_owned()])
    );
}

/// Claude Code reads a PDF with a tool, and other clients attach one.
#[test]
fn a_pdf_is_carried_in_each_dialect_s_form() {
    let pdf = json!({ "type": "document", "title": "q3.pdf", "cache_control": { "type": "ephemeral" },
        "source": { "type": "base64", "media_type": "application/pdf", "data": "AAAA" } });
    let body = json!({ "max_tokens": 9, "messages": [
        { "role": "user", "content": [pdf] },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "read", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": [pdf] }] },
    ] });
    let files = Style { files: true, ..Style::default() };
    let url = "data:application/pdf;base64,AAAA";
    let file = json!([{ "type": "file", "file": { "filename": "q3.pdf", "file_data": url } }]);
    let (chat, left_out) = sent(anthropic(), &body, openai(), "gpt-4o", files);
    assert_eq!((&chat["messages"][0]["content"], &chat["messages"][3]["content"]), (&file, &file));
    assert_eq!(chat["messages"][2]["content"], "");
    assert_eq!(
        left_out,
        ["messages[0].content[0].cache_control", "messages[2].content[0].content[0].cache_control"]
    );
    let (response, _) = sent(anthropic(), &body, responses(), "gpt-4o", files);
    let file = json!([{ "type": "input_file", "filename": "q3.pdf", "file_data": url }]);
    assert_eq!((&response["input"][0]["content"], &response["input"][2]["output"]), (&file, &file));
    let (google, _) = plainly(anthropic(), &body, gemini(), "gemini-2.5-pro");
    let inline = json!({ "inlineData": { "mimeType": "application/pdf", "data": "AAAA" } });
    assert_eq!((&google["contents"][0]["parts"][0], &google["contents"][3]["parts"][0]), (&inline, &inline));
    let (converse, left_out) = plainly(anthropic(), &body, bedrock(), "us.anthropic.claude-sonnet-4-5");
    let document =
        json!({ "document": { "format": "pdf", "name": "q3 pdf", "source": { "bytes": "AAAA" } } });
    let point = json!({ "cachePoint": { "type": "default" } });
    assert_eq!(converse["messages"][0]["content"], json!([document, point, { "text": "." }]));
    let again = &converse["messages"][2]["content"][0]["toolResult"]["content"][0]["document"];
    assert_eq!((&again["name"], &again["source"]["bytes"]), (&json!("q3 pdf 2"), &json!("AAAA")));
    assert_eq!(left_out, [""; 0]);
    // And to Claude, from each of the others.
    let wanted = json!({ "type": "base64", "media_type": "application/pdf", "data": "AAAA" });
    let attached = |part: Value| json!({ "messages": [{ "role": "user", "content": [part] }] });
    let item = json!({ "model": "m", "input": [{ "role": "user", "content": [{ "type": "input_file", "filename": "q3.pdf", "file_data": url }] }] });
    for (client, body) in [
        (openai(), attached(json!({ "type": "file", "file": { "filename": "q3.pdf", "file_data": url } }))),
        (responses(), item),
        (
            gemini(),
            json!({ "contents": [{ "role": "user", "parts": [{ "inlineData": { "mimeType": "application/pdf", "data": "AAAA" } }] }] }),
        ),
        (bedrock(), attached(document)),
    ] {
        let (message, left_out) = plainly(client, &body, anthropic(), "m");
        assert_eq!(message["messages"][0]["content"][0]["source"], wanted, "{message}");
        assert_eq!(left_out, [""; 0]);
    }
    // Whoever takes none is not given one.
    assert!(!plainly(anthropic(), &body, openai(), "m").0.to_string().contains("AAAA"));
}

/// OpenAI caches by itself, and its clients do not ask for it.
#[test]
fn claude_is_asked_to_cache_a_conversation_that_goes_on() {
    let mark = json!({ "type": "ephemeral" });
    let asks = json!({ "model": "m", "messages": [{ "role": "system", "content": "s" }, { "role": "user", "content": "x" }] });
    let mut goes_on = asks.clone();
    goes_on["messages"].as_array_mut().unwrap().extend([
        json!({ "role": "assistant", "tool_calls": [{ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{}" } }] }),
        json!({ "role": "tool", "tool_call_id": "a", "content": "y" }),
    ]);
    let caches = Style { caches: true, ..Style::default() };
    let cached = |body: &Value, style| {
        sent(openai(), body, anthropic(), "m", style).0.to_string().matches("cache_control").count()
    };
    let (body, left_out) = sent(openai(), &goes_on, anthropic(), "m", caches);
    assert_eq!(
        (&body["system"][0]["cache_control"], &body["messages"][2]["content"][0]["cache_control"]),
        (&mark, &mark)
    );
    assert_eq!(left_out, [""; 0]);
    assert_eq!(cached(&goes_on, caches), 2);
    // A question that may stay the only one would pay for a write that nobody reads.
    assert_eq!((cached(&asks, caches), cached(&goes_on, Style::default())), (0, 0));
    // Whoever marks something means that and no more.
    goes_on["messages"][1]["content"] = json!([{ "type": "text", "text": "x", "cache_control": mark }]);
    assert_eq!(cached(&goes_on, caches), 1);
}

/// Bedrock refuses two of one name, and long ones.
#[test]
fn documents_at_bedrock_are_told_apart_by_name() {
    let pdf = |name: &str| {
        json!({ "type": "document", "title": name,
            "source": { "type": "base64", "media_type": "application/pdf", "data": "AAAA" } })
    };
    let body = json!({ "max_tokens": 9, "messages": [
        { "role": "user", "content": [pdf("a.pdf"), pdf("A.pdf"), pdf(&"b".repeat(300))] },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "read", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": [pdf("a.pdf")] }] },
    ] });
    let (sent, _) = plainly(anthropic(), &body, bedrock(), "us.anthropic.claude-sonnet-4-5");
    let name =
        |place: &str| sent.pointer(place).unwrap()["document"]["name"].as_str().unwrap().to_lowercase();
    let mut names = vec![name("/messages/2/content/0/toolResult/content/0")];
    names.extend((0..3).map(|at| name(&format!("/messages/0/content/{at}"))));
    assert!(names.iter().all(|name| name.len() <= 200), "{names:?}");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4, "{names:?}");
}
