//! Budgets for thoughts, as other dialects ask for them, at Anthropic's door and at Bedrock's.

use serde_json::{Value, json};

use super::{anthropic, bedrock, gemini};
use crate::dialect::Style;
use crate::ir::ChatRequest;

/// What is sent to Anthropic and to Bedrock, each with the fields that were left out.
fn sent(contents: &Value, config: &Value, more: &Value) -> [(Value, Vec<String>); 2] {
    let mut body = json!({ "contents": contents, "generationConfig": config });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let read = gemini().parse_request(body.to_string().as_bytes()).unwrap();
    let request = ChatRequest { model: "us.anthropic.claude-haiku-4-5-20251001-v1:0".into(), ..read };
    [anthropic(), bedrock()].map(|wire| {
        let written = wire.write_request(&request, &Style::default());
        let body = serde_json::from_slice(&written.body).unwrap();
        (body, written.dropped.into_iter().map(|dropped| dropped.field).collect())
    })
}

fn thinking(body: &Value) -> &Value {
    body.get("thinking").unwrap_or(&body["additionalModelRequestFields"]["thinking"])
}

fn asks() -> Value {
    json!([{ "role": "user", "parts": [{ "text": "x" }] }])
}

fn config(budget: u64, most: u64) -> Value {
    json!({ "thinkingConfig": { "thinkingBudget": budget }, "maxOutputTokens": most })
}

#[test]
fn a_budget_is_one_that_is_taken() {
    for (wanted, most, budget) in [
        (1024, 4096, Some(1024)),
        (512, 4096, Some(1024)),
        (9000, 4096, Some(2048)),
        (9000, 1100, Some(1024)),
        (1024, 1024, None),
    ] {
        for (body, left) in sent(&asks(), &config(wanted, most), &json!({})) {
            let expected = budget.map(|budget| json!({ "type": "enabled", "budget_tokens": budget }));
            assert_eq!(thinking(&body), &expected.unwrap_or_default(), "{wanted} of {most}");
            assert_eq!(
                left.iter().any(|field| field.starts_with("thinking")),
                budget != Some(wanted),
                "{left:?}"
            );
        }
    }
}

#[test]
fn calls_without_their_thoughts_are_answered_without_thinking() {
    let called = json!([
        { "role": "user", "parts": [{ "text": "x" }] },
        { "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {} } }] },
        { "role": "user", "parts": [{ "functionResponse": { "name": "f", "response": { "output": "y" } } }] },
    ]);
    let mut over = called.clone();
    let turns = over.as_array_mut().unwrap();
    turns.push(json!({ "role": "model", "parts": [{ "text": "z" }] }));
    turns.push(json!({ "role": "user", "parts": [{ "text": "And?" }] }));
    for (body, left) in sent(&called, &config(1024, 4096), &json!({})) {
        assert_eq!((thinking(&body), left), (&Value::Null, vec!["thinking".to_owned()]));
    }
    for (body, left) in sent(&over, &config(1024, 4096), &json!({})) {
        assert_eq!((thinking(&body)["budget_tokens"].as_u64(), left), (Some(1024), Vec::new()));
    }
}

#[test]
fn what_is_refused_beside_thinking_is_left_out() {
    let mut sampled = config(1024, 4096);
    (sampled["temperature"], sampled["topP"], sampled["topK"]) = (json!(0.2), json!(0.5), json!(5));
    for (body, mut left) in sent(&asks(), &sampled, &json!({})) {
        left.sort();
        assert_eq!(left, ["temperature", "top_k", "top_p"], "{body}");
        assert!(
            !["temperature", "topP", "top_p", "top_k"].iter().any(|key| body.to_string().contains(key)),
            "{body}"
        );
    }
    let tools = json!({
        "tools": [{ "functionDeclarations": [{ "name": "f" }] }],
        "toolConfig": { "functionCallingConfig": { "mode": "ANY" } },
    });
    for (body, left) in sent(&asks(), &config(1024, 4096), &tools) {
        assert_eq!((thinking(&body), left), (&Value::Null, vec!["thinking".to_owned()]));
    }
}
