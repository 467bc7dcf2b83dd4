//! Where providers differ from the plain dialect: who is not asked and why, what is left out and said, what is translated.

use orch_tests::ca::Ca;
use orch_tests::home::{Config, Home};
use orch_tests::reply::{Piece, Reply};
use orch_tests::server::{Answer, Server};
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{PROGRAM, orch};

const HOSTS: [&str; 6] = [
    "api.mistral.ai",
    "api.deepseek.com",
    "api.moonshot.ai",
    "api.perplexity.ai",
    "api.cerebras.ai",
    "api.z.ai",
];
const KEYS: [&str; 6] = [
    "MISTRAL_API_KEY",
    "DEEPSEEK_API_KEY",
    "MOONSHOT_API_KEY",
    "PERPLEXITY_API_KEY",
    "CEREBRAS_API_KEY",
    "ZAI_API_KEY",
];

/// Several providers behind one door, who answer everything.
struct Several {
    server: Server,
    upstream: Upstream,
    _home: Home,
}

fn answer(message: &Value, finish: &str) -> Value {
    json!({
        "id": "c1", "object": "chat.completion", "created": 1_700_000_000, "model": "m",
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 },
    })
}

impl Several {
    fn new() -> Self {
        let (home, ca) = (Home::new(), Ca::new());
        let yes = |_: &Received| {
            Reply::json(200, &answer(&json!({ "role": "assistant", "content": "Yes." }), "stop"))
        };
        let upstream = Upstream::https(&ca, &HOSTS, yes);
        let mut config = Config::trusting(&ca, &home);
        for host in HOSTS {
            config = config.connect(&format!("{host}:443"), upstream.address());
        }
        home.configure(&config);
        for key in KEYS {
            let value = format!("key-for-{key}-0123456789");
            orch(&home).args(["secrets", "set", key, "-"]).stdin(value).run().expect(0);
        }
        let server = Server::start(PROGRAM, &home);
        Self { server, upstream, _home: home }
    }

    fn chat(&self, model: &str, more: &Value) -> Answer {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
        for (field, value) in more.as_object().expect("fields") {
            body[field] = value.clone();
        }
        self.server.ask("POST", "/v1/chat/completions", Some(&body))
    }

    /// Fails unless nobody was asked, for this reason.
    #[track_caller]
    fn refuses(&self, model: &str, more: &Value, reason: &str) {
        let before = self.upstream.received().len();
        let refused = self.chat(model, more).expect(400).json();
        assert_eq!(refused["error"]["code"], "orch_no_model_fits", "{refused}");
        let said = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(said.contains(reason), "{said}");
        assert_eq!(self.upstream.received().len(), before, "{model} was asked");
    }

    /// What the provider was sent for a request that is served, and how much the receipt says was left out.
    #[track_caller]
    fn sends(&self, model: &str, more: &Value) -> (Value, u64) {
        let before = self.upstream.received().len();
        let answer = self.chat(model, more).expect(200);
        let received = self.upstream.received();
        assert_eq!(received.len(), before + 1);
        let receipt: Value =
            serde_json::from_str(answer.header("x-orch-receipt").expect("a receipt")).expect("JSON");
        (received[before].json(), receipt["dropped"].as_u64().expect("a number"))
    }
}

fn schema() -> Value {
    json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": { "type": "object" } } })
}

fn forced() -> Value {
    let function = json!({ "name": "f", "parameters": { "type": "object", "properties": {} } });
    json!({ "tools": [{ "type": "function", "function": function }], "tool_choice": "required" })
}

#[test]
fn who_lacks_what_the_request_needs_is_not_asked() {
    let several = Several::new();
    let with_schema = json!({ "response_format": schema() });
    let mut both = forced();
    both["response_format"] = json!({ "type": "json_object" });
    several.refuses("mistral/mistral-large-2512", &both, "no forced tool beside JSON output");
    several.sends("mistral/mistral-large-2512", &forced());
    for model in
        ["deepseek/deepseek-v4-pro", "deepseek/not-listed", "moonshot/kimi-k2.6", "moonshot/not-listed"]
    {
        several.refuses(model, &with_schema, "takes no JSON Schema");
        several.sends(model, &json!({ "response_format": { "type": "json_object" } }));
    }
    several.refuses(
        "deepseek/deepseek-v4-pro",
        &forced(),
        "it thinks, and its provider takes no forced tool then",
    );
    let mut unthinking = forced();
    unthinking["thinking"] = json!({ "type": "disabled" });
    let (sent, _) = several.sends("deepseek/deepseek-v4-pro", &unthinking);
    assert_eq!(
        (&sent["tool_choice"], &sent["thinking"]),
        (&json!("required"), &json!({ "type": "disabled" }))
    );
    several.sends("deepseek/deepseek-chat", &forced());
    several.refuses("perplexity/sonar", &forced(), "tools");
    several.refuses("perplexity/not-listed", &forced(), "its provider calls no tools");
}

