//! Amazon Bedrock: keys that sign, keys that travel, and the region that picks the host.

use orch_tests::fakes::bedrock::Converse;
use orch_tests::guests::{self, Agent};
use orch_tests::home::Config;
use orch_tests::orch::Outcome;
use orch_tests::upstream::Upstream;
use serde_json::{Value, json};

use crate::stage::{INPUT, Mode, Stage, attempts, guest, in_every_mode, receipt, summary};

const HOST: &str = "bedrock-runtime.eu-central-1.amazonaws.com";
const OTHER: &str = "bedrock-runtime.us-east-1.amazonaws.com";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYE2ETESTKEY";
const TOKEN: &str = "IQoJb3JpZ2luX2VjEE2E4c9Zk1Rq7Ty5Ui3Op0As8Df6Gh";
const BEARER: &str = "ABSKQmVkcm9ja0FQSUtleS1lMmVRdzdacEx4NFZuOFJ0MlkyeTZIZDFLZjlCbTNHYzVKdjBYYVExMjM0NTY3ODkwYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo=";
const SAYS: &str = "Bedrock says that ships are rain.";

const BEDROCK: Converse = Converse {
    region: "eu-central-1",
    access_key_id: "AKIAE2ETESTEXAMPLE00",
    secret_access_key: SECRET,
    session_token: None,
    bearer: BEARER,
    says: SAYS,
};

fn key(secret: &str, region: &str) -> String {
    json!({"accessKeyId": "AKIAE2ETESTEXAMPLE00", "secretAccessKey": secret, "region": region}).to_string()
}

/// A stage with Bedrock in two regions.
fn stage(bedrock: Converse) -> (Stage, Upstream, Upstream) {
    let mut stage = Stage::new();
    let there = Upstream::https(&stage.ca, &[HOST], bedrock);
    let other = Upstream::https(&stage.ca, &[OTHER], Converse { region: "us-east-1", ..bedrock });
    let (at, elsewhere) = (there.address(), other.address());
    stage.configure(|config: Config| {
        config.connect(&format!("{HOST}:443"), at).connect(&format!("{OTHER}:443"), elsewhere)
    });
    (stage, there, other)
}

fn agent() -> Agent {
    let fields = json!({
        "supported_providers": ["aws"], "llm": { "primary": "aws/amazon.nova-lite-v1:0" },
    });
    Agent::new("summarizer", &guests::example("summarizer"), &fields)
}

in_every_mode! {
    a_json_key_signs_and_its_secret_goes_nowhere
}

fn a_json_key_signs_and_its_secret_goes_nowhere(mode: Mode) {
    let (stage, there, other) = stage(BEDROCK);
    stage.store("AWS_BEARER_TOKEN_BEDROCK", &key(SECRET, "eu-central-1"), &[]);
    let outcome = stage.run_in(mode, agent().path(), INPUT).run();
    let report = summary(outcome, SAYS);
    let request = there.only();
    assert_eq!(request.path, "/model/amazon.nova-lite-v1%3A0/converse-stream");
    assert_eq!(request.header("host"), Some(HOST));
    assert!(request.header("authorization").is_some_and(|said| said.starts_with("AWS4-HMAC-SHA256 ")));
    there.never_saw(SECRET.as_bytes());
    there.never_saw(b"orch_ph_");
    other.untouched();
    let receipt = receipt(&report);
    assert_eq!(
        (&receipt["provider_served"], &receipt["model_served"]),
        (&json!("aws"), &json!("amazon.nova-lite-v1:0"))
    );
    assert!(receipt["cost_usd"].as_f64().is_some_and(|usd| usd > 0.0), "{report:#}");
    assert!(!report.to_string().contains(SECRET));
}

/// A run with this key in its environment.
fn given(stage: &Stage, key: &str) -> Outcome {
    stage.run(&agent(), INPUT).env("AWS_BEARER_TOKEN_BEDROCK", key).run()
}

#[test]
fn temporary_keys_bring_their_token_and_the_region_picks_the_host() {
    let (stage, there, other) = stage(Converse { session_token: Some(TOKEN), ..BEDROCK });
    let mut temporary: Value = serde_json::from_str(&key(SECRET, "us-east-1")).expect("JSON");
    temporary["sessionToken"] = json!(TOKEN);
    // With blanks, as a file has it.
    let text = serde_json::to_string_pretty(&temporary).expect("JSON");
    summary(given(&stage, &text), SAYS);
    assert_eq!(other.only().header("x-amz-security-token"), Some(TOKEN));
    there.untouched();
}

