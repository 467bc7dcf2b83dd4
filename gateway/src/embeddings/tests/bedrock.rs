//! Bedrock's bodies, which follow from the model.

use super::*;

const TITAN: &str = "amazon.titan-embed-text-v2:0";
const TITAN_G1: &str = "amazon.titan-embed-text-v1";
const ENGLISH: &str = "cohere.embed-english-v3";
const FOURTH: &str = "cohere.embed-v4:0";

fn invoke() -> &'static dyn EmbedWire {
    of(Dialect::BedrockConverse)
}

fn openai(body: &Value) -> EmbedRequest {
    parse(Dialect::OpenAiChat, body).unwrap()
}

/// The bodies for a model, each with how many inputs it has, and what they do not carry.
fn written(request: &EmbedRequest, model: &str) -> (Vec<(Value, usize)>, Vec<String>) {
    let Written { body, more, dropped } = invoke().write_request(request, model).unwrap();
    let of_more: usize = more.iter().map(|more| more.inputs).sum();
    let first = (body, request.inputs.len() - of_more);
    let all = [first].into_iter().chain(more.into_iter().map(|more| (more.body, more.inputs)));
    let bodies = all.map(|(body, inputs)| (serde_json::from_slice(&body).unwrap(), inputs)).collect();
    (bodies, dropped.into_iter().map(|dropped| dropped.field).collect())
}

fn refused(request: &EmbedRequest, model: &str) -> RequestError {
    invoke().write_request(request, model).unwrap_err()
}

#[test]
fn titan_gets_one_text_in_each_request() {
    let request =
        openai(&json!({ "input": ["one", "two", "three"], "dimensions": 256, "user": "u", "x": 1 }));
    let body = |text: &str| (json!({ "inputText": text, "dimensions": 256 }), 1);
    let wanted = vec![body("one"), body("two"), body("three")];
    assert_eq!(written(&request, TITAN), (wanted, vec!["x".to_owned(), "user".to_owned()]));
    // The first one takes the text and nothing else, and has one length.
    let request = openai(&json!({ "input": "one", "input_type": "query" }));
    let alone = vec![(json!({ "inputText": "one" }), 1)];
    assert_eq!(written(&request, TITAN_G1), (alone.clone(), vec!["input_type".to_owned()]));
    assert_eq!(written(&openai(&json!({ "input": "one", "dimensions": 1536 })), TITAN_G1).0, alone);
    let shorter = openai(&json!({ "input": "one", "dimensions": 256 }));
    assert_eq!(refused(&shorter, TITAN_G1).path, "dimensions");
    // It refuses what is too long, and cannot be told otherwise.
    let cut = |cut: bool| parse(Dialect::OllamaChat, &json!({ "input": "one", "truncate": cut })).unwrap();
    assert_eq!(written(&cut(true), TITAN).1, ["truncate"]);
    assert!(written(&cut(false), TITAN).1.is_empty());
}

#[test]
fn cohere_s_models_get_up_to_96_texts_in_each_request() {
    let request = openai(&json!({ "input": ["one", "two"], "input_type": "query" }));
    let body = json!({
        "texts": ["one", "two"], "input_type": "search_query", "truncate": "NONE", "embedding_types": ["float"],
    });
    assert_eq!(written(&request, ENGLISH), (vec![(body, 2)], Vec::new()));
    let cut = json!({
        "texts": ["one"], "input_type": "clustering", "truncate": "START", "output_dimension": 512, "max_tokens": 9,
    });
    let cut = parse(Dialect::CohereChat, &cut).unwrap();
    let body = json!({
        "texts": ["one"], "input_type": "clustering", "truncate": "LEFT", "embedding_types": ["float"],
        "output_dimension": 512,
    });
    assert_eq!(written(&cut, FOURTH), (vec![(body, 1)], vec!["max_tokens".to_owned()]));
    assert_eq!(refused(&cut, ENGLISH).path, "dimensions");
    let texts: Vec<String> = (0..200).map(|at| at.to_string()).collect();
    let (bodies, dropped) = written(&openai(&json!({ "input": texts })), FOURTH);
    let counts: Vec<usize> = bodies.iter().map(|(_, inputs)| *inputs).collect();
    assert_eq!((counts, dropped), (vec![96, 96, 8], vec!["input_type".to_owned()]));
    let joined: Vec<&Value> = bodies.iter().flat_map(|(body, _)| body["texts"].as_array().unwrap()).collect();
    assert!(joined.iter().zip(&texts).all(|(sent, text)| **sent == json!(text)) && joined.len() == 200);
}

