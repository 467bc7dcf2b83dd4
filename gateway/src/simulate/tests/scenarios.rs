use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

fn streamed(host: &str) -> Value {
    set(hello(host), "stream", json!(true))
}

fn file(text: &str) -> Scenario {
    Scenario::parse(text, "scenario.yaml").unwrap()
}

/// The named failures, at each house, as it words them: status, where the error is, what it says.
#[tokio::test]
async fn each_failure_is_worded_as_its_house_words_it() {
    let rows = [
        ("rate-limit", OPENAI, 429, "/error/code", "rate_limit_exceeded"),
        ("rate-limit", ANTHROPIC, 429, "/error/type", "rate_limit_error"),
        (
            "rate-limit",
            GOOGLE,
            429,
            "/error/details/0/violations/0/quotaId",
            "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
        ),
        ("server-error", OPENAI, 500, "/error/type", "server_error"),
        ("server-error", ANTHROPIC, 529, "/error/type", "overloaded_error"),
        ("server-error", GOOGLE, 500, "/error/status", "INTERNAL"),
        ("out-of-money", OPENAI, 429, "/error/code", "insufficient_quota"),
        (
            "out-of-money",
            ANTHROPIC,
            400,
            "/error/message",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
        ),
        (
            "out-of-money",
            GOOGLE,
            429,
            "/error/details/0/violations/0/quotaId",
            "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
        ),
        ("out-of-money", "localhost", 402, "/error/code", "insufficient_balance"),
        ("bad-key", OPENAI, 401, "/error/code", "invalid_api_key"),
        ("bad-key", ANTHROPIC, 401, "/error/type", "authentication_error"),
        ("bad-key", GOOGLE, 400, "/error/details/0/reason", "API_KEY_INVALID"),
    ];
    for (name, host, status, pointer, expected) in rows {
        let simulation = named(name).await;
        for body in [hello(host), streamed(host)] {
            let got = post(&simulation, host, &body).await;
            assert_eq!(got.status.as_u16(), status, "{name} {host}");
            assert_eq!(got.json().pointer(pointer).and_then(Value::as_str), Some(expected), "{name} {host}");
            let retry = (name == "rate-limit" && host != GOOGLE).then_some("30");
            assert_eq!(got.header("retry-after"), retry, "{name} {host}");
        }
    }
}