#[test]
fn a_key_that_travels_is_a_bearer_and_a_flag_names_its_provider() {
    let (stage, there, other) = stage(BEDROCK);
    summary(stage.run(&agent(), INPUT).arg("--key").arg(format!("aws={BEARER}")).run(), SAYS);
    other.took_key(BEARER);
    there.untouched();
    summary(
        stage.run(&agent(), INPUT).arg("--key").arg(format!("aws={}", key(SECRET, "eu-central-1"))).run(),
        SAYS,
    );
    there.never_saw(SECRET.as_bytes());
    assert_eq!(there.received().len(), 1);
}

#[test]
fn another_secret_is_a_bad_key_and_what_is_no_key_is_said_before_anything_starts() {
    let (stage, there, _other) = stage(BEDROCK);
    let wrong = SECRET.replace("wJal", "xJal");
    let outcome = given(&stage, &key(&wrong, "eu-central-1"));
    assert_ne!(outcome.code(), Some(0), "{outcome}");
    assert_eq!(there.received().len(), 1, "asked once");
    there.never_saw(wrong.as_bytes());
    for (broken, why) in [
        (key(SECRET, "eu.central"), "its field `region` is no name of a region"),
        (
            key(SECRET, "eu-central-1").replace("secretAccessKey", "secret"),
            "it has a field `secret`, and the fields are",
        ),
    ] {
        let outcome = given(&stage, &broken);
        assert_ne!(outcome.code(), Some(0), "{outcome}");
        let said = outcome.to_string();
        assert!(said.contains("cannot be used") && said.contains(why), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
    assert_eq!(there.received().len(), 1);
}

#[test]
fn streams_are_translated_and_bedrocks_own_client_gets_the_bytes() {
    let (stage, there, _other) = stage(BEDROCK);
    let chat = json!({"model": "default", "stream": true, "messages": [{"role": "user", "content": "Do ships wait?"}]});
    let own = json!({"messages": [{"role": "user", "content": [{"text": "Do ships wait?"}]}]});
    let requests = json!([
        posted("${OPENAI_BASE_URL}/chat/completions", &chat),
        posted("${GOOGLE_GEMINI_BASE_URL}/model/default/converse", &own),
        posted(&format!("https://{HOST}/model/amazon.nova-lite-v1:0/converse"), &own),
        posted(&format!("https://{OTHER}/model/amazon.nova-lite-v1:0/converse"), &own),
        posted(&format!("https://{HOST}/model/amazon.nova-lite-v1:0/invoke"), &own),
    ]);
    let results = asked(&stage, &requests);
    let body = |at: usize| results[at]["body"].as_str().unwrap_or_else(|| panic!("{:#}", results[at]));
    assert!(body(0).contains("ships") && body(0).ends_with("data: [DONE]\n\n"), "{}", body(0));
    for at in [1, 2] {
        let answer: Value = serde_json::from_str(body(at)).expect("JSON");
        assert_eq!(answer.pointer("/output/message/content/0/text"), Some(&json!(SAYS)), "{at}: {answer:#}");
    }
    assert!(body(3).contains("is for eu-central-1"), "{}", body(3));
    assert!(crate::stage::refused(&results[4]), "{:#}", results[4]);
    assert_eq!(there.received().len(), 3);
    there.never_saw(b"orch_ph_");
    there.never_saw(SECRET.as_bytes());
}

#[test]
fn a_model_of_bedrock_falls_back_like_any_other() {
    let (stage, there, _other) = stage(BEDROCK);
    there.script([orch_tests::reply::Reply::json(
        429,
        &json!({"message": "Too many tokens per day, please wait before trying again."}),
    )
    .with_header(
        "x-amzn-errortype",
        "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/",
    )]);
    let fields = json!({
        "supported_providers": ["aws", "openai"],
        "llm": { "primary": "aws/amazon.nova-lite-v1:0", "fallbacks": ["gpt-4o-mini"] },
    });
    let agent = Agent::new("summarizer", &guests::example("summarizer"), &fields);
    let outcome =
        stage.run_with_keys(&agent, INPUT).env("AWS_BEARER_TOKEN_BEDROCK", key(SECRET, "eu-central-1")).run();
    let report = summary(outcome, crate::stage::OPENAI_SAYS);
    let wanted = [("aws", "out_of_money"), ("openai", "served")];
    assert_eq!(attempts(&report), wanted.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

/// What a run of the `wanderer` with a key of one region gets for these requests.
fn asked(stage: &Stage, requests: &Value) -> Vec<Value> {
    let fields = json!({"supported_providers": ["aws"], "llm": { "primary": "aws/amazon.nova-lite-v1:0" }});
    let input = json!({ "requests": requests }).to_string();
    let outcome = stage
        .run(&guest("wanderer", &fields), &input)
        .env("AWS_BEARER_TOKEN_BEDROCK", key(SECRET, "eu-central-1"))
        .run()
        .expect(0);
    outcome.json()["output"]["results"].as_array().cloned().expect("a list")
}

fn posted(url: &str, body: &Value) -> Value {
    let headers = json!([
        ["authorization", "Bearer ${AWS_BEARER_TOKEN_BEDROCK}"],
        ["content-type", "application/json"]
    ]);
    json!({"method": "POST", "url": url, "headers": headers, "body": body.to_string()})
}

#[track_caller]
fn answer(result: &Value) -> Value {
    assert_eq!(result["status"], 200, "{result:#}");
    serde_json::from_str(result["body"].as_str().expect("a body")).expect("JSON")
}

#[test]
fn vectors_are_asked_for_in_the_words_of_the_model_s_maker_and_signed() {
    let (stage, there, other) = stage(BEDROCK);
    let texts = ["Ships came.", "No wind at all."];
    let openai = |model: &str| {
        posted(
            "${OPENAI_BASE_URL}/embeddings",
            &json!({ "model": model, "input": texts, "encoding_format": "float" }),
        )
    };
    let results = asked(
        &stage,
        &json!([
            openai("amazon.titan-embed-text-v2:0"),
            openai("aws/cohere.embed-english-v3"),
            openai("amazon.titan-embed-image-v1"),
        ]),
    );
    for result in &results[..2] {
        let answer = answer(result);
        let first = |at: usize| answer["data"][at]["embedding"][0].clone();
        // An eighth of a text's characters.
        assert_eq!((first(0), first(1)), (json!(1.375), json!(1.875)), "{answer:#}");
        assert_eq!(answer["usage"]["prompt_tokens"], 6, "{answer:#}");
    }
    assert_eq!(results[2]["status"], 400, "{:#}", results[2]);
    let received = there.received();
    let paths: Vec<&str> = received.iter().map(|request| request.path.as_str()).collect();
    let titan = "/model/amazon.titan-embed-text-v2%3A0/invoke";
    assert_eq!(paths, [titan, titan, "/model/cohere.embed-english-v3/invoke"]);
    for (request, text) in received.iter().zip(texts) {
        assert_eq!(request.json(), json!({ "inputText": text }));
        assert!(request.header("authorization").is_some_and(|said| said.starts_with("AWS4-HMAC-SHA256 ")));
    }
    assert_eq!(received[2].json()["texts"], json!(texts));
    there.never_saw(SECRET.as_bytes());
    other.untouched();
}

#[test]
fn bedrock_s_own_calls_are_carried_for_models_that_make_vectors_and_for_no_other() {
    let (stage, there, other) = stage(BEDROCK);
    let titan = json!({ "inputText": "Ships came.", "normalize": true });
    let cohere = json!({ "texts": ["Ships came."], "input_type": "search_query" });
    let at = |host: &str, model: &str| format!("https://{host}/model/{model}/invoke");
    let results = asked(
        &stage,
        &json!([
            posted(&at(HOST, "amazon.titan-embed-text-v2:0"), &titan),
            posted(&at(HOST, "amazon.titan-embed-text-v2%3A0"), &titan),
            posted(&at(HOST, "cohere.embed-v4:0"), &cohere),
            posted("${GOOGLE_GEMINI_BASE_URL}/model/cohere.embed-multilingual-v3/invoke", &cohere),
            posted(&at(OTHER, "amazon.titan-embed-text-v2:0"), &titan),
            posted(&at(HOST, "amazon.titan-embed-image-v1"), &titan),
            posted(&at(HOST, "amazon.nova-lite-v1:0"), &titan),
            posted("${GOOGLE_GEMINI_BASE_URL}/model/amazon.nova-lite-v1:0/invoke", &titan),
        ]),
    );
    for result in &results[..2] {
        let answer = answer(result);
        assert_eq!((&answer["embedding"][0], &answer["inputTextTokenCount"]), (&json!(1.375), &json!(2)));
    }
    for result in &results[2..4] {
        let answer = answer(result);
        assert_eq!(
            (&answer["embeddings"][0][0], &answer["response_type"]),
            (&json!(1.375), &json!("embeddings_floats"))
        );
    }
    assert!(results[4]["body"].as_str().is_some_and(|body| body.contains("is for eu-central-1")));
    for result in &results[5..7] {
        assert!(crate::stage::refused(result), "{result:#}");
    }
    assert_eq!(results[7]["status"], 404, "{:#}", results[7]);
    // The bytes are the client's own.
    let received = there.received();
    assert_eq!(received.len(), 4);
    assert_eq!(received[0].json(), titan);
    assert_eq!(received[2].json(), cohere);
    there.never_saw(b"orch_ph_");
    there.never_saw(SECRET.as_bytes());
    other.untouched();
}