#[test]
fn so_many_requests_are_made_of_one_and_no_more() {
    let request = |texts: usize| openai(&json!({ "input": vec!["x"; texts] }));
    assert_eq!(written(&request(256), TITAN).0.len(), 256);
    let error = refused(&request(257), TITAN);
    assert_eq!(error.path, "input");
    assert!(error.message.contains("257 texts") && error.message.contains("takes 1 in a request"), "{error}");
    assert_eq!(written(&request(16_000), FOURTH).0.len(), 167);
}

#[test]
fn the_model_s_name_tells_whose_body_it_takes() {
    let request = openai(&json!({ "input": "one" }));
    for (model, field) in [
        (TITAN, "inputText"),
        (TITAN_G1, "inputText"),
        ("amazon.titan-embed-text-v2:0:8k", "inputText"),
        (ENGLISH, "texts"),
        ("cohere.embed-multilingual-v3", "texts"),
        ("us.cohere.embed-v4:0", "texts"),
        ("arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.cohere.embed-v4:0", "texts"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-embed-text-v2:0", "inputText"),
    ] {
        let (bodies, _) = written(&request, model);
        assert!(bodies[0].0.get(field).is_some(), "{model}: {bodies:?}");
    }
    for model in [
        "",
        "amazon.nova-lite-v1:0",
        "amazon.titan-embed-image-v1",
        "cohere.command-r-v1:0",
        "not-cohere.embed-english",
        "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc",
    ] {
        assert_eq!(refused(&request, model).path, "model", "{model}");
    }
}

#[test]
fn what_is_no_text_goes_to_nobody_here() {
    let tokens = openai(&json!({ "input": [1, 2] }));
    assert_eq!(refused(&tokens, TITAN).path, "input[0]");
    let int8 = parse(Dialect::CohereChat, &json!({ "texts": ["a"], "embedding_types": ["int8"] })).unwrap();
    assert_eq!(refused(&int8, FOURTH).path, "embedding_types[0]");
}

#[test]
fn answers_come_in_four_forms() {
    let read = |body: Value| invoke().parse_response(body.to_string().as_bytes());
    let numbers = |vector: [f32; 2]| Vector::Numbers(vector.to_vec());
    let titan = json!({
        "embedding": [0.5, -0.25], "embeddingsByType": { "float": [0.5, -0.25] }, "inputTextTokenCount": 3,
    });
    let response = read(titan).unwrap();
    assert_eq!((response.vectors, response.input_tokens), (vec![numbers([0.5, -0.25])], Some(3)));
    let typed =
        json!({ "embeddingsByType": { "binary": [0, 1], "float": [0.5, -0.25] }, "inputTextTokenCount": 3 });
    assert_eq!(read(typed).unwrap().vectors, [numbers([0.5, -0.25])]);
    let binary = json!({ "embeddingsByType": { "binary": [0, 1] }, "inputTextTokenCount": 3 });
    assert_eq!(read(binary).unwrap().vectors, [Vector::Unread]);
    let both = [numbers([0.5, -0.25]), numbers([1.0, 0.0625])];
    let floats = json!({
        "id": "e", "embeddings": [[0.5, -0.25], [1.0, 0.0625]], "texts": ["one", "two"],
        "response_type": "embeddings_floats",
    });
    let response = read(floats).unwrap();
    assert_eq!((response.id.as_str(), response.input_tokens), ("e", None));
    assert_eq!(response.vectors, both);
    let kinds = json!({
        "id": "e", "embeddings": { "float": [[0.5, -0.25], [1.0, 0.0625]] }, "texts": ["one", "two"],
        "response_type": "embeddings_by_type",
    });
    assert_eq!(read(kinds).unwrap().vectors, both);
    for broken in [
        json!({}),
        json!({ "message": "no" }),
        json!({ "embedding": [] }),
        json!({ "embedding": ["x"] }),
        json!({ "embedding": [1.0], "embeddings": [[1.0]] }),
        json!({ "embeddingsByType": {} }),
        json!({ "embeddings": {} }),
        json!({ "embeddings": [[]] }),
        json!({ "embeddings": "x" }),
    ] {
        assert!(read(broken.clone()).is_err(), "{broken}");
    }
}

#[test]
fn a_client_of_bedrock_is_answered_in_the_form_that_it_asked_in() {
    let asked = |body: &Value| parse(Dialect::BedrockConverse, body).unwrap();
    let answered = |request: &EmbedRequest, vectors: Vec<Vector>| -> Value {
        let response =
            EmbedResponse { id: "e".into(), vectors, input_tokens: Some(7), ..EmbedResponse::default() };
        serde_json::from_slice(&invoke().write_response(request, &response)).unwrap()
    };
    let (one, other) = (Vector::Numbers(vec![0.5, -0.25]), Vector::Numbers(vec![1.0, 0.0625]));
    let titan = asked(&json!({ "inputText": "one", "dimensions": 256, "normalize": false }));
    assert_eq!(
        (titan.inputs.len(), titan.dimensions, &titan.extras["normalize"]),
        (1, Some(256), &json!(false))
    );
    assert_eq!(
        answered(&titan, vec![one.clone()]),
        json!({
            "embedding": [0.5, -0.25], "embeddingsByType": { "float": [0.5, -0.25] }, "inputTextTokenCount": 7,
        })
    );
    let plain = json!({ "texts": ["one", "two"], "input_type": "search_query", "truncate": "RIGHT" });
    let cohere = asked(&plain);
    assert_eq!(cohere.truncate, Some(Named { field: "truncate", value: Truncate::End }));
    let both = || vec![one.clone(), other.clone()];
    assert_eq!(
        answered(&cohere, both()),
        json!({
            "id": "e", "embeddings": [[0.5, -0.25], [1.0, 0.0625]], "texts": ["one", "two"],
            "response_type": "embeddings_floats",
        })
    );
    let typed =
        json!({ "texts": ["one", "two"], "input_type": "search_query", "embedding_types": ["float"] });
    assert_eq!(
        answered(&asked(&typed), both()),
        json!({
            "id": "e", "embeddings": { "float": [[0.5, -0.25], [1.0, 0.0625]] }, "texts": ["one", "two"],
            "response_type": "embeddings_by_type",
        })
    );
    // Cohere's own API has other names for the ends.
    assert_eq!(parse(Dialect::CohereChat, &plain).unwrap_err().path, "truncate");
}

#[test]
fn a_bad_body_of_bedrock_s_names_the_field() {
    for (body, path) in [
        (json!({}), "inputText"),
        (json!({ "inputText": null }), "inputText"),
        (json!({ "inputText": ["a"] }), "inputText"),
        (json!({ "inputtext": "a" }), "inputtext"),
        (json!({ "inputText": "a", "InputText": "b" }), "InputText"),
        (json!({ "inputText": "a", "dimensions": 0 }), "dimensions"),
        (json!({ "inputText": "a", "embeddingTypes": [7] }), "embeddingTypes[0]"),
        (json!({ "texts": [] }), "texts"),
        (json!({ "texts": ["a"], "truncate": "MIDDLE" }), "truncate"),
        (json!({ "messages": [{ "role": "user", "content": "a" }] }), "inputText"),
    ] {
        let error = parse(Dialect::BedrockConverse, &body).unwrap_err();
        assert_eq!(error.path, path, "{body}: {error}");
    }
    // An image by its address is fetched, as anywhere.
    let image = json!({ "images": ["https://x.example/a.png"], "input_type": "image" });
    assert!(parse(Dialect::BedrockConverse, &image).unwrap().needs().is_some());
}

#[test]
fn tokens_are_counted_in_the_head_where_the_body_does_not() {
    let head = |value: &str| {
        http::HeaderMap::from_iter([(TOKENS_HEADER, http::HeaderValue::from_str(value).unwrap())])
    };
    assert_eq!(input_tokens(&head("17")), Some(17));
    for bad in ["", "-1", "many", "1.5"] {
        assert_eq!(input_tokens(&head(bad)), None, "{bad}");
    }
    assert_eq!(input_tokens(&http::HeaderMap::new()), None);
}