#[tokio::test]
async fn the_failure_hits_the_first_provider_asked_and_no_other() {
    for (first, second) in [(OPENAI, ANTHROPIC), (ANTHROPIC, OPENAI)] {
        let simulation = named("rate-limit").await;
        for _ in 0..3 {
            assert_eq!(post(&simulation, first, &hello(first)).await.status, StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(post(&simulation, second, &hello(second)).await.status, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn a_request_that_is_refused_makes_no_primary() {
    let simulation = named("server-error").await;
    assert_eq!(post(&simulation, OPENAI, &json!({"model": "m"})).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(post(&simulation, ANTHROPIC, &hello(ANTHROPIC)).await.status.as_u16(), 529);
    assert_eq!(post(&simulation, OPENAI, &hello(OPENAI)).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_stream_breaks_after_real_content_without_an_end() {
    for host in [OPENAI, ANTHROPIC, GOOGLE] {
        let whole = post(&named("ok").await, host, &streamed(host)).await;
        let simulation = named("cut").await;
        let got = post(&simulation, host, &streamed(host)).await;
        assert_eq!(got.status, StatusCode::OK);
        assert!(!got.complete, "the client sees a broken connection");
        assert!(whole.text().starts_with(got.text()) && got.body.len() < whole.body.len());
        let texts: Vec<Value> = got.chunks();
        let pieces = texts.iter().filter(|chunk| {
            chunk["delta"]["text"].is_string()
                || chunk["choices"][0]["delta"]["content"].as_str().is_some_and(|t| !t.is_empty())
                || chunk["candidates"][0]["content"].is_object()
        });
        assert_eq!(pieces.count(), 2, "{}", got.text());
        for end in ["[DONE]", "message_stop", "finishReason"] {
            assert!(!got.text().contains(end), "{}", got.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_plain_reply_stops_short_of_its_length() {
    let simulation = named("cut").await;
    let got = post(&simulation, OPENAI, &hello(OPENAI)).await;
    assert!(!got.complete);
    let promised: usize = got.header("content-length").unwrap().parse().unwrap();
    assert_eq!(got.body.len(), promised / 2);
}

#[tokio::test]
async fn rules_select_by_provider_model_and_attempt() {
    let simulation = start(file(
        "rules:
  - { provider: openai, model: model-a, attempts: 1-2, answer: overloaded, headers: { retry-after: 7 } }
  - { provider: openai, model: model-b, answer: no-model }
  - { provider: anthropic, attempts: 2-, text: \"Scripted text.\" }
",
    ))
    .await;
    let statuses = |model: &'static str, times: usize| {
        let simulation = &simulation;
        async move {
            let mut statuses = Vec::new();
            for _ in 0..times {
                let got = post(simulation, OPENAI, &set(hello(OPENAI), "model", json!(model))).await;
                statuses.push((got.status.as_u16(), got.header("retry-after").map(str::to_owned)));
            }
            statuses
        }
    };
    let seven = Some("7".to_owned());
    assert_eq!(statuses("model-a", 3).await, [(503, seven.clone()), (503, seven), (200, None)]);
    assert_eq!(statuses("model-b", 2).await, [(404, None), (404, None)]);
    assert_eq!(statuses("model-c", 1).await, [(200, None)]);
    let first = post(&simulation, ANTHROPIC, &hello(ANTHROPIC)).await.json();
    assert_ne!(first["content"][0]["text"], "Scripted text.");
    let second = post(&simulation, ANTHROPIC, &hello(ANTHROPIC)).await.json();
    assert_eq!(second["content"][0]["text"], "Scripted text.");
}

#[tokio::test]
async fn a_rule_can_spell_out_the_reply() {
    let simulation = start(file(
        "rules:
  - { attempts: 1, status: 418, headers: { x-kettle: \"on\" }, body: { tea: true } }
  - { attempts: 2, answer: rate-limit, body: \"plain\" }
",
    ))
    .await;
    let first = post(&simulation, OPENAI, &hello(OPENAI)).await;
    assert_eq!((first.status.as_u16(), first.header("x-kettle")), (418, Some("on")));
    assert_eq!((first.text(), first.header("content-type")), (r#"{"tea":true}"#, Some("application/json")));
    let second = post(&simulation, OPENAI, &streamed(OPENAI)).await;
    assert_eq!((second.status.as_u16(), second.text()), (429, "plain"));
    assert_eq!(second.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(second.header("retry-after"), Some("30"));
}

#[tokio::test]
async fn waits_are_kept() {
    let slow = "rules: [{ delay: 60ms, pause: 10ms }]";
    let simulation = start(file(slow)).await;
    let mut connection = Connection::open(&simulation, OPENAI).await.unwrap();
    let request = request(&simulation, OPENAI, &streamed(OPENAI));
    let before = Instant::now();
    let response = connection.send.send_request(request).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(60), "the head comes after the delay");
    let head = Instant::now();
    let mut body = response.into_body();
    let mut frames: u32 = 0;
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        frames += 1;
    }
    assert!(frames >= 4, "pieces arrive on their own: {frames}");
    assert!(head.elapsed() >= Duration::from_millis(30), "a pause before each piece of content");
}

#[tokio::test]
async fn a_stream_error_comes_inside_the_stream() {
    for (host, place, expected) in [
        (OPENAI, "type", "server_error"),
        (ANTHROPIC, "type", "overloaded_error"),
        (GOOGLE, "status", "UNAVAILABLE"),
    ] {
        let simulation = start(file("rules: [{ answer: stream-error, cut: 1 }]")).await;
        let got = post(&simulation, host, &streamed(host)).await;
        assert_eq!((got.status, got.complete), (StatusCode::OK, true));
        let (name, data) = got.events().pop().unwrap();
        assert_eq!(name.as_deref(), (host == ANTHROPIC).then_some("error"));
        assert_eq!(serde_json::from_str::<Value>(&data).unwrap()["error"][place], expected);
        assert!(!got.text().contains("[DONE]") && !got.text().contains("message_stop"));
        assert!(post(&simulation, host, &hello(host)).await.status.is_server_error());
    }
}

#[tokio::test]
async fn a_hangup_gives_no_answer_and_a_filter_gives_its_reason() {
    let simulation = start(file("rules: [{ attempts: 1, answer: hangup }, { answer: filtered }]")).await;
    let mut connection = Connection::open(&simulation, OPENAI).await.unwrap();
    connection.exchange(request(&simulation, OPENAI, &hello(OPENAI))).await.unwrap_err();
    let got = post(&simulation, OPENAI, &hello(OPENAI)).await.json();
    assert_eq!(got["choices"][0]["finish_reason"], "content_filter");
    let got = post(&simulation, ANTHROPIC, &hello(ANTHROPIC)).await.json();
    assert_eq!((&got["stop_reason"], &got["content"]), (&json!("refusal"), &json!([])));
    let got = post(&simulation, GOOGLE, &hello(GOOGLE)).await.json();
    assert_eq!(
        (&got["candidates"][0]["finishReason"], &got["candidates"][0]["content"]),
        (&json!("SAFETY"), &Value::Null)
    );
}

#[tokio::test]
async fn other_hosts_answer_what_is_scripted_and_nothing_else() {
    let simulation = start(file(
        "hosts:
  - { host: api.github.com, method: GET, path: /repos/acme/widget, headers: { x-a: b }, body: { stars: 3 } }
  - { host: api.github.com, path: /teapot, status: 418, body: \"short\" }
",
    ))
    .await;
    let https = |host: &str| Origin { host: host.to_owned(), port: 443, https: true };
    assert!(simulation.origins().contains(&https("api.github.com")));
    let rows = [
        (Method::GET, "/repos/acme/widget?page=2", 200, r#"{"stars":3}"#),
        (Method::POST, "/teapot", 418, "short"),
        (
            Method::POST,
            "/repos/acme/widget",
            404,
            "the scenario scripts no POST /repos/acme/widget on api.github.com",
        ),
    ];
    let mut connection = Connection::open(&simulation, "api.github.com").await.unwrap();
    for (method, uri, status, body) in rows {
        let request = Request::builder().method(method).uri(uri).header("host", "api.github.com");
        let got = connection.exchange(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!((got.status.as_u16(), got.text()), (status, body), "{uri}");
        assert_eq!(got.header("x-a"), (status == 200).then_some("b"));
    }
}