#[test]
fn what_a_provider_refuses_is_left_out_and_said() {
    let several = Several::new();
    let (sent, dropped) = several.sends(
        "mistral/mistral-large-2512",
        &json!({ "seed": 7, "user": "u1", "logprobs": true, "top_logprobs": 2 }),
    );
    assert_eq!(
        sent,
        json!({
            "model": "mistral-large-2512", "random_seed": 7, "messages": [{ "role": "user", "content": "hi" }],
        })
    );
    assert_eq!(dropped, 3);

    // Of two bounds one counts, and that the other does not is said.
    let two = json!({ "max_tokens": 9, "max_completion_tokens": 5 });
    let (sent, dropped) = several.sends("zai/glm-4.6", &two);
    assert_eq!((&sent["max_tokens"], sent.get("max_completion_tokens")), (&json!(5), None));
    assert_eq!(dropped, 1);
    let (_, dropped) = several.sends("zai/glm-4.6", &json!({ "max_tokens": 9, "max_completion_tokens": 9 }));
    assert_eq!(dropped, 0);

    // Where no bound is named, one that is moderate.
    let (sent, dropped) = several.sends("cerebras/gpt-oss-120b", &json!({}));
    assert!(
        sent["max_completion_tokens"].as_u64().is_some_and(|bound| (1..40_960).contains(&bound)),
        "{sent}"
    );
    assert_eq!(dropped, 1);
    let (sent, dropped) = several.sends("cerebras/gpt-oss-120b", &json!({ "max_tokens": 9 }));
    assert_eq!((&sent["max_completion_tokens"], sent.get("max_tokens")), (&json!(9), None));
    assert_eq!(dropped, 0);
}

#[test]
fn a_client_of_another_dialect_gets_its_thoughts_back_to_their_provider() {
    let several = Several::new();
    let said = json!({ "role": "assistant", "content": "", "reasoning_content": "I see.", "tool_calls": [
        { "id": "call_1", "type": "function", "function": { "name": "f", "arguments": "{}" } },
    ] });
    let call = || Reply::json(200, &answer(&said, "tool_calls"));
    let tool = json!({ "name": "f", "input_schema": { "type": "object", "properties": {} } });
    let mut body = json!({
        "model": "deepseek/deepseek-v4-pro", "max_tokens": 50, "tools": [tool],
        "messages": [{ "role": "user", "content": "hi" }],
    });
    several.upstream.script([call()]);
    let first = several.server.ask("POST", "/v1/messages", Some(&body)).expect(200).json();
    assert_eq!(first["content"][0]["thinking"], "I see.", "{first}");
    let result = json!({ "type": "tool_result", "tool_use_id": "call_1", "content": "1" });
    let turns = [
        json!({ "role": "assistant", "content": first["content"] }),
        json!({ "role": "user", "content": [result] }),
    ];
    body["messages"].as_array_mut().expect("turns").extend(turns);
    several.server.ask("POST", "/v1/messages", Some(&body)).expect(200);
    let sent = several.upstream.received().pop().expect("asked").json();
    assert_eq!(sent["messages"][1]["reasoning_content"], "I see.", "{sent}");
    assert_eq!(sent["messages"][1]["tool_calls"][0]["id"], "call_1");
}

#[test]
fn what_providers_answer_in_their_own_way_is_understood() {
    let several = Several::new();
    let thoughts = json!([
        { "type": "thinking", "thinking": [{ "type": "text", "text": "Let me see." }] },
        { "type": "text", "text": "Yes." },
    ]);
    several
        .upstream
        .script([Reply::json(200, &answer(&json!({ "role": "assistant", "content": thoughts }), "stop"))]);
    let body = json!({
        "model": "mistral/magistral-small", "max_tokens": 50, "messages": [{ "role": "user", "content": "hi" }],
    });
    let said = several.server.ask("POST", "/v1/messages", Some(&body)).expect(200).json();
    assert_eq!(
        (&said["content"][0]["thinking"], &said["content"][1]["text"]),
        (&json!("Let me see."), &json!("Yes.")),
        "{said}"
    );

    let chunk = |delta: Value, finish: Option<&str>| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        Piece::text(format!("data: {}\n\n", json!({ "id": "c1", "model": "m", "choices": [choice] })))
    };
    let thinking =
        json!({ "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": "Hm." }] }] });
    several.upstream.script([Reply::sse(vec![
        chunk(thinking, None),
        chunk(json!({ "content": "Yes." }), None),
        chunk(json!({}), Some("stop")),
        Piece::text("data: [DONE]\n\n"),
    ])]);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let answer_of = several.server.ask("POST", "/v1/messages", Some(&streamed)).expect(200);
    let text = String::from_utf8_lossy(&answer_of.body).into_owned();
    assert!(text.contains(r#""thinking":"Hm.""#) && text.contains(r#""text":"Yes.""#), "{text}");

    // Z.ai's words for how an answer ended.
    for (finish, stop) in [("sensitive", "refusal"), ("model_context_window_exceeded", "max_tokens")] {
        several
            .upstream
            .script([Reply::json(200, &answer(&json!({ "role": "assistant", "content": "Ye" }), finish))]);
        let mut body = body.clone();
        body["model"] = json!("zai/glm-4.6");
        let said = several.server.ask("POST", "/v1/messages", Some(&body)).expect(200).json();
        assert_eq!(said["stop_reason"], stop, "{said}");
    }
}
