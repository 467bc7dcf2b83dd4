use serde_json::{Value, json};

mod bedrock;

use super::gemini::rewritten;
use super::*;

/// The dialects that have embeddings in one form; Bedrock's are of the models' makers.
const ALL: [Dialect; 4] =
    [Dialect::OpenAiChat, Dialect::GeminiGenerateContent, Dialect::CohereChat, Dialect::OllamaChat];

fn of(dialect: Dialect) -> &'static dyn EmbedWire {
    wire(dialect).unwrap()
}

fn parse(dialect: Dialect, body: &Value) -> Result<EmbedRequest, RequestError> {
    let alone = body.get("content").is_some();
    of(dialect).parse_request(body.to_string().as_bytes(), alone)
}

fn sent(to: Dialect, request: &EmbedRequest) -> (Value, Vec<String>) {
    let written = of(to).write_request(request, &request.model).unwrap();
    let dropped = written.dropped.into_iter().map(|dropped| dropped.field).collect();
    (serde_json::from_slice(&written.body).unwrap(), dropped)
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/src/embeddings/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn short(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat => "openai",
        Dialect::GeminiGenerateContent => "gemini",
        Dialect::CohereChat => "cohere",
        _ => "ollama",
    }
}

/// Each pair of dialects and both directions: what a client sends, what its provider gets of it and what is listed as lost;
/// what a provider answers, and what its client gets.
#[test]
fn every_pair_is_as_its_fixture_says() {
    let mut pairs = 0;
    for client in ALL {
        let fixture = fixture(short(client));
        let request = parse(client, &fixture["request"]).unwrap();
        for provider in ALL.into_iter().filter(|provider| *provider != client) {
            let wanted = &fixture["to"][short(provider)];
            let (body, dropped) = sent(provider, &request);
            let name = format!("{} to {}", short(client), short(provider));
            assert_eq!(body, wanted["request"], "{name}");
            assert_eq!(json!(dropped), wanted["dropped"], "{name}");
            let answer = fixture_answer(provider);
            let mut response = of(provider).parse_response(answer.to_string().as_bytes()).unwrap();
            response.model = "a-model".to_owned();
            let bytes = of(client).write_response(&request, &response);
            let written: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(written, wanted["answer"], "{name}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 12);
}

fn fixture_answer(provider: Dialect) -> Value {
    fixture(short(provider))["answer"].clone()
}

#[test]
fn inputs_come_in_four_kinds() {
    let read =
        |input: Value| parse(Dialect::OpenAiChat, &json!({ "model": "m", "input": input })).unwrap().inputs;
    let text = |text: &str| Input::Text(text.to_owned());
    assert_eq!(read(json!("a")), [text("a")]);
    assert_eq!(read(json!(["a", ""])), [text("a"), text("")]);
    assert_eq!(read(json!([1, 20_000])), [Input::Tokens(vec![1, 20_000])]);
    assert_eq!(read(json!([[1], [2, 3]])), [Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])]);
    // More ids than a tree of values may hold.
    let many = vec![7_u32; 300_000];
    assert_eq!(read(json!([many])), [Input::Tokens(many)]);
}

#[test]
fn bad_requests_name_the_field() {
    use Dialect::{CohereChat, GeminiGenerateContent, OllamaChat, OpenAiChat};
    for (dialect, body, path) in [
        (OpenAiChat, json!({}), "input"),
        (OpenAiChat, json!({ "input": null }), "input"),
        (OpenAiChat, json!({ "input": 7 }), "input"),
        (OpenAiChat, json!({ "input": [] }), "input"),
        (OpenAiChat, json!({ "input": ["a", 7] }), "input[1]"),
        (OpenAiChat, json!({ "input": [1, "a"] }), "input[1]"),
        (OpenAiChat, json!({ "input": [1, -1] }), "input[1]"),
        (OpenAiChat, json!({ "input": [[1], []] }), "input[1]"),
        (OpenAiChat, json!({ "input": [[1], [2.5]] }), "input[1][0]"),
        (OpenAiChat, json!({ "input": "a", "model": 7 }), "model"),
        (OpenAiChat, json!({ "input": "a", "dimensions": 0 }), "dimensions"),
        (OpenAiChat, json!({ "input": "a", "dimensions": "x" }), "dimensions"),
        (OpenAiChat, json!({ "input": vec!["a"; 20_000] }), "input"),
        (OllamaChat, json!({ "input": [[1]] }), "input[0]"),
        (OllamaChat, json!({ "input": "a", "truncate": "yes" }), "truncate"),
        (CohereChat, json!({}), "texts"),
        (CohereChat, json!({ "texts": [] }), "texts"),
        (CohereChat, json!({ "texts": "a" }), "texts"),
        (CohereChat, json!({ "texts": ["a"], "truncate": "MIDDLE" }), "truncate"),
        (CohereChat, json!({ "inputs": [{ "content": [] }] }), "inputs[0].content"),
        (GeminiGenerateContent, json!({}), "requests"),
        (GeminiGenerateContent, json!({ "requests": [] }), "requests"),
        (GeminiGenerateContent, json!({ "requests": [{}] }), "requests[0].content"),
        (GeminiGenerateContent, json!({ "content": {} }), "content.parts"),
        (GeminiGenerateContent, json!({ "content": { "parts": [{ "text": 7 }] } }), "content.parts[0].text"),
        (
            GeminiGenerateContent,
            json!({ "requests": [
                { "model": "models/a", "content": { "parts": [{ "text": "x" }] } },
                { "model": "models/b", "content": { "parts": [{ "text": "x" }] } },
            ] }),
            "requests[1].model",
        ),
    ] {
        let error = parse(dialect, &body).unwrap_err();
        assert_eq!(error.path, path, "{body}: {error}");
    }
    for body in [
        "",
        "[",
        "7",
        "[]",
        r#"{"input":"a","input":"b"}"#,
        r#"{"input":"a","model":"b","model":"c"}"#,
        r#"{"input":"a"} x"#,
    ] {
        assert!(of(OpenAiChat).parse_request(body.as_bytes(), false).is_err(), "{body}");
    }
}

/// Google has what a request says of its vectors in an object of its own now, and still takes it beside the content.
#[test]
fn gemini_s_configuration_of_vectors_is_read_where_it_stands() {
    let with = |beside: Value, within: Value| {
        let mut body = json!({ "content": { "parts": [{ "text": "a" }] }, "embedContentConfig": within });
        let fields = beside.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        body
    };
    let both = json!({ "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 2 });
    let snake = json!({ "task_type": "RETRIEVAL_QUERY", "output_dimensionality": 2 });
    for (beside, within) in
        [(both.clone(), json!(null)), (json!({}), both.clone()), (json!({}), snake), (both, json!({}))]
    {
        let alone = parse(Dialect::GeminiGenerateContent, &with(beside.clone(), within.clone())).unwrap();
        let list = json!({ "requests": [with(beside, within)] });
        let list = parse(Dialect::GeminiGenerateContent, &list).unwrap();
        for request in [alone, list] {
            assert_eq!(request.dimensions, Some(2));
            let (body, dropped) = sent(Dialect::CohereChat, &request);
            assert_eq!((&body["output_dimension"], &body["input_type"]), (&json!(2), &json!("search_query")));
            assert_eq!(dropped, [""; 0]);
        }
    }
    let rest = json!({ "autoTruncate": true, "title": "t", "documentOcr": true });
    let request = parse(Dialect::GeminiGenerateContent, &with(json!({}), rest)).unwrap();
    let (body, dropped) = sent(Dialect::OllamaChat, &request);
    assert_eq!(body["truncate"], true);
    assert_eq!(dropped, ["embedContentConfig.title", "embedContentConfig.documentOcr"]);

    for (beside, within, path) in [
        (json!({ "outputDimensionality": 2 }), json!({ "outputDimensionality": 3 }), "outputDimensionality"),
        (json!({ "taskType": "CLUSTERING" }), json!({ "task_type": "CLUSTERING" }), "taskType"),
        (json!({}), json!({ "outputDimensionality": "x" }), "outputDimensionality"),
        (json!({}), json!({ "autoTruncate": 1 }), "autoTruncate"),
    ] {
        let error = parse(Dialect::GeminiGenerateContent, &with(beside, within)).unwrap_err();
        assert_eq!(error.path, format!("embedContentConfig.{path}"), "{error}");
    }
}

#[test]
fn a_body_of_fields_is_no_way_to_take_memory() {
    let fields: Vec<String> = (0..300).map(|at| format!("\"f{at}\":1")).collect();
    let body = format!(r#"{{"input":"a",{}}}"#, fields.join(","));
    let error = of(Dialect::OpenAiChat).parse_request(body.as_bytes(), false).unwrap_err();
    assert!(error.message.contains("more than 256 fields"), "{error}");
}

#[test]
fn what_another_provider_cannot_take_is_an_error_with_its_path() {
    let tokens = parse(Dialect::OpenAiChat, &json!({ "input": [[1, 2]] })).unwrap();
    let int8 =
        parse(Dialect::CohereChat, &json!({ "texts": ["a"], "embedding_types": ["float", "int8"] })).unwrap();
    let image = parse(Dialect::CohereChat, &json!({ "images": ["data:image/png;base64,AA=="] })).unwrap();
    let film = json!({ "content": { "parts": [{ "text": "a" }, { "inlineData": {} }] } });
    let film = parse(Dialect::GeminiGenerateContent, &film).unwrap();
    let text = |purpose: &str| json!({ "content": { "parts": [{ "text": "a" }] }, "taskType": purpose });
    let mixed = json!({ "requests": [text("RETRIEVAL_QUERY"), text("RETRIEVAL_DOCUMENT")] });
    let mixed = parse(Dialect::GeminiGenerateContent, &mixed).unwrap();
    for (request, to, path) in [
        (&tokens, Dialect::GeminiGenerateContent, "input[0]"),
        (&tokens, Dialect::OllamaChat, "input[0]"),
        (&int8, Dialect::OpenAiChat, "embedding_types[1]"),
        (&image, Dialect::OpenAiChat, "images[0]"),
        (&film, Dialect::CohereChat, "content.parts"),
        (&mixed, Dialect::OpenAiChat, "requests[1].taskType"),
    ] {
        assert_eq!(of(to).write_request(request, &request.model).unwrap_err().path, path);
    }
}

#[test]
fn more_inputs_than_a_provider_takes_at_once_become_several_requests() {
    let texts: Vec<String> = (0..201).map(|at| at.to_string()).collect();
    let request = parse(Dialect::OpenAiChat, &json!({ "model": "m", "input": texts })).unwrap();
    for (to, list, text, counts) in [
        (Dialect::GeminiGenerateContent, "requests", "/content/parts/0/text", [100_usize, 100, 1]),
        (Dialect::CohereChat, "texts", "", [96, 96, 9]),
    ] {
        let Written { body, more, .. } = of(to).write_request(&request, "m").unwrap();
        assert_eq!(more.iter().map(|more| more.inputs).collect::<Vec<_>>(), counts[1..], "{to}");
        let bodies = [body].into_iter().chain(more.into_iter().map(|more| more.body));
        let bodies: Vec<Value> = bodies.map(|body| serde_json::from_slice(&body).unwrap()).collect();
        let sent = |body: &Value| body[list].as_array().unwrap().clone();
        assert_eq!(bodies.iter().map(|body| sent(body).len()).collect::<Vec<_>>(), counts, "{to}");
        let joined: Vec<Value> = bodies.iter().flat_map(sent).collect();
        let joined: Vec<&str> =
            joined.iter().map(|one| one.pointer(text).unwrap().as_str().unwrap()).collect();
        assert_eq!(joined, texts, "{to}");
        // All that is said of them is said in each.
        let said = |body: &Value| match body.get("requests") {
            Some(requests) => requests[0]["model"].clone(),
            None => json!([body["model"], body["input_type"], body["truncate"], body["embedding_types"]]),
        };
        assert!(bodies.iter().all(|body| said(body) == said(&bodies[0]) && !said(body).is_null()), "{to}");
    }
}

#[test]
fn vectors_are_the_same_in_both_spellings() {
    let numbers = vec![0.125_f32, -1.5, 3.4e38, 1e-40, -0.0];
    let vector = Vector::of(numbers.clone()).unwrap();
    let (mut base64, mut plain) = (Vec::new(), Vec::new());
    vector.write_base64(&mut base64);
    vector.write_numbers(&mut plain);
    let text: String = serde_json::from_slice(&base64).unwrap();
    assert_eq!(Vector::of_base64(&text).unwrap(), vector);
    let read: Vec<f32> = serde_json::from_slice(&plain).unwrap();
    assert_eq!(read, numbers);
    // 1.0 and -2.0 as OpenAI's clients decode them.
    let mut out = Vec::new();
    Vector::of(vec![1.0, -2.0]).unwrap().write_base64(&mut out);
    assert_eq!(out, br#""AACAPwAAAMA=""#);
    for text in ["", "AAA", "AAAA", "not base64!", "AADAfw=="] {
        assert!(Vector::of_base64(text).is_err(), "{text}");
    }
}

#[test]
fn an_answer_of_openais_dialect_is_spelled_as_asked_or_not() {
    let asked = |format: Value| {
        parse(Dialect::OpenAiChat, &json!({ "input": ["a", "b"], "encoding_format": format })).unwrap()
    };
    let item = |index: usize, embedding: Value| json!({ "index": index, "embedding": embedding });
    let answered = |embeddings: [Value; 2]| {
        let [one, other] = embeddings;
        let body = json!({ "data": [item(0, one), item(1, other)] });
        of(Dialect::OpenAiChat).parse_response(body.to_string().as_bytes()).unwrap()
    };
    let (numbers, bytes) = (json!([1.0, -2.0]), json!("AACAPwAAAMA="));
    for (embeddings, float, base64) in [
        ([numbers.clone(), numbers.clone()], true, false),
        ([bytes.clone(), bytes.clone()], false, true),
        ([numbers, bytes], false, false),
    ] {
        let response = answered(embeddings);
        assert_eq!(response.is_spelled_for(&asked(json!("float"))), float);
        assert_eq!(response.is_spelled_for(&asked(json!(null))), float);
        assert_eq!(response.is_spelled_for(&asked(json!("base64"))), base64);
        assert!(response.is_spelled_for(&asked(json!("ubinary"))), "nobody else knows that");
    }
    // Elsewhere a name says how a vector is spelled.
    let body = json!({ "embeddings": { "base64": ["AACAPwAAAMA="] } });
    let response = of(Dialect::CohereChat).parse_response(body.to_string().as_bytes()).unwrap();
    assert!(response.is_spelled_for(&asked(json!("float"))));
}

#[test]
fn answers_that_are_none_are_refused() {
    for (dialect, body) in [
        (Dialect::OpenAiChat, json!({})),
        (Dialect::OpenAiChat, json!({ "data": [{ "embedding": [] }] })),
        (Dialect::OpenAiChat, json!({ "data": [{ "embedding": ["x"] }] })),
        (Dialect::OpenAiChat, json!({ "data": [{ "index": 1, "embedding": [1] }] })),
        (
            Dialect::OpenAiChat,
            json!({ "data": [{ "index": 0, "embedding": [1] }, { "index": 0, "embedding": [1] }] }),
        ),
        (Dialect::GeminiGenerateContent, json!({})),
        (Dialect::GeminiGenerateContent, json!({ "embedding": { "values": "x" } })),
        (Dialect::CohereChat, json!({ "embeddings": {} })),
        (Dialect::CohereChat, json!({ "embeddings": { "float": [[1], "x"] } })),
        (Dialect::OllamaChat, json!({ "embeddings": [[]] })),
        (Dialect::OllamaChat, json!({ "error": "no" })),
    ] {
        let parsed = of(dialect).parse_response(body.to_string().as_bytes());
        assert!(parsed.is_err(), "{body}: {parsed:?}");
    }
    // They may come in any order, as long as each says where it belongs.
    let body = json!({ "data": [{ "index": 1, "embedding": [1.0] }, { "index": 0, "embedding": [2.0] }] });
    let response = of(Dialect::OpenAiChat).parse_response(body.to_string().as_bytes()).unwrap();
    assert_eq!(response.vectors, [Vector::Numbers(vec![2.0]), Vector::Numbers(vec![1.0])]);
    // What passes is counted where it is not read.
    let body = json!({ "embeddings": { "int8": [[1, 2], [3, 4]] } });
    let response = of(Dialect::CohereChat).parse_response(body.to_string().as_bytes()).unwrap();
    assert_eq!(response.vectors, [Vector::Unread, Vector::Unread]);
}

#[test]
fn a_request_is_bounded_by_its_bytes_and_the_model() {
    let request = |input: Value| parse(Dialect::OpenAiChat, &json!({ "input": input })).unwrap();
    assert_eq!(request(json!("four")).worst_input(None), 4 + 64);
    assert_eq!(request(json!([[1, 2], [3]])).worst_input(None), 3 + 2 * 64);
    assert_eq!(request(json!(["x".repeat(9000), "y"])).worst_input(Some(8192)), 8192 + 65);
}

#[test]
fn a_rewritten_list_keeps_all_but_the_model() {
    let body = br#"{"requests":[{"content":{"parts":[{"text":"a"}]},"model":"models/x","z":1.0},{"content":{"parts":[]}}]}"#;
    let list = rewritten(body, false, "y").unwrap();
    assert_eq!(
        list,
        r#"{"requests":[{"content":{"parts":[{"text":"a"}]},"model":"models/y","z":1.0},{"content":{"parts":[]},"model":"models/y"}]}"#
    );
    let one = rewritten(br#"{"content":{"parts":[]},"model":"models/x"}"#, true, "y").unwrap();
    assert_eq!(one, r#"{"content":{"parts":[]},"model":"models/y"}"#);
}

/// Whoever reads a union may take another member than was looked at here, and it may be an address.
#[test]
fn a_text_with_something_else_beside_it_is_no_text_of_geminis() {
    let gemini =
        |parts: Value| parse(Dialect::GeminiGenerateContent, &json!({ "content": { "parts": parts } }));
    for beside in [
        json!({ "text": "a", "fileData": { "fileUri": "https://x.example/a" } }),
        json!({ "text": "a", "file_data": { "file_uri": "gs://bucket/a" } }),
        json!({ "text": "a", "inlineData": { "mimeType": "image/png", "data": "AAAA" } }),
    ] {
        let error = gemini(json!([beside])).expect_err(&beside.to_string());
        assert!(error.message.contains("only one of them may be there"), "{error}");
        let one = json!({ "model": "models/m", "content": { "parts": [beside] } });
        let error =
            parse(Dialect::GeminiGenerateContent, &json!({ "requests": [one] })).expect_err("in a list");
        assert!(error.path.starts_with("requests[0].content.parts[0]"), "{error}");
    }
    // Of several parts each may be fetched.
    let needed = gemini(json!([{ "text": "a" }, { "text": "b", "file_data": { "file_uri": "gs://b/a" } }]));
    assert!(needed.unwrap().needs().is_some());
    assert_eq!(gemini(json!([{ "text": "a" }])).unwrap().needs(), None);
    assert_eq!(gemini(json!([{ "text": "a" }, { "text": "b" }])).unwrap().needs(), None);
}

#[test]
fn a_bare_address_is_fetched_by_cohere_as_one_in_an_object_is() {
    let cohere = |part: Value| {
        let body = json!({ "model": "embed-v4.0", "input_type": "image", "inputs": [{ "content": [part] }] });
        parse(Dialect::CohereChat, &body).unwrap()
    };
    let data = "data:image/png;base64,AAAA";
    for (part, fetched) in [
        (json!({ "type": "image_url", "image_url": "https://x.example/a.png" }), true),
        (json!({ "type": "image_url", "image_url": { "url": "https://x.example/a.png" } }), true),
        (json!({ "type": "image_url", "image_url": "DATA-less" }), true),
        (json!({ "type": "text", "text": "a", "image_url": "https://x.example/a.png" }), true),
        (json!({ "type": "image_url", "image_url": data }), false),
        (json!({ "type": "image_url", "image_url": { "url": data } }), false),
        (json!({ "type": "text", "text": "a" }), false),
    ] {
        let need = cohere(part.clone()).needs();
        assert_eq!(need.is_some(), fetched, "{part}");
        if let Some(need) = need {
            assert_eq!(need.path, "inputs[0].content", "{part}");
            assert!(need.kinds.contains(ServerTool::ImageUrl), "{part}");
        }
    }
    let images = json!({ "model": "m", "input_type": "image", "images": ["https://x.example/a.png"] });
    assert_eq!(parse(Dialect::CohereChat, &images).unwrap().needs().unwrap().path, "images[0]");
}

#[test]
fn inputs_in_another_letter_case_do_not_pass_unread() {
    for (dialect, field) in [
        (Dialect::OpenAiChat, "Input"),
        (Dialect::OllamaChat, "INPUT"),
        (Dialect::CohereChat, "Texts"),
        (Dialect::CohereChat, "Images"),
    ] {
        let mut body = json!({ "model": "m", "input_type": "search_query", "input": "a", "texts": ["a"] });
        body[field] = json!(["https://x.example"]);
        let error = parse(dialect, &body).expect_err(field);
        assert!(error.message.contains("letter case only"), "{error}");
    }
}
